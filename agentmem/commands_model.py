"""The command that serves a model: serve-model."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from agentmem import output, registry
from agentmem.cli_options import Json, app
from agentmem.errors import ConfigError

_COMMANDS = "agentmem.backends.vllm_command"
_SERVER = "agentmem.backends.vllm_server"
_EPILOG = """Example: agentmem serve-model ./Qwen2.5-7B-Instruct --window 32768 -- --dtype bfloat16

Then: agentmem chat --backend openai:http://127.0.0.1:8000/v1#Qwen2.5-7B-Instruct"""


@app.command(
    "serve-model",
    epilog=_EPILOG,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": False},
)
def serve_model(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's folder, or its name on the hub.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8000,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; everybody who reaches it may use it.")
    ] = "127.0.0.1",
    window: Annotated[
        int | None, typer.Option("--window", min=1, metavar="TOKENS", help="The context window (the model's own).")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The name to serve it by (that of its folder).")] = None,
    tool_parser: Annotated[
        str | None, typer.Option("--tool-parser", metavar="NAME", help="vLLM's parser of tool calls (by the template).")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Longest wait for it.")] = 900.0,
    log: Annotated[str | None, typer.Option("--log", metavar="FILE", help="Where its log goes (a new file).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command line, and start nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Start a vLLM server as agentmem wants it, and wait until it is ready. Flags of vLLM's own go behind `--`."""
    extra = tuple(context.args)
    if port == 0:
        port = registry.load(f"{_SERVER}:free_port")(host)
    found = None if dry_run and not _is_installed() else registry.load(f"{_COMMANDS}:installed")()
    plan = registry.load(f"{_COMMANDS}:plan")(
        model,
        host=host,
        port=port,
        window=window,
        name=name,
        tool_parser=tool_parser,
        extra=extra,
        on_cpu=found is not None and found.on_cpu,
    )
    described: dict[str, Any] = {
        "backend": plan.spec, "url": f"{plan.root}/v1", "model": plan.name, "command": list(plan.command),
        "environment": dict(plan.environment), "notes": list(plan.notes),
    }  # fmt: skip
    for note in () if as_json else plan.notes:
        typer.echo(f"note: {note}", err=True)
    if dry_run:
        typer.echo(output.dumps(described) if as_json else _shell(plan))
        return
    _serve(plan, _log_file(log), timeout, described, as_json)


def _serve(plan: Any, log: Path, timeout: float, described: dict[str, Any], as_json: bool) -> None:
    server = registry.load(f"{_SERVER}:VllmServer")(plan, log)
    typer.echo(f"starting: {_shell(plan)}\nlog: {log}", err=True)
    try:
        server.start()
        server.forward_signals()
        server.wait_ready(timeout, _progress(plan.name))
        if as_json:
            typer.echo(output.dumps({**described, "pid": server.pid, "log": str(log)}))
        else:
            typer.echo(f"ready: --backend {plan.spec}")
            typer.echo("Ctrl-C stops it", err=True)
        sys.stdout.flush()
        code = server.wait()
    except KeyboardInterrupt:
        code = 130
    finally:
        server.stop()
    raise typer.Exit(code)


def _progress(name: str) -> Any:
    """Writes one line over and over on a terminal, and nothing into a file."""
    shown = sys.stderr.isatty()

    def tell(waited: float, last: str) -> None:
        if shown:
            typer.echo(f"\r\x1b[Kloading {name}: {waited:.0f} s  {last[:80]}", err=True, nl=False)

    return tell


def _log_file(given: str | None) -> Path:
    if given is None:
        return Path(tempfile.mkstemp(prefix="agentmem-vllm-", suffix=".log")[1])
    path = Path(given).expanduser()
    if not path.parent.is_dir():
        raise ConfigError("log", given, "its folder does not exist")
    return path


def _is_installed() -> bool:
    from importlib.util import find_spec

    return find_spec("vllm") is not None


def _shell(plan: Any) -> str:
    return " ".join([*(f"{k}={shlex.quote(v)}" for k, v in plan.environment.items()), shlex.join(plan.command)])
