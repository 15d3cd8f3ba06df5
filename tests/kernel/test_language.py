"""Sentences, words, stems and questions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.language import STOP_WORDS, content_words, is_question, sentences, stem, word_spans, words


def split(text: str) -> list[str]:
    return [text[a:b] for a, b in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith paid 3.5 euros. Then he left.", ["Dr. Smith paid 3.5 euros.", "Then he left."]),
        ("J. R. R. Tolkien wrote it. I read it.", ["J. R. R. Tolkien wrote it.", "I read it."]),
        ("Than I. He left.", ["Than I.", "He left."]),
        ("We met at 5 p.m. on Friday.", ["We met at 5 p.m. on Friday."]),
        ("Bring tea, e.g. Assam. Thanks.", ["Bring tea, e.g. Assam.", "Thanks."]),
        ("I waited... and waited. Then... Nothing.", ["I waited... and waited.", "Then...", "Nothing."]),
        ('"Wow!" she said. "Really?" He nodded.', ['"Wow!" she said.', '"Really?"', "He nodded."]),
        ("See example.com for v1.2.3 now. Bye", ["See example.com for v1.2.3 now.", "Bye"]),
        ("Great! 😀 Next one", ["Great! 😀", "Next one"]),
        ("I love it 😀 Next one", ["I love it 😀", "Next one"]),
        ("i live in rome. i work at home.", ["i live in rome.", "i work at home."]),
        ("你好。我叫安娜！好吗？", ["你好。", "我叫安娜！", "好吗？"]),
        ("1. First\n2. Second", ["1. First", "2. Second"]),
        ("A line that was\nwrapped goes on", ["A line that was\nwrapped goes on"]),
        ("A title\nThe text", ["A title", "The text"]),
        ("no punctuation at all", ["no punctuation at all"]),
        ("She went home.Then we ate.", ["She went home.", "Then we ate."]),
        ("", []),
        (" \n\t ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert split(text) == expected


@given(st.text())
def test_sentences_cover_all_that_is_not_space(text: str) -> None:
    spans = sentences(text)
    inside = [i for a, b in spans for i in range(a, b)]
    assert inside == sorted(set(inside))
    assert {i for i, c in enumerate(text) if not c.isspace()} <= set(inside)
    assert all(not text[a].isspace() and not text[b - 1].isspace() for a, b in spans)


@given(st.text())
def test_words_are_what_stands_at_their_spans(text: str) -> None:
    assert words(text) == [text[a:b] for a, b in word_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop: it's 3.5 km, isn't it?", ["Don't", "stop", "it's", "3.5", "km", "isn't", "it"]),
        ("co-op 30am 10:30", ["co", "op", "30am", "10:30"]),
        ("我叫Anna", ["我", "叫", "Anna"]),
        ("...", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    "forms",
    [
        "paint painting painted paints",
        "hike hikes hiked hiking",
        "care cares cared caring",
        "live lives lived living",
        "plan plans planned planning",
        "camp camping camped",
        "run running ran runs",
        "go went gone goes",
        "buy bought buys buying",
        "family families",
        "child children kids",
        "adoption adopt adopted",
        "agency agencies",
        "friend friends",
        "city cities",
        "volunteer volunteered volunteering",
        "favourite favorite",
    ],
)
def test_forms_of_a_word_have_one_stem(forms: str) -> None:
    assert len({stem(w) for w in forms.split()}) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("car", "care"), ("university", "universe"), ("bus", "bu"), ("was", "wash")]
)
def test_different_words_keep_different_stems(one: str, other: str) -> None:
    assert stem(one) != stem(other)


@given(st.text())
def test_content_words_hold_no_stop_word_as_written(text: str) -> None:
    kept = content_words(text)
    assert len(kept) <= len(words(text))
    assert all(w == w.lower() for w in kept)
    assert content_words(" ".join(sorted(STOP_WORDS))) == []


def test_content_words_leave_out_stop_words_and_possessives() -> None:
    assert content_words("When did Caroline's group meet? I don't know.") == ["carolin", "group", "meet", "know"]
    assert content_words("What is it that we do") == []


@pytest.mark.parametrize(
    "text",
    [
        "What is my name?",
        "what is my name",
        "Where do I live",
        "how many dogs do I have",
        "do you know where I live",
        "Is Anna in Lisbon",
        "tell me what my name is",
        "Remind me where I work.",
        "So, when is the meeting",
        "can you help me",
        'He asked "why?"',
        "你好吗？",
        "You live in Rome, right?",
    ],
)
def test_questions(text: str) -> None:
    assert is_question(text)


@pytest.mark.parametrize(
    "text",
    [
        "When I was young, I lived in Rome.",
        "What I like is tea.",
        "What a day!",
        "Have a nice day",
        "Will Smith is an actor.",
        "I know where I live.",
        "My name is Anna.",
        "Do it now.",
        "",
        "?? I did it.",
    ],
)
def test_no_questions(text: str) -> None:
    assert not is_question(text)


@given(st.text())
def test_is_question_is_deterministic(text: str) -> None:
    assert is_question(text) is is_question(text)
