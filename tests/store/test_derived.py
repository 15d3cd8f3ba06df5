"""The caches in the file: what was derived from texts, by content and with a quota, and answers by version."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils.migrations import Migrations

from agentmem import crashpoints
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.derived import decode, derived_key, encode, spans_of, text_of
from agentmem.errors import StoreFullError
from agentmem.inspecting import verify
from agentmem.memory import Memory
from agentmem.store.agent_store import AgentStore
from agentmem.store.archival import Archival
from agentmem.store.database import Database
from agentmem.store.derived import ROW_BYTES, Derived
from agentmem.store.recall import Recall
from agentmem.store.schema import MIGRATIONS, migrate
from agentmem.store.sqlite import SqliteStore
from tests.crashing import crash_at

NOW = datetime(2023, 5, 8, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "m.db", index="numpy")
    yield made
    made.close()
    crashpoints.install(None)


def agent(store: SqliteStore, name: str = "a") -> AgentStore:
    return store.agent(name, create=True, now=NOW, notify=lambda _kind, _payload: None)


def key(n: int) -> bytes:
    return derived_key("compressed", "f", str(n))


def accounted(store: SqliteStore, agent_id: int) -> int:
    row = store.db.row("SELECT derived_bytes FROM agents WHERE id = ?", (agent_id,))
    assert row is not None
    return int(row[0])


# -- keys and values ---------------------------------------------------------------------------------------------

texts = st.text(st.characters(), max_size=4)  # lone surrogates too
made_of = st.tuples(texts, texts, st.lists(texts, max_size=3), texts)


@given(made_of, made_of)
def test_a_key_stands_for_its_parts_and_no_others(a: Any, b: Any) -> None:
    keys = [derived_key(x[0], x[1], *x[2], template=x[3]) for x in (a, b)]
    assert (keys[0] == keys[1]) == (a == b)
    assert len(keys[0]) == 32


def test_texts_are_not_joined_for_a_key() -> None:
    assert len({derived_key("k", "f", *x) for x in (("ab",), ("a", "b"), ("", "ab"), ("ab", ""), ("b", "a"))}) == 5
    # What is on disk is found by later versions: this digest may only change together with FORMAT.
    assert derived_key("k", "f", "a", "b", template="2").hex().startswith("0899bfc8e578f41f")


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda x: st.lists(x) | st.dictionaries(texts, x))
)
def test_a_value_comes_back(value: Any) -> None:
    assert decode(encode([value]), lambda v: v) == [value]


@pytest.mark.parametrize(
    "data", [None, b"", b"\xff", b"[[0, 2]", b"{}", b'"x"', b"[[0]]", b"[[2, 1]]", b"[[0, 9]]", b"[[0, 2], [1, 3]]",
             b"[[0, true]]", b"[[0.0, 1.0]]", b"[" * 100_000],
)  # fmt: skip
def test_a_damaged_value_is_none(data: bytes | None) -> None:
    assert decode(data, lambda v: spans_of(v, 5)) is None
    assert data == b'"x"' or decode(data, text_of) is None


def test_spans_and_texts_come_back() -> None:
    assert decode(encode([[0, 2], [3, 5]]), lambda v: spans_of(v, 5)) == ((0, 2), (3, 5))
    assert decode(encode([]), lambda v: spans_of(v, 5)) == ()
    assert decode(encode("né"), text_of) == "né"


# -- the cache ---------------------------------------------------------------------------------------------------


def test_kept_replaced_and_apart_by_kind_and_agent(store: SqliteStore) -> None:
    one, two = agent(store, "one"), agent(store, "two")
    assert one.derived.get("compressed", key(1)) is None
    assert one.derived.put("compressed", key(1), b"[[0,1]]", NOW)
    assert one.derived.put("summary", key(1), b'"s"', NOW)
    assert one.derived.put("compressed", key(1), b"[[0,2]]", NOW)
    assert two.derived.put("compressed", key(1), b"[]", NOW)
    assert one.derived.get("compressed", key(1)) == b"[[0,2]]"
    assert one.derived.get("summary", key(1)) == b'"s"'
    assert two.derived.get("compressed", key(1)) == b"[]"
    assert two.derived.get("summary", key(1)) is None
    assert one.derived.size() == (2, accounted(store, one.agent_id))
    with store.write():
        one.clear_caches()
    assert one.derived.get("compressed", key(1)) is None and one.derived.size() == (0, 0)
    assert two.derived.get("compressed", key(1)) == b"[]"
    assert (accounted(store, one.agent_id), one.derived.clears(), two.derived.clears()) == (0, 1, 0)


@settings(max_examples=20)
@given(st.data())
def test_the_least_recently_used_go_first(data: st.DataObject) -> None:
    """Against a model, with two handles: of each, the uses are written down when it next keeps something."""
    store = SqliteStore(":memory:")
    made = agent(store)
    size = ROW_BYTES + len("compressed") + 32
    room = 5 * (size + 10)
    cache = Derived(store.db, made.agent_id, quota=room)
    model: OrderedDict[int, int] = OrderedDict()
    for _ in range(data.draw(st.integers(1, 25))):
        n, length = data.draw(st.integers(0, 8)), data.draw(st.integers(1, 40))
        if data.draw(st.booleans()):
            found = cache.get("compressed", key(n))
            assert (None if found is None else len(found)) == model.get(n)
            if n in model:
                model.move_to_end(n)
        else:
            assert cache.put("compressed", key(n), b"x" * length, NOW)
            model.pop(n, None)
            model[n] = length
            while sum(size + x for x in model.values()) > room:
                model.popitem(last=False)
        assert cache.size() == (len(model), accounted(store, made.agent_id))
    store.close()


def test_a_value_larger_than_the_quota_is_not_kept(store: SqliteStore) -> None:
    cache = Derived(store.db, agent(store).agent_id, quota=1000)
    assert cache.put("summary", key(0), b"x", NOW)
    assert not cache.put("summary", key(1), b"x" * 1000, NOW)
    assert cache.get("summary", key(0)) == b"x" and cache.get("summary", key(1)) is None


def test_several_are_kept_in_one_transaction_or_none(store: SqliteStore) -> None:
    made = agent(store)
    cache = Derived(store.db, made.agent_id, quota=1000)
    commits = []
    store.db.connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    assert cache.put_all("compressed", {key(n): bytes([n]) for n in range(3)}, NOW)
    store.db.connection.set_trace_callback(None)
    assert len(commits) == 1
    assert [cache.get("compressed", key(n)) for n in range(3)] == [b"\0", b"\1", b"\2"]
    assert not cache.put_all("compressed", {key(3): b"", key(4): b"x" * 1000}, NOW)
    assert cache.get("compressed", key(3)) is None and cache.put_all("compressed", {}, NOW)
    assert cache.put_all("compressed", {key(n): b"x" * 100 for n in range(10)}, NOW), "more than fit"
    assert [n for n in range(10) if cache.get("compressed", key(n)) is not None] == [6, 7, 8, 9]
    assert cache.size() == (4, accounted(store, made.agent_id))


def test_one_agents_quota_is_not_anothers(store: SqliteStore) -> None:
    one, two = (Derived(store.db, agent(store, name).agent_id, quota=1000) for name in ("one", "two"))
    two.put("summary", key(0), b"kept", NOW)
    for n in range(50):
        one.put("summary", key(n), b"x" * 100, NOW)
    assert 2 <= one.size()[0] <= 5 and one.size()[1] <= 1000
    assert two.get("summary", key(0)) == b"kept"


def test_a_value_of_another_type_and_a_wrong_sum_are_got_over(store: SqliteStore) -> None:
    made = agent(store)
    cache = Derived(store.db, made.agent_id, quota=1000)
    cache.put("summary", key(0), b"x", NOW)
    with store.write():
        store.db.run("UPDATE derived SET value = 'text'")
        store.db.run("UPDATE agents SET derived_bytes = 5000")
    assert cache.get("summary", key(0)) is None
    assert cache.put("summary", key(0), b"y", NOW)
    assert cache.size()[0] == accounted(store, made.agent_id) == 0, "all went, and the sum is right again"
    assert cache.put("summary", key(0), b"y", NOW) and cache.get("summary", key(0)) == b"y"


def test_two_handles_on_one_file(store: SqliteStore, tmp_path: Path) -> None:
    other = SqliteStore(tmp_path / "m.db", index="numpy")
    mine, theirs = agent(store).derived, agent(other).derived
    mine.put("summary", key(1), b"1", NOW)
    assert theirs.get("summary", key(1)) == b"1"
    with other.write():
        theirs.clear()
    assert mine.get("summary", key(1)) is None
    assert mine.put("summary", key(2), b"2", NOW), "a use that was noted of what is gone harms nothing"
    assert theirs.size()[0] == 1
    other.close()


def test_what_was_begun_before_the_cache_was_emptied_is_not_kept(store: SqliteStore) -> None:
    cache = agent(store).derived
    before = cache.clears()
    assert cache.put("summary", key(1), b"1", NOW, since=before)
    with store.write():
        cache.clear()
    assert not cache.put("summary", key(1), b"1", NOW, since=before)
    assert cache.get("summary", key(1)) is None
    assert cache.put("summary", key(1), b"1", NOW, since=cache.clears())


def fill_up(store: SqliteStore) -> None:
    """No page more than the file has: SQLite then says that the disk is full."""
    store.db.run("VACUUM")
    store.db.rows("PRAGMA max_page_count = 1")


def test_a_full_disk_costs_the_value_and_in_a_transaction_the_transaction(store: SqliteStore) -> None:
    cache = agent(store).derived
    large = b"x" * 200_000
    fill_up(store)
    assert cache.put("summary", key(1), large, NOW) is False
    assert cache.get("summary", key(1)) is None and store.integrity() == []
    with pytest.raises(StoreFullError), store.write():
        store.db.run("UPDATE agents SET name = 'b'")
        cache.put("summary", key(1), large, NOW)
    assert store.agent_names() == ["a"]
    store.db.rows("PRAGMA max_page_count = 1000000")
    assert cache.put("summary", key(1), large, NOW)


def test_within_a_transaction_it_is_part_of_it(store: SqliteStore) -> None:
    cache = agent(store).derived

    class Undone(Exception):
        pass

    with pytest.raises(Undone), store.write():
        assert cache.put("summary", key(1), b"1", NOW)
        assert cache.get("summary", key(1)) == b"1"
        raise Undone
    assert cache.get("summary", key(1)) is None
    assert cache.size() == (0, 0) and accounted(store, 1) == 0


# -- answers -----------------------------------------------------------------------------------------------------


def digest(n: int) -> bytes:
    return derived_key("q", "", str(n))


def test_answers_by_category_version_scope_and_time(store: SqliteStore) -> None:
    one, two = agent(store, "one").answers, agent(store, "two").answers

    def keep(n: int, category: str = "faq", version: bytes = b"v1", scope: bytes = b"s", at: float = 10.0) -> None:
        with store.write():
            one.keep(category, version, scope, digest(n), None, b"{}", at, most=3)

    keep(1)
    keep(2, at=12.0)
    keep(3, category="other")
    keep(4, scope=b"t", at=13.0)
    found = one.find("faq", b"v1", b"s", 9.0, 12.0)
    assert [(r.question, r.vector, r.kept_utc) for r in found] == [(digest(2), None, 12.0), (digest(1), None, 10.0)]
    assert [r.question for r in one.find("faq", b"v1", b"s", 10.0, 20.0)] == [digest(2)], "the first end is open"
    assert [r.question for r in one.find("faq", b"v1", b"s", 0.0, 11.0)] == [digest(1)], "not what is of later"
    assert one.find("faq", b"v2", b"s", 0.0, 20.0) == [] == two.find("faq", b"v1", b"s", 0.0, 20.0)
    keep(5, scope=b"t")
    assert one.count("faq") == 3 and [r.question for r in one.find("faq", b"v1", b"s", 0.0, 20.0)] == [digest(2)]
    keep(2)
    assert one.count("faq") == 3, "the same question again takes no place of another"
    keep(6, version=b"v2")
    assert (one.count("faq"), one.count("other")) == (1, 1), "answers of another version go"
    with store.write():
        one.clear()
    assert (one.count("faq"), one.count("other")) == (0, 0)


# -- old files ---------------------------------------------------------------------------------------------------


def old_file(path: Path) -> None:
    """A file as the version before this migration left it, with an agent and its epoch."""
    before = Migrations("agentmem")
    for migration in MIGRATIONS._migrations:
        if migration.name < "m006":
            before(name=migration.name)(migration.fn)
    db = Database(path)
    migrate(db, before)
    db.run("INSERT INTO agents (name, created_at, next_message) VALUES ('a', '2023-05-08T00:00:00+00:00', 2)")
    db.run("INSERT INTO epochs VALUES (1, 1, 1, 'They met.', 0, 0, '[]', '2023-05-08T00:00:00+00:00', 'first')")
    with db.write():
        Recall(db, 1).lexical.create()
        Archival(db, 1).lexical.create()
    db.close()


def test_an_old_file_gets_the_caches_and_keeps_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    old_file(path)
    with Memory(path, "a", embedder=HashingEmbedder(32), clock=lambda: NOW) as memory:
        first, _ = memory.records.journal.epochs()[0]
        assert (first.number, first.summary) == (1, "They met.")
        assert {r[0] for r in memory.store.db.rows("SELECT compressed FROM epochs")} == {"[]"}
        memory.observe("user", "Hello there.")
        assert memory.records.derived.put("summary", key(1), b"1", NOW)
        assert verify(memory) == []
    with Memory(path, "a", embedder=HashingEmbedder(32), create=False) as memory:
        assert memory.records.derived.get("summary", key(1)) == b"1"


def test_a_crash_in_the_migration_leaves_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    old_file(path)

    with crash_at("migration.before_commit"):
        SqliteStore(path)
    plain = sqlite3.connect(path)
    assert "compressed" not in [r[1] for r in plain.execute("PRAGMA table_info(epochs)")]
    assert plain.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('derived', 'answers')").fetchone() == (0,)
    plain.close()
    with Memory(path, "a", embedder=HashingEmbedder(32)) as memory:
        assert verify(memory) == []
