"""Core memory: edits that are refused leave the block as it was, and those that are kept have a history."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem import Memory
from agentmem.core_memory import appended, replaced
from agentmem.errors import (
    BlockError,
    BlockFullError,
    BlockTextError,
    InvalidInputError,
    ReadOnlyBlockError,
    UnknownNameError,
)
from agentmem.types import Block
from tests.counters import word_counter

COUNTER = word_counter()
texts = st.text(st.sampled_from(list("ab \n.é")), max_size=12)


@given(value=texts, content=texts, limit=st.integers(1, 8))
def test_appending(value: str, content: str, limit: int) -> None:
    block = Block("human", value, limit, version=3)
    try:
        new = appended(block, content, COUNTER)
    except InvalidInputError:
        assert not content.strip()
    except BlockFullError as e:
        assert e.num_tokens == COUNTER.count(value) + COUNTER.count(content) > limit == e.max_tokens
    else:
        assert new.value == (f"{value}\n{content.strip()}" if value else content.strip())
        assert COUNTER.count(new.value) <= limit and new.version == 4


@given(value=texts, old=texts, new=texts)
def test_replacing(value: str, old: str, new: str) -> None:
    block = Block("human", value, 100)
    try:
        found = replaced(block, old, new, COUNTER)
    except InvalidInputError:
        assert old == ""
    except BlockTextError:
        assert value.count(old) != 1
    else:
        assert value.count(old) == 1
        lines = value.replace(old, new.strip()).splitlines()
        assert found.value.splitlines() == [x for x in lines if x.strip()]


def test_refusals_name_the_block() -> None:
    with pytest.raises(ReadOnlyBlockError) as e:
        appended(Block("persona", "", 10, read_only=True), "x", COUNTER)
    assert e.value.label == "persona" and isinstance(e.value, BlockError)
    with pytest.raises(BlockTextError, match="2 times"):
        replaced(Block("human", "tea tea", 10), "tea", "milk", COUNTER)
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        appended(Block("human", "", 10), "a\ud83d", COUNTER)


def test_blocks_of_a_memory(memory_factory: Callable[..., Any]) -> None:
    memory = memory_factory()
    core = memory.core
    assert list(core) == ["persona", "human"] and len(core) == 2 and "human" in core and "x" not in core
    with pytest.raises(UnknownNameError) as e:
        core["x"]
    assert e.value.known == ("persona", "human")
    human = core["human"]
    human.append("Likes tea.")
    human.append("Lives in Porto.")
    human.replace("Porto", "Lisbon")
    assert human.value == "Likes tea.\nLives in Lisbon."
    with pytest.raises(BlockTextError):
        human.replace("Paris", "Rome")
    with pytest.raises(BlockFullError):
        human.max_tokens = 1
    with pytest.raises(InvalidInputError):
        human.max_tokens = 0
    human.max_tokens = 40
    human.read_only = True
    with pytest.raises(ReadOnlyBlockError):
        human.append("x")
    assert (human.value, human.max_tokens, human.read_only) == ("Likes tea.\nLives in Lisbon.", 40, True)
    edits = memory.records.journal.block_edits("human")
    assert [e["op"] for e in edits] == ["create", "append", "append", "replace", "limit", "read_only"]
    assert [e["version"] for e in edits] == [1, 2, 3, 4, 5, 6]
    for before, after in itertools.pairwise(edits):
        assert after["before"] == before["after"], "each edit begins where the one before ended"
    notes = core.add("notes", "One line.", max_tokens=9, description="Notes.")
    assert (notes.value, notes.max_tokens, notes.block.description) == ("One line.", 9, "Notes.")
    for wrong in ("notes", "two words", "", "1st", "a-b"):
        with pytest.raises(InvalidInputError):
            core.add(wrong)
    assert list(memory_factory().core) == ["persona", "human", "notes"]


def test_two_writers_lose_no_line(tmp_path: Path) -> None:
    """Reading and writing a block is one transaction, whoever else writes."""
    with (
        Memory(tmp_path / "m.db", embedder="none", block_max_tokens=4000) as one,
        Memory(tmp_path / "m.db", embedder="none", block_max_tokens=4000) as two,
    ):
        one.core["human"].max_tokens = 4000

        def append(memory: Memory, who: str) -> None:
            for n in range(25):
                memory.core["human"].append(f"{who} {n}")

        threads = [threading.Thread(target=append, args=pair) for pair in ((one, "a"), (two, "b"), (one, "c"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = one.core["human"].value.splitlines()
        assert sorted(lines) == sorted(f"{who} {n}" for who in "abc" for n in range(25))
        assert [e["version"] for e in one.records.journal.block_edits("human")] == list(range(1, 78))
