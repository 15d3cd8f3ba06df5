"""The conversations that the scripted model knows by heart, and the memory under which an agent asks for them.

An agent over `open_memory(...)` that is told a conversation's texts sends exactly the prompts of `dialogues()`: the
clock stands still, nothing is embedded, and the prompts were recorded from the same code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmem import Memory
    from agentmem.types import ChatMessage, ToolSpec

Dialogue = tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...], str]
"""(messages and tools in OpenAI's shape, what the model then says)."""

WINDOW = 8192
NOW = datetime(2023, 5, 8, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Turn:
    """What the user says, and the model's answers one after the other: calls until the last."""

    user: str
    says: tuple[str, ...]


def call(name: str, **arguments: Any) -> str:
    """A tool call as the model writes it."""
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


CONVERSATIONS: Mapping[str, tuple[Turn, ...]] = {
    "core": (
        Turn(
            "My name is Ana and I live in Porto.",
            (
                call("core_memory_append", label="human", content="Ana lives in Porto.", request_heartbeat=True),
                call("send_message", message="Nice to meet you, Ana."),
            ),
        ),
        Turn("Where do I live?", ("You live in Porto.",)),
    ),
    "archival": (
        Turn(
            "Keep this: the spare key is under the blue pot.",
            (
                call("archival_memory_insert", content="The spare key is under the blue pot.", request_heartbeat=True),
                "I have kept it.",
            ),
        ),
        Turn(
            "Where is the spare key?",
            (
                call("archival_memory_search", query="spare key", request_heartbeat=True),
                "It is under the blue pot [p1].",
            ),
        ),
    ),
    "recall": (
        Turn("My sister Lena sails on Sundays.", ("A fine way to spend a Sunday.",)),
        Turn(
            "When does my sister sail?",
            (
                call("conversation_search", query="sister sails", request_heartbeat=True),
                call("send_message", message="Lena sails on Sundays [m1]."),
            ),
        ),
    ),
    "plain": (Turn("Hello!", ("Hello. What shall we talk about?",)),),
}


def open_memory(path: str | Path = ":memory:", agent: str = "default") -> Memory:
    """The memory to drive an agent with."""
    from agentmem import Memory

    return Memory(path, agent, embedder="none", clock=lambda: NOW)


def dialogues() -> tuple[Dialogue, ...]:
    """Every prompt of the conversations, as an agent sends it, with the answer; copies, since servers change them."""
    return deepcopy(_dialogues())


@cache
def _dialogues() -> tuple[Dialogue, ...]:
    from agentmem import Agent
    from agentmem.testing import ScriptedBackend

    found: list[Dialogue] = []
    for turns in CONVERSATIONS.values():
        script = [line for turn in turns for line in turn.says]
        backend = ScriptedBackend(script, counter=_Counter(), context_window=WINDOW)
        with open_memory() as memory:
            agent = Agent(memory, backend)
            for turn in turns:
                agent.send(turn.user)
        for request, said in zip(backend.requests, script, strict=True):
            found.append(
                (tuple(m.to_dict() for m in request.messages), tuple(t.to_dict() for t in request.tools), said)
            )
    return tuple(found)


class _Counter:
    """Counts as the scripted model does, so that the prompts are fitted as they will be."""

    name, exact, additive = "the tiny tokenizer", True, False

    def __init__(self) -> None:
        from tests.models.tiny import make_tokenizer

        self._tokenizer = make_tokenizer()

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False)) if text else 0

    def count_message(self, message: ChatMessage) -> int:
        return self.count(message.content) + 6

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        from tests.models.tiny import prompt_ids

        return len(prompt_ids(self._tokenizer, [m.to_dict() for m in messages], [t.to_dict() for t in tools]))
