"""Many passages at once: as many `archive` calls would store them, a transaction each thousand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem import archiving, crashpoints
from agentmem.archiving import archive_many
from agentmem.errors import InvalidInputError
from agentmem.inspecting import verify
from agentmem.memory import Memory

Make = Callable[..., Memory]

ROWS: list[dict[str, Any]] = [
    {"text": "Anna lives in Lisbon.", "tags": ["home"], "key": "a"},
    {"text": "Anna lived in Porto.", "valid_from": "2020-01-01", "valid_to": "2023-04-01T00:00:00+00:00"},
    {"text": "The choir meets on Tuesdays.", "kind": "insight", "sources": ["m1", "m2"], "tags": ("choir", "weekly")},
]


def test_it_stores_what_single_calls_store(memory_factory: Make) -> None:
    many, single = memory_factory("many.db"), memory_factory("single.db")
    counts: list[int] = []
    report = archive_many(many, ROWS, progress=counts.append)
    for row in ROWS:
        single.archive(**row)
    assert (report.read, report.stored, report.skipped, report.conflicts, report.malformed) == (3, 3, 0, (), ())
    assert counts == [3]
    assert many.records.archival.after(0) == single.records.archival.after(0)
    assert len(many.records.archival.after(0)) == 3
    assert many.records.pending() == (0, 0)
    for query in ("Where does Anna live?", "choir"):
        found = [h.id for h in many.search(query, tier="archival")]
        assert found and found == [h.id for h in single.search(query, tier="archival")]
    assert verify(many) == []


def test_batches_are_transactions(memory_factory: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "BATCH", 4)
    memory = memory_factory()
    counts: list[int] = []
    archive_many(memory, ({"text": f"number {n}"} for n in range(10)), progress=counts.append)
    assert counts == [4, 8, 10]
    assert [p.id for p in memory.records.archival.after(0)] == list(range(1, 11))
    events = [e.payload for e in memory.events("archive_many")]
    assert events == [{"first": 1, "last": 4}, {"first": 5, "last": 8}, {"first": 9, "last": 10}]


BAD: list[tuple[Any, str]] = [
    ({"text": "  "}, "is empty"),
    ({"text": None}, "must be text"),
    ({"text": 7}, "must be text"),
    ({}, "text=None: is missing"),
    ("only text", "no mapping"),
    ({"text": "x", "tags": "home"}, "tags="),
    ({"text": "x", "tags": [""]}, "tags="),
    ({"text": "x", "tags": 3}, "tags="),
    ({"text": "x", "sources": "m1"}, "sources="),
    ({"text": "x", "kind": ""}, "kind="),
    ({"text": "x", "valid_from": "some day"}, "valid_from="),
    ({"text": "x", "valid_from": "2023-02-01", "valid_to": "2023-01-01"}, "is not after valid_from"),
    ({"text": "x", "key": "two\nlines"}, "id="),
    ({"text": "x", "colour": "red"}, "colour="),
    ({"text": "lone \ud800"}, "surrogate"),
    ({"text": "x", "tags": ["\ud800"]}, "surrogate"),
]


def test_bad_rows_are_reported_by_number(memory_factory: Make) -> None:
    memory = memory_factory()
    rows = [x for bad, _ in BAD for x in (bad, {"text": "good"})]
    report = archive_many(memory, rows)
    assert (report.read, report.stored, len(report.malformed)) == (2 * len(BAD), len(BAD), len(BAD))
    for n, ((_, reason), found) in enumerate(zip(BAD, report.malformed, strict=True)):
        assert found["line"] == 2 * n + 1
        assert reason in found["reason"]
    assert {p.text for p in memory.records.archival.after(0)} == {"good"}
    assert verify(memory) == []


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_strict_refuses_whole(memory_factory: Make, bad: Any, reason: str) -> None:
    memory = memory_factory()
    with pytest.raises(InvalidInputError, match="refused whole") as caught:
        archive_many(memory, iter([ROWS[0], bad]), strict=True)
    assert "row 2" in caught.value.message and reason in caught.value.message
    assert memory.records.archival.after(0) == [] and memory.events("archive_many") == []


def test_keys(memory_factory: Make) -> None:
    memory = memory_factory()
    memory.archive("old", key="k")
    rows = [
        {"text": "old", "key": "k"}, {"text": "other", "key": "k"}, {"text": "new", "key": "n"},
        {"text": "new", "key": "n"}, {"text": "newer", "key": "n"},
    ]  # fmt: skip
    report = archive_many(memory, rows)
    assert (report.stored, report.skipped) == (1, 2)
    assert [(c["line"], c["id"]) for c in report.conflicts] == [(2, "k"), (5, "n")]
    assert [p.text for p in memory.records.archival.after(0)] == ["old", "new"]
    with pytest.raises(InvalidInputError, match="row 2: the key 'k'"):
        archive_many(memory, rows, strict=True)
    again = archive_many(memory, [rows[0], rows[2]], strict=True)
    assert (again.stored, again.skipped) == (0, 2)


def test_nothing_of_nothing(memory_factory: Make) -> None:
    memory = memory_factory()
    report = archive_many(memory, [])
    assert (report.read, report.stored) == (0, 0)
    assert memory.events("archive_many") == []


class _KilledError(Exception):
    pass


@pytest.mark.parametrize(("point", "kept"), [("archive.before_commit", 2), ("archive.stored", 4)])
def test_a_run_that_died_goes_on(memory_factory: Make, monkeypatch: pytest.MonkeyPatch, point: str, kept: int) -> None:
    monkeypatch.setattr(archiving, "BATCH", 2)
    memory = memory_factory()
    passed: list[str] = []

    def die(name: str) -> None:
        passed.append(name)
        if passed.count(point) == 2:
            raise _KilledError

    rows = [{"text": f"number {n}", "key": f"k{n}"} for n in range(6)]
    crashpoints.install(die)
    try:
        with pytest.raises(_KilledError):
            archive_many(memory, rows)
    finally:
        crashpoints.install(None)
    assert len(memory.records.archival.after(0)) == kept
    report = archive_many(memory, rows)
    assert (report.stored, report.skipped) == (6 - kept, kept)
    assert [p.text for p in memory.records.archival.after(0)] == [r["text"] for r in rows]
    assert memory.records.pending() == (0, 0) and verify(memory) == []


def test_archive_itself_checks_sources_and_kind(memory_factory: Make) -> None:
    memory = memory_factory()
    for wrong in ({"sources": "m1"}, {"kind": " "}):
        with pytest.raises(InvalidInputError):
            memory.archive("x", **wrong)
    assert memory.records.archival.after(0) == []


_texts = st.text("ab \ud800", max_size=3)
_row = st.fixed_dictionaries(
    {},
    optional={
        "text": _texts,
        "key": st.sampled_from(["k1", "k2", ""]) | st.none(),
        "tags": st.lists(st.sampled_from(["t", ""]), max_size=2),
        "valid_to": st.sampled_from(["2000-01-01", "2090-01-01", "no"]) | st.none(),
    },
)


@given(rows=st.lists(_row, max_size=8))
def test_every_row_is_counted_once_and_as_a_single_call_would_have_it(rows: list[Mapping[str, Any]]) -> None:
    with Memory(":memory:", embedder="none") as many, Memory(":memory:", embedder="none") as single:
        report = archive_many(many, rows)
        assert report.read == len(rows)
        assert report.stored + report.skipped + len(report.conflicts) + len(report.malformed) == len(rows)
        refused: list[int] = []
        for number, row in enumerate(rows, 1):
            try:
                single.archive(**{"text": "", **{k: v for k, v in row.items() if v is not None}})
            except InvalidInputError:
                refused.append(number)
        left_out = {r["line"] for r in (*report.conflicts, *report.malformed)}
        # What a single call refuses is refused, or skipped since it is there already.
        assert left_out <= set(refused) and len(refused) == len(left_out) + report.skipped
        stored = [
            [(p.id, p.text, p.key, p.tags, p.valid_to) for p in m.records.archival.after(0)] for m in (many, single)
        ]
        assert stored[0] == stored[1]
