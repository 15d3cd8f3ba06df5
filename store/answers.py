"""Answers that were given, kept with the version of the memory that they rest on (`agentmem.answer_cache`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentmem.store.database import Database


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """An answer's place: `question` is the digest of what was asked, `vector` its float32 unit row as bytes (None: it
    was not embedded), `kept_utc` seconds."""

    id: int
    question: bytes
    vector: bytes | None
    kept_utc: float


class Answers:
    """The kept answers of one agent. Digests are the kernel's; an answer is found under all of them or not at all."""

    def __init__(self, db: Database, agent_id: int) -> None:
        self._db = db
        self._agent = agent_id

    def state(self, now: float, embedder: tuple[str, int] | None = None) -> list[Any]:
        """All that an answer can depend on in the file, as values of JSON; `now` in seconds, UTC. `embedder` is the
        (model, dimension) that a search would make the file's, if it has none yet.

        Messages and passages are only added, under numbers that count up; whatever else happens (erasing, superseding,
        paging out, edits) is an event; passages begin and end to hold as time goes by; core blocks and the epoch stand
        in the prompt as they are. The cost does not depend on how much is stored.
        """
        row = self._db.row(
            "SELECT a.next_message, a.next_passage, a.next_event,"
            " (SELECT max(valid_from_utc) FROM passages WHERE agent_id = a.id AND valid_from_utc <= ?),"
            " (SELECT max(valid_to_utc) FROM passages WHERE agent_id = a.id AND valid_to_utc <= ?)"
            " FROM agents a WHERE a.id = ?",
            (now, now, self._agent),
        )
        blocks = self._db.rows("SELECT * FROM blocks WHERE agent_id = ? ORDER BY label", (self._agent,))
        epoch = self._db.row("SELECT * FROM epochs WHERE agent_id = ? ORDER BY number DESC LIMIT 1", (self._agent,))
        active = self._db.row("SELECT model_id, dim FROM embedders WHERE active = 1")
        serves = tuple(active) if active else embedder
        return [list(row or ()), [list(b) for b in blocks], list(epoch or ()), list(serves or ())]

    def find(self, category: str, version: bytes, scope: bytes, first: float, last: float) -> list[AnswerRow]:
        """The answers of a category, version and scope that were kept after `first` and not after `last` (seconds,
        UTC), newest first."""
        rows = self._db.rows(
            "SELECT id, question, vector, kept_utc FROM answers WHERE agent_id = ? AND category = ? AND scope = ?"
            " AND version = ? AND kept_utc > ? AND kept_utc <= ? ORDER BY id DESC",
            (self._agent, category, scope, version, first, last),
        )
        return [AnswerRow(*row) for row in rows]

    def reply(self, answer_id: int) -> Any:
        """What was kept of an answer: bytes, unless the file was damaged."""
        row = self._db.row("SELECT reply FROM answers WHERE agent_id = ? AND id = ?", (self._agent, answer_id))
        return row[0] if row else None

    def keep(
        self,
        category: str,
        version: bytes,
        scope: bytes,
        question: bytes,
        vector: bytes | None,
        reply: bytes,
        kept_utc: float,
        *,
        most: int,
    ) -> None:
        """Keep an answer, in place of one to the same question, and at most `most` of its category: the oldest go.
        Those of other versions of the memory go too. Within the caller's transaction."""
        self._db.run(
            "DELETE FROM answers WHERE agent_id = ? AND category = ? AND version <> ?", (self._agent, category, version)
        )
        self._db.run(
            "INSERT OR REPLACE INTO answers (agent_id, category, version, scope, question, vector, reply, kept_utc)"
            " VALUES (?,?,?,?,?,?,?,?)",
            (self._agent, category, version, scope, question, vector, reply, kept_utc),
        )
        self._db.run(
            "DELETE FROM answers WHERE agent_id = ? AND category = ? AND version = ? AND id <= (SELECT id FROM answers"
            " WHERE agent_id = ? AND category = ? AND version = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
            (self._agent, category, version, self._agent, category, version, most),
        )

    def count(self, category: str) -> int:
        """How many answers of a category are kept."""
        row = self._db.row("SELECT count(*) FROM answers WHERE agent_id = ? AND category = ?", (self._agent, category))
        return int(row[0]) if row else 0

    def clear(self) -> None:
        """Forget all answers, within the caller's transaction."""
        self._db.run("DELETE FROM answers WHERE agent_id = ?", (self._agent,))
