"""Erasing for good: a record, what was derived from it, its vectors, and every text that repeats it.

What goes: the record; passages derived from it, and from those, to the end; what its turn filed into core memory; its
words in the full-text index; its vectors and embeddings; further keys of it, and those of other records that quote it
or rest on it; summaries, core blocks' history, what reflection jobs noted, quotations and tool results that repeat it;
kept search pages; all of the agent's caches. The event log keeps the fact (an id and a time), no
content. Free pages of the file are overwritten. What a model said of it in words of its own stays: that is another
message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from agentmem.crashpoints import crash_point
from agentmem.errors import InvalidInputError, UnknownNameError
from agentmem.indexing import set_keys
from agentmem.keys import CONTEXT_PART
from agentmem.summary import names_any, without_model
from agentmem.types import Block, Epoch, Message, Passage

if TYPE_CHECKING:
    from agentmem.memory import Memory

ERASED = "[erased]"
# Shorter texts ("yes") are no secret, and taking them out of other texts would tear holes.
MIN_QUOTE_CHARS = 12
# The first line of a summary that was made without a model; each further one names its message.
LISTED = "said, among other things:"


def erase(memory: Memory, *, key: str | None, ref: str | None) -> Mapping[str, int]:
    """Erase one record in one transaction, then scrub the file. Raises UnknownNameError."""
    if (key is None) == (ref is None):
        raise InvalidInputError("key", key, "give a key or an id, one of them", hint="agentmem search shows both")
    records = memory.records
    with memory.store.write():
        message, passage = _find(memory, key, ref)
        messages = [message] if message is not None else []
        roots = [r.ref for r in (message, passage) if r is not None]
        passages = _derived(memory, roots) + ([passage] if passage is not None else [])
        traffic, filed = _of_turn(memory, {m.id for m in messages})
        # A summary tells of other records too, which stay: where it says this one's words, those are found as such.
        own = [p.text for p in passages if p.kind != "summary" or p is passage]
        texts = [*(m.said for m in messages), *(m.content for m in messages), *own]
        quotes = _quotes([*texts, *filed])
        labels = [label for pair in _labels(messages, passages) for label in pair if label is not None]
        copies = _copies(memory, quotes + _marks(labels), {m.id for m in (*messages, *traffic)})
        gone = messages + traffic + copies
        records.vectors.remove("recall", [m.id for m in gone])
        # The message after it has a key with its words in it.
        records.vectors.remove("recall", [m.id + 1 for m in gone], part=CONTEXT_PART)
        records.vectors.remove("archival", [p.id for p in passages])
        records.uses.remove("recall", [m.id for m in gone])
        records.uses.remove("archival", [p.id for p in passages])
        erased = [m.ref for m in gone] + [p.ref for p in passages]
        told = _clean_keys(memory, quotes, set(erased))
        records.recall.delete(gone)
        records.archival.delete(passages)
        touched = _rewrite(memory, quotes, filed, labels, {m.id for m in gone})
        jobs_quotes = _quotes([*texts, *filed, *told])
        touched += records.jobs.rewrite(lambda text: _without(text, jobs_quotes))
        records.journal.drop_cursors("conversation_search:")
        records.journal.drop_cursors("archival_memory_search:")
        records.clear_caches()
        records.journal.put_cursor(records.SCRUB_DUE, True, memory.clock())
        counts = {"messages": len(gone), "passages": len(passages), "texts_rewritten": touched}
        memory.log("erase", {"refs": erased, **counts})
        crash_point("erase.before_commit")
    crash_point("erase.committed")
    memory.refresh()
    if not memory.store.scrub(records):
        memory.notices.append(
            f"erased; but another process is reading {memory.store.path}, so that its write-ahead log still holds the"
            " text: it goes when the file is next opened"
        )
    return counts


def _find(memory: Memory, key: str | None, ref: str | None) -> tuple[Message | None, Passage | None]:
    records = memory.records
    if key is not None:
        message, passage = records.recall.by_keys([key]).get(key), records.archival.by_key(key)
    else:
        number = int(ref[1:]) if ref and ref[1:].isdigit() else 0
        message = next(iter(records.recall.get([number])), None) if ref and ref.startswith("m") else None
        passage = next(iter(records.archival.get([number])), None) if ref and ref.startswith("p") else None
    if message is None and passage is None:
        raise UnknownNameError("record", key or ref or "", [], hint="agentmem search shows keys and ids")
    return message, passage


def _derived(memory: Memory, roots: Iterable[str]) -> list[Passage]:
    """Passages that come from the roots, directly or not."""
    found: dict[int, Passage] = {}
    todo = list(roots)
    while todo:
        for passage in memory.records.archival.derived_from(todo.pop()):
            # A successor in time is no derived text: it says something else, and stays.
            if passage.id not in found and not _succeeds(memory, passage):
                found[passage.id] = passage
                todo.append(passage.ref)
    return list(found.values())


def _succeeds(memory: Memory, passage: Passage) -> bool:
    sources = [int(s[1:]) for s in passage.sources if s.startswith("p") and s[1:].isdigit()]
    return any(p.superseded_by == passage.id for p in memory.records.archival.get(sources))


def _quotes(texts: Iterable[str]) -> list[str]:
    """The texts that must not stand anywhere else, longest first: whole, and line by line."""
    parts = {p.strip() for t in texts for p in (t, *t.splitlines(), *re.split(r"(?<=[.!?])\s+", t))}
    return sorted((p for p in parts if len(p) >= MIN_QUOTE_CHARS), key=len, reverse=True)


def _copies(memory: Memory, quotes: list[str], known: set[int]) -> list[Message]:
    """Messages that repeat it without having been said: quotations by the extractive backend, tool traffic, notes."""
    if not quotes:
        return []
    found = memory.records.recall.repeating(quotes)
    return [m for m in found if m.id not in known]


def _without(text: str, quotes: list[str]) -> str:
    for quote in quotes:
        text = text.replace(quote, ERASED)
    return text


def _labels(messages: Iterable[Message], passages: Iterable[Passage]) -> list[tuple[str | None, str]]:
    return [*((m.key, m.ref) for m in messages), *((p.key, p.ref) for p in passages)]


def _marks(labels: Iterable[str]) -> list[str]:
    """How quotations and search results name a record: a shortened copy is known by that alone."""
    return [mark for label in labels for mark in (f"[{label}]", json.dumps({"id": label}, ensure_ascii=False)[1:-1])]


def _of_turn(memory: Memory, ids: set[int]) -> tuple[list[Message], set[str]]:
    """What the turns of these messages made of them: the messages that only repeat or file them, and the lines that
    they brought into core memory."""
    journal, recall = memory.records.journal, memory.records.recall
    found: dict[int, Message] = {}
    edits: set[tuple[str, int]] = set()
    pending: set[tuple[str, int]] = set()
    for event in journal.events():
        p = event.payload
        if event.kind == "prompt":
            pending = set()
        elif event.kind == "core_edit" and p["actor"] == "tool":
            pending.add((p["label"], p["version"]))
        elif event.kind == "step" and p["turn"] in ids:
            edits |= pending
            own = recall.since(p["message"], p["message"] + len(p["tools"]))
            if own and (own[0].derived or pending or "archival_memory_insert" in p["tools"]):
                found.update((m.id, m) for m in own)
    lines: set[str] = set()
    for edit in journal.block_edits():
        if (edit["label"], edit["version"]) in edits:
            lines |= set(edit["after"].splitlines()) - set(edit["before"].splitlines())
    return [m for m in found.values() if m.id not in ids], lines


def _clean_keys(memory: Memory, quotes: list[str], erased: set[str]) -> set[str]:
    """Drop the further keys of what is erased, and those of other records that quote it or that a job made of it; what
    jobs noted of it in words of their own."""
    records = memory.records
    told: set[str] = set()
    resting: dict[str, set[str]] = {}
    for job in records.jobs.all():
        for row in records.jobs.changes(job.id):
            change = row.change
            if change.get("ref") in erased or not erased.isdisjoint(change.get("sources", ())):
                texts = {*change.get("keys", ()), *([change["text"]] if change["op"] == "add" else [])}
                told |= texts
                if change["op"] == "keys":
                    resting.setdefault(change["ref"], set()).update(texts)
    for tier, number, keys in records.keys.all():
        ref = f"{'m' if tier == 'recall' else 'p'}{number}"
        own, never = ref in erased, resting.get(ref, set())
        left = () if own else tuple(k for k in keys if k not in never and _without(k, quotes) == k)
        if left != keys:
            told |= set(keys) - set(left)
            set_keys(records, tier, number, left, memory.clock())
    return told


def _rewrite(memory: Memory, quotes: list[str], filed: set[str], labels: list[str], gone: set[int]) -> int:
    """Take the texts out of summaries, core blocks and their history; how many were touched."""
    journal = memory.records.journal
    touched = 0
    for epoch, _ in journal.epochs():
        summary = _clean_summary(memory, epoch, quotes, labels, gone)
        blocks = tuple(_clean_block(b, quotes, filed) for b in epoch.blocks)
        left = tuple(e for e in epoch.compressed if e.message not in gone and _without(e.line, quotes) == e.line)
        if (summary, blocks, left) != (epoch.summary, epoch.blocks, epoch.compressed):
            journal.rewrite_epoch(epoch.number, summary, blocks, left)
            touched += 1
    for block in journal.blocks():
        cleaned = _clean_block(block, quotes, filed)
        if cleaned != block:
            journal.rewrite_block(cleaned)
            touched += 1
    return touched + journal.rewrite_edits(lambda text: _clean_lines(text, quotes, filed))


def _clean_summary(memory: Memory, epoch: Epoch, quotes: list[str], labels: list[str], gone: set[int]) -> str:
    """Without the lines that name or quote it. A summary by a model has no such lines, and may tell it in words of its
    own: it is made anew, without the model."""
    lines = epoch.summary.splitlines()
    covered = any(epoch.summary_from <= i <= epoch.summary_to for i in gone)
    if lines and covered and not lines[0].endswith(LISTED):
        left = memory.records.recall.since(epoch.summary_from, epoch.summary_to)
        return without_model("", left, memory.budget.summary_tokens, memory.shape.counter).text
    starts = tuple(f"- {label} " for label in labels)
    kept = [line for line in lines if not line.startswith(starts) and not names_any(line, gone)]
    return "\n".join(line for line in kept if _without(line, quotes) == line)


def _clean_lines(text: str, quotes: list[str], filed: set[str]) -> str:
    lines = [_without(line, quotes) for line in text.splitlines() if line not in filed]
    return "\n".join(line for line in lines if line.strip() != ERASED)


def _clean_block(block: Block, quotes: list[str], filed: set[str]) -> Block:
    return replace(block, value=_clean_lines(block.value, quotes, filed))
