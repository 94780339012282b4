"""All URLs of the contract, for both packages."""

from tests.contracts.applications import access, middlewares
from tests.contracts.applications.journal import Journal
from tests.contracts.scenarios import URLS

urls = {"journal": Journal, "access": access.URLS, "middlewares": middlewares.URLS, **URLS}
