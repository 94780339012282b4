"""The last resort, in processes that would hang; tests/faults/test_stop.py has it in servers."""

import signal
import subprocess
import sys

import pytest

from panther_channels.servers._last_resort import told_to_stop

# What coverage has to do at the end of a process takes longer than these have.
pytestmark = pytest.mark.usefixtures("unmeasured")

PROGRAM = """
import asyncio, os, signal, sys, threading, time
from django.conf import settings

settings.configure(WS_SHUTDOWN_TIMEOUT=0.2)

from panther_channels._hub import hub
from panther_channels._state import Socket
from panther_channels.servers import _last_resort

_last_resort._MORE = 0.1
signal.signal(signal.SIGTERM, lambda number, frame: _last_resort.told_to_stop(frame))
SOCKET = Socket("Hook")
SOCKET.scope = {"path": "/x"}

async def serve(hang):
    hub().enter(SOCKET)
    os.kill(os.getpid(), signal.SIGTERM)
    hang()
    hub().leave(SOCKET)

def for_ever():
    threading.Event().wait()

def hang(seconds=1.0):
    time.sleep(seconds)

"""


def run(rest: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM + rest]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)


def test_a_connection_that_hangs():
    ended = run("asyncio.run(serve(hang))")
    assert ended.returncode == -signal.SIGTERM
    assert "Still there 0.3 s after the server was told to stop" in ended.stderr
    assert "\nHook (WebSocket '/x', connection (not accepted))\n" in ended.stderr


def test_a_thread_that_the_interpreter_waits_for():
    ended = run("threading.Thread(target=for_ever, name='T').start(); asyncio.run(serve(int))")
    assert ended.returncode == -signal.SIGTERM
    assert "\nThread T\n" in ended.stderr
    assert ended.stderr.rstrip().endswith(", in Condition.wait")


def test_the_end_of_the_interpreter():
    ended = run("import atexit; atexit.register(hang); asyncio.run(serve(int))")
    assert ended.returncode == -signal.SIGTERM
    assert ended.stderr.rstrip().endswith(", in hang")


@pytest.mark.parametrize(
    "rest",
    [
        "asyncio.run(serve(int)); hang()",
        "asyncio.run(serve(int)); threading.Thread(target=for_ever, daemon=True).start()",
        # A request over HTTP.
        "async def main(): await serve(int); await asyncio.sleep(1)\nasyncio.run(main())",
    ],
)
def test_who_goes_on(rest: str):
    ended = run(rest)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_log_that_hangs():
    ended = run(
        "import logging; logging.getLogger('panther_channels').critical = lambda *_: for_ever()\n"
        "asyncio.run(serve(for_ever))"
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGALRM, "")


def test_no_event_loop():
    told_to_stop(sys._getframe())
    told_to_stop(None)
