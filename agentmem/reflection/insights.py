"""Insights that cite what they rest on (Generative Agents, arXiv 2304.03442, section 4.2): records are rated, the most
salient questions of the newest are asked, records are retrieved for each, and what follows from them is kept.

Differences from the paper: ratings come in batches, a backlog is taken in runs of about a hundred records each, what
cites nothing is dropped where its code stores a stub, and an insight whose ground has gone is looked at again.

By rules there is no insight: it rates by a rule of thumb (`importance.rule_importance`), and states which subjects
somebody came back to on how many days (`subjects`), counted and cited.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentmem.errors import ConfigError
from agentmem.reflection.budget import Estimate
from agentmem.reflection.changes import AddPassage, Change, ClosePassage
from agentmem.reflection.importance import Record, rating_batches
from agentmem.reflection.insight_prompts import (
    INSIGHT_SCHEMA,
    INSIGHT_TOKENS,
    INSIGHTS,
    KIND,
    MATERIAL_TOKENS,
    QUESTION_SCHEMA,
    QUESTION_TOKENS,
    QUESTIONS,
    RECORD_CHARS,
    read_insights,
    read_questions,
)
from agentmem.reflection.material import Material, material, one_line
from agentmem.reflection.rating import Progress, known_ratings, rate, told
from agentmem.reflection.requests import answer_tokens, cost, fitting, record_chars, request, room
from agentmem.reflection.resting import Known, current, fallen, newest_time, record_of
from agentmem.reflection.strategy import Form, Step, Steps, ask, propose
from agentmem.reflection.subjects import MAX_DAYS, recurring
from agentmem.times import format_time, utc_seconds
from agentmem.types import Message, Request

if TYPE_CHECKING:
    from agentmem.reflection.view import View

BY_RULES = "by-rules"
FIRST_RECORDS = 10
"""The first insights on an agent need so many records, whatever these weigh."""
SUBJECT_MESSAGES = 5000
"""Subjects are counted over the newest messages, so many at most."""


class Insights:
    """The strategy `insights`. `trigger`: the summed importance of new records from which on it reflects; `questions` a
    run of records, `insights` a question, `recent` records shown for questions, `top_k` retrieved a question, `depth`
    at most (an insight on what was said has 1). By rules: `days` on which a subject came up, `most` subjects a run.

    Raises ConfigError for options out of range. The cursor is a `rating.Progress`.
    """

    name = "insights"
    version = 1
    forms: tuple[Form, ...] = ("rules", "model")

    def __init__(
        self, trigger: int = 150, questions: int = 3, insights: int = 5, recent: int = 100, top_k: int = 30,
        depth: int = 3, days: int = 4, most: int = 5,
    ) -> None:  # fmt: skip
        given = {"trigger": (trigger, 0), "questions": (questions, 1), "insights": (insights, 1), "recent": (recent, 1)}
        given |= {"top_k": (top_k, 1), "depth": (depth, 1), "days": (days, 2), "most": (most, 0)}
        for option, (value, least) in given.items():
            if type(value) is not int or value < least:
                raise ConfigError(option, value, f"must be a whole number of at least {least}")
        if depth > 3:
            raise ConfigError("depth", depth, "is at most 3", hint="what rests on insights alone is far from said")
        self.trigger, self.recent, self.top_k, self.depth = trigger, recent, top_k, depth
        self.questions, self.insights, self.days, self.most = questions, insights, days, most
        self._asks, self._draws = QUESTIONS.format(count=questions), INSIGHTS.format(count=insights)

    def estimate(self, view: View) -> Estimate:
        """By a model: the ratings as they will be asked, then questions and insights as if all that is not rated yet
        had the highest importance and every request were full."""
        at = Progress.of(view.cursor)
        new = told(view, at.message, at.passage)
        if view.form == "rules":
            return Estimate(len(new))
        known = known_ratings(view, new)
        found = cost(view, len(new), [r for _, _, r in rating_batches(view, [r for r in new if r.ref not in known])])
        pending = told(view, at.from_message, at.from_passage)
        weights = {r.ref: 10 for r in pending} | known_ratings(view, pending)
        runs = self.runs(pending, weights, at.first)
        found += cost(view, 0, [self._question_request(view, run)[1] for run in runs])
        calls = len(runs) * self.questions + len(fallen(view, KIND))
        most = answer_tokens(view, INSIGHT_TOKENS)
        empty = request(view, self._draws, "", INSIGHT_SCHEMA, most)
        prompt = view.counter.count_prompt(empty.messages) + 100 + self._free(view, self._draws, most)
        return found + Estimate(0, calls, calls * min(prompt, view.window_tokens - most), calls * most)

    def run(self, view: View) -> Steps:
        """Rate what is new, look again at insights whose ground has gone, and reflect where that is due."""
        at = yield from rate(view, Progress.of(view.cursor))
        if view.form == "rules":
            yield from self._close_fallen(view)
            yield from self._count_subjects(view, at)
        else:
            yield from self._renew(view)
            yield from self._reflect(view, at)

    def runs(self, records: Sequence[Record], weights: Mapping[str, int], first: bool) -> list[list[Record]]:
        """The records that are due, in runs: each weighs at least `trigger` and has at least `recent` records, the last
        one may have fewer; the first one of an agent may weigh less. What weighs too little waits."""
        out: list[list[Record]] = []
        run: list[Record] = []
        weight = 0
        for record in records:
            run.append(record)
            weight += weights.get(record.ref, 0)
            if len(run) >= self.recent and weight >= self.trigger:
                out.append(run)
                run, weight = [], 0
        if run and (weight >= self.trigger or (first and not out and len(run) >= FIRST_RECORDS)):
            out.append(run)
        return out

    # -- by a model -------------------------------------------------------------------------------------------

    def _reflect(self, view: View, at: Progress) -> Steps:
        pending = told(view, at.from_message, at.from_passage)
        runs = self.runs(pending, known_ratings(view, pending), at.first)
        if not runs:
            return
        asked = [self._question_request(view, run) for run in runs]
        answers = yield from ask([r for _, r in asked])
        rejected: list[list[str]] = [[] for _ in runs]
        questions: list[tuple[int, str]] = []
        for n, ((shown, _), said) in enumerate(zip(asked, answers, strict=True)):
            texts, reasons = read_questions(view, shown, said, self.questions)
            questions += [(n, text) for text in texts]
            rejected[n] += reasons
        drawn = yield from self._draw(view, [(text, []) for _, text in questions], frozenset())
        known = Known(view, current(view, KIND))
        for n, run in enumerate(runs):
            changes: list[Change] = []
            for (owner, _), (found, reasons) in zip(questions, drawn, strict=True):
                if owner == n:
                    changes += _new(found, known, rejected[n])
                    rejected[n] += reasons
            at = at.reflected(run)
            yield from propose(changes, at.to_json(), rejected[n])

    def _renew(self, view: View) -> Steps:
        """Insights that lost a ground are closed; what still follows about the same takes their place."""
        lost = fallen(view, KIND)
        if not lost:
            return
        gone = frozenset(p.ref for p, _ in lost)
        topics = [
            (f"What holds now, of this? {one_line(p.text, 400)}", [s for s in p.sources if s not in gone])
            for p, _ in lost
        ]
        drawn = yield from self._draw(view, topics, gone)
        known = Known(view, [p for p in current(view, KIND) if p.ref not in gone])
        for (passage, reason), (found, rejected) in zip(lost, drawn, strict=True):
            reasons = list(rejected)
            new = _new(found, known, reasons)
            instead = "+0" if new else None
            close = ClosePassage(passage.ref, format_time(view.now), instead, (), reason)
            yield from propose([*new, close], None, reasons)

    def _draw(
        self, view: View, topics: Sequence[tuple[str, Sequence[str]]], without: frozenset[str]
    ) -> Generator[Step, Any, list[tuple[list[AddPassage], list[str]]]]:
        """For each topic (a question, and refs to be shown beside what is found): insights, and reasons why others were
        not taken."""
        asked: list[tuple[Material, Request] | None] = []
        most = answer_tokens(view, INSIGHT_TOKENS)
        free = self._free(view, self._draws, most)
        chars = record_chars(free, RECORD_CHARS)
        for question, refs in topics:
            hits = [h.id for h in view.search(question, top_k=self.top_k)]
            found = [record_of(view, ref) for ref in dict.fromkeys([*refs, *hits]) if ref not in without]
            usable = [r for r in found if r is not None and self._is_ground(view, r)]
            records = fitting(view, usable, free, chars)
            shown = material(sorted(records, key=_in_time), chars)
            text = f"{shown.text}\n\nQuestion: {one_line(question, 400)}"
            asked.append((shown, request(view, self._draws, text, INSIGHT_SCHEMA, most)) if records else None)
        answers = iter((yield from ask([both[1] for both in asked if both is not None])))
        out: list[tuple[list[AddPassage], list[str]]] = []
        for (question, _), both in zip(topics, asked, strict=True):
            if both is None:
                out.append(([], ["insights: nothing was found for a question, or nothing fits the window"]))
            else:
                out.append(read_insights(view, both[0], next(answers), question, self.insights))
        return out

    def _is_ground(self, view: View, record: Record) -> bool:
        """What an insight may rest on: what was said or told, facts, and insights that leave a depth for it."""
        if isinstance(record, Message):
            return True
        holds = record.valid_to is None or utc_seconds(record.valid_to) > utc_seconds(view.now)
        kept = not record.sources or record.kind in (KIND, "fact")
        return holds and kept and view.depth(record.ref) < self.depth

    def _question_request(self, view: View, run: Sequence[Record]) -> tuple[Material, Request]:
        most = answer_tokens(view, QUESTION_TOKENS)
        free = self._free(view, self._asks, most)
        chars = record_chars(free, RECORD_CHARS)
        newest = fitting(view, run[-self.recent :][::-1], free, chars)
        shown = material(newest[::-1], chars)
        return shown, request(view, self._asks, shown.text, QUESTION_SCHEMA, most)

    def _free(self, view: View, instruction: str, max_tokens: int) -> int:
        return max(0, min(MATERIAL_TOKENS, room(view, instruction, max_tokens, "\n\nQuestion: ") - 100))

    # -- by rules ---------------------------------------------------------------------------------------------

    def _close_fallen(self, view: View) -> Steps:
        lost = fallen(view, KIND)
        if lost:
            now = format_time(view.now)
            yield from propose([ClosePassage(p.ref, now, why=reason) for p, reason in lost])

    def _count_subjects(self, view: View, at: Progress) -> Steps:
        """Statements of what came up on several days, for subjects that came up anew; one whose days have grown by half
        takes the place of the one before."""
        messages = view.messages(max(0, view.last_message - SUBJECT_MESSAGES))
        if not messages or messages[-1].id <= at.from_message:
            return
        earlier = {t: p for p in current(view, KIND) if BY_RULES in p.tags for t in p.tags if ":" in t}
        changes: list[Change] = []
        added = 0
        for subject in recurring(messages, self.days):
            if added == self.most:
                break
            tag = f"subject:{subject.who}/{subject.key}"
            before = earlier.get(tag)
            counted = len(before.sources) if before is not None else 0
            newest = subject.days[-1][1]
            if newest.id <= at.from_message or (
                counted and (counted >= MAX_DAYS or 2 * len(subject.days) < 3 * counted)
            ):
                continue
            cited = tuple(m.ref for _, m in subject.days)
            since = newest_time([newest], view)
            changes.append(AddPassage(subject.text, KIND, cited, (BY_RULES, tag), since, None, "counted, not inferred"))
            if before is not None:
                why = "counted anew"
                changes.append(ClosePassage(before.ref, since or format_time(view.now), f"+{added}", (), why))
            added += 1
        yield from propose(changes, at.reflected(messages).to_json())


def _new(found: Sequence[AddPassage], known: Known, rejected: list[str]) -> list[Change]:
    """Those that say something that is not there yet."""
    out: list[Change] = []
    for change in found:
        if like := known.like(change.text):
            rejected.append(f"insights: one says what {like} says")
        else:
            known.add(change.text, "another of this run")
            out.append(change)
    return out


def _in_time(record: Record) -> tuple[float, str, int]:
    at = record.at if isinstance(record, Message) else record.valid_from
    return utc_seconds(at), record.ref[0], record.id
