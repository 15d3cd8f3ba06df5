"""The models that other tests stand on: the same each time, loadable, and exact where they are scripted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

from tests.models import conversations, tiny  # noqa: E402

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is the key?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"query": "the key"}'}},
            {"id": "c2", "type": "function", "function": {"name": "find", "arguments": '{"query": "key"}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "in the pot"},
    {"role": "user", "content": "Thanks, I will go to the café 🙂"},
]
TOOLS = [{"type": "function", "function": {"name": "find", "description": "Find.", "parameters": {}}}]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.make_tokenizer()


def test_the_tokenizer_is_the_same_each_time_and_loses_nothing(tokenizer):
    again = tiny.make_tokenizer()
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert 1000 <= len(tokenizer) <= 4000
    text = "What did we say about the harbour? Ünïcödé 🙂\n\n\t<b>x</b>"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    for tag in tiny.TAGS:
        assert tokenizer.decode(tokenizer.encode(tag), skip_special_tokens=True) == tag
        assert len(tokenizer.encode(tag)) == 1
    assert tokenizer.eos_token == "<|im_end|>"


def test_the_template_renders_calls_and_results_as_hermes_does(tokenizer):
    text = tokenizer.decode(tiny.prompt_ids(tokenizer, MESSAGES, TOOLS))
    assert (
        "<|im_start|>assistant\n"
        '<tool_call>\n{"name": "find", "arguments": {"query": "the key"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "find", "arguments": {"query": "key"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nin the pot\n</tool_response><|im_end|>\n"
    ) in text
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools")
    assert text.count('{"type": "function", "function": {"name": "find"') == 1
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_each_message_is_rendered_apart_from_those_after_it(tokenizer):
    whole = tiny.prompt_ids(tokenizer, MESSAGES, TOOLS)
    opening = tokenizer.encode("<|im_start|>assistant\n")
    for n in range(1, len(MESSAGES)):
        part = tiny.prompt_ids(tokenizer, MESSAGES[:n], TOOLS)[: -len(opening)]
        assert whole[: len(part)] == part


def test_a_random_model_is_deterministic_and_found_again(tmp_path: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    one = tiny.random_model(tmp_path / "one", window=512)
    stamp = (one / "config.json").stat().st_mtime_ns
    assert tiny.random_model(tmp_path / "one", window=512) == one
    assert (one / "config.json").stat().st_mtime_ns == stamp
    two = tiny.random_model(tmp_path / "two", window=512)
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    tiny.random_model(tmp_path / "two", window=512, seed=1)  # other weights: made anew
    assert (one / "model.safetensors").read_bytes() != (two / "model.safetensors").read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(one)
    model = AutoModelForCausalLM.from_pretrained(one)
    assert tokenizer.chat_template == tiny.CHATML and tokenizer.eos_token == "<|im_end|>"
    assert (
        model.config.max_position_embeddings == 512 and model.generation_config.eos_token_id == tokenizer.eos_token_id
    )
    ids = torch.tensor([tiny.prompt_ids(tokenizer, MESSAGES, ())])
    first, again = (model.generate(ids, max_new_tokens=6, do_sample=False) for _ in range(2))
    assert torch.equal(first, again) and first.shape[1] > ids.shape[1]


def test_an_unfinished_model_is_not_taken_for_one(tmp_path: Path):
    path = tiny.random_model(tmp_path / "m", window=256)
    (path / tiny.MARKER).unlink()
    (path / "config.json").write_text("{}")
    assert json.loads((tiny.random_model(path, window=256) / "config.json").read_text())["model_type"] == "llama"


def test_the_dialogues_are_what_an_agent_asks(tmp_path: Path):
    known = {json.dumps([m, t]): said for m, t, said in tiny.DIALOGUES}
    assert len(known) == sum(len(turn.says) for turns in conversations.CONVERSATIONS.values() for turn in turns)
    from agentmem import Agent
    from agentmem.testing import ScriptedBackend

    class Knowing(ScriptedBackend):
        def _play(self, request):
            from agentmem.types import Completion, Usage

            asked = json.dumps([[m.to_dict() for m in request.messages], [t.to_dict() for t in request.tools]])
            return Completion(known[asked], usage=Usage(1, 1))

    with conversations.open_memory(tmp_path / "m.db") as memory:
        agent = Agent(memory, Knowing([], context_window=conversations.WINDOW))
        assert agent.send("My name is Ana and I live in Porto.").text == "Nice to meet you, Ana."
        assert memory.core.block("human").value == "Ana lives in Porto."
        assert agent.send("Where do I live?").text == "You live in Porto."


@pytest.mark.slow
def test_the_scripted_model_answers_to_the_letter(tmp_path: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = tiny.scripted_model(tiny.folder(tmp_path) / "scripted")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path)
    for messages, tools, said in tiny.DIALOGUES:
        ids = tiny.prompt_ids(tokenizer, messages, tools)
        out = model.generate(torch.tensor([ids]), max_new_tokens=120, do_sample=False)[0][len(ids) :]
        assert tokenizer.decode(out[:-1]) == said and out[-1] == tokenizer.eos_token_id
