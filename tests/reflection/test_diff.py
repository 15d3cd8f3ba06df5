"""Changes as text: what goes and comes is what does, quotations are of the sources, nothing steers a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.memory import Memory
from agentmem.reflection import AddPassage, ClosePassage, EditBlock, JobReport, Rate, SetKeys, reflect, undo
from agentmem.reflection.budget import Estimate
from agentmem.reflection.diff import MAX_SOURCES, Quotes, diff_of, diff_of_applied, printable, short
from agentmem.reflection.forecast import expected_seconds
from agentmem.reflection.showing import tree_dicts, tree_lines, trees
from agentmem.reflection.telling import MAX_SHOWN, job_lines, plan_lines, undone_lines
from agentmem.store.jobs import JobRow
from tests.reflection.toys import Misused, Notes

Make = Callable[..., Memory]


@pytest.fixture
def memory(memory_factory: Make) -> Memory:
    made = memory_factory()
    made.observe("user", "My sister Anna moved to Lisbon.", name="Tom", key="D1:1", at="2023-05-08T13:56:00")
    made.observe("user", "She drinks tea.", name="Tom", key="D1:2", at="2023-05-08T13:57:00")
    made.archive("Anna lives in Porto.", valid_from="2022-01-01")
    return made


def shown(memory: Memory, change: object, **more: object) -> list[str]:
    return [str(line) for line in diff_of(change, Quotes(memory), **more)]  # type: ignore[arg-type]


ANNA = 'm1 (D1:1, 8 May 2023, Tom): "My sister Anna moved to Lisbon."'


def test_each_kind_of_change(memory: Memory) -> None:
    add = AddPassage("Anna lives in Lisbon.\nSince May.", "fact", ("m1",), ("home",), "2023-05-08", why="she moved")
    assert shown(memory, add) == [
        "@@ add fact @@", "+Anna lives in Lisbon.", "+Since May.", " tags: home", " holds from 2023-05-08",
        " why: she moved", f" from {ANNA}",
    ]  # fmt: skip
    close = ClosePassage("p1", "2023-05-08", "+0", ("m1",))
    assert shown(memory, close) == [
        "@@ close p1 from 2023-05-08 on @@",
        '-p1 (fact, from 1 January 2022): "Anna lives in Porto."',
        " what the same proposal adds holds instead (+0)",
        f" from {ANNA}",
    ]
    edit = EditBlock("human", "Tom\nlikes tea\nold", "Tom\nlikes tea\nnew\nmore", ("m2",))
    assert shown(memory, edit)[:-1] == ["@@ edit block human @@", " Tom", " likes tea", "-old", "+new", "+more"]
    assert shown(memory, EditBlock("human", "a\n", "a", ("m2",)))[1] == " (only the line ends differ)"
    rate = shown(memory, Rate("m1", 7, None, ("m1", "m2")))
    assert rate[:4] == ["@@ rate m1 @@", "-importance: unrated", "+importance: 7", f" {ANNA}"]
    assert len(rate) == 5 and "tea" in rate[4], "what is shown itself is not quoted again"
    assert shown(memory, SetKeys("m1", ("new", "same"), ("old", "same"), ())) == [
        "@@ further keys of m1 @@", f" {ANNA}", "-old", "+new",
    ]  # fmt: skip


def test_what_is_not_there_is_said(memory: Memory) -> None:
    for ref in ("m99", "p99", "x1", "m", "m\u0661", "m" + "9" * 400, ""):
        assert Quotes(memory).line(ref).endswith("(not there any more)")
    sources = tuple(f"m{n}" for n in range(1, MAX_SOURCES + 4))
    lines = shown(memory, AddPassage("x", "note", sources))
    assert lines[-1] == " from 3 more: m7, m8, m9"
    assert len(lines) == 2 + MAX_SOURCES + 1


def test_a_diff_can_be_applied_by_its_marks(memory: Memory) -> None:
    before, after = "one\ntwo\nthree", "one\n2\nthree\nfour"
    lines = diff_of(EditBlock("human", before, after, ("m1",)), Quotes(memory))
    body = [line for line in lines[1:] if not line.text.startswith("from ")]
    assert "\n".join(line.text for line in body if line.mark in " -") == before
    assert "\n".join(line.text for line in body if line.mark in " +") == after


NO_QUOTES: Any = None
lines_of = st.lists(st.sampled_from(["a", "b", "c", "-", "+", "--- x", "+++ y", "@@ z", ""]), max_size=7)


@given(lines_of, lines_of)
def test_what_goes_and_comes_is_what_differs(before: list[str], after: list[str]) -> None:
    change = EditBlock("human", "\n".join(before), "\n".join(after), ())
    lines = diff_of(change, NO_QUOTES)[1:]
    old, new = "\n".join(before).splitlines(), "\n".join(after).splitlines()
    gone = [line.text for line in lines if line.mark == "-"]
    come = [line.text for line in lines if line.mark == "+"]
    assert len(old) - len(gone) == len(new) - len(come)
    for text in {*old, *new}:
        assert old.count(text) - gone.count(text) == new.count(text) - come.count(text)


@given(st.text(max_size=300), st.integers(10, 100))
def test_what_is_shown_is_one_line_that_steers_nothing(text: str, most: int) -> None:
    for made in (printable(text), short(text, most)):
        assert all(c.isprintable() for c in made)
    assert len(short(text, most)) <= most


def test_stored_text_steers_no_terminal(memory: Memory) -> None:
    memory.observe("user", "red \x1b[31m\x07 and \u202e back\r\nover", name="Eve\x1b[2J".replace("\n", ""))
    for line in shown(memory, AddPassage("\x1b]0;x\x07 evil\x9b", "note\x1b", ("m3",), why="\x1b[1m")):
        assert line.isprintable(), line


def test_of_what_was_applied(memory: Memory) -> None:
    (report,) = reflect(memory, Notes())
    lines = [str(x) for x in diff_of_applied(report.changes, Quotes(memory))]
    assert lines[0] == "@@ 1. notes: add note p2 (applied) @@"
    assert "+A note about My sister Anna moved to Lisbon." in lines
    (rejected,) = reflect(memory, Misused(AddPassage("x", "note", ())))
    (line, *_) = diff_of_applied(rejected.changes, Quotes(memory))
    assert line.text == "1. misused: add note (skipped: it names no record that it rests on)"


# -- in words ----------------------------------------------------------------------------------------------------


def test_a_summary_says_what_and_why_and_cites(memory: Memory) -> None:
    close = ClosePassage("p1", "2023-05-08", "+0", ("m1",), why="she moved")
    add = AddPassage("Anna lives in Lisbon.", "fact", ("m1",), why="she said so")
    many = [Rate("m1", 5), *(AddPassage(f"note {n}", "note", ("m2",)) for n in range(MAX_SHOWN + 2))]
    (report,) = reflect(memory, Misused(add, close, *many))
    text = "\n".join(job_lines(report, memory))
    assert text.startswith("default: done, job j1\n  misused (by rules): 10 applied\n")
    assert '+ p2 fact: "Anna lives in Lisbon."\n      why: she said so\n' in text
    assert f"      from {ANNA}\n" in text
    assert '"Anna lives in Porto."; p2 holds instead' in text
    assert "... 3 more passages added" in text and f"~ importance 5: {ANNA}" in text
    assert text.endswith("  to take it back: agentmem undo j1 --agent default")
    taken_back = undone_lines(undo(memory, "j1"))
    assert taken_back == ["default: j1 is undone (8 passages added, 1 passages closed, 1 records rated)"]


def test_nothing_new_is_said(memory_factory: Make) -> None:
    memory = memory_factory("empty.db")
    (report,) = reflect(memory, Notes())
    assert job_lines(report, memory) == ["default: nothing new"]


def test_a_plan_says_what_it_costs() -> None:
    report = JobReport("a", None, "planned", "", (), 0.0)
    assert plan_lines([report], Estimate(10, 4, 1000, 500), 61.4)[-1] == (
        "in all: 10 records, 4 calls, 1,500 tokens at most; time: about 61 s, as past jobs went"
    )
    assert plan_lines([], Estimate(1, 1), None)[-1].endswith("time: not known")


def row(n: int, begin: int, end: int | None, calls: int, **more: object) -> JobRow:
    report = {"strategies": {"x": {"calls": calls}}, "resumed": more.get("resumed", False)}
    ended = None if end is None else f"2023-05-08T12:{end:02d}:00+00:00"
    state, backend = str(more.get("state", "done")), str(more.get("backend", "m"))
    return JobRow(n, f"2023-05-08T12:{begin:02d}:00+00:00", ended, state, ("x",), backend, report)


def test_seconds_are_expected_by_past_jobs_of_the_same_model() -> None:
    assert expected_seconds([], "m", 10) is None
    assert expected_seconds([row(1, 0, 1, 6)], "m", 10) == 100.0
    assert expected_seconds([row(1, 0, 1, 6)], "m", 0) is None
    assert expected_seconds([row(1, 0, 1, 6)], "other", 10) is None
    side_by_side = [row(1, 0, 2, 6), row(1, 0, 2, 6), row(1, 1, 3, 6)]
    assert expected_seconds(side_by_side, "m", 18) == 180.0, "the time that they shared counts once"
    for other in (
        row(2, 0, 9, 1, resumed=True), row(2, 0, 9, 1, state="undone"), row(2, 0, None, 1, state="running"),
        row(2, 5, 4, 1), row(2, 0, 9, 0),
    ):  # fmt: skip
        assert expected_seconds([row(1, 0, 1, 6), other], "m", 6) == 60.0


# -- trees -------------------------------------------------------------------------------------------------------


def test_trees_of_what_was_derived(memory: Memory) -> None:
    assert tree_lines(memory) == [] and tree_dicts(memory) == []
    memory.archive("Anna likes the sea.", kind="insight", sources=["m1", "p1"])
    memory.archive("Anna is settled.", kind="insight", sources=["p2", "m2"])
    memory.archive("Tom told of Anna.", kind="lesson", sources=["p2"])
    memory.archive("She moved.", sources=["m1"])
    assert [line.split(" (")[0] for line in tree_lines(memory)] == [
        "p4", "└─ p2", "   ├─ m1", "   └─ p1", "p3", "├─ p2", "└─ m2",
    ]  # fmt: skip
    assert tree_lines(memory)[5].endswith('"Anna likes the sea." (above)')
    assert [d["id"] for d in tree_dicts(memory)] == ["p2", "p3", "p4"], "a noted fact is no tree"


def test_a_deep_chain_and_a_wide_lattice(memory_factory: Make) -> None:
    memory = memory_factory(embedder="none")
    memory.observe("user", "It began here.")
    with memory.store.write():
        memory.archive("level 0", kind="summary", sources=["m1"])
        for n in range(1, 1100):
            memory.archive(f"level {n}", kind="summary", sources=[f"p{n}"])
    assert len(trees(memory)) == 1101
    with memory.store.write():
        for n in range(1100, 1140):
            memory.archive(f"twice {n}", kind="summary", sources=[f"p{n}", f"p{n - 1}"])
    assert len(trees(memory)) == 1101 + 2 * 40, "what a record rests on stands below its first place alone"
