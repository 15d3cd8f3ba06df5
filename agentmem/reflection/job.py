"""`reflect`: strategies over one memory or many, as one job an agent.

Agents go side by side: each runs until it asks, all that is asked goes to the model in shared batches, and so on. What
a strategy proposes is checked and committed with its cursor in one transaction: a killed job is run again, and goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

from agentmem import registry
from agentmem.errors import AgentMemError, BackendError, ConfigError
from agentmem.planning import Shape
from agentmem.reflection.applying import apply, planned
from agentmem.reflection.budget import Budget, Estimate, total
from agentmem.reflection.changes import Change
from agentmem.reflection.holding import held
from agentmem.reflection.outcome import Applied, JobReport, StrategyReport
from agentmem.reflection.questioning import Asked, BudgetSpent, Cost, OnEvent, Questioning
from agentmem.reflection.strategies import DEFAULT, form_of, make_strategy
from agentmem.reflection.strategy import Ask, Form, Propose, Step, Steps, Strategy
from agentmem.reflection.view import View

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.protocols import Backend
    from agentmem.store.jobs import JobRow

BATCH_SIZE = 64
Review = Callable[[str, str, Sequence[Change]], Sequence[bool]]
"""(agent, strategy, changes) -> of each change whether it is taken."""


def reflect(
    memories: Memory | Sequence[Memory],
    strategies: Sequence[str | Strategy] | str | Strategy = DEFAULT,
    *,
    backend: str | Backend | None = None,
    budget: Budget | None = None,
    dry_run: bool = False,
    review: Review | None = None,
    again: bool = False,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    on_event: OnEvent | None = None,
) -> list[JobReport]:
    """Reflect on memories, each an agent's own; a report each, in their order.

    `strategies` are names, `name?option=value` or objects; they run in this order on each agent. Without a `backend`
    (a spec or an object) they run by rules. `dry_run` changes nothing and asks nothing: its reports have the estimates,
    and the changes of strategies that run by rules. `review` chooses among the changes. `again` begins at the first
    record. Raises ConfigError, UnknownNameError, and StoreBusyError when another job holds an agent; what a model or a
    plug-in does wrong ends the job with a reason in its report.
    """
    chosen = [memories] if not isinstance(memories, Sequence) else list(memories)
    named = strategies if isinstance(strategies, Sequence) and not isinstance(strategies, str) else [strategies]
    made = [make_strategy(s) for s in named]
    if len({s.name for s in made}) < len(made):
        raise ConfigError("strategies", [s.name for s in made], "one is named twice")
    if batch_size < 1:
        raise ConfigError("batch_size", batch_size, "must be at least 1")
    tell = on_event or (lambda _event: None)
    opened: Backend | None = registry.make_backend(backend, None) if isinstance(backend, str) else backend
    model = opened is not None and opened.name != "extractive"
    try:
        forms = [(s, form_of(s, model)) for s in made]
        questioning = Questioning(opened, budget or Budget(), batch_size, tell) if opened is not None else None
        with ExitStack() as locks:
            for memory in chosen:
                if not dry_run:
                    locks.enter_context(held(memory))
                if opened is not None and model:
                    locks.enter_context(_counted(memory, opened))
            name = opened.name if opened is not None and model else "none"
            runs = [_Run(m, forms, name, dry_run, review, again, seed, tell) for m in chosen]
            _drive(runs, questioning)
            return [run.report() for run in runs]
    finally:
        if isinstance(backend, str) and opened is not None:
            opened.close()


@contextmanager
def _counted(memory: Memory, backend: Backend) -> Iterator[None]:
    """Count as a backend does, and afterwards as before: an agent may be at work with the memory."""
    before = memory.shape, memory.config, memory.budget
    memory.use(Shape(backend.counter), backend.context_window)
    try:
        yield
    finally:
        memory.shape, memory.config, memory.budget = before


def _drive(runs: Sequence[_Run], questioning: Questioning | None) -> None:
    waiting = list(runs)
    while True:
        asked = [a for run in waiting if (a := run.advance()) is not None]
        waiting = [run for run in waiting if run.waits]
        if not asked:
            return
        assert questioning is not None, "a strategy asked in its form without a model"
        try:
            questioning.ask(asked)
        except BudgetSpent as e:
            for run in waiting:
                run.stop(f"{e} is spent; run it again to go on")
            return
        except BackendError as e:
            for run in waiting:
                run.stop(f"the model failed: {e.message}")
            return


class _Run:
    """One agent's job, as far as it has come."""

    def __init__(
        self, memory: Memory, strategies: Sequence[tuple[Strategy, Form]], backend: str, dry_run: bool,
        review: Review | None, again: bool, seed: int, tell: OnEvent,
    ) -> None:  # fmt: skip
        self._memory = memory
        self._backend = backend
        self._dry = dry_run
        self._review = review
        self._tell = tell
        self._names = tuple(s.name for s, _ in strategies)
        self._todo = list(strategies)
        self._again, self._seed = again, seed
        self._began = time.monotonic()
        self._reports: list[StrategyReport] = []
        self._state: Literal["done", "stopped"] = "done"
        self._reason = ""
        interrupted = None if dry_run else self._interrupted()
        self._job: int | None = interrupted.id if interrupted is not None else None
        self._resumed = interrupted is not None
        self._asked: Asked | None = None
        self._current: _Current | None = None
        if interrupted is not None:
            self._say("resumed", job=interrupted.ref)

    @property
    def waits(self) -> bool:
        """Whether it waits for answers."""
        return self._asked is not None

    def advance(self) -> Asked | None:
        """Go on until questions have to be answered (they are returned), or to the end."""
        send: Any = None
        if self._asked is not None:
            send, self._asked = self._asked.answers(), None
        try:
            while self._current is not None or self._todo:
                if self._current is None:
                    self._start(*self._todo.pop(0))
                    send = None
                    continue
                step = self._step(send)
                if isinstance(step, Ask):
                    self._begin()
                    current = self._current
                    name = f"{current.strategy.name}/{current.strategy.version}"
                    self._asked = Asked(self._memory, name, step.requests, current.cost)
                    return self._asked
                send = self._commit(step) if step is not None else None
        except AgentMemError as e:
            self.stop(f"{type(e).__name__}: {e.message}")
        except Exception as e:  # noqa: BLE001 - a plug-in may raise anything; the job ends, and says so
            at = self._current.strategy.name if self._current is not None else "a strategy"
            self.stop(f"{at} failed: {type(e).__name__}: {e}")
        return None

    def stop(self, reason: str) -> None:
        """End before the end; what was committed stays."""
        self._state, self._reason = "stopped", reason
        self._asked = None
        self._todo = []
        if self._current is not None:
            self._current.steps.close()
            self._finish()

    def report(self) -> JobReport:
        """How it ended; the job's row says so too."""
        job = None if self._job is None else f"j{self._job}"
        state: Any = "planned" if self._dry else self._state
        if self._state == "done" and job is None and not self._dry:
            state = "nothing new"
        seconds = time.monotonic() - self._began
        found = JobReport(
            self._memory.agent_name, job, state, self._reason, tuple(self._reports), seconds, self._resumed
        )
        if self._job is not None:
            counts = {s.name: {"applied": s.count("applied"), "calls": s.calls} for s in self._reports}
            with self._memory.store.write():
                jobs = self._memory.records.jobs
                told = {"reason": self._reason, "resumed": self._resumed, "strategies": counts}
                jobs.end(self._job, self._state, told, self._memory.clock())
                if self._state == "done":
                    jobs.drop_answers()
        self._say("ended", state=state, reason=self._reason, job=job)
        return found

    def _interrupted(self) -> JobRow | None:
        """The killed job that this one goes on with: of the same strategies and model. Another stands as it is."""
        jobs = self._memory.records.jobs
        found = jobs.running()
        if found is None or (found.strategies, found.backend) == (self._names, self._backend):
            return found
        report = {"reason": "it was killed, and another job began", "strategies": {}}
        with self._memory.store.write():
            jobs.end(found.id, "stopped", report, self._memory.clock())
        return None

    def _start(self, strategy: Strategy, form: Form) -> None:
        name = f"reflect:{strategy.name}/{form}"
        cursor = None if self._again else self._memory.records.journal.get_cursor(name)
        view = View(self._memory, cursor, form, self._seed)
        estimate = strategy.estimate(view)
        self._say("planned", strategy=strategy.name, form=form, **_as_dict(estimate))
        self._current = _Current(strategy, form, name, estimate, strategy.run(view))
        if self._dry and form == "model":
            # Nothing is asked, so nothing can be said of the changes.
            self._current.steps.close()
            self._finish()

    def _step(self, send: Any) -> Step | None:
        current = self._current
        assert current is not None
        try:
            return current.steps.send(send)
        except StopIteration:
            self._finish()
            return None

    def _commit(self, step: Propose) -> list[Applied]:
        current = self._current
        assert current is not None
        name, memory = current.strategy.name, self._memory
        current.rejected += step.rejected
        current.proposals += step.proposals
        if self._dry:
            found = planned(name, step.changes, len(current.changes) + 1)
        elif step.changes:
            self._begin()
            assert self._job is not None
            wanted = None if self._review is None else self._review(memory.agent_name, name, step.changes)
            found = apply(memory, self._job, name, current.cursor_name, step.changes, step.cursor, wanted)
        else:
            found = []
            if step.cursor is not None:
                with memory.store.write():
                    memory.records.journal.put_cursor(current.cursor_name, step.cursor, memory.clock())
        current.changes += found
        fates = [a.fate for a in found]
        self._say("proposed", strategy=name, changes=len(found), applied=fates.count("applied"))
        return found

    def _begin(self) -> None:
        if self._job is None and not self._dry:
            with self._memory.store.write():
                self._job = self._memory.records.jobs.begin(self._names, self._backend, self._memory.clock())

    def _finish(self) -> None:
        current = self._current
        assert current is not None
        self._current = None
        cost = current.cost
        self._reports.append(
            StrategyReport(
                current.strategy.name, current.form, current.estimate, cost.calls, cost.prompt_tokens,
                cost.completion_tokens, cost.cached_tokens, cost.reused, tuple(current.rejected),
                tuple(current.changes), tuple(current.proposals),
            )
        )  # fmt: skip

    def _say(self, event: str, **more: Any) -> None:
        self._tell({"event": event, "agent": self._memory.agent_name, **more})


class _Current:
    """The strategy that an agent is at."""

    def __init__(self, strategy: Strategy, form: Form, cursor_name: str, estimate: Estimate, steps: Steps) -> None:
        self.strategy, self.form, self.cursor_name, self.estimate, self.steps = (
            strategy, form, cursor_name, estimate, steps
        )  # fmt: skip
        self.cost = Cost()
        self.rejected: list[str] = []
        self.proposals: list[str] = []
        self.changes: list[Applied] = []


def _as_dict(estimate: Estimate) -> Mapping[str, int]:
    return {
        "records": estimate.records, "calls": estimate.calls, "prompt_tokens": estimate.prompt_tokens,
        "completion_tokens": estimate.completion_tokens,
    }  # fmt: skip


def estimated(reports: Sequence[JobReport]) -> Estimate:
    """The estimates of reports, summed."""
    return total(s.estimate for r in reports for s in r.strategies)
