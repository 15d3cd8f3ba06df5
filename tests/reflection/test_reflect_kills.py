"""kill -9 in the middle of reflection, a hundred times: run again, it ends as if it had never been killed."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.inspecting import verify
from agentmem.memory import Memory
from agentmem.reflection import reflect
from agentmem.scripted import ScriptedBackend
from agentmem.times import format_time
from tests.reflection.toys import Notes, noted
from tests.reflection.views import words
from tests.state import killed_child as child
from tests.state.test_kills import Server

pytestmark = pytest.mark.slow
POINTS = ("reflect.answers_before_commit", "reflect.answers_kept", "reflect.before_commit", "reflect.committed")
WANTED = 100
MESSAGES = 24


def opened(db: Path) -> Memory:
    return Memory(db, embedder=HashingEmbedder(64), **child.SMALL)


def state(db: Path) -> dict[str, Any]:
    """What reflection leaves: times apart, which are the machine's."""
    with opened(db) as memory:
        assert verify(memory) == []
        records = memory.records
        passages = [(p.id, p.text, p.sources, p.superseded_by, p.valid_to is None) for p in records.archival.after(0)]
        for p in records.archival.after(0):
            assert p.valid_to is None or format_time(p.valid_to)
        return {
            "passages": passages,
            "block": memory.core["human"].value,
            "uses": [u[:3] for u in records.uses.all()],
            "keys": records.keys.all(),
            "words": words(memory),
            "changes": [(c.number, c.strategy, c.fate, c.made) for c in records.jobs.changes(1)],
            "jobs": [(j.id, j.state) for j in records.jobs.all()],
        }


def test_a_hundred_kills(tmp_path: Path) -> None:
    start, whole, db = tmp_path / "start.db", tmp_path / "whole.db", tmp_path / "m.db"
    with opened(start) as memory:
        memory.ingest([child.message(n) for n in range(1, MESSAGES + 1)])
    shutil.copy(start, whole)
    with opened(whole) as memory:
        reflect(memory, Notes(), backend=ScriptedBackend([noted] * 99), batch_size=2)
    wanted = state(whole)
    assert len(wanted["passages"]) == MESSAGES // 3
    rng = random.Random(11)
    server = Server()
    killed = rounds = 0
    try:
        while killed < WANTED:
            rounds += 1
            assert rounds <= WANTED, "the kills do not hit"
            for left in tmp_path.glob("m.db*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            shutil.copy(start, db)
            for _ in range(60):
                plan: dict[str, Any] = (
                    {"kill_after_s": rng.uniform(0.002, 0.12)} if rng.random() < 0.4
                    else {"point": rng.choice(POINTS), "nth": rng.choice((1, 1, 2, 3))}
                )  # fmt: skip
                ended = server.run(job="reflect", db=str(db), acks=str(tmp_path / "acks"), **plan)
                killed += ended["signal"] == signal.SIGKILL
                if ended["signal"] == 0:
                    break
            else:
                server.run(job="reflect", db=str(db), acks=str(tmp_path / "acks"))
            assert state(db) == wanted
        # And so with undo: killed before its commit it has done nothing, after it all.
        after = state(db)["passages"]
        for _ in range(3):
            server.run(job="undo", db=str(db), acks=str(tmp_path / "acks"), point="undo.before_commit")
            assert state(db)["passages"] == after
        server.run(job="undo", db=str(db), acks=str(tmp_path / "acks"))
        assert state(db)["passages"] == []
    finally:
        server.close()
