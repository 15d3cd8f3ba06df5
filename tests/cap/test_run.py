"""Whole runs: what the report says, that it is the same again, and that a run that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agentmem.backends.extractive import ExtractiveBackend
from agentmem.cap_data import Data, load
from agentmem.cap_ground import TASK, Settings
from agentmem.cap_ladder import (
    AGENTMEM,
    BASELINES,
    BM25,
    COMPRESSION,
    DENSE,
    FULL,
    LAST,
    NO_MEMORY,
    REFLECTION,
    RUNGS,
    rung_names,
)
from agentmem.cap_run import Plan, run
from agentmem.errors import BackendUnavailableError, BadCompletionError, ConfigError, StoreBusyError
from agentmem.scripted import ScriptedBackend
from agentmem.types import SECTIONS, Completion, Request
from tests.cap.conftest import COUNT, MESSAGES, QUESTIONS, write

SETTINGS = Settings(window_tokens=512, reserve_tokens=64)


def plan(data: Data, **more: Any) -> Plan:
    return Plan(**{"data": data, "embedder": "hash", "settings": SETTINGS, **more})


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k != "P"}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def journal(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The report of a whole run, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    told: list[tuple[int, int]] = []
    made = plan(load(*write(folder, MESSAGES, QUESTIONS)), backend=ExtractiveBackend())
    report = run(made, folder / "out", progress=lambda done, total: told.append((done, total)))
    steps = 4 * len(RUNGS)
    assert told == [(n, steps) for n in range(steps + 1)]
    return report, folder / "out"


def rung(report: dict[str, Any], name: str) -> Any:
    return next(r for r in report["rungs"] if r["name"] == name)


def test_a_whole_run(whole: tuple[dict[str, Any], Path]) -> None:
    report, folder = whole
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == report
    assert [r["name"] for r in report["rungs"]] == list(RUNGS)
    assert report["data"] | {"sha256": ""} == {
        "name": "small", "conversations": 1, "messages": COUNT, "questions": 4, "unanswerable": 1, "sha256": ""
    }  # fmt: skip
    assert (report["window_tokens"], report["reserve_tokens"], report["backend"]["model"]) == (512, 64, False)
    assert report["embedder"] == "hashing-256" and report["counter"]["exact"] is False
    assert any("reflection" in n for n in report["notes"]) and any("no language model" in n for n in report["notes"])
    for r in report["rungs"]:
        c = r["C"]
        assert 0 < c["prompt_tokens_mean"] <= c["prompt_tokens_p95"] <= 512 - 64, "no prompt is over its budget"
        assert sum(c["sections"].values()) == pytest.approx(c["prompt_tokens_mean"], abs=1e-4)
        assert set(c["sections"]) == set(SECTIONS)
        assert r["A"]["f1"]["n"] == 3 and set(r["A"]["by_category"]) == {"4", "5", "uncategorised"}
        assert r["A"]["stale"]["n"] == 1 and r["A"]["judge"] is None
        assert r["P"]["calls_per_turn"] == 1 and r["P"]["first_token_ms_p50"] is None
    nothing, last, full = (rung(report, n) for n in (NO_MEMORY, LAST, FULL))
    assert nothing["C"]["history_messages"] == 0 and nothing["C"]["evidence_in_prompt"]["mean"] == 0
    assert nothing["A"]["abstention_recall"]["mean"] == 1 and nothing["A"]["abstention_precision"]["mean"] == 0.25
    assert 0 < last["C"]["history_messages"] < COUNT and 0 < full["C"]["history_messages"] < COUNT
    assert nothing["C"]["prompt_tokens_mean"] < last["C"]["prompt_tokens_mean"]
    for name in (DENSE, BM25, AGENTMEM, COMPRESSION, REFLECTION):
        assert rung(report, name)["C"]["history_messages"] == COUNT
    assert rung(report, BM25)["C"]["evidence_in_prompt"]["mean"] == 1.0
    assert rung(report, AGENTMEM)["A"]["f1"]["mean"] > 0.3 > nothing["A"]["f1"]["mean"]
    assert rung(report, COMPRESSION)["C"]["compression_ratio"] is not None
    assert all(rung(report, n)["C"]["compression_ratio"] is None for n in RUNGS if n not in (COMPRESSION, REFLECTION))


def test_the_last_and_the_outer_messages_are_what_two_rungs_show(small: Data, tmp_path: Path) -> None:
    run(plan(small, rungs=(LAST, FULL)), tmp_path / "out")
    ids = [m["id"] for m in MESSAGES]
    for line in journal(tmp_path / "out")[1:]:
        if line["kind"] == "answer":
            keys, shown = line["keys"], len(line["keys"])
            assert 2 < shown < COUNT and not line["shortened"]
            if line["rung"] == LAST:
                assert keys == ids[-shown:]
            else:
                first = next(n for n in range(shown) if keys[n] != ids[n])
                assert 0 < first < shown and keys[first:] == ids[first - shown :]


def test_all_but_the_times_is_the_same_again(small: Data, tmp_path: Path, whole: tuple[dict[str, Any], Path]) -> None:
    report = run(plan(small), tmp_path / "again")
    assert without_times(report) == without_times(whole[0])
    assert without_times(journal(tmp_path / "again")) == without_times(journal(whole[1]))


def test_times_are_read_from_the_given_clock(small: Data, tmp_path: Path, ticking: Callable[[], float]) -> None:
    report = run(plan(small, rungs=(BM25, AGENTMEM)), tmp_path / "out", clock=ticking)
    performance = rung(report, BM25)["P"]
    assert performance["write_ms_p50"] == performance["write_ms_p95"] == 1.0, "one tick a message"
    assert performance["retrieve_ms_p50"] == 1.0 and performance["assemble_ms_p50"] > 0
    assert rung(report, AGENTMEM)["P"]["retrieve_ms_p50"] >= 1.0


class Failing(ExtractiveBackend):
    """Fails at one of its calls."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.left -= 1
        if self.left == 0:
            raise BackendUnavailableError("the server is gone")
        return super().generate(requests)


@pytest.mark.parametrize(("rungs", "at"), [((NO_MEMORY, LAST), 6), (RUNGS, 22)])
def test_a_run_that_failed_goes_on_and_comes_to_the_same(
    small: Data, tmp_path: Path, whole: tuple[dict[str, Any], Path], rungs: tuple[str, ...], at: int
) -> None:
    """Amid a baseline, and amid agentmem's own rung; the last line is cut off, as by a kill."""
    file = tmp_path / "out" / "questions.jsonl"
    with pytest.raises(BackendUnavailableError):
        run(plan(small, backend=Failing(at), rungs=rungs), tmp_path / "out")
    assert sum(line.get("kind") == "answer" for line in journal(tmp_path / "out")) == at - 1
    with file.open("a", encoding="utf-8") as f:
        f.write('{"kind": "answer", "rung": "B')
    asked = Failing(0)
    resumed = run(plan(small, backend=asked, rungs=rungs), tmp_path / "out")
    assert -asked.left == 4 * len(rungs) - (at - 1), "what was answered is not asked again"
    assert without_times(resumed["rungs"]) == [r for r in without_times(whole[0]["rungs"]) if r["name"] in rungs]
    lines = [line for line in without_times(journal(whole[1])) if line.get("rung") in rungs]
    assert without_times(journal(tmp_path / "out"))[1:] == lines


def test_a_finished_run_asks_nothing_and_more_rungs_may_follow(small: Data, tmp_path: Path) -> None:
    first = run(plan(small, rungs=(NO_MEMORY,)), tmp_path / "out")
    again = run(plan(small, rungs=(NO_MEMORY,), backend="extractive"), tmp_path / "out")
    assert first == again
    more = run(plan(small, rungs=(NO_MEMORY, LAST)), tmp_path / "out")
    assert more["rungs"][0] == first["rungs"][0]
    assert "left out on request: full context" in " ".join(more["notes"])


def test_other_settings_are_refused_and_named_and_fresh_starts_anew(small: Data, tmp_path: Path) -> None:
    run(plan(small, rungs=(NO_MEMORY,)), tmp_path / "out")
    other = plan(small, rungs=(NO_MEMORY,), settings=replace(SETTINGS, window_tokens=1024))
    with pytest.raises(ConfigError, match=r"window_tokens was 512, is 1024(.|\n)*--fresh"):
        run(other, tmp_path / "out")
    assert run(other, tmp_path / "out", fresh=True)["window_tokens"] == 1024
    assert sum(line.get("kind") == "answer" for line in journal(tmp_path / "out")) == 4
    (tmp_path / "out" / "questions.jsonl").write_text("what is this\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no record of a run"):
        run(other, tmp_path / "out")


def test_a_folder_that_cannot_be_used(small: Data, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="can't be written"):
        run(plan(small, rungs=(NO_MEMORY,)), tmp_path / "file")
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(str(tmp_path / "out" / ".lock")), pytest.raises(StoreBusyError):
        run(plan(small, rungs=(NO_MEMORY,)), tmp_path / "out")


def test_without_an_embedder_the_dense_rung_is_left_out(small: Data, tmp_path: Path) -> None:
    report = run(plan(small, embedder="none", rungs=(DENSE, BM25)), tmp_path / "out")
    assert [r["name"] for r in report["rungs"]] == [BM25] and report["embedder"] is None
    assert any("no embedder" in n for n in report["notes"])
    with pytest.raises(ConfigError, match="rungs"):
        run(plan(small, embedder="none", rungs=(DENSE,)), tmp_path / "other")


def test_names_of_rungs() -> None:
    assert rung_names("bm25, Agentmem,no-memory,no memory") == (NO_MEMORY, BM25, AGENTMEM)
    assert rung_names("reflection,compression,dense,full") == (FULL, DENSE, COMPRESSION, REFLECTION)
    assert rung_names(",".join(RUNGS)) == RUNGS
    for wrong in ("reflections", "", ",", "BM25, BM26"):
        with pytest.raises(ConfigError, match="rungs"):
            rung_names(wrong)


def test_questions_without_evidence_keys_or_times(tmp_path: Path) -> None:
    bare = [{k: v for k, v in m.items() if k not in ("id", "at")} for m in MESSAGES]
    asked = [QUESTIONS[0] | {"evidence": ["gone"]}]
    made = plan(load(*write(tmp_path, bare, asked)), rungs=(LAST, AGENTMEM))
    report = run(made, tmp_path / "out")
    assert any("evidence of 1 questions is not in the history: 1 keys" in n for n in report["notes"])
    assert all(r["C"]["evidence_in_prompt"]["n"] == 0 for r in report["rungs"])
    assert rung(report, AGENTMEM)["A"]["f1"]["mean"] > 0
    assert without_times(report) == without_times(run(made, tmp_path / "again"))


# -- with a language model ---------------------------------------------------------------------------------------


class Model(ScriptedBackend):
    """Answers each question from what stands in its prompt, as a model would that can read."""

    def __init__(self, answer: Callable[[Request], Completion] | None = None) -> None:
        super().__init__([answer or read] * 500)

    native_tools = False


def read(request: Request) -> Completion:
    text = " ".join(m.content for m in request.messages)
    if "dog called?" in request.query and "called Luna" in text:
        return Completion("Luna [S0:0]")
    if "sister" in request.query and "cello" in text:
        return Completion("<think>hm</think>The cello.")
    if "live now" in request.query:
        return Completion("I don't know, perhaps Malmo.")
    return Completion("I don't know.")


def test_a_model_reads_the_same_prompt_on_every_rung(small: Data, tmp_path: Path) -> None:
    model = Model()
    model.native_tools = True
    ticks = count()
    settings = Settings(window_tokens=700, reserve_tokens=64)
    report = run(plan(small, backend=model, settings=settings), tmp_path / "out", clock=lambda: next(ticks) / 1000)
    assert report["backend"]["model"] is True and report["backend"]["name"] == "scripted"
    heads = {r.messages[0].content.split("\n<summary>")[0] for r in model.requests}
    assert len(heads) == 1 and TASK in heads.pop(), "one system text, one task"
    assert all(r.messages[-1].content.endswith(r.query) for r in model.requests), "the question stands last"
    assert all(not r.tools and r.temperature == 0 and r.max_tokens == 64 for r in model.requests)
    ours, nothing = rung(report, AGENTMEM), rung(report, NO_MEMORY)
    assert nothing["A"]["f1"]["mean"] == 0 and nothing["A"]["abstention_recall"]["mean"] == 1.0
    assert ours["A"]["by_category"]["4"]["f1"]["mean"] == 1.0, "citations and thinking are no part of the answer"
    assert ours["A"]["abstention_recall"]["mean"] == 1.0 and ours["A"]["abstention_precision"]["mean"] == 0.5
    assert ours["A"]["by_category"]["uncategorised"]["f1"]["mean"] == 0, "to decline and guess is to decline"
    assert ours["P"]["first_token_ms_p50"] > 0 and ours["P"]["tokens_per_s"] > 0
    assert ours["P"]["tokens_per_turn"] > ours["C"]["prompt_tokens_mean"]
    assert ours["P"]["prefix_reuse"] is None, "no tokens are known"


def test_an_answer_that_cannot_be_used_counts_as_wrong(small: Data, tmp_path: Path) -> None:
    def fail(request: Request) -> Completion:
        raise BadCompletionError("not JSON at all")

    settings = Settings(window_tokens=700, reserve_tokens=64)
    rungs = (BM25, AGENTMEM)
    report = run(plan(small, backend=Model(fail), settings=settings, rungs=rungs), tmp_path / "out")
    for name in rungs:
        assert rung(report, name)["A"]["f1"]["mean"] == 0
        assert rung(report, name)["A"]["abstention_recall"]["mean"] == 0, "to fail is not to decline"
    assert "8 answers failed and count as empty, the first: not JSON at all" in report["notes"]


def test_baselines_come_first() -> None:
    assert RUNGS[: len(BASELINES)] == BASELINES
