"""What the person of a profile said in a window of records, and whether a line rests on it.

Only the person's own words count: what an assistant or somebody else said is no evidence of the world, what the person
quotes was said by others, and a sentence that tells the assistant what to do states no fact. A line `Prefers ...` alone
may rest on a wish.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agentmem.cutting import NEGATIONS
from agentmem.dates import find_dates, spoken
from agentmem.filing import own_words
from agentmem.filing_rules import RULES
from agentmem.language import STOP_WORDS, content_words, is_question, sentences, word_set, words
from agentmem.reflection.answers import text_problem
from agentmem.reflection.instructions import instructs, without_orders
from agentmem.reflection.profile_lines import slot_of
from agentmem.times import day_words
from agentmem.types import Message

MAX_LINE_WORDS = 30
_NEUTRAL = frozenset(content_words("user person human goes by called named lives works prefers since as of until"))
_NEGATIVE = NEGATIONS | word_set(
    "dislike dislikes disliked hate hates hated avoid avoids avoided stop stops stopped quit quits refuse refuses "
    "refused former formerly ended lost gave sold ex"
)
_CLAUSE = re.compile(r"[,;:.!?\n]+\s|\s+(?:but|and|though|although|while|because)\s+")
_NUMBER_WORDS = {
    w: str(n)
    for n, w in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
}
_KNOWN_SLOTS = frozenset(r.slot.casefold() for r in RULES if r.slot)
_CAPITAL = re.compile(r"[^\W\d_a-z]")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A message of the person: what was said, without what instructs (`plain`), and what the person wants of the
    assistant beside the rest (`wishes`, own words alone)."""

    ref: str
    at: datetime
    text: str
    plain: str
    wishes: str


class Support:
    """What the messages of a window say for the lines of a person's profile."""

    def __init__(self, window: Sequence[Message], person: str) -> None:
        self._person = person
        self._said = {m.ref: m.said for m in window}
        self._own = {
            m.ref: Evidence(
                m.ref, m.at, m.said, without_orders(m.said), without_orders(own_words(m.said), wishes=True)
            )
            for m in window
            if m.role == "user" and (m.name or "") == person
        }  # fmt: skip

    def own(self, refs: Sequence[str]) -> list[Evidence]:
        """The records among those cited that the person said."""
        return [self._own[r] for r in refs if r in self._own]

    def statements(self) -> list[str]:
        """The person's sentences that state something, or that wish something of the assistant; not questions."""
        said = [text[s:t] for e in self._own.values() for text in (e.plain, e.wishes) for s, t in sentences(text)]
        return [s for s in dict.fromkeys(said) if not is_question(s) and content_words(s)]

    def share(self, text: str, refs: Sequence[str], kept: Sequence[str]) -> float:
        """The share of a line's content words that its records and the lines it stands for hold; 1.0 without any."""
        known = self._vocabulary(self._texts(text, refs), refs, kept)
        found = _value_words(text)
        return sum(w in known for w in found) / len(found) if found else 1.0

    def problem(self, text: str, refs: Sequence[str], kept: Sequence[str], least: float) -> str:
        """Why a line can't be taken that cites `refs` and stands for the old lines `kept`; "" when it can."""
        records = self.own(refs)
        if not refs and not kept:
            return "it cites no record: give the numbers of the records that say it"
        if not records and not kept:
            return "it rests on what others said: cite what the person said"
        cited = [self._said[r] for r in refs if r in self._said]
        if problem := text_problem(text, [*cited, *kept], MAX_LINE_WORDS):
            return problem
        if instructs(text):
            return 'it tells the assistant what to do: state a fact about the person, a wish as "Prefers ..."'
        texts = self._texts(text, refs)
        known = self._vocabulary(texts, refs, kept)
        if strange := [w for w in _protected(text) if not _known(w, known)]:
            return f"{', '.join(strange[:5])}: not said in the records that it cites"
        found = _value_words(text)
        if found and sum(w in known for w in found) < least * len(found):
            missing = ", ".join(w for w in dict.fromkeys(found) if w not in known)
            return f"most of it is not said in the records that it cites ({missing})"
        return _turned(text, [*texts, *kept])

    def _texts(self, text: str, refs: Sequence[str]) -> list[str]:
        wish = text.casefold().startswith("prefer")
        return [e.wishes if wish else e.plain for e in self.own(refs)]

    def _vocabulary(self, texts: Sequence[str], refs: Sequence[str], kept: Sequence[str]) -> set[str]:
        """Stems and numbers that a line may have."""
        known = set(_NEUTRAL) | set(content_words(self._person))
        for text in [*texts, *kept]:
            known |= set(content_words(text)) | {w.casefold() for w in words(text)}
        for e in self.own(refs):
            for phrase in [day_words(e.at), *(spoken(m) for m in find_dates(e.plain, e.at))]:
                known |= set(content_words(phrase)) | {w.casefold() for w in words(phrase)}
        return known | {_NUMBER_WORDS[w] for w in known & _NUMBER_WORDS.keys()}


def negative(text: str) -> bool:
    """Whether a text denies, or says that something ended or is not liked."""
    said = {w.casefold().replace("’", "'") for w in words(text)}
    return bool({w.replace("'", "") for w in said} & _NEGATIVE) or any(w.endswith("n't") for w in said)


def _value_words(text: str) -> list[str]:
    """The content words of a line, without a slot that the rules know."""
    slot, value = slot_of(text)
    return content_words(value if slot in _KNOWN_SLOTS else text)


def _protected(text: str) -> list[str]:
    """Names, numbers and negations of a line."""
    slot, value = slot_of(text)
    said = words(value) if slot else words(value)[1:]
    named = [w for w in said if _CAPITAL.match(w) and w.casefold() not in STOP_WORDS]
    counted = [w for w in words(value) if w[0].isdigit() or w.casefold() in _NUMBER_WORDS]
    return list(dict.fromkeys(named + counted))


def _known(word: str, known: set[str]) -> bool:
    low = word.casefold()
    stems = content_words(word)
    return low in known or _NUMBER_WORDS.get(low) in known or bool(stems and all(s in known for s in stems))


def _turned(text: str, texts: Sequence[str]) -> str:
    """Whether a line denies what was said, or says what was denied: by the clauses that share most words with it."""
    value = set(_value_words(text))
    clauses = [c for t in texts for s, e in sentences(t) for c in _CLAUSE.split(t[s:e])]
    shared = [(len(value & set(content_words(c))), c) for c in clauses]
    most = max((n for n, _ in shared), default=0)
    if not most:
        return ""
    denied = [negative(c) for n, c in shared if n == most]
    if all(denied) and not negative(text):
        return "the records deny it, or say that it ended"
    if not any(denied) and negative(text):
        return "the records do not deny it"
    return ""
