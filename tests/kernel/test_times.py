"""Times as they come in, are compared, and are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.errors import InvalidInputError
from agentmem.times import day_words, format_time, parse_time, utc_seconds

zones = st.none() | st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))


@given(at=st.datetimes(timezones=zones))
def test_any_time_goes_through_a_file(at: datetime) -> None:
    read = parse_time(format_time(at))
    assert read == at and read.utcoffset() == at.utcoffset()
    try:
        seconds = utc_seconds(at)
    except InvalidInputError:
        assert at.year in (1, 9999)
    else:
        expected = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
        assert seconds == pytest.approx(expected.total_seconds())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-05-08T13:56:00", datetime(2023, 5, 8, 13, 56)),
        (" 2023-05-08 ", datetime(2023, 5, 8)),
        ("2023-05-08T13:56:00Z", datetime(2023, 5, 8, 13, 56, tzinfo=UTC)),
        ("2023-05-08T13:56+02:00", datetime(2023, 5, 8, 13, 56, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_reads_iso_8601(text: str, expected: datetime) -> None:
    found = parse_time(text)
    assert found == expected and found.tzinfo == expected.tzinfo


@pytest.mark.parametrize(
    "value", ["", "yesterday", "8.5.2023", "2023-13-01", "2023-02-30", 5, None, 1.5, "\ud83d", "9" * 5000]
)
def test_refuses_the_rest_by_name(value: Any) -> None:
    with pytest.raises(InvalidInputError) as e:
        parse_time(value, "until")
    assert e.value.field == "until" and e.value.hint and len(str(e.value)) < 300


def test_days_are_written_alike_everywhere() -> None:
    assert day_words(datetime(2023, 5, 8)) == "8 May 2023"
    assert utc_seconds(datetime(1970, 1, 2)) == 86_400
