"""What the commands share: the application they belong to, their common options, opening what they need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from agentmem.agent import Agent
    from agentmem.memory import Memory

app = typer.Typer(
    name="agentmem",
    help="Memory for language-model agents that outlives their context window.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Db = Annotated[str, typer.Option("--db", envvar="AGENTMEM_DB", metavar="PATH", help="The database file.")]
AgentName = Annotated[str, typer.Option("--agent", metavar="NAME", help="Whose memory.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else.")]
BackendSpec = Annotated[
    str,
    typer.Option(
        "--backend", metavar="SPEC", help="extractive, openai:http://127.0.0.1:8000/v1#model, vllm:PATH or hf:PATH"
    ),
]
EmbedderSpec = Annotated[
    str, typer.Option("--embedder", metavar="SPEC", help="auto, minilm, st:NAME, openai:URL#MODEL, hash or none")
]
RerankerSpec = Annotated[
    str,
    typer.Option("--reranker", metavar="SPEC", help="Score the best hits again: cross-encoder:PATH or none"),
]
CompressorSpec = Annotated[
    str,
    typer.Option(
        "--compressor",
        metavar="SPEC",
        help="Shorten what a full prompt reads: extractive, none, code, selective:PATH, llmlingua:PATH, "
        "longllmlingua:PATH or llmlingua2:PATH",
    ),
]
Window = Annotated[int | None, typer.Option("--window", metavar="TOKENS", help="The model's context window (4096).")]
Reserve = Annotated[
    int | None, typer.Option("--reserve", metavar="TOKENS", help="Kept free for the reply (an eighth, 512 at most).")
]

Tools = Annotated[
    str, typer.Option("--tools", metavar="MODE", help="How tools reach a model: auto, native, json or off.")
]

DB_DEFAULT = "agentmem.db"
AGENT_DEFAULT = "default"


@app.callback(invoke_without_command=True)
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Memory for language-model agents that outlives their context window."""
    if version:
        from agentmem import __version__

        typer.echo(f"agentmem {__version__}")
        raise typer.Exit


@contextmanager
def opened(
    db: str,
    agent: str,
    *,
    create: bool,
    embedder: str = "auto",
    reranker: str = "none",
    compressor: str = "extractive",
    window: int | None = None,
    reserve: int | None = None,
    quiet: bool = False,
) -> Iterator[Memory]:
    """A memory for the time of a command; what it has to say is said on standard error."""
    from agentmem.memory import Memory

    settings: dict[str, Any] = {}
    if window is not None:
        settings["window_tokens"] = window
    if reserve is not None:
        settings["reserve_tokens"] = reserve
    with Memory(
        db, agent, create=create, embedder=embedder, reranker=reranker, compressor=compressor, **settings
    ) as memory:
        try:
            yield memory
        finally:
            if not quiet:
                for notice in dict.fromkeys(memory.notices):
                    typer.echo(f"note: {notice}", err=True)


def with_backend(memory: Memory, spec: str, tools: str = "auto") -> Agent:
    """An agent on the memory, so that tokens are counted as its backend counts them."""
    from agentmem.agent import Agent

    return Agent(memory, spec, tools=tools)
