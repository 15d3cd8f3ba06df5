"""The whole path over a real socket: agent, OpenAI backend, an HTTP server that calls the memory tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from agentmem import Agent, Memory
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.errors import BackendUnavailableError
from agentmem.replay import replay
from agentmem.types import Tier
from tests.backends.fake_openai import CHAT, FakeOpenAI, Recorded, Reply, completion, count_chat, delta, sse


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path / "m.db", embedder=HashingEmbedder()) as opened:
        yield opened


def call(name: str, number: int = 1, **arguments: object) -> Reply:
    made = {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
    return Reply(completion(None, tool_calls=[made]))


def test_a_model_that_edits_core_memory_searches_and_answers(server: FakeOpenAI, memory: Memory) -> None:
    memory.observe("user", "My sister Anna moved to Lisbon.", name="Tom", key="D1:3")
    agent = Agent(memory, f"openai:{server.url}#tiny")  # which asks the server what it can do
    server.script(
        CHAT,
        call("core_memory_append", 1, label="human", content="Has a sister, Anna.", request_heartbeat=True),
        call("conversation_search", 2, query="Anna moved", request_heartbeat=True),
        Reply(completion("She lives in Lisbon [D1:3].")),
    )
    reply = agent.send("Where does my sister live?")
    agent.close()
    assert reply.text == "She lives in Lisbon [D1:3]."
    assert reply.steps == 3
    assert memory.core["human"].value == "Has a sister, Anna."
    asked = [r.body for r in server.asked(CHAT)][-3:]  # those before are of finding out what it can do
    # The search's result came back to the model beside its call.
    assert asked[2]["messages"][-1]["role"] == "tool"
    found = json.loads(asked[2]["messages"][-1]["content"])
    assert found["results"][0]["id"] == "D1:3" and found["total"] >= 1
    # The prompt of every step begins with the bytes of the step before: the tail stayed where it was.
    for earlier, later in pairwise(asked):
        assert later["messages"][: len(earlier["messages"])] == earlier["messages"]
    assert {r.status for r in replay(memory)} == {"same"}


def test_what_is_counted_is_what_the_server_counts(server: FakeOpenAI, memory: Memory) -> None:
    used: list[int] = []

    def answer(request: Recorded) -> Reply:
        used.append(count_chat(request.body))
        usage = {"prompt_tokens": used[-1], "completion_tokens": 3}
        return Reply(completion("Noted, thank you.") | {"usage": usage})

    server.defaults[CHAT] = answer  # the summariser asks too
    agent = Agent(memory, f"openai:{server.url}#tiny")
    for n in range(30):
        reply = agent.send(f"Message {n}: the meeting with Mr Silva number {n} is on day {n} in room {n * 7}.")
        assert reply.ledger.exact
        assert reply.ledger.total == reply.usage.prompt_tokens == used[-1]
        assert reply.ledger.total <= memory.budget.max_tokens
        assert sum(reply.ledger.sections.values()) == reply.ledger.total
    agent.close()
    assert memory.config.window_tokens == 4096  # the server's own max_model_len


def test_a_streamed_turn(server: FakeOpenAI, memory: Memory) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 4}
    pieces = [delta(content=p) for p in ("<think>hm", "m</think>", "Hello ", "there", ".")]
    agent = Agent(memory, f"openai:{server.url}#tiny")
    server.script(CHAT, Reply(pieces=sse(*pieces, delta("stop"), {"choices": [], "usage": usage})))
    chunks = list(agent.stream("Hi"))
    agent.close()
    assert "".join(c.text for c in chunks) == "Hello there."
    assert chunks[-1].reply is not None and chunks[-1].reply.text == "Hello there."
    assert memory.search("Hello there", tier=Tier.RECALL.value)[0].text == "Hello there."


def test_a_server_that_goes_away_loses_no_message(server: FakeOpenAI, memory: Memory) -> None:
    agent = Agent(memory, f"openai:{server.url}#tiny")
    agent.backend._http._max_retries = 0  # type: ignore[attr-defined]
    server.script(CHAT, Reply(drop=True))
    with pytest.raises(BackendUnavailableError):
        agent.send("Do not lose this.")
    assert [m.content for m in memory.records.recall.since(1)] == ["Do not lose this."]
    server.script(CHAT, Reply(completion("Still here.")))
    assert agent.send("Are you there?").text == "Still here."
    agent.close()
