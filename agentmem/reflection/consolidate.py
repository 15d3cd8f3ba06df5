"""Consolidation: facts that newer ones have made untrue are closed, and facts that stand twice are merged; nothing is
deleted. Times of the events decide which fact is the newer, not the order of storing: old news that comes late is
closed where the newer fact began.

By rules (`relations`), it is careful: what it does not understand stays. By a model (as Zep, arXiv 2501.13956, section
2.2.3, and mem0, arXiv 2504.19413, section 2.1, do, but for groups and with numbered records), the model says which
facts of a small group contradict each other; which of the two is the newer is still not its to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentmem.errors import ConfigError
from agentmem.reflection.answers import list_of, read_object
from agentmem.reflection.budget import Estimate
from agentmem.reflection.changes import AddPassage
from agentmem.reflection.comparing import Pair, closings, compared
from agentmem.reflection.extraction import FACTS_A_MESSAGE, KIND, extracted, questions
from agentmem.reflection.material import Material, material
from agentmem.reflection.nearby import Fact, Nearby, fact_of
from agentmem.reflection.relations import worth_filing
from agentmem.reflection.requests import answer_tokens, cost, fitting, request, room
from agentmem.reflection.strategy import Form, Said, Steps, ask, propose
from agentmem.times import format_time, utc_seconds
from agentmem.types import Passage

if TYPE_CHECKING:
    from agentmem.reflection.view import View
    from agentmem.types import Request

WINDOW = 200
"""Changes of one proposal at most."""
ANSWER_TOKENS = 400
MAX_CHARS = 300
TOKENS_A_FACT = 120
"""Of at most `MAX_CHARS` characters, with its number and date."""
UNCOUNTED = "closings among facts still to be filed are not counted"
INSTRUCTION = (
    "You tidy the notes of an assistant. Below is a small group of notes that may be about the same thing. Name the"
    " pairs of which one can't be true any more because of the other (same subject, same question, another answer:"
    ' "updates"), and the pairs that say the same ("same"). Notes that can both be true are no pair: other people,'
    " other things, a second hobby, a plan, a more exact wording. Answer with JSON alone:"
    ' {"pairs": [{"old": 2, "new": 1, "relation": "updates"}]}, an empty list when there is none.'
)
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "pairs": {
            "type": "array",
            "maxItems": 20,
            "items": {
                "type": "object",
                "properties": {
                    "old": {"type": "integer"},
                    "new": {"type": "integer"},
                    "relation": {"type": "string", "enum": ["updates", "same"]},
                },
                "required": ["old", "new", "relation"],
            },
        }
    },
    "required": ["pairs"],
}


@dataclass(frozen=True, slots=True)
class _Progress:
    """The last message and passage that were read, and passages above it that this strategy added itself."""

    message: int = 0
    passage: int = 0
    own: tuple[int, ...] = ()

    @classmethod
    def of(cls, cursor: Any) -> _Progress:
        if not isinstance(cursor, Mapping):
            return cls()
        return cls(int(cursor.get("message", 0)), int(cursor.get("passage", 0)), tuple(cursor.get("own", ())))

    def to_dict(self) -> dict[str, Any]:
        return {"message": self.message, "passage": self.passage, "own": list(self.own)}


class Consolidate:
    """The strategy `consolidate`. `extract`: plain statements of people in new messages become facts first, by a model
    those that it reads in them (off: what is said is found in the messages anyway). `group`: how many facts a model
    sees together.

    Raises ConfigError for options out of range.
    """

    name = "consolidate"
    version = 1
    forms: tuple[Form, ...] = ("rules", "model")

    def __init__(self, extract: bool = False, group: int = 6) -> None:
        if not isinstance(extract, bool):
            raise ConfigError("extract", extract, "must be true or false")
        if type(group) is not int or not 2 <= group <= 20:
            raise ConfigError("group", group, "must be a whole number from 2 to 20")
        self.extract, self.group = extract, group

    def estimate(self, view: View) -> Estimate:
        """The facts that are new (and messages, with `extract`); by a model, one call for each new fact that has any
        near it, and with `extract` one for each run of messages, and as many full ones as facts may come of them."""
        at = _Progress.of(view.cursor)
        new, known = self._facts(view, at)
        messages = view.messages(at.message) if self.extract else []
        told = sum(m.role == "user" for m in messages)
        records = len(new) + len(messages)
        if view.form == "rules":
            return Estimate(records, uncounted=(UNCOUNTED,) if told else ())
        if not told:
            return cost(view, records, [r for _, r in self._asked(view, new, known)])
        calls, most = len(new) + told * FACTS_A_MESSAGE, answer_tokens(view, ANSWER_TOKENS)
        around = view.window_tokens - most - room(view, INSTRUCTION, most)
        prompt = min(view.window_tokens - most, around + self.group * TOKENS_A_FACT)
        found = cost(view, records, [r for _, _, r in questions(view, at.message)])
        return found + Estimate(0, calls, calls * prompt, calls * most)

    def run(self, view: View) -> Steps:
        """Extract, compare what is new with all that holds, and close what is superseded."""
        at = _Progress.of(view.cursor)
        added: list[Fact] = []
        if self.extract and view.last_message > at.message and view.form == "model":
            before, (_, known) = at, self._facts(view, at)
            added = yield from extracted(view, at.message, known, lambda last: replace(before, message=last).to_dict())
            at = replace(at, message=view.last_message)
        elif self.extract and view.last_message > at.message:
            filed, speakers = self._extracted(view, at.message)
            at = _Progress(view.last_message, at.passage, at.own)
            outcomes = yield from propose(filed, at.to_dict())
            for made, (told, speaker) in zip(outcomes, speakers, strict=True):
                if made.made is not None:
                    added.append(Fact(made.made, int(made.made[1:]), made.change.text, told, speaker))  # type: ignore[union-attr]
        if not added and view.last_passage <= at.passage:
            return
        new, known = self._facts(view, at)
        new, known = [*new, *added], [*known, *added]
        rejected: list[str] = []
        if view.form == "model":
            asked = self._asked(view, new, known)
            answers = yield from ask([r for _, r in asked])
            pairs = []
            for (shown, _), said in zip(asked, answers, strict=True):
                found, reasons = _read(shown, said, {f.ref: f for f in known})
                pairs += found
                rejected += reasons
        else:
            pairs = compared(new, known)
        own = tuple(n for n in (*at.own, *(f.number for f in added)) if n > view.last_passage)
        done = _Progress(view.last_message if self.extract else at.message, view.last_passage, own)
        changes = closings(pairs)
        for start in range(0, max(len(changes), 1), WINDOW):
            last = start + WINDOW >= len(changes)
            yield from propose(
                changes[start : start + WINDOW], done.to_dict() if last else None, rejected if last else ()
            )

    def _facts(self, view: View, at: _Progress) -> tuple[list[Fact], list[Fact]]:
        """The new facts, and all that are open (the new among them)."""
        known = [fact_of(view, p) for p in view.passages(kinds=[KIND], closed=True) if _open(p)]
        return [f for f in known if f.number > at.passage and f.number not in at.own], known

    def _extracted(self, view: View, after: int) -> tuple[list[AddPassage], list[tuple[Any, str]]]:
        changes: list[AddPassage] = []
        speakers: list[tuple[Any, str]] = []
        for message in view.messages(after):
            if message.role != "user":
                continue
            for sentence in worth_filing(message.said, message.name or ""):
                text = f"{message.name}: {sentence}" if message.name else sentence
                fact = Fact(message.ref, 0, text, message.at, message.name or "")
                begins = format_time(min(fact.happened[0], message.at, key=utc_seconds))
                changes.append(AddPassage(text, KIND, (message.ref,), ("said",), begins, why="a plain statement"))
                speakers.append((message.at, message.name or ""))
        return changes, speakers

    def _asked(self, view: View, new: Sequence[Fact], known: Sequence[Fact]) -> list[tuple[Material, Request]]:
        """A request for each new fact with others near it; no two for the same group."""
        nearby = Nearby(known)
        out: list[tuple[Material, Request]] = []
        seen: set[frozenset[str]] = set()
        most = answer_tokens(view, ANSWER_TOKENS)
        free = room(view, INSTRUCTION, most)
        for fact in new:
            near = nearby.of(fact, self.group - 1)[: self.group - 1]
            # As passages, for the line that each is in the prompt: what was extracted just now is not in the view.
            lines = [Passage(f.number, f.text, f.told, f.told) for f in (fact, *near)]
            records: list[Passage] = fitting(view, lines, free, MAX_CHARS)
            refs = frozenset(p.ref for p in records)
            if len(records) < 2 or refs in seen:
                continue
            seen.add(refs)
            records.sort(key=lambda p: (utc_seconds(p.valid_from), p.id))
            shown = material(records, MAX_CHARS)
            out.append((shown, request(view, INSTRUCTION, shown.text, SCHEMA, most)))
        return out


def _open(passage: Passage) -> bool:
    return passage.valid_to is None and passage.superseded_by is None


def _read(shown: Material, said: Said, facts: Mapping[str, Fact]) -> tuple[list[Pair], list[str]]:
    """The pairs that a model named, those that are none left out with reasons."""
    value, problem = (None, said.problem) if said.problem else read_object(said.text)
    if value is None:
        return [], [problem]
    rows, problem = list_of(value, "pairs", 20)
    reasons = [problem] if problem else []
    out: list[Pair] = []
    for row in rows:
        if not isinstance(row, dict) or row.get("relation") not in ("updates", "same", "unrelated"):
            reasons.append("a pair is no {old, new, relation}")
            continue
        refs = [shown.ref(row.get(side)) for side in ("old", "new")]
        both = [facts[r] for r in refs if r is not None]
        if len(both) < 2 or both[0].ref == both[1].ref:
            reasons.append("a pair names what is not in its group")
        elif row["relation"] != "unrelated":
            older, newer = sorted(both, key=lambda f: f.order)
            out.append(Pair(older, newer, str(row["relation"])))
    return out, reasons
