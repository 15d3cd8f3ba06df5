"""Histories dealt to workers: the same file as by one process, within one budget, whoever is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentmem.errors import ConfigError
from agentmem.memory import Memory
from agentmem.reflection import Budget, reflect
from agentmem.reflection.crew import Crew
from agentmem.reflection.dealt_histories import deal_histories
from agentmem.reflection.histories import reflect_histories
from agentmem.reflection.orders import Orders
from agentmem.reflection.share_job import ShareJob
from agentmem.reflection.shares import Ledger, Share
from agentmem.reflection.workers import process_crew
from tests.reflection.lethal import Echo
from tests.reflection.toys import Notes

NOTES = "tests.reflection.toys:Notes"
ECHO = "tests.reflection.lethal:Echo"
LETHAL = "tests.reflection.lethal:Lethal"


class OnSpot(Crew[int]):
    """One worker that is this process."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(1, None)
        self.job = ShareJob(orders, lambda _event: None)
        self.ledger = Ledger(orders.budget)
        self.said: list[tuple[int, Any]] = []

    def start(self) -> int:
        self.said.append((1, None))
        return 1

    def give(self, worker: int, share: Share) -> None:
        tasks = json.loads(json.dumps([self.tasks[n] for n in share.tasks]))
        self.said.append((share.number, self.job.run(tasks, lambda c, t: self.ledger.may(share.number, c, t))))

    def listen(self) -> None:
        number, found = self.said.pop(0)
        if found is None:
            self.ready(1)
        else:
            self.ledger.settle(number, found["calls"], found["tokens"])
            self.did(1, found["results"])


def history_lines(count: int = 9) -> list[str]:
    lines = [
        json.dumps({"id": f"h{n}", "messages": [
            {"role": "user", "content": f"History {n} has \u2028 number {k}.", "at": "2023-05-08T12:00:00Z"}
            for k in range(n)
        ]}) for n in range(count)
    ]  # fmt: skip
    return [*lines[:3], "no json", lines[1], '{"id": "bad", "messages": [{"role": "nobody"}, 7]}', "", *lines[3:]]


def rows(out: Path) -> list[Any]:
    found = [json.loads(line) for line in out.read_bytes().splitlines()]
    for row in found:
        row["strategies"] = [{**s, "reused": 0} for s in row["strategies"]]
    return found


def in_order(tmp_path: Path, lines: list[str], backend: Any = None) -> list[Any]:
    """By one process, one after the other."""
    out = tmp_path / "wanted.jsonl"
    reflect_histories(
        lines, out, settings="s", kept=False, reflector=lambda m: reflect(m, Notes(), backend=backend),
        opened=lambda name, clock: Memory(":memory:", name, embedder="hash", clock=clock),
    )  # fmt: skip
    return rows(out)


def test_histories_that_are_dealt_give_the_same_file(tmp_path: Path) -> None:
    lines, out = history_lines(), tmp_path / "out.jsonl"
    wanted = in_order(tmp_path, lines, Echo())
    taken = deal_histories(OnSpot(Orders((NOTES,), ECHO, "hash")), lines, out, settings="s")
    assert rows(out) == wanted
    assert (taken.done, taken.skipped, taken.ended) == (len(wanted), 0, "")
    assert [n for n, _ in taken.malformed] == [r["line"] for r in wanted if r["state"] == "malformed"]
    # A half-written line is written anew, and what stands there is not done again.
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])
    taken = deal_histories(OnSpot(Orders((NOTES,), ECHO, "hash")), lines, out, settings="s")
    assert out.read_bytes() == whole and (taken.done, taken.skipped) == (1, len(wanted) - 1)
    with pytest.raises(ConfigError, match="with these settings"):
        deal_histories(OnSpot(Orders((NOTES,), ECHO, "hash")), lines, out, settings="other")


def test_a_budget_ends_the_run_over_histories_and_the_next_goes_on(tmp_path: Path) -> None:
    lines, out = history_lines(), tmp_path / "out.jsonl"
    done = []
    for _ in range(20):
        crew = OnSpot(Orders((NOTES,), ECHO, "hash", budget=Budget(max_calls=5)))
        taken = deal_histories(crew, lines, out, settings="s")
        assert crew.ledger.spent.calls <= 5
        done.append(taken.done)
        if not taken.ended:
            break
        assert "5 calls" in taken.ended
    assert len(done) > 2 and all(done)
    assert rows(out) == in_order(tmp_path, lines, Echo())


@pytest.mark.slow
def test_histories_by_two_processes_of_which_one_is_killed(tmp_path: Path) -> None:
    lines, out, marks = history_lines(), tmp_path / "out.jsonl", tmp_path / "marks"
    marks.mkdir()
    with process_crew(Orders((f"{LETHAL}?folder={marks}&agent=h4",), embedder="hash"), 2) as crew:
        taken = deal_histories(crew, lines, out, settings="s")
    assert taken.ended == "" and len(list(marks.iterdir())) == 1
    found = json.loads(json.dumps(rows(out)).replace('"lethal"', '"notes"'))
    assert found == in_order(tmp_path, lines)
