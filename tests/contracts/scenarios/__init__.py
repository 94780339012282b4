"""The scenarios of the contract, one module per subject; importing this collects them all."""

from tests.contracts.scenarios import (  # noqa: F401 (they register themselves)
    access,
    lifecycle,
    messages,
    outside,
    path_variables,
    presence,
    reach,
    request,
    routing,
)
from tests.contracts.scenarios.registry import SCENARIOS, URLS

__all__ = ["SCENARIOS", "URLS"]
