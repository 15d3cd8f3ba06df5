"""Which of the queue's oldest messages leave at a flush. Pure: a plan is a value, applying it is another's step.

Source: MemGPT (arXiv 2310.08560, section 2.2) for the queue and its flush; the invariants are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentmem.types import Role


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A queued message as the plan sees it: `calls` are the ids it opens, `answers` the one it closes."""

    id: int
    role: Role
    num_tokens: int
    calls: frozenset[str] = frozenset()
    answers: str | None = None


@dataclass(frozen=True, slots=True)
class EvictionPlan:
    """Messages before `first_kept` leave (`cut` of them); the prompt then has `tokens_after`.

    `met` is False when what must stay is over the target.
    """

    cut: int
    first_kept: int
    tokens_after: int
    met: bool


def whole_cuts(queue: Sequence[QueueEntry]) -> list[int]:
    """Where the queue may be split, ascending: no tool result loses its call, no call its result.

    A call that nothing in the queue answers holds nothing back.
    """
    answered = {e.answers for e in queue if e.answers is not None}
    open_calls: set[str] = set()
    found: list[int] = []
    for n, entry in enumerate(queue):
        if not open_calls and entry.role != "tool":
            found.append(n)
        open_calls |= entry.calls & answered
        open_calls.discard(entry.answers or "")
    return found


def plan_eviction(
    queue: Sequence[QueueEntry],
    *,
    fixed_tokens: int,
    target_tokens: int,
    keep_last: int,
    hold_from: int | None = None,
) -> EvictionPlan | None:
    """The smallest cut that brings `fixed_tokens` plus the kept messages to the target.

    `fixed_tokens` is the rest of the prompt with the new summary's budget. The newest `keep_last` messages stay, and
    so do those from id `hold_from` on (the turn in progress). A cut at the start of a turn (a user message) is
    preferred. None when nothing can leave.
    """
    held = next((n for n, e in enumerate(queue) if hold_from is not None and e.id >= hold_from), len(queue))
    latest = min(len(queue) - keep_last, held)
    allowed = [n for n in whole_cuts(queue) if 0 < n <= latest]
    if not allowed:
        return None
    kept = sum(e.num_tokens for e in queue)
    after: dict[int, int] = {}
    for n, entry in enumerate(queue):
        after[n] = fixed_tokens + kept
        kept -= entry.num_tokens
    enough = [n for n in allowed if after[n] <= target_tokens]
    candidates = [n for n in enough if queue[n].role == "user"] or enough or [allowed[-1]]
    cut = candidates[0]
    return EvictionPlan(cut, queue[cut].id, after[cut], after[cut] <= target_tokens)
