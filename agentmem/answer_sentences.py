"""The sentences that may answer a question, each with the named features by which it does.

What each feature is worth stands in `agentmem.reading_weights`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import accumulate

from agentmem.asking import MAX_READ
from agentmem.dates import DateMention, find_dates
from agentmem.evidence import Evidence, Sentence, pairs_of
from agentmem.language import is_question, word_set
from agentmem.spans import Word, type_match

READ = 12
"""Sentences are taken from so many of the best items; the others only tell what is around them."""
FEW = 6
"""Among fewer items than these the spread of the hits' scores says less, and counts less."""
_PICTURE = re.compile(
    r"\b(?:photo|picture|image|share|shared|show|showed|painting|poster|sign|see|saw|drawing)\w*\b", re.IGNORECASE
)
_POLITE = word_set("thanks thank wow hey hi hello yeah yep cool great awesome congrats sorry bye haha sure ok okay")
_SPEAKER = word_set("i my we our me mine us")
_LISTENER = word_set("you your yours")
_TO_COME = re.compile(
    r"\b(?:will|going\s+to|plan|plans|planning|planned|planing)\b|\b(?:is|are)\s+\w+\s+\w+ing\b", re.IGNORECASE
)
_ONSET = re.compile(
    r"(?:\bbeen\b|['’]ve\b|\bhave\b|\bhad\b|\bhas\b)[^.!?]{0,60}?\bfor\s+(?:about\s+|around\s+|almost\s+|nearly\s+|over\s+|roughly\s+)?"
    r"((?:an?|\d{1,2}|two|three|four|five|six|seven|eight|nine|ten|twelve)\s+(?:day|week|month|year)s?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may answer: the characters `start` to `end` of item number `item`."""

    item: int
    start: int
    end: int
    text: str
    words: list[Word]
    dates: list[DateMention]
    features: dict[str, float]


def _onset(text: str, at: datetime) -> list[DateMention]:
    """When what lasts began: "I've been playing for four months" is four months ago."""
    out = []
    for m in _ONSET.finditer(text):
        for d in find_dates(f"{m.group(1)} ago", at):
            out.append(DateMention(m.start(1), m.end(1), m.group(1), d.first, d.last, d.precision, d.phrase))
    return out


def _dates(evidence: Evidence, text: str, at: datetime) -> list[DateMention]:
    if evidence.asking.kind != "when" and not evidence.days:
        return []
    found = find_dates(text, at)
    if not found and evidence.asking.kind == "when" and "begin" in evidence.asking.words:
        return _onset(text, at)
    return found


def _in_asked_days(evidence: Evidence, at: date, dates: Sequence[DateMention]) -> float:
    """1 when the question names days and something was said then, or is said to have been then."""
    for first, last in evidence.days:
        if (first <= at and (at - last).days <= 1) or any(d.first <= last and first <= d.last for d in dates):
            return 1.0
    return 0.0


def candidates(evidence: Evidence) -> list[Candidate]:
    """All sentences of the best items with their features, in the items' order."""
    items = evidence.items[:READ]
    scores = [i.hit.score for i in items]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    few = min(1.0, len(scores) / FEW)
    out: list[Candidate] = []
    for k in range(len(items)):
        score = 1.0 - few * (high - scores[k]) / (high - low) if high > low else 1.0
        out += _of_item(evidence, k, score)
    return out


def _around(evidence: Evidence, k: int, score: float) -> dict[str, float]:
    """What all sentences of item k share."""
    own = evidence.stems[k]
    covered = evidence.cover(own)

    def added(stems: frozenset[str]) -> float:
        return evidence.cover(stems | own) - covered

    before, after = evidence.neighbour(k, -1), evidence.neighbour(k, 1)
    around = frozenset().union(*(evidence.stems[n] for n in evidence.near(k, 3)), own)
    return {
        "score": score,
        "top": float(score == 1.0),
        "rank": 1.0 / (1 + k),
        "item cover": covered,
        "previous cover": added(evidence.stems[before]) if before is not None else 0.0,
        "next cover": added(evidence.stems[after]) if after is not None else 0.0,
        "around cover": added(around),
        "session cover": added(evidence.session(k)),
        "item verb": float(evidence.asking.verb in own),
        "item rarest": float(evidence.rarest in own),
        "around rarest": float(evidence.rarest in around),
        "speaker": evidence.speaks(k),
        "subject speaks": evidence.subject_speaks(k),
    }


def _asked_before(evidence: Evidence, k: int) -> tuple[bool, float]:
    """Whether the message before item k asks, and how much of the question its own questions cover."""
    before = evidence.neighbour(k, -1)
    if before is None or not evidence.items[before].text.rstrip().endswith("?"):
        return False, 0.0
    text = evidence.items[before].text
    asked = (s.stems for s in evidence.read[before] if is_question(text[s.start : s.end]))
    return True, evidence.cover(frozenset().union(*asked))


def _of_item(evidence: Evidence, k: int, score: float) -> list[Candidate]:
    item = evidence.items[k]
    shared = _around(evidence, k, score)
    asks_before, asked = _asked_before(evidence, k)
    covers = [evidence.cover(s.stems) for s in evidence.read[k]]
    best = max(covers, default=0.0)
    best_before = list(accumulate(covers, max, initial=0.0))
    best_after = list(accumulate(reversed(covers), max, initial=0.0))[-2::-1]
    out: list[Candidate] = []
    previous: frozenset[str] = frozenset()
    for n, s in enumerate(evidence.read[k]):
        text = item.text[s.start : s.end]
        dates = _dates(evidence, text, item.hit.at)
        features = shared | _of_sentence(evidence, s, text, dates, covers[n])
        features |= {
            "gain of previous sentence": evidence.cover(s.stems | previous) - covers[n],
            "better before": max(0.0, best_before[n] - covers[n]),
            "better after": max(0.0, best_after[n] - covers[n]),
            "best of item": float(0.0 < covers[n] == best),
            "answers a question": float(asks_before and n < 2),
            "answers the question": asked if n < 2 else asked / 2,
            "asked days": _in_asked_days(evidence, item.hit.at.date(), dates),
            "first": float(n == 0),
            "last": float(n == len(covers) - 1),
        }
        speaks = shared["speaker"]
        features["own first person"] = float(features["first person"] and speaks > 0)
        features["other's first person"] = float(features["first person"] and speaks < 0)
        features["other's second person"] = float(features["second person"] and speaks < 0)
        if dates and evidence.asking.kind == "when":
            ahead = min(dates, key=lambda d: d.first).first > item.hit.at.date()
            features["date to come"] = float(ahead and not _TO_COME.search(evidence.asking.text[:MAX_READ]))
        previous = s.stems
        out.append(Candidate(k, s.start, s.end, text, s.words, dates, features))
    if any(c.dates for c in out):
        for c in out:
            c.features["item dated"] = 1.0
    return out


def _of_sentence(
    evidence: Evidence, s: Sentence, text: str, dates: Sequence[DateMention], cover: float
) -> dict[str, float]:
    """What a sentence has by itself."""
    asking, kind, form = evidence.asking, evidence.asking.kind, evidence.asking.form
    matched, fresh = s.stems & asking.words, s.stems - asking.words
    lows = {w.low.split("'")[0] for w in s.words}
    fits = type_match(asking, s.words, text, bool(dates))
    new = math.log1p(len(fresh))
    bracketed = text[0] in "[("
    names = evidence.titled and any(
        w.shape == "cap" and w.stem in fresh and w.stem not in evidence.names for w in s.words if w.stem
    )
    return {
        "cover": cover,
        "matched words": min(4, len(matched)) / 4,
        "nothing matched": float(not matched),
        "bigrams": min(3, len(evidence.pairs & pairs_of(s.words))) / 3,
        "verb": float(asking.verb in s.stems),
        "rarest": float(evidence.rarest in s.stems),
        "proper": len(asking.proper & s.stems) / max(1, len(asking.proper)),
        "focus": float(bool(asking.focus & s.stems)),
        "head": float(bool(asking.head & s.stems)),
        "type": fits,
        f"{kind} type": fits,
        f"listed by {evidence.told_by}": float(bool(fresh & evidence.expected)),
        "titled": float(names),
        "new": new,
        f"{form} new": new,
        f"{form} cover": cover,
        "no content": float(not fresh),
        "asks": float(is_question(text)),
        "bracketed": float(bracketed),
        "pictured": float(bracketed and bool(_PICTURE.search(asking.text[:MAX_READ]))),
        "first person": float(bool(lows & _SPEAKER)),
        "second person": float(bool(lows & _LISTENER)),
        "polite": float(s.words[0].low in _POLITE),
        "short": float(len(s.words) < 5),
        "long": float(len(s.words) > 20),
    }
