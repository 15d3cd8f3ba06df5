"""How sure the extractive reader is of an answer: raw signals that mean the same for every question, and their rule.

Confidence is a logistic function of what `signals` returns, with weights of its own for questions that name one speaker
(`CONFIDENCE_NAMED` and `CONFIDENCE` in `agentmem.reading_weights`). There most of what was never said is caught by who
said what: the other speaker's turns must not answer the question better than the named one's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from agentmem import reading_weights
from agentmem.answer_sentences import Candidate
from agentmem.evidence import Evidence

CONFIDENCE: Mapping[str, float] = reading_weights.CONFIDENCE
"""What each raw signal is worth; the sum goes through the logistic function."""
NAMED: Mapping[str, float] = reading_weights.CONFIDENCE_NAMED
"""The same for questions that name one speaker."""
COVER_FLOOR = 0.2
NEAREST = 5
WHO = frozenset(
    {
        "score", "top", "rank", "speaker", "subject speaks", "own first person", "other's first person",
        "other's second person",
    }
)  # fmt: skip
"""Features that tell who speaks or what the search made of the turn, rather than what is said."""


def worth(features: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted sum of named features."""
    return sum([weights[name] * value for name, value in features.items() if name in weights])


def said(c: Candidate) -> float:
    """What a sentence is worth by itself, whoever says it and whatever the search made of its turn."""
    return worth({f: v for f, v in c.features.items() if f not in WHO}, reading_weights.SENTENCE)


def _lead(values: Sequence[float], whose: Sequence[bool], nothing: float, best: int = 1) -> float:
    """How far the best of the named speaker's values (the sum of the best few) are above the others' best."""
    own, others = (
        sorted((v for v, w in zip(values, whose, strict=True) if w is side), reverse=True)[:best]
        for side in (True, False)
    )
    return (sum(own) if own else nothing) - (sum(others) if others else nothing)


def _of_one_named(evidence: Evidence, found: Sequence[Candidate]) -> dict[str, float]:
    """The named speaker's part minus the others', where one speaker is named."""
    items, stems = evidence.items, evidence.stems
    whose = [i.hit.name in evidence.asking.named for i in items]
    turns = [evidence.cover(s) for s in stems]
    best = [max((evidence.cover(s.stems) for s in read), default=0.0) for read in evidence.read]
    # Who speaks is part of a hit's score; here it must not count.
    hits = [i.hit.score - (i.hit.parts or {}).get("speaker", 0.0) for i in items]
    worths = [said(c) for c in found]
    lead = _lead(worths, [whose[c.item] for c in found], min(worths, default=0.0) - 2)
    return {
        "named": 1.0,
        "turns minus others'": _lead(turns, whose, 0.0, best=3),
        "sentence minus others'": _lead(best, whose, 0.0),
        "worth minus others'": max(-2.0, min(2.0, lead / 5)),
        "hit minus others'": max(-2.0, min(2.0, _lead(hits, whose, min(hits, default=0.0)) / 5)),
        "own among the best": sum(whose[:NEAREST]) / NEAREST,
        "says the rarest": float(any(evidence.rarest in s for s, w in zip(stems, whose, strict=True) if w)),
    }


def signals(evidence: Evidence, found: Sequence[Candidate], cited: Candidate) -> dict[str, float]:
    """The raw signals of the confidence rule for an answer from the sentence `cited` among those found."""
    k = cited.item
    near = [n for n in (evidence.neighbour(k, -1), k, evidence.neighbour(k, 1)) if n is not None]
    stems = frozenset().union(*(evidence.stems[n] for n in near))
    out = {
        "bias": 1.0,
        "cover": evidence.cover(stems),
        "sentence cover": cited.features["cover"],
        "rarest": float(evidence.rarest in stems),
    }
    named = evidence.asking.named
    if len(named) == 1:
        out |= _of_one_named(evidence, found)
        out["cited speaker"] = evidence.speaks(k)
    elif len(named) > 1:
        out["several named"] = 1.0
    elif out["cover"] < COVER_FLOOR or evidence.is_elsewhere(stems):
        out["unsaid"] = 1.0
    cosine = (evidence.items[k].hit.parts or {}).get("cosine")
    if cosine is not None:
        out["cosine"] = cosine - 0.4
    return out


def confidence_of(found: Mapping[str, float]) -> float:
    """The confidence rule: in [0, 1], 0 where what is asked about is not there."""
    if "unsaid" in found:
        return 0.0
    total = worth(found, NAMED if "named" in found else CONFIDENCE)
    return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, total))))
