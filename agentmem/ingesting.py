"""Ingesting a history: many messages, in batches that each commit whole, with what could not be taken reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from agentmem import drafts
from agentmem.crashpoints import crash_point
from agentmem.drafts import Taken
from agentmem.errors import InvalidInputError
from agentmem.reports import IngestReport
from agentmem.types import Draft, Message

if TYPE_CHECKING:
    from agentmem.memory import Memory

BATCH = 128
Row = Mapping[str, Any] | Draft | str


def ingest(
    memory: Memory, rows: Iterable[Row], *, strict: bool, progress: Callable[[int], None] | None
) -> IngestReport:
    """Store rows. Each batch is one transaction (messages and the flushes that they cause); its vectors are another.

    A killed run loses nothing that was committed; run again, it skips what is there by its key.
    """
    taken = Taken()
    if strict:
        rows = list(rows)
        _refuse(memory, rows)
    lines = enumerate(rows, 1)
    while batch := list(islice(lines, BATCH)):
        _store(memory, list(_parsed(batch, taken)), taken)
        crash_point("ingest.stored")
        memory.catch_up()
        crash_point("ingest.embedded")
        if progress is not None:
            progress(taken.read)
    return taken.report()


def parse(row: Row) -> Draft:
    """A row as a draft. Raises InvalidInputError."""
    if isinstance(row, Draft):
        return drafts.check(row)
    return drafts.from_line(row) if isinstance(row, str) else drafts.from_mapping(row)


def _parsed(batch: list[tuple[int, Row]], taken: Taken) -> Iterator[tuple[int, Draft]]:
    for number, row in batch:
        if isinstance(row, str) and not row.strip():
            continue
        taken.read += 1
        try:
            yield number, parse(row)
        except InvalidInputError as e:
            taken.malformed.append({"line": number, "reason": e.message})


def _store(memory: Memory, batch: list[tuple[int, Draft]], taken: Taken) -> None:
    try:
        with memory.store.write():
            known = memory.records.recall.by_keys({d.key for _, d in batch if d.key is not None})
            fresh: list[Draft] = []
            seen: dict[str, str] = {k: m.content for k, m in known.items()}
            for number, draft in batch:
                if draft.key is not None and draft.key in seen:
                    if seen[draft.key] == draft.content:
                        taken.skipped += 1
                    else:
                        taken.conflicts.append(
                            {"line": number, "id": draft.key, "reason": "the id stands for another message"}
                        )
                    continue
                if draft.key is not None:
                    seen[draft.key] = draft.content
                fresh.append(draft)
            stored = memory.append(fresh)
            if memory.flushes_within:
                _page_out(memory, stored)
            crash_point("ingest.before_commit")
    except BaseException:
        memory.pager.forget()
        raise
    if not memory.flushes_within:
        _page_out(memory, stored)
    taken.stored += len(stored)


def _page_out(memory: Memory, stored: list[Message]) -> None:
    """The flushes that would have happened, had the messages come one by one."""
    for message in stored:
        memory.relieve(upto=message.id)


def _refuse(memory: Memory, rows: Iterable[Row]) -> None:
    problems: list[str] = []
    seen: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        if isinstance(row, str) and not row.strip():
            continue
        try:
            draft = parse(row)
        except InvalidInputError as e:
            problems.append(f"line {number}: {e.message}")
            continue
        if draft.key is not None and seen.setdefault(draft.key, draft.content) != draft.content:
            problems.append(f"line {number}: the id {draft.key!r} stands for another message")
    stored = memory.records.recall.by_keys(seen)
    problems += [f"id {k!r}: stands for another message" for k, m in stored.items() if m.content != seen[k]]
    if problems:
        shown = "; ".join(problems[:5]) + ("; ..." if len(problems) > 5 else "")
        raise InvalidInputError(
            "history",
            f"{len(problems)} bad lines",
            f"refused whole (strict): {shown}",
            hint="mend these lines, or leave --strict out to store the rest",
        )
