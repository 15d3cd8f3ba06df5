"""The demo's own data is sound, and its tasks are solved."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentmem import Memory
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.drafts import from_mapping
from agentmem.times import parse_time, utc_seconds
from demos.nested_kv import LEVELS, PAIRS, by_look_ups, by_tools, make_task, store

DEMOS = Path(__file__).parents[2] / "demos"


def lines(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (DEMOS / name).read_text(encoding="utf-8").splitlines()]


def test_the_history_is_long_dated_and_sound() -> None:
    drafts = [from_mapping(row) for row in lines("history.jsonl")]
    assert len(drafts) >= 600
    assert len({d.session for d in drafts}) >= 12
    assert len({d.name for d in drafts}) == 2
    assert len({d.key for d in drafts}) == len(drafts)
    times = [utc_seconds(d.at) for d in drafts if d.at is not None]
    assert len(times) == len(drafts) and times == sorted(times)
    contents = [d.content for d in drafts]
    assert len(set(contents)) > 0.98 * len(contents)


def test_the_questions_point_to_turns_that_exist() -> None:
    keys = {row["id"] for row in lines("history.jsonl")}
    questions = lines("questions.jsonl")
    assert len(questions) == 25
    assert len({q["id"] for q in questions}) == 25
    unanswerable = [q for q in questions if not q["evidence"]]
    assert 3 <= len(unanswerable) <= 8
    for q in questions:
        parse_time(q["at"])
        assert set(q["evidence"]) <= keys  # type: ignore[call-overload]
        assert bool(q["evidence"]) == bool(q["answers"])


@pytest.mark.parametrize("level", LEVELS)
def test_nested_key_value(level: int, tmp_path: Path) -> None:
    task = make_task(level, seed=100 + level)
    assert len(task.pairs) == PAIRS
    with Memory(tmp_path / "kv.db", embedder=HashingEmbedder()) as memory:
        store(memory, task)
        assert by_look_ups(memory, task) == (task.end, level + 2)
        assert by_tools(memory, task) == (task.end, level + 2)


def test_a_value_alone_is_no_key(tmp_path: Path) -> None:
    """The task can fail: without the last pair of the chain the answer is another."""
    task = make_task(3, seed=5)
    shorter = tuple(p for p in task.pairs if p[1] != task.end)
    with Memory(tmp_path / "kv.db", embedder=HashingEmbedder()) as memory:
        for key, value in shorter:
            memory.archive(f"key {key} has the value {value}")
        assert by_look_ups(memory, task)[0] != task.end
