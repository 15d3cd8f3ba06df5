"""Reflection by several processes: the same as by one, within one budget, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentmem.errors import BackendError, ConfigError, UnknownNameError
from agentmem.memory import Memory
from agentmem.reflection import Budget, JobReport, reflect
from agentmem.reflection.holding import held
from agentmem.reflection.orders import Orders
from agentmem.reflection.share_job import ShareJob
from agentmem.reflection.workers import reflect_agents
from tests.reflection.lethal import Echo
from tests.reflection.toys import Notes

NOTES = "tests.reflection.toys:Notes"
ECHO = "tests.reflection.lethal:Echo"
LETHAL = "tests.reflection.lethal:Lethal"
AGENTS = ["anna", "ben", "cleo", "dora", "emil"]
Seen = list[Any]


def filled(db: Path, agents: list[str] = AGENTS, messages: int = 7) -> Path:
    for agent in agents:
        with Memory(db, agent, embedder="hash") as memory:
            memory.ingest([{"role": "user", "content": f"{agent} likes number {n}.", "id": f"{agent}{n}"}
                           for n in range(messages)])  # fmt: skip
    return db


def state(db: Path, agents: list[str] = AGENTS) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for agent in agents:
        with Memory(db, agent, embedder="none", create=False) as memory:
            records = memory.records
            found[agent] = {
                "passages": [(p.text, p.sources, p.superseded_by) for p in records.archival.after(0)],
                "block": memory.core["human"].value,
                "keys": records.keys.all(),
                "jobs": [(j.id, j.state) for j in records.jobs.all()],
                "changes": [(c.number, c.fate, c.made) for c in records.jobs.changes(1)],
            }
    return found


def told(report: JobReport) -> dict[str, Any]:
    """Without what the clock says."""
    found = report.to_dict()
    for strategy in found["strategies"]:
        strategy["changes"] = [{**c, "change": c["change"]["op"]} for c in strategy["changes"]]
    return {**found, "seconds": 0}


def by_one(db: Path, strategy: Any, backend: Any = None) -> list[JobReport]:
    memories = [Memory(db, agent, create=False, embedder="none") for agent in AGENTS]
    try:
        return reflect(memories, strategy, backend=backend)
    finally:
        for memory in memories:
            memory.close()


# -- without processes


def test_a_report_comes_back_from_json_as_it_was(memory_factory: Any) -> None:
    memory = memory_factory()
    memory.ingest([{"role": "user", "content": f"Number {n}."} for n in range(7)])
    reports = reflect(memory, Notes(), backend=Echo()) + reflect(memory, Notes(), backend=Echo())
    assert reports[0].changes and reports[0].strategies[0].cached_tokens is None
    for report in reports:
        found = JobReport.of_dict(json.loads(json.dumps(report.to_dict())))
        assert found.to_dict() == report.to_dict()
        plain = replace(
            report, seconds=round(report.seconds, 3),
            strategies=tuple(
                replace(s, changes=tuple(replace(c, before={}) for c in s.changes)) for s in report.strategies
            ),
        )  # fmt: skip
        assert found == plain


def test_a_share_runs_as_one_job_and_counts_what_it_used(tmp_path: Path) -> None:
    db = filled(tmp_path / "m.db")
    events: Seen = []
    asked: list[tuple[int, int]] = []

    def may(calls: int, tokens: int) -> str:
        asked.append((calls, tokens))
        return "the budget of 11 calls" if calls > 11 else ""

    job = ShareJob(Orders((NOTES,), ECHO, budget=Budget(max_calls=11, max_tokens=10**6)), events.append)
    found = job.run([{"db": str(db), "agent": agent} for agent in AGENTS], may)
    assert [r["agent"] for r in found["results"]] == AGENTS
    # Three windows an agent, asked side by side: five, five, and one of five.
    assert found["calls"] == 11 == sum(s["calls"] for r in found["results"] for s in r["strategies"])
    assert [c for c, _ in asked] == list(range(1, 13))
    assert found["tokens"] <= asked[-1][1]
    assert {r["state"] for r in found["results"]} == {"stopped"}
    assert "11 calls" in found["results"][-1]["reason"]
    assert {"planned", "batch", "ended"} <= {e["event"] for e in events}
    job.close()


def test_an_agent_that_somebody_holds_stops_itself_alone(tmp_path: Path) -> None:
    db = filled(tmp_path / "m.db")
    job = ShareJob(Orders((NOTES,)), lambda _event: None)
    with Memory(db, "ben", embedder="none") as memory, held(memory):
        found = job.run([{"db": str(db), "agent": a} for a in [*AGENTS, "nobody"]], lambda _c, _t: "")
    states = {r["agent"]: (r["state"], r["reason"]) for r in found["results"]}
    assert states["ben"][0] == "stopped" and str(os.getpid()) in states["ben"][1]
    assert states["nobody"][0] == "stopped" and "UnknownNameError" in states["nobody"][1]
    assert {states[a][0] for a in AGENTS if a != "ben"} == {"done"}


def test_orders_are_checked_and_come_back_from_json() -> None:
    orders = Orders((NOTES, "consolidate"), ECHO, "hash", 2048, True, 3, 8, Budget(7, None, 1.5))
    assert Orders.of_dict(json.loads(json.dumps(orders.to_dict()))) == orders
    with pytest.raises(ConfigError, match="a worker has agentmem"):
        Orders.of_dict({**orders.to_dict(), "version": "0.0.1"})


def test_one_strategy_may_be_named_alone() -> None:
    orders = Orders(NOTES, budget=Budget(max_tokens=9))
    assert orders.named == (NOTES,)
    found = Orders.of_dict(json.loads(json.dumps(orders.checked().to_dict())))
    assert (found.named, found.budget) == ((NOTES,), Budget(max_tokens=9))
    assert Orders().checked().named == ("consolidate",)
    with pytest.raises(AttributeError):
        orders.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("budget", "counted"), [(Budget(), 0), (Budget(max_calls=99), 0), (Budget(max_tokens=10**6), 3)]
)
def test_a_worker_counts_tokens_where_they_are_limited(
    tmp_path: Path, budget: Budget, counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentmem.reflection import questioning

    seen: list[int] = []
    whole = questioning.estimate_of
    monkeypatch.setattr(questioning, "estimate_of", lambda r, b: seen.append(len(r)) or whole(r, b))
    db = filled(tmp_path / "m.db", ["anna"])
    job = ShareJob(Orders(NOTES, ECHO, budget=budget), lambda _event: None)
    found = job.run([{"db": str(db), "agent": "anna"}], lambda _c, _t: "")
    assert found["calls"] == 3
    assert sum(seen) == counted
    job.close()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"strategies": [Notes()]}, ConfigError, "package.module:Class"),
        ({"strategies": []}, ConfigError, "names none"),
        ({"strategies": [NOTES, NOTES]}, ConfigError, "named twice"),
        ({"strategies": "nonesuch"}, UnknownNameError, "nonesuch"),
        ({"backend": Echo()}, ConfigError, "give a spec"),
        ({"workers": 0}, ConfigError, "at least 1"),
        ({"batch_size": 0}, ConfigError, "at least 1"),
        ({"backend": "vllm:models/Qwen3-8B"}, ConfigError, "serve-model"),
        ({"agents": ["anna", "anna"]}, ConfigError, "named twice"),
        ({"agents": ["anna", "nobody"]}, UnknownNameError, "known: anna, ben"),
        ({"db": ":memory:"}, ConfigError, "one process"),
        ({"db": "nonesuch.db"}, UnknownNameError, "nonesuch.db"),
    ],
)  # fmt: skip
def test_what_no_worker_could_do_is_refused_before_one_starts(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multiprocessing.get_context", None)
    given = {"db": filled(tmp_path / "m.db", ["anna", "ben"], 1), "agents": ["anna"], "workers": 2}
    orders = Orders(**{"strategies": NOTES, **{n: v for n, v in change.items() if n not in given}})
    with pytest.raises(error) as caught:
        reflect_agents(**{**given, **{n: v for n, v in change.items() if n in given}}, orders=orders)
    assert says in str(caught.value)
    assert reflect_agents(given["db"], [], Orders(NOTES), workers=2) == []


# -- with processes


def test_two_workers_do_what_one_process_does(tmp_path: Path) -> None:
    one, two = filled(tmp_path / "one.db"), filled(tmp_path / "two.db")
    events: Seen = []
    wanted = by_one(one, Notes(), Echo())
    found = reflect_agents(two, AGENTS, Orders(NOTES, ECHO, "none"), workers=2, on_event=events.append)
    assert [told(r) for r in found] == [told(r) for r in wanted]
    assert state(two) == state(one)
    assert {e["worker"] for e in events} == {1, 2}
    batches = [e for e in events if e["event"] == "batch"]
    assert [e["calls"] for e in batches] == list(range(1, 16)), "counted over the run"
    assert batches[-1]["tokens"] == sum(s.prompt_tokens + s.completion_tokens for r in found for s in r.strategies)
    assert {e["agent"] for e in events if e["event"] == "ended"} == set(AGENTS)


@pytest.mark.slow
def test_a_second_run_does_nothing_and_again_begins_anew(tmp_path: Path) -> None:
    db = filled(tmp_path / "m.db")
    assert {r.state for r in reflect_agents(db, AGENTS, Orders(NOTES), workers=2)} == {"done"}
    after = state(db)
    assert {r.state for r in reflect_agents(db, AGENTS, Orders(NOTES), workers=2)} == {"nothing new"}
    assert state(db) == after
    assert {r.state for r in reflect_agents(db, AGENTS, Orders(NOTES, again=True), workers=2)} == {"done"}


def test_the_agents_of_a_killed_worker_are_given_to_another(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    db, whole = filled(tmp_path / "m.db"), filled(tmp_path / "whole.db")
    events: Seen = []
    spec = f"{LETHAL}?folder={marks}&agent=cleo"
    found = reflect_agents(db, AGENTS, Orders(spec), workers=2, on_event=events.append)
    assert [(r.agent, r.state) for r in found] == [(a, "done") for a in AGENTS]
    assert len(list(marks.iterdir())) == 1
    assert found[2].resumed
    (lost,) = [e for e in events if e["event"] == "worker_lost"]
    assert lost["agents"] == ["cleo"] and "SIGKILL" in lost["reason"]
    by_one(whole, Notes())
    assert state(db) == state(whole), "nothing twice, nothing lost"


@pytest.mark.slow
def test_an_agent_that_kills_each_worker_is_given_up_and_the_others_are_not(tmp_path: Path) -> None:
    agents = [f"a{n:02d}" for n in range(24)]  # shares of three
    marks = tmp_path / "marks"
    marks.mkdir()
    db = filled(tmp_path / "m.db", agents)
    found = reflect_agents(db, agents, Orders(f"{LETHAL}?folder={marks}&agent=a04&times=99"), workers=2)
    states = {r.agent: r.state for r in found}
    assert states.pop("a04") == "stopped" and set(states.values()) == {"done"}
    assert "SIGKILL" in found[4].reason and "3 attempts" in found[4].reason
    assert len(list(marks.iterdir())) == 3
    # With the cause gone the next run ends it.
    again = reflect_agents(db, agents, Orders(f"{LETHAL}?folder={marks}&agent=a04&times=0"), workers=2)
    assert {r.agent: r.state for r in again}["a04"] == "done"
    assert {r.state for r in again} == {"done", "nothing new"}


@pytest.mark.slow
@pytest.mark.parametrize("limit", [{"max_calls": 6}, {"max_tokens": 600}, {"max_seconds": 0.0}])
def test_the_budget_holds_over_all_workers(
    tmp_path: Path, limit: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    log.touch()
    monkeypatch.setenv("ECHO_LOG", str(log))
    db, whole = filled(tmp_path / "m.db"), filled(tmp_path / "whole.db")
    orders = Orders(NOTES, ECHO, batch_size=2, budget=Budget(**limit))
    runs = 0
    while True:
        log.write_text("")
        found = reflect_agents(db, AGENTS, orders, workers=2)
        calls = sum(map(int, log.read_text().split()))
        tokens = sum(s.prompt_tokens + s.completion_tokens for r in found for s in r.strategies)
        assert calls == sum(s.calls for r in found for s in r.strategies)
        assert calls <= limit.get("max_calls", 99) and tokens <= limit.get("max_tokens", 10**6)
        runs += 1
        if "max_seconds" in limit:
            assert calls == 0 and all("0 seconds" in r.reason for r in found)
            return
        if not calls and all(r.state != "stopped" for r in found):
            break
        assert runs < 12, "a run within the budget must come further"
    assert runs > 2
    by_one(whole, Notes(), Echo())
    left = state(db)
    for agent, wanted in state(whole).items():
        assert {**left[agent], "jobs": 0, "changes": 0} == {**wanted, "jobs": 0, "changes": 0}


@pytest.mark.slow
def test_a_backend_that_can_not_be_made_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    db = filled(tmp_path / "m.db")
    with pytest.raises(BackendError, match="nobody is there") as caught:
        reflect_agents(db, AGENTS, Orders(NOTES, "tests.reflection.lethal:Unmade"), workers=2)
    assert caught.value.hint == "start the server"
    with pytest.raises(ConfigError, match="backend"):
        reflect_agents(db, AGENTS, Orders(NOTES, "tests.reflection.nonesuch:Unmade"), workers=2)


SCRIPT = """
import sys
from agentmem.reflection import Orders, reflect_agents
if __name__ == "__main__":
    reflect_agents(sys.argv[1], ["anna", "ben"], Orders("tests.reflection.lethal:Slow?mark=" + sys.argv[2]), workers=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_run(tmp_path: Path, how: signal.Signals) -> None:
    db = filled(tmp_path / "m.db", ["anna", "ben"])
    script, mark = tmp_path / "run.py", tmp_path / "mark"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.Popen(
        [sys.executable, str(script), str(db), str(mark)], env=environment, stderr=subprocess.PIPE, text=True
    )
    while not mark.exists() or not mark.read_text():
        assert run.poll() is None
        time.sleep(0.05)
    worker = int(mark.read_text())
    run.send_signal(how)
    _, said = run.communicate(timeout=30)
    assert run.returncode == (-how if how == signal.SIGKILL else 130) or "KeyboardInterrupt" in said
    for _ in range(200):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the worker is still there")
