"""The ladder: ways to fill the prompt for a question, each measured on the same questions, backend, window and prompt.

Every rung has the same system text, the same task and the question last. What is read of memory stands between
`<memory>` tags; agentmem's own rungs have their queue and summary too, since that is how it keeps what is recent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from agentmem import prompts
from agentmem.answering import answer, interpret
from agentmem.cap_asked import Asked, costs, of_prompt, reused_tokens
from agentmem.cap_baselines import Choose, Dense, Lexical, Unranked, nothing, spoken
from agentmem.cap_meter import MeteredMemory
from agentmem.cap_scores import declined, without_citations
from agentmem.citing import clean
from agentmem.context import PromptPlan, render
from agentmem.errors import AgentRunError, BadCompletionError, ConfigError, ContextOverflowError
from agentmem.planning import Fitted
from agentmem.prefix import PrefixTracker, measured
from agentmem.protocols import ModelBackend, PromptTokenizer
from agentmem.reflection import reflect
from agentmem.reflection.strategies import DEFAULT
from agentmem.times import clock_words, parse_time
from agentmem.types import EMPTY_PAGE, Completion, Draft, Page, Request, Usage

if TYPE_CHECKING:
    from agentmem.agent import Agent
    from agentmem.cap_data import Question
    from agentmem.cap_ground import Ground
    from agentmem.protocols import Compressor

NO_MEMORY, LAST, FULL, DENSE, BM25 = "no memory", "last messages", "full context", "dense top-k", "BM25"
AGENTMEM, COMPRESSION, REFLECTION = "agentmem", "+ compression", "+ reflection"
BASELINES = (NO_MEMORY, LAST, FULL, DENSE, BM25)
OURS = (AGENTMEM, COMPRESSION, REFLECTION)
RUNGS = (*BASELINES, *OURS)
SHOWN_ONLY = (NO_MEMORY, LAST, FULL)
"""Rungs that reach no further than what stands in the prompt, whatever is asked."""


def rung_names(wanted: str) -> tuple[str, ...]:
    """The rungs of a comma-separated list, in the ladder's order. Raises ConfigError."""
    known = {_plain(name): name for name in RUNGS} | {"none": NO_MEMORY, "last": LAST, "full": FULL, "dense": DENSE}
    chosen = set()
    for name in filter(None, (part.strip() for part in wanted.split(","))):
        if _plain(name) not in known:
            raise ConfigError("rungs", name, "is no rung", hint=f"known: {', '.join(RUNGS)}")
        chosen.add(known[_plain(name)])
    if not chosen:
        raise ConfigError("rungs", wanted, "names no rung", hint=f"known: {', '.join(RUNGS)}")
    return tuple(name for name in RUNGS if name in chosen)


def _plain(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


class Rung:
    """One rung on one conversation. `write_s` are the seconds that each message took to write."""

    agent: Agent
    write_s: list[float]

    def history(self) -> tuple[int, int]:
        """Messages of the history, and their tokens."""
        counter = self.agent.shape.counter
        messages = [m for m in self.agent.memory.records.recall.since(1) if m.searchable]
        return len(messages), sum(counter.count(spoken(m)) for m in messages)

    def ask(self, question: Question) -> Asked:
        """Ask a question; nothing is stored. Raises BackendError."""
        raise NotImplementedError


class AgentRung(Rung):
    """agentmem as it is: a turn of its agent, its memory written message by message, and reflected on once, by rules,
    where that is asked for."""

    def __init__(self, ground: Ground, compressor: Compressor | None, *, reflects: bool = False) -> None:
        self._tools = ground.tools
        name = "reflected" if reflects else "plain" if compressor is None else "compressed"
        self.agent = ground.agent(name, embedder=ground.tools.embedder, compressor=compressor)
        memory = self.agent.memory
        assert isinstance(memory, MeteredMemory)
        self._memory = memory

        def write(drafts: Sequence[Draft]) -> None:
            if len(drafts) > 1:
                memory.ingest(drafts, strict=True)
                return
            for d in drafts:
                memory.observe(d.role, d.content, name=d.name, at=d.at, key=d.key, session=d.session)
            memory.catch_up()

        self.write_s = ground.written(ground.conversation.messages, write)
        if reflects:
            (report,) = reflect(memory, DEFAULT)
            if report.state == "stopped":
                raise ConfigError("rungs", REFLECTION, f"reflection stopped: {report.reason}")
        # What loads at the first search is no part of a turn's time.
        memory.render(query=ground.conversation.questions[0].query)

    def ask(self, question: Question) -> Asked:
        """A turn on the side."""
        memory, backend, clock = self._memory, self._tools.backend, self._tools.clock
        memory.reset(clock)
        memory.notices.clear()
        backend.calls.clear()
        started = clock()
        reply, error = None, ""
        try:
            if not self.agent.shape.model:
                reply = self.agent.send(question.query, at=question.at, store=False)
            else:  # streamed, for the time to the first token
                for chunk in self.agent.stream(question.query, at=question.at, store=False):
                    reply = chunk.reply or reply
        except (AgentRunError, BadCompletionError) as e:
            error = e.message  # the model's own failure: an answer that is not right
        first, last = memory.fitted[0], memory.fitted[-1]
        found = of_prompt(memory, first)
        if len(memory.fitted) > 1:
            found = replace(found, records=of_prompt(memory, last).records)
        at = backend.calls[0].started if backend.calls else clock()
        found = replace(
            found, retrieve_s=memory.page_s, assemble_s=max(0.0, at - started - memory.page_s), error=error,
            notices=tuple(dict.fromkeys(memory.notices)), **costs(backend),
        )  # fmt: skip
        if reply is None:
            return replace(found, calls=len(backend.calls))
        said = reply.answer if not self.agent.shape.model else without_citations(reply.text)
        return replace(
            found, said=said, text=reply.text, calls=reply.steps,
            tokens=reply.usage.prompt_tokens + reply.usage.completion_tokens, reused=reused_tokens(reply.prefixes),
            declined=declined(said) if self.agent.shape.model else reply.abstained,
        )  # fmt: skip


class BaselineRung(Rung):
    """Records chosen by other means, in a prompt of the same make."""

    def __init__(self, ground: Ground, name: str, choose: Choose, write_s: list[float]) -> None:
        self._tools = ground.tools
        self._salt = ground.salt(name)
        self.agent, _ = ground.base()
        self._choose = choose
        self.write_s = write_s
        self._prefixes = PrefixTracker()

    def ask(self, question: Question) -> Asked:
        """One call of the model."""
        agent, backend, clock = self.agent, self._tools.backend, self._tools.clock
        backend.calls.clear()
        started = clock()
        at = parse_time(question.at) if question.at is not None else agent.memory.clock()
        empty = self._fitted(question.query, at, EMPTY_PAGE)
        room = agent.memory.budget.max_tokens - empty.ledger.total - agent.shape.counter.count(prompts.memory_text(""))
        if empty.ledger.total > agent.memory.budget.max_tokens:
            raise ContextOverflowError(
                f"the question {question.id!r} with the system text", empty.ledger.total,
                agent.memory.budget.max_tokens, hint="give a larger --window",
            )  # fmt: skip
        choosing = clock()
        fitted = empty
        took = 0.0
        while room >= 1:
            begun = clock()
            page = self._choose(question.query, room)
            took += clock() - begun
            fitted = self._fitted(question.query, at, page)
            over = fitted.ledger.total - agent.memory.budget.max_tokens
            if over <= 0:
                break
            # Parts counted apart can be fewer tokens than the whole where a tokenizer is not additive.
            room, fitted = room - over - 1, empty
        assembled = clock() - choosing - took + (choosing - started)
        found = replace(of_prompt(agent.memory, fitted), retrieve_s=took, assemble_s=max(0.0, assembled))
        completion, text, error = self._answer(question, at, fitted)
        found = replace(found, text=text, error=error, calls=1, **costs(backend))
        if completion is None:
            return found
        usage: Usage = completion.usage
        block_size = agent.backend.block_size if isinstance(agent.backend, ModelBackend) else None
        report = self._prefixes.report(fitted, block_size)
        self._prefixes.answered(completion, "")
        reports = (measured(report, completion),) if report is not None else ()
        quoted = completion.answer
        said = without_citations(text) if agent.shape.model else quoted.span if quoted is not None else ""
        return replace(
            found, said=said, tokens=usage.prompt_tokens + usage.completion_tokens, reused=reused_tokens(reports),
            declined=declined(said) if agent.shape.model else quoted is not None and quoted.abstained,
        )  # fmt: skip

    def _fitted(self, query: str, at: datetime, page: Page) -> Fitted:
        shape, memory = self.agent.shape, self.agent.memory
        epoch, _ = memory.pager.state()
        plan = PromptPlan(
            epoch.number, 1, 0, query=query, summary=False, clock=clock_words(at),
            # No tools: what is read is all that there is.
            mode="off" if shape.model else "none", pieces=tuple(i.piece for i in page.items),
        )  # fmt: skip
        written = render(plan, epoch, {}, page.items)
        counter = shape.counter
        encoding = (
            counter.encode_prompt([w.message() for w in written]) if isinstance(counter, PromptTokenizer) else None
        )
        ledger = shape.books.ledger(written, (), memory.budget.max_tokens, encoding)
        return Fitted(plan, written, ledger, page, encoding)

    def _answer(self, question: Question, at: datetime, fitted: Fitted) -> tuple[Completion | None, str, str]:
        agent = self.agent
        request = Request(
            messages=tuple(w.message() for w in fitted.written), max_tokens=agent.memory.config.reserve,
            temperature=agent.config.temperature, seed=agent.config.seed, query=question.query, page=fitted.page,
            asked_at=at, blocks=agent.memory.pager.state()[0].blocks, cache_salt=self._salt,
        )  # fmt: skip
        completion = None
        mode = fitted.plan.mode
        try:
            for piece in answer(self._tools.backend, request, mode, stream=agent.shape.model):
                completion = piece if isinstance(piece, Completion) else completion
        except BadCompletionError as e:
            return None, "", e.message
        assert completion is not None
        return completion, clean(interpret(completion, mode, 0)[0]), ""


def open_rung(name: str, ground: Ground) -> Rung:
    """A rung on a conversation, its history written. Raises ConfigError, BackendError."""
    tools = ground.tools
    if name in OURS:
        compressor = tools.compressor if name != AGENTMEM else None
        return AgentRung(ground, compressor, reflects=name == REFLECTION)
    agent, stored = ground.base()
    memory, counter = agent.memory, agent.shape.counter
    messages = [m for m in memory.records.recall.since(1) if m.searchable]
    if name == DENSE:
        assert tools.embedder is not None
        dense = Dense(tools.embedder, counter, tools.settings.top_k)
        embedded = ground.written(messages, dense.add)
        return BaselineRung(ground, name, dense, [a + b for a, b in zip(stored, embedded, strict=False)])
    if name == BM25:
        return BaselineRung(ground, name, Lexical(memory, tools.settings.top_k), stored)
    # A list in the process: nothing is written.
    unwritten = [0.0] * len(stored)
    if name == NO_MEMORY:
        return BaselineRung(ground, name, nothing, unwritten)
    return BaselineRung(ground, name, Unranked(messages, counter, middle_out=name == FULL), unwritten)
