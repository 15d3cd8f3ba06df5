"""From what a model wrote to what it meant: nothing that a model writes raises."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.parsing import (
    MAX_STRING_CHARS,
    FormatProblem,
    StreamFilter,
    arguments_of,
    defused,
    strip_thinking,
    text_calls,
)
from agentmem.tools import BY_NAME, SPECS
from agentmem.types import ToolCall

DEEP = '{"message": ' + "[" * 200_000


def read(name: str, arguments: str) -> dict[str, Any] | FormatProblem:
    return arguments_of(ToolCall("c", name, arguments), BY_NAME)


def test_golden_values() -> None:
    # methods.md 8.7: unknown function / bad JSON -> failed; heartbeat "yes" -> treated as false.
    unknown, bad = read("open_door", "{}"), read("send_message", '{"message": ')
    assert isinstance(unknown, FormatProblem) and "open_door" in unknown.text and "send_message" in unknown.text
    assert isinstance(bad, FormatProblem) and "no JSON" in bad.text
    said = '{"query": "tea", "request_heartbeat": "yes"}'
    assert read("conversation_search", said) == {"query": "tea", "request_heartbeat": False}
    said = '{"query": "tea", "request_heartbeat": true}'
    assert read("conversation_search", said) == {"query": "tea", "request_heartbeat": True}


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("send_message", "[]", "must be a JSON object"),
        ("send_message", '"hello"', "must be a JSON object"),
        ("send_message", "", "lacks its argument 'message'"),
        ("send_message", '{"message": 5}', "must be a string"),
        ("send_message", '{"text": "x", "message": "x"}', "no argument 'text'"),
        ("send_message", json.dumps({"message": "\ud83d"}), "lone surrogate"),
        ("send_message", json.dumps({"message": "x" * (MAX_STRING_CHARS + 1)}), f"at most {MAX_STRING_CHARS}"),
        ("send_message", DEEP, "no JSON"),
        ("conversation_search", '{"query": "x", "page": -1}', "must not be negative"),
        ("conversation_search", '{"query": "x", "page": 1.5}', "whole number"),
        ("conversation_search", '{"query": "x", "page": true}', "whole number"),
        ("archival_memory_insert", '{"content": "x", "tags": "a"}', "list of strings"),
        ("archival_memory_insert", '{"content": "x", "tags": [1]}', "list of strings"),
        ("core_memory_replace", '{"label": "human"}', "'old_content', 'new_content'"),
    ],
)
def test_what_is_wrong_is_said(name: str, arguments: str, problem: str) -> None:
    found = read(name, arguments)
    assert isinstance(found, FormatProblem) and problem in found.text
    assert len(found.text) < 400


def test_nothing_given_is_left_out() -> None:
    assert read("conversation_search", '{"query": "x", "page": null}') == {"query": "x"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["query", "page", "message", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(name=st.sampled_from([*BY_NAME, "x"]), arguments=json_values.map(json.dumps) | st.text(max_size=40))
def test_arguments_never_raise(name: str, arguments: str) -> None:
    found = read(name, arguments)
    if isinstance(found, dict):
        spec = BY_NAME[name].parameters
        assert set(spec["required"]) - {n for n, v in json.loads(arguments or "{}").items() if v is None} <= set(found)
        assert set(found) <= set(spec["properties"])


# -- thinking -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>hm</think>Yes.", "Yes."),
        ("<think>a</think>Yes<think>b\nc</think>, no.", "Yes, no."),
        ("<THINKING>hm</THINKING> Yes.", "Yes."),
        ("never opened</think>Yes.", "Yes."),
        ("a</think>b</think>Yes.", "Yes."),
        ("Yes<think>a<think>b</think></think>.", "Yes."),
        ("<think>never closed", ""),
        ("Yes.<think>never closed", "Yes."),
        ("1 < 2 and <b>bold</b>", "1 < 2 and <b>bold</b>"),
    ],
)
def test_thinking_is_stripped(text: str, left: str) -> None:
    assert strip_thinking(text) == left


# -- calls in text --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "send_message", "arguments": {"message": "hi"}}',
        '```json\n{"name": "send_message", "arguments": {"message": "hi"}}\n```',
        '<tool_call>{"name": "send_message", "parameters": {"message": "hi"}}</tool_call>',
        '<tool_call>\n{"name": "send_message", "arguments": "{\\"message\\": \\"hi\\"}"}\n</tool_call>',
    ],
)
def test_a_call_written_as_text(text: str) -> None:
    left, (call,) = text_calls(text, SPECS, 7)
    assert (left, call.id, call.name, json.loads(call.arguments)) == ("", "call_7", "send_message", {"message": "hi"})


def test_text_around_calls_stays() -> None:
    one = '<tool_call>{"name": "send_message", "arguments": {"message": "{}"}}</tool_call>'
    left, calls = text_calls(f"Well. {one} And {one}", SPECS, 1)
    assert (left, [c.id for c in calls]) == ("Well.  And", ["call_1", "call_2"])


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "open_door"}',
        '{"name": ["x"]}',
        '{"name": {}}',
        "{}",
        '{"a": 1}',
        "{not json}",
        "plain",
        DEEP + "}",
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    assert text_calls(text, SPECS, 1) == (text, ())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('<tool_call>{"name": "core_memory_append", "arguments": {"label": "hu', "core_memory_append"),
        ("<tool_call>{}</tool_call>", "?"),
        ("Well. <tool_call>", "?"),
        ("<tool_call>[1]</tool_call>", "?"),
        ('<tool_call>{"name": "fly", "arguments": {}}</tool_call>', "fly"),
        ('<tool_call>{"name": 7, "arguments": {}}</tool_call>', "?"),
    ],
)
def test_a_malformed_call_fails_in_the_models_sight_and_is_not_shown(text: str, name: str) -> None:
    left, (call,) = text_calls(text, SPECS, 1)
    assert (left, call.name) == (text.split("<")[0].strip(), name)
    assert isinstance(arguments_of(call, BY_NAME), FormatProblem)


MARKS = [
    "<|im_end|>", "<|start_header_id|>", "[INST]", "[/INST]", "<start_of_turn>", "</tool_response>", "<tool_call>",
    "<<SYS>>", "</memory>", "<\uff5cUser\uff5c>",
]  # fmt: skip


@pytest.mark.parametrize("mark", MARKS)
def test_marks_of_roles_are_broken(mark: str) -> None:
    broken = defused(f"hi {mark}system {mark}")
    assert mark not in broken and broken.replace("\u200b", "") == f"hi {mark}system {mark}"
    assert defused(broken) == broken


@pytest.mark.parametrize("text", ["a < b > c", "x[0]", "<b>bold</b>", "if a<|b: pass", "List[int]", "<div>"])
def test_other_text_is_left_alone(text: str) -> None:
    assert defused(text) == text


@given(
    text=st.text(max_size=60)
    | json_values.map(json.dumps)
    | json_values.map(lambda v: f"<tool_call>{json.dumps(v)}</tool_call>")
)
def test_any_text_can_be_read(text: str) -> None:
    left, calls = text_calls(text, SPECS, 1)
    assert calls or left == text


# -- streams --------------------------------------------------------------------------------------------------

pieces = st.lists(
    st.sampled_from(
        ["Yes", " ", "\n", "<", ">", "<think>", "hm", "</think>", "<b>", "1 < 2", "a tea", "<tool_", "thin"]
    ),
    max_size=12,
)


@given(parts=pieces)
def test_what_was_streamed_stands_at_the_start_of_the_reply(parts: list[str]) -> None:
    text = "".join(parts)
    opens = [m.group() for m in re.finditer(r"</?think>", text)]
    if "</think>" in opens and (opens[0] == "</think>" or opens.count("</think>") > opens.count("<think>")):
        return  # an orphaned end takes back what was said before it: nobody can know that while it streams
    visible = StreamFilter()
    shown = ""
    for part in parts:
        shown += visible.feed(part)
        assert shown == visible.shown
        assert "<think" not in shown and "</think" not in shown
    whole, _ = text_calls(strip_thinking(text), SPECS, 0)
    assert whole.startswith(shown) or strip_thinking(text).startswith(shown)


def test_a_call_in_text_is_never_streamed() -> None:
    for text in ('{"name": "send_message"}', "```json\n{}", "<think>x</think>{", "Well. <tool_call>{}"):
        visible = StreamFilter()
        shown = "".join(visible.feed(c) for c in text)
        assert shown == ("Well." if text.startswith("Well") else "")


class Simple:
    """What StreamFilter does, read from the start at each piece."""

    def __init__(self) -> None:
        self.shown = ""
        self.raw = ""

    def feed(self, piece: str) -> str:
        self.raw += piece
        thinking = "</think" in self.raw.lower() or "<think" in self.raw.lower()
        visible = strip_thinking(self.raw) if thinking else self.raw.lstrip()
        if visible.startswith(("{", "```")) or visible in ("`", "``"):
            return ""
        tag = visible.rfind("<")
        safe = visible if tag < 0 or ">" in visible[tag:] else visible[:tag]
        safe = safe.split("<tool_call>")[0].rstrip()
        if not safe.startswith(self.shown) or len(safe) <= len(self.shown):
            return ""
        new, self.shown = safe[len(self.shown) :], safe
        return new


PARTS = (
    "", " ", "\n", "a", "word ", "`", "``", "```", "{", "}", "<", ">", "<think>", "</think>", "<tool_call>", "x<y",
)  # fmt: skip


@given(st.lists(st.sampled_from(PARTS), max_size=12))
def test_the_filter_of_a_stream_is_that_of_the_whole(pieces: list[str]) -> None:
    fast, simple = StreamFilter(), Simple()
    for piece in pieces:
        assert fast.feed(piece) == simple.feed(piece)
        assert fast.shown == simple.shown
