"""A CAP run: every rung on every question, line by line into a folder, and the report of all lines."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import agentmem
from agentmem import registry
from agentmem.cap_asked import Asked
from agentmem.cap_data import Conversation, Data, Question
from agentmem.cap_ground import Ground, Settings, Tools
from agentmem.cap_intervals import DIGITS
from agentmem.cap_journal import Journal, key_of
from agentmem.cap_judge import Judge, known_wrong
from agentmem.cap_ladder import COMPRESSION, DENSE, OURS, REFLECTION, RUNGS, SHOWN_ONLY, Rung, open_rung
from agentmem.cap_meter import MeteredModel, metered
from agentmem.cap_report import VERSION, machine, packages, rung_report
from agentmem.cap_scores import best_f1, evidence_share, has_all, is_stale, needed
from agentmem.errors import ConfigError
from agentmem.reflection.strategies import DEFAULT
from agentmem.types import ChatMessage, Request

if TYPE_CHECKING:
    from agentmem.protocols import Backend, Embedder

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is made with; specs or objects. `judge` None: no model judges."""

    data: Data
    backend: str | Backend = "extractive"
    embedder: str | Embedder = "auto"
    settings: Settings = field(default_factory=Settings)
    judge: str | Backend | None = None
    limit: int | None = None
    rungs: tuple[str, ...] = RUNGS


def run(
    plan: Plan,
    out: Path,
    *,
    fresh: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure what is not measured yet in the folder `out`, and write report.json there; the report.

    Raises BackendError where the backend fails: what was answered is kept, and the same call goes on from there.
    ConfigError, InvalidInputError and StoreBusyError as `Journal` and the drivers do.
    """
    with ExitStack() as stack:
        embedder = registry.make_embedder(plan.embedder) if isinstance(plan.embedder, str) else plan.embedder
        backend = stack.enter_context(_made(plan.backend, embedder))
        judge = None
        if plan.judge is not None:
            judge = Judge(stack.enter_context(_made(plan.judge, None)), plan.settings.seed)
        data = plan.data.limited(plan.limit, plan.settings.seed)
        compressor = registry.make_compressor(plan.settings.compressor)
        unable = {DENSE: embedder is None, COMPRESSION: compressor is None}
        rungs = [r for r in plan.rungs if not unable.get(r)]
        if not rungs:
            raise ConfigError("rungs", ", ".join(plan.rungs), "there is no embedder, or no compressor, for that")
        journal = stack.enter_context(Journal(out, _fingerprint(plan, embedder), fresh=fresh))
        tools = Tools(metered(backend, clock), embedder, compressor, plan.settings, clock)
        runner = _Run(data, tools, judge, journal, progress)
        runner.measure(rungs)
        report = runner.report(plan, rungs)
        text = json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        try:
            (out / "report.json").write_text(text, encoding="utf-8")
        except OSError as e:
            raise ConfigError("out", str(out), f"can't be written: {e.strerror}") from e
        return report


@contextmanager
def _made(backend: str | Backend, embedder: Embedder | None) -> Iterator[Backend]:
    """A backend for the time of a run; one that was given as an object stays open."""
    if not isinstance(backend, str):
        yield backend
        return
    made = registry.make_backend(backend, embedder)
    try:
        yield made
    finally:
        made.close()


def _fingerprint(plan: Plan, embedder: Embedder | None) -> dict[str, Any]:
    """All that makes two lines comparable. Which rungs are measured is no part of it: more may be added later."""

    def name(made: str | Backend) -> str:
        return made if isinstance(made, str) else made.name

    return {
        "agentmem": agentmem.__version__, "data": plan.data.sha256, "backend": name(plan.backend),
        "embedder": embedder.model_id if embedder is not None else None, "limit": plan.limit,
        "judge": name(plan.judge) if plan.judge is not None else None, **asdict(plan.settings),
    }  # fmt: skip


class _Run:
    """What a run goes through, and what it has found out by then."""

    def __init__(
        self,
        data: Data,
        tools: Tools,
        judge: Judge | None,
        journal: Journal,
        progress: Progress | None,
    ) -> None:
        self.data, self.tools, self.judge, self.journal, self.progress = data, tools, judge, journal, progress

    def measure(self, rungs: Sequence[str]) -> None:
        """Ask what was not asked yet."""
        steps = [(c, r, q) for c in self.data.conversations for r in rungs for q in c.questions]
        done = sum(self._key(r, c, q.id) in self.journal for c, r, q in steps)
        self._tell(done, len(steps))
        if done < len(steps) and isinstance(self.tools.backend, MeteredModel):
            # What loads at the first call is no part of a rung's time.
            self.tools.backend.generate([Request((ChatMessage("user", "Hello."),), max_tokens=1)])
        for conversation in self.data.conversations:
            with self._ground(conversation) as ground:
                for name in rungs:
                    for _ in self._ask(ground, name):
                        done += 1
                        self._tell(done, len(steps))
        if self.judge is not None:
            self._probe(self.judge)

    def _tell(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)

    @contextmanager
    def _ground(self, conversation: Conversation) -> Iterator[Ground]:
        with tempfile.TemporaryDirectory(prefix="agentmem-cap-") as folder:
            ground = Ground(conversation, self.tools, Path(folder))
            try:
                yield ground
            finally:
                ground.close()

    @staticmethod
    def _key(rung: str, conversation: Conversation, question: str, kind: str = "answer") -> tuple[str, ...]:
        return key_of({"kind": kind, "rung": rung, "conversation": conversation.name, "id": question})

    def _ask(self, ground: Ground, name: str) -> Iterator[None]:
        conversation = ground.conversation
        open_ones = [q for q in conversation.questions if self._key(name, conversation, q.id) not in self.journal]
        if not open_ones:
            return
        rung = open_rung(name, ground)
        if self._key(name, conversation, "", "write") not in self.journal:
            self.journal.add(self._written(rung, name, conversation))
        said = {m.key: m for m in conversation.messages if m.key is not None}
        for question in open_ones:
            gold = "\n".join(f"{said[k].name or ''} {said[k].content}" for k in question.evidence)
            line = _line(question, rung.ask(question), gold)
            line |= {"rung": name, "conversation": conversation.name, "compressing": name in (COMPRESSION, REFLECTION)}
            if self.judge is not None and not question.unanswerable:
                line["judge"] = bool(self.judge.accepts(question, "" if line["declined"] else line["said"]))
            self.journal.add(line)
            yield

    @staticmethod
    def _written(rung: Rung, name: str, conversation: Conversation) -> dict[str, Any]:
        memory, counter = rung.agent.memory, rung.agent.shape.counter
        return {
            "kind": "write", "rung": name, "conversation": conversation.name,
            "reach": None if name in SHOWN_ONLY else list(rung.history()),
            "window_tokens": memory.config.window_tokens, "reserve_tokens": memory.config.reserve,
            "counter": counter.name, "exact": counter.exact, "model": rung.agent.shape.model,
            "P": {"write_ms": [round(1000 * s, 3) for s in rung.write_s]},
        }  # fmt: skip

    def _probe(self, judge: Judge) -> None:
        """Show the judge answers that are wrong for sure."""
        for c in self.data.conversations:
            for q in c.questions:
                if q.unanswerable or self._key("", c, q.id, "probe") in self.journal:
                    continue
                wrong = known_wrong(q, c.questions)
                accepted = [bool(judge.accepts(q, w)) for w in wrong]
                self.journal.add(
                    {"kind": "probe", "conversation": c.name, "id": q.id, "wrong": list(wrong), "accepted": accepted}
                )

    def report(self, plan: Plan, rungs: Sequence[str]) -> dict[str, Any]:
        """The report of all lines."""
        answers, writes, probes = (self.journal.of_kind(k) for k in ("answer", "write", "probe"))
        seed, first = plan.settings.seed, next(w for w in writes if w["rung"] in rungs)
        backend, embedder = self.tools.backend, self.tools.embedder
        order = {self._key(r, c, q.id): n for n, (r, c, q) in enumerate(
            (r, c, q) for r in rungs for c in self.data.conversations for q in c.questions)}  # fmt: skip
        # The order of the data, in whatever order rungs were asked for: resampling goes by place.
        answers = sorted((a for a in answers if key_of(a) in order), key=lambda a: order[key_of(a)])
        return {
            "version": VERSION, "agentmem": agentmem.__version__, "machine": machine(), "packages": dict(packages()),
            "seed": seed, "data": self.data.described(),
            "backend": {"name": backend.name, "describe": backend.describe(), "model": first["model"]},
            "embedder": embedder.model_id if embedder is not None else None,
            "compressor": plan.settings.compressor, "window_tokens": first["window_tokens"],
            "reserve_tokens": first["reserve_tokens"],
            "counter": {"name": first["counter"], "exact": first["exact"]},
            "notes": self._notes(plan, rungs, answers, first),
            "rungs": [
                rung_report(
                    r, [a for a in answers if a["rung"] == r], [w for w in writes if w["rung"] == r], probes, seed
                )
                for r in rungs
            ],
        }  # fmt: skip

    def _notes(self, plan: Plan, rungs: Sequence[str], answers: Sequence[Any], first: Any) -> list[str]:
        notes = []
        if not first["model"]:
            notes.append("answers by quoting, no language model; the best forty records of a prompt are read")
        if not first["exact"]:
            notes.append(f"tokens are estimates ({first['counter']})")
        if plan.limit is not None:
            notes.append(f"at most {plan.limit} questions a conversation, drawn with seed {plan.settings.seed}")
        questions, keys = (sum(c.unknown[n] for c in self.data.conversations) for n in (0, 1))
        if keys:
            notes.append(f"evidence of {questions} questions is not in the history: {keys} keys are left out")
        if not any(q.evidence for c in self.data.conversations for q in c.questions):
            notes.append("no question names evidence: what is in the prompt could not be judged")
        if self.tools.embedder is None:
            notes.append("no embedder: dense top-k is left out, and agentmem searches by words alone")
        if self.tools.compressor is None:
            notes.append("no compressor: the rung + compression is left out")
        left_out = [r for r in RUNGS if r not in plan.rungs]
        if left_out:
            notes.append(f"left out on request: {', '.join(left_out)}")
        if any(r in rungs for r in OURS):
            notes.append("histories are written without a model: agentmem's summaries are by rules")
        failed = [a for a in answers if a["error"]]
        if failed:
            notes.append(f"{len(failed)} answers failed and count as empty, the first: {failed[0]['error']}")
        said: dict[str, int] = {}
        for answer in answers:
            for notice in answer["notices"]:
                said[notice] = said.get(notice, 0) + 1
        notes += [f"{notice} ({count} times)" for notice, count in sorted(said.items())]
        if REFLECTION in rungs:
            how = "" if self.tools.compressor is None else ", with compression"
            notes.append(f"+ reflection: {', '.join(DEFAULT)} by rules, once, before the questions{how}")
        return notes


def _line(question: Question, asked: Asked, gold: str) -> dict[str, Any]:
    """A question's artefacts on a rung, with its scores."""
    said = "" if asked.declined else asked.said
    wanted = needed(question.answers, gold)
    answerable = not question.unanswerable
    measured = answerable and bool(question.evidence)
    shown = (*asked.keys, *asked.shortened)
    return {
        "kind": "answer", "id": question.id, "category": question.kind, "unanswerable": question.unanswerable,
        "query": question.query, "answers": list(question.answers), "evidence": list(question.evidence),
        "keys": list(asked.keys), "shortened": list(asked.shortened), "reach": list(asked.reach),
        "sections": asked.sections, "shown_tokens": asked.shown, "whole_tokens": asked.whole,
        "said": asked.said, "text": asked.text, "declined": asked.declined, "error": asked.error,
        "notices": list(asked.notices),
        "f1": round(best_f1(said, question.answers, question.category), DIGITS) if answerable else None,
        "evidence_share": round(evidence_share(question.evidence, shown), DIGITS) if measured else None,
        "evidence_tokens": has_all(wanted, asked.records) if measured and wanted else None,
        "stale": is_stale(said, question.stale, question.answers) if question.stale else None,
        "judge": None,
        "P": {
            "retrieve_ms": _ms(asked.retrieve_s), "assemble_ms": _ms(asked.assemble_s),
            "first_token_ms": _ms(asked.first_s), "model_ms": _ms(asked.model_s), "written_ms": _ms(asked.written_s),
            "written_tokens": asked.written, "calls": asked.calls, "tokens": asked.tokens,
            "reused": list(asked.reused) if asked.reused is not None else None,
        },
    }  # fmt: skip


def _ms(seconds: float | None) -> Any:
    return None if seconds is None else round(1000 * seconds, 3)
