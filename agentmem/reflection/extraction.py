"""Facts that a model reads in what people said, for `consolidate?extract=true` (the extraction phase of mem0, arXiv
2504.19413, section 2.1, but with numbered messages that each fact has to name).

People's messages alone are shown: what an assistant said is no source. What can't be read, names no message that was
shown, has no word of it, is too long, is in another language or gives orders is left out with a reason; what is known
already is not filed again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentmem.language import STOP_WORDS, words
from agentmem.reflection.answers import list_of, read_object, text_problem
from agentmem.reflection.changes import AddPassage
from agentmem.reflection.instructions import instructs
from agentmem.reflection.material import Material, material, one_line
from agentmem.reflection.nearby import Fact
from agentmem.reflection.relations import relation
from agentmem.reflection.requests import answer_tokens, fitting, request, room
from agentmem.reflection.strategy import Said, Step, ask, propose
from agentmem.times import format_time, utc_seconds

if TYPE_CHECKING:
    from agentmem.reflection.view import View
    from agentmem.types import Message, Request

KIND = "fact"
TAGS = ("said", "by-model")
WINDOW = 12
"""Messages of one question at most."""
ASKED = 16
"""Questions that are put together; the answers of each are committed apart."""
MAX_CHARS = 1000
FACTS_A_MESSAGE = 3
"""On the average of a question's messages at most."""
TOKENS_A_MESSAGE = 80
"""Of the answer, for what one message states."""
MAX_FACT_WORDS = 40
STEM = 4
"""Letters by which words are the same: `live` and `lives`."""
INSTRUCTION = (
    "You keep notes for an assistant. Below are messages that people wrote to it. Write down what they plainly state"
    " about themselves and others: who somebody is, where they live and work, what they own, like and do, what is fixed"
    " for which day, and what of this has changed. Each fact is one short sentence in the language of its message that"
    " stands for itself: with the name before the message instead of 'I' ('the user' where it has none), names instead"
    " of pronouns, and a date instead of words such as 'yesterday' (each line begins with the day on which it was"
    " written). Leave out questions, wishes, guesses, greetings, and what somebody asks the assistant to do. Name for"
    " each fact the messages that state it. Answer with JSON alone:"
    ' {"facts": [{"fact": "Tom lives in Porto.", "messages": [3]}]}, an empty list when they state none.'
)
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "facts": {
            "type": "array",
            "maxItems": WINDOW * FACTS_A_MESSAGE,
            "items": {
                "type": "object",
                "properties": {
                    "fact": {"type": "string"},
                    "messages": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["fact", "messages"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["facts"],
    "additionalProperties": False,
}
_FIRST = re.compile(r"\b(?:I|[Mm]e|[Mm]y(?:self)?|[Mm]ine|[Ww]e|us|[Oo]urs?)\b")
Question = tuple[list["Message"], Material, "Request"]


def questions(view: View, after: int) -> list[Question]:
    """People's messages above an id in runs, each with its material and its request: as many as the window has room
    for, and as one answer has."""
    said = [m for m in view.messages(after) if m.role == "user"]
    most = answer_tokens(view, 24 + WINDOW * TOKENS_A_MESSAGE)
    free = room(view, INSTRUCTION, most)
    at_once = max(1, min(WINDOW, (most - 24) // TOKENS_A_MESSAGE))
    out: list[Question] = []
    start = 0
    while start < len(said):
        # One that is too long for the window alone is asked nevertheless, cut to what fits.
        run = fitting(view, said[start : start + at_once], free, MAX_CHARS) or [said[start]]
        shown = material(run, MAX_CHARS if len(run) > 1 else max(40, min(MAX_CHARS, free)))
        out.append((run, shown, request(view, INSTRUCTION, shown.text, SCHEMA, most)))
        start += len(run)
    return out


def extracted(
    view: View, after: int, known: Sequence[Fact], cursor: Callable[[int], Any]
) -> Generator[Step, Any, list[Fact]]:
    """File what people's messages above an id state; the facts that were filed. `known` are those that hold, `cursor`
    makes the cursor of a message's id. Each question's facts are committed with how far they came."""
    held = Held(known)
    added: list[Fact] = []
    reached = after
    asked = questions(view, after)
    for start in range(0, len(asked), ASKED):
        some = asked[start : start + ASKED]
        answers = yield from ask([r for _, _, r in some])
        for (run, shown, _), said in zip(some, answers, strict=True):
            found, rejected = read_facts(run, shown, said)
            changes: list[AddPassage] = []
            facts: list[Fact] = []
            for fact, sources in found:
                if not held.repeats(fact):
                    held.add(fact)
                    facts.append(fact)
                    changes.append(_change(fact, sources))
            reached = run[-1].id
            outcomes = yield from propose(changes, cursor(reached), rejected)
            added += [
                Fact(made.made, int(made.made[1:]), fact.text, fact.told, fact.speaker)
                for made, fact in zip(outcomes, facts, strict=True)
                if made.made is not None
            ]
    if reached < view.last_message:  # those at the end are no people's
        yield from propose([], cursor(view.last_message))
    return added


def read_facts(
    run: Sequence[Message], shown: Material, said: Said
) -> tuple[list[tuple[Fact, tuple[str, ...]]], list[str]]:
    """The facts of an answer, each with the refs of the messages that state it, and why other parts of it are not
    taken. `run` are the messages of `shown`."""
    value, problem = (None, said.problem) if said.problem else read_object(said.text)
    if value is None:
        return [], [f"facts: {problem}"]
    entries, problem = list_of(value, "facts", len(run) * FACTS_A_MESSAGE)
    reasons = [f"facts: {problem}"] if problem else []
    of_ref = {m.ref: m for m in run}
    found: list[tuple[Fact, tuple[str, ...]]] = []
    for entry in entries:
        text, numbers = (entry.get("fact"), entry.get("messages")) if isinstance(entry, dict) else (None, None)
        if not isinstance(numbers, list) or not numbers or any(shown.ref(n) is None for n in numbers):
            reasons.append("facts: one names no message, or one that was not shown")
            continue
        sources = shown.cited(numbers)
        messages = [of_ref[ref] for ref in sources]
        if problem := text_problem(text, [m.said for m in messages], MAX_FACT_WORDS):
            reasons.append(f"facts: {problem}")
        elif instructs(str(text)):
            reasons.append("facts: one tells the assistant what to do")
        elif not _shares(str(text), messages):
            reasons.append("facts: one has no word of the messages that it names")
        else:
            found.append((_fact(str(text), messages), sources))
    return found, reasons


class Held:
    """The facts that hold, those that were just filed among them."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._facts: list[Fact] = []
        self._saying: defaultdict[tuple[str, ...], list[Fact]] = defaultdict(list)
        for fact in facts:
            self.add(fact)

    def add(self, fact: Fact) -> None:
        """One more."""
        self._facts.append(fact)
        self._saying[_words(fact)].append(fact)

    def repeats(self, fact: Fact) -> bool:
        """Whether one says the same, and nothing that was told between the two says otherwise: who moved away and came
        back says again what is new."""
        return any(not self._otherwise(*sorted((fact, same), key=_order)) for same in self._saying[_words(fact)])

    def _otherwise(self, older: Fact, newer: Fact) -> bool:
        return any(
            _order(older) < _order(f) < _order(newer)
            and f.words & older.words
            and relation(older.statements, f.statements).name == "updates"
            for f in self._facts
        )


def _shares(text: str, messages: Sequence[Message]) -> bool:
    """Whether a text has a content word of the messages, by its first letters: one that has none is of other messages
    than it names, or of none."""
    names = {w.lower() for m in messages for w in words(m.name or "")}
    said, source = (
        {w.lower()[:STEM] for w in words(t) if w.lower() not in STOP_WORDS | names}
        for t in (text, " ".join(m.said for m in messages))
    )
    return bool(said & source)


def _fact(text: str, messages: Sequence[Message]) -> Fact:
    """A fact as of the newest message that states it; who says "I" in it is named in front, as in what is filed by
    rules."""
    names = {m.name or "" for m in messages}
    speaker = names.pop() if len(names) == 1 else ""
    line = one_line(text)
    line = f"{speaker}: {line}" if speaker and _FIRST.search(line) and not line.startswith(f"{speaker}:") else line
    return Fact(messages[-1].ref, 0, line, max((m.at for m in messages), key=utc_seconds), speaker)


def _change(fact: Fact, sources: tuple[str, ...]) -> AddPassage:
    # A passage of several messages has no other time than that from which on it holds (`nearby.fact_of`).
    begins = fact.told if len(sources) > 1 else min(fact.happened[0], fact.told, key=utc_seconds)
    return AddPassage(fact.text, KIND, sources, TAGS, format_time(begins), why="a plain statement, read by the model")


def _words(fact: Fact) -> tuple[str, ...]:
    return fact.plain[1:]  # without the speaker, who is named in the text


def _order(fact: Fact) -> tuple[float, float]:
    return fact.order[:2]
