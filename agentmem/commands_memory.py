"""The commands that fill a memory and ask it: chat, ask, ingest, search, page-in, context."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmem import output
from agentmem.cli_options import (
    AGENT_DEFAULT,
    DB_DEFAULT,
    AgentName,
    BackendSpec,
    CompressorSpec,
    Db,
    EmbedderSpec,
    Json,
    RerankerSpec,
    Reserve,
    Tools,
    Window,
    app,
    opened,
    with_backend,
)  # fmt: skip
from agentmem.errors import InvalidInputError

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.types import Hit, Page, Prompt, Reply

Queries = Annotated[
    Path | None, typer.Option("--queries", metavar="FILE", help="A query a line as JSON; an answer a line comes back.")
]


def _tier(name: str) -> str:
    if name not in ("all", "recall", "archival"):
        raise typer.BadParameter(f"{name!r} is none of all, recall, archival")
    return name


def _time(text: str | None) -> str | None:
    """A time option as it was given, if it is a time: a wrong option is wrong usage (exit 2)."""
    if text is None:
        return None
    from agentmem.times import parse_time

    try:
        parse_time(text)
    except InvalidInputError as e:
        raise typer.BadParameter(f"{text!r} is not an ISO 8601 time; {e.hint}") from e
    return text


TierName = Annotated[str, typer.Option("--tier", callback=_tier, help="all, recall or archival.")]


def read_queries(query: str | None, queries: Path | None) -> list[tuple[Any, str, str | None]]:
    """(id, query, asked at) of each query. Raises InvalidInputError naming the line; none is run then."""
    if (query is None) == (queries is None):
        raise typer.BadParameter("give a query, or --queries FILE", param_hint="query")
    if queries is None:
        return [(None, query or "", None)]
    from pydantic import ValidationError

    from agentmem.drafts import check_text
    from agentmem.times import parse_time
    from agentmem.wire import QueryLine

    found: list[tuple[Any, str, str | None]] = []
    for number, line in enumerate(read_lines(queries), 1):
        if not line.strip():
            continue
        try:
            row = QueryLine.model_validate(json.loads(line))
        except ValidationError as e:
            first = e.errors()[0]
            problem = f"{'.'.join(str(p) for p in first['loc']) or 'query'}: {first['msg']}"
            raise InvalidInputError("queries", line, f"line {number} is no query: {problem}") from e
        except (ValueError, RecursionError) as e:
            raise InvalidInputError("queries", line, f"line {number} is no JSON: {e}") from e
        if not row.query.strip():
            raise InvalidInputError("queries", line, f"line {number}: the query is empty")
        check_text(f"query (line {number})", row.query)
        if row.at is not None:
            parse_time(row.at, f"at (line {number})")
        found.append((row.id, row.query, row.at))
    return found


def read_lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file, `-` for standard input. Bytes that are no UTF-8 become lone surrogates, which are then
    reported for their line alone."""
    try:
        if str(path) == "-":
            yield from (line.decode("utf-8", "surrogateescape") for line in sys.stdin.buffer)
        else:
            with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as f:
                yield from f
    except OSError as e:
        raise InvalidInputError("file", str(path), f"can't be read: {e.strerror}") from e


def count_lines(path: Path) -> int | None:
    """How many lines a file has; None for a stream. Raises InvalidInputError before anything is made for its sake."""
    if str(path) == "-" or path.is_fifo():
        return None
    try:
        with path.open("rb") as f:
            return sum(1 for _ in f)
    except OSError as e:
        raise InvalidInputError("file", str(path), f"can't be read: {e.strerror}") from e


@app.command(epilog="Example: agentmem ingest history.jsonl --agent anna --json")
def ingest(
    file: Annotated[Path, typer.Argument(help="A message a line as JSON; - is standard input.")],
    strict: Annotated[bool, typer.Option("--strict", help="Store nothing if any line is bad.")] = False,
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
    backend: BackendSpec = "extractive",
    embedder: EmbedderSpec = "auto",
    compressor: CompressorSpec = "extractive",
    window: Window = None,
    reserve: Reserve = None,
) -> None:
    """Store a history: one message a line, {"role": "user", "content": "...", "id", "session", "name", "at"}."""
    from agentmem.progress import lines_bar

    total = count_lines(file)
    with opened(
        db, agent, create=True, embedder=embedder, compressor=compressor, window=window, reserve=reserve
    ) as memory:
        with_backend(memory, backend)
        with lines_bar("ingest", total, hidden=as_json) as advance:
            done = memory.ingest(read_lines(file), strict=strict, progress=advance)
    if as_json:
        typer.echo(output.dumps(output.report(done)))
        return
    typer.echo(f"{done.read} read, {done.stored} stored, {done.skipped} skipped (they were there already)")
    for problem in (*done.conflicts, *done.malformed)[:20]:
        typer.echo(f"line {problem['line']}: {problem['reason']}", err=True)
    if (more := len(done.conflicts) + len(done.malformed) - 20) > 0:
        typer.echo(f"... and {more} more bad lines", err=True)


def _each(
    query: str | None, queries: Path | None, as_json: bool, answer: Callable[[Any, str, str | None], dict[str, Any]],
    show: Callable[[], None],
) -> None:  # fmt: skip
    """Run one query or a file of them; JSON if asked for, or if there is a file."""
    for query_id, text, at in read_queries(query, queries):
        document = answer(query_id, text, at)
        if as_json or queries is not None:
            typer.echo(output.dumps(document))
        else:
            show()


@app.command(epilog='Example: agentmem search "Where does Anna live?" --top-k 5 --explain')
def search(
    query: Annotated[str | None, typer.Argument(help="What to look for.")] = None,
    queries: Queries = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many.")] = 10,
    tier: TierName = "all",
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="TIME", callback=_time, help="As things stood then.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", callback=_time)] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", callback=_time)] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="Only passages with this tag; may be repeated.")
    ] = None,
    speaker: Annotated[str | None, typer.Option("--speaker", metavar="NAME", help="Only what they said.")] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="Only of this session.")] = None,
    superseded: Annotated[bool, typer.Option("--superseded", help="Passages that hold no longer, too.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show the parts of each score.")] = False,
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
    backend: BackendSpec = "extractive",
    embedder: EmbedderSpec = "auto",
    reranker: RerankerSpec = "none",
    window: Window = None,
    reserve: Reserve = None,
) -> None:
    """Find records in recall and archival storage."""
    from agentmem.screen import show_hits

    with opened(
        db, agent, create=False, embedder=embedder, reranker=reranker, window=window, reserve=reserve
    ) as memory:
        hits: list[Hit] = []

        def answer(query_id: Any, text: str, at: str | None) -> dict[str, Any]:
            hits[:] = memory.search(
                text, top_k=top_k, tier=tier, as_of=as_of, since=since, until=until, tags=tag or (), speaker=speaker,
                session=session, superseded=superseded, asked_at=at, explain=explain,
            )  # fmt: skip
            return {"id": query_id, "hits": [output.hit(h) for h in hits]}

        _each(query, queries, as_json, answer, lambda: show_hits(hits))


@app.command("page-in", epilog='Example: agentmem page-in "Where does Anna live?" --max-tokens 512')
def page_in(
    query: Annotated[str | None, typer.Argument(help="What it is for.")] = None,
    queries: Queries = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="The budget.")] = 512,
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
    backend: BackendSpec = "extractive",
    embedder: EmbedderSpec = "auto",
    reranker: RerankerSpec = "none",
    compressor: CompressorSpec = "extractive",
    window: Window = None,
    reserve: Reserve = None,
) -> None:
    """Show what memory would page in for a query, within a number of tokens."""
    with opened(
        db,
        agent,
        create=False,
        embedder=embedder,
        reranker=reranker,
        compressor=compressor,
        window=window,
        reserve=reserve,
    ) as memory:
        with_backend(memory, backend)
        pages: list[Page] = []

        def answer(query_id: Any, text: str, at: str | None) -> dict[str, Any]:
            pages[:] = [memory.page_in(text, max_tokens=max_tokens, asked_at=at)]
            return output.page(query_id, pages[0])

        _each(query, queries, as_json, answer, lambda: _show_page(pages[0], max_tokens))


def _show_page(page: Page, max_tokens: int) -> None:
    typer.echo(page.text)
    typer.echo(f"({page.num_tokens} of {max_tokens} tokens, {len(page.items)} records)", err=True)


@app.command(epilog='Example: agentmem context "Where does Anna live?" --max-tokens 1024')
def context(
    query: Annotated[str | None, typer.Argument(help="The newest user text.")] = None,
    queries: Queries = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="The prompt's budget (the window less the reserve).")
    ] = None,
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
    backend: BackendSpec = "extractive",
    embedder: EmbedderSpec = "auto",
    compressor: CompressorSpec = "extractive",
    window: Window = None,
    reserve: Reserve = None,
) -> None:
    """Show the whole prompt that would be sent, with its ledger; changes nothing."""
    from agentmem.screen import show_prompt

    with opened(
        db, agent, create=False, embedder=embedder, compressor=compressor, window=window, reserve=reserve
    ) as memory:
        with_backend(memory, backend)
        prompts: list[Prompt] = []

        def answer(query_id: Any, text: str, at: str | None) -> dict[str, Any]:
            prompts[:] = [memory.render(query=text, max_tokens=max_tokens, at=at)]
            return output.prompt(query_id, prompts[0])

        _each(query, queries, as_json, answer, lambda: show_prompt(prompts[0]))


@app.command(epilog='Example: agentmem ask "Where does Anna live?" --no-store --json')
def ask(
    question: Annotated[str | None, typer.Argument(help="What to say.")] = None,
    queries: Queries = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Leave memory as it was.")] = False,
    cache: Annotated[
        float | None,
        typer.Option(
            "--cache", metavar="SECONDS", min=1, help="Answer again what was asked, while memory is the same."
        ),
    ] = None,
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
    backend: BackendSpec = "extractive",
    tools: Tools = "auto",
    embedder: EmbedderSpec = "auto",
    compressor: CompressorSpec = "extractive",
    window: Window = None,
    reserve: Reserve = None,
) -> None:
    """One turn with the agent."""
    if queries is not None and not no_store:
        raise typer.BadParameter("--queries needs --no-store: a file of questions must not become part of the memory")
    if cache is not None and not no_store:
        raise typer.BadParameter("--cache needs --no-store: what becomes part of the memory changes the next answer")
    from agentmem.agent import Agent

    kept = {} if cache is None else {"ask": {"ttl_s": cache}}
    with opened(
        db, agent, create=True, embedder=embedder, compressor=compressor, window=window, reserve=reserve
    ) as memory:
        chatter = Agent(memory, backend, tools=tools, answer_cache=kept)
        replies: list[Reply] = []

        def answer(query_id: Any, text: str, at: str | None) -> dict[str, Any]:
            replies[:] = [chatter.send(text, at=at, store=not no_store, category="ask")]
            document = output.reply(query_id, replies[0])
            if cache is not None:
                document["cached"] = next((e.payload["cosine"] for e in replies[0].events if not e.number), None)
            return document

        try:
            _each(question, queries, as_json, answer, lambda: typer.echo(replies[0].text))
        finally:
            chatter.close()


@app.command(epilog="Example: agentmem chat --agent anna --backend openai:http://127.0.0.1:8000/v1#model")
def chat(
    db: Db = DB_DEFAULT,
    agent: AgentName = AGENT_DEFAULT,
    as_json: Json = False,
    backend: BackendSpec = "extractive",
    tools: Tools = "auto",
    embedder: EmbedderSpec = "auto",
    compressor: CompressorSpec = "extractive",
    window: Window = None,
    reserve: Reserve = None,
) -> None:
    """Talk to the agent. With --json, or when standard input is no terminal: a message a line."""
    from agentmem.repl import run

    def turn(memory: Memory) -> None:
        run(with_backend(memory, backend, tools), as_json=as_json)

    with opened(
        db, agent, create=True, embedder=embedder, compressor=compressor, window=window, reserve=reserve
    ) as memory:
        turn(memory)
