"""The six memory tools as models see them: names, descriptions and schemas (design, section 10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentmem.types import ToolSpec

_HEARTBEAT = {"type": "boolean", "description": "true: ask me again after this call"}
_TEXT = {"type": "string"}


def _spec(name: str, description: str, required: list[str], **properties: Any) -> ToolSpec:
    if name != "send_message":
        properties["request_heartbeat"] = _HEARTBEAT
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return ToolSpec(name, description, schema)


_PAGE = {"type": "integer", "minimum": 0, "description": "0 is the first page"}
_DATE = {"type": "string", "description": "ISO 8601, e.g. 2023-05-08"}
_LIST = {"type": "array", "items": _TEXT}
SPECS: tuple[ToolSpec, ...] = (
    _spec("send_message", "Say something to the user; ends the turn.", ["message"], message=_TEXT),
    _spec(
        "core_memory_append", "Add a line to a core memory block.", ["label", "content"],
        label={"type": "string", "description": "the block, e.g. human"}, content=_TEXT,
    ),
    _spec(
        "core_memory_replace", "Replace text in a core memory block; empty new_content takes it out.",
        ["label", "old_content", "new_content"], label=_TEXT,
        old_content={"type": "string", "description": "text that stands in the block exactly once"}, new_content=_TEXT,
    ),
    _spec(
        "conversation_search", "Search everything that was ever said.", ["query"],
        query=_TEXT, start_date=_DATE, end_date=_DATE, page=_PAGE,
    ),
    _spec(
        "archival_memory_insert", "Keep a passage in archival storage.", ["content"], content=_TEXT, tags=_LIST,
    ),
    _spec(
        "archival_memory_search", "Search archival storage.", ["query"], query=_TEXT, tags=_LIST, page=_PAGE,
    ),
)  # fmt: skip
BY_NAME: Mapping[str, ToolSpec] = {s.name: s for s in SPECS}
WRITES = ("core_memory_append", "core_memory_replace", "archival_memory_insert")
READS = ("conversation_search", "archival_memory_search")
