"""Finding records: filters are part of the search, and what is deleted, derived or not yet learned is not found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from agentmem.errors import InvalidInputError
from agentmem.retrieval import Filter
from agentmem.types import Draft


def day(n: int) -> datetime:
    return datetime(2023, 5, n, 12, tzinfo=UTC)


def ids(hits: Any) -> list[str]:
    return [h.id for h in hits]


@pytest.fixture(params=["none", "numpy", "faiss"])
def memory(request: pytest.FixtureRequest, memory_factory: Callable[..., Any]) -> Any:
    """Lexical alone, and with each index."""
    if request.param == "none":
        return memory_factory(embedder="none")
    return memory_factory(index=request.param)


def test_the_best_first_and_no_more_than_asked(memory: Any) -> None:
    for n, text in enumerate(
        ["My sister lives in Lisbon.", "I like tea.", "The weather is bad.", "My sister likes tea."], 1
    ):
        memory.observe("user", text, at=day(n), key=f"k{n}")
    found = memory.search("Where does my sister live?", top_k=2, explain=True)
    assert ids(found)[0] == "m1" and len(found) == 2 and found[0].key == "k1"
    scores = [h.score for h in found]
    assert scores == sorted(scores, reverse=True) and all(0 < s < 1 for s in scores)
    assert found[0].parts["bm25"] > 0 and (memory.embedder is None) == ("cosine" not in found[0].parts)
    assert memory.search("Where does my sister live?")[0].parts is None
    assert memory.search("Where does my sister live?", top_k=2, explain=True) == found


def test_nothing_stored_nothing_found(memory: Any) -> None:
    assert memory.search("anything") == []
    for query in ("", " \n"):
        with pytest.raises(InvalidInputError):
            memory.search(query)
    for wrong in ({"top_k": 0}, {"tier": "core"}, {"since": "soon"}):
        with pytest.raises(InvalidInputError):
            memory.search("x", **wrong)


def test_tool_traffic_and_quotations_are_never_found(memory: Any) -> None:
    with memory.store.write():
        memory.append([
            Draft("tool", "The invoice INV-2041 is paid.", tool_call_id="a"),
            Draft("system", "The invoice INV-2041 is paid."),
            Draft("assistant", "You said: the invoice INV-2041 is paid.", derived=True),
            Draft("user", "The invoice INV-2041 is not paid."),
        ])  # fmt: skip
    assert ids(memory.search("invoice INV-2041", top_k=9)) == ["m4"]


def test_filters_by_time_find_the_best_within(memory: Any) -> None:
    for n in range(1, 29):
        memory.observe("user", "tea " * (3 if n > 5 else 1) + f"on day {n}", at=day(n))
    assert set(ids(memory.search("tea", since=day(2), until=day(4), top_k=9))) == {"m2", "m3", "m4"}
    assert set(ids(memory.search("tea", as_of=day(3), top_k=9))) == {"m1", "m2", "m3"}
    assert memory.search("tea", since=datetime(2024, 1, 1)) == []


def test_passages_that_hold(memory: Any, clock: Any) -> None:
    clock.now = day(1)
    old = memory.archive("Anna lives in Porto.", tags=["address"], valid_from=day(1))
    clock.now = day(10)
    new = memory.supersede(old.id, "Anna lives in Lisbon.", valid_from=day(5))
    memory.archive("Anna likes tea.", tags=["taste"])
    assert ids(memory.search("Where does Anna live?", tier="archival"))[0] == new.ref
    assert old.ref not in ids(memory.search("Anna Porto", tier="archival"))
    assert ids(memory.search("Anna", tier="archival", as_of=day(3))) == [old.ref]
    assert ids(memory.search("Anna", tier="archival", as_of=day(6), known_at=day(9))) == []
    assert ids(memory.search("Anna", tier="archival", tags=["taste"])) == ["p3"]
    assert memory.search("Anna", tier="recall") == []


def test_exhaustive_counts_every_record_that_shares_a_word(memory: Any) -> None:
    memory.ingest([{"role": "user", "content": f"tea number {n}"} for n in range(900)])
    found = memory.find("tea", top_k=None, where=Filter(), exhaustive=True)
    assert found.total == 900
    assert len({*ids(found.hits), *found.rest}) == 900


def test_an_identifier_is_found_among_many(memory: Any) -> None:
    memory.ingest([{"role": "user", "content": f"The ticket TK-{n:04d}-A is open."} for n in range(600)])
    assert memory.search("What of ticket TK-0417-A?")[0].text == "The ticket TK-0417-A is open."


def test_what_was_deleted_by_another_connection_is_gone(memory_factory: Callable[..., Any]) -> None:
    one, other = memory_factory(), memory_factory()
    for text in ("tea with milk", "tea with lemon"):
        one.observe("user", text)
    assert len(one.search("tea")) == len(other.search("tea")) == 2
    with other.store.write():
        message = other.records.recall.get([1])[0]
        other.records.vectors.remove("recall", [1])
        other.records.recall.lexical.remove([(1, message.content)])
        other.store.db.run("DELETE FROM messages WHERE id = 1")
    assert ids(one.search("tea")) == ids(other.search("tea")) == ["m2"]


@pytest.mark.parametrize(
    "query", ["'\" OR 1=1 --", "NEAR(", "\ud83d tea", "\0", "?" * 5000, "x" * 20_000, "东京" * 500]
)
def test_odd_questions_are_answered(memory: Any, query: str) -> None:
    memory.observe("user", "tea")
    try:
        memory.search(query)
    except InvalidInputError as e:
        assert "\ud83d" in query and e.field == "query"
