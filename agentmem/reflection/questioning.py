"""The questions of all agents' strategies, put to the model in batches that share prefixes, within the budget.

Each batch's answers are kept before the next is asked: a job that was killed does not ask again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentmem.crashpoints import crash_point
from agentmem.derived import derived_key
from agentmem.errors import BackendError, BadRequestError
from agentmem.parsing import strip_thinking
from agentmem.protocols import ModelBackend
from agentmem.reflection.batch_order import Arrangement, arranged
from agentmem.reflection.budget import Budget, Estimate
from agentmem.reflection.strategy import Said
from agentmem.types import Completion, Request

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.protocols import Backend

RETRIES = 2
WAIT_S = 1.0
OnEvent = Callable[[Mapping[str, Any]], None]


class BudgetSpent(Exception):
    """The next question would go over the budget."""


@dataclass(slots=True)
class Cost:
    """What was spent on a strategy."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    reused: int = 0

    def add(self, completion: Completion) -> None:
        """One call more."""
        usage = completion.usage
        self.calls += 1
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        if usage.cached_tokens is not None:
            self.cached_tokens = (self.cached_tokens or 0) + usage.cached_tokens


@dataclass(slots=True)
class Asked:
    """The questions of one strategy of one agent, and what was said to them."""

    memory: Memory
    strategy: str
    requests: tuple[Request, ...]
    cost: Cost
    said: dict[int, Said] = field(default_factory=dict)

    def answers(self) -> list[Said]:
        """In the order of the requests."""
        return [self.said[n] for n in range(len(self.requests))]


class Questioning:
    """Asks one backend for one run of `reflect`."""

    def __init__(self, backend: Backend, budget: Budget, batch_size: int, on_event: OnEvent) -> None:
        self._backend = backend
        self._budget = budget
        self._size = batch_size
        self._on_event = on_event
        self._spent = Estimate()
        self._began = time.monotonic()

    def ask(self, asked: Sequence[Asked]) -> None:
        """Answer everything that is asked, from what was kept and by the model. Raises BudgetSpent, and BackendError
        when the model can't be reached; what was answered by then is kept."""
        waiting: list[tuple[Asked, int]] = []
        for one in asked:
            for n, request in enumerate(one.requests):
                known = one.memory.records.jobs.answer(self._key(one, request))
                if known is None:
                    waiting.append((one, n))
                else:
                    one.said[n] = Said(known["text"], known["problem"])
                    one.cost.reused += 1
        requests = [one.requests[n] for one, n in waiting]
        done = 0
        for batch in self._arranged(requests).batches(self._size):
            chosen, limit = self._within(requests, batch)
            if chosen:
                self._answer([waiting[n] for n in chosen])
                done += len(chosen)
                spent = {"calls": self._spent.calls, "tokens": self._spent.tokens}
                self._on_event({"event": "batch", "answered": done, "of": len(requests), **spent})
            if limit:
                raise BudgetSpent(limit)

    def _arranged(self, requests: Sequence[Request]) -> Arrangement:
        """The requests in the order in which they share prefixes; an event says what that is expected to save."""
        size = self._backend.block_size if requests and isinstance(self._backend, ModelBackend) else None
        found = arranged(requests, self._backend.counter, size)
        if requests:
            b = found.blocks
            self._on_event({
                "event": "ordered", "requests": len(requests), "block_size": b.block_size, "blocks": b.total_blocks,
                "distinct_blocks": b.distinct_blocks, "prompt_tokens": b.prompt_tokens,
                "prefill_tokens": b.prefill_tokens, "exact": b.exact,
            })  # fmt: skip
        return found

    def _within(self, requests: Sequence[Request], batch: Sequence[int]) -> tuple[list[int], str]:
        """The first of a batch that the budget has room for, and the limit that keeps the others out ("": none)."""
        chosen: list[int] = []
        planned = self._spent
        for n in batch:
            planned += self._cost_of(requests[n])
            if limit := self._budget.spent(planned, time.monotonic() - self._began):
                return chosen, limit
            chosen.append(n)
        return chosen, ""

    def _cost_of(self, request: Request) -> Estimate:
        # Where nothing limits tokens they are not counted: to count a prompt is to encode it once more.
        if not self._budget.counts_tokens:
            return Estimate(0, 1)
        try:
            return estimate_of([request], self._backend)
        except BadRequestError:  # it can't be sent, so it is a call without tokens; why is said when it is asked
            return Estimate(0, 1)

    def _answer(self, batch: Sequence[tuple[Asked, int]]) -> None:
        completions = self._generate([one.requests[n] for one, n in batch])
        kept: dict[int, tuple[Asked, dict[bytes, dict[str, str]]]] = {}
        for (one, n), found in zip(batch, completions, strict=True):
            if isinstance(found, Completion):
                one.cost.add(found)
                self._spent += Estimate(0, 1, found.usage.prompt_tokens, found.usage.completion_tokens)
                text = strip_thinking(found.text).encode("utf-8", "replace").decode("utf-8")
                cut = found.finish_reason == "length"
                said = Said("", "the answer was cut off") if cut else Said(text, "" if text else "the answer is empty")
            else:
                one.cost.calls += 1
                self._spent += Estimate(0, 1)
                said = Said("", found.message)
            one.said[n] = said
            _, rows = kept.setdefault(id(one), (one, {}))
            rows[self._key(one, one.requests[n])] = {"text": said.text, "problem": said.problem}
        for one, rows in kept.values():
            with one.memory.store.write():
                one.memory.records.jobs.keep_answers(rows)
                crash_point("reflect.answers_before_commit")
        crash_point("reflect.answers_kept")

    def _generate(self, requests: Sequence[Request]) -> list[Completion | BackendError]:
        """An answer or an error a request. One bad request does not spoil its batch; an unreachable model raises."""
        for attempt in range(RETRIES + 1):
            try:
                return list(self._backend.generate(requests))
            except BackendError as e:
                if e.retryable and attempt < RETRIES:
                    time.sleep(WAIT_S * 2**attempt)
                elif e.retryable:
                    raise
                elif len(requests) == 1:
                    return [e]
                else:
                    return [found for r in requests for found in self._generate([r])]
        raise AssertionError("unreachable")

    def _key(self, one: Asked, request: Request) -> bytes:
        """All that an answer depends on."""
        asked = {
            "messages": [m.to_dict() for m in request.messages], "schema": request.schema, "seed": request.seed,
            "max_tokens": request.max_tokens, "temperature": request.temperature,
        }  # fmt: skip
        return derived_key("reflection", f"{self._backend.name}/{one.strategy}", json.dumps(asked, sort_keys=True))


def estimate_of(requests: Sequence[Request], backend: Backend) -> Estimate:
    """What requests cost: their prompts, and answers as long as they may be."""
    counted = sum(backend.counter.count_prompt(r.messages, r.tools) for r in requests)
    return Estimate(0, len(requests), counted, sum(r.max_tokens for r in requests))
