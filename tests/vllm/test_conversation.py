"""Whole conversations through the engine: what was counted is what was used, and scripted calls come through."""

from __future__ import annotations

import json

import pytest

from agentmem import Agent
from agentmem.types import Completion, ToolCall, Usage
from tests.models.conversations import CONVERSATIONS, open_memory
from tests.models.steered import Steered
from tests.vllm.conftest import SMALL

TURNS = 200


def _script():
    """200 turns: plain replies, replies after a search, edits of core memory, odd text."""
    for turn in range(TURNS):
        if turn % 4 == 1:
            search = json.dumps({"query": f"boat {turn}", "request_heartbeat": True})
            yield _call("conversation_search", search, turn)
        if turn % 10 == 5:
            edit = json.dumps({"label": "human", "content": f"Fact {turn}.", "request_heartbeat": True})
            yield _call("core_memory_append", edit, turn)
        yield Completion(f"Reply {turn}: Ünï 🙂 <b>x</b>, the boat lies in the harbour.")


def _call(name, arguments, turn):
    return Completion("", (ToolCall(f"c{turn}", name, arguments),), Usage(), "tool_calls")


def test_predicted_tokens_are_the_used_ones_over_200_turns_with_tools(engine):
    assert engine.reset_prefix_cache()
    lines = _script()
    # The summariser's requests ask nothing; they are answered beside the script.
    steered = Steered(engine, lambda r: next(lines) if r.query else Completion("They talked about the boat."))
    with open_memory() as memory:
        agent = Agent(memory, steered)
        for turn in range(TURNS):
            agent.send(f"Message {turn}: where is the boat, and who said so? {'x ' * (turn % 17)}")
        events = [e.kind for e in memory.events()]
    assert "token_mismatch" not in events
    assert len(steered.real) >= TURNS * 1.3
    counted = [engine.counter.count_prompt(r.messages, r.tools) for r in steered.requests]
    assert counted == [c.usage.prompt_tokens for c in steered.real]
    assert max(counted) > engine.context_window / 3, "the window never filled: no flush was on the way"
    cached = sum(c.usage.cached_tokens for c in steered.real) / sum(counted)
    assert cached > 0.5, cached


@pytest.fixture(scope="module")
def scripted(scripted_path):
    from agentmem.backends.vllm_engine import VllmBackend

    backend = VllmBackend(f"{scripted_path}?max_num_seqs=8", **{k: v for k, v in SMALL.items() if k != "max_num_seqs"})
    yield backend
    backend.close()


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_model_that_knows_its_part_drives_the_agent(scripted, name, streamed):
    with open_memory() as memory:
        agent = Agent(memory, scripted)
        for turn in CONVERSATIONS[name]:
            if streamed:
                *pieces, last = agent.stream(turn.user)
                reply = last.reply
                assert "".join(p.text for p in [*pieces, last]) == reply.text
            else:
                reply = agent.send(turn.user)
            said = turn.says[-1]
            expected = json.loads(said[12:-13])["arguments"]["message"] if said.startswith("<tool_call>") else said
            assert (reply.text, reply.steps) == (expected, len(turn.says))
        assert "token_mismatch" not in [e.kind for e in memory.events()]
        if name == "core":
            assert "Ana lives in Porto." in memory.core["human"].value
