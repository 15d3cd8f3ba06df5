"""Four ways to lay the same recorded prompts out. Each gives a step's messages; only the last keeps a state."""

from __future__ import annotations

from agentmem import prompts
from agentmem.protocols import TokenCounter
from agentmem.types import ChatMessage
from benchmarks.prefix_conversation import Step, text_of


class Tail:
    """agentmem: what was paged in and the clock stand with the newest message, and leave the prompt with the turn."""

    name = "agentmem"

    def messages(self, step: Step) -> tuple[ChatMessage, ...]:
        return step.request.messages

    def opens_epoch(self, step: Step, before: Step | None) -> bool:
        return before is None or before.epoch != step.epoch


class MemGPT(Tail):
    """(a) The classic MemGPT layout: the system prompt is rebuilt at each edit of core memory and says when that was;
    what was recalled, and the clock, stand on top."""

    name = "memgpt"

    def messages(self, step: Step) -> tuple[ChatMessage, ...]:
        head = dict(step.head)
        core = prompts.core_text(step.live)
        edits = sum(b.version for b in step.live)
        memory = f"### Memory [edit {edits}; {len(step.queue)} messages shown]\n{core}"
        system = text_of([head["system"], memory, head.get("summary", ""), step.page, step.clock])
        return (ChatMessage("system", system), *_rest(step, [*step.notes, step.said]))


class InSystem(Tail):
    """(b) Recalled memories in the system prompt, as most libraries put them; core memory as of the epoch."""

    name = "in system"

    def messages(self, step: Step) -> tuple[ChatMessage, ...]:
        system = text_of([*(t for _, t in step.head), step.page])
        return (ChatMessage("system", system), *_rest(step, [step.clock, *step.notes, step.said]))


class Kept(Tail):
    """(c) agentmem's layout, but what was paged in stays in the queue with its message until the next flush. The queue
    is full sooner, so it has epochs of its own: at `flush` tokens the oldest turns go, down to `target`."""

    name = "page-ins kept"

    def __init__(self, counter: TokenCounter, max_tokens: int) -> None:
        self.counter = counter
        self.most, self.flush, self.target = max_tokens, int(max_tokens * 0.9), int(max_tokens * 0.5)
        self.head: tuple[ChatMessage, ...] = ()
        self.turns: list[list[ChatMessage]] = []
        self.turn = -1
        self.began = True

    def messages(self, step: Step) -> tuple[ChatMessage, ...]:
        current = list(_after(step, text_of([step.page, step.clock, *step.notes, step.said])))
        if step.turn != self.turn:
            if not self.head:
                self.turns = [[w.message()] for w in step.queue]
            self.turn = step.turn
            self.turns.append(current)
            full = self.flush
        else:
            self.turns[-1] = current
            full = self.most
        self.began = not self.head or self._cost(step) > full
        if self.began:
            self.head = (ChatMessage("system", text_of([t for _, t in step.head])),)
            while len(self.turns) > 1 and self._cost(step) > self.target:
                self.turns.pop(0)
        found = (*self.head, *(m for turn in self.turns for m in turn))
        if step.reply:
            self.turns[-1] = [*current, ChatMessage("assistant", step.reply)]
        return found

    def opens_epoch(self, step: Step, before: Step | None) -> bool:
        return self.began

    def _cost(self, step: Step) -> int:
        messages = [*self.head, *(m for turn in self.turns for m in turn)]
        return self.counter.count_prompt(messages, step.request.tools)


def _after(step: Step, asked: str) -> tuple[ChatMessage, ...]:
    return (ChatMessage("user", asked), *(w.message() for w in step.after))


def _rest(step: Step, asked: list[str]) -> tuple[ChatMessage, ...]:
    return (*(w.message() for w in step.queue), *_after(step, text_of(asked)))
