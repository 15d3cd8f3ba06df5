"""`reflect` called several times, with one model and one budget: for more agents than can be open at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentmem.reflection.budget import Budget, Estimate
from agentmem.reflection.job import BATCH_SIZE, Review, reflect

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.protocols import Backend
    from agentmem.reflection.outcome import JobReport
    from agentmem.reflection.questioning import OnEvent


@dataclass(slots=True)
class Series:
    """Settings as those of `reflect`; the budget is for all calls together, and its clock runs from the beginning.
    `ended` says why nothing more is to be begun ("": go on): the budget is spent, the model can't be reached."""

    strategies: Sequence[str]
    backend: Backend | None = None
    max_cost: Budget = field(default_factory=Budget)
    batch_size: int = BATCH_SIZE
    dry_run: bool = False
    again: bool = False
    seed: int = 0
    review: Review | None = None
    on_event: OnEvent | None = None
    spent: Estimate = field(default_factory=Estimate)
    ended: str = ""
    began: float = field(default_factory=time.monotonic)

    def reflect(self, memories: Sequence[Memory]) -> list[JobReport]:
        """Reports in the order of the memories."""
        reports = reflect(
            memories, self.strategies, backend=self.backend, budget=self.left(), dry_run=self.dry_run,
            review=self.review, again=self.again, batch_size=self.batch_size, seed=self.seed, on_event=self.on_event,
        )  # fmt: skip
        for report in reports:
            for s in report.strategies:
                self.spent += Estimate(0, s.calls, s.prompt_tokens, s.completion_tokens)
            if report.state == "stopped" and of_the_run(report.reason):
                self.ended = report.reason
        return reports

    def left(self) -> Budget:
        """What is left of the budget."""
        most, gone = self.max_cost, time.monotonic() - self.began
        return Budget(
            None if most.max_calls is None else max(0, most.max_calls - self.spent.calls),
            None if most.max_tokens is None else max(0, most.max_tokens - self.spent.tokens),
            None if most.max_seconds is None else max(0.0, most.max_seconds - gone),
        )


def of_the_run(reason: str) -> bool:
    """Whether a job stopped for a cause that the next one meets too, and not for one of its own."""
    return reason.startswith(("the budget of ", "the model failed: ", "AgentMemError: the review was ended"))
