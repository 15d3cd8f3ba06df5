"""What a server can do is found out by asking it, once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from agentmem.backends.openai_http import OpenAIBackend
from agentmem.errors import BackendUnavailableError, ConfigError
from agentmem.protocols import ModelBackend
from agentmem.types import ChatMessage, Completion, Request, ToolSpec, Usage
from tests.backends.fake_openai import (
    CHAT,
    EMBED,
    METRICS,
    MODELS,
    TOKENIZE,
    FakeOpenAI,
    Recorded,
    Reply,
    completion,
    count_chat,
    delta,
    echo,
    guided,
    models,
    sse,
    tidy,
)

SCHEMA = {
    "type": "object",
    "properties": {"action": {"enum": ["reply"]}, "text": {"type": "string"}},
    "required": ["action", "text"],
}
TOOL = ToolSpec("look_up", "Finds it.", {"type": "object", "properties": {}})


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture(autouse=True)
def _tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from tidy(monkeypatch)


def connect(server: FakeOpenAI, **settings: Any) -> OpenAIBackend:
    return OpenAIBackend(f"{server.url}#tiny", timeout_s=5.0, sleep=lambda s: None, **settings)


def ask(**fields: Any) -> Request:
    return Request((ChatMessage("user", "hello"),), **fields)


class TestStructured:
    @pytest.mark.parametrize("form", ["structured_outputs", "response_format", "guided_json"])
    def test_the_name_that_works_is_found_and_used(self, server: FakeOpenAI, form: str) -> None:
        server.defaults[CHAT] = guided(form)
        backend = connect(server)
        (got,) = backend.generate([ask(schema=SCHEMA)])
        assert got.text == '{"action":"reply","text":"x"}'
        *_, last = backend.stream(ask(schema=SCHEMA))
        assert last.completion is not None and last.completion.text == got.text
        forms = [
            f
            for r in server.asked(CHAT)[-2:]
            for f in r.body
            if f in ("response_format", "structured_outputs", "guided_json")
        ]
        assert forms == [form, form]
        assert form in backend.describe()

    def test_it_is_asked_once(self, server: FakeOpenAI) -> None:
        server.defaults[CHAT] = guided("response_format")
        backend = connect(server)
        backend.generate([ask(schema=SCHEMA)])
        asked = len(server.asked(CHAT))
        backend.generate([ask(schema=SCHEMA), ask(schema=SCHEMA)])
        assert len(server.asked(CHAT)) == asked + 2

    def test_vllms_own_name_goes_first(self, server: FakeOpenAI) -> None:
        server.defaults[CHAT] = guided("structured_outputs", "response_format", "guided_json")
        connect(server).tool_modes()
        assert "structured_outputs" in server.asked(CHAT)[0].body

    def test_a_server_that_ignores_them_all_is_not_believed(self, server: FakeOpenAI) -> None:
        backend = connect(server)
        assert backend.tool_modes() == ("native", "off")
        with pytest.raises(ConfigError, match="keeps no answer to a JSON schema") as e:
            backend.generate([ask(schema=SCHEMA)])
        assert "response_format: ignored" in str(e.value) and "vLLM 0.12" in e.value.hint
        with pytest.raises(ConfigError):
            list(backend.stream(ask(schema=SCHEMA)))

    @pytest.mark.parametrize("status", [400, 422, 500])
    def test_a_refusal_is_not_an_error_of_the_probe(self, server: FakeOpenAI, status: int) -> None:
        def picky(request: Recorded) -> Reply:
            if "structured_outputs" in request.body:
                return Reply({"error": {"message": "unknown field"}}, status)
            return guided("response_format")(request)

        server.defaults[CHAT] = picky
        assert "json" in connect(server).tool_modes()
        assert len([r for r in server.asked(CHAT) if "structured_outputs" in r.body]) == 1, "no retries"

    def test_a_server_that_is_down_is_an_error_and_asked_again_later(self, server: FakeOpenAI) -> None:
        backend = connect(server, max_retries=0)
        server.defaults[CHAT] = Reply({}, 503)
        with pytest.raises(BackendUnavailableError):
            backend.tool_modes()
        server.defaults[CHAT] = guided("response_format")
        assert "json" in backend.tool_modes()

    @pytest.mark.parametrize(
        ("text", "finish", "is_kept"),
        [
            ('{"k":"q7x"}', "stop", True),
            ('{ "k": "q7x" }', "stop", True),
            ("{\n\n   \n", "length", True),  # forced, with white space without bound
            ('{\n "k"', "length", True),
            ('{"k', "stop", False),
            ('{"k":"hello"}', "stop", False),
            ("Hello!", "stop", False),
            ("{hello", "length", False),
            ("", "stop", False),
        ],
    )
    def test_what_counts_as_kept(self, server: FakeOpenAI, text: str, finish: str, is_kept: bool) -> None:
        body = completion(text)
        body["choices"][0]["finish_reason"] = finish
        server.defaults[CHAT] = Reply(body)
        finding = connect(server)._probe.structured()
        assert finding.found == is_kept
        assert ("without bound" in finding.how) == (is_kept and "q7x" not in text)

    def test_a_model_that_thinks_first_is_given_room(self, server: FakeOpenAI) -> None:
        def thinks(request: Recorded) -> Reply:
            if request.body["max_tokens"] < 100:
                body = completion(None)
                body["choices"][0]["finish_reason"] = "length"
                return Reply(body)
            return guided("structured_outputs")(request)

        server.defaults[CHAT] = thinks
        assert connect(server)._probe.structured().found


class TestTools:
    def test_all_modes(self, server: FakeOpenAI) -> None:
        server.defaults[CHAT] = guided("structured_outputs")
        backend = connect(server)
        assert isinstance(backend, ModelBackend)
        assert backend.tool_modes() == ("native", "json", "off")
        asked = len(server.asked(CHAT))
        assert backend.tool_modes() == ("native", "json", "off")
        assert len(server.asked(CHAT)) == asked

    def test_vllm_without_a_tool_parser(self, server: FakeOpenAI) -> None:
        def bare(request: Recorded) -> Reply:
            if request.body.get("tools"):
                said = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
                return Reply({"error": {"message": said}}, 400)
            return guided("structured_outputs")(request)

        server.defaults[CHAT] = bare
        backend = connect(server)
        assert backend.tool_modes() == ("json", "off")
        assert "--tool-call-parser" in backend.features().tools.how

    def test_a_template_that_leaves_tools_out(self, server: FakeOpenAI) -> None:
        def deaf(request: Recorded) -> Reply:
            reply = echo(request)
            reply.body["usage"]["prompt_tokens"] = count_chat({**request.body, "tools": None})
            return reply

        server.defaults[CHAT] = deaf
        backend = connect(server)
        assert backend.tool_modes() == ("off",)
        assert "template leaves tools out" in backend.features().tools.how

    def test_strict_is_of_all_requests_and_of_the_count_or_of_none(self, server: FakeOpenAI) -> None:
        plain, marked = connect(server), connect(server, strict_tools=True)
        request = ask(tools=(TOOL,))
        for backend, expected in ((plain, TOOL.to_dict()), (marked, with_strict(TOOL))):
            (got,) = backend.generate([request])
            (last,) = backend.generate([replace(request, only_tool="look_up")])
            assert [r.body["tools"] for r in server.asked(CHAT)[-2:]] == [[expected], [expected]]
            counted = backend.counter.count_prompt(request.messages, request.tools)
            assert got.usage.prompt_tokens == last.usage.prompt_tokens == counted
        assert marked.counter.count_prompt(request.messages, (TOOL,)) > plain.counter.count_prompt(
            request.messages, (TOOL,)
        )


def with_strict(tool: ToolSpec) -> dict[str, Any]:
    plain = tool.to_dict()
    return {**plain, "function": plain["function"] | {"strict": True}}


class TestTokenIds:
    VLLM = models("tiny", max_model_len=4096, owned_by="vllm")

    @staticmethod
    def reply(ids: list[int], finish: str, **fields: Any) -> Reply:
        body = completion("hi", **fields)
        body["choices"][0] |= {"token_ids": ids, "finish_reason": finish}
        return Reply(body)

    @pytest.mark.parametrize(
        ("ids", "finish", "kept"),
        [
            ([5, 6, 2], "stop", (5, 6)),
            ([5, 6, 2], "length", (5, 6, 2)),
            ([5, 6, 2], "tool_calls", (5, 6)),
            ([5, 6, 7, 8], "tool_calls", (5, 6, 7, 8)),  # as long as was allowed: it was cut
            ([], "stop", ()),
        ],
    )
    def test_the_one_that_ended_it_is_left_out(
        self, server: FakeOpenAI, ids: list[int], finish: str, kept: tuple[int, ...]
    ) -> None:
        server.defaults[MODELS] = self.VLLM
        server.script(CHAT, self.reply(ids, finish))
        (got,) = connect(server).generate([ask(max_tokens=4)])
        assert got.token_ids == kept
        assert server.asked(CHAT)[0].body["return_token_ids"] is True

    def test_of_a_stream(self, server: FakeOpenAI) -> None:
        server.defaults[MODELS] = self.VLLM
        events = [delta(content="a"), delta(content="b"), delta("stop", content="")]
        for event, ids in zip(events, ([1], [2, 3], [4]), strict=True):
            event["choices"][0]["token_ids"] = ids
        server.script(CHAT, Reply(pieces=sse(*events)))
        *_, last = connect(server).stream(ask())
        assert last.completion is not None and last.completion.token_ids == (1, 2, 3)

    def test_only_vllm_is_asked_for_them(self, server: FakeOpenAI) -> None:
        backend = connect(server)
        assert backend.generate([ask()])[0].token_ids == ()
        assert "return_token_ids" not in server.asked(CHAT)[0].body
        assert not backend.features().token_ids.found

    @pytest.mark.parametrize("said", ["Unrecognized argument: return_token_ids", "bad request"])
    def test_a_refusal_is_remembered(self, server: FakeOpenAI, said: str) -> None:
        def old(request: Recorded) -> Reply:
            return Reply({"message": said}, 400) if "return_token_ids" in request.body else echo(request)

        server.defaults[MODELS], server.defaults[CHAT] = self.VLLM, old
        backend = connect(server)
        assert backend.generate([ask()])[0] == Completion("echo: hello", usage=Usage(4, 3))
        *_, last = backend.stream(ask())
        assert last.completion is not None and last.completion.text == "echo: hello"
        assert ["return_token_ids" in r.body for r in server.asked(CHAT)] == [True, False, False]
        assert "stream_options" in server.asked(CHAT)[-1].body

    def test_one_of_two_options_is_refused(self, server: FakeOpenAI) -> None:
        def old(request: Recorded) -> Reply:
            if "return_token_ids" in request.body:
                return Reply({"message": "extra field: return_token_ids"}, 422)
            return echo(request)

        server.defaults[MODELS], server.defaults[CHAT] = self.VLLM, old
        list(connect(server).stream(ask()))
        assert [sorted({"return_token_ids", "stream_options"} & set(r.body)) for r in server.asked(CHAT)] == [
            ["return_token_ids", "stream_options"],
            ["stream_options"],
        ]


def test_a_salt_is_sent(server: FakeOpenAI) -> None:
    connect(server).generate([ask(cache_salt="tenant-7"), ask()])
    assert sorted(r.body.get("cache_salt", "") for r in server.asked(CHAT)) == ["", "tenant-7"]


def test_features_of_a_good_server_and_of_a_bare_one(server: FakeOpenAI) -> None:
    server.defaults[METRICS] = Reply(b'vllm:cache_config_info{block_size="16"} 1\n')
    server.defaults[CHAT] = guided("response_format")
    found = connect(server).features()
    assert [f.found for f in (found.tools, found.structured, found.tokenize, found.metrics, found.embeddings)] == [
        True
    ] * 5
    assert "4096 tokens" in str(found) and "blocks of 16" in str(found)

    no = Reply({"detail": "Not Found"}, 404)
    for path in (METRICS, TOKENIZE, EMBED, MODELS):
        server.defaults[path] = no
    server.defaults[CHAT] = echo
    bare = connect(server)
    lost = bare.features()
    for finding in (lost.structured, lost.tokenize, lost.metrics, lost.embeddings, lost.window, lost.token_ids):
        assert not finding.found and finding.how
    assert bare.block_size is None
    assert "approximate" in bare.describe() and "\n" not in bare.describe()
