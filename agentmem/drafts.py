"""Checking messages that come from outside, before anything is stored of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from agentmem.errors import InvalidInputError
from agentmem.reports import IngestReport
from agentmem.times import parse_time, utc_seconds
from agentmem.types import Draft

ROLES = ("user", "assistant", "system", "tool")
MAX_LABEL_CHARS = 500


@dataclasses.dataclass(slots=True)
class Taken:
    """What came of the rows from outside so far."""

    read: int = 0
    stored: int = 0
    skipped: int = 0
    conflicts: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)
    malformed: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)

    def report(self) -> IngestReport:
        """As it stands."""
        return IngestReport(self.read, self.stored, self.skipped, tuple(self.conflicts), tuple(self.malformed))


def check_text(field: str, text: str) -> None:
    """Raises InvalidInputError for text that UTF-8 can't hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise InvalidInputError(
            field,
            text[max(0, e.start - 10) : e.start + 10],
            f"has a lone surrogate at character {e.start}, which no file can hold",
            hint="decode the source as UTF-8, or replace it: text.encode('utf-8', 'replace').decode()",
        ) from e


def check(draft: Draft) -> Draft:
    """The draft, if it can be stored. Raises InvalidInputError naming the field and the remedy."""
    if draft.role not in ROLES:
        raise InvalidInputError("role", draft.role, f"must be one of {', '.join(ROLES)}")
    if not isinstance(draft.content, str):
        raise InvalidInputError("content", draft.content, "must be text")
    if not draft.content.strip() and not draft.tool_calls:
        raise InvalidInputError("content", draft.content, "is empty", hint="leave the message out")
    check_text("content", draft.content)
    for field in ("key", "session", "name"):
        value = getattr(draft, field)
        if value is None:
            continue
        if not isinstance(value, str) or not value.strip() or len(value) > MAX_LABEL_CHARS or "\n" in value:
            shown = "id" if field == "key" else field
            raise InvalidInputError(
                shown, value, f"must be a line of 1 to {MAX_LABEL_CHARS} characters, or be left out"
            )
        check_text(field, value)
    if draft.at is not None:
        utc_seconds(draft.at)
    return draft


def from_mapping(values: Mapping[str, Any]) -> Draft:
    """A message line, already parsed, as a draft. Raises InvalidInputError."""
    from pydantic import ValidationError

    from agentmem.wire import MessageLine

    try:
        line = MessageLine.model_validate(dict(values))
    except ValidationError as e:
        error = e.errors()[0]
        field = ".".join(str(p) for p in error["loc"]) or "message"
        if error["type"] == "missing":
            raise InvalidInputError(field, None, "is missing") from e
        raise InvalidInputError(field, error["input"], error["msg"]) from e
    if line.role not in ROLES:
        raise InvalidInputError("role", line.role, f"must be one of {', '.join(ROLES)}")
    at = parse_time(line.at) if line.at is not None else None
    return check(Draft(line.role, line.content, line.name, at, line.id, line.session))  # type: ignore[arg-type]


def from_line(text: str) -> Draft:
    """A line of JSON as a draft. Raises InvalidInputError."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise InvalidInputError("line", text, f"is no JSON: {e}") from e
    if not isinstance(values, dict):
        raise InvalidInputError("line", text, "is no JSON object")
    return from_mapping(values)
