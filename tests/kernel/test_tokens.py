"""Counters and cutting: the largest prefix within a budget, against brute force."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.tokens import AdditiveCounter, approximate_counter, cut_text
from agentmem.types import ChatMessage, ToolCall, ToolSpec
from tests.counters import PairCounter, word_counter

COUNTERS: dict[str, Any] = {"approximate": approximate_counter(), "words": word_counter(), "pairs": PairCounter()}
texts = st.text(st.sampled_from(list("ab,. \n\t東é😀\u0301\u2028")), max_size=30)


def brute_force(text: str, max_tokens: int, counter: Any) -> int:
    if max_tokens <= 0:
        return 0
    if counter.count(text) <= max_tokens:
        return len(text)
    ends = [m.start() for m in re.finditer(r"\s+", text) if m.start() > 0]
    # Where the first word does not fit there is no border to end at: it is cut inside.
    fitting = [end for end in ends if counter.count(text[:end]) <= max_tokens and text[:end].strip()]
    fitting = fitting or [end for end in range(1, len(text)) if counter.count(text[:end]) <= max_tokens]
    return max(fitting, default=0)


@pytest.mark.parametrize("name", COUNTERS)
@given(text=texts, max_tokens=st.integers(-1, 20))
def test_the_largest_prefix(name: str, text: str, max_tokens: int) -> None:
    counter = COUNTERS[name]
    length = cut_text(text, max_tokens, counter)
    assert counter.count(text[:length]) <= max(0, max_tokens)
    expected = brute_force(text, max_tokens, counter)
    assert text[:length].rstrip() == text[:expected].rstrip()


def test_a_huge_text_is_not_counted_whole() -> None:
    counted: list[int] = []

    def count(text: str) -> int:
        counted.append(len(text))
        return len(text.split())

    length = cut_text("word " * 1_000_000, 10, AdditiveCounter(count, name="x", exact=True))
    assert length == 49
    assert sum(counted) < 20_000


@given(parts=st.lists(texts, max_size=4))
def test_the_approximate_counter_is_additive_over_lines(parts: list[str]) -> None:
    counter = approximate_counter()
    assert counter.count("\n".join(parts)) == sum(counter.count(p) for p in parts)


def test_counts() -> None:
    counter = approximate_counter()
    assert [counter.count(t) for t in ("", " ", "tea", "coffee", "don't", "東京", "\ud83d")] == [0, 0, 1, 2, 3, 2, 1]
    assert counter.count("x " * 30_000) == 30_000, "a text beyond the cache's limit"
    call = ToolCall("c", "search", '{"q": "tea"}')
    tool = ToolSpec("search", "Find.", {"type": "object"})
    messages = [ChatMessage("user", "tea"), ChatMessage("assistant", "", (call,)), ChatMessage("tool", "ok", (), "c")]
    plain = counter.count_prompt(messages)
    assert plain == sum(
        counter.count(t) for t in ("user:", "tea", "assistant:", "search", call.arguments, "tool:", "ok")
    )
    assert counter.count_prompt(messages, [tool]) > plain
    assert counter.count_prompt([]) == 0
