"""The recursive summary: never longer than allowed, and never without one because a model failed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.summary import without_model
from agentmem.tokens import approximate_counter
from agentmem.types import Message
from tests.counters import PairCounter, word_counter

NOW = datetime(2023, 5, 8, tzinfo=UTC)
COUNTERS: dict[str, Any] = {"approximate": approximate_counter(), "words": word_counter(), "pairs": PairCounter()}


def message(number: int, content: str, role: str = "user", **values: Any) -> Message:
    return Message(number, role, content, NOW + timedelta(days=number), NOW, **values)  # type: ignore[arg-type]


texts = st.sampled_from(
    [
        "I moved to Lisbon on 3 May 2021.",
        "What now?",
        "ok",
        "x" * 500,
        "東京は雨です。",
        "tea " * 300,
        "\n",
        "One. Two. Three 3.",
    ]
)
turns = st.lists(st.tuples(texts, st.sampled_from(["user", "assistant", "tool", "system"])), min_size=1, max_size=12)


@pytest.mark.parametrize("name", COUNTERS)
@given(batches=st.lists(turns, min_size=1, max_size=4), max_tokens=st.integers(1, 250))
def test_never_longer_than_allowed(name: str, batches: list[list[tuple[str, str]]], max_tokens: int) -> None:
    counter = COUNTERS[name]
    previous = ""
    number = 0
    for batch in batches:
        evicted = [message(number := number + 1, text, role) for text, role in batch]
        summary = without_model(previous, evicted, max_tokens, counter)
        assert counter.count(summary.text) <= max_tokens and not summary.by_model
        assert summary == without_model(previous, evicted, max_tokens, counter)
        previous = summary.text


def test_a_smaller_window_shortens_what_is_there() -> None:
    long = without_model("", [message(n, f"I moved to Town{n} in 200{n}.") for n in range(1, 9)], 100, word_counter())
    tools = [message(9, "a result", "tool", tool_call_id="a")]
    assert word_counter().count(without_model(long.text, tools, 30, word_counter()).text) <= 30


def test_says_what_it_is_taken_from() -> None:
    said = [message(1, "ok", name="Ann"), message(2, "I moved to Lisbon on 3 May 2021.", name="Tom", key="D1:2")]
    text = without_model("", said, 100, word_counter()).text
    assert text.splitlines()[0] == "Until 10 May 2023 Ann and Tom said, among other things:"
    assert "- D1:2 Tom: I moved to Lisbon on 3 May 2021." in text.splitlines()
    later = without_model(text, [message(3, "My sister Anna plays the guitar.")], 100, word_counter()).text
    assert "D1:2" in later and "m3 user: My sister Anna plays the guitar." in later
