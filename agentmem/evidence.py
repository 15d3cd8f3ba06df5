"""A question beside what memory paged in for it: how rare its words are there, who says them, what covers it."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agentmem.answer_types import TITLED, expected
from agentmem.asking import Asking, fact_words, read_question
from agentmem.dates import find_dates
from agentmem.language import sentences
from agentmem.spans import Word, read_words
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
MAX_SENTENCE_WORDS = 150
"""What goes on for longer without a stop is no sentence (a log, a list): it is read in pieces."""
_RECALL_ID = re.compile(r"m(\d+)")


@dataclass(frozen=True, slots=True)
class Sentence:
    """The characters `start` to `end` of an item, their words, and the stems of those that are content words."""

    start: int
    end: int
    words: list[Word]
    stems: frozenset[str]


def _read(text: str) -> list[Sentence]:
    out = []
    for start, end in sentences(text):
        words = read_words(text[start:end])
        for first in range(0, len(words), MAX_SENTENCE_WORDS):
            some = words[first : first + MAX_SENTENCE_WORDS]
            stems = frozenset(w.stem for w in some if w.stem)
            if len(words) <= MAX_SENTENCE_WORDS:
                out.append(Sentence(start, end, some, stems))
                continue
            a, b = some[0].start, some[-1].end
            moved = [w._replace(start=w.start - a, end=w.end - a) for w in some]
            out.append(Sentence(start + a, start + b, moved, stems))
    return out


def pairs_of(words: Sequence[Word]) -> frozenset[tuple[str, str]]:
    """The pairs of content words that follow each other."""
    stems = [w.stem for w in words if w.stem]
    return frozenset(itertools.pairwise(stems))


class Evidence:
    """A question beside the items paged in for it: how rare words are among them, and what covers the question."""

    def __init__(self, question: str, items: Sequence[PageItem], asked_at: datetime | None = None) -> None:
        """`items`, best first; `asked_at` resolves the question's own dates, without it the newest item's time."""
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
        self.read = [_read(i.text) for i in items]
        self.stems = [frozenset().union(*(s.stems for s in read)) for read in self.read]
        counts = Counter(s for stems in self.stems for s in stems)
        n = len(items)
        self.rarity = {w: math.log(1 + n / (1 + counts[w])) for w in {*counts, *self.asking.words}}
        generic = self.asking.words & GENERIC
        if generic != self.asking.words:
            self.rarity |= {w: GENERIC_WORTH * self.rarity[w] for w in generic}
        self.rarest = max(sorted(self.asking.words), key=lambda w: self.rarity[w], default="")
        self.pairs = pairs_of(read_words(question))
        wanted = self.asking.focus | self.asking.head
        self.told_by, self.expected = expected(self.asking.form, wanted, self.asking.verb)
        self.titled = bool((wanted or {self.asking.verb}) & TITLED)
        self._total = sum(self.rarity[w] for w in self.asking.words)
        self._by_session: dict[str, frozenset[str]] = {}
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

    def near(self, k: int, reach: int) -> list[int]:
        """The items that hold messages at most `reach` away from that of item k, in order, itself left out."""
        return [n for step in range(-reach, reach + 1) if step and (n := self.neighbour(k, step)) is not None]

    def session(self, k: int) -> frozenset[str]:
        """The stems of all items of item k's session."""
        session = self.items[k].hit.session
        if session is None:
            return self.stems[k]
        if session not in self._by_session:
            of_it = (s for s, i in zip(self.stems, self.items, strict=True) if i.hit.session == session)
            self._by_session[session] = frozenset().union(*of_it)
        return self._by_session[session]

    def support(self, stem: str, k: int, among: int) -> float:
        """How many of the best `among` items but k have this word, from 0 to 1 for three."""
        return min(3, sum(stem in s for n, s in enumerate(self.stems[:among]) if n != k)) / 3

    def subject_speaks(self, k: int) -> float:
        """Of two named speakers the first is whom the question is about: 1 when item k is theirs, -1 when it is not."""
        hit = self.items[k].hit
        if len(self.asking.named) < 2 or not hit.name:
            return 0.0
        low = self.asking.text.lower()
        first = min(self.asking.named, key=lambda n: low.find(n.split()[0].lower()))
        return 1.0 if hit.name == first else -1.0
