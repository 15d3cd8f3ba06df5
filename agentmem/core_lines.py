"""Answers from core memory: labelled lines such as `Lives in: Lisbon` that cover what a question asks."""

from __future__ import annotations

from collections.abc import Sequence

from agentmem.asking import Asking, fact_words
from agentmem.language import word_set
from agentmem.types import Answer, Block

# Words that ask for a line's value and stand in no line: "what is my sister's name", "which colour is my favourite".
_GENERIC = frozenset(
    s
    for w in word_set(
        "name age number tell know remember current currently now today use kind type sort exactly please full"
    )
    for s in fact_words(w)
)
CONFIDENCE = 0.95
"""Of an answer from a core-memory line: the user said it and it was kept."""


def _lines(block: Block) -> list[tuple[str, str]]:
    out = []
    for line in block.value.splitlines():
        slot, colon, value = line.strip().lstrip("-*• ").partition(":")
        if colon and slot.strip() and value.strip() and len(slot.split()) <= 5:
            out.append((slot.strip(), value.strip()))
    return out


def _covers(asked: frozenset[str], slot: str, value: str) -> bool:
    """Whether the line says what is asked: all content words stand in it, at least one of them in the slot."""
    slot_words = frozenset(fact_words(slot))
    needed = asked - _GENERIC or asked
    return bool(needed & slot_words) and needed <= slot_words | frozenset(fact_words(value))


def answer_from_blocks(asking: Asking, blocks: Sequence[Block]) -> Answer | None:
    """The answer that a block's lines give, or None when no line covers the question.

    The block "human" answers the user's questions about themself, also by their name; "persona" those about the
    assistant; other blocks any. Lines of one slot (several likes) answer together.
    """
    if asking.past or not asking.words or asking.kind in ("why", "how"):
        return None
    asks_you = "your" in asking.text.lower().split() or asking.assistant
    for block in blocks:
        lines = _lines(block)
        asked = asking.words
        own_name = {s for slot, value in lines if slot.lower() in ("name", "goes by") for s in fact_words(value)}
        if block.label == "persona" and (asking.own or not asks_you):
            continue
        if block.label == "human":
            if not (asking.own or (own_name & asked)) or (asks_you and not asking.own):
                continue
            asked = asked - own_name or asked
        found = [(slot, value) for slot, value in lines if _covers(asked, slot, value)]
        if found:
            slot = found[0][0]
            values = [value for s, value in found if s == slot]
            quoted = "; ".join(f"{slot}: {v}" for v in values)
            text = f'Core memory says: "{quoted}" [core:{block.label}]'
            return Answer(text, ", ".join(values), CONFIDENCE, False)
    return None
