"""One thread with an asyncio loop, and jobs on it that threads can wait for and cancel."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from agentmem.errors import BackendUnavailableError

T = TypeVar("T")
_SETTLE_S = 10.0


class Job(Generic[T]):
    """A coroutine on a loop. `result` waits for it; `cancel` returns when it has cleaned up behind itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._settled = threading.Event()
        self._task: asyncio.Task[T] | None = None

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start it; called on the loop."""
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(lambda task: self._settled.set())
        return self._task

    def result(self, interrupted: Callable[[], None] | None = None) -> T:
        """What the coroutine returned, or raises what it raised. What interrupts the waiting thread, as Ctrl-C does,
        cancels the job, `interrupted` called first. Raises BackendUnavailableError when the loop was closed over it."""
        try:
            self._settled.wait()
        except BaseException:
            if interrupted is not None:
                interrupted()
            self.cancel()
            raise
        if self._task is None or self._task.cancelled():
            raise BackendUnavailableError("the engine was closed before it answered", hint="make a new backend")
        return self._task.result()

    def cancel(self) -> None:
        """Cancel it unless it is done, and wait for its clean-up; on the loop's own thread, where the collector of
        garbage may call it, without waiting."""
        if not self._settled.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel)
            if asyncio._get_running_loop() is not self._loop:
                self._settled.wait(_SETTLE_S)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class LoopThread:
    """A daemon thread that runs an asyncio loop until `close`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Job[T]:
        """Begin a coroutine on the loop. Raises BackendUnavailableError after `close`."""
        job: Job[T] = Job(self._loop)
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(self._begin, job, work)
                return job
        work.close()
        raise BackendUnavailableError("the engine is closed", hint="make a new backend")

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result."""
        return self.start(work).result()

    def close(self, last: Callable[[], None]) -> None:
        """Cancel the jobs, call `last` on the loop's thread, and end it; may be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            ended = asyncio.run_coroutine_threadsafe(self._end(last), self._loop)
        try:
            ended.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _begin(self, job: Job[T], work: Coroutine[Any, Any, T]) -> None:
        task = job.begin(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, last: Callable[[], None]) -> None:
        await _cancelled(self._tasks)
        try:
            last()
        finally:
            await _cancelled(t for t in asyncio.all_tasks() if t is not asyncio.current_task())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()


async def _cancelled(tasks: Any) -> None:
    found = list(tasks)
    for task in found:
        task.cancel()
    await asyncio.gather(*found, return_exceptions=True)
