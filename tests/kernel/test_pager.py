"""The pager: pressure is relieved, what left is in the summary's range, and two processes make one epoch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.memory import Memory
from agentmem.planning import message_cost, used_tokens
from agentmem.types import Pressure


def state(memory: Any) -> tuple[int, list[int]]:
    epoch, queue = memory.pager.state()
    return epoch.number, [m.id for m in queue]


@settings(max_examples=12)
@given(lengths=st.lists(st.integers(1, 120), min_size=1, max_size=60), reopen_at=st.integers(0, 60))
def test_the_books_are_right(lengths: list[int], reopen_at: int) -> None:
    memory = Memory(":memory:", embedder=HashingEmbedder(), window_tokens=600)
    for n, length in enumerate(lengths):
        memory.observe("user" if n % 2 == 0 else "assistant", "word " * length)
        if n == reopen_at:
            memory.pager.forget()
        assert memory.pager.pressure(memory.budget, memory.shape) is not Pressure.FLUSH or len(state(memory)[1]) <= 4
    epochs = [e for e, _ in memory.records.journal.epochs()]
    assert [e.number for e in epochs] == list(range(1, len(epochs) + 1))
    for before, after in itertools.pairwise(epochs):
        assert after.first_message > before.first_message
        assert (after.summary_from, after.summary_to) == (1, after.first_message - 1)
        assert memory.shape.counter.count(after.summary) <= memory.budget.summary_tokens
    epoch, queue = memory.pager.state()
    assert [m.id for m in queue] == list(range(epoch.first_message, len(lengths) + 1))
    costs = sum(message_cost(m, memory.budget.entry_tokens, memory.shape) for m in queue)
    assert memory.pager.used(memory.budget, memory.shape) == used_tokens(epoch, costs, memory.budget, memory.shape)
    out = memory.events("page_out")
    assert [e.payload["epoch"] for e in out] == list(range(2, len(epochs) + 1))
    assert sum(e.payload["messages"] for e in out) == epoch.first_message - 1
    # What leaves may stay in short, and in the summary.
    kept = memory.budget.history_tokens + memory.budget.summary_tokens
    assert all(e.payload["tokens_after"] < e.payload["tokens_before"] + kept for e in out)
    memory.close()


def test_two_connections_see_one_queue(memory_factory: Callable[..., Any]) -> None:
    one, other = memory_factory(window_tokens=600), memory_factory(window_tokens=600)
    for n in range(30):
        (one if n % 2 else other).observe("user", f"message {n} " * 8)
        assert state(one) == state(other)
    assert state(one)[0] > 1


def test_the_slower_of_two_flushes_is_dropped(memory_factory: Callable[..., Any]) -> None:
    one, other = memory_factory(), memory_factory()
    for n in range(8):
        one.observe("user", f"message {n}")
    state(one), state(other)
    inside: list[Any] = []

    def page_out(memory: Any, summarise: Any) -> Any:
        budget = type(memory.budget)(
            **{**{f: getattr(memory.budget, f) for f in memory.budget.__slots__}, "target_tokens": 0}
        )
        return memory.pager.page_out(
            budget,
            memory.shape,
            summarise=summarise,
            compress=lambda r: [None] * len(r),
            keep_last=2,
            transaction=memory.store.write,
        )

    from agentmem.summary import without_model

    def slow(*args: Any) -> Any:
        inside.append(page_out(other, without_model))
        return without_model(*args)

    assert page_out(one, slow) is None
    assert inside[0].number == 2
    assert state(one) == state(other) == (2, [7, 8])
    assert len(one.events("page_out")) == 1


def test_edits_fold_in(memory_factory: Callable[..., Any]) -> None:
    memory = memory_factory()
    memory.observe("user", "hello")
    memory.core["human"].append("Likes tea.")
    number, queue = state(memory)
    assert queue == [1, 2], "a note in the queue says the edit at once"
    epoch = memory.pager.fold_in("test", memory.store.write)
    assert epoch.number == number + 1 and {b.label: b.value for b in epoch.blocks}["human"] == "Likes tea."
    assert state(memory) == (number + 1, queue)
