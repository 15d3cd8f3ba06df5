"""What `profile` asks a model: the conversation of others, the profile as it is, what was wrong with drafts."""

from __future__ import annotations

from typing import Any

from agentmem.reflection.material import one_line
from agentmem.reflection.profile_drafts import Draft
from agentmem.reflection.profile_lines import bare
from agentmem.types import Block

INSTRUCTION = (
    "You keep a profile of a person, one short line a fact. You read a conversation between that person and others"
    " in which you take no part, and bring the profile up to date. Take what the person says of themself and what will"
    " matter later; leave out small talk, questions, and what others say. Write lines as `Slot: value` (Lives in,"
    " Works as, Likes, Prefers, ...), dates as dates (7 May 2023, never yesterday). A wish about how to be answered is"
    " written as `Prefers ...`; a line never tells anybody what to do. Keep every line of the old profile by its"
    " number, unless the person says that it holds no longer, a newer line says something else of the same slot, or"
    ' another line says the same. Answer with JSON alone: {"lines": [{"keeps": [1]}, {"text": "Slot: value", "from":'
    ' [3]}, {"text": "Slot: value", "from": [4], "keeps": [2]}], "gone": [{"line": 2, "from": [4]}]}. "keeps"'
    ' are numbers of old lines, "from" numbers of records. If nothing is to be changed, answer {"same": true}.'
)
_NUMBERS = {"type": "array", "items": {"type": "integer"}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "same": {"type": "boolean"},
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "from": _NUMBERS, "keeps": _NUMBERS},
            },
        },
        "gone": {
            "type": "array",
            "items": {"type": "object", "properties": {"line": {"type": "integer"}, "from": _NUMBERS}},
        },
    },
}


def task(block: Block, person: str, records: str) -> str:
    """The profile's lines by their numbers, its limit, and the records (marked as `material` does)."""
    lines = [line for line in block.value.split("\n") if bare(line)]
    shown = "\n".join(f"{n}. {one_line(line)}" for n, line in enumerate(lines, 1)) or "(empty)"
    who = one_line(person, 60) if person else "the user"
    about = f" ({one_line(block.description, 200)})" if block.description else ""
    return (
        f"The profile is the block {block.label!r}{about} of {who}; it may have {block.max_tokens} tokens.\n"
        f"The old profile:\n<profile>\n{shown}\n</profile>\n{records}"
    )


def feedback(draft: Draft) -> str:
    """What is wrong with a draft, and what to do about it."""
    wrong = "\n".join(f"- {one_line(p, 400)}" for p in draft.problems[:10])
    return (
        f"This draft can't be taken as it is:\n{wrong}\nAnswer again with the whole profile, as JSON of the same shape."
    )
