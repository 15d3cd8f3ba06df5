"""Jobs go with the archive: after an import they are shown, resumed and undone as in the file where they ran."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from agentmem.archive_file import export_lines, import_lines
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.errors import ConfigError, InvalidInputError, UnknownNameError
from agentmem.inspecting import verify
from agentmem.memory import Memory
from agentmem.reflection import AddPassage, ClosePassage, EditBlock, Rate, SetKeys, reflect, undo
from tests.crashing import crash_at
from tests.reflection.test_undo import changes, told
from tests.reflection.toys import Misused, Notes
from tests.reflection.views import views

Make = Callable[..., Memory]
NOW = datetime(2023, 5, 8, 12, 0, tzinfo=UTC)
ALL = (
    AddPassage("Anna lives in Lisbon.", "fact", ("m1",), tags=("home",), valid_from="2023-03-01", why="she said so"),
    ClosePassage("p1", "2023-03-01", "+0", ("m1",)),
    EditBlock("human", "Likes tea.", "Likes tea.\nLives in Lisbon."),
    Rate("m1", 9, 3),
    SetKeys("m2", ("the pier", "里斯本")),
)


def jobs_of(memory: Memory) -> list[Any]:
    jobs = memory.records.jobs
    return [(row, jobs.changes(row.id)) for row in jobs.all()]


def sealed(rows: list[dict[str, Any]]) -> list[str]:
    """An archive of these rows, with the last line that belongs to them."""
    lines = [json.dumps(row) for row in rows if row["type"] != "end"]
    digest = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    return [*lines, json.dumps({"type": "end", "lines": len(lines) + 1, "sha256": digest})]


def rows_of(memory: Memory) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_lines(memory)]


@pytest.mark.parametrize("same_file", [True, False])
def test_an_imported_job_is_undone_as_in_its_own_file(memory_factory: Make, same_file: bool) -> None:
    one = told(memory_factory("a.db", agent="anna"))
    before = views(one)
    first, second = reflect(one, Misused(*ALL)), reflect(one, Notes())
    assert {c.fate for report in (*first, *second) for c in report.changes} == {"applied"}
    after = views(one)
    two = memory_factory("a.db" if same_file else "b.db", agent="berta")
    counts = import_lines(two, list(export_lines(one)))
    assert counts["job"] == 2 and counts["job_change"] == len(ALL) + len(second[0].changes)
    assert jobs_of(two) == jobs_of(one) and views(two) == after and verify(two) == []
    for job in ("j2", "j1"):
        assert undo(two, job).kept == ()
    assert views(two) == before and verify(two) == []
    assert views(one) == after and [row.state for row, _ in jobs_of(one)] == ["done", "done"], "the other agent's stay"
    with pytest.raises(ConfigError, match="undone already"):
        undo(two, "j1")
    two.observe("user", "More.")
    assert reflect(two, Misused(Rate("m3", 7)))[0].job == "j3", "numbers go on"


def test_the_second_export_is_the_first(memory_factory: Make) -> None:
    one, two = told(memory_factory("a.db")), memory_factory("b.db")
    reflect(one, Misused(*ALL))
    reflect(one, Misused(Rate("m1", 4, 3)), again=True)  # skipped: it was rated meanwhile
    undo(one, "j1")
    import_lines(two, list(export_lines(one)))
    kept = [[r for r in rows_of(m) if r["type"] in ("job", "job_change")] for m in (one, two)]
    assert kept[0] == kept[1] and {r["fate"] for r in kept[0] if r["type"] == "job_change"} == {"undone", "skipped"}


def test_what_was_changed_since_wins_there_too(memory_factory: Make) -> None:
    one, two = told(memory_factory("a.db")), memory_factory("b.db")
    reflect(one, Misused(*ALL))
    one.core["human"].append("Hates rain.")
    import_lines(two, list(export_lines(one)))
    two.rate("m1", 2)
    done = undo(two, "j1")
    assert sorted(a.change.op for a in done.kept) == ["block", "rate"] and all(a.reason for a in done.kept)
    assert two.core["human"].value == "Likes tea.\nLives in Lisbon.\nHates rain."


def test_a_killed_job_goes_on_in_the_other_file(memory_factory: Make) -> None:
    one, two, whole = told(memory_factory("a.db")), memory_factory("b.db"), told(memory_factory("c.db"))
    with crash_at("reflect.committed", 2):
        reflect(one, Notes())
    import_lines(two, list(export_lines(one)))
    assert [(row.state, row.ended_at) for row, _ in jobs_of(two)] == [("running", None)]
    (report,) = reflect(two, Notes())
    reflect(whole, Notes())
    assert (
        report.resumed
        and report.job == "j1"
        and [r.made for _, rows in jobs_of(two) for r in rows if r.made]
        == [r.made for _, rows in jobs_of(whole) for r in rows if r.made]
    )


def test_an_older_archive_is_taken_as_before(memory_factory: Make) -> None:
    one, two = told(memory_factory("a.db")), memory_factory("b.db")
    reflect(one, Misused(*ALL))
    after = views(one)
    import_lines(two, sealed([r for r in rows_of(one) if r["type"] not in ("job", "job_change")]))
    assert views(two) == after and jobs_of(two) == [] and verify(two) == []
    with pytest.raises(UnknownNameError, match="j1"):
        undo(two, "j1")


def test_half_a_surrogate_pair_in_what_was_skipped(memory_factory: Make) -> None:
    one, two = told(memory_factory("a.db")), memory_factory("b.db")
    (report,) = reflect(one, Misused(AddPassage("half \ud83d", "fact", ("m1",)), Rate("m1", 9, 3)))
    assert [c.fate for c in report.changes] == ["skipped", "applied"]
    import_lines(two, [line.encode().decode() for line in export_lines(one)])
    assert jobs_of(two) == jobs_of(one)


def test_erased_text_is_not_in_it(memory_factory: Make) -> None:
    one, two = told(memory_factory("a.db")), memory_factory("b.db")
    ref = one.observe("user", "My safe opens with seven eight nine.").ref
    reflect(one, Misused(SetKeys(ref, ("The safe opens with seven eight nine.",)), Rate("m1", 9, 3)))
    one.erase(id=ref)
    lines = list(export_lines(one))
    assert "seven eight" not in "".join(lines)
    import_lines(two, lines)
    assert [a.change.op for a in undo(two, "j1").kept] == ["keys"]


@given(changes)
@settings(max_examples=6, deadline=None)
def test_any_imported_job_is_undone(job: list[AddPassage | ClosePassage | EditBlock | Rate | SetKeys]) -> None:
    opened = {"embedder": HashingEmbedder(16), "index": "numpy", "clock": lambda: NOW, "window_tokens": 500}
    with Memory(":memory:", **opened) as one, Memory(":memory:", **opened) as two:
        told(one, 3)
        one.archive("Tom likes the harbour.", valid_from="2023-02-01")
        before = views(one)
        (report,) = reflect(one, Misused(*job))
        import_lines(two, list(export_lines(one)))
        assert jobs_of(two) == jobs_of(one)
        if report.job is not None:
            assert undo(two, report.job).kept == ()
        assert views(two) == before and verify(two) == []


# -- damaged ------------------------------------------------------------------------------------------------------

JOB: Mapping[str, Any] = {"type": "job"}


def edited(kind: str, op: str | None = None, **new: Any) -> Callable[[list[dict[str, Any]]], None]:
    """Damage: fields of the first job, or of the first change of an op, are others; "change.x" is a field of it."""

    def damage(rows: list[dict[str, Any]]) -> None:
        row = next(r for r in rows if r["type"] == kind and (op is None or r["change"]["op"] == op))
        for name, value in new.items():
            *way, last = name.split("__")
            at = row
            for part in way:
                at = at[part]
            at[last] = value

    return damage


def missing(kind: str, name: str) -> Callable[[list[dict[str, Any]]], None]:
    def damage(rows: list[dict[str, Any]]) -> None:
        del next(r for r in rows if r["type"] == kind)[name]

    return damage


def twice(kind: str) -> Callable[[list[dict[str, Any]]], None]:
    def damage(rows: list[dict[str, Any]]) -> None:
        n = next(n for n, r in enumerate(rows) if r["type"] == kind)
        rows.insert(n, dict(rows[n]))

    return damage


def no_job(rows: list[dict[str, Any]]) -> None:
    rows.remove(next(r for r in rows if r["type"] == "job"))


DAMAGED = {
    "no id": (missing("job", "id"), "KeyError('id')"),
    "no before": (missing("job_change", "before"), "KeyError('before')"),
    "a name for a number": (edited("job", id="j1"), "job.id='j1'"),
    "yes for a number": (edited("job", id=True), "job.id=True"),
    "no number": (edited("job", id=0), "job.id=0"),
    "a huge number": (edited("job", id=10**30), "job.id=1000000000"),
    "two jobs of a number": (twice("job"), "job.id=1"),
    "a state": (edited("job", state="dreaming"), "job.state='dreaming'"),
    "no time": (edited("job", started_at="yesterday"), "job.started_at='yesterday'"),
    "an end that is no time at all": (edited("job", ended_at="soon"), "job.ended_at='soon'"),
    "a time of a wrong kind": (edited("job", started_at=5), "job.started_at=5"),
    "strategies": (edited("job", strategies="keys"), "job.strategies='keys'"),
    "backend": (edited("job", backend=None), "job.backend=None"),
    "half a sign": (edited("job", backend="\ud83d"), "job.backend="),
    "report": (edited("job", report=[]), "job.report=[]"),
    "counts": (edited("job", report={"strategies": {"keys": {"calls": "many"}}}), "job.report.strategies="),
    "a change of no job": (no_job, "job_change.job=1"),
    "two changes of a number": (twice("job_change"), "job_change.number=1"),
    "a fate": (edited("job_change", fate="gone"), "job_change.fate='gone'"),
    "reason": (edited("job_change", reason=None), "job_change.reason=None"),
    "no object": (edited("job_change", change="add"), "job_change.change='add'"),
    "an unknown change": (edited("job_change", change={"op": "drop"}), "job_change.change={'op': 'drop'}"),
    "a list for an op": (edited("job_change", change={"op": []}), "job_change.change={'op': []}"),
    "a field too many": (edited("job_change", change__evil=1), "job_change.change="),
    "made nothing": (edited("job_change", "add", made=None), "job_change.made=None"),
    "made a message": (edited("job_change", "add", made="m2"), "job_change.made='m2'"),
    "made by a rating": (edited("job_change", "rate", made="p1"), "job_change.made='p1'"),
    "made though skipped": (edited("job_change", "add", fate="skipped"), "job_change.made='p2'"),
    "sources": (edited("job_change", "add", change__sources=[1]), "job_change.change.sources=(1,)"),
    "no passage": (edited("job_change", "close", change__passage="m1"), "job_change.change.passage='m1'"),
    "no record": (edited("job_change", "rate", change__ref="x\ny"), "job_change.change.ref='x\\ny'"),
    "importance": (edited("job_change", "rate", change__importance="9"), "job_change.change.importance='9'"),
    "keys": (edited("job_change", "keys", change__keys=["a", 2]), "job_change.change.keys=('a', 2)"),
    "nothing to restore": (edited("job_change", "close", before={}), "job_change.before.set_to=None"),
    "an end that is no time": (edited("job_change", "close", before__valid_to="x"), "job_change.before.valid_to='x'"),
    "a successor": (edited("job_change", "close", before__superseded_by="p2"), "job_change.before.superseded_by='p2'"),
    "a block's text": (edited("job_change", "block", before={"after": 3}), "job_change.before.after=3"),
}  # fmt: skip


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("archived") / "a.db"
    with Memory(path, embedder=HashingEmbedder(16), clock=lambda: NOW) as one:
        told(one)
        (report,) = reflect(one, Misused(*ALL))
        assert [c.fate for c in report.changes] == ["applied"] * len(ALL)
        return list(export_lines(one))


@pytest.mark.parametrize(("damage", "named"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_jobs_are_refused_whole(
    archived: list[str], damage: Callable[[list[dict[str, Any]]], None], named: str
) -> None:
    rows = [json.loads(line) for line in archived]
    damage(rows)
    with Memory(":memory:", embedder=HashingEmbedder(16), clock=lambda: NOW) as two:
        before = views(two)
        with pytest.raises(InvalidInputError) as caught:
            import_lines(two, sealed(rows))
        assert named in caught.value.message and "line " in caught.value.message
        assert caught.value.hint or "KeyError" in named
        assert views(two) == before and jobs_of(two) == []
        import_lines(two, archived)
        assert len(jobs_of(two)) == 1


def test_keys_of_a_record_that_is_not_there_are_refused(archived: list[str]) -> None:
    rows = [json.loads(line) for line in archived]
    next(r for r in rows if r["type"] == "keys")["id"] = 99
    with Memory(":memory:", embedder=HashingEmbedder(16), clock=lambda: NOW) as two:
        with pytest.raises(InvalidInputError, match="keys='m99'"):
            import_lines(two, sealed(rows))
        assert two.stats()["messages"] == 0 and verify(two) == []
