"""A profile's lines by rules: what its person plainly stated, the newest by event time, within the block's limit.

What is understood is what the extractive backend files online (`agentmem.filing`). A line that was there goes for one
of three reasons alone: a later statement of the same slot, a statement that it ended, or a line that says the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from math import inf
from typing import Any

from agentmem.dates import DateMention, find_dates, spoken
from agentmem.filing import Fact, ended_line, same_text, slot_key, stated
from agentmem.language import content_words, words
from agentmem.reflection.instructions import instructs, without_orders
from agentmem.times import parse_time, utc_seconds
from agentmem.types import Block, Message

_FIRST_PERSON = re.compile(r"\b(?:i|im|i['’](?:m|ve)|my|we|me)\b", re.IGNORECASE)
_MOVING = re.compile(
    r"\b(?:today|tonight|tomorrow|yesterday|ago|last|next|this|past|coming|earlier|back|now|in|other|morning|night|day|"
    r"week|weekend|before|after)\b",
    re.IGNORECASE,
)
_TASTES = ("Likes", "Dislikes", "Prefers")
_HERE = re.compile(
    r"[\"“”«»]|\b(?:idea|suggestion|recommendation|option|approach|theme|answer|version|us|these|those|itself|above|"
    r"below)s?\b|\s(?:and|or|a\s+lot)(?:\s|$)(?:for\s+me)?$",
    re.IGNORECASE,
)
_FIRST = re.compile(r"^(?:also|really|especially|mostly|just|always|still)\s+(?=\S)", re.IGNORECASE)
_IN_PASSING = re.compile(
    r"^(?:the|to\s+(?:be|stay|add|include|incorporate|know|see|keep|start|focus|use|learn|try|share|chat|help|explore)|"
    r"was|were|is|are|be|been|there|here|everywhere|everyone|someone|some|any|every|each|both|either|another|more|most|"
    r"seeing|hearing|knowing|having|being|getting|one|ones|stuff|things?|tools|i['’]ll)\b",
    re.IGNORECASE,
)
_NOW = re.compile(
    r"(?:\s+(?:now|nowadays|these\s+days|again|at\s+the\s+moment|right\s+now|currently|anymore|lately|recently|though|too|and|and\s+for\s+me))+$",
    re.I,
)
_ANCHORS = (datetime(2003, 3, 12), datetime(2018, 10, 5))
_OPPOSITE = {"likes": "dislikes", "dislikes": "likes"}


@dataclass(frozen=True, slots=True)
class Statement:
    """A fact that the person stated: in which message (`number` its id), and when (UTC seconds, event time)."""

    fact: Fact
    at: float
    number: int

    @property
    def ref(self) -> str:
        """The message's ref."""
        return f"m{self.number}"

    @property
    def line(self) -> str:
        """As it stands in a block."""
        return f"{self.fact.slot}: {self.fact.value}"


@dataclass(frozen=True, slots=True)
class Folded:
    """A block's text with statements folded in; the refs that it rests on, what was done, and what was left out, in
    words."""

    text: str
    sources: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def statements(messages: Iterable[Message]) -> list[Statement]:
    """What a person's own messages plainly state, in the order of their event times."""
    found: list[Statement] = []
    for m in messages:
        if not _FIRST_PERSON.search(m.said):
            continue
        for fact in stated(without_orders(m.said)):
            value = _lasting(fact)
            if not value:
                continue
            told = replace(fact, value=absolute(value, [(m.said, m.at)]))
            if not instructs(f"{told.slot}: {told.value}"):
                found.append(Statement(told, utc_seconds(m.at), m.id))
    return sorted(found, key=lambda s: (s.at, s.number))


def _lasting(fact: Fact) -> str:
    """A fact's value as it is kept for good, or "": what somebody likes is told in passing all the time, so that "the
    results", which mean something in their place alone, are no taste."""
    value = _NOW.sub("", _FIRST.sub("", fact.value)) or fact.value
    named = any(c.isupper() for c in value)
    if fact.slot == "Lives in" and not fact.ended:
        return re.sub(r"\s+from\s.*", "", value) if named else ""  # "in an apartment" is no other town
    if fact.ended or fact.slot not in _TASTES:
        return value
    passing = _HERE.search(value) or not (named or not _IN_PASSING.search(value))
    return "" if passing or not content_words(value) else value


def absolute(text: str, said: Sequence[tuple[str, datetime]]) -> str:
    """A text with its relative dates ("last week") as absolute ones, by the time of the first of what was `said` (text
    and time) that has the same words, else of the last."""
    if not said:
        return text
    out = text
    for mention in reversed(_relative(text)):
        same = [at for t, at in said if mention.text.casefold() in t.casefold()]
        at = same[0] if same else said[-1][1]
        meant = [m for m in find_dates(text, at) if (m.start, m.end) == (mention.start, mention.end)]
        if meant:
            out = out[: mention.start] + spoken(meant[0]) + out[mention.end :]
    return out


def _relative(text: str) -> list[DateMention]:
    """The mentions of dates that mean another day when they are said at another time; a birthday's "8 May" is none."""
    first, second = (find_dates(text, at) for at in _ANCHORS)
    known = {(m.start, m.end): m.first for m in second}
    return [m for m in first if known.get((m.start, m.end)) != m.first and _MOVING.search(m.text)]


def bare(line: str) -> str:
    """A line without its bullet."""
    return line.strip().lstrip("-*• ").strip()


def slot_of(line: str) -> tuple[str, str]:
    """Slot (for comparing) and value of a line `Slot: value`; ("", the line) for another."""
    slot, colon, value = bare(line).partition(":")
    ok = colon and value.strip() and 0 < len(slot.split()) <= 5
    return (slot_key(slot), value.strip()) if ok else ("", bare(line))


def normal(line: str) -> str:
    """The words of a line, for telling whether two say the same."""
    return " ".join(w.casefold() for w in words(line))


def digest(line: str) -> str:
    """A line's name in a cursor, which holds no text of a user."""
    return blake2b(normal(line).encode("utf-8", "replace"), digest_size=8).hexdigest()


class Ages:
    """When the lines of a block were said: by what the person stated, by what was noted when they were written
    (`since`), else by the edit that brought them. An edit by hand counts as said at that moment."""

    def __init__(
        self, told: Sequence[Statement], edits: Sequence[Mapping[str, Any]], since: Mapping[str, float]
    ) -> None:
        self._since = since
        self._told: dict[str, float] = {}
        for s in told:  # in the order of time: the last one stays
            self._told[normal(ended_line(s.fact) if s.fact.ended else s.line)] = s.at
        self._edited: dict[str, tuple[float, bool]] = {}
        for edit in edits:
            before = {normal(line) for line in str(edit["before"]).splitlines()}
            at = utc_seconds(parse_time(edit["at"]))
            by_hand = edit["actor"] == "user"
            for line in str(edit["after"]).splitlines():
                if normal(line) not in before:
                    self._edited[normal(line)] = (at, by_hand)

    def of(self, line: str) -> float:
        """UTC seconds; infinity for a line of which nothing is known, so that nothing replaces it."""
        name = normal(line)
        edited, by_hand = self._edited.get(name, (inf, False))
        said = max((t for t in (self._told.get(name), self._since.get(digest(line))) if t is not None), default=None)
        if said is None:
            return edited
        return max(said, edited) if by_hand else said


def fold(block: Block, told: Sequence[Statement], after: int, ages: Ages, count: Callable[[str], int]) -> Folded:
    """Fold those statements into a block that stand in messages with ids above `after` and were not overtaken by later
    ones of `told` (all, in the order of time). `count` counts tokens; the text stays within the block's limit."""
    work = _Work(block, ages, count)
    work.merge()
    newest = _newest(told)
    new = [s for s in newest if s.number > after]
    for s in new:
        if s.fact.ended:
            work.end(s)
    # What has one value first, the newest first: what finds no room is the oldest of what has many.
    for s in sorted(new, key=lambda s: (not s.fact.single, -s.at, -s.number)):
        if not s.fact.ended:
            work.say(s)
    return work.folded()


def _newest(told: Sequence[Statement]) -> list[Statement]:
    """The statements that no later one overtakes, in the order of time."""
    current: dict[tuple[str, str], Statement] = {}
    for s in told:
        slot, value = slot_key(s.fact.slot), normal(s.fact.value)
        if s.fact.single and not s.fact.ended:
            for key in [k for k in current if k[0] == slot and not current[k].fact.ended]:
                del current[key]
        if other := _OPPOSITE.get(slot):
            current.pop((other, value), None)
        current.pop((slot, value), None)
        current[slot, value] = s
    return list(current.values())


@dataclass
class _Work:
    block: Block
    ages: Ages
    count: Callable[[str], int]
    lines: list[str | None] = field(default_factory=list)
    added: list[Statement] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lines = list(self.block.value.split("\n"))

    def merge(self) -> None:
        seen: set[str] = set()
        for n, line in enumerate(self.lines):
            name = normal(line or "")
            if name and name in seen:
                self.done.append(f"merged: {bare(line or '')}")
                self.lines[n] = None
            seen.add(name)

    def end(self, s: Statement) -> None:
        for n, line in enumerate(self.lines):
            if line is not None and self._says(line, s.fact.slot, s.fact.value) and self.ages.of(line) <= s.at:
                self.lines[n] = None
                self._did(s, f"ended: {bare(line)}")

    def say(self, s: Statement) -> None:
        slot = slot_key(s.fact.slot)
        held = [(n, line) for n, line in enumerate(self.lines) if line is not None and slot_of(line)[0] == slot]
        against = [(n, line) for n, line in held if s.fact.single]
        against += [(n, line) for n, line in enumerate(self.lines) if line is not None and self._denies(line, s.fact)]
        if any(self._says(line, s.fact.slot, s.fact.value) for _, line in held):
            return
        if any(self.ages.of(line) > s.at for _, line in against):
            return
        before = self.text()
        lines, added = list(self.lines), list(self.added)
        for n, _ in against:
            self.lines[n] = None
        if against:
            n, line = against[0]
            self.lines[n] = line[: len(line) - len(line.lstrip("-*• \t"))] + s.line
        else:
            self.added.append(s)
        now = self.count(self.text())
        if now > self.block.max_tokens and now > self.count(before):
            self.lines, self.added = lines, added
            self.left_out.append(f"no room in block {self.block.label!r} for what {s.ref} says: {s.line}")
        elif against:
            self._did(s, f"{s.line} (was: {'; '.join(bare(line) for _, line in against)})")
        else:
            self._did(s, s.line)

    def text(self) -> str:
        old = [line for line in self.lines if line is not None]
        new = [s.line for s in sorted(self.added, key=lambda s: (s.at, s.number))]
        return "\n".join(old + new).strip()

    def folded(self) -> Folded:
        text = self.text()
        if not self.done or self.count(text) > self.block.max_tokens:
            return Folded(self.block.value, left_out=tuple(self.left_out))
        return Folded(text, tuple(dict.fromkeys(self.sources)), tuple(self.done), tuple(self.left_out))

    def _did(self, s: Statement, what: str) -> None:
        self.sources.append(s.ref)
        self.done.append(what)

    def _says(self, line: str, slot: str, value: str) -> bool:
        held, said = slot_of(line)
        return held == slot_key(slot) and normal(said) == normal(value)

    def _denies(self, line: str, fact: Fact) -> bool:
        other = _OPPOSITE.get(slot_key(fact.slot))
        return same_text(bare(line), ended_line(fact)) or bool(other and self._says(line, other, fact.value))
