"""Whole conversations with tools over transformers: what was predicted is what was used, at every request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from agentmem import Agent
from agentmem.backends.huggingface import HuggingFaceBackend
from agentmem.types import Completion, Request
from tests.models import conversations
from tests.models.steered import Steered
from tests.models.tiny import folder, random_model, scripted_model

_CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("core_memory_append", {"label": "human", "content": "Likes the number {n}."}),
    ("archival_memory_insert", {"content": "Fact {n}: the lamp of room {n} is green."}),
    ("conversation_search", {"query": "lamp"}),
    ("archival_memory_search", {"query": "room {n}"}),
    ("core_memory_replace", {"label": "human", "old_content": "nothing like it", "new_content": "x {n}"}),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("models"))


class _Script:
    """A call at two turns of three, with another step after most; the reply as text or through send_message."""

    def __init__(self) -> None:
        self._asked = 0

    def __call__(self, request: Request) -> Completion:
        self._asked += 1
        n = self._asked
        if request.messages[-1].role == "tool" or n % 3 == 0:
            text = f"Well, that is number {n}. Olá! 東京"
            return Completion(text if n % 2 or request.only_tool else conversations.call("send_message", message=text))
        name, arguments = _CALLS[n % len(_CALLS)]
        filled = {k: v.format(n=n) for k, v in arguments.items()}
        return Completion(conversations.call(name, **filled, request_heartbeat=n % 4 != 0))


def _converse(backend: HuggingFaceBackend, turns: int) -> tuple[Steered, list[Any]]:
    steered = Steered(backend, _Script(), most=1)
    with conversations.open_memory() as memory:
        agent = Agent(memory, steered)
        replies = [agent.send(f"Tell me about the lamp of room {n}, and of the sea.") for n in range(turns)]
    return steered, replies


@pytest.mark.parametrize("turns", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_predicted_tokens_are_those_used(models: Path, turns: int) -> None:
    backend = HuggingFaceBackend(str(random_model(models / "random")), context_window=2560)
    steered, replies = _converse(backend, turns)
    assert len(steered.real) == len(steered.requests) >= turns * 1.3
    assert any(r.steps > 1 for r in replies) and all(r.text for r in replies)
    previous: tuple[int, ...] = ()
    shared_all, cached_all = 0, 0
    for request, real in zip(steered.requests, steered.real, strict=True):
        ids = backend.counter.encode_prompt(request.messages, request.tools).ids
        assert len(ids) == backend.counter.count_prompt(request.messages, request.tools) == real.usage.prompt_tokens
        assert real.usage.cached_tokens is not None
        shared = next((n for n, (a, b) in enumerate(zip(ids, previous, strict=False)) if a != b), len(previous))
        # Everything that this prompt shares with the one before is served from what was kept.
        assert real.usage.cached_tokens >= min(shared, len(ids) - 1)
        shared_all, cached_all, previous = shared_all + shared, cached_all + real.usage.cached_tokens, ids
    for reply in replies:
        assert reply.ledger.total <= 2560
        assert sum(reply.ledger.sections.values()) == reply.ledger.total
    assert cached_all >= shared_all > 0
    backend.close()


@pytest.mark.slow
def test_the_scripted_model_holds_its_conversations(models: Path) -> None:
    backend = HuggingFaceBackend(str(scripted_model(models / "scripted")))
    for turns in conversations.CONVERSATIONS.values():
        with conversations.open_memory() as memory:
            agent = Agent(memory, backend)
            for turn in turns:
                reply = agent.send(turn.user)
                last = turn.says[-1]
                expected = json.loads(last.split("\n")[1])["arguments"]["message"] if "<tool_call>" in last else last
                assert reply.text == expected
                assert reply.steps == len(turn.says)
    backend.close()


def test_actions_under_a_schema_make_an_agent_of_any_model(models: Path) -> None:
    pytest.importorskip("llguidance")
    backend = HuggingFaceBackend(str(random_model(models / "random")), context_window=4096)
    with conversations.open_memory() as memory:
        agent = Agent(memory, backend, tools="json")
        replies = [agent.send(text) for text in ("Hello!", "My name is Ana.")]
    # Nonsense, but said with tools: their JSON is never shown.
    assert all(r.text.strip() and "actions" not in r.text for r in replies)
    backend.close()
