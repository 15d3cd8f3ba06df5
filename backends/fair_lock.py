"""A lock that is granted in the order in which it was asked for."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class FairLock:
    """First come, first served: a thread that lets go and asks again stands behind those that wait. Not reentrant."""

    def __init__(self) -> None:
        self._inner = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self) -> None:
        """Wait for one's turn. An exception while waiting (Ctrl-C) leaves the line in order."""
        with self._inner:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:
            with self._inner:
                waits = turn in self._waiting
                if waits:
                    self._waiting.remove(turn)
            if not waits:  # it was granted in the meantime
                self.release()
            raise

    def release(self) -> None:
        """Hand it to the one who has waited longest."""
        with self._inner:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False

    def __enter__(self) -> FairLock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
