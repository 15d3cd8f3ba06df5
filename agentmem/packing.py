"""Which records go into a page: a knapsack over value and tokens in which each record has one or more variants.

Exact by dynamic programming (the multiple-choice knapsack), for pages and numbers of records as they occur; pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_ITEMS = 100
"""So many of the best records are weighed against each other."""
MAX_CAPACITY = 8192
"""Tokens; a larger page is filled by rank."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to show a record: what it is worth and what it costs in tokens (at least 1)."""

    value: float
    cost: int


def choose(items: Sequence[Sequence[Variant]], capacity: int) -> list[int | None]:
    """For each item the variant to take (its position), None to leave it out: the greatest sum of values within
    `capacity`. Of equally good choices the earlier items are taken. Raises ValueError for a cost under 1."""
    import numpy as np

    if any(v.cost < 1 for variants in items for v in variants):
        raise ValueError("a variant costs at least one token")
    best = np.zeros(max(capacity, 0) + 1)
    taken: list[list[NDArray[np.bool_]]] = []
    # From the last to the first: going back then begins with the first, which wins where values are equal.
    for variants in reversed(items):
        before, best = best, best.copy()
        flags: list[NDArray[np.bool_]] = []
        for variant in variants:
            flag = np.zeros(len(best), bool)
            if variant.cost <= capacity:
                with_it = before[: len(best) - variant.cost] + variant.value
                better = with_it >= best[variant.cost :] if not flags else with_it > best[variant.cost :]
                flag[variant.cost :] = better
                best[variant.cost :][better] = with_it[better]
            flags.append(flag)
        taken.append(flags)
    chosen: list[int | None] = []
    room = max(capacity, 0)
    for variants, flags in zip(items, reversed(taken), strict=True):
        # The last variant that improved on the ones before it is the one that stands.
        pick = next((n for n in reversed(range(len(variants))) if flags[n][room]), None)
        chosen.append(pick)
        room -= variants[pick].cost if pick is not None else 0
    return chosen
