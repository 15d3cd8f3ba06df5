"""What is paged in: never more tokens than allowed, and what is said of it is true."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.errors import InvalidInputError
from agentmem.paging import label, pack, page_text
from agentmem.tokens import approximate_counter
from agentmem.types import EMPTY_PAGE, Hit, PageItem, Tier
from tests.counters import MergingCounter, PairCounter, word_counter

COUNTERS: dict[str, Any] = {
    "approximate": approximate_counter(), "words": word_counter(), "pairs": PairCounter(), "merging": MergingCounter(),
}  # fmt: skip
NOW = datetime(2023, 5, 8, 12, 0, tzinfo=UTC)
times = st.datetimes(
    datetime(2023, 5, 7), datetime(2023, 5, 10),
    timezones=st.sampled_from([None, UTC, timezone(timedelta(hours=-9)), timezone(timedelta(hours=11))]),
)  # fmt: skip
words = st.sampled_from(["tea", "Lisbon.", "東京", "naïve", "😀", "x" * 60, "a-b_c", "\n", "12:30", "aaaa"])
texts = st.builds(
    lambda parts, n: " ".join(parts * n), st.lists(words, min_size=1, max_size=8), st.sampled_from([1, 1, 3, 60])
)


@st.composite
def found(draw: st.DrawFn) -> list[Hit]:
    number = draw(st.integers(0, 10))
    return [
        Hit(
            f"{draw(st.sampled_from('mp'))}{n}", Tier.RECALL, draw(texts), 1 - n / 100, draw(times),
            draw(st.none() | st.just(f"k{n}")), draw(st.none() | st.just("Ann")), "user",
        )
        for n in range(number)
    ]  # fmt: skip


@pytest.mark.parametrize("name", COUNTERS)
@given(hits=found(), max_tokens=st.integers(1, 400), query=st.sampled_from(["", "tea", "naïve Lisbon"]))
def test_the_laws(name: str, hits: list[Hit], max_tokens: int, query: str) -> None:
    counter = COUNTERS[name]
    page = pack(hits, query, max_tokens, counter)
    assert page.num_tokens == counter.count(page.text) <= max_tokens
    assert page.text == page_text(page.items)
    ids = [i.hit.id for i in page.items]
    assert len(set(ids)) == len(ids)
    assert [i.hit.at if i.hit.at.tzinfo else i.hit.at.replace(tzinfo=UTC) for i in page.items] == sorted(
        i.hit.at if i.hit.at.tzinfo else i.hit.at.replace(tzinfo=UTC) for i in page.items
    )
    for item in page.items:
        assert 0 <= item.start < item.end <= len(item.hit.text)
        assert f"{label(item.hit)} {'' if item.whole else '[...] '}{item.text}" in page.text
    assert page.keys == tuple(i.hit.key for i in page.items if i.text == i.hit.text and i.hit.key)
    assert page.shortened == tuple(i.hit.key for i in page.items if i.text != i.hit.text and i.hit.key)
    assert [h.id for h in page.hits] == [h.id for h in hits if h.id in ids]


def hit(number: int, text: str, **values: Any) -> Hit:
    return Hit(f"m{number}", Tier.RECALL, text, 1 - number / 100, values.pop("at", NOW), role="user", **values)


def test_all_that_fits_is_there() -> None:
    page = pack([hit(n, f"text {n}", key=f"k{n}") for n in range(1, 6)], "text", 1000, word_counter())
    assert page.keys == ("k1", "k2", "k3", "k4", "k5") and page.shortened == ()
    assert page.text.splitlines()[:2] == ["8 May 2023", "k1 user: text 1"]


def test_a_heading_a_day() -> None:
    page = pack([hit(2, "later", at=NOW + timedelta(days=1)), hit(1, "first")], "x", 100, word_counter())
    assert page.text == "8 May 2023\nm1 user: first\n9 May 2023\nm2 user: later"


def test_a_long_hit_is_shortened_to_where_the_words_are() -> None:
    text = "Nothing of note is here. " * 60 + "The invoice INV-2041 is not paid. " + "Nothing more of note. " * 60
    page = pack([hit(1, text, key="long"), hit(2, "short", key="s")], "Which invoice is not paid?", 300, word_counter())
    assert page.shortened == ("long",) and page.keys == ("s",)
    assert "INV-2041" in page.text


def test_a_hit_that_does_not_fit_makes_place_for_one_that_does() -> None:
    page = pack([hit(1, "word " * 60), hit(2, "small one")], "word", 15, word_counter())
    assert [i.hit.id for i in page.items] == ["m2"]


def test_no_hits_no_page() -> None:
    assert pack([], "x", 100, word_counter()) == EMPTY_PAGE == pack([hit(1, "tea")], "x", 1, word_counter())
    assert not PageItem(hit(1, "tea"), 0, 2).whole
    with pytest.raises(InvalidInputError):
        pack([hit(1, "tea")], "x", 0, word_counter())


def test_days_of_several_zones_cost_the_last_hits_and_not_the_page() -> None:
    east = timezone(timedelta(hours=11))
    found = [
        hit(1, "tea", at=datetime(2023, 5, 7)),
        hit(2, "tea", at=datetime(2023, 5, 7, 13, 0, 1)),
        hit(3, "tea", at=datetime(2023, 5, 8, tzinfo=east)),
    ]
    page = pack(found, "", 17, word_counter())
    assert [i.hit.id for i in page.items] == ["m1", "m2"] and page.num_tokens <= 17
