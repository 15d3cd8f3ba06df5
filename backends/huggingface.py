"""Transformers on this machine: a causal language model in this process, on a GPU or the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.backends import guided
from agentmem.backends.fair_lock import FairLock
from agentmem.backends.local_settings import LocalSettings
from agentmem.errors import BadRequestError, ConfigError, MissingExtraError
from agentmem.spec_options import merged, split_target
from agentmem.types import Chunk, Completion, Request

if TYPE_CHECKING:
    from agentmem.backends.chat_template import ChatTokenizer
    from agentmem.backends.local_model import Job, LocalModel
    from agentmem.encoding import ToolMode


class HuggingFaceBackend:
    """A model by its folder, or by its Hugging Face name where it is in the cache; nothing is downloaded.

    `target` may carry options: `PATH?dtype=bfloat16&max_batch=4`. They are: `dtype` auto (the checkpoint's own on an
    accelerator, float32 on a CPU), float32, bfloat16 or float16; `device` auto, cpu, cuda or cuda:N; `max_batch`, how
    many requests of one `generate` run together (8); `context_window` in tokens, at most the model's; `template`, a
    chat template that replaces the model's; `timeout_s`, the longest that a request may compute (none), waiting for its
    turn not counted, looked at between tokens and between stretches of a prompt; `prefix_cache_gb`, memory for the keys
    and values of past prompts, so that a single request computes only what differs from an earlier one (1, 0 for none);
    `top_k` and `top_p`, where the temperature is above 0 (the model's own, of generation_config.json).

    Constructing one is cheap: the tokenizer loads at the first count, the weights at the first request. Threads take
    turns, first come, first served; a stream takes a turn for each token. Calls of tools stand in the text as the model
    wrote them. Raises ConfigError for a bad option, MissingExtraError without transformers.
    """

    def __init__(self, target: str, **options: Any) -> None:
        path, query = split_target(target)
        if not path:
            raise ConfigError("backend", target, "names no model", hint="give a model's folder: hf:models/Qwen3-0.6B")
        self._settings = LocalSettings.of(path, merged(target, query, options))
        for package in ("torch", "transformers"):
            if find_spec(package) is None:
                raise MissingExtraError(f"the backend hf:{path}", "hf", package)
        self.name = f"hf:{path}"
        self._path = str(Path(path).expanduser()) if path.startswith("~") else path
        self._light = threading.Lock()  # round what loads without the weights
        self._counter: ChatTokenizer | None = None
        self._window: int | None = None
        self._cuts: bool | None = None
        self._turn = FairLock()  # round the network
        self._model: LocalModel | None = None

    def __repr__(self) -> str:
        return f"HuggingFaceBackend({self._path!r})"

    @property
    def counter(self) -> ChatTokenizer:
        """The model's tokenizer with its chat template; loads at first use. Raises ConfigError without either.

        Control tokens that are spelt in a message do not become such.
        """
        from agentmem.backends.chat_template import ChatTokenizer

        with self._light:
            if self._counter is None:
                self._counter = ChatTokenizer.load(self._path, template=self._settings.template, neutralise=True)
            return self._counter

    @property
    def native_tools(self) -> bool:
        """Whether the chat template shows tools to the model."""
        return self.counter.accepts_tools

    @property
    def context_window(self) -> int | None:
        """Prompt and answer together, in tokens: as given, else the model's; None where it states none.

        Raises ConfigError when more was asked for than the model has.
        """
        from agentmem.backends.causal_lm import config_of, window_of

        with self._light:
            if self._window is None:
                known, wanted = window_of(config_of(self._path)), self._settings.context_window
                if known is not None and wanted is not None and wanted > known:
                    raise ConfigError("context_window", wanted, f"is more than the model's {known} tokens")
                self._window = wanted if wanted is not None else known
            return self._window

    @property
    def block_size(self) -> int | None:
        """1: a prefix is reused to the token; None where no past prompt is kept, or the network's can't be cut."""
        from agentmem.backends.causal_lm import config_of
        from agentmem.backends.prefix_cache import can_be_cut

        with self._light:
            if self._cuts is None:
                self._cuts = self._settings.prefix_cache_gb > 0 and can_be_cut(config_of(self._path))
            return 1 if self._cuts else None

    def tool_modes(self) -> tuple[ToolMode, ...]:
        """Native where the chat template takes tools, json where the grammar library is there, off always."""
        native: tuple[ToolMode, ...] = ("native",) if self.native_tools else ()
        return (*native, *(("json",) if guided.available() else ()), "off")

    def describe(self) -> str:
        """One line: the model, how it computes, and what it can do."""
        model = self._model
        how = f"{model.network.dtype} on {model.network.device}" if model is not None else "not loaded yet"
        lost = "" if guided.available() else "; without llguidance: no JSON under a schema, only_tool not enforced"
        return f"{self.name} (transformers in this process, {how}; token counts: its own tokenizer{lost})"

    def close(self) -> None:
        """Free the weights and what is kept of prompts; may be called twice. A later request loads them again."""
        with self._turn:
            self._model = None

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer the requests, in order, in batches of prompts of about equal length.

        Raises ConfigError or BadRequestError for a request that can't be answered (then none is), BackendError when
        the model fails: BackendUnavailableError for want of memory (a batch is first tried in halves),
        BackendTimeoutError after `timeout_s`.
        """
        from agentmem.backends.local_model import answered

        jobs = [self._job(r) for r in requests]
        order = sorted(range(len(jobs)), key=lambda n: len(jobs[n].ids))
        done: dict[int, Completion] = {}
        for start in range(0, len(order), self._settings.max_batch):
            group = order[start : start + self._settings.max_batch]
            with self._turn:
                completions = answered(self._loaded(), [jobs[n] for n in group], self._settings.timeout_s)
            done.update(zip(group, completions, strict=True))
        return [done[n] for n in range(len(jobs))]

    def stream(self, request: Request) -> Iterator[Chunk]:
        """Answer one request piece by piece, whole characters only. Nothing is computed but while the caller waits for
        a piece, so that closing it, or reading no further, stops the work. Raises as `generate`."""
        from agentmem.backends.local_model import Run

        job = self._job(request)
        with self._turn:
            run = Run(self._loaded(), [job], self._settings.timeout_s)
        told, more = 0, True
        while more:
            with self._turn:
                more = run.step()
            text = run.rows[0].text
            if more and len(text) > told:
                yield Chunk(text[told:])
                told = len(text)
        (completion,) = run.completions()
        yield Chunk(completion.text[told:], completion)

    def _job(self, request: Request) -> Job:
        from agentmem.backends.local_model import Job, the_only_tool

        if not request.messages:
            raise ConfigError("messages", request.messages, "a request needs at least one message")
        if request.max_tokens < 1:
            raise ConfigError("max_tokens", request.max_tokens, "must be 1 or more")
        the_only_tool(request)
        if request.schema is not None and not guided.available():
            raise MissingExtraError("JSON under a schema", "hf", "llguidance")
        ids = self.counter.encode_prompt(request.messages, request.tools if self.native_tools else ()).ids
        window = self.context_window
        if window is not None and len(ids) >= window:
            raise BadRequestError(
                f"{self.name}: the prompt is {len(ids)} tokens, the window {window} with the answer",
                hint="give a shorter prompt; a memory with a smaller window_tokens makes them so",
            )
        return Job(request, ids)

    def _loaded(self) -> LocalModel:
        """The model, loaded at first use. Call it with the turn."""
        from agentmem.backends.causal_lm import CausalLM
        from agentmem.backends.local_model import LocalModel

        if self._model is None:
            self._model = LocalModel(
                CausalLM(self._path, dtype=self._settings.dtype, device=self._settings.device),
                self.counter,
                window=self.context_window,
                top_k=self._settings.top_k,
                top_p=self._settings.top_p,
                prefix_bytes=int(self._settings.prefix_cache_gb * 1e9),
            )
        return self._model
