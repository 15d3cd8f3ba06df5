"""The store: one SQLite file with many agents, and the folder of derived indexes beside it."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from agentmem.crashpoints import crash_point
from agentmem.errors import InvalidInputError, StoreBusyError, StoreFullError, StoreReadOnlyError, UnknownNameError
from agentmem.store.agent_store import AgentStore
from agentmem.store.background import Background
from agentmem.store.database import Database
from agentmem.store.dense import KINDS, DenseIndex, Notify
from agentmem.store.index_cache import SHARED, IndexCache
from agentmem.store.schema import migrate
from agentmem.store.vectors import IN_MEMORY
from agentmem.times import format_time

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EmbedderRow:
    """An embedder's fingerprint: model, dimension, and the vector of a probe text (float32 bytes).

    `spec` is how it was named, so that a file can be opened without naming it again; "" for an object.
    """

    id: int
    model_id: str
    spec: str
    dim: int
    probe: bytes


class SqliteStore:
    """Opens or creates the file. Raises StoreError and its kin; the folder must exist and be writable.

    `index` is one of `agentmem.store.dense.KINDS`, UnknownNameError otherwise; `background` runs what is done beside
    the searches, and `cache` bounds the memory of the indexes, both the store's and the process's own by default.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        create: bool = True,
        index: str = "auto",
        background: Background | None = None,
        cache: IndexCache = SHARED,
    ) -> None:
        if index not in KINDS:
            raise UnknownNameError("index", index, KINDS)
        self.path = str(path)
        self._index = index
        self._background = background or Background()
        self._cache = cache
        self._dense: WeakSet[DenseIndex] = WeakSet()
        in_memory = self.path == IN_MEMORY
        if not in_memory and not Path(self.path).exists():
            if not create:
                raise UnknownNameError("database", self.path, [], hint="give --db PATH, or ingest something first")
            if not Path(self.path).absolute().parent.is_dir():
                raise StoreReadOnlyError(f"{self.path}: its folder does not exist", hint="make the folder first")
        self.folder = None if in_memory else Path(f"{self.path}-index")
        self.db = Database(path)
        try:
            migrate(self.db)
        except BaseException:
            self.db.close()
            raise

    def write(self) -> AbstractContextManager[None]:
        """One transaction over everything in the file."""
        return self.db.write()

    def agent_names(self) -> list[str]:
        """All agents, oldest first."""
        return [r[0] for r in self.db.rows("SELECT name FROM agents ORDER BY id")]

    def agent(self, name: str, *, create: bool, now: datetime, notify: Notify) -> AgentStore:
        """The part of one agent. Raises UnknownNameError listing the known ones if it may not be created."""
        row = self.db.row("SELECT id FROM agents WHERE name = ?", (name,))
        if row is None:
            if not create:
                raise UnknownNameError("agent", name, self.agent_names())
            if not name.strip() or len(name) > 200 or not name.isprintable():
                raise InvalidInputError("agent", name, "is no name", hint="1 to 200 printable characters")
            with self.db.write():
                row = self.db.row("SELECT id FROM agents WHERE name = ?", (name,))
                if row is None:
                    self.db.run("INSERT INTO agents (name, created_at) VALUES (?, ?)", (name, format_time(now)))
                    row = self.db.row("SELECT id FROM agents WHERE name = ?", (name,))
                    assert row is not None
                    made = self._bind(int(row[0]), name, notify)
                    made.recall.lexical.create()
                    made.archival.lexical.create()
        assert row is not None
        found = self._bind(int(row[0]), name, notify)
        if found.journal.get_cursor(found.SCRUB_DUE):
            with suppress(StoreBusyError, StoreFullError, StoreReadOnlyError):
                self.scrub(found)
        return found

    def embedder(self) -> EmbedderRow | None:
        """The embedder whose vectors serve, None before the first vector."""
        row = self.db.row("SELECT id, model_id, spec, dim, probe FROM embedders WHERE active = 1")
        return EmbedderRow(*row) if row else None

    def add_embedder(
        self, model_id: str, spec: str, probe: NDArray[np.float32], now: datetime, *, active: bool
    ) -> EmbedderRow:
        """Note an embedder's fingerprint (or find it again); within the caller's transaction."""
        raw = probe.astype("<f4").tobytes()
        find = "SELECT id, model_id, spec, dim, probe FROM embedders WHERE model_id = ? AND dim = ?"
        row = self.db.row(find, (model_id, len(probe)))
        if row is None:
            self.db.run(
                "INSERT INTO embedders (model_id, spec, dim, probe, created_at, active) VALUES (?,?,?,?,?,?)",
                (model_id, spec, len(probe), raw, format_time(now), int(active)),
            )
            row = self.db.row(find, (model_id, len(probe)))
            assert row is not None
        return EmbedderRow(*row)

    def activate_embedder(self, embedder_id: int) -> None:
        """Let another embedder's vectors serve; within the transaction that re-attaches every agent's."""
        self.db.run("UPDATE embedders SET active = (id = ?)", (embedder_id,))

    def drop_embedders_but(self, embedder_id: int) -> None:
        """Delete the embeddings of other embedders; within the caller's transaction."""
        self.db.run("DELETE FROM embeddings WHERE embedder_id <> ?", (embedder_id,))
        self.db.run("DELETE FROM embedders WHERE id <> ?", (embedder_id,))

    def scrub(self, agent: AgentStore) -> bool:
        """After an erasure: no word in the full-text segments, no vector in the index files, no page, free or in the
        write-ahead log, keeps what was deleted. False when another process is reading and holds the log back: the rest
        is done at the next open."""
        with self.db.write():
            agent.recall.lexical.optimize()
            agent.archival.lexical.optimize()
        crash_point("erase.merged")
        for index in agent.dense.values():
            index.forget()
        crash_point("erase.forgotten")
        self.db.run("VACUUM")
        if not self._truncate_log():
            return False
        crash_point("erase.scrubbed")
        with self.db.write():
            agent.journal.drop_cursors(agent.SCRUB_DUE)
        self._truncate_log()
        return True

    def _truncate_log(self) -> bool:
        row = self.db.row("PRAGMA wal_checkpoint(TRUNCATE)")
        return row is None or not row[0]

    def integrity(self) -> list[str]:
        """What SQLite's own checks find; [] when all is well."""
        problems = [str(r[0]) for r in self.db.rows("PRAGMA integrity_check") if r[0] != "ok"]
        return problems + [f"foreign key of {r[0]} row {r[1]}" for r in self.db.rows("PRAGMA foreign_key_check")]

    def close(self) -> None:
        """End what is done in the background, and close the file."""
        self._background.close()
        for index in list(self._dense):
            index.close()
        self.db.close()

    def _bind(self, agent_id: int, name: str, notify: Notify) -> AgentStore:
        made = AgentStore(
            self.db, agent_id, name, folder=self.folder, index=self._index, notify=notify,
            background=self._background, cache=self._cache,
        )  # fmt: skip
        self._dense.update(made.dense.values())
        return made
