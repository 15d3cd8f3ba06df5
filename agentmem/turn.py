"""A turn in progress: what it was asked, what it has said and cost so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentmem.citing import cited
from agentmem.encoding import PrefixReport
from agentmem.types import EMPTY_PAGE, Answer, Draft, Event, Ledger, Message, Page, Reply, ToolCall, Usage

if TYPE_CHECKING:
    from agentmem.memory import Memory


@dataclass(slots=True)
class Turn:
    """`messages` are the user's first and then what the turn brought; `store` is False for a question on the side."""

    user: Message
    asked_at: datetime
    store: bool
    messages: list[Message]
    steps: int = 0
    empty: int = 0
    flushed: bool = False
    warned: bool = False
    page: Page | None = None
    ledger: Ledger | None = None
    usage: Usage = field(default_factory=Usage)
    prefixes: list[PrefixReport] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    answer: Answer | None = None
    failure: tuple[str, str, str] | None = None
    events: list[Event] = field(default_factory=list)
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Events of the step that wait for its transaction."""

    def log(self, memory: Memory) -> None:
        """Write the waiting events; a question on the side has none."""
        with memory.store.write():
            for kind, payload in self.notes if self.store else ():
                memory.log(kind, payload)
        self.notes = []

    def keep_unstored(self, output: Draft, results: Sequence[tuple[ToolCall, str]]) -> None:
        """Note a step of a question on the side: it stands in this turn's prompts only."""
        number, at = self.messages[-1].id + 1, self.asked_at
        self.messages.append(Message(number, "assistant", output.content, at, at, tool_calls=output.tool_calls))
        for n, (call, text) in enumerate(results, 1):
            self.messages.append(Message(number + n, "tool", text, at, at, tool_call_id=call.id))

    def reply(self) -> Reply:
        """What the turn gave."""
        text, page, answer = "\n".join(self.said), self.page or EMPTY_PAGE, self.answer
        assert self.ledger is not None
        return Reply(
            text=text,
            usage=self.usage,
            ledger=self.ledger,
            steps=self.steps,
            answer=answer.span if answer is not None else "",
            citations=answer.citations if answer is not None else cited(text, page),
            abstained=answer.abstained if answer is not None else False,
            confidence=answer.confidence if answer is not None else None,
            page=page,
            events=tuple(self.events),
            prefixes=tuple(self.prefixes),
        )
