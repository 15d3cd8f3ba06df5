"""The score of a hit: a weighted sum of named features over the candidates of one query. Pure.

Two passes: the first scores each record by itself, its neighbours' words and its session; the second adds what only
the first's result can tell, whether a record follows a question that matches, or stands beside the best one.
Similarities are standardised (z-scores) over the candidates and added, which beats reciprocal-rank fusion: that throws
the margins away. The weights are learned by benchmarks/fit_ranking.py; docs/retrieval.md says what each feature is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING

from agentmem.ranking_weights import WEIGHTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SESSION_BEST = 3
STANDARDISED = ("dense", "whole", "context", "lexical", "window", "session_lexical", "length")
"""Features that come in units of their own; all others are shares in [0, 1]."""
PLAIN = (
    "cover_window", "cover_before", "speaker", "time", "event", "when", "number", "who", "tells", "question", "request",
    "after_question", "asked_assistant", "other_side", "exact", "verbatim",
)  # fmt: skip
SECOND_PASS = ("answers", "beside")
FEATURES = (*STANDARDISED, "session", *PLAIN, *SECOND_PASS)
SUMMARY = "summary"
"""One feature more, where messages stand under summaries: how well their own fits, standardised; what stands under none
is in the middle."""
SUMMARY_WEIGHT = 0.0
"""Measured on LoCoMo with extractive summaries: 0.1 changes nothing that can be told from chance, 0.5 costs a point.
What they give is candidates (`agentmem.candidates.WHOLE_LEAVES`)."""


@dataclass(frozen=True, slots=True)
class Signals:
    """The candidates of a query as columns of n values. Raw cosines are NaN where a record has no vector.

    `session` numbers the sessions, -1 is none; `before` is the position of the message that a message goes on from,
    -1 where there is none among the candidates. `tie` orders what scores the same: newer first.
    """

    at_utc: NDArray[np.float64]
    tie: NDArray[np.int64]
    session: NDArray[np.int64]
    before: NDArray[np.int64]
    dense: NDArray[np.float64]
    whole: NDArray[np.float64]
    context: NDArray[np.float64]
    lexical: NDArray[np.float64]
    window: NDArray[np.float64]
    session_lexical: NDArray[np.float64]
    length: NDArray[np.float64]
    cover_window: NDArray[np.float64]
    cover_before: NDArray[np.float64]
    speaker: NDArray[np.float64]
    time: NDArray[np.float64]
    event: NDArray[np.float64]
    when: NDArray[np.float64]
    number: NDArray[np.float64]
    who: NDArray[np.float64]
    tells: NDArray[np.float64]
    question: NDArray[np.float64]
    request: NDArray[np.float64]
    after_question: NDArray[np.float64]
    asked_assistant: NDArray[np.float64]
    other_side: NDArray[np.float64]
    exact: NDArray[np.float64]
    verbatim: NDArray[np.float64]
    summary: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.at_utc)


@dataclass(frozen=True, slots=True)
class Scores:
    """`total` (n,), and `order`: positions, best first. `features[name]` are what the weights were multiplied with."""

    total: NDArray[np.float64]
    order: NDArray[np.int64]
    features: Mapping[str, NDArray[np.float64]]
    weights: Mapping[str, float]
    signals: Signals

    def score(self, n: int) -> float:
        """The score of a hit, in (0, 1): comparable within one query only."""
        import math

        return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, float(self.total[n]) / 4))))

    def parts(self, n: int) -> dict[str, float]:
        """What each feature adds to the total, with the raw cosine and BM25."""
        found = {name: self.weights[name] * float(column[n]) for name, column in self.features.items()}
        found |= {"total": float(self.total[n]), "score": self.score(n), "bm25": float(self.signals.lexical[n])}
        cosine = float(self.signals.dense[n])
        return found | ({"cosine": cosine} if cosine == cosine else {})


def standardise(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """z-scores; a missing value (NaN) counts as the lowest; all equal (or one alone) gives zeros: nothing is reordered.
    Raises ValueError for an infinite value."""
    import numpy as np

    missing = np.isnan(values)
    if missing.all():
        return np.zeros(len(values))
    filled = np.where(missing, values[~missing].min(), values)
    if not np.isfinite(filled).all():
        raise ValueError("a ranking signal is not a finite number")
    deviation = filled.std()
    found: NDArray[np.float64] = (filled - filled.mean()) / deviation if deviation > 1e-9 else np.zeros(len(values))
    return found


def session_best(session: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each candidate the mean of the best three values in its session; its own value without a session."""
    import numpy as np

    found = values.copy()
    order = np.lexsort((-values, session))
    ranked = session[order]
    borders = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1], True]) if len(ranked) else np.zeros(1, np.int64)
    for start, end in pairwise(borders):
        if ranked[start] >= 0:
            found[order[start:end]] = values[order[start : min(end, start + SESSION_BEST)]].mean()
    return found


def features(s: Signals) -> dict[str, NDArray[np.float64]]:
    """The features of the first pass. Raises ValueError for a signal that is no finite number (NaN in a cosine is
    "none")."""
    import numpy as np

    for field in fields(s):
        if field.name in PLAIN and not np.isfinite(getattr(s, field.name)).all():
            raise ValueError(f"the ranking signal {field.name} is not a finite number")
    found = {name: standardise(getattr(s, name)) for name in STANDARDISED}
    found["session"] = standardise(session_best(s.session, found["whole"] + found["lexical"]))
    found |= {name: getattr(s, name) for name in PLAIN}
    known = ~np.isnan(s.summary)
    if s.summary[known].any():
        found[SUMMARY] = np.zeros(len(s))
        found[SUMMARY][known] = standardise(s.summary[known])
    return found


def second_pass(s: Signals, first: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """What the totals of the first pass tell. `answers`: how near to the best the question before it comes (0 at the
    best, negative below, 0 also without one); `beside`: within two messages of the best."""
    import numpy as np

    n = len(first)
    best = int(np.lexsort((s.tie, -s.at_utc, -first))[0])
    follows = (s.before >= 0) & (s.after_question > 0)
    answers = np.zeros(n)
    answers[follows] = first[s.before[follows]] - first[best]
    beside = np.zeros(n)
    step = s.before
    for _ in range(2):
        beside[step == best] = 1.0
        step = np.where(step >= 0, s.before[np.maximum(step, 0)], -1)
    back = best
    for _ in range(2):
        back = int(s.before[back]) if back >= 0 else -1
        if back >= 0:
            beside[back] = 1.0
    return {"answers": np.maximum(answers, -20.0), "beside": beside}


def score(s: Signals, weights: Mapping[str, float] = WEIGHTS) -> Scores:
    """Score and order the candidates; ties by newer time, then by `tie`."""
    import numpy as np

    if not len(s):
        return Scores(np.zeros(0), np.zeros(0, np.int64), {}, weights, s)
    found = features(s)
    weights = {SUMMARY: SUMMARY_WEIGHT, **weights}
    first = np.sum([weights[name] * column for name, column in found.items()], axis=0)
    second = second_pass(s, first)
    total = first + np.sum([weights[name] * column for name, column in second.items()], axis=0)
    order = np.lexsort((s.tie, -s.at_utc, -total))
    return Scores(total, order, found | second, weights, s)
