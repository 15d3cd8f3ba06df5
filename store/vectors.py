"""Vectors in SQLite: one embedding per distinct text and embedder, and the rows that say whose it is.

Every commit that adds or takes away a vector raises the agent's generation in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agentmem.errors import CorruptStoreError
from agentmem.store.database import Database, in_chunks, marks

if TYPE_CHECKING:
    from threading import RLock

    import numpy as np
    from numpy.typing import NDArray

WATERMARKS = {"recall": "embedded_message", "archival": "embedded_passage"}
IN_MEMORY = ":memory:"
BLOCK = 4096
_ROWS = "SELECT v.id, e.vector FROM vectors v JOIN embeddings e ON e.embedder_id = v.embedder_id AND e.hash = v.hash"


class Vectors:
    """The vectors of one agent. An entry is (tier, record id, part, hash of the text)."""

    def __init__(self, db: Database, agent_id: int) -> None:
        self._db = db
        self._agent = agent_id

    @property
    def lock(self) -> RLock:
        """The connection's lock."""
        return self._db.lock

    @property
    def in_transaction(self) -> bool:
        """Whether what is read now may still be undone."""
        return self._db.connection.in_transaction

    @property
    def rollbacks(self) -> int:
        """How often something was undone."""
        return self._db.rollbacks

    def state(self) -> tuple[int, int]:
        """(generation, highest vector id given out)."""
        row = self._db.row("SELECT generation, next_vector FROM agents WHERE id = ?", (self._agent,))
        return (int(row[0]), int(row[1]) - 1) if row else (0, 0)

    def watermark(self, tier: str) -> int:
        """Every searchable record of the tier up to this id has its vectors."""
        row = self._db.row(f"SELECT {WATERMARKS[tier]} FROM agents WHERE id = ?", (self._agent,))
        return int(row[0]) if row else 0

    def cached(self, embedder_id: int, hashes: Sequence[bytes]) -> set[bytes]:
        """Which of the texts have been embedded before, for any agent of the file."""
        found: set[bytes] = set()
        unique = list(dict.fromkeys(hashes))
        for start in range(0, len(unique), 500):
            chunk = unique[start : start + 500]
            sql = f"SELECT hash FROM embeddings WHERE embedder_id = ? AND hash IN ({marks(chunk)})"
            found.update(r[0] for r in self._db.rows(sql, (embedder_id, *chunk)))
        return found

    def add_embeddings(self, embedder_id: int, rows: Mapping[bytes, NDArray[np.float32]]) -> None:
        """Keep the vectors of texts, within the caller's transaction."""
        self._db.run_many(
            "INSERT OR IGNORE INTO embeddings (embedder_id, hash, vector) VALUES (?, ?, ?)",
            [(embedder_id, h, v.astype("<f4").tobytes()) for h, v in rows.items()],
        )

    def add(self, embedder_id: int, entries: Sequence[tuple[str, int, int, bytes]]) -> None:
        """Say whose the embeddings are, within the caller's transaction."""
        if not entries:
            return
        _, last = self.state()
        self._db.run_many(
            "INSERT INTO vectors (agent_id, id, tier, record_id, part, embedder_id, hash) VALUES (?,?,?,?,?,?,?)",
            [(self._agent, last + 1 + n, t, r, p, embedder_id, h) for n, (t, r, p, h) in enumerate(entries)],
        )
        self._db.run(
            "UPDATE agents SET next_vector = ?, generation = generation + 1 WHERE id = ?",
            (last + 1 + len(entries), self._agent),
        )

    def set_watermark(self, tier: str, record_id: int) -> None:
        """Move the watermark forward, within the transaction that added the vectors."""
        column = WATERMARKS[tier]
        self._db.run(f"UPDATE agents SET {column} = max({column}, ?) WHERE id = ?", (record_id, self._agent))

    def remove(
        self, tier: str, record_ids: Sequence[int], *, part: int | None = None, from_part: int | None = None
    ) -> list[int]:
        """Take away the vectors of records (those of one part only, or of that part and all above it, if given), and
        embeddings that nobody else uses; within the caller's transaction."""
        gone: list[tuple[int, int, bytes]] = []
        only = "" if part is None else f" AND part = {int(part)}"
        only += "" if from_part is None else f" AND part >= {int(from_part)}"
        for chunk in in_chunks(record_ids):
            where = f"WHERE agent_id = ? AND tier = ? AND record_id IN ({marks(chunk)}){only}"
            found = self._db.rows(f"SELECT id, embedder_id, hash FROM vectors {where}", (self._agent, tier, *chunk))
            gone += [tuple(r) for r in found]
            self._db.run(f"DELETE FROM vectors {where}", (self._agent, tier, *chunk))
        if not gone:
            return []
        self._db.run("UPDATE agents SET generation = generation + 1 WHERE id = ?", (self._agent,))
        generation, _ = self.state()
        self._db.run_many(
            "INSERT INTO tombstones (agent_id, vector_id, generation) VALUES (?, ?, ?)",
            [(self._agent, vector_id, generation) for vector_id, _, _ in gone],
        )
        self.drop_unused({h for _, _, h in gone})
        return [vector_id for vector_id, _, _ in gone]

    def drop_unused(self, hashes: set[bytes]) -> None:
        """Delete the embeddings of these texts, whatever the embedder, unless a record still uses the text."""
        # By embedder, as both indexes begin with it: otherwise all embeddings would be read for every hash.
        self._db.run_many(
            "DELETE FROM embeddings WHERE embedder_id IN (SELECT id FROM embedders) AND hash = ? AND NOT EXISTS (SELECT"
            " 1 FROM vectors v WHERE v.embedder_id IN (SELECT id FROM embedders) AND v.hash = embeddings.hash)",
            [(h,) for h in hashes],
        )

    def clear(self) -> None:
        """Forget whose the embeddings are (re-embedding starts from here); within the caller's transaction."""
        self._db.run(
            "UPDATE agents SET generation = generation + 1, embedded_message = 0, embedded_passage = 0 WHERE id = ?",
            (self._agent,),
        )
        # Another process may hold an index of these ids.
        self._db.run(
            "INSERT INTO tombstones (agent_id, vector_id, generation) SELECT v.agent_id, v.id, a.generation"
            " FROM vectors v JOIN agents a ON a.id = v.agent_id WHERE v.agent_id = ?",
            (self._agent,),
        )
        self._db.run("DELETE FROM vectors WHERE agent_id = ?", (self._agent,))

    @contextmanager
    def reader(self) -> Iterator[Vectors]:
        """The same vectors through a connection of its own, as committed; a store in memory has only the one."""
        if self._db.path == IN_MEMORY:
            yield self
            return
        own = Database(self._db.path)
        try:
            own.run("PRAGMA query_only = ON")
            yield Vectors(own, self._agent)
        finally:
            own.close()

    def dimension(self, embedder_id: int) -> int | None:
        """The dimension of an embedder's vectors, None for one that the file does not know."""
        row = self._db.row("SELECT dim FROM embedders WHERE id = ?", (embedder_id,))
        return None if row is None else int(row[0])

    def count(self, tier: str) -> int:
        """How many vectors a tier has. Counts them: for when an index is made, not for each search."""
        row = self._db.row("SELECT count(*) FROM vectors WHERE agent_id = ? AND tier = ?", (self._agent, tier))
        assert row is not None
        return int(row[0])

    def blocks(
        self, tier: str, embedder_id: int, after: int, upto: int, dim: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Ids of a tier in (after, upto] with an embedder's unit rows, ascending, `BLOCK` at a time: each block is a
        read of its own, so that nobody waits for the whole. Raises CorruptStoreError for a row of another dimension."""
        while True:
            found = self._db.rows(
                f"{_ROWS} WHERE v.agent_id = ? AND v.id > ? AND v.id <= ? AND v.tier = ? AND v.embedder_id = ?"
                " ORDER BY v.id LIMIT ?",
                (self._agent, after, upto, tier, embedder_id, BLOCK),
            )
            if not found:
                return
            yield self._matrix(found, dim)
            after = found[-1][0]

    def load(self, tier: str, after: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids of a tier above `after` with their unit rows, ascending, in one piece."""
        found = self._db.rows(
            f"{_ROWS} WHERE v.agent_id = ? AND v.id > ? AND v.tier = ? ORDER BY v.id", (self._agent, after, tier)
        )
        return self._matrix(found, len(found[0][1]) // 4 if found else 1)

    def fetch(self, ids: NDArray[np.int64], dim: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Those of some vector ids that exist, with their unit rows, in no order."""
        found: list[Any] = []
        for chunk in in_chunks(ids.tolist()):
            found += self._db.rows(f"{_ROWS} WHERE v.agent_id = ? AND v.id IN ({marks(chunk)})", (self._agent, *chunk))
        return self._matrix(found, dim)

    def _matrix(self, found: Sequence[Any], dim: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        import numpy as np

        ids = np.fromiter((r[0] for r in found), np.int64, len(found))
        for r in found:
            if len(r[1]) != 4 * dim:
                raise CorruptStoreError(
                    f"vector {r[0]} has {len(r[1])} bytes, not {4 * dim}",
                    hint="agentmem reembed makes the vectors anew",
                )
        return ids, np.frombuffer(b"".join([r[1] for r in found]), "<f4").reshape(-1, dim).astype(np.float32)

    def id_array(self, tier: str) -> NDArray[np.int64]:
        """All vector ids of a tier, ascending, 8 bytes each."""
        import numpy as np

        found, after = [np.empty(0, np.int64)], 0
        while True:
            rows = self._db.rows(
                "SELECT id FROM vectors WHERE agent_id = ? AND id > ? AND tier = ? ORDER BY id LIMIT ?",
                (self._agent, after, tier, 8 * BLOCK),
            )
            if not rows:
                return np.concatenate(found)
            found.append(np.fromiter((r[0] for r in rows), np.int64, len(rows)))
            after = rows[-1][0]

    def ids(self, tier: str) -> list[int]:
        """All vector ids of a tier, ascending."""
        rows = self._db.rows("SELECT id FROM vectors WHERE agent_id = ? AND tier = ? ORDER BY id", (self._agent, tier))
        return [r[0] for r in rows]

    def removed_after(self, generation: int) -> list[int]:
        """Vector ids that were taken away after a generation."""
        rows = self._db.rows(
            "SELECT vector_id FROM tombstones WHERE agent_id = ? AND generation > ?", (self._agent, generation)
        )
        return [r[0] for r in rows]

    def owners(self, vector_ids: Sequence[int]) -> dict[int, tuple[str, int, int]]:
        """(tier, record id, part) of each vector that still exists."""
        found: dict[int, tuple[str, int, int]] = {}
        for chunk in in_chunks(vector_ids):
            sql = f"SELECT id, tier, record_id, part FROM vectors WHERE agent_id = ? AND id IN ({marks(chunk)})"
            for r in self._db.rows(sql, (self._agent, *chunk)):
                found[r[0]] = (r[1], r[2], r[3])
        return found

    def entries(self, tier: str) -> list[tuple[int, int, int, bytes]]:
        """(vector id, record id, part, hash) of a tier, by record and part."""
        rows = self._db.rows(
            "SELECT id, record_id, part, hash FROM vectors WHERE agent_id = ? AND tier = ? ORDER BY record_id, part",
            (self._agent, tier),
        )
        return [(r[0], r[1], r[2], r[3]) for r in rows]

    def of_records(self, tier: str, record_ids: Sequence[int]) -> list[int]:
        """Vector ids of some records."""
        found: list[int] = []
        for chunk in in_chunks(record_ids):
            sql = f"SELECT id FROM vectors WHERE agent_id = ? AND tier = ? AND record_id IN ({marks(chunk)})"
            found += [r[0] for r in self._db.rows(sql, (self._agent, tier, *chunk))]
        return found

    def parts_of(
        self, tier: str, record_ids: Sequence[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Every vector of some records: record ids (n,), parts (n,), unit rows (n, dim)."""
        import numpy as np

        rows: list[tuple[int, int, bytes]] = []
        for chunk in in_chunks(record_ids):
            sql = (
                "SELECT v.record_id, v.part, e.vector FROM vectors v JOIN embeddings e ON e.embedder_id = v.embedder_id"
                f" AND e.hash = v.hash WHERE v.agent_id = ? AND v.tier = ? AND v.record_id IN ({marks(chunk)})"
            )
            rows += [tuple(r) for r in self._db.rows(sql, (self._agent, tier, *chunk))]
        matrix = np.frombuffer(b"".join(r[2] for r in rows), "<f4").reshape(len(rows), -1 if rows else 0)
        owners = np.array([(r[0], r[1]) for r in rows], np.int64).reshape(-1, 2)
        return owners[:, 0], owners[:, 1], matrix

    def orphans(self) -> list[int]:
        """Vector ids whose embedding or record is missing (always [], unless the file was tampered with)."""
        rows = self._db.rows(
            "SELECT v.id FROM vectors v WHERE v.agent_id = ? AND (NOT EXISTS (SELECT 1 FROM embeddings e"
            " WHERE e.embedder_id = v.embedder_id AND e.hash = v.hash)"
            " OR (v.tier = 'recall' AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.agent_id = v.agent_id"
            " AND m.id = v.record_id)) OR (v.tier = 'archival' AND NOT EXISTS (SELECT 1 FROM passages p"
            " WHERE p.agent_id = v.agent_id AND p.id = v.record_id)))",
            (self._agent,),
        )
        return [r[0] for r in rows]
