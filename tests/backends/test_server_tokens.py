"""Counting by the server's /tokenize, and what happens on servers that have none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentmem.backends.http import HttpClient
from agentmem.backends.served_model import ServedModel
from agentmem.backends.server_tokens import ServerCounter
from agentmem.errors import BackendUnavailableError, BadRequestError, ConfigError, RateLimitedError
from agentmem.tokens import approximate_counter
from agentmem.types import ChatMessage, ToolCall, ToolSpec
from tests.backends.fake_openai import MODELS, TOKENIZE, FakeOpenAI, Recorded, Reply, models, tidy, tokenize

MESSAGES = (ChatMessage("system", "be brief"), ChatMessage("user", "hello there"))
TOOL = ToolSpec("look_up", "Finds it.", {"type": "object", "properties": {}})


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture(autouse=True)
def _tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from tidy(monkeypatch)


def connect(server: FakeOpenAI, model: str | None = "tiny", **settings: Any) -> ServerCounter:
    http = HttpClient(server.url, sleep=lambda s: None, timeout_s=5.0, **settings)
    return ServerCounter(http, ServedModel(http, model).id)


def test_text_is_counted_by_the_server(server: FakeOpenAI) -> None:
    counter = connect(server)
    assert counter.count("one two, three") == 4
    assert server.requests[0].path == "/tokenize"
    assert server.requests[0].body == {"model": "tiny", "prompt": "one two, three", "add_special_tokens": False}
    assert (counter.exact, counter.additive) == (True, False)


def test_the_empty_text_costs_no_request(server: FakeOpenAI) -> None:
    assert connect(server).count("") == 0
    assert server.requests == []


def test_a_prompt_is_counted_with_its_template_and_tools(server: FakeOpenAI) -> None:
    counter = connect(server)
    plain = counter.count_prompt(MESSAGES)
    assert plain == 3 + 2 + 3 + 2
    assert server.requests[0].body == {
        "model": "tiny",
        "messages": [m.to_dict() for m in MESSAGES],
        "add_generation_prompt": True,
    }
    assert counter.count_prompt(MESSAGES, (TOOL,)) > plain
    assert server.requests[1].body["tools"] == [TOOL.to_dict()]


def test_counts_are_cached(server: FakeOpenAI) -> None:
    counter = connect(server)
    for _ in range(3):
        counter.count("a b")
        counter.count("x" * 100_000)
        counter.count_prompt(MESSAGES)
    assert len(server.requests) == 3


def test_the_cache_is_bounded(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmem.backends.server_tokens._CACHE_SIZE", 2)
    counter = connect(server)
    for text in ("a", "b", "a", "c", "a", "b"):
        counter.count(text)
    assert [r.body["prompt"] for r in server.requests] == ["a", "b", "c", "b"]


def test_the_only_model_is_found(server: FakeOpenAI) -> None:
    assert connect(server, None).count("a") == 1
    server.defaults[MODELS] = models("a", "b")
    with pytest.raises(ConfigError):
        connect(server, None).count("a")


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"detail": "Not Found"}, 404),
        Reply({}, 405),
        Reply({}, 401),
        Reply({}, 400),
        Reply({}, 500),
        Reply({}, 501),
        Reply(b"<html>"),
        Reply({"tokens": [1]}),
        Reply({"count": "3"}),
        Reply({"count": -1}),
    ],
)
@pytest.mark.parametrize("first", ["text", "prompt"])
def test_a_server_without_it_is_estimated_and_says_so(server: FakeOpenAI, reply: Reply, first: str) -> None:
    server.defaults[TOKENIZE] = reply
    counter = connect(server, max_retries=0)
    estimate = approximate_counter()
    if first == "text":
        assert counter.count("one two") == estimate.count("one two")
    else:
        assert counter.count_prompt(MESSAGES, (TOOL,)) == estimate.count_prompt(MESSAGES, (TOOL,))
    assert (counter.exact, counter.additive) == (False, True)
    assert counter.name == "approximate (server has no /tokenize)"
    asked = len(server.requests)
    server.defaults[TOKENIZE] = tokenize
    counter.count("three four five")
    counter.count_prompt(MESSAGES)
    assert len(server.requests) == asked, "it must not be asked again"


def test_a_prompt_that_the_template_refuses_is_an_error_not_an_estimate(server: FakeOpenAI) -> None:
    def strict(request: Recorded) -> Reply:
        if "messages" in request.body:
            return Reply({"message": "Conversation roles must alternate"}, 400)
        return tokenize(request)

    server.defaults[TOKENIZE] = strict
    counter = connect(server)
    with pytest.raises(BadRequestError, match="must alternate"):
        counter.count_prompt(MESSAGES)
    assert counter.exact and counter.count("a b") == 2


def test_once_it_answered_a_failure_is_an_error(server: FakeOpenAI) -> None:
    counter = connect(server, max_retries=0)
    counter.count("a")
    for reply, kind in ((Reply({}, 404), BadRequestError), (Reply({}, 500), BackendUnavailableError)):
        server.defaults[TOKENIZE] = reply
        with pytest.raises(kind):
            counter.count("never counted")
    assert counter.exact


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(drop=True), BackendUnavailableError),
        (Reply({}, 503), BackendUnavailableError),
        (Reply({}, 429), RateLimitedError),
    ],
)
def test_a_server_that_is_down_or_busy_is_an_error(server: FakeOpenAI, reply: Reply, kind: type[Exception]) -> None:
    server.defaults[TOKENIZE] = reply
    counter = connect(server, max_retries=1)
    with pytest.raises(kind):
        counter.count("a")
    assert counter.exact and len(server.requests) == 2
    server.defaults[TOKENIZE] = tokenize
    assert counter.count("a") == 1


def test_odd_texts(server: FakeOpenAI) -> None:
    counter = connect(server)
    assert counter.count("half a pair \ud83d") == counter.count("half a pair \ufffd")
    call = ToolCall("c", "look_up", "{}")
    assert counter.count_prompt((ChatMessage("assistant", "", (call,)),)) > 0


def test_many_threads(server: FakeOpenAI) -> None:
    server.script(TOKENIZE, *[Reply({}, 404)] * 8)
    server.defaults[TOKENIZE] = Reply({}, 404)
    counter = connect(server)
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(counter.count("one two three"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [3 + 1] * 8 or len(set(results)) == 1
    assert not counter.exact
