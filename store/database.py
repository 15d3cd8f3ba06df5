"""One connection to one SQLite file: pragmas, transactions, and SQLite's errors in agentmem's words."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from sqlite_utils import Database as SqliteUtils

from agentmem.errors import CorruptStoreError, StoreBusyError, StoreError, StoreFullError, StoreReadOnlyError

BUSY_TIMEOUT_S = 10.0
# A quota or a limit of the file's size is no SQLITE_FULL to SQLite, but a write that failed.
_NO_ROOM = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)


_gates: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
_gates_lock = threading.Lock()


def _gate_of(path: str) -> threading.Lock:
    """What this process's writers of a file queue at. SQLite's own wait is a poll with growing pauses, in no order."""
    if path == ":memory:":
        return threading.Lock()
    with _gates_lock:
        return _gates.setdefault(os.path.realpath(path), threading.Lock())


def translate(error: sqlite3.Error, path: str) -> StoreError:
    """SQLite's error as one of agentmem's, by its result code and, where it has none, its text."""
    extended = getattr(error, "sqlite_errorcode", None) or 0
    code = extended & 0xFF
    text = str(error)
    if code == sqlite3.SQLITE_FULL or extended in _NO_ROOM or "disk is full" in text:
        return StoreFullError(
            f"{path}: the disk is full, or a quota is reached; nothing of this write was kept",
            hint="free space, then retry",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusyError(
            f"{path}: another process has been writing for over {BUSY_TIMEOUT_S:.0f} s",
            hint="wait for it to finish, then retry",
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StoreReadOnlyError(
            f"{path}: can't be opened for writing ({text})",
            hint="agentmem writes its file and two companions (-wal, -shm) beside it: "
            "check that the folder exists and is writable, or copy the file to one that is",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptStoreError(
            f"{path}: is damaged or no SQLite file ({text})",
            hint="restore a copy, or save what can be read: sqlite3 FILE .recover | sqlite3 NEW.db",
        )
    return StoreError(f"{path}: SQLite says: {text}", hint="agentmem verify shows the state of the file")


class Database:
    """A connection that may be shared between threads; every use holds one lock.

    `write()` is a transaction (BEGIN IMMEDIATE: it can't fail half-way for want of the lock); inside another one
    it is a savepoint. Reads outside a transaction each see the newest commit. `rollbacks` counts what was undone, for
    those who keep what they read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.lock = threading.RLock()
        self.rollbacks = 0
        self._gate = _gate_of(self.path)
        try:
            self.connection = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None
            )
            # Plugins of sqlite-utils are other people's code; a store loads none.
            self.tables = SqliteUtils(self.connection, execute_plugins=False)
            self.connection.row_factory = sqlite3.Row
            for pragma in ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
                self.connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as e:
            if hasattr(self, "connection"):
                self.connection.close()
            raise translate(e, self.path) from e

    def write_ahead(self) -> None:
        """Turn the write-ahead log on: it changes the file, so not before the file is known to be ours."""
        give_up = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                with self.lock:
                    self.connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.Error as e:
                # Where two processes turn it on at once, SQLite refuses one of them without waiting.
                error = translate(e, self.path)
                if not isinstance(error, StoreBusyError) or time.monotonic() > give_up:
                    raise error from e
                time.sleep(0.01)

    @contextmanager
    def write(self) -> Iterator[None]:
        """One transaction; rolled back whole on any exception."""
        with self.lock:
            try:
                if self.connection.in_transaction:
                    try:
                        with self.tables.atomic():
                            yield
                    except BaseException:
                        self.rollbacks += 1
                        raise
                    return
                with self._at_the_gate():
                    self.connection.execute("BEGIN IMMEDIATE")
                    try:
                        yield
                        self.connection.execute("COMMIT")
                    except BaseException:
                        self.rollbacks += 1
                        if self.connection.in_transaction:
                            self.connection.execute("ROLLBACK")
                        raise
            except sqlite3.Error as e:
                raise translate(e, self.path) from e

    @contextmanager
    def _at_the_gate(self) -> Iterator[None]:
        """One writer of the file in this process at a time; others wait without polling."""
        if not self._gate.acquire(timeout=BUSY_TIMEOUT_S):
            raise StoreBusyError(
                f"{self.path}: another process, or another agent of this one, has been writing for over"
                f" {BUSY_TIMEOUT_S:.0f} s",
                hint="wait for it to finish, then retry",
            )
        try:
            yield
        finally:
            self._gate.release()

    @contextmanager
    def read(self) -> Iterator[None]:
        """Several reads of one state of the file."""
        with self.lock:
            if self.connection.in_transaction:
                yield
                return
            try:
                self.connection.execute("BEGIN")
                try:
                    yield
                finally:
                    self.connection.execute("ROLLBACK")
            except sqlite3.Error as e:
                raise translate(e, self.path) from e

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a statement."""
        with self.lock:
            try:
                return self.connection.execute(sql, parameters).fetchall()
            except sqlite3.Error as e:
                raise translate(e, self.path) from e

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a statement, or None."""
        with self.lock:
            try:
                found: sqlite3.Row | None = self.connection.execute(sql, parameters).fetchone()
                return found
            except sqlite3.Error as e:
                raise translate(e, self.path) from e

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement; the number of rows it changed."""
        with self.lock:
            try:
                return self.connection.execute(sql, parameters).rowcount
            except sqlite3.Error as e:
                raise translate(e, self.path) from e

    def run_many(self, sql: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Run a statement for each row of parameters."""
        with self.lock:
            try:
                self.connection.executemany(sql, parameters)
            except sqlite3.Error as e:
                raise translate(e, self.path) from e

    def close(self) -> None:
        """Close the connection; may be called twice."""
        with self.lock:
            self.connection.close()


def in_chunks(values: Sequence[int], size: int = 500) -> Iterator[Sequence[int]]:
    """SQLite's variables in one statement are limited."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def marks(values: Sequence[Any]) -> str:
    """`?,?,?` for a list of values."""
    return ",".join("?" * len(values))
