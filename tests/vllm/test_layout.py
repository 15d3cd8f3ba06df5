"""The prompt's layout, proved on the engine: what a prompt shares with the one before it is taken from the cache."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from agentmem import Agent, Memory
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.types import Completion, ToolCall, Usage
from tests.models.conversations import CONVERSATIONS, open_memory
from tests.models.steered import Steered
from tests.vllm.conftest import SMALL

TURNS = 60
WINDOW = 4096


def _call(name, turn, **arguments):
    said = json.dumps({**arguments, "request_heartbeat": True})
    return Completion("", (ToolCall(f"c{turn}", name, said),), Usage(), "tool_calls")


def _script(turns):
    for turn in range(turns):
        if turn % 5 == 2:
            yield _call("core_memory_append", turn, label="human", content=f"Fact {turn}.")
        if turn % 6 == 4:
            yield _call("conversation_search", turn, query=f"boat {turn}")
        yield f"Reply {turn}: the boat lies in the harbour, and the harbour lies in the mist."


class Summarising(Steered):
    """Answers the summariser apart from the script, and keeps what the engine said of its request."""

    def __init__(self, backend, script):
        super().__init__(backend, script)
        self.summaries = []

    def generate(self, requests):
        if "Output the summary alone" not in requests[0].messages[-1].content:
            return super().generate(requests)
        real = self.backend.generate([self._short(requests[0])])
        self.summaries.append((requests[0], real[0]))
        return [Completion("They spoke of a boat.", (), real[0].usage)]


def test_every_shared_block_is_a_hit_and_the_summary_rides_the_prefix(engine, tmp_path):
    assert engine.reset_prefix_cache()
    steered = Summarising(engine, list(_script(TURNS)))
    now = datetime(2023, 5, 8, 9, 0, tzinfo=UTC)
    with Memory(
        tmp_path / "m.db", embedder=HashingEmbedder(), clock=lambda: now, window_tokens=WINDOW, page_in_max_tokens=256
    ) as memory:
        agent = Agent(memory, steered)
        reports = []
        for turn in range(TURNS):
            now += timedelta(minutes=7)
            reports += agent.send(f"Message {turn}: the wind is from the west, the boat is late again.").prefixes
        assert len(memory.events("page_out")) >= 2 and memory.events("token_mismatch") == []
        assert [e.payload["cached"] for e in memory.events("prefix")] == [r.cached for r in reports]
    block = engine.block_size
    for report in reports:
        assert report.block_size == block and report.cached % block == 0
        assert report.cached >= report.reusable, report
    assert "evicted" not in " ".join(r.cause for r in reports)
    opened = [r for r in reports if r.cause.startswith("epoch")]
    assert len(opened) == len(memory_epochs := steered.summaries), memory_epochs
    # Between flushes all but the last turn and the tail was there before.
    held = [r for r in reports[1:] if not r.cause.startswith("epoch")]
    assert sum(r.tokens for r in held) > 0.75 * sum(r.total for r in held)
    # The summariser's prompt was in the cache but for its instruction.
    for request, real in steered.summaries:
        told = engine.counter.count_message(request.messages[-1])
        assert real.usage.cached_tokens > real.usage.prompt_tokens - told - 3 * block


def test_an_edit_of_core_memory_breaks_no_prefix(engine, tmp_path):
    assert engine.reset_prefix_cache()
    edits = [_call("core_memory_append", n, label="human", content=f"Fact {n}.") for n in range(3)]
    steered = Steered(engine, [*edits, "Noted.", "Again."])
    with open_memory() as memory:
        agent = Agent(memory, steered)
        first = agent.send("Three things about me.").prefixes
        (after,) = agent.send("And?").prefixes
        heads = {r.messages[0] for r in steered.requests}
        assert len(heads) == 1 and memory.core["human"].value.count("Fact") == 3
    assert [r.cause for r in first[1:]] == [""] * 3 and after.cached >= after.reusable > 0


@pytest.fixture(scope="module")
def scripted(scripted_path):
    from agentmem.backends.vllm_engine import VllmBackend

    backend = VllmBackend(str(scripted_path), **SMALL)
    yield backend
    backend.close()


def test_generated_answers_stand_in_the_next_prompt_as_the_same_tokens(scripted):
    with open_memory() as memory:
        agent = Agent(memory, scripted)
        turns = [agent.send(t.user) for t in CONVERSATIONS["core"]]
        assert all("divergence" not in e.payload for e in memory.events("prefix"))
    first, second = turns[0].prefixes
    # The prompt of the first step, and every token of the call that was generated for it.
    assert second.cause == "" and second.tokens > first.total + 20
    assert second.cached >= second.reusable


def test_an_answer_written_in_another_style_of_json_is_reported(engine):
    class Spaced(Steered):
        def generate(self, requests):
            (said,) = super().generate(requests)
            text = f'<tool_call>\n{{"name":"core_memory_append","arguments":{said.text}}}\n</tool_call>'
            if not said.text.startswith("{"):
                return [said]
            ids = tuple(self.counter.tokenizer.encode(text, add_special_tokens=False))
            return [Completion(text, (), said.usage, token_ids=ids)]

    arguments = '{"label":"human","content":"Fact.","request_heartbeat":true}'
    with open_memory() as memory:
        Agent(memory, Spaced(engine, [arguments, "Noted."])).send("A thing about me.")
        told = memory.events("prefix")[0].payload["divergence"]
    assert "JSON" in told or "call" in told
