"""Histories in, what reflection makes of them out: a line of JSON each, for pipelines.

Each history is an agent of its own. A run that was stopped goes on: lines that stand in the output are not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from agentmem.crashpoints import crash_point
from agentmem.errors import AgentMemError, ConfigError, InvalidInputError
from agentmem.reflection.outcome import JobReport
from agentmem.times import format_time, system_clock, utc_seconds

if TYPE_CHECKING:
    from agentmem.memory import Memory

MAX_NAME_CHARS = 200
Opener = Callable[[str, Callable[[], datetime]], "Memory"]
"""(agent, clock) -> its memory, which is closed here."""
Reflector = Callable[[Sequence["Memory"]], Sequence[JobReport]]


@dataclass(frozen=True, slots=True)
class History:
    """A line of the input: `number` counts from 1, empty lines too. `problem` says why it can't be taken ("": it can).
    `digest` is of its bytes and of all that its result depends on."""

    number: int
    name: str | None
    messages: tuple[Any, ...]
    digest: str
    problem: str = ""


@dataclass(slots=True)
class Taken:
    """What came of a run. `skipped` stood in the output already; `ended` says why it stopped before the end."""

    done: int = 0
    skipped: int = 0
    malformed: list[tuple[int, str]] = field(default_factory=list)
    ended: str = ""


def histories(lines: Iterable[str], settings: str) -> Iterator[History]:
    """The histories of a file: `{"id": ..., "messages": [...]}` a line. A line that is none, and one whose id stood
    before, has a `problem`. `settings` is all else that a result depends on."""
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        raw = line.strip().encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(settings.encode() + b"\0" + raw).hexdigest()[:16]
        name, messages, problem = _parsed(line)
        if name is not None and not problem:
            first = seen.setdefault(name, number)
            problem = f"the id {name!r} stood in line {first} already" if first != number else ""
        yield History(number, name, messages, digest, problem)


def _parsed(line: str) -> tuple[str | None, tuple[Any, ...], str]:
    try:
        line.encode("utf-8")
        row = json.loads(line)
    except (ValueError, RecursionError) as e:
        return None, (), f"no JSON: {str(e)[:200]}"
    if not isinstance(row, dict) or isinstance(row.get("id"), bool) or not isinstance(row.get("id"), str | int):
        return None, (), 'no history: give {"id": ..., "messages": [...]}'
    name = str(row["id"])
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return None, (), "the id has a lone surrogate"
    if not name.strip() or len(name) > MAX_NAME_CHARS or not name.isprintable():
        return None, (), f"the id must be printable text of at most {MAX_NAME_CHARS} characters"
    messages = row.get("messages")
    if not isinstance(messages, list):
        return name, (), "messages is no list"
    return name, tuple(messages), ""


def taken_up(out: Path, waiting: Iterator[History]) -> tuple[int, int]:
    """(lines, bytes) of the output that are whole and belong to the first histories, which are taken from `waiting`.

    Raises ConfigError when a line there is of another input, or of other settings.
    """
    lines = size = 0
    try:
        with out.open("rb") as f:
            for raw in f:
                if not raw.endswith(b"\n"):
                    break  # half written
                history = next(waiting, None)
                try:
                    digest = json.loads(raw)["digest"]
                except (ValueError, KeyError, TypeError, RecursionError):
                    digest = None
                if history is None or digest != history.digest:
                    raise ConfigError(
                        "out", str(out), f"its line {lines + 1} is not of this input with these settings",
                        hint="give another --out, or take the file away to begin anew",
                    )  # fmt: skip
                lines += 1
                size += len(raw)
    except FileNotFoundError:
        return 0, 0
    except OSError as e:
        raise ConfigError("out", str(out), f"can't be read: {e.strerror}") from e
    return lines, size


def reflect_histories(
    lines: Iterable[str],
    out: Path,
    *,
    opened: Opener,
    reflector: Reflector,
    settings: str,
    kept: bool,
    group_size: int = 1,
    ended: Callable[[], str] = lambda: "",
    progress: Callable[[int], None] = lambda _done: None,
) -> Taken:
    """Reflect on each history, `group_size` at a time, and write a line each to `out`, in order.

    `opened` gives the memory of an agent; `kept`: it outlives the run (a store of the caller's), so that a run that
    was killed between the job and its line finds the job there. `reflector` runs the job; `ended` says afterwards why
    nothing more is to be begun ("": go on): what has not been finished then is not written. Raises ConfigError for an
    `out` that is of another input, or can't be written.
    """
    taken = Taken()
    waiting = histories(lines, settings)
    taken.skipped, size = taken_up(out, waiting)
    with going_on(out, size) as f:
        while not taken.ended and (group := list(islice(waiting, group_size))):
            with ExitStack() as stack:
                rows, marks = _group(group, stack, opened, reflector, kept, out)
                taken.ended = ended()
                for history, row in zip(group, rows, strict=True):
                    if taken.ended and row["state"] == "stopped":
                        break
                    f.write(line_of(row))
                    f.flush()
                    crash_point("histories.written")
                    taken.done += 1
                    if history.problem:
                        taken.malformed.append((history.number, history.problem))
                    for name, memory in marks.get(history.number, ()):
                        with memory.store.write():
                            memory.records.journal.drop_cursors(name)
                os.fsync(f.fileno())
            progress(taken.done + taken.skipped)
    return taken


@contextmanager
def going_on(out: Path, size: int) -> Iterator[BinaryIO]:
    """An output to go on with behind its first `size` bytes. Raises ConfigError when it can't be written."""
    try:
        with out.open("r+b" if out.exists() else "wb") as f:
            f.truncate(size)
            f.seek(size)
            yield f
    except OSError as e:
        raise ConfigError("out", str(out), f"can't be written: {e.strerror}") from e


def line_of(row: Mapping[str, Any]) -> bytes:
    """A result as a line of the output."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _group(
    group: Sequence[History], stack: ExitStack, opened: Opener, reflector: Reflector, kept: bool, out: Path
) -> tuple[list[dict[str, Any]], dict[int, list[tuple[str, Memory]]]]:
    """A row for each history, and of each the note in its store that is to be taken away when the row is written."""
    memories: list[Memory] = []
    read: dict[int, Mapping[str, Any] | str] = {}
    marks: dict[int, list[tuple[str, Memory]]] = {}
    firsts: dict[int, int] = {}
    for history in group:
        if history.problem:
            continue
        assert history.name is not None
        rows = [_keyed(n, m) for n, m in enumerate(history.messages, 1)]
        try:
            memory = stack.enter_context(opened(history.name, _clock(rows)))
            report = memory.ingest(rows)
        except (InvalidInputError, ConfigError) as e:
            read[history.number] = e.message
            continue
        read[history.number] = {"malformed": list(report.malformed), "conflicts": list(report.conflicts)}
        memories.append(memory)
        if kept:
            # The jobs from here on are this line's: also those of a run that was killed before it wrote the line.
            name = f"histories:{hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:12]}:{history.digest}"
            jobs = memory.records.jobs.all()
            with memory.store.write():
                noted = memory.records.journal.get_cursor(name)
                if noted is None:
                    noted = jobs[-1].id if jobs else 0
                    memory.records.journal.put_cursor(name, noted, memory.clock())
            marks[history.number] = [(name, memory)]
            firsts[history.number] = noted
    reports = iter(zip(memories, reflector(memories), strict=True)) if memories else iter(())
    out_rows = []
    for history in group:
        told = read.get(history.number)
        if history.problem or isinstance(told, str):
            out_rows.append(_malformed(history, history.problem or str(told)))
        else:
            memory, job = next(reports)
            out_rows.append({**_row(history, memory, job, firsts.get(history.number, 0)), **_problems(told or {})})
    return out_rows, marks


def _keyed(number: int, message: Any) -> Any:
    # A message without an id of its own gets its place for one, so that a second run does not store it twice.
    if isinstance(message, Mapping) and message.get("id") is None:
        return {**message, "id": f"#{number}"}
    return message if isinstance(message, Mapping) else json.dumps(message)


def _clock(rows: Sequence[Any]) -> Callable[[], datetime]:
    """A history is reflected on as of its last message: its result depends on nothing else."""
    times = []
    for row in rows:
        try:
            at = datetime.fromisoformat(row["at"])
            times.append((utc_seconds(at), at if at.tzinfo is not None else at.replace(tzinfo=UTC)))
        except (TypeError, KeyError, ValueError, AgentMemError):
            continue  # it has no time; a wrong one is reported when it is stored
    last = max(times)[1] if times else system_clock()
    return lambda: last


def _row(history: History, memory: Memory, report: JobReport, after: int) -> dict[str, Any]:
    records = memory.records
    changes = [
        {"number": c.number, "strategy": c.strategy, "fate": c.fate, "reason": c.reason, "made": c.made,
         "change": dict(c.change)}
        for job in records.jobs.all() if job.id > after
        for c in records.jobs.changes(job.id)
    ]  # fmt: skip
    strategies = [{k: v for k, v in s.items() if k != "changes"} for s in report.to_dict()["strategies"]]
    state = "done" if report.state == "nothing new" and changes else report.state
    return {
        "id": history.name, "line": history.number, "digest": history.digest, "state": state,
        "reason": report.reason, "strategies": strategies, "changes": changes,
        "passages": [
            {"id": p.ref, "kind": p.kind, "text": p.text, "tags": list(p.tags), "sources": list(p.sources),
             "valid_from": format_time(p.valid_from), "valid_to": format_time(p.valid_to) if p.valid_to else None,
             "superseded_by": f"p{p.superseded_by}" if p.superseded_by else None}
            for p in records.archival.after(0)
        ],
        "blocks": {b.label: b.value for b in records.journal.blocks()},
    }  # fmt: skip


def _malformed(history: History, problem: str) -> dict[str, Any]:
    return {
        "id": history.name, "line": history.number, "digest": history.digest, "state": "malformed",
        "reason": f"line {history.number}: {problem}", "strategies": [], "changes": [], "passages": [], "blocks": {},
    }  # fmt: skip


def _problems(read: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found for name, found in read.items() if found}
