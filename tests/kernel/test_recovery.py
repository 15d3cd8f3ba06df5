"""Recovery of what a compressed text left out: known cases, and that nothing is made up."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.compression import shown
from agentmem.language import words
from agentmem.recovery import MAX_GAP, recovered

ORIGINAL = (
    "Well, Anna is no longer a vegetarian since May 2023, to be honest. She moved from Porto to Lisbon, and her new "
    "flat is at Rua Augusta 12. The invoice INV-2041 over 310.50 euros was not paid."
)


@pytest.mark.parametrize(
    ("compressed", "answer", "expected"),
    [
        ("Anna vegetarian since 2023", "Anna vegetarian since 2023.", "Anna is no longer a vegetarian since May 2023."),
        ("moved Porto Lisbon", "She moved Porto Lisbon [m1].", "She moved from Porto to Lisbon [m1]."),
        ("flat Rua Augusta 12.", "Flat Rua Augusta 12!", "Flat is at Rua Augusta 12!"),
        ("Anna vegetarian", "Yes. ANNA VEGETARIAN, I think.", "Yes. Anna is no longer a vegetarian, I think."),
        ("invoice INV-2041 not paid.", "Invoice INV-2041 not paid", "Invoice INV-2041 over 310.50 euros was not paid"),
    ],
)  # fmt: skip
def test_what_was_left_out_comes_back(compressed: str, answer: str, expected: str) -> None:
    assert recovered(answer, [(ORIGINAL, compressed)]) == expected


@pytest.mark.parametrize(
    ("compressed", "answer"),
    [
        ("Anna vegetarian", "Anna likes fish."),
        ("Anna vegetarian", "vegetarian Anna"),
        ("Anna moved Lisbon", "She moved from Porto to Lisbon."),
        (ORIGINAL, "Anna vegetarian"),
        ("", "Anna vegetarian"),
        ("Anna vegetarian", ""),
        ("Anna euros", "Anna euros"),  # too far apart
        ("Anna vegetarian", "I saw Anna. Vegetarian food was served."),
        ("Anna vegetarian", "By Anna [vegetarian]"),
    ],
)
def test_what_stays_as_it_is(compressed: str, answer: str) -> None:
    assert recovered(answer, [(ORIGINAL, compressed)]) == answer
    assert recovered(answer, []) == answer


def test_what_some_original_says_stays() -> None:
    items = [(ORIGINAL, "Anna is vegetarian"), ("Ben said that Anna is vegetarian, but he errs.", "Anna is vegetarian")]
    assert recovered("Anna is vegetarian", items) == "Anna is vegetarian"


def test_the_shortest_part_is_taken() -> None:
    text = "The cat saw a big dog. The dog ran, and the cat sat on the old mat."
    assert recovered("cat mat", [(text, "cat mat")]) == "cat sat on the old mat"
    assert recovered("the dog", [(text, "the dog mat")]) == "the dog"


def test_the_nearer_of_two_originals() -> None:
    items = [("Anna really and truly likes green tea.", "Anna tea"), ("Anna drinks tea.", "Anna tea")]
    assert recovered("Anna tea", items) == "Anna drinks tea"


def test_other_scripts() -> None:
    assert recovered("我吃素", [("我昨天不再吃素了。", "我吃素")]) == "我昨天不再吃素"
    arabic = "لم أعد نباتيًا منذ مايو"
    assert recovered("أعد مايو", [(arabic, "أعد مايو")]) == "أعد نباتيًا منذ مايو"


some_words = st.lists(st.sampled_from(("anna", "ben", "is", "no", "longer", "vegetarian", "the", "tea")), max_size=14)


@given(some_words, st.lists(st.booleans(), min_size=14, max_size=14), some_words, some_words)
def test_nothing_is_made_up(original: list[str], kept: list[bool], before: list[str], after: list[str]) -> None:
    left = [w for w, k in zip(original, kept, strict=False) if k]
    text = " ".join(original)
    answer = " ".join(before + left + after)
    found = recovered(answer, [(text, " ".join(left))])
    assert set(words(found)) <= set(words(answer)) | set(original)
    asked = iter(words(found))
    assert all(w in asked for w in words(answer)), "a word of the answer is gone"
    assert recovered(text, [(text, " ".join(left))]) == text
    if original and not before and not after and len(left) > 1:
        assert len(words(found)) <= len(left) + (len(left) - 1) * MAX_GAP


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_taken(answer: str, original: str, compressed: str) -> None:
    found = recovered(answer, [(original, compressed)])
    assert isinstance(found, str)
    assert recovered(answer, [(original, original)]) == answer


@given(st.lists(st.integers(0, 40), min_size=2, max_size=8, unique=True))
def test_a_text_shown_in_part_comes_back_whole_between_its_ends(places: list[int]) -> None:
    """Words that occur once, cut out by spans: the answer gets all between its first and last word back."""
    original = " ".join(f"w{n}x" for n in range(41))
    spans = [(m, m + len(f"w{n}x")) for n in sorted(places) for m in [original.index(f"w{n}x")]]
    ordered = sorted(places)
    near = all(b - a <= MAX_GAP + 1 for a, b in itertools.pairwise(ordered))
    answer = shown(original, spans)
    found = recovered(answer, [(original, answer)])
    assert found == (original[spans[0][0] : spans[-1][1]] if near else answer)
