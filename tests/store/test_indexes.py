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
from agentmem.store.faiss_index import FaissIndex, last_of_each, one_thread
from agentmem.store.ivf_index import IvfIndex
from agentmem.store.numpy_index import NumpyIndex

DIM = 4
# Sixteen unit rows with components that floats hold exactly: products and ties are exact, too.
UNITS = np.array([[0.5 if n >> b & 1 else -0.5 for b in range(DIM)] for n in range(16)], np.float32)


class Rows:
    """Stands for the store: what any index made here was given can be asked for."""

    def __init__(self) -> None:
        self.rows: dict[int, Any] = {}

    def __call__(self, ids: Any) -> tuple[Any, Any]:
        # In no useful order, as SQLite may.
        found = [i for i in ids.tolist() if i in self.rows][::-1]
        dim = len(next(iter(self.rows.values()), ()))
        return np.array(found, np.int64), np.array([self.rows[i] for i in found], np.float32).reshape(-1, dim)

    def make(self, dim: int, **kwargs: Any) -> Any:
        """An index over these rows."""
        rows = self.rows

        class Kept(IvfIndex):
            def add(self, ids: Any, vectors: Any) -> None:
                rows.update(zip(ids.tolist(), vectors, strict=True))
                super().add(ids, vectors)

        return Kept(dim, self, **kwargs)


def one_list(dim: int) -> Any:
    return Rows().make(dim)


def several_lists(dim: int) -> Any:
    lists = np.random.default_rng(1).normal(size=(5, dim)).astype(np.float32)
    return Rows().make(dim, lists=lists, built_from=40)


class TestNumpy(VectorIndexContract):
    @pytest.fixture
    def make_index(self) -> Callable[[int], Any]:
        return NumpyIndex


class TestFaiss(VectorIndexContract):
    @pytest.fixture
    def make_index(self) -> Callable[[int], Any]:
        return FaissIndex


class TestIvfOneList(VectorIndexContract):
    @pytest.fixture
    def make_index(self) -> Callable[[int], Any]:
        return Rows().make


class TestIvfLists(VectorIndexContract):
    @pytest.fixture
    def make_index(self) -> Callable[[int], Any]:
        rows = Rows()

        def make(dim: int) -> Any:
            lists = np.random.default_rng(1).normal(size=(5, dim)).astype(np.float32)
            return rows.make(dim, lists=lists, built_from=40)

        return make


ids_of = st.lists(st.integers(0, 60), max_size=40)
entries_of = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=60)


class Traffic(RuleBasedStateMachine):
    """Adds, replaces, removes, saves and loads; every search is compared with brute force over a dictionary."""

    make: Callable[[int], Any]

    def __init__(self) -> None:
        super().__init__()
        self.index = type(self).make(DIM)
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
        old = self.index
        self.index = type(self).make(DIM)
        if isinstance(old, IvfIndex):
            self.index.rows.rows.update(old.rows.rows)  # type: ignore[attr-defined]
        self.index.load(dict(old.parts()))

    @rule(query=st.integers(0, 15), top_k=st.integers(0, 70), only=st.none() | ids_of, never=st.none() | ids_of)
    def search(self, query: int, top_k: int, only: list[int] | None, never: list[int] | None) -> None:
        if only is not None:
            never = None
        searched = {
            i: n for i, n in self.rows.items() if (only is None or i in only) and (never is None or i not in never)
        }
        scored = [(i, float(UNITS[n] @ UNITS[query])) for i, n in searched.items()]
        expected = sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:top_k]
        allowed = None if only is None else np.array(sorted(set(only)), np.int64)
        excluded = None if never is None else np.array(never, np.int64)
        assert self.index.search(UNITS[query], top_k=top_k, allowed=allowed, excluded=excluded) == expected

    @invariant()
    def knows_its_ids(self) -> None:
        assert self.index.ids().tolist() == sorted(self.rows)
        assert len(self.index) == len(self.rows)


def traffic(make: Callable[[int], Any]) -> Any:
    case = type("_Traffic", (Traffic,), {"make": staticmethod(make)}).TestCase  # type: ignore[attr-defined]
    case.settings = settings(max_examples=30, stateful_step_count=25)
    return case


TestNumpyTraffic = traffic(NumpyIndex)
TestFaissTraffic = traffic(FaissIndex)
TestIvfTraffic = traffic(one_list)
TestIvfListsTraffic = traffic(several_lists)


def unit_rows(count: int, dim: int, seed: int = 3) -> Any:
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("make", [NumpyIndex, FaissIndex, one_list, several_lists])
def test_random_rows_against_brute_force(make: Callable[[int], Any]) -> None:
    rows = unit_rows(500, 32)
    ids = np.random.default_rng(3).permutation(5000)[:500].astype(np.int64)
    index = make(32)
    index.add(ids, rows)
    # All of them are asked for: what is found by rounded codes is exact all the same.
    for query in rows[:20]:
        cosines = rows.astype(np.float64) @ query.astype(np.float64)
        best = np.argsort(-cosines)
        found = index.search(query, top_k=500)
        assert [i for i, _ in found] == ids[best].tolist()
        assert np.allclose([c for _, c in found], cosines[best], atol=1e-6)


@pytest.mark.parametrize("make", [NumpyIndex, FaissIndex])
def test_an_exact_index_finds_the_nearest(make: Callable[[int], Any]) -> None:
    rows = unit_rows(2000, 32)
    index = make(32)
    index.add(np.arange(2000, dtype=np.int64), rows)
    for query in unit_rows(20, 32, seed=4):
        best = np.argsort(-(rows.astype(np.float64) @ query.astype(np.float64)))
        assert [i for i, _ in index.search(query, top_k=25)] == best[:25].tolist()
        odd = np.arange(1, 2000, 2)
        wanted = [i for i in best.tolist() if i % 2 == 0][:25]
        assert [i for i, _ in index.search(query, top_k=25, excluded=odd)] == wanted
        assert [i for i, _ in index.search(query, top_k=25, allowed=odd - 1)] == wanted


def test_faiss_padding_is_never_a_hit() -> None:
    # methods.md 8.7: a search with k > ntotal is padded with -1.
    index = FaissIndex(DIM)
    index.add(np.array([5], np.int64), UNITS[:1])
    _, raw = index._index.search(UNITS[:1], 3)
    assert raw.tolist() == [[5, -1, -1]], "FAISS pads no more: the filter can go"
    assert [i for i, _ in index.search(UNITS[0], top_k=3)] == [5]
    assert index.search(UNITS[0], top_k=3, allowed=np.array([6, 7], np.int64)) == []


def test_of_several_rows_of_an_id_the_last() -> None:
    ids, rows = last_of_each(np.array([3, 1, 3, 2, 1], np.int64), np.arange(5, dtype=np.float32)[:, None])
    assert dict(zip(ids.tolist(), rows[:, 0].tolist(), strict=True)) == {3: 2.0, 2: 3.0, 1: 4.0}
    one, _ = last_of_each(np.array([1, 2, 5], np.int64), np.zeros((3, 1), np.float32))
    assert one.tolist() == [1, 2, 5]


def test_the_number_of_threads_is_put_back() -> None:
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        with one_thread(faiss):
            assert faiss.omp_get_max_threads() == 1
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
