"""Recall storage: every message ever observed, append-only but for erasure."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from agentmem.errors import InvalidInputError
from agentmem.store.database import Database, in_chunks, marks
from agentmem.store.lexical import Lexical
from agentmem.store.record_words import RecordWords, Row
from agentmem.store.selection import EVERYTHING, Choice, Scan, Selection
from agentmem.store.term_lists import TermLists
from agentmem.times import format_time, utc_seconds
from agentmem.types import Draft, Message, ToolCall


def encode_calls(calls: tuple[ToolCall, ...]) -> str | None:
    """Tool calls as a JSON column."""
    return json.dumps([[c.id, c.name, c.arguments] for c in calls]) if calls else None


def decode_calls(text: str | None) -> tuple[ToolCall, ...]:
    """The inverse of `encode_calls`."""
    return tuple(ToolCall(*c) for c in json.loads(text)) if text else ()


def lexical_text(message: Message) -> str:
    """What the full-text index sees: the speaker and the words."""
    return f"{message.name} {message.said}" if message.name else message.said


def _words(messages: Iterable[Message]) -> list[Row]:
    return [(m.id, lexical_text(m), m.said) for m in messages if m.searchable]


def _holds(message: Message, texts: set[str]) -> bool:
    places = [message.content, *(c.arguments for c in message.tool_calls)]
    return any(t in place for t in texts for place in places)


class Recall:
    """The messages of one agent."""

    def __init__(self, db: Database, agent_id: int) -> None:
        self._db = db
        self._agent = agent_id
        self._words = RecordWords(db, agent_id, "recall", f"fts_messages_{agent_id}")

    @property
    def lexical(self) -> Lexical:
        """The full-text index over what was said, and over further keys."""
        return self._words.lexical

    @property
    def terms(self) -> TermLists:
        """The term lists of what was said, and of further keys (tier "recall")."""
        return self._words.terms

    def append(self, drafts: Sequence[Draft], now: datetime) -> list[Message]:
        """Store drafts in order, within the caller's transaction."""
        row = self._db.row("SELECT next_message FROM agents WHERE id = ?", (self._agent,))
        assert row is not None
        first = int(row[0])
        stored = [
            Message(
                id=first + n,
                role=d.role,
                content=d.content,
                at=d.at or now,
                stored_at=now,
                name=d.name,
                key=d.key,
                session=d.session,
                tool_calls=d.tool_calls,
                tool_call_id=d.tool_call_id,
                derived=d.derived,
            )
            for n, d in enumerate(drafts)
        ]
        self.restore(stored)
        self._db.run("UPDATE agents SET next_message = ? WHERE id = ?", (first + len(stored), self._agent))
        return stored

    def restore(self, stored: Sequence[Message]) -> None:
        """Store messages with the ids that they have, within the caller's transaction."""
        self._db.run_many(
            "INSERT INTO messages (agent_id, id, key, session, role, name, content, at, at_utc, stored_at,"
            " tool_calls, tool_call_id, derived) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            [
                (
                    self._agent, m.id, m.key, m.session, m.role, m.name, m.content, format_time(m.at),
                    utc_seconds(m.at), format_time(m.stored_at), encode_calls(m.tool_calls), m.tool_call_id,
                    int(m.derived),
                )
                for m in stored
            ],
        )  # fmt: skip
        spoken = [m for m in stored if m.searchable]
        self._words.add(_words(spoken))
        self._db.run_many(
            "INSERT INTO speakers (agent_id, name, messages) VALUES (?, ?, 1)"
            " ON CONFLICT (agent_id, name) DO UPDATE SET messages = messages + 1",
            [(self._agent, m.name) for m in spoken if m.name],
        )

    def get(self, ids: Sequence[int]) -> list[Message]:
        """The messages that exist among `ids`, in the order of `ids`."""
        found: dict[int, Message] = {}
        for chunk in in_chunks(ids):
            sql = f"SELECT * FROM messages WHERE agent_id = ? AND id IN ({marks(chunk)})"
            for row in self._db.rows(sql, (self._agent, *chunk)):
                found[row["id"]] = self._message(row)
        return [found[i] for i in ids if i in found]

    def since(self, first: int, last: int | None = None) -> list[Message]:
        """Messages with first <= id (<= last), in order."""
        rows = self._db.rows(
            "SELECT * FROM messages WHERE agent_id = ? AND id >= ? AND id <= ? ORDER BY id",
            (self._agent, first, 2**62 if last is None else last),
        )
        return [self._message(r) for r in rows]

    def ids(self, first: int, last: int) -> list[int]:
        """Ids of the messages from `first` to `last` (both included), ascending; read from an index alone."""
        sql = "SELECT id FROM messages WHERE agent_id = ? AND id >= ? AND id <= ? ORDER BY id"
        return [r[0] for r in self._db.rows(sql, (self._agent, first, last))]

    def spoken(self, ids: Sequence[int]) -> list[int]:
        """Those of messages (ids) that are of people and assistants and do not repeat memory: some may hold calls
        alone."""
        found: list[int] = []
        for chunk in in_chunks(ids):
            sql = (
                f"SELECT id FROM messages WHERE agent_id = ? AND id IN ({marks(chunk)}) AND derived = 0"
                " AND role IN ('user', 'assistant')"
            )
            found += [r[0] for r in self._db.rows(sql, (self._agent, *chunk))]
        return found

    def by_keys(self, keys: Iterable[str]) -> dict[str, Message]:
        """The messages that carry these callers' keys."""
        wanted = list(keys)
        found: dict[str, Message] = {}
        for start in range(0, len(wanted), 500):
            chunk = wanted[start : start + 500]
            sql = f"SELECT * FROM messages WHERE agent_id = ? AND key IN ({marks(chunk)})"
            for row in self._db.rows(sql, (self._agent, *chunk)):
                found[row["key"]] = self._message(row)
        return found

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete messages, their words and their further keys, within the caller's transaction."""
        spoken = [m for m in messages if m.searchable]
        self._words.remove(_words(spoken))
        self._db.run_many(
            "UPDATE speakers SET messages = messages - 1 WHERE agent_id = ? AND name = ?",
            [(self._agent, m.name) for m in spoken if m.name],
        )
        self._db.run("DELETE FROM speakers WHERE agent_id = ? AND messages < 1", (self._agent,))
        self._db.run_many("DELETE FROM messages WHERE agent_id = ? AND id = ?", [(self._agent, m.id) for m in messages])

    def set_keys(self, message_id: int, keys: Sequence[str]) -> None:
        """Let a message be found by exactly these further keys too, within the caller's transaction. Raises
        InvalidInputError for one that is not there, or is not searched."""
        rows = _words(self.get([message_id]))
        if not rows:
            raise InvalidInputError("keys", f"m{message_id}", "is no message that is searched", hint="leave them out")
        self._words.set_keys(rows[0], keys)

    def reindex(self) -> int:
        """Make full-text index and term lists anew, within the caller's transaction; how many messages they have."""
        self._words.clear()
        count = 0
        last = self.last_id()
        for first in range(1, last + 1, 1000):
            rows = _words(self.since(first, min(first + 999, last)))
            self._words.add(rows)
            count += len(rows)
        return count

    def check_terms(self) -> list[str]:
        """What does not agree between messages and their term lists (reads all of them); [] when all is well."""
        wanted: set[int] = set()
        wrong: list[int] = []
        last = self.last_id()
        for first in range(1, last + 1, 1000):
            rows = _words(self.since(first, min(first + 999, last)))
            wanted |= {i for i, _, _ in rows}
            wrong += self._words.differing(rows)
        return self._words.findings(wrong, wanted)

    def repeating(self, texts: Sequence[str]) -> list[Message]:
        """Messages that are not searched (quotations, tool traffic, notes) and hold one of the texts."""
        rows = self._db.rows(
            "SELECT * FROM messages WHERE agent_id = ? AND (derived = 1 OR role IN ('tool', 'system')"
            " OR tool_calls IS NOT NULL) ORDER BY id",
            (self._agent,),
        )
        # Tool calls and results hold the text as JSON, where quotes and line ends are escaped.
        shapes = {*texts, *(json.dumps(t, ensure_ascii=False)[1:-1] for t in texts)}
        # A call and its results go together, or what stays could not stand in a prompt.
        groups: list[list[Message]] = []
        for message in (self._message(r) for r in rows):
            if message.role == "tool" and groups:
                groups[-1].append(message)
            else:
                groups.append([message])
        return [m for group in groups if any(_holds(g, shapes) for g in group) for m in group]

    def last_id(self) -> int:
        """The newest id given out, 0 before the first."""
        row = self._db.row("SELECT next_message FROM agents WHERE id = ?", (self._agent,))
        return int(row[0]) - 1 if row else 0

    def count(self) -> int:
        """Messages stored (reads them all: not for the path of a turn)."""
        row = self._db.row("SELECT count(*) FROM messages WHERE agent_id = ?", (self._agent,))
        return int(row[0]) if row else 0

    def names(self) -> list[str]:
        """Everybody who has spoken, most messages first."""
        rows = self._db.rows(
            "SELECT name FROM speakers WHERE agent_id = ? AND messages > 0 ORDER BY messages DESC, name", (self._agent,)
        )
        return [r[0] for r in rows]

    def selection(
        self,
        since: float | None = None,
        until: float | None = None,
        *,
        name: str | None = None,
        session: str | None = None,
    ) -> Selection:
        """The messages of a time (seconds, UTC, both included), by a speaker (in any case), of a session. The cost is
        that of the messages left out, or of those that stay where they are fewer."""
        if since is None and until is None and name is None and session is None:
            return EVERYTHING
        required: list[tuple[str, list[Any]]] = []
        if name is not None:
            names = [n for n in self.names() if n.casefold() == name.casefold()]
            if not names:
                return Selection.of(())
            required.append((f"name IN ({marks(names)})", names))
        if session is not None:
            required.append(("session = ?", [session]))
        exceptions = [("at_utc < ?", since), ("at_utc > ?", until)]
        limits = [(sql, [time]) for sql, time in (("at_utc >= ?", since), ("at_utc <= ?", until)) if time is not None]
        within = " AND ".join(sql for sql, _ in limits), [time for _, times in limits for time in times]
        values = [value for _, each in (*required, *limits) for value in each]
        # A join finds the rows by their ids; with IN, SQLite would rather read an index from end to end.
        among = (
            "SELECT m.id FROM json_each(?) named CROSS JOIN messages m ON m.agent_id = ? AND m.id = named.value WHERE "
        )
        return Choice(
            everything=self._scan("1", []),
            exceptions=[self._scan(sql, [time]) for sql, time in exceptions if time is not None],
            required=[self._scan(*r) for r in required],
            ranges=[(self._scan(*within), [])] if limits else [],
            among=Scan(among + " AND ".join(f"m.{sql}" for sql, _ in (*required, *limits)), (self._agent, *values)),
        ).selection(self._db, self.last_id())

    def _scan(self, where: str, parameters: Sequence[Any]) -> Scan:
        return Scan(f"SELECT id FROM messages WHERE agent_id = ? AND {where}", (self._agent, *parameters))

    @staticmethod
    def _message(row: sqlite3.Row) -> Message:
        return Message(
            id=row["id"],
            role=row["role"],
            content=row["content"],
            at=datetime.fromisoformat(row["at"]),
            stored_at=datetime.fromisoformat(row["stored_at"]),
            name=row["name"],
            key=row["key"],
            session=row["session"],
            tool_calls=decode_calls(row["tool_calls"]),
            tool_call_id=row["tool_call_id"],
            derived=bool(row["derived"]),
        )
