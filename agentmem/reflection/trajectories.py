"""How a memory is told what became of a task: an outcome with its trajectory, as one passage that can be read back.

An outcome is an event, so its passage holds for the second in which it was noted: a search for what holds now does not
find it, `as_of=` does, and reflection reads it. Its text is a line a field, each a name and a value of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from agentmem.errors import InvalidInputError
from agentmem.types import Message, Passage

if TYPE_CHECKING:
    from agentmem.memory import Memory

KIND = "outcome"
NO_SIGNAL = ("", "none")
MAX_RESULT_CHARS = 500
MAX_KEY_CHARS = 120
_STEP = 1000
_FAILED = ("failed", "failure", "error")


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of a trajectory: what was called with which arguments, what came back, and whether it failed."""

    tool: str
    arguments: Mapping[str, Any]
    result: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Trajectory:
    """An outcome as it was recorded. `signal` says who or what judged it ("" or "none": nobody); `question` and
    `answer`: a question of the task and its right answer, where there is one; `lessons`: refs of the lessons that stood
    in a prompt of its session."""

    ref: str
    id: int
    task: str
    won: bool
    signal: str
    session: str | None = None
    score: float | None = None
    question: str = ""
    answer: str = ""
    calls: tuple[Call, ...] = ()
    lessons: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def signalled(self) -> bool:
        """Whether anything but the attempt itself says how it went."""
        return self.signal.strip().lower() not in NO_SIGNAL


def record_outcome(
    memory: Memory,
    task_key: str,
    outcome: Literal["won", "lost"],
    signal_source: str,
    *,
    session: str | None = None,
    since: str | None = None,
    score: float | None = None,
    question: str = "",
    answer: str = "",
    calls: Sequence[Call] | None = None,
    lessons: Iterable[str] = (),
) -> Passage:
    """Note how an attempt at a task ended; the passage that says so.

    `signal_source` names what judged it ("unit tests", "the user", "exact match"); "none" is taken, and no lesson is
    drawn from it. The messages of the attempt (of a `session`, or all `since` one, such as "m12") are the sources,
    their tool calls the trajectory (unless `calls` are given), and the lessons that were paged in for them are
    credited, beside those in `lessons` (refs such as "p12").
    A `question` with its right `answer` can be held out to test lessons on. Raises InvalidInputError, and
    UnknownNameError for a lesson that is not there.
    """
    if not isinstance(task_key, str) or not task_key.strip() or len(task_key) > MAX_KEY_CHARS or "\n" in task_key:
        raise InvalidInputError("task_key", task_key, f"must be a line of 1 to {MAX_KEY_CHARS} characters")
    if outcome not in ("won", "lost"):
        raise InvalidInputError("outcome", outcome, 'is neither "won" nor "lost"')
    if bool(question.strip()) != bool(answer.strip()):
        raise InvalidInputError("question", question, "needs its right answer, and an answer its question")
    messages = _of_attempt(memory, session, since)
    named = [memory.passage(ref) for ref in lessons]
    for p in named:
        if p.kind != "lesson":
            raise InvalidInputError("lessons", p.ref, f"is a passage of kind {p.kind!r}, and no lesson")
    credited = dict.fromkeys([*(p.ref for p in named), *_paged_in(memory, messages)])
    told = tuple(_calls_of(messages)) if calls is None else tuple(calls)
    fields: list[tuple[str, Any]] = [("Task", task_key), ("Outcome", outcome), ("Signal", signal_source)]
    fields += [("Session", session)] if session is not None else []
    fields += [("Score", score)] if score is not None else []
    fields += [("Question", question), ("Answer", answer)] if question.strip() else []
    fields += [("Lesson", ref) for ref in credited]
    fields += [
        ("Call", {"tool": c.tool, "arguments": dict(c.arguments), "failed": c.failed, "result": _cut(c.result)})
        for c in told
    ]
    text = "\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields)
    now = memory.clock()
    tags = [f"task:{task_key}", f"outcome:{outcome}", *(f"lesson:{ref}" for ref in credited)]
    sources = [m.ref for m in messages if m.searchable]
    return memory.archive(
        text, kind=KIND, tags=tags, valid_from=now - timedelta(seconds=1), valid_to=now, sources=sources
    )


def read_outcome(passage: Passage) -> Trajectory | None:
    """The trajectory in a passage; None when it is none that `record_outcome` wrote."""
    fields: dict[str, list[Any]] = {}
    try:
        for line in passage.text.split("\n"):
            name, _, value = line.partition(": ")
            fields.setdefault(name, []).append(json.loads(value))
        task, outcome, signal = (fields[name][0] for name in ("Task", "Outcome", "Signal"))
        calls = tuple(
            Call(str(c["tool"]), dict(c["arguments"]), str(c["result"]), c["failed"] is True)
            for c in fields.get("Call", [])
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if passage.kind != KIND or not isinstance(task, str) or outcome not in ("won", "lost"):
        return None
    score = fields.get("Score", [None])[0]
    session = fields.get("Session", [None])[0]
    return Trajectory(
        passage.ref, passage.id, task, outcome == "won", str(signal), None if session is None else str(session),
        float(score) if isinstance(score, int | float) else None, str(fields.get("Question", [""])[0]),
        str(fields.get("Answer", [""])[0]), calls, tuple(map(str, fields.get("Lesson", []))), passage.sources,
    )  # fmt: skip


def _of_attempt(memory: Memory, session: str | None, since: str | None) -> list[Message]:
    if session is not None and since is not None:
        raise InvalidInputError("since", since, "can't be given with a session")
    if since is not None:
        first = memory.message(since)
        if first is None:
            raise InvalidInputError("since", since, "is no message", hint="give an id such as m12, or a key")
        return memory.records.recall.since(first.id)
    messages = _of_session(memory, session) if session is not None else []
    if session is not None and not messages:
        raise InvalidInputError("session", session, "has no messages", hint="leave it out to record without one")
    return messages


def _of_session(memory: Memory, session: str) -> list[Message]:
    """Its messages, in order. Read backwards: a session that just ended is at the end."""
    recall = memory.records.recall
    found: list[Message] = []
    last = recall.last_id()
    while last > 0:
        step = [m for m in recall.since(max(1, last - _STEP + 1), last) if m.session == session]
        if found and not step:
            break
        found = step + found
        last -= _STEP
    return found


def _paged_in(memory: Memory, messages: Sequence[Message]) -> list[str]:
    """The lessons that stood in prompts of these messages' turns."""
    turns = {m.id for m in messages if m.role == "user"}
    if not turns:
        return []
    pages = [e.payload for e in memory.records.journal.events("page_in") if e.payload.get("turn") in turns]
    refs = dict.fromkeys(i["ref"] for page in pages for i in page["items"] if str(i["ref"]).startswith("p"))
    return [p.ref for p in memory.records.archival.get([int(ref[1:]) for ref in refs]) if p.kind == "lesson"]


def _calls_of(messages: Iterable[Message]) -> Iterable[Call]:
    """The calls with their results, without what only speaks."""
    waiting: dict[str, tuple[str, dict[str, Any]]] = {}
    for m in messages:
        for call in m.tool_calls:
            if call.name != "send_message":
                waiting[call.id] = (call.name, _arguments(call.arguments))
        if m.role == "tool" and m.tool_call_id in waiting:
            tool, arguments = waiting.pop(m.tool_call_id)
            yield Call(tool, arguments, m.content, _has_failed(m.content))


def _arguments(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _has_failed(result: str) -> bool:
    """What a result says of itself: a status or an `error` in JSON, or a text that begins with one."""
    try:
        value = json.loads(result)
    except (ValueError, RecursionError):
        return result.strip().lower().startswith((*_FAILED, "traceback"))
    if not isinstance(value, dict):
        return False
    status = str(value.get("status", "")).lower()
    return status in _FAILED or bool(value.get("error")) or value.get("ok") is False or value.get("success") is False


def _cut(text: str) -> str:
    return text if len(text) <= MAX_RESULT_CHARS else text[: MAX_RESULT_CHARS - 3] + "..."
