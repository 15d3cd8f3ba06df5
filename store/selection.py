"""Which records of a tier a search may return: those named, or all but those named, whichever are fewer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.store.database import Database

FIRST_LOOK = 1024
FEW = 5_000
"""So many records are looked at one by one; of more, whole ranges are compared, which is quicker."""


@dataclass(frozen=True, slots=True)
class Selection:
    """`ids`, ascending, are the records that may be found; with `excluding` they are those that may not."""

    ids: tuple[int, ...] = ()
    excluding: bool = True
    _array: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, ids: Iterable[int]) -> Selection:
        """These and no others."""
        return cls(tuple(sorted(set(ids))), excluding=False)

    @classmethod
    def without(cls, ids: Iterable[int]) -> Selection:
        """All but these."""
        return cls(tuple(sorted(set(ids))), excluding=True)

    @property
    def everything(self) -> bool:
        """True when nothing is left out."""
        return self.excluding and not self.ids

    @property
    def nothing(self) -> bool:
        """True when nothing can be found."""
        return not self.excluding and not self.ids

    def array(self) -> NDArray[np.int64]:
        """The ids, shape (n,), ascending; not to be written to."""
        import numpy as np

        if not self._array:
            self._array.append(np.array(self.ids, dtype=np.int64))
        found: NDArray[np.int64] = self._array[0]
        return found

    def keeps(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of `ids` may be found, shape of `ids`."""
        import numpy as np

        named = self.array()
        if not len(named):
            return np.full(ids.shape, self.excluding)
        at = np.minimum(np.searchsorted(named, ids), len(named) - 1)
        there: NDArray[np.bool_] = (named[at] == ids) ^ self.excluding
        return there

    def kept(self, ids: Iterable[int]) -> list[int]:
        """Those of `ids` that may be found, in their order."""
        import numpy as np

        given = list(ids)
        return [i for i, keep in zip(given, self.keeps(np.array(given, dtype=np.int64)), strict=True) if keep]

    def sql(self) -> tuple[str, list[Any]]:
        """The condition on `rowid` of a full-text table, and its parameters; "" when nothing is left out.

        The plus sign keeps SQLite from running the whole search once for each id.
        """
        if self.everything:
            return "", []
        negation = "NOT " if self.excluding else ""
        return f"+rowid {negation}IN (SELECT value FROM json_each(?))", [json.dumps(self.ids)]


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class Scan:
    """A statement that gives ids, each once, through an index that holds them, and its parameters."""

    sql: str
    parameters: tuple[Any, ...]

    def count(self, db: Database, limit: int) -> int | None:
        """How many ids it gives; None when there are more than `limit`."""
        row = db.row(f"SELECT count(*) FROM ({self.sql} LIMIT ?)", (*self.parameters, limit + 1))
        return None if row is None or row[0] > limit else int(row[0])

    def ids(self, db: Database) -> NDArray[np.int64]:
        """Its ids, shape (n,), in no order."""
        import numpy as np

        # One text of numbers is read three times as fast as a row each.
        row = db.row(f"SELECT group_concat(id) FROM ({self.sql})", self.parameters)
        found: NDArray[np.int64] = np.fromstring((row[0] if row else None) or "", dtype=np.int64, sep=",")
        return found


@dataclass(frozen=True, slots=True)
class Choice:
    """What may be found among the records of a tier (`everything`), in the shapes in which indexes give it.

    That is: what is in each of `required` and in none of `exceptions`. `ranges` save work: each has a scan of at least
    all that may be found, and those of the exceptions that it does not leave out by itself. `among` reads which ids of
    a JSON list (its first parameter, put before the others) may be found.
    """

    everything: Scan
    exceptions: Sequence[Scan]
    required: Sequence[Scan]
    ranges: Sequence[tuple[Scan, Sequence[Scan]]]
    among: Scan

    def selection(self, db: Database, size: int) -> Selection:
        """The smaller side, among `size` records at most. The sides are counted, each time a longer part of them, until
        one is through, so that the cost follows that side and not the size."""
        sides = [*((scan, self.exceptions) for scan in self.required), *self.ranges]
        limit = FIRST_LOOK
        while True:
            if not self.required and sum(self._counts(db, self.exceptions, limit)) * 2 <= size:
                return Selection.without(_union(db, self.exceptions).tolist())
            for scan, exceptions in sides:
                if scan.count(db, limit) is not None:
                    return self._held(db, size, scan, exceptions)
            limit *= 8

    @staticmethod
    def _counts(db: Database, scans: Sequence[Scan], limit: int) -> Iterator[float]:
        for scan in scans:
            count = scan.count(db, limit)
            yield float("inf") if count is None else count
            if count is None:
                return

    def _held(self, db: Database, size: int, scan: Scan, exceptions: Sequence[Scan]) -> Selection:
        import numpy as np

        ids = scan.ids(db)
        if len(ids) <= max(FEW, size // 20):
            ids = Scan(self.among.sql, (json.dumps(ids.tolist()), *self.among.parameters)).ids(db)
        else:
            ids = ids[np.isin(ids, _union(db, exceptions), invert=True)]
            for other in self.required:
                if other is not scan:
                    ids = ids[np.isin(ids, other.ids(db))]
        if 2 * len(ids) > size:
            every = self.everything.ids(db)
            if 2 * len(ids) > len(every):
                return Selection.without(every[np.isin(every, ids, invert=True)].tolist())
        return Selection.of(ids.tolist())


def _union(db: Database, scans: Sequence[Scan]) -> NDArray[np.int64]:
    import numpy as np

    return np.concatenate([np.zeros(0, dtype=np.int64), *(scan.ids(db) for scan in scans)])
