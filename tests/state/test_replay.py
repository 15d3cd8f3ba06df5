"""Replay writes every prompt again from the records: byte for byte, without a search, an embedding or a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentmem import prompts
from agentmem.agent import Agent
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.memory import Memory
from agentmem.replay import replay
from agentmem.retrieval import Retrieval
from agentmem.scripted import ScriptedBackend, tool_call
from agentmem.types import Completion, Request
from tests.conftest import Clock

Make = Callable[..., Memory]
WINDOW = 4000


class NoEmbedder:
    """Fails when it is used."""

    model_id = "hashing-256"
    max_tokens = 512

    @property
    def dim(self) -> int:
        raise AssertionError("the embedder was used")

    @property
    def counter(self) -> Any:
        from agentmem.tokens import approximate_counter

        return approximate_counter()

    def embed(self, texts: Sequence[str], *, input_type: str) -> Any:
        raise AssertionError("the embedder was used")


def converse(memory: Memory, turns: int = 10) -> None:
    """Turns with tool calls, failures, core edits, page-ins and flushes."""

    def line(request: Request) -> Completion:
        if not request.tools:
            return Completion(f"They spoke of {len(request.messages[0].content)} things.")
        if request.messages[-1].role != "user":
            return Completion("Well, that is how it is.")
        n = len(memory.events("step"))
        calls = [
            lambda: tool_call("core_memory_append", label="human", content=f"Fact {n}.", request_heartbeat=True),
            lambda: tool_call("archival_memory_insert", content=f"Passage {n} of harbours.", request_heartbeat=True),
            lambda: tool_call("conversation_search", query="harbour weather", request_heartbeat=True),
            lambda: tool_call("core_memory_replace", label="human", old_content="nothing", new_content="x"),
            lambda: tool_call("send_message", message=f"Spoken {n}: \u00e9 \u2028 \U0001f600"),
            lambda: Completion(f"Plain reply {n}."),
        ]
        return calls[n % len(calls)]()

    agent = Agent(memory, ScriptedBackend([line] * 200))
    for n in range(turns):
        asked = f"Turn {n}: what was the weather over the harbour on day {n * 37}? "
        agent.send(asked + "It matters a good deal to me. " * 9, name="Tom" if n % 2 else None)


SETTINGS: dict[str, Any] = {"window_tokens": WINDOW, "keep_last": 2, "page_in_max_tokens": 400}


@pytest.fixture(scope="module")
def conversation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a conversation, to be copied."""
    path = tmp_path_factory.mktemp("conversation") / "m.db"
    with Memory(path, embedder=HashingEmbedder(), clock=Clock(), **SETTINGS) as memory:
        memory.archive("The harbour was calm in May.")
        converse(memory)
    return path


@pytest.fixture
def spoken(conversation: Path, tmp_path: Path, memory_factory: Make) -> Memory:
    shutil.copy(conversation, tmp_path / "m.db")
    return memory_factory(**SETTINGS)


def statuses(memory: Memory) -> list[str]:
    return [r.status for r in replay(memory)]


def test_every_prompt_is_the_same(spoken: Memory) -> None:
    done = list(replay(spoken))
    assert len(done) > 15 and {r.status for r in done} == {"same"}
    assert len(spoken.events("page_out")) >= 2
    assert any(e.payload["items"] for e in spoken.events("page_in"))
    assert {r.step for r in done} >= {1, 2}
    assert all(r.messages for r in done)


def test_it_replays_from_another_process_view(spoken: Memory, memory_factory: Make) -> None:
    """Settings of the reader do not matter: all is in the log."""
    assert set(statuses(memory_factory(window_tokens=900))) == {"same"}


def test_it_never_searches_nor_embeds(spoken: Memory, memory_factory: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(*_: Any, **__: Any) -> Any:
        raise AssertionError("it searched")

    monkeypatch.setattr(Retrieval, "search", search)
    again = memory_factory(embedder=NoEmbedder(), window_tokens=WINDOW)
    last = again.records.journal.last_event("prompt")
    assert set(statuses(again)) == {"same"}
    # It writes nothing either.
    after = again.records.journal.last_event("prompt")
    assert last is not None and after is not None and last.number == after.number


def test_later_changes_do_not_matter(spoken: Memory) -> None:
    spoken.core["human"].append("Something new.")
    passage = spoken.records.archival.after(0)[0]
    spoken.supersede(passage.id, "The harbour was stormy in June.")
    for n in range(30):
        spoken.observe("user", f"Line {n} comes in later, " + "and is long enough to flush. " * 5)
    assert set(statuses(spoken)) == {"same"}


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE messages SET content = content || '!' WHERE id = 1",
        "UPDATE messages SET tool_calls = replace(tool_calls, 'Fact', 'Fiction') WHERE tool_calls LIKE '%Fact%'",
        "UPDATE epochs SET summary = summary || ' And more.' WHERE number > 1",
        "UPDATE passages SET text = text || ' Not so.'",
        "UPDATE messages SET name = 'Tim' WHERE name = 'Tom'",
        "DELETE FROM epochs WHERE number = 2",
    ],
)
def test_what_was_tampered_with_differs(spoken: Memory, sql: str) -> None:
    assert spoken.store.db.run(sql) > 0
    found = statuses(spoken)
    assert "differs" in found
    assert set(found) <= {"same", "differs"}


def test_a_missing_record_differs(spoken: Memory) -> None:
    with spoken.store.write():
        spoken.records.recall.delete(spoken.records.recall.get([1]))
    assert "differs" in statuses(spoken)


def test_what_was_erased_is_said_to_be(spoken: Memory) -> None:
    before = statuses(spoken)
    spoken.erase(id="m1")
    after = list(replay(spoken))
    assert {r.status for r in after} == {"same", "erased"} or {r.status for r in after} == {"erased"}
    assert after[0].status == "erased" and "m1" in after[0].detail
    assert len(after) == len(before)
    assert not any("Turn 0" in m.content for r in after for m in r.messages)


def test_prompts_of_other_fixed_texts_are_said_to_be(spoken: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "TEMPLATE", prompts.TEMPLATE + 1)
    assert set(statuses(spoken)) == {"other_template"}


def test_the_extractive_backend_replays(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=600, keep_last=2)
    agent = Agent(memory, "extractive")
    for said in ("My name is Tom Harris.", "I live in Lisbon.", "Remember that my locker code is 4711-22."):
        agent.send(said)
    for n in range(12):
        agent.send(f"The weather over the harbour was number {n * 37} today, and it was windy.")
    agent.send("What is my locker code?")
    assert memory.events("page_out")
    assert set(statuses(memory)) == {"same"}


def test_unstored_turns_are_not_logged(memory_factory: Make) -> None:
    memory = memory_factory()
    memory.observe("user", "I live in Lisbon.")
    before = len(memory.events())
    Agent(memory, "extractive").send("Where do I live?", store=False)
    assert len(memory.events()) == before and statuses(memory) == []
