"""The extractive reader: what it quotes, when it abstains, what it never does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem import reading_weights
from agentmem.confidence import CONFIDENCE, NAMED, confidence_of
from agentmem.reading import THRESHOLD, read
from agentmem.types import Answer, Block, Hit, PageItem, Tier

NOW = datetime(2024, 5, 2)


def item(
    number: int,
    text: str,
    at: str = "2024-03-02",
    *,
    role: str | None = "user",
    name: str | None = None,
    key: str | None = None,
    score: float = 0.5,
    cosine: float | None = None,
    tier: Tier = Tier.RECALL,
) -> PageItem:
    ref = f"m{number}" if tier is Tier.RECALL else f"p{number}"
    parts = None if cosine is None else {"cosine": cosine}
    hit = Hit(ref, tier, text, score, datetime.fromisoformat(at), key, name, role, parts=parts)
    return PageItem(hit, 0, len(text))


MINE = [
    item(1, "My name is Anna and I live in Porto. I work as a nurse at the city hospital.", "2024-01-05"),
    item(9, "I moved to Lisbon last week! My sister Clara helped me carry the boxes.", "2024-03-02"),
    item(15, "My dog Rex is 3 years old and he hates cats.", "2024-02-10"),
    item(16, "Rex sounds lovely! Would you like some tips on training?", "2024-02-10", role="assistant"),
    item(30, "I'm allergic to peanuts, by the way.", "2024-04-01"),
    item(40, "I bought a red bicycle for 350 euros yesterday because the bus is always late.", "2024-04-03"),
    item(41, "I recommend the Tagus river route for cycling.", "2024-04-03", role="assistant"),
    item(50, 'My favourite book is "Dune", I read it twice.', "2024-05-01"),
]


def ask(question: str, items: Sequence[PageItem] = MINE, blocks: Sequence[Block] = ()) -> Answer:
    return read(question, items, asked_at=NOW, blocks=blocks)


@pytest.mark.parametrize(
    ("question", "span", "cited"),
    [
        ("Where do I live?", "Lisbon", "m9"),
        ("Where did I live before?", "Porto", "m1"),
        ("What is my name?", "Anna", "m1"),
        ("Where do I work?", "city hospital", "m1"),
        ("Who helped me move?", "Clara", "m9"),
        ("What is my sister's name?", "Clara", "m9"),
        ("How old is my dog?", "3 years", "m15"),
        ("What's my dog called?", "Rex", "m15"),
        ("What am I allergic to?", "peanuts", "m30"),
        ("How much did my bicycle cost?", "350 euros", "m40"),
        ("When did I buy a bicycle?", "2 April 2024", "m40"),
        ("When did I move to Lisbon?", "the week before 2 March 2024", "m9"),
        ("Why did I buy a bicycle?", "the bus is always late", "m40"),
        ("What is my favourite book?", "Dune", "m50"),
        ("How many times did I read Dune?", "twice", "m50"),
    ],
)
def test_answers_of_one_users_memory(question: str, span: str, cited: str) -> None:
    answer = ask(question)
    assert not answer.abstained
    assert answer.span.removesuffix(" old").removeprefix("the ").removeprefix("sister ") == span.removeprefix("the ")
    assert [c.id for c in answer.citations] == [cited]


@pytest.mark.parametrize(
    "question",
    [
        "What is my blood type?",
        "What colour is my car?",
        "When did I visit Japan?",
        "What is my brother's name?",
        "Where does Clara work?",
        "?",
        "",
    ],
)
def test_abstains_on_what_was_never_said(question: str) -> None:
    answer = ask(question)
    assert answer.abstained
    assert answer.span == "" and answer.citations == ()
    assert answer.confidence < THRESHOLD
    assert "Nothing that is stored answers this; the nearest is [m" in answer.text


def test_no_items() -> None:
    assert ask("Where do I live?", []) == Answer("Nothing that is stored answers this.", "", 0.0, True)
    assert ask("Where do I live?", [item(1, "  "), item(2, "...")]).abstained


def test_the_sentence_said_to_the_user() -> None:
    turn = item(
        3,
        "I went to a LGBTQ support group yesterday and it was so powerful.",
        "2023-05-08",
        name="Caroline",
        key="D1:3",
    )
    answer = ask("When did Caroline go to the LGBTQ support group?", [turn])
    assert answer.span == "7 May 2023"
    assert answer.text == (
        'Caroline said on 8 May 2023: "I went to a LGBTQ support group yesterday and it was so powerful." [D1:3]'
        " - that is 7 May 2023."
    )
    assert answer.citations[0].key == "D1:3" and answer.citations[0].text == turn.text


def test_a_weekday_is_told_as_a_day_too() -> None:
    turn = item(3, "Last Friday I joined the choir.", "2023-07-15", name="Mel")
    answer = ask("When did Mel join the choir?", [turn])
    assert answer.span == "the Friday before 15 July 2023"
    assert answer.text.endswith("- that is the Friday before 15 July 2023 (14 July 2023).")


def test_a_when_without_a_date_is_the_day_it_was_said() -> None:
    answer = ask("When did Mel join the choir?", [item(3, "I just joined the choir!", "2023-07-15", name="Mel")])
    assert answer.span == "15 July 2023"
    assert "that is" not in answer.text


def test_the_month_and_year_that_are_asked_for() -> None:
    turn = item(3, "I got my dog ten years ago.", "2023-07-15", name="Mel")
    assert ask("How long ago did Mel get her dog?", [turn]).span == "ten years ago"
    assert ask("In which year did Mel get her dog?", [turn]).span == "2013"


def test_the_other_persons_fact_is_not_this_ones() -> None:
    turns = [
        item(1, "I went horseback riding with my dad when I was a kid.", name="Caroline", score=0.9),
        item(7, "I painted a sunrise for my living room.", name="Melanie", score=0.5),
    ]
    assert not ask("Who did Caroline go horseback riding with?", turns).abstained
    assert ask("Who did Melanie go horseback riding with?", turns).abstained


def test_what_the_assistant_said() -> None:
    answer = ask("What route did you recommend?")
    assert "Tagus river route" in answer.span
    assert answer.text.startswith("I said on 3 April 2024:")


def test_questions_are_not_quoted_as_answers() -> None:
    turns = [
        item(1, "Did you adopt a dog called Rex?", role="assistant", score=0.9),
        item(2, "We adopted a cat called Miso.", score=0.6),
    ]
    assert ask("What is the cat called that we adopted?", turns).citations[0].id == "m2"


@pytest.mark.parametrize(
    ("question", "span"), [("Where do I work now?", "Siemens"), ("Where did I work first?", "Bosch")]
)
def test_the_newer_of_two_statements_unless_asked_how_it_was(question: str, span: str) -> None:
    turns = [
        item(1, "I work at Bosch in the lab.", "2022-01-01", score=0.9),
        item(8, "I work at Siemens in the office.", "2024-01-01", score=0.85),
    ]
    for order in (turns, turns[::-1]):
        assert ask(question, order).span.startswith(span)


def test_archival_passages_are_quoted_as_such() -> None:
    passage = item(4, "Lisbon flat: Rua Augusta 12", role=None, tier=Tier.ARCHIVAL)
    answer = ask("What is the address of the Lisbon flat?", [passage])
    assert not answer.abstained
    assert answer.text.startswith("Archival memory says (2 March 2024):") and answer.text.endswith("[p4]")
    assert answer.citations[0].tier is Tier.ARCHIVAL


def test_a_list_may_cite_up_to_three() -> None:
    turns = [
        item(1, "I collect sneakers.", name="John", score=0.9),
        item(5, "I collect jerseys.", name="John", score=0.9),
        item(9, "I collect stamps.", name="John", score=0.9),
        item(13, "I collect coins.", name="John", score=0.9),
    ]
    answer = ask("What items does John collect?", turns)
    assert len(answer.citations) == 3
    assert answer.span.count(", ") == 2
    assert len(ask("Which item does John collect?", turns).citations) == 1


def test_a_list_in_one_sentence_is_one_phrase() -> None:
    turn = item(1, "I love painting sunsets, playing chess and baking bread.", name="Ann", score=0.9)
    answer = ask("What activities does Ann love?", [turn])
    assert answer.span.endswith("playing chess and baking bread")


@pytest.mark.parametrize(
    ("said", "question", "span"),
    [
        (
            "I have been playing the violin for four months now.",
            "When did Tim start playing the violin?",
            "August 2023",
        ),
        ("I've been learning Spanish for about a year.", "When did Tim start learning Spanish?", "December 2022"),
    ],
)
def test_when_what_lasts_began(said: str, question: str, span: str) -> None:
    assert ask(question, [item(1, said, "2023-12-06", name="Tim")]).span == span


def test_what_is_to_come_is_not_when_it_happened() -> None:
    turns = [
        item(1, "I'm going skiing in Banff again next year!", "2023-08-19", name="Evan", score=0.8),
        item(7, "Last month I went skiing in Banff.", "2023-08-19", name="Evan", score=0.8),
    ]
    assert ask("When did Evan go skiing in Banff?", turns).span == "July 2023"


@pytest.mark.parametrize(
    ("said", "question", "span"),
    [
        ("I love hiking in the mountains.", "Does Ann love hiking?", "Yes"),
        ("I don't like hiking at all.", "Does Ann like hiking?", "No"),
        ("We rented a cabin by the beach.", "Did Ann rent a cabin by a beach or a lake?", "a beach"),
    ],
)
def test_yes_no_and_one_of_two(said: str, question: str, span: str) -> None:
    answer = ask(question, [item(1, said, name="Ann")])
    assert answer.span == span
    assert answer.citations[0].text == said


def test_a_word_of_the_kind_that_is_asked_for() -> None:
    turns = [
        item(1, "I really enjoy my free evenings after work.", name="Ann", score=0.9),
        item(5, "I practise the cello after work.", name="Ann", score=0.9),
    ]
    assert ask("Which instrument does Ann enjoy after work?", turns).span.endswith("cello")


def test_hyphenated_words_are_not_cut() -> None:
    answer = ask("What guitar did Ann get?", [item(1, "I got a K-200A guitar yesterday.", name="Ann")])
    assert "K-200A" in answer.span


BLOCKS = [
    Block("persona", "I am Sam, a helpful assistant.\nName: Sam", 500),
    Block(
        "human",
        "Name: Anna\nLives in: Lisbon\nSister: Clara\n- Likes: tea\nLikes: hiking\nFavourite colour: teal\nAge: 34",
        500,
    ),
]


@pytest.mark.parametrize(
    ("question", "span"),
    [
        ("What is my name?", "Anna"),
        ("Where do I live?", "Lisbon"),
        ("Where does Anna live?", "Lisbon"),
        ("What is my sister's name?", "Clara"),
        ("What do I like?", "tea, hiking"),
        ("What's my favorite color?", "teal"),
        ("How old am I?", "34"),
        ("What is your name?", "Sam"),
    ],
)
def test_core_memory_answers(question: str, span: str) -> None:
    answer = ask(question, [], BLOCKS)
    assert answer.span == span and not answer.abstained
    assert answer.citations == ()
    assert answer.text.startswith("Core memory says:") and "[core:" in answer.text


@pytest.mark.parametrize(
    "question",
    [
        "Where does Tom live?",
        "What is my brother's name?",
        "Where did I live before?",
        "Who is Clara's boss?",
        "How are you?",
    ],
)
def test_core_memory_is_silent_on_the_rest(question: str) -> None:
    assert ask(question, [], BLOCKS).abstained


def test_relative_days_in_the_question() -> None:
    turns = [
        item(1, "I had soup for dinner.", "2024-04-20T20:00:00", score=0.9),
        item(5, "I had pizza for dinner.", "2024-05-01T20:00:00", score=0.5),
    ]
    assert ask("What did I have for dinner yesterday?", turns).span.startswith("pizza")


def test_the_confidence_rule() -> None:
    assert CONFIDENCE is reading_weights.CONFIDENCE and 0 < THRESHOLD < 1
    assert THRESHOLD < reading_weights.THRESHOLD_10 < 1
    assert confidence_of({"bias": 1.0, "cover": 0.9, "unsaid": 1.0}) == 0.0
    low, high = ({"bias": 1.0, "cover": c} for c in (0.3, 0.9))
    assert confidence_of(low) < confidence_of(high)
    assert all(CONFIDENCE[s] > 0 for s in ("cover", "sentence cover", "cosine"))
    lead = ("turns minus others'", "sentence minus others'", "worth minus others'")
    assert all(NAMED[s] > 0 for s in (*lead, "cosine", "cited speaker", "says the rarest"))
    mine, theirs = ({"bias": 1.0, "named": 1.0, **dict.fromkeys(lead, side)} for side in (0.5, -0.5))
    assert confidence_of(mine) > confidence_of(theirs)


def test_a_closer_hit_is_more_certain() -> None:
    far, near = (ask("Where do I live?", [item(1, "I live in Porto.", cosine=c)]) for c in (0.1, 0.9))
    assert far.confidence < near.confidence


_SAID = """I my Anna Lisbon live moved to in the a dog cat yesterday 2023 7 May three weeks because bought . , ? ! " '
    and was is she … 你好。 😀 [shares a picture: x] you name don't"""
_WORDS = st.lists(st.sampled_from(_SAID.split()), max_size=30).map(" ".join)
_TEXT = st.one_of(st.text(max_size=100), _WORDS)
_QUESTION = st.one_of(
    _TEXT,
    st.sampled_from(
        ["Where do I live?", "When did Anna move?", "Who is it?", "What items does Anna like?", "Is it so?", "Why?"]
    ),
)
_ITEM = st.builds(
    lambda number, text, at, role, name, score, cosine, archival: item(
        number,
        text,
        at.isoformat(),
        role=role,
        name=name,
        score=score,
        cosine=cosine,
        tier=Tier.ARCHIVAL if archival else Tier.RECALL,
    ),
    st.integers(0, 20),
    _TEXT,
    st.datetimes(),
    st.sampled_from(["user", "assistant", "system", "tool", None]),
    st.sampled_from(["Anna", "Tom Smith", "", None, "你"]),
    st.floats(-5, 5),
    st.one_of(st.none(), st.floats(-1, 1)),
    st.booleans(),
)


@settings(deadline=None)
@given(_QUESTION, st.lists(_ITEM, max_size=6), st.one_of(st.none(), st.datetimes()), _TEXT)
def test_laws(question: str, items: list[PageItem], at: datetime | None, value: str) -> None:
    blocks = [Block("human", value, 100)]
    answer = read(question, items, asked_at=at, blocks=blocks)
    assert answer == read(question, items, asked_at=at, blocks=blocks)
    assert 0.0 <= answer.confidence <= 1.0
    assert len(answer.citations) <= 3
    by_id = {}
    for i in items:
        by_id.setdefault(i.hit.id, []).append(i)
    for c in answer.citations:
        assert any(c.text in i.text and c.tier is i.hit.tier and c.key == i.hit.key for i in by_id[c.id])
        assert f"[{c.id}]" in answer.text
    if answer.abstained:
        assert answer.span == "" and not answer.citations and answer.confidence < THRESHOLD
    elif not answer.text.startswith("Core memory says"):
        assert answer.citations and answer.span


def test_a_shortened_item_is_quoted_from_what_stands_in_the_page() -> None:
    whole = item(1, "I live in Porto. I bought a red bicycle for 350 euros.")
    part = PageItem(whole.hit, 17, len(whole.hit.text))
    answer = ask("How much did my bicycle cost?", [part])
    assert answer.citations[0].text == "I bought a red bicycle for 350 euros."
    assert ask("Where do I live?", [part]).abstained


def test_a_text_without_a_stop_is_read_in_pieces() -> None:
    log = "entry " * 2000 + "the parcel is kept in Tromso " + "entry " * 2000
    answer = ask("Where is the parcel kept?", [item(1, log, cosine=0.9)])
    assert "Tromso" in answer.span
    assert answer.citations[0].text in log and len(answer.citations[0].text.split()) <= 150
