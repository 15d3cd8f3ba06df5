"""Turns with compressed prompts: what the model reads, what `/why` shows, and a compressor that fails on the way."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agentmem import Agent, Memory
from agentmem.compressing import Compressing
from agentmem.compression import Compressed, CompressionRequest
from agentmem.paging import line
from agentmem.repl import Chat
from agentmem.replay import replay
from agentmem.scripted import ScriptedBackend, tool_call
from agentmem.types import Completion, Reply, Request
from tests.kernel.test_compressing import FAILING, Told, first_words

Make = Callable[..., Memory]
SAID = "Well, it was a nice time and we talked for quite a while. On day {n} Anna bought {n} kilos of figs, not pears."
ASKED = "What did Anna buy on day {n}, of all that there was?"


def talk(
    make: Make, compressor: Any = "extractive", turns: int = 12, **settings: Any
) -> tuple[Memory, ScriptedBackend]:
    """A conversation of a model that calls a tool now and then, in a small window, over forty old messages."""
    memory = make(compressor=compressor, **{"window_tokens": 2600, "history_share": 0.1, **settings})
    for n in range(40):
        memory.observe("user" if n % 2 == 0 else "assistant", SAID.format(n=n), key=f"D:{n}")

    def answer(request: Request) -> Completion:
        last = request.messages[-1]
        if last.role == "user" and any(last.content.endswith(ASKED.format(n=n)) for n in range(0, turns, 4)):
            return tool_call("conversation_search", query="figs", request_heartbeat=True)
        return Completion(SAID.format(n=100 + len(backend.requests)))

    backend = ScriptedBackend([answer] * 200, context_window=2600)
    agent = Agent(memory, backend)
    for n in range(turns):
        agent.send(ASKED.format(n=n))
    return memory, backend


def test_a_conversation(memory_factory: Make) -> None:
    memory, backend = talk(memory_factory)
    most = memory.budget.max_tokens
    assert all(backend.counter.count_prompt(r.messages, r.tools) <= most for r in backend.requests)
    assert sum(r.messages[-1].role == "tool" for r in backend.requests) == 3
    systems: dict[int, set[str]] = {}
    for event, again in zip(memory.events("prompt"), replay(memory), strict=True):
        systems.setdefault(event.payload["plan"]["epoch"], set()).add(again.messages[0].content)
    assert len(systems) > 1 and all(len(texts) == 1 for texts in systems.values()), "one text an epoch"
    plans = [e.payload["plan"] for e in memory.events("prompt")]
    assert any(p["earlier"] for p in plans)
    assert {r.status for r in replay(memory)} == {"same"}
    assert memory.notices == []


def test_a_conversation_without_one(memory_factory: Make) -> None:
    memory, backend = talk(memory_factory, "none")
    assert not any("<earlier>\n" in r.messages[0].content for r in backend.requests)
    assert not any("~" in piece for e in memory.events("prompt") for piece in e.payload["plan"]["pieces"])
    assert {r.status for r in replay(memory)} == {"same"}


# Every way to fail, alone and joint, is held page by page in tests/kernel/test_compressing.py.
@pytest.mark.parametrize(
    ("how", "joint"),
    [*((how, False) for how in sorted(FAILING)), ("raises", True), ("returns the whole", True), ("wrong parts", True)],
)
def test_it_goes_on_when_the_compressor_fails(how: str, joint: bool, memory_factory: Make) -> None:
    memory, backend = talk(memory_factory, Told(FAILING[how], joint=joint), turns=3)
    assert len(memory.events("prompt")) == 4
    for request in backend.requests:
        assert backend.counter.count_prompt(request.messages, request.tools) <= memory.budget.max_tokens
    assert len(memory.notices) == len(memory.events("compressor_failed")) == 1
    assert not any("~" in piece for e in memory.events("prompt") for piece in e.payload["plan"]["pieces"])
    assert {r.status for r in replay(memory)} == {"same"}


def test_it_goes_on_when_the_compressor_takes_too_long(memory_factory: Make) -> None:
    go = threading.Event()
    told = Told(lambda requests: [go.wait(30)] and [None] * len(requests))
    memory = memory_factory(compressor=told, window_tokens=600)
    memory.compressing = Compressing(told, memory._tell_once, time_limit_s=0.05)
    memory.refresh()
    for n in range(20):
        memory.observe("user", SAID.format(n=n), key=f"D:{n}")
    agent = Agent(memory)
    replies = [agent.send(ASKED.format(n=n)) for n in range(4)]
    go.set()
    assert len(told.asked) == 1
    assert all(r.ledger.total <= memory.budget.max_tokens and r.text for r in replies)
    assert len(memory.notices) == len(memory.events("compressor_failed")) == 1
    assert "took longer than 0.05 s" in memory.notices[0]


def test_a_failure_does_not_keep_a_file_from_being_read_that_is_read_only(memory_factory: Make) -> None:
    def boom(requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
        raise RuntimeError("it broke")

    memory = memory_factory(compressor=Told(boom))
    for n in range(20):
        memory.observe("user", SAID.format(n=n))
    memory.catch_up()

    memory.page_in(ASKED.format(n=3), max_tokens=2000)
    memory.store.db.run("PRAGMA query_only = ON")
    assert memory.page_in(ASKED.format(n=3), max_tokens=2000).items
    assert memory.page_in(ASKED.format(n=3), max_tokens=80).items
    assert len(memory.notices) == 1
    memory.store.db.run("PRAGMA query_only = OFF")


def test_what_is_in_the_reply(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=700)
    for n in range(30):
        memory.observe("user", SAID.format(n=n), key=f"D:{n}")
    reply = Agent(memory).send(ASKED.format(n=7))
    short = [i for i in reply.page.items if i.spans]
    assert short
    for item in short:
        assert line(item) in reply.page.text and item.hit.text == SAID.format(n=int(item.hit.key[2:]))  # type: ignore[index]
        assert item.hit.key in reply.page.shortened and item.hit.key not in reply.page.keys
    for citation in reply.citations:
        assert citation.text in {SAID.format(n=n) for n in range(30)} or any(
            citation.text in SAID.format(n=n) for n in range(30)
        ), "what is quoted was said so"


# -- /why --------------------------------------------------------------------------------------------------------


class Chatting:
    """A chat on a console that is read."""

    def __init__(self, agent: Agent) -> None:
        from rich.console import Console

        self.file = io.StringIO()
        self.chat = Chat(agent, as_json=False)
        self.chat.out = Console(file=self.file, width=400, force_terminal=True, color_system="standard")

    def say(self, text: str) -> str:
        start = len(self.file.getvalue())
        assert self.chat.handle(text)
        return self.file.getvalue()[start:]


@pytest.fixture
def chatting(memory_factory: Make) -> Chatting:
    memory = memory_factory(window_tokens=700)
    for n in range(30):
        memory.observe("user", SAID.format(n=n), key=f"D:{n}")
    return Chatting(Agent(memory))


def plain(text: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def last(chatting: Chatting) -> Reply:
    assert chatting.chat.last is not None
    return chatting.chat.last


def test_why_shows_the_original_beside_the_compressed(chatting: Chatting) -> None:
    chatting.say(ASKED.format(n=7))
    told = chatting.say("/why")
    short = [i for i in last(chatting).page.items if i.spans]
    assert short
    # Lines are wrapped at the terminal's width.
    said = " ".join(plain(told).split())
    for item in short:
        words, whole = " ".join(item.text.split()), " ".join(item.hit.text.split())
        assert f"in the prompt: {words} whole: {whole}" in said


def test_why_of_whole_records_has_no_second_line(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=2000, compressor="none")
    for n in range(80):
        memory.observe("user", SAID.format(n=n), key=f"D:{n}")
    chatting = Chatting(Agent(memory))
    chatting.say(ASKED.format(n=7))
    assert last(chatting).page.items and all(i.whole for i in last(chatting).page.items)
    assert "in the prompt:" not in chatting.say("/why")


def test_a_failure_is_said_at_the_chat_once(memory_factory: Make, capsys: pytest.CaptureFixture[str]) -> None:
    memory = memory_factory(compressor=Told(FAILING["raises"]), window_tokens=700)
    for n in range(30):
        memory.observe("user", SAID.format(n=n), key=f"D:{n}")
    chatting = Chatting(Agent(memory))
    chatting.chat.greet()
    chatting.say(ASKED.format(n=7))
    chatting.say(ASKED.format(n=8))
    assert plain(chatting.file.getvalue()).count("it broke") == 1


def test_a_joint_one_in_a_turn(memory_factory: Make) -> None:
    told = Told(first_words, joint=True)
    memory = memory_factory(compressor=told, window_tokens=700)
    for n in range(30):
        memory.observe("user", SAID.format(n=n), key=f"D:{n}")
    told.asked.clear()
    reply = Agent(memory).send(ASKED.format(n=7))
    of_page = [r for batch in told.asked for r in batch if r.query]
    assert len(of_page) == 1 and len(of_page[0].parts) > 2
    assert reply.ledger.total <= memory.budget.max_tokens
    assert {r.status for r in replay(memory)} == {"same"}
