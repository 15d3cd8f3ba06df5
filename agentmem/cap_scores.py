"""Deterministic scorers of answers: LoCoMo's token F1, declined, stale, and whether a prompt has what is needed. Pure.

The F1 is that of LoCoMo (arXiv 2402.17753, section 6, and its published scorer): lower case, commas and other ASCII
punctuation deleted, articles out, Porter stems; an open-domain answer (category 3) is cut at its semicolon, a multi-hop
one (category 1) is scored part by part, an adversarial one (category 5) is right when the question is declined.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from agentmem.language import stem

MULTI_HOP, OPEN_DOMAIN, ADVERSARIAL = "1", "3", "5"
_DELETED = str.maketrans("", "", string.punctuation)
_ARTICLES = frozenset(("a", "an", "the", "and"))
_CITATION = re.compile(r"\s*\[[^\s\[\],;]{1,200}(?:[,;]\s*[^\s\[\],;]{1,200})*\]")
# What models say when they do not know; it counts where a reply begins, not in an aside at its end.
_DECLINES = re.compile(
    r"\b(?:"
    r"(?:do|does|did|can|could|is|are|was|were|has|have|had)(?:n['’]?t|\s+not)\s+(?:\w+\s+){0,2}?"
    r"(?:know|answer|hold|say|tell|contain|mention|mentioned|specif\w+|stated?|record\w*|provided?|given|include|"
    r"indicate|find|found|determine|information|available|memory)"
    r"|cannot\s+(?:\w+\s+)?(?:answer|find|tell|determine|be\s+\w+|say)"
    r"|(?:there\s+is|there['’]s|have|has|had|contains?|holds?|found|with|provides?)\s+(?:no|nothing|not\s+any|no\s+such)\b"
    r"|no\s+(?:\w+\s+)?(?:information|mention|record|memory|answer|evidence|data)\b"
    r"|(?:not|never)\s+(?:\w+\s+)?(?:mentioned|stated|specified|recorded|said|told|given|provided|known|discussed|available)"
    r"|nothing\s+(?:\w+\s+){0,3}?(?:stored|answers|memory|said|known)"
    r"|unknown|unanswerable|no\s+idea"
    r")\b",
    re.IGNORECASE,
)
_BEGINNING = 200


def f1_tokens(text: str) -> list[str]:
    """The stems that LoCoMo's F1 compares, in order."""
    return [stem(w) for w in text.lower().translate(_DELETED).split() if w not in _ARTICLES]


def token_f1(said: str, gold: str) -> float:
    """F1 of the stems of two texts as bags, in [0, 1]; 0 when they share none."""
    a, b = f1_tokens(said), f1_tokens(gold)
    same = (Counter(a) & Counter(b)).total()
    return 2 * same / (len(a) + len(b)) if same else 0.0


def gold_f1(said: str, gold: str, category: str = "") -> float:
    """F1 against one gold answer by the rules of its category."""
    if category == OPEN_DOMAIN:
        return token_f1(said, gold.split(";")[0].strip())
    if category == MULTI_HOP:
        wanted, parts = (_parts(gold), _parts(said))
        if not wanted or not parts:
            return 0.0
        return sum(max(token_f1(p, w) for p in parts) for w in wanted) / len(wanted)
    return token_f1(said, gold)


def best_f1(said: str, answers: Sequence[str], category: str = "") -> float:
    """F1 against the accepted answer that is nearest; 0 without one."""
    return max((gold_f1(said, a, category) for a in answers), default=0.0)


def _parts(text: str) -> list[str]:
    return [p.strip() for p in text.split(",") if p.strip()]


def without_citations(text: str) -> str:
    """A model's text without the ids that it cites in square brackets."""
    return _CITATION.sub("", text).strip()


def declined(text: str) -> bool:
    """Whether a model's reply begins by saying that it does not know; an empty reply declines too."""
    return not text.strip() or _DECLINES.search(text.strip()[:_BEGINNING]) is not None


def says(text: str, phrase: str) -> bool:
    """Whether all stems of a phrase stand in a text."""
    wanted = set(f1_tokens(phrase))
    return bool(wanted) and wanted <= set(f1_tokens(text))


def is_stale(said: str, stale: Iterable[str], answers: Iterable[str]) -> bool:
    """Whether an answer says what was true before an update, and not what is true now."""
    return any(says(said, phrase) for phrase in stale) and not any(says(said, a) for a in answers)


def needed(answers: Sequence[str], gold_text: str) -> frozenset[str]:
    """The stems of an answer that stand in the gold messages: what a prompt must have for it to be read there. Of
    several accepted answers, the one of which the largest share stands there."""
    there = set(f1_tokens(gold_text))

    def stated(tokens: set[str]) -> tuple[float, int]:
        return (len(tokens & there) / len(tokens) if tokens else 0.0, len(tokens))

    best = max((set(f1_tokens(a)) for a in answers), key=stated, default=set())
    return frozenset(best & there)


def has_all(wanted: Collection[str], text: str) -> bool:
    """Whether all these stems stand in a text."""
    return set(wanted) <= set(f1_tokens(text))


def evidence_share(evidence: Sequence[str], keys: Iterable[str]) -> float:
    """The share of a question's evidence keys that are among `keys`. `evidence` must not be empty."""
    return len(set(evidence) & set(keys)) / len(set(evidence))
