"""Further keys of records: texts under which a record is found beside its own (fact-augmented keys, LongMemEval).

The record's value stays as it is. A key's number counts from 0; the indexer gives each a vector of the record, and its
words count among the record's (`agentmem.store.record_words`, which alone writes here: the two must agree).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agentmem.store.database import Database, in_chunks, marks


class RecordKeys:
    """The further keys of one agent's records. A tier is "recall" or "archival". Writes are within the caller's
    transaction."""

    def __init__(self, db: Database, agent_id: int) -> None:
        self._db = db
        self._agent = agent_id

    def of(self, tier: str, ids: Sequence[int]) -> Mapping[int, tuple[str, ...]]:
        """The keys of those records that have any, in their order."""
        found: dict[int, tuple[str, ...]] = {}
        for chunk in in_chunks(ids):
            rows = self._db.rows(
                f"SELECT record_id, text FROM record_keys WHERE agent_id = ? AND tier = ? AND record_id IN"
                f" ({marks(chunk)}) ORDER BY record_id, number",
                (self._agent, tier, *chunk),
            )
            for record, text in rows:
                found[record] = (*found.get(record, ()), text)
        return found

    def put(self, tier: str, record_id: int, keys: Sequence[str]) -> None:
        """Let a record have exactly these keys."""
        self.remove(tier, [record_id])
        self._db.run_many(
            "INSERT INTO record_keys (agent_id, tier, record_id, number, text) VALUES (?,?,?,?,?)",
            [(self._agent, tier, record_id, n, text) for n, text in enumerate(keys)],
        )

    def remove(self, tier: str, ids: Iterable[int]) -> None:
        """Forget the keys of records."""
        self._db.run_many(
            "DELETE FROM record_keys WHERE agent_id = ? AND tier = ? AND record_id = ?",
            [(self._agent, tier, record_id) for record_id in ids],
        )

    def without_vector(
        self, tier: str, first_part: int, upto: int, after: int = 0, most: int = 1000
    ) -> list[tuple[int, int, str]]:
        """(record id, part, text) of keys that have no vector, of records with ids in (after, upto], by id and part, at
        most `most`; the part of a key is `first_part` + its number. Looks at every key on the way: for when some are
        known to be due."""
        rows = self._db.rows(
            "SELECT k.record_id, k.number + ?, k.text FROM record_keys k WHERE k.agent_id = ? AND k.tier = ?"
            " AND k.record_id > ? AND k.record_id <= ? AND NOT EXISTS (SELECT 1 FROM vectors v WHERE"
            " v.agent_id = k.agent_id AND v.tier = k.tier AND v.record_id = k.record_id AND v.part = k.number + ?)"
            " ORDER BY k.record_id, k.number LIMIT ?",
            (first_part, self._agent, tier, after, upto, first_part, most),
        )
        return [(r[0], r[1], r[2]) for r in rows]

    def all(self) -> list[tuple[str, int, tuple[str, ...]]]:
        """(tier, id, keys) of all records that have any."""
        found: dict[tuple[str, int], tuple[str, ...]] = {}
        sql = "SELECT tier, record_id, text FROM record_keys WHERE agent_id = ? ORDER BY tier, record_id, number"
        for tier, record, text in self._db.rows(sql, (self._agent,)):
            found[tier, record] = (*found.get((tier, record), ()), text)
        return [(tier, record, keys) for (tier, record), keys in found.items()]
