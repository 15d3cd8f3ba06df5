"""The command that measures: cap."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmem import output
from agentmem.cli_options import BackendSpec, EmbedderSpec, Json, Reserve, Tools, Window, app
from agentmem.errors import BackendError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    from agentmem.protocols import Backend

OUT_DEFAULT = "agentmem-cap"
_EPILOG = """Example: agentmem cap --out report

Your own data: agentmem cap --history history.jsonl --questions questions.jsonl --backend hf:models/Qwen3-0.6B"""


@app.command(epilog=_EPILOG)
def cap(
    history: Annotated[
        Path | None,
        typer.Option("--history", metavar="PATH", help="Messages, or a folder of CONV.messages.jsonl (the demo's)."),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", metavar="FILE", help="A question a line, with its answer.")
    ] = None,
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="What is measured is kept here.")] = OUT_DEFAULT,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure anew, not on from what is in the folder.")] = False,
    rungs: Annotated[str | None, typer.Option("--rungs", metavar="NAMES", help="Only these, with commas.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Questions a conversation (all).")] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Records of dense and BM25 (as many as fit).")
    ] = None,
    compressor: Annotated[
        str, typer.Option("--compressor", metavar="SPEC", help="Of the rung + compression.")
    ] = "extractive",
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="SPEC", help="A backend that judges answers, yes or no.")
    ] = None,
    position: Annotated[
        bool, typer.Option("--position", help="Measure instead where in a prompt the model reads best.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of samples and intervals.")] = 0,
    backend: BackendSpec = "extractive",
    embedder: EmbedderSpec = "auto",
    tools: Tools = "off",
    window: Window = None,
    reserve: Reserve = None,
    as_json: Json = False,
) -> None:
    """Measure context, accuracy and performance of ways to fill a prompt, agentmem's own beside the usual ones.

    A run that was stopped goes on with the same command.
    """
    folder = Path(out).expanduser()
    if position:
        _position(backend, folder, seed, as_json)
        return
    from agentmem.cap_data import load
    from agentmem.cap_ground import Settings
    from agentmem.cap_ladder import RUNGS, rung_names
    from agentmem.cap_run import Plan, run
    from agentmem.progress import counted_bar

    plan = Plan(
        load(history, questions), backend, embedder,
        Settings(window, reserve, top_k, compressor, tools, seed), judge, limit,
        rung_names(rungs) if rungs is not None else RUNGS,
    )  # fmt: skip
    try:
        with counted_bar("questions", hidden=as_json) as advance:
            report = run(plan, folder, fresh=fresh, progress=advance)
    except (BackendError, KeyboardInterrupt):
        typer.echo(f"note: what was answered is kept in {folder}; the same command goes on from there", err=True)
        raise
    drawn = _draw(report, folder, as_json)
    if as_json:
        typer.echo(output.dumps(report))
        return
    from agentmem.cap_table import WIDTH, show
    from agentmem.screen import console

    screen = console()
    screen.width = max(screen.width, WIDTH)
    show(report, screen)
    typer.echo(f"written: {', '.join(str(folder / name) for name in ('report.json', 'questions.jsonl', *drawn))}")


def _draw(report: Mapping[str, Any], folder: Path, quiet: bool) -> list[str]:
    """The picture and the page beside the report; the names of what was written."""
    from agentmem.cap_page import write_page
    from agentmem.cap_picture import draw

    picture: Path | None = folder / "axes.png"
    try:
        assert picture is not None
        try:
            draw(report, picture)
        except MissingExtraError as e:
            picture = None
            if not quiet:
                typer.echo(f"note: no picture: {e.message} ({e.hint})", err=True)
        measured = folder / "position.json"
        more = {"position": json.loads(measured.read_text(encoding="utf-8"))} if measured.is_file() else {}
        write_page({**report, **more}, folder / "report.html", picture=picture)
    except OSError as e:
        raise ConfigError("out", str(folder), f"can't be written: {e.strerror}") from e
    return ["report.html", *([picture.name] if picture is not None else [])]


def _position(spec: str, folder: Path, seed: int, as_json: bool) -> None:
    from agentmem import registry
    from agentmem.cap_position import measure
    from agentmem.progress import counted_bar

    backend: Backend = registry.make_backend(spec, None)
    try:
        with counted_bar("questions", hidden=as_json) as advance:
            found = measure(backend, seed=seed, progress=advance)
    finally:
        backend.close()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "position.json").write_text(
            json.dumps(found.to_dict(), indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )
    except OSError as e:
        raise ConfigError("out", str(folder), f"can't be written: {e.strerror}", hint="give another --out") from e
    typer.echo(output.dumps(found.to_dict()) if as_json else "\n".join(found.lines()))
    sys.stdout.flush()
