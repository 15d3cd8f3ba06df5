"""The bounded search: what the whole search finds where the bounds suffice, and the rarest and newest where not."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.store import lexical as module
from agentmem.store.database import Database
from agentmem.store.lexical import Lexical
from agentmem.store.postings import bm25, frequencies, idf, most_shared
from agentmem.store.selection import Selection
from agentmem.terms import term_numbers


def listed(db: Database, texts: dict[int, str]) -> Lexical:
    """An index with the term lists of the texts."""

    def lists(ids: Any) -> Any:
        found = sorted(i for i in set(ids) if i in texts)
        numbers = [term_numbers(texts[i]) for i in found]
        offsets = np.cumsum([0, *(len(n) for n in numbers)])
        return np.array(found, np.int64), offsets, np.concatenate([np.zeros(0, np.uint32), *numbers])

    index = Lexical(db, "fts_test", lists)
    with db.write():
        index.create()
        index.add(sorted(texts.items()))
    return index


words = st.sampled_from(["tea", "coffee", "milk", "harbour", "boats", "river", "night"])
texts_by_id = st.dictionaries(st.integers(1, 60), st.lists(words, max_size=9).map(" ".join), max_size=25)
selections = st.builds(
    lambda ids, excluding: Selection(tuple(sorted(ids)), excluding), st.sets(st.integers(1, 60)), st.booleans()
)


@given(
    texts=texts_by_id, asked=st.lists(words | st.just("absent"), min_size=1, max_size=6, unique=True),
    top_k=st.integers(1, 30), within=selections, few=st.sampled_from([0, 4000]), named=st.sampled_from([0, 2000]),
)  # fmt: skip
@settings(max_examples=150)
def test_bounded_and_whole_give_the_same_where_the_bounds_suffice(
    texts: dict[int, str], asked: list[str], top_k: int, within: Selection, few: int, named: int
) -> None:
    db = Database(":memory:")
    index = listed(db, texts)
    everything = index.search(asked, top_k=None)
    expected = [(i, s) for i, s in everything if (i in within.ids) is not within.excluding][:top_k]
    with patch.multiple(module, FEW=few, MOST_NAMED=named):
        whole = index.search(asked, top_k=top_k, within=within)
        assert whole == expected
        with patch.multiple(module, WHOLE=0):
            bounded = index.search(asked, top_k=top_k, within=within)
    # FTS5's sums are in the order of the question, and its lowest weight is reached a little elsewhere.
    assert [s for _, s in bounded] == pytest.approx([s for _, s in expected], rel=1e-6, abs=1e-5)
    assert (
        {i for i, _ in bounded} <= {i for i, s in everything if s > expected[-1][1] - 1e-5} if expected else not bounded
    )
    db.close()


@given(
    texts=texts_by_id, asked=st.lists(words, min_size=1, max_size=6, unique=True), top_k=st.integers(1, 9),
    budget=st.integers(2, 12), scored=st.integers(1, 6), within=selections, reads=st.sampled_from([1, 20]),
)  # fmt: skip
@settings(max_examples=100)
def test_a_tight_bound_still_finds_records_that_match(
    texts: dict[int, str], asked: list[str], top_k: int, budget: int, scored: int, within: Selection, reads: int
) -> None:
    db = Database(":memory:")
    index = listed(db, texts)
    right = dict(index.search(asked, top_k=None))
    bounds = {"WHOLE": 0, "BUDGET": budget, "SCORED": scored, "FEW": 0, "MOST_READS": reads}
    with patch.multiple(module, **bounds):
        found = index.search(asked, top_k=top_k, within=within)
    assert len(found) <= top_k and found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
    for i, score in found:
        assert score == pytest.approx(right[i], rel=1e-6, abs=1e-5)
        assert (i in within.ids) is not within.excluding
    if reads > 1 and any((i in within.ids) is not within.excluding for i in right):
        assert found
    db.close()


def test_the_rarest_terms_come_first_and_the_newest_records() -> None:
    texts = {n: "tea milk" if n % 2 else "tea" for n in range(1, 41)}
    texts |= {7: "tea harbour", 11: "tea harbour milk", 41: "tea boats"}
    db = Database(":memory:")
    index = listed(db, texts)
    with patch.multiple(module, WHOLE=10, BUDGET=8, SCORED=6):
        found = index.search(["tea", "milk", "harbour", "boats"], top_k=3)
        newest = index.search(["tea", "milk"], top_k=6)
    assert {i for i, _ in found} == {41, 11, 7}, "boats and harbour are read whole; milk and tea count in the scores"
    assert [s for _, s in found] == pytest.approx(
        [s for _, s in index.search(["tea", "milk", "harbour", "boats"], top_k=3)]
    )
    assert [i for i, _ in newest] == [29, 31, 33, 35, 37, 39], "of records that are alike, the newest are looked at"
    db.close()


def test_a_filter_on_old_records_is_read_down_to_them() -> None:
    db = Database(":memory:")
    index = listed(db, dict.fromkeys(range(1, 201), "tea milk"))
    with patch.multiple(module, WHOLE=10, BUDGET=20, FEW=0):
        old = index.search(["tea", "milk"], top_k=5, within=Selection.without(range(50, 201)))
        assert [i for i, _ in old] == [30, 31, 32, 33, 34] or (all(i < 50 for i, _ in old) and len(old) == 5)
        named = index.search(["tea", "milk"], top_k=5, within=Selection.of(range(10, 15)))
        assert [i for i, _ in named] == [10, 11, 12, 13, 14]
        sql = index.search(["tea", "milk"], top_k=5, allowed="+rowid < ?", parameters=[4])
        assert [i for i, _ in sql] == [1, 2, 3]
    db.close()


def test_without_term_lists_shared_terms_rank() -> None:
    db = Database(":memory:")
    index = Lexical(db, "fts_test")
    index.create()
    index.add([(1, "tea milk harbour"), (2, "tea"), (3, "milk harbour"), (4, "milk"), (5, "water"), (6, "juice")])
    with patch.multiple(module, WHOLE=0):
        found = index.search(["milk", "harbour", "tea"], top_k=3)
    assert [i for i, _ in found] == [1, 3, 2]
    db.close()


def test_the_arithmetic() -> None:
    a, b = np.array([1, 2, 3]), np.array([3, 9])
    assert most_shared([a, b], [1.0, 2.0], 2).tolist() == [3, 9], "3.0 and 2.0"
    assert most_shared([a, b], [1.0, 1.0], 3).tolist() == [2, 3, 9], "of equal ones the higher"
    assert most_shared([], [], 3).tolist() == most_shared([np.zeros(0, np.int64)], [1.0], 3).tolist() == []
    offsets, numbers = np.array([0, 2, 2, 5]), np.array([7, 8, 7, 7, 9], np.uint32)
    assert frequencies(offsets, numbers, [7]).tolist() == [1, 0, 2]
    assert frequencies(offsets, numbers, [7, 9]).tolist() == [0, 0, 1], "a term of two parts"
    assert frequencies(offsets, numbers, []).tolist() == [0, 0, 0]
    assert idf(10, 9) == idf(10, 10) == idf(0, 3) == 1e-6 and idf(10, 1) == pytest.approx(np.log(9.5 / 1.5))
    assert bm25(np.array([0.0, 1.0]), np.array([5, 5]), 2.0, 5.0).tolist() == [0.0, 2.0]
