"""The agent loop: one turn is a user message, model calls with memory tools, and a reply.

The order is MemGPT's (arXiv 2310.08560, section 2.3) with its known faults mended: the user's message is committed
before anything else; pressure is checked before each call with the backend's own token counts; a failed call comes
back to the model and forces a heartbeat; the same failure twice ends the turn; all effects of a step commit together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentmem import drafts, registry
from agentmem.actions import action_schema
from agentmem.answer_cache import AnswerCache, Chunks
from agentmem.answering import answer, interpret
from agentmem.citing import as_said, clean, page_payload, whole_words
from agentmem.context import fingerprint
from agentmem.encoding import ToolMode
from agentmem.errors import BadCompletionError, ConfigError, ContextOverflowError, RepeatedFailureError, StepLimitError
from agentmem.memory import Memory
from agentmem.planning import Ask, Fitted, Shape, head_cost
from agentmem.prefix import PrefixTracker, measured
from agentmem.protocols import Backend, ModelBackend, PromptTokenizer
from agentmem.queue import chat_message
from agentmem.steps import carry_out
from agentmem.summarising import ModelSummariser
from agentmem.summary import without_model
from agentmem.times import clock_words, parse_time
from agentmem.tools import SPECS, ToolResult
from agentmem.turn import Turn
from agentmem.types import (
    Completion,
    Draft,
    Event,
    Message,
    Pressure,
    Reply,
    ReplyChunk,
    Request,
    ToolCall,
)  # fmt: skip

if TYPE_CHECKING:
    from agentmem.config import AgentConfig
    from agentmem.summary import Summarise


class Agent:
    """An agent over a memory. `backend` is a spec ("extractive", "openai:URL#MODEL") or an object.

    The backend's window is used where it says one and the memory was not given one.

    Raises ConfigError for a window larger than the backend's and for a tool mode that it can't serve, and
    ContextOverflowError when system, tools and core memory leave no room for a prompt.
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
        try:
            self._fit_backend()
            self._answers = AnswerCache(memory, made, self.config)
        except BaseException:
            if isinstance(backend, str):
                made.close()
            raise
        self._prefixes = PrefixTracker()
        self.summariser = ModelSummariser(
            memory, made, lambda reason: self._note("summary_fallback", reason), self.config.cache_salt
        )
        self._summarise: Summarise = self.summariser if self.shape.model else without_model

    @property
    def shape(self) -> Shape:
        """How the backend sees a prompt."""
        return self.memory.shape

    def _fit_backend(self) -> None:
        """Lay prompts out for the backend, and see at once whether one can fit."""
        backend, memory = self.backend, self.memory
        window = backend.context_window
        given = memory.config.window_tokens
        if window is not None and "window_tokens" in memory.config.model_fields_set and given > window:
            raise ConfigError(
                "window_tokens", given, f"is more than the {window} tokens of {backend.name}",
                hint=f"give --window {window} or less, or serve the model with a larger one",
            )  # fmt: skip
        mode = self._mode()
        memory.use(Shape(backend.counter, SPECS if mode == "native" else (), mode), window)
        if mode == "none":
            return
        epoch, _ = memory.pager.state()
        needed, most = head_cost(epoch, self.shape), memory.budget.max_tokens
        if needed >= most:
            raise ContextOverflowError(
                f"the system instructions, tools and core memory (window {memory.config.window_tokens}, of which "
                f"{memory.config.reserve} are kept for the reply)",
                needed, most, hint="give a larger --window, a smaller --reserve, or shorten the core-memory blocks",
            )  # fmt: skip

    def _mode(self) -> ToolMode:
        backend, wanted = self.backend, self.config.tools
        if isinstance(backend, ModelBackend):
            able = backend.tool_modes() if wanted != "off" else ("off",)
        else:
            able = ("native", "off") if backend.native_tools else ("none",)
        if wanted == "auto" or able == ("none",):
            return able[0]
        if wanted not in able:
            raise ConfigError(
                "tools", wanted, f"{backend.name} can't do that", hint=f"it can do: {', '.join(able)}, or give auto"
            )
        return wanted

    def send(
        self, text: str, *, name: str | None = None, at: datetime | str | None = None, store: bool = True,
        category: str | None = None,
    ) -> Reply:  # fmt: skip
        """One turn. With `store=False` memory is left as it was, and of a `category` in `AgentConfig.answer_cache` an
        answer may be one that was given before (`agentmem.answer_cache`).

        Raises BackendError, StepLimitError, RepeatedFailureError; the user's message is in recall even then.
        """
        reply: Reply | None = None
        for chunk in self._answers.turn(self._run, text, name, at, store, category, stream=False):
            reply = chunk.reply or reply
        assert reply is not None
        return reply

    def stream(
        self, text: str, *, name: str | None = None, at: datetime | str | None = None, store: bool = True,
        category: str | None = None,
    ) -> Iterator[ReplyChunk]:  # fmt: skip
        """One turn, piece by piece. Closing the iterator stops the reply; what was said so far is kept in recall."""
        return self._answers.turn(self._run, text, name, at, store, category, stream=True)

    def close(self) -> None:
        """Close the backend; the memory belongs to the caller."""
        self.backend.close()

    # -- the loop ---------------------------------------------------------------------------------------------

    def _run(self, text: str, name: str | None, at: Any, store: bool, *, stream: bool) -> Chunks:
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
                for piece in answer(self.backend, self._request(turn, fitted), self.shape.mode, stream):
                    if isinstance(piece, Completion):
                        completion = piece
                    else:
                        visible += piece
                        yield ReplyChunk(self._joined(turn, visible, piece) if piece else "")
                said, calls = interpret(completion, self.shape.mode, 1000 * turn.user.id + turn.steps)
                self._compare(turn, fitted, completion, said, calls)
                text = clean(visible) or said
                if not stream:  # what was streamed is said already
                    text = whole_words(text, turn.page)
                done, more = self._take(turn, completion, text, calls)
                visible = ""  # stored now: a reader who leaves from here on stops nothing
                if more:
                    yield ReplyChunk(more)
                if done:
                    break
            yield ReplyChunk("", turn.reply())
        except (GeneratorExit, KeyboardInterrupt):
            self._stopped(turn, visible)
            raise
        finally:
            self.memory.on_event = listener

    @staticmethod
    def _joined(turn: Turn, visible: str, piece: str) -> str:
        """A piece of this step's text; the first one stands on a line of its own after an earlier step's."""
        return f"\n{piece}" if turn.said and len(visible) == len(piece) else piece

    def _stopped(self, turn: Turn, visible: str) -> None:
        """Keep what the user has seen of a reply that they stopped."""
        if turn.store and (text := clean(visible).strip()):
            with self.memory.store.write():
                draft = Draft("assistant", text, at=turn.asked_at, derived=not self.shape.model)
                self.memory.append([draft])
                self.memory.touch(turn.page, turn.asked_at)
                self.memory.log("stopped", {"turn": turn.user.id, "step": turn.steps})

    def _begin(self, text: str, name: str | None, at: datetime | None, store: bool) -> Turn:
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
        return Turn(user, asked_at, store, [user], flushed=flushed)

    def _prompt(self, turn: Turn) -> Fitted:
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

    def _fitted(self, turn: Turn) -> Fitted:
        memory = self.memory
        epoch, queued = memory.pager.state()
        queue = [m for m in queued if m.id < turn.user.id]
        turn.warned = turn.warned or self._warn(turn, epoch.number)
        ask = Ask(
            turn=tuple(turn.messages),
            clock=clock_words(turn.asked_at),
            pressure=turn.warned,
            last_step=turn.steps == self.config.max_steps and self.shape.calls,
            page=turn.page,
            page_share=memory.page_share,
            page_min=memory.budget.page_floor,
            page_max=memory.budget.page_max,
            pageable=memory.pageable(),
        )
        said = turn.user.content
        return memory.fit(ask, epoch, queue, memory.budget.max_tokens, said, turn.asked_at)

    def _log_prompt(self, turn: Turn, fitted: Fitted) -> None:
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

    def _warn(self, turn: Turn, epoch: int) -> bool:
        """The pressure note: once an epoch, not right after a flush, and only to a model that could act on it."""
        memory = self.memory
        if not self.shape.calls or not turn.store or turn.steps > 1 or turn.flushed:
            return False
        if memory.pager.pressure(memory.budget, memory.shape) is not Pressure.WARN:
            return False
        if memory.records.journal.get_cursor("warned") == epoch:
            return False
        with memory.store.write():
            memory.records.journal.put_cursor("warned", epoch, memory.clock())
            memory.log("pressure", {"epoch": epoch, "used": memory.pager.used(memory.budget, memory.shape)})
        return True

    def _request(self, turn: Turn, fitted: Fitted) -> Request:
        mode = self.shape.mode
        only = "send_message" if turn.steps == self.config.max_steps and self.shape.calls else None
        offered = SPECS if mode == "none" and self.config.tools != "off" and turn.store else self.shape.tools
        return Request(
            messages=tuple(w.message() for w in fitted.written),
            tools=offered,
            max_tokens=self.memory.config.reserve,
            temperature=self.config.temperature,
            seed=self.config.seed,
            only_tool=only if mode == "native" else None,
            schema=action_schema(only) if mode == "json" else None,
            cache_salt=self.config.cache_salt,
            query=turn.user.content,
            page=fitted.page,
            asked_at=turn.asked_at,
            blocks=self.memory.records.journal.blocks(),
        )

    def _compare(
        self, turn: Turn, fitted: Fitted, completion: Completion, text: str, calls: tuple[ToolCall, ...]
    ) -> None:
        """Hold what was counted and what was thought reusable against what the backend says that it was."""
        counter, used = self.backend.counter, completion.usage.prompt_tokens
        turn.usage = turn.usage + completion.usage
        if counter.exact and fitted.ledger.exact and used and used != fitted.ledger.total:
            self._mismatch(turn, fitted.ledger.total, used)
        report = self._prefixes.report(fitted, self._block_size())
        divergence = ""
        if isinstance(counter, PromptTokenizer) and completion.token_ids:
            said = Message(0, "assistant", text, turn.asked_at, turn.asked_at, tool_calls=calls)
            divergence = counter.rerendered(chat_message(said, None, mode=self.shape.mode), completion.token_ids)
        self._prefixes.answered(completion, divergence)
        if report is None:
            return
        report = measured(report, completion)
        turn.prefixes.append(report)
        if turn.store:
            known: dict[str, Any] = {
                "turn": turn.user.id, "step": turn.steps, "tokens": report.tokens, "blocks": report.blocks,
                "total": report.total, "cached": report.cached, "cause": report.cause,
            }  # fmt: skip
            turn.notes.append(("prefix", known | ({"divergence": divergence} if divergence else {})))

    def _block_size(self) -> int | None:
        return self.backend.block_size if isinstance(self.backend, ModelBackend) else None

    def _mismatch(self, turn: Turn, counted: int, used: int) -> None:
        counter = self.backend.counter
        cause = f"{counter.name} counts {counted} tokens, the backend {used}: another tokenizer or chat template"
        payload = {"turn": turn.user.id, "step": turn.steps, "counted": counted, "used": used, "cause": cause}
        turn.notes.append(("token_mismatch", payload))
        self.memory.notices.append(cause)
        distrust = getattr(counter, "distrust", None)
        if distrust is not None:
            distrust(cause)

    def _take(self, turn: Turn, completion: Completion, text: str, calls: tuple[ToolCall, ...]) -> tuple[bool, str]:
        """Store a step's output and its effects; whether the turn is done, and what else there is to show."""
        memory = self.memory
        turn.answer = as_said(completion.answer, turn.page) if completion.answer is not None else turn.answer
        if self.config.tools == "off":
            calls = ()
        if not text and not calls:
            turn.empty += 1
            turn.notes.append(("empty_reply", {"turn": turn.user.id, "step": turn.steps}))
            turn.log(memory)
            if turn.empty > 1 or turn.steps >= self.config.max_steps:
                raise BadCompletionError("the model answered with nothing, twice", hint="ask again, or another model")
            return False, ""
        results = carry_out(memory, turn, text, calls, completion.derived)
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

    def _check_repeated(self, turn: Turn, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> None:
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

    def _note(self, kind: str, reason: str) -> None:
        self.memory.notices.append(reason)
        self.memory.log(kind, {"reason": reason})
