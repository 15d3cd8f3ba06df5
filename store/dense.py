"""The derived vector index of one agent and tier: from its snapshot, caught up from SQLite, rebuilt when damaged.

Each search first compares the index's generation with SQLite's, so that no search that starts after a commit
returns what that commit deleted, whichever process deleted it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.crashpoints import crash_point
from agentmem.errors import IndexDamagedError, StoreError
from agentmem.protocols import VectorIndex
from agentmem.store.snapshot import SnapshotHead, read_snapshot, write_snapshot
from agentmem.store.vectors import Vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Notify = Callable[[str, dict[str, Any]], None]
# A snapshot costs O(n); written when this share of the index is new, its cost stays O(1) a vector.
SNAPSHOT_MIN_CHANGES = 256
SNAPSHOT_SHARE = 0.2


def index_class(kind: str) -> Any:
    """The index class by name: `auto` is FAISS where it is installed, else numpy."""
    if kind == "numpy" or (kind == "auto" and find_spec("faiss") is None):
        from agentmem.store.numpy_index import NumpyIndex

        return NumpyIndex
    from agentmem.store.faiss_index import FaissIndex

    return FaissIndex


class DenseIndex:
    """`path` is None for a store in memory: then there is no snapshot. The caller serialises."""

    def __init__(self, vectors: Vectors, tier: str, path: Path | None, *, kind: str, notify: Notify) -> None:
        self._vectors = vectors
        self.tier = tier
        self.path = path
        self._class = index_class(kind)
        self._notify = notify
        self._index: VectorIndex | None = None
        self._embedder = 0
        self._generation = 0
        self._last_vector = 0
        self._changes = 0
        self._outdated = False
        self._undone_at: int | None = None

    @property
    def kind(self) -> str:
        """Which index serves: `faiss-flat` or `numpy`."""
        return str(self._class.kind)

    def search(
        self, vector: NDArray[np.float32], embedder_id: int, *, top_k: int, allowed: Sequence[int] | None = None
    ) -> list[tuple[int, float]]:
        """(vector id, cosine) of the nearest, of `allowed` vector ids only if given."""
        import numpy as np

        with self._vectors.lock:
            index = self._current(embedder_id, len(vector))
            selected = None if allowed is None else np.array(sorted(allowed), np.int64)
            return index.search(vector, top_k=top_k, allowed=selected)

    def ids(self, embedder_id: int, dim: int) -> list[int]:
        """Vector ids in the index after catching up, ascending."""
        with self._vectors.lock:
            return [int(i) for i in self._current(embedder_id, dim).ids()]

    def rebuild(self, embedder_id: int, dim: int) -> int:
        """Build the index anew from SQLite and write its snapshot; how many vectors it has."""
        with self._vectors.lock:
            self._start(embedder_id, dim)
            self._follow(dim)
            self.write()
            return len(self._index) if self._index is not None else 0

    def write(self) -> None:
        """Write the snapshot, if there is an index and a place for it."""
        with self._vectors.lock:
            if self._index is None or self.path is None or self._was_undone() or self._undone_at is not None:
                return
            # What another process deleted since the last search must not come back in a file.
            self._follow(self._index.dim)
            head = SnapshotHead(self.kind, self._index.dim, self._embedder, self._generation, self._last_vector)
            write_snapshot(self.path, head, self._index.to_bytes())
            self._changes, self._outdated = 0, False
        crash_point("snapshot.written")

    def write_if_due(self, *, closing: bool = False) -> None:
        """Write the snapshot when enough has changed since the last one."""
        with self._vectors.lock:
            # What a transaction in progress may still undo is not written; it is due afterwards as well.
            if self._index is None or self._was_undone() or self._undone_at is not None:
                return
            share = 0 if closing else int(SNAPSHOT_SHARE * len(self._index))
            # What was deleted must not survive in the file either.
            if self._outdated or self._changes >= max(SNAPSHOT_MIN_CHANGES, share):
                self._save()

    def _save(self) -> None:
        try:
            self.write()
        except StoreError as e:
            # The index serves without its file; the next try is as far away as if it had been written.
            self._changes, self._outdated = 0, False
            self._say("index_not_saved", e.message)

    def _say(self, kind: str, reason: str) -> None:
        # A full disk keeps the log from being written too: that is no reason to fail a search or a close.
        with suppress(StoreError):
            self._notify(kind, {"tier": self.tier, "reason": reason})

    def forget(self) -> None:
        """Drop the index and its file: erased vectors must not stay in either."""
        self._index = None
        if self.path is not None and self.path.parent.is_dir():
            # With what processes left that were killed while they wrote.
            for leftover in (self.path, *self.path.parent.glob(f"{self.path.name}.*.tmp")):
                leftover.unlink(missing_ok=True)

    def _current(self, embedder_id: int, dim: int) -> VectorIndex:
        if self._was_undone() or self._index is None or self._embedder != embedder_id:
            self._open(embedder_id, dim)
        had_snapshot = self._generation > 0
        self._outdated |= bool(self._follow(dim)) and had_snapshot
        assert self._index is not None
        self.write_if_due()
        return self._index

    def _open(self, embedder_id: int, dim: int) -> None:
        self._start(embedder_id, dim)
        if self.path is None:
            return
        try:
            read = read_snapshot(self.path)
            if read is None:
                return
            head, payload = read
            if (head.index, head.dim, head.embedder_id) != (self.kind, dim, embedder_id):
                self._say("index_rebuilt", f"its snapshot is of {head.index}, {head.dim} dimensions")
                return
            generation, last = self._vectors.state()
            if head.generation > generation or head.last_vector > last:
                raise IndexDamagedError(f"{self.path}: is newer than the database beside it")
            self._index = self._class.from_bytes(payload)
            self._generation, self._last_vector = head.generation, head.last_vector
        except IndexDamagedError as e:
            self._start(embedder_id, dim)
            self._say("index_rebuilt", str(e))

    def _start(self, embedder_id: int, dim: int) -> None:
        self._index = self._class(dim)
        self._embedder, self._generation, self._last_vector, self._changes = embedder_id, 0, 0, 0
        self._outdated, self._undone_at = False, None

    def _was_undone(self) -> bool:
        """Drop an index that took over what was rolled back afterwards: its ids will be given to others."""
        if self._undone_at is None:
            return False
        if self._vectors.rollbacks != self._undone_at:
            self._index = self._undone_at = None
            return True
        if not self._vectors.in_transaction:
            self._undone_at = None
        return False

    def _follow(self, dim: int) -> int:
        """Take over what SQLite has and the index has not; how many vectors went."""
        import numpy as np

        assert self._index is not None
        generation, last = self._vectors.state()
        if generation == self._generation:
            return 0
        removed = self._vectors.removed_after(self._generation)
        if last > self._last_vector:
            ids, rows = self._vectors.load(self.tier, self._last_vector)
            if len(ids):
                self._index.add(ids, rows)
                self._changes += len(ids)
        gone = self._index.remove(np.array(removed, np.int64)) if removed else 0
        self._generation, self._last_vector = generation, last
        self._changes += gone
        if self._vectors.in_transaction and self._undone_at is None:
            self._undone_at = self._vectors.rollbacks
        return gone
