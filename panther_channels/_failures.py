"""What an exception of a hook does: it is logged once, and ends its connection, and no other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import django.db
from channels.generic.websocket import AsyncWebsocketConsumer

from panther_channels import _database, _outage, status
from panther_channels._lines import shown
from panther_channels._slow import SlowClient
from panther_channels._state import OPEN, Ending, GoneError, Socket, State, ending_for, is_refusal
from panther_channels._watch import OVERDUE, RESTART, Vigil
from panther_channels.exceptions import ChannelLayerError

logger = logging.getLogger("panther_channels")


class Guarded(AsyncWebsocketConsumer):  # type: ignore[misc] # Channels has no types
    """A connection whose hooks may fail."""

    reject_with_close_code = False
    default_subprotocol: str | None = None

    scope: MutableMapping[str, Any]
    _vigil: Vigil

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._class: Any = type(self)  # Any: to mypy a class with an untyped base is unhashable
        self._socket = Socket()
        self._id = ""
        self._slow: SlowClient | None = None

    async def _guard(self, hook: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        try:
            await hook(*arguments)
        except BaseException as error:  # noqa: BLE001 - what isn't of a hook is raised again
            await self._fail_or_raise(error)

    async def _fail_or_raise(self, error: BaseException) -> None:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError):
            is_overdue = self._vigil.was_cut_off()
            if is_overdue or task is None or task.cancelling():
                await self._socket.look_for_the_end()
                await self._close(OVERDUE if is_overdue else RESTART)
                if is_overdue:
                    return
                raise error
        # A cancellation of something else, that a hook awaited, is an exception like others.
        if not isinstance(error, Exception | asyncio.CancelledError):
            raise error
        await self._fail(error)

    async def _fail(self, error: BaseException) -> None:
        """Log an exception once, and end the connection with what it asks for."""
        if isinstance(error, GoneError):
            return
        ending, state = ending_for(error), self._socket.state
        if isinstance(error, ChannelLayerError):
            done = "refused" if state is State.CONNECTING else "closed"
            _outage.log_end(self.scope["path"], done, error)
            await self._close(ending)
            return
        is_closing = state is OPEN and ending.code != status.WS_1011_INTERNAL_ERROR
        if is_refusal(error) and (is_closing or state in {State.CONNECTING, State.REJECTED}):
            text = "WebSocket %s was refused: %s"
            logger.info(text, shown(self.scope["path"]), shown(str(error)))
        else:
            self._log_failure(type(self).__qualname__, error)
        await self._close(ending)
        if isinstance(error, django.db.Error):
            await _database.close_old()

    def _log_failure(self, what: str, error: BaseException) -> None:
        text, path, found = "WebSocket %s, connection %s: %s failed", self.scope["path"], self._id
        logger.error(text, shown(path), found or "(not accepted)", what, exc_info=error)

    async def _close(self, ending: Ending) -> None:
        if self._slow is not None and self._socket.state is OPEN:
            self._slow.unblock()
        await self._socket.close(
            ending, with_code=self.reject_with_close_code, subprotocol=self.default_subprotocol
        )

    def _task_failed(self, error: BaseException) -> None:
        if not isinstance(error, GoneError):
            self._log_failure(f"a task of {type(self).__qualname__}", error)
        _database.close_old_soon()
