"""The companion's ranking over a whole memory: who overtakes whom, what counts as a use, and that it is off."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from agentmem.agent import Agent
from agentmem.archive_file import export_lines, import_lines
from agentmem.errors import ConfigError, InvalidInputError, UnknownNameError
from agentmem.inspecting import verify
from agentmem.memory import Memory
from agentmem.scripted import ScriptedBackend
from agentmem.times import utc_seconds
from tests.conftest import Clock

Make = Callable[..., Memory]
SMALL = {"window_tokens": 400, "keep_last": 2}
QUERY = "Where is the green lantern?"


class Script(ScriptedBackend):
    """A script in small prompts: without tools."""

    native_tools = False


def filled(memory: Memory, n: int = 12) -> Memory:
    """`n` passages that answer the query alike, of the same time."""
    for i in range(n):
        memory.archive("The green lantern is in the shed.", key=f"k{i}", valid_from="2023-01-01T12:00:00+00:00")
    return memory


def ids(memory: Memory, **more: Any) -> list[str]:
    return [h.id for h in memory.search(QUERY, top_k=20, **more)]


def paged_out(memory: Memory) -> Memory:
    """With the first message outside the queue."""
    memory.observe("user", "The green lantern is in the shed behind the mill.", key="lantern")
    memory.archive("The green lantern once belonged to Anna.", key="anna")
    for i in range(30):
        memory.observe("user", f"Line {i}: the weather over the harbour was number {i * 37} of its kind.", key=f"f{i}")
    return memory


def test_what_was_used_lately_overtakes_what_is_as_relevant(memory_factory: Make, clock: Clock) -> None:
    memory = filled(memory_factory(companion=True))
    before = ids(memory)
    last = before[-1]
    memory.records.uses.touch([("archival", int(last[1:]))], utc_seconds(clock.now))
    assert ids(memory) == [last, *before[:-1]]
    hits = memory.search(QUERY, top_k=20, explain=True)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert all(0 < h.score < 1 for h in hits)
    first, second = hits[0].parts, hits[1].parts
    assert first is not None and second is not None
    assert (first["recency"], first["importance"], second["recency"]) == (1.0, 0.5, 0.0)
    assert ids(memory)[:1] == [h.id for h in memory.search(QUERY, top_k=1)]
    # The use lies after this moment: it counts as one at that moment, not as more.
    asked = memory.search(QUERY, top_k=1, asked_at="2023-02-01T00:00:00+00:00", explain=True)[0]
    assert asked.id == last and asked.parts is not None and asked.parts["recency"] == 1.0


def test_a_rating_of_10_overtakes_one_of_1(memory_factory: Make) -> None:
    memory = filled(memory_factory(companion=True))
    before = ids(memory)
    memory.rate(before[0], 1)
    memory.rate(before[-1], 10)
    assert ids(memory) == [before[-1], *before[1:-1], before[0]], "what nobody rated is between them"


def test_passages_and_messages_alike(memory_factory: Make) -> None:
    memory = filled(memory_factory(companion=True), 3)
    memory.observe("user", "The green lantern is in the shed.", key="k0", at="2023-01-01T12:00:00+00:00")
    for ref in ("m1", "p2"):
        memory.rate(ref, 10)
        parts = {h.id: h.parts for h in memory.search(QUERY, explain=True)}
        assert {i: p["importance"] for i, p in parts.items() if p} == {i: float(i == ref) for i in parts}
        memory.rate(ref, 5)
    assert memory.records.uses.all() == [("archival", 2, 5, None), ("recall", 1, 5, None)]
    memory.rate("k0", 7)
    assert memory.records.uses.all() == [
        ("archival", 1, 7, None), ("archival", 2, 5, None), ("recall", 1, 7, None)
    ], "a key of two records"  # fmt: skip


def test_it_stands_before_the_reranker(memory_factory: Make) -> None:
    class Reranker:
        name = "none"
        texts: Sequence[str] = ()

        def scores(self, query: str, texts: Sequence[str]) -> Any:
            self.texts = texts
            return np.zeros(len(texts))

    reranker = Reranker()
    memory = filled(memory_factory(companion=True, reranker=reranker))
    last = ids(memory)[-1]
    memory.rate(last, 10)
    found = memory.search(QUERY, top_k=3, explain=True)
    assert found[0].id == last and len(found) == 3 and len(reranker.texts) == 12
    assert found[0].parts is not None and {"reranker", "importance"} <= found[0].parts.keys()


@pytest.mark.parametrize("importance", [0, 11, 2.5, "10", True])
def test_a_wrong_rating_is_refused(memory_factory: Make, importance: Any) -> None:
    memory = filled(memory_factory(), 1)
    with pytest.raises(InvalidInputError, match="importance"):
        memory.rate("p1", importance)
    assert memory.records.uses.all() == []


@pytest.mark.parametrize("ref", ["m1", "p2", "k9", "", "m", "m\u00b2", "m" + "9" * 30, "1"])
def test_a_rating_of_nothing_is_refused(memory_factory: Make, ref: str) -> None:
    memory = filled(memory_factory(), 1)
    with pytest.raises(UnknownNameError):
        memory.rate(ref, 5)


def test_off_nothing_changes(memory_factory: Make, clock: Clock) -> None:
    assert not memory_factory("other.db").config.companion
    memory = paged_out(memory_factory(**SMALL))
    plain = repr(memory.search(QUERY, top_k=20, explain=True)), repr(memory.page_in(QUERY, max_tokens=200))
    memory.rate("f3", 10)
    memory.rate("lantern", 1)
    memory.records.uses.touch([("recall", 9)], utc_seconds(clock.now))
    assert plain == (repr(memory.search(QUERY, top_k=20, explain=True)), repr(memory.page_in(QUERY, max_tokens=200)))
    on = memory_factory(companion=True, **SMALL)
    assert repr(on.search(QUERY, top_k=20, explain=True)) != plain[0]
    uses = memory.records.uses.all()
    reply = Agent(memory, Script(["In the shed."])).send(QUERY)
    assert reply.page is not None and reply.page.items and memory.records.uses.all() == uses


def test_a_turn_touches_what_it_paged_in_and_nothing_else_does(memory_factory: Make, clock: Clock) -> None:
    memory = paged_out(memory_factory(companion=True, **SMALL))
    clock.tick(hours=5)
    agent = Agent(memory, Script(["In the shed."] * 5))
    memory.search(QUERY)
    memory.find(QUERY, top_k=3)
    memory.page_in(QUERY, max_tokens=200)
    memory.render(query=QUERY)
    agent.send(QUERY, store=False)
    assert memory.records.uses.all() == []
    reply = agent.send(QUERY)
    assert reply.page is not None
    paged = {(i.hit.tier.value, int(i.hit.id[1:])) for i in reply.page.items}
    assert ("recall", 1) in paged
    at = utc_seconds(clock.now)
    assert memory.records.uses.all() == [(*record, None, at) for record in sorted(paged)]
    # The reply of a reader who leaves early is stored, and so is the use.
    clock.tick(hours=1)
    stream = agent.stream(QUERY)
    next(stream)
    stream.close()
    assert max(used or 0 for *_, used in memory.records.uses.all()) == at + 3600


def test_a_turn_that_fails_touches_nothing(memory_factory: Make) -> None:
    memory = paged_out(memory_factory(companion=True, **SMALL))

    def fail(request: Any) -> Any:
        raise RuntimeError("no")

    backend = Script(["x"])
    backend.generate = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        Agent(memory, backend).send(QUERY)
    assert memory.records.uses.all() == []


def test_the_question_itself_is_no_measure(memory_factory: Make) -> None:
    """In a turn the question is stored already, and is like nothing so much as itself."""
    memory = paged_out(memory_factory(companion=True, **SMALL))
    asked = memory.observe("user", QUERY)
    page = memory.page(QUERY, 200, frozenset(), memory.clock(), turn=frozenset({asked.ref}), explain=True)
    best = max(h.parts["relevance"] for h in page.hits if h.parts is not None)
    assert asked.ref not in {h.id for h in page.hits} and best == 1.0


def test_erasing_takes_it_along(memory_factory: Make) -> None:
    memory = paged_out(memory_factory(companion=True))
    for ref in ("lantern", "anna", "f1"):
        memory.rate(ref, 8)
    memory.erase(key="lantern")
    memory.erase(key="anna")
    assert memory.records.uses.all() == [("recall", 3, 8, None)]


def test_an_archive_carries_it(memory_factory: Make) -> None:
    one, two = paged_out(memory_factory("a.db")), memory_factory("b.db")
    one.rate("lantern", 8)
    one.rate("anna", 2)
    one.records.uses.touch([("recall", 1), ("recall", 5)], 1234.56789)
    lines = list(export_lines(one))
    import_lines(two, lines)
    assert two.records.uses.all() == one.records.uses.all() and len(one.records.uses.all()) == 3
    assert verify(two) == []
    for field, wrong in (("importance", 11), ("tier", "core"), ("used_utc", "soon")):
        changed = [json.loads(line) for line in lines]
        next(row for row in changed if row["type"] == "use")[field] = wrong
        three = memory_factory("c.db")
        with pytest.raises(ConfigError):
            import_lines(three, [json.dumps(row, ensure_ascii=False) for row in changed])
        assert three.records.uses.all() == [] and three.stats()["messages"] == 0
