"""A small history that does not fit into a small window, with questions on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agentmem.cap_data import Data, load

FACTS = (
    "My dog is called Luna and she is four.", "I moved to Lund in March.", "I work at the harbour now.",
    "My sister Klara plays the cello.", "We painted the kitchen green.", "The car broke down on the E6.",
    "I bought a red bicycle.", "I no longer live in Lund, I moved to Malmo.",
)  # fmt: skip
FILLER = "It rained all day and nothing much happened here, so we talked about soup, weather and the neighbours."
COUNT = 3 * len(FACTS)
MESSAGES = [
    {
        "id": f"S{n // 6}:{n % 6}", "session": str(n // 6), "role": "user", "name": "Anna" if n % 3 == 0 else "Tom",
        "content": FACTS[n // 3] if n % 3 == 0 else f"{FILLER} Number {n}.", "at": f"2024-03-{1 + n // 2:02}T12:00:00",
    }
    for n in range(COUNT)
]  # fmt: skip
QUESTIONS: list[dict[str, Any]] = [
    {"id": "dog", "query": "What is Anna's dog called?", "answer": "Luna", "evidence": ["S0:0"], "category": 4},
    {"id": "town", "query": "Where does Anna live now?", "answer": "Malmo", "evidence": ["S3:3"], "stale": ["Lund"]},
    {"id": "sister", "query": "What does Anna's sister play?", "answers": ["the cello"], "evidence": ["S1:3"],
     "category": 4},
    {"id": "cat", "query": "What is Anna's cat called?", "answer": "", "evidence": [], "category": 5},
]  # fmt: skip


def write(folder: Path, messages: list[Any], questions: list[Any]) -> tuple[Path, Path]:
    paths = folder / "small.jsonl", folder / "asked.jsonl"
    for path, rows in zip(paths, (messages, questions), strict=True):
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return paths


@pytest.fixture
def small(tmp_path: Path) -> Data:
    return load(*write(tmp_path, MESSAGES, QUESTIONS))


@pytest.fixture
def ticking() -> Callable[[], float]:
    """A clock that goes on by a millisecond each time that it is read."""
    ticks = count()
    return lambda: next(ticks) / 1000
