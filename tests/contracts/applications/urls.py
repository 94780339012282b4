"""All URLs of the contract, for both packages."""

from tests.contracts.applications.journal import Journal
from tests.contracts.scenarios import URLS

urls = {"journal": Journal, **URLS}
