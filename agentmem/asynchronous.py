"""The agent for asyncio programs: the synchronous one on a thread of its own. One turn at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agentmem.agent import Agent
from agentmem.types import Reply, ReplyChunk


class AsyncAgent:
    """Wraps an `Agent`; several may run side by side, each on its own memory."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="agentmem")

    async def send(self, text: str, **kwargs: Any) -> Reply:
        """As `Agent.send`."""
        reply: Reply = await self._run(lambda: self.agent.send(text, **kwargs))
        return reply

    async def stream(self, text: str, **kwargs: Any) -> AsyncIterator[ReplyChunk]:
        """As `Agent.stream`; leaving the loop early stops the reply."""
        chunks: Iterator[ReplyChunk] = await self._run(lambda: self.agent.stream(text, **kwargs))
        try:
            while (chunk := await self._run(lambda: next(chunks, None))) is not None:
                yield chunk
        finally:
            await self._run(chunks.close)  # type: ignore[attr-defined]

    async def close(self) -> None:
        """Close the agent's backend and the thread."""
        await self._run(self.agent.close)
        self._thread.shutdown(wait=False)

    async def _run(self, call: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
