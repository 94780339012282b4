"""How a connection is reached: over the channel layer, by its token's end, and by limits."""

import logging
from collections.abc import Mapping
from typing import Any

from channels.exceptions import InvalidChannelLayerError

from panther_channels import _database, _outage, conf, status
from panther_channels._encoding import checked_text, from_event
from panther_channels._expiry import deadlines, expiry_of
from panther_channels._failures import Guarded
from panther_channels._inbox import Inbox, event_handler, is_ours
from panther_channels._slow import SlowClient
from panther_channels._state import OPEN
from panther_channels.connections import EVENT_TYPE, check_close, close_event, find_channel_layer
from panther_channels.exceptions import ChannelLayerError

logger = logging.getLogger("panther_channels")


class Reachable(Guarded):
    """A connection that others may send to and close."""

    close_on_token_expiry: bool | None = None  # None: the setting WS_CLOSE_ON_TOKEN_EXPIRY

    token: Any = None
    authentication: Any = None  # what found the user

    channel_layer: Any = None
    channel_name: str = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_attached = False
        self._inbox: Inbox | None = None

    async def _attach(self) -> None:
        if self._is_attached:
            return
        self._is_attached = True
        self._slow = SlowClient(self._socket)
        layer = find_layer()
        if layer is not None:
            self.channel_layer = layer
            self.channel_name = await _outage.limited(layer.new_channel(), _outage.TO_JOIN)
            self._inbox = Inbox(layer, self.channel_name)
            self._inbox.bound(conf.max_send_buffer(), self._slow.overflow)

    def _watch_token(self) -> None:
        is_early = self._socket.state is not OPEN  # accept() will ask again
        if self.token is None or self.close_on_token_expiry is False or is_early:
            return
        if self.close_on_token_expiry or conf.close_on_token_expiry():
            deadline = getattr(self.authentication, "expires_at", expiry_of)(self.token)
            if deadline is not None:
                deadlines().set(self._expire, deadline)

    async def _expire(self) -> None:
        event = close_event(status.WS_1008_POLICY_VIOLATION, "token expired")
        await self._guard(self._on_outside, event)

    async def _give_way(self) -> None:
        event = close_event(status.WS_1008_POLICY_VIOLATION, "too many connections")
        await self._guard(self._on_outside, event)

    async def _on_event(self, event: Mapping[str, Any]) -> None:
        if _database.use.is_open:
            _database.use.begin()
        kind = event.get("type") if isinstance(event, Mapping) else None
        if kind == EVENT_TYPE:
            await self._guard(self._on_outside, event)
        elif isinstance(kind, str) and (name := event_handler(self._class, kind)):
            await self._guard(getattr(self, name), event)
        else:
            logger.warning(
                "%s ignored an event of type %r: it has no async method of its own for it.",
                type(self).__qualname__,
                kind,
            )
        _database.close_old_soon()

    async def _on_outside(self, event: Mapping[str, Any]) -> None:
        socket = self._socket
        if socket.state is not OPEN:
            return
        try:
            is_close, is_json, data = "close" in event, False, None
            if is_close:
                check_close(event["code"], event["close"])
            elif is_json := "json" in event and is_ours(self._class, "send"):
                data = checked_text(event["json"])
            else:
                data = from_event(event)
        except (LookupError, TypeError, ValueError) as error:
            # Another version of this package, or a stranger.
            logger.warning("%s ignored an event: %r", type(self).__qualname__, error)
            return
        if is_close:
            socket.is_gone = True
            await self.close(code=event["code"], reason=event["close"])
            socket.is_gone = socket.state is not OPEN  # an overridden close() may decline
        elif is_json:
            socket.sent += 1
            await socket.emit({"type": "websocket.send", "text": data})
        else:
            await self.send(data=data)


def find_layer() -> Any:
    """The channel layer, or ``None``.

    Raises:
        ChannelLayerError: it can't be made.
    """
    try:
        return find_channel_layer()
    except InvalidChannelLayerError as error:  # a backend that isn't there, or not installed
        raise ChannelLayerError(str(error)) from error
