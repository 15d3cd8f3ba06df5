"""How warm a record still is: heat (MemoryOS, arXiv 2506.06326), decay (Generative Agents, arXiv 2304.03442, section
4.1) and elimination by use (experiential co-learning, arXiv 2312.17025). Pure.

Time is time of use: a gap between two messages counts as a day at most, so that a memory does not grow cold while
nobody talks to it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import exp

HALF_LIFE_H = 138.3
"""0.995 an hour."""
HEAT_HOURS = 24.0
HOT = 5.0
"""From this heat on MemoryOS promotes a segment."""
MAX_GAP_S = 24 * 3600.0
SHARE = 0.95
"""Of all warmth that what is always kept covers."""


def heat(visits: float, pages: float, hours: float) -> float:
    """MemoryOS's heat: visits + pages + exp(-hours / 24), the last of the hours since the last visit."""
    return visits + pages + exp(-max(hours, 0.0) / HEAT_HOURS)


def decay(hours: float, half_life_h: float = HALF_LIFE_H) -> float:
    """What is left after so many hours, in (0, 1]; a use that is yet to come counts as now."""
    return float(0.5 ** (max(hours, 0.0) / half_life_h))


def warmth(visits: float, pages: float, hours: float, importance: float, half_life_h: float = HALF_LIFE_H) -> float:
    """The heat, decayed and weighted by importance (1 to 10; 5 leaves it as it is): a segment of many pages is hot for
    good by the heat alone."""
    return heat(visits, pages, hours) * decay(hours, half_life_h) * importance / 5.0


def covering(weights: Sequence[float], share: float = SHARE) -> list[int]:
    """The fewest places whose weights cover a share of the sum, the heaviest first (of equal ones the last)."""
    whole, found, covered = sum(weights), [], 0.0
    for n in sorted(range(len(weights)), key=lambda n: (-weights[n], -n)):
        if covered >= share * whole or weights[n] <= 0.0:
            break
        found.append(n)
        covered += weights[n]
    return found


class UseClock:
    """Hours of use between moments (UTC seconds), by when messages were stored."""

    def __init__(self, stored: Sequence[float], now: float) -> None:
        self._times = sorted(t for t in stored if t <= now)
        gaps = (min(b - a, MAX_GAP_S) for a, b in pairwise(self._times))
        self._sums = [0.0, *accumulate(gaps)] if self._times else []
        self._now = self._at(now)

    def hours_since(self, moment: float) -> float:
        """Hours of use from a moment to now, not negative."""
        return max(0.0, self._now - self._at(moment)) / 3600.0

    def _at(self, moment: float) -> float:
        n = bisect_right(self._times, moment)
        if n == 0:
            return 0.0
        behind = min(moment - self._times[n - 1], MAX_GAP_S)
        if n < len(self._times):
            return self._sums[n - 1] + min(behind, self._sums[n] - self._sums[n - 1])
        return self._sums[n - 1] + behind
