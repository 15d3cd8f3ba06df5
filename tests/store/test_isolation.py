"""Many agents in one file: nothing that one stores changes what another finds, down to the last bit of a score."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from agentmem.types import Draft

WORDS = [
    "tea",
    "coffee",
    "Lisbon",
    "Porto",
    "sister",
    "flat",
    "moved",
    "invoice",
    "paid",
    "June",
    "rain",
    "train",
    "doctor",
    "guitar",
    "river",
    "bread",
]
QUERIES = ["Where does my sister live?", "tea or coffee", "the invoice of June", "k17", "moved to Lisbon in June 2023"]


def history(start: int, count: int, who: str) -> list[Draft]:
    made = []
    for n in range(start, start + count):
        words = " ".join(WORDS[(n * k + k * k) % len(WORDS)] for k in range(1, 8))
        at = datetime(2023, 1 + n % 12, 1 + n % 28, tzinfo=UTC)
        made.append(Draft("user", f"{who} {words} number {n}", who, at, f"k{n}", f"s{n // 10}"))
    return made


@pytest.mark.parametrize("index", ["faiss", pytest.param("numpy", marks=pytest.mark.slow)])
def test_another_agents_thousands_change_nothing(memory_factory: Callable[..., Any], index: str) -> None:
    one = memory_factory(agent="a", index=index)
    one.ingest(history(0, 60, "Tom"))
    one.archive("Tom's flat is in Lisbon.", tags=["address"], key="flat")

    def everything(memory: Any) -> list[Any]:
        found = [memory.search(q, top_k=20, explain=True) for q in QUERIES]
        return [*found, memory.page_in(QUERIES[0], max_tokens=300)]

    before = everything(one)
    assert all(hits for hits in before[: len(QUERIES)])
    other = memory_factory(agent="b", index=index)
    other.ingest(history(0, 2000, "Ann"))
    other.archive("Ann's flat is in Porto.", tags=["address"], key="flat")
    other.search("Lisbon")
    assert everything(one) == before
    reopened = memory_factory(agent="a", index=index)
    again = everything(reopened)
    assert [[h.id for h in hits] for hits in again[: len(QUERIES)]] == [
        [h.id for h in hits] for hits in before[: len(QUERIES)]
    ]
    assert one.message("k17").content != other.message("k17").content
    assert {h.name for hits in again[: len(QUERIES)] for h in hits} <= {"Tom", None}
