"""Erasing for good: the text is in no byte of any file, in no view, in no process, and what is another's stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmem.agent import Agent
from agentmem.archive_file import export_lines
from agentmem.errors import InvalidInputError, UnknownNameError
from agentmem.inspecting import verify
from agentmem.memory import Memory
from agentmem.replay import replay
from agentmem.scripted import ScriptedBackend, tool_call
from agentmem.types import Completion, Request

SMALL = {"window_tokens": 400, "keep_last": 2}
# Large enough for summaries that quote.
MIDDLE = {"window_tokens": 1000, "keep_last": 2}
SECRET = "My sister Wilhelmina keeps the xylophone in locker 8841-QZ."
WORDS = ("Wilhelmina", "xylophone", "8841-QZ")
Make = Callable[..., Memory]


def files_of(memory: Memory) -> list[Path]:
    db = Path(memory.store.path)
    folder = Path(f"{db}-index")
    return [p for p in (db, Path(f"{db}-wal"), Path(f"{db}-shm"), *folder.glob("*")) if p.is_file()]


def assert_no_byte(memory: Memory, *texts: str) -> None:
    for path in files_of(memory):
        data = path.read_bytes().lower()
        for text in texts:
            assert text.lower().encode() not in data, (path, text)


def assert_in_no_view(memory: Memory, *texts: str) -> None:
    views = {
        "export": "\n".join(export_lines(memory)),
        "events": json.dumps([dict(e.payload) for e in memory.events()]),
        "core": json.dumps([[b.value for b in memory.records.journal.blocks()], memory.records.journal.block_edits()]),
        "summary": "\n".join(e.summary for e, _ in memory.records.journal.epochs()),
        "search": "\n".join(h.text for h in memory.search(" ".join(texts), top_k=50)),
        "prompt": "\n".join(m.content for m in memory.render(query="What do you know?").messages),
        "page": memory.page_in(" ".join(texts), max_tokens=2000).text,
    }
    for name, view in views.items():
        for text in texts:
            assert text not in view, (name, text)


def fill(memory: Memory, n: int, start: int = 0) -> None:
    for i in range(start, start + n):
        memory.observe("user", f"Line {i}: the weather over the harbour was number {i * 37} of its kind.", key=f"f{i}")


@pytest.mark.parametrize("paged_out", [True, False])
def test_no_byte_and_no_view_holds_it(memory_factory: Make, paged_out: bool) -> None:
    memory = memory_factory(**MIDDLE)
    fill(memory, 6)
    memory.observe("user", SECRET, key="secret", name="Tom")
    memory.core["human"].append("Keeps instruments.")
    memory.core["human"].append(SECRET)
    memory.core["human"].replace(SECRET, "Has a sister.")
    if paged_out:
        fill(memory, 30, start=10)
        assert any("Wilhelmina" in e.summary for e, _ in memory.records.journal.epochs())
    memory.search("xylophone")
    memory.records.dense["recall"].write()
    assert any(b"Wilhelmina" in p.read_bytes() for p in files_of(memory))
    done = memory.erase(key="secret")
    assert done["messages"] >= 1
    assert_no_byte(memory, SECRET, *WORDS)
    assert_in_no_view(memory, SECRET, *WORDS)
    assert memory.core["human"].value.splitlines()[0] == "Keeps instruments."
    assert memory.message("secret") is None
    assert verify(memory) == []
    memory.close()
    assert_no_byte(memory, SECRET, *WORDS)


def test_the_vectors_go_from_sqlite_and_from_the_index_file(memory_factory: Make) -> None:
    memory = memory_factory()
    fill(memory, 5)
    memory.observe("user", SECRET, key="secret")
    memory.search("xylophone")
    _, _, found = memory.records.vectors.parts_of("recall", [6])
    raw = found[0].astype("<f4").tobytes()
    memory.records.dense["recall"].write()
    assert sum(raw in p.read_bytes() for p in files_of(memory)) >= 2
    memory.erase(key="secret")
    memory.search("xylophone")
    memory.records.dense["recall"].write()
    assert not any(raw in p.read_bytes() for p in files_of(memory))


def test_derived_passages_go_to_the_end_and_successors_in_time_stay(memory_factory: Make) -> None:
    memory = memory_factory()
    said = memory.observe("user", SECRET, key="secret")
    fact = memory.archive("Wilhelmina has locker 8841-QZ.", sources=[said.ref], key="fact")
    insight = memory.archive("Somebody named Wilhelmina is trusted.", sources=[fact.ref])
    memory.archive("Trust is rare.", sources=[insight.ref, "m1"])
    beside = memory.archive("The harbour is cold.", key="cold")
    old = memory.archive("Lives in Porto, said the old letter.")
    new = memory.supersede(old.id, "Lives in Lisbon, says the new letter.")
    done = memory.erase(key="secret")
    assert done["passages"] == 3
    assert {p.id for p in memory.records.archival.after(0)} == {beside.id, old.id, new.id}
    # The old one of a pair goes, the new one says something else.
    memory.erase(id=old.ref)
    left = {p.id: p for p in memory.records.archival.after(0)}
    assert set(left) == {beside.id, new.id}
    assert_no_byte(memory, "Porto", *WORDS)
    assert verify(memory) == []
    # And the other way round: what it had superseded stays closed.
    other = memory.archive("Drives a red car.")
    newer = memory.supersede(other.id, "Drives a blue car.")
    memory.erase(id=newer.ref)
    closed = memory.passage(other.id)
    assert closed.superseded_by is None and closed.valid_to is not None
    assert verify(memory) == []


def test_long_texts_are_not_left_in_a_shortened_copy(memory_factory: Make) -> None:
    """A summary line and a search result show only the beginning of a long sentence."""
    end = "and it was there before that and after it " * 6
    memory = memory_factory(**MIDDLE)
    memory.observe("user", f"My sister Wilhelmina keeps the xylophone in locker 8841-QZ {end}.", key="secret")
    for _ in range(60):
        memory.observe("user", "So it is, and so it was before that, and then it was not so after all.")
    assert any("Wilhelmina" in e.summary for e, _ in memory.records.journal.epochs())
    memory.erase(key="secret")
    assert_no_byte(memory, *WORDS)
    assert_in_no_view(memory, *WORDS)


def test_a_short_text_leaves_the_summary_as_well(memory_factory: Make) -> None:
    memory = memory_factory(**SMALL)
    memory.observe("user", "PIN 8841-QZ", key="secret")
    fill(memory, 14)
    assert any("8841-QZ" in e.summary for e, _ in memory.records.journal.epochs())
    memory.erase(key="secret")
    assert_no_byte(memory, "8841-QZ")
    assert verify(memory) == []


def test_what_a_turn_filed_goes_with_it(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=2000)
    agent = Agent(memory, "extractive")
    agent.send("I live in Reykjavik and I work as a falconer.")
    agent.send("My name is Tom Harris.")
    agent.send("Where do I live?")
    assert "Reykjavik" in memory.core["human"].value
    memory.erase(id="m1")
    assert_no_byte(memory, "Reykjavik", "falconer")
    assert_in_no_view(memory, "Reykjavik", "falconer")
    assert memory.core["human"].value == "Name: Tom Harris"
    assert verify(memory) == []
    agent.send("My name is Tim Harris.")
    assert verify(memory) == []


def test_tool_traffic_that_shows_it_goes(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=6000)
    memory.observe("user", SECRET, key="secret")
    fill(memory, 3)
    agent = Agent(
        memory,
        ScriptedBackend([
            tool_call("conversation_search", query="xylophone locker", request_heartbeat=True),
            "It is in a locker.",
            tool_call("archival_memory_insert", content="Locker 8841-QZ is Wilhelmina's.", request_heartbeat=True),
            "Kept.",
        ]),
    )  # fmt: skip
    agent.send("Where is it?")
    agent.send("Keep that.")
    keeping = next(m for m in memory.records.recall.since(1) if m.content == "Keep that.")
    memory.erase(key="secret")
    memory.erase(id=keeping.ref)
    assert_no_byte(memory, *WORDS)
    assert_in_no_view(memory, *WORDS)
    assert verify(memory) == []
    stored = memory.records.recall.since(1)
    assert {c.id for m in stored for c in m.tool_calls} == {m.tool_call_id for m in stored if m.tool_call_id}


def test_a_summary_by_a_model_is_made_anew(memory_factory: Make) -> None:
    def line(request: Request) -> Completion:
        asked = request.messages[-1].content
        told = "Tom's sister hides a big instrument (Wilhelmina)."
        return Completion(told if "Output the summary alone" in asked else "Noted.")

    memory = memory_factory(window_tokens=3200)
    agent = Agent(memory, ScriptedBackend([line] * 60))
    agent.send(SECRET)
    for n in range(20):
        agent.send(f"Line {n}: the weather over the harbour was number {n * 37} of its kind, and so it went on. " * 3)
    assert any("big instrument" in e.summary for e, _ in memory.records.journal.epochs())
    memory.erase(id="m1")
    assert_no_byte(memory, "Wilhelmina", "big instrument")
    assert verify(memory) == []
    statuses = {r.status for r in replay(memory)}
    assert statuses <= {"same", "erased"}


def test_another_agents_equal_text_stays(memory_factory: Make) -> None:
    one, two = memory_factory(agent="one"), memory_factory(agent="two")
    for memory in (one, two):
        fill(memory, 3)
        memory.observe("user", SECRET, key="secret")
        memory.search("xylophone")
    one.erase(key="secret")
    assert two.search("xylophone locker")[0].text == SECRET
    assert two.message("secret") is not None
    assert_in_no_view(one, *WORDS)
    assert verify(one) == [] and verify(two) == []
    two.erase(key="secret")
    assert_no_byte(two, *WORDS)


def test_the_same_text_said_twice(memory_factory: Make) -> None:
    """What was said once more, under another key, is another record: it stays, with its vector."""
    memory = memory_factory()
    memory.observe("user", SECRET, key="a")
    memory.observe("user", SECRET, key="b")
    memory.search("xylophone")
    memory.erase(key="a")
    hits = memory.search("xylophone locker", explain=True)
    assert [h.key for h in hits] == ["b"] and hits[0].parts is not None and hits[0].parts["cosine"] > 0
    assert verify(memory) == []


def test_replay_says_erased(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=2500)
    agent = Agent(memory, ScriptedBackend(["Noted."] * 4))
    agent.send("First of all, hello to you.")
    agent.send(SECRET)
    agent.send("And what of it?")
    assert [r.status for r in replay(memory)] == ["same"] * 3
    memory.erase(id=next(m.ref for m in memory.records.recall.since(1) if m.content == SECRET))
    assert [r.status for r in replay(memory)] == ["same", "erased", "erased"]


def test_unknown_keys_and_ids(memory_factory: Make) -> None:
    memory = memory_factory()
    fill(memory, 1)
    for wrong in ({"key": "nobody"}, {"id": "m99"}, {"id": "p1"}, {"id": "x"}, {"id": ""}, {"id": "m"}):
        with pytest.raises((UnknownNameError, InvalidInputError)):
            memory.erase(**wrong)
    with pytest.raises(InvalidInputError):
        memory.erase()
    with pytest.raises(InvalidInputError):
        memory.erase(key="f0", id="m1")
    assert memory.stats()["messages"] == 1
    with pytest.raises(UnknownNameError):
        memory.erase(key="nobody")


def test_a_reader_that_holds_the_log_back_is_said_and_mended_later(
    memory_factory: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, reader = memory_factory(), memory_factory()
    fill(memory, 2)
    memory.observe("user", SECRET, key="secret")
    memory.store.db.connection.execute("PRAGMA busy_timeout = 50")
    with reader.store.db.read():
        reader.store.db.rows("SELECT count(*) FROM messages")
        memory.erase(key="secret")
        assert any("write-ahead log" in n for n in memory.notices)
        assert memory.search("xylophone locker") == [] or SECRET not in [h.text for h in memory.search("xylophone")]
    again = memory_factory()
    assert_no_byte(again, *WORDS)
    assert verify(again) == []


def test_nothing_of_it_is_left_in_a_killed_writers_file(memory_factory: Make) -> None:
    """A snapshot that was never renamed holds the vectors as well."""
    memory = memory_factory()
    fill(memory, 2)
    memory.observe("user", SECRET, key="secret")
    memory.search("xylophone")
    file = memory.records.dense["recall"].path
    assert file is not None
    memory.records.dense["recall"].write()
    leftover = file.with_name(f"{file.name}.4711.tmp")
    leftover.write_bytes(file.read_bytes())
    memory.erase(key="secret")
    assert not leftover.exists()
