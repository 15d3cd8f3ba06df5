"""Progress bars on standard error: only where a person looks, never in the way of what is printed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def lines_bar(what: str, total: int | None, *, hidden: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar that is told how much is done."""
    with counted_bar(what, hidden=hidden) as advance:
        yield lambda done: advance(done, total or 0)


@contextmanager
def counted_bar(what: str, *, hidden: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told how much is done of how much."""
    if hidden or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)
