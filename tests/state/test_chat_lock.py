"""One chat an agent: the second says so; the lock goes with its process, however that ends."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import MAIN
from tests.forking import Forked

NO_MODEL = ["--embedder", "hash"]


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def run(db: Path, *args: str, said: str = "") -> Ran:
    model = [] if args[0] == "verify" else NO_MODEL
    process = Forked(MAIN, *args, "--db", db, *model)
    out, err = process.communicate(said)
    return Ran(process.wait(), out, err)


class OpenChat:
    """A chat whose input stays open."""

    def __init__(self, db: Path, agent: str = "default") -> None:
        self.process = Forked(MAIN, "chat", "--json", "--db", db, "--agent", agent, *NO_MODEL)

    def say(self, text: str) -> dict[str, object]:
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        answer: dict[str, object] = json.loads(self.process.stdout.readline())
        return answer

    def end(self) -> int:
        self.process.communicate()
        return self.process.wait()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "m.db"


@pytest.fixture
def chat(db: Path) -> Iterator[OpenChat]:
    made = OpenChat(db)
    assert made.say("My name is Tom Harris.")["text"]
    yield made
    made.process.close()


def test_a_second_chat_on_the_agent_is_refused_and_the_first_goes_on(db: Path, chat: OpenChat) -> None:
    second = run(db, "chat", "--json", said="Who am I?\n")
    assert second.returncode == 1 and second.stdout == ""
    assert "another chat is open on agent 'default'" in second.stderr and "hint:" in second.stderr
    assert "Traceback" not in second.stderr
    assert "Tom Harris" in str(chat.say("What is my name?")["text"])
    assert chat.end() == 0
    # The refused one stored nothing.
    stats = json.loads(run(db, "stats", "--json").stdout)
    found = json.loads(run(db, "search", "Who am I?", "--json").stdout)
    assert stats["messages"] > 0 and "Who am I?" not in [h["text"] for h in found["hits"]]


def test_it_works_after_the_first_was_killed(db: Path, chat: OpenChat) -> None:
    chat.process.send_signal(signal.SIGKILL)
    chat.process.wait(20)
    again = run(db, "chat", "--json", said="What is my name?\n")
    assert again.returncode == 0 and "Tom Harris" in json.loads(again.stdout)["text"]


def test_it_works_after_the_first_ended(db: Path, chat: OpenChat) -> None:
    assert chat.end() == 0
    assert run(db, "chat", "--json", said="What is my name?\n").returncode == 0


def test_ask_and_ingest_work_beside_it(db: Path, chat: OpenChat) -> None:
    asked = run(db, "ask", "What is my name?", "--json")
    assert asked.returncode == 0 and "Tom Harris" in json.loads(asked.stdout)["text"]
    line = json.dumps({"role": "user", "content": "My cat is called Perkins.", "id": "cat"})
    assert json.loads(run(db, "ingest", "-", "--json", said=line).stdout)["stored"] == 1
    # The open chat knows what came in beside it.
    assert "Perkins" in str(chat.say("What is my cat called?")["text"])
    assert run(db, "verify").returncode == 0


def test_another_agent_may_chat(db: Path, chat: OpenChat) -> None:
    other = run(db, "chat", "--json", "--agent", "other", said="What is my name?\n")
    assert other.returncode == 0
    answer = json.loads(other.stdout)
    assert "Tom" not in answer["text"] and answer["abstained"]
    assert "Tom Harris" in str(chat.say("What is my name?")["text"])
