"""The order in which paged-in records stand in the prompt. Pure.

Dated records stand by time, always: chronology tells what holds now (order-preserving retrieval beats order by rank,
see "Long-Context LLMs Meet RAG", arXiv 2410.05983, and LongMemEval's reader, arXiv 2410.10813). Undated ones, passages
for which no time was given, may stand where the served model reads best; `agentmem cap --position` measures where that
is ("Lost in the Middle", arXiv 2307.03172). Their rank is the ranker's score: it stands in for the attention that each
gets in Attention Sorting (arXiv 2310.01427), which a served model does not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar, get_args

from agentmem.errors import ConfigError
from agentmem.times import utc_seconds
from agentmem.types import PageItem, Tier

OrderPolicy = Literal["time", "best-first", "best-last", "outside-in"]
POLICIES: tuple[OrderPolicy, ...] = get_args(OrderPolicy)

T = TypeVar("T")


def outside_in(ranked: Sequence[T]) -> tuple[T, ...]:
    """Best first in, best at both ends out: ranks 1 2 3 4 5 6 become 1 3 5 6 4 2 (arXiv 2410.05983, section 4)."""
    return (*ranked[::2], *reversed(ranked[1::2]))


def ordered(items: Sequence[PageItem], policy: OrderPolicy) -> tuple[PageItem, ...]:
    """The same items in the order of the prompt; it does not depend on the order in which they are given.

    With `time` all stand in one line of time, an undated record (`hit.dated` is False) where it was stored. Otherwise
    the dated stand by time, and the undated together: before them with `best-first`, so that the best is the first of
    all; after them with `best-last` (the best is the last of all, next to the question) and with `outside-in`.
    Raises ConfigError for another policy.
    """
    if policy not in POLICIES:
        raise ConfigError("order", policy, "is no order of page-ins", hint=f"give one of {', '.join(POLICIES)}")
    if policy == "time":
        return tuple(sorted(items, key=_time))
    dated = sorted((i for i in items if i.hit.dated), key=_time)
    ranked = sorted((i for i in items if not i.hit.dated), key=_rank)
    if policy == "best-first":
        return (*ranked, *dated)
    return (*dated, *(outside_in(ranked) if policy == "outside-in" else reversed(ranked)))


def _time(item: PageItem) -> tuple[float, int, Tier]:
    return utc_seconds(item.hit.at), int(item.hit.id[1:]), item.hit.tier


def _rank(item: PageItem) -> tuple[float, float, int, Tier]:
    """Best first; of equals the earlier."""
    return (-item.hit.score, *_time(item))
