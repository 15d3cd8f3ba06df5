"""The knapsack against all choices there are."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.packing import Variant, choose

variants = st.lists(st.builds(Variant, st.integers(1, 20).map(float), st.integers(1, 12)), min_size=1, max_size=2)


def worth(items: list[list[Variant]], picked: tuple[int | None, ...]) -> tuple[float, int]:
    taken = [ways[n] for ways, n in zip(items, picked, strict=True) if n is not None]
    return sum(v.value for v in taken), sum(v.cost for v in taken)


@given(items=st.lists(variants, max_size=6), capacity=st.integers(0, 40))
def test_no_choice_is_worth_more(items: list[list[Variant]], capacity: int) -> None:
    picked = tuple(choose(items, capacity))
    value, cost = worth(items, picked)
    assert len(picked) == len(items) and cost <= capacity
    every = product(*[[None, *range(len(ways))] for ways in items])
    assert value == max(v for v, c in (worth(items, p) for p in every) if c <= capacity)


def test_of_equals_the_earlier_is_taken() -> None:
    same = [[Variant(1.0, 5)], [Variant(1.0, 5)], [Variant(1.0, 5)]]
    assert choose(same, 10) == [0, 0, None]


def test_a_long_record_is_shortened_for_two() -> None:
    long = [Variant(1.0, 10), Variant(0.5, 4)]
    assert choose([long, [Variant(0.8, 6)]], 10) == [1, 0]
    assert choose([long, [Variant(0.4, 6)]], 10) == [0, None]


def test_nothing_fits() -> None:
    assert choose([[Variant(1.0, 3)]], 2) == [None]
    assert choose([], 10) == [] and choose([[Variant(1.0, 1)]], -5) == [None]


def test_a_cost_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        choose([[Variant(1.0, 0)]], 10)
