"""Undo: every view as before the job; what somebody changed since stays, and is listed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.errors import ConfigError, UnknownNameError
from agentmem.inspecting import verify
from agentmem.memory import Memory
from agentmem.reflection import AddPassage, ClosePassage, EditBlock, Rate, SetKeys, reflect, undo
from tests.crashing import crash_at
from tests.reflection.toys import Misused, Notes
from tests.reflection.views import views

Make = Callable[..., Memory]
NOW = datetime(2023, 5, 8, 12, 0, tzinfo=UTC)


def told(memory: Memory, last: int = 7) -> Memory:
    for n in range(1, last + 1):
        memory.observe("user", f"Anna spoke of harbour number {n} and of tea.", name="Anna")
    memory.archive("Anna lives in Porto.", valid_from="2023-01-01")
    memory.core["human"].append("Likes tea.")
    memory.rate("m1", 3)
    return memory


def test_every_view_is_as_before(memory_factory: Make) -> None:
    memory = told(memory_factory())
    before = views(memory)
    reflect(memory, Notes())
    assert views(memory) != before
    done = undo(memory, "j1")
    assert done.kept == () and len(done.undone) == len(memory.records.jobs.changes(1))
    assert views(memory) == before and verify(memory) == []
    memory.close()
    assert views(memory_factory()) == before


def test_what_was_undone_does_not_come_again(memory_factory: Make) -> None:
    memory = told(memory_factory())
    reflect(memory, Notes())
    undo(memory, "j1")
    before = views(memory)
    assert reflect(memory, Notes())[0].state == "nothing new" and views(memory) == before
    assert reflect(memory, Notes(), again=True)[0].state == "done"


def test_jobs_are_undone_in_any_order_that_holds(memory_factory: Make) -> None:
    memory = told(memory_factory())
    reflect(memory, Misused(AddPassage("Anna likes the harbour.", "insight", ("m1", "m2"))))
    memory.observe("user", "More of it.")
    made = reflect(memory, Misused(AddPassage("So she does.", "insight", ("p2",))))[0].changes[0].made
    assert made == "p3"
    first = undo(memory, "j1")
    assert [a.fate for a in first.kept] == ["kept"] and "p3 rests on p2" in first.kept[0].reason
    assert undo(memory, "j2").kept == ()


def test_a_later_edit_of_the_user_wins_and_is_listed(memory_factory: Make) -> None:
    memory = told(memory_factory())
    changes = (
        EditBlock("human", "Likes tea.", "Likes tea and the harbour."), Rate("m1", 9, 3),
        ClosePassage("p1", "2023-04-01"), AddPassage("Anna lives in Lisbon.", "fact", ("m1",)), SetKeys("m2", ("k",)),
    )  # fmt: skip
    assert {a.fate for a in reflect(memory, Misused(*changes))[0].changes} == {"applied"}
    memory.core["human"].append("Hates rain.")
    memory.rate("m1", 2)
    memory.supersede("p2", "Anna lives in Braga.", valid_from="2023-06-01")
    memory.records.archival.set_end(1, datetime(2023, 3, 1, tzinfo=UTC), None)
    done = undo(memory, "j1")
    assert [a.change.op for a in done.undone] == ["keys"]
    assert sorted(a.change.op for a in done.kept) == ["add", "block", "close", "rate"]
    assert all(a.reason for a in done.kept)
    assert memory.core["human"].value == "Likes tea and the harbour.\nHates rain."
    assert [h.text for h in memory.search("Where does Anna live?", tier="archival", as_of="2023-07-01")][:1] == [
        "Anna lives in Braga."
    ]


def test_names_of_jobs(memory_factory: Make) -> None:
    memory = told(memory_factory())
    with pytest.raises(UnknownNameError, match="j1"):
        undo(memory, "j1")
    reflect(memory, Notes())
    undo(memory, "j1")
    with pytest.raises(ConfigError, match="undone already"):
        undo(memory, "j1")
    with pytest.raises(UnknownNameError, match="j1"):
        undo(memory_factory(agent="other"), "j1")


def test_a_crash_in_the_middle_undoes_nothing(memory_factory: Make) -> None:
    memory = told(memory_factory())
    reflect(memory, Notes())
    after = views(memory)
    with crash_at("undo.before_commit"):
        undo(memory, "j1")
    memory.close()
    again = memory_factory()
    assert views(again) == after
    assert undo(again, "j1").kept == ()


refs = st.sampled_from(["m1", "m2", "m3", "p1", "p2"])
texts = st.text("abc ñ語.", min_size=1, max_size=12).filter(lambda t: bool(t.strip()))
days = st.dates(datetime(2023, 1, 2).date(), datetime(2023, 12, 1).date()).map(lambda d: d.isoformat())
changes = st.lists(
    st.builds(AddPassage, texts, st.sampled_from(["fact", "insight"]), st.lists(refs, min_size=1).map(tuple))
    | st.builds(ClosePassage, st.sampled_from(["p1", "p2"]), days, st.none() | st.sampled_from(["+0", "p2"]))
    | st.builds(EditBlock, st.sampled_from(["human", "persona"]), st.sampled_from(["", "Likes tea.", "x"]), texts)
    | st.builds(Rate, refs, st.integers(1, 10), st.sampled_from([None, 3, 5]))
    | st.builds(SetKeys, refs, st.lists(texts, max_size=2).map(tuple), st.sampled_from([(), ("k",)])),
    max_size=8,
).filter(lambda found: not any(
    isinstance(c, ClosePassage) and c.superseded_by == "+0" and not any(isinstance(a, AddPassage) for a in found[:n])
    for n, c in enumerate(found)
))  # fmt: skip


def undone_is_as_before(jobs: list[list[AddPassage | ClosePassage | EditBlock | Rate | SetKeys]]) -> None:
    with Memory(
        ":memory:", embedder=HashingEmbedder(16), index="numpy", clock=lambda: NOW, window_tokens=500
    ) as memory:
        told(memory, 3)
        memory.archive("Tom likes the harbour.", valid_from="2023-02-01")
        stack = [views(memory)]
        names = []
        for job in jobs:
            memory.observe("user", "Something else.")  # so that there is something new
            stack[-1] = views(memory)
            (report,) = reflect(memory, Misused(*job))
            if report.job is not None:
                names.append(report.job)
                stack.append(views(memory))
        stack.pop()
        for name in reversed(names):
            done = undo(memory, name)
            assert done.kept == ()
            now, before = views(memory), stack.pop()
            later = {k: v for k, v in now.items() if k in ("passages", "blocks", "uses", "keys")}
            assert later == {k: before[k] for k in later}
        assert verify(memory) == []


@given(changes)
@settings(max_examples=12, deadline=None)
def test_any_job_is_undone(job: list[AddPassage | ClosePassage | EditBlock | Rate | SetKeys]) -> None:
    with Memory(
        ":memory:", embedder=HashingEmbedder(16), index="numpy", clock=lambda: NOW, window_tokens=500
    ) as memory:
        told(memory, 3)
        memory.archive("Tom likes the harbour.", valid_from="2023-02-01")
        before = views(memory)
        (report,) = reflect(memory, Misused(*job))
        if report.job is not None:
            assert undo(memory, report.job).kept == ()
        assert views(memory) == before


@given(st.lists(changes, max_size=4))
@settings(max_examples=4, deadline=None)
def test_jobs_are_undone_last_first(jobs: list[list[AddPassage | ClosePassage | EditBlock | Rate | SetKeys]]) -> None:
    undone_is_as_before(jobs)


@pytest.mark.slow
@given(st.lists(changes, max_size=5))
@settings(max_examples=400, deadline=None)
def test_many_jobs_are_undone_last_first(
    jobs: list[list[AddPassage | ClosePassage | EditBlock | Rate | SetKeys]],
) -> None:
    undone_is_as_before(jobs)
