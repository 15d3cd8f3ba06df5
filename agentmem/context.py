"""Main context: a plan of what stands in the prompt, and the one function that writes it out.

Layout (frozen | append-only | volatile), so that a server's prefix cache keeps its hits:

    [system, tools | core blocks | summary | compressed history]   as of the epoch
    [queue]                                   in order
    [tail: what was paged in, the clock, notes, the newest user text], then this turn's calls and results

`render` is pure: the same plan over the same records gives the same bytes. Consecutive user messages are merged,
with their names, because many chat templates demand alternation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from agentmem import prompts
from agentmem.encoding import ToolMode
from agentmem.history import history_text
from agentmem.paging import page_text
from agentmem.parsing import defused
from agentmem.queue import Cut, chat_message
from agentmem.types import ChatMessage, Earlier, Epoch, Message, Page, PageItem, Role, ToolCall


@dataclass(frozen=True, slots=True)
class PromptPlan:
    """What stands in a prompt, by reference: enough, with the records, to write it again byte for byte.

    Queue messages `first` to `last`; then the tail for the stored user message `turn[0]` (none: for the literal
    `query`), then the other messages of the `turn`. `cuts` are (id, head, tail) characters kept,
    `bare_calls` messages whose tool calls stand without their arguments (too long for the prompt); `pieces` are
    what was paged in, each as `PageItem.piece` has it; `earlier` is how many of the newest lines of the compressed
    history stand.
    """

    epoch: int
    first: int
    last: int
    turn: tuple[int, ...] = ()
    query: str = ""
    cuts: tuple[tuple[int, int, int], ...] = ()
    bare_calls: tuple[int, ...] = ()
    pieces: tuple[tuple[str | int, ...], ...] = ()
    summary: bool = True
    earlier: int = 0
    clock: str = ""
    pressure: bool = False
    last_step: bool = False
    mode: ToolMode = "none"
    template: int = prompts.TEMPLATE

    def to_payload(self) -> dict[str, Any]:
        """JSON for the event log."""
        return asdict(self)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> PromptPlan:
        """The inverse of `to_payload`."""
        values = dict(payload)
        if "native_tools" in values:  # until template 1
            values["mode"] = "native" if values.pop("native_tools") else "none"
        for name in ("cuts", "pieces"):
            values[name] = tuple(tuple(v) for v in values[name])
        values["turn"], values["bare_calls"] = tuple(values["turn"]), tuple(values["bare_calls"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Written:
    """A message of the prompt in pieces, each of a section; the pieces are joined by line ends."""

    role: Role
    segments: tuple[tuple[str, str], ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    def message(self) -> ChatMessage:
        """The message as it is sent."""
        text = "\n".join(text for _, text in self.segments)
        return ChatMessage(self.role, text, self.tool_calls, self.tool_call_id)


def render(
    plan: PromptPlan, epoch: Epoch, messages: Mapping[int, Message], items: Sequence[PageItem]
) -> tuple[Written, ...]:
    """Write a plan out. `messages` holds those that it names, `items` the page-ins in the order of the page.

    Raises KeyError for a message that is not there.
    """
    cuts: dict[int, Cut] = {i: (head, tail) for i, head, tail in plan.cuts}
    head = [("system", prompts.system_text(plan.mode))]
    if epoch.blocks:
        head.append(("core", defused(prompts.core_text(epoch.blocks))))
    if plan.summary and epoch.summary:
        head.append(("summary", prompts.summary_text(defused(epoch.summary))))
    if plan.earlier:
        head.append(("compressed", prompts.earlier_text(defused(history_text(epoch.compressed[-plan.earlier :])))))
    written = [Written("system", tuple(head))]
    for i in range(plan.first, plan.last + 1):
        if i in messages:
            _add(written, chat_message(messages[i], cuts.get(i), i in plan.bare_calls, plan.mode), "queue")
    tail: list[tuple[str, str]] = []
    if items:
        tail.append(("tail", prompts.memory_text(defused(page_text(items)))))
    if plan.clock:
        tail.append(("tail", f"Now: {plan.clock}"))
    if plan.pressure:
        tail.append(("tail", prompts.PRESSURE_NOTE))
    asked = plan.query
    if plan.turn:
        asked = chat_message(messages[plan.turn[0]], cuts.get(plan.turn[0])).content
    if asked:
        tail.append(("tail", asked))
    if tail:
        _merge(written, Written("user", tuple(tail)))
    for i in plan.turn[1:]:
        _add(written, chat_message(messages[i], cuts.get(i), i in plan.bare_calls, plan.mode), "queue")
    if plan.last_step:
        _merge(written, Written("user", (("tail", prompts.LAST_STEP_NOTE),)))
    return tuple(written)


def _add(written: list[Written], message: ChatMessage, section: str) -> None:
    _merge(
        written,
        Written(message.role, ((section, message.content),), message.tool_calls, message.tool_call_id),
    )


def _merge(written: list[Written], new: Written) -> None:
    last = written[-1]
    plain = not (last.tool_calls or new.tool_calls or last.tool_call_id or new.tool_call_id)
    if plain and last.role == new.role and new.role in ("user", "assistant"):
        written[-1] = replace(last, segments=last.segments + new.segments)
    else:
        written.append(new)


def fingerprint(written: Sequence[Written]) -> str:
    """SHA-256 of the prompt's bytes."""
    text = json.dumps([w.message().to_dict() for w in written], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def shown_keys(
    plan: PromptPlan, messages: Mapping[int, Message], page: Page, earlier: Sequence[Earlier] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(keys of messages that stand whole in the prompt, keys of those of which a part does)."""
    cut = {i for i, _, _ in plan.cuts}
    shown = [i for i in (*range(plan.first, plan.last + 1), *plan.turn) if i in messages]
    whole = [messages[i].key for i in shown if i not in cut]
    partly = [messages[i].key for i in shown if i in cut]
    lines = earlier[len(earlier) - plan.earlier :]
    whole += [e.key for e in lines if e.whole]
    partly += [e.key for e in lines if not e.whole]
    keys = tuple(dict.fromkeys(k for k in (*whole, *page.keys) if k is not None))
    shortened = tuple(dict.fromkeys(k for k in (*partly, *page.shortened) if k is not None and k not in keys))
    return keys, shortened
