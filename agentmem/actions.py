"""Memory tools as schema-guided JSON, for models that call tools badly or not at all.

A model answers with one object, `{"actions": [...]}`; each action names its tool and has that tool's arguments beside
it, `request_heartbeat` among them. A server that enforces a JSON schema holds the answer to that form; what is cut off
or broken all the same is read as far as it goes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agentmem.parsing import CUT_OFF, NO_NAME
from agentmem.tool_specs import BY_NAME, SPECS
from agentmem.types import ToolCall, ToolSpec

MAX_ACTIONS = 4


def action_schema(only: str | None = None) -> dict[str, Any]:
    """The schema of an answer: a list of actions, each one of the tools; with `only`, one action of that tool."""
    specs = SPECS if only is None else [BY_NAME[only]]
    most = MAX_ACTIONS if only is None else 1
    ways = [_action(s) for s in specs]
    items = ways[0] if len(ways) == 1 else {"anyOf": ways}
    return {
        "type": "object",
        "properties": {"actions": {"type": "array", "minItems": 1, "maxItems": most, "items": items}},
        "required": ["actions"],
        "additionalProperties": False,
    }


def _action(spec: ToolSpec) -> dict[str, Any]:
    properties = {"tool": {"const": spec.name, "type": "string"}, **spec.parameters["properties"]}
    required = ["tool", *spec.parameters["required"]]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def listing() -> str:
    """The tools, a line each, for the system text: what a schema enforces the model must be told as well."""
    lines = []
    for spec in SPECS:
        names = [n if n in spec.parameters["required"] else f"{n}?" for n in spec.parameters["properties"]]
        lines.append(f"- {spec.name}({', '.join(names)}): {spec.description}")
    return "\n".join(lines)


def written(text: str, calls: Sequence[ToolCall]) -> str:
    """A stored answer as the JSON that the model would have written; plain text without calls stays as it is."""
    if not calls:
        return text
    actions: list[Mapping[str, Any]] = []
    if text:
        actions.append({"tool": "send_message", "message": text})
    for call in calls:
        try:
            arguments = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
        shown = arguments if isinstance(arguments, dict) else {"arguments": call.arguments}
        actions.append({"tool": call.name, **{k: v for k, v in shown.items() if k != "tool"}})
    # An escaped half of a surrogate pair is JSON, and no text.
    return json.dumps({"actions": actions}, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")


def decode(text: str, first_id: int) -> tuple[str, tuple[ToolCall, ...]]:
    """(plain text, calls) of an answer. What is no such object is plain text, and that is a reply.

    Of a truncated object the complete actions are taken; the one that was cut becomes a call whose arguments say so,
    and so fails in the model's sight; a cut `send_message` says what there is of it.
    """
    start = text.find("{")
    body = text[start:].strip() if start >= 0 else ""
    if not body or text[:start].strip().strip("`").removeprefix("json").strip():
        return text.strip(), ()
    value = _loads(body.rstrip("`").rstrip())
    if isinstance(value, dict) and isinstance(value.get("actions"), list):
        return "", tuple(_call(a, first_id + n) for n, a in enumerate(value["actions"]))
    if isinstance(value, dict) and isinstance(value.get("tool"), str):
        return "", (_call(value, first_id),)
    if value is not None or not body.startswith(('{"actions"', '{ "actions"', '{"tool"')):
        return text.strip(), ()
    return _truncated(body, first_id)


def _loads(text: str) -> Any:
    try:
        return json.loads(text, strict=False)  # grammars of some servers let raw control characters into strings
    except (ValueError, RecursionError):
        return None


def _call(action: Any, number: int) -> ToolCall:
    if not isinstance(action, dict) or not isinstance(action.get("tool"), str):
        return ToolCall(f"call_{number}", NO_NAME, json.dumps(action, ensure_ascii=False))
    arguments = {k: v for k, v in action.items() if k != "tool"}
    return ToolCall(f"call_{number}", action["tool"], json.dumps(arguments, ensure_ascii=False))


def _truncated(body: str, first_id: int) -> tuple[str, tuple[ToolCall, ...]]:
    decoder = json.JSONDecoder(strict=False)
    calls: list[ToolCall] = []
    at = body.find("[") + 1 if body.startswith(('{"actions"', '{ "actions"')) else 0
    while at and at < len(body):
        while at < len(body) and body[at] in " \t\r\n,":
            at += 1
        try:
            action, at = decoder.raw_decode(body, at)
        except (ValueError, RecursionError):
            break
        calls.append(_call(action, first_id + len(calls)))
    rest = body[at:].strip()
    if not rest.startswith("{"):
        return "", tuple(calls)
    name = _string_after(rest, '"tool"')
    if name == "send_message":
        return _string_after(rest, '"message"').strip(), tuple(calls)
    calls.append(ToolCall(f"call_{first_id + len(calls)}", name or NO_NAME, f"{CUT_OFF}: {rest[:200]}"))
    return "", tuple(calls)


def _string_after(text: str, key: str) -> str:
    """The JSON string that follows a key, as far as it goes; "" when there is none."""
    at = text.find(key)
    at = text.find('"', text.find(":", at)) if at >= 0 and text.find(":", at) >= 0 else -1
    if at < 0:
        return ""
    end = at + 1
    while end < len(text) and text[end] != '"':
        end += 2 if text[end] == "\\" else 1
    for stop in range(min(end, len(text)), max(at, end - 8), -1):
        found = _loads(text[at:stop] + '"')
        if isinstance(found, str):
            return found
    return ""
