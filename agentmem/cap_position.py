"""Where in a prompt the served model reads best: the curve of "Lost in the Middle" (arXiv 2307.03172), measured anew.

Two of that paper's tasks, made with a seed and small enough to run at once: a key's value in JSON, and a question whose
answer stands in exactly one of several short documents about invented people (so that no model knows it). The same
trials are asked with the gold item at each position, the question always last. An answer is right when, after SQuAD's
normalising, it has the gold answer in it and no other item's (who repeats the whole prompt has not answered).

The shape differs from model to model (released figures: LongChat-13B reads the start best, Llama-2-70B the end), hence
it is measured before an order is chosen; `agentmem.ordering` writes the page in that order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from agentmem.cap_trials import TASKS, Task, Trial, is_right, make_trials
from agentmem.errors import ConfigError, ContextOverflowError, InvalidInputError
from agentmem.parsing import strip_thinking
from agentmem.types import Completion, Request

if TYPE_CHECKING:
    from agentmem.ordering import OrderPolicy
    from agentmem.protocols import Backend

ANSWER_TOKENS = 128
BATCH = 20
"""Requests of one call of `generate`, so that there is progress to show."""
SURE = NormalDist().inv_cdf(1 - 0.05 / 2)
# Three comparisons (start and middle, end and middle, start and end) at 5 % together (Bonferroni).
SURE_OF_THREE = NormalDist().inv_cdf(1 - 0.05 / 6)
UNABLE = 0.1
"""A model that is right less often than this wherever the gold item stands can't do the tasks."""


@dataclass(frozen=True, slots=True)
class Point:
    """One position: `depth` in [0, 1] (0 the start), `correct` of `n`, their share and its 95 % interval (Wilson)."""

    depth: float
    correct: int
    n: int
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TaskCurve:
    """One task: so many items in a prompt, the longest prompt's tokens, a point a position, and how many answers were
    cut off before they began (a model that thinks)."""

    name: str
    items: int
    prompt_tokens: int
    points: tuple[Point, ...]
    unfinished: int


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An order for `agentmem.ordering`, why, and whether it rests on a difference beyond chance (5 %)."""

    order: OrderPolicy
    reason: str
    significant: bool


@dataclass(frozen=True, slots=True)
class PositionReport:
    """The curve of one served model: `points` pools the tasks, position by position."""

    backend: str
    describe: str
    seed: int
    trials: int
    window_tokens: int | None
    tasks: tuple[TaskCurve, ...]
    points: tuple[Point, ...]
    recommendation: Recommendation
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"version": 1, **asdict(self)}

    def lines(self) -> list[str]:
        """The curve as plain text, a line a position, and the recommendation."""
        out = [f"{self.describe}", "gold item at   right   95 % interval   " + "   ".join(t.name for t in self.tasks)]
        for k, p in enumerate(self.points):
            by_task = "   ".join(f"{t.points[k].share:.0%}".rjust(len(t.name)) for t in self.tasks)
            out.append(f"{p.depth:11.0%} {p.share:8.0%}   {p.low:5.0%} to {p.high:4.0%}   {by_task}")
        found = self.recommendation
        return [*out, f"order: {found.order} ({found.reason})", *(f"note: {n}" for n in self.notes)]


def wilson(correct: int, n: int, z: float = SURE) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927); (0, 1) of nothing."""
    if n == 0:
        return 0.0, 1.0
    share, square = correct / n, z * z / n
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square)
    # At the ends the formula is exactly 0 and 1; rounding must not leave the range.
    return (0.0 if correct == 0 else middle - half), (1.0 if correct == n else middle + half)


def greater(a: tuple[int, int], b: tuple[int, int], z: float = SURE_OF_THREE) -> bool:
    """Whether share a (correct, n) is above share b beyond chance: the difference's interval, made of both Wilson
    intervals (Newcombe 1998, method 10). That the trials are the same at each position is left out: the safe side."""
    share_a, share_b = a[0] / a[1], b[0] / b[1]
    return share_a - share_b - math.hypot(share_a - wilson(*a, z)[0], wilson(*b, z)[1] - share_b) > 0


def recommend(points: Sequence[Point]) -> Recommendation:
    """The order that a curve speaks for; points from the start of the prompt to its end, two at least."""
    first, last = (points[0].correct, points[0].n), (points[-1].correct, points[-1].n)
    inner = points[1:-1]
    middle = (sum(p.correct for p in inner), sum(p.n for p in inner))
    start, end = f"{points[0].share:.0%}", f"{points[-1].share:.0%}"
    said = f"{start} right at the start, {end} at the end"
    if inner:
        said = f"{start} right at the start, {middle[0] / middle[1]:.0%} in the middle, {end} at the end"
    if max(p.share for p in points) < UNABLE:
        return Recommendation("time", f"it could not do the tasks at all: {said}", False)
    early = bool(inner) and greater(first, middle)
    late = bool(inner) and greater(last, middle)
    if early and late:
        return Recommendation("outside-in", f"it reads both ends better than the middle: {said}", True)
    if early or (not late and greater(first, last)):
        return Recommendation("best-first", f"it reads the start better: {said}", True)
    if late or greater(last, first):
        return Recommendation("best-last", f"it reads the end better: {said}", True)
    if inner and greater(middle, first) and greater(middle, last):
        return Recommendation("time", f"it reads the middle best, which no order serves: {said}", True)
    if all(p.correct == p.n for p in points):
        return Recommendation("time", f"it reads every place alike at this length: {said}", False)
    n, share = first[1], sum(p.share for p in points) / len(points)
    unseen = SURE_OF_THREE * math.sqrt(2 * share * (1 - share) / n)
    chance = f"with {n} answers a place, {unseen:.0%} between two can be chance"
    return Recommendation("time", f"no place is better beyond chance: {said}; {chance}", False)


def measure(
    backend: Backend,
    *,
    seed: int = 0,
    positions: int = 5,
    documents: int = 10,
    trials: int = 20,
    max_tokens: int = ANSWER_TOKENS,
    progress: Callable[[int, int], None] | None = None,
) -> PositionReport:
    """Ask 2 tasks x `positions` x `trials` questions, with `documents` documents (or three times as many JSON pairs) in
    each prompt, fewer where the window is too small for them, which the notes then say. `max_tokens` bounds an answer;
    `progress` is told (done, all) after each batch.

    Raises ConfigError for numbers that can't be, and for a backend that is no language model; ContextOverflowError when
    not even two items fit into the window; BackendError as the backend does.
    """
    for name, value, least in (("positions", positions, 2), ("documents", documents, 2), ("trials", trials, 1)):
        if value < least:
            raise InvalidInputError(name, value, f"must be at least {least}")
    if max_tokens < 1:
        raise InvalidInputError("max_tokens", max_tokens, "must be at least 1")
    window = backend.context_window
    notes = ["the model's window is not known: prompts were not cut to it"] if window is None else []
    room = None if window is None else window - max_tokens
    made = [_fitted(task, backend, seed, positions, documents, trials, room, notes) for task in TASKS]
    fewest = min(positions, *(group.items for group in made))
    if fewest < positions:
        notes.append(f"{fewest} positions instead of {positions}: there are no more items in a prompt")
        positions = fewest
    # A trial's prompts stand together: their common beginnings are then in a prefix cache.
    plan = [(n, k, trial) for n, group in enumerate(made) for trial in group.trials for k in range(positions)]
    requests = [_request(TASKS[n], t, _place(k, positions, made[n].items), seed, max_tokens) for n, k, t in plan]
    right = [[0] * positions for _ in made]
    unfinished = [0] * len(made)
    for begin in range(0, len(requests), BATCH):
        batch = requests[begin : begin + BATCH]
        answers = zip(plan[begin : begin + BATCH], _answers(backend, batch), strict=True)
        for (n, k, trial), completion in answers:
            text = strip_thinking(completion.text)
            right[n][k] += is_right(text, trial)
            unfinished[n] += completion.finish_reason == "length" and not text.strip()
        if progress is not None:
            progress(begin + len(batch), len(requests))
    tasks = tuple(
        TaskCurve(task.name, group.items, group.tokens, _points(counts, trials), cut)
        for task, group, counts, cut in zip(TASKS, made, right, unfinished, strict=True)
    )
    points = _points([sum(counts) for counts in zip(*right, strict=True)], trials * len(made))
    if sum(unfinished):
        notes.append(
            f"{sum(unfinished)} of {len(requests)} answers were cut off at {max_tokens} tokens before they began (does "
            "the model think first?); they count as wrong"
        )
    if all(p.correct == p.n for p in points):
        notes.append("every answer was right: longer prompts (more documents) would tell more")
    describe = backend.describe()
    return PositionReport(backend.name, describe, seed, trials, window, tasks, points, recommend(points), tuple(notes))


@dataclass(frozen=True, slots=True)
class _Group:
    """The trials of one task, of so many items each; the longest of their prompts has so many tokens."""

    trials: Sequence[Trial]
    items: int
    tokens: int


def _fitted(
    task: Task,
    backend: Backend,
    seed: int,
    positions: int,
    documents: int,
    trials: int,
    room: int | None,
    notes: list[str],
) -> _Group:
    """The trials with as many items as asked for, or as fit into `room` tokens."""
    wanted = items = documents * task.items_per_document
    while True:
        made = make_trials(task, seed, items, trials)
        places = [_place(k, min(positions, items), items) for k in range(min(positions, items))]
        tokens = max(backend.counter.count_prompt(task.messages(t, p)) for t in made for p in places)
        if room is None or tokens <= room:
            break
        if items <= 2:
            hint = "serve the model with a longer window"
            raise ContextOverflowError(f"a prompt of two items ({task.name})", tokens, max(room, 0), hint=hint)
        items = max(2, min(items - 1, items * max(room, 0) // tokens))
    if items < wanted:
        notes.append(f"{task.name}: {items} items in a prompt instead of {wanted}, so that it fits into the window")
    return _Group(made, items, tokens)


def _place(position: int, positions: int, items: int) -> int:
    """Where among the items position k of so many is: the first, the last, and evenly between."""
    return round(position * (items - 1) / (positions - 1))


def _points(counts: Sequence[int], n: int) -> tuple[Point, ...]:
    last = len(counts) - 1
    return tuple(Point(k / last, c, n, c / n, *wilson(c, n)) for k, c in enumerate(counts))


def _request(task: Task, trial: Trial, place: int, seed: int, max_tokens: int) -> Request:
    messages = task.messages(trial, place)
    return Request(messages, max_tokens=max_tokens, seed=seed, query=trial.question)


def _answers(backend: Backend, batch: Sequence[Request]) -> list[Completion]:
    completions = backend.generate(batch)
    # Only a backend that is no language model cites by itself, or says that it repeats what memory holds.
    if any(c.answer is not None or c.derived for c in completions):
        hint = "give a served model, e.g. openai:http://127.0.0.1:8000/v1#MODEL, vllm:FOLDER or hf:FOLDER"
        problem = "is no language model: it has no positions at which it reads better or worse"
        raise ConfigError("backend", backend.name, problem, hint=hint)
    return completions
