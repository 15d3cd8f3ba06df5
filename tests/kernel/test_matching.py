"""Counting the question's terms: against plain loops over words."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agentmem import matching
from agentmem.terms import term_number

WORDS = ["ash", "birch", "cedar", "date", "elm"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=6), max_size=6)
asked = st.lists(st.sampled_from([*WORDS, "fir"]), unique=True, max_size=4)


def counted(records: list[list[str]], terms: list[str], documents: int = 100) -> matching.Matches:
    offsets = np.cumsum([0, *map(len, records)])
    numbers = np.array([term_number(w) for r in records for w in r], np.uint32)
    have = [sum(t in r for r in records) for t in terms]
    return matching.count(offsets, numbers, [term_number(t) for t in terms], matching.idf(documents, have))


@given(records=texts, terms=asked)
def test_counts_and_bm25(records: list[list[str]], terms: list[str]) -> None:
    m = counted(records, terms)
    assert m.counts.tolist() == [[float(r.count(t)) for t in terms] for r in records]
    average = max(sum(map(len, records)) / len(records), 1e-9) if records else 1.0
    for n, record in enumerate(records):
        score = cover = 0.0
        for t, weight in zip(terms, m.idf, strict=True):
            often = record.count(t)
            score += weight * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * len(record) / average))
            cover += weight * (often > 0)
        assert math.isclose(matching.bm25(m)[n], score, abs_tol=1e-9)
        assert math.isclose(matching.cover(m)[n], cover / sum(m.idf) if terms else 0.0, abs_tol=1e-9)


@given(records=texts, terms=asked)
def test_a_window_is_the_record_with_its_neighbours(records: list[list[str]], terms: list[str]) -> None:
    m = counted(records, terms)
    n = len(records)
    before = np.arange(n) - 1
    after = np.where(np.arange(n) + 1 < n, np.arange(n) + 1, -1)
    wide = matching.widened(m, before, after, (1.0, 1.0))
    joined = [
        (records[i - 1] if i else []) + records[i] + (records[i + 1] if i + 1 < n else []) for i in range(n)
    ]  # fmt: skip
    assert wide.counts.tolist() == [[float(r.count(t)) for t in terms] for r in joined]
    alone = matching.widened(m, np.full(n, -1), np.full(n, -1))
    assert alone.counts.tolist() == m.counts.tolist()


@given(records=texts, terms=asked, seed=st.integers(0, 9))
def test_a_session_is_one_document(records: list[list[str]], terms: list[str], seed: int) -> None:
    m = counted(records, terms)
    sessions = np.random.default_rng(seed).integers(-1, 2, len(records))
    scores = matching.by_session(m, sessions)
    assert all(scores[sessions < 0] == 0)
    for number in (0, 1):
        inside = scores[sessions == number]
        assert len(set(inside.tolist())) <= 1
        has = any(t in records[i] for i in np.flatnonzero(sessions == number) for t in terms)
        assert not len(inside) or (inside[0] > 0) == has


def test_idf_is_never_negative() -> None:
    assert (matching.idf(10, [0, 1, 5, 10, 12]) > 0).all()
    assert matching.idf(10, [1])[0] > matching.idf(10, [9])[0]
