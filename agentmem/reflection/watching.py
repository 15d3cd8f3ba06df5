"""What is seen of a job while it runs: a bar for a person, and a stream of events for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

OnEvent = Callable[[Mapping[str, Any]], None]


class Watched:
    """Sums up events: how far all jobs together have come."""

    def __init__(self, agents: int) -> None:
        self.agents = agents
        self.ended = 0
        self.planned_calls = 0
        self.calls = 0
        self.tokens = 0
        self.strategy = ""
        self._before = (0, 0)

    def take(self, event: Mapping[str, Any]) -> None:
        """One event more; those of a kind that is not known say nothing."""
        kind = event.get("event")
        if kind == "planned":
            self.planned_calls += event["calls"]
            self.strategy = event["strategy"]
        elif kind == "batch":
            # Counted from the beginning of each call of `reflect`; a new one begins below the last.
            if event["calls"] < self.calls - self._before[0]:
                self._before = (self.calls, self.tokens)
            self.calls = self._before[0] + event["calls"]
            self.tokens = self._before[1] + event["tokens"]
        elif kind == "ended":
            self.ended += 1

    @property
    def progress(self) -> tuple[int, int]:
        """(done, of): calls where a model is asked, else agents. The plan is what is known by now, and grows."""
        if self.planned_calls or self.calls:
            return self.calls, max(self.planned_calls, self.calls)
        return self.ended, self.agents


@contextmanager
def watching(agents: int, stream: IO[str] | None = None, *, hidden: bool = False) -> Iterator[OnEvent]:
    """What `reflect` takes as `on_event`: each event becomes a line of JSON in `stream`, flushed, and moves a bar with
    tokens and the time left on standard error, where that is a terminal."""
    watched = Watched(agents)

    def write(event: Mapping[str, Any]) -> None:
        watched.take(event)
        if stream is not None:
            stream.write(json.dumps(event, ensure_ascii=False) + "\n")
            stream.flush()

    if hidden or not sys.stderr.isatty():
        yield write
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[tokens]} tokens"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reflect", total=None, tokens="0")

        def show(event: Mapping[str, Any]) -> None:
            write(event)
            done, of = watched.progress
            what = escape(f"{watched.strategy or 'reflect'}, {watched.ended} of {watched.agents} agents")
            bar.update(task, completed=done, total=of or None, description=what, tokens=f"{watched.tokens:,}")

        yield show
