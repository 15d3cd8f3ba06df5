"""The three ways in which tools reach a model, and what becomes of what a model makes of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agentmem import Agent, Memory
from agentmem.actions import action_schema
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.errors import ConfigError, RepeatedFailureError, StepLimitError
from agentmem.prompts import SYSTEM_ACTIONS, SYSTEM_MODEL, SYSTEM_READER
from agentmem.scripted import ScriptedBackend
from agentmem.types import Completion, InputType, ToolCall

Make = Callable[..., Memory]


class Able(ScriptedBackend):
    """A script behind a model that can do what it is said to."""

    block_size = None

    def __init__(self, *script: Any, modes: Sequence[str] = ("native", "json", "off"), **kwargs: Any) -> None:
        super().__init__(script, **kwargs)
        self.modes = tuple(modes)

    def tool_modes(self) -> tuple[str, ...]:
        return self.modes


def answer(*actions: dict[str, Any]) -> str:
    return json.dumps({"actions": list(actions)}, ensure_ascii=False)


def say(message: str) -> dict[str, Any]:
    return {"tool": "send_message", "message": message}


def note(content: str, **more: Any) -> dict[str, Any]:
    return {"tool": "core_memory_append", "label": "human", "content": content, **more}


@pytest.mark.parametrize(
    ("modes", "wanted", "got"),
    [
        (("native", "json", "off"), "auto", "native"),
        (("json", "off"), "auto", "json"),
        (("off",), "auto", "off"),
        (("native", "json", "off"), "json", "json"),
        (("native", "json", "off"), "off", "off"),
        (("native", "json", "off"), False, "off"),
        (("json", "off"), True, "json"),
    ],
)
def test_auto_picks_by_what_the_backend_can_do(
    memory_factory: Make, modes: Sequence[str], wanted: Any, got: str
) -> None:
    backend = Able("Hello.", modes=modes)
    agent = Agent(memory_factory(), backend, tools=wanted)
    assert agent.shape.mode == got and agent.send("Hi").text == "Hello."
    (request,) = backend.requests
    system = {"native": SYSTEM_MODEL, "json": SYSTEM_ACTIONS, "off": SYSTEM_READER}[got]
    assert request.messages[0].content.startswith(system)
    assert bool(request.tools) == (got == "native")
    assert request.schema == (action_schema() if got == "json" else None)


def test_a_mode_that_the_backend_cannot_serve_is_an_error_at_start(memory_factory: Make) -> None:
    with pytest.raises(ConfigError, match="can't do that") as e:
        Agent(memory_factory(), Able(modes=("json", "off")), tools="native")
    assert "json, off" in e.value.hint


@pytest.mark.parametrize("stream", [False, True], ids=["send", "stream"])
def test_a_turn_by_json_actions(memory_factory: Make, stream: bool) -> None:
    memory = memory_factory()
    backend = Able(
        answer(note("Has a parrot.", request_heartbeat=True)), answer(say("A parrot! Its name?")), modes=("json", "off")
    )
    agent = Agent(memory, backend)
    text = "".join(c.text for c in agent.stream("I have a parrot.")) if stream else agent.send("I have a parrot.").text
    assert text == "A parrot! Its name?"
    assert memory.core["human"].value == "Has a parrot."
    # In the prompt the model sees its own form again, and the result as a note; no tool roles, no schemas.
    second = backend.requests[1].messages
    assert [m.role for m in second] == ["system", "user", "assistant", "user"]
    assert json.loads(second[2].content) == {"actions": [note("Has a parrot.", request_heartbeat=True)]}
    assert second[3].content.startswith("[result] ") and "Has a parrot." in second[3].content
    assert not any(m.tool_calls or m.tool_call_id for m in second)
    assert [m.said for m in memory.records.recall.since(1) if m.searchable] == ["I have a parrot.", text]


def test_the_last_step_is_restricted_by_the_schema(memory_factory: Make) -> None:
    again = [answer(note(f"Fact {n}.", request_heartbeat=True)) for n in range(2)]
    backend = Able(*again, answer(say("Done.")), modes=("json", "off"))
    assert Agent(memory_factory(), backend, max_steps=3).send("Go.").text == "Done."
    assert [r.schema == action_schema("send_message") for r in backend.requests] == [False, False, True]


def test_truncated_json(memory_factory: Make) -> None:
    memory = memory_factory()
    whole = answer(note("Has a parrot."), note("Has a cat."))
    backend = Able(
        Completion(whole[: whole.index("Has a cat") + 3], finish_reason="length"),
        answer(say("Noted.")),
        modes=("json",),
    )
    assert Agent(memory, backend).send("Parrot and cat.").text == "Noted."
    assert memory.core["human"].value == "Has a parrot.", "the complete action was carried out, the cut one was not"
    results = [m.content for m in memory.records.recall.since(1) if m.role == "tool"]
    assert '"Failed"' not in results[0] and "cut off" in results[1] and '"Failed"' in results[1]
    cut = Able(
        Completion('{"actions": [{"tool": "send_message", "message": "It is Bis', finish_reason="length"),
        modes=("json",),
    )
    assert Agent(memory_factory("other"), cut).send("Its name?").text == "It is Bis"


def test_with_tools_off_nothing_is_called(memory_factory: Make) -> None:
    memory = memory_factory()
    calls = (ToolCall("a", "core_memory_append", '{"label": "human", "content": "Has a parrot."}'),)
    said = '<tool_call>{"name": "core_memory_append", "arguments": {"label": "human", "content": "x"}}</tool_call>'
    agent = Agent(memory, Able(Completion(said, calls), modes=("off",)))
    agent.send("Hi")
    assert memory.core["human"].value == ""


def test_thinking_is_kept_out_of_the_queue_and_of_memory(memory_factory: Make) -> None:
    memory = memory_factory()
    backend = Able("<think>The user wants tea.</think>Tea it is.", "<think>unclosed", "Well.")
    agent = Agent(memory, backend)
    assert agent.send("Tea?").text == "Tea it is."
    assert agent.send("And?").text == "Well."
    everything = " ".join(m.content for r in backend.requests for m in r.messages)
    assert "wants tea" not in everything and "unclosed" not in everything
    assert all("wants tea" not in m.content for m in memory.records.recall.since(1))


def test_a_malformed_call_in_text_goes_back_and_is_not_shown(memory_factory: Make) -> None:
    memory = memory_factory()
    backend = Able('<tool_call>{"name": "core_memory_append", "arguments": {"lab', "Sorry, noted.")
    assert "".join(c.text for c in Agent(memory, backend).stream("I have a parrot.")) == "Sorry, noted."
    result = next(m for m in memory.records.recall.since(1) if m.role == "tool")
    assert json.loads(result.content)["status"] == "Failed"
    shown = backend.requests[1].messages[-2]
    assert "malformed" in json.loads(shown.tool_calls[0].arguments), "servers refuse arguments that are no JSON object"


def test_twice_the_same_failure_stops_with_the_users_text_safe(memory_factory: Make) -> None:
    memory = memory_factory()
    with pytest.raises(RepeatedFailureError):
        Agent(memory, Able(*[answer({"tool": "fly"})] * 3, modes=("json",))).send("Keep this.")
    assert memory.records.recall.since(1)[0].content == "Keep this."


def test_a_model_that_never_replies_is_stopped(memory_factory: Make) -> None:
    memory = memory_factory()
    calls = [answer(note(f"Fact {n}.", request_heartbeat=True)) for n in range(9)]
    with pytest.raises(StepLimitError):
        Agent(memory, Able(*calls, modes=("json",)), max_steps=4).send("Keep this.")
    assert memory.records.recall.since(1)[0].content == "Keep this."


# -- several calls in a step --------------------------------------------------------------------------------------


class Meeting(HashingEmbedder):
    """Waits until two queries are embedded at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier: threading.Barrier | None = None

    def embed(self, texts: Sequence[str], *, input_type: InputType) -> NDArray[np.float32]:
        if self.barrier is not None and input_type == "query" and list(texts) in (["one"], ["two"]):
            self.barrier.wait(20)
        return super().embed(texts, input_type=input_type)


def test_reads_that_a_step_begins_with_run_at_the_same_time(memory_factory: Make) -> None:
    embedder = Meeting()
    memory = memory_factory(embedder=embedder)
    memory.observe("user", "one parrot")
    memory.archive("two parrots")
    embedder.barrier = threading.Barrier(2)  # broken, and an error, if the two reads do not meet
    reads = [{"tool": "conversation_search", "query": "one"}, {"tool": "archival_memory_search", "query": "two"}]
    backend = Able(answer(*reads, {"tool": "send_message", "message": "Found."}), modes=("json",))
    assert Agent(memory, backend).send("Hello there").text == "Found."
    results = [json.loads(m.content) for m in memory.records.recall.since(1) if m.role == "tool"]
    assert [r["results"][0]["text"] for r in results[:2]] == ["one parrot", "two parrots"]


def test_writes_run_in_order_and_a_read_sees_those_before_it(memory_factory: Make) -> None:
    memory = memory_factory()
    insert = {"tool": "archival_memory_insert", "content": "The parrot is called Biscuit."}
    find = {"tool": "archival_memory_search", "query": "parrot Biscuit"}
    swap = {"tool": "core_memory_replace", "label": "human", "old_content": "grey", "new_content": "green"}
    backend = Able(answer(find, insert, find), answer(note("It is grey."), swap, say("Noted.")), modes=("json",))
    assert Agent(memory, backend).send("My parrot is Biscuit.").text == "Noted."
    found = [json.loads(m.content) for m in memory.records.recall.since(1) if m.role == "tool"]
    assert (found[0]["total"], found[2]["results"][0]["text"]) == (0, "The parrot is called Biscuit.")
    assert memory.core["human"].value == "It is green."
