"""The backend without a language model keeps the same laws."""

from __future__ import annotations

import pytest

from agentmem.backends.extractive import ExtractiveBackend
from agentmem.testing import BackendContract
from agentmem.types import ChatMessage, Request, ToolCall


class TestContract(BackendContract):
    @pytest.fixture
    def backend(self) -> ExtractiveBackend:
        return ExtractiveBackend()


def _noted(arguments: str, result: str) -> str:
    said = "I live in Porto."
    call = ToolCall("file_1", "core_memory_append", arguments)
    messages = (
        ChatMessage("user", said),
        ChatMessage("assistant", "", tool_calls=(call,)),
        ChatMessage("tool", result, tool_call_id="file_1"),
    )
    return ExtractiveBackend().generate([Request(messages, query=said)])[0].text


WHOLE = '{"label": "human", "content": "Lives in: Porto"}'


def test_what_was_noted_is_said() -> None:
    assert "Lives in: Porto" in _noted(WHOLE, '{"status": "OK", "label": "human", "value": "Lives in: Porto"}')
    assert _noted(WHOLE, '{"status": "Failed", "message": "the block is full\\nand more"}') == (
        "Not noted: the block is full."
    )


@pytest.mark.parametrize("arguments", ["{}", WHOLE, "[... 20 characters left out; whole in recall as m9 ...]}"])
@pytest.mark.parametrize("result", ["[... 55 characters left out; whole in m10 ...]\n}", "", "[]", '{"a": 1}'])
def test_what_a_small_window_cuts_is_not_claimed(arguments: str, result: str) -> None:
    text = _noted(arguments, result)
    assert "does not fit into the prompt" in text
    assert "Porto" not in text


def test_a_call_without_its_arguments_is_not_claimed_either() -> None:
    assert "does not fit into the prompt" in _noted("{}", '{"status": "OK"}')
