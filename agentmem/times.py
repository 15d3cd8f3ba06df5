"""Times: reading, comparing and printing them. A time without a zone is kept as given and compared as UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from agentmem.errors import InvalidInputError


def parse_time(value: object, field: str = "at") -> datetime:
    """An ISO 8601 time or date (or a datetime) as a datetime. Raises InvalidInputError."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise InvalidInputError(field, value, "is not a time", hint="give ISO 8601, e.g. 2023-05-08T13:56:00")
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError as e:
        raise InvalidInputError(
            field, value, "is not an ISO 8601 time", hint="give e.g. 2023-05-08 or 2023-05-08T13:56:00+02:00"
        ) from e


def utc_seconds(at: datetime) -> float:
    """Seconds since 1970 (UTC), the one scale on which times are compared."""
    try:
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError) as e:
        raise InvalidInputError("at", at.isoformat(), "is outside the years that can be compared") from e


def format_time(at: datetime) -> str:
    """ISO 8601, with a zone only if one was given."""
    return at.isoformat()


# Not strftime: a host program's locale must not change the bytes of a prompt.
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def day_words(at: datetime) -> str:
    """A day as people write it, `8 May 2023`."""
    return f"{at.day} {MONTHS[at.month - 1]} {at.year}"


def system_clock() -> datetime:
    """Now, in UTC, to the second: sub-seconds are noise in a prompt."""
    return datetime.now(UTC).replace(microsecond=0)


def clock_words(at: datetime) -> str:
    """The moment of a question as the prompt says it."""
    return f"{WEEKDAYS[at.weekday()]} {at.day} {MONTHS[at.month - 1]} {at.year}, {at.hour:02d}:{at.minute:02d}"
