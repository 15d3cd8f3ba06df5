"""The terms of a text: the same as the full-text index makes, in order, for any text, and quickly for a huge one."""

from __future__ import annotations

import sqlite3
from threading import Thread

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem import terms
from agentmem.terms import MAX_TERM_CHARS, MAX_TERMS, pairs, stemmed, term_number, term_numbers, terms_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("She runs; running and Runners!", ["she", "run", "run", "and", "runner"]),
        ("the and of it", ["the", "and", "of", "it"]),
        ("Anna's flat, Anna’s cat", ["anna", "flat", "anna", "cat"]),
        ("I'll say we don’t", ["i", "sai", "we", "don"]),
        ("O'Brien at 'the inn'", ["o", "brien", "at", "the", "inn"]),
        ("Crème brûlée, cafe\u0301", ["creme", "brule", "cafe"]),
        ("İstanbul ＡＢＣ ﬁne ½", ["istanbul", "abc", "fine", "1", "2"]),
        ("ab12-cd34 x_y tom@x.org 8:30", ["ab12", "cd34", "x", "y", "tom", "x", "org", "8", "30"]),
        ("我姐姐 in 里斯本, guitar喝茶了", ["我姐", "姐姐", "in", "里斯", "斯本", "guitar", "喝茶", "茶了"]),
        ("茶", ["茶"]),
        ("がく と", ["がく", "と"]),
        ("ดี", ["ดี"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("שָׁלוֹם", ["שלום"]),
        ("before\0after", ["befor", "after"]),
        ("?! ... -- 😀👍🏽 __", []),
        ("", []),
        ("\ud83d x", ["x"]),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms_of(text) == expected
    assert term_numbers(text).tolist() == [term_number(t) for t in expected]


def test_a_number_stays_the_same_for_ever() -> None:
    assert term_number("123456789") == 0xCBF43926, "the check value of CRC-32"
    assert term_numbers("Tea, teas").dtype == np.uint32 and term_numbers("").shape == (0,)


WORDS = (
    "caresses ponies ties caress cats feed agreed plastered bled motoring sing conflated troubled sized hopping tanned "
    "falling hissing fizzed failing filing happy sky relational conditional rational valency digitizer conformably "
    "radically differently analogously vietnamization predication operator feudalism decisiveness hopefulness "
    "callousness formality sensitivity triplicate formative formalize electricity electrical hopeful goodness revival "
    "allowance inference airliner gyroscopic adjustable defensible irritant replacement adjustment dependent adoption "
    "communism activate angularity homologous effective bowdlerize probate rate cease controlling rolling university "
    "news as is us by my lying dying generously a I ox 2023 3rd 1990s x1 ups yes queue"
)


def test_they_are_the_terms_of_the_full_text_index() -> None:
    words = WORDS.split()
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE t USING fts5(x, content='', tokenize='porter unicode61 remove_diacritics 2')")
    db.execute("CREATE VIRTUAL TABLE v USING fts5vocab(t, instance)")
    db.executemany("INSERT INTO t (rowid, x) VALUES (?, ?)", list(enumerate(words)))
    found = {words[doc]: term for term, doc in db.execute("SELECT term, doc FROM v")}
    db.close()
    assert {w: terms_of(w) for w in words} == {w: [t] for w, t in found.items()}


@given(text=st.text(max_size=200))
def test_no_text_raises_and_terms_are_words(text: str) -> None:
    found = terms_of(text)
    assert all(t and not any(c.isspace() or c == "\0" for c in t) and t == t.lower() for t in found)
    assert term_numbers(text).tolist() == [term_number(t) for t in found]
    assert terms_of(text, 3) == found[:3]
    assert terms_of(f"{text} zebra")[-1] == "zebra"


@given(left=st.text(max_size=50), right=st.text(max_size=50))
def test_terms_of_two_texts_are_those_of_each(left: str, right: str) -> None:
    assert terms_of(f"{left} {right}") == terms_of(left) + terms_of(right)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("x" * 1_000_000, 1),
        ("喝茶" * 500_000, MAX_TERMS),
        ("a_" * 500_000, MAX_TERMS),
        (" ".join(f"word{n}" for n in range(100_000)), MAX_TERMS),
        ("a" + "\u0301" * 1_000_000, 1),
        ("\ufdfa" * 300_000, MAX_TERMS),
        (" " * 1_000_000, 0),
        ("'" * 1_000_000, 0),
    ],
    ids=["one word", "one run", "underscores", "words", "accents", "expanding", "spaces", "quotes"],
)
def test_a_huge_text_gives_its_first_terms(text: str, count: int) -> None:
    found = terms_of(text)
    assert len(found) == count and all(len(t) <= MAX_TERM_CHARS for t in found)
    assert len(term_numbers(text)) == count


def test_pairs_keep_their_order() -> None:
    assert pairs("tea") == ["tea"] and pairs("a喝茶了b") == ["a", "喝茶", "茶了", "b"] and pairs("茶") == ["茶"]


def test_the_cache_is_emptied_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "MOST_CACHED", 10)
    monkeypatch.setattr(terms, "_cache", {})
    expected = [f"word{n}x" for n in range(100)]
    assert terms_of(" ".join(expected)) == expected
    assert len(terms._cache) <= 10


def test_threads_get_the_stems_that_one_alone_gets() -> None:
    words = [f"{w}{end}" for w in ("relat", "motor", "hop", "fall") for end in ("ing", "ed", "ational", "s", "ization")]
    alone = [stemmed(w) for w in words]
    wrong: list[int] = []

    def work() -> None:
        for n in range(300):
            if [stemmed(w) for w in words] != alone:
                wrong.append(n)

    threads = [Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
