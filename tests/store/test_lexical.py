"""The full-text index: what a question finds, and that no question breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.store import lexical as module
from agentmem.store.database import Database
from agentmem.store.lexical import MAX_TERMS, Lexical, match_expression, query_terms, spaced
from agentmem.terms import terms_of


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lexical]:
    db = Database(tmp_path_factory.mktemp("lexical") / "x.db")
    made = Lexical(db, "fts_test")
    made.create()
    made.add([(n, t) for n, t in enumerate(TEXTS, 1)])
    yield made
    db.close()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Lexical]:
    db = Database(tmp_path / "x.db")
    made = Lexical(db, "fts_test")
    made.create()
    yield made
    db.close()


TEXTS = [
    "The ticket is ab12-cd34-ef56, please keep it.",
    "ab12 and cd34 and ef56 apart, in cd34 ab12 order.",
    "My id: 6f1c1f60-8f4b-4a3e-9c58-0d6f3f3ad2b1",
    "6f1c1f60 8f4b 9c58",
    "我姐姐住在里斯本。她喜欢喝茶。",
    "里斯本的天气很好",
    "姉はリスボンに住んでいます。",
    'O\'Brien said: "NEAR(a b)" AND nothing* else^2 -- {col}: x',
    "write to tom.smith@example.org about v1.2.3",
    "Crème brûlée at the café",
    "She runs daily; running and runners.",
    "before\0after the NUL",
    "and or not near",
]


def hits(index: Lexical, query: str, **kwargs: object) -> list[int]:
    return [i for i, _ in index.search(index.terms(query), top_k=None, **kwargs)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "first", "others"),
    [
        ("ab12-cd34-ef56", 1, []),
        ("where is AB12-CD34-EF56?", 1, []),
        ("6f1c1f60-8f4b-4a3e-9c58-0d6f3f3ad2b1", 3, []),
        ("tom.smith@example.org", 9, []),
        ("v1.2.3", 9, []),
        ("creme brulee", 10, []),
        ("runs", 11, []),
        ("AFTER nul", 12, []),
        ("O’Brien's", 8, []),
        ("里斯本", 6, [5]),
        ("我姐姐现在住在哪里", 5, []),
        ("リスボン", 7, []),
        ("guitar喝茶", 5, []),
    ],
)
def test_what_a_question_finds(shared: Lexical, query: str, first: int, others: list[int]) -> None:
    found = hits(shared, query)
    assert found[0] == first and sorted(found[1:]) == others


def test_identifiers_are_terms_of_their_own() -> None:
    assert query_terms("What of ab12-CD34, and tom@x.org, 8:30?") == ["ab12-cd34", "tom@x.org", "8:30"]
    assert query_terms("Anna's flat, Anna’s cat") == ["anna", "flat", "cat"]
    assert query_terms("the and of") == ["the", "and", "of"], "stop words alone are still asked for"
    assert query_terms("") == query_terms("?! ... --") == []


def test_a_run_of_chinese_is_asked_for_in_pairs() -> None:
    assert query_terms("我姐姐 x 茶") == ["我姐", "姐姐", "x", "茶"]
    assert spaced("喝茶no") == " 喝  茶 no"


@pytest.mark.parametrize(
    "query", ["NEAR(a b)", "a AND NOT b", '"', '""', "x*", "^x", "col:x", "{a b}: c", "-x", "(", "a + b"]
)
def test_the_syntax_of_fts_is_only_text(shared: Lexical, query: str) -> None:
    hits(shared, query)
    shared.search([query], top_k=3)


signs = list("ab \"'*^:(){}+-_.@/\\,;%\0\n’喝茶ไทยéא😀\u0301\ud83d")
odd = st.lists(st.sampled_from([*signs, " AND ", " OR ", " NOT ", "NEAR"]), max_size=30).map("".join)


@given(query=odd | st.text(max_size=60))
@settings(max_examples=150)
def test_no_question_raises(shared: Lexical, query: str) -> None:
    for terms in (shared.terms(query), [query.replace("\ud83d", "")], query.replace("\ud83d", "").split()):
        if all(t.isascii() or t.encode("utf-8", "ignore").decode() == t for t in terms):
            found = shared.search(terms, top_k=5)
            assert len(found) <= 5
            assert all(score > 0 for _, score in found)
            assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=60)
def test_a_text_is_found_by_its_own_words(text: str) -> None:
    db = Database(":memory:")
    index = Lexical(db, "fts_test")
    index.create()
    index.add([(7, f"{text} zebra")])
    assert hits(index, f"{text} zebra") == [7]
    index.remove([(7, f"{text} zebra")])
    assert index.ids() == set() and hits(index, f"{text} zebra") == []
    assert index.check()
    db.close()


@pytest.mark.parametrize(
    "query",
    [
        "x" * 1_000_000,
        "a-" * 300_000 + "a",
        "喝茶" * 200_000,
        " ".join(f"word{n}" for n in range(50_000)),
        '"' * 100_000,
    ],
    ids=["one word", "one identifier", "one run", "many words", "quotes"],
)
def test_a_huge_question_is_answered(shared: Lexical, query: str) -> None:
    terms = shared.terms(query)
    assert len(terms) <= MAX_TERMS
    assert len(match_expression(terms)) < 200_000
    shared.search(terms, top_k=5)


def test_of_many_terms_the_first_and_the_last_stay() -> None:
    terms = query_terms(" ".join(f"word{n}" for n in range(10_000)))
    assert (terms[0], terms[-1], len(terms)) == ("word0", "word9999", MAX_TERMS)


def test_bm25_is_positive_best_first_and_ties_go_to_the_lower_id(index: Lexical) -> None:
    index.add([(5, "tea tea coffee"), (3, "water"), (9, "tea milk juice"), (8, "tea milk juice")])
    found = index.search(["tea"], top_k=None)
    assert [i for i, _ in found] == [5, 8, 9] and found[1][1] == found[2][1] > 0
    assert index.search(["tea"], top_k=2) == found[:2]
    assert index.search([], top_k=5) == [] == index.search(["_"], top_k=5)


def test_allowed_is_part_of_the_search(index: Lexical) -> None:
    with index._db.write():
        index.add([(n, "tea") for n in range(1, 50)] + [(50, "tea with milk and much else in it")])
    assert [i for i, _ in index.search(["tea"], top_k=1, allowed="rowid = ?", parameters=[50])] == [50]


def test_clear_and_optimize(index: Lexical) -> None:
    index.add([(1, "tea"), (2, "coffee")])
    index.remove([(1, "tea")])
    index.optimize()
    assert index.ids() == {2} and index.check()
    index.clear()
    assert index.ids() == set() and index.search(["coffee"], top_k=1) == []
    index.drop()


def test_check_sees_a_row_that_was_removed_wrongly(index: Lexical) -> None:
    index.add([(1, "tea and coffee"), (2, "milk")])
    assert index.check()
    index._db.run("DELETE FROM fts_test_data WHERE id > 10")
    assert not index.check()


# -- how many documents have a term -----------------------------------------------------------------------------

WORDS = ("tea", "coffee", "milk", "running", "harbour", "ab12-cd34", "里斯本", "O'Brien", "x")
passages = st.lists(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), max_size=12)


def tokens(text: str) -> list[str]:
    """The index's tokens, found by other means: of an unspaced script each sign."""
    return terms_of(spaced(text.replace("'", " ")))


@given(texts=passages, gone=st.sets(st.integers(0, 11)), terms=st.lists(st.sampled_from([*WORDS, "nothing", "", "?"])))
@settings(max_examples=60)
def test_counts_are_those_of_the_documents(texts: list[str], gone: set[int], terms: list[str]) -> None:
    db = Database(":memory:")
    index, other = Lexical(db, "fts_test"), Lexical(db, "fts_other")
    index.create()
    other.create()
    other.add([(n, " ".join(WORDS)) for n in range(50)])
    index.add(list(enumerate(texts)))
    index.remove([(n, texts[n]) for n in gone if n < len(texts)])
    kept = [set(tokens(t)) for n, t in enumerate(texts) if n not in gone]
    expected = {t: min((sum(p in k for k in kept) for p in tokens(t)), default=0) for t in terms}
    assert index.document_counts(terms) == expected
    assert index.size() == len(kept)
    lengths = [len(tokens(t)) for n, t in enumerate(texts) if n not in gone]
    assert index.average_length() == pytest.approx(sum(lengths) / len(lengths) if lengths else 0.0)
    assert index.document_counts(tokens(" ".join(terms)), stemmed=True) == {
        p: sum(p in k for k in kept) for p in tokens(" ".join(terms))
    }
    db.close()


def test_counts_of_terms_that_ranking_has(index: Lexical) -> None:
    index.add([(1, "She runs to the university"), (2, "running in 里斯本"), (3, "universities of 里斯 and 斯本")])
    terms = terms_of("running universities 里斯本")
    assert terms == ["run", "univers", "里斯", "斯本"]
    assert index.document_counts(terms, stemmed=True) == {"run": 2, "univers": 2, "里斯": 2, "斯本": 2}
    assert index.document_counts(["universities"]) == {"universities": 2}


def test_large_counts_are_kept_until_the_index_has_grown_by_a_tenth(index: Lexical) -> None:
    with patch.object(module, "KEPT_COUNT", 20):
        with index._db.write():
            index.add([(n, "tea" if n % 2 else "tea milk") for n in range(30)])
        assert index.document_counts(["tea", "milk"]) == {"tea": 30, "milk": 15}
        index.add([(n, "tea milk") for n in range(30, 33)])
        assert index.document_counts(["tea", "milk"]) == {"tea": 30, "milk": 18}, "small ones are always counted"
        index.add([(33, "tea milk")])
        assert index.document_counts(["tea", "milk"]) == {"tea": 34, "milk": 19}
        with index._db.write():
            index.remove([(n, "tea" if n % 2 else "tea milk") for n in range(30)])
        assert index.document_counts(["tea", "milk"]) == {"tea": 4, "milk": 4}
        index.clear()
        assert index.document_counts(["tea"]) == {"tea": 0} and index.size() == 0 and index.average_length() == 0.0


def test_a_rolled_back_transaction_leaves_the_counts_right(index: Lexical) -> None:
    with pytest.raises(KeyError), index._db.write():
        index.add([(1, "tea")])
        assert index.document_counts(["tea"]) == {"tea": 1}
        assert [i for i, _ in index.search(["tea"], top_k=3)] == [1], "what this transaction wrote, it finds"
        raise KeyError
    assert index.document_counts(["tea"]) == {"tea": 0} and index.size() == 0
    index.add([(2, "tea")])
    assert index.document_counts(["tea"]) == {"tea": 1} and index.size() == 1


def test_the_number_of_documents_is_read_at_any_size(index: Lexical) -> None:
    for size in (1, 127, 128, 300, 16_384):
        with index._db.write():
            index.clear()
            index.add([(n, "a b c") for n in range(size)])
        assert (index.size(), index.average_length()) == (size, 3.0)


# -- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "the and of it was " * 6000,
        "?!... -- ()" * 10_000,
        "\0" * 1000,
        "tea\0milk",
        "😀👍🏽 👩‍👩‍👧‍👦" * 100,
        "שלום עולם مرحبا بالعالم ‮",
        "x" * 1_000_000,
        "tea " * 25_000,
        " ".join(f"word{n}" for n in range(20_000)),
        "a-" * 300_000,
        "",
    ],
    ids=[
        "stop words",
        "punctuation",
        "nul",
        "nul inside",
        "emoji",
        "right to left",
        "1 MB",
        "100 kB",
        "many",
        "parts",
        "",
    ],
)
@pytest.mark.parametrize("whole", [0, 10_000])
def test_odd_questions_have_a_defined_answer(shared: Lexical, query: str, whole: int) -> None:
    terms = shared.terms(query)
    assert len(terms) <= MAX_TERMS
    counts = shared.document_counts(terms)
    assert counts.keys() == set(terms) and all(0 <= n <= shared.size() for n in counts.values())
    with patch.multiple(module, WHOLE=whole):
        found = shared.search(terms, top_k=5)
        assert len(found) <= 5 and all(score > 0 for _, score in found)
        assert any(counts.values()) or not found
