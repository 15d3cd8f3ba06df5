"""How the agents of a run are dealt to workers, a share at a time, and how one budget holds over all of them. Pure."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentmem.reflection.budget import Budget, Estimate

MAX_SHARE = 16
"""Agents a share at most: enough that their questions share prefixes in a batch."""
SHARES_A_WORKER = 4
"""At least so many where there are agents enough, so that a slow one does not hold up the rest."""
RETRIES = 2
"""How often an agent is given to another worker after one was lost with it."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a worker is given at once: `tasks` are numbers of the run's tasks. `number` is not used twice."""

    number: int
    tasks: tuple[int, ...]


class Dealing:
    """Deals `count` tasks to `workers`, who come for the next share when they are done with one.

    Of a share that was lost each task is dealt again, alone, so that one that ends its worker takes no other with it;
    at the third loss a task is given up with a reason. Shares are numbered from `dealt` on.
    """

    def __init__(self, count: int, workers: int, dealt: int = 0) -> None:
        self.results: dict[int, Any] = {}
        self.given_up: dict[int, str] = {}
        self._count = count
        self._losses: Counter[int] = Counter()
        self.dealt = dealt
        size = max(1, min(MAX_SHARE, -(-count // (workers * SHARES_A_WORKER))))
        self._waiting = deque(tuple(range(n, min(n + size, count))) for n in range(0, count, size))

    @property
    def waiting(self) -> int:
        """Shares that nobody has yet."""
        return len(self._waiting)

    @property
    def finished(self) -> bool:
        """Whether each task has a result, or was given up."""
        return len(self.results) + len(self.given_up) == self._count

    def next(self) -> Share | None:
        """The next share; None when none waits."""
        if not self._waiting:
            return None
        self.dealt += 1
        return Share(self.dealt, self._waiting.popleft())

    def done(self, share: Share, results: list[Any]) -> None:
        """A result a task, in their order."""
        self.results.update(zip(share.tasks, results, strict=True))

    def lost(self, share: Share, reason: str) -> None:
        """Its worker is gone."""
        for task in share.tasks:
            self._losses[task] += 1
            if self._losses[task] > RETRIES:
                self.given_up[task] = f"{reason}; given up after {RETRIES + 1} attempts"
            else:
                self._waiting.append((task,))

    def give_up(self, reason: str) -> None:
        """Nobody is left to work on what waits."""
        self.given_up.update({task: reason for tasks in self._waiting for task in tasks})
        self._waiting.clear()


class Ledger:
    """What all shares together have spent, or may be spending: at no moment more than the budget.

    A share asks before each question, with all that it will have used by then; that is held for it until it asks again
    or is settled. What a lost share had asked for stays spent, since it may have been.
    """

    def __init__(self, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self._budget = budget
        self._clock = clock
        self._began = clock()
        self._of: dict[int, Estimate] = {}

    def may(self, share: int, calls: int, tokens: int) -> str:
        """Whether a share may have used so much in all: "" when it may, else the limit that forbids it, in words."""
        wanted = Estimate(0, calls, tokens)
        others = sum((e for n, e in self._of.items() if n != share), Estimate())
        limit = self._budget.spent(others + wanted, self._clock() - self._began)
        if not limit:
            self._of[share] = wanted
        return limit

    def settle(self, share: int, calls: int, tokens: int) -> None:
        """The share has ended, and has used this."""
        self._of[share] = Estimate(0, calls, tokens)

    @property
    def spent(self) -> Estimate:
        """By all shares, with what is held for those that have not ended."""
        return sum(self._of.values(), Estimate())
