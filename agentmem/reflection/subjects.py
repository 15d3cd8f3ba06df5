"""What a person came back to on several days: counted, never interpreted.

A subject is a noun, or two in a row, that somebody said outside a question. Rare words say more than common ones, so
subjects are ranked by their days times their self-information over the person's messages (as in arXiv 2310.06201, with
counts for a model's probabilities).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from math import log2

from agentmem.language import STOP_WORDS, is_question, sentences, stem, word_set, words
from agentmem.times import MONTHS, WEEKDAYS
from agentmem.types import Message
from agentmem.word_classes import ADJECTIVES, FILLERS, VERBS

MAX_DAYS = 60
"""The newest days that a subject is counted over: each is cited."""
MIN_BITS = 2.5
PAIR = 2.0
"""What a pair of nouns counts for, a noun being 1: it says more plainly what was spoken of."""
ENOUGH_MESSAGES = 40
"""From so many messages on a word that stands in more than 1 of 6 of them (2.5 bits) is trivial for its speaker."""
# What stands in square brackets ("[shares a picture: ...]") was noted, and not said.
_ASIDE = re.compile(r"\[[^\[\]]*\]")
_FUNCTION = word_set(
    "now since through because after before while until during between among around against across along within "
    "without behind beyond despite except near toward towards upon via per though although unless whether either "
    "neither both another every others else once twice always never often sometimes soon later ago away back here "
    "there together instead almost enough less least rather somehow somewhere everywhere anywhere self half quarter "
    "pair couple dozen hundred thousand million zero two three four five six seven eight nine ten eleven twelve "
    "thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty "
    "ninety first second third fourth fifth true false whatever whenever wherever whoever bunch couldn't don't didn't "
    "doesn't isn't wasn't won't can't it's that's there's what's let's i'm i've i'll i'd you're you've you'll we're "
    "we've we'll they're they've he's she's who's hasn't haven't wouldn't shouldn't aren't weren't"
)
_GENERIC = word_set(
    "thing stuff lot bit time day week weekend month year today tomorrow yesterday tonight morning afternoon evening "
    "night hour minute moment way kind sort type part piece people person folk someone something anything everything "
    "nothing everyone everybody anyone anybody nobody one guy man woman dude idea point fact reason place spot world "
    "life end start side case number name question answer word pic picture photo image look sound wow gonna wanna "
    "chance experience feeling sense difference moment memory mind heart eye hand head thought mood vibe step goal "
    "challenge progress deal sort line form care help plan change walk talk hope break cause fear fight love dream "
    "drink score order stress paint work play win game news message support effort result problem issue matter topic "
    "luck pleasure joy fun happiness bye cheer congrats congratulation appreciation level set share sharing stay rest"
)
_TRIVIAL = STOP_WORDS | FILLERS | ADJECTIVES | _FUNCTION | frozenset(w.lower() for w in [*MONTHS, *WEEKDAYS])
_TRIVIAL_STEMS = VERBS | frozenset(map(stem, _GENERIC))


@dataclass(frozen=True, slots=True)
class Subject:
    """Who spoke of what (`words` as mostly written, `key` its stems), and the first message of each day, oldest day
    first."""

    who: str
    words: str
    key: str
    days: tuple[tuple[date, Message], ...]
    score: float

    @property
    def text(self) -> str:
        """The statement: no more than what was counted."""
        return (
            f'{self.who} spoke of "{self.words}" on {len(self.days)} days'
            f" between {self.days[0][0].isoformat()} and {self.days[-1][0].isoformat()}."
        )


def recurring(messages: Sequence[Message], min_days: int) -> list[Subject]:
    """The subjects of at least `min_days` days, best first. A pair of words stands for its words when it has most of
    their days. What an assistant without a name said is left out."""
    names = {w.lower() for m in messages if m.name for w in words(m.name)}
    said: dict[tuple[str, str], dict[date, Message]] = defaultdict(dict)
    spelled: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    holding: Counter[tuple[str, str]] = Counter()
    spoken: Counter[str] = Counter()
    for m in sorted(messages, key=lambda m: (m.at.date(), m.id)):
        if m.role == "assistant" and not m.name:
            continue
        who = m.name or "The user"
        spoken[who] += 1
        for key, written in dict(_phrases(m.said, names)).items():
            said[who, key].setdefault(m.at.date(), m)
            spelled[who, key][written] += 1
            holding[who, key] += 1
    found: list[Subject] = []
    for (who, key), days in said.items():
        bits = -log2(holding[who, key] / spoken[who])
        if len(days) >= min_days and (bits >= MIN_BITS or spoken[who] < ENOUGH_MESSAGES):
            # A capital at the head of a sentence says nothing: a spelling without one wins.
            written = min(spelled[who, key].items(), key=lambda item: (not item[0].islower(), -item[1], item[0]))[0]
            newest = tuple(sorted(days.items(), key=lambda item: item[0])[-MAX_DAYS:])
            found.append(Subject(who, written, key, newest, len(days) * max(bits, 1.0) * (PAIR if " " in key else 1.0)))
    kept = [s for s in found if not any(_covers(pair, s) for pair in found)]
    return sorted(kept, key=lambda s: (-s.score, s.who, s.key))


def _phrases(text: str, names: set[str]) -> Iterator[tuple[str, str]]:
    """(stems, as written) of each noun and each pair of nouns outside questions."""
    text = _ASIDE.sub(" . ", text)
    for start, end in sentences(text):
        if is_question(text[start:end]):
            continue
        before: tuple[str, str] | None = None
        for word in words(text[start:end]):
            written = word.replace("’", "'").removesuffix("'s")
            low = written.lower()
            key = stem(low)
            if _is_trivial(low, key) or low in names:
                before = None
                continue
            yield key, written
            if before is not None and before[0] != key:
                yield f"{before[0]} {key}", f"{before[1]} {written}"
            before = (key, written)


def _is_trivial(low: str, key: str) -> bool:
    return (
        len(low) < 3 or not low.isalpha() or low in _TRIVIAL or key in _TRIVIAL_STEMS
        or low.endswith("ly") or (low.endswith("ed") and not low.endswith("eed") and len(low) > 4)
    )  # fmt: skip


def _covers(pair: Subject, one: Subject) -> bool:
    return (
        pair.who == one.who
        and " " in pair.key
        and one.key in pair.key.split()
        and 10 * len(pair.days) >= 6 * len(one.days)
    )
