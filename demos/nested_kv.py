"""MemGPT's nested key-value task: 140 UUID pairs in archival storage; a value may itself be a key, to a depth of 4.

The question is what a key leads to in the end. The answer needs one look-up for each level, and one more to see that
the last value is no key (arXiv 2310.08560, section 3.2.2). Run: `python -m demos.nested_kv`.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from uuid import UUID

from agentmem import Agent, Memory
from agentmem.scripted import ScriptedBackend, tool_call
from agentmem.types import Completion, Request

PAIRS = 140
LEVELS = range(5)
_PAIR = re.compile(r"key ([0-9a-f-]{36}) has the value ([0-9a-f-]{36})")


@dataclass(frozen=True, slots=True)
class Task:
    """Pairs in random order; `start` leads to `end` over `level` values that are keys themselves."""

    pairs: tuple[tuple[str, str], ...]
    start: str
    end: str
    level: int


def make_task(level: int, seed: int) -> Task:
    """A chain of `level` + 1 pairs among distractors that lead nowhere."""
    rng = random.Random(seed)

    def uuid() -> str:
        return str(UUID(int=rng.getrandbits(128), version=4))

    chain = [uuid() for _ in range(level + 2)]
    pairs = list(pairwise(chain))
    pairs += [(uuid(), uuid()) for _ in range(PAIRS - len(pairs))]
    rng.shuffle(pairs)
    return Task(tuple(pairs), chain[0], chain[-1], level)


def store(memory: Memory, task: Task) -> None:
    """Each pair is a passage."""
    for key, value in task.pairs:
        memory.archive(f"key {key} has the value {value}")


def value_in(text: str, key: str) -> str | None:
    """The value of a key, if a text says it."""
    return next((v for k, v in _PAIR.findall(text) if k == key), None)


def by_look_ups(memory: Memory, task: Task) -> tuple[str, int]:
    """Automatic look-ups: page in what the value names, until it names nothing. (answer, searches)"""
    at, searches = task.start, 0
    while True:
        searches += 1
        value = value_in(memory.page_in(at, max_tokens=400).text, at)
        if value is None:
            return at, searches
        at = value


def by_tools(memory: Memory, task: Task) -> tuple[str, int]:
    """A scripted model that follows the chain with archival_memory_search. (answer, searches)"""
    searches = 0
    wanted = task.start

    def step(request: Request) -> Completion:
        nonlocal searches, wanted
        last = request.messages[-1]
        if last.role == "tool":
            rows = json.loads(last.content)["results"]
            value = next((v for r in rows if (v := value_in(r["text"], wanted))), None)
            if value is None:
                return tool_call("send_message", message=wanted)
            wanted = value
        searches += 1
        return tool_call("archival_memory_search", query=wanted, request_heartbeat=True)

    steps: list[Callable[[Request], Completion]] = [step] * (task.level + 3)
    agent = Agent(memory, ScriptedBackend(steps))
    return agent.send(f"What does the key {task.start} lead to?").text, searches


def main() -> None:
    """Every level, both ways."""
    parser = argparse.ArgumentParser(description="nested key-value retrieval")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embedder", default="auto")
    args = parser.parse_args()
    for level in LEVELS:
        task = make_task(level, args.seed + level)
        with tempfile.TemporaryDirectory() as folder, Memory(Path(folder) / "kv.db", embedder=args.embedder) as memory:
            store(memory, task)
            looked, n_looked = by_look_ups(memory, task)
            asked, n_asked = by_tools(memory, task)
        right = [answer == task.end for answer in (looked, asked)]
        print(f"level {level}: look-ups {right[0]}, {n_looked} searches; tools {right[1]}, {n_asked} searches")


if __name__ == "__main__":
    main()
