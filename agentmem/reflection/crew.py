"""The workers of a run: who works on what, what is heard of them, and what follows when one is lost.

How a worker is started and reached is a subclass's (processes of this machine, actors of Ray).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from agentmem.errors import BackendError, ConfigError
from agentmem.reflection.outcome import JobReport
from agentmem.reflection.questioning import OnEvent
from agentmem.reflection.share_job import stopped
from agentmem.reflection.shares import RETRIES, Dealing, Share

W = TypeVar("W")
NO_WORKER = "no worker could be started any more; run it again to go on"
Task = Mapping[str, Any]
"""{"db": a path that the worker reaches, "agent": a name}, or a history, {"id": ..., "messages": [...]}."""


class Crew(ABC, Generic[W]):
    """At most `workers` of them. A subclass waits for messages and calls `ready`, `refused`, `happened`,
    `did`, `lost`."""

    def __init__(self, workers: int, on_event: OnEvent | None) -> None:
        self.tasks: Sequence[Task] = ()
        self.dealing = Dealing(0, workers)
        self.tell: OnEvent = on_event or (lambda _event: None)
        self.at: dict[W, Share | None] = {}
        """Those that are up, and the share that each has."""
        self.starting: set[W] = set()
        self._spent: dict[W | None, tuple[int, int]] = {}
        self._workers = workers
        self._failed = 0
        self._worked = False

    @abstractmethod
    def start(self) -> W:
        """A new worker, which is yet to say that it is ready."""

    @abstractmethod
    def give(self, worker: W, share: Share) -> None:
        """Let it begin."""

    @abstractmethod
    def listen(self) -> None:
        """Wait for what the workers say, and take it in."""

    def work(self, tasks: Sequence[Task]) -> list[dict[str, Any] | str]:
        """A result a task, in their order: what a worker said, or why there is nothing. The workers stay."""
        self.tasks = tasks
        self.dealing = Dealing(len(tasks), self._workers, self.dealing.dealt)
        wanted = min(self._workers, self.dealing.waiting)
        while True:
            for worker in [w for w, share in self.at.items() if share is None]:
                share = self.dealing.next()
                if share is not None:
                    self.at[worker] = share
                    self.give(worker, share)
            if self.dealing.finished:
                break
            missing = min(wanted - len(self.at) - len(self.starting), self.dealing.waiting)
            for _ in range(missing if self._failed <= RETRIES else 0):
                self.starting.add(self.start())
            if self.at or self.starting:
                self.listen()
            else:
                self.dealing.give_up(NO_WORKER)
        found: dict[int, dict[str, Any] | str] = {**self.dealing.results, **self.dealing.given_up}
        return [found[n] for n in range(len(tasks))]

    def ready(self, worker: W) -> None:
        """It is up."""
        self.starting.discard(worker)
        self.at[worker] = None
        self._worked = True

    def refused(self, worker: W, problem: Mapping[str, Any]) -> None:
        """It could not make what it was told to. When that is so from the beginning, the run ends with the error."""
        if not self._worked:
            if problem["retryable"] is not None:
                raise BackendError(problem["message"], hint=problem["hint"])
            raise ConfigError(problem["field"], problem["value"], problem["message"], hint=problem["hint"])
        self.lost(worker, problem["message"])

    def happened(self, worker: W, event: Mapping[str, Any]) -> None:
        """An event of its job. What was spent by then is counted over the run."""
        if event["event"] == "batch":
            self._spent[worker] = event["calls"], event["tokens"]
            calls, tokens = map(sum, zip(*self._spent.values(), strict=True))
            event = {**event, "calls": calls, "tokens": tokens}
        self.tell(event)

    def _ended(self, worker: W) -> None:
        # A worker counts from the beginning of each share.
        ended, before = self._spent.pop(worker, (0, 0)), self._spent.get(None, (0, 0))
        self._spent[None] = before[0] + ended[0], before[1] + ended[1]

    def did(self, worker: W, results: list[Any]) -> None:
        """It has done its share."""
        share = self.at[worker]
        assert share is not None, "a worker reported what it was not given"
        self.at[worker] = None
        self._ended(worker)
        self.dealing.done(share, results)

    def lost(self, worker: W, reason: str) -> None:
        """It is gone; its agents are dealt again. `reason` in words."""
        share = self.at.pop(worker, None)
        self._ended(worker)
        if worker in self.starting:
            self.starting.discard(worker)
            self._failed += 1
        lost = [] if share is None else [self.tasks[n] for n in share.tasks]
        agents = [task["agent"] if "agent" in task else task["id"] for task in lost]
        self.tell({"event": "worker_lost", "reason": reason, "agents": agents})
        if share is not None:
            self.dealing.lost(share, reason)


def reports_of(tasks: Sequence[Task], results: Sequence[dict[str, Any] | str]) -> list[JobReport]:
    """The reports of agents."""
    return [
        stopped(task["agent"], found) if isinstance(found, str) else JobReport.of_dict(found)
        for task, found in zip(tasks, results, strict=True)
    ]


def problem_of(error: Exception, field: str, value: object) -> dict[str, Any]:
    """An error of a worker that could not begin, as values of JSON for `Crew.refused`."""
    backend = isinstance(error, BackendError)
    return {
        "field": field, "value": str(value), "message": getattr(error, "message", str(error)),
        "hint": getattr(error, "hint", ""), "retryable": getattr(error, "retryable", False) if backend else None,
    }  # fmt: skip
