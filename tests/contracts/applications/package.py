"""The names under test, from the package that the variable CONTRACT_PACKAGE names.

The classes of this folder are written once, and served by Panther as well as by us.
"""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from panther_channels import connections as ours_alone
    from panther_channels import status
    from panther_channels.exceptions import AuthenticationAPIError, WebsocketError
    from panther_channels.middlewares import WebsocketMiddleware
    from panther_channels.permissions import BasePermission
    from panther_channels.websocket import (
        GenericWebsocket,
        Websocket,
        close_websocket_connection,
        send_message_to_websocket,
    )
else:
    _package = os.environ.get("CONTRACT_PACKAGE", "panther_channels")
    _exceptions = importlib.import_module(f"{_package}.exceptions")
    _websocket = importlib.import_module(f"{_package}.websocket")

    status = importlib.import_module(f"{_package}.status")
    AuthenticationAPIError = _exceptions.AuthenticationAPIError
    ours_alone = _websocket  # which has no more of them in Panther
    WebsocketError = _exceptions.WebsocketError
    WebsocketMiddleware = importlib.import_module(f"{_package}.middlewares").WebsocketMiddleware
    BasePermission = importlib.import_module(f"{_package}.permissions").BasePermission
    GenericWebsocket = _websocket.GenericWebsocket
    Websocket = _websocket.Websocket
    close_websocket_connection = _websocket.close_websocket_connection
    send_message_to_websocket = _websocket.send_message_to_websocket

__all__ = [
    "AuthenticationAPIError",
    "BasePermission",
    "GenericWebsocket",
    "MeantError",
    "Websocket",
    "WebsocketError",
    "WebsocketMiddleware",
    "close_websocket_connection",
    "ours_alone",
    "send_message_to_websocket",
    "status",
]


class MeantError(Exception):
    """A failure that a scenario asks for.

    The text of such failures begins with "meant:", and no other may have a traceback in a log.
    """
