"""From what a model says of each chunk of a request to a result that keeps the rules and the budget."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agentmem.compression import Compressed, CompressionRequest, Span, Spans, joined, shown, shown_tokens
from agentmem.cutting import Cutting, Unit, within

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def total_tokens(request: CompressionRequest) -> int:
    """What the parts of a request cost as they are."""
    return sum(request.counter.count(p.text) for p in request.parts)


def fitted(
    request: CompressionRequest,
    found: Cutting,
    scores: NDArray[np.float64],
    *,
    there: NDArray[np.bool_] | None = None,
    rate: float = 0.0,
) -> Compressed | None:
    """The chunks of the highest scores that fit into the request's target; None when none do.

    `scores` has a number of at least 0 a chunk; `there`, shape (units,), which units may be shown (all where None).
    Units go whole, those of the lowest score times worth first, until the others can be shown with a share of `rate` of
    their tokens; below that a text is a heap of words.
    """
    import numpy as np

    if there is None or not there.any():
        there = np.ones(len(found.units), bool)
    sizes = np.array([u.last - u.first for u in found.units])
    means = np.add.reduceat(scores, [u.first for u in found.units]) / sizes
    worth = np.array([max(p.worth, 0.0) for p in found.parts])
    worth = worth if worth.any() else np.ones(len(worth))
    unit_scores = means * worth[[u.part for u in found.units]]
    left = _for_rate(request, found, unit_scores, there, rate)
    order = _order(found, scores)

    def tried() -> tuple[Spans, ...] | None:
        kept = order[np.repeat(left, sizes)]
        return within(_only(found, left), kept, request.target_tokens, request.counter, unit_scores=unit_scores[left])

    spans = tried()
    if spans is None:  # a unit of good score is larger than all that there is room for
        left &= [_least(request, found, u) <= request.target_tokens for u in found.units]
        spans = tried() if left.any() else None
    if spans is None or not any(spans):
        return None
    return Compressed(spans, shown_tokens(request.parts, spans, request.counter), _worth(found, scores, worth, spans))


def _order(found: Cutting, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers in the order of the scores, no two alike, so that a threshold can meet a budget to the chunk: of equal
    ones the longer chunk is higher, then the earlier one."""
    import numpy as np

    lengths = np.array([e - s for s, e in found.chunks])
    out = np.empty(len(scores))
    out[np.lexsort((np.arange(len(scores)), -lengths, -scores))] = np.arange(len(scores), 0, -1)
    return out


def _for_rate(
    request: CompressionRequest, found: Cutting, unit_scores: NDArray[np.float64], there: NDArray[np.bool_], rate: float
) -> NDArray[np.bool_]:
    """The units that can be shown with a share of `rate` of their tokens; at least one."""
    import numpy as np

    costs = np.array([request.counter.count(found.text(u)) for u in found.units])
    best_first = np.argsort(-np.where(there, unit_scores, -1.0), kind="stable")
    fits = np.cumsum(costs[best_first] * there[best_first]) * rate <= request.target_tokens
    fits[0] = True
    out = np.zeros(len(there), bool)
    out[best_first[fits]] = True
    return out & there


def _least(request: CompressionRequest, found: Cutting, unit: Unit) -> int:
    """What a unit costs when as little of it as can be is shown."""
    if unit.whole:
        return request.counter.count(found.text(unit))
    chunks = range(unit.first, unit.last)
    kept = [found.chunks[n] for n in chunks if found.protected[n]] or [found.chunks[unit.first]]
    text = found.parts[unit.part].text
    return request.counter.count(shown(text, joined(kept, text)))


def _only(found: Cutting, there: NDArray[np.bool_]) -> Cutting:
    """A cutting with these units alone."""
    units: list[Unit] = []
    chunks: list[Span] = []
    protected: list[bool] = []
    for unit, wanted in zip(found.units, there, strict=True):
        if wanted:
            first = len(chunks)
            chunks += found.chunks[unit.first : unit.last]
            protected += found.protected[unit.first : unit.last]
            units.append(replace(unit, first=first, last=len(chunks)))
    return Cutting(found.parts, tuple(units), tuple(chunks), tuple(protected))


def _worth(found: Cutting, scores: NDArray[np.float64], worth: NDArray[np.float64], spans: tuple[Spans, ...]) -> float:
    """Each part's worth times the share of its score that is shown, over all worth."""
    import numpy as np

    there, whole = np.zeros(len(found.parts)), np.full(len(found.parts), 1e-12)
    for unit in found.units:
        starts, ends = np.array(found.chunks[unit.first : unit.last]).T
        values = (scores[unit.first : unit.last] + 1e-6) * (ends - starts)
        whole[unit.part] += values.sum()
        if kept := spans[unit.part]:
            begins, stops = np.array(kept).T
            at = np.searchsorted(begins, starts, side="right") - 1
            there[unit.part] += values[(at >= 0) & (stops[at] >= ends)].sum()
    return float(np.clip((worth * there / whole).sum() / worth.sum(), 0.0, 1.0))
