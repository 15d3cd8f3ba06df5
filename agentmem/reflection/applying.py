"""Proposals are checked against the memory as it is now, and written in one transaction with how far they came.

A change of which something is not as the strategy read it is skipped, with the reason: what a person did meanwhile
wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentmem.archiving import new_passage
from agentmem.citing import clean
from agentmem.core_memory import rewritten
from agentmem.crashpoints import crash_point
from agentmem.drafts import check_text
from agentmem.errors import BlockError, InvalidInputError
from agentmem.indexing import set_keys
from agentmem.keys import CHUNK_BYTES, MAX_KEYS
from agentmem.reflection.changes import AddPassage, Change, ClosePassage, EditBlock, Rate, SetKeys, to_json
from agentmem.reflection.outcome import Applied, Fate
from agentmem.times import format_time, parse_time, utc_seconds
from agentmem.types import number_of

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.types import Passage

Done = tuple[str | None, dict[str, Any]]
"""The ref of what was made, and what has to be restored."""


class Skip(Exception):
    """A change can't be applied to the memory as it is."""


def apply(
    memory: Memory,
    job: int,
    strategy: str,
    cursor_name: str,
    changes: Sequence[Change],
    cursor: Any,
    wanted: Sequence[bool] | None = None,
) -> list[Applied]:
    """Apply a proposal in one transaction: the changes that fit, the cursor (None: as it was), and a note of each.

    `wanted` says of each change whether the reviewer took it.
    """
    out: list[Applied] = []
    with memory.store.write():
        number = memory.records.jobs.next_change(job)
        added: list[str | None] = []
        for n, change in enumerate(changes):
            fate: Fate = "applied"
            reason = ""
            made: str | None = None
            before: dict[str, Any] = {}
            if wanted is not None and not wanted[n]:
                fate, reason = "rejected", "by the reviewer"
            else:
                try:
                    made, before = _apply(memory, change, added, actor=f"reflect:j{job}")
                except (Skip, BlockError, InvalidInputError) as e:
                    fate, reason = "skipped", clean(str(e).splitlines()[0])
            if isinstance(change, AddPassage):
                added.append(made)
            out.append(Applied(number + n, strategy, change, fate, reason, made, before))
            memory.records.jobs.add_change(
                job, number + n, strategy, to_json(change), fate, reason=reason, made=made, before=before
            )
        if cursor is not None:
            memory.records.journal.put_cursor(cursor_name, cursor, memory.clock())
        fates: list[str] = [a.fate for a in out]
        counts = {fate: fates.count(fate) for fate in dict.fromkeys(fates)}
        memory.log("reflect", {"job": job, "strategy": strategy, **counts})
        crash_point("reflect.before_commit")
    crash_point("reflect.committed")
    return out


def check_sources(memory: Memory, sources: Sequence[str]) -> None:
    """Raises Skip unless there are sources, and all are records of this agent."""
    if not sources:
        raise Skip("it names no record that it rests on")
    if not all(number_of(s, "m") or number_of(s, "p") for s in sources):
        raise Skip("it names something that is no record")
    records = memory.records
    for letter, tier in (("m", records.recall), ("p", records.archival)):
        numbers = [n for s in sources if (n := number_of(s, letter))]
        if len(tier.get(numbers)) < len(numbers):
            raise Skip("a record that it rests on is not there (any more)")


def _apply(memory: Memory, change: Change, added: Sequence[str | None], actor: str) -> Done:
    if isinstance(change, AddPassage):
        return _add(memory, change)
    if isinstance(change, ClosePassage):
        return _close(memory, change, added)
    if isinstance(change, EditBlock):
        return _edit(memory, change, actor)
    if isinstance(change, Rate):
        return _rate(memory, change)
    return _set_keys(memory, change)


def _add(memory: Memory, change: AddPassage) -> Done:
    check_sources(memory, change.sources)
    archival, now = memory.records.archival, memory.clock()
    for passage in archival.derived_from(change.sources[0]):
        if (passage.kind, passage.text, passage.sources) == (change.kind, change.text, change.sources):
            raise Skip(f"{passage.ref} says the same of the same records")
    passage = new_passage(
        memory.records, change.text, now, tags=change.tags, valid_from=change.valid_from, valid_to=change.valid_to,
        kind=change.kind, sources=change.sources,
    )  # fmt: skip
    archival.add([passage])
    return passage.ref, {}


def _close(memory: Memory, change: ClosePassage, added: Sequence[str | None]) -> Done:
    (passage,) = passage_of(memory, change.passage)
    if passage.superseded_by is not None:
        raise Skip(f"{passage.ref} was superseded by p{passage.superseded_by} already")
    ends = parse_time(change.valid_to, "valid_to")
    if passage.valid_to is not None and utc_seconds(passage.valid_to) <= utc_seconds(ends):
        raise Skip(f"{passage.ref} ceased to hold already")
    # What never held is closed at its own beginning.
    ends = max(ends, passage.valid_from, key=utc_seconds)
    instead: int | None = None
    if change.superseded_by is not None:
        name = change.superseded_by
        ref = added[int(name[1:])] if name.startswith("+") else name
        if ref is None:
            raise Skip("what should hold instead was not added")
        (successor,) = passage_of(memory, ref)
        instead = successor.id
    memory.records.archival.set_end(passage.id, ends, instead)
    before = format_time(passage.valid_to) if passage.valid_to is not None else None
    return None, {"valid_to": before, "set_to": format_time(ends), "superseded_by": instead}


def _edit(memory: Memory, change: EditBlock, actor: str) -> Done:
    if change.label not in memory.core:
        raise Skip(f"there is no block {change.label!r} (any more)")
    block = memory.core.block(change.label)
    if block.value != change.before:
        raise Skip(f"block {change.label!r} was edited meanwhile")
    new = rewritten(block, change.after, memory.core.counter)
    if new.value == block.value:
        raise Skip(f"block {change.label!r} says that already")
    memory.core.store(new, "rewrite", block.value, actor)
    return None, {"after": new.value}


def _rate(memory: Memory, change: Rate) -> Done:
    check_sources(memory, [change.ref])
    tier, number = tier_of(change.ref)
    known = memory.records.uses.of(tier, [number])[0][0]
    importance = None if known != known else int(known)  # NaN: unrated
    if importance != change.before:
        raise Skip(f"{change.ref} was rated {importance} meanwhile")
    memory.records.uses.rate(tier, number, change.importance)
    return None, {}


def _set_keys(memory: Memory, change: SetKeys) -> Done:
    check_sources(memory, [change.ref, *change.sources])
    tier, number = tier_of(change.ref)
    if tier == "recall" and not memory.records.recall.get([number])[0].searchable:
        raise Skip(f"{change.ref} only repeats memory, or is tool traffic: it is not found")
    if memory.records.keys.of(tier, [number]).get(number, ()) != change.before:
        raise Skip(f"the keys of {change.ref} were changed meanwhile")
    put_keys(memory, tier, number, change.keys)
    return None, {}


def put_keys(memory: Memory, tier: str, number: int, keys: Sequence[str]) -> None:
    """Let a record be found under these further keys, within the caller's transaction; they are embedded at the next
    search. Raises Skip for more than `MAX_KEYS`, for an empty one and for one of more than `CHUNK_BYTES` bytes."""
    if len(keys) > MAX_KEYS:
        raise Skip(f"{len(keys)} further keys for one record (at most {MAX_KEYS})")
    for key in keys:
        if not key.strip() or len(key.encode("utf-8", "replace")) > CHUNK_BYTES:
            raise Skip(f"a further key must be a text of at most {CHUNK_BYTES} bytes")
        check_text("key", key)
    set_keys(memory.records, tier, number, keys, memory.clock())


def tier_of(ref: str) -> tuple[str, int]:
    """("recall" or "archival", number) of a ref."""
    return ("recall" if ref[0] == "m" else "archival"), int(ref[1:])


def passage_of(memory: Memory, ref: str) -> list[Passage]:
    """The passage of a ref, alone. Raises Skip when there is none."""
    check_sources(memory, [ref])
    found = memory.records.archival.get([int(ref[1:])]) if ref[0] == "p" else []
    if not found:
        raise Skip(f"{ref} is no passage")
    return found


def planned(strategy: str, changes: Sequence[Change], first: int) -> list[Applied]:
    """What a dry run says of changes."""
    return [Applied(first + n, strategy, change, "planned") for n, change in enumerate(changes)]
