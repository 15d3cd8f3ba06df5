"""The terms of every record that is searched, as numbers: ranking counts them without reading or cutting up a text.

Derived from the records, but in the same file and written in the same transaction, so that a list is there exactly
when its record is, and goes with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from agentmem.store.database import Database, in_chunks, marks
from agentmem.terms import term_numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def encoded(text: str) -> bytes:
    """The terms of a text as they are stored: uint32, little-endian, in order."""
    return term_numbers(text).astype("<u4", copy=False).tobytes()


def findings(tier: str, wrong: Sequence[int], extra: Iterable[int]) -> list[str]:
    """What a check found, in words."""
    found = []
    if wrong:
        found.append(f"{len(wrong)} records of {tier} lack their term list or have another's (first: {wrong[0]})")
    if left := sorted(extra):
        found.append(f"{len(left)} term lists of {tier} are of records that do not exist ({left[0]})")
    return found


class TermLists:
    """The term lists of one agent. A tier is "recall" or "archival"."""

    def __init__(self, db: Database, agent_id: int) -> None:
        self._db = db
        self._agent = agent_id

    def add(self, tier: str, rows: Iterable[tuple[int, str]]) -> None:
        """Store the lists of (record, text) rows, within the caller's transaction."""
        self._db.run_many(
            "INSERT INTO term_lists (agent_id, tier, record_id, terms) VALUES (?, ?, ?, ?)",
            [(self._agent, tier, record, encoded(text)) for record, text in rows],
        )

    def remove(self, tier: str, ids: Iterable[int]) -> None:
        """Delete the lists of records, within the caller's transaction."""
        self._db.run_many(
            "DELETE FROM term_lists WHERE agent_id = ? AND tier = ? AND record_id = ?",
            [(self._agent, tier, record) for record in ids],
        )

    def clear(self, tier: str) -> None:
        """Delete all lists of a tier, within the caller's transaction."""
        self._db.run("DELETE FROM term_lists WHERE agent_id = ? AND tier = ?", (self._agent, tier))

    def of(self, tier: str, ids: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
        """The lists of those of `ids` that have one: their ids ascending, shape (n,); offsets, shape (n + 1,); and all
        terms one after the other: those of record `i` are `numbers[offsets[i] : offsets[i + 1]]`, in order."""
        import numpy as np

        found: list[int] = []
        lists: list[bytes] = []
        for chunk in in_chunks(sorted(set(ids))):
            rows = self._db.rows(
                "SELECT record_id, terms FROM term_lists WHERE agent_id = ? AND tier = ?"
                f" AND record_id IN ({marks(chunk)}) ORDER BY record_id",
                (self._agent, tier, *chunk),
            )
            found += [row[0] for row in rows]
            lists += [row[1] for row in rows]
        offsets = np.zeros(len(lists) + 1, dtype=np.int64)
        np.cumsum([len(terms) // 4 for terms in lists], out=offsets[1:])
        numbers = np.frombuffer(b"".join(lists), dtype="<u4").astype(np.uint32, copy=False)
        return np.array(found, dtype=np.int64), offsets, numbers

    def ids(self, tier: str) -> set[int]:
        """The records that have a list (reads all of them)."""
        sql = "SELECT record_id FROM term_lists WHERE agent_id = ? AND tier = ?"
        return {row[0] for row in self._db.rows(sql, (self._agent, tier))}

    def differing(self, tier: str, rows: Sequence[tuple[int, str]]) -> list[int]:
        """Those of (record, text) rows whose list is missing or is not what the text gives, in order."""
        have: dict[int, bytes] = {}
        for chunk in in_chunks([record for record, _ in rows]):
            sql = "SELECT record_id, terms FROM term_lists WHERE agent_id = ? AND tier = ? AND record_id IN"
            have.update(tuple(row) for row in self._db.rows(f"{sql} ({marks(chunk)})", (self._agent, tier, *chunk)))
        return [record for record, text in rows if have.get(record) != encoded(text)]
