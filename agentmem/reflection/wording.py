"""The words of short texts as consolidation compares them: stems, digits for numbers, and when two are alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from agentmem.language import STOP_WORDS, stem, word_set

TOKEN = re.compile(
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|[$€£]?\d+(?:[.,:/]\d+)*[^\W\d_]*(?:-\d+)*|[^\W_]+(?:['’_.-][^\W_]+)*|[,;:()–—\"“”]"
)
SHORT = (
    (re.compile(r"\bcan['’]t\b", re.I), "can not"),
    (re.compile(r"\bwon['’]t\b", re.I), "will not"),
    (re.compile(r"n['’]t\b", re.I), " not"),
    (re.compile(r"\bI['’]m\b", re.I), "I am"),
    (re.compile(r"['’]ve\b", re.I), " have"),
    (re.compile(r"['’]re\b", re.I), " are"),
    (re.compile(r"['’]ll\b", re.I), " will"),
    (re.compile(r"['’]d\b", re.I), " would"),
    (re.compile(r"\b(he|she|it|that|there|who|what|here)['’]s\b", re.I), r"\1 is"),
    # "Ida's three now", "the reception's at the boathouse": not what is hers or its.
    (
        re.compile(
            r"(?<!\bat )(?<!\bto )\b([^\W\d_]+)['’]s"
            r"(?=\s+(?:an?|the|at|in|on|now|not|from|called|my|our|gone|off|over|due|"
            r"closed|(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten)(?:\s+(?:now|today|already)|(?=[.,!]|$)))(?![\w-]))",
            re.I,
        ),
        r"\1 is",
    ),
    (re.compile(r"\b(Mr|Mrs|Ms|Dr|St|Prof)\.", re.I), r"\1"),
    (re.compile(r"\bcannot\b", re.I), "can not"),
    (re.compile(r"\b(?:have|has) got\b", re.I), "have"),
    (re.compile(r"\b(any)\s+(more|longer)\b", re.I), r"anymore"),
    (re.compile(r"\b(take|takes|took|taken|taking)\s+place\b", re.I), "is"),
    (re.compile(r"\b(is|are|be|was|were|been)\s+(?:being\s+)?(?:held|located|situated)\b", re.I), r"\1"),
    (re.compile(r"\b(\d[\d.,]*|one|two|three|four|five)\s+million\b", re.I), r"\1 000000"),
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
)
NUMBERS = {
    w: str(n)
    for n, w in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ]
    )
} | {"thirty": "30", "forty": "40", "fifty": "50", "hundred": "100", "once": "1", "twice": "2", "noon": "12:00"}
NUMBERS |= {
    w: str(n)
    for n, w in (
        (20, "twenty"),
        (40, "forty"),
        (50, "fifty"),
        (60, "sixty"),
        (70, "seventy"),
        (80, "eighty"),
        (90, "ninety"),
    )
}
NUMBERS |= {
    f"{tens}-{units}": str(10 * (2 + t) + u)
    for t, tens in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"])
    for u, units in enumerate(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], 1)
}
WEEKDAY = re.compile(
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?|(?:january|february|march|april|may|june|july|august|september|"
    r"october|november|december)|\d{1,2}:\d\d|[ap]m|noon|midnight|weekdays?|mornings?|evenings?|\d+(?:st|nd|rd|th)",
    re.I,
)
_EMPTY = word_set(
    "now currently actually really just recently still mostly usually mainly already finally again these days today "
    "instead anymore please correction total etc mr mrs ms dr phew call called always sadly longer earlier new current"
)


def canonical(tokens: Iterable[str]) -> tuple[str, ...]:
    """The content words of tokens as stems, numbers as digits, in order."""
    out: list[str] = []
    for token in tokens:
        low = token.lower().replace("’", "'")
        low = low[:-2] if low.endswith("'s") else low.rstrip("'")
        if token == "May":
            out.append("may")
        elif low in NUMBERS and not (low == "one" and out and out[-1] == "no"):
            out.append(NUMBERS[low])
        elif low[:1].isdigit() or low[:1] in "$€£":
            out.append(low.strip("$€£"))
        elif low and low[0].isalpha() and low not in STOP_WORDS and low not in _EMPTY:
            out.append(stem(low))
    return tuple(out)


def tokens_of(text: str) -> tuple[str, ...]:
    """The words, numbers and addresses of a text as written, contractions written out."""
    for pattern, instead in SHORT:
        text = pattern.sub(instead, text)
    return tuple(t for t in TOKEN.findall(text) if t not in ',;:()–—"“”')


def spoken_by(text: str) -> tuple[str, str]:
    """The speaker in front of a text ("Tom: I moved"), "" when there is none, and what was said."""
    found = re.match(r"\s*([A-ZÀ-Þ][\w'’.-]*(?: [A-ZÀ-Þ][\w'’.-]*)?):\s+(?=\S)", text)
    first_person = found is not None and re.search(r"\b(?:I|[Mm]y|[Mm]e|[Ww]e|[Oo]ur|mine|us)\b", text[found.end() :])
    return (found.group(1), text[found.end() :]) if found and first_person else ("", text)


def kind_of(rest: Sequence[str]) -> str:
    """What sort of value stands behind the verb: "time", "number", "name", or "words"."""
    if any(WEEKDAY.fullmatch(t) for t in rest):
        return "time"
    if any(t[:1].isupper() and not (t.isupper() and len(t) < 4) for t in rest):
        return "name"
    if any(t.strip("$€£")[:1].isdigit() or t.lower() in NUMBERS for t in rest):
        return "number"
    coded = len(rest) == 1 and "-" in rest[0]
    return (
        "name" if coded or any(t[:1].isupper() or any(c.isdigit() or c in "@_" for c in t) for t in rest) else "words"
    )


def alike(a: str, b: str) -> bool:
    """Whether two stems mean the same: equal, or one word's forms ("allerg", "allergi")."""
    if a == b:
        return True
    shortest = min(len(a), len(b))
    return shortest >= 5 and a.isalpha() and b.isalpha() and _shared(a, b) >= max(5, shortest - 2)


def _shared(a: str, b: str) -> int:
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def among(word: str, others: Iterable[str]) -> bool:
    """Whether a word is alike to one of others."""
    return any(alike(word, o) for o in others)


def within(words: Iterable[str], others: Iterable[str]) -> bool:
    """Whether all words are alike to some of others."""
    others = tuple(others)
    return all(among(w, others) for w in words)


def any_among(words: Iterable[str], others: Iterable[str]) -> bool:
    """Whether one of the words is alike to one of others."""
    others = tuple(others)
    return any(among(w, others) for w in words)


def same_words(a: Iterable[str], b: Iterable[str]) -> bool:
    """Whether two collections have the same words, forms aside."""
    a, b = tuple(a), tuple(b)
    return within(a, b) and within(b, a)


def same_names(a: Iterable[str], b: Iterable[str]) -> bool:
    """Whether two collections have the same words but for a plural: Maria is not Marie."""
    return {w.rstrip("s") for w in a} == {w.rstrip("s") for w in b}


def names_within(names: Iterable[str], others: Iterable[str]) -> bool:
    """Whether all names stand among others, but for a plural."""
    return {w.rstrip("s") for w in names} <= {w.rstrip("s") for w in others}


def numbers_in(words: Iterable[str]) -> frozenset[str]:
    """The words that are numbers."""
    return frozenset(w for w in words if w[:1].isdigit())
