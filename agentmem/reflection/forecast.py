"""How long a job may take, by how long past jobs of the same model took."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from agentmem.times import utc_seconds

if TYPE_CHECKING:
    from agentmem.store.jobs import JobRow


def expected_seconds(past: Iterable[JobRow], backend: str, calls: int) -> float | None:
    """Seconds for so many calls, or None where no past job of this backend tells. Jobs of several agents that ran side
    by side count once; those that were interrupted, undone or never ended do not count."""
    spans: list[tuple[float, float]] = []
    asked = 0
    for row in past:
        made = sum(s.get("calls", 0) for s in row.report.get("strategies", {}).values())
        ended = row.state in ("done", "stopped") and not row.report.get("resumed")
        if ended and row.backend == backend and made and row.ended_at is not None:
            begin, end = (utc_seconds(datetime.fromisoformat(t)) for t in (row.started_at, row.ended_at))
            if end >= begin:  # else the clock was moved back
                spans.append((begin, end))
                asked += made
    seconds = covered = 0.0
    for begin, end in sorted(spans):
        seconds += max(0.0, end - max(begin, covered))
        covered = max(covered, end)
    return calls * seconds / asked if calls and seconds > 0 else None
