"""A backend that plays a script: for tests of what stands around a model, and for demos without one."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from agentmem.errors import BackendError, BadCompletionError
from agentmem.protocols import TokenCounter
from agentmem.tokens import approximate_counter
from agentmem.types import Chunk, Completion, Request, ToolCall, Usage

Line = str | Completion | BackendError | Callable[[Request], Completion]

_call_numbers = count(1)


def tool_call(name: str, /, **arguments: Any) -> Completion:
    """A completion that calls one tool. Ids are `call_1`, `call_2`, ... within the process."""
    call = ToolCall(f"call_{next(_call_numbers)}", name, json.dumps(arguments, ensure_ascii=False))
    return Completion("", (call,), finish_reason="tool_calls")


class ScriptedBackend:
    """Answers request n with line n of the script: a text, a completion, an error to raise, or a function.

    `requests` holds what was asked, in order, failures included. Usage is counted where a line does not state it.
    Raises BadCompletionError when the script is used up. Thread-safe.
    """

    native_tools = True

    def __init__(
        self, script: Sequence[Line], *, counter: TokenCounter | None = None, context_window: int | None = 8192
    ) -> None:
        self.name = "scripted"
        self.context_window = context_window
        self.counter: TokenCounter = counter if counter is not None else approximate_counter()
        self.requests: list[Request] = []
        self._script = tuple(script)
        self._lock = threading.Lock()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The next line for each request; raises the error that stands in the script."""
        return [self._play(r) for r in requests]

    def stream(self, request: Request) -> Iterator[Chunk]:
        """The next line word by word."""
        completion = self._play(request)
        for piece in re.findall(r"\S+\s*|\s+", completion.text):
            yield Chunk(piece)
        yield Chunk("", completion)

    def describe(self) -> str:
        """One line: how far the script is."""
        given = min(len(self.requests), len(self._script))
        return f"scripted backend: {given} of {len(self._script)} replies given"

    def close(self) -> None:
        """Holds nothing."""

    def _play(self, request: Request) -> Completion:
        with self._lock:
            at = len(self.requests)
            self.requests.append(request)
        if at >= len(self._script):
            raise BadCompletionError(f"the script is used up after {len(self._script)} replies")
        line = self._script[at]
        if isinstance(line, BackendError):
            raise line
        if isinstance(line, str):
            line = Completion(line)
        completion = line if isinstance(line, Completion) else line(request)
        if completion.usage != Usage():
            return completion
        count_text = self.counter.count
        said = count_text(completion.text) + sum(
            count_text(c.name) + count_text(c.arguments) for c in completion.tool_calls
        )
        asked = self.counter.count_prompt(request.messages, request.tools)
        return replace(completion, usage=Usage(asked, said))
