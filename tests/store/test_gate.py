"""Writers of one file in one process queue at a gate: SQLite's own wait is a poll, in no order."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import agentmem.store.database as module
from agentmem.errors import StoreBusyError
from agentmem.store.database import Database


def test_writers_of_one_file_queue_and_others_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, other = (Database(tmp_path / n) for n in ("m.db", "m.db", "o.db"))
    one.run("CREATE TABLE t (n)")
    with one.write():
        one.run("INSERT INTO t VALUES (1)")
        with other.write():
            other.run("CREATE TABLE t (n)")
        monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.05)
        with pytest.raises(StoreBusyError, match="another agent of this one"), two.write():
            raise AssertionError("two writers at once")
    with pytest.raises(KeyError), two.write():
        raise KeyError
    with one.write():
        one.run("INSERT INTO t VALUES (2)")
    assert [tuple(r) for r in [two.row("SELECT count(*) FROM t")] if r] == [(2,)]
    for database in (one, two, other):
        database.close()


def test_many_threads_write_through_files_of_their_own_objects(tmp_path: Path) -> None:
    databases = [Database(tmp_path / "m.db") for _ in range(8)]
    databases[0].run("CREATE TABLE t (n)")

    def work(n: int) -> None:
        for k in range(20):
            with databases[n].write():
                databases[n].run("INSERT INTO t VALUES (?)", (100 * n + k,))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [tuple(r) for r in [databases[0].row("SELECT count(DISTINCT n) FROM t")] if r] == [(160,)]
    for database in databases:
        database.close()
