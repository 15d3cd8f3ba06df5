"""The strategy `profile`: blocks of core memory are rewritten from what is new (sleep-time compute, arXiv 2504.13171).

By rules: what the person plainly states, as the extractive backend files it online; a history that was ingested was
never filed. By a model: drafts, judged without a model, the best one kept (Self-Refine, arXiv 2303.17651); the old text
is one of them, and a good answer. The person whose profile it is may be one alone: where several people speak, say
which with `person`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentmem.errors import ConfigError
from agentmem.reflection.budget import Estimate
from agentmem.reflection.changes import EditBlock
from agentmem.reflection.material import Material, material
from agentmem.reflection.profile_drafts import Draft, Judge
from agentmem.reflection.profile_evidence import Support
from agentmem.reflection.profile_lines import Ages, digest, fold, slot_of, statements
from agentmem.reflection.profile_prompts import INSTRUCTION, SCHEMA, feedback, task
from agentmem.reflection.requests import SLACK_TOKENS, answer_tokens, cost, fitting, request, room
from agentmem.reflection.strategy import Steps, ask, propose
from agentmem.types import Block, ChatMessage, Message, Request

if TYPE_CHECKING:
    from agentmem.reflection.outcome import Applied
    from agentmem.reflection.strategy import Form
    from agentmem.reflection.view import View

MAX_ROUNDS = 4
RECORD_TOKENS = 3000
RECORD_CHARS = 1200
FEEDBACK_TOKENS = 1000
MAX_PEOPLE = 8
RETRIES = 3
MAX_REASONS = 20
LABEL = "human"


class Profile:
    """Options: `labels` (of the blocks, with commas between them), `person` (the name of the one whose profile it is,
    as the messages have it), `rounds` (1 to 4 drafts). By rules the block `human` alone is kept."""

    name = "profile"
    version = 1
    forms: tuple[Form, ...] = ("rules", "model")

    def __init__(self, labels: str | Sequence[str] = LABEL, person: str = "", rounds: int = MAX_ROUNDS) -> None:
        named = labels.split(",") if isinstance(labels, str) else list(labels)
        self.labels = tuple(dict.fromkeys(str(label).strip() for label in named if str(label).strip()))
        if not self.labels:
            raise ConfigError("labels", labels, "names no block", hint="give for example labels=human")
        if type(rounds) is not int or not 1 <= rounds <= MAX_ROUNDS:
            raise ConfigError("rounds", rounds, f"must be a whole number from 1 to {MAX_ROUNDS}")
        self.person = str(person)
        self.rounds = rounds

    def estimate(self, view: View) -> Estimate:
        """For each window of records as many drafts as there may be; one is enough where it is good."""
        notes = _Notes(view.cursor)
        found = Estimate()
        for label in self.labels:
            block = _block(view, label)
            if block is None:
                continue
            state = notes.of(self._key(label))
            new = view.messages(state["to"])
            found += Estimate(len(new))
            person, _ = self._whose(block, _people(state, new))
            if person is not None and new and view.form == "model":
                for window in _windows(view, block, new):
                    if Support(window, person).statements():
                        found += self._drafts_cost(view, _asking(view, block, person, material(window, RECORD_CHARS)))
        return found

    def _drafts_cost(self, view: View, asking: Request) -> Estimate:
        """Each draft but the first is asked for with all earlier ones, and what was wrong with them, before it."""
        first, answer = cost(view, 0, [asking]), asking.max_tokens
        most = view.window_tokens - answer
        prompts = [min(most, first.prompt_tokens + n * (answer + FEEDBACK_TOKENS)) for n in range(self.rounds)]
        return Estimate(0, self.rounds, sum(prompts), self.rounds * answer)

    def run(self, view: View) -> Steps:
        """Fold what is new into each block."""
        notes = _Notes(view.cursor)
        for label in self.labels:
            block = _block(view, label)
            key = self._key(label)
            state = notes.of(key)
            new = view.messages(state["to"]) if block is not None else []
            if block is None or not new:
                continue
            people = _people(state, new)
            state = {**state, "people": sorted(people)}
            person, why_not = self._whose(block, people)
            if view.form == "rules" and label != LABEL:
                person, why_not = None, f"block {label!r}: by rules the block {LABEL!r} alone is kept"
            if person is None:
                # Said once, not every night.
                told = not why_not or bool(state.get("told"))
                cursor = notes.put(key, {**state, "told": bool(why_not)}, view.last_message)
                yield from propose((), cursor, () if told else (why_not,))
            elif view.form == "rules":
                yield from self._by_rules(view, label, notes, state, person, new)
            else:
                yield from self._by_model(view, label, notes, state, person, new)

    def _by_rules(
        self, view: View, label: str, notes: _Notes, state: dict[str, Any], person: str, new: Sequence[Message]
    ) -> Steps:
        cursor = notes.put(self._key(label), state, view.last_message)
        told = statements(_of(person, new))
        if told and state["to"]:
            told = statements(_of(person, view.messages()))  # old news is told from new by what was said before
        for _ in range(RETRIES):
            block = _block(view, label)
            if block is None:
                return
            ages = Ages(told, view.block_edits(label), {})
            found = fold(block, told, state["to"], ages, view.counter.count)
            if found.text == block.value:
                yield from propose((), cursor, found.left_out)
                return
            edit = EditBlock(label, block.value, found.text, found.sources, _why(found.done))
            (outcome,) = yield from propose([edit], cursor, found.left_out)
            if outcome.fate != "skipped":
                return
        # Somebody goes on editing: the next run reads these records again.
        yield from propose((), notes.put(self._key(label), state, state["to"]))

    def _by_model(
        self, view: View, label: str, notes: _Notes, state: dict[str, Any], person: str, new: Sequence[Message]
    ) -> Steps:
        own = statements(_of(person, view.messages()))
        since: dict[str, float] = dict(state.get("since", {}))
        block = _block(view, label)
        for window in _windows(view, block, new) if block is not None else []:
            block = _block(view, label)
            if block is None:
                return
            support = Support(window, person)
            before = {**state, "since": since}
            read = window[-1].id
            if not support.statements():
                yield from propose((), notes.put(self._key(label), before, read))
                state = {**before, "to": read}
                continue
            shown = material(window, RECORD_CHARS)
            ages = Ages(own, view.block_edits(label), since)
            judge = Judge(block, ages, support, shown.cited, view.counter.count)
            best, problems = yield from self._best(view, block, person, shown, judge)
            since = _still(best.text, {**since, **best.since})
            after = notes.put(self._key(label), {**before, "since": since}, read)
            if best.text == block.value:
                yield from propose((), after, problems)
            else:
                edit = EditBlock(label, block.value, best.text, best.sources, _why(best.why))
                outcome: list[Applied] = yield from propose([edit], after, problems)
                if outcome[0].fate == "skipped":
                    # Theirs wins; these records are read again in the next run.
                    yield from propose((), notes.put(self._key(label), before, state["to"]))
                    return
            state = {**before, "since": since, "to": read}
        if state["to"] < view.last_message:
            yield from propose((), notes.put(self._key(label), state, view.last_message))

    def _best(
        self, view: View, block: Block, person: str, shown: Material, judge: Judge
    ) -> Generator[Any, Any, tuple[Draft, tuple[str, ...]]]:
        """The best of the old text and at most `rounds` drafts, and what was wrong with the drafts."""
        asking = _asking(view, block, person, shown)
        best = judge.unchanged
        problems: list[str] = []
        for number in range(1, self.rounds + 1):
            (said,) = yield from ask([asking])
            draft = judge.read(said)
            problems += [f"draft {number}: {p}" for p in draft.problems]
            best = max(best, draft, key=lambda d: d.rank)
            if not draft.problems:
                break
            shortened = said.text[: 4 * asking.max_tokens]
            told = (ChatMessage("assistant", shortened or "{}"), ChatMessage("user", feedback(draft)))
            asking = replace(asking, messages=(*asking.messages, *told))
            needed = view.counter.count_prompt(asking.messages) + asking.max_tokens + SLACK_TOKENS
            if needed > view.window_tokens:
                break  # no room for one draft more
        return (judge.unchanged if best.same else best), tuple(dict.fromkeys(problems))[:MAX_REASONS]

    def _whose(self, block: Block, people: Mapping[str, str | None]) -> tuple[str | None, str]:
        """Whose profile a block is (people without names are one, ""), or None and why that is not known ("": nobody
        whose profile it can be said anything new)."""
        if self.person:
            return self.person, ""
        if len(people) < 2:
            return next(iter(people.values()), None), ""
        lines = [slot_of(line) for line in block.value.split("\n")]
        named = {digest(value) for slot, value in lines if slot in ("name", "goes by")}
        found = [name for key, name in people.items() if key in named]
        if len(found) == 1:
            return found[0], ""
        names = sorted(name or "one without a name" for name in people.values() if name is not None)
        shown = ", ".join(names[:3]) + (", ..." if len(people) > min(len(names), 3) else "")
        return None, (
            f"block {block.label!r}: several people speak ({shown}), so it is not known whose profile it is; say"
            f" profile?person=NAME"
        )

    def _key(self, label: str) -> str:
        return f"{label}={digest(self.person)}" if self.person else label


class _Notes:
    """The strategy's cursor: how far each block has come, and what has to be known of it; no text of a user."""

    def __init__(self, cursor: Any) -> None:
        self._states: dict[str, Any] = dict(cursor) if isinstance(cursor, dict) else {}

    def of(self, key: str) -> dict[str, Any]:
        return {"to": 0, "people": [], **self._states.get(key, {})}

    def put(self, key: str, state: Mapping[str, Any], to: int) -> dict[str, Any]:
        """The cursor to commit."""
        self._states = {**self._states, key: {**state, "to": to}}
        return self._states


def _people(state: Mapping[str, Any], new: Sequence[Message]) -> dict[str, str | None]:
    """The people who spoke so far, by digest; the names of those who said something new."""
    known: dict[str, str | None] = dict.fromkeys(state["people"])
    for m in new:
        if m.role == "user" and (len(known) < MAX_PEOPLE or digest(m.name or "") in known):
            known[digest(m.name or "")] = m.name or ""
    return known


def _block(view: View, label: str) -> Block | None:
    """A block that may be written."""
    return next((b for b in view.blocks() if b.label == label and not b.read_only), None)


def _of(person: str, messages: Sequence[Message]) -> list[Message]:
    return [m for m in messages if m.role == "user" and (m.name or "") == person]


def _windows(view: View, block: Block, new: Sequence[Message]) -> list[list[Message]]:
    """The messages in runs that leave room for the block, an answer, and one more draft with what is wrong with it.

    Raises ConfigError where the model's window has no room for one message."""
    tokens = _answer_tokens(view, block)
    free = room(view, INSTRUCTION, 2 * tokens, task(block, "somebody", "")) - block.max_tokens
    free = min(RECORD_TOKENS, free)
    out: list[list[Message]] = []
    rest = list(new)
    while rest:
        found = fitting(view, rest, free, RECORD_CHARS)
        if not found:
            raise ConfigError(
                "window_tokens", view.window_tokens, f"leaves no room for one message beside block {block.label!r}",
                hint="take a model with a longer window, or lower the block's max_tokens",
            )  # fmt: skip
        out.append(found)
        rest = rest[len(found) :]
    return out


def _answer_tokens(view: View, block: Block) -> int:
    return answer_tokens(view, 2 * block.max_tokens + 128)


def _asking(view: View, block: Block, person: str, shown: Material) -> Request:
    return request(view, INSTRUCTION, task(block, person, shown.text), SCHEMA, _answer_tokens(view, block))


def _still(text: str, since: Mapping[str, float]) -> dict[str, float]:
    """What is noted of lines that still stand there."""
    there = {digest(line) for line in text.split("\n")}
    return {name: at for name, at in since.items() if name in there}


def _why(done: Sequence[str]) -> str:
    text = "; ".join(done)
    return text if len(text) <= 400 else text[:397] + "..."
