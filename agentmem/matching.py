"""How the terms of a question stand in records, their neighbours and their sessions. Pure, over arrays.

A record is a list of term numbers (`agentmem.terms`); `n` records one after the other in one array with `offsets`.
BM25 is Robertson's with the idf of Lucene (never negative), k1 = 1.2 and b = 0.75; a window is scored as one document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

K1, B = 1.2, 0.75
# An answer stands after what it answers more often than before: the share of each neighbour's words in a window.
BEFORE, AFTER = 0.6, 0.4


@dataclass(frozen=True, slots=True)
class Matches:
    """`counts[i, t]`: how often the question's term t stands in record i; `lengths` in terms; `idf` of the terms."""

    counts: NDArray[np.float64]
    lengths: NDArray[np.float64]
    idf: NDArray[np.float64]


def idf(documents: int, counts: Sequence[int]) -> NDArray[np.float64]:
    """ln(1 + (N - n + 0.5) / (n + 0.5)) for terms that `counts` of `documents` records have, shape (terms,)."""
    import numpy as np

    have = np.array(counts, np.float64)
    found: NDArray[np.float64] = np.log1p((np.maximum(documents, have) - have + 0.5) / (have + 0.5))
    return found


def count(
    offsets: NDArray[np.int64], numbers: NDArray[np.uint32], terms: Sequence[int], weights: NDArray[np.float64]
) -> Matches:
    """Count `terms` (numbers) in the records of `offsets` (n + 1,); `weights` are their idf."""
    import numpy as np

    n = len(offsets) - 1
    table = np.zeros((n, len(terms)))
    if len(terms) and len(numbers):
        wanted = np.array(terms, np.uint32)
        by_value = np.argsort(wanted, kind="stable")
        at = np.minimum(np.searchsorted(wanted[by_value], numbers), len(wanted) - 1)
        hit = np.flatnonzero(wanted[by_value][at] == numbers)
        row = np.searchsorted(offsets, hit, side="right") - 1
        np.add.at(table, (row, by_value[at[hit]]), 1.0)
    return Matches(table, np.diff(offsets).astype(np.float64), weights)


def bm25(m: Matches) -> NDArray[np.float64]:
    """BM25 of every record, shape (n,)."""
    import numpy as np

    if not m.counts.size:
        return np.zeros(len(m.lengths))
    average = max(float(m.lengths.mean()), 1e-9)
    norm = K1 * (1 - B + B * m.lengths / average)
    found: NDArray[np.float64] = (m.counts * (K1 + 1) / (m.counts + norm[:, None]) * m.idf).sum(axis=1)
    return found


def cover(m: Matches) -> NDArray[np.float64]:
    """The share of the question's terms, by idf, that stand in every record, shape (n,)."""
    import numpy as np

    total = float(m.idf.sum())
    if total <= 0:
        return np.zeros(len(m.lengths))
    found: NDArray[np.float64] = ((m.counts > 0) * m.idf).sum(axis=1) / total
    return found


def widened(
    m: Matches, before: NDArray[np.int64], after: NDArray[np.int64], shares: tuple[float, float] = (BEFORE, AFTER)
) -> Matches:
    """Every record with shares of the one before and the one after it: rows by position, -1 where there is none."""
    import numpy as np

    counts, lengths = m.counts.copy(), m.lengths.copy()
    for beside, share in zip((before, after), shares, strict=True):
        there = beside >= 0
        counts[there] += share * m.counts[beside[there]]
        lengths[there] += share * m.lengths[beside[there]]
    return Matches(counts, np.maximum(lengths, 1e-9), m.idf)


def by_session(m: Matches, sessions: NDArray[np.int64]) -> NDArray[np.float64]:
    """BM25 of each record's session as one document, of what is given of it; 0 without one (-1). Shape (n,)."""
    import numpy as np

    inside = sessions >= 0
    if not inside.any() or not m.counts.size:
        return np.zeros(len(sessions))
    number = int(sessions.max()) + 1
    counts = np.zeros((number, m.counts.shape[1]))
    np.add.at(counts, sessions[inside], m.counts[inside])
    lengths = np.bincount(sessions[inside], m.lengths[inside], minlength=number).astype(np.float64)
    scores = bm25(Matches(counts, lengths, idf(number, (counts > 0).sum(axis=0).tolist())))
    return np.where(inside, scores[np.maximum(sessions, 0)], 0.0)
