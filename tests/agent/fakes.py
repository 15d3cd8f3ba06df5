"""Backends for tests of turns that run at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from agentmem.testing import ScriptedBackend
from agentmem.types import Chunk, Completion, Request, Usage

WAIT_S = 20


class Gated:
    """Answers `you said: ...` to what the user said, word by word; a request goes no further than `allow` let it.

    `begun` holds what was asked, in the order of the calls; `most` is how many ran at once; `closed` counts streams
    that were left before their end, `closes` calls of `close`.
    """

    name = "gated"
    native_tools = True
    context_window = 8192

    def __init__(
        self, *, is_open: bool = True, fail: Callable[[str], BaseException | None] = lambda said: None
    ) -> None:
        self.counter = ScriptedBackend(()).counter
        self.begun: list[str] = []
        self.running = self.most = self.closed = self.closes = 0
        self._changed = threading.Condition()
        self._allowed: dict[str, int] = {}
        self._open = is_open
        self._fail = fail

    def allow(self, said: str | None = None, words: int = 1_000) -> None:
        """Let the request about a text write some more words; without a text every one all."""
        with self._changed:
            if said is None:
                self._open = True
            else:
                self._allowed[said] = self._allowed.get(said, 0) + words
            self._changed.notify_all()

    def wait(self, true: Callable[[], bool]) -> None:
        """Until something is so."""
        with self._changed:
            assert self._changed.wait_for(true, WAIT_S), (self.begun, self.running)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        found = []
        for request in requests:
            *_, last = self.stream(request)
            assert last.completion is not None
            found.append(last.completion)
        return found

    def stream(self, request: Request) -> Iterator[Chunk]:
        said = self._said(request)
        with self._changed:
            self.begun.append(said)
            self.running += 1
            self.most = max(self.most, self.running)
            self._changed.notify_all()
        ended = False
        try:
            words = f"you said: {said}".split(" ")
            for n, word in enumerate(words):
                with self._changed:
                    assert self._changed.wait_for(lambda: self._may(said), WAIT_S), f"{said} was never allowed"
                    if not self._open:
                        self._allowed[said] -= 1
                if (error := self._fail(said)) is not None:
                    raise error
                yield Chunk(word + " " * (n + 1 < len(words)))
            ended = True
            yield Chunk("", Completion(" ".join(words), usage=Usage(7, len(words))))
        finally:
            with self._changed:
                self.running -= 1
                self.closed += not ended
                self._changed.notify_all()

    def describe(self) -> str:
        return "gated"

    def close(self) -> None:
        self.closes += 1

    def _may(self, said: str) -> bool:
        return self._open or self._allowed.get(said, 0) > 0

    @staticmethod
    def _said(request: Request) -> str:
        return request.query
