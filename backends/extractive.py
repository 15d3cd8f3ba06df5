"""The embedded default: no language model. It quotes what memory paged in, and files what it is told by plain rules.

What it can do is in the kernel: `agentmem.reading` chooses the quotation and states its confidence rule,
`agentmem.filing` has the rules for statements. Filing goes through the memory tools, as a model's would.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from agentmem.filing import Filing, acknowledge, file_statements, is_question
from agentmem.protocols import TokenCounter
from agentmem.reading import read
from agentmem.tokens import approximate_counter
from agentmem.types import Answer, Chunk, Completion, Request, ToolCall, Usage

KEPT = "Kept in recall; ask me about it at any time."


class ExtractiveBackend:
    """Deterministic and instant. `counter` counts in the embedder's tokens; without one the counts are estimates."""

    name = "extractive"
    native_tools = False
    context_window: int | None = None

    def __init__(self, counter: TokenCounter | None = None) -> None:
        self.counter: TokenCounter = counter if counter is not None else approximate_counter()

    def describe(self) -> str:
        """What it is, and what it is not."""
        return (
            "extractive: no language model. It answers by quoting what memory finds, with citations, says when it finds"
            ' nothing, and notes plain statements ("my name is ...", "I live in ...", "remember that ...").'
        )

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in order."""
        return [self._complete(r) for r in requests]

    def stream(self, request: Request) -> Iterator[Chunk]:
        """The completion word by word."""
        completion = self._complete(request)
        position = 0
        while position < len(completion.text):
            space = completion.text.find(" ", position + 1)
            end = len(completion.text) if space < 0 else space
            yield Chunk(completion.text[position:end])
            position = end
        yield Chunk("", completion)

    def close(self) -> None:
        """Nothing is held."""

    def _complete(self, request: Request) -> Completion:
        results = [m.content for m in request.messages if m.role == "tool"]
        in_turn = request.messages[-1].role == "tool" if request.messages else False
        if request.tools and not in_turn:
            filings = file_statements(request.query, request.blocks)
            if filings:
                return self._done(request, "", tuple(_call(request, f, n) for n, f in enumerate(filings)))
        said: list[str] = []
        if in_turn:
            said.append(_outcome(request, results))
        answer: Answer | None = None
        if is_question(request.query):
            items = (*request.page.items, *request.page.in_queue)
            answer = read(request.query, items, asked_at=request.asked_at, blocks=request.blocks)
            said.append(answer.text)
        return self._done(request, " ".join(s for s in said if s) or KEPT, (), answer)

    def _done(
        self, request: Request, text: str, calls: tuple[ToolCall, ...], answer: Answer | None = None
    ) -> Completion:
        # All it says repeats what memory holds: found again later, it would be quoted as if somebody had said it.
        prompt = self.counter.count_prompt(request.messages)
        written = self.counter.count(text) + sum(self.counter.count(c.arguments) for c in calls)
        usage = Usage(prompt, written)
        return Completion(text, calls, usage, "tool_calls" if calls else "stop", answer, derived=True)


def _call(request: Request, filing: Filing, number: int) -> ToolCall:
    if filing.op == "archive":
        name = "archival_memory_insert"
        arguments: dict[str, object] = {"content": filing.content, "tags": list(filing.tags)}
    elif filing.op == "append":
        name, arguments = "core_memory_append", {"label": filing.label, "content": filing.content}
    else:
        name = "core_memory_replace"
        arguments = {"label": filing.label, "old_content": filing.old_content, "new_content": filing.content}
    arguments["request_heartbeat"] = True
    asked = f"{request.asked_at}|{request.query}|{number}"
    digest = hashlib.blake2b(asked.encode("utf-8", "replace"), digest_size=4).hexdigest()
    return ToolCall(f"file_{digest}", name, json.dumps(arguments, ensure_ascii=False))


def _outcome(request: Request, results: Sequence[str]) -> str:
    """What became of the filings of this turn, from their own calls and results, as far as the prompt has room for
    them: in a small window calls stand without their arguments, and results are cut."""
    calls = {c.id: c for m in request.messages for c in m.tool_calls}
    filed: list[Filing] = []
    failed: list[str] = []
    unseen = 0
    turn = [m for m in request.messages if m.role == "tool"][-len(results) :]
    last_assistant = max((n for n, m in enumerate(request.messages) if m.tool_calls), default=0)
    for message in request.messages[last_assistant + 1 :]:
        call = calls.get(message.tool_call_id or "")
        if message not in turn or call is None:
            continue
        result, filing = _object(message.content), _filing(call)
        if result.get("status") == "Failed":
            failed.append(str(result.get("message", "it failed")))
        elif result.get("status") == "OK" and filing is not None:
            filed.append(filing)
        else:
            unseen += 1
    parts = [acknowledge(filed)] if filed else []
    parts += [f"Not noted: {next(iter(p.splitlines()), 'it failed')}." for p in failed]
    if unseen:
        parts.append(f"What became of {unseen} more to note does not fit into the prompt; recall storage has it.")
    return " ".join(parts)


def _filing(call: ToolCall) -> Filing | None:
    """What a call files; None where its arguments were left out."""
    arguments = _object(call.arguments)
    try:
        if call.name == "archival_memory_insert":
            return Filing("archive", arguments["content"])
        if call.name == "core_memory_append":
            return Filing("append", arguments["content"], arguments["label"])
        return Filing("replace", arguments["new_content"], arguments["label"], arguments["old_content"])
    except KeyError:
        return None


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
