"""Reflection jobs of one agent: what each was, what it changed, and the answers of one that is not finished.

All writes are within the caller's transaction. Changes and reports are JSON; the kernel reads them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agentmem.store.database import Database
from agentmem.times import format_time


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job. `state` is "running" (also when its process was killed), "done", "stopped" or "undone"; `report` what it
    said at its end."""

    id: int
    started_at: str
    ended_at: str | None
    state: str
    strategies: tuple[str, ...]
    backend: str
    report: Mapping[str, Any]

    @property
    def ref(self) -> str:
        """The id as people write it."""
        return f"j{self.id}"


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A change of a job: the `change` itself, its `fate`, what it `made`, and what stood there `before`, as JSON."""

    job: int
    number: int
    strategy: str
    change: Mapping[str, Any]
    fate: str
    reason: str
    made: str | None
    before: Mapping[str, Any]


class Jobs:
    """The jobs of one agent."""

    def __init__(self, db: Database, agent_id: int) -> None:
        self._db = db
        self._agent = agent_id

    def begin(self, strategies: Sequence[str], backend: str, at: datetime) -> int:
        """A new job, running; its number, counting from 1."""
        row = self._db.row("SELECT coalesce(max(id), 0) + 1 FROM jobs WHERE agent_id = ?", (self._agent,))
        assert row is not None
        self._db.run(
            "INSERT INTO jobs (agent_id, id, started_at, state, strategies, backend, report) VALUES (?,?,?,?,?,?,'{}')",
            (self._agent, row[0], format_time(at), "running", json.dumps(list(strategies)), backend),
        )
        return int(row[0])

    def restore(
        self, job: int, *, started_at: str, ended_at: str | None, state: str, strategies: Sequence[str], backend: str,
        report: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Store a job with the number that it has (an import)."""
        self._db.run(
            "INSERT INTO jobs (agent_id, id, started_at, ended_at, state, strategies, backend, report)"
            " VALUES (?,?,?,?,?,?,?,?)",
            (
                self._agent, job, started_at, ended_at, state, json.dumps(list(strategies)), backend,
                json.dumps(report),
            ),
        )  # fmt: skip

    def end(self, job: int, state: str, report: Mapping[str, Any], at: datetime) -> None:
        """Note how a job ended."""
        self._db.run(
            "UPDATE jobs SET state = ?, report = ?, ended_at = ? WHERE agent_id = ? AND id = ?",
            (state, json.dumps(report, ensure_ascii=False), format_time(at), self._agent, job),
        )

    def all(self) -> list[JobRow]:
        """All jobs, oldest first."""
        return self._where("1")

    def _where(self, condition: str) -> list[JobRow]:
        rows = self._db.rows(f"SELECT * FROM jobs WHERE agent_id = ? AND {condition} ORDER BY id", (self._agent,))
        return [
            JobRow(
                r["id"], r["started_at"], r["ended_at"], r["state"], tuple(json.loads(r["strategies"])), r["backend"],
                json.loads(r["report"]),
            )
            for r in rows
        ]  # fmt: skip

    def running(self) -> JobRow | None:
        """The job that was begun and has not ended."""
        found = self._where("state = 'running'")
        return found[-1] if found else None

    def add_change(
        self,
        job: int,
        number: int,
        strategy: str,
        change: Mapping[str, Any],
        fate: str,
        *,
        reason: str = "",
        made: str | None = None,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        """Note what became of a change."""
        # ASCII: a plug-in's text may hold half a surrogate pair, which no file can.
        texts = (json.dumps(change), fate, reason, made, json.dumps(before or {}))
        self._db.run(
            "INSERT INTO job_changes (agent_id, job_id, number, strategy, change, fate, reason, made, before)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            (self._agent, job, number, strategy, *texts),
        )

    def next_change(self, job: int) -> int:
        """The number that a job's next change gets, from 1."""
        row = self._db.row(
            "SELECT coalesce(max(number), 0) + 1 FROM job_changes WHERE agent_id = ? AND job_id = ?",
            (self._agent, job),
        )
        assert row is not None
        return int(row[0])

    def changes(self, job: int) -> list[ChangeRow]:
        """A job's changes, in their order."""
        rows = self._db.rows(
            "SELECT * FROM job_changes WHERE agent_id = ? AND job_id = ? ORDER BY number", (self._agent, job)
        )
        return [
            ChangeRow(
                job, r["number"], r["strategy"], json.loads(r["change"]), r["fate"], r["reason"], r["made"],
                json.loads(r["before"]),
            )
            for r in rows
        ]  # fmt: skip

    def set_fate(self, job: int, number: int, fate: str, reason: str) -> None:
        """Note a change's later fate."""
        self._db.run(
            "UPDATE job_changes SET fate = ?, reason = ? WHERE agent_id = ? AND job_id = ? AND number = ?",
            (fate, reason, self._agent, job, number),
        )

    def rewrite(self, rewrite: Callable[[str], str]) -> int:
        """Rewrite all texts of changes and reports; how many rows changed. For erasure alone."""
        changed = 0
        for table, column, key in (
            ("job_changes", "change", "rowid"), ("job_changes", "before", "rowid"), ("jobs", "report", "rowid")
        ):  # fmt: skip
            for row in self._db.rows(f"SELECT {key}, {column} FROM {table} WHERE agent_id = ?", (self._agent,)):
                read = json.loads(row[1])
                value = json.dumps(_each_text(read, rewrite))
                if value != json.dumps(read):
                    self._db.run(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (value, row[0]))
                    changed += 1
        return changed

    def answer(self, key: bytes) -> Mapping[str, Any] | None:
        """What was answered to a request of the unfinished job."""
        row = self._db.row("SELECT answer FROM job_answers WHERE agent_id = ? AND key = ?", (self._agent, key))
        return None if row is None else dict(json.loads(row[0]))

    def keep_answers(self, answers: Mapping[bytes, Mapping[str, Any]]) -> None:
        """Keep answers until the job is done, so that a killed one does not ask again."""
        self._db.run_many(
            "INSERT OR REPLACE INTO job_answers (agent_id, key, answer) VALUES (?,?,?)",
            [(self._agent, key, json.dumps(value, ensure_ascii=False)) for key, value in answers.items()],
        )

    def drop_answers(self) -> None:
        """Forget them."""
        self._db.run("DELETE FROM job_answers WHERE agent_id = ?", (self._agent,))


def _each_text(value: Any, rewrite: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return rewrite(value)
    if isinstance(value, list):
        return [_each_text(v, rewrite) for v in value]
    if isinstance(value, dict):
        return {k: _each_text(v, rewrite) for k, v in value.items()}
    return value
