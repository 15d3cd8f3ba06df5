"""The connection: transactions that are whole or not at all, and SQLite's errors in agentmem's words."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentmem.errors import (
    CorruptStoreError,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    UnknownNameError,
)
from agentmem.store import database
from agentmem.store.database import Database, in_chunks
from agentmem.store.sqlite import SqliteStore
from tests.forking import Forked


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "x.db")
    made.write_ahead()
    made.run("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)")
    yield made
    made.close()


def numbers(db: Database) -> list[int]:
    return [r[0] for r in db.rows("SELECT n FROM t ORDER BY n")]


def test_a_transaction_is_whole_or_not_at_all(db: Database) -> None:
    with db.write():
        db.run("INSERT INTO t (n) VALUES (1)")
    with pytest.raises(KeyError), db.write():
        db.run("INSERT INTO t (n) VALUES (2)")
        raise KeyError
    assert numbers(db) == [1]


def test_an_inner_transaction_fails_alone(db: Database) -> None:
    with db.write():
        db.run("INSERT INTO t (n) VALUES (1)")
        with pytest.raises(KeyError), db.write():
            db.run("INSERT INTO t (n) VALUES (2)")
            raise KeyError
        with db.write():
            db.run("INSERT INTO t (n) VALUES (3)")
    assert numbers(db) == [1, 3]
    with pytest.raises(KeyError), db.write():
        with db.write():
            db.run("INSERT INTO t (n) VALUES (4)")
        raise KeyError
    assert numbers(db) == [1, 3]


def test_after_an_error_the_connection_goes_on(db: Database) -> None:
    with pytest.raises(StoreError), db.write():
        db.run("INSERT INTO t (n) VALUES (1)")
        db.run("INSERT INTO t (n) VALUES (1)")
    with db.write():
        db.run("INSERT INTO t (n) VALUES (5)")
    assert numbers(db) == [5]


def test_reads_of_one_state(db: Database, tmp_path: Path) -> None:
    other = Database(tmp_path / "x.db")
    with db.read():
        assert numbers(db) == []
        other.run("INSERT INTO t (n) VALUES (1)")
        assert numbers(db) == [], "a read transaction sees one state"
    assert numbers(db) == [1]
    other.close()


def test_threads_share_a_connection(db: Database) -> None:
    def insert(start: int) -> None:
        for n in range(start, start + 25):
            with db.write():
                db.run("INSERT INTO t (n) VALUES (?)", (n,))

    threads = [threading.Thread(target=insert, args=(100 * t,)) for t in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(numbers(db)) == 100


def test_the_pragmas_hold(db: Database) -> None:
    found = {p: db.rows(f"PRAGMA {p}")[0][0] for p in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")}
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}


def test_in_chunks() -> None:
    assert [list(c) for c in in_chunks(list(range(5)), 2)] == [[0, 1], [2, 3], [4]]
    assert list(in_chunks([])) == []


# -- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [False, True])
def test_a_full_disk(db: Database, inner: bool) -> None:
    db.run("INSERT INTO t (n, text) VALUES (1, 'kept')")
    pages = db.rows("PRAGMA page_count")[0][0]
    db.rows(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(StoreFullError, match="the disk is full") as e, db.write():
        if inner:
            with db.write():
                db.run("INSERT INTO t (n, text) VALUES (2, ?)", ("x" * 100_000,))
        else:
            db.run("INSERT INTO t (n, text) VALUES (2, ?)", ("x" * 100_000,))
    assert "free space" in e.value.hint
    assert numbers(db) == [1]
    db.rows(f"PRAGMA max_page_count = {pages + 1000}")
    with db.write():
        db.run("INSERT INTO t (n, text) VALUES (2, ?)", ("x" * 100_000,))
    assert numbers(db) == [1, 2]


FILE_LIMIT = """
import resource, sys
from datetime import UTC, datetime
from agentmem.errors import StoreError, StoreFullError
from agentmem.store.sqlite import SqliteStore
from agentmem.types import Draft
now = datetime(2023, 5, 8, tzinfo=UTC)
store = SqliteStore(sys.argv[1], index="numpy")
agent = store.agent("a", create=True, now=now, notify=print)
def put(text):
    with store.write():
        agent.recall.append([Draft("user", text)], now)
put("kept")
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
try:
    put("x" * 1_000_000)
except StoreFullError as e:
    print("full:", e.message)
assert [m.content for m in agent.recall.since(1)] == ["kept"]
put("after")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
put("y" * 1_000_000)
assert [len(m.content) for m in agent.recall.since(1)] == [4, 5, 1_000_000]
assert store.integrity() == []
print("done")
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    out, err = Forked(FILE_LIMIT, tmp_path / "m.db").communicate()
    assert out.splitlines()[-1:] == ["done"], err
    assert out.startswith("full:")


def test_locked_by_another(db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    other = Database(tmp_path / "x.db")
    with db.write(), pytest.raises(StoreBusyError, match="another process") as e, other.write():
        raise AssertionError("the lock was given twice")
    assert "retry" in e.value.hint
    with other.write():
        other.run("INSERT INTO t (n) VALUES (1)")
    assert numbers(db) == [1]
    other.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    for name, data in {"text": b"hello " * 500, "nearly": b"SQLite format 3\0" + b"\xff" * 5000}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CorruptStoreError, match="damaged or no SQLite file"):
            SqliteStore(tmp_path / name)
        assert (tmp_path / name).read_bytes() == data


def filled(path: Path) -> None:
    from datetime import UTC, datetime

    from agentmem.types import Draft

    store = SqliteStore(path, index="numpy")
    agent = store.agent("a", create=True, now=datetime(2023, 5, 8, tzinfo=UTC), notify=lambda k, p: None)
    with store.write():
        agent.recall.append([Draft("user", f"message {n} " * 50) for n in range(200)], datetime(2023, 5, 8, tzinfo=UTC))
    store.close()


@pytest.mark.parametrize("page", [0, 1, 2, 3, 5, 8, 13, 30, 60])
def test_a_damaged_page_is_an_error_of_ours(tmp_path: Path, page: int) -> None:
    from datetime import UTC, datetime

    path = tmp_path / "m.db"
    filled(path)
    data = bytearray(path.read_bytes())
    start = page * 4096 + (100 if page == 0 else 0)
    data[start : start + 900] = b"\xa5" * 900
    path.write_bytes(data)
    problems: list[str] = []
    try:
        store = SqliteStore(path, index="numpy")
    except CorruptStoreError as e:
        problems.append(str(e))
    else:
        try:
            now = datetime(2023, 5, 8, tzinfo=UTC)
            agent = store.agent("a", create=True, now=now, notify=lambda k, p: None)
            agent.recall.since(1)
            agent.recall.lexical.search(["message"], top_k=5)
            problems += store.integrity()
        except StoreError as e:
            problems.append(str(e))
        store.close()
    assert problems, "the damage was not noticed"


def test_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "m.db", tmp_path / "missing" / "m.db", tmp_path):
        with pytest.raises(StoreReadOnlyError) as e:
            SqliteStore(path)
        assert e.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with pytest.raises(UnknownNameError):
        SqliteStore(tmp_path / "new.db", create=False)


def test_a_file_opened_read_only(tmp_path: Path) -> None:
    # Root may write anywhere; SQLite's own read-only mode gives the same result code.
    path = tmp_path / "x.db"
    Database(path).close()
    plain = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as e:
        plain.execute("CREATE TABLE t (n)")
    plain.close()
    translated = database.translate(e.value, str(path))
    assert type(translated) is StoreReadOnlyError
    assert "-wal" in translated.hint


def test_an_error_without_a_code_is_still_a_store_error() -> None:
    found = database.translate(sqlite3.ProgrammingError("Cannot operate on a closed database."), "x.db")
    assert type(found) is StoreError and "closed database" in found.message
    assert type(database.translate(sqlite3.OperationalError("database or disk is full"), "x")) is StoreFullError


def test_close_twice(tmp_path: Path) -> None:
    db = Database(tmp_path / "x.db")
    db.close()
    db.close()
    with pytest.raises(StoreError):
        db.rows("SELECT 1")
    with pytest.raises(StoreError), db.write():
        pass
