"""Python's garbage collector, which looks at every open connection again and again.

A full collection looks at all there is, while the event loop stands still: with 8,000 connections
at some 600,000 objects, for half a second. It is due when a quarter has been added to what was
there, so that it is half of the cost of a handshake where many come at once.
"""

import gc
from functools import cache

_STEP = 500  # connections, at least
_CALM = 10.0  # seconds
_OF_PYTHON = 1000  # objects, more than what Python 3.12 has frozen by itself


class Freezer:
    """Keeps open connections out of full collections, by ``gc.freeze()``: they are no garbage.

    What was frozen is not found any more once it is garbage in a cycle. So all is collected when a
    quarter of the connections have come or ended since the last time, but not while many come. A
    project that has frozen something itself, or has turned the collector off, is left alone.
    """

    def __init__(self) -> None:
        self._frozen = 0  # connections that were open at the latest freeze
        self._frozen_at = 0.0
        self._known = 0  # connections that were open at the latest full collection
        self._ended = 0  # that had ended then

    def check(self, now: float, there: int, ended: int) -> None:
        """Do what is due; called every now and then.

        Args:
            now: the time, as ``time.monotonic()`` tells it.
            there: how many connections are open.
            ended: how many have ended, ever.
        """
        if _project_freezes() or not gc.isenabled():
            return
        if there - self._frozen >= max(_STEP, self._frozen // 8):
            self._freeze(now, there)
        elif self._frozen and now - self._frozen_at >= _CALM:
            changed = max(there - self._known, ended - self._ended)
            if changed >= max(_STEP, self._known // 4):
                gc.unfreeze()
                gc.collect()
                self._known, self._ended = there, ended
                self._freeze(now, there)

    def _freeze(self, now: float, there: int) -> None:
        if there >= _STEP:
            gc.freeze()
            self._frozen, self._frozen_at = there, now
        else:
            self._frozen = 0


@cache  # before we do
def _project_freezes() -> bool:
    return gc.get_freeze_count() >= _OF_PYTHON
