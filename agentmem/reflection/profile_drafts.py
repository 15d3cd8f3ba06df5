"""Drafts of a profile as a model wrote them: read strictly, judged without a model, the best one kept (Self-Refine,
arXiv 2303.17651; its code keeps the last one).

A draft keeps lines of the old text by their numbers and adds lines that cite records. An added line is taken when all
its names, numbers and negations, and most of its other words, stand in what the person said in those records. A line of
the old text goes only for a later one of its slot, for one that says the same, or when the person said that it ended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentmem.filing import slot_key
from agentmem.filing_rules import RULES
from agentmem.language import content_words, is_question, sentences, stem, word_set
from agentmem.reflection.answers import list_of, read_object
from agentmem.reflection.profile_evidence import Evidence, Support, negative
from agentmem.reflection.profile_lines import Ages, absolute, bare, digest, normal, slot_of
from agentmem.reflection.strategy import Said
from agentmem.times import utc_seconds
from agentmem.types import Block

MAX_LINES = 200
MIN_SUPPORT = 0.6
"""Share of an added line's content words that its records must hold."""
SINGLE = frozenset(slot_key(r.slot) for r in RULES if r.single and r.slot)
MANY = frozenset(slot_key(r.slot) for r in RULES if not r.single and r.slot)
_ENDED = re.compile(
    r"\b(?:no\s+longer|any\s?more|stopped|quit|gave\s+up|given\s+up|ended|sold|moved|left|changed|switched|used\s+to|"
    r"former|replaced|died|passed\s+away|divorced|broke\s+up|(?:am|is|are|was|were)\s+not|['’]m\s+not|isn['’]t|aren['’]t)\b",
    re.IGNORECASE,
)
_ITEMS = re.compile(r"\s*(?:[,;]|\band\b|&)\s*")
_RELATIVES = word_set("partner wife husband fiance fiancee boyfriend girlfriend mother mom mum father dad boss manager")
SINGLE_KIN = frozenset(_RELATIVES)


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft as far as it can be taken. `lost`: it can't be taken at all; `problems` say what to do better. `score` is
    the share of the facts in the old text and the records that it covers, each by the support of its line, in [0, 1].
    `since` says when its new lines were said (by their digests, UTC seconds)."""

    text: str
    score: float
    num_tokens: int
    sources: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    lost: bool = False
    same: bool = False
    since: Mapping[str, float] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[bool, float, int]:
        """Higher is better: what can be taken, by score, then the shorter."""
        return (not self.lost, self.score, -self.num_tokens)


@dataclass(slots=True)
class _Line:
    text: str
    old: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()
    support: float = 1.0
    at: float | None = None


class Judge:
    """Reads drafts of one block for one window of records, whose numbers `cited` looks up."""

    def __init__(
        self,
        block: Block,
        ages: Ages,
        support: Support,
        cited: Callable[[object], tuple[str, ...]],
        count: Callable[[str], int],
    ) -> None:
        self._block = block
        self.old = [line for line in block.value.split("\n") if bare(line)]
        self._ages = ages
        self._support = support
        self._cited = cited
        self._count = count
        self._facts = _weights([*self.old, *support.statements()])
        self.unchanged = self._draft([_Line(line, (n,)) for n, line in enumerate(self.old)], [], block.value, {})

    def read(self, said: Said) -> Draft:
        """What a model answered, as a draft; never raises."""
        if said.problem:
            return self._useless(said.problem)
        value, problem = read_object(said.text)
        if value is None:
            return self._useless(problem)
        if value.get("same") is True:
            return self._draft([_Line(line, (n,)) for n, line in enumerate(self.old)], [], self._block.value, {})
        entries, problem = list_of(value, "lines", MAX_LINES)
        if problem and not entries:
            return self._useless(problem)
        problems = [problem] if problem else []
        lines: list[_Line] = []
        for number, entry in enumerate(entries, 1):
            lines += self._entry(number, entry, problems)
        gone = self._gone(value.get("gone"), problems)
        lines = self._settled(_merged(lines), problems)
        reasons, missing = self._leaving(lines, gone)
        if missing:
            problems += [
                f"line {n + 1} of the profile ({_short(self.old[n])}) is missing: keep it with"
                f' {{"keeps": [{n + 1}]}}, or cite where the person says that it holds no longer'
                for n in missing
            ]
            return self._useless(*problems)
        return self._fitted(lines, problems, reasons)

    def _useless(self, *problems: str) -> Draft:
        return Draft(self._block.value, 0.0, self.unchanged.num_tokens, problems=problems, lost=True)

    def _entry(self, number: int, entry: object, problems: list[str]) -> list[_Line]:
        """The lines that an entry of the answer stands for: its own, or what it keeps where that can't be taken."""
        if not isinstance(entry, dict):
            problems.append(f"entry {number} is no object with text and from, or keeps")
            return []
        named = entry.get("keeps", [])
        numbers = [named] if isinstance(named, int) else named if isinstance(named, list) else []
        keeps = [n - 1 for n in numbers if type(n) is int and 0 < n <= len(self.old)]
        if len(keeps) < len(numbers):
            problems.append(f"entry {number} keeps a line that there is not: the profile has {len(self.old)}")
        keeps = list(dict.fromkeys(keeps))
        kept = [_Line(self.old[n], (n,)) for n in keeps]
        text = entry.get("text")
        if text is None or (isinstance(text, str) and not text.strip()):
            if not keeps:
                problems.append(f"entry {number} has neither a text nor a line that it keeps")
            return kept
        if not isinstance(text, str):
            problems.append(f"entry {number}: its text is no text")
            return kept
        if len(keeps) == 1 and normal(text) == normal(self.old[keeps[0]]):
            return kept
        text = bare(" ".join(text.split()))
        refs = self._cited(entry.get("from"))
        records = self._support.own(refs)
        text = absolute(text, [(e.text, e.at) for e in records])
        problem = self._support.problem(text, refs, [self.old[n] for n in keeps], MIN_SUPPORT)
        if problem:
            problems.append(f"entry {number} ({_short(text)}): {problem}")
            return kept
        share = self._support.share(text, refs, [self.old[n] for n in keeps])
        at = max((utc_seconds(e.at) for e in records), default=None)
        return [_Line(text, tuple(keeps), tuple(e.ref for e in records), share, at)]

    def _gone(self, value: object, problems: list[str]) -> dict[int, tuple[str, ...]]:
        """The lines of which the person said that they hold no longer, with the records."""
        found: dict[int, tuple[str, ...]] = {}
        for entry in value[:MAX_LINES] if isinstance(value, list) else []:
            number = entry.get("line") if isinstance(entry, dict) else None
            if type(number) is not int or not 0 < number <= len(self.old):
                problems.append("an entry of gone names no line of the profile")
                continue
            old = self.old[number - 1]
            since = self._ages.of(old)
            records = self._support.own(self._cited(entry.get("from")))
            said = [e for e in records if utc_seconds(e.at) >= since and _says_ended(e, old)]
            if said:
                found[number - 1] = tuple(e.ref for e in said)
            else:
                problems.append(f"line {number} ({_short(old)}): no record cited says that it ended")
        return found

    def _settled(self, lines: list[_Line], problems: list[str]) -> list[_Line]:
        """Without new lines that an old, later one of their single slot contradicts, and old ones that they replace."""
        out = list(lines)
        for line in lines:
            slot, value = slot_of(line.text)
            if line.at is None or not _is_single(slot):
                continue
            for other in lines:
                theirs, said = slot_of(other.text)
                if other is line or theirs != slot or normal(said) == normal(value):
                    continue
                later = other.at if other.at is not None else self._ages.of(other.text)
                if line in out and other in out:
                    loser = line if later > line.at else other
                    out.remove(loser)
                    if loser.at is not None:
                        winner = other if loser is line else line
                        problems.append(f"{_short(loser.text)}: {_short(winner.text)} is later")
        return out

    def _leaving(self, lines: Sequence[_Line], gone: Mapping[int, tuple[str, ...]]) -> tuple[list[str], list[int]]:
        """Why old lines go, and those that go without a reason."""
        standing = {n for line in lines for n in line.old}
        reasons: list[str] = []
        missing: list[int] = []
        for n, old in enumerate(self.old):
            keeper = next((line for line in lines if n in line.old), None)
            if keeper is not None and _holds(keeper.text, old, named=True):
                continue
            slot, _ = slot_of(old)
            later = [
                line
                for line in lines
                if line.at is not None and slot_of(line.text)[0] == slot and line.at >= self._ages.of(old)
            ]
            if _is_single(slot) and later:
                reasons.append(f"{bare(later[-1].text)} (was: {bare(old)})")
            elif n in gone and n not in standing:
                reasons.append(f"ended: {bare(old)} ({', '.join(gone[n])})")
            elif any(_holds(line.text, old) for line in lines):
                reasons.append(f"merged: {bare(old)}")
            else:
                missing.append(n)
        return reasons, missing

    def _fitted(self, lines: list[_Line], problems: list[str], reasons: list[str]) -> Draft:
        """A draft within the block's limit: new lines are left out, the last first, while it is too long."""
        kept = list(lines)
        while self._count(_text(kept)) > self._block.max_tokens:
            new = [line for line in kept if line.at is not None and not line.old and not self._needed(line)]
            if not new:
                tokens, most = self._count(_text(kept)), self._block.max_tokens
                return self._useless(*problems, f"the profile has {tokens} tokens, at most {most}: say it shorter")
            kept.remove(new[-1])
            problems.append(f"no room for {_short(new[-1].text)}: at most {self._block.max_tokens} tokens")
        since = {digest(line.text): line.at for line in kept if line.at is not None}
        added = [bare(line.text) for line in kept if line.at is not None]
        why = [*reasons, *(a for a in added if not any(r.startswith(a) for r in reasons))]
        return self._draft(kept, problems, _text(kept), since, why)

    def _needed(self, line: _Line) -> bool:
        """Whether a line stands in place of an old one."""
        slot, _ = slot_of(line.text)
        return any((slot_of(old)[0] == slot and _is_single(slot)) or _holds(line.text, old) for old in self.old)

    def _draft(
        self, lines: Sequence[_Line], problems: Sequence[str], text: str, since: Mapping[str, float],
        why: Sequence[str] = (),
    ) -> Draft:  # fmt: skip
        # What an old line says is answered for: it stands there, or it left with a reason.
        covered = dict.fromkeys(_weights(self.old), 1.0)
        for line in lines:
            for word in _weights([line.text]):
                covered[word] = max(covered.get(word, 0.0), line.support)
        whole = sum(self._facts.values())
        coverage = sum(weight * covered.get(word, 0.0) for word, weight in self._facts.items())
        same = text == self._block.value or [line.text for line in lines] == self.old
        sources = tuple(dict.fromkeys(s for line in lines for s in line.sources))
        return Draft(
            text, round(coverage / whole if whole else 1.0, 9), self._count(text), sources, tuple(why),
            tuple(problems), same=same, since=since,
        )  # fmt: skip


def _merged(lines: Sequence[_Line]) -> list[_Line]:
    """Without lines that say what an earlier one says."""
    out: dict[str, _Line] = {}
    for line in lines:
        first = out.setdefault(normal(line.text), line)
        if first is not line:
            first.old = tuple(dict.fromkeys((*first.old, *line.old)))
    return list(out.values())


def _is_single(slot: str) -> bool:
    return slot in SINGLE or slot in SINGLE_KIN or slot.startswith("favourite ")


def _holds(line: str, old: str, named: bool = False) -> bool:
    """Whether a line says all that an old one said: the same, or the same slot with each of its values; a line that was
    `named` as the new form of the old one, and has one value, may also say more ("senior nurse" for "nurse")."""
    if normal(line) == normal(old):
        return True
    (slot, value), (before, held) = slot_of(line), slot_of(old)
    if slot != before or negative(line) != negative(old) or not content_words(held):
        return False
    if slot and {normal(i) for i in _ITEMS.split(held)} <= {normal(i) for i in _ITEMS.split(value)}:
        return True
    return named and slot not in MANY and set(content_words(held)) <= set(content_words(value))


def _says_ended(evidence: Evidence, old: str) -> bool:
    """Whether a sentence of a record says that something ended, and has half of an old line's words."""
    _, value = slot_of(old)
    held = set(content_words(value))
    for start, end in sentences(evidence.plain):
        said = evidence.plain[start:end]
        if (
            _ENDED.search(said)
            and not is_question(said)
            and held
            and 2 * len(held & set(content_words(said))) >= len(held)
        ):
            return True
    return False


def _weights(texts: Sequence[str]) -> dict[str, float]:
    """The facts of texts: stems of content words, each with its weight, 3 for names and numbers."""
    found: dict[str, float] = {}
    for text in texts:
        named = {stem(w) for w in re.findall(r"(?<=\s)[^\W\d_a-z][\w’'-]*|\d[\w.,:-]*", f" {text}")}
        for word in content_words(text):
            found[word] = max(found.get(word, 0.0), 3.0 if word in named or word[0].isdigit() else 1.0)
    return found


def _text(lines: Sequence[_Line]) -> str:
    return "\n".join(line.text for line in lines).strip()


def _short(text: str, most: int = 80) -> str:
    flat: Any = " ".join(text.split())
    return f'"{flat if len(flat) <= most else flat[: most - 3] + "..."}"'
