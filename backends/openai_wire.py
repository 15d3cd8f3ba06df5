"""What is sent to an OpenAI-compatible server's /chat/completions, and what is read from its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from agentmem.backends.http_replies import Reply
from agentmem.errors import ConfigError
from agentmem.types import Request, ToolCall, ToolSpec, Usage

T = TypeVar("T")
ToolDict = Callable[[ToolSpec], dict[str, Any]]

# How a JSON schema is asked for: vLLM's own name since 0.12 first, then the standard one, then vLLM's until 0.11. A
# server may ignore a name that it does not know without a word, so that only trying tells (see `server_features`).
SCHEMA_FORMS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "structured_outputs": lambda schema: {"structured_outputs": {"json": dict(schema)}},
    "response_format": lambda schema: {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(schema), "strict": True},
        }
    },
    "guided_json": lambda schema: {"guided_json": dict(schema)},
}


class StrictTool(ToolSpec):
    """A tool that asks for calls that keep to its schema. Templates that write tools as JSON write the mark too, so it
    is part of the prompt: of all requests to a server, or of none."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """With `strict` beside the schema."""
        plain = ToolSpec.to_dict(self)
        return {**plain, "function": {**plain["function"], "strict": True}}


def strict(tool: ToolSpec) -> StrictTool:
    """The tool with the mark."""
    return StrictTool(tool.name, tool.description, tool.parameters)


def chat_body(request: Request, model: str, tool: Callable[[ToolSpec], ToolSpec]) -> dict[str, Any]:
    """A request's body but for its schema and the options of single servers. Raises ConfigError."""
    if not request.messages:
        raise ConfigError("messages", request.messages, "a request needs at least one message")
    if request.max_tokens < 1:
        raise ConfigError("max_tokens", request.max_tokens, "must be 1 or more")
    names = [t.name for t in request.tools]
    if request.only_tool is not None and request.only_tool not in names:
        raise ConfigError("only_tool", request.only_tool, f"is none of the request's tools: {', '.join(names)}")
    body: dict[str, Any] = {
        "model": model,
        "messages": [m.to_dict() for m in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.seed is not None:
        body["seed"] = request.seed
    if request.cache_salt is not None:
        body["cache_salt"] = request.cache_salt
    if request.tools:
        only = request.only_tool
        body["tools"] = [tool(t).to_dict() for t in request.tools]
        body["tool_choice"] = {"type": "function", "function": {"name": only}} if only is not None else "auto"
    return body


def typed(reply: Reply, holder: Mapping[str, Any], key: str, kind: type[T]) -> T | None:
    """A field, None when absent or null. Raises BadCompletionError for another type."""
    value = holder.get(key)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise reply.bad(f"has a {type(value).__name__} in '{key}' where a {kind.__name__} belongs")
    return value


def first_choice(reply: Reply) -> dict[str, Any] | None:
    """choices[0]; None when there is none. Raises BadCompletionError."""
    if not isinstance(reply.body, dict):
        raise reply.bad("is no JSON object")
    choices: list[Any] | None = typed(reply, reply.body, "choices", list)
    if not choices:
        return None
    if not isinstance(choices[0], dict):
        raise reply.bad("has a choice that is no object")
    return choices[0]


def message_of(reply: Reply) -> tuple[dict[str, Any], dict[str, Any]]:
    """The choice of a whole answer and its message. Raises BadCompletionError when either lacks."""
    choice = first_choice(reply)
    if choice is None:
        raise reply.bad("lacks 'choices'")
    message: dict[str, Any] | None = typed(reply, choice, "message", dict)
    if message is None:
        raise reply.bad("has a choice without a 'message'")
    return choice, message


def usage_of(reply: Reply) -> Usage | None:
    """The usage that an answer states; None when it states none."""
    told: dict[str, Any] | None = typed(reply, reply.body, "usage", dict)
    if not told:
        return None
    details: dict[str, Any] = typed(reply, told, "prompt_tokens_details", dict) or {}
    prompt, said = typed(reply, told, "prompt_tokens", int), typed(reply, told, "completion_tokens", int)
    if prompt is None:
        return None
    return Usage(prompt, said or 0, typed(reply, details, "cached_tokens", int))


class CallBuilder:
    """Puts tool calls together from whole ones or from streamed pieces."""

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}  # index -> id, name, arguments

    def add(self, reply: Reply, piece: Any, index: int | None) -> None:
        """Add a call, or a piece of one: a streamed piece says which it belongs to (`index=None`)."""
        if not isinstance(piece, dict):
            raise reply.bad("has a tool call that is no object")
        at = index if index is not None else typed(reply, piece, "index", int)
        if at is None:
            raise reply.bad("has a tool call without an 'index'")
        function: dict[str, Any] = typed(reply, piece, "function", dict) or {}
        parts = self._parts.setdefault(at, ["", "", ""])
        parts[0] = parts[0] or typed(reply, piece, "id", str) or ""
        name = typed(reply, function, "name", str) or ""
        if name != parts[1]:  # some servers repeat the whole name in every piece
            parts[1] += name
        parts[2] += typed(reply, function, "arguments", str) or ""

    def calls(self, reply: Reply) -> tuple[ToolCall, ...]:
        """The calls, by index. A missing id is made from the position."""
        if any(not name for _, name, _ in self._parts.values()):
            raise reply.bad("has a tool call without a name")
        rows = [self._parts[i] for i in sorted(self._parts)]
        return tuple(ToolCall(id_ or f"call_{n}", name, args) for n, (id_, name, args) in enumerate(rows))


class TokenIds:
    """Gathers the ids of generated tokens where the server gives them (vLLM's `return_token_ids`)."""

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._ids: list[int] = []

    def add(self, reply: Reply, choice: Mapping[str, Any]) -> None:
        """Add the ids of an answer, or of a piece of one."""
        ids = typed(reply, choice, "token_ids", list) or []
        if not all(type(i) is int for i in ids):
            raise reply.bad("has a token id that is no number")
        self._ids += ids

    def generated(self, finish: str) -> tuple[int, ...]:
        """All but the one that ended the answer. A cut answer has no such token; a cut one that holds a call says
        `tool_calls` all the same, and is as long as was allowed."""
        cut = finish == "length" or (finish == "tool_calls" and len(self._ids) >= self._max_tokens)
        return tuple(self._ids if cut else self._ids[:-1])
