"""Eviction plans against their laws, on random tool traffic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentmem.eviction import EvictionPlan, QueueEntry, plan_eviction


def splits_a_pair(queue: list[QueueEntry], cut: int) -> bool:
    """Whether a result is kept whose call leaves, or a result leads the rest."""
    opened = {call for e in queue[:cut] for call in e.calls}
    return any(e.answers in opened for e in queue[cut:]) or queue[cut].role == "tool"


def legal_cuts(queue: list[QueueEntry], keep_last: int, hold_from: int | None) -> list[int]:
    return [
        cut
        for cut in range(1, len(queue) - keep_last + 1)
        if cut < len(queue)
        and not any(hold_from is not None and e.id >= hold_from for e in queue[:cut])
        and not splits_a_pair(queue, cut)
    ]


@st.composite
def traffic(draw: st.DrawFn) -> list[QueueEntry]:
    """Users, assistants, calls with results late, between, out of order, or never."""
    queue: list[QueueEntry] = []
    waiting: list[str] = []
    number = draw(st.integers(1, 50))
    for n in range(draw(st.integers(0, 14))):
        kind = draw(st.sampled_from(["user", "assistant", "call", "result", "result"]))
        tokens = draw(st.integers(0, 30))
        if kind == "result" and waiting:
            answered = waiting.pop(draw(st.integers(0, len(waiting) - 1)))
            queue.append(QueueEntry(number + n, "tool", tokens, frozenset(), answered))
        elif kind == "call":
            calls = frozenset(f"c{n}.{k}" for k in range(draw(st.integers(1, 3))))
            waiting += sorted(calls)
            queue.append(QueueEntry(number + n, "assistant", tokens, calls))
        else:
            queue.append(QueueEntry(number + n, "user" if kind == "user" else "assistant", tokens))
    return queue


@given(
    queue=traffic(), fixed=st.integers(0, 60), target=st.integers(0, 250), keep_last=st.integers(1, 5),
    held=st.none() | st.integers(0, 16),
)  # fmt: skip
def test_the_laws(queue: list[QueueEntry], fixed: int, target: int, keep_last: int, held: int | None) -> None:
    hold_from = None if held is None else (queue[0].id if queue else 0) + held
    before = list(queue)
    plan = plan_eviction(queue, fixed_tokens=fixed, target_tokens=target, keep_last=keep_last, hold_from=hold_from)
    assert queue == before
    legal = legal_cuts(queue, keep_last, hold_from)
    if plan is None:
        assert legal == []
        return

    def after(cut: int) -> int:
        return fixed + sum(e.num_tokens for e in queue[cut:])

    assert plan.cut in legal
    assert plan.first_kept == queue[plan.cut].id
    assert plan.tokens_after == after(plan.cut)
    assert plan.met == (plan.tokens_after <= target)
    enough = [cut for cut in legal if after(cut) <= target]
    turns = [cut for cut in enough if queue[cut].role == "user"]
    expected = (turns or enough or legal[-1:])[0]
    assert plan.cut == expected, f"of {legal} (enough: {enough}, at a turn: {turns})"


def talk(*roles: str, tokens: int = 10) -> list[QueueEntry]:
    return [QueueEntry(n, role, tokens) for n, role in enumerate(roles, 1)]  # type: ignore[arg-type]


def test_nothing_can_leave() -> None:
    for queue, keep in ((talk(), 1), (talk("user"), 1), (talk("user", "assistant"), 2)):
        assert plan_eviction(queue, fixed_tokens=0, target_tokens=0, keep_last=keep) is None
    assert plan_eviction(talk("user", "user"), fixed_tokens=0, target_tokens=0, keep_last=1, hold_from=1) is None


def test_a_turn_stays_whole_where_it_can() -> None:
    queue = talk("user", "assistant", "user", "assistant", "user")
    assert plan_eviction(queue, fixed_tokens=5, target_tokens=45, keep_last=1) == EvictionPlan(2, 3, 35, True)


def test_the_target_out_of_reach() -> None:
    plan = plan_eviction(talk("user", "assistant", "user"), fixed_tokens=100, target_tokens=50, keep_last=1)
    assert plan == EvictionPlan(2, 3, 110, False)


def test_a_call_and_its_result_leave_or_stay_together() -> None:
    queue = [
        QueueEntry(1, "user", 10),
        QueueEntry(2, "assistant", 10, frozenset("a")),
        QueueEntry(3, "tool", 10, answers="a"),
        QueueEntry(4, "assistant", 10),
        QueueEntry(5, "user", 10),
    ]
    for target, cut in ((40, 1), (30, 3), (20, 3), (10, 4)):
        plan = plan_eviction(queue[:4], fixed_tokens=0, target_tokens=target - 10, keep_last=1)
        assert plan is not None and plan.cut == min(cut, 3)
        assert not splits_a_pair(queue, plan.cut)


def test_a_call_that_was_never_answered_does_not_hold_the_queue_for_ever() -> None:
    queue = [QueueEntry(1, "user", 10), QueueEntry(2, "assistant", 10, frozenset("a")), *talk(*["user"] * 12)[2:]]
    plan = plan_eviction(queue, fixed_tokens=0, target_tokens=50, keep_last=3)
    assert plan is not None and plan.met
