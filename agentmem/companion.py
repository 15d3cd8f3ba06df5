"""Recency and importance in the ranking, as in Generative Agents (arXiv 2304.03442, section 4.1). Pure.

The paper's version, not its code's: recency falls with the hours since the last use (the code counts ranks, and the
wrong way round), and recency, importance and relevance, each scaled to [0, 1] over the candidates, are added at equal
weights. Relevance is the total of `agentmem.ranking`, where the paper has a bare cosine: it finds more. For characters
that live in the present; questions about the past are answered worse by it, so it is off unless asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agentmem.types import Hit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DECAY_AN_HOUR = 0.995
"""Half is left after 138.3 hours."""
UNRATED = 5.0
"""The importance, of 1 to 10, of what nobody rated."""
PARTS = ("recency", "importance", "relevance")
WEIGHTS = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Totals:
    """For n candidates the sum of the parts, and what each part adds to it; all (n,)."""

    total: NDArray[np.float64]
    recency: NDArray[np.float64]
    importance: NDArray[np.float64]
    relevance: NDArray[np.float64]


def recency(hours: NDArray[np.float64]) -> NDArray[np.float64]:
    """0.995 to the power of the hours since the last use, in (0, 1]; a use that is yet to come counts as now."""
    import numpy as np

    found: NDArray[np.float64] = DECAY_AN_HOUR ** np.maximum(hours, 0.0)
    return found


def normalised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scaled to [0, 1]; 0.5 for all where all are equal, so that the order is not touched. Raises ValueError for what
    is no finite number."""
    import numpy as np

    if not np.isfinite(values).all():
        raise ValueError("a part of the companion's ranking is not a finite number")
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)


def companion_totals(
    relevance: NDArray[np.float64],
    used_utc: NDArray[np.float64],
    importance: NDArray[np.float64],
    now_utc: float,
    weights: tuple[float, float, float] = WEIGHTS,
) -> Totals:
    """The totals of n candidates. `used_utc` and `now_utc` are in seconds; `importance` is 1 to 10, NaN where nobody
    rated; `weights` are of recency, importance and relevance. Raises ValueError for NaN in the others."""
    import numpy as np

    raw = (
        recency((now_utc - used_utc) / 3600.0),
        np.where(np.isnan(importance), UNRATED, importance),
        relevance,
    )
    parts = [weight * normalised(values) for weight, values in zip(weights, raw, strict=True)]
    return Totals(parts[0] + parts[1] + parts[2], *parts)


def reordered(hits: Sequence[Hit], totals: Totals) -> list[Hit]:
    """The hits (best first) by the companion's totals, those with equal ones as they were. Their scores are dealt out
    anew, the best to the first: so they stay in (0, 1), falling, and odds as before. Hits with parts get three more."""
    import numpy as np

    found = []
    for place, n in enumerate(np.argsort(-totals.total, kind="stable")):
        shown = hits[n].parts
        if shown is not None:
            shown = {**shown, **{name: round(float(getattr(totals, name)[n]), 6) for name in PARTS}}
        found.append(replace(hits[n], score=hits[place].score, parts=shown))
    return found
