"""A file of histories by many workers: as `agentmem.reflection.histories`, over any number of machines, since each line
holds all that its result depends on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from agentmem.reflection.crew import NO_WORKER, Crew
from agentmem.reflection.histories import History, Taken, going_on, histories, line_of, taken_up
from agentmem.reflection.series import of_the_run

GROUP = 256
"""Histories that are read, dealt and written at a time."""


def deal_histories(
    crew: Crew[Any],
    lines: Iterable[str],
    out: Path,
    *,
    settings: str,
    progress: Callable[[int], None] = lambda _done: None,
) -> Taken:
    """Reflect on each history with the workers of `crew` (`process_crew`, `ray_crew`) and write a line each to `out`,
    in the order of the input; a run that was stopped goes on.

    `settings` is all else that a result depends on. A history whose workers were all lost is "stopped" in its line; the
    first that the budget, the model or a lack of workers stopped ends the run, and is done by the next. Raises
    ConfigError for an `out` that is of another input, or can't be written.
    """
    taken = Taken()
    waiting = histories(lines, settings)
    taken.skipped, size = taken_up(out, waiting)
    with going_on(out, size) as f:
        while not taken.ended and (group := list(islice(waiting, GROUP))):
            sound = [{"id": h.name, "messages": list(h.messages)} for h in group if not h.problem]
            results = iter(crew.work(sound))
            for history in group:
                row = _row(history, results)
                if row["state"] == "stopped" and (of_the_run(row["reason"]) or row["reason"] == NO_WORKER):
                    taken.ended = row["reason"]
                    break
                f.write(line_of(row))
                taken.done += 1
                if row["state"] == "malformed":
                    taken.malformed.append((history.number, row["reason"]))
            f.flush()
            os.fsync(f.fileno())
            progress(taken.done + taken.skipped)
    return taken


def _row(history: History, results: Iterator[dict[str, Any] | str]) -> dict[str, Any]:
    """The line of a history: what a worker said of it, at its own place."""
    own = {"id": history.name, "line": history.number, "digest": history.digest}
    found = {"state": "malformed", "reason": f"line 0: {history.problem}"} if history.problem else next(results)
    if isinstance(found, str):
        found = {"state": "stopped", "reason": found}
    if found["state"] == "malformed":
        # A worker counts the lines of its share.
        found = {**found, "reason": f"line {history.number}: {found['reason'].partition(': ')[2]}"}
    empty: dict[str, Any] = {"strategies": [], "changes": [], "passages": [], "blocks": {}}
    return {**own, "state": found["state"], "reason": found["reason"], **empty, **found, **own}
