"""From a package's words back to the text: known cases, and properties on any text."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.compressors.alignment import aligned, normal, over_chunks
from tests.compressors.laws import SENTENCES, texts


def found(words: list[str], text: str) -> list[str | None]:
    return [None if s is None else text[slice(*s)] for s in aligned(words, text)]


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        (["Anna", "is", "here", "."], "Anna is here.", ["Anna", "is", "here", "."]),
        (["anna", "ete"], "ANNA, Été", ["ANNA", "Été"]),
        (["1⁄2", "fi", "A"], "½ ﬁ Ａ", ["½", "ﬁ", "Ａ"]),
        (["the", "the"], "the cat, the dog", ["the", "the"]),
        (["a", "", "b"], "a b", ["a", None, "b"]),
        (["a", "[UNK]", "b"], "a 😀 b", ["a", None, "b"]),
        (["e\u0301t"], "e\u0301t", ["e\u0301t"]),
        (["我", "不"], "我昨天不再", ["我", "不"]),
        (["x"], "", [None]),
    ],
)
def test_known_cases(words: list[str], text: str, expected: list[str | None]) -> None:
    assert found(words, text) == expected


def test_a_word_that_is_not_there_does_not_lose_the_rest() -> None:
    text = "one two three four five six seven eight nine ten " * 3
    words = text.split()
    assert found(["zzz", *words[:9], "qqqq", *words[9:]], text) == [None, *words[:9], None, *words[9:]]


def test_a_long_stretch_without_words_is_passed() -> None:
    text = "before " + "😀 " * 3000 + "after all that there was quiet again in the house, and everybody slept"
    words = ["before", *text.split("😀 ")[-1].split()]
    got = found(words, text)
    assert got[0] == "before" and got[-3:] == ["and", "everybody", "slept"]


def test_a_short_word_is_not_found_far_away() -> None:
    text = "first " + "x" * 200 + " a last"
    assert found(["first", "a"], text) == ["first", None]


@given(texts())
def test_all_words_of_a_text_are_found_where_they_stand(text: str) -> None:
    words = text.split()
    spans = aligned(words, text)
    for word, span in zip(words, spans, strict=True):
        assert (span is None) == (not normal(word)) and (span is None or normal(text[slice(*span)]) == normal(word))
    kept = [s for s in spans if s is not None]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(kept)) and all(s < e for s, e in kept)


@given(texts(), st.lists(st.one_of(st.sampled_from(SENTENCES), st.text(max_size=8)), max_size=20))
def test_spans_are_ascending_and_apart_for_any_words(text: str, words: list[str]) -> None:
    kept = [s for s in aligned(words, text) if s is not None]
    assert all(0 <= s < e <= len(text) for s, e in kept)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(kept))


def test_the_mean_over_chunks() -> None:
    chunks = [(0, 4), (5, 7), (8, 10)]
    got = over_chunks(chunks, [(0, 1), (1, 4), None, (8, 9)], [0.0, 1.0, 9.0, 0.5], 10)
    assert got[0] == pytest.approx(0.75) and np.isnan(got[1]) and got[2] == pytest.approx(0.5)
