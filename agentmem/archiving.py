"""Putting passages into archival storage, and letting one take another's place in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from agentmem import drafts
from agentmem.errors import InvalidInputError, UnknownNameError
from agentmem.times import parse_time, utc_seconds
from agentmem.types import Draft, Passage

if TYPE_CHECKING:
    from agentmem.store.agent_store import AgentStore

When = datetime | str | None


def find(records: AgentStore, passage_id: str | int) -> Passage:
    """A passage by its id (`p3` or 3). Raises UnknownNameError."""
    number = str(passage_id).removeprefix("p")
    found = records.archival.get([int(number)]) if number.isdigit() else []
    if not found:
        raise UnknownNameError("passage", str(passage_id), [], hint="agentmem search --tier archival shows ids")
    return found[0]


def new_passage(
    records: AgentStore,
    text: str,
    now: datetime,
    *,
    tags: Sequence[str],
    valid_from: When = None,
    valid_to: When = None,
    key: str | None = None,
    kind: str = "fact",
    sources: Sequence[str] = (),
) -> Passage:
    """A checked passage with the next id; within the transaction that adds it. Raises InvalidInputError."""
    drafts.check(Draft("user", text, key=key))
    if isinstance(tags, str) or any(not isinstance(t, str) or not t.strip() for t in tags):
        raise InvalidInputError("tags", tags, "must be a list of words")
    if key is not None and records.archival.by_key(key) is not None:
        raise InvalidInputError("key", key, "stands for another passage already", hint="use supersede")
    begins = now if valid_from is None else parse_time(valid_from, "valid_from")
    ends = None if valid_to is None else parse_time(valid_to, "valid_to")
    if ends is not None and utc_seconds(ends) <= utc_seconds(begins):
        raise InvalidInputError("valid_to", str(ends), "is not after valid_from")
    return Passage(
        records.archival.next_id(),
        text,
        now,
        begins,
        ends,
        key=key,
        kind=kind,
        tags=tuple(tags),
        sources=tuple(sources),
    )


def successor(
    records: AgentStore, old: Passage, text: str, now: datetime, *, valid_from: When, tags: Sequence[str] | None
) -> Passage:
    """The passage that takes an old one's place, stored; within the caller's transaction. Raises InvalidInputError."""
    new = new_passage(
        records,
        text,
        now,
        tags=old.tags if tags is None else tags,
        valid_from=valid_from,
        kind=old.kind,
        sources=[old.ref],
    )
    if utc_seconds(new.valid_from) < utc_seconds(old.valid_from):
        raise InvalidInputError(
            "valid_from", str(new.valid_from), f"is before {old.ref} began to hold ({old.valid_from})"
        )
    records.archival.supersede(old, new)
    return new
