"""One event loop in a thread of its own, on which synchronous code waits for coroutines.

It is there from the first use to the end of the interpreter, so that what belongs to an event
loop, such as a channel layer's connections, is kept between two calls.
"""

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import selectors
import stat
import threading
from collections.abc import Callable, Coroutine
from typing import Any

LIMIT = 10.0  # seconds


class Background:
    """An event loop that is started at the first use. Each process has its own, forked or not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._selector: selectors.BaseSelector | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._posted: set[concurrent.futures.Future[Any]] = set()
        self._is_closed = False
        os.register_at_fork(after_in_child=self._forget)
        # Now, not at the first use: atexit runs the latest first, and others may still send.
        atexit.register(self.close)

    def run(self, coroutine: Coroutine[Any, Any, Any], waiting_for: str) -> Any:
        """Run a coroutine on the loop, and wait for what it returns or raises.

        An exception that ends the waiting, such as ``KeyboardInterrupt``, cancels the coroutine.

        Args:
            coroutine: what is to be run.
            waiting_for: what it does, for the texts of errors.

        Raises:
            TimeoutError: nothing came within 10 seconds; the coroutine is cancelled.
            RuntimeError: the interpreter is shutting down.
        """
        future = self._submit(coroutine, waiting_for)
        try:
            return future.result(LIMIT)
        except concurrent.futures.CancelledError:
            raise self._ending(waiting_for) from None
        except TimeoutError:
            if future.done():  # at the last moment, or the error is the coroutine's own
                return future.result()
            raise TimeoutError(f"{waiting_for}: no answer within {LIMIT:g} s.") from None
        finally:
            future.cancel()  # does nothing where it is done

    def post(
        self, coroutine: Coroutine[Any, Any, Any], failed: Callable[[BaseException], None]
    ) -> None:
        """Run a coroutine on the loop, for which nobody waits but the end of the interpreter.

        Args:
            coroutine: what is to be run; it must end by itself.
            failed: called with what it raises, in the thread of the loop.

        Raises:
            RuntimeError: the interpreter is shutting down.
        """
        future = self._submit(coroutine, "What nobody waits for")
        self._posted.add(future)
        future.add_done_callback(lambda _future: self._end(future, failed))

    def _end(
        self, future: "concurrent.futures.Future[Any]", failed: Callable[[BaseException], None]
    ) -> None:
        self._posted.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            failed(error)

    def close(self) -> None:
        """Cancel what is running, and close the loop; for good. Waits 10 seconds at most.

        What was posted may end first.
        """
        with self._lock:
            self._is_closed = True
            loop, thread = self._loop, self._thread
        concurrent.futures.wait(list(self._posted), LIMIT)
        if loop is not None and thread is not None:
            with contextlib.suppress(RuntimeError):  # it was closed before
                loop.call_soon_threadsafe(loop.stop)
            thread.join(LIMIT)

    def _submit(
        self, coroutine: Coroutine[Any, Any, Any], waiting_for: str
    ) -> "concurrent.futures.Future[Any]":
        with self._lock:  # also against a close() in between
            if self._is_closed:
                coroutine.close()  # or Python warns that it was never awaited
                raise self._ending(waiting_for)
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop or self._start())

    def _start(self) -> asyncio.AbstractEventLoop:
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._thread = threading.Thread(
            target=_serve, args=(self._loop,), name="panther_channels.sync", daemon=True
        )
        self._thread.start()
        return self._loop

    def _forget(self) -> None:
        """In a forked child: nobody runs the loop here, and its sockets are the parent's."""
        if self._selector is not None:
            _replace_sockets([key.fd for key in self._selector.get_map().values()])
        self._lock = threading.Lock()
        self._selector = self._loop = self._thread = None
        self._posted.clear()

    def _ending(self, waiting_for: str) -> RuntimeError:
        return RuntimeError(f"{waiting_for}: the interpreter is shutting down.")


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    # The runner cancels what is left, and closes the loop, with which channels_redis closes its
    # connections.
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()


def _replace_sockets(descriptors: list[int]) -> None:
    """Put something harmless where a forked child has its parent's sockets.

    The garbage collector of the child would say good-bye on them, as TLS does, and an event loop
    would take them out of the epoll instance which both processes share.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # whoever opened it has closed it in the child
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.dup2(null, descriptor, inheritable=False)
    os.close(null)
