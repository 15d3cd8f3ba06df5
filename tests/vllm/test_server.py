"""A real vLLM server: what agentmem asks of it, what it counts, and what is left when it goes away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentmem import Agent
from agentmem.backends.checked_tokenizer import CheckedTokenizer
from agentmem.backends.openai_embedder import OpenAIEmbedder
from agentmem.backends.openai_http import OpenAIBackend
from agentmem.backends.server_tokens import ServerTokenizer, probe_conversation
from agentmem.backends.vllm_command import installed, plan
from agentmem.backends.vllm_server import VllmServer, free_port
from agentmem.contracts import BackendContract
from agentmem.errors import BackendError, BadCompletionError, BadRequestError, ConfigError
from agentmem.protocols import Backend
from agentmem.tokenizer_contract import TOOLS, PromptTokenizerContract
from agentmem.types import ChatMessage, Completion, Request, ToolCall, Usage
from tests.backends.fake_openai import tidy
from tests.models.conversations import open_memory
from tests.models.steered import Steered

TURNS = 200
EXTRA = (
    "--dtype", "float32", "--enforce-eager", "--max-num-seqs", "16", "--kv-cache-memory-bytes", str(2**28),
)  # fmt: skip
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
SCHEMA = {
    "type": "object",
    "properties": {"action": {"enum": ["reply", "search"]}, "text": {"type": "string", "maxLength": 12}},
    "required": ["action", "text"],
    "additionalProperties": False,
}
TOOL = TOOLS[1]
LONG = "My sister Anna moved to Lisbon in May. " * 60


def started(path: Path, log: Path, *extra: str) -> VllmServer:
    made = plan(str(path), port=free_port("127.0.0.1"), name="tiny", extra=(*EXTRA, *extra), on_cpu=installed().on_cpu)
    made.environment.update(ENVIRONMENT)  # type: ignore[attr-defined]
    server = VllmServer(made, log)
    try:
        server.start()
        server.wait_ready(300, lambda *_: None)
    except BaseException:
        server.stop()
        raise
    return server


@pytest.fixture(scope="module")
def server(random_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    running = started(random_path, tmp_path_factory.mktemp("server") / "log")
    yield running
    running.stop()


def connect(server: VllmServer, **settings: Any) -> OpenAIBackend:
    return OpenAIBackend(server.plan.spec.removeprefix("openai:"), **settings)


@pytest.fixture(autouse=True)
def _tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from tidy(monkeypatch)


@pytest.fixture
def backend(server: VllmServer) -> OpenAIBackend:
    return connect(server)


def ask(text: str = "hello", **fields: Any) -> Request:
    return Request((ChatMessage("user", text),), **{"max_tokens": 8, **fields})


class TestContract(BackendContract):
    @pytest.fixture
    def backend(self, server: VllmServer) -> OpenAIBackend:
        return connect(server)

    def running(self, backend: Backend) -> int | None:
        assert isinstance(backend, OpenAIBackend)
        return backend.metrics().running

    def impatient(self, backend: Backend) -> Backend:
        assert isinstance(backend, OpenAIBackend)
        url, _, model = backend.name.removeprefix("openai:").partition("#")
        return OpenAIBackend(f"{url}#{model}", timeout_s=0.0002, max_retries=0)


class TestTokenizerContract(PromptTokenizerContract):
    @pytest.fixture
    def prompt_tokenizer(self, server: VllmServer) -> ServerTokenizer:
        counter = connect(server, tokenizer="server").counter
        assert isinstance(counter, ServerTokenizer)
        return counter


class TestFoundOut:
    def test_features(self, backend: OpenAIBackend) -> None:
        found = backend.features()
        for name in ("tools", "structured", "tokenize", "token_ids", "metrics", "window"):
            assert getattr(found, name).found, found
        assert "structured_outputs" in found.structured.how and "without bound" not in found.structured.how
        assert not found.embeddings.found, "a model that generates embeds nothing here"
        assert backend.tool_modes() == ("native", "json", "off")
        assert backend.block_size == 128 and backend.context_window == 8192
        assert isinstance(backend.counter, CheckedTokenizer) and backend.counter.incremental

    def test_a_schema_is_kept(self, backend: OpenAIBackend) -> None:
        for completion in backend.generate([ask(f"{n}", schema=SCHEMA, max_tokens=64, seed=n) for n in range(4)]):
            said = json.loads(completion.text)
            assert said.keys() == {"action", "text"} and completion.finish_reason == "stop"

    def test_guided_json_is_ignored_by_this_server(self, server: VllmServer, monkeypatch: pytest.MonkeyPatch) -> None:
        from agentmem.backends import openai_wire, server_features

        monkeypatch.setattr(server_features, "SCHEMA_FORMS", {"guided_json": openai_wire.SCHEMA_FORMS["guided_json"]})
        backend = connect(server)
        assert backend.tool_modes() == ("native", "off")
        with pytest.raises(ConfigError, match="guided_json: ignored"):
            backend.generate([ask(schema=SCHEMA)])

    @pytest.mark.parametrize("strict", [False, True])
    @pytest.mark.parametrize("tokenizer", ["auto", "server"])
    def test_counted_tools_are_sent_tools(self, server: VllmServer, tokenizer: str, strict: bool) -> None:
        backend = connect(server, tokenizer=tokenizer, strict_tools=strict)
        messages, tools = probe_conversation()
        counted = backend.counter.count_prompt(messages, tools)
        for only in (None, "look_up"):
            (got,) = backend.generate([Request(messages, tools, max_tokens=4, only_tool=only)])
            assert got.usage.prompt_tokens == counted
        plain = connect(server, tokenizer=tokenizer).counter.count_prompt(messages, tools)
        assert (counted > plain) == strict, "the mark is written into the prompt"

    def test_a_named_tool_is_called_under_its_schema(self, backend: OpenAIBackend) -> None:
        spec = replace(TOOL, parameters=SCHEMA)
        (got,) = backend.generate([ask(tools=(spec,), max_tokens=64, only_tool=TOOL.name)])
        *_, last = backend.stream(ask(tools=(spec,), max_tokens=64, only_tool=TOOL.name))
        assert last.completion is not None
        for calls in (got.tool_calls, last.completion.tool_calls):
            (call,) = calls
            assert call.name == TOOL.name and json.loads(call.arguments).keys() == {"action", "text"}

    def test_the_servers_own_counts_of_messages_are_near_the_local_ones(self, server: VllmServer) -> None:
        messages, _ = probe_conversation()
        own, local = connect(server, tokenizer="server").counter, connect(server).counter
        assert abs(sum(map(own.count_message, messages)) - sum(map(local.count_message, messages))) <= 2 * len(messages)


class TestTokens:
    def test_cached_tokens_are_whole_blocks(self, backend: OpenAIBackend) -> None:
        request = ask(LONG + "cached?")
        backend.generate([request])
        (again,) = backend.generate([request])
        size = backend.block_size
        assert size is not None and again.usage.cached_tokens == (again.usage.prompt_tokens - 1) // size * size > 0

    def test_a_salt_shares_nothing(self, backend: OpenAIBackend) -> None:
        def cached(salt: str | None) -> int | None:
            return backend.generate([ask("Salted. " + LONG, cache_salt=salt)])[0].usage.cached_tokens

        assert [cached(None), cached("a"), cached("b")] == [0, 0, 0]
        assert all((cached(salt) or 0) > 0 for salt in (None, "a", "b"))

    def test_generated_ids_are_told_and_the_end_is_left_out(self, backend: OpenAIBackend) -> None:
        (cut,) = backend.generate([ask(max_tokens=5)])
        assert cut.finish_reason == "length" and len(cut.token_ids) == cut.usage.completion_tokens == 5
        (ended,) = backend.generate([ask(schema=SCHEMA, max_tokens=64)])
        assert ended.finish_reason == "stop" and len(ended.token_ids) == ended.usage.completion_tokens - 1
        *_, last = backend.stream(ask(schema=SCHEMA, max_tokens=64))
        assert last.completion == ended or last.completion.token_ids == ended.token_ids  # type: ignore[union-attr]

    def test_what_a_reply_becomes_is_seen_alike_on_both_sides(self, server: VllmServer) -> None:
        own, local = (connect(server, tokenizer=t) for t in ("server", "auto"))
        (got,) = local.generate([ask(schema=SCHEMA, max_tokens=64)])
        for counter in (own.counter, local.counter):
            assert isinstance(counter, ServerTokenizer | CheckedTokenizer)
            good = counter.encode_prompt([ChatMessage("user", "a")]).ids
            assert counter.rerendered(ChatMessage("assistant", "other"), got.token_ids)
            assert counter.rerendered(ChatMessage("assistant", "x"), good)

    @pytest.mark.parametrize(("tokenizer", "turns"), [("auto", TURNS), ("server", TURNS // 5)])
    def test_predicted_is_used_over_many_turns_with_tools(self, server: VllmServer, tokenizer: str, turns: int) -> None:
        backend = connect(server, tokenizer=tokenizer)
        lines = script()
        # The summariser's requests ask nothing; they are answered beside the script.
        steered = Steered(backend, lambda r: next(lines) if r.query else Completion("They talked about the boat."))
        with open_memory() as memory:
            agent = Agent(memory, steered)
            for turn in range(turns):
                agent.send(f"Message {turn}: where is the boat, and who said so? {'x ' * (turn % 17)}")
            events = [e.kind for e in memory.events()]
        assert "token_mismatch" not in events
        counted = [backend.counter.count_prompt(r.messages, r.tools) for r in steered.requests]
        assert counted == [c.usage.prompt_tokens for c in steered.real]
        assert len(counted) >= turns * 1.3


def script() -> Iterator[Completion]:
    """Plain replies, replies after a search, edits of core memory, odd text."""
    for turn in range(TURNS):
        if turn % 4 == 1:
            yield called("conversation_search", turn, query=f"boat {turn}", request_heartbeat=True)
        if turn % 10 == 5:
            yield called("core_memory_append", turn, label="human", content=f"Fact {turn}.", request_heartbeat=True)
        yield Completion(f"Reply {turn}: Ünï 🙂 <b>x</b>, the boat lies in the harbour.")


def called(name: str, turn: int, **arguments: Any) -> Completion:
    return Completion("", (ToolCall(f"c{turn}", name, json.dumps(arguments)),), Usage(), "tool_calls")


def members(group: int) -> list[str]:
    """The states of a process group's processes; those that are over and not yet collected are left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        found += [state] if int(pgrp) == group and state != "Z" else []
    return found


ENDLESS = ask(max_tokens=8000, schema={"type": "string", "minLength": 100_000})


def wait_until(what: Any) -> None:
    for _ in range(600):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


class TestGoingAway:
    def test_closing_a_stream_frees_its_request(self, backend: OpenAIBackend) -> None:
        chunks = backend.stream(ENDLESS)
        next(chunks)
        wait_until(lambda: backend.metrics().running == 1)
        chunks.close()  # type: ignore[attr-defined]
        wait_until(lambda: backend.metrics().running == 0)

    def test_ctrl_c_frees_it_too(self, backend: OpenAIBackend) -> None:
        me = threading.main_thread().ident
        assert me is not None
        timer = threading.Timer(0.3, signal.pthread_kill, (me, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in range(1000):
                list(backend.stream(ENDLESS))
        wait_until(lambda: backend.metrics().running == 0)

    def test_hits_are_counted_by_the_server_too(self, backend: OpenAIBackend) -> None:
        request = ask(LONG + "metrics?")
        backend.generate([request])
        before = backend.metrics()
        (again,) = backend.generate([request])
        wait_until(lambda: backend.metrics().prefix_queries != before.prefix_queries)
        after = backend.metrics()
        assert after.prefix_hits is not None and before.prefix_hits is not None
        assert after.prefix_hits - before.prefix_hits == again.usage.cached_tokens

    def test_more_than_the_window(self, backend: OpenAIBackend) -> None:
        with pytest.raises(BadRequestError) as e:
            backend.generate([ask("word " * 9000)])
        assert "--window" in e.value.hint

    def test_another_model_than_named(self, server: VllmServer) -> None:
        with pytest.raises(BadRequestError, match="does not exist"):
            OpenAIBackend(f"{server.plan.root}/v1#other").generate([ask()])

    def test_no_embeddings_are_an_error(self, server: VllmServer) -> None:
        embedder = OpenAIEmbedder(server.plan.spec.removeprefix("openai:"), max_retries=0)
        with pytest.raises(BackendError):
            embedder.embed(["a"], input_type="document")


class TestServeModel:
    def test_end_to_end(self, random_path: Path, tmp_path: Path) -> None:
        port = free_port("127.0.0.1")
        command = [
            sys.executable, "-m", "agentmem.cli", "serve-model", str(random_path), "--port", str(port), "--json",
            "--window", "2048", "--log", str(tmp_path / "log"), "--", *EXTRA,
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT}
        )
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            backend = OpenAIBackend(said["backend"].removeprefix("openai:"))
            assert backend.context_window == 2048
            assert backend.generate([ask()])[0].usage.prompt_tokens > 0
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
            wait_until(lambda: not members(said["pid"]))
        finally:
            process.kill()
            process.wait()

    @pytest.mark.parametrize(
        ("flags", "words"),
        [(("--window", "9000000"), "window is larger"), (("--tool-parser", "nonsense"), "no such tool parser")],
    )
    def test_what_does_not_start_says_why(
        self, random_path: Path, tmp_path: Path, flags: tuple[str, ...], words: str
    ) -> None:
        command = [
            sys.executable, "-m", "agentmem.cli", "serve-model", str(random_path), "--port", "0",
            "--log", str(tmp_path / "log"), *flags, "--", *EXTRA,
        ]  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}, check=False)
        assert ran.returncode == 1 and words in ran.stderr and ran.stdout == "", ran.stderr


class TestTheEnd:
    """Last in the file: the server is gone after it."""

    def test_killed_in_the_middle_of_a_stream(self, server: VllmServer) -> None:
        backend = connect(server, max_retries=0)
        with open_memory() as memory:
            agent = Agent(memory, Steered(backend, ["unused"]))
            chunks = backend.stream(ENDLESS)
            next(chunks)
            assert server.pid is not None
            os.killpg(server.pid, signal.SIGKILL)
            with pytest.raises(BadCompletionError, match="cut after"):
                list(chunks)
            with pytest.raises(BackendError) as down:
                agent.send("is anybody there?")
            assert "running" in down.value.hint
            assert [m.content for m in memory.records.recall.since(1)] == ["is anybody there?"]
