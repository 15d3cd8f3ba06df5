"""reflect, jobs and undo as a person and a program meet them."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentmem import Memory
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.scripted import ScriptedBackend
from agentmem.types import Completion, Request
from tests.cli.conftest import NO_MODEL, Ran, message, write_lines
from tests.cli.test_repl import PATIENCE_S, Terminal
from tests.reflection.toys import noted

Cli = Callable[..., Ran]
NOTES = "tests.reflection.toys:Notes"
SAID = (
    "My sister Anna moved to Lisbon.", "She works at the aquarium.", "I adopted a parrot.", "It is called Biscuit.",
    "Anna plays the accordion.",
)  # fmt: skip
MODEL = "tests.cli.test_reflect:Model"


class Model(ScriptedBackend):
    """A model by its name in a spec."""

    def __init__(self, times: int = 99) -> None:
        super().__init__([noted] * times)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Two agents with five messages each, one without any."""
    for agent in ("anna", "ben"):
        with Memory(tmp_path / "m.db", agent, embedder="hash") as memory:
            for n, text in enumerate(SAID, 1):
                memory.observe("user", text, name="Tom", key=f"D1:{n}", at=f"2023-05-08T13:5{n}:00")
            # So that the file has an embedder, which the commands then use: no model is loaded.
            memory.catch_up()
    Memory(tmp_path / "m.db", "empty", embedder=HashingEmbedder()).close()
    return tmp_path / "m.db"


@pytest.fixture
def base(db: Path) -> tuple[str, ...]:
    return ("--db", str(db), "--agent", "anna")


def human(db: Path, agent: str = "anna") -> str:
    with Memory(db, agent, embedder="none", create=False) as memory:
        return memory.core["human"].value


# -- help --------------------------------------------------------------------------------------------------------

OPTIONS = {
    "reflect": (
        "--all-agents --agent --backend --dry-run --review --show --max-calls --max-tokens --max-seconds --batch-size "
        "--again --seed --workers --ray --in --out --events --db --embedder --window --json --help"
    ),
    "jobs": "--db --agent --json --help",
    "undo": "--db --agent --json --help",
}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_has_each_option_once_and_an_example(cli: Cli, command: str) -> None:
    done = cli(command, "--help")
    assert done.code == 0
    options = done.out.partition("Options:")[2].partition("Example:")[0]
    found = re.findall(r"^  (?:-h, )?(--[a-z-]+)", options, re.MULTILINE)
    assert found == OPTIONS[command].split()
    assert f"Example: agentmem {command}" in " ".join(done.out.split())
    assert re.search(rf"^  {command}\s", cli("--help").out, re.MULTILINE)


def test_names_of_strategies_are_completed() -> None:
    from agentmem.commands_reflect import _known_strategies

    assert _known_strategies("pro") == ["profile"]
    assert {"consolidate", "profile"} <= set(_known_strategies(""))


# -- a job -------------------------------------------------------------------------------------------------------


def test_a_job_says_what_changed_and_why_and_cites(cli: Cli, base: tuple[str, ...], db: Path) -> None:
    done = cli("reflect", NOTES, *base)
    assert done.code == 0 and done.err == ""
    assert done.out.startswith("anna: done, job j1\n  notes (by rules): ")
    assert '+ p1 note: "A note about My sister Anna moved to Lisbon."\n      why: a window is full\n' in done.out
    assert 'from m1 (D1:1, 8 May 2023, Tom): "My sister Anna moved to Lisbon."' in done.out
    assert done.out.endswith("  to take it back: agentmem undo j1 --agent anna\n")
    assert human(db) == "Notes: up to m5"
    assert cli("reflect", NOTES, *base).out == "anna: nothing new\n"
    assert cli("verify", *base).code == 0


def test_json_is_one_document_and_nothing_else(cli: Cli, base: tuple[str, ...]) -> None:
    plan = cli("reflect", NOTES, *base, "--dry-run", "--json").document
    assert plan["state"] == "planned" and plan["estimate"]["records"] == 5 and plan["expected_seconds"] is None
    first = cli("reflect", NOTES, *base, "--json").document
    assert set(first) == {"state", "jobs", "estimate", "expected_seconds", "not_begun"}
    (job,) = first["jobs"]
    assert (first["state"], job["agent"], job["job"], job["state"]) == ("done", "anna", "j1", "done")
    change = job["strategies"][0]["changes"][0]
    assert change["fate"] == "applied" and change["change"]["sources"] == ["m1", "m2", "m3"]
    assert cli("reflect", NOTES, *base, "--json").document["state"] == "nothing new"
    listed = cli("jobs", *base, "--json").document
    assert [(j["job"], j["state"], j["strategies"]) for j in listed["jobs"]] == [("j1", "done", ["notes"])]
    one = cli("jobs", "j1", *base, "--json").document
    assert [c["fate"] for c in one["changes"]] == ["applied"] * len(job["strategies"][0]["changes"])
    shown = cli("reflect", "--show", *base, "--json").document
    assert [d["sources"] for d in shown["agents"][0]["derived"]] == [["m1", "m2", "m3"], ["m4", "m5"]]
    undone = cli("undo", "j1", *base, "--json").document
    assert set(undone) == {"agent", "job", "undone", "kept"} and undone["kept"] == []


def test_a_dry_run_shows_the_plan_and_the_diff_and_changes_nothing(cli: Cli, base: tuple[str, ...], db: Path) -> None:
    before = cli("export", "-", *base).out
    done = cli("reflect", NOTES, *base, "--dry-run")
    lines = done.out.splitlines()
    assert lines[0].split()[:3] == ["agent", "strategy", "form"] and lines[1].split()[:4] == [
        "anna",
        "notes",
        "rules",
        "5",
    ]
    assert "@@ 1. notes: add note (planned) @@" in lines and "+Notes: up to m3" in lines
    assert cli("export", "-", *base).out == before and cli("jobs", *base).out == "no jobs yet\n"


def test_a_dry_run_with_a_model_asks_nothing_and_later_knows_how_long(
    cli: Cli, base: tuple[str, ...], db: Path
) -> None:
    done = cli("reflect", NOTES, *base, "--dry-run", "--backend", MODEL)
    assert "2 calls" in done.out and done.out.rstrip().endswith("time: not known")
    with Memory(db, "anna", embedder="none") as memory, memory.store.write():
        jobs, now = memory.records.jobs, memory.clock()
        jobs.end(jobs.begin(["notes"], "scripted", now), "done", {"strategies": {"notes": {"calls": 4}}}, now)
        memory.store.db.run("UPDATE jobs SET started_at = '2023-05-08T12:00:00+00:00'")
        memory.store.db.run("UPDATE jobs SET ended_at = '2023-05-08T12:01:00+00:00'")
    plan = cli("reflect", NOTES, *base, "--dry-run", "--backend", MODEL, "--json").document
    assert plan["expected_seconds"] == 30.0 and plan["jobs"][0]["strategies"][0]["form"] == "model"


def test_the_budget_stops_it_and_the_next_run_goes_on(cli: Cli, base: tuple[str, ...]) -> None:
    done = cli("reflect", NOTES, *base, "--backend", MODEL, "--max-calls", "1")
    assert done.code == 1
    assert done.err == "stopped: anna: the budget of 1 calls is spent; run it again to go on\n"
    assert "anna: stopped, job j1" in done.out
    rest = cli("reflect", NOTES, *base, "--backend", MODEL)
    assert rest.code == 0 and "1 calls" in rest.out
    for option in ("--max-tokens", "--max-seconds"):
        again = cli("reflect", NOTES, *base, "--backend", MODEL, "--again", option, "0", "--json")
        assert again.code == 1 and json.loads(again.out)["state"] == "stopped"


@pytest.mark.parametrize("backend", ["none", "extractive"])
def test_without_a_model_it_goes_by_rules(cli: Cli, base: tuple[str, ...], backend: str) -> None:
    (job,) = cli("reflect", NOTES, *base, "--backend", backend, "--json").document["jobs"]
    assert job["strategies"][0]["form"] == "rules"


def test_all_agents(cli: Cli, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmem.commands_reflect_runs.GROUP", 2)
    done = cli("reflect", NOTES, "--all-agents", "--db", db, *NO_MODEL, "--json").document
    assert [(j["agent"], j["state"]) for j in done["jobs"]] == [
        ("anna", "done"), ("ben", "done"), ("empty", "nothing new"),
    ]  # fmt: skip
    assert human(db, "ben") == "Notes: up to m5"
    shown = cli("reflect", "--show", "--all-agents", "--db", db).out
    assert "anna:\np2 (note" in shown and "└─ m5" in shown and shown.endswith("empty: nothing was derived yet\n")


def test_agents_that_the_budget_leaves_out_are_named(cli: Cli, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmem.commands_reflect_runs.GROUP", 1)
    args = ("--all-agents", "--db", db, "--backend", MODEL, "--max-calls", "3", *NO_MODEL)
    done = cli("reflect", NOTES, *args, "--json")
    assert done.code == 1
    document = json.loads(done.out)
    assert [(j["agent"], j["state"]) for j in document["jobs"]] == [("anna", "done"), ("ben", "stopped")]
    assert document["not_begun"] == ["empty"] and "1 agents were not begun" in done.err


@pytest.mark.slow
def test_workers(process: Cli, db: Path) -> None:
    done = process("reflect", NOTES, "--all-agents", "--db", db, "--workers", "2", *NO_MODEL)
    assert done.code == 0, done.err
    assert "anna: done, job j1" in done.out and "ben: done, job j1" in done.out and "empty: nothing new" in done.out
    assert '"A note about My sister Anna moved to Lisbon."' in done.out


# -- nothing, and what is wrong ----------------------------------------------------------------------------------


def test_nothing_to_reflect_on(cli: Cli, db: Path, tmp_path: Path) -> None:
    assert cli("reflect", NOTES, "--db", db, "--agent", "empty").out == "empty: nothing new\n"
    missing = cli("reflect", NOTES, "--db", tmp_path / "none.db")
    assert missing.code == 1 and "none.db" in missing.err and not (tmp_path / "none.db").exists()
    for command in (("reflect", NOTES), ("reflect", "--show"), ("jobs",), ("undo", "j1")):
        done = cli(*command, "--db", db, "--agent", "nobody")
        assert done.code == 1 and "anna" in done.err and done.out == ""


@pytest.mark.parametrize(
    "args",
    [
        ("nosuch",), ("notes?x=",), ("tests.reflection.toys:Nothing",), (NOTES, NOTES), (NOTES, "--backend", "nosuch"),
        (NOTES, "--max-calls", "-1"), (NOTES, "--batch-size", "0"), (NOTES, "--all-agents"), (NOTES, "--in", "x"),
        (NOTES, "--out", "x"), (NOTES, "--in", "x", "--out", "y"), (NOTES, "--review"), (NOTES, "--review", "--json"),
        (NOTES, "--show"), ("--show", "--dry-run"), (NOTES, "--events", "-", "--json"), (NOTES, "--workers", "0"),
        (NOTES, "--events", "no/such/folder/x"), (NOTES, "--workers", "2", "--dry-run"),
        (NOTES, "--ray", "auto", "--dry-run"),
        (NOTES, "--embedder", "nosuch"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_exits_2_with_a_reason(cli: Cli, base: tuple[str, ...], args: tuple[str, ...], db: Path) -> None:
    before = db.read_bytes()
    done = cli("reflect", *args, *base)
    assert done.code == 2 and done.err.strip() and done.out == ""
    assert db.read_bytes() == before


def test_a_review_without_a_terminal_says_what_to_do(cli: Cli, base: tuple[str, ...]) -> None:
    assert "--dry-run" in cli("reflect", NOTES, *base, "--review").err


def test_while_another_job_runs_it_says_who(cli: Cli, base: tuple[str, ...], db: Path) -> None:
    from agentmem.reflection.holding import held

    with Memory(db, "anna", embedder="none") as memory, held(memory):
        done = cli("reflect", NOTES, *base)
    assert done.code == 1 and re.search(r"is running: process \d+ on ", done.err)


# -- events ------------------------------------------------------------------------------------------------------


def test_events_are_lines_of_json(cli: Cli, base: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    cli("reflect", NOTES, *base, "--backend", MODEL, "--events", file)
    first = [json.loads(line) for line in file.read_text().splitlines()]
    kinds = [e["event"] for e in first if e["event"] != "ordered"]
    assert kinds == ["planned", "batch", "proposed", "batch", "proposed", "ended"]
    batch = next(e for e in first if e["event"] == "batch")
    assert batch == {**batch, "answered": 1, "of": 1, "calls": 1}
    cli("reflect", NOTES, *base, "--events", file)
    assert len(file.read_text().splitlines()) > len(first), "a file is added to: all nights are in it"
    done = cli("reflect", NOTES, *base, "--again", "--events", "-")
    assert [e["event"] for e in done.lines] == ["planned", "proposed", "proposed", "ended"]
    assert "anna: done" in done.err, "what is for people goes the other way"


# -- review ------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("agentmem.commands_reflect.at_terminal", lambda: True)
    yield


@pytest.mark.usefixtures("at_terminal")
def test_a_review_asks_change_by_change(cli: Cli, base: tuple[str, ...], db: Path) -> None:
    done = cli("reflect", NOTES, *base, "--review", stdin=b"y\nn\n?\nwhat\na\n")
    assert done.code == 0, done.err
    assert "@@ anna, notes, 1 of 6: add note @@\n+A note about My sister Anna moved to Lisbon.\n" in done.out
    assert done.out.count("apply this change?") == 5 and done.out.count("q: stop;") == 2
    fates = [c["fate"] for c in cli("jobs", "j1", *base, "--json").document["changes"]]
    assert fates[:3] == ["applied", "rejected", "applied"] and set(fates[2:]) <= {"applied", "skipped"}
    assert "1 rejected" in done.out and human(db) != ""
    assert cli("reflect", NOTES, *base).out == "anna: nothing new\n", "what was refused is not proposed again"


@pytest.mark.usefixtures("at_terminal")
@pytest.mark.parametrize("answers", [b"y\nq\n", b"y\n", b"quit\n", b""])
def test_a_review_that_is_ended_writes_nothing_of_that_proposal(
    cli: Cli, base: tuple[str, ...], db: Path, answers: bytes
) -> None:
    done = cli("reflect", NOTES, *base, "--review", stdin=answers)
    assert done.code == 1 and "the review was ended" in done.err
    assert human(db) == "" and "p1" not in cli("reflect", "--show", *base).out
    rest = cli("reflect", NOTES, *base, "--review", stdin=b"all\n")
    assert rest.code == 0 and human(db) == "Notes: up to m5"


# -- jobs and undo -----------------------------------------------------------------------------------------------


def test_jobs_newest_first_and_one_as_a_diff(cli: Cli, base: tuple[str, ...]) -> None:
    assert cli("jobs", *base).out == "no jobs yet\n"
    cli("reflect", NOTES, *base)
    cli("reflect", NOTES, *base, "--again")
    listed = cli("jobs", *base).out.splitlines()
    assert [line.split()[0] for line in listed] == ["j2", "j1"] and "done  notes" in listed[1]
    diff = cli("jobs", "j1", *base).out
    assert "@@ 1. notes: add note p1 (applied) @@\n+A note about My sister Anna moved to Lisbon.\n" in diff
    assert "-Notes: up to m3\n+Notes: up to m5\n" in diff
    unknown = cli("jobs", "j9", *base)
    assert unknown.code == 1 and "j1, j2" in unknown.err


def test_undo_keeps_what_the_user_changed_since_and_lists_it(cli: Cli, base: tuple[str, ...], db: Path) -> None:
    cli("reflect", NOTES, *base)
    with Memory(db, "anna", embedder="none") as memory:
        memory.core["human"].append("Likes tea.")
    done = cli("undo", "j1", *base)
    assert done.code == 0
    assert done.out.startswith("anna: j1 is undone (2 passages added, 1 passages closed")
    assert "  kept, since it was changed after the job: edit block human (block 'human' was edited since)\n" in done.out
    assert human(db) == "Notes: up to m5\nLikes tea."
    assert cli("jobs", *base).out.split()[2] == "undone"
    again = cli("undo", "j1", *base)
    assert again.code == 2 and "undone already" in again.err
    unknown = cli("undo", "j7", *base)
    assert unknown.code == 1 and "known: j1" in unknown.err
    assert cli("verify", *base).code == 0


# -- histories ---------------------------------------------------------------------------------------------------


def histories(tmp_path: Path) -> Path:
    rows: list[Any] = [
        {"id": n, "messages": [message(f"D1:{m}", text, "2023-05-08T12:00:00") for m, text in enumerate(SAID)]}
        for n in ("a", "b")
    ]
    return write_lines(tmp_path / "in.jsonl", [rows[0], "no JSON", rows[1]])


def test_histories_in_and_out(cli: Cli, tmp_path: Path) -> None:
    file, out = histories(tmp_path), tmp_path / "out.jsonl"
    args = ("reflect", NOTES, "--in", file, "--out", out, *NO_MODEL)
    done = cli(*args)
    assert done.code == 0 and done.out == f"written: 3 lines to {out}, 1 of them malformed\n"
    assert done.err.startswith("line 2: no JSON")
    whole = out.read_bytes()
    rows = [json.loads(line) for line in whole.splitlines()]
    assert [(r["id"], r["state"]) for r in rows] == [("a", "done"), (None, "malformed"), ("b", "done")]
    assert rows[0]["passages"][0]["sources"] == ["m1", "m2", "m3"] and rows[0]["blocks"]["human"] == "Notes: up to m5"
    out.write_bytes(whole[:-10])
    again = cli(*args, "--json").document
    assert (again["done"], again["skipped"]) == (1, 2) and out.read_bytes() == whole
    other = cli(*args, "--seed", "7")
    assert other.code == 2 and "is not of this input" in other.err
    piped = cli("reflect", NOTES, "--in", "-", "--out", tmp_path / "p.jsonl", *NO_MODEL, stdin=file.read_bytes())
    assert piped.code == 0 and (tmp_path / "p.jsonl").read_bytes() == whole
    missing = cli("reflect", NOTES, "--in", tmp_path / "none", "--out", out, *NO_MODEL)
    assert missing.code == 1 and "can't be read" in missing.err


def test_histories_may_go_into_a_store(cli: Cli, tmp_path: Path) -> None:
    file, db = histories(tmp_path), tmp_path / "kept.db"
    plan = cli("reflect", NOTES, "--in", file, "--dry-run", "--db", db, *NO_MODEL, "--json").document
    assert plan["estimate"]["records"] == 10 and not db.exists()
    assert cli("reflect", NOTES, "--in", file, "--out", tmp_path / "o", "--db", db, *NO_MODEL).code == 0
    assert cli("jobs", "--db", db, "--agent", "b").out.startswith("j1")
    assert cli("undo", "j1", "--db", db, "--agent", "b").code == 0


@pytest.mark.slow
def test_histories_by_workers_are_the_same_file(process: Cli, tmp_path: Path) -> None:
    file, alone, dealt = histories(tmp_path), tmp_path / "alone", tmp_path / "dealt"
    assert process("reflect", NOTES, "--in", file, "--out", alone, *NO_MODEL).code == 0
    done = process("reflect", NOTES, "--in", file, "--out", dealt, "--workers", "2", *NO_MODEL)
    assert done.code == 0, done.err
    assert dealt.read_bytes() == alone.read_bytes()
    again = process("reflect", NOTES, "--in", file, "--out", dealt, *NO_MODEL, "--json").document
    assert (again["done"], again["skipped"]) == (0, 3), "whoever did it, it is done"
    kept = process("reflect", NOTES, "--in", file, "--out", dealt, "--workers", "2", "--db", tmp_path / "m.db")
    assert kept.code == 2 and "without --db" in kept.err


def test_histories_within_a_budget(cli: Cli, tmp_path: Path) -> None:
    file, out = histories(tmp_path), tmp_path / "o"
    args = ("reflect", NOTES, "--in", file, "--out", out, "--backend", MODEL, *NO_MODEL)
    done = cli(*args, "--max-calls", "1")
    assert done.code == 1 and "the budget of 1 calls is spent" in done.err and out.read_bytes() == b""
    assert cli(*args).code == 0 and len(out.read_bytes().splitlines()) == 3


# -- in the chat -------------------------------------------------------------------------------------------------


def test_reflect_and_undo_in_the_chat(cli: Cli, base: tuple[str, ...], db: Path) -> None:
    lines = (
        "/undo", f"/reflect {NOTES}", f"/reflect {NOTES}", "/core", "/undo", "/core", "/undo j1", "/undo j5",
        "/reflect nosuch", "/reflect '", "/help",
    )  # fmt: skip
    done = cli("chat", *base, stdin="\n".join(lines).encode())
    assert done.code == 0, done.err
    out = " ".join(done.out.split())
    steps = (
        "error: unknown job 'the last one'", "anna: done, job j1", "to take it back", "anna: nothing new",
        "Notes: up to m5", "anna: j1 is undone", "(empty)", "was undone already",
        "unknown job 'j5'; known: j1", "unknown strategy 'nosuch'", "No closing quotation", "/reflect learn from",
    )  # fmt: skip
    at = 0
    for step in steps:
        at = out.find(step, at)
        assert at >= 0, f"{step!r} does not come in its place: {out}"
    assert human(db) == ""


class Thinking(Model):
    """Takes a minute for its second answer."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        if len(self.requests) == 1:
            time.sleep(60)
        return super().generate(requests)


def test_reflect_by_the_chat_s_model_on_a_pipe(cli: Cli, base: tuple[str, ...], db: Path) -> None:
    """The answer is the next line, as at a terminal."""
    lines = (f"/reflect {NOTES}", "n", "/core", f"/reflect {NOTES}", "y", "/core", f"/reflect {NOTES} --rules --model")
    done = cli("chat", *base, "--backend", MODEL, stdin="\n".join(lines).encode())
    assert done.code == 0, done.err
    out = " ".join(done.out.split())
    steps = (
        "in all: 5 records, 2 calls", "within 2 calls? [y/n]", "nothing was asked", "(empty)", "within 2 calls? [y/n]",
        "anna: done, job j1", "notes (by the model): ", "2 calls", "Notes: up to m5", "not allowed with",
    )  # fmt: skip
    at = 0
    for step in steps:
        at = out.find(step, at)
        assert at >= 0, f"{step!r} does not come in its place: {out}"
    ended = cli("chat", *base, "--backend", MODEL, stdin=f"/reflect {NOTES}\n".encode())
    assert ended.code == 0 and "anna: nothing new" in ended.out
    with Memory(db, "anna", embedder="none", create=False) as memory:
        assert [p.text[:7] for p in memory.records.archival.after(0)] == ["Said of"] * 2


def test_ctrl_c_stops_a_job_in_the_chat_and_not_the_program(cli: Cli, base: tuple[str, ...], db: Path) -> None:
    with Terminal(*base, *NO_MODEL, "--backend", "tests.cli.test_reflect:Thinking") as chat:
        chat.until("/help lists the commands.")
        chat.say(f"/reflect {NOTES}")
        chat.until("within 2 calls? [y/n]")
        chat.type("y\n")
        chat.until("1/2")
        # An answer is counted before what follows from it is committed; the next one is long in coming.
        give_up = time.monotonic() + PATIENCE_S
        while "up to m3" not in human(db) and time.monotonic() < give_up:
            time.sleep(0.02)
        chat.type("\x03")
        chat.until("(stopped; what was committed and answered by now stays")
        chat.say("/core")
        chat.until("Notes: up to m3")
        assert chat.end() == 0
    (job,) = cli("jobs", *base, "--json").document["jobs"]
    assert job["state"] == "running"
    done = cli("reflect", NOTES, *base, "--backend", MODEL, "--json").document["jobs"][0]
    assert (done["job"], done["resumed"], done["strategies"][0]["calls"]) == ("j1", True, 1)


def test_the_chat_is_told_of_a_job_of_another_process(cli: Cli, base: tuple[str, ...], db: Path) -> None:
    from agentmem.reflection.holding import held

    with Memory(db, "anna", embedder="none") as memory, held(memory):
        done = cli("chat", *base, stdin=f"/reflect {NOTES}\n/core human Likes tea.\n".encode())
    assert done.code == 0 and "a reflection job on agent 'anna'" in done.out and "Likes tea." in done.out


# -- the bar -----------------------------------------------------------------------------------------------------


def test_the_bar_counts_calls_and_tokens_over_several_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    from agentmem.reflection.watching import Watched, watching

    watched = Watched(3)
    for event in (
        {"event": "planned", "strategy": "x", "calls": 4}, {"event": "batch", "calls": 2, "tokens": 20},
        {"event": "batch", "calls": 4, "tokens": 50}, {"event": "ended"},
    ):  # fmt: skip
        watched.take(event)
    assert (watched.progress, watched.tokens, watched.ended) == ((4, 4), 50, 1)
    watched.take({"event": "planned", "strategy": "x", "calls": 3})
    watched.take({"event": "batch", "calls": 1, "tokens": 7})
    assert (watched.progress, watched.tokens) == ((5, 7), 57), "a new call of reflect counts from nothing"
    assert Watched(3).progress == (0, 3)
    with watching(1) as on_event:
        on_event({"event": "something new"})
    assert capsys.readouterr() == ("", ""), "without a terminal nothing is drawn"


def test_the_bar_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from agentmem.reflection.watching import watching

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    with watching(2) as on_event:
        on_event({"event": "planned", "agent": "a", "strategy": "no[tes", "calls": 4})
        on_event({"event": "batch", "calls": 2, "tokens": 1234})
    drawn = capsys.readouterr()
    assert drawn.out == "" and "1,234 tokens" in drawn.err and "no[tes, 0 of 2 agents" in drawn.err
