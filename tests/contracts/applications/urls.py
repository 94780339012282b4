"""All URLs of the contract, for both packages."""

from tests.contracts.applications import (
    access,
    casts,
    lifecycle,
    messages,
    middlewares,
    outside,
    path_variables,
    postponed,
    request,
    routing,
)
from tests.contracts.applications.journal import Journal

urls = {
    **routing.ROOT_URLS,
    "journal": Journal,
    "messages": messages.URLS,
    "lifecycle": lifecycle.URLS,
    "request": request.URLS,
    "path": path_variables.URLS,
    "casts": {**casts.URLS, **postponed.URLS},
    "routing": routing.URLS,
    "access": access.URLS,
    "middlewares": middlewares.URLS,
    "outside": outside.URLS,
}
