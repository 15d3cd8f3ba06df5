"""The commands for what reflection did: jobs, undo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmem import output
from agentmem.cli_options import AGENT_DEFAULT, DB_DEFAULT, AgentName, Db, Json, app, opened
from agentmem.errors import UnknownNameError

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.reflection.outcome import Applied
    from agentmem.store.jobs import JobRow


@app.command(epilog="Example: agentmem jobs --agent anna, then: agentmem jobs j3 --agent anna")
def jobs(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="A job, e.g. j3; without one, all of them.")
    ] = None,
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
) -> None:
    """The jobs of reflection, newest first; or the changes of one as a diff, with what became of each."""
    with opened(db, agent, create=False, embedder="none", quiet=True) as memory:
        rows = memory.records.jobs.all()
        if job is not None:
            _one(memory, rows, job, as_json)
            return
        found = [_row(memory, row) for row in reversed(rows)]
    if as_json:
        typer.echo(output.dumps({"agent": agent, "jobs": found}))
        return
    for row in found:
        counts = ", ".join(f"{n} {fate}" for fate, n in row["changes"].items()) or "no change"
        reason = f" ({row['reason']})" if row["reason"] else ""
        names = " ".join(row["strategies"])
        typer.echo(f"{row['job']}  {row['started_at']}  {row['state']}{reason}  {names}  {counts}")
    if not found:
        typer.echo("no jobs yet")


@app.command(epilog="Example: agentmem undo j3 --agent anna")
def undo(
    job: Annotated[str, typer.Argument(help="A job, e.g. j3; agentmem jobs lists them.")],
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
) -> None:
    """Take back what a job changed. What somebody changed since stays as it is, and is listed."""
    from agentmem.reflection.telling import undone_lines
    from agentmem.reflection.undoing import undo as take_back

    with opened(db, agent, create=False, embedder="none", quiet=True) as memory:
        done = take_back(memory, job)
    if as_json:
        typer.echo(output.dumps(done.to_dict()))
        return
    for line in undone_lines(done):
        typer.echo(line)


def _row(memory: Memory, row: JobRow) -> dict[str, Any]:
    fates = [c.fate for c in memory.records.jobs.changes(row.id)]
    return {
        "job": row.ref, "state": row.state, "reason": row.report.get("reason", ""), "started_at": row.started_at,
        "ended_at": row.ended_at, "backend": row.backend, "strategies": list(row.strategies),
        "changes": {fate: fates.count(fate) for fate in dict.fromkeys(fates)},
    }  # fmt: skip


def _one(memory: Memory, rows: list[JobRow], job: str, as_json: bool) -> None:
    from agentmem.commands_reflect_runs import show_line
    from agentmem.reflection.diff import Quotes, diff_of_applied

    known = {row.ref: row for row in rows}
    if job not in known:
        raise UnknownNameError("job", job, list(known), hint="agentmem jobs lists them")
    entries = _entries(memory, known[job].id)
    told = _row(memory, known[job])
    if as_json:
        typer.echo(output.dumps({**told, "agent": memory.agent_name, "changes": [e.to_dict() for e in entries]}))
        return
    typer.echo(f"{job}  {told['started_at']}  {told['state']}  {' '.join(told['strategies'])}")
    for line in diff_of_applied(entries, Quotes(memory)):
        show_line(line)


def _entries(memory: Memory, job: int) -> list[Applied]:
    from agentmem.reflection.changes import of_json
    from agentmem.reflection.outcome import Applied

    return [
        Applied(c.number, c.strategy, of_json(c.change), c.fate, c.reason, c.made, c.before)  # type: ignore[arg-type]
        for c in memory.records.jobs.changes(job)
    ]
