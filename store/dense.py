"""The derived vector index of one agent and tier: from its snapshot, caught up from SQLite, rebuilt when damaged.

Each search first compares the index's generation with SQLite's, so that no search that starts after a commit
returns what that commit deleted, whichever process deleted it. A small store is scanned; for a larger one an
approximate index is built beside the searches (`index_jobs`), and takes over when it is level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.crashpoints import crash_point
from agentmem.errors import IndexDamagedError, InvalidInputError, StoreError
from agentmem.protocols import VectorIndex
from agentmem.store.background import Background
from agentmem.store.following import Followed
from agentmem.store.index_cache import SHARED, IndexCache
from agentmem.store.index_jobs import IndexJobs
from agentmem.store.ivf_index import IvfIndex
from agentmem.store.snapshot import open_snapshot, write_snapshot
from agentmem.store.vectors import Vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = Sequence[int] | NDArray[np.int64]

Notify = Callable[[str, dict[str, Any]], None]
KINDS = ("auto", "faiss", "flat", "ivf", "numpy")
"""`auto`: `flat` while small, then `ivf`; numpy alone where FAISS is missing. `faiss` is an older name of `flat`."""
# A snapshot costs O(n); written when this share of the index is new, its cost stays O(1) a vector. What a large one
# lacks is added when it is opened, so its share is smaller.
SNAPSHOT_MIN_CHANGES = 256
SNAPSHOT_SHARE = 0.2
LARGE_SHARE, LARGE_CLOSING_SHARE = 0.05, 0.02
SMALL_BYTES = 4 << 20
"""A snapshot of so few bytes is written on the spot, a larger one in the background."""
FLAT_MAX = 50_000
"""The most vectors that `auto` scans: 5 ms at 384 dimensions, about what re-ranking 200 candidates costs."""
IVF_MIN = 256
"""`ivf` scans fewer: they are too few for lists."""
REBUILD_GROWTH = 2.0
"""Lists are made anew when the index has grown, or shrunk, by this factor since they were made."""


class DenseIndex:
    """`path` is None for a store in memory: then there is no snapshot. The store's lock serialises."""

    def __init__(
        self,
        vectors: Vectors,
        tier: str,
        path: Path | None,
        *,
        kind: str,
        notify: Notify,
        background: Background | None = None,
        cache: IndexCache = SHARED,
    ) -> None:
        self._vectors = vectors
        self.tier = tier
        self.path = path
        faiss = kind != "numpy" and not (kind == "auto" and find_spec("faiss") is None)
        self._exact = "faiss-flat" if faiss else "numpy"
        self._grows = faiss and kind in ("auto", "ivf")
        self._choice = kind
        self._notify = notify
        self._cache = cache
        self._jobs = IndexJobs(vectors, tier, path, background or Background())
        self._held: Followed | None = None
        self._embedder = self._dim = 0
        self._undone_at: int | None = None

    @property
    def kind(self) -> str:
        """Which index serves: `faiss-flat`, `ivf-sq8` or `numpy`."""
        held = self._held
        return self._exact if held is None else held.index.kind

    def search(
        self,
        vector: NDArray[np.float32],
        embedder_id: int,
        *,
        top_k: int,
        allowed: Ids | None = None,
        excluded: Ids | None = None,
    ) -> list[tuple[int, float]]:
        """(vector id, cosine) of the nearest, of `allowed` vector ids only, or of all but `excluded`; best first, ties
        by lower id. Raises InvalidInputError for a vector of another shape, or that is not finite."""
        import numpy as np

        if allowed is not None and excluded is not None:
            raise InvalidInputError("excluded", "...", "is given together with allowed", hint="give one of the two")
        row = np.asarray(vector, np.float32)
        only = None if allowed is None else np.asarray(allowed, np.int64)
        never = None if excluded is None else np.asarray(excluded, np.int64)
        with self._vectors.lock:
            dim = self._dimension(embedder_id)
            if row.shape != (dim,):
                raise InvalidInputError(
                    "vector", row.shape, f"the store's have the shape ({dim},)", hint="embed it with the same embedder"
                )
            if not np.isfinite(row).all():
                raise InvalidInputError("vector", "...", "has a component that is no finite number")
            return self._current(embedder_id, dim).search(row, top_k=top_k, allowed=only, excluded=never)

    def ids(self, embedder_id: int, dim: int) -> list[int]:
        """Vector ids in the index after catching up, ascending."""
        with self._vectors.lock:
            found: list[int] = self._current(embedder_id, dim).ids().tolist()
            return found

    def rebuild(self, embedder_id: int, dim: int) -> int:
        """Build the index anew from SQLite, lists and all, and write its snapshot; how many vectors it has."""
        with self._vectors.lock:
            self._start(embedder_id, dim)
            if self._grows and self._vectors.count(self.tier) > self._limit:
                from agentmem.store.index_builder import build

                with self._vectors.reader() as reader:
                    self._held = build(reader, self.tier, embedder_id, dim, self._rows)
            self._follow()
            self.write()
            return len(self._held.index) if self._held is not None else 0

    # -- the snapshot -----------------------------------------------------------------------------------------

    def write(self) -> None:
        """Write the snapshot now, if there is an index and a place for it."""
        with self._vectors.lock:
            if self._writable() is None:
                return
            # What another process deleted since the last search must not come back in a file.
            self._follow()
            held = self._writable()
            if held is None or self.path is None:
                return
            head, ticket = held.head(), self._jobs.ticket
            if write_snapshot(self.path, head, held.index.parts(), lambda: self._jobs.publishing(head, ticket)):
                self._jobs.changes, self._jobs.outdated = 0, False
        crash_point("snapshot.written")

    def write_if_due(self, *, closing: bool = False) -> None:
        """Write the snapshot when enough has changed since the last one: on the spot when it is small or this is the
        last chance, else in the background."""
        with self._vectors.lock:
            if closing:
                self._take_over()
                self._tell()
            held = self._writable()
            if held is None:
                return
            if self._jobs.busy and not closing:
                # What is under way writes a file of its own; what was deleted must not wait for it.
                if self._jobs.outdated and self.path is not None:
                    self.path.unlink(missing_ok=True)
                return
            small = held.index.nbytes <= SMALL_BYTES
            share = SNAPSHOT_SHARE if small else LARGE_SHARE
            if closing:
                share = 0.0 if small else LARGE_CLOSING_SHARE
            # What was deleted must not survive in the file.
            due = self._jobs.changes >= max(SNAPSHOT_MIN_CHANGES, int(share * len(held.index)))
            if due or self._jobs.outdated:
                if small or closing:
                    self._save()
                else:
                    self._jobs.write(self._writable)

    def _writable(self) -> Followed | None:
        """The index, when it may be written: what a transaction in progress may still undo is not, and is due
        afterwards as well."""
        undone = self._was_undone() or self._undone_at is not None
        return None if undone or self.path is None or self._jobs.suspect else self._held

    def _save(self) -> None:
        try:
            self.write()
        except StoreError as e:
            # The index serves without its file; the next try is as far away as if it had been written.
            self._jobs.changes, self._jobs.outdated = 0, False
            self._say("index_not_saved", e.message)

    def forget(self) -> None:
        """Delete the file, and take out of the index what SQLite has no more: erased vectors must stay in neither.

        Lists stay as they are: each centre is the mean of several rows.
        """
        with self._vectors.lock:
            self._jobs.cancel()
            if self.path is not None and self.path.parent.is_dir():
                # With what processes left that were killed while they wrote.
                for leftover in (self.path, *self.path.parent.glob(f"{self.path.name}.*.tmp")):
                    leftover.unlink(missing_ok=True)
            if not self._was_undone() and self._held is not None:
                self._follow()
                self._jobs.outdated = True

    def evict(self) -> bool:
        """Leave memory until the next search, without waiting; False when that can't be done now."""
        if not self._vectors.lock.acquire(blocking=False):
            return False
        try:
            if self.path is None or self._jobs.busy or self._vectors.in_transaction:
                return False
            self.write_if_due(closing=True)
            self._held = None
            return True
        finally:
            self._vectors.lock.release()

    def close(self) -> None:
        """The store is closed: nothing is under way any more, and the memory is let go."""
        self._jobs.cancel()
        self._held = None
        self._cache.drop(self)

    # -- following SQLite -------------------------------------------------------------------------------------

    def _current(self, embedder_id: int, dim: int) -> VectorIndex:
        self._take_over()
        if self._was_undone() or self._held is None or self._embedder != embedder_id:
            self._open(embedder_id, dim)
        self._follow()
        self._adapt()
        self._tell()
        self.write_if_due()
        assert self._held is not None
        if self.path is not None:
            self._cache.use(self, self._held.index.nbytes)
        return self._held.index

    def _open(self, embedder_id: int, dim: int) -> None:
        self._start(embedder_id, dim)
        if self.path is None:
            return
        snapshot = None
        try:
            snapshot = open_snapshot(self.path)
            if snapshot is None:
                return
            head = snapshot.head
            known = (self._exact, IvfIndex.kind) if self._grows else (self._exact,)
            if head.index not in known or (head.dim, head.embedder_id) != (dim, embedder_id):
                self._say("index_rebuilt", f"its snapshot is of {head.index}, {head.dim} dimensions")
                return
            generation, last = self._vectors.state()
            if head.generation > generation or head.last_vector > last:
                raise IndexDamagedError(f"{self.path}: is newer than the database beside it")
            index = self._make(head.index)
            index.load(snapshot)
            self._held = Followed(index, embedder_id, head.generation, head.last_vector)
            self._jobs.saved_generation = head.generation
            if snapshot.bulky:
                checked, snapshot = snapshot, None
                self._jobs.verify(checked)
        except IndexDamagedError as e:
            self._start(embedder_id, dim)
            self._say("index_rebuilt", str(e))
        finally:
            if snapshot is not None:
                snapshot.close()

    def _start(self, embedder_id: int, dim: int) -> None:
        self._embedder, self._dim = embedder_id, dim
        self._held = Followed(self._make(self._exact), embedder_id)
        self._undone_at = None
        self._jobs.reset()

    def _make(self, kind: str) -> VectorIndex:
        if kind == IvfIndex.kind:
            return IvfIndex(self._dim, self._rows)
        if kind == "numpy":
            from agentmem.store.numpy_index import NumpyIndex

            return NumpyIndex(self._dim)
        from agentmem.store.faiss_index import FaissIndex

        return FaissIndex(self._dim)

    def _rows(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return self._vectors.fetch(ids, self._dim)

    def _dimension(self, embedder_id: int) -> int:
        if embedder_id == self._embedder:
            return self._dim
        dim = self._vectors.dimension(embedder_id)
        if dim is None:
            raise StoreError(f"the file has no embedder {embedder_id}", hint="agentmem stats names the one it has")
        return dim

    def _was_undone(self) -> bool:
        """Drop an index that took over what was rolled back afterwards: its ids will be given to others."""
        if self._undone_at is None:
            return False
        if self._vectors.rollbacks != self._undone_at:
            self._held = self._undone_at = None
            return True
        if not self._vectors.in_transaction:
            self._undone_at = None
        return False

    def _follow(self) -> None:
        """Take over what SQLite has and the index has not."""
        held = self._held
        assert held is not None
        generation, last = self._vectors.state()
        if generation == held.generation:
            return
        scans = self._grows and not isinstance(held.index, IvfIndex)
        many = 4 * self._limit
        if scans and len(held.index) + last - held.last_vector > many and self._vectors.count(self.tier) > many:
            # A bulk load: float32 rows would take four times the memory of the codes that they are to become.
            from agentmem.store.index_builder import rough

            held = self._held = Followed(rough(self._vectors, self._dim, self._rows), self._embedder)
        had_snapshot = held.generation > 0
        came, went = held.follow(self._vectors, self.tier)
        self._jobs.changes += came + went
        self._jobs.outdated |= bool(went) and had_snapshot
        if self._vectors.in_transaction and self._undone_at is None:
            self._undone_at = self._vectors.rollbacks

    # -- the approximate index --------------------------------------------------------------------------------

    @property
    def _limit(self) -> int:
        return FLAT_MAX if self._choice == "auto" else IVF_MIN

    def _adapt(self) -> None:
        """Have lists built when they are due; scan again when few vectors are left."""
        assert self._held is not None
        index = self._held.index
        if not self._grows or self._jobs.building:
            return
        due = len(index) > self._limit
        if isinstance(index, IvfIndex):
            if len(index) < self._limit // 4:
                self._start(self._embedder, self._dim)
                self._follow()
                self._jobs.outdated = True
                return
            small, large = sorted((len(index), index.built_from))
            due = due and large > REBUILD_GROWTH * small
        if self._jobs.suspect or (due and len(index) >= self._jobs.retry_at):
            self._jobs.build(self._embedder, self._dim, self._rows)

    def _take_over(self) -> None:
        built = self._jobs.take()
        if built is not None:
            self._held, self._undone_at = built, None

    # -- what is said -----------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Say what happened in the background, in the caller's thread."""
        for kind, reason in self._jobs.said():
            self._say(kind, reason)

    def _say(self, kind: str, reason: str) -> None:
        # A full disk keeps the log from being written too: that is no reason to fail a search or a close.
        with suppress(StoreError):
            self._notify(kind, {"tier": self.tier, "reason": reason})
