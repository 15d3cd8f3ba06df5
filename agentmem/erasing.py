"""Erasing for good: a record, what was derived from it, its vectors, and every text that repeats it.

What goes: the record; passages derived from it, and from those, to the end; its words in the full-text index; its vectors
and embeddings; summaries, core blocks' history and tool results that quote it; kept search pages. The event log keeps
the fact (an id and a time), no content. Free pages of the file are overwritten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from agentmem.crashpoints import crash_point
from agentmem.errors import InvalidInputError, UnknownNameError
from agentmem.types import Block, Message, Passage

if TYPE_CHECKING:
    from agentmem.memory import Memory

ERASED = "[erased]"
# Shorter texts ("yes") are no secret, and taking them out of other texts would tear holes.
MIN_QUOTE_CHARS = 12


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
        quotes = _quotes([m.said for m in messages] + [m.content for m in messages] + [p.text for p in passages])
        copies = _copies(memory, quotes, {m.id for m in messages})
        gone = messages + copies
        records.vectors.remove("recall", [m.id for m in gone])
        records.vectors.remove("archival", [p.id for p in passages])
        records.recall.delete(gone)
        records.archival.delete(passages)
        touched = _rewrite(memory, quotes)
        records.journal.drop_cursors("conversation_search:")
        records.journal.drop_cursors("archival_memory_search:")
        counts = {"messages": len(gone), "passages": len(passages), "texts_rewritten": touched}
        erased = [m.ref for m in gone] + [p.ref for p in passages]
        memory.log("erase", {"refs": erased, **counts})
        crash_point("erase.before_commit")
    crash_point("erase.committed")
    # Words of deleted rows leave the full-text segments, deleted pages leave the file.
    with memory.store.write():
        records.recall.lexical.optimize()
        records.archival.lexical.optimize()
    for index in records.dense.values():
        index.forget()
    memory.store.scrub()
    memory.refresh()
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


def _rewrite(memory: Memory, quotes: list[str]) -> int:
    """Take the texts out of summaries, core blocks and their history; how many were touched."""
    journal = memory.records.journal
    touched = 0
    for epoch, _ in journal.epochs():
        lines = [line for line in epoch.summary.splitlines() if _without(line, quotes) == line]
        summary = "\n".join(lines)
        blocks = tuple(_clean_block(b, quotes) for b in epoch.blocks)
        if summary != epoch.summary or blocks != epoch.blocks:
            journal.rewrite_epoch(epoch.number, summary, blocks)
            touched += 1
    for block in journal.blocks():
        cleaned = _clean_block(block, quotes)
        if cleaned != block:
            journal.rewrite_block(cleaned)
            touched += 1
    return touched + journal.rewrite_edits(lambda text: _without(text, quotes))


def _clean_block(block: Block, quotes: list[str]) -> Block:
    lines = [_without(line, quotes) for line in block.value.splitlines()]
    return replace(block, value="\n".join(line for line in lines if line.strip() != ERASED))
