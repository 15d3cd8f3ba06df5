"""Servers that do not end what they began, that are not who they say, and clients that go away."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agentmem.backends import openai_stream
from agentmem.backends.openai_http import OpenAIBackend
from agentmem.errors import BackendTimeoutError, BadCompletionError, BadRequestError
from agentmem.types import ChatMessage, Completion, Request, Usage
from tests.backends.fake_openai import (
    CHAT,
    MODELS,
    FakeOpenAI,
    Recorded,
    Reply,
    completion,
    delta,
    echo,
    models,
    sse,
    tidy,
)

USAGE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture(autouse=True)
def _tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(openai_stream, "_REST_S", 0.1)
    monkeypatch.setattr(openai_stream, "_END_S", 0.05)
    yield from tidy(monkeypatch)


def connect(server: FakeOpenAI, model: str = "tiny", **settings: Any) -> OpenAIBackend:
    settings.setdefault("timeout_s", 30.0)
    return OpenAIBackend(f"{server.url}#{model}", sleep=lambda s: None, **settings)


def ask(text: str = "hello") -> Request:
    return Request((ChatMessage("user", text),))


def last(backend: OpenAIBackend) -> Completion:
    *_, end = backend.stream(ask())
    assert end.completion is not None
    return end.completion


class TestSlowEnds:
    """The client is done while the server is not: it holds the connection for as long as the client would wait."""

    def test_a_connection_left_open_after_the_end(self, server: FakeOpenAI) -> None:
        server.script(CHAT, Reply(pieces=[*sse(delta(content="x"), delta("stop"), USAGE), 20.0]))
        assert last(connect(server)) == Completion("x", usage=Usage(9, 1))
        assert server.running >= 1

    def test_a_server_that_never_says_that_it_is_done(self, server: FakeOpenAI) -> None:
        server.script(CHAT, Reply(pieces=[*sse(delta(content="x"), delta("stop"), done=False), 20.0]))
        assert last(connect(server)) == Completion("x", usage=Usage(4, 1))
        assert server.running >= 1

    def test_a_slow_consumer_loses_nothing(self, server: FakeOpenAI) -> None:
        events = [delta(content="x"), delta("stop", content="y"), USAGE]
        server.script(CHAT, Reply(pieces=sse(*events)))
        chunks = []
        for chunk in connect(server).stream(ask()):
            chunks.append(chunk)
            time.sleep(0.15)
        assert chunks[-1].completion == Completion("xy", usage=Usage(9, 1))

    def test_a_connection_serves_the_next_request_too(self, server: FakeOpenAI) -> None:
        backend = connect(server)
        for _ in range(3):
            assert last(backend).text == "echo: hello"
        assert server.connections == 1, "each stream opened a connection of its own"

    def test_the_last_byte_of_an_answer_never_comes(self, server: FakeOpenAI) -> None:
        body = b'{"choices": [{"message": {"content": "hi"}'
        server.defaults[CHAT] = Reply(body, headers={"Content-Length": str(len(body) + 1)})
        with pytest.raises(BackendTimeoutError):
            connect(server, timeout_s=0.1, max_retries=0).generate([ask()])


class TestWhoAnswers:
    def test_another_model_is_an_error_that_names_both(self, server: FakeOpenAI) -> None:
        server.defaults[MODELS] = models("big", "small")
        server.defaults[CHAT] = lambda r: Reply(completion() | {"model": "big"})
        with pytest.raises(BadCompletionError, match=r"'tiny'.*'big'.*lists big, small") as e:
            connect(server).generate([ask()])
        assert e.value.hint.endswith("#big")

    def test_in_a_stream_too(self, server: FakeOpenAI) -> None:
        server.defaults[MODELS] = Reply({"detail": "Not Found"}, 404)
        server.defaults[CHAT] = Reply(pieces=sse(delta(content="x") | {"model": "big"}, delta("stop")))
        with pytest.raises(BadCompletionError, match=r"'tiny'.*'big'"):
            list(connect(server).stream(ask()))

    def test_one_model_under_two_names_is_fine(self, server: FakeOpenAI) -> None:
        server.defaults[MODELS] = models("first", "tiny")
        server.defaults[CHAT] = lambda r: Reply(completion() | {"model": "first"})
        backend = connect(server)
        assert [c.text for c in backend.generate([ask(), ask()])] == ["hi", "hi"]
        assert len(server.asked(MODELS)) == 1

    def test_a_dated_version_is_fine(self, server: FakeOpenAI) -> None:
        server.defaults[MODELS] = models("other")
        server.defaults[CHAT] = Reply(completion() | {"model": "tiny-2026-11-21"})
        assert connect(server).generate([ask()])[0].text == "hi"

    def test_a_name_that_the_server_does_not_have(self, server: FakeOpenAI) -> None:
        said = "The model `tiny` does not exist. Valid aliases: big."
        server.defaults[CHAT] = Reply({"error": {"message": said, "code": 404}}, 404)
        with pytest.raises(BadRequestError, match="Valid aliases: big") as e:
            connect(server).generate([ask()])
        assert "'tiny'" in e.value.hint


class TestGoingAway:
    ENDLESS = staticmethod(lambda: [p for _ in range(500) for p in (*sse(delta(content="word "), done=False), 0.01)])

    def test_ctrl_c_in_a_stream_closes_the_connection(self, server: FakeOpenAI) -> None:
        server.script(CHAT, Reply(pieces=self.ENDLESS()))
        backend = connect(server)
        me = threading.main_thread().ident
        assert me is not None
        timer = threading.Timer(0.1, signal.pthread_kill, (me, signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            for chunk in backend.stream(ask()):
                if not timer.is_alive() and not timer.finished.is_set() and chunk.text:
                    timer.start()
        assert server.aborted.wait(5)
        server.defaults[CHAT] = echo
        assert backend.generate([ask()])[0].text == "echo: hello"

    def test_ctrl_c_while_waiting_for_an_answer(self, server: FakeOpenAI) -> None:
        came = threading.Event()

        def slow(request: Recorded) -> Reply:
            came.set()
            return Reply(completion(), delay_s=1.0)

        server.script(CHAT, slow)
        backend = connect(server)
        me = threading.main_thread().ident
        assert me is not None

        def interrupt() -> None:
            came.wait(5)
            signal.pthread_kill(me, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            backend.generate([ask()])
        thread.join()
        assert backend.generate([ask()])[0].text == "echo: hello"
