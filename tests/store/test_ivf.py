"""The approximate index: found shares against brute force, how it measures itself, and what is built in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.store import index_builder
from agentmem.store.background import StoppedError
from agentmem.store.index_builder import build, calibrate, centres, rough
from agentmem.store.ivf_index import MARGIN, IvfIndex

DIM = 48


def unit(rows: Any) -> Any:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def random_rows(count: int, seed: int) -> Any:
    return unit(np.random.default_rng(seed).normal(size=(count, DIM)))


def clustered_rows(count: int, seed: int) -> Any:
    """A hundred clusters with a cosine of about 0.8 to their centres."""
    random = np.random.default_rng(seed)
    middle = random_rows(100, 1)[random.integers(0, 100, count)]
    return unit(middle + 0.75 * random_rows(count, seed + 1000))


class Stored:
    """Stands for `Vectors` of one tier: ids 1, 2, ... with gaps where something went."""

    def __init__(self, rows: Any) -> None:
        self.rows = {i + 1: row for i, row in enumerate(rows)}
        self.generation, self.last = 1, len(rows)
        self.gone: list[tuple[int, int]] = []
        self.on_block: Callable[[int], None] = lambda _: None

    def add(self, rows: Any) -> None:
        for row in rows:
            self.last += 1
            self.rows[self.last] = row
        self.generation += 1

    def remove(self, *ids: int) -> None:
        self.generation += 1
        for one in ids:
            del self.rows[one]
            self.gone.append((one, self.generation))

    def state(self) -> tuple[int, int]:
        return self.generation, self.last

    def removed_after(self, generation: int) -> list[int]:
        return [i for i, at in self.gone if at > generation]

    def id_array(self, _: str) -> Any:
        return np.array(sorted(self.rows), np.int64)

    def fetch(self, ids: Any, dim: int = DIM) -> tuple[Any, Any]:
        found = [i for i in ids.tolist() if i in self.rows]
        return np.array(found, np.int64), np.array([self.rows[i] for i in found], np.float32).reshape(-1, dim)

    def blocks(self, _: str, __: int, after: int, upto: int, dim: int) -> Any:
        while True:
            ids = [i for i in sorted(self.rows) if after < i <= upto][:1000]
            if not ids:
                return
            yield self.fetch(np.array(ids, np.int64), dim)
            after = ids[-1]
            self.on_block(after)

    def nearest(self, query: Any, top_k: int, without: Any = ()) -> list[int]:
        ids, rows = self.fetch(np.setdiff1d(self.id_array(""), np.array(without, np.int64)))
        order = np.lexsort((ids, -np.einsum("ij,j->i", rows, query)))[:top_k]
        found: list[int] = ids[order].tolist()
        return found


def built(stored: Any, **kwargs: Any) -> Any:
    return build(stored, "recall", 1, DIM, stored.fetch, **kwargs)


def share_found(stored: Stored, index: Any, queries: Any, top_k: int = 10, **kwargs: Any) -> float:
    shares = []
    for query in queries:
        found = [i for i, _ in index.search(query, top_k=top_k, **kwargs)]
        assert len(found) == top_k
        shares.append(len(set(found) & set(stored.nearest(query, top_k, kwargs.get("excluded", ())))) / top_k)
    return float(np.mean(shares))


@pytest.fixture(scope="module", autouse=True)
def _few_are_many() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_builder, "SCAN_ROWS", 0)
        yield


@pytest.fixture(scope="module")
def clustered() -> tuple[Stored, Any]:
    stored = Stored(clustered_rows(6000, 7))
    return stored, built(stored).index


def test_clusters_are_found_in_few_lists(clustered: tuple[Stored, Any]) -> None:
    stored, index = clustered
    assert index.num_lists > 40 and index.built_from == 6000
    assert index.reach and index.reach[0][1] <= index.num_lists // 2
    assert share_found(stored, index, clustered_rows(100, 90)) >= 0.97


def test_random_vectors_are_found_by_reading_all_lists() -> None:
    stored = Stored(random_rows(4000, 3))
    index = built(stored).index
    assert index.reach == () and index.num_lists > 40
    assert share_found(stored, index, random_rows(50, 91)) >= 0.99


def test_cosines_are_those_of_the_float32_rows(clustered: tuple[Stored, Any]) -> None:
    stored, index = clustered
    for query in clustered_rows(10, 92):
        for one, cosine in index.search(query, top_k=30):
            assert cosine == pytest.approx(float(stored.rows[one].astype(np.float64) @ query), abs=1e-6)


def test_what_is_excluded_makes_room_for_the_next(clustered: tuple[Stored, Any]) -> None:
    stored, index = clustered
    # At rank 2,000 the rows are so close together that rounded codes tell them apart less well.
    for count, least in ((10, 0.95), (60, 0.95), (2000, 0.8)):
        shares = []
        for query in clustered_rows(20, 93):
            nearest = np.array(stored.nearest(query, count), np.int64)
            shares.append(share_found(stored, index, [query], excluded=nearest))
        assert float(np.mean(shares)) >= least, count


def test_a_few_allowed_far_away_are_all_found(clustered: tuple[Stored, Any]) -> None:
    stored, index = clustered
    for query in clustered_rows(10, 94):
        far = np.array(stored.nearest(query, 6000)[-40:], np.int64)
        found = [i for i, _ in index.search(query, top_k=40, allowed=far)]
        assert sorted(found) == sorted(far.tolist())
        best = [i for i, _ in index.search(query, top_k=5, allowed=far)]
        assert best == found[:5]


@pytest.mark.parametrize("top_k", [1, 5900, 6000, 10**6])
def test_as_many_as_are_wanted_or_all(clustered: tuple[Stored, Any], top_k: int) -> None:
    stored, index = clustered
    found = index.search(clustered_rows(1, 95)[0], top_k=top_k)
    assert len(found) == min(top_k, 6000)
    if top_k >= 6000:
        assert [i for i, _ in found] == stored.nearest(clustered_rows(1, 95)[0], 6000)


def test_lists_that_hold_too_few_are_not_the_end(clustered: tuple[Stored, Any]) -> None:
    _, index = clustered
    reach, index.reach = index.reach, ((10**6, 1),)
    try:
        for top_k in (5, 300, 3000):
            found = index.search(clustered_rows(1, 89)[0], top_k=top_k)
            assert len(found) == top_k
    finally:
        index.reach = reach


@given(seed=st.integers(0, 10**6), top_k=st.integers(1, 40), removed=st.integers(0, 60))
def test_a_pool_that_the_margin_covers_is_exact(seed: int, top_k: int, removed: int) -> None:
    stored = Stored(random_rows(top_k + MARGIN + removed, seed))
    index = IvfIndex(DIM, stored.fetch, lists=random_rows(7, 4))  # type: ignore[arg-type]
    index.add(*stored.fetch(stored.id_array("")))
    gone = np.random.default_rng(seed).permutation(stored.id_array(""))[:removed]
    assert index.remove(gone) == removed
    stored.remove(*gone.tolist())
    query = random_rows(1, seed + 1)[0]
    assert [i for i, _ in index.search(query, top_k=top_k)] == stored.nearest(query, top_k)


def test_many_copies_of_one_text_come_in_the_order_of_their_ids() -> None:
    rows = np.repeat(random_rows(1, 5), 3000, axis=0)
    stored = Stored(np.concatenate([random_rows(500, 6), rows]))
    index = built(stored).index
    assert [i for i, _ in index.search(rows[0], top_k=20)] == list(range(501, 521))


def test_a_candidate_that_the_store_does_not_know_is_no_hit(clustered: tuple[Stored, Any]) -> None:
    stored, index = clustered
    query = clustered_rows(1, 96)[0]
    best = stored.nearest(query, 1)[0]
    index.rows = lambda ids: stored.fetch(ids[ids != best])
    try:
        assert best not in [i for i, _ in index.search(query, top_k=10)]
    finally:
        index.rows = stored.fetch


# -- building -------------------------------------------------------------------------------------------------


def test_what_goes_and_comes_during_a_build_is_level_at_its_end() -> None:
    stored = Stored(clustered_rows(3000, 8))
    new = clustered_rows(5, 9)
    done: list[int] = []

    def meanwhile(at: int) -> None:
        if not done:
            done.append(at)
            stored.remove(5, 2500)
            stored.add(new)

    stored.on_block = meanwhile
    followed = built(stored)
    assert done and followed.index.ids().tolist() == sorted(stored.rows)
    assert (followed.generation, followed.last_vector) == stored.state()
    assert followed.index.search(new[0], top_k=1)[0][0] == 3001


def test_a_build_can_be_stopped_at_any_step() -> None:
    stored = Stored(clustered_rows(2000, 10))
    steps = [0]

    def count() -> bool:
        steps[0] += 1
        return False

    built(stored, stopping=count)
    assert steps[0] > 12
    for at in range(1, steps[0] + 1):
        left = [at]

        def stop() -> bool:
            left[0] -= 1  # noqa: B023
            return left[0] <= 0  # noqa: B023

        with pytest.raises(StoppedError):
            built(stored, stopping=stop)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 40])
def test_a_build_of_hardly_anything(count: int) -> None:
    stored = Stored(random_rows(count, 11))
    index = built(stored).index
    query = random_rows(1, 12)[0]
    assert [i for i, _ in index.search(query, top_k=10)] == stored.nearest(query, 10)
    made = rough(stored, DIM, stored.fetch)  # type: ignore[arg-type]
    assert len(made) == 0 and made.search(query, top_k=3) == []


def test_the_index_for_now_finds_the_nearest_too() -> None:
    stored = Stored(clustered_rows(5000, 13))
    index = rough(stored, DIM, stored.fetch)  # type: ignore[arg-type]
    assert index.num_lists == index_builder.ROUGH_LISTS and index.built_from == 0
    index.add(*stored.fetch(stored.id_array("")))
    assert share_found(stored, index, clustered_rows(30, 97)) >= 0.99


def test_a_centre_is_the_mean_of_several_rows() -> None:
    # Forty texts far from all others: without a rule each is a centre of its own.
    middle = np.repeat(random_rows(20, 14), 48, axis=0)
    rows = np.concatenate([unit(middle + 0.1 * random_rows(960, 16)), random_rows(40, 15)])
    found = centres(rows, 100, lambda: False)
    members = np.bincount((rows @ found.T).argmax(axis=1), minlength=len(found))
    assert 10 < len(found) < 100
    assert (rows[960:] @ found.T).max() < 0.9
    assert members.sum() == 1000


def test_calibration_counts_by_cosine_not_by_id() -> None:
    """Half of the texts are one text: which of its copies is found must not make all lists be read."""
    rows = np.concatenate([clustered_rows(3000, 16), np.repeat(random_rows(1, 17), 3000, axis=0)])
    index = built(Stored(rows)).index
    assert index.reach and index.reach[0][1] < index.num_lists // 2


def test_calibration_reads_more_lists_for_a_higher_target(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Stored(unit(clustered_rows(5000, 18) + 0.6 * random_rows(5000, 19)))
    reached = []
    for target in (0.3, 0.8, 0.999):
        monkeypatch.setattr(index_builder, "TARGET", target)
        index = built(stored).index
        reached.append(index.reach[0][1] if index.reach else index.num_lists)
    assert reached[0] < reached[1] < reached[2]


def test_few_rows_are_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_builder, "SCAN_ROWS", 3000)
    assert built(Stored(clustered_rows(3000, 21))).index.reach == ()
    assert built(Stored(clustered_rows(3001, 21))).index.reach != ()


def test_calibration_of_one_list_reads_it(clustered: tuple[Stored, Any]) -> None:
    stored, _ = clustered
    index = IvfIndex(DIM, stored.fetch)  # type: ignore[arg-type]
    index.reach = ((10, 1),)
    truth = index_builder.Truth(*stored.fetch(np.arange(1, 50)), np.random.default_rng(0))
    calibrate(index, truth, stored.fetch, lambda: False)
    assert index.reach == ()


def test_the_truth_is_that_of_brute_force() -> None:
    stored = Stored(clustered_rows(1500, 20))
    ids, rows = stored.fetch(stored.id_array(""))
    truth = index_builder.Truth(ids, rows, np.random.default_rng(0))
    for start in range(0, 1500, 400):
        truth.see(ids[start : start + 400], rows[start : start + 400])
    for query, own, best in zip(truth.queries, truth.own, truth.best, strict=True):
        scores = np.sort(rows[ids != own] @ query)[::-1][: index_builder.DEEP]
        assert np.allclose(best, scores, atol=1e-6)
    moved = truth.queries[: truth.moved]
    cosines = (moved * np.array([stored.rows[i] for i in truth.own[: truth.moved].tolist()])).sum(axis=1)
    assert 0.5 < cosines.mean() < 0.9


# -- parts ----------------------------------------------------------------------------------------------------


def test_a_loaded_index_is_the_same(clustered: tuple[Stored, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stored, index = clustered
    monkeypatch.setattr("agentmem.store.ivf_index.PART_BYTES", 50_000)
    parts = dict(index.parts())
    assert sum(name.startswith("bulk") for name in parts) > 3
    copy = IvfIndex(DIM, stored.fetch)
    copy.load(parts)
    assert (copy.reach, copy.built_from, copy.nbytes) == (index.reach, index.built_from, index.nbytes)
    assert copy.ids().tolist() == index.ids().tolist()
    for query in clustered_rows(20, 98):
        assert copy.search(query, top_k=15) == index.search(query, top_k=15)
    assert dict(copy.parts()) == parts


def test_a_wrong_byte_in_a_bulk_part_makes_no_answer_wrong(clustered: tuple[Stored, Any]) -> None:
    """So that they may be checked after they are in use: the cosines come from the store's rows."""
    stored, index = clustered
    parts = dict(index.parts())
    noise = np.random.default_rng(0).integers(0, 256, len(parts["bulk.0"]), dtype=np.uint8)
    copy = IvfIndex(DIM, stored.fetch)
    copy.load({**parts, "bulk.0": noise.tobytes()})
    for query in clustered_rows(10, 99):
        found = copy.search(query, top_k=10)
        assert len(found) == 10
        for one, cosine in found:
            assert cosine == pytest.approx(float(stored.rows[one] @ query), abs=1e-6)


def test_memory_is_a_byte_a_dimension(clustered: tuple[Stored, Any]) -> None:
    _, index = clustered
    assert index.nbytes == 6000 * (DIM + 8) + index.num_lists * DIM * 4
