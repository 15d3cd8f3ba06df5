"""The agent loop, by scripted backends: what is stored when, what comes back to the model, what the user sees."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agentmem import Agent, AsyncAgent, Memory
from agentmem.errors import (
    AgentRunError,
    BackendUnavailableError,
    BadCompletionError,
    RepeatedFailureError,
    StepLimitError,
)
from agentmem.prompts import LAST_STEP_NOTE, PRESSURE_NOTE
from agentmem.scripted import ScriptedBackend, tool_call
from agentmem.tools import SPECS, Toolbox
from agentmem.types import Chunk, Completion, Message, Reply, Request, ToolCall
from tests.conftest import Clock

Make = Callable[..., Memory]
GOLDEN = Path(__file__).parents[1] / "golden" / "conversation.json"


class Script(ScriptedBackend):
    """A script for turns; a request without tools is the summariser's and gets a summary of its own."""

    def __init__(self, *script: Any, **kwargs: Any) -> None:
        super().__init__(script, **kwargs)
        self.summaries: list[Request] = []

    def _play(self, request: Request) -> Completion:
        if self.native_tools and "Output the summary alone" in request.messages[-1].content:
            self.summaries.append(request)
            return Completion("They spoke about this and that.")
        return super()._play(request)


def call(name: str, arguments: str, text: str = "") -> Completion:
    """A completion that calls a tool with arguments as a model may write them."""
    return Completion(text, (ToolCall("call_x", name, arguments),), finish_reason="tool_calls")


def stored(memory: Memory) -> list[Message]:
    return memory.records.recall.since(1)


def shape(memory: Memory) -> list[tuple[str, str]]:
    """(role, what was said) of everything in recall."""
    return [(m.role, m.said) for m in stored(memory)]


def results(memory: Memory) -> list[dict[str, Any]]:
    return [json.loads(m.content) for m in stored(memory) if m.role == "tool"]


def refs(result: dict[str, Any]) -> list[str]:
    return [r["id"] for r in result["results"]]


def use_tool(memory: Memory, name: str, **arguments: Any) -> dict[str, Any]:
    """One tool call, apart from any turn."""
    with memory.store.write():
        result = Toolbox(memory).run(tool_call(name, **arguments).tool_calls[0])
    shown: dict[str, Any] = json.loads(result.text)
    return shown


# -- the order of things -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["send", "stream"])
def test_the_users_message_is_committed_before_the_model_is_called(
    memory_factory: Make, tmp_path: Path, stream: bool
) -> None:
    memory = memory_factory()
    seen: list[list[str]] = []

    def look(_: Request) -> Completion:
        other = sqlite3.connect(tmp_path / "m.db")
        seen.append([r[0] for r in other.execute("SELECT content FROM messages ORDER BY id")])
        other.close()
        return Completion("Good.")

    agent = Agent(memory, Script(look))
    if stream:
        list(agent.stream("My parrot is called Biscuit."))
    else:
        agent.send("My parrot is called Biscuit.")
    assert seen == [["My parrot is called Biscuit."]]
    assert shape(memory) == [("user", "My parrot is called Biscuit."), ("assistant", "Good.")]


def test_a_steps_output_and_effects_are_committed_before_the_next_call(memory_factory: Make, tmp_path: Path) -> None:
    memory = memory_factory()
    seen: list[list[str]] = []

    def look(_: Request) -> Completion:
        other = sqlite3.connect(tmp_path / "m.db")
        seen.append([r[0] for r in other.execute("SELECT role FROM messages ORDER BY id")])
        seen.append([r[0] for r in other.execute("SELECT value FROM blocks WHERE label = 'human'")])
        other.close()
        return Completion("Noted.")

    append = tool_call("core_memory_append", label="human", content="Has a parrot.", request_heartbeat=True)
    Agent(memory, Script(append, look)).send("I have a parrot.")
    assert seen == [["user", "assistant", "tool"], ["Has a parrot."]]


def test_the_effects_of_a_step_commit_together_or_not_at_all(
    memory_factory: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = memory_factory()
    two = Completion(
        "",
        (
            ToolCall("a", "core_memory_append", '{"label": "human", "content": "Has a parrot."}'),
            ToolCall("b", "archival_memory_insert", '{"content": "The parrot is grey."}'),
        ),
    )

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(memory, "archive", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        Agent(memory, Script(two)).send("I have a parrot.")
    assert shape(memory) == [("user", "I have a parrot.")]
    assert memory.core["human"].value == ""
    assert memory.events("core_edit") == [e for e in memory.events("core_edit") if e.payload["op"] == "create"]


# -- calls that fail ---------------------------------------------------------------------------------------------

BAD_CALLS = {
    "unknown function": (call("fly", "{}"), "there is no tool 'fly'"),
    "bad JSON": (call("core_memory_append", '{"label": "human", '), "no JSON"),
    "no object": (call("core_memory_append", "[1]"), "must be a JSON object"),
    "missing argument": (call("core_memory_append", '{"label": "human"}'), "lacks its argument 'content'"),
    "null argument": (call("core_memory_append", '{"label": "a", "content": null}'), "lacks its argument 'content'"),
    "mistyped argument": (call("core_memory_append", '{"label": "human", "content": 7}'), "must be a string"),
    "mistyped page": (call("conversation_search", '{"query": "x", "page": "one"}'), "must be a whole number"),
    "negative page": (call("conversation_search", '{"query": "x", "page": -1}'), "must not be negative"),
    "unknown argument": (call("core_memory_append", '{"label": "human", "content": "x", "mood": "good"}'), "no argument 'mood'"),  # noqa: E501
    "unknown block": (call("core_memory_append", '{"label": "attic", "content": "x"}'), "unknown core memory block 'attic'"),  # noqa: E501
    "text that is not there": (
        call("core_memory_replace", '{"label": "human", "old_content": "cats", "new_content": "dogs"}'), "is not there",
    ),
    "over the block's limit": (call("core_memory_append", json.dumps({"label": "human", "content": "word " * 400})), "its limit is"),  # noqa: E501
    "read-only block": (call("core_memory_append", '{"label": "persona", "content": "x"}'), "is read-only"),
    "bad date": (call("conversation_search", '{"query": "x", "start_date": "soon"}'), "ISO 8601"),
    "empty query": (call("conversation_search", '{"query": " "}'), "is empty"),
    "empty message": (call("send_message", '{"message": " "}'), "is empty"),
    "bad tags": (call("archival_memory_insert", '{"content": "x", "tags": "a"}'), "must be a list of strings"),
    "surrogate": (call("archival_memory_insert", '{"content": "\\ud83d"}'), "lone surrogate"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_failed_call_comes_back_and_forces_a_heartbeat(memory_factory: Make, name: str) -> None:
    completion, says = BAD_CALLS[name]
    memory = memory_factory()
    memory.core["persona"].read_only = True
    backend = Script(completion, "I could not.")
    reply = Agent(memory, backend).send("Do it.")
    assert reply.text == "I could not."
    assert reply.steps == 2, "asked again, though no heartbeat was requested"
    (result,) = results(memory)
    assert result["status"] == "Failed"
    assert says in result["message"]
    shown = backend.requests[1].messages[-1]
    assert says in shown.content
    assert (shown.role, shown.tool_call_id) == ("tool", completion.tool_calls[0].id)
    assert memory.core["human"].value == ""
    assert memory.records.archival.all_ids() == []


def test_a_huge_argument_is_refused_and_the_prompt_stays_in_budget(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=4096)
    backend = Script(call("archival_memory_insert", json.dumps({"content": "x" * 20_001})), "I could not.")
    assert Agent(memory, backend).send("Do it.").text == "I could not."
    (result,) = results(memory)
    assert "at most 20000" in result["message"]
    for request in backend.requests:
        assert backend.counter.count_prompt(request.messages, request.tools) <= memory.budget.max_tokens


@pytest.mark.parametrize("heartbeat", ["yes", 1, "true", None, [True]])
def test_a_heartbeat_that_is_no_boolean_is_false(memory_factory: Make, heartbeat: Any) -> None:
    memory = memory_factory()
    backend = Script(
        Completion(
            "Noted.",
            tool_call("core_memory_append", label="human", content="x", request_heartbeat=heartbeat).tool_calls,
        ),
        "never asked for",
    )
    reply = Agent(memory, backend).send("Note x.")
    assert (reply.text, reply.steps) == ("Noted.", 1)
    assert memory.core["human"].value == "x", "the call itself is carried out"


def test_heartbeats_chain(memory_factory: Make) -> None:
    memory = memory_factory()
    memory.observe("user", "The parrot is grey.")
    backend = Script(
        tool_call("conversation_search", query="parrot", request_heartbeat=True),
        tool_call("archival_memory_insert", content="The parrot is grey.", request_heartbeat=True),
        tool_call("core_memory_append", label="human", content="Has a parrot.", request_heartbeat=True),
        tool_call("send_message", message="All noted."),
        "never asked for",
    )
    reply = Agent(memory, backend).send("What colour is my parrot? Note it.")
    assert (reply.text, reply.steps) == ("All noted.", 4)
    assert [len(r.messages) for r in backend.requests] == sorted({len(r.messages) for r in backend.requests})
    assert memory.core["human"].value == "Has a parrot."
    calls = [c.name for m in stored(memory) for c in m.tool_calls]
    assert calls == ["conversation_search", "archival_memory_insert", "core_memory_append", "send_message"]


def test_several_calls_of_one_step_are_carried_out_in_order(memory_factory: Make) -> None:
    memory = memory_factory()
    both = Completion(
        "",
        (
            ToolCall("a", "core_memory_append", '{"label": "human", "content": "Likes tea."}'),
            ToolCall("b", "core_memory_replace", '{"label": "human", "old_content": "tea", "new_content": "coffee"}'),
            ToolCall("c", "send_message", '{"message": "Coffee it is."}'),
        ),
    )
    reply = Agent(memory, Script(both)).send("Not tea, coffee.")
    assert (reply.text, reply.steps) == ("Coffee it is.", 1)
    assert memory.core["human"].value == "Likes coffee."
    assert [m.tool_call_id for m in stored(memory) if m.role == "tool"] == ["a", "b", "c"]


def test_on_the_last_step_only_send_message_is_allowed(memory_factory: Make) -> None:
    memory = memory_factory()
    search = tool_call("conversation_search", query="x", request_heartbeat=True)
    more = tool_call("conversation_search", query="y", request_heartbeat=True)
    backend = Script(search, more, tool_call("send_message", message="Nothing found."))
    reply = Agent(memory, backend, max_steps=3).send("Search for it.")
    assert (reply.text, reply.steps) == ("Nothing found.", 3)
    assert [r.only_tool for r in backend.requests] == [None, None, "send_message"]
    assert {len(r.tools) for r in backend.requests} == {6}, "the tool list never changes: it is part of the prefix"
    assert LAST_STEP_NOTE in backend.requests[2].messages[-1].content
    assert all(LAST_STEP_NOTE not in m.content for r in backend.requests[:2] for m in r.messages)


def test_the_step_limit(memory_factory: Make) -> None:
    memory = memory_factory()
    script = [tool_call("conversation_search", query=f"thing {n}", request_heartbeat=True) for n in range(3)]
    with pytest.raises(StepLimitError) as caught:
        Agent(memory, Script(*script), max_steps=3).send("Search for it.")
    assert caught.value.steps == 3
    assert [m.role for m in stored(memory)] == ["user", *["assistant", "tool"] * 3]
    reply = Agent(memory, Script("Here I am.")).send("And now?")
    assert reply.text == "Here I am."


def test_text_beside_a_heartbeat_on_the_last_step_is_the_reply(memory_factory: Make) -> None:
    memory = memory_factory()
    both = Completion("I am looking.", tool_call("conversation_search", query="x", request_heartbeat=True).tool_calls)
    reply = Agent(memory, Script(both), max_steps=1).send("Search.")
    assert (reply.text, reply.steps) == ("I am looking.", 1)


def test_the_same_failure_twice_stops(memory_factory: Make) -> None:
    memory = memory_factory()
    bad = call("core_memory_append", '{"label": "attic", "content": "x"}')
    backend = Script(bad, bad, "never asked for")
    with pytest.raises(RepeatedFailureError, match="twice") as caught:
        Agent(memory, backend).send("Note x.")
    assert isinstance(caught.value, AgentRunError) and caught.value.steps == 2
    assert shape(memory)[0] == ("user", "Note x.")
    assert len(backend.requests) == 2
    assert Agent(memory, Script("Fine.")).send("Never mind.").text == "Fine."


def test_other_failures_do_not_stop(memory_factory: Make) -> None:
    memory = memory_factory()
    script = [call("core_memory_append", json.dumps({"label": f"attic{n}", "content": "x"})) for n in range(4)]
    assert Agent(memory, Script(*script, "I give up.")).send("Note x.").text == "I give up."


# -- what a model may answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["send", "stream"])
def test_plain_text_is_a_valid_reply(memory_factory: Make, stream: bool) -> None:
    memory = memory_factory()
    agent = Agent(memory, Script("Plain text is fine."))
    reply = [c.reply for c in agent.stream("Hello")][-1] if stream else agent.send("Hello")
    assert reply is not None
    assert (reply.text, reply.steps, reply.confidence) == ("Plain text is fine.", 1, None)


def test_an_empty_reply_is_asked_again_once(memory_factory: Make) -> None:
    memory = memory_factory()
    assert Agent(memory, Script("", "Here.")).send("Hello?").text == "Here."
    assert shape(memory) == [("user", "Hello?"), ("assistant", "Here.")]


@pytest.mark.parametrize("empty", ["", "  \n", "<think>hm</think>", "<think>cut off"])
def test_two_empty_replies_are_an_error_and_the_users_message_is_kept(memory_factory: Make, empty: str) -> None:
    memory = memory_factory()
    with pytest.raises(BadCompletionError):
        Agent(memory, Script(empty, empty, "never asked for")).send("Hello?")
    assert shape(memory) == [("user", "Hello?")]
    assert Agent(memory, Script("Here.")).send("Anybody?").text == "Here."


THOUGHTS = {
    "closed": ("<think>The user is Tom.</think>Hello Tom.", "Hello Tom."),
    "in the middle": ("Hello <think>who?</think>Tom.", "Hello Tom."),
    "other tag": ("<thinking>x < y</thinking>\n\nHello.", "Hello."),
    "orphan end": ("The user is Tom.</think>Hello Tom.", "Hello Tom."),
    "less-than sign": ("2 < 3 and 5 > 4", "2 < 3 and 5 > 4"),
    "many": ("<think>a</think>One <think>b</think>two.", "One two."),
}


@pytest.mark.parametrize("name", THOUGHTS)
def test_thinking_is_stripped(memory_factory: Make, name: str) -> None:
    written, shown = THOUGHTS[name]
    memory = memory_factory()
    reply = Agent(memory, Script(written)).send("Hi")
    assert reply.text == shown
    assert shape(memory)[-1] == ("assistant", shown)


class Pieces:
    """Streams a text in pieces of its own choice."""

    name = "pieces"
    native_tools = True
    context_window = 8192

    def __init__(self, *texts: str, size: int = 1) -> None:
        self.counter = ScriptedBackend(()).counter
        self.texts = list(texts)
        self.size = size
        self.closed = 0

    def describe(self) -> str:
        return "pieces"

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [Completion(self.texts.pop(0)) for _ in requests]

    def stream(self, request: Request) -> Iterator[Chunk]:
        text = self.texts.pop(0)
        try:
            for n in range(0, len(text), self.size):
                yield Chunk(text[n : n + self.size])
            yield Chunk("", Completion(text))
        finally:
            self.closed += 1

    def close(self) -> None:
        """Holds nothing."""


def joined(chunks: list[Any]) -> tuple[str, Reply]:
    reply = chunks[-1].reply
    assert reply is not None and all(c.reply is None for c in chunks[:-1])
    return "".join(c.text for c in chunks), reply


STREAMED = {
    **{k: v for k, v in THOUGHTS.items() if k != "orphan end"},
    "plain": ("Hello Tom, how are you?", "Hello Tom, how are you?"),
    "spaces": ("  Hello.  \n", "Hello."),
    "lines": ("One.\n\nTwo.", "One.\n\nTwo."),
    "braces": ("{not a call}", "{not a call}"),
    "fence": ("```python\nprint(1)\n```", "```python\nprint(1)\n```"),
    "tag at the end": ("So a <", "So a <"),
    "html": ("Use <b>bold</b> here.", "Use <b>bold</b> here."),
}


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("name", STREAMED)
def test_stream_chunks_joined_are_the_replys_text(memory_factory: Make, name: str, size: int) -> None:
    written, shown = STREAMED[name]
    memory = memory_factory()
    text, reply = joined(list(Agent(memory, Pieces(written, size=size)).stream("Hi")))
    assert text == reply.text == shown
    assert shape(memory)[-1] == ("assistant", shown)


def test_an_orphan_end_of_thinking_in_a_stream(memory_factory: Make) -> None:
    """What was shown can't be taken back: the reply is what the user saw, or only what follows the tag."""
    memory = memory_factory()
    text, reply = joined(list(Agent(memory, Pieces("The user is Tom.</think>Hello Tom.", size=4)).stream("Hi")))
    assert text == reply.text
    assert "</think>" not in text


TEXT_CALLS = {
    "tag": '<tool_call>\n{"name": "core_memory_append", "arguments": {"label": "human", "content": "Has a parrot."}}\n</tool_call>',  # noqa: E501
    "bare": '{"name": "core_memory_append", "arguments": {"label": "human", "content": "Has a parrot."}}',
    "fenced": '```json\n{"name": "core_memory_append", "parameters": {"label": "human", "content": "Has a parrot."}}\n```',  # noqa: E501
    "text around": 'Let me note it. <tool_call>{"name": "core_memory_append", "arguments": {"label": "human", "content": "Has a parrot."}}</tool_call>',  # noqa: E501
    "after thinking": '<think>note it</think>{"name": "core_memory_append", "arguments": {"label": "human", "content": "Has a parrot."}}',  # noqa: E501
    "arguments as a string": '{"name": "core_memory_append", "arguments": "{\\"label\\": \\"human\\", \\"content\\": \\"Has a parrot.\\"}"}',  # noqa: E501
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["send", "stream"])
@pytest.mark.parametrize("name", TEXT_CALLS)
def test_tool_calls_written_as_text(memory_factory: Make, name: str, stream: bool) -> None:
    memory = memory_factory()
    agent = Agent(memory, Pieces(TEXT_CALLS[name], "Noted.", size=5))
    if stream:
        text, reply = joined(list(agent.stream("I have a parrot.")))
        assert text == reply.text
    else:
        reply = agent.send("I have a parrot.")
    assert memory.core["human"].value == "Has a parrot."
    assert "tool_call" not in reply.text and "{" not in reply.text
    assert reply.text == ("Let me note it." if name == "text around" else "Noted.")
    (result,) = [m for m in stored(memory) if m.role == "tool"]
    assert result.tool_call_id in {c.id for m in stored(memory) for c in m.tool_calls}


def test_json_that_is_no_tool_call_is_text(memory_factory: Make) -> None:
    memory = memory_factory()
    for text in ('{"name": "fly", "arguments": {}}', '{"temperature": 7}'):
        assert Agent(memory, Script(text)).send("Answer in JSON.").text == text


def test_several_messages_of_one_turn_are_joined(memory_factory: Make) -> None:
    memory = memory_factory()
    script = [
        tool_call("send_message", message="One moment."),
        Completion("And here:", tool_call("send_message", message="it is.").tool_calls),
    ]
    more = tool_call("conversation_search", query="x", request_heartbeat=True)
    first = Completion("", (*script[0].tool_calls, *more.tool_calls))
    for stream in (False, True):
        agent = Agent(memory, Script(first, script[1]))
        if stream:
            text, reply = joined(list(agent.stream("Search.")))
            assert text == reply.text
        else:
            reply = agent.send("Search.")
        assert reply.text == "One moment.\nAnd here:\nit is."


# -- failures of the backend -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("stream", [False, True], ids=["send", "stream"])
def test_a_backend_error_keeps_what_was_said_and_the_next_turn_works(
    memory_factory: Make, stream: bool, step: int
) -> None:
    memory = memory_factory()
    error = BackendUnavailableError("the server is away", status=503)
    before = [tool_call("core_memory_append", label="human", content="Has a parrot.", request_heartbeat=True)] * (
        step - 1
    )
    agent = Agent(memory, Script(*before, error, "Back again."))
    with pytest.raises(BackendUnavailableError) as caught:
        if stream:
            list(agent.stream("My parrot is called Biscuit."))
        else:
            agent.send("My parrot is called Biscuit.")
    assert caught.value.retryable and caught.value.status == 503
    assert shape(memory)[0] == ("user", "My parrot is called Biscuit.")
    assert memory.core["human"].value == ("Has a parrot." if step == 2 else "")
    assert agent.send("Are you there?").text == "Back again."
    last = agent.backend.requests[-1]  # type: ignore[attr-defined]
    assert "My parrot is called Biscuit." in "\n".join(m.content for m in last.messages)
    assert memory.on_event is None, "the listener of the failed turn is gone"


def test_closing_a_stream_early_stops_it_and_keeps_what_the_user_said(memory_factory: Make) -> None:
    memory = memory_factory()
    backend = Pieces("A very long answer that goes on and on and on.", "Second.", size=4)
    agent = Agent(memory, backend)
    chunks = agent.stream("Tell me everything.")
    seen = [next(chunks).text, next(chunks).text]
    chunks.close()  # type: ignore[attr-defined]
    assert backend.closed == 1, "the backend's stream was closed too"
    kept = shape(memory)
    assert kept[0] == ("user", "Tell me everything.")
    assert kept[1:] in ([], [("assistant", "".join(seen).strip())]), "what was said so far, or nothing"
    assert agent.send("And now?").text == "Second."
    with Memory(memory.store.path, create=False, embedder="hash") as again:
        from agentmem.inspecting import verify

        assert verify(again) == []


def test_what_was_said_so_far_is_kept_in_recall_when_a_stream_is_closed(memory_factory: Make) -> None:
    """The docstring of `Agent.stream` promises it."""
    memory = memory_factory()
    chunks = Agent(memory, Pieces("The first half. The second half.", size=4)).stream("Tell me.")
    seen = ""
    while "first half" not in seen:
        seen += next(chunks).text
    chunks.close()  # type: ignore[attr-defined]
    assert shape(memory) == [("user", "Tell me."), ("assistant", seen.strip())]


def test_who_leaves_a_stream_after_its_last_chunk_stores_the_reply_once(memory_factory: Make) -> None:
    memory = memory_factory()
    chunks = Agent(memory, Pieces("All of it.", size=4)).stream("Tell me.")
    while next(chunks).reply is None:
        pass
    chunks.close()  # type: ignore[attr-defined]
    assert shape(memory) == [("user", "Tell me."), ("assistant", "All of it.")]


# -- citations ---------------------------------------------------------------------------------------------------


def filled(memory: Memory, messages: int = 160) -> Memory:
    """A history that is mostly paged out, with two facts by key and by id."""
    memory.observe("user", "My invoice INV-2041 over 318 euros is unpaid.", key="D1:3", name="Mia")
    memory.observe("user", "The parrot Biscuit eats sunflower seeds.")
    for n in range(messages):
        memory.observe("user", f"Nothing much happened on day {n}, rain and more rain over the valley.")
    assert memory.pager.state()[0].first_message > 3
    return memory


def test_citations_are_those_that_were_paged_in(memory_factory: Make) -> None:
    memory = filled(memory_factory(window_tokens=2048))
    text = "It is INV-2041 [D1:3], the bird eats seeds [m2], [m9999], [nonsense] and [D9:9]; see [D1:3; m2]."
    reply = Agent(memory, Script(text)).send("Which invoice is unpaid, and what does the parrot Biscuit eat?")
    assert {i.hit.id for i in reply.page.items} >= {"m1", "m2"}
    assert [(c.id, c.key, c.tier.value) for c in sorted(reply.citations, key=lambda c: c.id)] == [
        ("m1", "D1:3", "recall"), ("m2", None, "recall"),
    ]  # fmt: skip
    assert reply.citations[0].text in {i.text for i in reply.page.items}


def test_a_record_that_was_not_paged_in_is_no_citation(memory_factory: Make) -> None:
    memory = filled(memory_factory(window_tokens=2048))
    reply = Agent(memory, Script("I made it up [m2] [m100].")).send("INV-2041")
    paged = {i.hit.id for i in reply.page.items}
    assert {c.id for c in reply.citations} <= paged
    assert memory.message("m100") is not None and "m100" not in paged


# -- tools -------------------------------------------------------------------------------------------------------


def test_search_results_come_in_pages_with_true_totals(memory_factory: Make) -> None:
    memory = memory_factory(page_size=4)
    for n in range(10):
        memory.observe("user", f"harbour report {n}")
    pages = [use_tool(memory, "conversation_search", query="harbour report", page=n) for n in range(4)]
    assert [p["total"] for p in pages] == [10] * 4
    assert [p["pages"] for p in pages] == [3] * 4
    assert [len(p["results"]) for p in pages] == [4, 4, 2, 0]
    found = [r for p in pages for r in refs(p)]
    assert sorted(found, key=lambda r: int(r[1:])) == [f"m{n}" for n in range(1, 11)], "each once"
    assert set(pages[0]["results"][0]) == {"id", "at", "who", "text"}


def test_the_total_counts_everything_that_shares_a_word(memory_factory: Make) -> None:
    memory = memory_factory(page_size=100)
    memory.ingest({"role": "user", "content": f"harbour report {n}"} for n in range(750))
    pages = [use_tool(memory, "conversation_search", query="harbour", page=n) for n in range(9)]
    assert {p["total"] for p in pages} == {750}
    found = [r for p in pages for r in refs(p)]
    assert len(found) == len(set(found)) == 750


def test_pages_are_stable_while_messages_are_added(memory_factory: Make) -> None:
    memory = memory_factory(page_size=3)
    for n in range(9):
        memory.observe("user", f"harbour report {n}")
    before = [refs(use_tool(memory, "conversation_search", query="harbour", page=n)) for n in range(3)]
    first = refs(use_tool(memory, "conversation_search", query="harbour", page=0))
    for n in range(5):
        memory.observe("user", f"harbour harbour harbour {n}")
    after = [refs(use_tool(memory, "conversation_search", query="harbour", page=n)) for n in (1, 2)]
    assert [first, *after] == before
    anew = use_tool(memory, "conversation_search", query="harbour", page=0)
    assert anew["total"] == 14, "page 0 searches anew"


def test_an_erased_record_leaves_the_pages(memory_factory: Make) -> None:
    memory = memory_factory(page_size=3)
    for n in range(6):
        memory.observe("user", f"harbour report {n}", key=f"k{n}")
    shown = [refs(use_tool(memory, "conversation_search", query="harbour", page=n)) for n in range(2)]
    victim = shown[1][0]
    memory.erase(key=victim)
    page = use_tool(memory, "conversation_search", query="harbour", page=1)
    assert victim not in refs(page) and page["total"] == 5


def test_dates_filter_a_conversation_search(memory_factory: Make) -> None:
    memory = memory_factory()
    for day in (1, 5, 9):
        memory.observe("user", f"harbour on day {day}", at=f"2023-05-0{day}T18:30:00")
    for start, end, days in (
        ("2023-05-05", None, {5, 9}), (None, "2023-05-05", {1, 5}), ("2023-05-02", "2023-05-08", {5}),
        ("2023-05-05T19:00:00", None, {9}), (None, "2023-05-05T18:00:00", {1}), ("2023-06-01", None, set()),
    ):  # fmt: skip
        given = {k: v for k, v in (("start_date", start), ("end_date", end)) if v}
        found = use_tool(memory, "conversation_search", query="harbour", **given)
        assert {int(r["text"][-1]) for r in found["results"]} == days, (start, end)
        assert found["total"] == len(days)


def test_tags_filter_an_archival_search(memory_factory: Make) -> None:
    memory = memory_factory()
    use_tool(memory, "archival_memory_insert", content="The harbour code is 4711.", tags=["code", "harbour"])
    use_tool(memory, "archival_memory_insert", content="The harbour master is Ines.", tags=["harbour"])
    use_tool(memory, "archival_memory_insert", content="The harbour is deep.")
    for tags, expected in (
        (["code"], {"p1"}),
        (["harbour"], {"p1", "p2"}),
        (["harbour", "code"], {"p1"}),
        (["x"], set()),
        ([], {"p1", "p2", "p3"}),
    ):
        found = use_tool(memory, "archival_memory_search", query="harbour", tags=tags)
        assert set(refs(found)) == expected, tags
        assert found["total"] == len(expected)
    assert use_tool(memory, "conversation_search", query="harbour")["total"] == 0, "tiers are apart"


def test_an_archival_insert_knows_the_message_that_it_comes_from(memory_factory: Make) -> None:
    memory = memory_factory()
    memory.observe("user", "Hello.")
    insert = tool_call("archival_memory_insert", content="The door code is 4711.", tags=["code"])
    Agent(memory, Script(Completion("Kept.", insert.tool_calls))).send("The door code is 4711, keep it.", name="Tom")
    passage = memory.passage("p1")
    assert passage.sources == ("m2",)
    said = memory.message("m2")
    assert said is not None and said.role == "user" and said.name == "Tom"
    memory.erase(id="m2")
    assert all("4711" not in h.text for h in memory.search("door code 4711")), "what was derived from it goes with it"
    assert memory.records.archival.all_ids() == []


def test_what_send_message_said_can_be_searched(memory_factory: Make) -> None:
    memory = memory_factory()
    Agent(memory, Script(tool_call("send_message", message="The ferry leaves at 7:40 from pier nine."))).send("When?")
    (hit,) = [h for h in memory.search("ferry pier") if h.role == "assistant"]
    assert hit.text == "The ferry leaves at 7:40 from pier nine."
    found = use_tool(memory, "conversation_search", query="ferry pier")
    assert refs(found)[0] == hit.id


def test_tool_results_are_never_found_as_if_said(memory_factory: Make) -> None:
    memory = memory_factory()
    memory.observe("user", "The heliotrope is in the greenhouse.")
    script = (tool_call("conversation_search", query="heliotrope", request_heartbeat=True), "In the greenhouse.")
    Agent(memory, Script(*script)).send("Where is that plant?")
    hits = memory.search("heliotrope greenhouse")
    assert {h.role for h in hits} == {"user", "assistant"}
    assert [h.id for h in hits if "heliotrope" in h.text] == ["m1"]
    assert use_tool(memory, "conversation_search", query="heliotrope")["total"] >= 1
    assert all(
        m.role != "tool"
        for m in stored(memory)
        if f"m{m.id}" in refs(use_tool(memory, "conversation_search", query="heliotrope"))
    )


def test_recalled_text_is_neither_filed_nor_found_again(memory_factory: Make) -> None:
    memory = memory_factory()
    memory.observe("user", "My name is Rosalind and I live in Kyoto.", name="Guest")
    agent = Agent(memory)
    before = {h.id for h in memory.search("Rosalind Kyoto", top_k=50)}
    for _ in range(3):
        reply = agent.send("Where does Rosalind live?")
        assert "Kyoto" in reply.text
    assert memory.core["human"].value == "", "it was quoted, not said by the user"
    after = [h for h in memory.search("Rosalind Kyoto", top_k=50) if h.id not in before]
    assert {h.role for h in after} == {"user"}, "the questions are found, the quotations are not"
    assert all("Kyoto" not in h.text for h in after)
    quoted = [m for m in stored(memory) if m.role == "assistant"]
    assert len(quoted) == 3 and all(m.derived for m in quoted)
    page = memory.page_in("Rosalind Kyoto", max_tokens=500)
    assert page.text.count("I live in Kyoto") == 1


def test_read_only_turns_refuse_the_writing_tools(memory_factory: Make) -> None:
    memory = memory_factory()
    writes = [
        tool_call("core_memory_append", label="human", content="x", request_heartbeat=True),
        tool_call("archival_memory_insert", content="y", request_heartbeat=True),
        tool_call("core_memory_replace", label="human", old_content="a", new_content="b", request_heartbeat=True),
        tool_call("conversation_search", query="z", request_heartbeat=True),
    ]
    backend = Script(*writes, "Done.")
    from agentmem.archive_file import export_lines

    before = list(export_lines(memory))
    reply = Agent(memory, backend).send("Do what you like.", store=False)
    assert (reply.text, reply.steps) == ("Done.", 5)
    shown = [json.loads(m.content) for m in backend.requests[-1].messages if m.role == "tool"]
    assert [r.get("status") for r in shown] == ["Failed", "Failed", "Failed", None]
    assert all("read-only" in r["message"] for r in shown[:3])
    assert list(export_lines(memory)) == before


# -- pressure and flushes ----------------------------------------------------------------------------------------


def test_the_pressure_note_stands_once_an_epoch_and_only_for_models(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=4096)
    backend = Script(*["All right."] * 200)
    agent = Agent(memory, backend)
    epochs: list[int] = []
    noted: list[int] = []
    for n in range(200):
        agent.send(f"Report {n}: " + "the weather in the valley is wet and the road is closed. " * 3)
        epochs.append(memory.pager.state()[0].number)
        prompt = backend.requests[-1].messages
        if PRESSURE_NOTE in prompt[-1].content:
            noted.append(epochs[-1])
        assert all(PRESSURE_NOTE not in m.content for m in prompt[:-1]), "it stands in the tail alone"
        if epochs[-1] >= 4:
            break
    assert noted == [1, 2, 3], "once in each epoch before it ended"
    assert len(memory.events("pressure")) == 3
    assert not any(PRESSURE_NOTE in m.content for m in stored(memory)), "never stored as history"
    plain = memory_factory("p.db", window_tokens=1024)
    quoting = Agent(plain)
    for n in range(60):
        quoting.send(f"Report {n}: the weather in the valley is wet and the road is closed.")
    assert plain.pager.state()[0].number > 1
    assert plain.events("pressure") == []


def test_a_flush_never_splits_a_call_from_its_result_when_the_window_is_tight(memory_factory: Make) -> None:
    tool_traffic(memory_factory(window_tokens=3072))


@pytest.mark.slow
def test_a_flush_never_splits_a_call_from_its_result_and_prompts_stay_in_budget(memory_factory: Make) -> None:
    tool_traffic(memory_factory(window_tokens=6144))


def tool_traffic(memory: Memory) -> None:
    """Many turns with up to two searches each, over several flushes; every prompt is looked at."""
    script: list[Any] = []
    for n in range(45):
        searches = [
            tool_call("conversation_search", query=f"report {n - k}", request_heartbeat=True) for k in range(n % 3)
        ]
        script += [*searches, tool_call("send_message", message=f"Reply {n}: noted, thank you.")]
    backend = Script(*script)
    agent = Agent(memory, backend)
    for n in range(45):
        agent.send(f"Report {n}: " + "the road over the pass is closed again today. " * 2)
    assert memory.pager.state()[0].number > 2
    for request in backend.requests:
        opened: set[str] = set()
        answered: set[str] = set()
        for m in request.messages:
            opened |= {c.id for c in m.tool_calls}
            if m.role == "tool":
                assert m.tool_call_id in opened, "a result without its call"
                answered.add(str(m.tool_call_id))
        assert opened == answered, "a call without its result"
        assert backend.counter.count_prompt(request.messages, request.tools) <= memory.budget.max_tokens
    for event in memory.events("prompt"):
        assert event.payload["total"] == sum(event.payload["tokens"].values()) <= memory.budget.max_tokens
    from agentmem.inspecting import verify
    from agentmem.replay import replay

    assert verify(memory) == []
    assert {r.status for r in replay(memory)} == {"same"}
    assert backend.summaries, "the model was asked for the summary"


def test_within_a_turn_the_prompt_only_grows(memory_factory: Make) -> None:
    """So that a server's prefix cache keeps its hits."""
    memory = filled(memory_factory(window_tokens=8192), 600)
    searches = [
        tool_call("conversation_search", query=q, request_heartbeat=True) for q in ("invoice", "parrot", "rain")
    ]
    backend = Script(*searches, "Done.")
    Agent(memory, backend).send("Which invoice is unpaid?")
    for before, after in zip(backend.requests, backend.requests[1:], strict=False):
        assert after.messages[: len(before.messages)] == before.messages


def test_an_epochs_head_stays_byte_for_byte_and_an_edit_shows_at_once(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=8192)
    append = tool_call("core_memory_append", label="human", content="Has a parrot.", request_heartbeat=True)
    backend = Script(append, "Noted.", "Biscuit.")
    agent = Agent(memory, backend)
    agent.send("I have a parrot.")
    agent.send("What is it called?")
    heads = {r.messages[0] for r in backend.requests}
    assert len(heads) == 1, "core memory in the head is as of the epoch"
    assert "Has a parrot." not in backend.requests[0].messages[0].content
    assert "Has a parrot." in backend.requests[1].messages[-1].content, "the tool's result says the new value"
    memory.core["human"].append("Likes tea.")
    assert "Likes tea." in "\n".join(m.content for m in memory.render(query="x").messages)


# -- isolation ---------------------------------------------------------------------------------------------------


def test_two_agents_of_one_file_can_not_see_one_another(memory_factory: Make, tmp_path: Path) -> None:
    tom, mia = memory_factory(agent="tom"), memory_factory(agent="mia")
    tom.observe("user", "The heliotrope vault opens with 7741.", key="secret", name="Tom", session="s")
    tom.archive("The heliotrope vault is under the stairs.", key="vault", tags=["vault"])
    tom.core["human"].append("Owns the heliotrope vault.")
    for n in range(40):
        mia.observe("user", f"heliotrope vault question {n}")
    Agent(mia, Script(tool_call("send_message", message="I know of no vault."))).send("Where is the vault?")
    from agentmem.archive_file import export_lines
    from agentmem.errors import UnknownNameError

    seen: list[str] = ["\n".join(export_lines(mia))]
    for tier in ("all", "recall", "archival"):
        seen += [h.text for h in mia.search("heliotrope vault stairs 7741", tier=tier, top_k=500)]
    seen.append(mia.page_in("heliotrope vault", max_tokens=5000).text)
    seen += [m.content for m in mia.render(query="heliotrope vault").messages]
    for name, more in (
        ("conversation_search", {}),
        ("archival_memory_search", {}),
        ("archival_memory_search", {"tags": ["vault"]}),
    ):
        for page in range(12):
            seen.append(json.dumps(use_tool(mia, name, query="heliotrope vault stairs", page=page, **more)))
    seen.append(Agent(mia).send("What opens the heliotrope vault?").text)
    for text in seen:
        assert "7741" not in text.replace("stairs 7741", "") and "under the stairs" not in text and "Owns" not in text
    assert mia.message("secret") is None
    for call_ in (lambda: mia.erase(key="secret"), lambda: mia.erase(key="vault"), lambda: mia.passage("p1")):
        with pytest.raises(UnknownNameError):
            call_()
    mia.observe("user", "The same key is free for another agent.", key="secret")
    mia.erase(key="secret")
    kept = tom.message("secret")
    assert kept is not None and "7741" in kept.content
    assert tom.search("heliotrope vault stairs", tier="archival")[0].key == "vault"
    assert mia.stats()["passages"] == 0


def test_a_search_cursor_of_one_agent_is_not_anothers(memory_factory: Make) -> None:
    tom, mia = memory_factory(agent="tom", page_size=2), memory_factory(agent="mia", page_size=2)
    for n in range(6):
        tom.observe("user", f"harbour report {n} of Tom")
    mia.observe("user", "one harbour report of Mia")
    use_tool(tom, "conversation_search", query="harbour report")
    shown = use_tool(mia, "conversation_search", query="harbour report", page=1)
    assert (shown["total"], shown["results"]) == (1, [])


# -- filing by the extractive backend ----------------------------------------------------------------------------


def test_filing_through_the_extractive_backend(memory_factory: Make) -> None:
    memory = memory_factory()
    agent = Agent(memory)
    assert "Ada" in agent.send("Hi, my name is Ada.").text
    agent.send("I live in Porto.")
    assert memory.core["human"].value.splitlines() == ["Name: Ada", "Lives in: Porto"]
    moved = agent.send("I moved to Ghent last week.")
    assert memory.core["human"].value.splitlines() == ["Name: Ada", "Lives in: Ghent"], "replaced, not added"
    assert "Ghent" in moved.text
    kept = agent.send("Please remember that the spare key is under the blue pot.")
    assert kept.text
    passage = memory.passage("p1")
    assert passage.text == "the spare key is under the blue pot"
    assert passage.sources == (stored(memory)[-4].ref,)
    again = agent.send("I live in Ghent.")
    assert again.text and memory.core["human"].value.count("Ghent") == 1
    assert [e["before"] for e in memory.records.journal.block_edits() if e["op"] == "replace"] == [
        "Name: Ada\nLives in: Porto"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Do I live in Porto?", "If I live in Porto, is it warm?", '"My name is Ada", she said.', "He said my name is Ada.",  # noqa: E501
        "Imagine my name is Ada.", "> my name is Ada", "```\nmy name is Ada\n```",
    ],
)  # fmt: skip
def test_what_is_not_filed(memory_factory: Make, text: str) -> None:
    memory = memory_factory()
    Agent(memory).send(text)
    assert memory.core["human"].value == ""
    assert memory.records.archival.all_ids() == []


def test_a_block_that_is_full_or_locked_is_said_and_the_turn_goes_on(memory_factory: Make) -> None:
    memory = memory_factory()
    memory.core["human"].max_tokens = 8
    agent = Agent(memory)
    agent.send("My name is Ada.")
    reply = agent.send("I work as a marine biologist.")
    assert "Not noted" in reply.text and "limit" in reply.text
    assert memory.core["human"].value == "Name: Ada"


def test_the_answer_after_a_move_is_the_new_home(memory_factory: Make) -> None:
    memory = memory_factory()
    agent = Agent(memory)
    agent.send("I live in Porto.")
    agent.send("I moved to Ghent.")
    reply = agent.send("Where do I live?")
    assert "Ghent" in reply.answer and not reply.abstained


# -- asynchronous ------------------------------------------------------------------------------------------------


def test_async_agents_side_by_side(memory_factory: Make) -> None:
    async def talk(name: str) -> list[str]:
        agent = AsyncAgent(
            Agent(memory_factory(agent=name), Script(f"Hello {name}.", f"Still {name}.", f"Bye {name}."))
        )
        first = await agent.send("Hi")
        pieces = [chunk.text async for chunk in agent.stream("You?")]
        last = await agent.send("Bye", name=name)
        await agent.close()
        return [first.text, "".join(pieces), last.text]

    async def both() -> list[list[str]]:
        return await asyncio.gather(talk("tom"), talk("mia"))

    assert asyncio.run(both()) == [[f"Hello {n}.", f"Still {n}.", f"Bye {n}."] for n in ("tom", "mia")]


def test_an_async_stream_that_is_left_early(memory_factory: Make) -> None:
    memory = memory_factory()
    backend = Pieces("A long answer that goes on and on.", "Second.", size=3)

    async def leave() -> str:
        agent = AsyncAgent(Agent(memory, backend))
        chunks = agent.stream("Tell me.")
        async for _ in chunks:
            break
        await chunks.aclose()  # type: ignore[attr-defined]
        reply = await agent.send("And now?")
        await agent.close()
        return reply.text

    assert asyncio.run(leave()) == "Second."
    assert backend.closed == 2, "a send streams too, so that it can be stopped"
    assert shape(memory)[0] == ("user", "Tell me.")


def test_errors_reach_the_async_caller(memory_factory: Make) -> None:
    async def ask() -> None:
        agent = AsyncAgent(Agent(memory_factory(), Script(BackendUnavailableError("away"))))
        try:
            await agent.send("Hi")
        finally:
            await agent.close()

    with pytest.raises(BackendUnavailableError, match="away"):
        asyncio.run(ask())


# -- the golden conversation -------------------------------------------------------------------------------------


def _short(payload: Any) -> dict[str, Any]:
    """An event without the parts of its scores; the ranking has tests of its own."""
    items = [[i["ref"], i["whole"]] for i in payload.get("items", ())]
    return {**payload, "items": items} if items else dict(payload)


def golden(path: Path) -> dict[str, Any]:
    """One scripted conversation under a clock that only moves when told to: its events, records and prompts."""
    from agentmem.backends.hashing_embedder import HashingEmbedder
    from agentmem.context import fingerprint  # noqa: F401 - the hashes in the events are this function's

    clock = Clock(datetime(2023, 5, 8, 12, 0, tzinfo=UTC))
    calls = iter(range(1, 100))

    def do(name: str, **arguments: Any) -> Completion:
        return Completion("", (ToolCall(f"c{next(calls)}", name, json.dumps(arguments)),), finish_reason="tool_calls")

    script: list[Any] = [
        do("core_memory_append", label="human", content="Has a parrot.", request_heartbeat=True),
        do("send_message", message="A parrot! What is it called?"),
        do("archival_memory_insert", content="The parrot is called Biscuit.", tags=["parrot"], request_heartbeat=True),
        "Noted.",
        do("fly"),
        do("conversation_search", query="parrot", request_heartbeat=True),
        "You told me about Biscuit [m5].",
        *["I see."] * 24,
        "<think>hm</think>It is Biscuit [p1].",
    ]
    said = [
        ("I have a parrot.", 60), ("It is called Biscuit.", 60), ("Did I mention a bird?", 60),
        *((f"Report {n}: the road over the pass is closed, the weather is wet and the ferry is late again, as on every day of this long winter, says the radio at noon, and nobody can say when the valley will be dry again.", 3600) for n in range(24)),  # noqa: E501
        ("What is my parrot called?", 86_400),
    ]  # fmt: skip
    with Memory(path, agent="golden", embedder=HashingEmbedder(), clock=clock, window_tokens=4096) as memory:
        agent = Agent(memory, Script(*script))
        replies = []
        for text, seconds in said:
            clock.tick(seconds)
            reply = agent.send(text, name="Tom")
            replies.append([reply.text, [c.id for c in reply.citations], reply.steps, dict(reply.ledger.sections)])
        return {
            "replies": replies,
            "events": [[e.number, e.kind, e.at.isoformat(), _short(e.payload)] for e in memory.events()],
            "messages": [[m.id, m.role, m.content, m.at.isoformat(), m.tool_call_id] for m in stored(memory)],
        }


def test_the_golden_conversation(tmp_path: Path) -> None:
    """Regenerate with `python -m tests.agent.regenerate` after a change that is meant, and read the difference."""
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = json.loads(json.dumps(golden(tmp_path / "g.db")))
    for part in ("replies", "messages", "events"):
        assert len(found[part]) == len(expected[part]), part
        for n, (have, want) in enumerate(zip(found[part], expected[part], strict=True)):
            assert have == want, f"{part} {n}"
    assert json.loads(json.dumps(golden(tmp_path / "again.db"))) == found, "the same twice"
    kinds = {e[1] for e in expected["events"]}
    assert kinds >= {"core_edit", "archive", "page_in", "prompt", "step", "page_out", "pressure"}


def test_tool_schemas_are_those_of_the_contract() -> None:
    found = {
        s.name: [f"{n}{'' if n in s.parameters['required'] else '?'}" for n in s.parameters["properties"]]
        for s in SPECS
    }
    assert found == {
        "send_message": ["message"],
        "core_memory_append": ["label", "content", "request_heartbeat?"],
        "core_memory_replace": ["label", "old_content", "new_content", "request_heartbeat?"],
        "conversation_search": ["query", "start_date?", "end_date?", "page?", "request_heartbeat?"],
        "archival_memory_insert": ["content", "tags?", "request_heartbeat?"],
        "archival_memory_search": ["query", "tags?", "page?", "request_heartbeat?"],
    }
