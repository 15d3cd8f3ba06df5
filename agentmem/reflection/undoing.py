"""`undo` takes back what a job changed, in one transaction: every view is as before. What somebody changed since stays
as it is now, and is listed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentmem.core_memory import rewritten
from agentmem.crashpoints import crash_point
from agentmem.errors import BlockError, ConfigError, UnknownNameError
from agentmem.reflection.applying import put_keys, tier_of
from agentmem.reflection.changes import AddPassage, ClosePassage, EditBlock, Rate, SetKeys, of_json
from agentmem.reflection.holding import held
from agentmem.reflection.outcome import Applied, Undone
from agentmem.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentmem.memory import Memory


class Kept(Exception):
    """Something was changed since, and stays."""


def undo(memory: Memory, job: str) -> Undone:
    """Undo a job ("j3"). Raises UnknownNameError for another name, ConfigError for one that was undone already, and
    StoreBusyError while a job runs. What is undone is not proposed again: the strategies' cursors stay."""
    jobs = memory.records.jobs
    known = {row.ref: row for row in jobs.all()}
    if job not in known:
        raise UnknownNameError("job", job, list(known), hint="agentmem jobs lists them")
    if known[job].state == "undone":
        raise ConfigError("job", job, "was undone already", hint="agentmem jobs lists what can be undone")
    number = known[job].id
    undone: list[Applied] = []
    kept: list[Applied] = []
    with held(memory), memory.store.write():
        for row in reversed(jobs.changes(number)):
            if row.fate != "applied":
                continue
            entry = Applied(row.number, row.strategy, of_json(row.change), "undone", "", row.made, row.before)
            try:
                _undo(memory, entry, actor=f"undo:{job}")
                undone.append(entry)
            except (Kept, BlockError) as e:
                entry = replace(entry, fate="kept", reason=str(e).splitlines()[0])
                kept.append(entry)
            jobs.set_fate(number, row.number, entry.fate, entry.reason)
        jobs.drop_answers()
        jobs.end(number, "undone", known[job].report, memory.clock())
        memory.log("undo", {"job": number, "undone": len(undone), "kept": len(kept)})
        crash_point("undo.before_commit")
    memory.refresh()
    return Undone(memory.agent_name, job, tuple(undone), tuple(kept))


def _undo(memory: Memory, entry: Applied, actor: str) -> None:
    change, before = entry.change, entry.before
    if isinstance(change, AddPassage):
        _take_out(memory, entry)
    elif isinstance(change, ClosePassage):
        _reopen(memory, change, before)
    elif isinstance(change, EditBlock):
        if change.label not in memory.core:
            raise Kept(f"block {change.label!r} is not there any more")
        block = memory.core.block(change.label)
        if block.value != before["after"]:
            raise Kept(f"block {change.label!r} was edited since")
        memory.core.store(rewritten(block, change.before, memory.core.counter), "rewrite", block.value, actor)
    elif isinstance(change, Rate):
        tier, number = tier_of(change.ref)
        if memory.records.uses.of(tier, [number])[0][0] != change.importance:
            raise Kept(f"{change.ref} was rated anew since, or erased")
        if change.before is None:
            memory.records.uses.unrate(tier, number)
        else:
            memory.records.uses.rate(tier, number, change.before)
    elif isinstance(change, SetKeys):
        tier, number = tier_of(change.ref)
        if memory.records.keys.of(tier, [number]).get(number, ()) != change.keys:
            raise Kept(f"the keys of {change.ref} were changed since, or it was erased")
        put_keys(memory, tier, number, change.before)


def _take_out(memory: Memory, entry: Applied) -> None:
    records = memory.records
    number = int(str(entry.made)[1:])
    found = records.archival.get([number])
    if not found:
        raise Kept(f"{entry.made} is not there any more")
    (passage,) = found
    if passage.superseded_by is not None:
        raise Kept(f"{entry.made} was superseded since by p{passage.superseded_by}")
    if resting := records.archival.derived_from(passage.ref):
        raise Kept(f"{resting[0].ref} rests on {entry.made}; undo the job that made it first")
    records.vectors.remove("archival", [number])
    records.uses.remove("archival", [number])
    records.archival.delete([passage])


def _reopen(memory: Memory, change: ClosePassage, before: Mapping[str, Any]) -> None:
    found = memory.records.archival.get([int(change.passage[1:])])
    if not found:
        raise Kept(f"{change.passage} is not there any more")
    (passage,) = found
    ends = format_time(passage.valid_to) if passage.valid_to is not None else None
    # The pointer goes with what it pointed to, when that was erased.
    if ends != before["set_to"] or passage.superseded_by not in (before["superseded_by"], None):
        raise Kept(f"{change.passage} was closed otherwise since")
    earlier = before["valid_to"]
    memory.records.archival.set_end(passage.id, None if earlier is None else datetime.fromisoformat(earlier), None)
