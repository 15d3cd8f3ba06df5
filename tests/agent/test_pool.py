"""Many agents at once: whose turn it is, how many run, who hears of what, and what is left when it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem import Agent, Memory
from agentmem.errors import BackendError, BackendUnavailableError, ConfigError, RateLimitedError
from agentmem.pool import AgentPool
from tests.agent.fakes import WAIT_S, Gated

Make = Callable[..., Any]


def texts(memory: Memory) -> list[str]:
    return [m.content for m in memory.records.recall.since(1)]


@pytest.fixture
def pools() -> Iterator[Callable[..., AgentPool]]:
    """Makes pools that are closed at the end, whatever became of the test."""
    made: list[AgentPool] = []

    def make(backend: Any, **settings: Any) -> AgentPool:
        made.append(AgentPool(backend, **settings))
        return made[-1]

    yield make
    for pool in made:
        backend: Any = pool.backend
        backend.allow()
        pool.close()


# -- whose turn it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one_file", [True, False])
@pytest.mark.parametrize("interruptible", [True, False])
def test_nothing_of_an_agent_reaches_another(
    memory_factory: Make, pools: Make, one_file: bool, interruptible: bool
) -> None:
    pool = pools(Gated(), max_concurrent=4, interruptible=interruptible)
    names = [f"agent{n}" for n in range(6)]
    memories = [memory_factory("all.db" if one_file else f"{n}.db", agent=n) for n in names]
    agents = [pool.agent(m) for m in memories]
    turns = {(n, k): pool.submit(a, f"{n} {k}") for k in range(3) for n, a in zip(names, agents, strict=True)}
    for (name, k), turn in turns.items():
        reply = turn.result(WAIT_S)
        assert reply.text == f"you said: {name} {k}"
        steps = [e for e in reply.events if e.kind == "step"]
        assert len(steps) == 1 and [e.kind for e in reply.events].count("prompt") == 1
    for name, memory in zip(names, memories, strict=True):
        assert texts(memory) == [t for k in range(3) for t in (f"{name} {k}", f"you said: {name} {k}")]


def test_at_most_so_many_at_once_and_one_of_a_memory(memory_factory: Make, pools: Make) -> None:
    backend = Gated(is_open=False)
    pool = pools(backend, max_concurrent=3)
    agents = [pool.agent(memory_factory(f"{n}.db")) for n in range(5)]
    twin = pool.agent(agents[0].memory)  # another agent on the same memory
    turns = [pool.submit(a, f"{n}{k}") for k in "ab" for n, a in enumerate(agents)] + [pool.submit(twin, "twin")]
    backend.wait(lambda: backend.running == 3)
    assert sorted(backend.begun) == ["0a", "1a", "2a"]
    backend.allow("1a")
    backend.wait(lambda: len(backend.begun) == 4)
    assert backend.begun[3] == "3a" and not turns[0].done()
    backend.allow()
    assert not wait(turns, WAIT_S).not_done
    assert backend.most == 3
    assert [t for t in backend.begun if t in ("0a", "0b", "twin")] == ["0a", "0b", "twin"]


def test_an_agent_with_many_turns_does_not_starve_others(memory_factory: Make, pools: Make) -> None:
    backend = Gated(is_open=False)
    pool = pools(backend, max_concurrent=1, max_waiting=100)
    greedy, *others = [pool.agent(memory_factory(f"{n}.db")) for n in range(4)]
    turns = [pool.submit(greedy, f"g{k}") for k in range(20)]
    turns += [pool.submit(a, f"o{n}{k}") for n, a in enumerate(others) for k in range(2)]
    backend.allow()
    assert not wait(turns, WAIT_S).not_done
    assert backend.begun[:9] == ["g0", "o00", "o10", "o20", "g1", "o01", "o11", "o21", "g2"]
    assert backend.begun[9:] == [f"g{k}" for k in range(3, 20)]


@settings(max_examples=12)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=16), st.integers(1, 4))
def test_turns_go_round_and_keep_their_order(asked: list[int], at_once: int) -> None:
    """Before an agent's turn k + 1 begins, every agent whose turn k was asked for has begun it."""
    backend = Gated(is_open=False)
    memories = [Memory(":memory:", f"a{n}", embedder="none") for n in range(4)]
    with AgentPool(backend, max_concurrent=at_once, max_waiting=24) as pool:
        agents = [pool.agent(m) for m in memories]
        # Held back by turns of others until all are asked for: the order is then the scheduler's alone.
        stoppers = [pool.agent(Memory(":memory:", f"s{n}", embedder="none")) for n in range(at_once)]
        held = [pool.submit(a, f"stop{n}") for n, a in enumerate(stoppers)]
        backend.wait(lambda: backend.running == at_once)
        counts = [0] * 4
        turns = []
        for n in asked:
            turns.append(pool.submit(agents[n], f"{n}:{counts[n]}"))
            counts[n] += 1
        backend.allow()
        assert not wait([*held, *turns], WAIT_S).not_done
    for a in stoppers:
        a.memory.close()
    for m in memories:
        m.close()
    begun = [tuple(map(int, t.split(":"))) for t in backend.begun if ":" in t]
    for n in range(4):
        assert [k for a, k in begun if a == n] == list(range(counts[n]))
    if at_once == 1:
        assert [k for _, k in begun] == sorted(k for _, k in begun)
    assert backend.most <= at_once


# -- errors, bounds, cancelling ----------------------------------------------------------------------------------------


def test_an_error_reaches_its_caller_alone(memory_factory: Make, pools: Make) -> None:
    backend = Gated(fail=lambda said: BackendUnavailableError("away") if said == "bad" else None)
    pool = pools(backend, max_concurrent=2)
    one, two = (pool.agent(memory_factory(f"{n}.db")) for n in range(2))
    turns = [pool.submit(one, "bad"), pool.submit(one, "good"), pool.submit(two, "fine")]
    with pytest.raises(BackendUnavailableError, match="away"):
        turns[0].result(WAIT_S)
    assert turns[1].result(WAIT_S).text == "you said: good"
    assert turns[2].result(WAIT_S).text == "you said: fine"
    assert texts(one.memory) == ["bad", "good", "you said: good"], "the message of the failed turn is in recall"


def test_too_many_waiting_turns_are_refused(memory_factory: Make, pools: Make) -> None:
    backend = Gated(is_open=False)
    pool = pools(backend, max_concurrent=1, max_waiting=2)
    one, two = (pool.agent(memory_factory(f"{n}.db", agent=f"a{n}")) for n in range(2))
    running = pool.submit(one, "0")
    backend.wait(lambda: backend.running == 1)
    waiting = [pool.submit(one, "1"), pool.submit(one, "2")]
    with pytest.raises(RateLimitedError, match="2 turns of agent 'a0' wait"):
        pool.submit(one, "3")
    other = pool.submit(two, "of another")  # has a line of its own
    assert waiting[0].cancel() and waiting[0].cancelled()
    late = pool.submit(one, "4")  # in the place of the cancelled one
    backend.allow()
    assert not wait([running, waiting[1], other, late], WAIT_S).not_done
    assert [t for t in backend.begun if t != "of another"] == ["0", "2", "4"]
    assert "1" not in texts(one.memory) and "3" not in texts(one.memory)


@pytest.mark.parametrize(("name", "value"), [("max_concurrent", 0), ("max_waiting", -1)])
def test_settings_that_make_no_sense(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=name):
        AgentPool(Gated(), **{name: value})


def test_a_cancelled_turn_is_stopped_and_leaves_what_was_said(memory_factory: Make, pools: Make) -> None:
    backend = Gated(is_open=False)
    pool = pools(backend, max_concurrent=1, interruptible=True)
    agent = pool.agent(memory_factory())
    turn, after = pool.submit(agent, "one two"), pool.submit(agent, "next")
    backend.allow("one two", 2)
    backend.wait(lambda: backend.running == 1)
    assert turn.cancel() is False, "it has begun"
    backend.allow("one two", 1)
    with pytest.raises(CancelledError):
        turn.result(WAIT_S)
    backend.allow("next")
    assert after.result(WAIT_S).text == "you said: next"
    assert backend.closed == 1
    said = texts(agent.memory)
    assert said[0] == "one two" and said[-2:] == ["next", "you said: next"]
    assert len(said) == 3 or "you said: one two".startswith(said[1]), "what was said before, or nothing"


def test_a_turn_that_is_not_interruptible_runs_to_its_end(memory_factory: Make, pools: Make) -> None:
    backend = Gated(is_open=False)
    pool = pools(backend)
    agent = pool.agent(memory_factory())
    turn = pool.submit(agent, "hello")
    backend.wait(lambda: backend.running == 1)
    assert turn.cancel() is False
    backend.allow()
    assert turn.result(WAIT_S).text == "you said: hello"
    assert texts(agent.memory) == ["hello", "you said: hello"] and backend.closed == 0


def test_a_time_limit_frees_the_caller_at_once(memory_factory: Make, pools: Make) -> None:
    backend = Gated(is_open=False)

    async def ask() -> str:
        pool = pools(backend, interruptible=True)
        agent = pool.agent(memory_factory())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                asked = asyncio.create_task(pool.send(agent, "slow"))
                while backend.running == 0:
                    await asyncio.sleep(0.001)
                limit.reschedule(0)
                await asked
        later = asyncio.create_task(pool.send(agent, "later"))
        await asyncio.sleep(0)
        backend.allow()
        return (await later).text

    assert asyncio.run(ask()) == "you said: later"
    assert backend.closed == 1


def test_a_stream_that_is_left_early_is_stopped_where_its_reader_was(memory_factory: Make, pools: Make) -> None:
    backend = Gated()

    async def leave() -> list[str]:
        async with AgentPool(backend) as pool:
            agent = pool.agent(memory_factory())
            chunks = pool.stream(agent, "one two three")
            read = [(await anext(chunks)).text, (await anext(chunks)).text]
            await chunks.aclose()
            assert texts(agent.memory) == ["one two three", "".join(read).strip()]
            whole = [c async for c in pool.stream(agent, "all")]
            assert whole[-1].reply is not None and "".join(c.text for c in whole) == whole[-1].reply.text
        return read

    assert "".join(asyncio.run(leave())).strip() == "you said:"
    assert backend.closed == 1 and backend.closes == 1


def test_streams_and_sends_of_many_agents(memory_factory: Make) -> None:
    async def one(pool: AgentPool, n: int) -> None:
        agent = pool.agent(memory_factory(f"{n}.db"))
        for k in range(2):
            text = "".join([c.text async for c in pool.stream(agent, f"{n} {k}")])
            assert text == f"you said: {n} {k}"
            assert (await pool.send(agent, f"{n} {k} again")).text == f"you said: {n} {k} again"

    async def all_of_them() -> None:
        async with AgentPool(Gated(), max_concurrent=3) as pool:
            await asyncio.gather(*(one(pool, n) for n in range(5)))

    asyncio.run(all_of_them())


def test_an_error_in_a_stream(memory_factory: Make) -> None:
    async def read() -> None:
        async with AgentPool(Gated(fail=lambda said: BackendUnavailableError("away"))) as pool:
            async for _ in pool.stream(pool.agent(memory_factory()), "hello"):
                pass

    with pytest.raises(BackendUnavailableError, match="away"):
        asyncio.run(read())


# -- closing -----------------------------------------------------------------------------------------------------------


def test_leaving_the_block_lets_turns_end_and_closes_the_backend_once(memory_factory: Make) -> None:
    backend = Gated()
    with AgentPool(backend, max_concurrent=2) as pool:
        agents = [pool.agent(memory_factory(f"{n}.db")) for n in range(3)]
        agents[0].close()  # one of many: the backend is not its own
        assert backend.closes == 0
        turns = [pool.submit(a, "hello") for a in agents for _ in range(3)]
    assert [t.result(0).text for t in turns] == ["you said: hello"] * 9
    assert backend.closes == 1 and backend.running == 0
    with pytest.raises(BackendError, match="closed"):
        pool.submit(agents[0], "too late")
    pool.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("agentmem-turn")]


def test_an_exception_in_the_block_stops_what_runs_and_refuses_what_waits(memory_factory: Make) -> None:
    backend = Gated(is_open=False)
    turns = []
    with pytest.raises(KeyError), AgentPool(backend, max_concurrent=1, interruptible=True) as pool:
        agent = pool.agent(memory_factory())
        turns += [pool.submit(agent, "runs"), pool.submit(agent, "waits")]
        backend.wait(lambda: backend.running == 1)
        backend.allow("runs", 1)
        threading.Timer(0.05, backend.allow).start()  # the model's next piece
        raise KeyError
    with pytest.raises(BackendError, match="stopped"):
        turns[0].result(0)
    with pytest.raises(BackendError, match="did not begin"):
        turns[1].result(0)
    assert backend.begun == ["runs"] and backend.running == 0 and backend.closes == 1
    assert texts(agent.memory)[0] == "runs" and "waits" not in texts(agent.memory)


def test_a_spec_names_the_backend(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db", embedder="none") as memory, AgentPool("extractive") as pool:
        agent = pool.agent(memory)
        assert isinstance(agent, Agent)
        pool.submit(agent, "I live in Porto.").result(WAIT_S)
        assert "Porto" in pool.submit(agent, "Where do I live?").result(WAIT_S).text
