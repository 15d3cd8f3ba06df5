"""The derived index beside SQLite: it catches up, forgets what was deleted, and is rebuilt rather than believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from agentmem.errors import StoreError
from agentmem.store import dense
from agentmem.store.agent_store import AgentStore
from agentmem.store.dense import DenseIndex
from agentmem.store.snapshot import SnapshotHead, open_snapshot, write_snapshot
from agentmem.store.sqlite import SqliteStore
from agentmem.types import Draft
from tests.crashing import crash_at

NOW = datetime(2023, 5, 8, tzinfo=UTC)
DIM = 8
Notices = list[tuple[str, dict[str, Any]]]


def vector(number: int) -> Any:
    """The same unit row for the same number, another for any other."""
    row = np.random.default_rng(number).normal(size=DIM).astype(np.float32)
    return row / np.linalg.norm(row)


class Side:
    """One process's view of the file: a connection, and the index that it holds in memory."""

    def __init__(self, path: Path | str, kind: str = "numpy", name: str = "a") -> None:
        self.notices: Notices = []
        self.store = SqliteStore(path, index=kind)
        self.agent: AgentStore = self.store.agent(
            name, create=True, now=NOW, notify=lambda k, p: self.notices.append((k, p))
        )
        with self.store.write():
            row = self.store.embedder() or self.store.add_embedder("fake", "", vector(0), NOW, active=True)
        self.embedder = row.id

    @property
    def index(self) -> DenseIndex:
        return self.agent.dense["recall"]

    def add(self, *numbers: int, tier: str = "recall") -> list[int]:
        """Messages, each with the vector of its number; their vector ids."""
        with self.store.write():
            messages = self.agent.recall.append([Draft("user", f"number {n}") for n in numbers], NOW)
            hashes = [f"hash {n}".encode() for n in numbers]
            self.agent.vectors.add_embeddings(
                self.embedder, {h: vector(n) for h, n in zip(hashes, numbers, strict=True)}
            )
            self.agent.vectors.add(self.embedder, [(tier, m.id, 0, h) for m, h in zip(messages, hashes, strict=True)])
            last = self.agent.vectors.state()[1]
        return list(range(last - len(numbers) + 1, last + 1))

    def remove(self, *records: int) -> list[int]:
        with self.store.write():
            return self.agent.vectors.remove("recall", records)

    def search(self, number: int, top_k: int = 100, **kwargs: Any) -> list[tuple[int, float]]:
        return self.index.search(vector(number), self.embedder, top_k=top_k, **kwargs)

    def found(self, number: int = 1) -> list[int]:
        return sorted(i for i, _ in self.search(number))


@pytest.fixture
def open_side(tmp_path: Path) -> Iterator[Callable[..., Side]]:
    sides: list[Side] = []

    def make(kind: str = "numpy", name: str = "a") -> Side:
        sides.append(Side(tmp_path / "m.db", kind, name))
        return sides[-1]

    yield make
    for side in sides:
        side.store.close()


kinds = pytest.mark.parametrize("kind", ["numpy", "faiss"])


@kinds
def test_catches_up_with_what_another_connection_did(open_side: Callable[..., Side], kind: str) -> None:
    one, other = open_side(kind), open_side(kind)
    assert one.search(1) == [] == other.search(1)
    one.add(1, 2, 3)
    assert other.found() == [1, 2, 3]
    assert other.search(2, top_k=1)[0][0] == 2
    other.remove(2)
    assert one.found() == [1, 3]
    one.add(4)
    assert (one.found(), other.found()) == ([1, 3, 4], [1, 3, 4])
    assert other.index.ids(other.embedder, DIM) == [1, 3, 4]


@kinds
def test_a_snapshot_is_caught_up_with_what_came_and_went_since(open_side: Callable[..., Side], kind: str) -> None:
    one = open_side(kind)
    one.add(*range(1, 21))
    one.search(1)
    one.index.write()
    one.remove(3, 4)
    one.add(21)
    reopened = open_side(kind)
    expected = [i for i in range(1, 22) if i not in (3, 4)]
    assert reopened.found() == expected == one.found()
    assert dict(reopened.search(5)) == pytest.approx(dict(one.search(5)), abs=1e-6)
    assert reopened.notices == [], "a snapshot that is behind is no damage"


@kinds
def test_the_snapshot_is_what_serves(open_side: Callable[..., Side], kind: str) -> None:
    # Told apart from a rebuild by a snapshot whose rows are others than SQLite's.
    one = open_side(kind)
    one.add(1, 2)
    one.search(1)
    held = one.index._held
    assert held is not None and one.index.path is not None
    held.index.add(np.array([1], np.int64), vector(99)[None])
    one.index.write()
    assert open_side(kind).search(99, top_k=1)[0] == (1, pytest.approx(1.0))


def spoil(name: str, path: Path, side: Side) -> None:
    with open_snapshot(path) as snapshot:  # type: ignore[union-attr]
        head, parts = snapshot.head, list(snapshot.items())
    data = path.read_bytes()
    generation, last = side.agent.vectors.state()
    heads = {
        "newer generation": SnapshotHead(head.index, DIM, head.embedder_id, generation + 1, last),
        "newer vectors": SnapshotHead(head.index, DIM, head.embedder_id, generation, last + 1),
        "another kind": SnapshotHead("other", DIM, head.embedder_id, generation, last),
        "another dimension": SnapshotHead(head.index, DIM + 1, head.embedder_id, generation, last),
        "another embedder": SnapshotHead(head.index, DIM, head.embedder_id + 1, generation, last),
    }
    if name in heads:
        write_snapshot(path, heads[name], parts)
    elif name == "payload of another index":
        write_snapshot(path, head, [("head", b"junk")])
    elif name == "flipped":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :])
    elif name == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif name == "emptied":
        path.write_bytes(b"")


SPOILT = [
    "newer generation", "newer vectors", "another kind", "another dimension", "another embedder",
    "payload of another index", "flipped", "cut", "emptied",
]  # fmt: skip


@kinds
@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_snapshot_is_rebuilt_aloud_with_the_same_results(
    open_side: Callable[..., Side], kind: str, name: str
) -> None:
    one = open_side(kind)
    one.add(*range(1, 31))
    one.remove(7)
    before = [one.search(n) for n in range(1, 31)]
    one.index.write()
    assert one.index.path is not None
    spoil(name, one.index.path, one)
    reopened = open_side(kind)
    after = [reopened.search(n) for n in range(1, 31)]
    assert [[i for i, _ in hits] for hits in after] == [[i for i, _ in hits] for hits in before]
    assert all(dict(hits) == pytest.approx(dict(old), abs=1e-6) for hits, old in zip(after, before, strict=True))
    assert len(after[0]) == 29
    assert [k for k, _ in reopened.notices] == ["index_rebuilt"]
    assert reopened.notices[0][1]["reason"]


@kinds
def test_a_missing_snapshot_is_rebuilt(open_side: Callable[..., Side], kind: str) -> None:
    one = open_side(kind)
    one.add(1, 2, 3)
    one.search(1)
    one.index.write()
    assert one.index.path is not None
    one.index.path.unlink()
    assert open_side(kind).found() == [1, 2, 3]


def test_a_crash_between_the_temporary_file_and_its_name(open_side: Callable[..., Side]) -> None:
    one = open_side()
    one.add(1, 2)
    one.search(1)
    one.index.write()
    one.add(3)
    one.search(1)
    with crash_at("snapshot.before_rename"):
        one.index.write()
    reopened = open_side()
    assert reopened.found() == [1, 2, 3]
    assert reopened.notices == []


def test_erasure_leaves_no_bytes_of_a_vector_behind(open_side: Callable[..., Side], tmp_path: Path) -> None:
    one = open_side()
    one.add(1, 2)
    one.search(1)
    one.index.write()
    assert one.index.path is not None
    # A process that was killed while it wrote left this.
    stale = one.index.path.with_name(f"{one.index.path.name}.999.tmp")
    stale.write_bytes(one.index.path.read_bytes())
    one.remove(1)
    one.index.forget()
    secret = vector(1).astype("<f4").tobytes()
    assert not [p for p in one.index.path.parent.iterdir() if secret in p.read_bytes()]
    assert one.found() == [2]


def test_an_index_that_is_behind_does_not_write_back_what_was_deleted(open_side: Callable[..., Side]) -> None:
    one, other = open_side(), open_side()
    one.add(1, 2)
    other.search(1)
    one.remove(1)
    one.index.forget()
    other.index.write()
    assert other.index.path is not None
    assert vector(1).astype("<f4").tobytes() not in other.index.path.read_bytes()
    assert vector(2).astype("<f4").tobytes() in other.index.path.read_bytes()


@kinds
def test_starting_anew_with_the_same_embedder_drops_the_old_ids_everywhere(
    open_side: Callable[..., Side], kind: str
) -> None:
    one, other = open_side(kind), open_side(kind)
    old = one.add(1, 2, 3)
    assert other.found() == old
    with one.store.write():
        one.agent.vectors.clear()
    new = one.add(1, 2)
    assert (other.found(), one.found()) == (new, new)


@kinds
def test_tiers_do_not_mix(open_side: Callable[..., Side], kind: str) -> None:
    one = open_side(kind)
    one.add(1, 2)
    (archival,) = one.add(3, tier="archival")
    assert one.found() == [1, 2]
    assert [i for i, _ in one.agent.dense["archival"].search(vector(3), one.embedder, top_k=9)] == [archival]


def test_allowed_ids_only(open_side: Callable[..., Side]) -> None:
    one = open_side()
    one.add(*range(1, 51))
    assert sorted(i for i, _ in one.search(1, top_k=3, allowed=[40, 41])) == [40, 41]
    assert one.search(1, allowed=[]) == []


def test_writes_itself_when_much_has_changed(open_side: Callable[..., Side], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense, "SNAPSHOT_MIN_CHANGES", 5)
    one = open_side()
    assert one.index.path is not None
    one.add(1, 2, 3, 4)
    one.search(1)
    assert not one.index.path.exists()
    one.add(5)
    one.search(1)
    assert one.index.path.exists()


def test_a_search_outlives_a_snapshot_that_can_not_be_written(
    open_side: Callable[..., Side], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "SNAPSHOT_MIN_CHANGES", 2)
    (tmp_path / "m.db-index").write_text("where the folder of the index should be")
    one = open_side()
    one.add(1, 2, 3)
    assert one.found() == [1, 2, 3]
    assert [k for k, _ in one.notices] == ["index_rebuilt", "index_not_saved"]
    one.search(1)
    assert len(one.notices) == 2, "said once, not at every search"
    with pytest.raises(StoreError):
        one.index.rebuild(one.embedder, DIM)


def test_in_memory_there_is_no_snapshot() -> None:
    one = Side(":memory:")
    one.add(1, 2)
    assert one.found() == [1, 2]
    one.index.write()
    one.index.forget()
    assert one.found() == [1, 2]
    one.store.close()


class TwoConnections(RuleBasedStateMachine):
    """Two connections to one file, interleaved. No search that starts after a commit returns what it deleted."""

    kind = "numpy"

    def __init__(self) -> None:
        super().__init__()
        from tempfile import TemporaryDirectory

        self.folder = TemporaryDirectory()
        self.sides = [Side(Path(self.folder.name) / "m.db", self.kind) for _ in range(2)]
        self.alive: dict[int, int] = {}

    side = st.integers(0, 1)

    @rule(side=side, numbers=st.lists(st.integers(1, 9), min_size=1, max_size=4))
    def add(self, side: int, numbers: list[int]) -> None:
        self.alive.update(zip(self.sides[side].add(*numbers), numbers, strict=True))

    @rule(side=side, picks=st.lists(st.integers(0, 30), min_size=1, max_size=4))
    def remove(self, side: int, picks: list[int]) -> None:
        # One message has one vector here, added together: vector id and message id are the same.
        gone = self.sides[side].remove(*picks)
        assert set(gone) == self.alive.keys() & set(picks)
        for one in gone:
            del self.alive[one]

    @rule(side=side, number=st.integers(1, 9))
    def search(self, side: int, number: int) -> None:
        hits = self.sides[side].search(number)
        assert sorted(i for i, _ in hits) == sorted(self.alive)
        for i, cosine in hits:
            assert cosine == pytest.approx(float(vector(self.alive[i]) @ vector(number)), abs=1e-5)

    @rule(side=side)
    def write_snapshot(self, side: int) -> None:
        self.sides[side].index.write()

    @rule(side=side)
    def reopen(self, side: int) -> None:
        old = self.sides[side]
        assert old.notices == []
        old.store.close()
        self.sides[side] = Side(Path(self.folder.name) / "m.db", self.kind)

    def teardown(self) -> None:
        for side in self.sides:
            side.store.close()
        self.folder.cleanup()


class _FaissConnections(TwoConnections):
    kind = "faiss"


TestTwoConnections = TwoConnections.TestCase
TestTwoFaissConnections = _FaissConnections.TestCase
TestTwoConnections.settings = TestTwoFaissConnections.settings = settings(max_examples=12, stateful_step_count=25)
