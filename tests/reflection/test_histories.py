"""Histories in, results out: a line each, in order, whatever is wrong with some, and wherever a run was killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem import crashpoints
from agentmem.errors import BackendUnavailableError, ConfigError
from agentmem.memory import Memory
from agentmem.reflection.budget import Budget
from agentmem.reflection.histories import Taken, histories, reflect_histories, taken_up
from agentmem.reflection.series import Series, of_the_run
from agentmem.scripted import ScriptedBackend
from tests.crashing import Crash
from tests.reflection.toys import noted

NOTES = "tests.reflection.toys:Notes"


def history(name: object, texts: Sequence[str], at: str = "2023-05-08T12:00:00") -> dict[str, Any]:
    return {"id": name, "messages": [{"role": "user", "name": "Anna", "content": t, "at": at} for t in texts]}


ROWS = [
    history(f"h{n}", [f"Anna {n} spoke of the harbour.", f"Then of tea {n}.", "Third.", "Fourth."]) for n in (1, 2, 3)
]
LINES = [json.dumps(r) + "\n" for r in ROWS]


def in_ram(name: str, clock: Callable[[], datetime]) -> Memory:
    return Memory(":memory:", name, embedder="none", clock=clock)


def run(
    lines: Sequence[str], out: Path, *, series: Series | None = None, opened: Any = in_ram, kept: bool = False,
    settings: str = "s", group_size: int = 1,
) -> Taken:  # fmt: skip
    series = series or Series([NOTES])
    return reflect_histories(
        lines, out, opened=opened, reflector=series.reflect, settings=settings, kept=kept, group_size=group_size,
        ended=lambda: series.ended,
    )  # fmt: skip


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_a_line_out_for_a_line_in(tmp_path: Path) -> None:
    taken = run(LINES, tmp_path / "out.jsonl")
    assert (taken.done, taken.skipped, taken.malformed, taken.ended) == (3, 0, [], "")
    found = rows(tmp_path / "out.jsonl")
    assert [(r["id"], r["line"], r["state"], r["reason"]) for r in found] == [
        (f"h{n}", n, "done", "") for n in (1, 2, 3)
    ]
    for r in found:
        assert {"id", "state", "reason", "strategies", "changes", "passages", "blocks"} <= set(r)
        assert [p["text"] for p in r["passages"]] == [
            f"A note about Anna {r['line']} spoke of the harbour.", "A note about Fourth."
        ]  # fmt: skip
        assert r["blocks"]["human"] == "Notes: up to m4"
        assert r["strategies"][0]["name"] == "notes" and r["changes"][0]["change"]["op"] == "add"
        assert r["passages"][0]["valid_from"] == "2023-05-08T12:00:00+00:00", "as of the last message, not of today"


PICKY = ["tests.reflection.test_histories:Picky"]


def test_wherever_the_output_was_cut_it_goes_on(tmp_path: Path) -> None:
    lines = ["no JSON\n", json.dumps(history("a", ["Tea.", "\N{HOT BEVERAGE}"])) + "\n", "7\n"]
    out = tmp_path / "out.jsonl"
    run(lines, out, series=Series(PICKY))
    expected = out.read_bytes()
    ends = [0, *(n + 1 for n, byte in enumerate(expected) if byte == 10)]
    assert len(ends) == 4
    for cut in range(len(expected) + 1):
        complete = sum(0 < end <= cut for end in ends)
        out.write_bytes(expected[:cut])
        # Every cut is read; near the ends of lines, and here and there between them, the run goes on to its end.
        assert taken_up(out, histories(lines, "s")) == (complete, ends[complete])
        if min(abs(cut - end) for end in ends) <= 1 or cut % 300 == 150:
            taken = run(lines, out, series=Series(PICKY))
            assert (taken.skipped, taken.done) == (complete, 3 - complete), cut
            assert out.read_bytes() == expected, cut


def test_the_output_of_another_input_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run(LINES, out)
    before = out.read_bytes()
    for lines, settings in (
        ([*LINES[1:], LINES[0]], "s"), (LINES[:2], "s"), (LINES, "other strategies"),
        ([LINES[0].replace("tea", "ale"), *LINES[1:]], "s"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="is not of this input") as e:
            run(lines, out, settings=settings)
        assert "--out" in e.value.hint
        assert out.read_bytes() == before
    out.write_text("notes of mine\n")
    with pytest.raises(ConfigError, match="line 1 is not of this input"):
        run(LINES, out)
    assert out.read_text() == "notes of mine\n"
    with pytest.raises(ConfigError, match="can't be"):
        run(LINES, tmp_path / "no" / "such" / "folder.jsonl")
    more = [*LINES, json.dumps(history("h4", ["Fourth history."])) + "\n"]
    out.write_bytes(before)
    assert (run(more, out).skipped, len(rows(out))) == (3, 4), "lines may be added to the input"


BAD = (
    "no JSON", "[]", "7", '"text"', "{}", '{"id": "x"}', '{"id": "y", "messages": "none"}',
    '{"id": true, "messages": []}',
    '{"id": null, "messages": []}', '{"id": " ", "messages": []}', '{"id": "a\\u001bb", "messages": []}',
    '{"id": "' + "x" * 300 + '", "messages": []}', '{"id": "\\ud800", "messages": []}', "[" * 100_000, "\udcff",
)  # fmt: skip


def test_a_malformed_line_is_reported_and_the_rest_is_done(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    lines = [LINES[0], "\n", *(f"{bad}\n" for bad in BAD), LINES[0], LINES[1]]
    taken = run(lines, out)
    found = rows(out)
    assert len(found) == len(lines) - 1, "an empty line is none"
    bad = range(3, 3 + len(BAD))
    assert [n for n, _ in taken.malformed] == [*bad, 3 + len(BAD)]
    assert [r["line"] for r in found if r["state"] == "malformed"] == [*bad, 3 + len(BAD)]
    assert all(r["reason"].startswith(f"line {r['line']}: ") for r in found if r["state"] == "malformed")
    assert "stood in line 1 already" in found[-2]["reason"]
    assert found[-1]["id"] == "h2" and found[-1]["state"] == "done"
    again = run(lines, out)
    assert (again.done, again.skipped) == (0, len(found))


def test_messages_that_can_t_be_stored_are_reported_in_the_result(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Good."}, {"role": "nobody", "content": "x"}, 7, {"role": "user"}]
    messages += [{"role": "user", "content": "When?", "at": "yesterday"}]
    run([json.dumps({"id": 5, "messages": messages})], tmp_path / "out.jsonl")
    (found,) = rows(tmp_path / "out.jsonl")
    assert found["id"] == "5" and found["state"] == "done"
    assert [m["line"] for m in found["malformed"]] == [2, 3, 4, 5]


def test_no_messages_is_nothing_new(tmp_path: Path) -> None:
    run(['{"id": "e", "messages": []}'], tmp_path / "out.jsonl")
    (found,) = rows(tmp_path / "out.jsonl")
    assert (found["state"], found["changes"], found["passages"]) == ("nothing new", [], [])


@given(st.lists(st.one_of(st.text(max_size=30), st.sampled_from(LINES)), max_size=6))
def test_any_lines_have_a_history_or_a_problem(lines: list[str]) -> None:
    found = list(histories(lines, ""))
    assert len(found) == sum(bool(line.strip()) for line in lines)
    for one in found:
        assert one.problem or one.name is not None
    names = [h.name for h in found if not h.problem]
    assert len(names) == len(set(names))


# -- with a model ------------------------------------------------------------------------------------------------


def test_a_group_shares_batches_and_the_order_stays(tmp_path: Path) -> None:
    backend = ScriptedBackend([noted] * 6)
    sizes: list[int] = []
    generate = backend.generate
    backend.generate = lambda requests: (sizes.append(len(requests)), generate(requests))[1]  # type: ignore[method-assign]
    taken = run(LINES, tmp_path / "out.jsonl", series=Series([NOTES], backend), group_size=2)
    assert taken.done == 3 and sizes == [2, 2, 1, 1]
    assert [r["id"] for r in rows(tmp_path / "out.jsonl")] == ["h1", "h2", "h3"]


def test_when_the_budget_is_spent_what_is_finished_is_written_and_the_next_run_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    taken = run(LINES, out, series=Series([NOTES], ScriptedBackend([noted] * 6), Budget(max_calls=3)))
    assert taken.ended == "the budget of 1 calls is spent; run it again to go on"
    assert (taken.done, [r["id"] for r in rows(out)]) == (1, ["h1"])
    taken = run(LINES, out, series=Series([NOTES], ScriptedBackend([noted] * 6)))
    assert (taken.skipped, taken.done, taken.ended) == (1, 2, "")
    assert [r["state"] for r in rows(out)] == ["done"] * 3


def test_when_the_model_is_away_nothing_is_written_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmem.reflection.questioning.WAIT_S", 0.0)
    backend = ScriptedBackend([noted, noted, *[BackendUnavailableError("the server is away")] * 9])
    taken = run(LINES, tmp_path / "out.jsonl", series=Series([NOTES], backend))
    assert taken.ended == "the model failed: the server is away" and taken.done == 1


def test_a_fault_of_one_strategy_on_one_history_stops_that_alone(tmp_path: Path) -> None:
    taken = run(LINES, tmp_path / "out.jsonl", series=Series(["tests.reflection.test_histories:Picky"]))
    assert taken.done == 3 and taken.ended == ""
    assert [(r["state"], "h2" in r["reason"]) for r in rows(tmp_path / "out.jsonl")] == [
        ("done", False), ("stopped", True), ("done", False),
    ]  # fmt: skip
    assert not of_the_run("ConfigError: x") and of_the_run("the budget of 3 calls is spent; run it again to go on")


class Picky:
    name, version, forms = "picky", 1, ("rules",)

    def estimate(self, view: Any) -> Any:
        from agentmem.reflection.budget import Estimate

        return Estimate()

    def run(self, view: Any) -> Iterator[Any]:
        from agentmem.reflection import AddPassage
        from agentmem.reflection.strategy import propose

        if view.agent == "h2":
            raise ConfigError("picky", view.agent, "not this one")
        yield from propose([AddPassage("Taken.", "note", ("m1",))], cursor=view.last_message)


# -- in a store that stays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["reflect.before_commit", "reflect.committed", "histories.written"])
@pytest.mark.parametrize("keyed", [True, False])
def test_a_killed_run_in_a_store_loses_nothing_and_does_nothing_twice(tmp_path: Path, point: str, keyed: bool) -> None:
    lines = []
    for row in ROWS:
        messages = [{**m, "id": f"D1:{n}"} if keyed else m for n, m in enumerate(row["messages"])]
        lines.append(json.dumps({**row, "messages": messages}) + "\n")

    def stored(name: str, clock: Callable[[], datetime]) -> Memory:
        return Memory(tmp_path / "m.db", name, embedder="none", clock=clock)

    out = tmp_path / "out.jsonl"
    for nth in range(1, 4):
        met = 0

        def crash(at: str) -> None:
            nonlocal met
            met += at == point
            if at == point and met == nth:  # noqa: B023
                raise Crash

        crashpoints.install(crash)
        try:
            run(lines, out, opened=stored, kept=True)
        except Crash:
            pass
        finally:
            crashpoints.install(None)
    run(lines, out, opened=stored, kept=True)
    plain = tmp_path / "plain.jsonl"
    run(lines, plain)
    found, expected = rows(out), rows(plain)
    assert [r["id"] for r in found] == [r["id"] for r in expected]
    for a, b in zip(found, expected, strict=True):
        assert (a["state"], a["passages"], a["blocks"], a["changes"]) == (
            b["state"],
            b["passages"],
            b["blocks"],
            b["changes"],
        )
    with Memory(tmp_path / "m.db", "h3", embedder="none", create=False) as memory:
        assert memory.records.recall.count() == 4
