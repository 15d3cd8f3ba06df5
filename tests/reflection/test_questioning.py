"""What a batch may cost is counted where something limits it, and not where nothing does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agentmem.errors import BadRequestError
from agentmem.memory import Memory
from agentmem.reflection.budget import Budget, Estimate
from agentmem.reflection.questioning import Asked, BudgetSpent, Cost, Questioning
from agentmem.reflection.share_job import AskedBudget
from agentmem.scripted import ScriptedBackend
from agentmem.tokens import AdditiveCounter
from agentmem.types import ChatMessage, Completion, Request, ToolSpec, Usage

REQUESTS = tuple(Request((ChatMessage("user", f"What is number {n}?"),), max_tokens=10) for n in range(4))


class Counted(AdditiveCounter):
    """Notes how often a prompt is counted; those that hold "unsendable" can't be."""

    def __init__(self) -> None:
        super().__init__(len, name="letters", exact=True)
        self.prompts = 0

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        self.prompts += 1
        if "unsendable" in messages[0].content:
            raise BadRequestError("no template takes it")
        return super().count_prompt(messages, tools)


def asked(budget: Budget, requests: Sequence[Request] = REQUESTS, size: int = 3) -> tuple[Counted, list[str], str]:
    """The counter, what was answered, and the limit that ended it ("": none)."""
    counter = Counted()
    backend = ScriptedBackend([Completion("An answer.", usage=Usage(7, 3))] * 9, counter=counter)
    with Memory(":memory:", embedder="none") as memory:
        one = Asked(memory, "toy/1", tuple(requests), Cost())
        try:
            Questioning(backend, budget, size, lambda _event: None).ask([one])
        except BudgetSpent as e:
            return counter, [one.said[n].text for n in sorted(one.said)], str(e)
        return counter, [s.text for s in one.answers()], ""


@pytest.mark.parametrize("budget", [Budget(), Budget(max_calls=9), Budget(max_seconds=600.0), Budget(9, None, 600.0)])
def test_where_nothing_limits_tokens_no_prompt_is_counted(budget: Budget) -> None:
    counter, said, limit = asked(budget)
    assert not budget.counts_tokens
    assert (counter.prompts, len(said), limit) == (0, 4, "")


@pytest.mark.parametrize("workers", [False, True], ids=["one process", "a worker"])
def test_where_tokens_are_limited_each_prompt_is_counted_once(workers: bool) -> None:
    seen: list[int] = []

    def may(cost: Estimate) -> str:
        seen.append(cost.tokens)
        return ""

    budget = AskedBudget(max_tokens=10**6, ask=may) if workers else Budget(max_tokens=10**6)
    counter, said, _ = asked(budget)
    assert budget.counts_tokens
    assert (counter.prompts, len(said)) == (4, 4)
    prompt = len("user:") + len("What is number 0?")
    # Of the batch before, what was used; of this one, what it may use at most.
    most = [prompt + 10, 2 * (prompt + 10), 3 * (prompt + 10), 3 * 10 + prompt + 10]
    assert seen == (most if workers else [])


def test_a_worker_s_budget_that_limits_calls_alone_counts_no_tokens() -> None:
    seen: list[Estimate] = []

    def may(cost: Estimate) -> str:
        seen.append(cost)
        return "the budget of 2 calls" if cost.calls > 2 else ""

    counter, said, limit = asked(AskedBudget(max_calls=2, ask=may))
    assert (counter.prompts, len(said), limit) == (0, 2, "the budget of 2 calls")
    assert [e.calls for e in seen] == [1, 2, 3]


@pytest.mark.parametrize("budget", [Budget(max_calls=1), Budget(max_calls=1, max_tokens=10**6)])
def test_a_prompt_that_can_not_be_sent_is_a_call_too(budget: Budget) -> None:
    bad = Request((ChatMessage("user", "unsendable"),), max_tokens=10)
    _, said, limit = asked(budget, (bad, bad))
    assert len(said) <= 1
    assert limit == "the budget of 1 calls"


@pytest.mark.parametrize(("most", "answered"), [(0, 0), (31, 0), (32, 1), (63, 1), (64, 2), (10**6, 4)])
def test_no_question_goes_over_the_tokens(most: int, answered: int) -> None:
    _, said, limit = asked(Budget(max_tokens=most), size=4)
    assert len(said) == answered
    assert limit == ("" if answered == 4 else f"the budget of {most} tokens")


def test_estimates_add_up_with_what_is_not_in_them() -> None:
    one = Estimate(1, 2, 3, 4, ("closings",))
    whole = one + Estimate(1, 1, 1, 1) + Estimate(uncounted=("closings", "replays"))
    assert whole == Estimate(2, 3, 4, 5, ("closings", "replays"))
    assert Estimate.of_dict({"records": 1, "calls": 2}) == Estimate(1, 2), "reports of before have no such field"
