"""One agent in an asyncio program: order, cancelling, leaving early, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentmem import Agent, AsyncAgent, Memory
from agentmem.errors import BackendError, RateLimitedError
from tests.agent.fakes import Gated

Make = Callable[..., Any]


def texts(memory: Memory) -> list[str]:
    return [m.content for m in memory.records.recall.since(1)]


def run(memory: Memory, backend: Gated, use: Callable[[AsyncAgent], Any], **settings: Any) -> Any:
    async def main() -> Any:
        async with AsyncAgent(Agent(memory, backend), **settings) as agent:
            return await asyncio.wait_for(use(agent), 20)

    return asyncio.run(main())


async def begun(backend: Gated, count: int) -> None:
    while len(backend.begun) < count:
        await asyncio.sleep(0.001)


def test_turns_wait_in_order_and_not_without_bound(memory_factory: Make) -> None:
    backend = Gated(is_open=False)

    async def use(agent: AsyncAgent) -> list[str]:
        first = asyncio.create_task(agent.send("0"))
        await begun(backend, 1)
        rest = [asyncio.create_task(agent.send(str(n))) for n in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(RateLimitedError, match="2 turns"):
            await agent.send("3")
        with pytest.raises(RateLimitedError, match="2 turns"):
            await anext(agent.stream("4"))
        backend.allow()
        return [r.text for r in await asyncio.gather(first, *rest)]

    memory = memory_factory()
    assert run(memory, backend, use, max_waiting=2) == [f"you said: {n}" for n in range(3)]
    assert backend.begun == ["0", "1", "2"] and backend.most == 1
    assert texts(memory) == ["0", "you said: 0", "1", "you said: 1", "2", "you said: 2"]


def test_a_cancelled_send_stops_the_model_and_keeps_the_message(memory_factory: Make) -> None:
    backend = Gated(is_open=False)

    async def use(agent: AsyncAgent) -> str:
        task = asyncio.create_task(agent.send("a long story"))
        await begun(backend, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        backend.allow("a long story", 1)  # the model's next piece: there the turn ends
        later = asyncio.create_task(agent.send("later"))
        await begun(backend, 2)
        assert backend.closed == 1
        backend.allow()
        return (await later).text

    memory = memory_factory()
    assert run(memory, backend, use) == "you said: later"
    said = texts(memory)
    assert said[0] == "a long story" and said[-2:] == ["later", "you said: later"]


def test_a_send_that_is_cancelled_while_it_waits_never_begins(memory_factory: Make) -> None:
    backend = Gated(is_open=False)

    async def use(agent: AsyncAgent) -> None:
        first = asyncio.create_task(agent.send("first"))
        await begun(backend, 1)
        second = asyncio.create_task(agent.send("second"))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        backend.allow()
        await first

    memory = memory_factory()
    run(memory, backend, use)
    assert backend.begun == ["first"] and texts(memory) == ["first", "you said: first"]


def test_a_time_limit(memory_factory: Make) -> None:
    backend = Gated(is_open=False)

    async def read(agent: AsyncAgent, text: str) -> None:
        async for _ in agent.stream(text):
            pass

    async def use(agent: AsyncAgent) -> None:
        for n, ask in enumerate((agent.send, lambda text: read(agent, text))):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as limit:
                    asked = asyncio.create_task(ask(f"slow {n}"))
                    await begun(backend, n + 1)
                    limit.reschedule(0)
                    await asked
            backend.allow(f"slow {n}", 1)  # there the turn ends
        backend.allow()
        assert (await agent.send("quick")).text == "you said: quick"

    memory = memory_factory()
    run(memory, backend, use)
    assert [t for t in texts(memory) if not t.startswith("you")] == ["slow 0", "slow 1", "quick"]
    assert texts(memory)[-1] == "you said: quick" and backend.closed == 2


def test_a_stream_left_early_holds_what_was_read(memory_factory: Make) -> None:
    backend = Gated()

    async def use(agent: AsyncAgent) -> str:
        read = ""
        chunks = agent.stream("one two three")
        async for chunk in chunks:
            read += chunk.text
            if read.endswith("said:"):
                break
        await chunks.aclose()
        assert backend.closed == 1 and backend.running == 0
        return read

    memory = memory_factory()
    assert run(memory, backend, use) == "you said:"
    assert texts(memory) == ["one two three", "you said:"]


def test_a_stream_whose_task_is_cancelled_between_two_pieces(memory_factory: Make) -> None:
    backend = Gated(is_open=False)

    async def use(agent: AsyncAgent) -> None:
        async def read() -> None:
            async for _ in agent.stream("hello there"):
                pass

        task = asyncio.create_task(read())
        await begun(backend, 1)
        backend.allow("hello there", 2)
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        backend.allow()
        assert (await agent.send("next")).text == "you said: next"

    memory = memory_factory()
    run(memory, backend, use)
    assert backend.closed == 1
    assert texts(memory)[0] == "hello there" and texts(memory)[-2:] == ["next", "you said: next"]


def test_closing_stops_what_runs_and_may_be_done_twice(memory_factory: Make) -> None:
    backend = Gated(is_open=False)
    memory = memory_factory()

    async def main() -> None:
        agent = AsyncAgent(Agent(memory, backend))
        tasks = [asyncio.create_task(agent.send(t)) for t in ("runs", "waits")]
        await begun(backend, 1)
        closing = asyncio.create_task(agent.close())
        await asyncio.sleep(0.02)
        backend.allow("runs", 1)
        await closing
        for task, what in zip(tasks, ("stopped", "did not begin"), strict=True):
            with pytest.raises(BackendError, match=what):
                await task
        await agent.close()
        with pytest.raises(BackendError, match="closed"):
            await agent.send("too late")

    asyncio.run(main())
    assert backend.closed == 1 and backend.begun == ["runs"]
    assert texts(memory)[0] == "runs"
