"""The end and the log of daphne's server, without one; tests/faults/test_stop.py has it at work."""

import asyncio
import sys
from typing import Any

import pytest

from panther_channels.servers import _server


class StandInServer:
    """What the two functions in place of Server's methods use of it."""

    application_close_timeout = 5

    def __init__(self, *applications: asyncio.Future[None] | None) -> None:
        self.connections = {
            number: {"connected": 1.0} if each is None else {"application_instance": each}
            for number, each in enumerate(applications)
        }


async def test_the_end_cancels_only_what_runs():
    loop = asyncio.get_running_loop()
    running, done = loop.create_future(), loop.create_future()
    done.set_result(None)
    await _server._kill_all_applications(StandInServer(None, done, running)).asFuture(loop)
    assert running.cancelled()
    assert done.result() is None


async def test_the_end_without_applications():
    loop = asyncio.get_running_loop()
    for server in (StandInServer(), StandInServer(None)):
        await asyncio.wait_for(_server._kill_all_applications(server).asFuture(loop), 1)


def test_the_action_log(monkeypatch: pytest.MonkeyPatch):
    seen: list[object] = []
    monkeypatch.setattr(_server, "_daphne_log_action", lambda *arguments: seen.extend(arguments))
    details = {"path": "/a?token=secret&x=1", "status": 200}
    _server._log_action("server", "http", "complete", details)
    assert seen == ["server", "http", "complete", {"path": "/a?token=***&x=1", "status": 200}]
    assert details["path"] == "/a?token=secret&x=1"


def test_a_signal_is_handled_and_told(monkeypatch: pytest.MonkeyPatch):
    seen: list[object] = []
    monkeypatch.setattr(_server, "told_to_stop", seen.append)
    frame = sys._getframe()
    _server._signalled(lambda *arguments: seen.append(arguments), 15, frame)
    assert seen == [(15, frame), frame]


def test_ctrl_c_is_a_signal_as_well(monkeypatch: pytest.MonkeyPatch):
    module: Any = _server
    replaced = [
        (module.Server, "kill_all_applications"),
        (module.Server, "log_action"),
        (module.WebRequest, "gotLength"),
    ]
    for owner, name in replaced:
        monkeypatch.setattr(owner, name, None)
    seen: list[object] = []
    for name in ("sigInt", "sigTerm"):
        monkeypatch.setattr(_server._twisted, name, lambda *arguments: seen.append(arguments))
    monkeypatch.setattr(_server, "told_to_stop", seen.append)
    _server.install()
    assert all(getattr(owner, name) is not None for owner, name in replaced)
    for handler in (_server._twisted.sigInt, _server._twisted.sigTerm):
        handler(2, None)
    assert seen == [(2, None), None] * 2
