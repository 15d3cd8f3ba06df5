"""Archival storage: passages with the time in which they hold, what superseded them, and what they came from."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from agentmem.errors import InvalidInputError
from agentmem.store.database import Database, in_chunks, marks
from agentmem.store.lexical import Lexical
from agentmem.times import format_time, utc_seconds
from agentmem.types import Passage


class Archival:
    """The passages of one agent."""

    def __init__(self, db: Database, agent_id: int) -> None:
        self._db = db
        self._agent = agent_id
        self._lexical = Lexical(db, f"fts_passages_{agent_id}")

    @property
    def lexical(self) -> Lexical:
        """The full-text index over passages."""
        return self._lexical

    def next_id(self) -> int:
        """The id that the next passage gets; take it within the transaction that adds."""
        row = self._db.row("SELECT next_passage FROM agents WHERE id = ?", (self._agent,))
        assert row is not None
        return int(row[0])

    def add(self, passages: Sequence[Passage]) -> None:
        """Store passages (ids from `next_id` on), within the caller's transaction."""
        for p in passages:
            self._db.run(
                "INSERT INTO passages (agent_id, id, key, text, kind, tags, stored_at, stored_utc, valid_from,"
                " valid_from_utc, valid_to, valid_to_utc, superseded_by) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    self._agent, p.id, p.key, p.text, p.kind, json.dumps(list(p.tags)), format_time(p.stored_at),
                    utc_seconds(p.stored_at), format_time(p.valid_from), utc_seconds(p.valid_from),
                    format_time(p.valid_to) if p.valid_to else None, utc_seconds(p.valid_to) if p.valid_to else None,
                    p.superseded_by,
                ),
            )  # fmt: skip
            self._db.run_many(
                "INSERT INTO provenance (agent_id, passage_id, source) VALUES (?, ?, ?)",
                [(self._agent, p.id, source) for source in dict.fromkeys(p.sources)],
            )
        self._lexical.add([(p.id, p.text) for p in passages])
        if passages:
            self._db.run(
                "UPDATE agents SET next_passage = max(next_passage, ?) WHERE id = ?",
                (max(p.id for p in passages) + 1, self._agent),
            )

    def restore(self, passages: Sequence[Passage]) -> None:
        """Store passages with the ids that they have (an import), within the caller's transaction."""
        # A passage may be superseded by one with a higher id: that one must be there first.
        self.add(sorted(passages, key=lambda p: -p.id))

    def supersede(self, old: Passage, new: Passage) -> Passage:
        """Close `old` when `new` begins to hold (if it has not ended before), and add `new`.

        Within the caller's transaction.
        """
        if old.superseded_by is not None:
            raise InvalidInputError(
                "passage_id", old.ref, f"was superseded by p{old.superseded_by} already", hint="supersede that one"
            )
        self.add([new])
        ends = min((t for t in (old.valid_to, new.valid_from) if t is not None), key=utc_seconds)
        self._db.run(
            "UPDATE passages SET valid_to = ?, valid_to_utc = ?, superseded_by = ? WHERE agent_id = ? AND id = ?",
            (format_time(ends), utc_seconds(ends), new.id, self._agent, old.id),
        )
        return replace(old, valid_to=ends, superseded_by=new.id)

    def get(self, ids: Sequence[int]) -> list[Passage]:
        """The passages that exist among `ids`, in the order of `ids`."""
        found: dict[int, Passage] = {}
        for chunk in in_chunks(ids):
            sources: dict[int, list[str]] = {}
            sql = f"SELECT passage_id, source FROM provenance WHERE agent_id = ? AND passage_id IN ({marks(chunk)})"
            for row in self._db.rows(sql + " ORDER BY rowid", (self._agent, *chunk)):
                sources.setdefault(row[0], []).append(row[1])
            sql = f"SELECT * FROM passages WHERE agent_id = ? AND id IN ({marks(chunk)})"
            for row in self._db.rows(sql, (self._agent, *chunk)):
                found[row["id"]] = self._passage(row, tuple(sources.get(row["id"], ())))
        return [found[i] for i in ids if i in found]

    def by_key(self, key: str) -> Passage | None:
        """The passage with a caller's key."""
        row = self._db.row("SELECT id FROM passages WHERE agent_id = ? AND key = ?", (self._agent, key))
        return self.get([row[0]])[0] if row else None

    def delete(self, passages: Sequence[Passage]) -> None:
        """Delete passages and their words, within the caller's transaction."""
        self._lexical.remove([(p.id, p.text) for p in passages])
        for p in passages:
            # What it had superseded stays closed; only the pointer to the deleted one goes.
            self._db.run(
                "UPDATE passages SET superseded_by = NULL WHERE agent_id = ? AND superseded_by = ?", (self._agent, p.id)
            )
            self._db.run("DELETE FROM passages WHERE agent_id = ? AND id = ?", (self._agent, p.id))

    def reindex(self) -> int:
        """Make the full-text index anew, within the caller's transaction; how many passages it has."""
        self._lexical.drop()
        self._lexical.create()
        passages = self.after(0)
        self._lexical.add([(p.id, p.text) for p in passages])
        return len(passages)

    def derived_from(self, source: str) -> list[Passage]:
        """Passages that name a record (`m12`, `p3`) as where they came from."""
        rows = self._db.rows(
            "SELECT passage_id FROM provenance WHERE agent_id = ? AND source = ?", (self._agent, source)
        )
        return self.get([r[0] for r in rows])

    def all_ids(self) -> list[int]:
        """Ids of all passages, superseded ones too, ascending."""
        return [r[0] for r in self._db.rows("SELECT id FROM passages WHERE agent_id = ? ORDER BY id", (self._agent,))]

    def after(self, last: int) -> list[Passage]:
        """Passages with an id above `last`, in order."""
        rows = self._db.rows("SELECT id FROM passages WHERE agent_id = ? AND id > ? ORDER BY id", (self._agent, last))
        return self.get([r[0] for r in rows])

    def holding(self, at: float, known_at: float | None = None) -> list[int]:
        """Ids of the passages that hold at a time (seconds, UTC), of those known by then if `known_at` is given."""
        rows = self._db.rows(
            "SELECT id FROM passages WHERE agent_id = ? AND valid_from_utc <= ?"
            " AND (valid_to_utc IS NULL OR valid_to_utc > ?) AND stored_utc <= ? ORDER BY id",
            (self._agent, at, at, 1e18 if known_at is None else known_at),
        )
        return [r[0] for r in rows]

    @staticmethod
    def _passage(row: sqlite3.Row, sources: tuple[str, ...]) -> Passage:
        return Passage(
            id=row["id"],
            text=row["text"],
            stored_at=datetime.fromisoformat(row["stored_at"]),
            valid_from=datetime.fromisoformat(row["valid_from"]),
            valid_to=datetime.fromisoformat(row["valid_to"]) if row["valid_to"] else None,
            superseded_by=row["superseded_by"],
            key=row["key"],
            kind=row["kind"],
            tags=tuple(json.loads(row["tags"])),
            sources=sources,
        )
