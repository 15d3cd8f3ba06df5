"""The agent loop: one turn is a user message, model calls with memory tools, and a reply.

The order is MemGPT's (arXiv 2310.08560, section 2.3) with its known faults mended: the user's message is committed
before anything else; pressure is checked before each call with the backend's own token counts; a failed call comes
back to the model and forces a heartbeat; the same failure twice ends the turn; all effects of a step commit together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentmem import drafts, registry
from agentmem.citing import cited, clean, page_payload
from agentmem.context import fingerprint
from agentmem.errors import BadCompletionError, RepeatedFailureError, StepLimitError
from agentmem.memory import Memory
from agentmem.parsing import StreamFilter, strip_thinking, text_calls
from agentmem.planning import Ask, Fitted, Shape
from agentmem.protocols import Backend, StreamingBackend
from agentmem.summary import by_backend, without_model
from agentmem.times import clock_words, parse_time
from agentmem.tools import SPECS, Toolbox, ToolResult
from agentmem.types import (
    EMPTY_PAGE,
    Answer,
    Block,
    Completion,
    Draft,
    Event,
    Ledger,
    Message,
    Page,
    Pressure,
    Reply,
    ReplyChunk,
    Request,
    ToolCall,
    Usage,
)  # fmt: skip

if TYPE_CHECKING:
    from agentmem.config import AgentConfig
    from agentmem.summary import Summarise


@dataclass(slots=True)
class _Turn:
    """A turn in progress."""

    user: Message
    asked_at: datetime
    store: bool
    messages: list[Message]
    steps: int = 0
    empty: int = 0
    flushed: bool = False
    warned: bool = False
    page: Page | None = None
    ledger: Ledger | None = None
    usage: Usage = field(default_factory=Usage)
    said: list[str] = field(default_factory=list)
    answer: Answer | None = None
    failure: tuple[str, str, str] | None = None
    events: list[Event] = field(default_factory=list)


class Agent:
    """An agent over a memory. `backend` is a spec ("extractive", "openai:URL#MODEL") or an object.

    The backend's window is used where it says one and the memory was not given one.
    """

    def __init__(
        self,
        memory: Memory,
        backend: str | Backend = "extractive",
        *,
        config: AgentConfig | None = None,
        **settings: Any,
    ) -> None:
        from agentmem.config import AgentConfig

        self.memory = memory
        self.config = config if config is not None else AgentConfig.create(**settings)
        made = registry.make_backend(backend, memory.embedder) if isinstance(backend, str) else backend
        self.backend: Backend = made
        native = self.backend.native_tools and self.config.tools
        memory.use(Shape(self.backend.counter, SPECS if native else (), native), self.backend.context_window)
        self._summarise: Summarise = without_model
        if self.backend.native_tools:
            self._summarise = by_backend(self.backend, lambda reason: self._note("summary_fallback", reason))

    def send(
        self, text: str, *, name: str | None = None, at: datetime | str | None = None, store: bool = True
    ) -> Reply:
        """One turn. With `store=False` memory is left as it was.

        Raises BackendError, StepLimitError, RepeatedFailureError; the user's message is in recall even then.
        """
        reply: Reply | None = None
        for chunk in self._run(text, name, at, store, stream=False):
            reply = chunk.reply or reply
        assert reply is not None
        return reply

    def stream(
        self, text: str, *, name: str | None = None, at: datetime | str | None = None, store: bool = True
    ) -> Iterator[ReplyChunk]:
        """One turn, piece by piece. Closing the iterator stops the reply; what was said so far is kept in recall."""
        return self._run(text, name, at, store, stream=True)

    def close(self) -> None:
        """Close the backend; the memory belongs to the caller."""
        self.backend.close()

    # -- the loop ---------------------------------------------------------------------------------------------

    def _run(self, text: str, name: str | None, at: Any, store: bool, *, stream: bool) -> Iterator[ReplyChunk]:
        turn = self._begin(text, name, parse_time(at) if at is not None else None, store)
        listener = self.memory.on_event

        def gather(event: Event) -> None:
            turn.events.append(event)
            if listener is not None:
                listener(event)

        self.memory.on_event = gather
        try:
            visible = ""
            while True:
                turn.steps += 1
                fitted = self._prompt(turn)
                completion = Completion("")
                for piece in self._answer(self._request(turn, fitted), stream):
                    if isinstance(piece, Completion):
                        completion = piece
                    else:
                        visible += piece
                        yield ReplyChunk(self._joined(turn, visible, piece))
                done, more = self._take(turn, completion, visible)
                visible = ""  # stored now: a reader who leaves from here on stops nothing
                if more:
                    yield ReplyChunk(more)
                if done:
                    break
            yield ReplyChunk("", self._reply(turn))
        except (GeneratorExit, KeyboardInterrupt):
            self._stopped(turn, visible)
            raise
        finally:
            self.memory.on_event = listener

    @staticmethod
    def _joined(turn: _Turn, visible: str, piece: str) -> str:
        """A piece of this step's text; the first one stands on a line of its own after an earlier step's."""
        return f"\n{piece}" if turn.said and len(visible) == len(piece) else piece

    def _stopped(self, turn: _Turn, visible: str) -> None:
        """Keep what the user has seen of a reply that they stopped."""
        if turn.store and (text := clean(visible).strip()):
            with self.memory.store.write():
                draft = Draft("assistant", text, at=turn.asked_at, derived=not self.backend.native_tools)
                self.memory.append([draft])
                self.memory.touch(turn.page, turn.asked_at)
                self.memory.log("stopped", {"turn": turn.user.id, "step": turn.steps})

    def _begin(self, text: str, name: str | None, at: datetime | None, store: bool) -> _Turn:
        memory = self.memory
        asked_at = at or memory.clock()
        flushed = False
        draft = drafts.check(Draft("user", text, name, asked_at))
        if store:
            with memory.store.write():
                user = memory.append([draft])[0]
            flushed = bool(memory.relieve(self._summarise, hold_from=user.id))
        else:
            number = memory.records.recall.last_id() + 1
            user = Message(number, "user", text, asked_at, asked_at, name)
        return _Turn(user, asked_at, store, [user], flushed=flushed)

    def _prompt(self, turn: _Turn) -> Fitted:
        memory = self.memory
        fitted = self._fitted(turn)
        first = memory.pager.state()[0].first_message
        # Within a turn the queue stays as it is while it fits: its prefix is worth keeping.
        shortened = fitted.plan.first > first
        if shortened and turn.store and turn.steps > 1 and memory.relieve(self._summarise, hold_from=turn.user.id):
            fitted = self._fitted(turn)
        if turn.store:
            self._log_prompt(turn, fitted)
        turn.page = fitted.page
        turn.ledger = turn.ledger or fitted.ledger
        return fitted

    def _fitted(self, turn: _Turn) -> Fitted:
        memory = self.memory
        epoch, queued = memory.pager.state()
        queue = [m for m in queued if m.id < turn.user.id]
        turn.warned = turn.warned or self._warn(turn, epoch.number)
        ask = Ask(
            turn=tuple(turn.messages),
            clock=clock_words(turn.asked_at),
            pressure=turn.warned,
            last_step=turn.steps == self.config.max_steps and memory.shape.native_tools,
            page=turn.page,
            page_share=memory.page_share,
            page_min=memory.budget.page_floor,
            page_max=memory.budget.page_max,
            pageable=memory.pageable(),
        )
        said = turn.user.content
        return memory.fit(ask, epoch, queue, memory.budget.max_tokens, said, turn.asked_at)

    def _log_prompt(self, turn: _Turn, fitted: Fitted) -> None:
        memory = self.memory
        prompt = {
            "turn": turn.user.id,
            "step": turn.steps,
            "plan": fitted.plan.to_payload(),
            "sha256": fingerprint(fitted.written),
            "tokens": dict(fitted.ledger.sections),
            "total": fitted.ledger.total,
        }
        with memory.store.write():
            if turn.page is None:
                memory.log("page_in", page_payload(turn.user, fitted.page))
            memory.log("prompt", prompt)

    def _warn(self, turn: _Turn, epoch: int) -> bool:
        """The pressure note: once an epoch, not right after a flush, and only to a model that could act on it."""
        memory = self.memory
        if not memory.shape.native_tools or not turn.store or turn.steps > 1 or turn.flushed:
            return False
        if memory.pager.pressure(memory.budget, memory.shape) is not Pressure.WARN:
            return False
        if memory.records.journal.get_cursor("warned") == epoch:
            return False
        with memory.store.write():
            memory.records.journal.put_cursor("warned", epoch, memory.clock())
            memory.log("pressure", {"epoch": epoch, "used": memory.pager.used(memory.budget, memory.shape)})
        return True

    def _request(self, turn: _Turn, fitted: Fitted) -> Request:
        blocks: tuple[Block, ...] = self.memory.records.journal.blocks()
        last = turn.steps == self.config.max_steps
        offered = SPECS if self.config.tools and (turn.store or self.memory.shape.native_tools) else ()
        return Request(
            messages=tuple(w.message() for w in fitted.written),
            tools=offered,
            max_tokens=self.memory.config.reserve,
            temperature=self.config.temperature,
            seed=self.config.seed,
            only_tool="send_message" if last and self.memory.shape.native_tools else None,
            query=turn.user.content,
            page=fitted.page,
            asked_at=turn.asked_at,
            blocks=blocks,
        )

    def _answer(self, request: Request, stream: bool) -> Iterator[str | Completion]:
        """The visible text in pieces, then the completion."""
        if stream and isinstance(self.backend, StreamingBackend):
            visible = StreamFilter()
            completion: Completion | None = None
            for chunk in self.backend.stream(request):
                if piece := visible.feed(chunk.text):
                    yield piece
                completion = chunk.completion or completion
            if completion is None:
                raise BadCompletionError("the stream ended without a completion", hint="ask again")
            # What was held back belongs to the text only if it was no tool call.
            text, _ = text_calls(strip_thinking(completion.text), request.tools, 0)
            if len(text) > len(visible.shown) and text.startswith(visible.shown):
                yield text[len(visible.shown) :]
            yield completion
            return
        completions = self.backend.generate([request])
        if len(completions) != 1:
            raise BadCompletionError(f"the backend gave {len(completions)} completions for one request")
        text, _ = text_calls(strip_thinking(completions[0].text), request.tools, 0)
        if text:
            yield text
        yield completions[0]

    def _take(self, turn: _Turn, completion: Completion, visible: str) -> tuple[bool, str]:
        """Store a step's output and its effects; whether the turn is done, and what else there is to show."""
        memory = self.memory
        turn.usage = turn.usage + completion.usage
        turn.answer = completion.answer or turn.answer
        text = clean(visible)
        calls = completion.tool_calls
        if not calls and self.config.tools:
            text, calls = text_calls(clean(strip_thinking(completion.text)), SPECS, 1000 * turn.user.id + turn.steps)
            text = clean(visible) or text
        calls = tuple(
            ToolCall(clean(c.id) or f"call_{n}", clean(c.name), clean(c.arguments)) for n, c in enumerate(calls)
        )
        if not text and not calls:
            turn.empty += 1
            if turn.store:
                memory.log("empty_reply", {"turn": turn.user.id, "step": turn.steps})
            if turn.empty > 1 or turn.steps >= self.config.max_steps:
                raise BadCompletionError("the model answered with nothing, twice", hint="ask again, or another model")
            return False, ""
        results = self._effects(turn, text, calls, completion.derived)
        shown = [r.message for r in results if r.message]
        before = len(turn.said) + bool(text)
        if text:
            turn.said.append(text)
        turn.said += shown
        more = "".join(f"\n{m}" if before + n else m for n, m in enumerate(shown))
        self._check_repeated(turn, calls, results)
        if turn.steps >= self.config.max_steps and not turn.said:
            raise StepLimitError(
                f"no reply within {turn.steps} steps", steps=turn.steps, hint="raise max_steps, or ask again"
            )
        again = any(r.heartbeat or r.failed for r in results) or not turn.said
        return not again or turn.steps >= self.config.max_steps, more

    def _effects(self, turn: _Turn, text: str, calls: tuple[ToolCall, ...], derived: bool) -> list[ToolResult]:
        """Carry out the calls; the output, the results and all effects commit together, or not at all."""
        memory = self.memory
        toolbox = Toolbox(memory, sources=(turn.user.ref,), read_only=not turn.store)
        output = Draft("assistant", text, at=turn.asked_at, tool_calls=calls, derived=derived)
        if not turn.store:
            results = [toolbox.run(c) for c in calls]
            self._keep_unstored(turn, output, calls, results)
            return results
        try:
            with memory.store.write():
                results = [toolbox.run(c) for c in calls]
                tools = [
                    Draft("tool", r.text, at=turn.asked_at, tool_call_id=c.id)
                    for c, r in zip(calls, results, strict=True)
                ]
                turn.messages += memory.append([output, *tools])
                memory.touch(turn.page, turn.asked_at)
                memory.log(
                    "step",
                    {
                        "turn": turn.user.id,
                        "step": turn.steps,
                        "message": turn.messages[-1 - len(tools)].id,
                        "tools": [c.name for c in calls],
                        "failed": [c.name for c, r in zip(calls, results, strict=True) if r.failed],
                    },
                )
        except BaseException:
            memory.pager.forget()
            raise
        return results

    @staticmethod
    def _keep_unstored(turn: _Turn, output: Draft, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> None:
        number = turn.messages[-1].id + 1
        at = turn.asked_at
        turn.messages.append(Message(number, "assistant", output.content, at, at, tool_calls=output.tool_calls))
        for n, (call, result) in enumerate(zip(calls, results, strict=True), 1):
            turn.messages.append(Message(number + n, "tool", result.text, at, at, tool_call_id=call.id))

    def _check_repeated(self, turn: _Turn, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> None:
        failed = [(c.name, c.arguments, r.text) for c, r in zip(calls, results, strict=True) if r.failed]
        if failed and failed[-1] == turn.failure:
            if turn.store:
                self.memory.log("repeated_failure", {"turn": turn.user.id, "step": turn.steps, "tool": failed[-1][0]})
            raise RepeatedFailureError(
                f"the model called {failed[-1][0]} the same way twice and it failed the same way: {failed[-1][2]}",
                steps=turn.steps,
                hint="the conversation so far is kept; rephrase, or use another model",
            )
        turn.failure = failed[-1] if failed else None

    def _reply(self, turn: _Turn) -> Reply:
        text = "\n".join(turn.said)
        page = turn.page or EMPTY_PAGE
        assert turn.ledger is not None
        answer = turn.answer
        return Reply(
            text=text,
            usage=turn.usage,
            ledger=turn.ledger,
            steps=turn.steps,
            answer=answer.span if answer is not None else "",
            citations=answer.citations if answer is not None else cited(text, page),
            abstained=answer.abstained if answer is not None else False,
            confidence=answer.confidence if answer is not None else None,
            page=page,
            events=tuple(turn.events),
        )

    def _note(self, kind: str, reason: str) -> None:
        self.memory.notices.append(reason)
        self.memory.log(kind, {"reason": reason})
