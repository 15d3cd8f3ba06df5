"""The queue: the newest messages as they stand in the prompt, in order, tool calls beside their results."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from agentmem import actions
from agentmem.encoding import ToolMode
from agentmem.eviction import QueueEntry
from agentmem.parsing import defused
from agentmem.tokens import cut_text
from agentmem.types import ChatMessage, Message, Role, ToolCall

if TYPE_CHECKING:
    from agentmem.protocols import TokenCounter

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
Cut = tuple[int, int]
"""Characters kept of a shortened message: from its start, and from its end."""


def shorten(message: Message, max_tokens: int, counter: TokenCounter) -> Cut | None:
    """How to shorten a message's text to some `max_tokens`, marker included; None when it fits as it is."""
    content = message.content
    # A token has at least one byte; most texts are settled without counting them.
    if len(content.encode("utf-8", "replace")) <= max_tokens or counter.count(content) <= max_tokens:
        return None
    room = max(1, max_tokens - counter.count(_marker(message, len(content))))
    head = cut_text(content, room * 2 // 3, counter)
    rest = content[head:]
    tail = 0
    budget = room - counter.count(content[:head])
    # The end of the text: the longest word-aligned suffix within what is left.
    low, high = 0, min(len(rest), 20 * max(budget, 0))
    while low < high:
        middle = (low + high + 1) // 2
        if counter.count(rest[len(rest) - middle :]) <= budget:
            low = middle
        else:
            high = middle - 1
    tail = low
    if 0 < tail < len(rest):
        space = rest.find(" ", len(rest) - tail)
        tail = len(rest) - space - 1 if space >= 0 else tail
    return head, tail


def _marker(message: Message, omitted: int) -> str:
    return f"[... {omitted} characters left out; whole in recall as {message.key or message.ref} ...]"


def content_of(message: Message, cut: Cut | None) -> str:
    """The text of a message in the queue: its speaker's name before it, and the cut marked."""
    content = message.content
    if cut is not None:
        head, tail = cut
        omitted = len(content) - head - tail
        content = "\n".join(
            part for part in (content[:head], _marker(message, omitted), content[len(content) - tail :]) if part
        )
    if message.role == "system":
        return f"[memory] {content}"
    if message.role == "tool" and message.tool_call_id is None:
        return f"[tool] {content}"
    return f"{message.name}: {content}" if message.name and message.role == "user" else content


def too_long_calls(message: Message, max_tokens: int, counter: TokenCounter) -> bool:
    """Whether the arguments of the message's tool calls are to be left out: JSON is kept whole, or not at all."""
    return any(len(c.arguments) > max_tokens and counter.count(c.arguments) > max_tokens for c in message.tool_calls)


def calls_of(message: Message, without_arguments: bool) -> tuple[ToolCall, ...]:
    """The tool calls of a message as they stand in the prompt; a malformed one in a form that servers take."""
    if not without_arguments:
        return tuple(c if _is_sound(c) else _wrapped(c) for c in message.tool_calls)
    note = f"left out; whole in recall as {message.ref}"
    return tuple(
        replace(c, arguments=json.dumps({"note": f"{len(c.arguments)} characters {note}"})) for c in message.tool_calls
    )


@lru_cache(maxsize=4096)
def _is_sound(call: ToolCall) -> bool:
    return _holds_object(call.arguments) and _TOOL_NAME.fullmatch(call.name) is not None


def _holds_object(arguments: str) -> bool:
    try:
        value = json.loads(arguments)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # an escaped half of a surrogate pair is no text
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict)


def _wrapped(call: ToolCall) -> ToolCall:
    name = re.sub(r"[^A-Za-z0-9_-]", "_", call.name)[:64] or "unknown"
    if _holds_object(call.arguments):
        return replace(call, name=name)
    return replace(call, name=name, arguments=json.dumps({"malformed": call.arguments}, ensure_ascii=False))


def chat_message(
    message: Message, cut: Cut | None, without_arguments: bool = False, mode: ToolMode = "native"
) -> ChatMessage:
    """A stored message as one of a prompt. Notes of the memory itself speak in the user's place, never the system's.

    A model that is not given tools natively sees calls as the JSON that it would write, and results as notes.
    """
    calls = calls_of(message, without_arguments)
    content, role = content_of(message, cut), _role(message)
    if mode in ("json", "off"):
        if calls:
            return ChatMessage(role, defused(actions.written(content, calls)))
        if role == "tool":
            return ChatMessage("user", defused(f"[result] {content}"))
    return ChatMessage(role, defused(content), calls, message.tool_call_id)


def entry_of(message: Message, num_tokens: int) -> QueueEntry:
    """A message as the eviction plan sees it."""
    calls = frozenset(c.id for c in message.tool_calls)
    return QueueEntry(message.id, _role(message), num_tokens, calls, message.tool_call_id)


def _role(message: Message) -> Role:
    # An imported result that names no call answers none: models refuse a prompt with one.
    return (
        "user"
        if message.role == "system" or (message.role == "tool" and message.tool_call_id is None)
        else message.role
    )
