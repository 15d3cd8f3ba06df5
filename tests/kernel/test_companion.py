"""Recency and importance as in Generative Agents: golden values, and what may not change an order."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agentmem.companion import companion_totals, normalised, recency, reordered
from agentmem.types import Hit, Tier

NOW = datetime(2023, 5, 8, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
VALUES = arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6))


def test_recency_in_hours() -> None:
    found = recency(np.array([0.0, 24.0, 138.3, 168.0, -5.0]))
    assert found.round(3).tolist() == [1.0, 0.887, 0.5, 0.431, 1.0]


def test_min_max() -> None:
    assert normalised(np.array([3.0, 3.0, 3.0])).tolist() == [0.5, 0.5, 0.5]
    assert normalised(np.array([7.0])).tolist() == [0.5] and normalised(np.zeros(0)).tolist() == []
    assert normalised(np.array([2.0, 10.0, 4.0])).tolist() == [0.0, 1.0, 0.25]
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="finite"):
            normalised(np.array([1.0, wrong]))


@given(VALUES)
def test_normalised_keeps_the_order_within_0_and_1(values: np.ndarray) -> None:
    found = normalised(values)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found[np.argsort(values)]) >= 0).all()


def test_the_parts_are_added_with_their_weights() -> None:
    relevance, used = np.array([1.0, 3.0, 2.0]), NOW - HOUR * np.array([0.0, 24.0, 48.0])
    importance = np.array([10.0, np.nan, 1.0])
    found = companion_totals(relevance, used, importance, NOW)
    middle = (0.995**24 - 0.995**48) / (1 - 0.995**48)
    assert found.recency == pytest.approx([1.0, middle, 0.0])
    assert found.importance == pytest.approx([1.0, 4 / 9, 0.0]), "a missing one counts as 5"
    assert found.relevance == pytest.approx([0.0, 1.0, 0.5])
    assert found.total == pytest.approx([2.0, middle + 4 / 9 + 1, 0.5])
    weighed = companion_totals(relevance, used, importance, NOW, (0.0, 0.5, 2.0))
    assert weighed.total == pytest.approx([0.5, 2 + 2 / 9, 1.0])


def test_a_missing_time_or_relevance_is_an_error() -> None:
    two, bad = np.array([1.0, 2.0]), np.array([1.0, np.nan])
    for args in ((bad, two), (two, bad)):
        with pytest.raises(ValueError, match="finite"):
            companion_totals(*args, two, NOW)


@given(VALUES)
def test_alike_in_use_and_importance_nothing_is_reordered(relevance: np.ndarray) -> None:
    n = len(relevance)
    found = companion_totals(relevance, np.full(n, NOW - HOUR), np.full(n, np.nan), NOW)
    assert (np.diff(found.total[np.argsort(relevance)]) >= 0).all()


def hit(number: int, score: float, parts: dict[str, float] | None) -> Hit:
    return Hit(f"m{number}", Tier.RECALL, "x", score, datetime(2023, 5, 8, tzinfo=UTC), parts=parts)


def test_scores_are_dealt_out_anew() -> None:
    hits = [hit(n, score, {"bm25": float(n)}) for n, score in enumerate([0.9, 0.5, 0.4, 0.1])]
    # The last one was used just now and matters most; the first two are alike but for their relevance.
    used = NOW - HOUR * np.array([900.0, 900.0, 900.0, 0.0])
    totals = companion_totals(np.array([4.0, 1.0, 1.0, 0.0]), used, np.array([5.0, 5.0, 5.0, 10.0]), NOW)
    found = reordered(hits, totals)
    assert [(h.id, h.score) for h in found] == [("m3", 0.9), ("m0", 0.5), ("m1", 0.4), ("m2", 0.1)]
    assert found[0].parts == {"bm25": 3.0, "recency": 1.0, "importance": 1.0, "relevance": 0.0}
    assert reordered([hit(1, 0.5, None)], companion_totals(*(np.ones(1),) * 3, NOW))[0].parts is None
