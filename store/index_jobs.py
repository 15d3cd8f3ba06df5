"""What is done for one index beside its searches: its file written, the file verified, an approximate index built.

A job holds the store's lock for moments only. Each carries the ticket of when it was given: `cancel` makes that
invalid, and what a job then still has in hand is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from agentmem.crashpoints import crash_point
from agentmem.errors import IndexDamagedError, StoreError
from agentmem.store.background import Background, StoppedError, return_freed_memory
from agentmem.store.following import Followed
from agentmem.store.ivf_index import IvfIndex
from agentmem.store.snapshot import Snapshot, SnapshotHead, open_snapshot, write_snapshot
from agentmem.store.vectors import Vectors

if TYPE_CHECKING:
    from agentmem.store.ivf_index import RowSource


class IndexJobs:
    """All attributes are read and written under the store's lock.

    `changes` is how many vectors the file lacks or has too many, `outdated` that it has what was deleted, `suspect`
    that a part of the file that the index was read from does not verify.
    """

    def __init__(self, vectors: Vectors, tier: str, path: Path | None, background: Background) -> None:
        self._vectors = vectors
        self._tier = tier
        self._path = path
        self._background = background
        self.ticket = 0
        self.changes = 0
        self.saved_generation = 0
        self.outdated = self.suspect = self.writing = self.building = False
        self.retry_at = 0
        self._built: tuple[int, Followed] | None = None
        self._said: list[tuple[str, str]] = []

    @property
    def busy(self) -> bool:
        """Whether something is under way that uses the index or is about to replace it."""
        return self.writing or self.building

    def cancel(self) -> None:
        """What is under way is wanted no more."""
        self.ticket += 1
        self._built, self.building = None, False

    def reset(self) -> None:
        """The index is a new one, and there is no file of it."""
        self.cancel()
        self.changes = self.saved_generation = 0
        self.outdated = self.suspect = False

    def said(self) -> list[tuple[str, str]]:
        """(kind, reason) of what happened since the last call, for the caller's thread to tell."""
        said, self._said = self._said, []
        return said

    def _stopped(self, ticket: int) -> bool:
        return ticket != self.ticket or self._background.stopping()

    # -- the file ---------------------------------------------------------------------------------------------

    @contextmanager
    def publishing(self, head: SnapshotHead, ticket: int) -> Iterator[bool]:
        """Around the moment at which a file gets its name: whether it may, for what was deleted must not come back."""
        with self._vectors.lock:
            wanted = (
                ticket == self.ticket
                and head.generation >= self.saved_generation
                and not self._vectors.removed_after(head.generation)
            )
            yield wanted
            if wanted:
                self.saved_generation = head.generation
                # Another process may have deleted, and taken the file away, just before this one was put there.
                if self._path is not None and self._vectors.removed_after(head.generation):
                    self._path.unlink(missing_ok=True)
                    self.outdated = True

    def write(self, writable: Callable[[], Followed | None]) -> None:
        """Write the file of what `writable()` gives when the job's turn comes."""
        self.writing = True
        ticket = self.ticket
        self._background.submit(lambda: self._write(ticket, writable))

    def _write(self, ticket: int, writable: Callable[[], Followed | None]) -> None:
        failed, changes, written = "", 0, False
        try:
            with self._vectors.lock:
                held = None if self._stopped(ticket) else writable()
                if held is None or self._path is None:
                    return
                head, parts = held.head(), held.index.parts()
                # The first step fixes the moment that the file stands for.
                first = next(parts)
                changes, self.outdated = self.changes, False
            steps = chain([first], self._steps(parts, ticket))
            written = write_snapshot(self._path, head, steps, lambda: self.publishing(head, ticket))
            crash_point("snapshot.written")
        except StoppedError:
            return
        except StoreError as e:
            failed = e.message
        finally:
            with self._vectors.lock:
                self.writing = False
                if ticket == self.ticket:
                    # As with a file written on the spot: after a failure the next try is as far away.
                    self.changes -= changes if written or failed else 0
                    if failed:
                        self._said.append(("index_not_saved", failed))

    def _steps(self, parts: Iterator[tuple[str, bytes]], ticket: int) -> Iterator[tuple[str, bytes]]:
        """The index's parts, each copied under the lock. Raises StoppedError."""
        while True:
            with self._vectors.lock:
                if self._stopped(ticket):
                    raise StoppedError
                part = next(parts, None)
            if part is None:
                return
            yield part

    def verify(self, snapshot: Snapshot) -> None:
        """Check the parts that were not checked when the index was read; closes the snapshot."""
        ticket = self.ticket
        self._background.submit(lambda: self._verify(snapshot, ticket))

    def _verify(self, snapshot: Snapshot, ticket: int) -> None:
        try:
            with snapshot:
                snapshot.verify(lambda: self._stopped(ticket))
        except IndexDamagedError as e:
            with self._vectors.lock:
                if ticket == self.ticket and self._path is not None:
                    self.suspect = True
                    self._path.unlink(missing_ok=True)
                    self._said.append(("index_rebuilt", str(e)))

    # -- building ---------------------------------------------------------------------------------------------

    def build(self, embedder_id: int, dim: int, rows: RowSource) -> None:
        """Build an approximate index through a connection of its own, write its file, and hand it over."""
        self.building = True
        ticket = self.ticket
        self._background.submit(lambda: self._build(ticket, embedder_id, dim, rows))

    def _build(self, ticket: int, embedder_id: int, dim: int, rows: RowSource) -> None:
        from agentmem.store.index_builder import build

        built: Followed | None = None
        failed = ""
        try:
            with self._vectors.reader() as reader:
                built = build(reader, self._tier, embedder_id, dim, rows, lambda: self._stopped(ticket))
            if self._path is not None and not self._stopped(ticket):
                head = built.head()
                if write_snapshot(self._path, head, built.index.parts(), lambda: self.publishing(head, ticket)):
                    self._shrink(built, rows)
        except StoppedError:
            return
        except (StoreError, RuntimeError, MemoryError) as e:
            # RuntimeError is what FAISS raises. What served before serves on.
            failed = str(e) or type(e).__name__
        with self._vectors.lock:
            if ticket != self.ticket:
                return
            self.building = False
            if built is not None:
                self._built = (ticket, built)
            else:
                self.retry_at = 2 * self._vectors.count(self._tier)
            if failed:
                kind = "index_not_built" if built is None else "index_not_saved"
                self._said.append((kind, failed.splitlines()[0]))

    def _shrink(self, built: Followed, rows: RowSource) -> None:
        """Read back what was written: lists that grew a row at a time have room for up to twice what they hold."""
        assert self._path is not None
        snapshot = open_snapshot(self._path)
        if snapshot is None:
            return
        with snapshot:
            if snapshot.head == built.head():
                index = IvfIndex(built.index.dim, rows)
                index.load(snapshot)
                built.index = index

    def take(self) -> Followed | None:
        """What was built, once, unless this connection's view of the file is older."""
        if self._built is None:
            return None
        ticket, built = self._built
        if ticket == self.ticket and built.generation > self._vectors.state()[0]:
            return None
        self._built = None
        if ticket != self.ticket:
            return None
        self.changes, self.suspect = 0, False
        # The index that served until now is freed when the caller lets go of it.
        self._background.submit(return_freed_memory)
        return built
