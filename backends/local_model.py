"""A loaded model with what goes with it, and requests on their way through it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmem.backends import guided
from agentmem.backends.causal_lm import CausalLM
from agentmem.backends.decoding import Batch, Row
from agentmem.backends.prefix_cache import PrefixCache, can_be_cut
from agentmem.backends.sampling import Picker, Sampling
from agentmem.errors import BackendTimeoutError, BackendUnavailableError, BadRequestError, ConfigError
from agentmem.types import ChatMessage, Completion, Request, ToolCall, ToolSpec, Usage

if TYPE_CHECKING:
    from agentmem.backends.chat_template import ChatTokenizer


@dataclass(frozen=True)
class Job:
    """A request with its prompt's tokens."""

    request: Request
    ids: tuple[int, ...]


class LocalModel:
    """A network, its tokenizer, its way of drawing, and the pasts that it keeps. Not thread-safe.

    `top_k` and `top_p` None are the model's own; `prefix_bytes` 0 keeps no past.
    """

    def __init__(
        self,
        network: CausalLM,
        counter: ChatTokenizer,
        *,
        window: int | None,
        top_k: int | None,
        top_p: float | None,
        prefix_bytes: int,
    ) -> None:
        own = getattr(network.network, "generation_config", None)
        self.network = network
        self.counter = counter
        self.window = window
        self.ends = network.ends | counter.eos_ids
        self.sampling = Sampling(
            top_k if top_k is not None else getattr(own, "top_k", None) or 0,
            top_p if top_p is not None else getattr(own, "top_p", None) or 1.0,
        )
        usable = prefix_bytes and can_be_cut(network.network.config)
        self.prefixes = PrefixCache(prefix_bytes) if usable else None
        self._grammars: guided.Grammars | None = None

    def row(self, job: Job) -> Row:
        """The completion of a job, still empty. Raises ConfigError for a schema that can't be enforced."""
        request = job.request
        room = self.window - len(job.ids) if self.window is not None else request.max_tokens
        picker = Picker(request.temperature, request.seed, self.sampling, self._guide(request))
        return Row(job.ids, min(room, request.max_tokens), picker, self.counter.decode)

    def _guide(self, request: Request) -> guided.Guide | None:
        tool = the_only_tool(request) if guided.available() else None
        if request.schema is None and tool is None:
            return None
        if self._grammars is None:
            tokenizer, width = self.counter.tokenizer, self.network.vocabulary
            self._grammars = guided.Grammars(tokenizer, width, self.ends, tagged=self._tags_calls())
        if request.schema is None and tool is not None:
            return self._grammars.call(tool)
        return self._grammars.json(request.schema or {})

    def _tags_calls(self) -> bool:
        """Whether the chat template writes a call as Hermes and Qwen do, and the model so has seen them."""
        called = ChatMessage("assistant", "", (ToolCall("call_0", "look", '{"at": "x"}'),))
        expected = '<tool_call>\n{"name": "look", "arguments": {"at": "x"}}\n</tool_call>'
        try:
            return expected in self.counter.render((ChatMessage("user", "?"), called), open_reply=False)
        except BadRequestError:
            return False


class Run:
    """Some jobs together, from their prompts to their completions. `rows` are theirs, in order."""

    def __init__(self, model: LocalModel, jobs: Sequence[Job], timeout_s: float | None) -> None:
        self.rows = [model.row(j) for j in jobs]
        self._model = model
        self._jobs = list(jobs)
        self._timeout_s = timeout_s
        self._spent_s = 0.0
        self._known, past = 0, None
        if len(jobs) == 1 and model.prefixes is not None:
            self._known, past = model.prefixes.find(jobs[0].ids, jobs[0].request.cache_salt)
        self._batch = Batch(model.network, self.rows, model.ends, past=past, known=self._known)

    def step(self) -> bool:
        """One pass; False when all are finished. Raises BackendError, BackendTimeoutError for too long a time in
        passes: what others computed between two of them does not count."""
        started = time.monotonic()
        more = self._batch.step()
        self._spent_s += time.monotonic() - started
        if more and self._timeout_s is not None and self._spent_s > self._timeout_s:
            written = max(len(r.out) for r in self.rows)
            raise BackendTimeoutError(
                f"the model computed for {self._spent_s:.1f} s and had written {written} tokens",
                hint="give a larger timeout_s or a smaller max_tokens",
            )
        if not more and len(self._jobs) == 1 and self._model.prefixes is not None:
            (job,), (row,) = self._jobs, self.rows
            self._model.prefixes.keep((*job.ids, *row.out), job.request.cache_salt, self._batch.past)
        return more

    def completions(self) -> list[Completion]:
        """What was written, in order; call it when all are finished."""
        cached = self._known if self._model.prefixes is not None else None
        return [
            Completion(
                row.text,
                usage=Usage(len(job.ids), row.num_generated, cached),
                finish_reason=row.finish,
                token_ids=tuple(row.out),
            )
            for job, row in zip(self._jobs, self.rows, strict=True)
        ]


def answered(model: LocalModel, jobs: Sequence[Job], timeout_s: float | None) -> list[Completion]:
    """The completions of jobs that run together; in halves where memory is short. Raises BackendError."""
    run = Run(model, jobs, timeout_s)
    try:
        while run.step():
            pass
    except BackendUnavailableError:
        if len(jobs) == 1:
            raise
        del run
        half = len(jobs) // 2
        return answered(model, jobs[:half], timeout_s) + answered(model, jobs[half:], timeout_s)
    return run.completions()


def the_only_tool(request: Request) -> ToolSpec | None:
    """The tool to which a request restricts its answer. Raises ConfigError for one that it does not offer."""
    found = {t.name: t for t in request.tools}
    if request.only_tool is None or request.only_tool in found:
        return found.get(request.only_tool or "")
    raise ConfigError("only_tool", request.only_tool, f"is none of the request's tools: {', '.join(found) or 'none'}")
