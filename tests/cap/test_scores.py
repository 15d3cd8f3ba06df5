"""The scorers against values worked out by hand, and LoCoMo's F1 against the benchmarks' own."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentmem.cap_scores import (
    best_f1,
    declined,
    evidence_share,
    f1_tokens,
    gold_f1,
    has_all,
    is_stale,
    needed,
    says,
    token_f1,
    without_citations,
)
from benchmarks import locomo_pages

WORDS = st.sampled_from(
    ("the", "a", "an", "and,", "And", "The.", "paintings", "painted", "paint", "running", "run.", "7", "May,", "2023",
     "it's", "dog's", "dogs;", "cat;", "U.S.", "1,000", "—", "’", "café", "猫", "well-known")
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=8).map(" ".join))


@given(TEXTS, TEXTS, st.sampled_from([1, 2, 3, 4]))
@example("dogs, a cat", "dog, cat, bird", 1)
@example("red", "red; blue", 3)
@example("", "", 1)
def test_the_benchmarks_scorer_is_an_oracle(said: str, gold: str, category: int) -> None:
    assert f1_tokens(said) == locomo_pages.f1_tokens(said)
    assert token_f1(said, gold) == locomo_pages.token_f1(said, gold)
    assert gold_f1(said, gold, str(category)) == locomo_pages.gold_f1(said, gold, category)


@pytest.mark.parametrize(
    ("said", "gold", "category", "f1"),
    [
        ("Luna", "Luna", "", 1.0),
        ("The dogs!", "a dog", "", 1.0),  # articles and punctuation out, stems
        ("her dog Luna", "Luna", "", 0.5),  # 1 of 3 said, 1 of 1 wanted
        ("7 May 2023", "on 7 May", "", 2 * 2 / 6),
        ("1,000", "1000", "", 1.0),
        ("painting, swimming", "pottery, swimming", "1", 0.5),  # part by part: 0 and 1
        ("painting swimming", "pottery, swimming", "1", (0.0 + 2 / 3) / 2),
        ("yes", "Likely yes; she said so", "3", 2 / 3),
        ("yes", "Likely yes; she said so", "4", 2 / 6),
        ("", "Luna", "", 0.0),
        ("the", "the", "", 0.0),
    ],
)
def test_f1_by_hand(said: str, gold: str, category: str, f1: float) -> None:
    assert gold_f1(said, gold, category) == pytest.approx(f1)


def test_the_nearest_of_several_answers_counts() -> None:
    assert best_f1("7 hives", ("seven", "7 hives", "7 beehives")) == 1.0
    assert best_f1("anything", ()) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "I don't know.", "I don’t know that.", "", "  ", "Memory does not hold the answer.",
        "There is no mention of it.", "That was never mentioned.", "I cannot determine this from memory.",
        "No information available.",
        "Nothing that is stored answers this.", "It isn't specified.",
        "I do not have any information about her.", "Unknown", "The memory contains no record of a cat.",
    ],
)  # fmt: skip
def test_what_declines(text: str) -> None:
    assert declined(text)


@pytest.mark.parametrize(
    "text",
    [
        "Luna", "She knows Anna.", "No, she moved to Lund.", "Not since May.", "She has nowhere to go but Lund.",
        "He does not eat meat.", "In Lund. " + "x" * 200 + " I don't know more.",
    ],
)  # fmt: skip
def test_what_answers(text: str) -> None:
    assert not declined(text)


def test_citations_are_no_part_of_an_answer() -> None:
    assert without_citations("Luna [D1:2]. And Oscar [m12, p3; D4:5]!") == "Luna. And Oscar!"
    assert without_citations("she [laughs out loud] said so") == "she [laughs out loud] said so"


def test_stale_is_what_was_true_and_not_what_is() -> None:
    assert is_stale("She lives in Lisbon", ("Lisbon",), ("Porto",))
    assert not is_stale("She moved from Lisbon to Porto", ("Lisbon",), ("Porto",))
    assert not is_stale("I don't know", ("Lisbon",), ("Porto",))
    assert not is_stale("Lisbon", (), ("Porto",))
    assert says("the 12th of October 2024", "October 2024") and not says("October", "")


def test_what_a_prompt_must_have() -> None:
    gold = "Melanie I painted a sunrise over the lake in 2022."
    assert needed(("2022",), gold) == {"2022"}
    assert needed(("a blue sunrise",), gold) == set(f1_tokens("sunrise"))
    assert needed(("seven", "the lake"), gold) == {"lake"}, "the answer that stands there counts"
    assert needed((), gold) == needed(("Paris",), gold) == frozenset()
    assert has_all({"2022"}, "it was 2022!") and not has_all({"2022", "lake"}, "it was 2022!")


def test_evidence_share_counts_each_key_once() -> None:
    assert evidence_share(["a", "b", "b"], ["b", "c"]) == 0.5
    assert evidence_share(["a"], ["a"]) == 1.0
