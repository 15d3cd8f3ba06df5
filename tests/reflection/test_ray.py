"""Reflection on a real Ray of this machine: the same as by one process, an actor killed in the middle included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentmem.errors import BackendError, ConfigError, MissingExtraError, UnknownNameError
from agentmem.reflection import Budget
from agentmem.reflection.dealt_histories import deal_histories
from agentmem.reflection.orders import Orders
from agentmem.reflection.ray_workers import ray_crew, reflect_on_ray
from tests.reflection.lethal import Echo
from tests.reflection.test_dealt_histories import history_lines, in_order, rows
from tests.reflection.test_workers import AGENTS, ECHO, LETHAL, NOTES, by_one, filled, state, told
from tests.reflection.toys import Notes

NOT_INSTALLED = "ray is not installed: pip install 'agentmem[ray]'"


def on(db: Path, agents: list[str] = AGENTS) -> list[tuple[Path, str]]:
    return [(db, agent) for agent in agents]


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    db = filled(tmp_path / "m.db", ["anna"], 1)
    with pytest.raises(MissingExtraError) as caught:
        reflect_on_ray("auto", on(db, ["anna"]), Orders(NOTES), workers=2)
    assert "agentmem[ray]" in str(caught.value)
    assert reflect_on_ray("auto", [], Orders(NOTES), workers=2) == []


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"strategies": [Notes()]}, ConfigError, "package.module:Class"),
        ({"workers": 0}, ConfigError, "at least 1"),
        ({"agents": ["nobody"]}, UnknownNameError, "nobody"),
        ({"agents": ["anna", "anna"]}, ConfigError, "named twice"),
    ],
)
def test_what_no_actor_could_do_is_refused_before_ray_is_looked_for(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    db = filled(tmp_path / "m.db", ["anna"], 1)
    given = {"strategies": NOTES, "workers": 2, "agents": ["anna"], **change}
    with pytest.raises(error) as caught:
        reflect_on_ray("auto", on(db, given["agents"]), Orders(given["strategies"]), workers=given["workers"])
    assert says in str(caught.value)


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Ray of two CPUs on the loopback, without a token in anybody's home, a dashboard or reports to anybody."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_AUTH_MODE", "disabled")
    patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # it then keeps to the loopback, elsewhere than there too
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("HOME", str(tmp_path_factory.mktemp("ray-home")))
    found = pytest.importorskip("ray", reason=NOT_INSTALLED)
    found.init(
        address="local", num_cpus=2, include_dashboard=False, object_store_memory=200_000_000, log_to_driver=False,
        logging_level="error",
    )  # fmt: skip
    yield found
    found.shutdown()
    patch.undo()


@pytest.mark.slow
def test_two_actors_do_what_one_process_does(ray: Any, tmp_path: Path) -> None:
    one, two = filled(tmp_path / "one.db"), filled(tmp_path / "two.db")
    events: list[Any] = []
    wanted = by_one(one, Notes(), Echo())
    found = reflect_on_ray("auto", on(two), Orders(NOTES, ECHO), workers=2, on_event=events.append)
    assert [told(r) for r in found] == [told(r) for r in wanted]
    assert state(two) == state(one)
    assert {e["agent"] for e in events if e["event"] == "ended"} == set(AGENTS)
    assert {e["worker"] for e in events} <= {1, 2}
    assert [e["calls"] for e in events if e["event"] == "batch"] == list(range(1, 16)), "counted over the run"
    assert ray.is_initialized(), "a connection that was there stays"
    assert {r.state for r in reflect_on_ray("auto", on(two), Orders(NOTES, ECHO), workers=2)} == {"nothing new"}


@pytest.mark.slow
def test_a_killed_actor_s_agents_go_on_with_another(ray: Any, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    db, whole = filled(tmp_path / "m.db"), filled(tmp_path / "whole.db")
    events: list[Any] = []
    spec = f"{LETHAL}?folder={marks}&agent=cleo"
    found = reflect_on_ray("auto", on(db), Orders(spec), workers=2, on_event=events.append)
    assert [(r.agent, r.state) for r in found] == [(a, "done") for a in AGENTS]
    assert len(list(marks.iterdir())) == 1 and found[2].resumed
    (lost,) = [e for e in events if e["event"] == "worker_lost"]
    assert lost["agents"] == ["cleo"]
    by_one(whole, Notes())
    assert state(db) == state(whole), "nothing twice, nothing lost"
    # One that kills each of its actors is given up.
    found = reflect_on_ray(
        "auto", on(db), Orders(f"{LETHAL}?folder={marks}&agent=ben&times=99", again=True), workers=2
    )  # fmt: skip
    assert {r.agent: r.state for r in found} == {a: "stopped" if a == "ben" else "done" for a in AGENTS}
    assert "3 attempts" in found[1].reason


@pytest.mark.slow
def test_the_budget_holds_over_all_actors(ray: Any, tmp_path: Path) -> None:
    db, other = filled(tmp_path / "m.db"), filled(tmp_path / "other.db", ["anna"])
    work = [*on(db), (other, "anna")]
    calls = []
    for _ in range(4):
        found = reflect_on_ray(
            "auto", work, Orders(NOTES, ECHO, budget=Budget(max_calls=7), batch_size=2), workers=2
        )  # fmt: skip
        assert [r.agent for r in found] == [*AGENTS, "anna"]
        assert all(r.state != "stopped" or "7 calls" in r.reason for r in found), found
        calls.append(sum(s.calls for r in found for s in r.strategies))
    assert calls == [7, 7, 4, 0]
    assert {r.state for r in found} == {"nothing new"}


@pytest.mark.slow
def test_what_can_not_run_on_this_ray_is_said(ray: Any, tmp_path: Path) -> None:
    db = filled(tmp_path / "m.db")
    with pytest.raises(ConfigError, match="1 of GPU; this node has 0") as caught:
        reflect_on_ray("auto", on(db), Orders(NOTES, "vllm:models/Qwen3-8B"), workers=2)
    assert "gpus_per_worker" in caught.value.hint
    with pytest.raises(BackendError, match="nobody is there"):
        reflect_on_ray("auto", on(db), Orders(NOTES, "tests.reflection.lethal:Unmade"), workers=2)
    with pytest.raises(ConfigError, match="client is not on a node"):
        reflect_on_ray("ray://127.0.0.1:10001", on(db), Orders(NOTES), workers=2)


SCRIPT = """
import json, sys
from agentmem.errors import ConfigError
from agentmem.reflection.dealt_histories import deal_histories
from agentmem.reflection.ray_workers import ray_crew, reflect_on_ray
from agentmem.reflection.orders import Orders
try:
    reflect_on_ray("127.0.0.1:1", [(sys.argv[1], "anna")], Orders("tests.reflection.toys:Notes"), workers=2)
except ConfigError as e:
    print(json.dumps({"refused": str(e)}))
found = reflect_on_ray("local", [(sys.argv[1], "anna")], Orders("tests.reflection.toys:Notes"), workers=2)
import ray
print(json.dumps({"states": [r.state for r in found], "left": ray.is_initialized()}))
"""


@pytest.mark.slow
def test_a_ray_of_its_own_and_none_that_runs(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason=NOT_INSTALLED)
    db = filled(tmp_path / "m.db", ["anna"])
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
        "RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }  # fmt: skip
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    ran = subprocess.run([sys.executable, str(script), str(db)], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    refused, ended = map(json.loads, ran.stdout.splitlines())
    assert "--ray local" in refused["refused"]
    assert ended == {"states": ["done"], "left": False}


@pytest.mark.slow
def test_histories_go_wherever_there_is_room_and_survive_a_killed_actor(ray: Any, tmp_path: Path) -> None:
    lines, out, marks = history_lines(), tmp_path / "out.jsonl", tmp_path / "marks"
    marks.mkdir()
    orders = Orders((f"{LETHAL}?folder={marks}&agent=h4",), embedder="hash")
    with ray_crew("auto", orders, 2, here=False) as crew:
        taken = deal_histories(crew, lines, out, settings="s")
    assert taken.ended == "" and len(list(marks.iterdir())) == 1
    assert json.loads(json.dumps(rows(out)).replace('"lethal"', '"notes"')) == in_order(tmp_path, lines)
