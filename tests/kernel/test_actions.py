"""JSON actions: what a model writes under the schema, or nearly, is read as far as it goes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.actions import action_schema, decode, written
from agentmem.parsing import FormatProblem, arguments_of
from agentmem.tools import BY_NAME, SPECS
from agentmem.types import ToolCall

SAY = {"tool": "send_message", "message": 'Hi "Tom"\n🙂'}
FIND = {"tool": "conversation_search", "query": "parrot", "request_heartbeat": True}


def answer(*actions: Any) -> str:
    return json.dumps({"actions": actions}, ensure_ascii=False)


def test_actions_become_calls() -> None:
    text, calls = decode(answer(FIND, SAY), 7)
    assert (text, [(c.id, c.name) for c in calls]) == (
        "",
        [("call_7", "conversation_search"), ("call_8", "send_message")],
    )
    assert arguments_of(calls[0], BY_NAME) == {"query": "parrot", "request_heartbeat": True}
    assert arguments_of(calls[1], BY_NAME) == {"message": SAY["message"]}


@pytest.mark.parametrize("text", ["Hello.", "", "{not json", '{"a": 1}', "[1]", 'As JSON: {"actions": []}', "{}", "{"])
def test_plain_text_is_a_reply(text: str) -> None:
    assert decode(text, 1) == (text, ())


def test_a_fence_and_a_bare_action_are_read() -> None:
    assert decode(f"```json\n{answer(SAY)}\n```", 1) == decode(answer(SAY), 1) == decode(json.dumps(SAY), 1)


@pytest.mark.parametrize("action", [7, None, [], {}, {"tool": 3}, {"tool": "fly"}, {"tool": "send_message"}])
def test_what_is_no_action_fails_in_the_models_sight(action: Any) -> None:
    _, (call,) = decode(answer(action), 1)
    assert isinstance(arguments_of(call, BY_NAME), FormatProblem)


@given(cut=st.integers(0, len(answer(FIND, SAY))))
def test_of_a_truncated_answer_what_is_complete_is_taken(cut: int) -> None:
    whole = answer(FIND, SAY)
    text, calls = decode(whole[:cut], 1)
    first_ends = whole.index("}") + 1
    good = [c for c in calls if not isinstance(arguments_of(c, BY_NAME), FormatProblem)]
    if cut >= first_ends:
        assert [c.name for c in good][:1] == ["conversation_search"]
    if cut > whole.index('"message"') + 12:
        said = text or json.loads(good[1].arguments)["message"]
        assert said and SAY["message"].startswith(said), "a cut reply says what there is of it"
    if '"tool": "conversation_search", "qu' in whole[:cut] and cut < first_ends:
        assert [(c.name, isinstance(arguments_of(c, BY_NAME), FormatProblem)) for c in calls] == [
            ("conversation_search", True)
        ]


@given(st.text(max_size=80))
def test_nothing_that_a_model_writes_raises(text: str) -> None:
    for said in (text, "{" + text, '{"actions": [' + text, '{"actions": [{"tool": "' + text):
        decode(said, 1)


def test_a_stored_answer_stands_as_the_model_would_have_written_it() -> None:
    _, calls = decode(answer(FIND, SAY), 1)
    assert json.loads(written("", calls)) == {"actions": [FIND, SAY]}
    assert written("Plain.", ()) == "Plain."
    shown = json.loads(written("Well.", (ToolCall("a", "fly", "no json"),)))
    assert shown == {"actions": [{"tool": "send_message", "message": "Well."}, {"tool": "fly", "arguments": "no json"}]}


def test_the_schema_is_a_union_of_the_tools() -> None:
    items = action_schema()["properties"]["actions"]["items"]["anyOf"]
    assert [w["properties"]["tool"]["const"] for w in items] == [s.name for s in SPECS]
    for way, spec in zip(items, SPECS, strict=True):
        assert way["required"] == ["tool", *spec.parameters["required"]] and not way["additionalProperties"]
        assert set(way["properties"]) == {"tool", *spec.parameters["properties"]}
    only = action_schema("send_message")["properties"]["actions"]
    assert only["maxItems"] == 1 and only["items"]["properties"]["tool"]["const"] == "send_message"
