"""The commands that look after a store: stats, doctor, verify, rebuild, reembed, replay, erase, export, import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from agentmem import output
from agentmem.cli_options import (
    AGENT_DEFAULT,
    DB_DEFAULT,
    AgentName,
    BackendSpec,
    Db,
    EmbedderSpec,
    Json,
    Reserve,
    Window,
    app,
    opened,
    with_backend,
)  # fmt: skip
from agentmem.errors import ConfigError, InvalidInputError


def _say(value: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(output.dumps(value))
        return
    width = max((len(k) for k in value), default=0)
    for name, shown in value.items():
        typer.echo(f"{name.ljust(width)}  {shown}")


@app.command(epilog="Example: agentmem stats --agent anna --json")
def stats(
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
    backend: BackendSpec = "extractive",
    embedder: EmbedderSpec = "auto",
    window: Window = None,
    reserve: Reserve = None,
) -> None:
    """Counts and sizes of one agent's memory."""
    with opened(db, agent, create=False, embedder=embedder, window=window, reserve=reserve) as memory:
        with_backend(memory, backend)
        counted = memory.stats()
    _say(counted, as_json)


@app.command(epilog="Example: agentmem doctor --backend openai:http://127.0.0.1:8000/v1")
def doctor(
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
    backend: Annotated[str, typer.Option("--backend", metavar="SPEC", help="A backend to start and to ask.")] = "",
) -> None:
    """Look at this environment: what is installed, what that makes possible, what to install for the rest.

    With --backend also what that backend can do: its window, its tokens, the ways in which it takes tools.
    """
    from agentmem.environment import examine, examine_backend

    found = examine(db, agent)
    if backend:
        found["checks"] += examine_backend(backend)
        found["usable"] = found["usable"] and all(c["ok"] for c in found["checks"] if c["name"] == "backend")
    if as_json:
        typer.echo(output.dumps(found))
    else:
        for check in found["checks"]:
            mark = "ok " if check["ok"] else "-- "
            remedy = "" if check["ok"] else f"  -> {check['remedy']}"
            typer.echo(f"{mark}{check['name']}: {check['found']}{remedy}")
    if not found["usable"]:
        raise typer.Exit(1)


@app.command(epilog="Example: agentmem verify --agent anna")
def verify(db: Db = DB_DEFAULT, agent: AgentName = AGENT_DEFAULT, as_json: Json = False) -> None:
    """Check that everything stored agrees; exits 1 with the findings when it does not."""
    from agentmem.inspecting import verify as check

    with opened(db, agent, create=False, embedder="none", quiet=True) as memory:
        findings = check(memory)
        notices = list(dict.fromkeys(memory.notices))
    if as_json:
        typer.echo(output.dumps({"agent": agent, "ok": not findings, "findings": findings, "repaired": notices}))
    else:
        for notice in notices:
            typer.echo(f"note: {notice}", err=True)
        for finding in findings:
            typer.echo(finding)
        if not findings:
            typer.echo("all is well")
    if findings:
        raise typer.Exit(1)


@app.command(epilog="Example: agentmem rebuild --agent anna")
def rebuild(
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
    backend: BackendSpec = "extractive",
    embedder: EmbedderSpec = "auto",
    window: Window = None,
    reserve: Reserve = None,
) -> None:
    """Make the indexes anew from the records."""
    from agentmem.inspecting import rebuild as build
    from agentmem.progress import counted_bar

    with (
        opened(db, agent, create=False, embedder=embedder, window=window, reserve=reserve) as memory,
        counted_bar("rebuild", hidden=as_json) as advance,
    ):
        counts = build(memory, advance)
    _say(counts, as_json)


@app.command(epilog="Example: agentmem reembed --embedder st:sentence-transformers/all-mpnet-base-v2")
def reembed(
    embedder: Annotated[str, typer.Option("--embedder", metavar="SPEC", help="The new embedder.")],
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
    backend: BackendSpec = "extractive",
    window: Window = None,
    reserve: Reserve = None,
) -> None:
    """Give the whole file (all agents: they share an embedder) vectors of another embedder; resumable."""
    from agentmem.indexing import reembed as run
    from agentmem.progress import counted_bar
    from agentmem.registry import make_embedder

    chosen = make_embedder(embedder)
    if chosen is None:
        raise ConfigError("embedder", embedder, "re-embedding needs an embedder", hint="e.g. --embedder minilm")
    with opened(db, agent, create=False, embedder="none", quiet=True) as memory:
        agents = [
            memory.store.agent(n, create=False, now=memory.clock(), notify=lambda _kind, _payload: None)
            for n in memory.store.agent_names()
        ]
        spec = embedder if embedder != "auto" else "minilm"
        with counted_bar("reembed", hidden=as_json) as advance:
            keys = run(memory.store, agents, chosen, spec, memory.clock(), advance)
        memory.log("reembed", {"model": chosen.model_id, "keys": keys})
    _say({"embedder": chosen.model_id, "agents": len(agents), "vectors": keys}, as_json)


@app.command(epilog="Example: agentmem replay --verify --agent anna")
def replay(
    verify: Annotated[bool, typer.Option("--verify", help="Exit 1 unless every prompt is the same.")] = False,
    show: Annotated[int | None, typer.Option("--show", metavar="EVENT", help="Print the prompt of this event.")] = None,
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
) -> None:
    """Write every prompt of the event log again, and compare its bytes with what was sent."""
    from agentmem.replay import replay as run

    counts = {"prompts": 0, "same": 0, "erased": 0, "other_template": 0, "differs": 0}
    problems: list[dict[str, Any]] = []
    with opened(db, agent, create=False, embedder="none", quiet=True) as memory:
        for one in run(memory):
            counts["prompts"] += 1
            counts[one.status] += 1
            if one.status != "same":
                where = {"event": one.event, "turn": f"m{one.turn}", "step": one.step}
                problems.append({**where, "status": one.status, "detail": one.detail})
            if show == one.event and not as_json:
                for message in one.messages:
                    typer.echo(f"--- {message.role}\n{message.content}")
    if as_json:
        typer.echo(output.dumps({**counts, "not_same": problems}))
    else:
        _say(counts, False)
        for p in problems[:20]:
            typer.echo(f"event {p['event']}, turn {p['turn']}: {p['status']}: {p['detail']}")
    if verify and counts["differs"]:
        raise typer.Exit(1)


@app.command(epilog="Example: agentmem erase D1:3 --yes")
def erase(
    record: Annotated[str, typer.Argument(help="A record's key, or its id (m12, p3).")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
) -> None:
    """Delete a record for good, with everything derived from it. It can't be undone."""
    if not yes and (as_json or not typer.confirm(f"Erase {record} for good?")):
        raise typer.BadParameter("say --yes to erase without being asked") if as_json else typer.Abort
    with opened(db, agent, create=False, embedder="none", quiet=True) as memory:
        by_id = memory.records.recall.by_keys([record]) == {} and memory.records.archival.by_key(record) is None
        counts = dict(memory.erase(id=record) if by_id else memory.erase(key=record))
    _say({"erased": record, **counts}, as_json)


@app.command("export", epilog="Example: agentmem export anna.jsonl --agent anna")
def export_(
    file: Annotated[Path, typer.Argument(help="Where to; - is standard output.")],
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
) -> None:
    """Write a full archive of one agent: messages, archival storage, core memory, epochs, reflection jobs, events."""
    from agentmem.archive_file import export_lines

    count = 0
    with opened(db, agent, create=False, embedder="none", quiet=True) as memory:
        if str(file) == "-":
            for line in export_lines(memory):
                typer.echo(line)
            return
        temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as f:
                for line in export_lines(memory):
                    f.write(line + "\n")
                    count += 1
                f.flush()
                os.fsync(f.fileno())
            temporary.replace(file)
        except OSError as e:
            temporary.unlink(missing_ok=True)
            raise InvalidInputError("file", str(file), f"can't be written: {e.strerror}") from e
    _say({"file": str(file), "lines": count}, as_json)


@app.command("import", epilog="Example: agentmem import anna.jsonl --agent anna --db new.db")
def import_(
    file: Annotated[Path, typer.Argument(help="An archive; - is standard input.")],
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
    backend: BackendSpec = "extractive",
    embedder: EmbedderSpec = "auto",
    window: Window = None,
    reserve: Reserve = None,
) -> None:
    """Take a full archive into a new agent, whole or not at all, and embed it."""
    from agentmem.archive_file import import_lines
    from agentmem.commands_memory import count_lines, read_lines
    from agentmem.progress import counted_bar

    count_lines(file)
    with opened(db, agent, create=True, embedder=embedder, window=window, reserve=reserve) as memory:
        counts = dict(import_lines(memory, read_lines(file)))
        with counted_bar("embed", hidden=as_json) as advance:
            memory.catch_up(advance)
    _say({"agent": agent, **counts}, as_json)
