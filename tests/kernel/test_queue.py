"""Messages as they stand in the prompt: shortened within a budget, with what was left out marked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.queue import chat_message, content_of, entry_of, shorten
from agentmem.tokens import approximate_counter
from agentmem.types import Message, ToolCall
from tests.counters import PairCounter, word_counter

NOW = datetime(2023, 5, 8, tzinfo=UTC)
COUNTERS: dict[str, Any] = {"approximate": approximate_counter(), "words": word_counter(), "pairs": PairCounter()}


def message(content: str, role: str = "user", **values: Any) -> Message:
    return Message(7, role, content, NOW, NOW, **values)  # type: ignore[arg-type]


texts = st.builds(
    lambda parts, n: " ".join(parts * n),
    st.lists(st.sampled_from(["tea", "東京", "😀", "x" * 50, "\n", "a-b"]), min_size=1, max_size=6), st.integers(1, 60),
)  # fmt: skip


@pytest.mark.parametrize("name", COUNTERS)
@given(text=texts, max_tokens=st.integers(60, 300))
def test_a_shortened_message_keeps_its_start_and_its_end_within_the_budget(
    name: str, text: str, max_tokens: int
) -> None:
    counter = COUNTERS[name]
    m = message(text)
    cut = shorten(m, max_tokens, counter)
    if cut is None:
        assert counter.count(text) <= max_tokens or len(text.encode()) <= max_tokens
        return
    assert counter.count(text) > max_tokens
    head, tail = cut
    assert head >= 0 and tail >= 0 and head + tail < len(text)
    shown = content_of(m, cut)
    # The two line ends around the marker are the joiner's.
    assert counter.count(shown) <= max_tokens + 2
    assert shown.startswith(text[:head]) and shown.endswith(text[len(text) - tail :] if tail else "...]")
    assert f"{len(text) - head - tail} characters left out; whole in recall as m7" in shown


def test_what_fits_stays_as_it_is() -> None:
    assert shorten(message("one two three"), 3, word_counter()) is None
    assert shorten(message("one two three " * 20), 20, word_counter()) is not None


def test_who_speaks() -> None:
    assert content_of(message("hi", name="Ann"), None) == "Ann: hi"
    assert content_of(message("hi", "assistant", name="Bot"), None) == "hi"
    note = chat_message(message("edited", "system"), None)
    assert (note.role, note.content) == ("user", "[memory] edited"), "a note never speaks with the system's authority"


def test_a_result_that_names_no_call_is_no_tool_message() -> None:
    # From an imported history: servers refuse a tool message without the call that it answers.
    imported = message("42", "tool")
    shown = chat_message(imported, None)
    assert (shown.role, shown.content, shown.tool_call_id) == ("user", "[tool] 42", None)
    assert entry_of(imported, 3).role == "user"
    real = message("42", "tool", tool_call_id="a")
    assert (chat_message(real, None).role, entry_of(real, 3).answers) == ("tool", "a")


def test_entries() -> None:
    m = message("", "assistant", tool_calls=(ToolCall("a", "x", "{}"), ToolCall("b", "x", "{}")))
    entry = entry_of(m, 5)
    assert (entry.id, entry.role, entry.num_tokens, entry.calls, entry.answers) == (7, "assistant", 5, {"a", "b"}, None)


def test_what_was_said_by_a_call() -> None:
    def said(arguments: str) -> str:
        return message("Well.", "assistant", tool_calls=(ToolCall("a", "send_message", arguments),)).said

    assert said('{"message": "hi"}') == "Well.\nhi"
    # Whatever a model wrote is stored, and must not break every later search.
    for broken in ("", "[]", "{", '{"message": ' + "[" * 200_000, "null"):
        assert said(broken) == "Well."
