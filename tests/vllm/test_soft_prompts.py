"""Soft prompts through a real engine: the contract, the prefix cache, chunks, and what travels between processes."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agentmem.backends.model_fingerprint import model_fingerprint
from agentmem.errors import ConfigError
from agentmem.soft_prompt_contract import QUESTION, STORY, SoftPromptBackendContract
from agentmem.soft_prompts import SoftPrompt
from agentmem.types import ChatMessage, Request
from tests.vllm.conftest import SMALL

STEP = 256  # tokens of a step: longer prompts are read in pieces


@pytest.fixture(scope="module")
def soft_engine(random_path: Path) -> Iterator[Any]:
    from agentmem.backends.vllm_engine import VllmBackend

    made = VllmBackend(str(random_path), enable_prompt_embeds=True, max_num_batched_tokens=STEP, **SMALL)
    yield made
    made.close()


@cache
def matrix(path: str) -> np.ndarray:
    """The model's embeddings, by the safetensors package."""
    from safetensors import safe_open

    with safe_open(Path(path) / "model.safetensors", "np") as file:
        found: np.ndarray = file.get_tensor("model.embed_tokens.weight")
    return found


class TestContract(SoftPromptBackendContract):
    @pytest.fixture
    def backend(self, soft_engine):
        return soft_engine

    def embedded(self, backend, ids):
        return matrix(backend.path)[list(ids)]


def rows_of(engine: Any, count: int, seed: int = 0) -> np.ndarray:
    """Rows of tokens drawn by chance."""
    found = matrix(engine.path)
    return found[np.random.default_rng(seed).integers(0, len(found), count)]


def soft_of(engine: Any, rows: np.ndarray) -> SoftPrompt:
    return SoftPrompt(rows, engine.soft_prompt_model())


def ask(engine: Any, rows: np.ndarray, text: str = QUESTION, **settings: Any) -> Any:
    request = Request((ChatMessage("user", text),), **{"max_tokens": 12, **settings})
    (said,) = engine.generate_with([request], [soft_of(engine, rows)])
    return said


def test_the_model_is_known_by_its_weights(soft_engine, random_path):
    assert soft_engine.soft_prompt_model() == model_fingerprint(random_path)


def test_an_engine_without_the_option_says_which(engine):
    soft = SoftPrompt(rows_of(engine, 3), model_fingerprint(engine.path))
    for act in (engine.soft_prompt_model, lambda: engine.generate_with([request()], [soft])):
        with pytest.raises(ConfigError) as caught:
            act()
        assert (caught.value.field, "enable_prompt_embeds=True" in caught.value.hint) == ("enable_prompt_embeds", True)
    assert engine.generate_with([request()], [None]) == engine.generate([request()])


def request(text: str = QUESTION) -> Request:
    return Request((ChatMessage("user", text),), max_tokens=12)


def test_the_option_changes_no_ordinary_answer(engine, soft_engine):
    requests = [request(f"{n} {STORY * (n % 5)}") for n in range(12)]
    assert [c.token_ids for c in engine.generate(requests)] == [c.token_ids for c in soft_engine.generate(requests)]


def test_rows_and_text_longer_than_a_step_are_read_in_pieces(soft_engine):
    """What vLLM copies piece by piece must be the right piece: the tokens themselves are the oracle."""
    counter = soft_engine.counter
    long, tail = STORY * 20, STORY * 10
    both = counter.encode_prompt((ChatMessage("user", long), ChatMessage("user", tail))).ids
    last = counter.encode_prompt((ChatMessage("user", tail),)).ids
    own = len(both) - len(last)
    assert own > 2 * STEP and len(last) > STEP and own % STEP and own % soft_engine.block_size
    plain = Request((ChatMessage("user", long), ChatMessage("user", tail)), max_tokens=12)
    (expected,) = soft_engine.generate([plain])
    soft_engine.reset_prefix_cache()
    said = ask(soft_engine, matrix(soft_engine.path)[list(both[:own])], tail)
    assert (said.token_ids, said.usage.prompt_tokens) == (expected.token_ids, len(both))
    assert said.usage.cached_tokens == 0


class TestPrefixCache:
    def test_the_second_time_every_whole_block_but_the_last_token_is_cached(self, soft_engine):
        soft_engine.reset_prefix_cache()
        rows = rows_of(soft_engine, 300)
        first, second = ask(soft_engine, rows), ask(soft_engine, rows)
        size, tokens = soft_engine.block_size, first.usage.prompt_tokens
        assert first.usage.cached_tokens == 0
        assert second.usage.cached_tokens == (tokens - 1) // size * size > 128
        assert second.token_ids == first.token_ids

    def test_text_behind_is_cached_too(self, soft_engine):
        soft_engine.reset_prefix_cache()
        rows = rows_of(soft_engine, 100)
        ask(soft_engine, rows, STORY * 10)
        later = ask(soft_engine, rows, STORY * 10 + QUESTION)
        assert later.usage.cached_tokens > 3 * soft_engine.block_size

    def test_rows_share_as_far_as_they_are_equal(self, soft_engine):
        soft_engine.reset_prefix_cache()
        size = soft_engine.block_size
        rows = rows_of(soft_engine, 3 * size)
        changed = rows.copy()
        changed[2 * size - 1, 0] += 0.5
        fresh = ask(soft_engine, changed)
        soft_engine.reset_prefix_cache()
        first = ask(soft_engine, rows)
        found = ask(soft_engine, changed)
        assert found.usage.cached_tokens == size
        assert found.token_ids == fresh.token_ids != first.token_ids
        longer = ask(soft_engine, np.concatenate([rows, rows_of(soft_engine, 50, 1)]))
        assert longer.usage.cached_tokens == 3 * size, "rows that grow at the end keep what was before them"

    def test_the_same_tokens_as_text_share_nothing(self, soft_engine):
        soft_engine.reset_prefix_cache()
        counter = soft_engine.counter
        both = counter.encode_prompt((ChatMessage("user", STORY * 8), ChatMessage("user", QUESTION))).ids
        own = len(both) - counter.count_prompt((ChatMessage("user", QUESTION),))
        soft_engine.generate([Request((ChatMessage("user", STORY * 8), ChatMessage("user", QUESTION)), max_tokens=2)])
        assert own > soft_engine.block_size
        assert ask(soft_engine, matrix(soft_engine.path)[list(both[:own])]).usage.cached_tokens == 0

    def test_another_salt_shares_nothing(self, soft_engine):
        soft_engine.reset_prefix_cache()
        rows = rows_of(soft_engine, 200)
        found = [ask(soft_engine, rows, cache_salt=s).usage.cached_tokens > 0 for s in (None, "ana", "bo", None, "ana")]
        assert found == [False, False, False, True, True]

    def test_rows_of_zeros_are_not_taken_for_tokens(self, soft_engine, monkeypatch):
        """The cache knows a place by its token id, 0 for rows, and its row; it does not know which of both counts. So
        twenty rows before 200 times token 0 must not look like 220 rows, the last 200 of zeros."""
        rows = rows_of(soft_engine, 20)
        zeros = np.concatenate([rows, np.zeros((200, rows.shape[1]), np.float32)])
        tail = list(soft_engine.counter.encode_prompt((ChatMessage("user", QUESTION),)).ids)

        def answer(ids: Sequence[int], given: np.ndarray, empty_cache: bool) -> Any:
            if empty_cache:
                soft_engine.reset_prefix_cache()
            with monkeypatch.context() as patched:
                patched.setattr(soft_engine, "counter", Fixed(soft_engine.counter, ids))
                return ask(soft_engine, given)

        # The row of token 0 is zeros in this model, so here the answers are equal; in others they are not.
        assert not matrix(soft_engine.path)[0].any()
        for other in (zeros, -zeros):
            first = answer([0] * 200 + tail, rows, True)
            assert answer([0] * 200 + tail, rows, False).usage.cached_tokens > 0
            second = answer(tail, other, False)
            assert (second.usage.prompt_tokens, second.usage.cached_tokens) == (first.usage.prompt_tokens, 0)


class Fixed:
    """A counter whose prompts are always these tokens."""

    def __init__(self, counter: Any, ids: Sequence[int]) -> None:
        self.eos_ids, self._ids = counter.eos_ids, ids

    def encode_prompt(self, messages: Any, tools: Any = ()) -> Any:
        return SimpleNamespace(ids=self._ids)


def test_an_answer_may_be_held_to_a_schema(soft_engine):
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    said = ask(soft_engine, rows_of(soft_engine, 9), schema=schema, max_tokens=50)
    assert said.finish_reason == "stop" and said.text in ('{"a": true}', '{"a": false}')


def test_rows_are_cast_to_the_engines_dtype_or_refused(soft_engine):
    import torch

    from agentmem.backends.vllm_soft_prompts import SoftPromptDoor

    config = SimpleNamespace(
        model=soft_engine.path, enable_prompt_embeds=True, dtype=torch.float16, get_inputs_embeds_size=lambda: 64
    )
    door = SoftPromptDoor("half", config)
    rows = rows_of(soft_engine, 3)
    cast = door.prompt(soft_of(soft_engine, rows * 0 - 1e-30), [5, 6], None)["prompt_embeds"]
    assert cast.dtype == torch.float16 and not cast.any()
    assert cast.signbit().all(dim=1).tolist() == [False] * 3 + [True] * 2, "a row that vanished looks like a token's"
    with pytest.raises(ConfigError, match="float16") as caught:
        door.prompt(soft_of(soft_engine, rows * 1e6), [1], None)
    assert caught.value.hint


def test_nothing_is_pickled_on_the_way_to_the_engine(soft_engine, monkeypatch):
    """The rows go to the engine's process as raw bytes in a typed message; what it takes is built from these alone."""
    import cloudpickle
    import torch
    from vllm.v1 import serial_utils
    from vllm.v1.engine import EngineCoreRequest

    def never(*args: Any, **more: Any) -> Any:
        raise AssertionError("pickle on the way")

    sent = []
    encode = serial_utils.MsgpackEncoder.encode

    def watched(self: Any, thing: Any) -> Any:
        frames = encode(self, thing)
        if isinstance(thing, EngineCoreRequest):
            sent.append([bytes(f) for f in frames])
        return frames

    rows = rows_of(soft_engine, 40, 5)
    soft = soft_of(soft_engine, rows)
    with monkeypatch.context() as patched:
        patched.setattr(serial_utils.MsgpackEncoder, "encode", watched)
        for module, name in ((pickle, "dumps"), (pickle, "loads"), (cloudpickle, "dumps"), (cloudpickle, "loads")):
            patched.setattr(module, name, never)
        for name in ("save", "load"):
            patched.setattr(torch, name, never)
        soft_engine.generate_with([request()], [soft])
        (frames,) = sent
        assert any(rows.tobytes() in f for f in frames)
        read = serial_utils.MsgpackDecoder(EngineCoreRequest).decode(frames)
    assert np.array_equal(read.prompt_embeds[:40].numpy(), rows)
    assert read.prompt_is_token_ids[:41] == [False] * 40 + [True]
