import asyncio
import contextlib
import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from panther_channels._process import background as _background
from panther_channels._process.background import Background, _Call
from tests.waiting import until


@pytest.fixture
def background() -> Iterator[Background]:
    found = Background()
    yield found
    found.close()


async def where() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    return asyncio.get_running_loop(), threading.current_thread()


class Endless:
    """A coroutine that waits for ever, and tells when it starts and how it ends."""

    def __init__(self) -> None:
        self.started, self.cancelled = threading.Event(), threading.Event()

    async def __call__(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def test_it_waits_for_the_answer_and_raises_what_the_coroutine_raises(background: Background):
    assert background.run(asyncio.sleep(0, "answer"), "Asking") == "answer"
    for error in (KeyError("mine"), TimeoutError("mine")):

        async def fail(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error), match="mine"):
            background.run(fail(), "Failing")


def test_one_loop_in_one_thread_of_its_own_until_it_is_closed_for_good(background: Background):
    with ThreadPoolExecutor(8) as pool:
        barrier = threading.Barrier(8, timeout=10)

        def run(_: int):
            barrier.wait()
            return background.run(where(), "Looking")

        places = set(pool.map(run, range(8)))
    ((loop, thread),) = places
    assert background.run(where(), "Looking") == (loop, thread)
    assert thread is not threading.current_thread()
    assert thread.daemon

    background.close()
    background.close()
    assert loop.is_closed()
    assert not thread.is_alive()
    with pytest.raises(RuntimeError, match="Looking: the interpreter is shutting down"):
        background.run(where(), "Looking")
    with pytest.raises(RuntimeError, match="the interpreter is shutting down"):
        background.post(where(), print)


def test_it_starts_nothing_before_its_first_use(background: Background):
    threads = threading.active_count()
    background.close()
    assert threading.active_count() == threads


def test_it_refuses_to_run_in_a_greenlet(
    background: Background, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
):
    """As of eventlet, whose threads are of the thread that has started them."""

    class Green(threading.Thread):
        native_id = threading.get_native_id()

    with monkeypatch.context() as patched:
        patched.setattr(threading, "Thread", Green)
        for _ in range(2):
            with pytest.raises(ImproperlyConfigured, match=r"real thread.* -P threads"):
                background.run(where(), "Looking")
    assert len(recwarn) == 0
    assert background.run(asyncio.sleep(0, "answer"), "Asking") == "answer"


def test_ctrl_c_cancels(background: Background):
    caller, endless = threading.get_ident(), Endless()

    async def interrupted() -> None:
        # What comes before the caller waits doesn't end its waiting.
        await until(lambda: sys._current_frames()[caller].f_code is _Call.wait.__code__)
        os.kill(os.getpid(), signal.SIGINT)
        await endless()

    # A shell lets what it runs in the background ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            background.run(interrupted(), "Sending")
    finally:
        signal.signal(signal.SIGINT, before)
    assert endless.cancelled.wait(10)


def test_the_end_of_the_interpreter_ends_a_call(background: Background):
    endless = Endless()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(background.run, endless(), "Sending")
        assert endless.started.wait(10)
        background.close()
        with pytest.raises(RuntimeError, match="Sending: the interpreter is shutting down"):
            call.result(10)
    assert endless.cancelled.is_set()


@contextlib.contextmanager
def busy(background: Background) -> Iterator[None]:
    """The loop does nothing else meanwhile, and then at once all that it was asked for."""
    loop, _thread = background.run(where(), "Looking")
    resume = threading.Event()
    loop.call_soon_threadsafe(resume.wait, 10)
    yield
    resume.set()


def runs(code: CodeType) -> bool:
    """Whether a thread is in a function."""
    frames = sys._current_frames().values()
    return any(code in (frame.f_code, frame.f_back and frame.f_back.f_code) for frame in frames)


async def test_the_end_of_the_interpreter_ends_a_call_that_has_just_begun(background: Background):
    endless = Endless()
    with ThreadPoolExecutor(2) as pool:
        with busy(background):
            call = pool.submit(background.run, endless(), "Sending")
            await until(lambda: runs(_Call.wait.__code__))
            closing = pool.submit(background.close)
            await until(lambda: runs(threading.Thread.join.__code__))
        with pytest.raises(RuntimeError, match="Sending: the interpreter is shutting down"):
            call.result(5)
        closing.result(10)
    assert endless.cancelled.is_set()


def test_nobody_waits_any_more_for_what_has_not_begun(
    background: Background, monkeypatch: pytest.MonkeyPatch
):
    endless = Endless()
    with busy(background):
        monkeypatch.setattr(_background, "LIMIT", 0.01)
        with pytest.raises(TimeoutError, match=r"Sending: no answer within 0\.01 s"):
            background.run(endless(), "Sending")
    assert endless.cancelled.wait(10)


def test_what_is_posted_ends_before_it_is_closed():
    background, resume = Background(), threading.Event()
    ended: list[Any] = []

    async def wait_and_end() -> None:
        await asyncio.to_thread(resume.wait, 10)
        ended.append("this")
        raise KeyError("mine")

    background.post(wait_and_end(), ended.append)
    assert ended == []
    closing = threading.Thread(target=background.close)
    closing.start()
    resume.set()
    closing.join(10)
    assert ended[0] == "this"
    assert isinstance(ended[1], KeyError)


def test_a_child_gives_its_parents_sockets_up(tmp_path: Path):
    ours, theirs = socket.socketpair()
    gone, _other = socket.socketpair()
    with ours, theirs, _other, (tmp_path / "file").open("w") as file:
        descriptor = gone.fileno()
        gone.close()
        _background._replace_sockets([ours.fileno(), file.fileno(), descriptor])
        with pytest.raises(OSError, match="non-socket"):
            ours.send(b"good-bye")
        assert not os.get_inheritable(ours.fileno())
        file.write("still a file")
        file.flush()
        assert (tmp_path / "file").read_text() == "still a file"
        assert theirs.recv(1) == b"", "nobody else has it"
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            pytest.fail("what was closed is opened")


@pytest.mark.filterwarnings("ignore:.*fork")  # Python 3.12 says so of every one beside a thread
def test_a_forked_child_starts_anew_without_its_parents_sockets(background: Background):
    ours, theirs = socket.socketpair()

    async def watch() -> None:
        asyncio.get_running_loop().add_reader(ours, print)

    async def leave() -> None:
        asyncio.get_running_loop().remove_reader(ours)

    with ours, theirs:
        background.run(watch(), "Watching")
        child = os.fork()
        if child == 0:
            try:
                is_socket = stat.S_ISSOCK(os.fstat(ours.fileno()).st_mode)
                os._exit(5 if background.run(asyncio.sleep(0, not is_socket), "Again") else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        background.run(leave(), "Leaving")
