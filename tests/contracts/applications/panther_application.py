"""The contract's classes under the real Panther, for ``uvicorn``."""

import os

from panther import Panther

from tests.contracts.applications.urls import urls

REDIS = {
    "class": "panther.db.connections.RedisConnection",
    "host": "127.0.0.1",
    "port": int(os.environ["REDIS_PORT"]),
}
WS_AUTHENTICATION = "tests.contracts.applications.middlewares.DefaultAuthentication"
WS_MIDDLEWARES = [
    "tests.contracts.applications.middlewares.Outer",
    "tests.contracts.applications.middlewares.Inner",
]

app = Panther(__name__, configs=__name__, urls=urls)
