"""Work beside the searches: a thread that lives as long as there is any."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections import deque
from collections.abc import Callable

Job = Callable[[], None]


class StoppedError(Exception):
    """A job was told to end before it was done. Stays within the jobs."""


def return_freed_memory() -> None:
    """Give what was freed back to the system, where the C library can be asked to (glibc keeps it otherwise: after a
    build as much again as the index)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


class Background:
    """Runs jobs one after another, in the order given. A job asks `stopping()` between its steps and ends early when
    that is true: after `close`, and when the program ends without it.

    Tests give a subclass that keeps the jobs until it is told to run them.
    """

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, job: Job) -> None:
        """Run a job some time soon; after `close` it is dropped."""
        with self._lock:
            if self._closed:
                return
            self._jobs.append(job)
            if self._thread is None:
                # Not a daemon: Python waits for it, so that it does not end in the middle of FAISS's work.
                self._thread = threading.Thread(target=self._run, name="agentmem-index", daemon=False)
                self._thread.start()

    def stopping(self) -> bool:
        """Whether jobs should end now."""
        return self._closed or not threading.main_thread().is_alive()

    def close(self) -> None:
        """Drop what has not begun and wait for what has; may be called twice. Not to be called with a lock held
        that a job may need."""
        with self._lock:
            self._closed = True
            self._jobs.clear()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        try:
            while (job := self._next()) is not None:
                job()
        except BaseException:
            with self._lock:
                self._thread = None
            raise

    def _next(self) -> Job | None:
        with self._lock:
            if self._jobs and not self.stopping():
                return self._jobs.popleft()
            # Said under the lock, so that what is submitted from here on starts a new thread.
            self._thread = None
            return None
