"""What is kept of past prompts: never another text, and exactly the tokens that two prompts share."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

from agentmem.backends.huggingface import HuggingFaceBackend
from agentmem.backends.prefix_cache import _shared, can_be_cut
from agentmem.types import ChatMessage, Request
from tests.backends.small_model import hooked, one
from tests.models.tiny import folder, random_model


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(random_model(folder(tmp_path_factory.mktemp("models")) / "random"))


def asked(*texts: str, **options: Any) -> Request:
    roles = ("user", "assistant") * len(texts)
    messages = [ChatMessage("system", "You help."), *(ChatMessage(r, t) for r, t in zip(roles, texts, strict=False))]
    return Request(tuple(messages), **{"max_tokens": 12, **options})


def ids(backend: HuggingFaceBackend, request: Request) -> tuple[int, ...]:
    return backend.counter.encode_prompt(request.messages).ids


def test_a_conversation_computes_only_what_is_new_and_says_the_same(path: str) -> None:
    backend, plain = HuggingFaceBackend(path), HuggingFaceBackend(path, prefix_cache_gb=0)
    texts, before = ["Hello"], tuple[int, ...]()
    for turn in range(12):
        request = asked(*texts, temperature=0.9 * (turn % 2), seed=turn)
        prompt = ids(backend, request)
        passes: list[int] = []
        with hooked(backend, lambda tokens, rows, passes=passes: passes.append(tokens)):  # type: ignore[misc]
            found = one(backend, request)
        expected = one(plain, request)
        assert (found.text, found.token_ids) == (expected.text, expected.token_ids)
        assert expected.usage.cached_tokens is None
        if turn:
            # At least all of the last prompt; of the last answer, what is rendered with the tokens as generated.
            assert found.usage.cached_tokens is not None and found.usage.cached_tokens >= len(before)
            assert passes[0] == len(prompt) - found.usage.cached_tokens
        before = prompt
        texts += [found.text, f"And then? {turn}"]
    assert (backend.block_size, plain.block_size) == (1, None)


def test_the_same_prompt_again_computes_one_token(path: str) -> None:
    backend = HuggingFaceBackend(path)
    first, again = one(backend, asked("Hello")), one(backend, asked("Hello"))
    assert first.text == again.text
    assert (first.usage.cached_tokens, again.usage.cached_tokens) == (0, first.usage.prompt_tokens - 1)


def test_a_kept_prompt_serves_many_and_is_changed_by_none(path: str) -> None:
    backend, plain = HuggingFaceBackend(path), HuggingFaceBackend(path, prefix_cache_gb=0)
    one(backend, asked("Tell me of " + "the sea " * 30))
    for end in ("and sail", "and fish", "", "and sail"):
        request = asked("Tell me of " + "the sea " * 30 + end)
        chunks = backend.stream(request)
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        found = one(backend, request)
        assert found.text == one(plain, request).text
        assert found.usage.cached_tokens is not None and found.usage.cached_tokens > 60


def test_another_salt_shares_nothing(path: str) -> None:
    backend = HuggingFaceBackend(path)
    cached = [one(backend, asked("Hello", cache_salt=s)).usage.cached_tokens for s in (None, "a", "b", "a", None)]
    assert cached[:3] == [0, 0, 0] and cached[3] and cached[4]


def test_batches_reuse_nothing_and_say_so(path: str) -> None:
    backend = HuggingFaceBackend(path)
    one(backend, asked("Hello"))
    assert [c.usage.cached_tokens for c in backend.generate([asked("Hello"), asked("Hello")])] == [0, 0]


def test_memory_is_bounded_and_the_least_recently_used_goes(path: str) -> None:
    backend = HuggingFaceBackend(path)
    one(backend, asked("Hello"))
    assert backend._model is not None and backend._model.prefixes is not None
    kept = backend._model.prefixes
    size = kept._kept[0].nbytes
    # Keys and values of 2 layers, hidden size 64, float32.
    assert size == len(kept._kept[0].ids) * 2 * 2 * 64 * 4
    kept._max_bytes = int(2.5 * size)
    # Other first tokens: nothing but the head is shared.
    salts = ("a", "b", "a", "c")
    for salt in salts:
        one(backend, asked("Hello", cache_salt=salt))
    assert [k.salt for k in kept._kept] == ["a", "c"]
    one(backend, asked("Hello " * 60))  # larger than all there is: not kept, and nothing goes for it
    assert [k.salt for k in kept._kept] == ["a", "c"]


def test_a_model_whose_layers_forget_keeps_nothing() -> None:
    from transformers import LlamaConfig, MistralConfig

    assert can_be_cut(LlamaConfig(num_hidden_layers=2))
    assert not can_be_cut(MistralConfig(num_hidden_layers=2, sliding_window=16))


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_what_two_prompts_share(common: list[int], a: list[int], b: list[int]) -> None:
    left, right = tuple(common + a), tuple(common + b)
    differing = (n for n, (x, y) in enumerate(zip(left, right, strict=False)) if x != y)
    assert _shared(left, right) == next(differing, min(len(left), len(right)))
