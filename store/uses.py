"""How much records matter and when they were last used, for the companion's ranking (`agentmem.companion`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from agentmem.errors import InvalidInputError
from agentmem.store.database import Database, in_chunks, marks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TABLES = {"recall": "messages", "archival": "passages"}


class Uses:
    """The uses of one agent's records. A tier is "recall" or "archival". Writing is within the caller's transaction;
    what is said of a record that does not exist (any more) is not kept."""

    def __init__(self, db: Database, agent_id: int) -> None:
        self._db = db
        self._agent = agent_id

    def rate(self, tier: str, record_id: int, importance: int) -> None:
        """Set the importance of a record. Raises InvalidInputError unless it is a whole number from 1 to 10."""
        if type(importance) is not int or not 1 <= importance <= 10:
            raise InvalidInputError("importance", importance, "must be a whole number from 1 (mundane) to 10")
        self._put(tier, [(record_id, importance, None)])

    def unrate(self, tier: str, record_id: int) -> None:
        """Forget the importance of a record."""
        self._db.run(
            "UPDATE uses SET importance = NULL WHERE agent_id = ? AND tier = ? AND record_id = ?",
            (self._agent, tier, record_id),
        )
        self._db.run(
            "DELETE FROM uses WHERE agent_id = ? AND tier = ? AND record_id = ? AND used_utc IS NULL"
            " AND importance IS NULL",
            (self._agent, tier, record_id),
        )

    def touch(self, records: Iterable[tuple[str, int]], at: float) -> None:
        """Note that (tier, id) records were used at `at`, in UTC seconds; an earlier use than the known one changes
        nothing."""
        ids: dict[str, list[int]] = {}
        for tier, record_id in records:
            ids.setdefault(tier, []).append(record_id)
        for tier, of_tier in ids.items():
            self._put(tier, [(record_id, None, at) for record_id in of_tier])

    def of(self, tier: str, ids: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Importance (1 to 10) and last use (UTC seconds) of records, both in the order of `ids`, shape (n,); NaN where
        there is none."""
        import numpy as np

        found: dict[int, tuple[float, float]] = {}
        for chunk in in_chunks(ids):
            rows = self._db.rows(
                "SELECT record_id, importance, used_utc FROM uses WHERE agent_id = ? AND tier = ?"
                f" AND record_id IN ({marks(chunk)})",
                (self._agent, tier, *chunk),
            )
            found.update((r[0], (np.nan if r[1] is None else r[1], np.nan if r[2] is None else r[2])) for r in rows)
        both = np.array([found.get(i, (np.nan, np.nan)) for i in ids], np.float64).reshape(len(ids), 2)
        return both[:, 0], both[:, 1]

    def remove(self, tier: str, ids: Iterable[int]) -> None:
        """Forget what is known of records."""
        self._db.run_many(
            "DELETE FROM uses WHERE agent_id = ? AND tier = ? AND record_id = ?",
            [(self._agent, tier, record_id) for record_id in ids],
        )

    def all(self) -> list[tuple[str, int, int | None, float | None]]:
        """(tier, id, importance, last use) of all records of which something is known."""
        sql = "SELECT tier, record_id, importance, used_utc FROM uses WHERE agent_id = ? ORDER BY tier, record_id"
        return [(r[0], r[1], r[2], r[3]) for r in self._db.rows(sql, (self._agent,))]

    def _put(self, tier: str, rows: Sequence[tuple[int, int | None, float | None]]) -> None:
        table = _TABLES[tier]
        self._db.run_many(
            "INSERT INTO uses (agent_id, tier, record_id, importance, used_utc)"
            f" SELECT agent_id, ?, id, ?, ? FROM {table} WHERE agent_id = ? AND id = ?"
            " ON CONFLICT (agent_id, tier, record_id) DO UPDATE SET"
            " importance = coalesce(excluded.importance, importance),"
            " used_utc = max(coalesce(excluded.used_utc, used_utc), coalesce(used_utc, excluded.used_utc))",
            [(tier, importance, used, self._agent, record_id) for record_id, importance, used in rows],
        )
