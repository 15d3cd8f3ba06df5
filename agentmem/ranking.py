"""The score of a hit: a weighted sum of named features, standardised over the candidates of one query. Pure.

Equal-weight z-score fusion of dense and lexical similarity is the base (it beats reciprocal-rank fusion, which throws
the margins away); the other features are what conversations add: who speaks, the turns around, the session, the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Set by hand from what was measured to help on LoCoMo; benchmarks/retrieval.py prints what they reach.
WEIGHTS: Mapping[str, float] = {
    "dense": 1.0,
    "lexical": 1.0,
    "around": 0.45,
    "dense_before": 0.15,
    "session": 0.5,
    "speaker": 1.0,
    "time": 1.2,
    "exact": 3.0,
    "kind": 0.35,
    "question": -0.8,
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record with its raw signals. `around` is the BM25 of its neighbours, `dense_before` the previous turn's cosine;
    `speaker`, `time`, `exact`, `kind` and `question` are shares in [0, 1] of what the question asks for."""

    ref: str
    at_utc: float
    cosine: float | None = None
    bm25: float = 0.0
    around: float = 0.0
    dense_before: float | None = None
    session: str | None = None
    speaker: float = 0.0
    time: float = 0.0
    exact: float = 0.0
    kind: float = 0.0
    question: float = 0.0


def standardise(values: Sequence[float | None]) -> list[float]:
    """z-scores; a missing value counts as the lowest; all equal (or one alone) gives zeros, so nothing is reordered."""
    present = [v for v in values if v is not None]
    if not present:
        return [0.0] * len(values)
    if any(math.isnan(v) for v in present):
        raise ValueError("a ranking signal is not a number")
    lowest = min(present)
    filled = [lowest if v is None else v for v in values]
    mean = sum(filled) / len(filled)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in filled) / len(filled))
    return [(v - mean) / deviation for v in filled] if deviation > 1e-9 else [0.0] * len(filled)


def session_means(candidates: Sequence[Candidate], base: Sequence[float], best: int = 3) -> list[float]:
    """For each candidate the mean of the best three base scores in its session (of its own, without one)."""
    by_session: dict[str, list[float]] = {}
    for c, score in zip(candidates, base, strict=True):
        if c.session is not None:
            by_session.setdefault(c.session, []).append(score)
    means = {s: sum(top := sorted(v, reverse=True)[:best]) / len(top) for s, v in by_session.items()}
    return [means[c.session] if c.session is not None else b for c, b in zip(candidates, base, strict=True)]


def score(candidates: Sequence[Candidate], weights: Mapping[str, float] = WEIGHTS) -> list[dict[str, float]]:
    """The features of each candidate, standardised and weighted, with `score` (in (0, 1)) and the raw signals.

    Raises ValueError for a signal that is not a number.
    """
    if not candidates:
        return []
    columns = {
        "dense": standardise([c.cosine for c in candidates]),
        "lexical": standardise([c.bm25 for c in candidates]),
        "around": standardise([c.around for c in candidates]),
        "dense_before": standardise([c.dense_before for c in candidates]),
        "speaker": [c.speaker for c in candidates],
        "time": [c.time for c in candidates],
        "exact": [c.exact for c in candidates],
        "kind": [c.kind for c in candidates],
        "question": [c.question for c in candidates],
    }
    base = [
        weights["dense"] * d + weights["lexical"] * x for d, x in zip(columns["dense"], columns["lexical"], strict=True)
    ]
    columns["session"] = standardise(session_means(candidates, base))
    scored = []
    for n, c in enumerate(candidates):
        parts = {name: weights[name] * column[n] for name, column in columns.items()}
        total = sum(parts.values())
        parts["score"] = 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, total / 4))))
        parts["total"] = total
        parts["bm25"] = c.bm25
        if c.cosine is not None:
            parts["cosine"] = c.cosine
        scored.append(parts)
    return scored


def order(candidates: Sequence[Candidate], scored: Sequence[Mapping[str, float]]) -> list[int]:
    """Positions, best first; ties by newer time, then by ref."""
    return sorted(range(len(candidates)), key=lambda n: (-scored[n]["total"], -candidates[n].at_utc, candidates[n].ref))
