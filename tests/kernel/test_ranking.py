"""Ranking: what standardising keeps, and that the order of the candidates is no signal."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.ranking import WEIGHTS, Candidate, order, score, session_means, standardise

numbers = st.floats(-1e6, 1e6)


@given(values=st.lists(st.none() | numbers, min_size=1, max_size=20))
def test_standardised_values(values: list[float | None]) -> None:
    found = standardise(values)
    assert len(found) == len(values) and all(math.isfinite(v) for v in found)
    if any(found):
        assert sum(found) / len(found) == pytest.approx(0, abs=1e-6)
        assert sum(v * v for v in found) / len(found) == pytest.approx(1, abs=1e-6)
    lowest = min(found)
    for value, z in zip(values, found, strict=True):
        assert value is not None or z == lowest, "what is missing counts as the lowest"
    for a, za in zip(values, found, strict=True):
        for b, zb in zip(values, found, strict=True):
            if a is not None and b is not None and a < b:
                assert za <= zb


@given(value=numbers, count=st.integers(1, 9))
def test_equal_values_reorder_nothing(value: float, count: int) -> None:
    assert standardise([value] * count) == [0.0] * count
    assert standardise([None] * count) == [0.0] * count


def test_not_a_number_is_refused() -> None:
    for values in ([math.nan], [1.0, math.nan, None]):
        with pytest.raises(ValueError, match="not a number"):
            standardise(values)
    with pytest.raises(ValueError, match="not a number"):
        score([Candidate("m1", 0.0, cosine=math.nan), Candidate("m2", 0.0, cosine=0.5)])


shares = st.sampled_from([0.0, 0.25, 1.0])
candidates = st.lists(
    st.builds(
        Candidate, ref=st.integers(1, 99).map(lambda n: f"m{n}"), at_utc=st.sampled_from([0.0, 1.0, 2.0]),
        cosine=st.none() | st.floats(-1, 1), bm25=st.floats(0, 20), around=st.floats(0, 20),
        dense_before=st.none() | st.floats(-1, 1), session=st.none() | st.sampled_from(["s1", "s2"]), speaker=shares,
        time=shares, exact=shares, kind=shares, question=shares,
    ),
    max_size=12, unique_by=lambda c: c.ref,
)  # fmt: skip


@given(found=candidates, seed=st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(found: list[Candidate], seed: Any) -> None:
    shuffled = list(found)
    seed.shuffle(shuffled)
    one = {c.ref: p for c, p in zip(found, score(found), strict=True)}
    other = {c.ref: p for c, p in zip(shuffled, score(shuffled), strict=True)}
    for ref in one:
        assert one[ref] == pytest.approx(other[ref], abs=1e-7)
        assert 0 < one[ref]["score"] < 1
        features = [v for name, v in one[ref].items() if name in WEIGHTS]
        assert sum(features) == pytest.approx(one[ref]["total"], abs=1e-9)
        assert set(one[ref]) >= {*WEIGHTS, "bm25", "score", "total"}


@pytest.mark.parametrize(
    "feature", ["cosine", "bm25", "around", "dense_before", "speaker", "time", "exact", "kind", "question"]
)
def test_each_weight_has_its_sign(feature: str) -> None:
    pair = [Candidate("m1", 0.0, cosine=0.1, dense_before=0.1), Candidate("m2", 0.0, cosine=0.1, dense_before=0.1)]
    pair[0] = replace(pair[0], **{feature: 0.9})
    more, less = (p["total"] for p in score(pair))
    assert (more < less) if feature == "question" else (more > less)
    assert order(pair, score(pair)) == ([1, 0] if feature == "question" else [0, 1])


def test_ties_go_to_the_newer_then_to_the_ref() -> None:
    found = [Candidate("m3", 1.0), Candidate("m1", 1.0), Candidate("m2", 2.0)]
    assert [found[n].ref for n in order(found, score(found))] == ["m2", "m1", "m3"]
    assert score([]) == []


def test_a_session_is_as_good_as_its_best_three() -> None:
    found = [Candidate(f"m{n}", 0.0, session="s" if n < 5 else None) for n in range(6)]
    assert session_means(found, [9.0, 1.0, 6.0, 3.0, 0.0, 2.0]) == [6.0] * 5 + [2.0]
