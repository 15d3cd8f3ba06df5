"""A tokenizer on this machine serves for the server's when both make the same tokens, and as long as they do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentmem.backends.checked_tokenizer import CheckedTokenizer
from agentmem.backends.openai_http import OpenAIBackend
from agentmem.backends.server_tokens import ServerCounter, ServerTokenizer
from agentmem.encoding import Encoding, Piece
from agentmem.errors import BackendUnavailableError, BadRequestError, ConfigError
from agentmem.protocols import PromptTokenizer
from agentmem.tokenizer_contract import PromptTokenizerContract, conversation
from agentmem.types import ChatMessage, Request, ToolSpec
from tests.backends.fake_openai import (
    CHAT,
    MODELS,
    TOKENIZE,
    FakeOpenAI,
    Recorded,
    Reply,
    count_words,
    ids_of,
    models,
    render_tokens,
    tidy,
    tokenize,
)

TOOL = ToolSpec("look_up", "Finds it.", {"type": "object", "properties": {}})
MESSAGES = (ChatMessage("system", "be brief"), ChatMessage("user", "hello there"))


class Local:
    """The fake server's tokenizer on this side; `off` makes it another one."""

    name, exact, additive, incremental, how = "local", True, False, True, "message by message"

    def __init__(self, *, off: str = "", refuses_tools: bool = False) -> None:
        self.off = off
        self.refuses_tools = refuses_tools

    def count(self, text: str) -> int:
        return count_words(text)

    def count_message(self, message: ChatMessage) -> int:
        return 3 + count_words(message.content)

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        return len(self.encode_prompt(messages, tools))

    def encode_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> Encoding:
        if tools and self.refuses_tools:
            raise BadRequestError("the template knows no tools")
        body = {"messages": [m.to_dict() for m in messages], "tools": [t.to_dict() for t in tools]}
        tokens = render_tokens(body)
        if self.off == "count":
            tokens.append("<extra>")
        if self.off == "ids":
            tokens[-1] += "'"
        ids = tuple(ids_of(tokens))
        return Encoding((Piece("", ids, (0,) * len(ids)),), ((0, len(messages)),))

    def rerendered(self, message: ChatMessage, ids: Sequence[int]) -> str:
        return ""


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture(autouse=True)
def _tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from tidy(monkeypatch)


def connect(server: FakeOpenAI, tokenizer: Any = "auto", **settings: Any) -> OpenAIBackend:
    return OpenAIBackend(f"{server.url}#tiny", tokenizer=tokenizer, timeout_s=5.0, sleep=lambda s: None, **settings)


class TestServerTokenizer(PromptTokenizerContract):
    @pytest.fixture
    def prompt_tokenizer(self, server: FakeOpenAI) -> ServerTokenizer:
        counter = connect(server, "server").counter
        assert isinstance(counter, ServerTokenizer)
        return counter


class TestTheServersTokens:
    def test_text_and_starts_come_from_the_token_strings(self, server: FakeOpenAI) -> None:
        counter = connect(server).counter
        assert isinstance(counter, PromptTokenizer)
        (piece,) = counter.encode_prompt(MESSAGES, (TOOL,)).pieces
        assert "be brief" in piece.text and "hello there" in piece.text
        at = piece.text.index(" there")
        assert at in piece.starts and piece.ids[piece.starts.index(at)] == ids_of([" there"])[0]

    @pytest.mark.parametrize("strings", [None, [], ["x"], "words", ["x"] * 10])
    def test_without_fitting_strings_there_is_no_text(self, server: FakeOpenAI, strings: Any) -> None:
        def vague(request: Recorded) -> Reply:
            reply = tokenize(request)
            reply.body["token_strs"] = strings
            return reply

        server.defaults[TOKENIZE] = vague
        counter = connect(server).counter
        assert isinstance(counter, PromptTokenizer)
        encoding = counter.encode_prompt(MESSAGES)
        assert encoding.text == "" and set(encoding.pieces[0].starts) == {0}
        assert len(encoding) == counter.count_prompt(MESSAGES)

    def test_a_server_that_only_counts_counts(self, server: FakeOpenAI) -> None:
        server.defaults[TOKENIZE] = lambda r: Reply({"count": tokenize(r).body["count"]})
        counter = connect(server).counter
        assert type(counter) is ServerCounter and counter.exact
        assert not isinstance(counter, PromptTokenizer)
        assert counter.count_prompt(MESSAGES) == 10

    def test_without_an_endpoint_counts_are_estimates(self, server: FakeOpenAI) -> None:
        server.defaults[TOKENIZE] = Reply({}, 404)
        counter = connect(server).counter
        assert not isinstance(counter, PromptTokenizer) and not counter.exact
        assert counter.count_message(MESSAGES[0]) > 0

    def test_messages_are_counted_with_their_marks(self, server: FakeOpenAI) -> None:
        counter = connect(server, "server").counter
        for message in conversation(2):
            said = sum(count_words(c.name) + count_words(c.arguments) for c in message.tool_calls)
            assert counter.count_message(message) == 3 + count_words(message.content) + said
        asked = len(server.asked(TOKENIZE))
        counter.count_message(conversation(2)[1])
        assert len(server.asked(TOKENIZE)) == asked

    def test_a_prompt_is_asked_for_once(self, server: FakeOpenAI) -> None:
        counter = connect(server, "server").counter
        assert isinstance(counter, PromptTokenizer)
        first = counter.encode_prompt(MESSAGES)
        asked = len(server.asked(TOKENIZE))
        assert counter.encode_prompt(MESSAGES) is first
        assert counter.count_prompt(MESSAGES) == len(first)
        assert len(server.asked(TOKENIZE)) == asked


class TestChoice:
    def test_one_that_agrees_is_taken(self, server: FakeOpenAI) -> None:
        counter = connect(server, Local()).counter
        assert isinstance(counter, CheckedTokenizer)
        assert (counter.name, counter.exact, counter.incremental) == ("local", True, True)
        asked = len(server.requests)
        assert counter.count_prompt(MESSAGES, (TOOL,)) == len(counter.encode_prompt(MESSAGES, (TOOL,)))
        assert counter.count_message(MESSAGES[0]) == 5
        assert len(server.requests) == asked, "nobody is asked any more"

    @pytest.mark.parametrize(("off", "words"), [("count", "tokens of a prompt, the server"), ("ids", "the server's")])
    def test_one_that_differs_is_not_and_it_is_said(self, server: FakeOpenAI, off: str, words: str) -> None:
        counter = connect(server, Local(off=off)).counter
        assert isinstance(counter, ServerTokenizer) and counter.exact
        assert "local is not used" in counter.how and words in counter.how

    def test_a_template_that_only_the_server_has_tools_in(self, server: FakeOpenAI) -> None:
        counter = connect(server, Local(refuses_tools=True)).counter
        assert isinstance(counter, ServerTokenizer)
        assert "can't write a conversation" in counter.how

    def test_a_server_whose_template_knows_no_tools_is_asked_for_less(self, server: FakeOpenAI) -> None:
        def plain(request: Recorded) -> Reply:
            return Reply({"message": "no tools"}, 400) if request.body.get("tools") else tokenize(request)

        server.defaults[TOKENIZE] = plain
        assert isinstance(connect(server, Local(refuses_tools=True)).counter, CheckedTokenizer)

    def test_without_tokenize_the_usage_of_a_request_is_compared(self, server: FakeOpenAI) -> None:
        server.defaults[TOKENIZE] = Reply({}, 404)
        counter = connect(server, Local()).counter
        assert isinstance(counter, CheckedTokenizer) and counter.exact
        assert server.asked(CHAT)[0].body["max_tokens"] == 1
        other = connect(server, Local(off="count")).counter
        assert not isinstance(other, CheckedTokenizer) and not other.exact
        assert "local is not used" in other.name

    def test_strict_tools_are_counted_as_sent(self, server: FakeOpenAI) -> None:
        backend = connect(server, Local(), strict_tools=True)
        assert isinstance(backend.counter, CheckedTokenizer)
        (got,) = backend.generate([Request(MESSAGES, (TOOL,))])
        assert backend.counter.count_prompt(MESSAGES, (TOOL,)) == got.usage.prompt_tokens

    def test_distrust_hands_over_to_the_server(self, server: FakeOpenAI) -> None:
        counter = connect(server, Local()).counter
        assert isinstance(counter, CheckedTokenizer)
        counter.distrust("it counted 9, the server 10")
        counter.distrust("again")
        asked = len(server.asked(TOKENIZE))
        assert counter.count_prompt(MESSAGES, (TOOL,)) == len(counter.encode_prompt(MESSAGES, (TOOL,)))
        assert len(server.asked(TOKENIZE)) > asked
        assert "/tokenize" in counter.name and counter.exact and not counter.incremental
        assert "local is not trusted: it counted 9, the server 10" in counter.how and "again" not in counter.how

    def test_distrusted_without_a_server_to_ask_it_is_an_estimate(self, server: FakeOpenAI) -> None:
        server.defaults[TOKENIZE] = Reply({}, 404)
        counter = connect(server, Local()).counter
        assert isinstance(counter, CheckedTokenizer)
        counter.distrust("it counted 9, the server 10")
        assert not counter.exact and counter.count_prompt(MESSAGES) == 10

    def test_a_server_that_is_down_is_an_error_and_asked_again(self, server: FakeOpenAI) -> None:
        backend = connect(server, Local(), max_retries=0)
        server.defaults[TOKENIZE] = Reply({}, 503)
        with pytest.raises(BackendUnavailableError):
            _ = backend.counter
        server.defaults[TOKENIZE] = tokenize
        assert isinstance(backend.counter, CheckedTokenizer)


class TestTheModelsFolder:
    """`auto`: the folder that the server names, when the server is on this machine."""

    @pytest.fixture
    def loaded(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        paths: list[str] = []

        def load(path: str) -> Local:
            paths.append(path)
            return Local()

        monkeypatch.setattr("agentmem.backends.checked_tokenizer._load", load)
        return paths

    def test_is_used(self, server: FakeOpenAI, loaded: list[str], tmp_path: Path) -> None:
        server.defaults[MODELS] = models("tiny", root=str(tmp_path))
        assert isinstance(connect(server).counter, CheckedTokenizer)
        assert loaded == [str(tmp_path)]

    @pytest.mark.parametrize("root", ["", "/not/there", "meta-llama/Llama-3.1-8B", None, 3])
    def test_is_not_guessed(self, server: FakeOpenAI, loaded: list[str], root: Any) -> None:
        server.defaults[MODELS] = models("tiny", root=root)
        assert isinstance(connect(server).counter, ServerTokenizer)
        assert loaded == []

    def test_of_a_far_server_is_not_this_machines(
        self, server: FakeOpenAI, loaded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agentmem.backends.checked_tokenizer.LOOPBACK", ())
        server.defaults[MODELS] = models("tiny", root=str(tmp_path))
        assert isinstance(connect(server).counter, ServerTokenizer)
        assert loaded == []

    def test_a_named_one_is_loaded_from_anywhere(self, server: FakeOpenAI, loaded: list[str]) -> None:
        assert isinstance(connect(server, "my/tokenizer").counter, CheckedTokenizer)
        assert loaded == ["my/tokenizer"]

    def test_one_without_a_tokenizer_is_said(
        self, server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def load(path: str) -> Local:
            raise ConfigError("model", path, "holds no tokenizer")

        monkeypatch.setattr("agentmem.backends.checked_tokenizer._load", load)
        server.defaults[MODELS] = models("tiny", root=str(tmp_path))
        counter = connect(server).counter
        assert isinstance(counter, ServerTokenizer)
        assert "has no tokenizer that can be used here" in counter.how
        with pytest.raises(ConfigError, match="holds no tokenizer"):
            _ = connect(server, "named/one").counter
