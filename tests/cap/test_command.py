"""`agentmem cap` as a user runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cap.conftest import MESSAGES, QUESTIONS, write
from tests.cli.conftest import run_here


@pytest.fixture
def args(tmp_path: Path) -> list[str]:
    history, questions = write(tmp_path, MESSAGES, QUESTIONS)
    return [
        "cap", "--history", str(history), "--questions", str(questions), "--out", str(tmp_path / "out"), "--embedder",
        "hash", "--window", "512", "--reserve", "64", "--rungs", "no memory, last messages",
    ]  # fmt: skip


def test_json_is_one_document(args: list[str], tmp_path: Path) -> None:
    ran = run_here(*args, "--json")
    assert ran.document == json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert ran.err == ""
    assert [r["name"] for r in ran.document["rungs"]] == ["no memory", "last messages"]
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {
        "report.json",
        "questions.jsonl",
        "report.html",
        "axes.png",
    }


def test_the_table_and_a_machine_without_matplotlib(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "position.json").write_text("{}", encoding="utf-8")
    ran = run_here(*args)
    assert ran.code == 0, ran.err
    assert (
        "no memory" in ran.out
        and "last messages" in ran.out
        and "note: answers by quoting, no language model" in ran.out
    )
    assert "pip install 'agentmem[bench]'" in ran.err
    assert not (tmp_path / "out" / "axes.png").exists() and (tmp_path / "out" / "report.html").exists()
    assert max(len(line) for line in ran.out.splitlines() if not line.startswith("written")) <= 120


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--rungs", "everything"], 2, "is no rung"),
        (["--questions", "none.jsonl"], 2, "can't be read"),
        (["--compressor", "zip"], 1, "unknown compressor"),
        (["--backend", "none"], 2, "unknown backend"),
        (["--window", "64"], 2, "window_tokens"),
        (["--tools", "some"], 2, "tools"),
        (["--position"], 2, "no language model"),
    ],
)
def test_what_is_refused(args: list[str], more: list[str], code: int, says: str) -> None:
    ran = run_here(*args, *more)
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert says in ran.err and "Traceback" not in ran.err


def test_a_bad_line_names_its_file(args: list[str], tmp_path: Path) -> None:
    write(tmp_path, MESSAGES, [QUESTIONS[0], {"query": "Why?"}])
    ran = run_here(*args)
    assert ran.code == 1 and "asked.jsonl:2" in ran.err


def test_a_backend_that_fails_says_what_is_kept(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from agentmem.backends.extractive import ExtractiveBackend
    from agentmem.errors import BackendUnavailableError

    def fail(self: Any, requests: Any) -> Any:
        raise BackendUnavailableError("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr(ExtractiveBackend, "generate", fail)
        ran = run_here(*args)
    assert ran.code == 1 and "the server is gone" in ran.err and "the same command goes on from there" in ran.err
    assert run_here(*args, "--json").document["data"]["questions"] == 4
