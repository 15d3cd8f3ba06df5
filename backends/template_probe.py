"""Whether a chat template renders each message apart from the others, found out by trying it.

A prompt is cut into units: the head (system message and tools, with the first user message where the template mixes
them), each user message, each assistant message, each run of tool results. A unit is rendered within a short fixed
conversation, whose own text is then taken off at both ends: its cost does not depend on the prompt that it is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from agentmem.errors import BadRequestError
from agentmem.types import ChatMessage, ToolCall, ToolSpec

_SYSTEM = ChatMessage("system", "You help.")
_ASKED = ChatMessage("user", "One?")
_SAID = ChatMessage("assistant", "Two.")
_NEXT = ChatMessage("user", "Three?")
_CALL = ToolCall("probe0001", "probe_tool", '{"query": "x", "page": 1}')
_OTHER = ToolCall("probe0002", "probe_tool", '{"query": "é\\n\\"東京\\""}')
_CALLED = ChatMessage("assistant", "", (_CALL,))
_FOUND = ChatMessage("tool", "found", tool_call_id=_CALL.id)
TOOL = ToolSpec(
    "probe_tool",
    "Looks something up.",
    {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
)


class Render(Protocol):
    """A chat template: the prompt's text, with the reply's opening or without."""

    def __call__(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = (), *, open_reply: bool = True
    ) -> str:
        """Raises BadRequestError where the template refuses the messages."""
        ...


class NotApartError(Exception):
    """A prompt, or any prompt of this template, can't be put together from messages rendered apart; says why."""


class Unit(NamedTuple):
    """Messages [first, end) of a prompt that are rendered as one; `kind` says of which sort."""

    kind: str
    first: int
    end: int


def opening_context(render: Render) -> tuple[ChatMessage, ...]:
    """The shortest conversation that the template takes: a user's message, after a system message where it knows any.

    Raises BadRequestError when it takes neither.
    """
    try:
        render((_SYSTEM, _ASKED))
        return (_SYSTEM, _ASKED)
    except BadRequestError:
        render((_ASKED,))
        return (_ASKED,)


def followers(message: ChatMessage) -> tuple[tuple[ChatMessage, ...], ...]:
    """What may follow an assistant message: the very next messages, and those with a turn more."""
    if not message.tool_calls:
        return ((_NEXT,), (_NEXT, _SAID, _NEXT))
    results = tuple(ChatMessage("tool", "found", tool_call_id=c.id) for c in message.tool_calls)
    return (results, (*results, _SAID, _NEXT))


def before(message: ChatMessage, base: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    """A conversation that a message of its role may follow."""
    if message.role == "tool":
        call = ToolCall(message.tool_call_id or _CALL.id, _CALL.name, _CALL.arguments)
        return (*base, ChatMessage("assistant", "", (call,)))
    return (*base, _SAID) if message.role == "user" else tuple(base)


class UnitTemplate:
    """A chat template as far as it renders messages apart. Raises NotApartError, with the reason, where it does not."""

    def __init__(self, render: Render) -> None:
        self._render = render
        try:
            self.base = opening_context(render)
            self._head_alone = {False: self._renders_alone(()), True: self._renders_alone((TOOL,))}
            self._measure()
        except BadRequestError as e:
            raise NotApartError(f"the template refuses a plain conversation ({e.message})") from e

    def _renders_alone(self, tools: Sequence[ToolSpec]) -> bool:
        """Whether the system message is a beginning of what a user's message is added to."""
        if len(self.base) == 1:
            return False
        try:
            alone = self._render(self.base[:1], tools, open_reply=False)
        except BadRequestError:
            return False
        both = self._render(self.base, tools, open_reply=False)
        other = self._render((_SYSTEM, _NEXT), tools, open_reply=False)
        return bool(alone) and both.startswith(alone) and other.startswith(alone)

    def _measure(self) -> None:
        """Read off the texts that stand around a unit in the conversations in which units are rendered."""
        render, base = self._render, self.base
        self._asked = render(base, open_reply=False)
        opened = render(base)
        longer = render((*base, _SAID, _NEXT), open_reply=False)
        if not (opened.startswith(self._asked) and longer.startswith(self._asked)):
            raise NotApartError("the template renders a user message otherwise once an answer follows")
        self.opening = opened[len(self._asked) :]
        if self._head_alone[False]:
            head = render(base[:1], open_reply=False)
            self._next = render((_SYSTEM, _NEXT), open_reply=False)[len(head) :]
            self._said = longer.removesuffix(self._next)
            if self._said != longer:
                return
            self._head_alone = dict.fromkeys((False, True), False)  # the first user message is another than later ones
        self._said = render((*base, _SAID), open_reply=False)
        if not longer.startswith(self._said):
            raise NotApartError("the template renders an assistant message otherwise once a user message follows")
        self._next = longer[len(self._said) :]

    def units(self, messages: Sequence[ChatMessage], tools: bool) -> list[Unit]:
        """Cut a prompt into units; the first is the head. Raises NotApartError for a prompt of another shape."""
        first = next((n for n, m in enumerate(messages) if m.role != "system"), len(messages))
        if first == 0 or not self._head_alone[tools]:
            if first == len(messages) or messages[first].role != "user":
                raise NotApartError(
                    "the template mixes the prompt's head with the first user message, and there is none"
                )
            first += 1
        units = [Unit("head", 0, first)]
        while first < len(messages):
            message, end = messages[first], first + 1
            kind: str = message.role
            if kind == "system":
                raise NotApartError("a system message stands among the others")
            if kind == "assistant" and message.tool_calls:
                kind = "calls"
            if kind == "tool":
                if units[-1].kind != "calls":
                    raise NotApartError("a tool's result follows no call")
                while end < len(messages) and messages[end].role == "tool":
                    end += 1
            units.append(Unit(kind, first, end))
            first = end
        if units[-1].kind in ("assistant", "calls"):
            raise NotApartError("the prompt ends in an assistant message")
        return units

    def head(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> str:
        """The text of a prompt's head."""
        return self._render(messages, tools, open_reply=False)

    def text(self, unit: Sequence[ChatMessage], called: ChatMessage | None = None) -> str:
        """The text of any other unit; a run of tool results needs the message that `called` them."""
        try:
            return self._text(unit, called)
        except NotApartError:
            # A template that prints the time says something else around the unit by now.
            self._measure()
            return self._text(unit, called)

    def _text(self, unit: Sequence[ChatMessage], called: ChatMessage | None) -> str:
        role, base = unit[0].role, self.base
        if role == "user":
            return _between(self._render((*base, _SAID, *unit), open_reply=False), self._said, "")
        if role == "tool":
            assert called is not None, "a tool's result follows the message that called"
            start = self._asked + self._text((called,), None)
            return _between(self._render((*base, called, *unit), open_reply=False), start, "")
        try:
            return _between(self._render((*base, *unit, _NEXT), open_reply=False), self._asked, self._next)
        except BadRequestError:
            if not unit[0].tool_calls:
                raise
            return _between(self._render((*base, *unit), open_reply=False), self._asked, "")


def _between(text: str, start: str, end: str) -> str:
    if not (text.startswith(start) and text.endswith(end) and len(text) >= len(start) + len(end)):
        raise NotApartError("the template renders the messages around one otherwise because of it")
    return text[len(start) : len(text) - len(end)]


def adjacent(units: Sequence[Unit]) -> Iterator[tuple[str, str]]:
    """Which kinds of units follow each other."""
    return ((a.kind, b.kind) for a, b in pairwise(units))


def dialogues() -> Iterator[tuple[str, tuple[ChatMessage, ...]]]:
    """Conversations to try a template on, each with what it is of."""
    system, asked, said, called, found = _SYSTEM, _ASKED, _SAID, _CALLED, _FOUND
    two = ChatMessage("assistant", "", (_CALL, _OTHER))
    also = ChatMessage("tool", "{}", tool_call_id=_OTHER.id)
    odd = ChatMessage("user", "\n  é東京🙂 e\u0301\n\n")
    blank = ChatMessage("user", ""), ChatMessage("assistant", "")
    yield "a question", (system, asked)
    yield "an answer", (system, asked, said, _NEXT)
    yield "no system message", (asked, said, _NEXT)
    yield "a longer conversation", (system, *(asked, said) * 6, _NEXT)
    yield "white space and other scripts", (system, odd, ChatMessage("assistant", " \n {x}\t</s>é\n "), odd)
    yield "empty messages", (system, *blank, *blank, asked)
    yield "a tool's result", (system, asked, called, found)
    yield "a call before an answer", (system, asked, called, found, said, _NEXT)
    yield "a call with text", (system, asked, ChatMessage("assistant", "Let me see.\n", (_CALL,)), found, said, _NEXT)
    yield "two calls", (system, asked, two, found, also, said, _NEXT, two, found, also)
    yield "calls in a row", (system, asked, called, found, two, found, also, said, _NEXT)
    yield "an unanswered result", (system, asked, called, found, _NEXT)
    yield "an unanswered call", (system, asked, called, _NEXT)


def thoughts() -> Iterator[tuple[str, tuple[ChatMessage, ...]]]:
    """Conversations with thinking in them, which many templates take out of what lies behind."""
    thought = ChatMessage("assistant", "<think>\nHm.\n</think>\n\nTwo.")
    called = ChatMessage("assistant", "<think>\nHm.\n</think>\n\n", (_CALL,))
    yield "thinking", (_SYSTEM, _ASKED, thought, _NEXT)
    yield "thinking before a call", (_SYSTEM, _ASKED, called, _FOUND)
    yield "thinking before a past call", (_SYSTEM, _ASKED, called, _FOUND, thought, _NEXT)
