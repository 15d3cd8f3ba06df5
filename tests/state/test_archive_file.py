"""A full archive: all that is true goes through it, into another file, unchanged; a damaged one is refused whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agentmem.agent import Agent
from agentmem.archive_file import export_lines, import_lines
from agentmem.errors import InvalidInputError, StoreError
from agentmem.inspecting import verify
from agentmem.memory import Memory
from agentmem.replay import replay
from agentmem.scripted import ScriptedBackend, tool_call

Make = Callable[..., Memory]
SMALL = {"window_tokens": 400, "keep_last": 2}


def lived(memory: Memory) -> Memory:
    """A memory with something of everything in it."""
    memory.ingest([
        {"role": "user", "content": f"Line {n}: the weather over the harbour was number {n * 37}.", "id": f"k{n}",
         "session": str(n // 5), "name": ("Anna", "Tom")[n % 2], "at": f"2023-05-08T13:{n:02d}:00+02:00"}
        for n in range(25)
    ])  # fmt: skip
    memory.observe("user", 'Odd signs: \u2028 \x85 \x1c " \\ \t \0 \u00e9 \U0001f600\r\nnext line', at="2023-05-09")
    memory.core["human"].append("Likes tea.")
    memory.core.add("plans", "Sail to Gdansk.", max_tokens=40, description="What is ahead.")
    memory.core["plans"].read_only = True
    tags = ["home", "city"]
    first = memory.archive("Lives in Porto.", tags=tags, valid_from="2020-01-01", key="home", sources=["m3"])
    second = memory.supersede(first.id, "Lives in Lisbon.", valid_from="2022-01-01")
    memory.supersede(second.id, "Lives in Gdansk.", valid_from="2023-01-01", tags=["home"])
    memory.archive("Held the lease for a year.", valid_from="2020-01-01", valid_to="2021-01-01", kind="note")
    memory.archive("Something to be forgotten.", key="bad")
    memory.erase(key="bad")
    memory.erase(key="k7")
    return memory


def conversed(memory: Memory) -> Memory:
    agent = Agent(
        memory,
        ScriptedBackend([
            tool_call("archival_memory_insert", content="Tom likes \"tea\".", request_heartbeat=True), "Noted.",
            tool_call("core_memory_append", label="human", content="Drinks tea.", request_heartbeat=True), "Yes.",
        ]),
    )  # fmt: skip
    agent.send("Tom likes tea.")
    agent.send("What of the harbour weather?")
    return memory


def archive(memory: Memory) -> list[str]:
    return list(export_lines(memory))


def views(memory: Memory) -> dict[str, Any]:
    records = memory.records
    asked = ("the weather number 370", "Where does she live?", "Gdansk", "tea", "Odd signs")
    return {
        "messages": records.recall.since(1),
        "passages": records.archival.after(0),
        "blocks": records.journal.blocks(),
        "edits": records.journal.block_edits(),
        "epochs": records.journal.epochs(),
        "events": [e for e in memory.events() if e.kind != "import"],
        "queue": memory.pager.state()[1],
        "names": records.recall.names(),
        "search": [memory.search(q, top_k=8, explain=True) for q in asked],
        "then": [memory.search(q, top_k=8, as_of="2021-06-01", tier="archival") for q in asked],
        "prompt": memory.render(query="Where does she live?", at="2023-06-01").messages,
    }


def test_all_views_are_equal_and_the_second_export_is_the_first(memory_factory: Make) -> None:
    one = lived(memory_factory("a.db", agent="anna", **SMALL))
    lines = archive(one)
    two = memory_factory("b.db", agent="berta", **SMALL)
    counts = import_lines(two, [f"{line}\n" for line in lines])
    assert counts["message"] == len(one.records.recall.since(1)) and counts["passage"] == 4
    assert views(one) == views(two)
    assert verify(two) == []
    again = [json.loads(line) for line in archive(two)]
    first = [json.loads(line) for line in lines]
    extra = [r for r in again if r.get("kind") == "import"]
    assert len(extra) == 1 and extra[0]["number"] == first[0]["next_event"]
    assert again[0] == {**first[0], "agent": "berta", "next_event": first[0]["next_event"] + 1}
    assert [r for r in again[1:-1] if r not in extra] == first[1:-1]
    assert again[-1]["lines"] == first[-1]["lines"] + 1
    # Ids go on where they were: none is given out twice.
    assert two.observe("user", "And on it goes.").id == one.observe("user", "And on it goes.").id
    assert two.archive("New.").id == one.archive("New.").id
    assert verify(two) == []


def test_a_conversation_replays_after_an_import(memory_factory: Make) -> None:
    one = conversed(memory_factory("a.db", window_tokens=3300))
    two = memory_factory("b.db", window_tokens=3300)
    import_lines(two, archive(one))
    assert [r.status for r in replay(two)] == [r.status for r in replay(one)]
    assert {r.status for r in replay(two)} == {"same"}
    one, again = memory_factory("a.db", window_tokens=3300), memory_factory("b.db", window_tokens=3300)
    assert views(one) == views(again)


def test_into_another_agent_of_the_same_file(memory_factory: Make) -> None:
    one = lived(memory_factory(agent="anna", **SMALL))
    two = memory_factory(agent="berta", **SMALL)
    import_lines(two, archive(one))
    assert views(one) == views(two)
    assert verify(one) == [] and verify(two) == []
    two.erase(key="k3")
    assert one.message("k3") is not None and one.search("the weather number 111", top_k=1)[0].key == "k3"
    # A file with two agents: each exports its own alone.
    assert "k3" in {json.loads(line).get("key") for line in archive(one)}
    assert "k3" not in {json.loads(line).get("key") for line in archive(two)}


def test_an_agent_without_anything(memory_factory: Make) -> None:
    one, two = memory_factory("a.db"), memory_factory("b.db")
    import_lines(two, archive(one))
    assert verify(two) == [] and two.stats()["messages"] == 0
    assert two.observe("user", "First.").id == 1


def _cut(lines: list[str]) -> list[str]:
    return lines[:-1]


def _cut_in_a_line(lines: list[str]) -> list[str]:
    return [*lines[:9], lines[9][:20]]


def _cut_in_the_middle(lines: list[str]) -> list[str]:
    return [*lines[:5], *lines[6:]]


def _edited(lines: list[str]) -> list[str]:
    return [line.replace("harbour was number 185", "harbour was number 999") for line in lines]


def _swapped(lines: list[str]) -> list[str]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def _twice(lines: list[str]) -> list[str]:
    return [*lines, *lines]


def _no_json(lines: list[str]) -> list[str]:
    return [*lines[:4], "{not json", *lines[5:]]


def _no_object(lines: list[str]) -> list[str]:
    return [*lines[:4], "[1, 2]", *lines[5:]]


def _field_missing(lines: list[str]) -> list[str]:
    return [*lines[:4], '{"type": "message", "id": 4}', *lines[5:]]


def _bad_time(lines: list[str]) -> list[str]:
    return [line.replace("2023-05-08T13:05", "yesterday") for line in lines]


def _unknown_type(lines: list[str]) -> list[str]:
    return [*lines[:4], '{"type": "dream"}', *lines[5:]]


def _other_format(lines: list[str]) -> list[str]:
    return [lines[0].replace('"format": 1', '"format": 99'), *lines[1:]]


def _a_history(lines: list[str]) -> list[str]:
    return ['{"role": "user", "content": "hi"}'] * 3


def _empty(lines: list[str]) -> list[str]:
    return []


def _same_id_twice(lines: list[str]) -> list[str]:
    return [*lines[:3], lines[2], *lines[3:]]


@pytest.mark.parametrize(
    "damage",
    [_cut, _cut_in_a_line, _cut_in_the_middle, _edited, _swapped, _twice, _no_json, _no_object, _field_missing,
     _bad_time, _unknown_type, _other_format, _a_history, _empty, _same_id_twice],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_a_damaged_archive_is_refused_whole(memory_factory: Make, damage: Callable[[list[str]], list[str]]) -> None:
    lines = archive(lived(memory_factory("a.db", **SMALL)))
    two = memory_factory("b.db", **SMALL)
    before = archive(two)
    changed = damage(lines)
    assert changed != lines
    with pytest.raises((InvalidInputError, StoreError)) as caught:
        import_lines(two, changed)
    assert caught.value.message
    assert archive(two) == before
    assert verify(two) == [] and two.stats()["messages"] == 0
    # And it can take a whole one afterwards.
    import_lines(two, lines)
    assert verify(two) == []


def test_an_agent_that_has_memories_takes_none(memory_factory: Make) -> None:
    lines = archive(lived(memory_factory("a.db", **SMALL)))
    for fill in (lambda m: m.observe("user", "Here first."), lambda m: m.archive("Here first.")):
        two = memory_factory(f"{id(fill)}.db", **SMALL)
        fill(two)
        with pytest.raises(InvalidInputError, match="has memories already"):
            import_lines(two, lines)
        assert verify(two) == [] and two.search("Here first.")[0].text == "Here first."


def test_lines_with_windows_ends_are_the_same_archive(memory_factory: Make) -> None:
    one = lived(memory_factory("a.db", **SMALL))
    two = memory_factory("b.db", **SMALL)
    import_lines(two, [f"{line}\r\n" for line in archive(one)])
    assert views(one) == views(two)


def test_a_writer_beside_an_export_does_not_show_in_it(memory_factory: Make) -> None:
    one, writer = lived(memory_factory(**SMALL)), memory_factory(**SMALL)
    lines = export_lines(one)
    got = [next(lines)]
    writer.observe("user", "Came while it was written.", key="late")
    got += lines
    assert "late" not in {json.loads(line).get("key") for line in got}
    two = memory_factory("b.db", **SMALL)
    import_lines(two, got)
    assert verify(two) == []
