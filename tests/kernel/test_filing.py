"""Rules for plain statements: what is filed, and all that must not be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.filing import Filing, acknowledge, apply_to, file_statements, is_question
from agentmem.types import Block


def human(value: str = "", *, read_only: bool = False) -> list[Block]:
    return [Block("persona", "I am helpful.", 500), Block("human", value, 500, read_only)]


def lines(text: str, value: str = "") -> list[str]:
    """The contents filed into the block."""
    return [f.content for f in file_statements(text, human(value)) if f.op != "archive"]


def archived(text: str) -> list[str]:
    return [f.content for f in file_statements(text, human()) if f.op == "archive"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My name is Anna and I live in Lisbon.", ["Name: Anna", "Lives in: Lisbon"]),
        ("My name is Anna, nice to meet you", ["Name: Anna"]),
        ("my name is anna", ["Name: Anna"]),
        ("Hi! I'm called Jean-Luc Picard.", ["Name: Jean-Luc Picard"]),
        ("Hello, my name is Dr. Anna Smith.", ["Name: Dr. Anna Smith"]),
        ("I've just moved from Porto to Lisbon.", ["Lives in: Lisbon"]),
        ("Call me Tom", ["Goes by: Tom"]),
        ("My name is Robert but please call me Bob.", ["Name: Robert", "Goes by: Bob"]),
        ("I moved to Berlin last year", ["Lives in: Berlin"]),
        ("I've moved to New York because of work.", ["Lives in: New York"]),
        ("I'm based in São Paulo now", ["Lives in: São Paulo"]),
        ("I live in Lisbon, Portugal.", ["Lives in: Lisbon, Portugal"]),
        ("I live in Lisbon, Anna lives in Porto.", ["Lives in: Lisbon"]),
        ("i live in lisbon", ["Lives in: lisbon"]),
        ("I live in a small town near Porto.", ["Lives in: a small town near Porto"]),
        ("I work as a nurse at Charité.", ["Works as: nurse", "Works at: Charité"]),
        ("I live in Rome and work for Siemens", ["Lives in: Rome", "Works at: Siemens"]),
        ("My job is a teacher", ["Works as: teacher"]),
        ("I was born on 7 May 1990 in Porto", ["Birthday: 7 May 1990"]),
        ("my birthday is May 7th", ["Birthday: May 7th"]),
        ("I'm 34 years old", ["Age: 34"]),
        ("my dog's name is Rex and my sister is called Maria Lopez.", ["Dog: Rex", "Sister: Maria Lopez"]),
        ("my wife's name is Ana but I call her Nini", ["Wife: Ana"]),
        ("I have a cat named Miso", ["Cat: Miso"]),
        ("I'm allergic to peanuts and shellfish, so be careful", ["Allergic to: peanuts and shellfish"]),
        ("By the way, I'm vegan", ["Diet: vegan"]),
        ("I'm a strict vegetarian and I live in Rome.", ["Diet: vegetarian", "Lives in: Rome"]),
        (
            "I'm 34 years old, I'm allergic to nuts, and my boss is called Tom.",
            ["Age: 34", "Allergic to: nuts", "Boss: Tom"],
        ),
        ('My favourite book is "Dune".', ["Favourite book: Dune"]),
        ("my favorite color's teal", ["Favourite color: teal"]),
        ("I love hiking. I hate mushrooms!", ["Likes: hiking", "Dislikes: mushrooms"]),
        ("I don't like tea", ["Dislikes: tea"]),
        ("I prefer trains to planes.", ["Prefers: trains to planes"]),
        (
            "my email is anna@x.org and my phone number is +351 912 345 678.",
            ["Email: anna@x.org", "Phone: +351 912 345 678"],
        ),
        ("my address is 12 Rua Augusta, Lisbon.", ["Address: 12 Rua Augusta, Lisbon"]),
    ],
)
def test_plain_statements(text: str, expected: list[str]) -> None:
    assert lines(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "What is my name?",
        "what is my name",
        "Is my name Anna",
        "She said my name is Eve",
        "Tom told me that I live in Rome, and my dog is called Rex",
        'He wrote: "My name is Bob."',
        "“I live in Rome” is a sentence.",
        "> my name is Bob",
        "```\nmy name is Bob\nI live in Rome\n```",
        "`my name is Bob`",
        "If my name is Anna, say hi",
        "When I live in Rome, I eat well",
        "Suppose I live in Rome",
        "Imagine I'm vegan",
        "I would like tea",
        "I'd love pizza",
        "I could live in Rome",
        "I might have moved to Rome",
        "I wish my name was Max",
        "My name is not Anna",
        "My name isn't Anna",
        "I'm no longer vegetarian",
        "I'm not vegan",
        "I no longer live in Porto",
        "I don't live in Porto",
        "I never lived in Porto",
        "I used to live in Porto",
        "My friend lives in Porto",
        "Her name is Anna",
        "You live in Lisbon",
        "I live in fear",
        "I moved to the next chapter",
        "I work at night",
        "I work for a living",
        "My job is killing me",
        "call me later",
        "call me crazy",
        "I like it",
        "I like the way you talk",
        "I love you",
        "I hate that",
        "I love how it all came together",
        "I'm vegetarian-curious",
        "I'm a vegan cook",
        "I'm a vegetarian restaurant owner",
        "I was born in a small village",
        "I'm 34",
        "Translate: my name is Bob",
        "In the story my name is Bob",
        "My favourite thing is that it works",
        "I live in Lisbon" + " and it is really very nice" * 8,
        "",
    ],
)
def test_nothing_to_file(text: str) -> None:
    assert file_statements(text, human()) == []


@pytest.mark.parametrize(
    ("text", "value", "old", "new"),
    [
        ("I live in Lisbon", "Name: Anna\nLives in: Porto", "Lives in: Porto", "Lives in: Lisbon"),
        ("my favorite color's teal", "Favourite colour: blue", "Favourite colour: blue", "Favourite color: teal"),
        ("I no longer live in Porto.", "Lives in: Porto", "Lives in: Porto", "No longer lives in: Porto"),
        ("I'm no longer vegetarian", "Diet: vegetarian", "Diet: vegetarian", "No longer vegetarian"),
        ("I'm not vegetarian, I'm vegan", "Diet: vegetarian", "Diet: vegetarian", "Diet: vegan"),
        ("I live in Porto", "No longer lives in: Porto", "No longer lives in: Porto", "Lives in: Porto"),
        ("I don't like tea anymore", "Likes: tea anymore", "Likes: tea anymore", "Dislikes: tea anymore"),
        ("I hate tea", "Likes: Tea", "Likes: Tea", "Dislikes: tea"),
        ("I hate tea", "Likes: tea with milk\nLikes: tea", "\nLikes: tea", "\nDislikes: tea"),
    ],
)
def test_another_value_replaces(text: str, value: str, old: str, new: str) -> None:
    assert file_statements(text, human(value)) == [Filing("replace", new, "human", old)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("My name is Anna.", "Name: Anna"),
        ("I live in LISBON", "- Lives in: Lisbon"),
        ("I like tea", "Likes: Tea"),
        ("I'm vegan", "Diet: vegan"),
        ("Remember that my gate code is 4411.", "My gate code is 4411"),
    ],
)
def test_what_is_there_already_is_not_filed(text: str, value: str) -> None:
    assert file_statements(text, human(value)) == []


def test_later_statements_win_and_an_end_does_not_take_the_new_home() -> None:
    assert lines("I live in Porto. I moved to Lisbon.") == ["Lives in: Lisbon"]
    assert lines("I live in Lisbon. I no longer live in Porto.", "Lives in: Porto") == ["Lives in: Lisbon"]
    assert lines("I like tea. I hate tea.") == ["Dislikes: tea"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Remember that my gate code is 4411.", ["my gate code is 4411"]),
        ("Please remember my sister arrives on Friday!", ["my sister arrives on Friday"]),
        ("don't forget that I owe Tom 20 euros", ["I owe Tom 20 euros"]),
        ("Note that the meeting moved to 5 pm", ["the meeting moved to 5 pm"]),
        ("Please remember: gate code 4411", ["gate code 4411"]),
        ("Remember that if it rains I take the bus", ["if it rains I take the bus"]),
        ("Remember that I live in Lisbon. Remember that I live in Lisbon.", ["I live in Lisbon"]),
        ("Remember when we met?", []),
        ("Do you remember that night?", []),
        ("I remember that my mother sang.", []),
        ("Remember to buy milk", []),
        ("Remember me", []),
        ("If I ask, remember that I am out", []),
        ('She said: "remember that I am out"', []),
    ],
)
def test_remember(text: str, expected: list[str]) -> None:
    assert archived(text) == expected
    assert all(f.tags == ("remembered",) for f in file_statements(text, human()) if f.op == "archive")


def test_a_line_that_stands_twice_is_replaced_twice() -> None:
    value = "Lives in: Porto\nLives in: Porto"
    found = file_statements("I no longer live in Porto", human(value))
    for filing in found:
        value = apply_to(value, filing)
    assert len(found) == 2
    assert value == "No longer lives in: Porto\nNo longer lives in: Porto"


def test_a_read_only_block_is_left_alone() -> None:
    found = file_statements("My name is Anna. Remember that I owe Tom 20 euros.", human(read_only=True))
    assert [f.op for f in found] == ["archive"]


def test_without_blocks_lines_are_appended() -> None:
    assert file_statements("My name is Anna.", ()) == [Filing("append", "Name: Anna", "human")]


def test_acknowledge() -> None:
    found = file_statements(
        "I live in Lisbon. My name is Anna. Remember that I owe Tom 20 euros.", human("Lives in: Porto")
    )
    assert acknowledge(found) == (
        "Noted in core memory: Lives in: Lisbon (was: Lives in: Porto); Name: Anna. "
        "Noted in archival memory: I owe Tom 20 euros."
    )
    assert acknowledge([]) == ""


def test_is_question_is_shared() -> None:
    assert is_question("where do I live") and not is_question("I live here.")


_CLAUSES = st.sampled_from(
    """My name is Anna|I live in Porto|I moved to Lisbon|I no longer live in Porto|I like tea|I hate tea|I'm vegan
    I like tea with milk|I'm no longer vegan|I'm vegetarian|my dog is called Rex|my dog's name is Max|call me Bob|but
    I work as a nurse at Charité|I'm 34 years old|remember that I am late|my favorite color is red|and|if|is it so?
    my favourite colour is blue|"my name is Eve"|I don't like tea|my address is 1 Main\u2028Street|My name is İpek
    my email is a@b.co""".replace("\n    ", "|").split("|")
)
_SIGNS = st.sampled_from([". ", ", and ", " and ", "; ", "\n", "! ", " but ", ", "])
_TEXTS = st.one_of(
    st.text(max_size=120),
    st.lists(st.tuples(_CLAUSES, _SIGNS), max_size=6).map(lambda ps: "".join(c + s for c, s in ps)),
)
_LINES = (
    "Name: Ann|Lives in: Porto|- Likes: tea|Likes: tea|Likes: tea with milk|Diet: vegan|Dog: Rex|No longer vegan|x|"
)
_VALUES = st.lists(st.sampled_from([*_LINES.split("|"), "Favourite colour: red"]), max_size=6).map("\n".join)


@given(_TEXTS, _VALUES)
def test_filing_twice_is_filing_once(text: str, value: str) -> None:
    first = file_statements(text, human(value))
    assert first == file_statements(text, human(value))
    for filing in first:
        assert filing.content.strip()
        if filing.op == "replace":
            assert value.count(filing.old_content) == 1, "core memory takes only what stands there once"
        if filing.op != "archive":
            value = apply_to(value, filing)
    assert [f for f in file_statements(text, human(value)) if f.op != "archive"] == []
