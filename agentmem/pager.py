"""The queue of one agent as it is now, its tokens, and paging out when the prompt grows too full."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentmem.budget import Budget
from agentmem.crashpoints import crash_point
from agentmem.eviction import plan_eviction
from agentmem.history import Frozen, extended
from agentmem.planning import Shape, message_cost, used_tokens
from agentmem.queue import entry_of
from agentmem.summary import Summarise, Summary
from agentmem.summary_nodes import Nodes
from agentmem.types import Earlier, Epoch, Message, Pressure

if TYPE_CHECKING:
    from agentmem.store.agent_store import AgentStore

Log = Callable[[str, Mapping[str, Any]], object]


class Pager:
    """Holds the current epoch and its queue in memory; SQLite is the truth and is asked whether it moved on.

    The work of adding a message does not depend on how many are stored: only the queue is read. Threads may share it:
    what it holds changes under the database's lock, and a queue that was given out is never changed.
    """

    def __init__(self, store: AgentStore, clock: Callable[[], datetime], log: Log) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._nodes = Nodes(store)
        self._epoch: Epoch | None = None
        self._queue: list[Message] = []
        self._costs: list[int] = []
        self._tokens = 0
        self._last = self._erasure = 0
        self._measured_by: tuple[object, int] | None = None

    def forget(self) -> None:
        """Read everything anew at the next use (after a rolled-back transaction, an erasure, an import)."""
        self._epoch = None
        self._nodes.forget()

    def state(self, upto: int | None = None) -> tuple[Epoch, list[Message]]:
        """The current epoch and its queue, caught up with other processes; messages after `upto` are left for later."""
        with self._store.db.lock:
            last, number, erasure = self._now()
            if number == 0:
                self._start_first()
                return self.state(upto)
            last = last if upto is None else min(last, upto)
            if self._epoch is None or (self._epoch.number, self._erasure) != (number, erasure):
                self._epoch = self._store.journal.epoch()
                assert self._epoch is not None
                self._queue, self._costs, self._tokens = [], [], 0
                self._last, self._erasure = self._epoch.first_message - 1, erasure
                self._measured_by = None
            if last > self._last:
                self._queue = self._queue + self._store.recall.since(self._last + 1, last)
                self._last = last
            return self._epoch, self._queue

    def _now(self) -> tuple[int, int, int]:
        """The newest message, epoch and erasure in SQLite: what was erased must leave the queue in every process."""
        row = self._store.db.row(
            "SELECT a.next_message - 1, (SELECT max(number) FROM epochs WHERE agent_id = a.id),"
            " (SELECT max(number) FROM events WHERE agent_id = a.id AND kind = 'erase') FROM agents a WHERE a.id = ?",
            (self._store.agent_id,),
        )
        return (int(row[0]), int(row[1] or 0), int(row[2] or 0)) if row else (0, 0, 0)

    def pressure(self, budget: Budget, shape: Shape, upto: int | None = None) -> Pressure:
        """How full the prompt is."""
        return budget.pressure(self.used(budget, shape, upto))

    def used(self, budget: Budget, shape: Shape, upto: int | None = None) -> int:
        """Tokens of the prompt as it would be now."""
        with self._store.db.lock:
            epoch, _ = self.state(upto)
            return used_tokens(epoch, self._measure(budget, shape), budget, shape)

    def page_out(
        self,
        budget: Budget,
        shape: Shape,
        *,
        summarise: Summarise,
        compress: Frozen | None,
        keep_last: int,
        hold_from: int | None = None,
        upto: int | None = None,
        reason: str = "pressure",
        transaction: Callable[[], Any],
    ) -> Epoch | None:
        """Start a new epoch without the oldest turns; None when nothing can leave.

        The summary is made first, outside the transaction (a model may take its time); if another process has flushed
        or erased meanwhile, that stands and ours is dropped.
        """
        with self._store.db.lock:
            epoch, queue = self.state(upto)
            queue_tokens, erasure = self._measure(budget, shape), self._erasure
            costs = self._costs[: len(queue)]
        history = budget.history_tokens if compress is not None else 0
        fixed = used_tokens(replace(epoch, compressed=()), 0, budget, shape) + history
        fixed += max(0, budget.summary_tokens - shape.counter.count(epoch.summary))
        plan = plan_eviction(
            [entry_of(m, c) for m, c in zip(queue, costs, strict=True)],
            fixed_tokens=fixed,
            target_tokens=budget.target_tokens,
            keep_last=keep_last,
            hold_from=hold_from,
        )
        if plan is None:
            return None
        evicted = queue[: plan.cut]
        ways = self._nodes.covers(epoch, evicted)
        summary = summarise(epoch.summary, evicted, budget.summary_tokens, shape.counter, ways)
        earlier = extended(epoch.compressed, evicted, history, shape.counter, compress) if compress is not None else ()
        with transaction():
            if self._now()[1:] != (epoch.number, erasure):
                self.forget()
                return None
            new = self._next(epoch, plan.first_kept, summary, evicted, earlier)
            self._store.journal.start_epoch(new, reason)
            self._log(
                "page_out",
                {
                    "epoch": new.number,
                    "from": evicted[0].id,
                    "to": evicted[-1].id,
                    "messages": len(evicted),
                    "tokens_before": used_tokens(epoch, queue_tokens, budget, shape),
                    "tokens_after": used_tokens(new, sum(costs[plan.cut :]), budget, shape),
                    "target_met": plan.met,
                    "by_model": summary.by_model,
                    "compressed": len(earlier),
                    "reason": reason,
                    **({"from_nodes": list(summary.nodes)} if summary.nodes else {}),
                },
            )
            crash_point("page_out.before_commit")
        crash_point("page_out.done")
        with self._store.db.lock:
            if self._epoch is epoch:
                self._epoch = new
                self._queue, self._costs = self._queue[plan.cut :], self._costs[plan.cut :]
                self._tokens = sum(self._costs)
        return new

    def fold_in(self, reason: str, transaction: Callable[[], Any]) -> Epoch:
        """Start a new epoch with the same queue, so that edited blocks stand in the prompt."""
        with transaction():
            epoch, _ = self.state()
            new = Epoch(
                epoch.number + 1, epoch.first_message, epoch.summary, epoch.summary_from, epoch.summary_to,
                self._store.journal.blocks(), self._clock(), epoch.compressed,
            )  # fmt: skip
            self._store.journal.start_epoch(new, reason)
            self._log("epoch", {"epoch": new.number, "reason": reason})
        self.forget()
        return new

    def _measure(self, budget: Budget, shape: Shape) -> int:
        by = (shape, budget.entry_tokens)
        if self._measured_by is None or self._measured_by[0] is not by[0] or self._measured_by[1] != by[1]:
            self._costs, self._tokens, self._measured_by = [], 0, by
        for message in self._queue[len(self._costs) :]:
            cost = message_cost(message, budget.entry_tokens, shape)
            self._costs.append(cost)
            self._tokens += cost
        return self._tokens

    def _next(
        self, epoch: Epoch, first: int, summary: Summary, evicted: Sequence[Message], earlier: tuple[Earlier, ...]
    ) -> Epoch:
        return Epoch(
            number=epoch.number + 1,
            first_message=first,
            summary=summary.text,
            summary_from=epoch.summary_from or evicted[0].id,
            summary_to=evicted[-1].id,
            blocks=self._store.journal.blocks(),
            started_at=self._clock(),
            compressed=earlier,
        )

    def _start_first(self) -> None:
        with self._store.db.write():
            if self._store.journal.epoch() is None:
                blocks = self._store.journal.blocks()
                self._store.journal.start_epoch(Epoch(1, 1, "", 0, 0, blocks, self._clock()), "first")
