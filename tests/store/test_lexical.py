"""The full-text index: what a question finds, and that no question breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.store.database import Database
from agentmem.store.lexical import MAX_TERMS, Lexical, match_expression, query_terms, spaced


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
