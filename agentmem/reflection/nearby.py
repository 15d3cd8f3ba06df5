"""Which facts may be about the same: an inverted index, so that a store of n facts is not compared n times n.

Two facts are near when they share words that few facts have, or a subject in the same frame ("lives in").
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from agentmem.dates import find_dates
from agentmem.reflection.frames import frame_of
from agentmem.reflection.statements import Statement, read
from agentmem.reflection.verbs import ADDITIVE
from agentmem.reflection.wording import canonical, spoken_by, tokens_of
from agentmem.times import utc_seconds

if TYPE_CHECKING:
    from agentmem.reflection.view import View
    from agentmem.types import Passage

COMMON = 300
"""A word that more facts have brings none of them together."""
NEAREST = 32
"""So many facts are compared with a new one at most, by words and by frame each."""
_ANY_PAST = re.compile(
    r"\b(?:moved|joined|started|began|became|switched|bought|sold|quit|left|changed|took|got|retired|married|divorced|"
    r"adopted|opened|closed|since|resigned|graduated|died)\b",
    re.I,
)
_FILLERS = re.compile(r"\b(?:a|an|the|well|so|oh|hey|please|really|just|by\s+the\s+way|btw)\b", re.I)


@dataclass(frozen=True)
class Fact:
    """A passage as consolidation sees it. `told` is when it was said; `number` its id, for ties."""

    ref: str
    number: int
    text: str
    told: datetime
    speaker: str = ""

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """What it says."""
        return read(self.text, self.speaker)

    @cached_property
    def words(self) -> frozenset[str]:
        """Its content words, and its speaker."""
        named, said = spoken_by(self.text)
        who = (self.speaker or named).lower()
        return frozenset(canonical(tokens_of(said))) | ({who} if who else set())

    @cached_property
    def frames(self) -> tuple[str, ...]:
        """Subject and frame of each statement that takes one value."""
        return tuple(
            dict.fromkeys(
                " ".join(sorted(s.subject)) + "|" + frame_of(s)
                for s in self.statements
                if s.subject and s.verb and s.verb not in ADDITIVE
            )
        )

    @cached_property
    def plain(self) -> tuple[str, ...]:
        """Its words without articles and fillers: equal for a fact that was stored twice."""
        return (self.speaker.lower(), *tokens_of(_FILLERS.sub(" ", self.text.casefold())))

    @cached_property
    def happened(self) -> tuple[datetime, datetime]:
        """From when on it holds, and until when it was known to (both as said by its text, at most `told`)."""
        dates = find_dates(self.text, self.told)
        if len(dates) != 1 or dates[0].first > self.told.date() or not _ANY_PAST.search(self.text):
            return self.told, self.told
        zone = self.told.tzinfo
        begins = datetime.combine(dates[0].first, time(0), zone)
        ends = min(
            datetime.combine(dates[0].last + timedelta(1), time(0), zone) - timedelta(seconds=1),
            self.told,
            key=utc_seconds,
        )
        since = re.search(r"\bsince\b", self.text, re.I)
        return (begins, self.told) if since else (min(begins, self.told, key=utc_seconds), ends)

    @property
    def order(self) -> tuple[float, float, int]:
        """Newer facts come later; whichever was stored first."""
        return utc_seconds(self.happened[1]), utc_seconds(self.told), self.number

    @property
    def states_now(self) -> bool:
        """Whether it only says what is so, and tells of no event."""
        return all(not s.past and not s.doubts for s in self.statements) and not find_dates(self.text, self.told)


def fact_of(view: View, passage: Passage) -> Fact:
    """A passage with whoever said it: the one who is named in front of it, or the author of the message that it is
    from, whose time is also that of "yesterday" in it."""
    message = view.message(passage.sources[0]) if len(passage.sources) == 1 and passage.sources[0][:1] == "m" else None
    told = passage.valid_from
    if message is not None:
        told = message.at
    speaker = ""
    if message is not None:
        speaker = message.name or ("" if message.role == "user" else "assistant")
    return Fact(passage.ref, passage.id, passage.text, told, speaker)


class Nearby:
    """The index over facts."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._facts = facts
        self._by_word: dict[str, list[int]] = defaultdict(list)
        self._by_frame: dict[str, list[int]] = defaultdict(list)
        for n, fact in enumerate(facts):
            for word in fact.words:
                self._by_word[word].append(n)
            for frame in fact.frames:
                self._by_frame[frame].append(n)

    def of(self, fact: Fact, most: int = NEAREST) -> list[Fact]:
        """The nearest facts, without itself, best first."""
        weights: Counter[int] = Counter()
        total = len(self._facts)
        for word in sorted(fact.words):
            having = self._by_word[word]
            if len(having) <= COMMON:
                weight = 1 + int(1000 * math.log(1 + total / len(having)))
                for n in having:
                    weights[n] += weight
        best = [n for n, _ in sorted(weights.items(), key=lambda w: (-w[1], w[0]))[: most + 1]]
        framed = [n for frame in fact.frames for n in self._by_frame[frame][-most:]]
        found = dict.fromkeys([*best, *framed])
        return [self._facts[n] for n in found if self._facts[n].ref != fact.ref]
