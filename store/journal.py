"""What happened to one agent: core blocks and their edits, epochs, events, cursors."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from agentmem.store.database import Database
from agentmem.times import format_time
from agentmem.types import Block, Earlier, Epoch, Event


def _encode_blocks(blocks: tuple[Block, ...]) -> str:
    return json.dumps([[b.label, b.value, b.max_tokens, b.read_only, b.version, b.description] for b in blocks])


def _encode_earlier(entries: tuple[Earlier, ...]) -> str:
    return json.dumps([[e.message, e.day, e.line, e.key, e.whole] for e in entries])


class Journal:
    """Blocks, epochs, events and cursors of one agent; all writes within the caller's transaction."""

    def __init__(self, db: Database, agent_id: int) -> None:
        self._db = db
        self._agent = agent_id

    def blocks(self) -> tuple[Block, ...]:
        """The core blocks as they are now, in the order in which they were made."""
        rows = self._db.rows("SELECT * FROM blocks WHERE agent_id = ? ORDER BY position", (self._agent,))
        return tuple(
            Block(r["label"], r["value"], r["max_tokens"], bool(r["read_only"]), r["version"], r["description"])
            for r in rows
        )

    def put_block(self, block: Block, *, op: str, before: str, actor: str, at: datetime) -> None:
        """Store a block's new state with its edit; `block.version` is the new version."""
        self._db.run(
            "INSERT INTO blocks (agent_id, label, value, max_tokens, read_only, version, description, position)"
            " VALUES (?,?,?,?,?,?,?, (SELECT count(*) FROM blocks WHERE agent_id = ?))"
            " ON CONFLICT (agent_id, label) DO UPDATE SET value = excluded.value, max_tokens = excluded.max_tokens,"
            " read_only = excluded.read_only, version = excluded.version, description = excluded.description",
            (
                self._agent, block.label, block.value, block.max_tokens, int(block.read_only), block.version,
                block.description, self._agent,
            ),
        )  # fmt: skip
        self._db.run(
            "INSERT INTO block_edits (agent_id, label, version, op, before, after, actor, at) VALUES (?,?,?,?,?,?,?,?)",
            (self._agent, block.label, block.version, op, before, block.value, actor, format_time(at)),
        )

    def block_edits(self, label: str | None = None) -> list[dict[str, Any]]:
        """The history of a block, or of all, oldest first."""
        rows = self._db.rows(
            "SELECT label, version, op, before, after, actor, at FROM block_edits WHERE agent_id = ?"
            " AND (? IS NULL OR label = ?) ORDER BY rowid",
            (self._agent, label, label),
        )
        return [dict(r) for r in rows]

    def restore_blocks(self, blocks: Sequence[Block]) -> None:
        """Store blocks as they are, without an edit (an import)."""
        for position, b in enumerate(blocks):
            self._db.run(
                "INSERT INTO blocks (agent_id, label, value, max_tokens, read_only, version, description, position)"
                " VALUES (?,?,?,?,?,?,?,?)",
                (self._agent, b.label, b.value, b.max_tokens, int(b.read_only), b.version, b.description, position),
            )

    def restore_edit(self, edit: Mapping[str, Any]) -> None:
        """Store an edit of the history as it is (an import)."""
        self._db.run(
            "INSERT INTO block_edits (agent_id, label, version, op, before, after, actor, at) VALUES (?,?,?,?,?,?,?,?)",
            (self._agent, *(edit[k] for k in ("label", "version", "op", "before", "after", "actor", "at"))),
        )

    def restore_event(self, number: int, kind: str, at: str, payload: Mapping[str, Any]) -> None:
        """Store an event as it is (an import)."""
        self._db.run(
            "INSERT INTO events (agent_id, number, kind, at, payload) VALUES (?,?,?,?,?)",
            (self._agent, number, kind, at, json.dumps(payload, sort_keys=True, ensure_ascii=False)),
        )

    def rewrite_block(self, block: Block) -> None:
        """Replace a block's text without a trace. For erasure alone."""
        self._db.run(
            "UPDATE blocks SET value = ? WHERE agent_id = ? AND label = ?", (block.value, self._agent, block.label)
        )

    def rewrite_edits(self, rewrite: Callable[[str], str]) -> int:
        """Rewrite the texts of the edit history; how many edits changed. For erasure alone."""
        changed = 0
        for edit in self.block_edits():
            before, after = rewrite(edit["before"]), rewrite(edit["after"])
            if (before, after) != (edit["before"], edit["after"]):
                self._db.run(
                    "UPDATE block_edits SET before = ?, after = ? WHERE agent_id = ? AND label = ? AND version = ?",
                    (before, after, self._agent, edit["label"], edit["version"]),
                )
                changed += 1
        return changed

    def start_epoch(self, epoch: Epoch, reason: str) -> None:
        """Add an epoch; its number must be the next one (two processes can't both flush)."""
        self._db.run(
            "INSERT INTO epochs (agent_id, number, first_message, summary, summary_from, summary_to, blocks,"
            " started_at, reason, compressed) VALUES (?,?,?,?,?,?,?,?,?,?)",
            (
                self._agent, epoch.number, epoch.first_message, epoch.summary, epoch.summary_from, epoch.summary_to,
                _encode_blocks(epoch.blocks), format_time(epoch.started_at), reason, _encode_earlier(epoch.compressed),
            ),
        )  # fmt: skip

    def epoch(self, number: int | None = None) -> Epoch | None:
        """An epoch by number, or the current one."""
        row = self._db.row(
            "SELECT * FROM epochs WHERE agent_id = ? AND (? IS NULL OR number = ?) ORDER BY number DESC LIMIT 1",
            (self._agent, number, number),
        )
        return self._epoch(row) if row else None

    def epochs(self) -> list[tuple[Epoch, str]]:
        """All epochs with their reasons, oldest first."""
        rows = self._db.rows("SELECT * FROM epochs WHERE agent_id = ? ORDER BY number", (self._agent,))
        return [(self._epoch(r), r["reason"]) for r in rows]

    def rewrite_epoch(
        self, number: int, summary: str, blocks: tuple[Block, ...], compressed: tuple[Earlier, ...] = ()
    ) -> None:
        """Replace an epoch's texts. For erasure alone: an epoch is otherwise frozen."""
        self._db.run(
            "UPDATE epochs SET summary = ?, blocks = ?, compressed = ? WHERE agent_id = ? AND number = ?",
            (summary, _encode_blocks(blocks), _encode_earlier(compressed), self._agent, number),
        )

    def append_event(self, kind: str, at: datetime, payload: Mapping[str, Any]) -> Event:
        """Log an event; the payload is JSON of ids and numbers."""
        row = self._db.row("SELECT next_event FROM agents WHERE id = ?", (self._agent,))
        assert row is not None
        number = int(row[0])
        text = json.dumps(payload, sort_keys=True, ensure_ascii=False)
        self._db.run(
            "INSERT INTO events (agent_id, number, kind, at, payload) VALUES (?,?,?,?,?)",
            (self._agent, number, kind, format_time(at), text),
        )
        self._db.run("UPDATE agents SET next_event = ? WHERE id = ?", (number + 1, self._agent))
        return Event(number, kind, at, payload)

    def events(self, kind: str | None = None, *, after: int = 0) -> Iterator[Event]:
        """Events in order, of one kind or all, read in pages."""
        while True:
            rows = self._db.rows(
                "SELECT number, kind, at, payload FROM events WHERE agent_id = ? AND number > ?"
                " AND (? IS NULL OR kind = ?) ORDER BY number LIMIT 500",
                (self._agent, after, kind, kind),
            )
            if not rows:
                return
            for r in rows:
                yield Event(r["number"], r["kind"], datetime.fromisoformat(r["at"]), json.loads(r["payload"]))
            after = int(rows[-1]["number"])

    def last_event(self, kind: str) -> Event | None:
        """The newest event of a kind."""
        row = self._db.row(
            "SELECT number, at, payload FROM events WHERE agent_id = ? AND kind = ? ORDER BY number DESC LIMIT 1",
            (self._agent, kind),
        )
        if row is None:
            return None
        return Event(row["number"], kind, datetime.fromisoformat(row["at"]), json.loads(row["payload"]))

    def get_cursor(self, name: str) -> Any:
        """A cursor's JSON value, or None."""
        row = self._db.row("SELECT value FROM cursors WHERE agent_id = ? AND name = ?", (self._agent, name))
        return json.loads(row[0]) if row else None

    def cursors(self, prefix: str) -> list[tuple[str, Any]]:
        """(name, value) of the cursors whose name begins with `prefix`, by name."""
        rows = self._db.rows(
            "SELECT name, value FROM cursors WHERE agent_id = ? AND substr(name, 1, ?) = ? ORDER BY name",
            (self._agent, len(prefix), prefix),
        )
        return [(r[0], json.loads(r[1])) for r in rows]

    def put_cursor(self, name: str, value: Any, at: datetime) -> None:
        """Set a cursor."""
        self._db.run(
            "INSERT INTO cursors (agent_id, name, value, at) VALUES (?,?,?,?)"
            " ON CONFLICT (agent_id, name) DO UPDATE SET value = excluded.value, at = excluded.at",
            (self._agent, name, json.dumps(value), format_time(at)),
        )

    def drop_cursors(self, prefix: str) -> None:
        """Forget the cursors whose name begins with `prefix`."""
        self._db.run(
            "DELETE FROM cursors WHERE agent_id = ? AND substr(name, 1, ?) = ?", (self._agent, len(prefix), prefix)
        )

    @staticmethod
    def _epoch(row: sqlite3.Row) -> Epoch:
        return Epoch(
            number=row["number"],
            first_message=row["first_message"],
            summary=row["summary"],
            summary_from=row["summary_from"],
            summary_to=row["summary_to"],
            blocks=tuple(Block(*b) for b in json.loads(row["blocks"])),
            started_at=datetime.fromisoformat(row["started_at"]),
            compressed=tuple(Earlier(*e) for e in json.loads(row["compressed"])),
        )
