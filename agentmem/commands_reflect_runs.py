"""What `agentmem reflect` runs: over agents of a file, by one process or several, or over a file of histories."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import typer

from agentmem import output
from agentmem.cli_options import opened

if TYPE_CHECKING:
    from datetime import datetime

    from agentmem.memory import Memory
    from agentmem.protocols import Backend
    from agentmem.reflection.diff import DiffLine
    from agentmem.reflection.histories import Taken
    from agentmem.reflection.orders import Orders
    from agentmem.reflection.outcome import JobReport
    from agentmem.reflection.series import Series
    from agentmem.reflection.watching import OnEvent
    from agentmem.store.jobs import JobRow

GROUP = 64
"""Agents that are open at the same time: each holds a connection to the file."""
_COLOURS = {"@": "cyan", "+": "green", "-": "red"}


class Telling:
    """How a run is told of."""

    def __init__(self, as_json: bool, *, quiet: bool, stream: IO[str] | None, hidden: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.stream = stream
        self.hidden = hidden

    def lines(self, lines: Sequence[str]) -> None:
        """For people: on standard error where standard output belongs to the events."""
        for line in lines:
            typer.echo(line, err=self.quiet)

    def watching(self, agents: int) -> AbstractContextManager[OnEvent]:
        """What takes the events."""
        from agentmem.reflection.watching import watching

        return watching(agents, self.stream, hidden=self.hidden)


@contextmanager
def closing_backend(spec: str | None) -> Iterator[Backend | None]:
    """A backend for the time of a run; None for None."""
    from agentmem import registry

    model = None if spec is None else registry.make_backend(spec, None)
    try:
        yield model
    finally:
        if model is not None:
            model.close()


def show_line(line: DiffLine | str) -> None:
    """A line of a diff; in colour on a terminal."""
    typer.secho(str(line), fg=None if isinstance(line, str) else _COLOURS.get(line.mark))


def over_agents(series: Series, orders: Orders, db: str, agent: str | None, review: bool, told: Telling) -> None:
    """One agent, or all (None): a group at a time, side by side. Exits 1 when a job stopped before its end."""
    from agentmem.reflection.forecast import expected_seconds
    from agentmem.reflection.job import estimated
    from agentmem.reflection.reviewing import Reviewer
    from agentmem.reflection.telling import job_lines, plan_lines

    names = agent_names(db) if agent is None else [agent]
    reports: list[JobReport] = []
    memories: dict[str, Memory] = {}
    lines: list[str] = []
    past: list[JobRow] = []
    if review:
        series.review = Reviewer(memories, show_line, _asked)
    shared: Any = None
    with told.watching(len(names)) as series.on_event:
        while len(reports) < len(names) and not series.ended:
            with ExitStack() as stack:
                memories.clear()
                for name in names[len(reports) : len(reports) + GROUP]:
                    memories[name] = memory = stack.enter_context(
                        opened(db, name, create=False, embedder=shared or orders.embedder, window=orders.window)
                    )
                    if shared is None and len(names) > 1:
                        # The first one opens the embedder, notes it in the file, and the others share it.
                        memory.catch_up()
                        shared = memory.embedder or "none"
                found = series.reflect(list(memories.values()))
                reports += found
                for report, memory in zip(found, memories.values(), strict=True):
                    past += memory.records.jobs.all() if series.dry_run else []
                    lines += _diff_lines(report, memory) if series.dry_run else job_lines(report, memory)
    whole = estimated(reports)
    expected = None
    if series.dry_run:
        expected = expected_seconds(past, "none" if series.backend is None else series.backend.name, whole.calls)
        lines = [*plan_lines(reports, whole, expected), *lines]
    _tell(reports, names[len(reports) :], told, lambda: lines, expected)


def _tell(
    reports: Sequence[JobReport], not_begun: Sequence[str], told: Telling, lines: Callable[[], Sequence[str]],
    expected: float | None = None,
) -> None:  # fmt: skip
    """Print the reports, as JSON or as the `lines` for people. Exits 1 when a job stopped, or was not begun."""
    from agentmem.reflection.job import estimated

    if told.as_json:
        jobs = [r.to_dict() for r in reports]
        plan = {"estimate": asdict(estimated(reports)), "expected_seconds": expected}
        typer.echo(output.dumps({"state": _state(reports), "jobs": jobs, **plan, "not_begun": list(not_begun)}))
    else:
        told.lines(lines() if reports else ["nothing new: there is no agent in the file"])
    _end([f"{r.agent}: {r.reason}" for r in reports if r.state == "stopped"], not_begun)


def by_workers(orders: Orders, db: str, agent: str | None, told: Telling, workers: int, ray: str | None) -> None:
    """The same by processes of their own: of this machine, or on Ray."""
    names = agent_names(db) if agent is None else [agent]
    with told.watching(len(names)) as on_event:
        if ray is None:
            from agentmem.reflection.workers import reflect_agents

            reports = reflect_agents(db, names, orders, workers=workers, on_event=on_event)
        else:
            from agentmem.reflection.ray_workers import reflect_on_ray

            work = [(db, name) for name in names]
            reports = reflect_on_ray(ray, work, orders, workers=workers, on_event=on_event)
    _tell(reports, [], told, lambda: _summaries(db, reports))


def _summaries(db: str, reports: Sequence[JobReport]) -> list[str]:
    from agentmem.reflection.telling import job_lines

    lines: list[str] = []
    for report in reports:
        with opened(db, report.agent, create=False, embedder="none", quiet=True) as memory:
            lines += job_lines(report, memory)
    return lines


def _end(problems: Sequence[str], not_begun: Sequence[str]) -> None:
    for problem in problems:
        typer.echo(f"stopped: {problem}", err=True)
    if not_begun:
        typer.echo(f"stopped: {len(not_begun)} agents were not begun", err=True)
    if problems or not_begun:
        raise typer.Exit(1)


def _state(reports: Sequence[JobReport]) -> str:
    states = [r.state for r in reports]
    return next((s for s in ("stopped", "planned", "done") if s in states), "nothing new")


def _diff_lines(report: JobReport, memory: Memory) -> list[str]:
    from agentmem.reflection.diff import Quotes, diff_of_applied

    return [str(line) for line in diff_of_applied(report.changes, Quotes(memory))]


def agent_names(db: str) -> list[str]:
    """All agents of a file, oldest first."""
    from agentmem import registry

    store = registry.load(registry.STORE)(db, create=False)
    try:
        return list(store.agent_names())
    finally:
        store.close()


def _asked(question: str) -> str:
    typer.echo(question, nl=False)
    return sys.stdin.readline()


def show_trees(db: str, agent: str | None, as_json: bool) -> None:
    """What was derived by now, of one agent or of all (None)."""
    from agentmem.reflection.showing import tree_dicts, tree_lines

    found: list[dict[str, Any]] = []
    for name in agent_names(db) if agent is None else [agent]:
        with opened(db, name, create=False, embedder="none", quiet=True) as memory:
            if as_json:
                found.append({"agent": name, "derived": tree_dicts(memory)})
                continue
            lines = tree_lines(memory)
            typer.echo(f"{name}:" if lines else f"{name}: nothing was derived yet")
            for line in lines:
                typer.echo(line)
    if as_json:
        typer.echo(output.dumps({"agents": found}))


def over_histories(
    series: Series, orders: Orders, source: Path, out: Path | None, db: str | None, told: Telling, workers: int = 1,
    ray: str | None = None,
) -> None:  # fmt: skip
    """A file of histories, each in a store in RAM, or in `db`; by workers of their own where there are several. A dry
    run reads them all, and writes nothing."""
    from agentmem.commands_memory import count_lines, read_lines
    from agentmem.memory import Memory
    from agentmem.reflection.histories import reflect_histories
    from agentmem.reflection.job import estimated
    from agentmem.reflection.telling import plan_lines
    from agentmem.registry import make_embedder

    count = count_lines(source)
    settings: dict[str, Any] = {} if orders.window is None else {"window_tokens": orders.window}
    reports: list[JobReport] = []
    # How many do the work is not in it: another number may go on.
    o = orders
    depends = json.dumps([o.named, o.backend, o.seed, o.again, o.embedder, o.window])
    with ExitStack() as stack:
        if series.dry_run or out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "plan.jsonl"
        series.on_event = stack.enter_context(told.watching(count or 0))
        if (workers > 1 or ray is not None) and not series.dry_run:
            taken = _dealt(orders, source, out, series.on_event, depends, workers, ray)
        else:
            shared = None if db is not None else make_embedder(orders.embedder)

            def open_one(name: str, clock: Callable[[], datetime]) -> Memory:
                if db is not None:
                    return Memory(db, name, embedder=orders.embedder, **settings)
                return Memory(":memory:", name, embedder=shared or "none", clock=clock, **settings)

            def reflector(memories: Sequence[Memory]) -> list[JobReport]:
                found = series.reflect(memories)
                if series.dry_run:
                    reports.extend(found)
                return found

            taken = reflect_histories(
                read_lines(source), out, opened=open_one, reflector=reflector, settings=depends, kept=db is not None,
                group_size=1 if series.backend is None else GROUP, ended=lambda: series.ended,
            )  # fmt: skip
    whole = estimated(reports)
    for number, problem in taken.malformed:
        typer.echo(f"line {number}: {problem}", err=True)
    if told.as_json:
        counts = {"done": taken.done, "skipped": taken.skipped, "ended": taken.ended}
        malformed = [{"line": n, "reason": p} for n, p in taken.malformed]
        typer.echo(output.dumps({**counts, "malformed": malformed, "estimate": asdict(whole)}))
    elif series.dry_run:
        told.lines(plan_lines(reports, whole, None))
    else:
        already = f", {taken.skipped} stood there already" if taken.skipped else ""
        bad = f", {len(taken.malformed)} of them malformed" if taken.malformed else ""
        told.lines([f"written: {taken.done} lines to {out}{bad}{already}"])
    _end([taken.ended] if taken.ended else [], ())


def _dealt(
    orders: Orders, source: Path, out: Path, on_event: OnEvent, depends: str, workers: int, ray: str | None
) -> Taken:
    from agentmem.commands_memory import read_lines
    from agentmem.reflection.dealt_histories import deal_histories

    if ray is None:
        from agentmem.reflection.workers import process_crew

        crews = process_crew(orders, workers, on_event)
    else:
        from agentmem.reflection.ray_workers import ray_crew

        crews = ray_crew(ray, orders, workers, on_event, here=False)
    with crews as crew:
        return deal_histories(crew, read_lines(source), out, settings=depends)
