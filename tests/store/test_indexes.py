"""The vector indexes: the laws on each, and random traffic against brute force."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentmem.contracts import VectorIndexContract
from agentmem.store.faiss_index import FaissIndex
from agentmem.store.numpy_index import NumpyIndex

DIM = 4
# Sixteen unit rows with components that floats hold exactly: products and ties are exact, too.
UNITS = np.array([[0.5 if n >> b & 1 else -0.5 for b in range(DIM)] for n in range(16)], np.float32)


class TestNumpy(VectorIndexContract):
    @pytest.fixture
    def make_index(self) -> Callable[[int], Any]:
        return NumpyIndex


class TestFaiss(VectorIndexContract):
    @pytest.fixture
    def make_index(self) -> Callable[[int], Any]:
        return FaissIndex


ids_of = st.lists(st.integers(0, 60), max_size=40)
entries_of = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=60)


class Traffic(RuleBasedStateMachine):
    """Adds, replaces, removes, saves and loads; every search is compared with brute force over a dictionary."""

    kind: type[Any]

    def __init__(self) -> None:
        super().__init__()
        self.index = self.kind(DIM)
        self.rows: dict[int, int] = {}

    @rule(entries=entries_of)
    def add(self, entries: list[tuple[int, int]]) -> None:
        ids = np.array([i for i, _ in entries], np.int64)
        self.index.add(ids, UNITS[[n for _, n in entries]].reshape(-1, DIM))
        self.rows.update(dict(entries))

    @rule(ids=ids_of)
    def remove(self, ids: list[int]) -> None:
        assert self.index.remove(np.array(ids, np.int64)) == len(self.rows.keys() & set(ids))
        for one in ids:
            self.rows.pop(one, None)

    @precondition(lambda self: self.rows)
    @rule()
    def remove_all(self) -> None:
        self.index.remove(np.array(list(self.rows), np.int64))
        self.rows.clear()

    @rule()
    def save_and_load(self) -> None:
        self.index = self.kind.from_bytes(self.index.to_bytes())

    @rule(query=st.integers(0, 15), top_k=st.integers(0, 70), allowed=st.none() | ids_of)
    def search(self, query: int, top_k: int, allowed: list[int] | None) -> None:
        searched = self.rows if allowed is None else {i: n for i, n in self.rows.items() if i in allowed}
        scored = [(i, float(UNITS[n] @ UNITS[query])) for i, n in searched.items()]
        expected = sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:top_k]
        selected = None if allowed is None else np.array(sorted(set(allowed)), np.int64)
        assert self.index.search(UNITS[query], top_k=top_k, allowed=selected) == expected

    @invariant()
    def knows_its_ids(self) -> None:
        assert self.index.ids().tolist() == sorted(self.rows)
        assert len(self.index) == len(self.rows)


class _NumpyTraffic(Traffic):
    kind = NumpyIndex


class _FaissTraffic(Traffic):
    kind = FaissIndex


TestNumpyTraffic = _NumpyTraffic.TestCase
TestFaissTraffic = _FaissTraffic.TestCase
TestNumpyTraffic.settings = TestFaissTraffic.settings = settings(max_examples=40, stateful_step_count=25)


@pytest.mark.parametrize("kind", [NumpyIndex, FaissIndex])
def test_random_rows_against_brute_force(kind: type[Any]) -> None:
    random = np.random.default_rng(3)
    rows = random.normal(size=(500, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = random.permutation(5000)[:500].astype(np.int64)
    index = kind(32)
    index.add(ids, rows)
    for query in rows[:20]:
        cosines = rows.astype(np.float64) @ query.astype(np.float64)
        best = np.argsort(-cosines)[:200]
        found = index.search(query, top_k=200)
        assert [i for i, _ in found] == ids[best].tolist()
        assert np.allclose([c for _, c in found], cosines[best], atol=1e-6)


def test_faiss_padding_is_never_a_hit() -> None:
    # methods.md 8.7: a search with k > ntotal is padded with -1.
    index = FaissIndex(DIM)
    index.add(np.array([5], np.int64), UNITS[:1])
    _, raw = index._index.search(UNITS[:1], 3)
    assert raw.tolist() == [[5, -1, -1]], "FAISS pads no more: the filter can go"
    assert [i for i, _ in index.search(UNITS[0], top_k=3)] == [5]
    assert index.search(UNITS[0], top_k=3, allowed=np.array([6, 7], np.int64)) == []
