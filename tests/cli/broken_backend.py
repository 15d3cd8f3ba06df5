"""A backend for tests that is away when it is asked to break."""

from __future__ import annotations

from collections.abc import Sequence

from agentmem.errors import BackendUnavailableError
from agentmem.tokens import approximate_counter
from agentmem.types import Completion, Request, Usage


class BrokenBackend:
    name = "broken"
    native_tools = False
    context_window = None

    def __init__(self) -> None:
        self.counter = approximate_counter()

    def describe(self) -> str:
        return "broken: fails when it is told to, for tests."

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        if any("break" in r.query for r in requests):
            raise BackendUnavailableError("the server is away", hint="start it")
        return [Completion("Fine.", usage=Usage(self.counter.count_prompt(r.messages), 1)) for r in requests]

    def close(self) -> None:
        """Holds nothing."""
