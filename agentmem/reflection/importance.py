"""How much records matter, from 1 (mundane) to 10 (poignant), as in Generative Agents (arXiv 2304.03442, section 4.1).

By a model: many records a request, since one call a record is what the paper's way costs most. Without one: a rule of
thumb that counts what often marks a message worth keeping; it does not understand what it reads.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentmem.dates import find_dates
from agentmem.language import is_question, sentences, word_set, words
from agentmem.reflection.answers import list_of, read_object
from agentmem.reflection.material import Material, material
from agentmem.reflection.requests import answer_tokens, fitting, request, room
from agentmem.types import Message, Passage

if TYPE_CHECKING:
    from agentmem.reflection.strategy import Said
    from agentmem.reflection.view import View
    from agentmem.types import Request

Record = Message | Passage
BATCH_RECORDS = 40
RECORD_CHARS = 400
"""Of each record in a rating prompt: enough to see what it is about."""
TOKENS_A_RATING = 14
INSTRUCTION = (
    "You rate how much records of conversations will matter later, to whoever wants to know the people in them."
    " Rate each record with a whole number from 1 (mundane: a greeting, thanks, small talk) to 10 (of great weight: a"
    " birth, a death, a break-up, a move, a new job, an illness, a decision for life)."
    ' Rate every record. Answer with JSON alone: {"ratings": [{"record": 1, "importance": 3}, ...]}.'
)
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "ratings": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "record": {"type": "integer"},
                    "importance": {"type": "integer", "minimum": 1, "maximum": 10},
                },
                "required": ["record", "importance"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["ratings"],
    "additionalProperties": False,
}


def rating_batches(view: View, records: Sequence[Record]) -> list[tuple[list[Record], Material, Request]]:
    """The records in runs, each with its material and request; a run is one answer's worth, and fits the window."""
    out: list[tuple[list[Record], Material, Request]] = []
    start = 0
    most = answer_tokens(view, 24 + BATCH_RECORDS * TOKENS_A_RATING)
    free = room(view, INSTRUCTION, most)
    while start < len(records):
        ahead = records[start : start + max(1, min(BATCH_RECORDS, (most - 24) // TOKENS_A_RATING))]
        # One that is too long for the window alone is asked nevertheless, cut to what fits a small one.
        run = fitting(view, ahead, free, RECORD_CHARS) or [records[start]]
        shown = material(run, RECORD_CHARS if len(run) > 1 else max(40, min(RECORD_CHARS, free)))
        out.append((run, shown, request(view, INSTRUCTION, shown.text, SCHEMA, most)))
        start += len(run)
    return out


def read_ratings(shown: Material, said: Said) -> tuple[dict[str, int], list[str]]:
    """The importance of each ref that the model rated properly, and reasons why the others were not taken."""
    if said.problem:
        return {}, [f"ratings: {said.problem}"]
    value, problem = read_object(said.text)
    if value is None:
        return {}, [f"ratings: {problem}"]
    entries, problem = list_of(value, "ratings", len(shown.refs))
    reasons = [f"ratings: {problem}"] if problem else []
    found: dict[str, int] = {}
    bad = 0
    for entry in entries:
        ref = shown.ref(entry.get("record")) if isinstance(entry, dict) else None
        given = entry.get("importance") if isinstance(entry, dict) else None
        if ref is None or ref in found or type(given) is not int or not 1 <= given <= 10:
            bad += 1
        else:
            found[ref] = given
    if bad:
        reasons.append(f"ratings: {bad} name no record of the question, one twice, or no number from 1 to 10")
    if missing := len(shown.refs) - len(found):
        reasons.append(f"ratings: {missing} of {len(shown.refs)} records were not rated")
    return found, reasons


def text_of(record: Record) -> str:
    """What was said, or what a passage says."""
    return record.said if isinstance(record, Message) else record.text


# -- without a model --------------------------------------------------------------------------------------------

_ONESELF = re.compile(r"\b(?:i|i'm|i've|i'd|my|me|we|we're|we've|our)\b", re.IGNORECASE)
_DECISION = re.compile(
    r"\b(?:decided|decision|i(?:'m| am) going to|we(?:'re| are) going to|plan(?:ning|s)? to|quit|resigned|accepted|"
    r"signed up|applied for|enrolled|promised?|from now on|i(?:'ll| will) never)\b",
    re.IGNORECASE,
)
_LIFE = word_set(
    "born birth baby pregnant pregnancy died death funeral passed wedding married marry engaged engagement divorce "
    "divorced husband wife son daughter mother father mom dad sister brother child children kids adopted adoption "
    "moved moving job hired fired promoted promotion retired degree graduated university diagnosis diagnosed cancer "
    "surgery hospital illness accident therapy allergic allergy birthday anniversary house home address"
)
_FEELING = word_set(
    "love loved hate hated afraid scared terrified heartbroken devastated grief thrilled ecstatic proud ashamed lonely "
    "depressed anxious furious angry worst happiest amazing overwhelmed crying cried dream nightmare miss regret"
)
_DIGIT = re.compile(r"\d")
UNNAMED_ASSISTANT_MOST = 4


def rule_importance(record: Record, known_names: Collection[str] = ()) -> int:
    """A rule of thumb, 1 to 10: 1 for what only asks or has hardly a word, else 2; 1 more each for saying something of
    oneself, a number, a date, a named person or place, and for the first mention of one (names that are not in
    `known_names`, lower case); 2 more each for events of life, strong feelings, and decisions. At most 4 for what an
    assistant without a name says."""
    text = text_of(record)
    told = " ".join(text[a:b] for a, b in sentences(text) if not is_question(text[a:b]))
    said = [w.lower() for w in words(told)]
    if len(said) < 4:
        return 1
    at = record.at if isinstance(record, Message) else record.valid_from
    named = names_in(told)
    score = 2
    score += bool(_ONESELF.search(told))
    score += bool(_DIGIT.search(told))
    score += bool(find_dates(told, at))
    score += bool(named)
    score += bool(named.difference(known_names))
    score += 2 * (not _LIFE.isdisjoint(said))
    score += 2 * (not _FEELING.isdisjoint(said))
    score += 2 * bool(_DECISION.search(told))
    if isinstance(record, Message) and record.role == "assistant" and not record.name:
        score = min(score, UNNAMED_ASSISTANT_MOST)
    return min(10, score)


def names_in(text: str) -> set[str]:
    """Words with a capital letter inside a sentence, lower case: names of people and places, mostly."""
    found: set[str] = set()
    for start, end in sentences(text):
        for word in words(text[start:end])[1:]:
            if word[:1].isupper() and not word.isupper() and word.lower().split("'")[0] not in ("i", "i’m"):
                found.add(word.lower().split("'")[0].split("’")[0])
    return found
