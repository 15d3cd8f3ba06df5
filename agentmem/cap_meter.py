"""What a turn cost: a backend and a memory that note, beside doing their work, how long each part of it took."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentmem.memory import Memory
from agentmem.protocols import Backend, ModelBackend, StreamingBackend
from agentmem.types import Chunk, Completion, Page, Request

if TYPE_CHECKING:
    from agentmem.encoding import ToolMode
    from agentmem.planning import Fitted
    from agentmem.protocols import TokenCounter

Seconds = Callable[[], float]
"""A clock of which only differences matter, in seconds."""


@dataclass(slots=True)
class Call:
    """One call of the model: when it was made, when the first text came (None: not streamed), when it was done."""

    started: float
    first: float | None = None
    ended: float = 0.0
    tokens: int = 0


class MeteredBackend:
    """Another backend, with its `calls` since they were last cleared. Closing it is the owner's."""

    def __init__(self, inner: Backend, clock: Seconds) -> None:
        self.inner = inner
        self.name = inner.name
        self.calls: list[Call] = []
        self._clock = clock

    @property
    def native_tools(self) -> bool:
        """The other's."""
        return self.inner.native_tools

    @property
    def context_window(self) -> int | None:
        """The other's."""
        return self.inner.context_window

    @property
    def counter(self) -> TokenCounter:
        """The other's: tokens are as the model's own."""
        return self.inner.counter

    def describe(self) -> str:
        """The other's."""
        return self.inner.describe()

    def close(self) -> None:
        """Nothing of its own is held."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """The other's answers."""
        call = self._begin()
        found = self.inner.generate(requests)
        call.tokens = sum(c.usage.completion_tokens for c in found)
        call.ended = self._clock()
        return found

    def stream(self, request: Request) -> Iterator[Chunk]:
        """The other's chunks; its whole answer as one where it does not stream."""
        if not isinstance(self.inner, StreamingBackend):
            completion = self.generate([request])[0]
            yield Chunk(completion.text, completion)
            return
        call = self._begin()
        chunks = self.inner.stream(request)
        try:
            for chunk in chunks:
                if chunk.text and call.first is None:
                    call.first = self._clock()
                if chunk.completion is not None:
                    call.tokens = chunk.completion.usage.completion_tokens
                    call.ended = self._clock()
                yield chunk
        finally:
            # Leaving early frees the request now, as it would without a meter.
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def _begin(self) -> Call:
        self.calls.append(Call(self._clock()))
        return self.calls[-1]


class MeteredModel(MeteredBackend):
    """A `MeteredBackend` over a language model that says what it can do."""

    inner: Any

    def tool_modes(self) -> tuple[ToolMode, ...]:
        """The other's."""
        modes: tuple[ToolMode, ...] = self.inner.tool_modes()
        return modes

    @property
    def block_size(self) -> int | None:
        """The other's."""
        size: int | None = self.inner.block_size
        return size


def metered(backend: Backend, clock: Seconds) -> MeteredBackend:
    """A backend with a meter; it can do what the backend can."""
    return MeteredModel(backend, clock) if isinstance(backend, ModelBackend) else MeteredBackend(backend, clock)


class MeteredMemory(Memory):
    """A memory that keeps what it fitted into prompts (`fitted`) and how long its page-ins took (`page_s`, seconds)
    since `reset`."""

    seconds: Seconds
    fitted: list[Fitted]
    page_s: float

    def reset(self, seconds: Seconds) -> None:
        """Forget what was noted, and go on with this clock."""
        self.seconds, self.fitted, self.page_s = seconds, [], 0.0

    def page(self, *args: Any, **kwargs: Any) -> Page:
        """As `Memory.page`."""
        started = self.seconds()
        found = super().page(*args, **kwargs)
        self.page_s += self.seconds() - started
        return found

    def fit(self, *args: Any, **kwargs: Any) -> Fitted:
        """As `Memory.fit`."""
        found = super().fit(*args, **kwargs)
        self.fitted.append(found)
        return found
