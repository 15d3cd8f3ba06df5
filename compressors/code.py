"""LongCodeZip (arXiv 2510.00446) for code in messages and documents: functions by the question, then blocks in them.

Coarse: functions in the order of what they have to do with the question, until they are some way over the target.
Fine: each of them gets a share of the target by its rank, and a knapsack of its blocks fills it; its signature and
what it returns stay. What is left goes to the signatures of the other functions. It differs from the paper in this:

- Ranking is by words and identifiers unless a model is given; then by its perplexity, as in the paper.
- A block is a run of whole statements, so that no line, string or statement is ever cut and brackets stay even.
- What is left out leaves no comment: a compressor says nothing that was not there.

Prose around code is kept as it is, JSON whole or left out. A text without code is left alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from agentmem.compression import Compressed, CompressionRequest, Spans, shown_tokens
from agentmem.compressors.code_pieces import Pieces, pieces_of, with_blocks
from agentmem.compressors.code_ranking import CodeRanking, ModelRanking, WordRanking
from agentmem.compressors.code_split import Block, Section
from agentmem.compressors.model_options import MODEL_OPTIONS, options_of
from agentmem.compressors.self_information import SelfInformation
from agentmem.packing import MAX_CAPACITY, MAX_ITEMS, Variant, choose

VERSION = 1
FINE_RATIO = 0.6
"""The share of the functions taken at first that is kept in the end; the paper has 0.5 to 0.8."""
BETA = 0.5
"""How much a function's rank changes its share (the paper's)."""
LEAST_VALUE = 1e-3
"""Of a token of a block that has nothing to do with the question, so that room is used."""


class CodeCompressor:
    """Leaves out functions, and blocks within functions. `target` is "" or `PATH?name=value&...` with the folder of a
    causal language model; `device` and `dtype` are the model's, by keyword too.

    Raises ConfigError for an option or a folder that is none; the model is loaded at the first `compress`, which raises
    ConfigError for what is no causal language model and MissingExtraError without transformers.
    """

    name = "code"
    question_aware = True
    joint = False

    def __init__(self, target: str = "", **options: Any) -> None:
        path, given = options_of(target, options, MODEL_OPTIONS)
        self._model = SelfInformation(path, name=self.name, **given) if path else None

    @cached_property
    def fingerprint(self) -> str:
        """The algorithm's version and its model."""
        return f"code/{VERSION}/{self._model.fingerprint if self._model is not None else ''}"

    def compress(self, requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
        """Compress, one request after the other; a model reads the sections of a request in batches."""
        return [self._one(r) for r in requests]

    def _one(self, request: CompressionRequest) -> Compressed | None:
        total = sum(request.counter.count(p.text) for p in request.parts)
        if total <= request.target_tokens or request.target_tokens < 1:
            return None
        found = pieces_of(request.parts)
        if not found.sections:
            return None
        fixed = shown_tokens(request.parts, found.shown(frozenset()), request.counter)
        if fixed > request.target_tokens:
            return None
        choice = _Choice(request, found, self._ranking, request.target_tokens - fixed)
        spans = _within(request, choice.found, choice.steps())
        if not any(spans):
            return None
        tokens = shown_tokens(request.parts, spans, request.counter)
        return None if tokens >= total else Compressed(spans, tokens, choice.worth(spans))

    @cached_property
    def _ranking(self) -> CodeRanking:
        return WordRanking() if self._model is None else ModelRanking(self._model)


def _within(request: CompressionRequest, found: Pieces, steps: Sequence[frozenset[int]]) -> tuple[Spans, ...]:
    """As many of the steps, in order, as the target has room for."""

    def after(count: int) -> tuple[Spans, ...]:
        return found.shown(frozenset().union(*steps[:count]))

    low, high = 0, len(steps)
    while low < high:
        middle = (low + high + 1) // 2
        if shown_tokens(request.parts, after(middle), request.counter) <= request.target_tokens:
            low = middle
        else:
            high = middle - 1
    return after(low)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A section and its share of the budget, in tokens."""

    section: Section
    share: float


class _Choice:
    """What to keep of a request's code, step by step: each step adds pieces, the most important first."""

    def __init__(self, request: CompressionRequest, found: Pieces, ranking: CodeRanking, budget: int) -> None:
        self.found = found
        self._ranking, self._query, self._budget = ranking, request.query, budget
        self._costs = [request.counter.count(found.text([n]) + "\n") for n in range(len(found.spans))]
        self._kept: set[int] = set()
        self._steps: list[frozenset[int]] = []
        self._room = budget
        values = ranking.sections(request.query, found) if request.query.strip() else []
        self._asked = bool(values) and max(values) > min(values)
        self._values = _normal(values) if self._asked else [0.5] * len(found.sections)
        worth = [max(0.0, found.parts[found.regions[h].part].worth) for h in found.homes]
        self._values = [v * w for v, w in zip(self._values, worth, strict=True)]

    def steps(self) -> list[frozenset[int]]:
        """Sets of pieces to add, in this order."""
        order = sorted(range(len(self._values)), key=lambda n: (-self._values[n], n))
        if self._asked:
            self._by_rank(order)
        else:
            order.sort()
        sections = self.found.sections
        for n in order:
            if sections[n].kind in ("function", "class", "statement"):
                self._add(self._outline(sections[n]))
        for n in order:
            self._add(self._outline(sections[n]))
        for n in order:
            for block in sorted(sections[n].blocks, key=lambda b: not b.returns):
                self._add_block(sections[n], block)
        return self._steps

    def worth(self, spans: Sequence[Spans]) -> float:
        """The share of what the sections are worth that is kept, parts counted by their worth."""
        parts = self.found.parts
        kept, whole = [0.0] * len(parts), [0.0] * len(parts)
        for n, home in enumerate(self.found.homes):
            part = self.found.regions[home].part
            begins = [s for s, _ in spans[part]]
            for piece in self.found.sections[n].lines:
                start, end = self.found.spans[piece]
                value = self._costs[piece] * (0.1 + self._values[n])
                whole[part] += value
                place = bisect_right(begins, start) - 1
                kept[part] += value if place >= 0 and end <= spans[part][place][1] else 0.0
        shares = [k / w if w > 0 else float(bool(s)) for k, w, s in zip(kept, whole, spans, strict=True)]
        worth = [max(0.0, p.worth) for p in parts]
        if sum(worth) <= 0:
            worth = [1.0] * len(parts)
        return round(min(1.0, sum(s * w for s, w in zip(shares, worth, strict=True)) / sum(worth)), 4)

    # -- steps --------------------------------------------------------------------------------------------------------

    def _by_rank(self, order: Sequence[int]) -> None:
        """The paper's two stages, for the sections that have something to do with the query."""
        coarse: list[int] = []
        cost = 0
        for n in order:
            if self._values[n] <= 0 or cost >= self._budget / FINE_RATIO:
                break
            coarse.append(n)
            cost += self._cost(self.found.sections[n].lines)
        self._find_blocks(coarse)
        for taken in self._shares(coarse):
            self._fill(taken)

    def _find_blocks(self, coarse: Sequence[int]) -> None:
        """Where a model says where blocks end, the functions taken are split there."""
        functions = [self.found.sections[n] for n in coarse if self.found.sections[n].blocks]
        homes = [self.found.homes[n] for n in coarse if self.found.sections[n].blocks]
        spans = [range(min(s.lines), max(s.lines) + 1) for s in functions]
        said = self._ranking.ends([self.found.text(s) for s in spans]) if functions else None
        if said is None:
            return
        ends: dict[int, set[int]] = {}
        for home, lines, found in zip(homes, spans, said, strict=True):
            ends.setdefault(home, set()).update(lines[n] - self.found.regions[home].first for n in found)
        self.found = with_blocks(self.found, ends)

    def _shares(self, coarse: Sequence[int]) -> list[_Taken]:
        """The adaptive budget: rate = common rate x (1 + beta x 2 x (importance - 0.5)), then scaled to the total."""
        if not coarse:
            return []
        costs = [max(1, self._cost(self.found.sections[n].lines)) for n in coarse]
        norms = _normal([self._values[n] for n in coarse])
        common = min(1.0, self._budget / sum(costs))
        rates = [min(1.0, max(0.0, common * (1 + BETA * 2 * (v - 0.5)))) for v in norms]
        for _ in range(4):
            free = sum(c * r for c, r in zip(costs, rates, strict=True) if r < 1)
            full = sum(c for c, r in zip(costs, rates, strict=True) if r >= 1)
            if free <= 0 or self._budget <= full:
                break
            rates = [r if r >= 1 else min(1.0, r * (self._budget - full) / free) for r in rates]
        return [_Taken(self.found.sections[n], c * r) for n, c, r in zip(coarse, costs, rates, strict=True)]

    def _fill(self, taken: _Taken) -> None:
        """A section within its share: all of it, or its signature, its returns, and the blocks worth most."""
        section = taken.section
        if self._cost(section.lines) <= taken.share + 0.5 or not section.blocks:
            self._add([*section.needs, *section.lines])
            return
        must = [*self._outline(section), *(n for b in section.blocks if b.returns for n in (*b.lines, *b.needs))]
        if not self._add(must):
            self._add(self._outline(section))
            return
        free = [b for b in section.blocks if not b.returns]
        if not free:
            return
        values = self._ranking.blocks(self._query, [self.found.text(b.lines) for b in free])
        room = int(min(self._room, taken.share - self._cost(must)))
        for n in _knapsack(values, [max(1, self._cost([*b.lines, *b.needs])) for b in free], room):
            self._add_block(section, free[n])

    def _add_block(self, section: Section, block: Block) -> None:
        self._add([*self._outline(section), *block.needs, *block.lines])

    def _outline(self, section: Section) -> list[int]:
        return [*section.needs, *section.head]

    def _add(self, pieces: Sequence[int]) -> bool:
        """Add pieces where there is room for those that are not kept yet."""
        new = frozenset(pieces) - self._kept
        cost = self._cost(list(new))
        if cost > self._room:
            return False
        if new:
            self._steps.append(new)
            self._kept |= new
            self._room -= cost
        return True

    def _cost(self, pieces: Sequence[int]) -> int:
        return sum(self._costs[n] for n in set(pieces))


def _normal(values: Sequence[float]) -> list[float]:
    """Values moved to 0 to 1; 0.5 where all are one."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return [(v - low) / (high - low) if high > low else 0.5 for v in values]


def _knapsack(values: Sequence[float], costs: Sequence[int], room: int) -> Iterator[int]:
    """The blocks that are worth most together, those worth most a token first. Exact within the sizes of
    `agentmem.packing`, else by value a token, as in the paper."""
    if room < 1:
        return
    worth = [v + LEAST_VALUE * c for v, c in zip(values, costs, strict=True)]
    order = sorted(range(len(costs)), key=lambda n: (-worth[n] / costs[n], n))
    if len(costs) <= MAX_ITEMS and room <= MAX_CAPACITY:
        picked = choose([[Variant(w, c)] for w, c in zip(worth, costs, strict=True)], room)
        yield from (n for n in order if picked[n] is not None)
        return
    for n in order:
        if costs[n] <= room:
            room -= costs[n]
            yield n
