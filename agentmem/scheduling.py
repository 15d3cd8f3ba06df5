"""Turns of many agents on a bounded number of threads: fair between agents, and one at a time on each.

An agent's turns run in the order in which they were asked for; between agents the one that has waited longest since
its last turn goes first (round robin), so that no agent can starve another, however many turns it has waiting.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentmem.errors import BackendError, ConfigError, RateLimitedError
from agentmem.types import Reply, ReplyChunk

if TYPE_CHECKING:
    from agentmem.agent import Agent


class PendingTurn(Future[Reply]):
    """A turn that was asked for. `cancel` takes it out of the queue, or stops it where it runs.

    A stopped turn ends with CancelledError at the model's next piece; the user's message, and what was said so far,
    are in recall then, as when a stream is left. One whose model calls are not streamed goes on to its end.
    """

    def __init__(
        self, agent: Agent, text: str, options: dict[str, Any], listener: _Listener | None, interruptible: bool
    ) -> None:
        super().__init__()
        self._interruptible = interruptible
        self._agent, self._text, self._options = agent, text, options
        self._listener = listener
        self._stop = threading.Event()
        self._cause: BaseException = CancelledError()

    def cancel(self) -> bool:
        """True when the turn had not begun, and nothing was stored; False when it is being stopped, or is over."""
        self._end()
        return super().cancel()

    def _end(self, cause: BaseException | None = None) -> None:
        """Stop it where it runs."""
        self._cause = cause or self._cause
        self._stop.set()
        if self._listener is not None:
            self._listener.wanted.release()

    def _play(self) -> None:
        """Run it on this thread."""
        if not self.set_running_or_notify_cancel():
            return
        try:
            reply = self._reply()
        except BaseException as e:  # noqa: BLE001 - whatever it was reaches the one who asked, and nobody else
            self.set_exception(e)
        else:
            if reply is None:
                self.set_exception(self._cause)
            else:
                self.set_result(reply)

    def _reply(self) -> Reply | None:
        """The reply; None when the turn was stopped before there was one."""
        if not self._interruptible and self._listener is None:
            return None if self._stop.is_set() else self._agent.send(self._text, **self._options)
        reply: Reply | None = None
        chunks: Any = self._agent.stream(self._text, **self._options)
        try:
            while True:
                if self._listener is not None:  # no piece is made before it is asked for
                    self._listener.wanted.acquire()
                if self._stop.is_set() or (chunk := next(chunks, None)) is None:
                    return reply
                reply = chunk.reply or reply
                if self._listener is not None:
                    self._listener.take(chunk)
        finally:
            chunks.close()


@dataclass(slots=True)
class _Listener:
    """The reader of a stream: `take` is called on the turn's thread, once for each release of `wanted`."""

    take: Callable[[ReplyChunk], None]
    wanted: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


@dataclass(slots=True)
class _Line:
    """The turns that wait for one memory, and whether one of them runs."""

    waiting: deque[PendingTurn] = field(default_factory=deque)
    busy: bool = False


class Scheduler:
    """Runs at most `max_concurrent` turns at once; of one agent's, `max_waiting` may wait. Thread-safe.

    Two agents on one memory count as one. Raises ConfigError for bad settings.
    """

    def __init__(self, *, max_concurrent: int, max_waiting: int, interruptible: bool) -> None:
        for name, value in (("max_concurrent", max_concurrent), ("max_waiting", max_waiting)):
            if value < 1:
                raise ConfigError(name, value, "must be 1 or more")
        self._max_concurrent, self._max_waiting = max_concurrent, max_waiting
        self._interruptible = interruptible
        self._threads = ThreadPoolExecutor(max_concurrent, thread_name_prefix="agentmem-turn")
        self._lock = threading.Lock()
        self._lines: dict[int, _Line] = {}
        self._ready: deque[int] = deque()
        self._running: set[PendingTurn] = set()
        self._workers = 0
        self._closed = False

    def submit(
        self, agent: Agent, text: str, options: dict[str, Any], listener: _Listener | None = None
    ) -> PendingTurn:
        """Ask for a turn. Raises RateLimitedError when too many wait, BackendError once it is closed."""
        turn = PendingTurn(agent, text, options, listener, self._interruptible)
        with self._lock:
            if self._closed:
                raise BackendError("no turn can begin: it was closed", hint="make a new one")
            key = id(agent.memory)
            line = self._lines.setdefault(key, _Line())
            line.waiting = deque(t for t in line.waiting if not _gone(t))
            if len(line.waiting) >= self._max_waiting:
                raise RateLimitedError(
                    f"{len(line.waiting)} turns of agent {agent.memory.agent_name!r} wait already",
                    hint="wait for one of them to end, or raise max_waiting",
                )
            line.waiting.append(turn)
            if not line.busy and len(line.waiting) == 1 and key not in self._ready:
                self._ready.append(key)
            if self._workers < min(self._max_concurrent, self._workers + len(self._ready)):
                self._workers += 1
                self._threads.submit(self._work)
        return turn

    async def send(self, agent: Agent, text: str, options: dict[str, Any]) -> Reply:
        """A turn; cancelling stops it."""
        turn = self.submit(agent, text, options)
        return await asyncio.wrap_future(turn)

    async def stream(self, agent: Agent, text: str, options: dict[str, Any]) -> AsyncGenerator[ReplyChunk, None]:
        """A turn, piece by piece; leaving early stops it, and returns when what was said is stored."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[ReplyChunk | None] = asyncio.Queue()
        listener = _Listener(lambda chunk: _tell(loop, pieces, chunk))
        turn = self.submit(agent, text, options, listener)
        turn.add_done_callback(lambda _: _tell(loop, pieces, None))
        try:
            while True:
                listener.wanted.release()
                piece = await pieces.get()
                if piece is None:
                    break
                try:
                    yield piece
                except GeneratorExit:
                    turn.cancel()
                    while await pieces.get() is not None:
                        pass
                    raise
        finally:
            turn.cancel()
        turn.result()

    def close(self, *, drain: bool = False) -> None:
        """Take no more turns. With `drain` let all end that were asked for; else none of those that wait begins, and
        those that run are stopped: they end with BackendError. Returns when no turn runs; may be called twice."""
        waiting: list[PendingTurn] = []
        running: list[PendingTurn] = []
        with self._lock:
            self._closed = True
            if not drain:
                running += self._running
                for line in self._lines.values():
                    waiting += (t for t in line.waiting if not _gone(t))
                    line.waiting.clear()
        for turn in running:
            turn._end(BackendError("the turn was stopped: what runs turns was closed"))
        for turn in waiting:
            turn._end()
            if turn.set_running_or_notify_cancel():
                turn.set_exception(BackendError("the turn did not begin: what runs turns was closed"))
        self._threads.shutdown(wait=True)

    def _work(self) -> None:
        while (found := self._take()) is not None:
            key, turn = found
            try:
                turn._play()
            finally:
                self._leave(key, turn)

    def _take(self) -> tuple[int, PendingTurn] | None:
        with self._lock:
            while self._ready:
                key = self._ready.popleft()
                line = self._lines[key]
                while line.waiting:
                    turn = line.waiting.popleft()
                    if not _gone(turn):
                        line.busy = True
                        self._running.add(turn)
                        return key, turn
                del self._lines[key]
            self._workers -= 1
            return None

    def _leave(self, key: int, turn: PendingTurn) -> None:
        with self._lock:
            self._running.discard(turn)
            line = self._lines[key]
            line.busy = False
            if line.waiting:
                self._ready.append(key)
            else:
                del self._lines[key]


def _gone(turn: PendingTurn) -> bool:
    """Whether it was cancelled while it waited; to be asked under the lock, and not again once it was so."""
    return turn.cancelled() and not turn.set_running_or_notify_cancel()


def _tell(loop: asyncio.AbstractEventLoop, pieces: asyncio.Queue[ReplyChunk | None], piece: ReplyChunk | None) -> None:
    """Hand a piece to the reader's loop; one whose loop has ended reads no more."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(pieces.put_nowait, piece)
