"""Ranking: what standardising keeps, that the order of the candidates is no signal, and what each feature does."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.ranking import (
    FEATURES,
    PLAIN,
    SECOND_PASS,
    Signals,
    features,
    score,
    second_pass,
    session_best,
    standardise,
)  # fmt: skip
from agentmem.ranking_weights import WEIGHTS

numbers = st.floats(-1e6, 1e6)
INTEGERS = {"tie", "session", "before"}


def signals(n: int, **columns: Any) -> Signals:
    """n candidates that differ in nothing but what is given."""
    plain: dict[str, Any] = {f.name: np.zeros(n) for f in fields(Signals)}
    plain |= {"tie": np.arange(n), "session": np.full(n, -1), "before": np.full(n, -1)}
    return Signals(**plain | {name: np.array(values) for name, values in columns.items()})


def test_every_feature_has_a_weight_and_no_other() -> None:
    assert set(FEATURES) == set(WEIGHTS) and len(FEATURES) == len(set(FEATURES))
    assert all(math.isfinite(w) for w in WEIGHTS.values())


@given(values=st.lists(st.just(math.nan) | numbers, min_size=1, max_size=20))
def test_standardised_values(values: list[float]) -> None:
    found = standardise(np.array(values))
    assert len(found) == len(values) and np.isfinite(found).all()
    if found.any():
        assert found.mean() == pytest.approx(0, abs=1e-6) and (found**2).mean() == pytest.approx(1, abs=1e-6)
    for value, z in zip(values, found, strict=True):
        assert value == value or z == found.min(), "what is missing counts as the lowest"
    for a, za in zip(values, found, strict=True):
        for b, zb in zip(values, found, strict=True):
            if a < b:
                assert za <= zb


@given(value=numbers, count=st.integers(1, 9))
def test_equal_values_reorder_nothing(value: float, count: int) -> None:
    assert standardise(np.full(count, value)).tolist() == [0.0] * count
    assert standardise(np.full(count, np.nan)).tolist() == [0.0] * count


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        standardise(np.array([1.0, math.inf]))
    with pytest.raises(ValueError, match="speaker is not a finite"):
        score(signals(2, speaker=[math.nan, 1.0]))
    assert len(score(signals(2, dense=[math.nan, 0.5])).order) == 2, "a record without a vector has no cosine"


@given(session=st.lists(st.integers(-1, 2), max_size=12), seed=st.integers(0, 99))
def test_a_session_is_as_good_as_its_best_three(session: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=len(session))
    found = session_best(np.array(session, np.int64), values)
    for n, number in enumerate(session):
        inside = sorted((v for v, s in zip(values, session, strict=True) if s == number), reverse=True)[:3]
        assert found[n] == pytest.approx(values[n] if number < 0 else sum(inside) / len(inside))


@st.composite
def any_signals(draw: st.DrawFn) -> Signals:
    n = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    columns: dict[str, Any] = {f.name: rng.choice([0.0, 0.25, 1.0], n) for f in fields(Signals)}
    columns |= {name: rng.normal(size=n) for name in ("dense", "whole", "context", "lexical", "window")}
    columns["dense"][rng.random(n) < 0.2] = np.nan
    before = np.arange(n) - 1
    before[rng.random(n) < 0.4] = -1
    columns |= {"at_utc": rng.integers(0, 5, n) * 1e5, "tie": np.arange(n), "before": before}
    return Signals(**columns | {"session": rng.integers(-1, 3, n)})


@given(found=any_signals(), seed=st.integers(0, 99))
def test_the_order_of_the_candidates_is_no_signal(found: Signals, seed: int) -> None:
    n = len(found)
    mixed = np.random.default_rng(seed).permutation(n)
    place = np.argsort(mixed)
    columns = {f.name: getattr(found, f.name)[mixed] for f in fields(Signals)}
    columns["before"] = np.where(columns["before"] >= 0, place[np.maximum(columns["before"], 0)], -1)
    one, other = score(found), score(Signals(**columns))
    assert np.allclose(one.total[mixed], other.total)
    gaps = np.diff(np.sort(one.total))
    if (gaps > 1e-6).all():
        assert [mixed[i] for i in other.order] == one.order.tolist()


@given(found=any_signals())
def test_the_parts_sum_to_the_total(found: Signals) -> None:
    scores = score(found)
    for n in range(len(found)):
        parts = scores.parts(n)
        assert sum(parts[f] for f in FEATURES) == pytest.approx(parts["total"], abs=1e-9)
        assert 0 < parts["score"] < 1 and ("cosine" in parts) == (not np.isnan(found.dense[n]))
    ranked = [scores.total[i] for i in scores.order]
    assert ranked == sorted(ranked, reverse=True)


def test_ties_go_to_the_newer_then_to_the_lower_number() -> None:
    assert score(signals(3, at_utc=[1.0, 3.0, 3.0], tie=[7, 9, 8])).order.tolist() == [2, 1, 0]


@pytest.mark.parametrize("name", [f for f in PLAIN if abs(WEIGHTS[f]) > 0.05])
def test_a_share_moves_a_record_as_its_weight_says(name: str) -> None:
    order = score(signals(3, **{name: [0.0, 1.0, 0.0]})).order.tolist()
    assert order.index(1) == (0 if WEIGHTS[name] > 0 else 2)


def test_the_second_pass_sees_who_answers_and_who_stands_beside() -> None:
    # 0 asks and is the best; 1 answers it; 2 follows; 3 is of another day, after a question that does not match.
    found = signals(
        5, before=[-1, 0, 1, 4, -1], after_question=[0, 1, 0, 1, 0], at_utc=[0.0, 1.0, 2.0, 9e5, 9e5]
    )  # fmt: skip
    second = second_pass(found, np.array([5.0, 1.0, 1.0, 1.0, -2.0]))
    assert second["answers"].tolist() == [0, 0, 0, -7, 0], "the nearer to the best the question, the better"
    assert second["beside"].tolist() == [0, 1, 1, 0, 0]
    best_last = second_pass(found, np.array([0.0, 1.0, 5.0, 1.0, -2.0]))
    assert best_last["beside"].tolist() == [1, 1, 0, 0, 0], "both sides count"
    assert set(second) == set(SECOND_PASS)


def test_no_candidates() -> None:
    scores = score(signals(0))
    assert len(scores.order) == 0 and len(scores.total) == 0


def test_features_do_not_change_what_they_are_given() -> None:
    found = signals(3, dense=[math.nan, 1.0, 2.0])
    features(found)
    assert np.isnan(found.dense[0]) and found.dense[1:].tolist() == [1.0, 2.0]
