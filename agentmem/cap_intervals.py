"""How sure a mean over questions is: percentile bootstrap (Efron and Tibshirani 1993, chapter 13), with a seed."""

from __future__ import annotations

from collections.abc import Sequence

DRAWS = 2000
DIGITS = 6
Interval = dict[str, float | int]
"""`mean`, `low` and `high` (95 %), and `n`, over how many values; all 0 where there is none."""


def interval(values: Sequence[float], seed: int) -> Interval:
    """The mean of values in [0, 1] with its interval. The same seed resamples the same way for the same number of
    values, so that rungs of one ladder are resampled alike."""
    if not values:
        return {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 0}
    import numpy as np

    row = np.asarray(values, np.float64)
    weights = np.random.default_rng(seed).multinomial(len(row), np.full(len(row), 1 / len(row)), size=DRAWS)
    low, high = np.quantile(weights @ row / len(row), (0.025, 0.975))
    return {
        "mean": round(float(row.mean()), DIGITS), "low": round(float(low), DIGITS), "high": round(float(high), DIGITS),
        "n": len(row),
    }  # fmt: skip


def percentile(values: Sequence[float], percent: float) -> float:
    """A percentile, linear between values; 0.0 of none."""
    if not values:
        return 0.0
    import numpy as np

    return round(float(np.percentile(np.asarray(values, np.float64), percent)), DIGITS)


def mean(values: Sequence[float]) -> float:
    """The mean; 0.0 of none."""
    return round(sum(values) / len(values), DIGITS) if values else 0.0
