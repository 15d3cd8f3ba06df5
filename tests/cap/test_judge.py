"""The judge: what it is asked, how its reply is read, and that its leniency stands beside its numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentmem.cap_data import Data, Question
from agentmem.cap_judge import VAGUE, Judge, known_wrong, prompt, verdict
from agentmem.cap_ladder import BM25, NO_MEMORY
from agentmem.cap_run import Plan, run
from agentmem.scripted import ScriptedBackend
from agentmem.types import Completion, Request
from tests.cap.test_run import SETTINGS, journal, rung

DOG = Question("dog", "What is the dog called?", answers=("Luna", "the dog Luna"), category="4")
CAT = Question("cat", "What is the cat called?", answers=("Oscar",), category="4")
TOWN = Question("town", "Where?", answers=("Lund",), category="2")
SAME = Question("same", "Which dog?", answers=("Luna",), category="4")
NEVER = Question("never", "What is the bird called?", category="4")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("yes", True), ("No.", False), ("<think>no, it is not yes</think>Yes, the same", True), ("**YES**", True),
        ("perhaps", None), ("", None), ("yesterday", None), ("The verdict: no", False),
    ],
)  # fmt: skip
def test_reading_a_verdict(text: str, said: bool | None) -> None:
    assert verdict(text) is said


def test_what_it_is_asked() -> None:
    system, user = prompt(DOG.query, DOG.answers, "Luna!")
    assert system.role == "system" and "yes" in system.content and "vague" in system.content
    assert "Correct answer: Luna (or: the dog Luna)\nGiven answer: Luna!" in user.content
    backend = ScriptedBackend(["yes", "no", "hm"])
    judge = Judge(backend, 7)
    assert [judge.accepts(DOG, "Luna"), judge.accepts(DOG, " "), judge.accepts(DOG, "x")] == [True, False, False]
    assert judge.accepts(DOG, "x") is None
    assert [(r.temperature, r.seed) for r in backend.requests] == [(0.0, 7)] * 3, "nothing said is not asked about"


def test_known_wrong_answers_are_of_the_same_category_and_share_no_word() -> None:
    questions = (DOG, SAME, TOWN, CAT, NEVER)
    assert known_wrong(DOG, questions) == ("Oscar", VAGUE)
    assert known_wrong(CAT, questions) == ("Luna", VAGUE), "it goes on from the beginning"
    assert known_wrong(TOWN, questions) == (VAGUE,)


def test_a_judge_that_says_yes_to_everything_is_found_out(small: Data, tmp_path: Path) -> None:
    made = Plan(small, embedder="hash", settings=SETTINGS, rungs=(NO_MEMORY, BM25), judge=ScriptedBackend(["yes"] * 50))
    report = run(made, tmp_path / "out")
    for name in (NO_MEMORY, BM25):
        judged = rung(report, name)["A"]["judge"]
        assert judged["false_accept"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 5}
        assert judged["accuracy"]["n"] == 3
    assert rung(report, NO_MEMORY)["A"]["judge"]["accuracy"]["mean"] == 0, "what is declined is not right"
    assert rung(report, BM25)["A"]["judge"]["accuracy"]["mean"] > 0
    probes = [line for line in journal(tmp_path / "out") if line.get("kind") == "probe"]
    assert [len(p["wrong"]) for p in probes] == [2, 1, 2] and all(VAGUE in p["wrong"] for p in probes)


def test_an_honest_judge(small: Data, tmp_path: Path) -> None:
    def honest(request: Request) -> Completion:
        gold, given = (line.partition(": ")[2] for line in request.messages[-1].content.splitlines()[1:3])
        return Completion("yes" if gold.lower() in given.lower() else "no")

    made = Plan(small, embedder="hash", settings=SETTINGS, rungs=(BM25,), judge=ScriptedBackend([honest] * 50))
    judged = rung(run(made, tmp_path / "out"), BM25)["A"]["judge"]
    assert judged["false_accept"]["mean"] == 0
