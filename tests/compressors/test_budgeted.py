"""Scores of chunks brought to a budget: which go first, what is never lost, and how much worth is left."""

from __future__ import annotations

import numpy as np
import pytest

from agentmem.compression import CompressionRequest, Part, shown
from agentmem.compressors.budgeted import fitted, total_tokens
from agentmem.cutting import Cutting, cutting
from agentmem.tokens import approximate_counter

PLAIN = "we walked along the river for a long time. we stood down somewhere near the bridge with good bread."


def asked(target: int, *parts: Part) -> tuple[CompressionRequest, Cutting]:
    return CompressionRequest(parts, target, approximate_counter()), cutting(parts)


def test_the_best_chunks_stay_in_order() -> None:
    wanted = {"along", "river", "somewhere", "bridge"}
    request, found = asked(sum(map(approximate_counter().count, wanted)), Part(PLAIN))
    words = [w for u in found.units for w in found.words(u)]
    got = fitted(request, found, np.array([float(w in wanted) for w in words]))
    assert got is not None and shown(PLAIN, got.parts[0]).split() == ["along", "river", "somewhere", "bridge"]
    assert got.num_tokens == request.target_tokens and 0.9 < got.worth <= 1.0


def test_units_that_are_not_there_are_not_shown() -> None:
    request, found = asked(9, Part(PLAIN))
    got = fitted(request, found, np.ones(len(found.chunks)), there=np.array([False, True]))
    assert got is not None and "river" not in shown(PLAIN, got.parts[0]) and got.worth < 0.6


@pytest.mark.parametrize(("rate", "units"), [(0.0, 2), (0.9, 1)])
def test_below_the_rate_whole_units_go(rate: float, units: int) -> None:
    request, found = asked(10, Part(PLAIN))
    scores = np.array([1.0 + (u.first > 0) for u in found.units for _ in range(u.first, u.last)])
    got = fitted(request, found, scores, rate=rate)
    assert got is not None and got.num_tokens > 8
    begun = [u for u in found.units if any(s < u.end and u.start < e for s, e in got.parts[0])]
    assert len(begun) == units and begun[-1] == found.units[1]


def test_the_least_worthy_part_goes_first() -> None:
    request, found = asked(12, Part(PLAIN, 0.1), Part("and then we all went home again.", 1.0))
    got = fitted(request, found, np.ones(len(found.chunks)), rate=1.0)
    assert got is not None and got.parts == ((), ((0, 32),)) and got.worth > 0.85


def test_equal_scores_use_the_budget_too() -> None:
    request, found = asked(18, Part(PLAIN))
    got = fitted(request, found, np.ones(len(found.chunks)))
    assert got is not None and got.num_tokens >= 17


def test_a_unit_that_is_too_large_makes_room() -> None:
    long = "x" * 400
    request, found = asked(20, Part(f"{long}\nThat was it."))
    got = fitted(request, found, np.array([9.0] + [1.0] * (len(found.chunks) - 1)))
    assert got is not None and shown(found.parts[0].text, got.parts[0]) == "That was it."


def test_nothing_fits() -> None:
    request, found = asked(2, Part("x" * 400))
    assert total_tokens(request) == 100 and fitted(request, found, np.ones(1)) is None
