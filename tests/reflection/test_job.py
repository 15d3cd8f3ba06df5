"""The job: planned, within its budget, resumed where it was killed, and nothing twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentmem import crashpoints
from agentmem.archive_file import export_lines, import_lines
from agentmem.errors import BackendUnavailableError, BadRequestError, ConfigError, StoreBusyError, UnknownNameError
from agentmem.memory import Memory
from agentmem.reflection import AddPassage, Budget, ClosePassage, EditBlock, Rate, SetKeys, reflect, undo
from agentmem.reflection.holding import held
from agentmem.scripted import ScriptedBackend
from agentmem.types import Completion, Request
from tests.crashing import Crash
from tests.reflection.toys import Broken, Misused, Notes, noted
from tests.reflection.views import views

Make = Callable[..., Memory]


@pytest.fixture
def memory(memory_factory: Make) -> Memory:
    return told(memory_factory())


def told(memory: Memory, first: int = 1, last: int = 7) -> Memory:
    for n in range(first, last + 1):
        memory.observe("user", f"Anna spoke of harbour number {n} and of tea.", name="Anna")
    return memory


def model(times: int = 99) -> ScriptedBackend:
    return ScriptedBackend([noted] * times)


def notes(memory: Memory) -> list[str]:
    return [p.text for p in memory.records.archival.after(0) if p.kind == "note"]


def test_what_is_new_is_reflected_on_once(memory: Memory) -> None:
    (report,) = reflect(memory, Notes())
    assert (report.job, report.state, report.resumed) == ("j1", "done", False)
    assert [a.fate for a in report.changes] == ["applied"] * len(report.changes)
    assert len(notes(memory)) == 3
    before = views(memory)
    (second,) = reflect(memory, Notes())
    assert (second.job, second.state, second.changes) == (None, "nothing new", ())
    assert views(memory) == before
    told(memory, 8, 9)
    (third,) = reflect(memory, Notes())
    assert third.job == "j2" and len(notes(memory)) == 4


def test_only_the_newest_note_holds(memory: Memory) -> None:
    reflect(memory, Notes())
    found = [p for p in memory.records.archival.after(0) if p.kind == "note"]
    assert [p.superseded_by for p in found] == [found[1].id, found[2].id, None]
    assert memory.core["human"].value == "Notes: up to m7"


def test_again_begins_at_the_first_record(memory: Memory) -> None:
    reflect(memory, Notes())
    (report,) = reflect(memory, Notes(), again=True)
    skipped = [a for a in report.changes if isinstance(a.change, AddPassage)]
    assert [a.fate for a in skipped] == ["skipped"] * 3, "the same text of the same records is not added twice"
    assert len(notes(memory)) == 3


def test_nothing_was_said(memory_factory: Make) -> None:
    empty = memory_factory()
    before = views(empty)
    (report,) = reflect(empty, Notes(), backend=model())
    assert (report.job, report.state) == (None, "nothing new")
    assert views(empty) == before and empty.records.jobs.all() == []


def test_a_dry_run_changes_and_asks_nothing(memory: Memory) -> None:
    before = views(memory)
    (by_rules,) = reflect(memory, Notes(), dry_run=True)
    assert by_rules.state == "planned" and {a.fate for a in by_rules.changes} == {"planned"}
    backend = model(0)
    (by_model,) = reflect(memory, Notes(), backend=backend, dry_run=True)
    assert (by_model.changes, by_model.strategies[0].estimate.calls, backend.requests) == ((), 3, [])
    assert views(memory) == before and memory.records.jobs.all() == []


def test_all_agents_questions_share_batches(memory_factory: Make) -> None:
    memories = [told(memory_factory(agent=name)) for name in ("a", "b", "c")]
    sizes: list[int] = []

    class Batches(ScriptedBackend):
        def generate(self, requests: Any) -> list[Completion]:
            sizes.append(len(requests))
            return super().generate(requests)

    reports = reflect(memories, Notes(), backend=Batches([noted] * 9))
    assert sizes == [3, 3, 3] and [r.state for r in reports] == ["done"] * 3
    for one, report in zip(memories, reports, strict=True):
        assert [s.calls for s in report.strategies] == [3] and len(notes(one)) == 3
        assert report.strategies[0].prompt_tokens > 0


@pytest.mark.parametrize(
    ("budget", "calls"),
    [(Budget(max_calls=0), 0), (Budget(max_calls=2), 2), (Budget(max_tokens=1), 0), (Budget(max_seconds=0.0), 0)],
)
def test_the_budget_is_held_to_and_the_next_run_goes_on(memory: Memory, budget: Budget, calls: int) -> None:
    (report,) = reflect(memory, Notes(), backend=model(), budget=budget)
    assert report.state == "stopped" and "budget" in report.reason and "again" in report.reason
    assert report.strategies[0].calls == calls and len(notes(memory)) == calls
    (rest,) = reflect(memory, Notes(), backend=model())
    assert rest.state == "done" and len(notes(memory)) == 3
    assert rest.strategies[0].calls == 3 - calls


@pytest.mark.parametrize("field", ["max_calls", "max_tokens", "max_seconds"])
def test_a_budget_is_no_negative_number(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        Budget(**{field: -1})


def test_a_model_that_is_away_ends_the_job_and_loses_nothing(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("agentmem.reflection.questioning.time.sleep", waited.append)

    def away(request: Request) -> Completion:
        raise BackendUnavailableError("no connection")

    (report,) = reflect(memory, Notes(), backend=ScriptedBackend([noted, away, away, away]))
    assert report.state == "stopped" and "no connection" in report.reason
    assert waited == [1.0, 2.0] and len(notes(memory)) == 1
    (rest,) = reflect(memory, Notes(), backend=model())
    assert rest.state == "done" and rest.strategies[0].calls == 2 and len(notes(memory)) == 3


def test_one_bad_request_does_not_spoil_its_batch(memory_factory: Make) -> None:
    memories = [told(memory_factory(agent=name), last=3) for name in ("a", "b")]

    class Picky(ScriptedBackend):
        def generate(self, requests: Any) -> list[Completion]:
            if len(requests) > 1:
                raise BadRequestError("one of them is too long")
            return super().generate(requests)

    def refused(request: Request) -> Completion:
        raise BadRequestError("too long")

    reports = reflect(memories, Notes(), backend=Picky([refused, noted]))
    assert [r.state for r in reports] == ["done", "done"]
    assert sorted(r.strategies[0].rejected for r in reports) == [(), ("too long",)]


def test_a_killed_job_goes_on_under_its_number_and_asks_nothing_twice(memory_factory: Make) -> None:
    memory = told(memory_factory())
    for point in ("reflect.answers_kept", "reflect.before_commit", "reflect.committed"):
        seen: list[str] = []

        def hook(name: str, point: str = point, seen: list[str] = seen) -> None:
            seen.append(name)
            if name == point:
                raise Crash

        crashpoints.install(hook)
        try:
            with pytest.raises(Crash):
                reflect(memory, Notes(), backend=model())
        finally:
            crashpoints.install(None)
        assert point in seen
        memory.close()
        memory = memory_factory()
    assert len(notes(memory)) in (1, 2)
    (report,) = reflect(memory, Notes(), backend=(backend := model()))
    assert (report.job, report.resumed, report.state) == ("j1", True, "done")
    assert len(notes(memory)) == len(set(notes(memory))) == 3
    assert len(backend.requests) == 2, "one of three was answered before the kills, and was not asked again"
    assert [job.state for job in memory.records.jobs.all()] == ["done"]
    whole = told(memory_factory(agent="whole"))
    reflect(whole, Notes(), backend=model())
    assert notes(whole) == notes(memory)
    changes = memory.records.jobs.changes(1)
    assert [c.number for c in changes] == list(range(1, len(changes) + 1))


def test_another_job_does_not_take_a_killed_one_up(memory: Memory) -> None:
    def hook(name: str) -> None:
        if name == "reflect.committed":
            raise Crash

    crashpoints.install(hook)
    with pytest.raises(Crash):
        reflect(memory, Notes(), backend=model())
    crashpoints.install(None)
    (other,) = reflect(memory, Misused(Rate("m1", 5, 2)))
    assert (other.job, other.resumed) == ("j2", False)
    assert [j.state for j in memory.records.jobs.all()] == ["stopped", "done"]
    (rest,) = reflect(memory, Notes(), backend=model())
    assert rest.job == "j3" and len(notes(memory)) == 3
    assert [undo(memory, j).kept for j in ("j3", "j2", "j1")] == [(), (), ()]


def test_the_second_job_is_told_who_holds_the_agent(memory: Memory, memory_factory: Make) -> None:
    with held(memory):
        with pytest.raises(StoreBusyError, match=r"process \d+ on .* since 2023"):
            reflect(memory_factory(), Notes())
        reflect(told(memory_factory(agent="other")), Notes())
    assert reflect(memory, Notes())[0].state == "done"


def test_another_agents_records_can_not_be_named(memory_factory: Make) -> None:
    other = told(memory_factory(agent="other"), last=9)
    memory = told(memory_factory(), last=2)
    reply = reflect(memory, Misused(AddPassage("It is so.", "insight", ("m9",)), Rate("m9", 3)))[0]
    assert {a.fate for a in reply.changes} == {"skipped"} and notes(memory) == []
    assert reflect(other, Misused(AddPassage("It is so.", "insight", ("m9",))))[0].changes[0].fate == "applied"


WRONG = [
    (AddPassage("No source.", "insight", ()), "rests on"),
    (AddPassage("", "insight", ("m1",)), "content"),
    (AddPassage("Bad time.", "fact", ("m1",), valid_from="soon"), "valid_from"),
    (AddPassage("Bad source.", "fact", ("m1", "x7")), "no record"),
    (AddPassage("Bad source.", "fact", ("m１",)), "no record"),
    (AddPassage("Bad source.", "fact", ("m" + "9" * 5000,)), "no record"),
    (ClosePassage("p77", "2023-05-08"), "not there"),
    (ClosePassage("m1", "2023-05-08"), "no passage"),
    (EditBlock("human", "what never stood there", "x"), "edited meanwhile"),
    (EditBlock("none", "", "x"), "no block"),
    (EditBlock("human", "", "word " * 5000), "tokens"),
    (EditBlock("human", "", ""), "already"),
    (Rate("m1", 11), "importance"),
    (Rate("m1", 5, before=4), "meanwhile"),
    (SetKeys("m1", ("a",), before=("b",)), "meanwhile"),
    (SetKeys("m99", ("a",)), "not there"),
]


@pytest.mark.parametrize(("change", "reason"), WRONG, ids=[f"{c.op} {r}" for c, r in WRONG])
def test_what_does_not_fit_is_skipped_with_a_reason(memory: Memory, change: Any, reason: str) -> None:
    before = views(memory)
    (report,) = reflect(memory, Misused(change))
    assert [a.fate for a in report.changes] == ["skipped"] and reason in report.changes[0].reason
    assert views(memory) == before
    assert reflect(memory, Misused(change))[0].state in ("done", "nothing new")


def test_a_read_only_block_stays(memory: Memory) -> None:
    memory.core["human"].read_only = True
    (report,) = reflect(memory, Misused(EditBlock("human", "", "x"), Rate("m1", 5)))
    assert [a.fate for a in report.changes] == ["skipped", "applied"]


def test_a_plug_in_with_a_fault_ends_the_job_with_a_reason(memory: Memory) -> None:
    (report,) = reflect(memory, [Broken(Rate("m1", 5)), Notes()])
    assert report.state == "stopped" and "ZeroDivisionError" in report.reason and "broken" in report.reason
    assert [a.fate for a in report.changes] == ["applied"], "what was committed stays"
    assert undo(memory, "j1").kept == ()


def test_a_reviewer_chooses(memory: Memory) -> None:
    asked: list[tuple[str, str, int]] = []

    def review(agent: str, strategy: str, changes: Any) -> list[bool]:
        asked.append((agent, strategy, len(changes)))
        return [isinstance(c, AddPassage) for c in changes]

    (report,) = reflect(memory, Notes(), review=review)
    assert {a.fate for a in report.changes if isinstance(a.change, AddPassage)} == {"applied"}
    assert {a.fate for a in report.changes if not isinstance(a.change, AddPassage)} == {"rejected"}
    assert len(asked) == 3 and memory.core["human"].value == ""
    assert reflect(memory, Notes(), review=review)[0].state == "nothing new", "what was rejected does not come again"


def test_the_event_stream_tells_all_and_is_json(memory: Memory) -> None:
    events: list[Any] = []
    reflect(memory, Notes(), backend=model(), on_event=events.append)
    kinds = [e["event"] for e in events]
    assert kinds[0] == "planned" and kinds[-1] == "ended" and kinds.count("proposed") == 3
    assert sum(e["applied"] for e in events if e["event"] == "proposed") == len(memory.records.jobs.changes(1))
    json.dumps(events)


def test_an_archive_takes_what_was_learnt_along(memory: Memory, memory_factory: Make) -> None:
    reflect(memory, Notes())
    new = memory_factory("new.db", agent="new")
    import_lines(new, export_lines(memory))
    assert reflect(new, Notes())[0].state == "nothing new"
    before, after = views(memory), views(new)
    assert {k: before[k] for k in ("passages", "blocks", "uses", "keys", "search")} == {
        k: after[k] for k in ("passages", "blocks", "uses", "keys", "search")
    }


def test_half_a_surrogate_pair_ends_nothing(memory: Memory) -> None:
    bad = "half \ud83d"
    changes = (
        AddPassage(bad, "insight", ("m1",)), AddPassage("Fine.", "insight", ("m1",), why=bad),
        EditBlock("human", "", bad), SetKeys("m1", (bad,)), ClosePassage("p1", bad),
    )  # fmt: skip
    (report,) = reflect(memory, Misused(*changes))
    assert report.state == "done"
    assert [a.fate for a in report.changes] == ["skipped", "applied", "skipped", "skipped", "skipped"]
    assert undo(memory, "j1").kept == ()


def test_what_happens_meanwhile_is_not_lost_and_the_users_edit_wins(memory: Memory, memory_factory: Make) -> None:
    """Another process talks to the agent while the model is asked."""
    beside = memory_factory()

    def meanwhile(request: Request) -> Completion:
        beside.observe("user", "By the way, the harbour is closed.")
        beside.core["human"].append("Hates rain.")
        return noted(request)

    (report,) = reflect(memory, Notes(), backend=ScriptedBackend([meanwhile, noted, noted]))
    edits = [a for a in report.changes if isinstance(a.change, EditBlock)]
    assert [a.fate for a in edits] == ["skipped", "applied", "applied"] and "edited meanwhile" in edits[0].reason
    assert memory.core["human"].value == "Hates rain.\nNotes: up to m7"
    assert not any("closed" in p.text or "m8" in p.sources for p in memory.records.archival.after(0))
    (later,) = reflect(memory, Notes(), backend=model())
    assert later.strategies[0].calls == 1 and memory.records.archival.after(0)[-1].sources == ("m8",)


def test_the_memory_counts_as_before_afterwards(memory: Memory) -> None:
    before = memory.shape, memory.config, memory.budget
    reflect(memory, Notes(), backend=model())
    assert (memory.shape, memory.config, memory.budget) == before and memory.shape is before[0]


def test_strategies_by_name() -> None:
    from agentmem.reflection.strategies import make_strategy

    with pytest.raises(UnknownNameError, match="insightz"):
        make_strategy("insightz")
    with pytest.raises(ConfigError, match="can't be imported"):
        make_strategy("agentmem.nothing:Here")
    with pytest.raises(ConfigError, match="no strategy"):
        make_strategy("agentmem.memory_reads:MemoryReads")
    assert make_strategy("tests.reflection.toys:Notes").name == "notes"


def test_a_strategy_that_needs_a_model_says_so(memory: Memory) -> None:
    class Needs(Notes):
        forms = ("model",)

    with pytest.raises(ConfigError, match="--backend"):
        reflect(memory, Needs())
    with pytest.raises(ConfigError, match="--backend"):
        reflect(memory, Needs(), backend="extractive")


def test_twice_the_same_strategy_is_refused(memory: Memory) -> None:
    with pytest.raises(ConfigError, match="twice"):
        reflect(memory, [Notes(), Notes()])


@pytest.fixture(autouse=True)
def _no_hook() -> Iterator[None]:
    yield
    crashpoints.install(None)
