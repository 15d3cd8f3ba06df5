"""The words of further keys: they count as the record's own, by an oracle; without keys nothing is otherwise; they come
and go in the transaction, and a file of before gets them."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.errors import InvalidInputError
from agentmem.store import lexical as module
from agentmem.store.agent_store import TIERS, AgentStore
from agentmem.store.lexical import Lexical
from agentmem.store.sqlite import SqliteStore
from agentmem.store.term_lists import encoded
from agentmem.types import Draft, Passage
from tests.crashing import crash_at
from tests.store.conftest import NOW, bind

WORDS = ("tea", "boat", "fox", "owl", "jam", "zoo")  # each is its own stem


def fill(store: SqliteStore, agent: AgentStore, said: Sequence[str], told: Sequence[str] = ()) -> None:
    with store.write():
        agent.recall.append([Draft("user", t) for t in said], NOW)
        first = agent.archival.next_id()
        agent.archival.add([Passage(first + n, t, NOW, NOW) for n, t in enumerate(told)])


def index(agent: AgentStore, tier: str) -> Lexical:
    return agent.recall.lexical if tier == "recall" else agent.archival.lexical


def indexed(agent: AgentStore, tier: str) -> list[tuple[int, int, str]]:
    """(record, place, term) of all that the full-text index holds."""
    table = index(agent, tier).table
    agent.db.run(f"CREATE VIRTUAL TABLE temp.seen USING fts5vocab('main', '{table}', 'instance')")
    found = [tuple(r) for r in agent.db.rows("SELECT doc, offset, term FROM temp.seen ORDER BY doc, offset")]
    agent.db.run("DROP TABLE temp.seen")
    return found


def bm25(documents: Mapping[int, Sequence[str]], terms: Sequence[str]) -> list[tuple[int, float]]:
    """Of documents as lists of words, by the book: k1 = 1.2, b = 0.75, FTS5's idf; best first, ties by lower id."""
    average = sum(map(len, documents.values())) / max(1, len(documents))
    scores: dict[int, float] = {}
    for term in dict.fromkeys(terms):
        having = sum(term in words for words in documents.values())
        idf = max(1e-6, math.log((len(documents) - having + 0.5) / (having + 0.5)))
        for record, words in documents.items():
            if times := Counter(words)[term]:
                norm = 1.2 * (1 - 0.75 + 0.75 * len(words) / average)
                scores[record] = scores.get(record, 0.0) + idf * times * 2.2 / (times + norm)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
settings_of = st.lists(
    st.tuples(st.sampled_from(["recall", "archival"]), st.integers(1, 4), st.lists(texts, max_size=3)), max_size=8
)


@given(
    said=st.lists(texts, min_size=4, max_size=6), told=st.lists(texts, min_size=4, max_size=6), steps=settings_of,
    asked=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True), gone=st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=25)
def test_a_record_and_its_keys_are_one_document(
    said: list[str], told: list[str], steps: list[tuple[str, int, list[str]]], asked: list[str], gone: int
) -> None:
    store = SqliteStore(":memory:", index="numpy")
    agent, other = bind(store), bind(store, "b")
    fill(store, agent, said, told)
    fill(store, other, said, told)
    untouched = {tier: indexed(other, tier) for tier in TIERS}
    keys: dict[tuple[str, int], list[str]] = {}
    for tier, record, wanted in steps:
        with store.write():
            agent.set_keys(tier, record, wanted)
        keys[tier, record] = wanted
    with store.write():
        agent.recall.delete(agent.recall.get([gone]))
        agent.archival.delete(agent.archival.get([gone]))
    for tier, own in (("recall", said), ("archival", told)):
        documents = {
            n: [*" ".join(keys.get((tier, n), ())).split(), *text.split()] for n, text in enumerate(own, 1) if n != gone
        }
        wanted_hits = bm25(documents, asked)
        whole = index(agent, tier).search(asked, top_k=None)
        with patch.multiple(module, WHOLE=0):
            bounded = index(agent, tier).search(asked, top_k=9)
        for found in (whole, bounded):
            assert sorted(i for i, _ in found) == sorted(i for i, _ in wanted_hits)
            assert dict(found) == pytest.approx(dict(wanted_hits), rel=1e-9, abs=1e-12)
        assert indexed(agent, tier) == [(n, at, w) for n in sorted(documents) for at, w in enumerate(documents[n])]
        assert index(agent, tier).check() and index(agent, tier).size() == len(documents)
        assert indexed(other, tier) == untouched[tier], "another agent's words stay as they are"
    assert agent.recall.check_terms() == agent.archival.check_terms() == []
    assert {record for _, record, _ in agent.keys.all()}.isdisjoint({gone}), "keys go with their record"
    store.close()


@given(said=st.lists(texts, min_size=1, max_size=8), asked=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3))
@settings(max_examples=20)
def test_without_keys_nothing_is_otherwise(said: list[str], asked: list[str]) -> None:
    """As a full-text table of the texts alone: hits, scores to the last bit, words, and what is asked of the file."""
    store = SqliteStore(":memory:", index="numpy")
    agent, undone = bind(store), bind(store, "b")
    plain = Lexical(store.db, "fts_plain")
    for a in (agent, undone):
        fill(store, a, [], said)
    with store.write():
        plain.create()
        plain.add(list(enumerate(said, 1)))
        undone.set_keys("archival", 1, ["tea tea owl", "zoo"])
        undone.set_keys("archival", 1, [])
    statements: list[str] = []
    store.db.connection.set_trace_callback(statements.append)
    found = agent.archival.lexical.search(asked, top_k=5)
    store.db.connection.set_trace_callback(None)
    assert found == plain.search(asked, top_k=5) == undone.archival.lexical.search(asked, top_k=5)
    assert not [s for s in statements if "record_keys" in s]
    assert indexed(agent, "archival") == indexed(undone, "archival")
    lists = store.db.rows("SELECT agent_id, record_id, terms FROM term_lists ORDER BY 1, 2")
    assert [tuple(r) for r in lists] == [(a, n, encoded(t)) for a in (1, 2) for n, t in enumerate(said, 1)]
    store.close()


def test_keys_add_no_table(store: SqliteStore) -> None:
    agent = bind(store)
    fill(store, agent, ["tea"])
    sql = "SELECT name FROM sqlite_master ORDER BY name"
    before = [r[0] for r in store.db.rows(sql)]
    with store.write():
        agent.set_keys("recall", 1, ["boat"])
    assert [r[0] for r in store.db.rows(sql)] == before
    assert [r[0] for r in store.db.rows("SELECT count(*) FROM record_keys")] == [1]


def test_a_rolled_back_transaction_leaves_the_words_as_they_were(store: SqliteStore) -> None:
    agent = bind(store)
    fill(store, agent, ["tea", "boat"])
    before = indexed(agent, "recall")
    with pytest.raises(KeyError), store.write():
        agent.set_keys("recall", 1, ["owl"])
        assert [i for i, _ in agent.recall.lexical.search(["owl"], top_k=3)] == [1], "what it wrote, it finds"
        raise KeyError
    assert indexed(agent, "recall") == before and agent.recall.lexical.check()
    assert agent.recall.lexical.search(["owl"], top_k=3) == [] == agent.keys.all()


def test_counts_that_were_kept_are_made_anew(store: SqliteStore) -> None:
    agent = bind(store)
    fill(store, agent, ["tea"] * 3 + ["boat"] * 3)
    with patch.object(module, "KEPT_COUNT", 2):
        assert agent.recall.lexical.document_counts(["tea"]) == {"tea": 3}
        with store.write():
            agent.set_keys("recall", 4, ["tea"])
        assert agent.recall.lexical.document_counts(["tea"]) == {"tea": 4}


def test_who_is_not_searched_has_no_keys(store: SqliteStore) -> None:
    agent = bind(store)
    with store.write():
        agent.recall.append([Draft("tool", "a result", tool_call_id="c1")], NOW)
    for tier, number, ref in (("recall", 1, "m1"), ("recall", 9, "m9"), ("archival", 1, "p1")):
        with pytest.raises(InvalidInputError, match=f"keys='{ref}'") as caught, store.write():
            agent.set_keys(tier, number, ["tea"])
        assert caught.value.hint and agent.keys.all() == []


def test_of_a_book_the_keys_are_counted_too(store: SqliteStore) -> None:
    agent = bind(store)
    fill(store, agent, [], ["word " * 5000, "a boat"])
    with store.write():
        agent.set_keys("archival", 1, ["an owl"])
    with patch.multiple(module, WHOLE=0):
        assert [i for i, _ in agent.archival.lexical.search(["owl"], top_k=3)] == [1]
    assert agent.archival.check_terms() == []


def test_a_reindexing_keeps_them(store: SqliteStore) -> None:
    agent = bind(store)
    fill(store, agent, ["tea", "boat"], ["fox"])
    with store.write():
        agent.set_keys("recall", 2, ["owl", "jam"])
        agent.set_keys("archival", 1, ["zoo"])
    before = indexed(agent, "recall"), indexed(agent, "archival")
    with store.write():
        store.db.run("DELETE FROM term_lists")
        assert agent.recall.check_terms() and agent.archival.check_terms()
        assert agent.recall.reindex() == 2 and agent.archival.reindex() == 1
    assert (indexed(agent, "recall"), indexed(agent, "archival")) == before
    assert agent.recall.check_terms() == agent.archival.check_terms() == []
    store.db.run("UPDATE record_keys SET text = 'ant' WHERE tier = 'archival'")
    assert len(agent.archival.check_terms()) == 1, "a list that is not of its keys is seen"


def test_no_word_of_a_key_stays_in_the_file(store: SqliteStore) -> None:
    agent = bind(store)
    fill(store, agent, ["tea", "boat"], ["fox", "jam"])
    with store.write():
        agent.set_keys("recall", 1, ["quixotic zeppelins"])
        agent.set_keys("archival", 1, ["clandestine submarines"])
    store.db.run("PRAGMA wal_checkpoint(TRUNCATE)")
    path = Path(store.path)
    traces = [b"quixotic", b"clandestin", encoded("quixotic zeppelins"), encoded("clandestine submarines")]
    assert all(t in path.read_bytes() for t in traces)
    with store.write():
        agent.recall.delete(agent.recall.get([1]))
        agent.archival.delete(agent.archival.get([1]))
    assert store.scrub(agent) and agent.keys.all() == []
    assert [t for t in traces if any(t in p.read_bytes() for p in path.parent.iterdir() if p.is_file())] == []


# -- a file of before ---------------------------------------------------------------------------------------------


def as_before(path: Path) -> None:
    """A file with keys as migration m007 left it: their words in no full-text index and no list."""
    store = SqliteStore(path, index="numpy")
    for name in store.agent_names():
        agent = bind(store, name)
        keys = agent.keys.all()
        with store.write():
            for tier, record, _ in keys:
                agent.set_keys(tier, record, [])
            store.db.run_many(
                "INSERT INTO record_keys (agent_id, tier, record_id, number, text) VALUES (?,?,?,?,?)",
                [(agent.agent_id, t, i, n, text) for t, i, texts in keys for n, text in enumerate(texts)],
            )
    store.close()
    old = sqlite3.connect(path)
    old.execute("DELETE FROM _sqlite_migrations WHERE name >= 'm008'")
    old.commit()
    old.close()


@pytest.mark.parametrize("killed", [False, True])
def test_a_file_of_before_gets_the_words_of_its_keys(tmp_path: Path, killed: bool) -> None:
    path = tmp_path / "m.db"
    store = SqliteStore(path, index="numpy")
    for name in ("a", "b"):
        agent = bind(store, name)
        fill(store, agent, [f"tea of {name}", "里斯本", "jam"], ["fox", "boat"])
        with store.write():
            agent.recall.append([Draft("user", "speaks", name="Owl"), Draft("tool", "x", tool_call_id="c")], NOW)
            agent.set_keys("recall", 4, [f"zoo {name}", "里斯本\0 tea"])
            agent.set_keys("recall", 2, ["Lisbon"])
            agent.set_keys("archival", 2, [f"ferry {name}"])

    def seen() -> list[object]:
        agents = [bind(store, name) for name in ("a", "b")]
        parts = [(tier, index(a, tier).average_length(), indexed(a, tier)) for a in agents for tier in TIERS]
        lists = [tuple(r) for r in store.db.rows("SELECT * FROM term_lists ORDER BY 1, 2, 3")]
        return [*parts, *(a.keys.all() for a in agents), lists]

    wanted = seen()
    store.close()
    as_before(path)
    # Keys of what is not there, and of what is not searched: nobody could find them.
    old = sqlite3.connect(path)
    old.execute("INSERT INTO record_keys VALUES (1, 'recall', 5, 0, 'x'), (2, 'archival', 77, 0, 'x')")
    old.commit()
    old.close()
    if killed:
        with crash_at("migration.before_commit"):
            SqliteStore(path, index="numpy")
    store = SqliteStore(path, index="numpy")
    assert seen() == wanted
    for name in ("a", "b"):
        agent = bind(store, name)
        assert agent.recall.check_terms() == agent.archival.check_terms() == [] and agent.recall.lexical.check()
        assert [i for i, _ in agent.recall.lexical.search(["zoo"], top_k=3)] == [4]
        with store.write():
            agent.recall.delete(agent.recall.get([2, 4]))
        assert agent.recall.lexical.check() and {i for i, _, _ in indexed(agent, "recall")} == {1, 3}
    store.close()
