"""The words of a sentence with their shapes, and the runs of them that may answer a question.

A run has at most twelve words and begins and ends where phrases do. All is read off the words themselves, by lists
of function words: no parser, no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from agentmem.asking import Asking, fact_word
from agentmem.language import STOP_WORDS, stem, word_set, word_spans
from agentmem.word_classes import ADJECTIVES, FILLERS, VERBS

MAX_SPAN_WORDS = 12
MAX_LIST_WORDS = 20
_COLOUR = stem("color")
_COLOURS = word_set(
    "red blue green yellow black white brown grey gray orange purple pink silver gold beige turquoise teal violet"
)
_DETERMINERS = word_set("a an the my his her their our your its this these those some any every each another")
_PREPOSITIONS = word_set(
    "in on at to from with for by of about into through during after before near around over under between against "
    "since until like as than without within along across behind onto toward towards"
)
_PLACING = word_set("in at on to from near around over under into across behind along through between outside inside")
_JOINERS = word_set("and or but so because that which who when while if where than then though although since whether")
_PRONOUNS = word_set(
    "i you he she it we they me him us them there i'm i've i'd i'll it's we're we've they're you're he's she's that's"
)
_AUXILIARIES = word_set(
    "am is are was were be been being have has had having do does did will would can could should may might must "
    "don't didn't doesn't can't couldn't won't wouldn't isn't wasn't aren't weren't haven't hasn't not just really "
    "also still even very so too always never get got let let's"
)
_NUMBERS = word_set(
    "one two three four five six seven eight nine ten eleven twelve dozen hundred thousand couple few "
    "several once twice"
)
_ABOUT = word_set("about around almost nearly over under at up a an only just roughly")
UNITS = word_set(
    "second seconds minute minutes hour hours day days week weeks month months year years decade decades weekend daily "
    "weekly monthly yearly times time"
)
_NEVER_LAST = (
    _DETERMINERS
    | (_PREPOSITIONS - {"before", "around", "over", "through"})
    | _JOINERS
    | _AUXILIARIES
    | (_PRONOUNS - {"me", "him", "us", "them", "it"})
)
_SUBJECTS = word_set("i he she we they i'm i've i'll i'd we're we've they're he's she's")
_NEVER_FIRST = _JOINERS - {"because"} | word_set(
    "is are was were am be been being has have had do does did will would can get got"
)


class Word(NamedTuple):
    """A word of a sentence: where it stands, its lower-case form, its stem ("" for a stop word), its shape, and
    whether a stop lies between it and the next word."""

    start: int
    end: int
    low: str
    stem: str
    shape: str
    gap: str


def _shape(word: str, low: str, first: bool) -> str:
    if low in _DETERMINERS:
        return "det"
    if low in _PRONOUNS:
        return "pron"
    if low in _PREPOSITIONS:
        return "to" if low == "to" else "prep"
    if low in _JOINERS:
        return "join"
    if low in _AUXILIARIES:
        return "aux"
    if low[0].isdigit() or low in _NUMBERS:
        return "num"
    if word[0].isupper() and not first:
        return "cap"
    if low in ADJECTIVES:
        return "adj"
    if low.endswith("ing") and len(low) > 4:
        return "ing"
    if (low.endswith("ed") and len(low) > 3) or stem(low) in VERBS:
        return "verb"
    if low in ADJECTIVES or (low.endswith(("ful", "ous", "ive", "able", "ible", "less", "ish")) and len(low) > 5):
        return "adj"
    if low.endswith("ly") and len(low) > 3:
        return "ly"
    return "word"


@lru_cache(maxsize=50_000)
def _read_word(text: str, first: bool) -> tuple[str, str, str]:
    """The lower-case form, the stem and the shape of a word."""
    low = text.lower().replace("’", "'")
    base = low.split("'")[0]
    return low, "" if base in STOP_WORDS else fact_word(stem(base)), _shape(text, low, first)


def read_words(sentence: str) -> list[Word]:
    """The words of a sentence with their shapes."""
    places = word_spans(sentence)
    ends = [start for start, _ in places[1:]]
    out = []
    for i, (start, end) in enumerate(places):
        raw = sentence[end : ends[i]] if i < len(ends) else "."
        gap = "\u2014" if raw.strip() == "-" and raw != "-" else raw.strip()
        out.append(Word(start, end, *_read_word(sentence[start:end], i == 0), gap))
    return out


def suits(asking: Asking, words: list[Word], i: int, j: int) -> bool:
    """Whether the run [i, j) is of the kind that is asked for, as far as words can tell."""
    inside = words[i:j]
    if asking.kind in ("who", "where", "what") and any(w.stem in asking.proper for w in inside):
        return False  # whom the question names is not who is asked for
    match asking.kind:
        case "number":
            return inside[0].shape == "num" or (inside[0].low in _ABOUT and any(w.shape == "num" for w in inside))
        case "duration":
            return any(w.shape == "num" or w.low in UNITS or w.low in ("always", "forever") for w in inside)
        case "who":
            placed = i > 0 and not words[i - 1].gap and words[i - 1].low in ("in", "at", "to", "from", "on")
            return not (placed and inside[0].shape == "cap")
        case "where":  # "a nurse at the city hospital": the place begins behind the "at"
            left = [w.low for w in words[max(0, i - 2) : i] if w.shape != "det"][-1:]
            return inside[0].shape == "cap" or bool({*left, inside[0].low} & _PLACING)
        case "why":  # what follows a "because" is the reason, as a whole
            if "because" not in [w.low for w in words]:
                return True
            ends = j == len(words) or bool(words[j - 1].gap) or j - i >= MAX_SPAN_WORDS
            return ends and any(w.low == "because" for w in (words[max(0, i - 1)], words[i]))
        case "what" if _COLOUR in asking.focus:
            return j - i <= 2 and any(w.low in _COLOURS for w in inside)
        case "what":  # "3 years old" is no answer to it
            if all(w.shape == "num" for w in inside):
                return False
            counted = inside[0].shape == "num" or (i > 0 and words[i - 1].shape == "num")
            return not (counted and (inside[-1].low in UNITS or inside[-1].low == "old"))
        case _:
            return True


def _breaks(gap: str) -> bool:
    """Whether a phrase can't go on over this gap."""
    return any(c in ".!?;:()[]—–…" for c in gap)


def _new_clause(last: Word, following: Word) -> bool:
    """Whether a clause with its own subject begins: "Anna and I live", "late, he said"."""
    return following.low in _SUBJECTS and (bool(last.gap) or last.shape == "join")


_ASIDE = re.compile(
    r"\b(?:by\s+the\s+way|btw|you\s+know|i\s+think|i\s+guess|to\s+be\s+honest|of\s+course|lol|haha|please|though|too|"
    r"as\s+well)\b",
    re.IGNORECASE,
)


def asides(sentence: str) -> list[tuple[int, int]]:
    """Where words stand that say nothing about the matter ("by the way")."""
    return [m.span() for m in _ASIDE.finditer(sentence)]


def runs(words: list[Word], left_out: Sequence[tuple[int, int]] = ()) -> Iterator[tuple[int, int]]:
    """The word runs [i, j) that may be an answer, none with a character of the places left out."""
    closed = [any(w.start < b and a < w.end for a, b in left_out) for w in words]
    for i, first in enumerate(words):
        if closed[i] or first.low in _NEVER_FIRST or first.low in _PRONOUNS or (i and words[i - 1].gap == "-"):
            continue
        if first.low in FILLERS or first.shape == "ly":
            continue
        content = False
        commas = 0
        for j in range(i + 1, len(words) + 1):
            last = words[j - 1]
            if j - i > MAX_SPAN_WORDS and (not commas or j - i > MAX_LIST_WORDS):
                break
            commas += j > i + 1 and "," in words[j - 2].gap
            content = content or bool(last.stem) or last.shape == "num"
            if content and last.low not in _NEVER_LAST and last.gap != "-":
                yield i, j
            if j < len(words) and (closed[j] or _breaks(last.gap) or _new_clause(last, words[j])):
                break


_PLACE = re.compile(r"\b(?:in|at|to|from|near|around|on)\s+(?:the\s+|a\s+|an\s+|my\s+|our\s+)?[A-Za-z]")
_REASON = re.compile(r"\b(?:because|since|so\s+that|reason|inspired|motivat\w+|to\s+\w+|as\s+it)\b", re.IGNORECASE)


def type_match(asking: Asking, words: list[Word], sentence: str, dated: bool) -> float:
    """Whether the sentence has what the question asks for: a date, a number, a name, a place, a reason."""
    match asking.kind:
        case "when":
            return float(dated)
        case "duration":
            return float(any(w.low in UNITS for w in words) and any(w.shape in ("num", "det") for w in words))
        case "number":
            return float(any(w.shape == "num" or w.low in ("a", "an") for w in words) * 0.5
                         + 0.5 * any(w.shape == "num" for w in words))  # fmt: skip
        case "who":
            return float(any(w.shape == "cap" and w.stem not in asking.words for w in words))
        case "where":
            return float(bool(_PLACE.search(sentence)))
        case "why":
            return float(bool(_REASON.search(sentence)))
        case _:
            return 0.5
