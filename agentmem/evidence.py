"""The sentences of what memory paged in, each with the features by which one may answer a question.

The features are named; what each is worth stands in `agentmem.reading_weights`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from agentmem.asking import Asking, fact_words, read_question
from agentmem.dates import DateMention, find_dates
from agentmem.language import is_question, sentences, word_set
from agentmem.spans import Word, read_words, type_match
from agentmem.types import PageItem, Tier

GENERIC = frozenset(
    fact_words(
        "name color kind type sort time thing way number year month day week date place person people number amount "
        "many "
        "feel think say tell describe mention talk discuss plan happen reason specific particular recently currently"
    )
)
"""Words that say what is asked for rather than about what; they count less."""
GENERIC_WORTH = 0.4
FEW = 6
"""Among fewer items than these the spread of the hits' scores says less, and counts less."""
_RECALL_ID = re.compile(r"m(\d+)")
_POLITE = word_set("thanks thank wow hey hi hello yeah yep cool great awesome congrats sorry bye haha sure ok okay")
_SPEAKER = word_set("i my we our me mine us")
_LISTENER = word_set("you your yours")


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


class Evidence:
    """A question beside the items paged in for it: how rare words are among them, and what covers the question."""

    def __init__(self, question: str, items: Sequence[PageItem], asked_at: datetime | None = None) -> None:
        self.items = items
        names = {i.hit.name for i in items if i.hit.name}
        at = asked_at or max((i.hit.at.replace(tzinfo=None) for i in items), default=None)
        days = find_dates(question, at) if at is not None else []
        self.days = [(d.first, d.last) for d in days]
        for d in reversed(days):  # a date is asked for by its days, not by its words
            question = question[: d.start] + question[d.end :]
        self.asking: Asking = read_question(question, names)
        self.names = frozenset(s for n in names for s in fact_words(n))
        self.users = {i.hit.name for i in items if i.hit.role == "user"}
        self._read = [[(a, b, read_words(i.text[a:b])) for a, b in sentences(i.text)] for i in items]
        self.stems = [frozenset(w.stem for _, _, ws in read for w in ws if w.stem) for read in self._read]
        counts = Counter(s for stems in self.stems for s in stems)
        n = len(items)
        self.rarity = {w: math.log(1 + n / (1 + counts[w])) for w in {*counts, *self.asking.words}}
        generic = self.asking.words & GENERIC
        if generic != self.asking.words:
            self.rarity |= {w: GENERIC_WORTH * self.rarity[w] for w in generic}
        self._total = sum(self.rarity[w] for w in self.asking.words)
        self._by_number: dict[int, int] = {}
        for k, item in enumerate(items):
            if item.hit.tier is Tier.RECALL and (m := _RECALL_ID.fullmatch(item.hit.id)):
                self._by_number[int(m.group(1))] = k

    def cover(self, stems: frozenset[str]) -> float:
        """The share of the question's content words, by rarity, that are among these."""
        if not self._total:
            return 0.0
        return sum(self.rarity[w] for w in self.asking.words & stems) / self._total

    def neighbour(self, k: int, step: int) -> int | None:
        """The item that holds the message before (-1) or after (+1) that of item k."""
        m = _RECALL_ID.fullmatch(self.items[k].hit.id) if self.items[k].hit.tier is Tier.RECALL else None
        return self._by_number.get(int(m.group(1)) + step) if m else None

    def speaks(self, k: int) -> float:
        """1 when item k is by the one whom the question is about, -1 when by another, 0 when it is not known."""
        hit, asking = self.items[k].hit, self.asking
        if asking.assistant or (asking.own and len(self.users) == 1):
            if hit.tier is not Tier.RECALL:
                return 0.0
            return 1.0 if (hit.role == "assistant") == asking.assistant else -1.0
        if len(asking.named) == 1 and hit.name:
            return 1.0 if hit.name in asking.named else -1.0
        return 0.0

    def is_elsewhere(self, stems: frozenset[str]) -> bool:
        """Whether what is asked about is not among these words: somebody named as the one who does it, or, when they
        cover less than half of the question, something of the asker's own ("my brother")."""
        if self.asking.subject - stems:
            return True
        return bool(self.asking.mine - stems - GENERIC) and self.cover(stems) < 0.5

    def _in_asked_days(self, at: date, dates: Sequence[DateMention]) -> float:
        """1 when the question names days and something was said then, or is said to have been then."""
        for first, last in self.days:
            if (first <= at and (at - last).days <= 1) or any(d.first <= last and first <= d.last for d in dates):
                return 1.0
        return 0.0

    def candidates(self) -> list[Candidate]:
        """All sentences with their features, in the items' order."""
        scores = [i.hit.score for i in self.items]
        low, high = min(scores, default=0.0), max(scores, default=0.0)
        few = min(1.0, len(scores) / FEW)
        out: list[Candidate] = []
        for k, item in enumerate(self.items):
            score = 1.0 - few * (high - scores[k]) / (high - low) if high > low else 1.0
            out += self._of_item(k, item, score)
        return out

    def _of_item(self, k: int, item: PageItem, score: float) -> list[Candidate]:
        asking = self.asking
        covered = self.cover(self.stems[k])
        before = self.neighbour(k, -1)
        prior = self.cover(self.stems[before] | self.stems[k]) - covered if before is not None else 0.0
        asked_before = before is not None and self.items[before].text.rstrip().endswith("?")
        shared = {
            "score": score,
            "top": float(score == 1.0),
            "item cover": covered,
            "previous cover": prior,
            "speaker": self.speaks(k),
        }
        out: list[Candidate] = []
        item_dated = False
        for n, (start, end, words) in enumerate(self._read[k]):
            if not words:
                continue
            text = item.text[start:end]
            dates = find_dates(text, item.hit.at) if asking.kind == "when" or self.days else []
            item_dated = item_dated or bool(dates)
            stems = frozenset(w.stem for w in words if w.stem)
            lows = {w.low.split("'")[0] for w in words}
            fits = type_match(asking, words, text, bool(dates))
            new = len(stems - asking.words)
            features = shared | {
                "cover": self.cover(stems),
                "type": fits,
                f"{asking.kind} type": fits,
                "new": math.log1p(new),
                "no content": float(not new),
                "asks": float(is_question(text)),
                "bracketed": float(text[0] in "[("),
                "answers a question": float(asked_before and n < 2),
                "focus": float(bool(asking.focus & stems)),
                "first person": float(bool(lows & _SPEAKER)),
                "second person": float(bool(lows & _LISTENER)),
                "asked days": self._in_asked_days(item.hit.at.date(), dates),
                "polite": float(words[0].low in _POLITE),
            }
            out.append(Candidate(k, start, end, text, words, dates, features))
        if item_dated:
            for c in out:
                c.features["item dated"] = 1.0
        return out
