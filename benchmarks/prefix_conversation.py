"""The conversation of the prefix benchmark: 200 turns with tool calls, edits of core memory and page-ins, recorded.

agentmem's own agent holds it, over a scripted model whose tokens are counted with the benchmark's tokenizer; what each
prompt is made of is kept, so that the same can be laid out in other ways. Nothing here runs a model.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agentmem import Agent, Memory
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.context import Written
from agentmem.encoding import ToolMode
from agentmem.planning import Fitted
from agentmem.protocols import TokenCounter
from agentmem.scripted import ScriptedBackend, tool_call
from agentmem.types import Block, Completion, Request

START = datetime(2023, 5, 8, 9, 0, tzinfo=UTC)
SMALL = 4096
NAMES = ("Anna", "Tom", "Maria", "Ben", "Chloe", "David", "Eva", "Frank")
PLACES = ("Lisbon", "the harbour", "the old mill", "Zurich", "the library", "the market", "the north pass")
THINGS = ("a bicycle", "the violin", "two tickets", "a parrot", "the keys", "a letter", "the red lamp", "some tea")
DEEDS = ("found", "sold", "lost", "repaired", "borrowed", "promised", "painted", "photographed")


@dataclass(frozen=True, slots=True)
class Step:
    """One request: what stands in it, in parts; `live` are the core blocks as they are now, `turn` counts from 0."""

    turn: int
    step: int
    epoch: int
    head: tuple[tuple[str, str], ...]
    queue: tuple[Written, ...]
    page: str
    clock: str
    notes: tuple[str, ...]
    said: str
    after: tuple[Written, ...]
    live: tuple[Block, ...]
    request: Request
    reply: str


def fact(rng: random.Random) -> str:
    """A sentence that may be asked about."""
    who, what, did, where = (rng.choice(x) for x in (NAMES, THINGS, DEEDS, PLACES))
    return f"{who} {did} {what} near {where} on {rng.randint(1, 28)} {rng.choice(('May', 'June', 'July'))}."


def history(count: int, seed: int) -> Iterator[dict[str, str]]:
    """Older messages, for the page-ins to come from."""
    rng = random.Random(seed)
    for n in range(count):
        at = (START - timedelta(hours=count - n)).isoformat()
        said = " ".join(fact(rng) for _ in range(rng.randint(1, 3)))
        yield {"id": f"h{n}", "role": ("user", "assistant")[n % 2], "content": said, "at": at, "session": str(n // 20)}


class _Recorded(Memory):
    """A memory that keeps what was fitted into each prompt."""

    fitted: Fitted | None = None

    def fit(self, *args: Any, **kwargs: Any) -> Fitted:
        self.fitted = super().fit(*args, **kwargs)
        return self.fitted


class _Player(ScriptedBackend):
    """Answers a turn's requests by its plan: calls first, then a reply."""

    def __init__(self, memory: _Recorded, counter: TokenCounter, window: int, seed: int) -> None:
        super().__init__([], counter=counter, context_window=window)
        self.memory = memory
        self.rng = random.Random(seed)
        self.turn = -1
        self.step = 0
        self.plan: list[Completion] = []
        self.steps: list[Step] = []

    block_size = None

    def tool_modes(self) -> tuple[ToolMode, ...]:
        return ("native", "json", "off")

    def begin(self, turn: int) -> None:
        self.turn, self.step = turn, 0
        plan: list[Completion] = []
        if turn % 10 == 3:
            plan.append(tool_call("core_memory_append", label="human", content=f"Turn {turn}: {fact(self.rng)}",
                                  request_heartbeat=True))  # fmt: skip
        if turn % 7 == 5:
            plan.append(tool_call("conversation_search", query=f"{self.rng.choice(NAMES)} {self.rng.choice(THINGS)}",
                                  request_heartbeat=True))  # fmt: skip
        plan.append(Completion(" ".join(fact(self.rng) for _ in range(self.rng.randint(1, 4)))))
        self.plan = plan

    def _play(self, request: Request) -> Completion:
        if "Output the summary alone" in request.messages[-1].content:
            return Completion(f"Until turn {self.turn} they spoke of " + " ".join(fact(self.rng) for _ in range(6)))
        said = self.plan[self.step]
        fitted = self.memory.fitted
        assert fitted is not None
        self.steps.append(_step(self.turn, self.step, fitted, request, said))
        self.step += 1
        return said


def _step(turn: int, step: int, fitted: Fitted, request: Request, said: Completion) -> Step:
    written = fitted.written
    tail = next(n for n, w in enumerate(written) if any(s == "tail" for s, _ in w.segments))
    texts = [t for s, t in written[tail].segments if s == "tail"]
    page = next((t for t in texts if t.startswith("<memory>")), "")
    clock = next((t for t in texts if t.startswith("Now: ")), "")
    rest = [t for t in texts if t not in (page, clock)]
    return Step(
        turn, step, fitted.plan.epoch, written[0].segments, written[1:tail], page, clock, tuple(rest[:-1]), rest[-1],
        written[tail + 1 :], request.blocks, request, said.text,
    )  # fmt: skip


def record(counter: TokenCounter, *, window: int, tail: int, turns: int, seed: int) -> list[Step]:
    """The requests of a conversation in a window, with page-ins of at most `tail` tokens, after a history that is
    longer than the window. The schemas of six tools fill a small window: in one, tools are JSON actions."""
    now = START

    def clock() -> datetime:
        return now

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.db"
        settings: dict[str, Any] = {"page_in_max_tokens": tail, "reserve_tokens": min(256, window // 8)}
        with _Recorded(path, "a", embedder=HashingEmbedder(), clock=clock, window_tokens=window, **settings) as memory:
            memory.ingest(history(max(400, window // 16), seed))
            player = _Player(memory, counter, window, seed)
            agent = Agent(memory, player, tools="native" if window >= SMALL else "json")
            rng = random.Random(seed + 1)
            for turn in range(turns):
                now += timedelta(minutes=rng.randint(1, 90))
                player.begin(turn)
                asked = f"What did {rng.choice(NAMES)} do with {rng.choice(THINGS)}? By the way: {fact(rng)}"
                agent.send(f"{asked} {fact(rng)}")
    return player.steps


def text_of(parts: Sequence[str]) -> str:
    """Parts of a message, a line each."""
    return "\n".join(p for p in parts if p)
