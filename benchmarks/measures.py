"""What a ranking or a page-in is worth against annotated evidence, and how sure a mean over questions is.

The measures are those of the usual scorers: *all@k* and *any@k* (all, or any, of a question's evidence in the top k),
MRR (of the first piece of evidence) and NDCG@10 (each piece is worth the same). Intervals are percentile bootstrap over
questions (Efron and Tibshirani 1993, chapter 13); differences resample the same questions for both systems.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEPTH = 50
"""How far down a ranking is looked at; beyond it evidence counts as not found."""


def ranked(keys: Sequence[str], evidence: Sequence[str], top_ks: Sequence[int]) -> dict[str, float]:
    """all@k, any@k, MRR and NDCG@10 of a ranking of keys, best first; each in [0, 1]. `evidence` must not be empty."""
    rank: dict[str, int] = {}
    for n, key in enumerate(keys[:DEPTH], 1):
        rank.setdefault(key, n)
    ranks = [rank.get(e, DEPTH + 1) for e in dict.fromkeys(evidence)]
    found: dict[str, float] = {}
    for k in top_ks:
        found[f"all@{k}"] = float(max(ranks) <= k)
        found[f"any@{k}"] = float(min(ranks) <= k)
    found["MRR"] = 1 / min(ranks) if min(ranks) <= DEPTH else 0.0
    ideal = sum(1 / math.log2(n + 1) for n in range(1, min(len(ranks), 10) + 1))
    found["NDCG@10"] = sum(1 / math.log2(r + 1) for r in ranks if r <= 10) / ideal
    return found


def inside(keys: Sequence[str], evidence: Sequence[str]) -> float:
    """1.0 when all evidence is among the keys that stand whole in a page-in or prompt, else 0.0."""
    return float(set(evidence) <= set(keys))


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of `count` questions with its 95 % interval; in per cent where the values were shares."""

    mean: float
    low: float
    high: float
    count: int

    def shown(self, sign: str = "") -> str:
        """`70.1 [67.0, 73.1]`."""
        return f"{self.mean:{sign}.1f} [{self.low:{sign}.1f}, {self.high:{sign}.1f}]"

    def plain(self) -> dict[str, float]:
        """For JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.count}


class Bootstrap:
    """Resamples of `count` questions, the same for every measure and system that is asked about."""

    def __init__(self, count: int, *, draws: int, seed: int) -> None:
        import numpy as np

        self.count = count
        rng = np.random.default_rng(seed)
        self._weights: NDArray[np.float64] = rng.multinomial(count, [1 / count] * count, size=draws) / count

    def mean(self, values: Sequence[float]) -> Mean:
        """Of values in [0, 1] (or differences of such), times a hundred."""
        import numpy as np

        row = 100 * np.asarray(values, np.float64)
        low, high = np.quantile(self._weights @ row, (0.025, 0.975))
        return Mean(float(row.mean()), float(low), float(high), self.count)

    def difference(self, ours: Sequence[float], theirs: Sequence[float]) -> Mean:
        """Of paired values, ours minus theirs."""
        return self.mean([a - b for a, b in zip(ours, theirs, strict=True)])


Scores = Mapping[str, Mapping[str, float]]
"""What each system reached on a question: measure by measure."""


def summary(scores: Sequence[Scores], *, draws: int, seed: int) -> dict[str, dict[str, Mean]]:
    """Mean and interval of every measure of every system, over questions; a measure that a system has not is left
    out."""
    if not scores:
        return {}
    boot = Bootstrap(len(scores), draws=draws, seed=seed)
    return {
        system: {m: boot.mean([s[system][m] for s in scores]) for m in found} for system, found in scores[0].items()
    }


def differences(scores: Sequence[Scores], ours: str, *, draws: int, seed: int) -> dict[str, dict[str, Mean]]:
    """`ours` minus each other system, on the measures that both have."""
    if not scores:
        return {}
    boot = Bootstrap(len(scores), draws=draws, seed=seed)
    return {
        other: {
            m: boot.difference([s[ours][m] for s in scores], [s[other][m] for s in scores])
            for m in scores[0][ours]
            if m in found
        }
        for other, found in scores[0].items()
        if other != ours
    }
