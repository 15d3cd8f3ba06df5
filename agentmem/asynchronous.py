"""The agent for asyncio programs: the synchronous one on a thread of its own. One turn at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self

from agentmem.agent import Agent
from agentmem.scheduling import Scheduler
from agentmem.types import Reply, ReplyChunk


class AsyncAgent:
    """Wraps an `Agent`; several may run side by side, each on its own memory (many on one backend: `AgentPool`).

    Turns that are asked for while one runs wait, in order, up to `max_waiting` of them.
    """

    def __init__(self, agent: Agent, *, max_waiting: int = 16) -> None:
        self.agent = agent
        self._turns = Scheduler(max_concurrent=1, max_waiting=max_waiting, interruptible=True)

    async def send(self, text: str, **options: Any) -> Reply:
        """As `Agent.send`. Cancelling it (`asyncio.timeout` does) stops the turn at the model's next piece; the user's
        message is in recall, unless the turn had not begun. Raises RateLimitedError when too many turns wait,
        BackendError once it is closed."""
        return await self._turns.send(self.agent, text, options)

    def stream(self, text: str, **options: Any) -> AsyncGenerator[ReplyChunk, None]:
        """As `Agent.stream`; leaving the loop early (`aclose`) stops the reply. Raises as `send`."""
        return self._turns.stream(self.agent, text, options)

    async def close(self) -> None:
        """Stop the turn that runs, refuse those that wait, and close the agent's backend; may be called twice."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._turns.close()
        self.agent.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
