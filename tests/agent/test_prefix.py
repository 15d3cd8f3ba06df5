"""The prompt keeps its prefix: what of a prompt was there before, why it ends, and that the summariser rides on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agentmem import Agent, Memory
from agentmem.context import PromptPlan
from agentmem.encoding import shared_prefix
from agentmem.errors import BackendUnavailableError, ConfigError, ContextOverflowError
from agentmem.planning import Fitted
from agentmem.prefix import FIRST, NEXT_TURN, PrefixTracker
from agentmem.scripted import ScriptedBackend, tool_call
from agentmem.types import EMPTY_PAGE, ChatMessage, Completion, Ledger, Reply, Request, Usage
from tests.counters import PieceCounter

Make = Callable[..., Memory]
BLOCK = 16


class Engine(ScriptedBackend):
    """A script with tokens: says what was generated, and what a cache of whole blocks would have held."""

    block_size = BLOCK

    def __init__(self, *script: Any, counter: PieceCounter | None = None, window: int = 4096, **kwargs: Any) -> None:
        self.tokens = counter or PieceCounter()
        super().__init__(script, counter=self.tokens, context_window=window, **kwargs)
        self.seen: set[tuple[int, ...]] = set()
        self.evicts = False

    def tool_modes(self) -> tuple[str, ...]:
        return ("native", "json", "off")

    def _play(self, request: Request) -> Completion:
        said = super()._play(request)
        ids = self.tokens.encode_prompt(request.messages, request.tools).ids
        hit = 0
        while ids[: hit + BLOCK] in self.seen and hit + BLOCK < len(ids):
            hit += BLOCK
        new = self.tokens.ids_of(said.text + "".join(f"<call>{c.name} {c.arguments}" for c in said.tool_calls))
        if not self.evicts:
            whole = ids + new
            self.seen |= {whole[:n] for n in range(BLOCK, len(whole) + 1, BLOCK)}
        return replace(said, usage=Usage(len(ids), len(new), hit), token_ids=new)


def talk(memory: Memory, engine: Engine, turns: int, **settings: Any) -> list[Reply]:
    agent = Agent(memory, engine, **settings)
    return [agent.send(f"Report {n}: the road over the pass is closed, again.") for n in range(turns)]


def test_a_conversation_reuses_all_that_it_can(memory_factory: Make) -> None:
    memory = memory_factory()
    call = tool_call("core_memory_append", label="human", content="Likes tea.", request_heartbeat=True)
    engine = Engine("One.", call, "Two.", "Three.")
    replies = talk(memory, engine, 3)
    first, called, after, last = (p for r in replies for p in r.prefixes)
    assert (first.tokens, first.cause) == (0, FIRST)
    assert called.cause == NEXT_TURN
    # After the call: the whole prompt before it and all that was generated.
    before = engine.tokens.encode_prompt(engine.requests[1].messages, engine.requests[1].tools)
    assert after.tokens == len(before) + len(engine.tokens.ids_of("<call>" + call.tool_calls[0].name)) + len(
        engine.tokens.ids_of(" " + call.tool_calls[0].arguments)
    )
    assert after.cause == ""
    for report in (called, after, last):
        assert report.tokens > 0 and report.cached == report.reusable == report.tokens // BLOCK * BLOCK
    # The edit stands in the queue, not in the head: that did not change.
    heads = {r.messages[0].content for r in engine.requests}
    assert len(heads) == 1 and "Likes tea." not in heads.pop()
    logged = [e.payload for e in memory.events("prefix")]
    assert [(p["tokens"], p["cached"]) for p in logged] == [(p.tokens, p.cached) for p in (first, called, after, last)]


def test_what_a_turn_costs_does_not_grow_with_the_queue(memory_factory: Make) -> None:
    engine = Engine(*["I see."] * 30, window=16_000)
    memory = memory_factory()
    agent = Agent(memory, engine)
    new = []
    for n in range(30):
        before = len(engine.tokens.tokenised)
        agent.send(f"Report {n}.")
        new.append(len(engine.tokens.tokenised) - before)
    assert max(new[5:]) <= 4 and max(new[5:]) == max(new[20:]), "pieces that were tokenised in a turn"


def test_a_flush_begins_an_epoch_and_the_summary_rides_the_prefix(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=2600)
    engine = Engine(*["A long answer about the weather. " * 6] * 60, window=2600)
    agent = Agent(memory, engine)
    reply = agent.send("Report 0: the road is closed.")
    while not memory.events("page_out"):
        reply = agent.send(f"Report {len(engine.requests)}: the road over the pass is closed, again. " * 3)
    assert "epoch 2 began" in reply.prefixes[0].cause
    asked = [r for r in engine.requests if "Output the summary alone" in r.messages[-1].content]
    assert len(asked) == 1
    at = engine.requests.index(asked[0])
    encode = engine.tokens.encode_prompt
    rode = shared_prefix(
        encode(engine.requests[at - 1].messages, engine.requests[at - 1].tools),
        encode(asked[0].messages, asked[0].tools),
    )
    assert asked[0].tools == engine.requests[at - 1].tools
    # Everything but the instruction, and the opening of the reply.
    assert rode >= len(encode(asked[0].messages[:-1], asked[0].tools)) - 1
    assert memory.events("page_out")[0].payload["by_model"]


def test_evicted_blocks_are_told_apart_from_a_broken_prefix(memory_factory: Make) -> None:
    engine = Engine("One.", "Two.")
    engine.evicts = True
    reply = talk(memory_factory(), engine, 2)[1]
    assert reply.prefixes[0].cached == 0 and "was evicted" in reply.prefixes[0].cause
    silent = ScriptedBackend(["One.", "Two."], counter=PieceCounter())
    agent = Agent(memory_factory("other"), silent)
    agent.send("Hi.")
    report = agent.send("Hi again.").prefixes[0]
    assert report.cached is None and report.block_size is None and report.blocks is None
    assert "does not say" in report.cause and report.tokens > 0


def test_an_answer_that_stands_otherwise_in_the_next_prompt_is_reported(memory_factory: Make) -> None:
    call = tool_call("core_memory_append", label="human", content="Likes tea.", request_heartbeat=True)
    thinking = replace(call, text="Hmm, let me see.")
    memory = memory_factory()
    engine = Engine(thinking, "Done.", counter=PieceCounter(stripped="Hmm, "))
    reply = talk(memory, engine, 1)[0]
    assert "differs from token" in reply.prefixes[1].cause
    assert "differs from token" in memory.events("prefix")[0].payload["divergence"]
    fine = Engine(thinking, "Done.")
    reply = talk(memory_factory("other"), fine, 1)[0]
    assert reply.prefixes[1].cause == ""


def test_a_count_that_is_not_the_backends_is_an_event_with_its_cause(memory_factory: Make) -> None:
    class Other(Engine):
        def _play(self, request: Request) -> Completion:
            said = super()._play(request)
            return replace(said, usage=replace(said.usage, prompt_tokens=said.usage.prompt_tokens + 3))

    memory = memory_factory()
    talk(memory, Other("One.", "Two."), 2)
    wrong = [e.payload for e in memory.events("token_mismatch")]
    assert [p["used"] - p["counted"] for p in wrong] == [3, 3] and "another tokenizer" in wrong[0]["cause"]
    assert any("another tokenizer" in n for n in memory.notices)
    memory = memory_factory("other")
    talk(memory, Engine("One.", "Two."), 2)
    assert memory.events("token_mismatch") == []


def test_salts_reach_the_engine_only_when_asked_for(memory_factory: Make) -> None:
    plain, salted = Engine("One."), Engine("One.")
    talk(memory_factory(), plain, 1)
    talk(memory_factory("other"), salted, 1, cache_salt="tenant 7")
    assert plain.requests[0].cache_salt is None and salted.requests[0].cache_salt == "tenant 7"


# -- a window that can't hold the prompt --------------------------------------------------------------------------


def test_a_window_smaller_than_core_memory_is_an_error_at_start(memory_factory: Make) -> None:
    with pytest.raises(ContextOverflowError, match="window 256") as e:
        Agent(memory_factory(), Engine(window=256))
    assert e.value.needed_tokens > e.value.available_tokens
    memory = memory_factory("full", block_max_tokens=4000)
    memory.core.add("notes", "word " * 3000, max_tokens=4000)
    with pytest.raises(ContextOverflowError, match="core memory"):
        Agent(memory, Engine(window=2600))


def test_a_window_larger_than_the_models_is_an_error_at_start(memory_factory: Make) -> None:
    with pytest.raises(ConfigError, match="more than the 4096 tokens") as e:
        Agent(memory_factory(window_tokens=8192), Engine())
    assert "--window 4096" in e.value.hint


def test_a_backend_that_is_down_is_said_and_the_message_is_kept(memory_factory: Make) -> None:
    memory = memory_factory()
    agent = Agent(memory, Engine(BackendUnavailableError("no connection")))
    with pytest.raises(BackendUnavailableError):
        agent.send("Keep this.")
    assert [m.content for m in memory.records.recall.since(1)] == ["Keep this."]


def test_lines_of_the_compressed_history_that_give_way_are_named() -> None:
    counter = PieceCounter()
    plan = PromptPlan(epoch=2, first=4, last=4, earlier=3)
    tracker = PrefixTracker()
    causes = []
    for found in (plan, plan, replace(plan, earlier=1)):
        encoding = counter.encode_prompt([ChatMessage("user", f"{found.earlier} lines")])
        report = tracker.report(Fitted(found, (), Ledger(1, 9, {}, "pieces", True), EMPTY_PAGE, encoding), BLOCK)
        causes.append(report.cause if report is not None else None)
    assert causes[0] == FIRST and "compressed history" not in str(causes[1])
    assert causes[2] == "1 lines of the compressed history stand in this prompt, 3 stood before"
