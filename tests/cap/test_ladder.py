"""The rungs one by one: what they say stands in a prompt does, and none warms another's prefix cache."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentmem.backends.extractive import ExtractiveBackend
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.cap_asked import of_prompt
from agentmem.cap_baselines import Unranked
from agentmem.cap_data import Data
from agentmem.cap_ground import Ground, Settings, Tools
from agentmem.cap_ladder import AGENTMEM, BM25, COMPRESSION, DENSE, FULL, LAST, NO_MEMORY, REFLECTION, RUNGS, open_rung
from agentmem.cap_meter import MeteredModel, metered
from agentmem.context import PromptPlan
from agentmem.errors import ContextOverflowError
from agentmem.planning import Fitted
from agentmem.registry import make_compressor
from agentmem.scripted import ScriptedBackend
from agentmem.tokens import approximate_counter
from agentmem.types import EMPTY_PAGE, ChatMessage, Earlier, Ledger, ToolSpec
from tests.cap.conftest import MESSAGES
from tests.counters import MergingCounter, PairCounter

CONTENTS = {m["id"]: m["content"] for m in MESSAGES}


@contextmanager
def ground(data: Data, folder: Path, backend: Any = None, **settings: Any) -> Iterator[Ground]:
    given = Settings(**{"window_tokens": 512, "reserve_tokens": 64, **settings})
    made = metered(backend or ExtractiveBackend(), time.perf_counter)
    tools = Tools(made, HashingEmbedder(), make_compressor("extractive"), given, time.perf_counter)
    found = Ground(data.conversations[0], tools, folder)
    try:
        yield found
    finally:
        found.close()


@pytest.mark.parametrize("name", RUNGS)
def test_what_is_said_to_stand_whole_does(small: Data, tmp_path: Path, name: str) -> None:
    with ground(small, tmp_path) as there:
        rung = open_rung(name, there)
        for question in small.conversations[0].questions:
            asked = rung.ask(question)
            assert all(CONTENTS[k] in asked.records for k in asked.keys)
            assert not set(asked.keys) & set(asked.shortened)
            assert all(CONTENTS[k] not in asked.records for k in asked.shortened)
            assert bool(asked.keys) is (name != NO_MEMORY)
            assert asked.shown <= asked.whole and (asked.shown < asked.whole) is bool(asked.shortened)
            assert bool(asked.shortened) is (name in (COMPRESSION, REFLECTION)), (
                "this history does not fit into the window"
            )
            assert question.query not in asked.records


def test_a_ranking_brings_no_more_records_than_asked_for(small: Data, tmp_path: Path) -> None:
    with ground(small, tmp_path, top_k=2) as there:
        assert len(open_rung(DENSE, there).ask(small.conversations[0].questions[0]).keys) == 2


def test_all_of_a_history_that_fits(small: Data, tmp_path: Path) -> None:
    with ground(small, tmp_path, window_tokens=4096) as there:
        for name in (LAST, FULL):
            asked = open_rung(name, there).ask(small.conversations[0].questions[0])
            assert asked.keys == tuple(CONTENTS) and asked.reach[0] == len(CONTENTS)


def test_a_question_that_does_not_fit(small: Data, tmp_path: Path) -> None:
    with ground(small, tmp_path, window_tokens=160) as there:
        question = replace(small.conversations[0].questions[0], query="Why? " * 200)
        with pytest.raises(ContextOverflowError, match="question 'dog'"):
            open_rung(LAST, there).ask(question)


def test_the_reader_is_shown_what_shares_words_whatever_its_place(small: Data, tmp_path: Path) -> None:
    with ground(small, tmp_path) as there:
        agent, _ = there.base()
        messages = agent.memory.records.recall.since(1)
        page = Unranked(messages, approximate_counter(), middle_out=False)("What is the dog called?", 4000)
        best = max(page.items, key=lambda i: i.hit.score)
        assert "Luna" in best.text and page.items[0].hit.id == "m1"
        assert Unranked(messages, approximate_counter(), middle_out=False)("Why?", 3).items == ()


class Cached(ScriptedBackend):
    """A model with a prefix cache of 16-token blocks."""

    block_size = 16

    def tool_modes(self) -> tuple[str, ...]:
        return ("off",)


def test_each_rung_has_a_salt_of_its_own_where_there_is_a_cache(small: Data, tmp_path: Path) -> None:
    backend = Cached(["I don't know."] * 9)
    with ground(small, tmp_path, backend, window_tokens=700) as there:
        assert isinstance(there.tools.backend, MeteredModel)
        for name in (NO_MEMORY, LAST, AGENTMEM):
            open_rung(name, there).ask(small.conversations[0].questions[0])
    salts = [r.cache_salt for r in backend.requests]
    assert len(set(salts)) == 3 and all(s is not None and s.startswith(there.tools.run_id) for s in salts)
    with ground(small, tmp_path / "..", ScriptedBackend(["x"]), window_tokens=700) as there:
        assert there.salt(LAST) is None, "a server that is not known to have one may refuse the field"


class LineCounter(PairCounter):
    """Line ends cost seven tokens more in a prompt than apart."""

    name = "lines"

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        return super().count_prompt(messages, tools) + 7 * sum(m.content.count("\n") for m in messages)


@pytest.mark.parametrize("counter", [PairCounter(), MergingCounter(), LineCounter()], ids=lambda c: c.name)
@pytest.mark.parametrize("name", [LAST, FULL, BM25])
def test_no_prompt_is_over_its_budget_with_tokens_that_do_not_add_up(
    small: Data, tmp_path: Path, name: str, counter: Any
) -> None:
    with ground(small, tmp_path, ExtractiveBackend(counter), window_tokens=1500) as there:
        rung = open_rung(name, there)
        for question in small.conversations[0].questions:
            asked = rung.ask(question)
            assert asked.keys and sum(asked.sections.values()) <= 1500 - 64


def test_the_compressed_history_counts_as_shown(small: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ground(small, tmp_path) as there:
        memory = there.base()[0].memory
        epoch, queue = memory.pager.state()
        lines = (
            Earlier(1, "1 March 2024", f"S0:0 Anna: {CONTENTS['S0:0']}", "S0:0", whole=True),
            Earlier(2, "1 March 2024", "S0:1 Tom: soup, weather", "S0:1"),
            Earlier(3, "2 March 2024", "S0:2 Tom: soup", "S0:2"),
        )
        monkeypatch.setattr(memory.pager, "state", lambda *_: (replace(epoch, compressed=lines), queue))
        plan = PromptPlan(epoch.number, 1, 0, earlier=2)
        asked = of_prompt(memory, Fitted(plan, (), Ledger(0, 0, {}, "", False), EMPTY_PAGE))
        assert (asked.keys, asked.shortened, asked.reach[0]) == ((), ("S0:1", "S0:2"), 2)
        asked = of_prompt(memory, Fitted(replace(plan, earlier=3), (), Ledger(0, 0, {}, "", False), EMPTY_PAGE))
        assert (asked.keys, asked.shortened) == (("S0:0",), ("S0:1", "S0:2"))
        count = approximate_counter().count
        assert asked.whole == sum(count(CONTENTS[k]) for k in ("S0:0", "S0:1", "S0:2"))
        assert asked.shown == count(CONTENTS["S0:0"]) + count("soup, weather") + count("soup")
