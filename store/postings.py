"""The arithmetic of a search over postings that are too many to be scored one by one.

BM25 as SQLite's FTS5 computes it (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond",
2009): k1 = 1.2, b = 0.75, an inverse document frequency that never falls below 1e-6. Pure; arrays in, arrays out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

K1, B = 1.2, 0.75
LEAST_IDF = 1e-6
TERM_BITS = 12
"""Beside an id of 51 bits; a question has no more than 256 terms."""


def idf(documents: int, count: int) -> float:
    """The weight of a term that `count` of `documents` have."""
    return max(LEAST_IDF, math.log((max(documents, count) - count + 0.5) / (count + 0.5)))


def most_shared(postings: Sequence[NDArray[np.int64]], weights: Sequence[float], most: int) -> NDArray[np.int64]:
    """The `most` ids with the greatest sum of weights of the postings (each ids without repetition) that have them,
    ascending, shape (n,). Of equal ones the higher ids: the newer records."""
    import numpy as np

    if not postings:
        return np.zeros(0, dtype=np.int64)
    # One sort of id and term together: many times quicker than a table of the ids.
    keys = np.sort(np.concatenate([ids << TERM_BITS | n for n, ids in enumerate(postings)]))
    ids = keys >> TERM_BITS
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    sums = np.add.reduceat(np.asarray(weights)[keys & (1 << TERM_BITS) - 1], starts) if len(starts) else starts
    ids = ids[starts]
    if len(ids) <= most:
        return ids
    # Sums of the same weights in another order differ in their last bits: ties are ties all the same.
    order = np.lexsort((ids, np.round(sums, 6)))
    return np.sort(ids[order[-most:]])


def frequencies(offsets: NDArray[np.int64], numbers: NDArray[np.uint32], parts: Sequence[int]) -> NDArray[np.float64]:
    """How often a term stands in each list, shape (lists,); a term of several parts as often as its rarest part."""
    import numpy as np

    if not parts:
        return np.zeros(len(offsets) - 1)
    found = []
    for part in parts:
        before = np.concatenate(([0], np.cumsum(numbers == np.uint32(part))))
        found.append(before[offsets[1:]] - before[offsets[:-1]])
    least: NDArray[np.float64] = np.min(found, axis=0).astype(np.float64)
    return least


def bm25(counts: NDArray[np.float64], lengths: NDArray[np.int64], weight: float, average: float) -> NDArray[np.float64]:
    """What a term of `weight` adds to each record that has it `counts` times, shape of `counts`."""
    norm = K1 * (1 - B + B * lengths / max(average, 1e-9))
    scores: NDArray[np.float64] = weight * counts * (K1 + 1) / (counts + norm)
    return scores
