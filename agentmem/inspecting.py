"""Looking at a memory from outside: its statistics, and whether all that is stored agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.indexing import KEYS_DUE, entries_of, further_of, previous_of
from agentmem.keys import KEY_PART
from agentmem.types import Message

if TYPE_CHECKING:
    from agentmem.memory import Memory

BATCH = 1000


def stats(memory: Memory) -> dict[str, Any]:
    """Counts, sizes and settings of one agent."""
    epoch, queue = memory.pager.state()
    found = memory.store.embedder()
    path = Path(memory.store.path)
    generation, _ = memory.records.vectors.state()
    return {
        "agent": memory.agent_name,
        "messages": memory.records.recall.count(),
        "passages": len(memory.records.archival.all_ids()),
        "in_queue": len(queue),
        "epoch": epoch.number,
        "used_tokens": memory.pager.used(memory.budget, memory.shape),
        "max_tokens": memory.budget.max_tokens,
        "window_tokens": memory.config.window_tokens,
        "counter": memory.shape.counter.name,
        "exact_counts": memory.shape.counter.exact,
        "embedder": found.model_id if found is not None else None,
        "embedder_in_use": memory.embedder.model_id if memory.embedder is not None else None,
        "index": memory.records.dense["recall"].kind,
        "generation": generation,
        "not_embedded": sum(memory.records.pending()),
        "summary_covers": [epoch.summary_from, epoch.summary_to],
        "blocks": {b.label: memory.shape.counter.count(b.value) for b in memory.records.journal.blocks()},
        "file_bytes": path.stat().st_size if path.exists() else 0,
    }


def verify(memory: Memory) -> list[str]:
    """Everything that does not agree; [] when all is well.

    Checks SQLite, the full-text indexes, vectors against records, the vector index against both, epochs and the queue.
    Changes nothing but what a search would (catching up).
    """
    findings = memory.store.integrity()
    findings += _check_queue(memory)
    findings += _check_lexical(memory)
    findings += memory.records.recall.check_terms() + memory.records.archival.check_terms()
    findings += _check_vectors(memory)
    return findings


def _check_queue(memory: Memory) -> list[str]:
    findings: list[str] = []
    journal = memory.records.journal
    last = memory.records.recall.last_id()
    previous = None
    for epoch, _ in journal.epochs():
        if epoch.first_message > last + 1:
            findings.append(f"epoch {epoch.number} begins at m{epoch.first_message}, but the last message is m{last}")
        if previous is not None and (
            epoch.number != previous.number + 1 or epoch.first_message < previous.first_message
        ):
            findings.append(f"epoch {epoch.number} does not follow epoch {previous.number}")
        if epoch.first_message > 1 and epoch.summary_to >= epoch.first_message:
            findings.append(f"epoch {epoch.number}: its summary covers m{epoch.summary_to}, which is in the queue")
        previous = epoch
    _, queue = memory.pager.state()
    opened = {c.id for m in queue for c in m.tool_calls}
    findings += [
        f"{m.ref}: a tool result without its call" for m in queue if m.tool_call_id and m.tool_call_id not in opened
    ]
    return findings


def _messages(memory: Memory) -> list[list[Message]]:
    last = memory.records.recall.last_id()
    return [memory.records.recall.since(n, min(n + BATCH - 1, last)) for n in range(1, last + 1, BATCH)]


def _check_lexical(memory: Memory) -> list[str]:
    records = memory.records
    findings: list[str] = []
    spoken = {m.id for batch in _messages(memory) for m in batch if m.searchable}
    for name, lexical, wanted in (
        ("recall", records.recall.lexical, spoken),
        ("archival", records.archival.lexical, set(records.archival.all_ids())),
    ):
        if not lexical.check():
            findings.append(f"the full-text index of {name} is damaged: run agentmem rebuild")
            continue
        have = lexical.ids()
        if missing := sorted(wanted - have):
            findings.append(f"{len(missing)} records of {name} are not in the full-text index (first: {missing[0]})")
        if extra := sorted(have - wanted):
            findings.append(f"the full-text index of {name} has {len(extra)} records that do not exist ({extra[0]})")
    return findings


def _check_vectors(memory: Memory) -> list[str]:
    records = memory.records
    findings = [f"vector {v} belongs to nothing" for v in records.vectors.orphans()]
    found = memory.store.embedder()
    if found is None:
        return findings
    expected: dict[str, set[tuple[int, int, bytes]]] = {"recall": set(), "archival": set()}
    for batch in _messages(memory):
        done = [m for m in batch if m.id <= records.vectors.watermark("recall")]
        further = further_of(records, done, [])
        found_keys, _ = entries_of(done, [], previous_of(records, done), further)
        expected["recall"] |= {(r, p, h) for _, r, p, h in found_keys}
    passages = [p for p in records.archival.after(0) if p.id <= records.vectors.watermark("archival")]
    found_keys, _ = entries_of([], passages, {}, further_of(records, [], passages))
    expected["archival"] = {(r, p, h) for _, r, p, h in found_keys}
    # Further keys that were just set get their vectors at the next search.
    due = records.journal.get_cursor(KEYS_DUE) is not None
    for tier, wanted in expected.items():
        entries = records.vectors.entries(tier)
        have = {(r, p, h) for _, r, p, h in entries}
        if missing := sorted(w for w in wanted - have if not (due and w[1] >= KEY_PART)):
            findings.append(f"{len(missing)} keys of {tier} have no vector (first: record {missing[0][0]})")
        if extra := sorted(have - wanted):
            findings.append(
                f"{len(extra)} vectors of {tier} stand for texts that are not stored (record {extra[0][0]})"
            )
        if len(entries) != len(have):
            findings.append(f"{len(entries) - len(have)} vectors of {tier} are there twice")
        indexed = records.dense[tier].ids(found.id, found.dim)
        rows = sorted(e[0] for e in entries)
        if indexed != rows:
            findings.append(f"the index of {tier} has {len(indexed)} vectors, SQLite {len(rows)}: run agentmem rebuild")
    return findings


def rebuild(memory: Memory, progress: Callable[[int, int], None] | None = None) -> dict[str, int]:
    """Make the full-text and vector indexes of this agent anew from the records; how many entries each has."""
    records = memory.records
    with memory.store.write():
        recall = records.recall.reindex()
        archival = records.archival.reindex()
    counts = {"recall_texts": recall, "archival_texts": archival}
    memory.catch_up(progress)
    found = memory.store.embedder()
    if found is not None:
        for tier, index in records.dense.items():
            counts[f"{tier}_vectors"] = index.rebuild(found.id, found.dim)
    memory.log("rebuild", counts)
    return counts
