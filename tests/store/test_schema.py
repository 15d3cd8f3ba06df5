"""Migrations: each commits together with its record, a newer file is left alone, several may open a new one at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils.migrations import Migrations

from agentmem import crashpoints
from agentmem.errors import SchemaVersionError, StoreError
from agentmem.store.database import Database
from agentmem.store.schema import MIGRATIONS, migrate
from agentmem.store.sqlite import SqliteStore
from tests.crashing import crash_at
from tests.forking import Forked


def names(db: Database) -> list[str]:
    return [m.name for m in MIGRATIONS.applied(db.tables)]


def tables(path: Path) -> set[str]:
    with sqlite3.connect(path) as plain:
        found = {r[0] for r in plain.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    plain.close()
    return found


@pytest.fixture(autouse=True)
def _no_hook_stays() -> Iterator[None]:
    yield
    crashpoints.install(None)


def test_a_new_file_has_all_migrations_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "m.db")
    expected = [m.name for m in MIGRATIONS._migrations]
    assert names(store.db) == expected == sorted(expected) and len(expected) >= 2
    migrate(store.db)
    assert names(store.db) == expected
    assert store.integrity() == []
    store.close()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_crash_in_the_middle_leaves_neither_migration_nor_record(tmp_path: Path, at: int) -> None:
    path = tmp_path / "m.db"
    with crash_at("migration.before_commit", at + 1):
        SqliteStore(path)
    present = tables(path)
    if at == 0:
        assert present == set(), "nothing of the first migration may stay"
    else:
        assert "messages" in present and ("vectors" in present) == ("embeddings" in present) == (at > 1)
        assert "term_lists" not in present and "passage_tags" not in present
        db = Database(path)
        assert names(db) == ["m001_tables", "m002_vectors", "m003_archive", "m004_keys", "m005_uses"][:at]
        db.close()
    store = SqliteStore(path)
    assert names(store.db) == [m.name for m in MIGRATIONS._migrations]
    store.close()


def test_a_migration_that_fails_half_way(tmp_path: Path) -> None:
    migrations = Migrations("agentmem")

    @migrations(name="m001_good")
    def good(db: Any) -> None:
        db.conn.execute("CREATE TABLE good (n)")

    @migrations(name="m002_bad")
    def bad(db: Any) -> None:
        db.conn.execute("CREATE TABLE half (n)")
        db.conn.execute("CREATE TABLE good (n)")

    db = Database(tmp_path / "m.db")
    with pytest.raises(StoreError):
        migrate(db, migrations)
    assert [m.name for m in migrations.applied(db.tables)] == ["m001_good"]
    assert "half" not in db.tables.table_names()
    db.close()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_newer_file_is_refused_and_not_touched(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "m.db"
    SqliteStore(path).close()
    plain = sqlite3.connect(path)
    plain.execute(f"PRAGMA journal_mode = {mode}")
    plain.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('agentmem', 'm999_future', 'then')"
    )
    plain.commit()
    plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    plain.close()
    before = path.read_bytes()
    with pytest.raises(SchemaVersionError, match="m999_future") as e:
        SqliteStore(path)
    assert e.value.found == ("m999_future",) and e.value.known[-1] == MIGRATIONS._migrations[-1].name
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.db"], "nothing may be left beside it"


OPENER = """
import sys
from datetime import UTC, datetime
from agentmem.store.sqlite import SqliteStore
print("ready", flush=True)
for line in sys.stdin:
    store = SqliteStore(line.strip(), index="numpy")
    agent = store.agent("a", create=True, now=datetime(2023, 5, 8, tzinfo=UTC), notify=print)
    print("agent", agent.agent_id, flush=True)
    store.close()
"""


def test_processes_open_a_new_file_at_once(tmp_path: Path) -> None:
    workers = [Forked(OPENER) for _ in range(4)]
    try:
        for w in workers:
            assert w.stdout.readline() == "ready\n"
        for attempt in range(8):
            for w in workers:
                w.stdin.write(f"{tmp_path / str(attempt)}.db\n")
                w.stdin.flush()
            assert [w.stdout.readline() for w in workers] == ["agent 1\n"] * 4
            db = Database(tmp_path / f"{attempt}.db")
            assert names(db) == [m.name for m in MIGRATIONS._migrations]
            db.close()
    finally:
        for w in workers:
            w.communicate()
