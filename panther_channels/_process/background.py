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
import sys
import threading
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any, Generic, TypeVar

from django.core.exceptions import ImproperlyConfigured

S = TypeVar("S")
T = TypeVar("T")

LIMIT = 10.0  # seconds
_FAREWELL = 1.0  # seconds


class Background:
    """An event loop that is started at the first use. Each process has its own, forked or not.

    Args:
        farewell: run on the loop before it is closed, for a second at most.
    """

    def __init__(self, farewell: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        self._farewell = farewell
        self._lock = threading.Lock()
        self._selector: selectors.BaseSelector | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._join: Callable[[float], Any] | None = None
        self._posted: set[concurrent.futures.Future[Any]] = set()
        self._is_closed = False
        os.register_at_fork(after_in_child=self._forget)
        # Now, not at the first use: atexit runs the latest first, and others may still send.
        atexit.register(self.close)

    def run(self, coroutine: Coroutine[Any, Any, T], waiting_for: str, longer: float = 0) -> T:
        """Run a coroutine on the loop, and wait for what it returns or raises.

        An exception that ends the waiting, such as ``KeyboardInterrupt``, cancels the coroutine.

        Args:
            coroutine: what is to be run.
            waiting_for: what it does, for the texts of errors.
            longer: seconds beside the ten.

        Raises:
            TimeoutError: nothing came in time; the coroutine is cancelled.
            RuntimeError: the interpreter is shutting down.
            ImproperlyConfigured: threads aren't real here, and not gevent's either.
        """
        limit = LIMIT + longer
        call = self._submit(coroutine, waiting_for, _Call)
        try:
            has_ended = call.wait(limit)
        except BaseException:
            call.cancel()
            raise
        if not has_ended:
            call.cancel()
            raise TimeoutError(f"{waiting_for}: no answer within {limit:g} s.")
        try:
            return call.result()
        except asyncio.CancelledError:
            raise self._ending(waiting_for) from None

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
        submit = asyncio.run_coroutine_threadsafe
        future = self._submit(coroutine, "What nobody waits for", submit)
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
            loop, join = self._loop, self._join
        concurrent.futures.wait(list(self._posted), LIMIT)
        if loop is not None and join is not None:
            if self._farewell is not None and loop.is_running():
                with contextlib.suppress(Exception):  # nobody can be told any more
                    farewell = asyncio.run_coroutine_threadsafe(self._farewell(), loop)
                    farewell.result(_FAREWELL)
            with contextlib.suppress(RuntimeError):  # it was closed before
                loop.call_soon_threadsafe(loop.call_soon, loop.stop)  # as _Call cancels
            join(LIMIT)

    def _submit(
        self,
        coroutine: Coroutine[Any, Any, T],
        waiting_for: str,
        submit: Callable[[Coroutine[Any, Any, T], asyncio.AbstractEventLoop], S],
    ) -> S:
        with self._lock:  # also against a close() in between
            try:
                loop = self._running(waiting_for)
            except BaseException:
                coroutine.close()  # or Python warns that it was never awaited
                raise
            return submit(coroutine, loop)

    def _running(self, waiting_for: str) -> asyncio.AbstractEventLoop:
        if self._is_closed:
            raise self._ending(waiting_for)
        return self._loop or self._start()

    def _start(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop
        if is_green():
            # Of gevent's own pool, and from the beginning: its selector belongs to a thread.
            pool = import_module("gevent.threadpool").ThreadPool(1)
            self._selector = pool.apply(selectors.DefaultSelector)
            loop = self._loop = pool.apply(asyncio.SelectorEventLoop, (self._selector,))
            self._join = pool.spawn(_serve, loop).wait
            return loop
        _refuse_greenlets()
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        thread = threading.Thread(
            target=_serve, args=(self._loop,), name="panther_channels.sync", daemon=True
        )
        thread.start()
        self._join = thread.join
        return self._loop

    def _forget(self) -> None:
        """In a forked child: nobody runs the loop here, and its sockets are the parent's."""
        if self._selector is not None:
            _replace_sockets([key.fd for key in self._selector.get_map().values()])
        self._lock = threading.Lock()
        self._selector = self._loop = self._join = None
        self._posted.clear()

    def _ending(self, waiting_for: str) -> RuntimeError:
        return RuntimeError(f"{waiting_for}: the interpreter is shutting down.")


class _Call(Generic[T]):
    """A coroutine on the loop, for which a thread waits.

    A future of ``concurrent.futures`` does the same, and takes half as long again.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> None:
        self._coroutine, self._loop = coroutine, loop
        self._result: Any = None
        self._error: BaseException | None = None
        self._running = threading.Lock()
        self._running.acquire()
        loop.call_soon_threadsafe(self._start)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it has come."""
        return self._running.acquire(timeout=seconds)

    def result(self) -> T:
        """What it has returned, or raised."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # which the traceback would keep, and it the traceback
        result: T = self._result
        return result

    def cancel(self) -> None:
        """Cancel it, if it hasn't ended."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._cancel)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            self._result = await self._coroutine
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._error = error
        finally:
            self._running.release()

    def _cancel(self) -> None:
        # Next, when it has run up to its first wait: what has never begun can't note its end.
        self._loop.call_soon(self._task.cancel)


def is_green() -> bool:
    """Whether ``gevent.monkey.patch_all()`` has made greenlets of all threads.

    An event loop in a greenlet would run in the thread of all of them, and Django's ORM would
    refuse to work in any.
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and any(map(monkey.is_module_patched, ("threading", "selectors")))


def _refuse_greenlets() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    if thread.native_id == threading.get_native_id():
        raise ImproperlyConfigured(
            "panther_channels.sync needs a real thread, and something, such as eventlet, has made "
            "a greenlet of it: use threads or gevent here, as by `celery worker -P threads`."
        )


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
