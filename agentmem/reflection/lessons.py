"""Lessons from attempts at a task that had an outcome (`trajectories.record_outcome`), a few for each task key.

From Reflexion (arXiv 2303.11366, section 3): a failed attempt and a signal become a short lesson, at most three a task.
From MLCopilot (arXiv 2304.14979, section 3.2): several candidates, tested on recorded questions that were held out, and
the best one kept only if the score does not fall. From co-learning (arXiv 2312.17025): what does not help in use goes.
Nothing is learnt from an attempt that nobody judged.

By rules, a lesson is what the record shows word for word: a tool call that failed, and the call after it that worked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentmem.errors import ConfigError
from agentmem.reflection.budget import Estimate
from agentmem.reflection.changes import AddPassage, Change, ClosePassage
from agentmem.reflection.instructions import overrides
from agentmem.reflection.lesson_prompts import (
    KIND,
    Attempts,
    answer_f1,
    attempts,
    read_lessons,
    reflection_request,
    replay_request,
)
from agentmem.reflection.requests import cost
from agentmem.reflection.resting import Known, current
from agentmem.reflection.strategy import Form, Steps, ask, propose
from agentmem.reflection.trajectories import KIND as OUTCOME
from agentmem.reflection.trajectories import Call, Trajectory, read_outcome
from agentmem.times import format_time
from agentmem.types import Passage

if TYPE_CHECKING:
    from agentmem.reflection.view import View

BY_RULES = "by-rules"
MAX_VALUE_CHARS = 60


@dataclass(frozen=True, slots=True)
class Standing:
    """A lesson that holds, and how the attempts ended whose prompts it stood in."""

    passage: Passage
    wins: int = 0
    losses: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        """Higher is better: wins less losses, then the newer."""
        return self.wins - self.losses, self.passage.id


class Lessons:
    """The strategy `lessons`. `most` lessons hold a task key (3 at most); `candidates` are asked for, tested on up to
    `held_out` questions; a lesson that was used at least `uses` times and lost more than it won is closed.

    Raises ConfigError for options out of range. The cursor is the id of the last outcome.
    """

    name = "lessons"
    version = 1
    forms: tuple[Form, ...] = ("rules", "model")

    def __init__(self, most: int = 3, candidates: int = 3, held_out: int = 3, uses: int = 3) -> None:
        given = {"most": (most, 1, 3), "candidates": (candidates, 1, 5), "held_out": (held_out, 0, 20)}
        for option, (value, least, highest) in {**given, "uses": (uses, 1, 1000)}.items():
            if type(value) is not int or not least <= value <= highest:
                raise ConfigError(option, value, f"must be a whole number from {least} to {highest}")
        self.most, self.candidates, self.held_out, self.uses = most, candidates, held_out, uses

    def estimate(self, view: View) -> Estimate:
        """By a model: a request a task with new outcomes, and the replays of as many candidates as there may be."""
        outcomes, new = _outcomes(view)
        if view.form == "rules":
            return Estimate(len(new))
        found = Estimate(len(new))
        standing = _standing(view, outcomes)
        for task in _tasks(new):
            lot = attempts(task, outcomes, {t.id for t in new}, self.held_out)
            asked = reflection_request(view, lot, self.candidates)
            found += cost(view, 0, [asked[1]] if asked is not None else [])
            if asked is not None:
                longest = ["x " * 150] * (1 + min(self.most, len(standing.get(task, []))))
                replays = [replay_request(view, t.question, longest) for t in lot.held_out]
                found += cost(view, 0, replays * (1 + self.candidates))
        return found

    def run(self, view: View) -> Steps:
        """Close what does not help, and learn from the new outcomes; one proposal for all tasks."""
        outcomes, new = _outcomes(view)
        if not new:
            return
        rejected = [
            f"task {t.task!r}: {t.ref} has no signal, so nothing is learnt from it" for t in new if not t.signalled
        ]
        standing = _standing(view, outcomes)
        closing: list[Change] = []
        for task, lessons in standing.items():
            poor = [s for s in lessons if s.wins + s.losses >= self.uses and s.losses > s.wins]
            for s in poor:
                why = f"{s.losses} losses and {s.wins} wins with it"
                closing.append(ClosePassage(s.passage.ref, format_time(view.now), None, (), why))
            standing[task] = [s for s in lessons if s not in poor]
        ever = view.passages(kinds=[KIND], closed=True)  # what was closed is not learnt again
        if view.form == "rules":
            drafts = {task: _shown_by([t for t in new if t.task == task and t.signalled]) for task in _tasks(new)}
        else:
            drafts = yield from self._drafts(view, outcomes, new, standing, rejected)
        changes: list[Change] = list(closing)
        for task, found in drafts.items():
            fresh: list[AddPassage] = []
            known = Known(view, [p for p in ever if f"task:{task}" in p.tags])
            for draft in found:
                if like := known.like(draft.text, by_words=view.form == "rules"):
                    rejected.append(f"task {task!r}: a lesson says what {like} says")
                else:
                    known.add(draft.text, "another of this run")
                    fresh.append(draft)
            changes += self._within(view, task, standing.get(task, []), fresh, rejected)
        yield from propose(changes, new[-1].id, rejected)

    def _within(
        self, view: View, task: str, standing: Sequence[Standing], fresh: Sequence[AddPassage], rejected: list[str]
    ) -> list[Change]:
        """The new lessons of a task and closings of old ones, so that `most` hold. A new one has no wins yet, and is
        newer than all others."""
        # (rank, place): of the new ones the later is the newer.
        ranks: list[tuple[tuple[int, int], Standing | AddPassage]] = [(s.rank, s) for s in standing]
        ranks += [((0, view.last_passage + n), draft) for n, draft in enumerate(fresh, 1)]
        out: list[Change] = []
        for place, (_, one) in enumerate(sorted(ranks, key=lambda r: r[0], reverse=True)):
            if place < self.most:
                out += [one] if isinstance(one, AddPassage) else []
            elif isinstance(one, AddPassage):
                rejected.append(f"task {task!r}: {self.most} lessons of it stand before a new one")
            else:
                why = f"the last of more than {self.most} lessons for its task"
                out.append(ClosePassage(one.passage.ref, format_time(view.now), None, (), why))
        return out

    def _drafts(
        self, view: View, outcomes: Sequence[Trajectory], new: Sequence[Trajectory],
        standing: Mapping[str, Sequence[Standing]], rejected: list[str],
    ) -> Any:  # fmt: skip
        """By a model: for each task its best candidate, if any."""
        lots: list[tuple[Attempts, Any, Any]] = []
        for task in _tasks(new):
            lot = attempts(task, outcomes, {t.id for t in new}, self.held_out)
            asked = reflection_request(view, lot, self.candidates)
            if asked is None:
                rejected.append(f"task {task!r}: its attempts do not fit the window")
            else:
                lots.append((lot, *asked))
        answers = yield from ask([request for _, _, request in lots])
        # Each candidate beside the lessons that hold, and these alone: what is asked, and where its answer belongs.
        replays: list[tuple[int, int, str, Any]] = []
        found: list[list[AddPassage]] = []
        for n, ((lot, shown, _), said) in enumerate(zip(lots, answers, strict=True)):
            candidates, reasons = read_lessons(view, lot, shown, said, self.candidates)
            rejected += reasons
            found.append(candidates)
            base = [s.passage.text for s in sorted(standing.get(lot.task, []), key=lambda s: s.rank)][-self.most :]
            for trial, lessons in enumerate([base, *([*base, c.text] for c in candidates)] if candidates else []):
                replays += [(n, trial, t.answer, replay_request(view, t.question, lessons)) for t in lot.held_out]
        replied = yield from ask([request for _, _, _, request in replays])
        scores: dict[tuple[int, int], list[float]] = {}
        for (n, trial, right, _), said in zip(replays, replied, strict=True):
            scores.setdefault((n, trial), []).append(answer_f1(said, right))
        out: dict[str, list[AddPassage]] = {}
        for n, (lot, _, _) in enumerate(lots):
            best, reason = _best(found[n], [scores.get((n, k), []) for k in range(1 + len(found[n]))])
            out[lot.task] = [] if best is None else [best]
            rejected += [f"task {lot.task!r}: {reason}"] if reason else []
        return out


def _best(candidates: Sequence[AddPassage], scores: Sequence[Sequence[float]]) -> tuple[AddPassage | None, str]:
    """The candidate that answers the held-out questions best, the first of equal ones, with what it scored; none where
    all fall below the score without (`scores[0]`). Without questions the first, marked as not tested."""
    if not candidates:
        return None, ""
    first = candidates[0]
    if not scores[0]:
        return AddPassage(
            first.text, first.kind, first.sources, (*first.tags, "not-replayed"), why="no question was held out"
        ), ""
    means = [sum(s) / len(s) for s in scores]
    best = max(range(1, len(means)), key=lambda k: (means[k], -k))
    if means[best] < means[0]:
        return None, f"on {len(scores[0])} held-out questions F1 falls from {means[0]:.2f} to {means[best]:.2f}"
    chosen = candidates[best - 1]
    why = f"F1 {means[0]:.2f} without and {means[best]:.2f} with it on {len(scores[0])} held-out questions"
    return AddPassage(chosen.text, chosen.kind, chosen.sources, (*chosen.tags, "replayed"), why=why), ""


def _outcomes(view: View) -> tuple[list[Trajectory], list[Trajectory]]:
    """All recorded outcomes, and those after the cursor, oldest first."""
    read = [read_outcome(p) for p in view.passages(kinds=[OUTCOME], closed=True)]
    found = [t for t in read if t is not None]
    return found, [t for t in found if t.id > (view.cursor or 0)]


def _tasks(outcomes: Sequence[Trajectory]) -> list[str]:
    return list(dict.fromkeys(t.task for t in outcomes if t.signalled))


def _standing(view: View, outcomes: Sequence[Trajectory]) -> dict[str, list[Standing]]:
    """The lessons that hold, by task, with how attempts that were judged ended with them."""
    found: dict[str, list[Standing]] = {}
    for passage in current(view, KIND):
        used = [t for t in outcomes if t.signalled and passage.ref in t.lessons]
        wins = sum(t.won for t in used)
        for tag in passage.tags:
            if tag.startswith("task:"):
                found.setdefault(tag.removeprefix("task:"), []).append(Standing(passage, wins, len(used) - wins))
    return found


def _shown_by(outcomes: Sequence[Trajectory]) -> list[AddPassage]:
    """What the calls of attempts show word for word, each once."""
    found: dict[str, AddPassage] = {}
    for t in outcomes:
        for n, failed in enumerate(t.calls):
            worked = _worked_after(t.calls, n) if failed.failed else None
            if worked is None or not failed.result.strip():
                continue
            shapes = _shape(failed), _shape(worked)
            if shapes[0] == shapes[1]:
                shapes = _with_values(failed), _with_values(worked)
            error = " ".join(failed.result.split())
            error = error if len(error) <= 160 else error[:157] + "..."
            text = f"In the task “{t.task}”, after `{shapes[0]}` failed with “{error}”, `{shapes[1]}` worked."
            tags = (BY_RULES, f"task:{t.task}")
            if shapes[0] != shapes[1] and not overrides(text):
                found.setdefault(text, AddPassage(text, KIND, (t.ref,), tags, why="as the record shows"))
    return list(found.values())


def _worked_after(calls: Sequence[Call], n: int) -> Call | None:
    """The first later call of the same tool that worked; else the very next call, if that worked."""
    same = next((c for c in calls[n + 1 :] if c.tool == calls[n].tool and not c.failed), None)
    return same or next((c for c in calls[n + 1 : n + 2] if not c.failed), None)


def _shape(call: Call) -> str:
    return f"{call.tool}({', '.join(call.arguments)})"


def _with_values(call: Call) -> str:
    shown = [
        f"{name}={json.dumps(value, ensure_ascii=False)[:MAX_VALUE_CHARS]}" for name, value in call.arguments.items()
    ]
    return f"{call.tool}({', '.join(shown)})"
