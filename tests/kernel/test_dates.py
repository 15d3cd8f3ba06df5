"""Date expressions resolved against a message's time. The message is of Saturday, 15 July 2023."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.dates import DateMention, find_dates, spoken

AT = datetime(2023, 7, 15, 12, 30)


def only(text: str, at: datetime = AT) -> DateMention:
    found = find_dates(text, at)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("text", "first", "last", "precision", "phrase"),
    [
        ("yesterday", "2023-07-14", "2023-07-14", "day", "14 July 2023"),
        ("last night", "2023-07-14", "2023-07-14", "day", "14 July 2023"),
        ("this morning", "2023-07-15", "2023-07-15", "day", "15 July 2023"),
        ("tomorrow", "2023-07-16", "2023-07-16", "day", "16 July 2023"),
        ("the day before yesterday", "2023-07-13", "2023-07-13", "day", "13 July 2023"),
        ("two days ago", "2023-07-13", "2023-07-13", "day", "13 July 2023"),
        ("last Friday", "2023-07-14", "2023-07-14", "day", "the Friday before 15 July 2023"),
        ("last Tues", "2023-07-11", "2023-07-11", "day", "the Tuesday before 15 July 2023"),
        ("last Saturday", "2023-07-08", "2023-07-08", "day", "the Saturday before 15 July 2023"),
        ("next Sunday", "2023-07-16", "2023-07-16", "day", "the Sunday after 15 July 2023"),
        ("I went on Friday", "2023-07-14", "2023-07-14", "day", "the Friday before 15 July 2023"),
        ("She arrives on Friday", "2023-07-21", "2023-07-21", "day", "the Friday after 15 July 2023"),
        ("this week", "2023-07-10", "2023-07-16", "week", "the week of 15 July 2023"),
        ("last week", "2023-07-03", "2023-07-09", "week", "the week before 15 July 2023"),
        ("next week", "2023-07-17", "2023-07-23", "week", "the week after 15 July 2023"),
        ("two weeks ago", "2023-06-26", "2023-07-02", "week", "two weeks before 15 July 2023"),
        ("a week ago", "2023-07-03", "2023-07-09", "week", "the week before 15 July 2023"),
        ("last weekend", "2023-07-08", "2023-07-09", "week", "the weekend before 15 July 2023"),
        ("this past weekend", "2023-07-08", "2023-07-09", "week", "the weekend before 15 July 2023"),
        ("this weekend", "2023-07-15", "2023-07-16", "week", "the weekend of 15 July 2023"),
        ("two weekends ago", "2023-07-01", "2023-07-02", "week", "two weekends before 15 July 2023"),
        ("a few days ago", "2023-07-10", "2023-07-13", "week", "a few days before 15 July 2023"),
        ("the other day", "2023-07-10", "2023-07-13", "week", "a few days before 15 July 2023"),
        ("this month", "2023-07-01", "2023-07-31", "month", "July 2023"),
        ("last month", "2023-06-01", "2023-06-30", "month", "June 2023"),
        ("next month", "2023-08-01", "2023-08-31", "month", "August 2023"),
        ("about a year ago", "2022-07-01", "2022-07-31", "month", "July 2022"),
        ("3 months ago", "2023-04-01", "2023-04-30", "month", "April 2023"),
        ("last year", "2022-01-01", "2022-12-31", "year", "2022"),
        ("ten years ago", "2013-01-01", "2013-12-31", "year", "2013"),
        ("since 2016", "2016-01-01", "2016-12-31", "year", "2016"),
        ("last summer", "2022-06-01", "2022-08-31", "season", "summer of 2022"),
        ("next summer", "2024-06-01", "2024-08-31", "season", "summer of 2024"),
        ("summer of 2021", "2021-06-01", "2021-08-31", "season", "summer of 2021"),
        ("on 7 May 2023", "2023-05-07", "2023-05-07", "day", "7 May 2023"),
        ("May 7th, 2022", "2022-05-07", "2022-05-07", "day", "7 May 2022"),
        ("the 7th of May", "2023-05-07", "2023-05-07", "day", "7 May 2023"),
        ("May 7", "2023-05-07", "2023-05-07", "day", "7 May 2023"),
        ("2023-05-07", "2023-05-07", "2023-05-07", "day", "7 May 2023"),
        ("in June", "2023-06-01", "2023-06-30", "month", "June 2023"),
        ("We will meet in June", "2024-06-01", "2024-06-30", "month", "June 2024"),
        ("mid-August 2023", "2023-08-01", "2023-08-31", "month", "August 2023"),
        ("last May", "2023-05-01", "2023-05-31", "month", "May 2023"),
        ("last December", "2022-12-01", "2022-12-31", "month", "December 2022"),
        ("the week before 9 June 2023", "2023-06-02", "2023-06-08", "week", "the week before 9 June 2023"),
        ("the week before", "2023-07-08", "2023-07-14", "week", "the week before 15 July 2023"),
        ("We will go in two weeks", "2023-07-24", "2023-07-30", "week", "two weeks after 15 July 2023"),
    ],
)
def test_resolved(text: str, first: str, last: str, precision: str, phrase: str) -> None:
    mention = only(text)
    assert (mention.first, mention.last) == (date.fromisoformat(first), date.fromisoformat(last))
    assert mention.precision == precision
    assert spoken(mention) == phrase


@pytest.mark.parametrize(
    "text",
    [
        "I may go",
        "May I go?",
        "wait a second",
        "the sun is out",
        "we sat down",
        "march on",
        "the week before the wedding",
        "it took two weeks",
        "in two weeks I lost five kilos",
        "30 Feb",
        "2023-13-45",
        "room 2023",
        "2023 people came",
        "the 90s",
        "at 5 pm",
        "the last one",
        "next to me",
        "June 31",
        "",
    ],
)
def test_not_dates(text: str) -> None:
    assert find_dates(text, AT) == []


def test_several_in_order_and_the_day_before_an_earlier_one() -> None:
    found = find_dates("I came on 5 June. The day before, I slept; tomorrow I leave.", AT)
    assert [spoken(m) for m in found] == ["5 June 2023", "4 June 2023", "16 July 2023"]


def test_first_days_of_the_calendar_do_not_raise() -> None:
    assert find_dates("two days ago, 10 years ago, last month", datetime(1, 1, 1)) == []
    assert find_dates("tomorrow, next year", datetime(9999, 12, 31)) == []


def test_a_zone_does_not_change_the_day() -> None:
    assert only("yesterday", AT.replace(tzinfo=UTC)).first == date(2023, 7, 14)


_SPOKEN = """yesterday last next this on Friday weekend week month year two a few days ago 2023 7 May June in the before
    after summer since 31 2023-02-30 the other day , . may Sun from now night"""
_PIECES = st.sampled_from(_SPOKEN.split())


@given(
    st.one_of(st.text(max_size=80), st.lists(_PIECES, max_size=12).map(" ".join)),
    st.datetimes(),
)
def test_mentions_lie_in_the_text_without_overlap(text: str, at: datetime) -> None:
    found = find_dates(text, at)
    assert found == find_dates(text, at)
    end = 0
    for m in found:
        assert end <= m.start < m.end <= len(text)
        assert text[m.start : m.end] == m.text
        assert m.first <= m.last
        assert spoken(m)
        end = m.end
