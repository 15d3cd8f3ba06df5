"""What a model is asked for lessons, how its answers are read, and how a lesson is tested on recorded questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentmem.language import content_words
from agentmem.reflection.answers import list_of, read_object, text_problem
from agentmem.reflection.changes import AddPassage
from agentmem.reflection.importance import text_of
from agentmem.reflection.instructions import overrides
from agentmem.reflection.material import Material, material, one_line
from agentmem.reflection.requests import answer_tokens, fitting, record_chars, request, room
from agentmem.reflection.resting import record_of
from agentmem.reflection.trajectories import Trajectory

if TYPE_CHECKING:
    from agentmem.reflection.strategy import Said
    from agentmem.reflection.view import View
    from agentmem.types import Request

KIND = "lesson"
BY_MODEL = "by-model"
LESSON_TOKENS, REPLY_TOKENS = 600, 120
MATERIAL_TOKENS = 4000
RECORD_CHARS = 1500
MAX_LESSON_WORDS = 80
MAX_ATTEMPTS = 8
"""Shown at once, the newest."""
LESSONS = (
    "You learn from attempts at a task. The records are attempts with their outcome (won or lost) and what was said in"
    " them. Find the concrete cause of how they ended (a wrong assumption, a missing step, something misread, a call"
    " that worked) and the action to take at the next attempt at this task. Give at most {count} candidate lessons that"
    " differ: for each the cause in one sentence, the action in one sentence, both naming what stands in the records,"
    " and the numbers of the records that it rests on. When nothing can be learnt, give an empty list. Answer with JSON"
    ' alone: {{"lessons": [{{"cause": "...", "action": "...", "records": [1]}}]}}.'
)
LESSON_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "lessons": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "cause": {"type": "string"},
                    "action": {"type": "string"},
                    "records": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["cause", "action", "records"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["lessons"],
    "additionalProperties": False,
}
REPLAY = (
    "You answer a question as briefly as you can. The records are lessons from earlier attempts: take into account what"
    ' they say about questions like this one. Answer with JSON alone: {"answer": "..."}.'
)
REPLAY_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Attempts:
    """Of one task: the outcomes to reflect on, and those whose questions are held out for the test."""

    task: str
    shown: tuple[Trajectory, ...]
    held_out: tuple[Trajectory, ...]


def attempts(task: str, outcomes: Sequence[Trajectory], new: Collection[int], most_held_out: int) -> Attempts:
    """Splits a task's judged outcomes: the new ones are shown, the newest of the older ones that have a question are
    held out. Where no older one has, the newest of the new ones are, as long as one is left to learn from. A question
    that stands in what is shown tests nothing, and is left out."""
    mine = [t for t in outcomes if t.task == task and t.signalled]
    fresh = [t for t in mine if t.id in new]
    asking = [t for t in mine if t.question and t.id not in new]
    if not asking:
        asking = [t for t in fresh[1:] if t.question]
    held = asking[-most_held_out:] if most_held_out else []
    shown = [t for t in fresh if t not in held][-MAX_ATTEMPTS:]
    seen = {t.question for t in shown}
    return Attempts(task, tuple(shown), tuple(t for t in held if t.question not in seen))


def reflection_request(view: View, lot: Attempts, candidates: int) -> tuple[Material, Request] | None:
    """The attempts as a question for lessons; None when not even one fits the window."""
    instruction = LESSONS.format(count=candidates)
    most = answer_tokens(view, LESSON_TOKENS)
    around = f"Task: {one_line(lot.task, 120)}\n"
    free = min(MATERIAL_TOKENS, room(view, instruction, most, around))
    refs = list(dict.fromkeys(ref for t in reversed(lot.shown) for ref in (t.ref, *t.sources)))
    held = {t.ref for t in lot.held_out} | {s for t in lot.held_out for s in t.sources}
    records = [r for ref in refs if ref not in held and (r := record_of(view, ref)) is not None]
    chars = record_chars(free, RECORD_CHARS)
    fit = fitting(view, records, free, chars)
    if not fit:
        return None
    shown = material(fit, chars)
    return shown, request(view, instruction, around + shown.text, LESSON_SCHEMA, most)


def read_lessons(
    view: View, lot: Attempts, shown: Material, said: Said, most: int
) -> tuple[list[AddPassage], list[str]]:
    """The lessons of an answer that name a cause and an action, cite records they were shown, and speak of something
    that stands there; and reasons why others were not taken."""
    value, problem = read_object(said.text) if not said.problem else (None, said.problem)
    start = f"task {lot.task!r}: "
    if value is None:
        return [], [start + problem]
    entries, problem = list_of(value, "lessons", most)
    reasons = [start + problem] if problem else []
    found: list[AddPassage] = []
    for entry in entries:
        parts = [entry.get(name) for name in ("cause", "action", "records")] if isinstance(entry, dict) else [None] * 3
        cause, action, cited = parts[0], parts[1], shown.cited(parts[2])
        texts = [text_of(r) for ref in cited if (r := record_of(view, ref)) is not None]
        if not cited:
            reasons.append(start + "a lesson names no record of those it was shown")
            continue
        bad = text_problem(cause, texts, MAX_LESSON_WORDS // 2) or text_problem(action, texts, MAX_LESSON_WORDS // 2)
        if not bad and not set(content_words(f"{cause} {action}")) & set(content_words(" ".join(texts))):
            bad = "a lesson speaks of nothing that happened"
        if not bad and overrides(f"{cause}\n{action}"):
            bad = "a lesson is about the assistant's own rules"
        if bad:
            reasons.append(start + bad)
            continue
        text = f"{one_line(lot.task)}: {one_line(str(action)).rstrip('.')}, because: {one_line(str(cause))}"
        # The attempts come first: a lesson always rests on one.
        tried = tuple(t.ref for t in lot.shown if t.ref in cited) or (lot.shown[-1].ref,)
        sources = tuple(dict.fromkeys([*tried, *cited]))
        found.append(AddPassage(text, KIND, sources, (BY_MODEL, f"task:{lot.task}")))
    return found, reasons


def replay_request(view: View, question: str, lessons: Sequence[str]) -> Request:
    """A recorded question with lessons before it."""
    most = answer_tokens(view, REPLY_TOKENS)
    lines = "\n".join(f"[{n}] {one_line(text, 800)}" for n, text in enumerate(lessons, 1))
    around = f"<records>\n{lines}\n</records>\n\nQuestion: {one_line(question)}"
    return request(view, REPLAY, around, REPLAY_SCHEMA, most)


def answer_f1(said: Said, right: str) -> float:
    """F1 of the stemmed content words of an answer and the right one, as bags (SQuAD, arXiv 1606.05250, section 6.1);
    0 for an answer that can't be read."""
    value, _ = read_object(said.text) if not said.problem else (None, "")
    answer = value.get("answer") if value is not None else None
    given, wanted = (Counter(_content(text)) for text in (answer if isinstance(answer, str) else "", right))
    same = (given & wanted).total()
    return 2 * same / (given.total() + wanted.total()) if same else 0.0


def _content(text: str) -> list[str]:
    # "No" and "not" are stop words; where nothing else was said they are the answer.
    return content_words(text) or text.lower().split()
