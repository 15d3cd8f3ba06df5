"""A backend for tests that streams one word every tenth of a second and counts as the approximate counter does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from agentmem.tokens import approximate_counter
from agentmem.types import Chunk, Completion, Request, Usage

WORDS = 100


class SlowBackend:
    name = "slow"
    native_tools = False
    context_window = None

    def __init__(self) -> None:
        self.counter = approximate_counter()

    def describe(self) -> str:
        return "slow: says slowly word after word, for tests."

    def _completion(self, request: Request) -> Completion:
        text = " ".join(f"slowly{n}" for n in range(WORDS if "long" in request.query else 2))
        return Completion(text, usage=Usage(self.counter.count_prompt(request.messages), self.counter.count(text)))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self._completion(r) for r in requests]

    def stream(self, request: Request) -> Iterator[Chunk]:
        done = self._completion(request)
        for n, word in enumerate(done.text.split(" ")):
            time.sleep(0.1)
            yield Chunk(f" {word}" if n else word)
        yield Chunk("", done)

    def close(self) -> None:
        """Holds nothing."""
