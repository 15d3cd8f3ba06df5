"""What is stored of one agent: messages, passages, blocks, epochs, events and cursors come back as they went in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.errors import InvalidInputError, StoreError, UnknownNameError
from agentmem.store import selection as selection_module
from agentmem.store.agent_store import AgentStore
from agentmem.store.database import Database
from agentmem.store.selection import Selection
from agentmem.store.sqlite import SqliteStore
from agentmem.times import utc_seconds
from agentmem.types import Block, Draft, Epoch, Message, Passage, ToolCall

NOW = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


def no_notice(kind: str, payload: dict[str, Any]) -> None:
    raise AssertionError(f"a notice: {kind} {payload}")


def between(agent: AgentStore, since: float | None, until: float | None) -> list[int]:
    """The messages of a time."""
    return agent.recall.selection(since, until).kept(m.id for m in agent.recall.since(1))


def holding(agent: AgentStore, at: float, known_at: float | None = None) -> list[int]:
    """The passages that hold at a time."""
    return agent.archival.selection(at, known_at).kept(agent.archival.all_ids())


def bind(store: SqliteStore, name: str) -> AgentStore:
    return store.agent(name, create=True, now=NOW, notify=no_notice)


@pytest.fixture
def agent(store: SqliteStore) -> AgentStore:
    return bind(store, "a")


def say(store: SqliteStore, agent: AgentStore, *drafts: Draft | str) -> list[Message]:
    with store.write():
        return agent.recall.append([Draft("user", d) if isinstance(d, str) else d for d in drafts], NOW)


# -- agents ---------------------------------------------------------------------------------------------------


def test_agents_by_name(store: SqliteStore) -> None:
    with pytest.raises(UnknownNameError) as e:
        store.agent("b", create=False, now=NOW, notify=no_notice)
    assert e.value.known == ()
    assert [bind(store, n).agent_id for n in ("b", "a", "b")] == [1, 2, 1]
    assert store.agent_names() == ["b", "a"]
    for wrong in ("", "x" * 201, "a\nb", "\0"):
        with pytest.raises(InvalidInputError):
            bind(store, wrong)


# -- messages -------------------------------------------------------------------------------------------------

# Everything that UTF-8 can hold: lone surrogates are refused before they come here.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
labels = st.none() | texts
times = st.datetimes(
    datetime(1000, 1, 1),
    datetime(3000, 1, 1),
    timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=-7))),
)
calls = st.lists(st.builds(ToolCall, texts, texts, texts), max_size=2).map(tuple)
drafts = st.builds(
    Draft,
    role=st.sampled_from(["user", "assistant", "system", "tool"]),
    content=texts,
    name=labels,
    at=st.none() | times,
    session=labels,
    tool_calls=calls,
    tool_call_id=labels,
    derived=st.booleans(),
)


@given(batches=st.lists(st.lists(drafts, max_size=4), max_size=3))
def test_messages_come_back_as_they_went_in(batches: list[list[Draft]]) -> None:
    store = SqliteStore(":memory:", index="numpy")
    agent = bind(store, "a")
    given_drafts = [d for batch in batches for d in batch]
    stored = [m for batch in batches for m in say(store, agent, *batch)]
    assert [m.id for m in stored] == list(range(1, len(given_drafts) + 1))
    read = agent.recall.since(1)
    assert read == stored
    for draft, message in zip(given_drafts, read, strict=True):
        same = Draft(
            message.role, message.content, message.name, message.at, None, message.session, message.tool_calls,
            message.tool_call_id, message.derived,
        )  # fmt: skip
        assert same == replace(draft, at=draft.at or NOW)
        assert message.at.isoformat() == (draft.at or NOW).isoformat(), "with the zone that was given, or none"
    assert agent.recall.get([3, 1, 99, 2]) == [m for i in (3, 1, 2) for m in stored if m.id == i]
    assert agent.recall.count() == len(stored) == agent.recall.last_id()
    store.close()


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "a\0b\0",
        "שלום עולם ‏‎",
        "👩‍👩‍👧‍👦🏳️‍🌈",
        "e\u0301 é",
        "\ufeff\u2028\u2029\x85\r\n",
        "\U0010ffff",
        "x" * 1_000_000,
        "東" * 350_000,
    ],
    ids=["nul", "nul inside", "rtl", "emoji", "combining", "line ends", "last", "1 MB", "1 MB of three-byte signs"],
)
def test_odd_texts_come_back(store: SqliteStore, agent: AgentStore, text: str) -> None:
    (message,) = say(store, agent, Draft("user", text, name="A\0", key="k\0"))
    assert message.content == text
    assert agent.recall.get([1]) == [message]
    assert agent.recall.by_keys(["k\0"]) == {"k\0": message}
    assert agent.recall.names() == (["A\0"] if text.strip() else [])
    agent.recall.lexical.search(agent.recall.lexical.terms(text), top_k=3)
    assert store.integrity() == [] and agent.recall.lexical.check()


def test_ids_are_never_used_twice(store: SqliteStore, agent: AgentStore) -> None:
    say(store, agent, "one", "two", "three")
    with store.write():
        store.db.run("DELETE FROM messages WHERE id >= 2")
    assert [m.id for m in say(store, agent, "four")] == [4]
    assert agent.recall.last_id() == 4
    with store.write():
        store.db.run("DELETE FROM messages")
    assert [m.id for m in say(store, agent, "five")] == [5]
    passage = Passage(agent.archival.next_id(), "p", NOW, NOW)
    with store.write():
        agent.archival.add([passage])
        store.db.run("DELETE FROM passages")
    assert agent.archival.next_id() == 2
    with store.write():
        event = agent.journal.append_event("x", NOW, {})
        store.db.run("DELETE FROM events")
        assert agent.journal.append_event("x", NOW, {}).number == event.number + 1


def test_ids_of_a_rolled_back_transaction_are_free(store: SqliteStore, agent: AgentStore) -> None:
    with pytest.raises(KeyError), store.write():
        agent.recall.append([Draft("user", "lost")], NOW)
        raise KeyError
    assert [m.id for m in say(store, agent, "kept")] == [1]
    assert agent.recall.lexical.ids() == {1}
    assert agent.recall.lexical.search(["lost"], top_k=5) == []


def test_keys_are_unique_per_agent(store: SqliteStore, agent: AgentStore) -> None:
    say(store, agent, Draft("user", "first", key="D1:3"))
    with pytest.raises(StoreError):
        say(store, agent, "in the same batch", Draft("user", "second", key="D1:3"))
    assert [m.content for m in agent.recall.since(1)] == ["first"]
    assert agent.recall.lexical.ids() == {1}
    say(store, agent, Draft("user", "no key"), Draft("user", "no key"))
    other = bind(store, "b")
    say(store, other, Draft("user", "the other's", key="D1:3"))
    assert agent.recall.by_keys(["D1:3"])["D1:3"].content == "first"
    assert other.recall.by_keys(["D1:3"])["D1:3"].content == "the other's"


def test_many_ids_and_keys_at_once(store: SqliteStore, agent: AgentStore) -> None:
    say(store, agent, *(Draft("user", f"n{n}", key=f"k{n}") for n in range(1, 1203)))
    wanted = list(range(1202, 0, -1))
    assert [m.id for m in agent.recall.get(wanted)] == wanted
    assert len(agent.recall.by_keys([f"k{n}" for n in range(2000)])) == 1202


def test_since_between_and_names(store: SqliteStore, agent: AgentStore) -> None:
    day = timedelta(days=1)
    say(
        store, agent,
        Draft("user", "a", name="Tom", at=NOW), Draft("user", "b", name="Ann", at=NOW + day),
        Draft("user", "c", name="Ann", at=(NOW + 2 * day).replace(tzinfo=None)),
        Draft("tool", "d", name="search", at=NOW + 3 * day),
        Draft("assistant", "e", name="Bot", at=NOW, derived=True),
    )  # fmt: skip
    assert [m.id for m in agent.recall.since(2, 3)] == [2, 3]
    assert agent.recall.since(6) == []
    assert agent.recall.names() == ["Ann", "Tom"], "who spoke most comes first; tools and quotations do not speak"
    at = utc_seconds(NOW)
    assert between(agent, at, at + 86_400) == [1, 2, 5]
    assert between(agent, at + 1, None) == [2, 3, 4]
    assert between(agent, None, at) == [1, 5]


# -- passages -------------------------------------------------------------------------------------------------


def passage(agent: AgentStore, text: str, **values: Any) -> Passage:
    values.setdefault("stored_at", NOW)
    values.setdefault("valid_from", NOW)
    made = Passage(agent.archival.next_id(), text, **values)
    agent.archival.add([made])
    return made


@given(
    text=texts, key=labels, kind=texts, tags=st.lists(texts, max_size=3).map(tuple), stored=times, begins=times,
    ends=st.none() | times, sources=st.lists(texts, max_size=3, unique=True).map(tuple),
)  # fmt: skip
@settings(max_examples=40)
def test_passages_come_back_as_they_went_in(
    text: str, key: str | None, kind: str, tags: tuple[str, ...], stored: datetime, begins: datetime,
    ends: datetime | None, sources: tuple[str, ...],
) -> None:  # fmt: skip
    store = SqliteStore(":memory:", index="numpy")
    agent = bind(store, "a")
    made = Passage(1, text, stored, begins, ends, None, key, kind, tags, sources)
    with store.write():
        agent.archival.add([made])
    assert agent.archival.get([1]) == [made]
    if key is not None:
        assert agent.archival.by_key(key) == made
    for source in sources:
        assert agent.archival.derived_from(source) == [made]
    store.close()


@given(
    spans=st.lists(st.tuples(st.integers(0, 20), st.none() | st.integers(0, 20), st.integers(0, 20)), max_size=6),
    at=st.integers(-1, 21), known=st.none() | st.integers(-1, 21),
)  # fmt: skip
def test_what_holds_at_a_time(spans: list[tuple[int, int | None, int]], at: int, known: int | None) -> None:
    store = SqliteStore(":memory:", index="numpy")
    agent = bind(store, "a")

    def day(n: int) -> datetime:
        return NOW + timedelta(days=n)

    with store.write():
        for begins, ends, stored in spans:
            ended = None if ends is None else day(ends)
            passage(agent, "x", valid_from=day(begins), valid_to=ended, stored_at=day(stored))
    expected = [
        n
        for n, (begins, ends, stored) in enumerate(spans, 1)
        if begins <= at and (ends is None or at < ends) and (known is None or stored <= known)
    ]
    assert holding(agent, utc_seconds(day(at)), None if known is None else utc_seconds(day(known))) == expected
    store.close()


def test_supersession(store: SqliteStore, agent: AgentStore) -> None:
    move = NOW + timedelta(days=30)
    with store.write():
        old = passage(agent, "Lives in Porto.", tags=("address",))
        new = Passage(agent.archival.next_id(), "Lives in Lisbon.", NOW, move, sources=(old.ref,))
        closed = agent.archival.supersede(old, new)
    assert closed == replace(old, valid_to=move, superseded_by=2)
    assert agent.archival.get([1, 2]) == [closed, new]
    assert holding(agent, utc_seconds(NOW)) == [1]
    assert holding(agent, utc_seconds(move)) == [2], "from that moment on the new one, and not both"
    assert agent.archival.derived_from("p1") == [new]
    assert agent.archival.all_ids() == [1, 2]
    assert [p.id for p in agent.archival.after(1)] == [2]
    with pytest.raises(InvalidInputError, match="superseded by p2"), store.write():
        agent.archival.supersede(closed, Passage(3, "Lives in Faro.", NOW, move))
    assert agent.archival.all_ids() == [1, 2]


def test_superseding_does_not_bring_back_what_had_ended(store: SqliteStore, agent: AgentStore) -> None:
    def year(n: int) -> datetime:
        return datetime(n, 1, 1, tzinfo=UTC)

    with store.write():
        old = passage(agent, "Works at A.", valid_from=year(2019), valid_to=year(2020))
        new = Passage(agent.archival.next_id(), "Works at B.", NOW, year(2022))
        closed = agent.archival.supersede(old, new)
    assert closed.valid_to == year(2020)
    assert agent.archival.get([1]) == [closed]
    assert holding(agent, utc_seconds(year(2021))) == []
    assert holding(agent, utc_seconds(year(2023))) == [2]


# -- which records may be found -----------------------------------------------------------------------------

hours = st.none() | st.integers(-1, 13)
spans = st.tuples(
    st.integers(0, 12), st.none() | st.integers(0, 12), st.integers(0, 12), st.sets(st.sampled_from("xyz"))
)


def hour(n: int) -> datetime:
    return NOW + timedelta(hours=n)


def seconds(n: int | None) -> float | None:
    return None if n is None else utc_seconds(hour(n))


def allowed(selection: Selection, ids: list[int]) -> list[int]:
    """What it lets through, said in three ways that must agree."""
    import numpy as np

    found = [i for i in ids if (i in selection.ids) is not selection.excluding]
    assert selection.kept(ids) == found == [i for i, k in zip(ids, selection.keeps(np.array(ids)), strict=True) if k]
    sql, parameters = selection.sql()
    db = Database(":memory:")
    db.run("CREATE VIRTUAL TABLE t USING fts5(x, content='')")
    db.run_many("INSERT INTO t (rowid, x) VALUES (?, 'tea')", [(i,) for i in ids])
    rows = db.rows(f"SELECT rowid FROM t WHERE t MATCH 'tea' {'AND ' + sql if sql else ''}", parameters)
    assert sorted(r[0] for r in rows) == sorted(found)
    db.close()
    assert selection.everything == (found == ids and selection.excluding and not selection.ids)
    assert not selection.nothing or not found
    return found


@given(
    made=st.lists(spans, max_size=8), at=st.integers(-1, 13), known=hours, since=hours, until=hours,
    tags=st.lists(st.sampled_from("xyzw"), max_size=2), superseded=st.booleans(), gone=st.sets(st.integers(1, 8)),
    look=st.sampled_from([1, 2, 1024]), few=st.sampled_from([0, 5000]),
)  # fmt: skip
def test_which_passages_may_be_found(
    made: list[tuple[int, int | None, int, set[str]]], at: int, known: int | None, since: int | None,
    until: int | None, tags: list[str], superseded: bool, gone: set[int], look: int, few: int,
) -> None:  # fmt: skip
    store = SqliteStore(":memory:", index="numpy")
    agent, other = bind(store, "a"), bind(store, "b")
    with store.write():
        for begins, ends, stored, own in made:
            for each in (agent, other):
                passage(
                    each, "tea", valid_from=hour(begins), valid_to=None if ends is None else hour(ends),
                    stored_at=hour(stored), tags=tuple(sorted(own)) if each is agent else ("w",),
                )  # fmt: skip
        agent.archival.delete(agent.archival.get(sorted(gone)))
    expected = [
        p.id
        for p in agent.archival.after(0)
        if p.valid_from <= hour(at)
        and (superseded or p.valid_to is None or p.valid_to > hour(at))
        and (known is None or p.stored_at <= hour(known))
        and (since is None or p.valid_from >= hour(since))
        and (until is None or p.valid_from <= hour(until))
        and set(tags) <= set(p.tags)
    ]
    with patch.multiple(selection_module, FIRST_LOOK=look, FEW=few):
        found = agent.archival.selection(
            utc_seconds(hour(at)), seconds(known), since=seconds(since), until=seconds(until), tags=tags,
            superseded=superseded,
        )  # fmt: skip
    ids = agent.archival.all_ids()
    assert allowed(found, ids) == expected
    if not gone:
        assert len(found.ids) == min(len(expected), len(ids) - len(expected)), "the smaller side"
    store.close()


said = st.tuples(
    st.integers(0, 12), st.sampled_from(["Tom", "tom", "TOM", "Ann", "Åsa", "åsa", None]),
    st.sampled_from(["s", "t", None]),
    st.sampled_from(["user", "assistant", "tool"]), st.booleans(),
)  # fmt: skip


@given(
    made=st.lists(said, max_size=8), since=hours, until=hours,
    name=st.sampled_from([None, "tom", "Tom", "ann", "ÅSA", "nobody", ""]), session=st.sampled_from([None, "s", "S"]),
    gone=st.sets(st.integers(1, 8)), look=st.sampled_from([1, 2, 1024]), few=st.sampled_from([0, 5000]),
)  # fmt: skip
def test_which_messages_may_be_found(
    made: list[tuple[int, str | None, str | None, Any, bool]], since: int | None, until: int | None,
    name: str | None, session: str | None, gone: set[int], look: int, few: int,
) -> None:  # fmt: skip
    store = SqliteStore(":memory:", index="numpy")
    agent, other = bind(store, "a"), bind(store, "b")
    say(store, agent, *(Draft(r, "tea", n, hour(at), session=s, derived=d) for at, n, s, r, d in made))
    say(store, other, *(Draft("user", "tea", "Nobody", hour(at), session="S") for at in range(8)))
    with store.write():
        agent.recall.delete(agent.recall.get(sorted(gone)))
    expected = [
        m.id
        for m in agent.recall.since(1)
        if m.searchable
        and (since is None or m.at >= hour(since))
        and (until is None or m.at <= hour(until))
        and (name is None or (m.name is not None and m.name.casefold() == name.casefold()))
        and (session is None or m.session == session)
    ]
    with patch.multiple(selection_module, FIRST_LOOK=look, FEW=few):
        found = agent.recall.selection(seconds(since), seconds(until), name=name, session=session)
    assert allowed(found, [m.id for m in agent.recall.since(1) if m.searchable]) == expected
    store.close()


def test_the_smaller_side_is_named(store: SqliteStore, agent: AgentStore) -> None:
    with store.write():
        for n in range(10):
            passage(agent, "tea", valid_from=hour(n), tags=("all", "rare") if n == 3 else ("all",))
    select = agent.archival.selection
    late = utc_seconds(hour(20))
    assert select(late) == Selection() and select(late).everything
    assert select(utc_seconds(hour(8))) == Selection((10,), excluding=True)
    assert select(utc_seconds(hour(1))) == Selection((1, 2), excluding=False)
    assert select(late, tags=["rare"]) == Selection((4,), excluding=False)
    assert select(late, tags=["all"]) == Selection()
    assert select(late, tags=["all", "none"]).nothing and select(utc_seconds(hour(-1))).nothing
    assert select(late, since=late, until=late - 1).nothing
    say(store, agent, *(Draft("user", "tea", name="Tom" if n else "Ann", at=hour(n), session="s") for n in range(10)))
    assert agent.recall.selection() == Selection() == agent.recall.selection(session="s")
    assert agent.recall.selection(name="ann") == Selection((1,), excluding=False)
    assert agent.recall.selection(name="TOM") == Selection((1,), excluding=True)
    assert agent.recall.selection(until=utc_seconds(hour(8))) == Selection((10,), excluding=True)
    assert agent.recall.selection(since=utc_seconds(hour(8))) == Selection((9, 10), excluding=False)


def test_the_cost_is_that_of_the_smaller_side(store: SqliteStore, agent: AgentStore) -> None:
    """No statement reads more than some multiple of the side that is named: counted in steps of SQLite's machine."""
    with store.write():
        agent.archival.add(
            [Passage(n, "tea", hour(n), hour(n), tags=("rare",) if n % 1000 == 5 else ("all",)) for n in range(1, 4001)]
        )
    say(store, agent, *(Draft("user", "tea", name="Ann" if n % 1000 == 5 else "Tom", at=hour(n)) for n in range(4000)))
    late = utc_seconds(hour(9000))
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def cost(work: Callable[[], Selection]) -> int:
        nonlocal steps
        steps = 0
        store.db.connection.set_progress_handler(count, 10)
        found = work()
        store.db.connection.set_progress_handler(None, 0)
        assert len(found.ids) < 10
        return steps

    early = "SELECT id FROM messages WHERE agent_id = ? AND at_utc >= 0 AND at_utc <= 1"
    read = store.db.rows
    whole = cost(lambda: Selection(tuple(r[0] for r in read(early, (agent.agent_id,))), excluding=False)) + 1
    assert whole < 100
    works: list[Callable[[], Selection]] = [
        lambda: agent.archival.selection(late),
        lambda: agent.archival.selection(utc_seconds(hour(3998))),
        lambda: agent.archival.selection(late, utc_seconds(hour(3998))),
        lambda: agent.archival.selection(late, since=utc_seconds(hour(4))),
        lambda: agent.archival.selection(late, tags=["rare"]),
        lambda: agent.recall.selection(until=utc_seconds(hour(3998))),
        lambda: agent.recall.selection(name="ann"),
    ]
    assert [n for n, work in enumerate(works) if cost(work) > 100] == []
    assert cost(lambda: Selection(tuple(agent.archival.all_ids()[:5]), excluding=False)) > 1000, "the counter counts"


# -- the journal ----------------------------------------------------------------------------------------------


def test_blocks_and_their_history(store: SqliteStore, agent: AgentStore) -> None:
    journal = agent.journal
    human, persona = Block("human", "", 100, description="who"), Block("persona", "kind", 50, True)
    with store.write():
        journal.put_block(human, op="create", before="", actor="user", at=NOW)
        journal.put_block(persona, op="create", before="", actor="user", at=NOW)
        edited = replace(human, value="Likes tea.\0", version=2)
        journal.put_block(edited, op="append", before="", actor="tool", at=NOW)
    assert journal.blocks() == (edited, persona), "an edit does not move a block"
    history = journal.block_edits("human")
    assert [(e["version"], e["op"], e["before"], e["after"], e["actor"]) for e in history] == [
        (1, "create", "", "", "user"), (2, "append", "", "Likes tea.\0", "tool"),
    ]  # fmt: skip
    assert [e["label"] for e in journal.block_edits()] == ["human", "persona", "human"]
    with pytest.raises(StoreError), store.write():
        journal.put_block(replace(human, value="lost update", version=2), op="append", before="", actor="user", at=NOW)
    assert journal.blocks() == (edited, persona), "one version is one edit: the slower of two writers fails whole"
    assert bind(store, "b").journal.blocks() == ()


def test_epochs(store: SqliteStore, agent: AgentStore) -> None:
    journal = agent.journal
    assert journal.epoch() is None
    blocks = (Block("human", "ü\0", 9, True, 3, "d"),)
    first, second = Epoch(1, 1, "", 0, 0, (), NOW), Epoch(2, 7, "said: é", 1, 6, blocks, NOW)
    with store.write():
        journal.start_epoch(first, "first")
        journal.start_epoch(second, "pressure")
    assert journal.epoch() == second and journal.epoch(1) == first and journal.epoch(3) is None
    assert journal.epochs() == [(first, "first"), (second, "pressure")]
    with pytest.raises(StoreError), store.write():
        journal.start_epoch(replace(second, summary="another process was quicker"), "pressure")
    with store.write():
        journal.rewrite_epoch(2, "", ())
    assert journal.epoch() == replace(second, summary="", blocks=())


def test_events_in_order_and_in_pages(store: SqliteStore, agent: AgentStore) -> None:
    journal = agent.journal
    with store.write():
        for n in range(1, 1103):
            journal.append_event("odd" if n % 2 else "even", NOW + timedelta(seconds=n), {"n": n, "ü": [None, 1.5]})
    assert [e.number for e in journal.events()] == list(range(1, 1103))
    odd = list(journal.events("odd", after=1000))
    assert [e.number for e in odd] == list(range(1001, 1103, 2))
    assert odd[0].payload == {"n": 1001, "ü": [None, 1.5]} and odd[0].at == NOW + timedelta(seconds=1001)
    last = journal.last_event("odd")
    assert last is not None and last.number == 1101 and journal.last_event("none") is None
    assert list(bind(store, "b").journal.events()) == []


def test_cursors(store: SqliteStore, agent: AgentStore) -> None:
    journal = agent.journal
    assert journal.get_cursor("a") is None
    with store.write():
        for name, value in {"a": 1, "a:1": [1, {"x": None}], "a%": "é\ud83d", "b": False}.items():
            journal.put_cursor(name, value, NOW)
        journal.put_cursor("a", 2, NOW)
    assert journal.get_cursor("a") == 2 and journal.get_cursor("b") is False
    assert journal.get_cursor("a%") == "é\ud83d"
    assert bind(store, "b").journal.get_cursor("a") is None
    with store.write():
        journal.drop_cursors("a%")
    assert journal.get_cursor("a%") is None and journal.get_cursor("a:1") == [1, {"x": None}]
    with store.write():
        journal.drop_cursors("a")
    assert journal.get_cursor("a") is None and journal.get_cursor("a:1") is None and journal.get_cursor("b") is False
