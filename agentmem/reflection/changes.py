"""What reflection may do to a memory, as values: each says what it changes, what it rests on, and why.

They are written down as JSON, so that a job can be shown, resumed and undone. Nothing here deletes a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from agentmem.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class AddPassage:
    """A new passage, derived from `sources` (refs such as "m12" or "p3"; at least one). Times are ISO 8601; without
    `valid_from` it holds from when it is stored."""

    op: ClassVar[str] = "add"
    text: str
    kind: str
    sources: tuple[str, ...]
    tags: tuple[str, ...] = ()
    valid_from: str | None = None
    valid_to: str | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class ClosePassage:
    """A passage holds no longer from `valid_to` (ISO 8601) on. `superseded_by` is the ref of the passage that holds
    instead, or "+0", "+1", ...: the first, second, ... passage that the same proposal adds."""

    op: ClassVar[str] = "close"
    passage: str
    valid_to: str
    superseded_by: str | None = None
    sources: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class EditBlock:
    """A core block's text goes from `before` (as it was when it was read) to `after`."""

    op: ClassVar[str] = "block"
    label: str
    before: str
    after: str
    sources: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """A record's importance goes from `before` (None: unrated) to `importance`, 1 (mundane) to 10."""

    op: ClassVar[str] = "rate"
    ref: str
    importance: int
    before: int | None = None
    sources: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class SetKeys:
    """The further keys under which a record is found go from `before` to `keys`; its text stays as it is."""

    op: ClassVar[str] = "keys"
    ref: str
    keys: tuple[str, ...]
    before: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    why: str = ""


Change = AddPassage | ClosePassage | EditBlock | Rate | SetKeys
_KINDS: dict[str, type[Change]] = {c.op: c for c in (AddPassage, ClosePassage, EditBlock, Rate, SetKeys)}


def to_json(change: Change) -> dict[str, Any]:
    """A change as values of JSON; `of_json` is the inverse."""
    return {"op": change.op, **asdict(change)}


def of_json(value: Mapping[str, Any]) -> Change:
    """The change that `to_json` wrote. Raises InvalidInputError for anything else."""
    fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in value.items() if n != "op"}
    try:
        return _KINDS[value["op"]](**fields)
    except (KeyError, TypeError) as e:
        raise InvalidInputError("change", dict(value), f"is no change: {e}") from e
