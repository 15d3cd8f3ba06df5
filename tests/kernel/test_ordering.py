"""The order of page-ins: nothing lost, time kept for what is dated, ranks where the policy puts them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.errors import ConfigError
from agentmem.ordering import POLICIES, OrderPolicy, ordered, outside_in
from agentmem.times import utc_seconds
from agentmem.types import Hit, PageItem, Tier

START = datetime(2023, 5, 8, tzinfo=UTC)


def item(number: int, *, score: float = 0.0, day: int = 0, dated: bool = True) -> PageItem:
    tier = Tier.RECALL if dated else Tier.ARCHIVAL
    hit = Hit(f"{'m' if dated else 'p'}{number}", tier, "text", score, START + timedelta(days=day), dated=dated)
    return PageItem(hit, 0, 4)


def ids(items: tuple[PageItem, ...]) -> list[str]:
    return [i.hit.id for i in items]


@st.composite
def pages(draw: st.DrawFn) -> list[PageItem]:
    rows = draw(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 4), st.booleans()), max_size=12))
    return [item(n, score=s / 2, day=d, dated=f) for n, (s, d, f) in enumerate(rows, 1)]


@pytest.mark.parametrize("policy", POLICIES)
@given(items=pages(), data=st.data())
def test_the_laws(policy: OrderPolicy, items: list[PageItem], data: Any) -> None:
    found = ordered(items, policy)
    assert sorted(ids(found)) == sorted(ids(tuple(items)))
    times = [utc_seconds(i.hit.at) for i in found if i.hit.dated]
    assert times == sorted(times)
    assert ordered(found, policy) == found == ordered(data.draw(st.permutations(items)), policy)
    undated = [n for n, i in enumerate(found) if not i.hit.dated]
    if policy != "time" and undated:
        assert undated == list(range(undated[0], undated[-1] + 1)), "the undated stand together"
        assert undated[0] == 0 if policy == "best-first" else undated[-1] == len(found) - 1


@given(items=pages())
def test_ranks_stand_where_the_policy_says(items: list[PageItem]) -> None:
    def scores(policy: OrderPolicy) -> list[float]:
        return [i.hit.score for i in ordered(items, policy) if not i.hit.dated]

    best_first = sorted((i.hit.score for i in items if not i.hit.dated), reverse=True)
    assert scores("best-first") == best_first
    assert scores("best-last") == best_first[::-1]
    middle_out = scores("outside-in")
    lowest = len(middle_out) // 2
    assert all(a >= b for a, b in pairwise(middle_out[: lowest + 1]))
    assert all(a <= b for a, b in pairwise(middle_out[lowest:]))
    assert middle_out[:1] + middle_out[1:][-1:] == best_first[:2]


def test_time_is_one_line_for_all() -> None:
    items = [item(1, day=2), item(2, day=1, dated=False, score=9), item(3, day=0)]
    assert ids(ordered(items, "time")) == ["m3", "p2", "m1"]


def test_a_page_with_both() -> None:
    items = [item(1, day=2), item(2, score=1, dated=False), item(3, day=1), item(4, score=3, dated=False)]
    assert ids(ordered(items, "best-first")) == ["p4", "p2", "m3", "m1"]
    assert ids(ordered(items, "best-last")) == ["m3", "m1", "p2", "p4"]
    assert ids(ordered(items, "outside-in")) == ["m3", "m1", "p4", "p2"]


def test_times_without_a_zone_are_utc() -> None:
    bare = PageItem(Hit("m1", Tier.RECALL, "text", 0.0, datetime(2023, 5, 9)), 0, 4)
    assert ids(ordered([item(2, day=2), bare, item(3)], "time")) == ["m3", "m1", "m2"]


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [("123456", "135642"), ("12345", "13542"), ("12", "12"), ("1", "1"), ("", "")],
)
def test_outside_in_golden(ranks: str, expected: str) -> None:
    assert "".join(outside_in(ranks)) == expected
    items = [item(n, score=-int(r), dated=False) for n, r in enumerate(ranks, 1)]
    assert "".join(f"{-i.hit.score:.0f}" for i in ordered(items, "outside-in")) == expected


def test_another_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"order='best'.*is no order") as caught:
        ordered([], "best")  # type: ignore[arg-type]
    assert "outside-in" in caught.value.hint
