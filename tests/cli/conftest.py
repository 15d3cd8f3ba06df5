"""Running the commands as a user does: `cli(...)` in this process through `main()`, `process(...)` in one of its own."""  # noqa: E501

from __future__ import annotations

import functools
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.forking import Forked

ROOT = Path(__file__).parents[2]
NO_MODEL = ("--embedder", "hash")
"""So that no torch is loaded."""
MAIN = "from agentmem.cli import main; main()"
"""What the console script runs."""
_command = functools.cache(typer.main.get_command)
"""The parser of the commands, which takes longer to make than most of them to run."""


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        assert self.code == 0, f"exit {self.code}: {self.err}"
        assert self.out.endswith("\n") and self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON, a document a line."""
        assert self.code == 0, f"exit {self.code}: {self.err}"
        return [json.loads(line) for line in self.out.splitlines()]


def run_here(*args: str | Path, stdin: bytes = b"") -> Ran:
    """The console script's own function, with argv and the three streams of its own."""
    from agentmem.cli import main

    typer.main.get_command = _command
    out, err = io.BytesIO(), io.BytesIO()
    saved = sys.argv, sys.stdin, sys.stdout, sys.stderr
    sys.argv = ["agentmem", *map(str, args)]
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(out, encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(err, encoding="utf-8", write_through=True)
    code = 0
    try:
        main()
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
    finally:
        ran = Ran(code, *(_written(stream, raw) for stream, raw in ((sys.stdout, out), (sys.stderr, err))))
        sys.argv, sys.stdin, sys.stdout, sys.stderr = saved
    return ran


def _written(stream: Any, raw: io.BytesIO) -> str:
    stream.flush()
    return raw.getvalue().decode()


def run_process(
    *args: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None, cwd: Path | None = None,
    before: str = "",
) -> Ran:  # fmt: skip
    """The same in a process of its own; `before` is Python that runs there first."""
    done = Forked(f"{before}\n{MAIN}", *args, env={**os.environ, **(env or {})}, cwd=cwd)
    out, err = done.communicate(stdin.decode("utf-8", "surrogateescape"))
    assert done.returncode is not None
    return Ran(done.returncode, out, err)


@pytest.fixture(scope="session")
def cli() -> Callable[..., Ran]:
    return run_here


@pytest.fixture(scope="session")
def process() -> Callable[..., Ran]:
    return run_process


def write_lines(path: Path, rows: Sequence[Mapping[str, Any] | str]) -> Path:
    """A file of JSON lines; strings are written as they are."""
    text = "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in rows)
    path.write_text(text, encoding="utf-8")
    return path


def message(key: str, content: str, at: str, *, name: str = "Tom", role: str = "user") -> dict[str, Any]:
    """A message line as section 10 writes it."""
    return {"id": key, "session": key[1 : key.index(":")], "role": role, "name": name, "content": content, "at": at}


SIGHTS = (
    "cathedral", "castle", "aqueduct", "market", "bridge", "museum", "library", "garden", "harbour", "tower", "palace",
    "theatre", "fountain", "monastery", "lighthouse", "planetarium",
)  # fmt: skip
LONG = " ".join(
    f"On stop number {n} of the tram tour we saw the {sight} and paid {n + 3} euros for it."
    for n, sight in enumerate(SIGHTS)
)


@pytest.fixture(scope="session")
def history_rows() -> list[dict[str, Any]]:
    """Four sessions between two people: facts, a very long message, and talk that fills a small window."""
    facts = {
        "D1:3": ("Tom", "My sister Anna moved to Lisbon because of her job at the aquarium.", "2023-05-08T13:56:00"),
        "D1:8": ("Mia", "I adopted a grey parrot called Biscuit last Tuesday.", "2023-05-08T14:02:00"),
        "D2:4": ("Tom", LONG, "2023-06-12T09:15:00"),
        "D2:9": ("Mia", "My invoice INV-2041 over 318 euros is still not paid.", "2023-06-12T09:40:00"),
        "D3:5": ("Tom", "Anna is learning to play the accordion in the evenings.", "2023-07-20T18:05:00"),
        "D4:2": ("Mia", "We are going to repaint the kitchen in olive green.", "2023-09-02T11:00:00"),
    }
    talk = (
        "That sounds lovely, tell me more about how it went.",
        "The weather was dreadful all week, rain from morning to night.",
        "I have been so busy at the office with the quarterly figures.",
        "Did you sleep well? You seemed tired on the phone.",
        "Let us cook something together at the weekend, maybe soup.",
    )
    rows: list[dict[str, Any]] = []
    for session, day in enumerate(("2023-05-08", "2023-06-12", "2023-07-20", "2023-09-02"), 1):
        for turn in range(1, 13):
            key = f"D{session}:{turn}"
            name, text, at = facts.get(
                key,
                (
                    ("Tom", "Mia")[turn % 2],
                    f"{talk[(turn + session) % 5]} ({session}.{turn})",
                    f"{day}T10:{turn:02d}:00",
                ),
            )
            rows.append(message(key, text, at, name=name))
    return rows


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory, history_rows: list[dict[str, Any]]) -> Path:
    return write_lines(tmp_path_factory.mktemp("history") / "history.jsonl", history_rows)


@pytest.fixture(scope="session")
def shared_db(tmp_path_factory: pytest.TempPathFactory, history: Path) -> Path:
    """The history in a window of 1,024 tokens, so that most of it was paged out. For tests that only read."""
    db = tmp_path_factory.mktemp("db") / "shared.db"
    done = run_here("ingest", history, "--db", db, "--agent", "tom", "--window", "1024", *NO_MODEL, "--json")
    assert done.document["stored"] == 48
    return db


@pytest.fixture
def own_db(tmp_path: Path, shared_db: Path) -> Path:
    """A copy of it, for tests that write."""
    import sqlite3

    copy = tmp_path / "own.db"
    source, target = sqlite3.connect(shared_db), sqlite3.connect(copy)
    source.backup(target)
    source.close()
    target.close()
    return copy
