"""How the extractive reader says what it found: quotations with who said them when, citations, and that nothing is
stored."""

from __future__ import annotations

from agentmem.answer_sentences import Candidate
from agentmem.evidence import Evidence
from agentmem.times import day_words
from agentmem.types import Answer, Citation, Hit, Tier

MAX_QUOTE_WORDS = 60


def mark(hit: Hit) -> str:
    """The id to cite, in brackets."""
    return f"[{hit.key or hit.id}]"


def _who(hit: Hit) -> str:
    if hit.tier is not Tier.RECALL:
        return f"Archival memory says ({day_words(hit.at)})"
    name = hit.name or {"user": "You", "assistant": "I"}.get(hit.role or "", "Memory")
    return f"{name} said on {day_words(hit.at)}"


def quote(evidence: Evidence, c: Candidate) -> str:
    """A sentence as it is quoted: who said it when, its words, its id."""
    hit = evidence.items[c.item].hit
    text = " ".join(c.text.split()).strip('"“”')
    pieces = text.split(" ")
    if len(pieces) > MAX_QUOTE_WORDS:
        text = f"{' '.join(pieces[:MAX_QUOTE_WORDS])} ..."
    return f'{_who(hit)}: "{text}" {mark(hit)}'


def cite(evidence: Evidence, c: Candidate) -> Citation:
    """The record that a sentence stands in, and the sentence."""
    hit = evidence.items[c.item].hit
    return Citation(hit.id, hit.tier, c.text, hit.key)


def abstain(evidence: Evidence, k: int, confidence: float) -> Answer:
    """That nothing answers, with item k as the nearest."""
    hit = evidence.items[k].hit
    by = f", {hit.name}" if hit.name else ""
    where = f"{mark(hit)} ({day_words(hit.at)}{by})"
    text = f"Nothing that is stored answers this; the nearest is {where}, which does not say."
    return Answer(text, "", confidence, True)
