"""Term lists: there exactly when their record is, in the same transaction, of what was said and nothing else."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.store import lexical, schema
from agentmem.store.agent_store import AgentStore
from agentmem.store.database import Database
from agentmem.store.sqlite import SqliteStore
from agentmem.store.term_lists import TermLists, encoded
from agentmem.terms import MAX_TERMS, term_number, term_numbers, terms_of
from agentmem.types import Draft, Passage, ToolCall
from tests.store.conftest import NOW, bind
from tests.store.old_files import before_compression


@pytest.fixture
def agent(store: SqliteStore) -> AgentStore:
    return bind(store, "a")


def lists(terms: TermLists, tier: str, ids: list[int]) -> dict[int, list[int]]:
    found, offsets, numbers = terms.of(tier, ids)
    assert (found.dtype, offsets.dtype, numbers.dtype) == (np.int64, np.int64, np.uint32)
    assert len(offsets) == len(found) + 1 and offsets[0] == 0 and offsets[-1] == len(numbers)
    return {int(i): numbers[a:b].tolist() for i, a, b in zip(found, offsets, offsets[1:], strict=False)}


def rows(store: SqliteStore) -> list[tuple[int, str, int]]:
    return [tuple(r) for r in store.db.rows("SELECT agent_id, tier, record_id FROM term_lists ORDER BY 1, 2, 3")]


def add(store: SqliteStore, agent: AgentStore, *texts: str, tags: tuple[str, ...] = ()) -> list[Passage]:
    with store.write():
        first = agent.archival.next_id()
        made = [Passage(first + n, t, NOW, NOW, tags=tags) for n, t in enumerate(texts)]
        agent.archival.add(made)
    return made


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=8), data=st.data())
@settings(max_examples=40)
def test_they_are_the_terms_of_the_records(texts: list[str], data: st.DataObject) -> None:
    store = SqliteStore(":memory:", index="numpy")
    agent, other = bind(store, "a"), bind(store, "b")
    with store.write():
        said = agent.recall.append([Draft("user", t, name="Nobody Counts") for t in texts], NOW)
        other.recall.append([Draft("user", "the other's")], NOW)
    add(store, agent, *texts)
    ids = data.draw(st.lists(st.integers(-1, 12), max_size=20))
    expected = {m.id: [term_number(t) for t in terms_of(m.content)] for m in said if m.searchable}
    assert lists(agent.recall.terms, "recall", ids) == {i: n for i, n in expected.items() if i in ids}
    passages = {n: term_numbers(t).tolist() for n, t in enumerate(texts, 1)}
    assert lists(agent.archival.terms, "archival", ids) == {i: n for i, n in passages.items() if i in ids}
    assert lists(other.recall.terms, "recall", [1]) == {1: term_numbers("the other's").tolist()}
    assert agent.recall.check_terms() == agent.archival.check_terms() == []
    store.close()


def test_ids_come_ascending_and_many_at_once(store: SqliteStore, agent: AgentStore) -> None:
    with store.write():
        agent.recall.append([Draft("user", f"word{n}") for n in range(1, 1302)], NOW)
    wanted = list(range(1400, 0, -1))
    found = lists(agent.recall.terms, "recall", wanted)
    assert list(found) == list(range(1, 1302)) and found[777] == [term_number("word777")]
    assert lists(agent.recall.terms, "recall", []) == {} == lists(agent.recall.terms, "archival", [1, 2])


def test_what_is_not_searched_has_none(store: SqliteStore, agent: AgentStore) -> None:
    call = ToolCall("c1", "send_message", '{"message": "Lisbon it is."}')
    drafts = [
        Draft("user", "tea"),
        Draft("tool", "a result", tool_call_id="c1"),
        Draft("assistant", "quoted", derived=True),
        Draft("system", "a note"),
        Draft("assistant", "", tool_calls=(call,)),
        Draft("user", "?!"),
        Draft("user", " "),
    ]
    with store.write():
        agent.recall.append(drafts, NOW)
    assert {i: len(n) for i, n in lists(agent.recall.terms, "recall", list(range(9))).items()} == {1: 1, 5: 3, 6: 0}


def test_a_book_has_the_list_of_its_beginning(store: SqliteStore, agent: AgentStore) -> None:
    add(store, agent, " ".join(f"word{n}" for n in range(50_000)), "x" * 1_000_000)
    found = lists(agent.archival.terms, "archival", [1, 2])
    assert len(found[1]) == MAX_TERMS and found[1][-1] == term_number(f"word{MAX_TERMS - 1}") and len(found[2]) == 1


def test_they_go_with_their_record(store: SqliteStore, agent: AgentStore) -> None:
    with store.write():
        said = agent.recall.append([Draft("user", "tea"), Draft("user", "coffee"), Draft("tool", "no")], NOW)
    made = add(store, agent, "milk", "juice", tags=("drink", "cold", "drink"))
    with pytest.raises(KeyError), store.write():
        agent.recall.append([Draft("user", "lost")], NOW)
        agent.recall.delete(said)
        raise KeyError
    assert rows(store) == [(1, "archival", 1), (1, "archival", 2), (1, "recall", 1), (1, "recall", 2)]
    with store.write():
        agent.recall.delete([said[0], said[2]])
        agent.archival.delete(made[:1])
    assert rows(store) == [(1, "archival", 2), (1, "recall", 2)]
    assert [tuple(r) for r in store.db.rows("SELECT * FROM passage_tags")] == [(1, "cold", 2), (1, "drink", 2)]
    assert agent.recall.check_terms() == agent.archival.check_terms() == []


def test_nothing_of_an_erased_record_stays_in_the_file(store: SqliteStore, agent: AgentStore) -> None:
    with store.write():
        said = agent.recall.append([Draft("user", "quixotic zeppelins"), Draft("user", "tea")], NOW)
    made = add(store, agent, "quixotic submarines", "milk", tags=("clandestine",))
    store.db.run("PRAGMA wal_checkpoint(TRUNCATE)")
    traces = [encoded("quixotic zeppelins"), encoded("quixotic submarines"), b"clandestine"]
    path = Path(store.path)
    assert all(t in path.read_bytes() for t in traces)
    with store.write():
        agent.recall.delete(said[:1])
        agent.archival.delete(made)
    assert store.scrub(agent)
    assert [t for t in traces if any(t in p.read_bytes() for p in path.parent.iterdir() if p.is_file())] == []
    assert lists(agent.recall.terms, "recall", [1, 2]) == {2: [term_number("tea")]}


def test_a_check_sees_what_is_wrong_and_a_rebuild_repairs_it(store: SqliteStore, agent: AgentStore) -> None:
    with store.write():
        agent.recall.append([Draft("user", f"tea {n}") for n in range(4)], NOW)
    add(store, agent, "milk", "juice", tags=("drink",))
    with store.write():
        store.db.run("DELETE FROM term_lists WHERE tier = 'recall' AND record_id = 2")
        store.db.run("UPDATE term_lists SET terms = x'00000000' WHERE record_id = 1")
        store.db.run("INSERT INTO term_lists VALUES (1, 'recall', 99, x''), (1, 'archival', 98, x'')")
        store.db.run("UPDATE passage_tags SET tag = 'food' WHERE passage_id = 1")
    assert agent.recall.check_terms() == [
        "2 records of recall lack their term list or have another's (first: 1)",
        "1 term lists of recall are of records that do not exist (99)",
    ]
    assert agent.archival.check_terms() == [
        "1 records of archival lack their term list or have another's (first: 1)",
        "1 term lists of archival are of records that do not exist (98)",
        "2 tags of passages are not found, or found without being there",
    ]
    with store.write():
        assert agent.recall.reindex() == 4 and agent.archival.reindex() == 2
    assert agent.recall.check_terms() == agent.archival.check_terms() == []
    assert agent.recall.lexical.check() and agent.archival.lexical.ids() == {1, 2}


def test_a_file_of_before_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.db"
    store = SqliteStore(path, index="numpy")
    call = ToolCall("c1", "send_message", '{"message": "Lisbon it is."}')
    for name in ("a", "b"):
        agent = bind(store, name)
        with store.write():
            agent.recall.append([Draft("user", f"tea {n} of {name}", name="Tom") for n in range(25)], NOW)
            agent.recall.append([Draft("assistant", "", tool_calls=(call,)), Draft("user", "q", derived=True)], NOW)
        add(store, agent, *(f"milk {n}" for n in range(25)), tags=("drink", "é\0", "drink"))
    tables = ("term_lists", "passage_tags")
    before = {t: [tuple(r) for r in store.db.rows(f"SELECT * FROM {t} ORDER BY 1, 2, 3")] for t in tables}
    store.close()
    old = sqlite3.connect(path)
    for table in tables:
        old.execute(f"DROP TABLE {table}")
    old.execute("DROP TABLE uses")
    before_compression(old)
    indexes = ("ends", "begins", "stored", "superseded")
    for index in (*(f"passages_{name}" for name in indexes), "messages_name", "messages_time"):
        old.execute(f"DROP INDEX {index}")
    old.execute("CREATE INDEX messages_at ON messages (agent_id, at_utc)")
    old.execute("DELETE FROM _sqlite_migrations WHERE name >= 'm003'")
    old.commit()
    old.close()
    monkeypatch.setattr(schema, "BATCH", 10)
    store = SqliteStore(path, index="numpy")
    assert {t: [tuple(r) for r in store.db.rows(f"SELECT * FROM {t} ORDER BY 1, 2, 3")] for t in tables} == before
    assert len(before["term_lists"]) == 2 * (26 + 25) and len(before["passage_tags"]) == 2 * 25 * 2
    for name in ("a", "b"):
        assert bind(store, name).recall.check_terms() == bind(store, name).archival.check_terms() == []
    store.close()


def test_a_bounded_search_knows_the_speaker_too(store: SqliteStore, agent: AgentStore) -> None:
    said = [("Tom", "the harbour at night"), ("Ann", "the harbour at night"), ("Ann", "water"), ("Ann", "a boat")]
    with store.write():
        agent.recall.append([Draft("user", text, name=name) for name, text in said], NOW)
    other = bind(store, "b")
    with store.write():
        other.recall.append([Draft("user", "the harbour at night", name="Tom")] * 30, NOW)
    whole = agent.recall.lexical.search(["tom", "harbour"], top_k=5)
    with patch.object(lexical, "WHOLE", 0):
        bounded = agent.recall.lexical.search(["tom", "harbour"], top_k=5)
    assert [i for i, _ in bounded] == [i for i, _ in whole] == [1, 2]
    assert [s for _, s in bounded] == pytest.approx([s for _, s in whole], rel=0.2), "the list has no name in it"
    assert agent.recall.lexical.document_counts(["harbour", "tom"]) == {"harbour": 2, "tom": 1}
    assert other.recall.lexical.document_counts(["harbour", "tom"]) == {"harbour": 30, "tom": 30}


def test_two_agents_have_lists_of_their_own() -> None:
    db = Database(":memory:")
    schema.migrate(db)
    db.run("INSERT INTO agents (name, created_at) VALUES ('a', ''), ('b', '')")
    one, two = TermLists(db, 1), TermLists(db, 2)
    one.add("recall", [(1, "tea")])
    two.add("recall", [(1, "coffee"), (2, "milk")])
    assert lists(one, "recall", [1, 2]) == {1: [term_number("tea")]}
    assert one.ids("recall") == {1} and two.ids("recall") == {1, 2}
    one.clear("recall")
    one.remove("recall", [2])
    assert one.ids("recall") == set() and two.ids("recall") == {1, 2}
    assert two.differing("recall", [(1, "coffee"), (2, "Milks"), (3, "")]) == [3]
    db.close()
