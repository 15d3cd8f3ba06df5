"""What a run is asked: read whole and checked before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentmem.cap_data import load, read_question
from agentmem.errors import ConfigError, InvalidInputError

MESSAGE = {"id": "D1:1", "role": "user", "name": "Anna", "content": "I moved to Lund.", "at": "2023-05-08T13:56:00"}
QUESTION = {"id": "q1", "query": "Where does Anna live?", "answer": "Lund", "evidence": ["D1:1"]}


def lines(path: Path, rows: list[Any]) -> Path:
    text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)
    path.write_text(text, encoding="utf-8")
    return path


def files(tmp_path: Path, messages: list[Any], questions: list[Any]) -> tuple[Path, Path]:
    return lines(tmp_path / "h.jsonl", messages), lines(tmp_path / "q.jsonl", questions)


def test_two_files(tmp_path: Path) -> None:
    data = load(*files(tmp_path, [MESSAGE, MESSAGE, ""], [QUESTION, {"query": "Why?", "answers": [], "more": 1}]))
    (conversation,) = data.conversations
    assert [m.key for m in conversation.messages] == ["D1:1"], "the same line twice is one message"
    first, second = conversation.questions
    assert (first.answers, first.evidence, first.kind, first.unanswerable) == (
        ("Lund",), ("D1:1",), "uncategorised", False
    )  # fmt: skip
    assert (second.id, second.kind, second.unanswerable) == ("line 2", "unanswerable", True)
    assert data.described() | {"sha256": ""} == {
        "name": "h", "conversations": 1, "messages": 1, "questions": 2, "unanswerable": 1, "sha256": ""
    }  # fmt: skip
    assert data.sha256 == load(tmp_path / "h.jsonl", tmp_path / "q.jsonl").sha256


def test_a_folder_of_conversations(tmp_path: Path) -> None:
    for name in ("b", "a"):
        lines(tmp_path / f"{name}.messages.jsonl", [MESSAGE])
        lines(tmp_path / f"{name}.questions.jsonl", [QUESTION | {"category": 5}])
    data = load(tmp_path, None)
    assert [c.name for c in data.conversations] == ["a", "b"]
    assert all(q.unanswerable and q.kind == "5" for c in data.conversations for q in c.questions)
    (tmp_path / "a.questions.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"a\.messages\.jsonl without a\.questions\.jsonl"):
        load(tmp_path, None)
    with pytest.raises(ConfigError, match=r"leave it out"):
        load(tmp_path, tmp_path / "q.jsonl")


def test_the_demo_is_the_default() -> None:
    data = load(None, None)
    assert data.described()["messages"] == 690 and data.described()["questions"] == 25
    assert data.conversations[0].unknown == (0, 0)


def test_without_a_checkout_files_must_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmem.cap_data.__file__", str(tmp_path / "agentmem" / "cap_data.py"))
    with pytest.raises(ConfigError, match=r"--history FILE\.jsonl --questions FILE\.jsonl"):
        load(None, None)


def test_unknown_evidence_is_counted_and_left_out(tmp_path: Path) -> None:
    asked = [QUESTION | {"evidence": ["D1:1", "D9:9", "D9:8"]}, QUESTION | {"id": "q2"}]
    (conversation,) = load(*files(tmp_path, [MESSAGE], asked)).conversations
    assert conversation.unknown == (1, 2)
    assert conversation.questions[0].evidence == ("D1:1",)


@pytest.mark.parametrize(
    ("messages", "questions", "says"),
    [
        ([], [QUESTION], "h.jsonl.*has no message"),
        ([MESSAGE], [], "q.jsonl.*has no question"),
        ([MESSAGE, "{"], [QUESTION], r"h\.jsonl:2.*no JSON"),
        ([MESSAGE, MESSAGE | {"content": "x"}], [QUESTION], r"h\.jsonl:2.*another message"),
        ([MESSAGE | {"role": "boss"}], [QUESTION], r"h\.jsonl:1.*role"),
        ([MESSAGE], [QUESTION, QUESTION], r"q\.jsonl:2.*another question"),
        ([MESSAGE], ["[]"], r"q\.jsonl:1.*no JSON object"),
        ([MESSAGE], ["{"], r"q\.jsonl:1.*no JSON"),
        ([MESSAGE], [{"query": "", "answer": ""}], r"q\.jsonl:1.*query"),
        ([MESSAGE], [{"query": "Why?"}], r"q\.jsonl:1.*answer"),
        ([MESSAGE], [QUESTION | {"at": "soon"}], r"q\.jsonl:1.*ISO"),
        ([MESSAGE], [QUESTION | {"evidence": [["D1:1"]]}], r"q\.jsonl:1.*evidence"),
        ([MESSAGE], [QUESTION | {"category": [1]}], r"q\.jsonl:1.*category"),
        ([MESSAGE], [QUESTION | {"id": True}], r"q\.jsonl:1.*id"),
    ],
)
def test_bad_lines_name_their_file_and_line(tmp_path: Path, messages: Any, questions: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        load(*files(tmp_path, messages, questions))


def test_other_bad_files(tmp_path: Path) -> None:
    history, asked = files(tmp_path, [MESSAGE], [QUESTION])
    asked.write_bytes(b'{"query": "\xff"}\n')
    with pytest.raises(InvalidInputError, match=r"q\.jsonl:1.*no UTF-8"):
        load(history, asked)
    with pytest.raises(ConfigError, match="can't be read"):
        load(history, tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="questions"):
        load(history, None)
    with pytest.raises(ConfigError, match="history"):
        load(None, asked)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="CONV"):
        load(tmp_path / "empty", None)


def test_numbers_are_answers_too() -> None:
    question = read_question({"query": "How many?", "answer": 7, "answers": ["seven", "7"], "stale": ["six"]}, "x")
    assert question.answers == ("7", "seven") and question.stale == ("six",)


def test_a_limit_draws_by_seed_and_keeps_the_order(tmp_path: Path) -> None:
    asked = [QUESTION | {"id": f"q{n:02}"} for n in range(20)]
    data = load(*files(tmp_path, [MESSAGE], asked))
    drawn = [[q.id for q in data.limited(5, seed).conversations[0].questions] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(d == sorted(d) and len(d) == 5 for d in drawn)
    assert data.limited(None, 0) == data.limited(50, 0) == data
    with pytest.raises(ConfigError, match="limit"):
        data.limited(0, 0)
