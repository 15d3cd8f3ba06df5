"""The demo's own strategy keeps the laws, runs by its name, and has an end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentmem import Memory, reflect
from agentmem.reflection import undo
from demos.reflection_strategy import WINDOW, Promises, main
from tests.cli.conftest import run_here

SPEC = "demos.reflection_strategy:Promises"


def promises(memory: Memory) -> list[tuple[str, tuple[str, ...]]]:
    return [(p.text, p.sources) for p in memory.records.archival.after(0) if p.kind == "promise"]


def test_what_people_promise_is_noted_once(memory_factory: Callable[..., Memory]) -> None:
    memory = memory_factory()
    memory.observe("user", "It rains. I'll call Anna! Maybe.", name="Tom", at="2023-05-08T10:00:00")
    memory.observe("assistant", "I will remember that.")
    for n in range(WINDOW):
        memory.observe("user", f"Nothing {n}.")
    memory.observe("user", "I will bring the tea", name="Mia", at="2023-05-09T10:00:00")
    expected = [
        ("Tom promised on 8 May 2023: I'll call Anna!", ("m1",)),
        ("Mia promised on 9 May 2023: I will bring the tea", (f"m{WINDOW + 3}",)),
    ]
    (report,) = reflect(memory, Promises())
    assert promises(memory) == expected
    assert reflect(memory, [f"{SPEC}?most=1"])[0].state == "nothing new"
    assert report.job is not None and undo(memory, report.job).kept == ()
    assert promises(memory) == []


def test_it_runs_by_its_name_and_as_the_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Memory(tmp_path / "m.db", "tom", embedder="none") as memory:
        memory.observe("user", "I'll call Anna.", name="Tom")
    done = run_here("reflect", SPEC, "--db", tmp_path / "m.db", "--agent", "tom", "--embedder", "none")
    assert done.code == 0 and "promised" in done.out and "from m1" in done.out
    main()
    shown = capsys.readouterr().out
    assert "friends: done, job j1" in shown and "friends: nothing new" in shown and "friends: j1 is undone" in shown
