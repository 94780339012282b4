"""A program that runs uvicorn, and then does what its argument says; stopped by SIGTERM."""

import asyncio
import atexit
import logging
import signal
import sys
import threading
import time

import uvicorn

from tests.project.asgi import application

SECONDS = 8.0  # longer than the last resort waits


def hang() -> None:
    time.sleep(SECONDS)


class Deaf(logging.Handler):
    """Takes for ever to write what is critical."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.CRITICAL:
            threading.Event().wait()


def main(what: str) -> None:
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_config=None))

    async def serve() -> None:
        await server.serve()
        if what == "in its loop":
            await asyncio.sleep(SECONDS)

    # uvicorn raises the signal again when it has stopped, which would be the end.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    if what == "a log":
        logging.getLogger("panther_channels").addHandler(Deaf())
    if what in ("atexit", "a log"):
        atexit.register(hang)
    asyncio.run(serve())
    if what == "the program":
        hang()
    if what == "a daemon":
        threading.Thread(target=hang, daemon=True).start()
    if what == "a thread":
        threading.Thread(target=hang, name="T").start()


if __name__ == "__main__":
    main(sys.argv[1])
