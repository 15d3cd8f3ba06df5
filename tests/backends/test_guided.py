"""Decoding under a grammar: whatever a random model would like to say, it says JSON of the schema, or one call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("llguidance")

from agentmem.backends import guided
from agentmem.backends.huggingface import HuggingFaceBackend
from agentmem.errors import ConfigError, MissingExtraError
from agentmem.parsing import arguments_of, text_calls
from agentmem.types import ChatMessage, Request, ToolCall, ToolSpec
from tests.backends.small_model import one
from tests.models.tiny import CHATML, folder, random_model

SCHEMA = {
    "type": "object",
    "properties": {
        "action": {"enum": ["reply", "search"]},
        "text": {"type": "string", "maxLength": 20},
        "page": {"type": "integer", "minimum": 0, "maximum": 99},
        "sure": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2},
    },
    "required": ["action", "text", "page", "sure", "tags"],
    "additionalProperties": False,
}
SAY = ToolSpec(
    "send_message",
    "Says something.",
    {
        "type": "object",
        "properties": {
            "message": {"type": "string", "maxLength": 30},
            "tone": {"enum": ["kind", "dry"]},
            "times": {"type": "integer", "minimum": 1, "maximum": 3},
        },
        "required": ["message", "tone", "times"],
        "additionalProperties": False,
    },
)
LOOK = ToolSpec("look", "Looks.", {"type": "object", "properties": {}})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("models"))


@pytest.fixture
def backend(models: Path) -> Iterator[HuggingFaceBackend]:
    made = HuggingFaceBackend(str(random_model(models / "random")))
    yield made
    made.close()


def asked(**options: Any) -> Request:
    return Request((ChatMessage("user", "hello"),), **{"max_tokens": 250, **options})


def check(text: str) -> None:
    value = json.loads(text)
    assert set(value) == set(SCHEMA["required"])
    assert value["action"] in ("reply", "search") and isinstance(value["sure"], bool)
    assert len(value["text"]) <= 20 and 0 <= value["page"] <= 99
    assert len(value["tags"]) <= 2 and all(isinstance(t, str) and len(t) <= 5 for t in value["tags"])
    # White space as Jinja's tojson writes it, and no other: such a text is rendered again as it stands.
    assert text == json.dumps(value, ensure_ascii=False) or "\\u" in text or "\\/" in text


@pytest.mark.slow
def test_twenty_random_texts_are_json_of_the_schema(backend: HuggingFaceBackend) -> None:
    requests = [asked(schema=SCHEMA, temperature=1.5, seed=n) for n in range(19)]
    # A batch may mix schemas, calls and free text.
    others = [asked(schema={"type": "string", "maxLength": 3}), asked(max_tokens=10)]
    found = backend.generate([*requests, asked(schema=SCHEMA), *others])
    for completion in found[:20]:
        assert completion.finish_reason == "stop"
        check(completion.text)
    assert len({c.text for c in found}) == 22
    assert len(json.loads(found[20].text)) <= 3
    assert found[21].text == one(backend, asked(max_tokens=10)).text
    for n in (0, 7):
        assert one(backend, requests[n]).text == found[n].text


def test_a_stream_is_guided_too(backend: HuggingFaceBackend) -> None:
    request = asked(schema=SCHEMA, temperature=1.0, seed=3)
    *chunks, last = backend.stream(request)
    assert last.completion is not None
    text = "".join(c.text for c in [*chunks, last])
    check(text)
    assert text == last.completion.text == one(backend, request).text


def test_a_text_that_is_cut_is_returned_as_far_as_it_is(backend: HuggingFaceBackend) -> None:
    request = asked(schema=SCHEMA, temperature=1.0, seed=1)
    whole = one(backend, request)
    cut = one(backend, asked(schema=SCHEMA, temperature=1.0, seed=1, max_tokens=9))
    assert (cut.finish_reason, len(cut.token_ids)) == ("length", 9)
    assert cut.token_ids == whole.token_ids[:9]


def test_the_only_tool_is_called_in_the_templates_own_form(backend: HuggingFaceBackend) -> None:
    for seed in range(8):
        request = asked(tools=(LOOK, SAY), only_tool="send_message", temperature=1.0, seed=seed)
        found = one(backend, request)
        assert found.text.startswith("<tool_call>\n") and found.text.endswith("\n</tool_call>")
        visible, calls = text_calls(found.text, (LOOK, SAY), 0)
        assert visible == "" and [c.name for c in calls] == ["send_message"]
        assert isinstance(arguments_of(calls[0], {"send_message": SAY}), dict)
        # The call stands in the next prompt with the tokens that were generated, where they are the tokenizer's own.
        turn = ChatMessage("assistant", "", (ToolCall("1", "send_message", calls[0].arguments),))
        assert found.text in backend.counter.render([*request.messages, turn], request.tools, open_reply=False)


def test_the_prompt_is_the_same_whichever_tool_is_allowed(backend: HuggingFaceBackend) -> None:
    free, only = asked(tools=(LOOK, SAY)), asked(tools=(LOOK, SAY), only_tool="look")
    found = backend.generate([free, only])
    assert found[0].usage.prompt_tokens == found[1].usage.prompt_tokens
    (call,) = text_calls(found[1].text, (LOOK, SAY), 0)[1]
    assert call.name == "look"


def test_a_template_without_tags_gets_a_bare_object(models: Path) -> None:
    template = CHATML.replace("<tool_call>\\n", "").replace("\\n</tool_call>", "")
    assert "tool_call>" not in template
    backend = HuggingFaceBackend(str(random_model(models / "untagged", template=template)))
    found = one(backend, asked(tools=(LOOK, SAY), only_tool="send_message", temperature=1.0, seed=1))
    assert json.loads(found.text)["name"] == "send_message"
    assert text_calls(found.text, (LOOK, SAY), 0)[1][0].name == "send_message"
    backend.close()


def test_end_tokens_and_tags_cant_stand_inside_a_string(backend: HuggingFaceBackend) -> None:
    one(backend, asked(schema=SCHEMA))
    assert backend._model is not None and backend._model._grammars is not None
    guide = backend._model._grammars.json({"type": "string"})
    ids = backend.counter.tokenizer.convert_tokens_to_ids(['"', "<|im_end|>", "<|im_start|>", "<tool_call>"])
    assert guide.allowed()[ids].tolist() == [True, False, False, False]
    guide.take(ids[0])
    assert guide.allowed()[ids].tolist() == [True, False, False, False] and not guide.done
    guide.take(ids[0])
    assert guide.done


@pytest.mark.parametrize("schema", [{"type": "foo"}, {"type": "string", "pattern": "(?=a)b"}, {"$ref": "#/nowhere"}])
def test_a_schema_that_cant_be_enforced_is_refused(backend: HuggingFaceBackend, schema: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="schema"):
        one(backend, asked(schema=schema))
    assert one(backend, asked(max_tokens=2)).usage.completion_tokens == 2


def test_without_the_library_schemas_are_refused_and_only_tool_is_not_enforced(
    backend: HuggingFaceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert backend.tool_modes() == ("native", "json", "off") and "llguidance" not in backend.describe()
    monkeypatch.setattr(guided, "find_spec", lambda name: None)
    assert backend.tool_modes() == ("native", "off") and "llguidance" in backend.describe()
    with pytest.raises(MissingExtraError, match="llguidance"):
        one(backend, asked(schema=SCHEMA))
    plain = one(backend, asked(tools=(LOOK, SAY), max_tokens=8))
    assert one(backend, asked(tools=(LOOK, SAY), only_tool="look", max_tokens=8)).text == plain.text
