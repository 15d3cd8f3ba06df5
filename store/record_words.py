"""The words under which the records of one tier are found: its full-text index and its term lists.

A record's further keys and its text are one document (the key is "value and fact": LongMemEval, arXiv 2410.10813,
section 5.3); without keys it is its text alone. What is shown of a record is its text, whatever found it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from agentmem.store.database import Database
from agentmem.store.lexical import Lexical
from agentmem.store.record_keys import RecordKeys
from agentmem.store.term_lists import TermLists, findings

Row = tuple[int, str, str]
"""A record's id, its text for the full-text index (with who speaks), and for its term list (what was said)."""


def with_keys(keys: Sequence[str], text: str) -> str:
    """A record's text as it is indexed. The keys come first: of a book the list has the beginning alone."""
    return "\n".join((*keys, text))


class RecordWords:
    """The words of one agent's records of a tier ("recall" or "archival"). Writes are within the caller's transaction.

    The full-text index holds no text: what is taken out of it must be what was put in. So a record's keys change here
    alone (`set_keys`), and go with it (`remove`).
    """

    def __init__(self, db: Database, agent_id: int, tier: str, table: str) -> None:
        self._tier = tier
        self._keys = RecordKeys(db, agent_id)
        self.terms = TermLists(db, agent_id)
        self.lexical = Lexical(db, table, partial(self.terms.of, tier))

    def add(self, rows: Sequence[Row]) -> None:
        """Index records."""
        found = self._with_keys(rows)
        self.lexical.add([(i, text) for i, text, _ in found])
        self.terms.add(self._tier, [(i, said) for i, _, said in found])

    def remove(self, rows: Sequence[Row]) -> None:
        """Take records out, with their keys."""
        self._take_out(rows)
        self._keys.remove(self._tier, [i for i, _, _ in rows])

    def set_keys(self, row: Row, keys: Sequence[str]) -> None:
        """Let a record that is indexed have exactly these further keys."""
        self._take_out([row])
        self._keys.put(self._tier, row[0], keys)
        self.add([row])
        self.lexical.forget_counts()

    def clear(self) -> None:
        """Forget all words, for a reindexing; the keys stay."""
        self.lexical.drop()
        self.lexical.create()
        self.terms.clear(self._tier)

    def differing(self, rows: Sequence[Row]) -> list[int]:
        """The ids of those records whose term list is missing or another."""
        return self.terms.differing(self._tier, [(i, said) for i, _, said in self._with_keys(rows)])

    def findings(self, wrong: Sequence[int], wanted: set[int]) -> list[str]:
        """What a check found, in words: `differing` records, and lists beside those of `wanted`."""
        return findings(self._tier, wrong, self.terms.ids(self._tier) - wanted)

    def _take_out(self, rows: Sequence[Row]) -> None:
        self.lexical.remove([(i, text) for i, text, _ in self._with_keys(rows)])
        self.terms.remove(self._tier, [i for i, _, _ in rows])

    def _with_keys(self, rows: Sequence[Row]) -> list[Row]:
        keys = self._keys.of(self._tier, [i for i, _, _ in rows])
        return [(i, with_keys(keys.get(i, ()), text), with_keys(keys.get(i, ()), said)) for i, text, said in rows]
