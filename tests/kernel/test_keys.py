"""The keys of a record: chunks that cover its text, and the hash that names an embedding."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.keys import (
    CHUNK_BYTES,
    CONTEXT_PART,
    MAX_PARTS,
    MAX_SENTENCES,
    SENTENCE_PART,
    chunk_spans,
    follows,
    key_hash,
    message_keys,
    passage_keys,
)  # fmt: skip
from agentmem.types import Message, Passage

NOW = datetime(2023, 5, 8, tzinfo=UTC)
parts = st.sampled_from(
    [
        "Tea is good. ",
        "東京は雨です。",
        "x" * 700,
        "\n\n",
        " ",
        "😀" * 300,
        "Mr. Smith said no! ",
        "word " * 90,
        "\ud83d",
    ]
)
texts = st.lists(parts, max_size=25).map("".join)


@given(text=texts)
def test_spans_cover_the_text_in_order_within_bounds(text: str) -> None:
    spans = chunk_spans(text)
    assert spans[0][0] == 0 and len(spans) <= MAX_PARTS
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans)), "no gap, no overlap"
    if len(spans) < MAX_PARTS:
        assert spans[-1][1] == len(text)
    for start, end in spans:
        assert start < end or text == ""
        assert len(text[start:end].encode("utf-8", "replace")) <= CHUNK_BYTES + 100


@pytest.mark.parametrize("text", ["x" * 1_000_000, "word " * 200_000, "A sentence. " * 80_000, "東" * 400_000])
def test_a_huge_text_has_a_bounded_number_of_keys(text: str) -> None:
    spans = chunk_spans(text)
    assert len(spans) == MAX_PARTS and spans[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))


def test_chunks_end_with_sentences_where_they_can() -> None:
    text = "This sentence is of some forty characters. " * 60
    spans = chunk_spans(text)
    assert len(spans) > 2
    assert all(text[start:end].rstrip().endswith(".") for start, end in spans)


def test_keys_say_who_speaks() -> None:
    m = Message(1, "user", "I like tea.", NOW, NOW, name="Ann")
    assert message_keys(m) == [(0, "Ann: I like tea.")]
    long = Message(1, "user", "I like tea. " * 300, NOW, NOW, name="Ann")
    keys = message_keys(long)
    assert len(keys) > 1 and all(k.startswith("Ann: I like") for _, k in keys)
    assert [part for part, _ in keys] == list(range(len(keys)))
    assert "".join(k.removeprefix("Ann: ") for _, k in keys) == long.content
    assert passage_keys(Passage(1, "I like tea.", NOW, NOW)) == [(0, "I like tea.")]


def test_what_is_said_in_several_sentences_is_found_by_each_that_tells_something() -> None:
    text = "Thanks, Mel! I went to the pottery class yesterday. We made a clay bowl together."
    telling = ["I went to the pottery class yesterday.", "We made a clay bowl together."]
    keys = message_keys(Message(1, "user", text, NOW, NOW, name="Ann"))
    assert keys == [(0, f"Ann: {text}"), *((SENTENCE_PART + n, f"Ann: {s}") for n, s in enumerate(telling))]
    assert passage_keys(Passage(1, text, NOW, NOW)) == [
        (0, text),
        *((SENTENCE_PART + n, s) for n, s in enumerate(telling)),
    ]
    assert message_keys(Message(1, "assistant", text, NOW, NOW)) == [(0, text)], "a model's words are not taken apart"
    many = message_keys(Message(1, "user", "Red birds sing. " * 60, NOW, NOW))
    assert len(many) == 1 + MAX_SENTENCES, "one chunk still, and so many sentences at most"


def test_people_who_talk_are_found_by_what_went_before() -> None:
    first = Message(1, "user", "x" * 500 + " Where did you go?", NOW, NOW, name="Tom", session="1")
    second = Message(2, "user", "To Lisbon.", NOW, NOW, name="Ann", session="1")
    assert message_keys(second, first)[-1] == (CONTEXT_PART, f"Tom: {first.content[-400:]}\nAnn: To Lisbon.")
    assert len(message_keys(second)) == 1
    for other in (
        replace(first, session="2"), replace(first, role="assistant"), replace(first, id=7),
        replace(first, derived=True), replace(first, content=" "),
    ):  # fmt: skip
        assert message_keys(second, other) == message_keys(second) and not follows(second, other)


@given(one=st.text(max_size=9), other=st.text(max_size=9))
def test_hashes(one: str, other: str) -> None:
    assert len(key_hash(one)) == 16
    assert (key_hash(one) == key_hash(other)) == (one == other)
