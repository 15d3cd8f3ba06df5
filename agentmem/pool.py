"""Many agents at once on one backend: one server, one engine, as many conversations as it can batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agentmem import registry
from agentmem.agent import Agent
from agentmem.scheduling import PendingTurn, Scheduler
from agentmem.types import Reply, ReplyChunk

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.protocols import Backend


class AgentPool:
    """Runs turns of many agents on one backend, at most `max_concurrent` at a time. Thread-safe.

    One turn at a time on a memory, in the order in which they were asked for; between agents turns go round. Of one
    agent's turns `max_waiting` may wait: one more is refused with RateLimitedError. An error reaches the caller of its
    turn alone. The pool owns the backend, a spec or an object, and closes it; memories belong to the caller, who
    closes them after the pool. Memories that share an embedder object load its weights once.

        async with AgentPool("openai:http://127.0.0.1:8000/v1") as pool:
            anna = pool.agent(Memory("anna.db"))
            reply = await pool.send(anna, "Hello!")

    Leaving the block lets the turns end that were asked for; leaving it by an exception stops them, as `close` does.
    A turn that is cancelled before it begins never does. One that runs ends at the model's next piece where it is a
    stream, or the pool is `interruptible`: all model calls are streamed then, which costs client and server some work
    for each token (benchmarks/concurrency.py). Else it goes on to its end, and its caller no longer waits for it.
    """

    def __init__(
        self,
        backend: str | Backend,
        *,
        max_concurrent: int = 64,
        max_waiting: int = 16,
        interruptible: bool = False,
    ) -> None:
        self._turns = Scheduler(max_concurrent=max_concurrent, max_waiting=max_waiting, interruptible=interruptible)
        self.backend: Backend = registry.make_backend(backend, None) if isinstance(backend, str) else backend

    def agent(self, memory: Memory, **settings: Any) -> Agent:
        """An agent on the pool's backend; `settings` as of `Agent`. Closing it leaves the backend to the others."""
        return _Pooled(memory, self.backend, **settings)

    def submit(self, agent: Agent, text: str, **options: Any) -> PendingTurn:
        """Ask for a turn, without waiting: its `result()` is the reply. Arguments and errors as of `Agent.send`.

        Raises RateLimitedError when too many of the agent's turns wait, BackendError once the pool is closed.
        """
        return self._turns.submit(agent, text, options)

    async def send(self, agent: Agent, text: str, **options: Any) -> Reply:
        """As `Agent.send`. When it is cancelled (`asyncio.timeout` does that) it returns at once; the user's message is
        in recall, unless the turn had not begun. Raises as `submit`."""
        return await self._turns.send(agent, text, options)

    def stream(self, agent: Agent, text: str, **options: Any) -> AsyncGenerator[ReplyChunk, None]:
        """As `Agent.stream`; leaving the loop early (`aclose`) stops the reply. Raises as `submit`."""
        return self._turns.stream(agent, text, options)

    def close(self, *, drain: bool = False) -> None:
        """Stop what runs, refuse what waits (with `drain`: let it all end), then close the backend. Returns when no
        turn runs; may be called twice."""
        self._turns.close(drain=drain)
        self.backend.close()

    async def aclose(self, *, drain: bool = False) -> None:
        """As `close`, while the event loop goes on."""
        await asyncio.to_thread(self.close, drain=drain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close(drain=kind is None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose(drain=kind is None)


class _Pooled(Agent):
    """An agent that shares its backend."""

    def close(self) -> None:
        """Nothing: the pool closes the backend."""
