"""Putting passages into archival storage, one or many, and letting one take another's place in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from agentmem import drafts
from agentmem.crashpoints import crash_point
from agentmem.drafts import Taken
from agentmem.errors import InvalidInputError, UnknownNameError
from agentmem.reports import IngestReport
from agentmem.times import parse_time, utc_seconds
from agentmem.types import Draft, Passage

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.store.agent_store import AgentStore

When = datetime | str | None
BATCH = 1000
FIELDS = ("text", "tags", "valid_from", "valid_to", "key", "kind", "sources")
"""What a row of `archive_many` may have; only `text` must be there."""


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
    passage = _checked(
        records.archival.next_id(), text, now, tags=tags, valid_from=valid_from, valid_to=valid_to, key=key, kind=kind,
        sources=sources,
    )  # fmt: skip
    if key is not None and records.archival.by_key(key) is not None:
        raise InvalidInputError("key", key, "stands for another passage already", hint="use supersede")
    return passage


def _checked(
    number: int,
    text: str,
    now: datetime,
    *,
    tags: Sequence[str] = (),
    valid_from: When = None,
    valid_to: When = None,
    key: str | None = None,
    kind: str = "fact",
    sources: Sequence[str] = (),
) -> Passage:
    """A passage, if it can be stored; its key may be taken. Raises InvalidInputError."""
    drafts.check(Draft("user", text, key=key))
    _check_words("tags", tags)
    _check_words("sources", sources)
    if not isinstance(kind, str) or not kind.strip():
        raise InvalidInputError("kind", kind, "must be a word")
    begins = now if valid_from is None else parse_time(valid_from, "valid_from")
    ends = None if valid_to is None else parse_time(valid_to, "valid_to")
    if ends is not None and utc_seconds(ends) <= utc_seconds(begins):
        raise InvalidInputError("valid_to", str(ends), "is not after valid_from")
    return Passage(number, text, now, begins, ends, key=key, kind=kind, tags=tuple(tags), sources=tuple(sources))


def _check_words(name: str, given: Any) -> None:
    if (
        isinstance(given, str)
        or not isinstance(given, Iterable)
        or any(not isinstance(w, str) or not w.strip() for w in given)
    ):
        raise InvalidInputError(name, given, "must be a list of words")
    for word in given:
        drafts.check_text(name, word)


def archive_many(
    memory: Memory,
    rows: Iterable[Mapping[str, Any]],
    *,
    strict: bool = False,
    progress: Callable[[int], None] | None = None,
) -> IngestReport:
    """Put many passages into archival storage, a transaction each thousand, and embed them batch by batch.

    A row has `text` and may have the other arguments of `Memory.archive` (`FIELDS`), checked in the same way. A key
    that is there with the same text is skipped, with another text it is a conflict; a row that can't be stored is
    reported by its number, from 1, with the reason; the rest is stored. With `strict` nothing is stored then, and
    InvalidInputError is raised. A killed run loses nothing that was committed; run again, it skips what is there by
    its key. `progress` is called with the number of rows read.
    """
    taken = Taken()
    if strict:
        rows = list(rows)
        _refuse(memory, rows)
    numbered = enumerate(rows, 1)
    while batch := list(islice(numbered, BATCH)):
        taken.read += len(batch)
        _store(memory, batch, taken)
        crash_point("archive.stored")
        memory.catch_up()
        crash_point("archive.embedded")
        if progress is not None:
            progress(taken.read)
    return taken.report()


def _store(memory: Memory, batch: Sequence[tuple[int, Mapping[str, Any]]], taken: Taken) -> None:
    records, now = memory.records, memory.clock()
    # Counted apart: a transaction that fails reports nothing.
    done = Taken()
    with memory.store.write():
        first = records.archival.next_id()
        new: list[Passage] = []
        texts: dict[str, str] = {}
        for number, row in batch:
            try:
                passage = _checked(first + len(new), now=now, **_arguments(row))
            except InvalidInputError as e:
                done.malformed.append({"line": number, "reason": e.message})
                continue
            if passage.key is not None and (known := _text_of(records, passage.key, texts)) is not None:
                if known == passage.text:
                    done.skipped += 1
                else:
                    reason = "the key stands for another passage"
                    done.conflicts.append({"line": number, "id": passage.key, "reason": reason})
                continue
            if passage.key is not None:
                texts[passage.key] = passage.text
            new.append(passage)
        if new:
            records.archival.add(new)
            memory.log("archive_many", {"first": new[0].id, "last": new[-1].id})
        crash_point("archive.before_commit")
    taken.stored += len(new)
    taken.skipped += done.skipped
    taken.conflicts += done.conflicts
    taken.malformed += done.malformed


def _arguments(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as arguments; what is None counts as left out."""
    if not isinstance(row, Mapping):
        raise InvalidInputError("row", row, "is no mapping with a text")
    if unknown := sorted(str(name) for name in row if name not in FIELDS):
        raise InvalidInputError(unknown[0], row[unknown[0]], f"is no field of a passage ({', '.join(FIELDS)})")
    if "text" not in row:
        raise InvalidInputError("text", None, "is missing")
    return {name: value for name, value in row.items() if value is not None or name == "text"}


def _text_of(records: AgentStore, key: str, batch: Mapping[str, str]) -> str | None:
    if key in batch:
        return batch[key]
    found = records.archival.by_key(key)
    return found.text if found is not None else None


def _refuse(memory: Memory, rows: Iterable[Mapping[str, Any]]) -> None:
    problems: list[str] = []
    texts: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        try:
            passage = _checked(1, now=memory.clock(), **_arguments(row))
        except InvalidInputError as e:
            problems.append(f"row {number}: {e.message}")
            continue
        if passage.key is None:
            continue
        known = _text_of(memory.records, passage.key, texts)
        if known is not None and known != passage.text:
            problems.append(f"row {number}: the key {passage.key!r} stands for another passage")
        texts.setdefault(passage.key, passage.text)
    if problems:
        raise InvalidInputError(
            "passages",
            f"{len(problems)} bad rows",
            f"refused whole (strict): {'; '.join(problems[:5])}{'; ...' if len(problems) > 5 else ''}",
            hint="mend these rows, or leave strict out to store the rest",
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
