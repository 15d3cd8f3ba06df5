"""The command that learns from what is stored: reflect."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer

from agentmem.cli_options import AGENT_DEFAULT, DB_DEFAULT, Db, EmbedderSpec, Json, Window, app
from agentmem.commands_reflect_runs import (
    Telling,
    by_workers,
    closing_backend,
    over_agents,
    over_histories,
    show_trees,
)
from agentmem.errors import ConfigError

_EPILOG = """Example: agentmem reflect --agent anna

A look before: agentmem reflect --dry-run, or change by change: agentmem reflect consolidate --review

With a model: agentmem reflect insights --all-agents --backend vllm:PATH --max-tokens 2000000

A file of histories: agentmem reflect consolidate --in histories.jsonl --out reflected.jsonl"""


def _known_strategies(incomplete: str) -> list[str]:
    from agentmem.reflection.strategies import known

    return [name for name in sorted(known()) if name.startswith(incomplete)]


@app.command(epilog=_EPILOG)
def reflect(
    context: typer.Context,
    strategies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STRATEGY",
            help="Names, name?option=value or package.module:Class (consolidate profile).",
            autocompletion=_known_strategies,
        ),
    ] = None,
    all_agents: Annotated[bool, typer.Option("--all-agents", help="Each agent of the file, side by side.")] = False,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help=f"Whose memory. [default: {AGENT_DEFAULT}]")
    ] = None,
    backend: Annotated[
        str, typer.Option("--backend", metavar="SPEC", help="none (by rules), vllm:PATH, openai:URL#model or hf:PATH")
    ] = "none",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; change nothing.")] = False,
    review: Annotated[bool, typer.Option("--review", help="Show each change as a diff, and ask.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print what was derived by now as trees; run nothing.")] = False,
    max_calls: Annotated[int | None, typer.Option("--max-calls", min=0, help="Calls of the model at most.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=0, help="Tokens at most, in and out.")] = None,
    max_seconds: Annotated[float | None, typer.Option("--max-seconds", min=0, help="Seconds at most.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Requests that go to the model at once.")] = 64,
    again: Annotated[
        bool, typer.Option("--again", help="Begin at the first record, not at the first new one.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of samples.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that share the agents.")] = 1,
    ray: Annotated[
        str | None, typer.Option("--ray", metavar="ADDRESS", help="Workers on Ray: auto, HOST:PORT or local.")
    ] = None,
    in_: Annotated[
        Path | None, typer.Option("--in", metavar="FILE", help="Histories, a line each as JSON; - is standard input.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Their results, a line each; goes on where it stopped.")
    ] = None,
    events: Annotated[
        str | None, typer.Option("--events", metavar="FILE", help="Add each event as JSON; - is standard output.")
    ] = None,
    db: Db = DB_DEFAULT,
    embedder: EmbedderSpec = "auto",
    window: Window = None,
    as_json: Json = False,
) -> None:
    """Learn from what is stored while nobody waits: strategies over one agent, all agents, or a file of histories.

    They run by rules, or with --backend by a language model. A second run does what is new alone; one that was stopped
    goes on. `agentmem undo JOB` takes a job back.
    """
    from agentmem.reflection.budget import Budget
    from agentmem.reflection.orders import Orders
    from agentmem.reflection.series import Series
    from agentmem.reflection.strategies import DEFAULT

    one = agent is not None
    given = context.get_parameter_source("db")
    own = db if given is not None and given.name == "COMMANDLINE" and not dry_run else None
    several = workers > 1 or ray is not None
    _refuse(
        (all_agents and one, "--all-agents", "leave --agent out"),
        (in_ is None and out is not None, "--in", "--out goes with --in FILE"),
        (in_ is not None and out is None and not dry_run, "--out", "--in goes with --out FILE"),
        (in_ is not None and (all_agents or one), "--in", "each line is an agent of its own: name none"),
        (in_ is not None and review, "--review", "histories are not reviewed: leave it out"),
        (review and dry_run, "--review", "--dry-run shows the changes and asks nothing: leave one out"),
        (review and as_json, "--review", "it asks at a terminal: leave --json out"),
        (review and not at_terminal(), "--review", "it asks, and this is no terminal: use --dry-run to look first"),
        (
            show and (bool(strategies) or dry_run or review or in_ is not None),
            "--show",
            "it runs nothing: give it alone",
        ),
        (events == "-" and (as_json or review), "--events", "standard output is taken: name a file"),
        (several and review, "--workers", "a review has one: leave it out"),
        (several and in_ is not None and own is not None, "--workers", "histories go to workers without --db"),
        (several and dry_run, "--ray" if ray is not None else "--workers", "a dry run is done by one: leave it out"),
    )
    if show:
        show_trees(db, None if all_agents else agent or AGENT_DEFAULT, as_json)
        return
    spec = None if backend in ("none", "extractive") else backend
    budget = Budget(max_calls, max_tokens, max_seconds)
    orders = Orders(tuple(strategies or DEFAULT), spec, embedder, window, again, seed, batch_size, budget)
    orders.checked()  # a wrong name is told before a model is loaded
    whose = None if all_agents else agent or AGENT_DEFAULT
    with _stream(events) as stream, _stoppable():
        told = Telling(as_json, quiet=events == "-", stream=stream, hidden=as_json or review)
        if several and not dry_run and in_ is None:
            by_workers(orders, db, whose, told, workers, ray)
            return
        with closing_backend(None if several and not dry_run else spec) as model:
            series = Series(orders.named, model, orders.budget, batch_size, dry_run, again, seed)
            if in_ is not None:
                over_histories(series, orders, in_, out, own, told, workers, ray)
            else:
                over_agents(series, orders, db, whose, review, told)


@contextmanager
def _stoppable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("note: what was committed stays; the same command goes on from there", err=True)
        raise


def at_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _refuse(*rules: tuple[bool, str, str]) -> None:
    for broken, option, remedy in rules:
        if broken:
            raise typer.BadParameter(remedy, param_hint=option)


@contextmanager
def _stream(name: str | None) -> Iterator[IO[str] | None]:
    if name is None or name == "-":
        yield None if name is None else sys.stdout
        return
    try:
        # Added to: the file of a nightly job has all nights.
        f = open(Path(name).expanduser(), "a", encoding="utf-8")  # noqa: SIM115
    except OSError as e:
        raise ConfigError("events", name, f"can't be written: {e.strerror}", hint="name another file") from e
    with f:
        yield f
