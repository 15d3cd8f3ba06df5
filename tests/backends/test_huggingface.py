"""The transformers backend on a tiny random model: its oracles are transformers' own generate and requests alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from agentmem import registry
from agentmem.backends import decoding
from agentmem.backends.huggingface import HuggingFaceBackend
from agentmem.errors import BadRequestError, ConfigError
from agentmem.protocols import Backend, ModelBackend, PromptTokenizer, StreamingBackend
from agentmem.testing import BackendContract
from agentmem.types import ChatMessage, Request, ToolSpec
from tests.backends.small_model import TEXTS, asked, hooked, one
from tests.models.tiny import folder, random_model

TOOL = ToolSpec("look", "Looks.", {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(folder(tmp_path_factory.mktemp("models")) / "random")


@pytest.fixture
def backend(path: Path) -> Iterator[HuggingFaceBackend]:
    made = HuggingFaceBackend(str(path))
    yield made
    made.close()


class TestContract(BackendContract):
    @pytest.fixture
    def backend(self, path: Path) -> Iterator[HuggingFaceBackend]:
        made = HuggingFaceBackend(str(path))
        yield made
        made.close()

    def impatient(self, backend: Backend) -> Backend:
        assert isinstance(backend, HuggingFaceBackend)
        return HuggingFaceBackend(backend.name.removeprefix("hf:"), timeout_s=1e-6)

    def request_for_text(self, text: str) -> Request:
        return Request((ChatMessage("system", "You help."), ChatMessage("user", text)), tools=(TOOL,), max_tokens=24)


def test_is_what_the_registry_makes_and_a_model_backend(path: Path) -> None:
    backend = registry.make_backend(f"hf:{path}", None)
    assert isinstance(backend, HuggingFaceBackend) and backend.name == f"hf:{path}"
    assert isinstance(backend, ModelBackend) and isinstance(backend, StreamingBackend)
    assert isinstance(backend.counter, PromptTokenizer)
    assert (backend.context_window, backend.native_tools) == (8192, True)
    with pytest.raises(ConfigError, match="argument"):
        registry.make_backend("hf", None)


def test_constructing_loads_nothing() -> None:
    assert HuggingFaceBackend("/nowhere")._model is None


@pytest.mark.parametrize("stretch", [1024, 50, 1])
def test_greedy_is_what_transformers_generates(path: Path, monkeypatch: pytest.MonkeyPatch, stretch: int) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(decoding, "_PASS", stretch)
    backend = HuggingFaceBackend(str(path))
    model = AutoModelForCausalLM.from_pretrained(path)
    for text in TEXTS if stretch > 1 else TEXTS[:1]:
        request = asked(text)
        ids = torch.tensor([backend.counter.encode_prompt(request.messages).ids])
        expected = model.generate(ids, max_new_tokens=32, do_sample=False)[0, ids.shape[1] :].tolist()
        found = one(backend, request)
        assert [*found.token_ids, *[t for t in expected[-1:] if found.finish_reason == "stop"]] == expected
        assert found.text == backend.counter.decode(found.token_ids)
        assert found.usage.prompt_tokens == ids.shape[1]
    backend.close()


def _other_kinds() -> dict[str, Any]:
    from transformers import GPT2Config, Lfm2Config, MistralConfig

    shape: dict[str, Any] = {"vocab_size": 1280, "initializer_range": 0.1, "eos_token_id": 2, "bos_token_id": None}
    llama = {**shape, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    return {
        "sliding windows": MistralConfig(**llama, intermediate_size=128, head_dim=32, sliding_window=32),
        "absolute positions": GPT2Config(**shape, n_embd=64, n_layer=2, n_head=2, n_positions=2048),
        "states": Lfm2Config(**llama, intermediate_size=128, layer_types=["conv", "full_attention"]),
    }


@pytest.mark.parametrize("kind", ["sliding windows", "absolute positions", "states"])
@pytest.mark.slow
def test_other_kinds_of_models_are_batched_as_exactly(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = _other_kinds()[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = AutoModelForCausalLM.from_config(config)
    made.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(path).save_pretrained(tmp_path)
    monkeypatch.setattr(decoding, "_PASS", 50)
    backend = HuggingFaceBackend(str(tmp_path))
    # Only what keeps all its tokens can be taken back to a prefix.
    assert backend.block_size == (1 if kind == "absolute positions" else None)
    for text, found in zip(TEXTS, backend.generate([asked(t, max_tokens=16) for t in TEXTS]), strict=True):
        ids = torch.tensor([backend.counter.encode_prompt(asked(text).messages).ids])
        expected = made.eval().generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
        assert [*found.token_ids] == expected[0, ids.shape[1] :].tolist()[: len(found.token_ids)]
        assert one(backend, asked(text, max_tokens=16)).token_ids == found.token_ids
    backend.close()


@pytest.mark.parametrize("max_batch", [2, 3, 8])
@pytest.mark.parametrize("stretch", [1024, 64])
@pytest.mark.slow
def test_a_batch_gives_what_single_requests_give(
    path: Path, monkeypatch: pytest.MonkeyPatch, max_batch: int, stretch: int
) -> None:
    monkeypatch.setattr(decoding, "_PASS", stretch)
    backend = HuggingFaceBackend(str(path), max_batch=max_batch)
    requests = [
        asked(text, max_tokens=5 + 9 * n, temperature=t, seed=seed)
        for n, text in enumerate(TEXTS)
        for t, seed in ((0.0, None), (1.0, 3), (0.7, 4))
    ]
    rows: list[int] = []
    with hooked(backend, lambda tokens, n: rows.append(n)):
        together = backend.generate(requests)
    assert max(rows) == min(max_batch, len(requests))
    for request, found in zip(requests, together, strict=True):
        alone = one(backend, request)
        assert (found.text, found.token_ids, found.finish_reason) == (alone.text, alone.token_ids, alone.finish_reason)
    backend.close()


def test_draws_depend_on_the_seed_and_touch_no_other_random_numbers(backend: HuggingFaceBackend) -> None:
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    texts = [one(backend, asked("hello", temperature=1.0, seed=seed)).text for seed in (1, 2, 1, -5, None, None)]
    assert texts[0] == texts[2] and len(set(texts)) == 5
    assert torch.equal(state, torch.random.get_rng_state())


def test_top_k_and_top_p_narrow_what_is_drawn(path: Path) -> None:
    greedy = HuggingFaceBackend(str(path))
    likeliest = one(greedy, asked("hello")).token_ids
    for options in ({"top_k": 1}, {"top_p": 1e-6}):
        narrow = HuggingFaceBackend(str(path), **options)  # type: ignore[arg-type]
        assert one(narrow, asked("hello", temperature=2.0, seed=1)).token_ids == likeliest
    wide = HuggingFaceBackend(str(path), top_k=0, top_p=1.0)
    assert one(wide, asked("hello", temperature=2.0, seed=1)).token_ids != likeliest


def test_stops_at_an_end_token_while_others_go_on(backend: HuggingFaceBackend) -> None:
    before = [one(backend, asked(t)) for t in TEXTS]
    end = before[0].token_ids[5]
    assert backend._model is not None
    backend._model.ends = backend._model.ends | {end}
    found = backend.generate([asked(t) for t in TEXTS])
    for old, new in zip(before, found, strict=True):
        at = old.token_ids.index(end) if end in old.token_ids else None
        assert new.token_ids == old.token_ids[:at]
        assert new.finish_reason == ("length" if at is None else "stop")
        # The ending token was generated too, as servers count.
        assert new.usage.completion_tokens == len(new.token_ids) + (at is not None)
    assert {c.finish_reason for c in found} == {"stop", "length"}


def test_the_window_cuts_an_answer_and_refuses_a_prompt(path: Path) -> None:
    full = HuggingFaceBackend(str(path))
    size = full.counter.count_prompt(asked("hello").messages)
    small = HuggingFaceBackend(str(path), context_window=size + 3)
    assert small.context_window == size + 3
    cut = one(small, asked("hello"))
    assert (cut.token_ids, cut.finish_reason) == (one(full, asked("hello")).token_ids[:3], "length")
    with pytest.raises(BadRequestError, match=f"{size + 3}"):
        small.generate([asked("hello"), asked("hello there, how do you do?")])
    with pytest.raises(ConfigError, match="8192"):
        _ = HuggingFaceBackend(str(path), context_window=8193).context_window


def test_a_stream_gives_whole_characters_that_join_to_the_text(backend: HuggingFaceBackend) -> None:
    for text in TEXTS:
        for options in ({}, {"temperature": 1.0, "seed": 5}):
            request = asked(text, max_tokens=64, **options)
            *chunks, last = backend.stream(request)
            assert last.completion is not None and len(chunks) > 5
            assert "".join(c.text for c in [*chunks, last]) == last.completion.text
            alone = one(backend, request)
            assert (last.completion.text, last.completion.token_ids) == (alone.text, alone.token_ids)
            assert all(not c.text.endswith("\ufffd") for c in chunks)


@pytest.mark.parametrize(
    "change", [{"messages": ()}, {"max_tokens": 0}, {"only_tool": "none"}, {"only_tool": "none", "tools": (TOOL,)}]
)
def test_a_request_that_cant_be_sent_is_refused_before_any_is(
    backend: HuggingFaceBackend, change: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        backend.generate([asked("hello"), replace(asked("hello"), **change)])
    assert backend._model is None
