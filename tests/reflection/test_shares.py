"""Dealing, and the budget over all workers: whatever happens, each task ends once, and no more than allowed is used."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.reflection.budget import Budget
from agentmem.reflection.shares import MAX_SHARE, RETRIES, Dealing, Ledger, Share


def test_shares_are_small_and_hold_everything_in_order() -> None:
    dealing = Dealing(100, 3)
    shares = [s for _ in range(200) if (s := dealing.next()) is not None]
    assert [n for s in shares for n in s.tasks] == list(range(100))
    assert len(shares) >= 12 and max(len(s.tasks) for s in shares) <= MAX_SHARE
    assert len({s.number for s in shares}) == len(shares)
    assert max(len(s.tasks) for s in [Dealing(10_000, 2).next()] if s) == MAX_SHARE


@given(st.integers(0, 40), st.integers(1, 5), st.integers(0, 2**32), st.floats(0, 0.9))
def test_each_task_ends_once_whatever_is_lost(count: int, workers: int, seed: int, lose: float) -> None:
    rng = random.Random(seed)
    dealing = Dealing(count, workers)
    out: list[Share] = []
    attempts: dict[int, int] = {}
    while not dealing.finished:
        while len(out) < workers and (share := dealing.next()) is not None:
            out.append(share)
            for task in share.tasks:
                attempts[task] = attempts.get(task, 0) + 1
        share = out.pop(rng.randrange(len(out)))
        if rng.random() < lose:
            dealing.lost(share, "killed")
        else:
            dealing.done(share, [f"result {n}" for n in share.tasks])
    assert out == [] and dealing.next() is None
    assert dealing.results.keys() | dealing.given_up.keys() == set(range(count))
    assert not dealing.results.keys() & dealing.given_up.keys()
    assert all(found == f"result {n}" for n, found in dealing.results.items())
    assert all(attempts[n] == RETRIES + 1 for n in dealing.given_up)
    assert all(n <= RETRIES + 1 for n in attempts.values())


def test_what_was_lost_comes_back_alone_and_with_a_reason_at_last() -> None:
    dealing = Dealing(8, 1)
    share = dealing.next()
    assert share is not None and share.tasks == (0, 1)
    dealing.lost(share, "killed")
    rest = [s for _ in range(9) if (s := dealing.next()) is not None]
    assert [s.tasks for s in rest] == [(2, 3), (4, 5), (6, 7), (0,), (1,)]
    for _ in range(RETRIES):
        dealing.lost(rest[3], "killed")
        again = dealing.next()
    assert again is None
    assert dealing.given_up == {0: "killed; given up after 3 attempts"}
    with pytest.raises(ValueError, match="zip"):
        dealing.done(rest[0], ["one result for two tasks"])


@given(st.integers(0, 20), st.integers(0, 300), st.integers(0, 2**32))
def test_the_budget_holds_whoever_asks_and_whoever_is_lost(calls: int, tokens: int, seed: int) -> None:
    rng = random.Random(seed)
    ledger = Ledger(Budget(max_calls=calls, max_tokens=tokens))
    spent_calls = spent_tokens = 0
    held: dict[int, tuple[int, int]] = {}
    used: dict[int, tuple[int, int]] = dict.fromkeys(range(4), (0, 0))
    number = 4
    for _ in range(60):
        share = rng.choice(list(used))
        c, t = used[share]
        most = rng.randint(1, 40)
        if not ledger.may(share, c + 1, t + most):
            real = rng.randint(0, most)
            spent_calls, spent_tokens = spent_calls + 1, spent_tokens + real
            used[share] = held[share] = (c + 1, t + real)
        assert spent_calls <= calls and spent_tokens <= tokens
        if rng.random() < 0.2:
            if rng.random() < 0.5:
                ledger.settle(share, *used[share])
            del used[share]
            used[number] = (0, 0)
            number += 1
    assert ledger.spent.calls <= calls and ledger.spent.tokens <= tokens
    assert spent_calls <= ledger.spent.calls and spent_tokens <= ledger.spent.tokens


def test_seconds_count_from_the_beginning_of_the_run() -> None:
    now = [10.0]
    ledger = Ledger(Budget(max_seconds=5), clock=lambda: now[0])
    assert ledger.may(1, 1, 1) == ""
    now[0] = 15.5
    assert ledger.may(2, 1, 1) == "the budget of 5 seconds"
    assert Ledger(Budget()).may(1, 10**9, 10**9) == ""
    assert "3 calls" in Ledger(Budget(max_calls=3)).may(1, 4, 0)
