"""The index of a larger store: built beside the searches, level at the switch, evicted, damaged, cancelled."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from agentmem.errors import IndexDamagedError, InvalidInputError, StoreError, StoreFullError, UnknownNameError
from agentmem.store import dense, index_jobs
from agentmem.store.background import Background
from agentmem.store.index_cache import IndexCache
from agentmem.store.ivf_index import IvfIndex
from agentmem.store.snapshot import SnapshotHead, open_snapshot, write_snapshot
from agentmem.store.sqlite import SqliteStore
from tests.store.test_dense import DIM, NOW, Side, vector


class Held(Background):
    """Keeps its jobs until it is told to run them, in the test's own thread."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Callable[[], None]] = []
        self.closed = False

    def submit(self, job: Callable[[], None]) -> None:
        if not self.closed:
            self.jobs.append(job)

    def run(self) -> int:
        """All jobs, and those that they give; how many."""
        done = 0
        while self.jobs:
            self.jobs.pop(0)()
            done += 1
        return done

    def stopping(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True
        self.jobs.clear()


class HeldSide(Side):
    """A side whose background is held."""

    def __init__(self, path: Path | str, kind: str = "ivf", name: str = "a", cache: IndexCache | None = None) -> None:
        self.background = Held()
        self.notices = []
        self.store = SqliteStore(path, index=kind, background=self.background, cache=cache or IndexCache())
        self.agent = self.store.agent(name, create=True, now=NOW, notify=lambda k, p: self.notices.append((k, p)))
        with self.store.write():
            row = self.store.embedder() or self.store.add_embedder("fake", "", vector(0), NOW, active=True)
        self.embedder = row.id


Make = Callable[..., HeldSide]


@pytest.fixture
def open_side(tmp_path: Path) -> Iterator[Make]:
    sides: list[HeldSide] = []

    def make(kind: str = "ivf", name: str = "a", cache: IndexCache | None = None) -> HeldSide:
        sides.append(HeldSide(tmp_path / "m.db", kind, name, cache))
        return sides[-1]

    yield make
    for side in sides:
        side.store.close()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "FLAT_MAX", 100)
    monkeypatch.setattr(dense, "IVF_MIN", 100)
    # Every snapshot is a large one.
    monkeypatch.setattr(dense, "SMALL_BYTES", 0)


def nearest(side: HeldSide, number: int, top_k: int = 10) -> list[int]:
    """By brute force over SQLite."""
    ids, rows = side.agent.vectors.load("recall", 0)
    order = np.lexsort((ids, -np.einsum("ij,j->i", rows, vector(number))))[:top_k]
    found: list[int] = ids[order].tolist()
    return found


def found(side: HeldSide, number: int, top_k: int = 10, **kwargs: Any) -> list[int]:
    return [i for i, _ in side.search(number, top_k, **kwargs)]


def all_of(side: HeldSide) -> list[int]:
    return side.index.ids(side.embedder, DIM)


def built(side: HeldSide) -> Any:
    """The index that serves, which must be the built one."""
    side.background.run()
    side.search(1)
    side.background.run()
    assert side.index.kind == "ivf-sq8" and side.index._held is not None
    index = side.index._held.index
    assert isinstance(index, IvfIndex) and index.built_from
    return index


@pytest.mark.parametrize("kind", ["auto", "ivf"])
def test_the_scan_serves_until_the_built_one_is_level(open_side: Make, kind: str) -> None:
    one = open_side(kind)
    one.add(*range(1, 101))
    one.search(1)
    assert one.index.kind == "faiss-flat" and one.background.jobs == [], "so many are scanned"
    one.add(*range(101, 301))
    assert found(one, 3) == nearest(one, 3)
    assert one.index.kind == "faiss-flat"
    one.background.run()
    # What was written and deleted since the build is there, and gone, at once.
    one.add(301)
    one.remove(3)
    assert found(one, 301, 1) == [301] and 3 not in found(one, 3, 300)
    assert one.index.kind == "ivf-sq8"
    assert all_of(one) == [i for i in range(1, 302) if i != 3]
    assert one.notices == []


def test_what_is_deleted_during_a_build_never_comes_back(open_side: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = open_side(), open_side()
    one.add(*range(1, 301))
    one.search(1)
    blocks = one.agent.vectors.__class__.blocks
    steps: list[int] = []

    def meanwhile(self: Any, *args: Any) -> Iterator[Any]:
        for block in blocks(self, *args):
            yield block
            if not steps:
                steps.append(1)
                # The block with them has been read: the build's own index has them by now.
                other.remove(7, 150)
                other.add(301)

    monkeypatch.setattr("agentmem.store.vectors.BLOCK", 200)
    monkeypatch.setattr("agentmem.store.vectors.Vectors.blocks", meanwhile)
    built(one)
    assert steps
    expected = [i for i in range(1, 302) if i not in (7, 150)]
    assert all_of(one) == expected
    assert all_of(open_side()) == expected
    assert 7 not in found(one, 7, 300) and 150 not in found(one, 150, 300)


def test_an_erasure_during_a_build_throws_it_away(open_side: Make) -> None:
    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    one.remove(9)
    one.index.forget()
    one.background.run()
    assert one.index.path is not None and not one.index.path.exists()
    assert 9 not in found(one, 9, 300)
    # The next search gave the build anew.
    assert 9 not in built(one).ids()
    assert 9 not in all_of(open_side())


def test_a_write_under_way_does_not_bring_back_what_is_erased(open_side: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = open_side(), open_side()
    one.add(*range(1, 301))
    one.search(1)
    built(one)
    path = one.index.path
    assert path is not None
    write = write_snapshot
    for by in (one, other):
        number = by.add(1)[0]
        one.search(1)

        def slow(
            path: Path, head: Any, parts: Any, publishing: Any = None, by: HeldSide = by, number: int = number
        ) -> bool:
            parts = list(parts)
            by.remove(number)
            by.index.forget()
            return write(path, head, parts, publishing)

        with monkeypatch.context() as patch:
            patch.setattr(index_jobs, "write_snapshot", slow)
            one.index._jobs.write(one.index._writable)
            one.background.run()
        assert not path.exists(), "its moment was before the deletion"
        assert number not in found(one, 1, 400)


def test_a_write_under_way_of_an_index_that_was_dropped(open_side: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As re-embedding drops it: nothing was deleted, and the file is not wanted all the same."""
    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    built(one)

    def slow(path: Path, head: Any, parts: Any, publishing: Any = None) -> bool:
        copied = list(parts)
        one.index.forget()
        return write_snapshot(path, head, copied, publishing)

    monkeypatch.setattr(index_jobs, "write_snapshot", slow)
    one.index._jobs.write(one.index._writable)
    one.background.run()
    assert one.index.path is not None and list(one.index.path.parent.iterdir()) == []


def test_what_was_built_waits_while_a_reader_sees_an_older_state(open_side: Make) -> None:
    one, other = open_side(), open_side()
    one.add(*range(1, 301))
    one.search(1)
    with one.store.db.read():
        one.search(1)
        other.add(301)
        one.background.run()
        assert 301 not in found(one, 301, 400), "one state of the file to the end"
        assert one.index.kind == "faiss-flat"
    assert found(one, 301, 1) == [301]
    assert one.index.kind == "ivf-sq8"


@pytest.mark.parametrize("taken_away", [True, False])
def test_a_deletion_at_the_moment_of_renaming(
    open_side: Make, monkeypatch: pytest.MonkeyPatch, taken_away: bool
) -> None:
    """Just before it another process deletes; its taking the files away comes before the renaming, or has yet to."""
    one, other = open_side(), open_side()
    one.add(*range(1, 301))
    one.search(1)
    built(one)
    path = one.index.path
    assert path is not None
    replace = Path.replace

    def late(self: Path, target: Any) -> Any:
        other.remove(5)
        if taken_away:
            other.index.forget()
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", late)
        one.index.write()
    assert list(path.parent.iterdir()) == []
    assert 5 not in found(one, 5, 300)
    one.background.run()
    assert path.exists() and 5 not in all_of(open_side())


def test_lists_are_made_anew_when_the_store_has_grown_and_scanned_when_little_is_left(open_side: Make) -> None:
    one = open_side("auto")
    one.add(*range(1, 301))
    one.search(1)
    first = built(one)
    one.add(*range(301, 601))
    one.search(1)
    one.background.run()
    one.search(1)
    assert one.index._held is not None and one.index._held.index is first, "twice as many are not yet more than twice"
    one.add(601)
    one.search(1)
    assert built(one).built_from == 601
    one.remove(*range(1, 581))
    assert found(one, 590) == nearest(one, 590)
    assert one.index.kind == "faiss-flat"
    assert all_of(one) == list(range(581, 602))


def test_a_bulk_load_is_not_kept_as_float32(open_side: Make) -> None:
    one = open_side()
    one.add(*range(1, 801))
    assert found(one, 5) == nearest(one, 5)
    assert one.index.kind == "ivf-sq8" and one.index._held is not None
    assert one.index._held.index.built_from == 0  # type: ignore[attr-defined]
    assert built(one).built_from == 800


def test_in_memory_it_builds_too_and_writes_nothing() -> None:
    one = HeldSide(":memory:")
    one.add(*range(1, 301))
    one.search(1)
    built(one)
    one.remove(4)
    assert all_of(one) == [i for i in range(1, 301) if i != 4]
    one.store.close()


def test_searching_within_a_transaction_that_is_undone(open_side: Make) -> None:
    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    with pytest.raises(ZeroDivisionError), one.store.write():
        one.add(301)
        assert found(one, 301, 1) == [301]
        one.background.jobs.clear()
        raise ZeroDivisionError
    assert 301 not in found(one, 301, 400)
    built(one)
    with pytest.raises(ZeroDivisionError), one.store.write():
        one.add(302)
        assert found(one, 302, 1) == [301]
        raise ZeroDivisionError
    one.add(303)
    hits = dict(one.search(303, 400))
    assert hits[301] == pytest.approx(1.0)
    assert found(one, 302, 1) != [301]


# -- the file -------------------------------------------------------------------------------------------------


def test_the_built_one_is_what_the_next_start_reads(open_side: Make) -> None:
    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    lists = built(one).num_lists
    one.add(301)
    one.store.close()
    again = open_side()
    assert found(again, 301, 1) == [301]
    assert again.index.kind == "ivf-sq8" and again.index._held is not None
    assert again.index._held.index.num_lists == lists  # type: ignore[attr-defined]
    assert again.background.run() == 1, "the parts that were not checked at opening are checked"
    again.search(1)
    assert again.notices == []


def test_a_large_file_is_written_beside_the_searches(open_side: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "SNAPSHOT_MIN_CHANGES", 10)
    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    built(one)
    path = one.index.path
    assert path is not None
    before = path.read_bytes()
    one.add(*range(301, 317))
    one.search(1)
    assert path.read_bytes() == before and len(one.background.jobs) == 1
    one.search(1)
    assert len(one.background.jobs) == 1, "one at a time"
    # What comes after the moment of its first step is left out, and added when it is read.
    one.add(317)
    one.background.run()
    with open_snapshot(path) as snapshot:  # type: ignore[union-attr]
        assert snapshot.head.last_vector == 316
    assert all_of(open_side()) == list(range(1, 318))
    one.search(1)
    assert one.background.jobs == []


def test_a_deletion_makes_the_large_file_due(open_side: Make) -> None:
    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    built(one)
    one.remove(8)
    one.search(1)
    assert one.background.run() == 1
    again = open_side()
    assert one.index.path is not None
    with open_snapshot(one.index.path) as snapshot:  # type: ignore[union-attr]
        assert 8 not in np.frombuffer(snapshot["ids"], "<i8")
    assert 8 not in all_of(again)


def test_what_is_deleted_does_not_wait_in_the_file_for_a_build(open_side: Make) -> None:
    one = open_side()
    one.add(*range(1, 101))
    one.search(1)
    one.index.write()
    one.add(*range(101, 301))
    one.search(1)
    assert one.background.jobs
    one.remove(8)
    one.search(1)
    assert one.index.path is not None and not one.index.path.exists()


def test_closing_writes_what_is_due_and_takes_what_was_built(open_side: Make) -> None:
    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    one.background.run()
    one.index.write_if_due(closing=True)
    assert one.index.kind == "ivf-sq8", "the scan's would be written over it otherwise"
    one.store.close()
    again = open_side()
    again.search(1)
    assert again.index.kind == "ivf-sq8"
    for n in range(1000, 1300):
        again.add(n)
    again.search(1)
    again.background.jobs.clear()
    again.index._jobs.writing = False
    again.index.write_if_due(closing=True)
    with open_snapshot(again.index.path) as snapshot:  # type: ignore[arg-type, union-attr]
        assert snapshot.head.last_vector == 600


def test_closing_ends_a_build(open_side: Make) -> None:
    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    job = one.background.jobs[0]
    one.store.close()
    job()
    assert one.index.path is not None and not one.index.path.exists()


def spoil_part(path: Path, name: str) -> None:
    with open_snapshot(path) as snapshot:  # type: ignore[union-attr]
        start, length, _ = snapshot._parts[name]
    data = bytearray(path.read_bytes())
    data[start + length // 2] ^= 16
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("part", ["head", "lists", "ranges", "sizes", "ids"])
def test_a_flipped_bit_where_it_would_matter_is_seen_at_opening(open_side: Make, part: str) -> None:
    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    built(one)
    assert one.index.path is not None
    spoil_part(one.index.path, part)
    again = open_side()
    assert found(again, 5) == nearest(again, 5)
    assert [k for k, _ in again.notices] == ["index_rebuilt"] and part in again.notices[0][1]["reason"]


def test_a_flipped_bit_in_the_codes_is_found_in_the_background(open_side: Make) -> None:
    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    built(one)
    path = one.index.path
    assert path is not None
    spoil_part(path, "bulk.0")
    again = open_side()
    assert dict(again.search(5, 300)) == pytest.approx(dict(one.search(5, 300)))
    assert again.notices == []
    again.background.run()
    assert not path.exists(), "nobody else reads it"
    again.index.write()
    assert not path.exists(), "and it is not written again from what was read"
    again.search(5)
    assert [k for k, _ in again.notices] == ["index_rebuilt"] and "bulk.0" in again.notices[0][1]["reason"]
    fresh = built(again)
    assert path.exists() and all_of(again) == list(range(1, 301))
    with open_snapshot(path) as snapshot:  # type: ignore[union-attr]
        snapshot.verify()
        assert dict(snapshot) == dict(fresh.parts())
    again.search(5)
    assert len(again.notices) == 1


SPOILT = ["newer generation", "another embedder", "another dimension", "another kind", "cut", "emptied", "older format"]


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_file_is_rebuilt(open_side: Make, name: str) -> None:
    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    built(one)
    path = one.index.path
    assert path is not None
    with open_snapshot(path) as snapshot:  # type: ignore[union-attr]
        head, parts = snapshot.head, list(snapshot.items())
    heads = {
        "newer generation": SnapshotHead(head.index, DIM, head.embedder_id, head.generation + 1, head.last_vector),
        "another embedder": SnapshotHead(head.index, DIM, head.embedder_id + 1, head.generation, head.last_vector),
        "another dimension": SnapshotHead(head.index, DIM + 1, head.embedder_id, head.generation, head.last_vector),
        "another kind": SnapshotHead("other", DIM, head.embedder_id, head.generation, head.last_vector),
    }
    if name in heads:
        write_snapshot(path, heads[name], parts)
    else:
        data = path.read_bytes()
        old = b"agentmem-index-1 " + b"0" * 64 + b"\n{}\n"
        path.write_bytes({"cut": data[:-1000], "emptied": b"", "older format": old}[name])
    again = open_side()
    assert found(again, 5) == nearest(again, 5)
    assert len(found(again, 5, 500)) == 300
    assert [k for k, _ in again.notices] == ([] if name == "older format" else ["index_rebuilt"])
    built(again)


@pytest.mark.parametrize(("wrote", "reads"), [("ivf", "flat"), ("ivf", "numpy"), ("numpy", "auto"), ("flat", "ivf")])
def test_another_choice_of_index_over_the_same_file(open_side: Make, wrote: str, reads: str) -> None:
    one = open_side(wrote)
    one.add(*range(1, 301))
    one.search(1)
    one.background.run()
    one.search(1)
    one.index.write()
    again = open_side(reads)
    assert found(again, 5) == nearest(again, 5) and len(found(again, 5, 500)) == 300
    again.background.run()
    assert found(again, 5) == nearest(again, 5)
    assert len(again.notices) == int("numpy" in (wrote, reads) or reads == "flat")


def test_a_disk_that_fills_up_in_the_background_is_said_and_no_more(
    open_side: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise StoreFullError("no room")

    monkeypatch.setattr(index_jobs, "write_snapshot", refuse)
    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    built(one)
    assert [(k, p["reason"]) for k, p in one.notices] == [("index_not_saved", "no room")]
    one.add(*range(301, 590))
    one.search(1)
    one.background.run()
    assert found(one, 5) == nearest(one, 5)
    assert len(one.notices) == 2
    one.search(1)
    assert one.background.jobs == []


def test_a_build_that_fails_is_said_and_tried_again_when_the_store_has_grown(
    open_side: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Error in faiss: no memory")

    one = open_side()
    one.add(*range(1, 301))
    one.search(1)
    with monkeypatch.context() as patch:
        patch.setattr("agentmem.store.index_builder.centres", refuse)
        one.background.run()
    assert found(one, 5) == nearest(one, 5)
    assert [k for k, _ in one.notices] == ["index_not_built"]
    one.background.run()
    assert one.index.kind == "faiss-flat"
    one.add(*range(301, 601))
    one.search(1)
    built(one)


# -- arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["numpy", "flat", "faiss", "ivf", "auto"])
def test_bad_vectors_are_refused_in_plain_words(open_side: Make, kind: str) -> None:
    one = open_side(kind)
    one.add(*range(1, 301))
    for wrong in (np.zeros(DIM + 1, np.float32), np.zeros((1, DIM), np.float32), np.zeros(0, np.float32)):
        with pytest.raises(InvalidInputError, match="shape") as e:
            one.index.search(wrong, one.embedder, top_k=3)
        assert str(DIM) in str(e.value)
    for bad in (np.nan, np.inf, -np.inf):
        row = vector(1).copy()
        row[2] = bad
        with pytest.raises(InvalidInputError, match="no finite number"):
            one.index.search(row, one.embedder, top_k=3)
    with pytest.raises(InvalidInputError, match="allowed"):
        one.search(1, allowed=[1], excluded=[2])
    with pytest.raises(StoreError, match="no embedder 99"):
        one.index.search(vector(1), 99, top_k=3)
    assert found(one, 5) == nearest(one, 5), "and nothing was changed by it"
    assert len(found(one, 5, 10**9)) == 300
    assert found(one, 5, 0) == found(one, 5, -1) == []


@pytest.mark.parametrize("kind", ["numpy", "flat", "ivf"])
def test_excluded_ids_in_any_form(open_side: Make, kind: str) -> None:
    one = open_side(kind)
    assert found(one, 5, excluded=[1]) == []
    one.add(*range(1, 301))
    one.search(1)
    one.background.run()
    best = nearest(one, 5, 60)
    for excluded in (best[:50], np.array(best[:50]), tuple(best[:50]), [*best[:50], 10**9, -4]):
        assert found(one, 5, excluded=excluded) == best[50:]
    assert found(one, 5, excluded=[]) == best[:10]
    assert found(one, 5, 60, allowed=np.array(best[20:40])) == best[20:40]


def test_an_unknown_kind_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"hnsw.*auto, faiss, flat, ivf, numpy"):
        SqliteStore(tmp_path / "m.db", index="hnsw")
    assert list(tmp_path.iterdir()) == []


def test_a_vector_of_another_length_in_the_file_is_said(open_side: Make) -> None:
    one = open_side("flat")
    one.add(1, 2)
    with one.store.write():
        one.store.db.run("UPDATE embeddings SET vector = x'00000000' WHERE hash = ?", (b"hash 2",))
    with pytest.raises(StoreError, match="vector 2 has 4 bytes, not 32"):
        one.search(1)


# -- many agents ----------------------------------------------------------------------------------------------


def test_the_least_recently_used_index_leaves_memory(open_side: Make) -> None:
    cache = IndexCache(budget_bytes=2 * 50 * (DIM * 4 + 8))
    sides = {name: open_side("flat", name, cache) for name in "abc"}
    for name, side in sides.items():
        side.add(*range(1, 51))
        side.search(1)
        assert side.index._held is not None, name
    assert [side.index._held is None for side in sides.values()] == [True, False, False]
    assert sides["a"].index.path is not None and not sides["a"].index.path.exists(), "fewer than are worth a file"
    assert found(sides["a"], 7) == nearest(sides["a"], 7)
    assert [side.index._held is None for side in sides.values()] == [False, True, False]
    assert cache.total_bytes == 2 * 50 * (DIM * 4 + 8)
    cache.set_budget(10)
    found(sides["c"], 7)
    assert [side.index._held is None for side in sides.values()] == [True, True, False], "but never the one in use"


def test_an_evicted_index_is_read_from_its_file_and_caught_up(open_side: Make) -> None:
    cache = IndexCache(budget_bytes=1)
    one, other = open_side("ivf", "a", cache), open_side("ivf", "b", cache)
    one.add(*range(1, 301))
    one.search(1)
    built(one)
    other.add(1)
    other.search(1)
    assert one.index._held is None
    one.add(301)
    one.remove(4)
    assert found(one, 301, 1) == [301]
    assert one.index.kind == "ivf-sq8" and all_of(one) == [i for i in range(1, 302) if i != 4]


def test_what_is_busy_or_locked_is_not_evicted(open_side: Make) -> None:
    cache = IndexCache(budget_bytes=1)
    one, other = open_side("ivf", "a", cache), open_side("flat", "b", cache)
    one.add(*range(1, 301))
    one.search(1)
    other.search(1)
    assert one.index._held is not None, "it is being built"
    other.add(1)
    built(one)
    with one.store.write():
        other.search(1)
        assert one.index._held is not None, "its transaction may be undone"
    ready, go = threading.Event(), threading.Event()

    def hold() -> None:
        with one.store.db.lock:
            ready.set()
            go.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait(20)
    other.search(1)
    assert one.index._held is not None, "another thread searches it"
    go.set()
    holder.join()
    other.search(1)
    assert one.index._held is None


def test_a_closed_store_is_counted_no_more(open_side: Make) -> None:
    cache = IndexCache()
    one = open_side("flat", "a", cache)
    one.add(1, 2, 3)
    one.search(1)
    assert cache.total_bytes > 0
    one.store.close()
    assert cache.total_bytes == 0 and one.index._held is None


def test_the_cache_holds_nothing_alive() -> None:
    class One:
        evicted = 0

        def evict(self) -> bool:
            One.evicted += 1
            return True

    cache = IndexCache(100)
    first: One | None = One()
    assert first is not None
    cache.use(first, 60)
    cache.use(first, 70)
    assert cache.total_bytes == 70
    first = None
    gc.collect()
    second = One()
    cache.use(second, 80)
    assert cache.total_bytes == 80 and One.evicted == 0


# -- random traffic -------------------------------------------------------------------------------------------


class Building(RuleBasedStateMachine):
    """Two connections to one file, whose jobs run at any time: what is found is what SQLite has, always."""

    def __init__(self) -> None:
        super().__init__()
        from tempfile import TemporaryDirectory

        self.folder = TemporaryDirectory()
        self.saved = dense.IVF_MIN, dense.SMALL_BYTES, dense.SNAPSHOT_MIN_CHANGES, dense.LARGE_SHARE
        dense.IVF_MIN, dense.SMALL_BYTES, dense.SNAPSHOT_MIN_CHANGES, dense.LARGE_SHARE = 12, 0, 6, 0.0
        self.sides = [HeldSide(Path(self.folder.name) / "m.db") for _ in range(2)]
        self.alive: dict[int, int] = {}

    side = st.integers(0, 1)

    @rule(side=side, numbers=st.lists(st.integers(1, 60), min_size=1, max_size=12))
    def add(self, side: int, numbers: list[int]) -> None:
        self.alive.update(zip(self.sides[side].add(*numbers), numbers, strict=True))

    @rule(side=side, picks=st.lists(st.integers(0, 60), min_size=1, max_size=6), erase=st.booleans())
    def remove(self, side: int, picks: list[int], erase: bool) -> None:
        for one in self.sides[side].remove(*picks):
            del self.alive[one]
        if erase:
            self.sides[side].index.forget()

    @rule(side=side, number=st.integers(1, 60), top_k=st.integers(1, 16))
    def search(self, side: int, number: int, top_k: int) -> None:
        hits = self.sides[side].search(number, 400)
        assert sorted(i for i, _ in hits) == sorted(self.alive)
        for i, cosine in hits:
            assert cosine == pytest.approx(float(vector(self.alive[i]) @ vector(number)), abs=1e-5)
        assert len(self.sides[side].search(number, top_k)) == min(top_k, len(self.alive))

    @rule(side=side, most=st.integers(1, 3))
    def run_jobs(self, side: int, most: int) -> None:
        jobs = self.sides[side].background.jobs
        for job in jobs[:most]:
            jobs.remove(job)
            job()

    @rule(side=side)
    def evict(self, side: int) -> None:
        self.sides[side].index.evict()

    @rule(side=side, closing=st.booleans())
    def reopen(self, side: int, closing: bool) -> None:
        old = self.sides[side]
        if closing:
            old.index.write_if_due(closing=True)
        old.store.close()
        assert old.notices == []
        self.sides[side] = HeldSide(Path(self.folder.name) / "m.db")

    def teardown(self) -> None:
        for side in self.sides:
            side.store.close()
        dense.IVF_MIN, dense.SMALL_BYTES, dense.SNAPSHOT_MIN_CHANGES, dense.LARGE_SHARE = self.saved
        self.folder.cleanup()


TestBuilding = Building.TestCase
TestBuilding.settings = settings(max_examples=15, stateful_step_count=30)


# -- the thread -----------------------------------------------------------------------------------------------


def test_the_thread_runs_jobs_in_order_and_ends_with_them() -> None:
    background, done = Background(), []
    go = threading.Event()

    def first() -> None:
        go.wait(20)
        done.append(1)

    background.submit(first)
    background.submit(lambda: done.append(2))
    thread = background._thread
    assert thread is not None
    go.set()
    thread.join()
    assert done == [1, 2] and background._thread is None
    background.submit(lambda: done.append(3))
    background.close()
    background.submit(lambda: done.append(4))
    assert done in ([1, 2, 3], [1, 2]) and background.stopping()
    background.close()


def test_closing_waits_for_the_job_under_way_and_drops_the_rest() -> None:
    background, done = Background(), []
    begun = threading.Event()

    def first() -> None:
        begun.set()
        while not background.stopping():
            threading.Event().wait(0.001)
        done.append("stopped")

    background.submit(first)
    background.submit(lambda: done.append("never"))
    begun.wait(20)
    background.close()
    assert done == ["stopped"]


def test_with_a_real_thread(tmp_path: Path) -> None:
    one = Side(tmp_path / "m.db", "ivf")
    one.add(*range(1, 301))
    one.search(1)
    thread = one.store._background._thread
    if thread is not None:
        thread.join()
    one.add(301)
    assert one.search(301, 1)[0][0] == 301
    assert one.index.kind == "ivf-sq8"
    one.store.close()
    one.store.close()


def test_damage_is_what_it_is_called() -> None:
    with pytest.raises(IndexDamagedError):
        IvfIndex(DIM, lambda ids: (ids, np.empty((0, DIM), np.float32))).load({"head": b"[]"})
