"""A full archive of one agent as one JSONL file: everything that is true, nothing that is derived.

The first line is a header, the last one has the count and SHA-256 of the lines, so that a cut or edited file
is noticed. Vectors are not in it: they are made anew, or found in the receiving file by the hash of their text. Caches
are not in it either. Records and jobs of reflection keep their ids; an archive without lines of jobs is as good.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

from agentmem.archive_jobs import KINDS, JobsRead, job_lines
from agentmem.crashpoints import crash_point
from agentmem.errors import InvalidInputError
from agentmem.indexing import set_keys
from agentmem.times import format_time, parse_time
from agentmem.types import Block, Earlier, Epoch, Message, Passage, Tier, ToolCall

if TYPE_CHECKING:
    from agentmem.memory import Memory

FORMAT = 1
BATCH = 500
CURSORS = "reflect:"
"""Cursors that go with the records: how far reflection has come."""


def _message(m: Message) -> dict[str, Any]:
    calls = [[c.id, c.name, c.arguments] for c in m.tool_calls]
    return {
        "type": "message", "id": m.id, "role": m.role, "content": m.content, "at": format_time(m.at),
        "stored_at": format_time(m.stored_at), "name": m.name, "key": m.key, "session": m.session,
        "tool_calls": calls, "tool_call_id": m.tool_call_id, "derived": m.derived,
    }  # fmt: skip


def _passage(p: Passage) -> dict[str, Any]:
    return {
        "type": "passage", "id": p.id, "text": p.text, "stored_at": format_time(p.stored_at),
        "valid_from": format_time(p.valid_from), "valid_to": format_time(p.valid_to) if p.valid_to else None,
        "superseded_by": p.superseded_by, "key": p.key, "kind": p.kind, "tags": list(p.tags),
        "sources": list(p.sources),
    }  # fmt: skip


def _block(b: Block) -> list[Any]:
    return [b.label, b.value, b.max_tokens, b.read_only, b.version, b.description]


def export_lines(memory: Memory) -> Iterator[str]:
    """The archive, line by line, of one state of the file."""
    records = memory.records
    memory.pager.state()
    with memory.store.db.read():
        count, digest = 1, hashlib.sha256()
        head = {"type": "agentmem", "format": FORMAT, "agent": memory.agent_name, **records.counters()}
        for row in chain((head,), _rows(memory)):
            # A change that was skipped may hold half a surrogate pair, which no file can.
            line = json.dumps(row, ensure_ascii=row["type"] in KINDS)
            digest.update(f"{line}\n".encode())
            count += 1
            yield line
        yield json.dumps({"type": "end", "lines": count, "sha256": digest.hexdigest()})


def _rows(memory: Memory) -> Iterator[dict[str, Any]]:
    records = memory.records
    last = records.recall.last_id()
    for first in range(1, last + 1, BATCH):
        yield from (_message(m) for m in records.recall.since(first, min(first + BATCH - 1, last)))
    yield from (_passage(p) for p in records.archival.after(0))
    yield {"type": "blocks", "blocks": [_block(b) for b in records.journal.blocks()]}
    yield from ({"type": "block_edit", **e} for e in records.journal.block_edits())
    for e, reason in records.journal.epochs():
        yield {
            "type": "epoch", "number": e.number, "first_message": e.first_message, "summary": e.summary,
            "summary_from": e.summary_from, "summary_to": e.summary_to, "blocks": [_block(b) for b in e.blocks],
            "started_at": format_time(e.started_at), "reason": reason,
            "compressed": [[c.message, c.day, c.line, c.key, c.whole] for c in e.compressed],
        }  # fmt: skip
    for tier, number, importance, used in records.uses.all():
        yield {"type": "use", "tier": tier, "id": number, "importance": importance, "used_utc": used}
    for tier, number, keys in records.keys.all():
        yield {"type": "keys", "tier": tier, "id": number, "keys": list(keys)}
    for name, value in records.journal.cursors(CURSORS):
        yield {"type": "cursor", "name": name, "value": value}
    yield from job_lines(records.jobs)
    for event in records.journal.events():
        yield {"type": "event", "number": event.number, "kind": event.kind, "at": format_time(event.at),
               "payload": event.payload}  # fmt: skip


def import_lines(memory: Memory, lines: Iterable[str]) -> Mapping[str, int]:
    """Take an archive into an agent that has nothing yet, whole or not at all; how many lines of each type.

    Raises InvalidInputError naming the line.
    """
    records = memory.records
    if records.recall.last_id() or records.archival.next_id() > 1:
        raise InvalidInputError(
            "agent", memory.agent_name, "has memories already", hint="import into a new agent: --agent NAME"
        )
    counts: dict[str, int] = {}
    try:
        with memory.store.write():
            records.clear()
            number, digest = 0, hashlib.sha256()
            ended = False
            counters: Mapping[str, int] = {}
            messages: list[Message] = []
            passages: list[Passage] = []
            uses: list[tuple[Tier, int, int | None, float | None]] = []
            further: list[tuple[Tier, int, list[str]]] = []
            jobs = JobsRead()
            for number, line in enumerate((x for x in lines if x.strip()), 1):
                try:
                    row = json.loads(line)
                    kind = row["type"]
                    if number == 1:
                        counters = _header(row)
                    elif kind == "message":
                        messages.append(_read_message(row))
                    elif kind == "passage":
                        passages.append(_read_passage(row))
                    elif kind == "use":
                        used = None if row["used_utc"] is None else float(row["used_utc"])
                        uses.append((Tier(row["tier"]), int(row["id"]), row["importance"], used))
                    elif kind == "keys":
                        further.append((Tier(row["tier"]), int(row["id"]), [str(k) for k in row["keys"]]))
                    elif kind in KINDS:
                        jobs.take(kind, row, number)
                    elif kind == "end":
                        ended = _ends(row, number, digest.hexdigest())
                    else:
                        _read_journal(memory, kind, row)
                except InvalidInputError:
                    raise
                except (ValueError, KeyError, TypeError, AttributeError) as e:
                    raise InvalidInputError("archive", line, f"line {number} can't be read: {e!r}") from e
                digest.update(line.rstrip("\r\n").encode("utf-8", "surrogateescape") + b"\n")
                counts[kind] = counts.get(kind, 0) + 1
            if not ended:
                raise InvalidInputError("archive", f"{number} lines", "is cut: its last line is missing or miscounts")
            records.recall.restore(messages)
            records.archival.restore(passages)
            for use in uses:
                _restore_use(memory, *use)
            for keys in further:
                set_keys(records, *keys, memory.clock())
            jobs.restore(records.jobs)
            records.set_counters(counters)
            memory.log("import", {"messages": len(messages), "passages": len(passages)})
            crash_point("import.before_commit")
        crash_point("import.committed")
    finally:
        memory.refresh()
    return {k: v for k, v in counts.items() if k not in ("agentmem", "end")}


def _header(row: Mapping[str, Any]) -> Mapping[str, int]:
    if row.get("type") != "agentmem" or row.get("format") != FORMAT:
        raise InvalidInputError("archive", str(row)[:80], f"is no agentmem archive of format {FORMAT}")
    return {n: int(row[n]) for n in ("next_message", "next_passage", "next_event")}


def _ends(row: Mapping[str, Any], number: int, sha256: str) -> bool:
    if row["lines"] == number and row["sha256"] != sha256:
        raise InvalidInputError("archive", f"{number} lines", "was changed: its checksum does not match its lines")
    return bool(row["lines"] == number)


def _read_message(r: Mapping[str, Any]) -> Message:
    return Message(
        int(r["id"]), r["role"], str(r["content"]), _time(r["at"]), _time(r["stored_at"]), r["name"], r["key"],
        r["session"], tuple(ToolCall(*c) for c in r["tool_calls"]), r["tool_call_id"], bool(r["derived"]),
    )  # fmt: skip


def _read_passage(r: Mapping[str, Any]) -> Passage:
    ends = _time(r["valid_to"]) if r["valid_to"] else None
    return Passage(
        int(r["id"]), str(r["text"]), _time(r["stored_at"]), _time(r["valid_from"]), ends, r["superseded_by"], r["key"],
        r["kind"], tuple(r["tags"]), tuple(r["sources"]),
    )  # fmt: skip


def _restore_use(memory: Memory, tier: Tier, number: int, importance: int | None, used_utc: float | None) -> None:
    if importance is not None:
        memory.records.uses.rate(tier, number, importance)
    if used_utc is not None:
        memory.records.uses.touch([(tier, number)], used_utc)


def _time(text: str) -> datetime:
    return parse_time(text)


def _read_journal(memory: Memory, kind: str, row: Mapping[str, Any]) -> None:
    journal = memory.records.journal
    if kind == "blocks":
        journal.restore_blocks([Block(*b) for b in row["blocks"]])
    elif kind == "block_edit":
        journal.restore_edit({k: row[k] for k in ("label", "version", "op", "before", "after", "actor", "at")})
    elif kind == "epoch":
        epoch = Epoch(
            int(row["number"]), int(row["first_message"]), row["summary"], int(row["summary_from"]),
            int(row["summary_to"]), tuple(Block(*b) for b in row["blocks"]), _time(row["started_at"]),
            tuple(Earlier(*c) for c in row.get("compressed", ())),
        )  # fmt: skip
        journal.start_epoch(epoch, row["reason"])
    elif kind == "cursor" and str(row["name"]).startswith(CURSORS):
        journal.put_cursor(row["name"], row["value"], memory.clock())
    elif kind == "event":
        journal.restore_event(int(row["number"]), row["kind"], row["at"], row["payload"])
    else:
        raise InvalidInputError("archive", kind, "is no type of line that this version knows")
