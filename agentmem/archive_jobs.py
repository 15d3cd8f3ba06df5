"""The reflection jobs of an agent as lines of its archive, with all their changes: an imported job can be shown,
resumed and undone. Records keep their ids in an archive, so what a job names is still there under its name.

The answers of an unfinished job are a cache, and stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, get_args

from agentmem.errors import InvalidInputError
from agentmem.reflection.changes import AddPassage, Change, ClosePassage, EditBlock, Rate, SetKeys, of_json
from agentmem.reflection.outcome import Fate

if TYPE_CHECKING:
    from agentmem.store.jobs import Jobs

KINDS = ("job", "job_change")
JOB_FIELDS = ("started_at", "ended_at", "state", "strategies", "backend", "report")
CHANGE_FIELDS = ("strategy", "change", "fate", "reason", "made", "before")
STATES = ("running", "done", "stopped", "undone")
WRITTEN = ("applied", "undone", "kept")
"""The fates of changes that were made: what they say was checked then, and an undo reads it."""
HINT = "export the agent again with agentmem export, or mend that line and the archive's last one"
_REF = re.compile(r"[mp][1-9][0-9]*")
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "str": lambda v: isinstance(v, str),
    "str | None": lambda v: v is None or isinstance(v, str),
    "int": lambda v: type(v) is int,
    "int | None": lambda v: v is None or type(v) is int,
    "tuple[str, ...]": lambda v: isinstance(v, tuple) and all(isinstance(t, str) for t in v),
}


def job_lines(jobs: Jobs) -> Iterator[dict[str, Any]]:
    """Each job, oldest first, and behind it its changes."""
    for job in jobs.all():
        yield {"type": "job", "id": job.id, **{name: getattr(job, name) for name in JOB_FIELDS}}
        for row in jobs.changes(job.id):
            fields_of = {name: getattr(row, name) for name in CHANGE_FIELDS}
            yield {"type": "job_change", "job": row.job, "number": row.number, **fields_of}


class _Bad(Exception):
    """A field, its value, and what is wrong with it."""


class JobsRead:
    """Jobs from the lines of an archive, checked one by one, so that nothing that reads or undoes them can stumble."""

    def __init__(self) -> None:
        self._jobs: dict[int, Mapping[str, Any]] = {}
        self._changes: dict[tuple[int, int], Mapping[str, Any]] = {}

    def take(self, kind: str, row: Mapping[str, Any], line: int) -> None:
        """A line of one of `KINDS`. Raises InvalidInputError with the field, its value and the line's number, KeyError
        for a field that is missing."""
        try:
            _no_half_signs(row)
            (self._take_job if kind == "job" else self._take_change)(row)
        except _Bad as e:
            field, value, problem = e.args
            raise InvalidInputError(f"{kind}.{field}", value, f"line {line}: {problem}", hint=HINT) from e

    def restore(self, jobs: Jobs) -> None:
        """Store what was read, within the caller's transaction."""
        for job, told in self._jobs.items():
            jobs.restore(job, **{name: told[name] for name in JOB_FIELDS})
        for (of_job, number), row in self._changes.items():
            jobs.add_change(of_job, number, **{name: row[name] for name in CHANGE_FIELDS})

    def _take_job(self, row: Mapping[str, Any]) -> None:
        number = _number(row, "id")
        if number in self._jobs:
            raise _Bad("id", number, "stands for two jobs")
        strategies = row["strategies"]
        if not isinstance(strategies, list) or not all(isinstance(s, str) for s in strategies):
            raise _Bad("strategies", strategies, "must be a list of names")
        _time("started_at", row["started_at"])
        if row["ended_at"] is not None:
            _time("ended_at", row["ended_at"])
        if row["state"] not in STATES:
            raise _Bad("state", row["state"], f"must be one of {', '.join(STATES)}")
        for name, type_, meant in (("backend", str, "a text"), ("report", dict, "an object")):
            if not isinstance(row[name], type_):
                raise _Bad(name, row[name], f"must be {meant}")
        told = row["report"].get("strategies", {})
        if not isinstance(told, dict) or not all(isinstance(s, dict) and _counts(s) for s in told.values()):
            raise _Bad("report.strategies", told, "must have counts for each strategy")
        self._jobs[number] = row

    def _take_change(self, row: Mapping[str, Any]) -> None:
        job, number = _number(row, "job"), _number(row, "number")
        if job not in self._jobs:
            raise _Bad("job", job, "is a job that does not stand before it")
        if (job, number) in self._changes:
            raise _Bad("number", number, f"stands for two changes of j{job}")
        for name in ("strategy", "reason"):
            if not isinstance(row[name], str):
                raise _Bad(name, row[name], "must be a text")
        if row["fate"] not in get_args(Fate):
            raise _Bad("fate", row["fate"], f"must be one of {', '.join(get_args(Fate))}")
        for name in ("change", "before"):
            if not isinstance(row[name], dict):
                raise _Bad(name, row[name], "must be an object")
        try:
            change = of_json(row["change"])
        except InvalidInputError as e:
            raise _Bad("change", row["change"], "is no change that this version knows") from e
        made = row["made"]
        if row["fate"] in WRITTEN:
            _check(change, made, row["before"])
        elif made is not None:
            raise _Bad("made", made, f"was not made: the change is {row['fate']}")
        self._changes[job, number] = row


def _check(change: Change, made: Any, before: Mapping[str, Any]) -> None:
    """That an undo can read what was written."""
    for field in fields(change):
        value = getattr(change, field.name)
        if field.name != "why" and not _TYPES[str(field.type)](value):
            raise _Bad(f"change.{field.name}", value, f"must be {field.type}")
    if isinstance(change, AddPassage):
        _ref("made", made, "p")
    elif made is not None:
        raise _Bad("made", made, "must be null: only an added passage is made")
    if isinstance(change, Rate | SetKeys):
        _ref("change.ref", change.ref, "mp")
    elif isinstance(change, ClosePassage):
        _ref("change.passage", change.passage, "p")
        _has(before, "set_to", "str")
        _has(before, "valid_to", "str | None")
        _has(before, "superseded_by", "int | None")
        if before["valid_to"] is not None:
            _time("before.valid_to", before["valid_to"])
    elif isinstance(change, EditBlock):
        _has(before, "after", "str")


def _ref(field: str, value: Any, tiers: str) -> None:
    if not isinstance(value, str) or not _REF.fullmatch(value) or value[0] not in tiers:
        raise _Bad(field, value, f"must be the id of a record ({' or '.join(f'{t}1' for t in tiers)})")


def _counts(told: Mapping[str, Any]) -> bool:
    return all(type(n) is int for n in told.values())


def _has(before: Mapping[str, Any], name: str, type_: str) -> None:
    if name not in before or not _TYPES[type_](before[name]):
        raise _Bad(f"before.{name}", before.get(name), f"must be {type_}: an undo restores it")


def _number(row: Mapping[str, Any], name: str) -> int:
    value = row[name]
    if type(value) is not int or not 1 <= value < 2**53:
        raise _Bad(name, value, "must be a whole number from 1")
    return value


def _time(field: str, value: Any) -> None:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError) as e:
        raise _Bad(field, value, "must be a time, ISO 8601") from e


def _no_half_signs(row: Mapping[str, Any]) -> None:
    """SQLite takes no half of a surrogate pair, but in what is stored as ASCII."""
    for name in ("backend", "strategy", "reason"):
        text = row.get(name)
        if isinstance(text, str) and any("\ud800" <= sign <= "\udfff" for sign in text):
            raise _Bad(name, text, "has half a surrogate pair")
