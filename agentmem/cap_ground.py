"""What the rungs of a CAP report stand on: the same settings, backend, embedder and clocks, memories of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar

from agentmem.agent import Agent
from agentmem.cap_meter import MeteredMemory
from agentmem.protocols import ModelBackend
from agentmem.types import Draft

if TYPE_CHECKING:
    from agentmem.cap_data import Conversation
    from agentmem.cap_meter import MeteredBackend, Seconds
    from agentmem.protocols import Compressor, Embedder

T = TypeVar("T")
TIMED = 100
"""So many messages of a conversation, the last, are written one by one and timed; those before as a history is."""
TASK = (
    "Answer the newest message in a short phrase, in the words of memory where that is possible. If memory does not "
    "hold the answer, say: I don't know."
)
NOW = datetime(2000, 1, 1)
"""What the clock says where messages and questions have no time: two runs shall see the same."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same for all rungs. Tokens are the backend's; None for the window: the backend's own, else 4096."""

    window_tokens: int | None = None
    reserve_tokens: int | None = None
    top_k: int | None = None
    compressor: str = "extractive"
    tools: str = "off"
    seed: int = 0

    def memory(self) -> dict[str, int]:
        """The settings of a memory."""
        given = {"window_tokens": self.window_tokens, "reserve_tokens": self.reserve_tokens}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Tools:
    """What all rungs work with; their owner closes them. `clock` is what times are read from, in seconds."""

    backend: MeteredBackend
    embedder: Embedder | None
    compressor: Compressor | None
    settings: Settings
    clock: Seconds
    run_id: str = field(default_factory=lambda: token_hex(8))


@dataclass(slots=True)
class Ground:
    """What the rungs of one conversation stand on. The history is stored once for all baselines."""

    conversation: Conversation
    tools: Tools
    folder: Path
    closing: ExitStack = field(default_factory=ExitStack)
    _base: tuple[Agent, list[float]] | None = None

    @property
    def now(self) -> datetime:
        """When questions are asked that do not say when."""
        known = [m.at for m in self.conversation.messages if m.at is not None]
        return known[-1] if known else NOW

    def salt(self, rung: str) -> str | None:
        """What keeps a rung's prompts out of the others' prefix cache, where the backend is known to have one: no rung
        shall be quick because another asked the same before it. Anew in each run, for servers that go on."""
        backend = self.tools.backend
        if not isinstance(backend, ModelBackend) or backend.block_size is None:
            return None
        return f"{self.tools.run_id} {rung} {self.conversation.name}"[:256]

    def agent(self, name: str, *, embedder: Embedder | None = None, compressor: Compressor | None = None) -> Agent:
        """An agent on a memory of its own, empty but for the task."""
        given: dict[str, Any] = {**self.tools.settings.memory(), "clock": lambda: self.now}
        opened = MeteredMemory(
            self.folder / f"{name}.db", embedder=embedder or "none", compressor=compressor or "none", **given
        )
        memory = self.closing.enter_context(opened)
        memory.reset(self.tools.clock)
        settings = self.tools.settings
        agent = Agent(memory, self.tools.backend, tools=settings.tools, seed=settings.seed, cache_salt=self.salt(name))
        if agent.shape.model:
            memory.core.add("task", TASK)
        return agent

    def written(self, what: Sequence[T], write: Callable[[Sequence[T]], object]) -> list[float]:
        """Write all: what comes first at once, the last `TIMED` one by one; seconds of each of those."""
        if what[:-TIMED]:
            write(what[:-TIMED])
        took = []
        for one in what[-TIMED:]:
            started = self.tools.clock()
            write([one])
            took.append(self.tools.clock() - started)
        return took

    def base(self) -> tuple[Agent, list[float]]:
        """A memory that has the whole history in recall, and what each message took to store."""
        if self._base is None:
            agent = self.agent("base")
            memory = agent.memory

            def store(drafts: Sequence[Draft]) -> None:
                with memory.store.write():
                    memory.append(drafts)

            self._base = agent, self.written(self.conversation.messages, store)
        return self._base

    def close(self) -> None:
        """Close the memories."""
        self.closing.close()
