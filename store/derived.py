"""What was made from texts by a model or an algorithm, and would come out the same again: a cache, by content.

The key says all that a value depends on (`agentmem.derived.derived_key`), so that none can be out of date: it is there
or not. What was used least recently goes first when an agent's quota is full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from agentmem.errors import StoreBusyError, StoreFullError, StoreReadOnlyError
from agentmem.store.database import Database
from agentmem.times import format_time

QUOTA_BYTES = 16 * 2**20
"""Of one agent: about 70,000 compressed messages, or 10,000 summaries."""
ROW_BYTES = 96
"""What a row costs beside its value, about: key, kind, time, and its entries in two indexes."""
MAX_TOUCHED = 4096
_EVICTED_AT_ONCE = 64


class Derived:
    """The cache of one agent. Values are bytes (JSON), of a `kind` and a key. Thread-safe; processes may share it.

    A read notes its use in this object alone and is written down with the next `put`, so that reading writes nothing:
    what a killed process had noted is forgotten, and costs at most a better choice of what goes.
    """

    def __init__(self, db: Database, agent_id: int, quota: int = QUOTA_BYTES) -> None:
        self._db = db
        self._agent = agent_id
        self._quota = quota
        self._touched: dict[tuple[str, bytes], None] = {}

    def get(self, kind: str, key: bytes) -> bytes | None:
        """The value, None when there is none (or it is no bytes)."""
        with self._db.lock:
            row = self._db.row(
                "SELECT value FROM derived WHERE agent_id = ? AND kind = ? AND key = ?", (self._agent, kind, key)
            )
            if row is None or not isinstance(row[0], bytes):
                return None
            self._touched.pop((kind, key), None)
            self._touched[kind, key] = None
            if len(self._touched) > MAX_TOUCHED:
                del self._touched[next(iter(self._touched))]
            return row[0]

    def put(self, kind: str, key: bytes, value: bytes, at: datetime, *, since: int | None = None) -> bool:
        """`put_all` of one value."""
        return self.put_all(kind, {key: value}, at, since=since)

    def put_all(self, kind: str, values: Mapping[bytes, bytes], at: datetime, *, since: int | None = None) -> bool:
        """Keep values by their keys, in place of those that are there, in one transaction; whether they were kept.

        They are not when one of them is larger than the quota, and when the cache was emptied after `since` (what
        `clears` said before the texts were read): what was made of an erased text must not come back.
        Within a transaction it is part of that, and its errors are the transaction's: SQLite may have undone all of it.
        Otherwise it is one of its own, and a file that can't be written now (full, busy, read-only) only means that
        the values are made again.
        """
        sizes = [ROW_BYTES + len(kind.encode()) + len(key) + len(value) for key, value in values.items()]
        if max(sizes, default=0) > self._quota:
            return False
        with self._db.lock:
            within = self._db.connection.in_transaction
            try:
                with self._db.write():
                    if since is not None and since != self.clears():
                        return False
                    number = self._use(self._touched)
                    self._touched = {}
                    for n, ((key, value), size) in enumerate(zip(values.items(), sizes, strict=True)):
                        self._keep(kind, key, value, size, number + n, format_time(at))
                    self._make_room()
            except (StoreFullError, StoreBusyError, StoreReadOnlyError):
                if within:
                    raise
                return False
        return True

    def clears(self) -> int:
        """How often the cache was emptied, by any process."""
        row = self._db.row("SELECT derived_clears FROM agents WHERE id = ?", (self._agent,))
        return int(row[0]) if row else 0

    def size(self) -> tuple[int, int]:
        """(values, bytes that count against the quota); counts them all."""
        row = self._db.row("SELECT count(*), coalesce(sum(bytes), 0) FROM derived WHERE agent_id = ?", (self._agent,))
        assert row is not None
        return int(row[0]), int(row[1])

    def clear(self) -> None:
        """Forget everything, within the caller's transaction."""
        self._touched.clear()
        self._db.run("DELETE FROM derived WHERE agent_id = ?", (self._agent,))
        self._db.run(
            "UPDATE agents SET derived_bytes = 0, derived_clears = derived_clears + 1 WHERE id = ?", (self._agent,)
        )

    def _keep(self, kind: str, key: bytes, value: bytes, size: int, number: int, at: str) -> None:
        where = (self._agent, kind, key)
        old = self._db.row("SELECT bytes FROM derived WHERE agent_id = ? AND kind = ? AND key = ?", where)
        self._db.run(
            "INSERT OR REPLACE INTO derived (agent_id, kind, key, value, bytes, used, made_at) VALUES (?,?,?,?,?,?,?)",
            (*where, value, size, number, at),
        )
        self._account(size - (int(old[0]) if old else 0))

    def _use(self, touched: Iterable[tuple[str, bytes]]) -> int:
        """Write down what was read, oldest first; the number of the next use."""
        row = self._db.row("SELECT coalesce(max(used), 0) FROM derived WHERE agent_id = ?", (self._agent,))
        assert row is not None
        first = int(row[0]) + 1
        rows = [(first + n, self._agent, kind, key) for n, (kind, key) in enumerate(touched)]
        self._db.run_many("UPDATE derived SET used = ? WHERE agent_id = ? AND kind = ? AND key = ?", rows)
        return first + len(rows)

    def _account(self, change: int) -> None:
        self._db.run("UPDATE agents SET derived_bytes = derived_bytes + ? WHERE id = ?", (change, self._agent))

    def _make_room(self) -> None:
        row = self._db.row("SELECT derived_bytes FROM agents WHERE id = ?", (self._agent,))
        assert row is not None
        over = int(row[0]) - self._quota
        while over > 0:
            oldest = self._db.rows(
                "SELECT rowid, bytes FROM derived WHERE agent_id = ? ORDER BY used LIMIT ?",
                (self._agent, _EVICTED_AT_ONCE),
            )
            going: list[tuple[int]] = []
            for number, size in oldest:
                if over <= 0:
                    break
                going.append((number,))
                over -= size
                self._account(-size)
            self._db.run_many("DELETE FROM derived WHERE rowid = ?", going)
            if not oldest:
                # The sum was wrong: somebody else took rows away.
                self._db.run("UPDATE agents SET derived_bytes = 0 WHERE id = ?", (self._agent,))
                return
