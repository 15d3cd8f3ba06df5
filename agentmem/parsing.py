"""From what a model wrote to what it meant: thinking stripped, tool calls validated against their schema.

A call that can't be carried out is a `FormatProblem`: a text for the model, never an error for the caller.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentmem.types import ToolCall, ToolSpec

_THINK = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?think(?:ing)?>", re.IGNORECASE)
_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_ORPHAN = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_TEXT_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_NAME = re.compile(r'"name"\s*:\s*"([\w.-]{1,64})"')
_FENCE = re.compile(r"\A```(?:json)?\s*(\{.*\})\s*```\Z", re.DOTALL)
# What chat templates mark roles and results with: a text that somebody wrote must not turn into such a mark.
_ROLE_MARK = re.compile(
    r"<(?=\|[^|<>\n]{1,40}\|>)|<(?=｜[^｜<>\n]{1,40}｜>)|<(?=/?(?:start_of_turn|end_of_turn)>)"
    r"|<(?=/?(?:tool_call|tool_response|memory|earlier|summary)>)"
    r"|<(?=</?SYS>>)|\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS)\])"
)
MAX_STRING_CHARS = 20_000
NO_NAME = "?"
"""The name of a call in which none can be read."""
MALFORMED_CHARS = 400
CUT_OFF = "cut off"
"""What the arguments of a call begin with that ended with the answer."""


@dataclass(frozen=True, slots=True)
class FormatProblem:
    """What is wrong with a call, said to the model."""

    text: str


def defused(text: str) -> str:
    """The text with marks of roles broken by a zero-width space, so that no message can pass for another's."""
    return _ROLE_MARK.sub(lambda m: m.group() + "\u200b", text) if "<" in text or "[" in text else text


def strip_thinking(text: str) -> str:
    """The text without `<think>` parts, closed or cut off."""
    ends = [tag.startswith("</") for tag in _TAG.findall(text)]
    # More ends than beginnings: the template opened the part, so all before the last end was thinking. Of nested
    # parts only the outer end is left over.
    orphaned = bool(ends) and (ends[0] or 2 * sum(ends) > len(ends))
    text = _THINK.sub("", text)
    return (_ORPHAN if orphaned else _END).sub("", text).strip()


def text_calls(text: str, tools: Sequence[ToolSpec], first_id: int) -> tuple[str, tuple[ToolCall, ...]]:
    """Tool calls that a model wrote as text, and the text without them.

    Taken are `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, closed or cut off, and a whole reply that is
    one such object. What stands in a `<tool_call>` and is no such object becomes a call that fails in the model's
    sight; its text is never shown, and never run.
    """
    found: list[ToolCall] = []
    for raw in _TEXT_CALL.findall(text):
        found.append(_text_call(raw.strip(), f"call_{first_id + len(found)}"))
    if found:
        return _TEXT_CALL.sub("", text).strip(), tuple(found)
    whole = _FENCE.sub(r"\1", text.strip())
    if whole.startswith("{") and whole.endswith("}"):
        call = _text_call(whole, f"call_{first_id}")
        if call.name in {t.name for t in tools}:
            return "", (call,)
    return text, ()


def _text_call(raw: str, number: str) -> ToolCall:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        name = _NAME.search(raw)
        return ToolCall(number, name.group(1) if name else NO_NAME, raw[:MALFORMED_CHARS])
    arguments = value.get("arguments", value.get("parameters", {}))
    return ToolCall(
        number, value["name"], arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    )


def arguments_of(call: ToolCall, tools: Mapping[str, ToolSpec]) -> dict[str, Any] | FormatProblem:
    """The call's arguments, checked against its tool's schema: names, types, required ones, bounded strings.

    A heartbeat flag that is no boolean counts as false.
    """
    spec = tools.get(call.name)
    if call.name == NO_NAME:
        return FormatProblem('a call must be a JSON object with "name" and "arguments", complete and closed')
    if spec is None:
        return FormatProblem(f"there is no tool {call.name!r}; the tools are: {', '.join(tools)}")
    if call.arguments.startswith(CUT_OFF):
        return FormatProblem(f"the call of {call.name} was cut off by the length of the answer; write less at once")
    try:
        values = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError) as e:
        return FormatProblem(f"the arguments of {call.name} are no JSON ({e})")
    if not isinstance(values, dict):
        return FormatProblem(f"the arguments of {call.name} must be a JSON object")
    properties = spec.parameters.get("properties", {})
    if "request_heartbeat" in properties and not isinstance(values.get("request_heartbeat", False), bool):
        values["request_heartbeat"] = False
    for name, value in values.items():
        if name not in properties:
            return FormatProblem(f"{call.name} has no argument {name!r}; it takes: {', '.join(properties)}")
        if problem := _mistyped(value, properties[name]):
            return FormatProblem(f"argument {name!r} of {call.name} {problem}")
    missing = [n for n in spec.parameters.get("required", ()) if values.get(n) is None]
    if missing:
        return FormatProblem(f"{call.name} lacks its argument {', '.join(repr(m) for m in missing)}")
    return {n: v for n, v in values.items() if v is not None}


def _mistyped(value: object, schema: Mapping[str, Any]) -> str | None:
    kind = schema.get("type")
    if value is None:
        return None
    if kind == "string":
        if not isinstance(value, str):
            return "must be a string"
        if len(value) > MAX_STRING_CHARS:
            return f"is {len(value)} characters long; at most {MAX_STRING_CHARS}"
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return "has a lone surrogate, which is no text"
        return None
    if kind == "integer":
        if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        return "must not be negative" if value < schema.get("minimum", value) else None
    if kind == "boolean":
        return None if isinstance(value, bool) else "must be true or false"
    if kind == "array" and (not isinstance(value, list) or any(not isinstance(v, str) for v in value)):
        return "must be a list of strings"
    return None


class StreamFilter:
    """Lets through what a user may see of a stream: no thinking, and nothing that may be a tool call in text.

    `shown` is what was let through; what is held back at the end is the caller's to judge. While no tag was begun the
    work of a piece does not depend on what came before it.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._shown: list[str] = []
        self._state: Literal["open", "plain", "hidden"] = "open"
        self._spaces = ""

    @property
    def shown(self) -> str:
        """What was let through."""
        return "".join(self._shown)

    def feed(self, piece: str) -> str:
        """The further text that can be shown now."""
        self._pieces.append(piece)
        if "<" in piece:
            self._state = "open"
        if self._state == "hidden":
            return ""
        if self._state == "plain":
            # White space at the end waits: the end of a reply has none.
            text = self._spaces + piece
            new = text.rstrip()
            self._spaces = text[len(new) :]
            self._shown.append(new)
            return new
        return self._feed_whole()

    def _feed_whole(self) -> str:
        raw, shown = "".join(self._pieces), self.shown
        self._pieces = [raw]
        tagged = "<" in raw
        thinking = tagged and ("</think" in raw.lower() or "<think" in raw.lower())
        visible = strip_thinking(raw) if thinking else raw.lstrip()
        if visible.startswith(("{", "```")) or visible in ("`", "``"):
            self._state = "open" if tagged or visible in ("`", "``") else "hidden"
            return ""
        # A tag may be coming: what could be the start of one waits.
        open_tag = visible.rfind("<")
        safe = visible if open_tag < 0 or ">" in visible[open_tag:] else visible[:open_tag]
        if "<tool_call>" in safe:
            safe = safe[: safe.index("<tool_call>")]
        safe = safe.rstrip()
        if visible and not tagged:
            self._state, self._spaces = "plain", visible[len(safe) :]
        if not safe.startswith(shown) or len(safe) <= len(shown):
            return ""
        new = safe[len(shown) :]
        self._shown.append(new)
        return new
