"""A real backend whose words are replaced: requests, token counts and cache are real, what it says is chosen."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentmem.errors import BackendError, BadCompletionError
from agentmem.types import Chunk, Completion, Request

if TYPE_CHECKING:
    from agentmem.encoding import ToolMode
    from agentmem.protocols import TokenCounter

Line = str | Completion | BackendError | Callable[[Request], Completion]
Script = Sequence[Line] | Callable[[Request], Completion]


class Steered:
    """Sends each request through `backend` with few tokens to write, and answers with the script's next line.

    A line is a text, a completion (its usage is replaced by the real one), an error to raise in the place of the
    answer, or a function of the request. `requests` are those that were asked, `real` what the model gave for them.
    Raises BadCompletionError when the script is used up. Lines are taken in the order of the requests.
    """

    def __init__(
        self, backend: Any, script: Sequence[Line] | Callable[[Request], Completion], *, most: int = 2
    ) -> None:
        self.backend = backend
        self.requests: list[Request] = []
        self.real: list[Completion] = []
        self._script = script if callable(script) else tuple(script)
        self._most = most
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return str(self.backend.name)

    @property
    def native_tools(self) -> bool:
        return bool(self.backend.native_tools)

    @property
    def context_window(self) -> int | None:
        window: int | None = self.backend.context_window
        return window

    @property
    def counter(self) -> TokenCounter:
        counter: TokenCounter = self.backend.counter
        return counter

    @property
    def block_size(self) -> int | None:
        size: int | None = self.backend.block_size
        return size

    def tool_modes(self) -> tuple[ToolMode, ...]:
        modes: tuple[ToolMode, ...] = self.backend.tool_modes()
        return modes

    def describe(self) -> str:
        return f"{self.backend.describe()}, steered"

    def close(self) -> None:
        self.backend.close()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        lines = [self._next(r) for r in requests]
        real = self.backend.generate([self._short(r) for r in requests])
        self.real += real
        return [self._said(line, r, done) for line, r, done in zip(lines, requests, real, strict=True)]

    def stream(self, request: Request) -> Iterator[Chunk]:
        """The line word by word; the real stream is open meanwhile, and closed with this one."""
        line = self._next(request)
        chunks: Any = self.backend.stream(self._short(request))
        try:
            read = [next(chunks)]  # the model has read the prompt
            stand_in = self._said(line, request, Completion(""))
            for piece in re.findall(r"\S+\s*|\s+", stand_in.text):
                yield Chunk(piece)
            read += chunks
            real = next(c.completion for c in read if c.completion is not None)
            self.real.append(real)
            yield Chunk("", replace(stand_in, usage=real.usage))
        finally:
            chunks.close()

    def _short(self, request: Request) -> Request:
        return replace(request, max_tokens=min(self._most, request.max_tokens))

    def _next(self, request: Request) -> Line:
        with self._lock:
            at = len(self.requests)
            self.requests.append(request)
        if callable(self._script):
            return self._script
        if at >= len(self._script):
            raise BadCompletionError(f"the script is used up after {len(self._script)} replies")
        return self._script[at]

    @staticmethod
    def _said(line: Line, request: Request, real: Completion) -> Completion:
        if isinstance(line, BackendError):
            raise line
        if isinstance(line, str):
            line = Completion(line)
        completion = line if isinstance(line, Completion) else line(request)
        return replace(completion, usage=real.usage)
