"""The tables, as numbered migrations. A migration and its record commit together."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlite_utils import Database as SqliteUtils
from sqlite_utils.migrations import Migrations

from agentmem.crashpoints import crash_point
from agentmem.errors import SchemaVersionError
from agentmem.store.database import Database
from agentmem.store.recall import decode_calls, lexical_text
from agentmem.store.record_words import with_keys
from agentmem.store.term_lists import encoded
from agentmem.store.tokenizer import spaced
from agentmem.types import Message

BATCH = 1000
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
MIGRATIONS = Migrations("agentmem")


@MIGRATIONS(name="m001_tables")
def m001_tables(db: SqliteUtils) -> None:
    """Everything that is true. Ids count up per agent; the counters in `agents` make sure none is used twice."""
    db.conn.execute(
        "CREATE TABLE agents (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,"
        " next_message INTEGER NOT NULL DEFAULT 1, next_passage INTEGER NOT NULL DEFAULT 1,"
        " next_vector INTEGER NOT NULL DEFAULT 1, next_event INTEGER NOT NULL DEFAULT 1,"
        " embedded_message INTEGER NOT NULL DEFAULT 0, embedded_passage INTEGER NOT NULL DEFAULT 0,"
        " generation INTEGER NOT NULL DEFAULT 0)"
    )
    db.conn.execute(
        "CREATE TABLE messages (agent_id INTEGER NOT NULL REFERENCES agents(id), id INTEGER NOT NULL,"
        " key TEXT, session TEXT, role TEXT NOT NULL, name TEXT, content TEXT NOT NULL,"
        " at TEXT NOT NULL, at_utc REAL NOT NULL, stored_at TEXT NOT NULL,"
        " tool_calls TEXT, tool_call_id TEXT, derived INTEGER NOT NULL DEFAULT 0, UNIQUE (agent_id, id))"
    )
    db.conn.execute("CREATE UNIQUE INDEX messages_key ON messages (agent_id, key) WHERE key IS NOT NULL")
    db.conn.execute("CREATE INDEX messages_at ON messages (agent_id, at_utc)")
    db.conn.execute("CREATE INDEX messages_session ON messages (agent_id, session, id)")
    db.conn.execute(
        "CREATE TABLE speakers (agent_id INTEGER NOT NULL REFERENCES agents(id), name TEXT NOT NULL,"
        " messages INTEGER NOT NULL, PRIMARY KEY (agent_id, name))"
    )
    db.conn.execute(
        "CREATE TABLE passages (agent_id INTEGER NOT NULL REFERENCES agents(id), id INTEGER NOT NULL, key TEXT,"
        " text TEXT NOT NULL, kind TEXT NOT NULL, tags TEXT NOT NULL, stored_at TEXT NOT NULL,"
        " stored_utc REAL NOT NULL, valid_from TEXT NOT NULL, valid_from_utc REAL NOT NULL, valid_to TEXT,"
        " valid_to_utc REAL, superseded_by INTEGER, UNIQUE (agent_id, id),"
        " FOREIGN KEY (agent_id, superseded_by) REFERENCES passages (agent_id, id))"
    )
    db.conn.execute("CREATE UNIQUE INDEX passages_key ON passages (agent_id, key) WHERE key IS NOT NULL")
    db.conn.execute(
        "CREATE TABLE provenance (agent_id INTEGER NOT NULL, passage_id INTEGER NOT NULL, source TEXT NOT NULL,"
        " PRIMARY KEY (agent_id, passage_id, source),"
        " FOREIGN KEY (agent_id, passage_id) REFERENCES passages (agent_id, id) ON DELETE CASCADE)"
    )
    db.conn.execute("CREATE INDEX provenance_source ON provenance (agent_id, source)")
    db.conn.execute(
        "CREATE TABLE blocks (agent_id INTEGER NOT NULL REFERENCES agents(id), label TEXT NOT NULL,"
        " value TEXT NOT NULL, max_tokens INTEGER NOT NULL, read_only INTEGER NOT NULL, version INTEGER NOT NULL,"
        " description TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (agent_id, label))"
    )
    db.conn.execute(
        "CREATE TABLE block_edits (agent_id INTEGER NOT NULL REFERENCES agents(id), label TEXT NOT NULL,"
        " version INTEGER NOT NULL, op TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,"
        " actor TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (agent_id, label, version))"
    )
    db.conn.execute(
        "CREATE TABLE epochs (agent_id INTEGER NOT NULL REFERENCES agents(id), number INTEGER NOT NULL,"
        " first_message INTEGER NOT NULL, summary TEXT NOT NULL, summary_from INTEGER NOT NULL,"
        " summary_to INTEGER NOT NULL, blocks TEXT NOT NULL, started_at TEXT NOT NULL, reason TEXT NOT NULL,"
        " PRIMARY KEY (agent_id, number))"
    )
    db.conn.execute(
        "CREATE TABLE events (agent_id INTEGER NOT NULL REFERENCES agents(id), number INTEGER NOT NULL,"
        " kind TEXT NOT NULL, at TEXT NOT NULL, payload TEXT NOT NULL, PRIMARY KEY (agent_id, number))"
    )
    db.conn.execute("CREATE INDEX events_kind ON events (agent_id, kind, number)")
    db.conn.execute(
        "CREATE TABLE cursors (agent_id INTEGER NOT NULL REFERENCES agents(id), name TEXT NOT NULL,"
        " value TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (agent_id, name))"
    )


@MIGRATIONS(name="m002_vectors")
def m002_vectors(db: SqliteUtils) -> None:
    """Vectors by the hash of their text (nothing is embedded twice), and which record each belongs to."""
    db.conn.execute(
        "CREATE TABLE embedders (id INTEGER PRIMARY KEY, model_id TEXT NOT NULL, spec TEXT NOT NULL,"
        " dim INTEGER NOT NULL, probe BLOB NOT NULL, created_at TEXT NOT NULL, active INTEGER NOT NULL)"
    )
    db.conn.execute(
        "CREATE TABLE embeddings (embedder_id INTEGER NOT NULL REFERENCES embedders(id), hash BLOB NOT NULL,"
        " vector BLOB NOT NULL, PRIMARY KEY (embedder_id, hash))"
    )
    db.conn.execute(
        "CREATE TABLE vectors (agent_id INTEGER NOT NULL REFERENCES agents(id), id INTEGER NOT NULL,"
        " tier TEXT NOT NULL, record_id INTEGER NOT NULL, part INTEGER NOT NULL, embedder_id INTEGER NOT NULL,"
        " hash BLOB NOT NULL, PRIMARY KEY (agent_id, id),"
        " FOREIGN KEY (embedder_id, hash) REFERENCES embeddings (embedder_id, hash))"
    )
    db.conn.execute("CREATE INDEX vectors_record ON vectors (agent_id, tier, record_id)")
    db.conn.execute("CREATE INDEX vectors_hash ON vectors (embedder_id, hash)")
    db.conn.execute(
        "CREATE TABLE tombstones (agent_id INTEGER NOT NULL REFERENCES agents(id), vector_id INTEGER NOT NULL,"
        " generation INTEGER NOT NULL, PRIMARY KEY (agent_id, vector_id))"
    )
    db.conn.execute("CREATE INDEX tombstones_generation ON tombstones (agent_id, generation)")


@MIGRATIONS(name="m003_archive")
def m003_archive(db: SqliteUtils) -> None:
    """What the search of a large archive stands on: term lists, tags by name, and indexes for its filters."""
    db.conn.execute(
        "CREATE TABLE term_lists (agent_id INTEGER NOT NULL REFERENCES agents(id), tier TEXT NOT NULL,"
        " record_id INTEGER NOT NULL, terms BLOB NOT NULL, PRIMARY KEY (agent_id, tier, record_id)) WITHOUT ROWID"
    )
    db.conn.execute(
        "CREATE TABLE passage_tags (agent_id INTEGER NOT NULL REFERENCES agents(id), tag TEXT NOT NULL,"
        " passage_id INTEGER NOT NULL, PRIMARY KEY (agent_id, tag, passage_id)) WITHOUT ROWID"
    )
    # Each has the id, so that the table is not read. Most passages have no end: the index is of those that have.
    db.conn.execute(
        "CREATE INDEX passages_ends ON passages (agent_id, valid_to_utc, id) WHERE valid_to_utc IS NOT NULL"
    )
    db.conn.execute("CREATE INDEX passages_begins ON passages (agent_id, valid_from_utc, id)")
    db.conn.execute("CREATE INDEX passages_stored ON passages (agent_id, stored_utc, id)")
    db.conn.execute(
        "CREATE INDEX passages_superseded ON passages (agent_id, superseded_by) WHERE superseded_by IS NOT NULL"
    )
    db.conn.execute("DROP INDEX messages_at")
    db.conn.execute("CREATE INDEX messages_time ON messages (agent_id, at_utc, id)")
    db.conn.execute("CREATE INDEX messages_name ON messages (agent_id, name, id) WHERE name IS NOT NULL")
    fill_derived(db.conn)


@MIGRATIONS(name="m004_keys")
def m004_keys(db: SqliteUtils) -> None:
    """A record is found by more keys than before: which vectors are whose is made anew when it is next searched. The
    embeddings stay, by the hash of their text: no text that has one is embedded again."""
    db.conn.execute("UPDATE agents SET generation = generation + 1, embedded_message = 0, embedded_passage = 0")
    db.conn.execute(
        "INSERT INTO tombstones (agent_id, vector_id, generation) SELECT v.agent_id, v.id, a.generation"
        " FROM vectors v JOIN agents a ON a.id = v.agent_id"
    )
    db.conn.execute("DELETE FROM vectors")


@MIGRATIONS(name="m005_uses")
def m005_uses(db: SqliteUtils) -> None:
    """How much a record matters and when it was last used, where something is known of it."""
    db.conn.execute(
        "CREATE TABLE uses (agent_id INTEGER NOT NULL REFERENCES agents(id), tier TEXT NOT NULL,"
        " record_id INTEGER NOT NULL, importance INTEGER CHECK (importance BETWEEN 1 AND 10), used_utc REAL,"
        " PRIMARY KEY (agent_id, tier, record_id)) WITHOUT ROWID"
    )


@MIGRATIONS(name="m006_compression")
def m006_compression(db: SqliteUtils) -> None:
    """What of the history stands compressed in an epoch's prompt, and the caches: what was derived from texts (by
    content, least recently used first out), and answers (by the version of the memory)."""
    db.conn.execute("ALTER TABLE epochs ADD COLUMN compressed TEXT NOT NULL DEFAULT '[]'")
    db.conn.execute("ALTER TABLE agents ADD COLUMN derived_bytes INTEGER NOT NULL DEFAULT 0")
    db.conn.execute("ALTER TABLE agents ADD COLUMN derived_clears INTEGER NOT NULL DEFAULT 0")
    db.conn.execute(
        "CREATE TABLE derived (agent_id INTEGER NOT NULL REFERENCES agents(id), kind TEXT NOT NULL, key BLOB NOT NULL,"
        " value BLOB NOT NULL, bytes INTEGER NOT NULL, used INTEGER NOT NULL, made_at TEXT NOT NULL,"
        " PRIMARY KEY (agent_id, kind, key))"
    )
    db.conn.execute("CREATE INDEX derived_used ON derived (agent_id, used)")
    db.conn.execute(
        "CREATE TABLE answers (id INTEGER PRIMARY KEY, agent_id INTEGER NOT NULL REFERENCES agents(id),"
        " category TEXT NOT NULL, version BLOB NOT NULL, scope BLOB NOT NULL, question BLOB NOT NULL, vector BLOB,"
        " reply BLOB NOT NULL, kept_utc REAL NOT NULL, UNIQUE (agent_id, category, scope, question))"
    )
    # With the row's id, as every index: it finds the oldest of a version too.
    db.conn.execute("CREATE INDEX answers_version ON answers (agent_id, category, version)")


@MIGRATIONS(name="m007_reflection")
def m007_reflection(db: SqliteUtils) -> None:
    """Reflection jobs, their changes, the answers of an unfinished one, and further keys of records."""
    agent = "agent_id INTEGER NOT NULL REFERENCES agents(id)"
    db.conn.execute(
        f"CREATE TABLE jobs ({agent}, id INTEGER NOT NULL, started_at TEXT NOT NULL, ended_at TEXT,"
        " state TEXT NOT NULL, strategies TEXT NOT NULL, backend TEXT NOT NULL, report TEXT NOT NULL,"
        " PRIMARY KEY (agent_id, id))"
    )
    db.conn.execute(
        f"CREATE TABLE job_changes ({agent}, job_id INTEGER NOT NULL, number INTEGER NOT NULL, strategy TEXT NOT NULL,"
        " change TEXT NOT NULL, fate TEXT NOT NULL, reason TEXT NOT NULL, made TEXT, before TEXT NOT NULL,"
        " PRIMARY KEY (agent_id, job_id, number), FOREIGN KEY (agent_id, job_id) REFERENCES jobs (agent_id, id))"
    )
    db.conn.execute(
        f"CREATE TABLE job_answers ({agent}, key BLOB NOT NULL, answer TEXT NOT NULL, PRIMARY KEY (agent_id, key))"
        " WITHOUT ROWID"
    )
    db.conn.execute(
        f"CREATE TABLE record_keys ({agent}, tier TEXT NOT NULL, record_id INTEGER NOT NULL, number INTEGER NOT NULL,"
        " text TEXT NOT NULL, PRIMARY KEY (agent_id, tier, record_id, number)) WITHOUT ROWID"
    )


@MIGRATIONS(name="m008_key_words")
def m008_key_words(db: SqliteUtils) -> None:
    """The words of further keys count among those of their records."""
    for agent, tier, record in db.conn.execute(
        "SELECT DISTINCT agent_id, tier, record_id FROM record_keys ORDER BY agent_id, tier, record_id"
    ).fetchall():
        of_record = (agent, tier, record)
        of_keys = " FROM record_keys WHERE agent_id = ? AND tier = ? AND record_id = ?"
        keys = [r[0] for r in db.conn.execute(f"SELECT text{of_keys} ORDER BY number", of_record)]
        found = _text_of(db.conn, agent, tier, record)
        if found is None:
            # No record that is searched: nobody could find it, and nothing would take the keys away.
            db.conn.execute(f"DELETE{of_keys}", of_record)
            continue
        text, said = found
        table = f"fts_{'messages' if tier == 'recall' else 'passages'}_{agent}"
        db.conn.execute(f"INSERT INTO {table} ({table}, rowid, text) VALUES ('delete', ?, ?)", (record, spaced(text)))
        db.conn.execute(f"INSERT INTO {table} (rowid, text) VALUES (?, ?)", (record, spaced(with_keys(keys, text))))
        db.conn.execute(
            "UPDATE term_lists SET terms = ? WHERE agent_id = ? AND tier = ? AND record_id = ?",
            (encoded(with_keys(keys, said)), *of_record),
        )


def _text_of(connection: sqlite3.Connection, agent: int, tier: str, record: int) -> tuple[str, str] | None:
    """What the full-text index and what the term list has of a record without keys; None of one not searched."""
    if tier == "archival":
        sql = "SELECT text FROM passages WHERE agent_id = ? AND id = ?"
        row = connection.execute(sql, (agent, record)).fetchone()
        return (row[0], row[0]) if row else None
    sql = "SELECT id, role, content, tool_calls, derived, name FROM messages WHERE agent_id = ? AND id = ?"
    row = connection.execute(sql, (agent, record)).fetchone()
    message = _spoken(row, row[5]) if row else None
    return (lexical_text(message), message.said) if message is not None and message.searchable else None


def _spoken(row: Any, name: str | None = None) -> Message:
    """A message of (id, role, content, tool calls, derived, ...)."""
    return Message(
        row[0], row[1], row[2], _NO_TIME, _NO_TIME, name=name, tool_calls=decode_calls(row[3]), derived=bool(row[4])
    )


def fill_derived(connection: sqlite3.Connection) -> None:
    """Term lists and tags of the records that the file has already, a batch at a time."""
    for (agent,) in connection.execute("SELECT id FROM agents").fetchall():
        for rows in _batches(connection, "SELECT id, role, content, tool_calls, derived FROM messages", agent):
            lists = [(agent, "recall", m.id, encoded(m.said)) for m in map(_spoken, rows) if m.searchable]
            connection.executemany("INSERT INTO term_lists VALUES (?, ?, ?, ?)", lists)
        for rows in _batches(connection, "SELECT id, text, tags FROM passages", agent):
            lists = [(agent, "archival", r[0], encoded(r[1])) for r in rows]
            connection.executemany("INSERT INTO term_lists VALUES (?, ?, ?, ?)", lists)
            tags = [(agent, tag, r[0]) for r in rows for tag in dict.fromkeys(json.loads(r[2]))]
            connection.executemany("INSERT INTO passage_tags VALUES (?, ?, ?)", tags)


def _batches(connection: sqlite3.Connection, select: str, agent: int) -> Iterator[list[Any]]:
    last = 0
    sql = f"{select} WHERE agent_id = ? AND id > ? ORDER BY id LIMIT {BATCH}"
    while rows := connection.execute(sql, (agent, last)).fetchall():
        yield rows
        last = rows[-1][0]


def migrate(db: Database, migrations: Migrations = MIGRATIONS) -> None:
    """Bring the file up to date, one committed migration at a time. Raises SchemaVersionError for a newer file."""
    known = [m.name for m in migrations._migrations]
    with db.lock:
        with db.read():
            found = [m.name for m in migrations.applied(db.tables)]
        if unknown := [name for name in found if name not in known]:
            raise SchemaVersionError(db.path, unknown, known)
        db.write_ahead()
        for name in known:
            if name in found:
                continue
            with db.write():
                # Looked at again under the write lock: another process may have been quicker.
                pending = [m.name for m in migrations.pending(db.tables)]
                if name in pending:
                    later = known[known.index(name) + 1 :]
                    migrations.apply(db.tables, stop_before=later)
                crash_point("migration.before_commit")
            crash_point("migration.after_commit")
