"""What a CAP report is measured on: conversations with questions, read from files and checked before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from agentmem import drafts
from agentmem.errors import ConfigError, InvalidInputError
from agentmem.times import parse_time
from agentmem.types import Draft

ADVERSARIAL = "5"
MESSAGES, QUESTIONS = ".messages.jsonl", ".questions.jsonl"


@dataclass(frozen=True, slots=True)
class Question:
    """One question. `answers` are accepted answers (none: it was never said, so that it is right to decline);
    `evidence` keys of the messages that hold it; `stale` phrases that were true before an update."""

    id: str
    query: str
    at: str | None = None
    answers: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    category: str = ""
    stale: tuple[str, ...] = ()

    @property
    def unanswerable(self) -> bool:
        """Whether the right answer is that it was not said."""
        return self.category == ADVERSARIAL or not self.answers

    @property
    def kind(self) -> str:
        """The category as the report names it."""
        return self.category or ("unanswerable" if self.unanswerable else "uncategorised")


@dataclass(frozen=True, slots=True)
class Conversation:
    """A history with its questions. Evidence keys that are not in it are taken out of the questions and counted:
    `unknown` is (questions, keys)."""

    name: str
    messages: tuple[Draft, ...]
    questions: tuple[Question, ...]
    unknown: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Data:
    """All that is asked; `sha256` is of the files as they were read."""

    name: str
    conversations: tuple[Conversation, ...]
    sha256: str

    def limited(self, most: int | None, seed: int) -> Data:
        """With at most so many questions a conversation, drawn with the seed, in their order."""
        if most is None:
            return self
        if most < 1:
            raise ConfigError("limit", most, "must be at least 1")
        fewer = []
        for c in self.conversations:
            chosen = range(len(c.questions))
            if most < len(c.questions):
                chosen = sorted(Random(f"{seed} {c.name}").sample(chosen, most))  # type: ignore[assignment]
            fewer.append(replace(c, questions=tuple(c.questions[n] for n in chosen)))
        return replace(self, conversations=tuple(fewer))

    def described(self) -> dict[str, Any]:
        """For the report."""
        questions = [q for c in self.conversations for q in c.questions]
        return {
            "name": self.name, "conversations": len(self.conversations),
            "messages": sum(len(c.messages) for c in self.conversations), "questions": len(questions),
            "unanswerable": sum(q.unanswerable for q in questions), "sha256": self.sha256,
        }  # fmt: skip


def load(history: Path | None, questions: Path | None) -> Data:
    """A file of messages and one of questions; a folder of CONV.messages.jsonl and CONV.questions.jsonl, a
    conversation each; or, without both, the demo's.

    Raises ConfigError where the files are not there, InvalidInputError naming file and line for what can't be read.
    """
    if history is None and questions is None:
        demos = Path(__file__).resolve().parents[1] / "demos"
        history, questions = demos / "history.jsonl", demos / "questions.jsonl"
        if not (history.is_file() and questions.is_file()):
            raise ConfigError(
                "history", None, "is not given, and the demo's stands in a checkout only",
                hint="give --history FILE.jsonl --questions FILE.jsonl, or --history FOLDER of "
                f"CONV{MESSAGES} and CONV{QUESTIONS}",
            )  # fmt: skip
        return _data("demo", [("demo", history, questions)])
    if history is not None and history.is_dir():
        if questions is not None:
            raise ConfigError("questions", str(questions), "can't be given with a folder", hint="leave it out")
        return _data(history.resolve().name, _pairs(history))
    if history is None or questions is None:
        missing = "history" if history is None else "questions"
        raise ConfigError(missing, None, "is not given", hint="give both --history and --questions, or a folder")
    name = history.name.removesuffix(MESSAGES).removesuffix(".jsonl")
    return _data(name, [(name, history, questions)])


def _pairs(folder: Path) -> list[tuple[str, Path, Path]]:
    found = []
    for path in sorted(folder.glob(f"*{MESSAGES}")):
        name = path.name.removesuffix(MESSAGES)
        asked = path.with_name(name + QUESTIONS)
        if not asked.is_file():
            raise ConfigError("history", str(folder), f"has {path.name} without {asked.name}")
        found.append((name, path, asked))
    if not found:
        raise ConfigError("history", str(folder), f"has no CONV{MESSAGES}")
    return found


def _data(name: str, files: list[tuple[str, Path, Path]]) -> Data:
    digest = hashlib.sha256()
    conversations = [_conversation(*file, digest) for file in files]
    if not any(c.questions for c in conversations):
        raise InvalidInputError("questions", str(files[0][2]), "has no question", hint="a JSON object a line")
    return Data(name, tuple(conversations), digest.hexdigest())


def _conversation(name: str, history: Path, asked: Path, digest: Any) -> Conversation:
    messages = _messages(history, digest)
    if not messages:
        raise InvalidInputError("history", str(history), "has no message", hint="a JSON object a line")
    known = {m.key for m in messages}
    questions: list[Question] = []
    keys = lacking = 0
    for question in _questions(asked, digest):
        there = tuple(k for k in question.evidence if k in known)
        keys += len(question.evidence) - len(there)
        lacking += len(there) < len(question.evidence)
        questions.append(replace(question, evidence=there))
    return Conversation(name, messages, tuple(questions), (lacking, keys))


def _messages(path: Path, digest: Any) -> tuple[Draft, ...]:
    found: list[Draft] = []
    seen: dict[str, str] = {}
    for number, line in _lines("history", path, digest):
        try:
            draft = drafts.from_line(line)
        except InvalidInputError as e:
            raise InvalidInputError("history", f"{path.name}:{number}", e.message, hint=e.hint) from e
        if draft.key is not None:
            if draft.key in seen:
                if seen[draft.key] != draft.content:
                    raise _bad("history", path, number, f"the id {draft.key!r} stands for another message already")
                continue  # the same message once more
            seen[draft.key] = draft.content
        found.append(draft)
    return tuple(found)


def _questions(path: Path, digest: Any) -> list[Question]:
    found: dict[str, Question] = {}
    for number, line in _lines("questions", path, digest):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise _bad("questions", path, number, f"is no JSON: {e}") from e
        if not isinstance(row, dict):
            raise _bad("questions", path, number, "is no JSON object")
        try:
            question = read_question(row, f"line {number}")
        except InvalidInputError as e:
            raise InvalidInputError("questions", f"{path.name}:{number}", e.message, hint=e.hint) from e
        if question.id in found:
            raise _bad("questions", path, number, f"the id {question.id!r} stands for another question already")
        found[question.id] = question
    return list(found.values())


def read_question(row: Mapping[str, Any], name: str) -> Question:
    """A question line, already parsed; `name` stands in for an id that it has not. Other fields are ignored.

    Raises InvalidInputError naming the field.
    """
    query, category = row.get("query"), row.get("category")
    if not isinstance(query, str) or not query.strip():
        raise InvalidInputError("query", query, "must be a text that is not empty")
    drafts.check_text("query", query)
    at = row.get("at")
    if at is not None:
        parse_time(at, "at")
    if category is not None and (isinstance(category, bool) or not isinstance(category, str | int)):
        raise InvalidInputError("category", category, "must be a number or a name")
    kind = "" if category is None else str(category)
    if kind != ADVERSARIAL and "answer" not in row and "answers" not in row:
        raise InvalidInputError(
            "answer", None, "is missing", hint='give "answer": "..." (or "answers": [...]), empty if it was never said'
        )
    answers = (*_texts(row, "answer"), *_texts(row, "answers"))
    given = row.get("id")
    if given is not None and (isinstance(given, bool) or not isinstance(given, str | int)):
        raise InvalidInputError("id", given, "must be a text or a number")
    return Question(
        name if given is None else str(given), query, at, tuple(dict.fromkeys(answers)),
        tuple(dict.fromkeys(_texts(row, "evidence"))), kind, _texts(row, "stale"),
    )  # fmt: skip


def _texts(row: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """A text, or a list of texts (numbers are read as texts), without the empty ones."""
    value = row.get(field)
    values = [] if value is None else value if isinstance(value, list) else [value]
    for v in values:
        if isinstance(v, bool) or not isinstance(v, str | int | float):
            raise InvalidInputError(field, v, "must be a text or a list of texts")
    return tuple(text for v in values if (text := str(v).strip()))


def _lines(field: str, path: Path, digest: Any) -> Iterator[tuple[int, str]]:
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise ConfigError(field, str(path), f"can't be read: {e.strerror}") from e
    digest.update(raw)
    for number, line in enumerate(raw.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as e:
            raise _bad(field, path, number, f"is no UTF-8: {e.reason} at byte {e.start}") from e


def _bad(field: str, path: Path, number: int, problem: str) -> InvalidInputError:
    return InvalidInputError(field, f"{path.name}:{number}", problem)
