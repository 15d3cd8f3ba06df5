"""Grammars on a model that writes nonsense: whatever it would say, the form holds."""

from __future__ import annotations

import json
import re

import pytest

from agentmem.parsing import arguments_of, text_calls
from agentmem.types import ChatMessage, Request, ToolSpec
from tests.models.tiny import make_tokenizer

SCHEMA = {
    "type": "object",
    "properties": {
        "tool": {"enum": ["reply", "search"]},
        "text": {"type": "string", "maxLength": 40},
        "page": {"type": "integer", "minimum": 0, "maximum": 99},
        "request_heartbeat": {"type": "boolean"},
    },
    "required": ["tool", "text", "request_heartbeat"],
}
APPEND = ToolSpec(
    "core_memory_append",
    "Add a line.",
    {
        "type": "object",
        "properties": {
            "label": {"type": "string", "maxLength": 12},
            "content": {"type": "string", "maxLength": 30},
            "request_heartbeat": {"type": "boolean"},
        },
        "required": ["label", "content"],
    },
)
SEARCH = ToolSpec("find", "Search.", {"type": "object", "properties": {"query": {"type": "string", "maxLength": 9}}})
NOTHING = ToolSpec("wait", "Do nothing.", {"type": "object", "properties": {}})
CALL = re.compile(r'\A<tool_call>\n\{"name": "(\w+)", "arguments": (\{.*\})\}\n</tool_call>\Z', re.DOTALL)


def wild(seed: int, **settings: object) -> Request:
    return Request((ChatMessage("user", "go"),), temperature=2.0, seed=seed, max_tokens=200, **settings)


def test_an_answer_under_a_schema_is_json_of_it(engine):
    completions = engine.generate([wild(seed, schema=SCHEMA) for seed in range(60)])
    assert [c.finish_reason for c in completions] == ["stop"] * 60
    for completion in completions:
        value = json.loads(completion.text)
        assert value["tool"] in ("reply", "search") and isinstance(value["request_heartbeat"], bool)
        assert set(value) <= set(SCHEMA["properties"]) and len(value["text"]) <= 40
        assert value.get("page", 0) in range(100)
        # As `json.dumps` spaces it, and so as it is written into the next prompt.
        assert json.dumps(value, ensure_ascii=False).count('": ') <= completion.text.count('": ')
    assert len({c.text for c in completions}) > 50
    assert any("\\" in c.text for c in completions), "no quote or control character was escaped: the test shows little"


def test_only_one_call_of_the_one_tool_is_let_through(engine):
    tools = (SEARCH, APPEND, NOTHING)
    for tool in tools:
        requests = [wild(seed, tools=tools, only_tool=tool.name) for seed in range(20)]
        for request, completion in zip(requests, engine.generate(requests), strict=True):
            assert completion.finish_reason == "stop"
            found = CALL.match(completion.text)
            assert found is not None and found[1] == tool.name, completion.text
            rest, (call,) = text_calls(completion.text, tools, 1)
            assert rest == "" and isinstance(arguments_of(call, {t.name: t for t in tools}), dict)
            assert completion.usage.prompt_tokens == engine.counter.count_prompt(request.messages, tools)


def test_the_restriction_leaves_the_prompt_and_its_cache_as_they_are(engine):
    assert engine.reset_prefix_cache()
    tools = (SEARCH, APPEND)
    free, held = (
        engine.generate([wild(1, tools=tools, only_tool=only)])[0].usage for only in (None, "core_memory_append")
    )
    assert free.prompt_tokens == held.prompt_tokens
    assert held.cached_tokens == (held.prompt_tokens - 1) // engine.block_size * engine.block_size > 0


def test_a_call_that_was_generated_is_rendered_as_the_same_tokens(engine):
    (completion,) = engine.generate([wild(3, tools=(APPEND,), only_tool="core_memory_append")])
    _, calls = text_calls(completion.text, (APPEND,), 1)
    said = engine.counter.rerendered(ChatMessage("assistant", "", calls), completion.token_ids)
    # The model may write a text in other tokens than a tokenizer would; the text itself is the same.
    assert said == "" or "token" in said
    rendered = engine.counter.render((ChatMessage("user", "x"), ChatMessage("assistant", "", calls)), open_reply=False)
    assert completion.text in rendered


def test_streams_are_held_to_a_grammar_too(engine):
    for seed in range(4):
        *_, last = engine.stream(wild(seed, schema=SCHEMA))
        assert last.completion.text == engine.generate([wild(seed, schema=SCHEMA)])[0].text
        json.loads(last.completion.text)


def test_the_kernels_own_schema_of_actions(engine):
    from agentmem.actions import action_schema, decode

    requests = [wild(seed, schema=action_schema("send_message")) for seed in range(8)]
    for completion in engine.generate(requests):
        assert completion.text.startswith('{"actions": [{"tool": "send_message", "message": "')
        if completion.finish_reason == "stop":
            text, calls = decode(completion.text, 1)
            assert text == "" and [c.name for c in calls] == ["send_message"]


@pytest.mark.parametrize("name", ["hermes", "llama3_json"])
def test_vllms_parsers_split_text_and_calls(name):
    from agentmem.backends.vllm_tool_parser import ToolParser

    request = wild(1, tools=(SEARCH,))
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<|python_tag|>"])
    parser = ToolParser(name, tokenizer)
    call = '{"name": "find", "arguments": {"query": "key"}}'
    written = {"hermes": f"<tool_call>\n{call}\n</tool_call>", "llama3_json": call.replace("arguments", "parameters")}
    text, (found,) = parser.split(written[name], request)
    assert (text, found.name, json.loads(found.arguments)) == ("", "find", {"query": "key"})
    for plain in ("It is under the pot.", "{not a call", ""):
        assert parser.split(plain, request) == (plain, ())
    assert isinstance(parser.sampling_settings(request)["skip_special_tokens"], bool)


def test_an_answer_goes_through_the_parser_that_was_named(engine, monkeypatch):
    """A grammar writes the call, and the parser takes it out: whole, and as a stream of one piece."""
    from agentmem.backends.vllm_tool_parser import ToolParser

    monkeypatch.setattr(engine._engine, "parser", ToolParser("hermes", engine.counter.tokenizer))
    request = wild(5, tools=(SEARCH, APPEND), only_tool="core_memory_append")
    (whole,) = engine.generate([request])
    (streamed,) = engine.stream(request)
    for completion in (whole, streamed.completion):
        assert (completion.text, completion.finish_reason) == ("", "tool_calls")
        (call,) = completion.tool_calls
        assert call.name == "core_memory_append" and set(json.loads(call.arguments)) >= {"label", "content"}
    assert whole.tool_calls[0].arguments == streamed.completion.tool_calls[0].arguments
    (plain,) = engine.generate([wild(5, tools=(SEARCH,))])
    assert plain.tool_calls == () and plain.text


def test_parsers_that_are_not_there_or_do_not_suit(engine):
    from agentmem.backends.vllm_tool_parser import ToolParser
    from agentmem.errors import ConfigError

    with pytest.raises(ConfigError, match="hermes"):
        ToolParser("hermess", engine.counter.tokenizer)
    with pytest.raises(ConfigError, match="python_tag"):
        ToolParser("llama3_json", engine.counter.tokenizer)
