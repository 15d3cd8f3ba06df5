"""Intervals and percentiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.cap_intervals import interval, mean, percentile


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 5))
def test_an_interval_is_in_range_around_its_mean_and_repeatable(values: list[float], seed: int) -> None:
    found = interval(values, seed)
    assert found == interval(values, seed)
    assert found["n"] == len(values)
    assert found["mean"] == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert min(values) - 1e-6 <= found["low"] <= found["high"] <= max(values) + 1e-6
    assert found["low"] - 1e-6 <= found["mean"] <= found["high"] + 1e-6 or len(set(values)) > 1


def test_known_widths() -> None:
    assert interval([], 0) == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 0}
    assert interval([1.0] * 9, 0) == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 9}
    # A fair coin, 100 throws: the normal interval is 0.5 +- 0.098.
    coin = interval([0.0, 1.0] * 50, 3)
    assert (coin["low"], coin["high"]) == (pytest.approx(0.402, abs=0.02), pytest.approx(0.598, abs=0.02))


def test_percentiles() -> None:
    assert percentile([], 50) == 0.0
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile([1.0] * 99 + [100.0], 95) == 1.0
    assert (mean([]), mean([1, 2])) == (0.0, 1.5)
