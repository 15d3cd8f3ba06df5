"""Date expressions in a text, resolved against the time of the message that they stand in.

"yesterday" said on 8 May 2023 is 7 May 2023; "last week" said on 9 June 2023 is the week before 9 June 2023.
What is ambiguous is not a date here: the verb "may", a bare "second", "sun", "march on". A month or day without a
year is the one nearest to the message; a weekday after "on" is the coming one unless the sentence is in the past.
Pure, and never raises: an expression outside the calendar is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from dateutil.relativedelta import relativedelta

from agentmem.times import MONTHS, WEEKDAYS

Precision = Literal["day", "week", "month", "year", "season"]


@dataclass(frozen=True, slots=True)
class DateMention:
    """A date expression: the characters `start` to `end` (`text`) mean the days `first` to `last`, both included.

    `phrase` is how people write it where first and last do not say enough ("the week before 9 June 2023").
    """

    start: int
    end: int
    text: str
    first: date
    last: date
    precision: Precision
    phrase: str = ""


def day_phrase(day: date) -> str:
    """`8 May 2023`."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def spoken(mention: DateMention) -> str:
    """The phrase that people write: "7 May 2023", "May 2023", "2022", "the week before 9 June 2023"."""
    if mention.phrase:
        return mention.phrase
    if mention.precision == "day":
        return day_phrase(mention.first)
    if mention.precision == "month":
        return f"{MONTHS[mention.first.month - 1]} {mention.first.year}"
    if mention.precision == "year":
        return str(mention.first.year)
    if mention.precision == "season":
        return f"{_season_of(mention.first)} {mention.first.year}"
    return f"the week of {day_phrase(mention.first)}"


Found = tuple[date, date, Precision, str]
_NUMBERS = {
    w: n
    for n, w in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
}
_NUMBERS |= {"a": 1, "an": 1, "couple": 2, "fifteen": 15, "twenty": 20, "thirty": 30}
_N = r"(?P<n>\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty)"
_VAGUE = r"(?P<vague>a\s+few|few|several|a\s+couple(?:\s+of)?|couple(?:\s+of)?|some)"
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\b(?:\.(?=\s+\d))?"
)
_WEEKDAY = (
    r"(?:mon(?:day)?|tue(?:s(?:day)?)?|wed(?:nesday)?|thu(?:rs?(?:day)?)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)\b"
)
_DAY = r"(?P<d>[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?"
_YEAR = r"(?P<y>(?:19|20)\d\d)"
_SEASON = r"(?P<season>spring|summer|autumn|fall|winter)"
_SEASON_MONTH = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
_FUTURE = re.compile(
    r"\b(?:will|going\s+to|gonna|plan(?:s|ning)?|next|upcoming|soon|looking\s+forward|can['’]t\s+wait|scheduled|booked|"
    r"hope|hoping|see\s+you|let['’]s)\b|['’]ll\b",
    re.IGNORECASE,
)
_PAST = re.compile(
    r"\b(?:was|were|went|had|did|got|met|saw|came|took|made|bought|gave|found|ate|won|lost|told|said|began|left|ran|\w{3,}ed)\b",
    re.IGNORECASE,
)


def _season_of(day: date) -> str:
    return {3: "spring", 6: "summer", 9: "autumn", 12: "winter"}[day.month]


def _month_number(word: str) -> int:
    return next(i for i, m in enumerate(MONTHS, 1) if m.lower().startswith(word.lower()[:3]))


def _weekday_number(word: str) -> int:
    return next(i for i, d in enumerate(WEEKDAYS) if d.lower().startswith(word.lower()[:3]))


def _count(m: re.Match[str]) -> int:
    word = m.group("n").lower()
    return int(word) if word.isdigit() else _NUMBERS[word]


def _day(day: date) -> Found:
    return day, day, "day", ""


def _month(day: date) -> Found:
    first = day.replace(day=1)
    return first, first + relativedelta(months=1, days=-1), "month", ""


def _year(year: int) -> Found:
    return date(year, 1, 1), date(year, 12, 31), "year", ""


def _season(name: str, year: int) -> Found:
    first = date(year, _SEASON_MONTH[name], 1)
    return first, first + relativedelta(months=3, days=-1), "season", f"{name} of {year}"


def _relative_day(m: re.Match[str], at: date) -> Found:
    word = " ".join(m.group().lower().split())
    if word.endswith("before yesterday"):
        return _day(at - timedelta(2))
    if word.endswith("after tomorrow"):
        return _day(at + timedelta(2))
    if word.startswith("yesterday") or word == "last night":
        return _day(at - timedelta(1))
    return _day(at + timedelta(1)) if word.startswith("tomorrow") else _day(at)


def _which_weekday(m: re.Match[str], at: date) -> Found | None:
    number, which = _weekday_number(m.group("w")), (m.group("which") or "on").lower().split()[-1]
    if which == "on":
        future = bool(_FUTURE.search(m.string)) or not _PAST.search(m.string)
        which = "next" if future else "last"
    if which in ("last", "past", "previous"):
        day = at - timedelta((at.weekday() - number - 1) % 7 + 1)
        return day, day, "day", f"the {WEEKDAYS[number]} before {day_phrase(at)}"
    day = at + timedelta((number - at.weekday() - 1) % 7 + 1)
    return day, day, "day", f"the {WEEKDAYS[number]} after {day_phrase(at)}"


def _which_unit(m: re.Match[str], at: date) -> Found:
    which, unit = m.group("which").lower().split()[-1], m.group("unit").lower()
    step = {"last": -1, "past": -1, "previous": -1, "this": 0, "next": 1, "coming": 1, "following": 1}[which]
    if unit == "year":
        return _year(at.year + step)
    if unit == "month":
        return _month(at + relativedelta(months=step))
    if unit in _SEASON_MONTH:
        begun = at.month >= _SEASON_MONTH[unit]
        year = at.year + step
        if step == -1 and at.month >= _SEASON_MONTH[unit] + 3:
            year = at.year
        if step == 1 and not begun:
            year = at.year
        return _season(unit, year)
    if unit == "weekend":
        if "past" in m.group("which").lower():
            step = -1
        saturday = at - timedelta((at.weekday() + 2) % 7)  # the Saturday on or before
        if step == -1 and at.weekday() >= 5:
            saturday -= timedelta(7)
        if step >= 0 and at.weekday() < 5:
            saturday += timedelta(7)
        if step == 1 and at.weekday() >= 5:
            saturday += timedelta(7)
        word = {-1: "before", 0: "of", 1: "after"}[step]
        anchor = saturday if step == 0 else at
        return saturday, saturday + timedelta(1), "week", f"the weekend {word} {day_phrase(anchor)}"
    monday = at - timedelta(at.weekday()) + timedelta(7 * step)
    word = {-1: "before", 0: "of", 1: "after"}[step]
    return monday, monday + timedelta(6), "week", f"the week {word} {day_phrase(at)}"


_DAYS = {"day": 1, "night": 1, "week": 7, "weekend": 7}


def _away(m: re.Match[str], at: date, sign: int) -> Found:
    """N units ago (sign -1) or from now (+1)."""
    number, unit = _count(m), m.group("unit").lower()
    side = "before" if sign < 0 else "after"
    if unit in ("day", "night"):
        return _day(at + timedelta(sign * number))
    if unit in ("week", "weekend"):
        day = at + timedelta(sign * 7 * number)
        monday = day - timedelta(day.weekday())
        first, last = (
            (monday, monday + timedelta(6)) if unit == "week" else (monday + timedelta(5), monday + timedelta(6))
        )
        said = "the " + unit if number == 1 else f"{m.group('n').lower()} {unit}s"
        return first, last, "week", f"{said} {side} {day_phrase(at)}"
    if unit == "month" or number == 1:
        return _month(at + relativedelta(months=sign * number * (1 if unit == "month" else 12)))
    return _year(at.year + sign * number * (10 if unit == "decade" else 1))


def _vague_away(m: re.Match[str], at: date) -> Found:
    unit, vague = m.group("unit").lower(), " ".join(m.group("vague").lower().split())
    vague = {"few": "a few", "couple": "a couple of", "a couple": "a couple of", "couple of": "a couple of"}.get(
        vague, vague
    )
    phrase = f"{vague} {unit}s before {day_phrase(at)}"
    if unit == "year":
        return date(at.year - 5, 1, 1), date(at.year - 2, 12, 31), "year", phrase
    if unit == "month":
        return (at - relativedelta(months=5)).replace(day=1), at - relativedelta(months=2), "month", phrase
    return at - timedelta(5 * _DAYS[unit]), at - timedelta(2 * _DAYS[unit]), "week", phrase


def _other_day(m: re.Match[str], at: date) -> Found:
    return at - timedelta(5), at - timedelta(2), "week", f"a few days before {day_phrase(at)}"


def _nearest(at: date, month: int, day: int, text: str) -> date | None:
    """The day of a year left out that is nearest to the message, later than it where the text looks ahead."""
    near: list[date] = []
    for year in (at.year - 1, at.year, at.year + 1):
        try:
            near.append(date(year, month, day))
        except ValueError:
            continue
    if not near:
        return None
    if _FUTURE.search(text) and any(d >= at for d in near):
        return min(d for d in near if d >= at)
    return min(near, key=lambda d: (abs((d - at).days), d))


def _full(m: re.Match[str], at: date) -> Found | None:
    month = _month_number(m.group("m"))
    year = m.group("y")
    if year:
        return _day(date(int(year), month, int(m.group("d"))))
    near = _nearest(at, month, int(m.group("d")), m.string)
    return _day(near) if near else None


def _iso(m: re.Match[str], at: date) -> Found:
    return _day(date(int(m.group("y")), int(m.group("m")), int(m.group("d"))))


def _month_year(m: re.Match[str], at: date) -> Found:
    return _month(date(int(m.group("y")), _month_number(m.group("m")), 1))


def _bare_month(m: re.Match[str], at: date) -> Found | None:
    word, number = (m.group("which") or "").lower(), _month_number(m.group("m"))
    if word == "last":
        return _month(date(at.year - (number >= at.month), number, 1))
    if word == "next":
        return _month(date(at.year + (number <= at.month), number, 1))
    this = date(at.year, number, 1)
    near = this if number == at.month else _nearest(at, number, 15, m.string)
    return _month(near) if near else None


def _season_year(m: re.Match[str], at: date) -> Found:
    return _season(m.group("season").lower(), int(m.group("y")))


def _ago(m: re.Match[str], at: date) -> Found:
    return _away(m, at, -1)


def _ahead(m: re.Match[str], at: date) -> Found | None:
    sure = m.group().lower().endswith("now") or _FUTURE.search(m.string)
    return _away(m, at, 1) if sure else None


def _bare_year(m: re.Match[str], at: date) -> Found:
    return _year(int(m.group("y")))


_WHICH_M = r"(?:in|since|until|till|by|during|around|of|for|early|late|mid|end\s+of|from)"
_UNIT = r"(?P<unit>day|night|weekend|week|month|year|decade)s?"
_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], date], Found | None]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), handler)
    for pattern, handler in (
        (r"\b(?P<y>(?:19|20)\d\d)-(?P<m>0[1-9]|1[0-2])-(?P<d>[0-2]\d|3[01])(?!\d)", _iso),
        (rf"\b(?:the\s+)?{_DAY}\s+(?:of\s+)?(?P<m>{_MONTH})(?:,?\s+{_YEAR})?(?![\w-])", _full),
        (rf"\b(?P<m>{_MONTH})\s+(?:the\s+)?{_DAY}(?!\d|:|\s*(?:am|pm|%))\b(?:,?\s+{_YEAR}\b)?", _full),
        (rf"\b(?P<m>{_MONTH}),?\s+(?:of\s+)?{_YEAR}\b", _month_year),
        (rf"\b{_SEASON}\s+(?:of\s+)?{_YEAR}\b", _season_year),
        (r"\b(?:the\s+)?day\s+(?:before\s+yesterday|after\s+tomorrow)\b", _relative_day),
        (r"\b(?:yesterday|tomorrow)(?:\s+(?:morning|afternoon|evening|night))?\b|\blast\s+night\b", _relative_day),
        (r"\b(?:today|tonight|this\s+(?:morning|afternoon|evening))\b", _relative_day),
        (rf"\b(?P<which>this\s+past|this\s+coming|last|next|this|on|past)\s+(?P<w>{_WEEKDAY})", _which_weekday),
        (r"\b(?:earlier\s+)?(?P<which>this\s+past|this\s+coming|last|next|this|the\s+past|the\s+previous|the\s+following)\s+"
         r"(?P<unit>weekend|week|month|year|spring|summer|autumn|fall|winter)\b(?!\s+(?:and\s+a|or\s+so))",
         _which_unit),
        (rf"\b{_N}\s+{_UNIT}\s+(?:ago|back|earlier)\b", _ago),
        (rf"\b{_VAGUE}\s+(?P<unit>day|weekend|week|month|year)s?\s+(?:ago|back|earlier)\b", _vague_away),
        (r"\bthe\s+other\s+(?:day|night)\b", _other_day),
        (rf"\b{_N}\s+{_UNIT}\s+from\s+now\b", _ahead),
        (rf"\bin\s+{_N}\s+{_UNIT}(?:['’]\s*time)?\b(?!\s+(?:of|or)\b)", _ahead),
        (rf"\b(?:(?P<which>last|next|this)|{_WHICH_M})[\s-]+(?P<m>{_MONTH})(?!\s+\d|\w)", _bare_month),
        (r"\b(?P<which>)(?P<m>(?-i:January|February|April|June|July|September|October|November|December))\b(?!\s+\d)",
         _bare_month),
        (rf"\b(?:in|since|until|till|by|during|around|of|from|year|early|late|mid)[\s-]+{_YEAR}(?!['’]s|\w|-\d|[.,]\d)",
         _bare_year),
    )
)  # fmt: skip
_CUE = re.compile(
    r"\d|day|night|week|month|year|ago|from\s+now|last|next|this|tomorrow|summer|winter|spring|autumn|fall|"
    r"jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    rf"\bthe\s+(?P<unit>day|weekend|week|month|year|{_WEEKDAY})\s+(?P<side>before|after)\b(?P<gap>\s+)?", re.IGNORECASE
)


def _sideways(m: re.Match[str], at: date, anchor: DateMention | None) -> Found | None:
    """ "the week before" a date: the one that follows, the one said before it, or the message's own."""
    unit, before = m.group("unit").lower(), m.group("side").lower() == "before"
    day = at if anchor is None else anchor.first if before else anchor.last
    side = "before" if before else "after"
    sign = -1 if before else 1
    if unit == "day":
        return _day(day + timedelta(sign))
    if unit == "month":
        return _month(day + relativedelta(months=sign))
    if unit == "year":
        return _year(day.year + sign)
    if unit in ("week", "weekend"):
        first, last = (day - timedelta(7), day - timedelta(1)) if before else (day + timedelta(1), day + timedelta(7))
        return first, last, "week", f"the {unit} {side} {day_phrase(day)}"
    number = _weekday_number(unit)
    away = (day.weekday() - number - 1) % 7 + 1 if before else (number - day.weekday() - 1) % 7 + 1
    said = day + timedelta(sign * away)
    return said, said, "day", f"the {WEEKDAYS[number]} {side} {day_phrase(day)}"


def _with_sides(text: str, at: date, found: list[DateMention]) -> list[DateMention]:
    """The mentions with "the week before ..." resolved, which needs the others."""
    out = list(found)
    for m in _BEFORE.finditer(text):
        follows = next((f for f in found if f.start == m.end() and m.group("gap")), None)
        rest = text[m.end() :].lstrip()
        if (
            follows is None
            and rest
            and re.match(r"[^\W\d_]", rest)
            and not re.match(r"(?:and|but|so|i|we)\b", rest, re.I)
        ):
            continue  # "the week before the wedding": not known when
        if any(f.start <= m.start() < f.end for f in found):
            continue
        anchor = follows or next((f for f in reversed(found) if f.end <= m.start()), None)
        end = follows.end if follows else m.end("side")
        try:
            got = _sideways(m, at, anchor)
        except (OverflowError, ValueError):
            continue
        if got:
            out = [f for f in out if f is not follows]
            out.append(DateMention(m.start(), end, text[m.start() : end], *got))
    return sorted(out, key=lambda f: f.start)


def find_dates(text: str, at: datetime) -> list[DateMention]:
    """The date expressions of `text`, in order and not overlapping, as meant by somebody writing at `at`."""
    if not _CUE.search(text):
        return []
    today = at.date()
    found: list[DateMention] = []
    taken: list[tuple[int, int]] = []
    for pattern, handler in _RULES:
        for m in pattern.finditer(text):
            if any(a < m.end() and m.start() < b for a, b in taken):
                continue
            try:
                got = handler(m, today)
            except (OverflowError, ValueError):
                continue
            if got is not None:
                end = m.start() + len(m.group().rstrip())
                found.append(DateMention(m.start(), end, text[m.start() : end], *got))
                taken.append((m.start(), end))
    found.sort(key=lambda f: f.start)
    return _with_sides(text, today, found)
