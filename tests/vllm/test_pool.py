"""Many agents at once on one engine: every conversation is its own, and a cancelled turn leaves nothing running."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentmem.errors import BackendError
from agentmem.pool import AgentPool
from agentmem.testing import ScriptedBackend
from tests.models.conversations import CONVERSATIONS, WINDOW, open_memory
from tests.vllm.conftest import SMALL

AGENTS = 16


class Shared:
    """A backend for a test's pool, which is not the pool's to close."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.closes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    # Named here as protocols look for them.
    counter = property(lambda self: self._backend.counter)
    context_window = property(lambda self: self._backend.context_window)
    block_size = property(lambda self: self._backend.block_size)

    def tool_modes(self) -> Any:
        return self._backend.tool_modes()

    def stream(self, request: Any) -> Any:
        return self._backend.stream(request)

    def close(self) -> None:
        self.closes += 1


@pytest.fixture(scope="module")
def scripted(scripted_path: Path) -> Iterator[Any]:
    from agentmem.backends.vllm_engine import VllmBackend

    backend = VllmBackend(str(scripted_path), **SMALL)
    yield backend
    backend.close()


def history(memory: Any) -> list[tuple[str, str, list[str]]]:
    return [(m.role, m.said, [c.name for c in m.tool_calls]) for m in memory.records.recall.since(1)]


def blocks(memory: Any) -> list[str]:
    return [memory.core.block(label).value for label in memory.core]


@pytest.mark.parametrize("interruptible", [False, True])
def test_conversations_with_calls_side_by_side(scripted: Any, tmp_path: Path, interruptible: bool) -> None:
    names = [list(CONVERSATIONS)[n % len(CONVERSATIONS)] for n in range(AGENTS)]
    # In one file: what they have in common is the engine and the store.
    memories = [open_memory(tmp_path / "all.db", f"agent {n}") for n in range(AGENTS)]
    backend = Shared(scripted)
    with AgentPool(backend, max_concurrent=AGENTS, interruptible=interruptible) as pool:
        agents = [pool.agent(memory) for memory in memories]
        turns = [[pool.submit(a, t.user) for t in CONVERSATIONS[n]] for a, n in zip(agents, names, strict=True)]
        replies = [[t.result(300).text for t in line] for line in turns]
    assert backend.closes == 1
    for name, said, memory in zip(names, replies, memories, strict=True):
        alone = open_memory()
        script = [line for turn in CONVERSATIONS[name] for line in turn.says]
        with alone, AgentPool(ScriptedBackend(script, context_window=WINDOW)) as pool:
            agent = pool.agent(alone)
            assert said == [pool.submit(agent, t.user).result(60).text for t in CONVERSATIONS[name]], name
            assert history(memory) == history(alone), name
            assert blocks(memory) == blocks(alone), name
        memory.close()


def test_a_cancelled_turn_frees_its_request(engine: Any) -> None:
    async def leave() -> None:
        with open_memory() as memory:
            pool = AgentPool(Shared(engine), interruptible=True)
            agent = pool.agent(memory)
            task = asyncio.create_task(pool.send(agent, "Tell me a long story."))
            while engine.metrics().running == 0:
                await asyncio.sleep(0.002)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await pool.aclose()
            assert history(memory)[0][1] == "Tell me a long story."
            with pytest.raises(BackendError, match="closed"):
                await pool.send(agent, "too late")

    asyncio.run(asyncio.wait_for(leave(), 120))
    engine.generate([_small()])  # its counts are those of the last step
    assert engine.metrics().running == 0


def _small() -> Any:
    from agentmem.types import ChatMessage, Request

    return Request((ChatMessage("user", "hi"),), max_tokens=1)
