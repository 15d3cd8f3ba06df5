"""What a question asks for: the kind and form of answer, whether many, which of two."""

from __future__ import annotations

import pytest

from agentmem.answer_types import expected
from agentmem.asking import read_question
from agentmem.language import stem
from agentmem.polar import alternatives


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("When did I move?", "when"),
        ("Which year did he start?", "when"),
        ("How long ago was it?", "when"),
        ("How long did it take?", "duration"),
        ("How many weeks did it take?", "duration"),
        ("How many dogs do I have?", "number"),
        ("How old is Rex?", "number"),
        ("Who called?", "who"),
        ("What is the name of my dog?", "who"),
        ("Where is it?", "where"),
        ("In which city does she live?", "where"),
        ("Why did you go?", "why"),
        ("How did it go?", "how"),
        ("Do I like tea?", "yesno"),
        ("What did I buy?", "what"),
    ],
)
def test_the_kind_of_answer_asked_for(question: str, kind: str) -> None:
    assert read_question(question).kind == kind


@pytest.mark.parametrize(
    ("question", "kind", "form"),
    [
        ("Who supports Ann when she is sad?", "who", "who"),
        ("How did Ann feel when she won?", "how", "feel"),
        ("Did Ann smile when she won?", "yesno", "yesno"),
        ("Do you know where Ann lives?", "where", "where"),
        ("What does Ann do after work?", "what", "do"),
        ("What kind of music is it?", "what", "kind of"),
        ("Which book is it?", "what", "noun"),
    ],
)
def test_the_first_question_word_counts(question: str, kind: str, form: str) -> None:
    asked = read_question(question, {"Ann"})
    assert (asked.kind, asked.form) == (kind, form)


@pytest.mark.parametrize(
    ("question", "many"),
    [
        ("Which books has she read?", True),
        ("What has John cooked?", True),
        ("What did the posters say?", False),
        ("Which country did he visit?", False),
        ("What news did he share?", False),
    ],
)
def test_whether_many_are_asked_for(question: str, many: bool) -> None:
    assert read_question(question).many is many


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("Does he live close to a beach or the mountains?", ("a beach", "the mountains")),
        ("Is it tea or coffee?", ("tea", "coffee")),
        ("Did he go or not?", None),
        ("Does he live here?", None),
        ("or?", None),
    ],
)
def test_alternatives(text: str, pair: tuple[str, str] | None) -> None:
    assert alternatives(text) == pair


def test_common_words_of_the_kind_that_is_asked_for() -> None:
    how, words = expected("noun", frozenset({stem("instrument")}), "")
    assert how == "noun" and stem("cello") in words and stem("instrument") not in words
    assert expected("where", frozenset(), "")[0] == "form"
    assert expected("what", frozenset({"zzz"}), "zzz") == ("", frozenset())
