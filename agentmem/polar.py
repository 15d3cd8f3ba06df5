"""Questions that are answered with yes, no, or one of two things that they name ("the beach or the mountains")."""

from __future__ import annotations

import re

from agentmem.answer_sentences import Candidate
from agentmem.asking import MAX_READ, fact_words
from agentmem.evidence import Evidence
from agentmem.language import word_set

_NOT = word_set(
    "not no never none neither nor nothing nobody don't doesn't didn't isn't aren't wasn't weren't won't wouldn't "
    "can't couldn't haven't hasn't hadn't cannot without"
)
_OR = re.compile(r"(?P<left>[^,?]+?)\s*,?\s+or\s+(?!not\b)(?P<right>[^,?]+)", re.IGNORECASE)
_BEFORE = re.compile(
    r".*\b(?:to|in|on|at|with|by|of|from|for|is|are|be|do|does|did|it|he|she|they|prefer|like|want|choose|enjoy)\s+",
    re.IGNORECASE,
)


def alternatives(question: str) -> tuple[str, str] | None:
    """The two things that a question offers, as it names them, or None."""
    m = _OR.search(question[:MAX_READ])
    if m is None:
        return None
    right = m.group("right").strip()
    left = _BEFORE.sub("", m.group("left")).strip() or m.group("left").strip()
    return (left, right) if left and right and len(left.split()) <= 6 and len(right.split()) <= 6 else None


def chosen(evidence: Evidence, pair: tuple[str, str]) -> str | None:
    """The one of two things that the best item speaks of which speaks of one alone, by whom the question is about; None
    when none does."""
    one, other = (frozenset(fact_words(p)) for p in pair)
    for k, stems in enumerate(evidence.stems):
        said = bool((one - other) & stems), bool((other - one) & stems)
        if evidence.speaks(k) >= 0 and said[0] != said[1]:
            return pair[0] if said[0] else pair[1]
    return None


def yes_or_no(c: Candidate) -> str:
    """`No` when the sentence that bears on the question denies, else `Yes`."""
    return "No" if any(w.low in _NOT for w in c.words) else "Yes"
