"""Python's garbage collector, which looks at every open connection again and again.

A full collection looks at all there is, while the event loop stands still: with 8,000 connections
at some 600,000 objects, for half a second. It is due when a quarter has been added to what was
there, so that it is half of the cost of a handshake where many come at once.
"""

import gc

_STEP = 500  # connections


class Freezer:
    """Keeps open connections out of full collections, by ``gc.freeze()``: they are no garbage.

    What was frozen is not found any more once it is garbage in a cycle. So all is let go when a
    good part of the connections have ended, until a full collection has looked at it. A project
    that freezes by itself, or has turned the collector off, is left alone.
    """

    def __init__(self) -> None:
        self._is_ours = gc.isenabled() and not gc.get_freeze_count()
        self._frozen = 0  # connections that were open at the latest freeze
        self._ended = 0  # that had ended at the first one
        self._collections = -1  # full ones, up to when it was let go

    def check(self, there: int, ended: int) -> None:
        """Do what is due; called every now and then.

        Args:
            there: how many connections are open.
            ended: how many have ended, ever.
        """
        if not self._is_ours:
            return
        if self._frozen:
            if ended - self._ended >= max(_STEP, self._frozen // 4):
                gc.unfreeze()
                self._frozen, self._collections = 0, _full_collections()
                return
        elif self._collections == _full_collections():
            return
        else:
            self._ended = ended
        if there - self._frozen >= _STEP:
            gc.collect(1)  # of the youngest some are garbage
            gc.freeze()
            self._frozen = there


def _full_collections() -> int:
    count: int = gc.get_stats()[2]["collections"]
    return count
