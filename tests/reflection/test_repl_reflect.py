"""/reflect in a chat with a model: planned, agreed to, kept within, stopped, and the conversation is as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agentmem.agent import Agent
from agentmem.errors import ConfigError, UnknownNameError
from agentmem.memory import Memory
from agentmem.reflection import reflect
from agentmem.repl_reflect import BATCH_SIZE, STOPPED, reflect_here, undo_here
from agentmem.scripted import ScriptedBackend, tool_call
from agentmem.tokens import AdditiveCounter
from agentmem.types import Completion, Request
from tests.reflection.toys import noted

Make = Callable[..., Memory]
NOTES = "tests.reflection.toys:Notes"


class Chatting(ScriptedBackend):
    """Says "Fine." to a turn, and to what reflection asks whatever `answer` says."""

    def __init__(self, answer: Callable[[Request], Completion] = noted, name: str = "scripted") -> None:
        super().__init__([self._line] * 999)
        self.name = name
        self.answer = answer
        self.reflected: list[Request] = []
        self.turns: list[Request] = []
        self.batches: list[int] = []

    def generate(self, requests: Any) -> list[Completion]:
        self.batches.append(len(requests))
        return super().generate(requests)

    def _line(self, request: Request) -> Completion:
        if request.tools:
            self.turns.append(request)
            return tool_call("send_message", message="Fine.")
        self.reflected.append(request)
        return self.answer(request)


class Person:
    """Answers questions with the given words, and keeps what was said and asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.lines: list[str] = []
        self.questions: list[str] = []

    def ask(self, question: str) -> str:
        self.questions.append(question)
        return self.answers.pop(0) if self.answers else ""

    @property
    def told(self) -> str:
        return "\n".join(self.lines)


def chat(memory: Memory, backend: ScriptedBackend | str) -> Agent:
    for n in range(7):
        memory.observe("user", f"Anna spoke of harbour number {n} and of tea.", name="Anna")
    agent = Agent(memory, backend)
    for n in range(3):
        agent.send(f"And number {n}?")
    return agent


def reflected(agent: Agent, rest: str = NOTES, *answers: str) -> Person:
    person = Person(*answers)
    reflect_here(agent, rest, person.lines.append, person.ask)
    return person


def conversation(agent: Agent) -> dict[str, Any]:
    """All that a prompt is made of, byte by byte."""
    memory = agent.memory
    prompt = memory.render(query="Where is Anna?")
    epoch, queue = memory.pager.state()
    return {
        "prefix": json.dumps([m.to_dict() for m in prompt.messages[:-1]]),
        "last": json.dumps(prompt.messages[-1].to_dict()),
        "ledger": prompt.ledger,
        "epoch": epoch,
        "queue": [(m.ref, m.content) for m in queue],
        "shape": memory.shape,
        "config": memory.config,
        "budget": memory.budget,
        "blocks": [(b.label, b.value, b.version) for b in memory.records.journal.blocks()],
    }


def kept(found: dict[str, Any]) -> dict[str, Any]:
    """What stays when a job wrote something: all before the last message, into which new passages may be paged in."""
    counts = {n: v for n, v in found["ledger"].sections.items() if n not in ("tail", "template")}
    return {**{n: v for n, v in found.items() if n not in ("last", "blocks")}, "ledger": counts}


def states(memory: Memory) -> list[tuple[str, str]]:
    return [(row.ref, row.state) for row in memory.records.jobs.all()]


def test_the_plan_is_shown_and_the_job_runs_when_the_person_agrees(memory_factory: Make) -> None:
    agent = chat(memory_factory(), Chatting())
    backend = agent.backend
    assert isinstance(backend, Chatting)
    person = reflected(agent, NOTES, "y\n")
    # Seven messages and three rounds of two: five windows of three.
    plan = person.lines[:2]
    assert plan[0].split()[:5] == ["agent", "strategy", "form", "records", "calls"]
    assert plan[1].split()[1:5] == ["notes", "model", "13", "5"]
    assert "5 calls" in person.lines[2]
    assert len(person.questions) == 1
    assert "within 5 calls" in person.questions[0]
    assert len(backend.reflected) == 5
    assert "notes (by the model)" in person.told
    assert states(agent.memory) == [("j1", "done")]
    second = reflected(agent)
    assert second.questions == [] and second.lines == ["default: nothing new"], "nothing to ask, nothing to agree to"


@pytest.mark.parametrize("answer", ["n\n", "", "\n", "yesterday\n", "j\n"])
def test_without_a_yes_nothing_is_asked_and_nothing_changes(memory_factory: Make, answer: str) -> None:
    agent = chat(memory_factory(), Chatting())
    before = conversation(agent)
    person = reflected(agent, NOTES, answer)
    assert agent.backend.reflected == []  # type: ignore[attr-defined]
    assert states(agent.memory) == []
    assert "--rules" in person.lines[-1]
    assert conversation(agent) == before


def test_rules_ask_nobody(memory_factory: Make) -> None:
    agent = chat(memory_factory(), Chatting())
    person = reflected(agent, f"{NOTES} --rules")
    assert person.questions == [] and agent.backend.reflected == []  # type: ignore[attr-defined]
    assert "notes (by rules)" in person.told
    assert [row.backend for row in agent.memory.records.jobs.all()] == ["none"]


def test_a_chat_without_a_model_goes_by_rules(memory_factory: Make) -> None:
    agent = chat(memory_factory(), "extractive")
    person = reflected(agent)
    assert person.questions == []
    assert "notes (by rules)" in person.told
    with pytest.raises(ConfigError, match="no language model") as caught:
        reflected(agent, f"{NOTES} --model")
    assert "--backend" in caught.value.hint


def test_a_dry_run_shows_the_plan_and_asks_nobody(memory_factory: Make) -> None:
    agent = chat(memory_factory(), Chatting())
    person = reflected(agent, f"--dry-run {NOTES}")
    assert "5 calls" in person.told and person.questions == []
    assert agent.backend.reflected == [] and states(agent.memory) == []  # type: ignore[attr-defined]
    assert "no model is asked" in reflected(agent, f"--rules {NOTES} --dry-run").told


@pytest.mark.parametrize(
    ("options", "calls", "reason"),
    [("--max-calls 2", 2, "the budget of 2 calls"), ("--max-tokens 0", 0, "the budget of 0 tokens"),
     ("--max-seconds 0", 0, "the budget of 0 seconds")],
)  # fmt: skip
def test_what_was_agreed_to_is_kept_and_the_next_one_goes_on(
    memory_factory: Make, options: str, calls: int, reason: str
) -> None:
    agent = chat(memory_factory(), Chatting())
    backend = agent.backend
    assert isinstance(backend, Chatting)
    person = reflected(agent, f"{options} {NOTES} --yes")
    assert person.questions == [], "--yes answers before it is asked"
    assert len(backend.reflected) == calls
    assert reason in person.told
    reflected(agent, NOTES, "y")
    assert len(backend.reflected) == 5, "what was answered is not asked again"


def test_the_plan_itself_is_a_limit(memory_factory: Make) -> None:
    """A strategy that asks more than it planned is stopped where the person's yes ends."""
    agent = chat(memory_factory(), Chatting())
    person = reflected(agent, "tests.reflection.test_repl_reflect:Greedy", "y")
    assert "within 1 calls" in person.questions[0]
    assert len(agent.backend.reflected) == 1  # type: ignore[attr-defined]
    assert "the budget of 1 calls is spent" in person.told


@pytest.mark.parametrize("exact", [True, False])
def test_the_person_is_asked_for_the_tokens_of_the_plan(memory_factory: Make, exact: bool) -> None:
    """With a fourth part more where they are estimated."""
    backend = Chatting(lambda _request: Completion('{"pairs": []}'))
    backend.counter = AdditiveCounter(lambda text: -(-len(text) // 4), name="letters", exact=exact)
    memory = memory_factory()
    memory.archive("Anna adores tea.", valid_from="2022-01-01")
    memory.archive("Anna says tea is awful.", valid_from="2023-01-01")
    agent = chat(memory, backend)
    (plan,) = reflect(memory, "consolidate", backend=backend, dry_run=True)
    tokens = plan.strategies[0].estimate.tokens
    person = reflected(agent, "consolidate", "y")
    assert f"within 1 calls, {tokens if exact else tokens + tokens // 4:,} tokens?" in person.questions[0]
    assert len(backend.reflected) == 1
    memory.archive("Anna loathes tea.", valid_from="2024-01-01")
    less = reflected(agent, "consolidate --max-tokens 10 --max-seconds 1.5", "y")
    assert "within 1 calls, 10 tokens, 1.5 seconds?" in less.questions[0]
    assert "the budget of 10 tokens is spent" in less.told and len(backend.reflected) == 1


def test_ctrl_c_leaves_a_job_that_goes_on(memory_factory: Make) -> None:
    backend = Chatting()
    agent = chat(memory_factory(), backend)
    for n in range(3 * BATCH_SIZE):
        agent.memory.observe("user", f"Tom spoke of ship number {n}.", name="Tom")
    before = conversation(agent)
    calls = 0

    def interrupted(request: Request) -> Completion:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return noted(request)

    backend.answer = interrupted
    person = reflected(agent, NOTES, "y")
    assert person.lines[-1] == STOPPED
    assert states(agent.memory) == [("j1", "running")]
    assert kept(conversation(agent)) == kept(before), "a note was written, and the prompt's beginning is as it was"
    assert agent.send("Are you still there?").text == "Fine."
    backend.answer = noted
    done = reflected(agent, NOTES, "y")
    assert "job j1" in done.told and "taken up where it was interrupted" in done.told
    assert states(agent.memory) == [("j1", "done")]
    texts = [p.text for p in agent.memory.records.archival.after(0) if p.kind == "note"]
    assert len(texts) == len(set(texts)) >= 13


def test_ctrl_c_at_the_question_changes_nothing(memory_factory: Make) -> None:
    agent = chat(memory_factory(), Chatting())
    before = conversation(agent)

    def ask(_question: str) -> str:
        raise KeyboardInterrupt

    said: list[str] = []
    reflect_here(agent, NOTES, said.append, ask)
    assert said[-1] == STOPPED
    assert states(agent.memory) == [] and conversation(agent) == before


def test_questions_go_in_small_batches(memory_factory: Make) -> None:
    """So that Ctrl-C loses the answers of few."""
    agent = chat(memory_factory(), Chatting())
    for n in range(20):
        agent.memory.archive(f"Anna said of tea that it is number {n}.")
    backend = agent.backend
    assert isinstance(backend, Chatting)
    backend.batches.clear()
    backend.answer = lambda _request: Completion('{"pairs": []}')
    reflected(agent, "consolidate", "y")
    assert max(backend.batches) <= BATCH_SIZE < sum(backend.batches)


@pytest.mark.parametrize("how", ["nothing found", "by rules", "declined", "the model fails"])
def test_a_reflect_that_changed_nothing_leaves_the_conversation_byte_by_byte(memory_factory: Make, how: str) -> None:
    answers = {"nothing found": '{"pairs": []}', "the model fails": "nonsense"}
    backend = Chatting(lambda _request: Completion(answers.get(how, "")))
    memory = memory_factory()
    memory.archive("Anna adores tea.", valid_from="2022-01-01")
    memory.archive("Anna says tea is awful.", valid_from="2023-01-01")
    agent = chat(memory, backend)
    twin = Chatting()
    other = memory_factory(name="twin.db")
    other.archive("Anna adores tea.", valid_from="2022-01-01")
    other.archive("Anna says tea is awful.", valid_from="2023-01-01")
    unharmed = chat(other, twin)
    before = conversation(agent)
    reflected(agent, "consolidate --rules" if how == "by rules" else "consolidate", "n" if how == "declined" else "y")
    assert len(backend.reflected) == (1 if how in answers else 0)
    assert conversation(agent) == before
    # And so is the next turn, beside a chat that never reflected.
    assert agent.send("Where is Anna?").ledger == unharmed.send("Where is Anna?").ledger
    said, wanted = (
        [[m.content for m in r.messages] for r in b.turns] for b in (backend, twin)
    )  # fmt: skip
    assert said == wanted


def test_what_a_job_wrote_into_core_memory_stands_in_the_prompt_from_the_next_epoch_on(memory_factory: Make) -> None:
    agent = chat(memory_factory(), Chatting())
    before = conversation(agent)
    reflected(agent, NOTES, "y")
    assert agent.memory.core["human"].value.startswith("Notes: up to ")
    assert kept(conversation(agent)) == kept(before)
    agent.send("And now?")
    assert "Notes: up to" not in agent.backend.turns[-1].messages[0].content  # type: ignore[attr-defined]
    epoch = agent.memory.pager.state()[0].number
    for _ in range(30):
        agent.send("The road over the pass is long. " * 100)
        if agent.memory.pager.state()[0].number > epoch:
            break
    agent.send("And now?")
    assert "Notes: up to" in agent.backend.turns[-1].messages[0].content  # type: ignore[attr-defined]
    said: list[str] = []
    undo_here(agent.memory, "", said.append)
    assert agent.memory.core["human"].value == "" and "is undone" in said[0]


def test_the_model_of_the_chat_is_named_in_the_job(memory_factory: Make) -> None:
    agent = chat(memory_factory(), Chatting(name="toy-model"))
    reflected(agent, NOTES, "yes")
    assert [row.backend for row in agent.memory.records.jobs.all()] == ["toy-model"]


@pytest.mark.parametrize(
    ("rest", "error", "says"),
    [
        ("--rules --model", ConfigError, "not allowed with"),
        ("--max-calls many", ConfigError, "invalid int"),
        ("--max-calls -1", ConfigError, "must not be negative"),
        ("--no-such", ConfigError, "--no-such"),
        ("--rule", ConfigError, "--rule"),
        ("'", ConfigError, "No closing quotation"),
        ("nosuch", UnknownNameError, "nosuch"),
        (f"{NOTES} {NOTES}", ConfigError, "named twice"),
    ],
)
def test_what_can_not_be_understood_is_said(memory_factory: Make, rest: str, error: type[Exception], says: str) -> None:
    agent = chat(memory_factory(), Chatting())
    before = conversation(agent)
    with pytest.raises(error) as caught:
        reflected(agent, rest, "y")
    assert says in str(caught.value)
    assert conversation(agent) == before and states(agent.memory) == []


def test_options_may_stand_between_names(memory_factory: Make) -> None:
    agent = chat(memory_factory(), Chatting())
    person = reflected(agent, f"consolidate --rules {NOTES}")
    assert "consolidate (by rules)" in person.told and "notes (by rules)" in person.told


class Greedy:
    """Asks more than it says."""

    name = "greedy"
    version = 1
    forms = ("model",)

    def estimate(self, view: Any) -> Any:
        from agentmem.reflection import Estimate

        return Estimate(1, 1, 1000, 1000)

    def run(self, view: Any) -> Any:
        from agentmem.reflection.strategy import ask, propose
        from agentmem.types import ChatMessage

        for n in range(5):
            yield from ask([Request((ChatMessage("user", f"Number {n}?"),), max_tokens=5)])
        yield from propose([], cursor=1)
