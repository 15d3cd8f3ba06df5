"""What a worker does with a share: it opens the agents' memories, runs one job over them, and reports.

All that goes in or comes out is JSON: whatever a model or a file said, nothing of it is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from agentmem import registry
from agentmem.errors import AgentMemError
from agentmem.reflection.budget import Budget, Estimate
from agentmem.reflection.histories import reflect_histories
from agentmem.reflection.job import reflect
from agentmem.reflection.orders import Orders
from agentmem.reflection.outcome import JobReport

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.protocols import Backend, Embedder

IN_MEMORY = ":memory:"
May = Callable[[int, int], str]
"""(calls, tokens), all that the share will have used -> "" when it may, else the limit that forbids it."""


@dataclass(frozen=True, slots=True)
class AskedBudget(Budget):
    """A budget that is counted elsewhere, over all workers: its own limits say what has to be counted for that."""

    ask: Callable[[Estimate], str] = lambda _cost: ""

    def spent(self, cost: Estimate, seconds: float) -> str:
        """As of `Budget`; the seconds count since the run began, where it is counted."""
        return self.ask(cost)


class _Account:
    """What a share has used in the jobs that ended (`used`), and at most by now (`held`)."""

    def __init__(self, may: May) -> None:
        self._may = may
        self.used = self.held = Estimate()

    def ask(self, cost: Estimate) -> str:
        wanted = self.used + cost
        limit = self._may(wanted.calls, wanted.tokens)
        if not limit:
            self.held = wanted
        return limit

    def close(self, cost: Estimate | None) -> None:
        """A job ended at a known cost, or failed: what it had asked for may have been used."""
        self.used = self.held = self.used + cost if cost is not None else self.held


def stopped(agent: str, reason: str) -> JobReport:
    """The report of an agent whose job could not be run to its end, nor report itself."""
    return JobReport(agent, None, "stopped", reason, (), 0.0)


class ShareJob:
    """A worker's own backend and embedder, and the shares it runs with them, one after the other.

    Raises AgentMemError when the backend can't be made.
    """

    def __init__(self, orders: Orders, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self._orders = orders
        self._tell = tell
        self._settings: dict[str, Any] = {} if orders.window is None else {"window_tokens": orders.window}
        self._embedders: dict[str, Embedder | str] = {}
        self._backend: Backend | None = (
            registry.make_backend(orders.backend, None) if orders.backend is not None else None
        )

    def close(self) -> None:
        """Close the backend."""
        if self._backend is not None:
            self._backend.close()

    def run(self, tasks: Sequence[Mapping[str, Any]], may: May) -> dict[str, Any]:
        """Tasks to {"results": one each, in their order, "calls", "tokens"}.

        Of agents, `{"db": ..., "agent": ...}`, results are reports. An agent that can't be worked on (somebody holds
        it, its file is damaged) is stopped with the reason; the others of its share are not. Of histories, `{"id": ...,
        "messages": [...]}`, they are rows as of `agentmem.reflection.histories`, each from a memory in RAM.
        """
        account = _Account(may)
        results = self._histories(tasks, account) if "messages" in tasks[0] else self._agents(tasks, account)
        return {"results": results, "calls": account.used.calls, "tokens": account.used.tokens}

    def _agents(self, tasks: Sequence[Mapping[str, Any]], account: _Account) -> list[dict[str, Any]]:
        reports: dict[int, JobReport] = {}
        with ExitStack() as stack:
            opened: dict[int, Memory] = {}
            for n, task in enumerate(tasks):
                try:
                    opened[n] = stack.enter_context(self._open(task["db"], task["agent"]))
                except AgentMemError as e:
                    reports[n] = stopped(task["agent"], _told(e))
            groups = [list(opened)] if opened else []
            while groups:
                group = groups.pop(0)
                try:
                    reports.update(zip(group, self._reflect([opened[n] for n in group], account), strict=True))
                except AgentMemError as e:
                    # One agent that is held keeps the job from the whole group, so each is tried alone.
                    if len(group) == 1:
                        reports[group[0]] = stopped(opened[group[0]].agent_name, _told(e))
                    groups[:0] = [[n] for n in group] if len(group) > 1 else []
        return [reports[n].to_dict() for n in range(len(tasks))]

    def _histories(self, tasks: Sequence[Mapping[str, Any]], account: _Account) -> list[dict[str, Any]]:
        with TemporaryDirectory(prefix="agentmem-") as folder:
            out = Path(folder) / "rows.jsonl"
            reflect_histories(
                [json.dumps(task) for task in tasks], out, opened=self._fresh,
                reflector=lambda memories: self._reflect(memories, account), settings="", kept=False,
                group_size=len(tasks),
            )  # fmt: skip
            return [json.loads(row) for row in out.read_bytes().splitlines()]

    def _fresh(self, name: str, clock: Callable[[], datetime]) -> Memory:
        from agentmem.memory import Memory

        if IN_MEMORY not in self._embedders:
            self._embedders[IN_MEMORY] = registry.make_embedder(self._orders.embedder) or "none"
        return Memory(IN_MEMORY, name, embedder=self._embedders[IN_MEMORY], clock=clock, **self._settings)

    def _reflect(self, memories: Sequence[Memory], account: _Account) -> list[JobReport]:
        o = self._orders
        budget = AskedBudget(**asdict(o.budget), ask=account.ask) if o.budget != Budget() else Budget()
        try:
            found = reflect(
                memories, o.named, backend=self._backend, budget=budget, again=o.again, batch_size=o.batch_size,
                seed=o.seed, on_event=self._tell,
            )  # fmt: skip
        except AgentMemError:
            account.close(None)
            raise
        account.close(_cost(found))
        return found

    def _open(self, db: str, agent: str) -> Memory:
        from agentmem.memory import Memory

        shared = self._embedders.get(db)
        memory = Memory(
            db, agent, create=False, embedder=self._orders.embedder if shared is None else shared, **self._settings
        )
        if shared is None and memory.store.embedder() is not None:
            # The weights are loaded once a worker; a file without vectors has yet to note the spec that makes them.
            self._embedders[db] = memory.embedder if memory.embedder is not None else "none"
        return memory


def _told(error: AgentMemError) -> str:
    return f"{type(error).__name__}: {error.message}"


def _cost(reports: Sequence[JobReport]) -> Estimate:
    return sum(
        (Estimate(0, s.calls, s.prompt_tokens, s.completion_tokens) for r in reports for s in r.strategies), Estimate()
    )
