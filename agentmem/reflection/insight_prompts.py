"""What a model is asked for insights, and how its answers are read (arXiv 2304.03442, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentmem.reflection.answers import list_of, read_object, text_problem
from agentmem.reflection.changes import AddPassage
from agentmem.reflection.importance import text_of
from agentmem.reflection.instructions import instructs, overrides
from agentmem.reflection.material import Material, one_line
from agentmem.reflection.resting import newest_time, record_of

if TYPE_CHECKING:
    from agentmem.reflection.strategy import Said
    from agentmem.reflection.view import View

KIND = "insight"
BY_MODEL = "by-model"
QUESTION_TOKENS, INSIGHT_TOKENS = 240, 900
MATERIAL_TOKENS = 4000
"""Of one request at most: a larger window is not filled."""
RECORD_CHARS = 600
MAX_QUESTION_WORDS = 40
QUESTIONS = (
    "You reflect on what is stored of conversations. Given the records alone, which {count} most salient high-level"
    " questions can be answered about the people in them: their situation, plans, relations, what they care about, how"
    " they change? Each is one short sentence in the language of the records and names the person it is about."
    ' Answer with JSON alone: {{"questions": ["...", ...]}}.'
)
INSIGHTS = (
    "You draw high-level insights from what is stored of conversations. Given records and a question, say what can be"
    " inferred about it from several records together, and cannot be read from one alone. Give at most {count}"
    " insights, each one sentence of at most 40 words in the language of the records, with names instead of pronouns,"
    " and the numbers of the records that it rests on. Say nothing that the records do not support; when nothing"
    ' follows, give an empty list. Answer with JSON alone: {{"insights": [{{"insight": "...", "records": [1, 3]}}]}}.'
)
QUESTION_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"questions": {"type": "array", "items": {"type": "string"}}},
    "required": ["questions"],
    "additionalProperties": False,
}
INSIGHT_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "insights": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "insight": {"type": "string"},
                    "records": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["insight", "records"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["insights"],
    "additionalProperties": False,
}


def read_questions(view: View, shown: Material, said: Said, most: int) -> tuple[list[str], list[str]]:
    """The questions of an answer, `most` at most, and reasons why others were not taken."""
    value, problem = read_object(said.text) if not said.problem else (None, said.problem)
    if value is None:
        return [], [f"questions: {problem}"]
    entries, problem = list_of(value, "questions", most)
    reasons = [f"questions: {problem}"] if problem else []
    texts = [text_of(r) for ref in shown.refs if (r := record_of(view, ref)) is not None]
    found: list[str] = []
    for entry in entries:
        if problem := text_problem(entry, texts, MAX_QUESTION_WORDS):
            reasons.append(f"questions: {problem}")
        elif overrides(entry):
            reasons.append("questions: one is about the assistant's own rules")
        else:
            found.append(one_line(entry, 400))
    return list(dict.fromkeys(found)), reasons


def read_insights(
    view: View, shown: Material, said: Said, question: str, most: int
) -> tuple[list[AddPassage], list[str]]:
    """The insights of an answer that name records they were shown and can be kept, and reasons why others were not."""
    value, problem = read_object(said.text) if not said.problem else (None, said.problem)
    if value is None:
        return [], [f"insights: {problem}"]
    entries, problem = list_of(value, "insights", most)
    reasons = [f"insights: {problem}"] if problem else []
    found: list[AddPassage] = []
    for entry in entries:
        text, numbers = (entry.get("insight"), entry.get("records")) if isinstance(entry, dict) else (None, None)
        cited = shown.cited(numbers)
        records = [r for ref in cited if (r := record_of(view, ref)) is not None]
        if not records:
            reasons.append("insights: one names no record of those it was shown")
        elif problem := text_problem(text, [text_of(r) for r in records]):
            reasons.append(f"insights: {problem}")
        elif instructs(str(text)):
            reasons.append("insights: one says nothing of the records, and tells the assistant what to do")
        else:
            assert isinstance(text, str)
            found.append(
                AddPassage(
                    one_line(text),
                    KIND,
                    cited,
                    (BY_MODEL,),
                    newest_time(records, view),
                    None,
                    one_line(question, 200),
                )
            )
    return found, reasons
