"""vLLM's asynchronous engine in this process's service: batches, streams and many agents through one door."""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import os
import queue
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from agentmem.backends.chat_template import ChatTokenizer
from agentmem.backends.vllm_errors import answer_error, import_error
from agentmem.backends.vllm_loop import LoopThread
from agentmem.backends.vllm_options import OWN, check_values
from agentmem.backends.vllm_sampling import check_request, grammar, sampling_settings
from agentmem.backends.vllm_soft_prompts import SoftPromptDoor
from agentmem.backends.vllm_start import Engine, start_engine
from agentmem.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    BadCompletionError,
    BadRequestError,
    ConfigError,
)
from agentmem.spec_options import merged, split_target
from agentmem.types import Chunk, Completion, Request, Usage

if TYPE_CHECKING:
    from agentmem.encoding import ToolMode
    from agentmem.soft_prompts import SoftPrompt

_TIMEOUT_S = 600.0
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class VllmMetrics:
    """The engine's own counts since it started: prompt tokens looked up in the prefix cache and found there; and, as of
    its last step, requests that run and wait, and the share of the cache's blocks in use."""

    prefix_queries: int
    prefix_hits: int
    running: int
    waiting: int
    cache_usage: float


@dataclass(frozen=True, slots=True)
class _Job:
    prompt: Any
    sampling: Any


class VllmBackend:
    """A model run by vLLM in processes of its own, which this one starts and ends. `target`: a folder, or `PATH?a=b`.

    Options are those of vLLM's AsyncEngineArgs, by name, and `template` (a chat template, or its file, instead of the
    model's), `tool_parser` (one of vLLM's, for models that do not write calls as `<tool_call>` JSON), `timeout_s` (the
    longest wait for the next piece of a stream, or the next answer of a batch) and `reserve_gib` (memory left to
    others, an embedder and a reranker; see docs/backends.md). It starts when it is made, which takes from ten seconds
    to minutes. Raises ConfigError for options, models and memory that can't work, MissingExtraError without vLLM.

    Thread-safe. Calls in text (`<tool_call>{...}</tool_call>`) stay in the text; the kernel takes them out.
    """

    def __init__(
        self,
        target: str,
        *,
        template: str | None = None,
        tool_parser: str | None = None,
        timeout_s: float = _TIMEOUT_S,
        reserve_gib: float = 2.0,
        **options: Any,
    ) -> None:
        path, query = split_target(target)
        options = merged(target, query, options)
        own: dict[str, Any] = {
            "template": template, "tool_parser": tool_parser, "timeout_s": timeout_s, "reserve_gib": reserve_gib
        }  # fmt: skip
        own |= {name: options.pop(name) for name in OWN if name in options}
        check_values({**own, **options})
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise import_error(path)
        self._timeout_s: float = own["timeout_s"]
        self._closed = False
        self.path = os.path.expanduser(path)
        self.name = f"vllm:{path}"
        self._loop = LoopThread("agentmem-vllm")
        try:
            self._engine: Engine = start_engine(self.path, options, own, self._loop)
        except BaseException:
            self._loop.close(lambda: None)
            raise
        self.counter: ChatTokenizer = self._engine.tokenizer
        self.native_tools = self.counter.accepts_tools
        self._soft = SoftPromptDoor(self.name, self._engine.core.vllm_config.model_config)
        atexit.register(self.close)

    def __repr__(self) -> str:
        return f"VllmBackend({self.name!r})"

    @property
    def context_window(self) -> int:
        """The engine's `max_model_len`, in tokens: prompt and answer together."""
        return self._engine.window

    @property
    def block_size(self) -> int | None:
        """Tokens of a block of the prefix cache; None when prefix caching is off."""
        return self._engine.block_size

    @property
    def active_requests(self) -> int:
        """Requests that have been given to the engine and neither answered nor aborted."""
        return 0 if self._closed else int(self._engine.core.get_num_unfinished_requests())

    def tool_modes(self) -> tuple[ToolMode, ...]:
        """Native where the model's template takes tools; JSON always, by grammar."""
        return ("native", "json", "off") if self.native_tools else ("json", "off")

    def metrics(self) -> VllmMetrics:
        """The engine's counts so far. `running` and `waiting` are as of its last step, so they may lag at rest."""
        stats = self._engine.stats
        return VllmMetrics(stats.prefix_queries, stats.prefix_hits, stats.running, stats.waiting, stats.cache_usage)

    def describe(self) -> str:
        """One line: the model, the engine, the window, and how tokens are counted."""
        engine = self._engine
        return (
            f"{self.name} (vLLM {engine.version} on {engine.device}; {engine.window} tokens, "
            f"blocks of {engine.block_size}; {self.counter.how})"
        )

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer the requests, in order: the engine gets them all at once. When one fails, or the wait is interrupted,
        the others are aborted."""
        return self.generate_with(requests, [None] * len(requests))

    def soft_prompt_model(self) -> str:
        """Fingerprint of the served weights, for encoders of soft prompts. Needs enable_prompt_embeds."""
        return self._soft.model()

    def generate_with(self, requests: Sequence[Request], soft: Sequence[SoftPrompt | None]) -> list[Completion]:
        """As `generate`, each request with its soft prompt before it (see docs/soft-prompts.md)."""
        jobs = [self._job(r, streamed=False, soft=s) for r, s in self._soft.pairs(requests, soft)]
        if not jobs:
            return []
        outputs = self._loop.call(self._answers(jobs))
        return [self._completion(r, o, o.outputs[0].text) for r, o in zip(requests, outputs, strict=True)]

    def stream(self, request: Request) -> Iterator[Chunk]:
        """Answer one request piece by piece, whole characters only. Closing it aborts the request in the engine.

        With a `tool_parser`, an answer to a request with tools comes in one piece, once it is known what is a call.
        """
        job = self._job(request, streamed=True)
        parsed = self._engine.parser is not None and bool(request.tools)
        pieces: queue.SimpleQueue[Any] = queue.SimpleQueue()
        texts: list[str] = []
        ids: list[int] = []
        running = self._loop.start(self._pump(job, pieces.put))
        try:
            while True:
                output = pieces.get()
                if output is None:
                    running.result()  # raises what ended it
                    raise BackendUnavailableError("the engine was closed before it answered", hint="make a new backend")
                said = output.outputs[0]
                ids += said.token_ids
                if said.text:
                    texts.append(said.text)
                    if not parsed:
                        yield Chunk(said.text)
                if output.finished:
                    break
            completion = self._completion(request, output, "".join(texts), ids)
            yield Chunk(completion.text if parsed else "", completion)
        finally:
            running.cancel()

    def reset_prefix_cache(self) -> bool:
        """Forget all cached prefixes; False when requests are running that use them."""
        return bool(self._call(lambda core: core.reset_prefix_cache()))

    def sleep(self) -> None:
        """Lend the GPU to other work: waits for running requests, then puts the weights into the CPU's memory and drops
        the cache. Until `wake` nothing is answered. Needs enable_sleep_mode."""
        if not self._engine.can_sleep:
            hint = "make the backend with enable_sleep_mode=True (on GPUs; vLLM has no sleep mode on CPUs)"
            raise ConfigError("enable_sleep_mode", False, "sleeping needs it", hint=hint)
        self._engine.asleep = True
        self._call(lambda core: core.sleep(1, mode="wait"))

    def wake(self) -> None:
        """Take the GPU back after `sleep`."""
        if self._engine.asleep:
            self._call(lambda core: core.wake_up())
            self._engine.asleep = False

    def close(self) -> None:
        """Abort what runs and end the engine's processes; may be called twice. Also called when the program ends."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        try:
            self._loop.close(self._engine.shutdown)
        finally:
            self._engine.log.close()
            self._engine.core = None  # its finaliser would else run when the interpreter is half gone

    def _job(self, request: Request, *, streamed: bool, soft: SoftPrompt | None = None) -> _Job:
        check_request(request)
        engine = self._engine
        if engine.asleep:
            raise BackendUnavailableError(f"{self.name} is asleep", hint="call wake() first")
        ids = list(self.counter.encode_prompt(request.messages, request.tools if self.native_tools else ()).ids)
        rows = self._soft.rows(soft)
        if len(ids) + rows >= engine.window:
            of = f" ({rows} of them rows of a soft prompt)" if rows else ""
            raise BadRequestError(
                f"the prompt has {len(ids) + rows} tokens{of}, {self.name} takes {engine.window} with the answer",
                hint="lower the context budget, or raise max_model_len if the model allows it",
            )
        settings = sampling_settings(request, self.counter.eos_ids, engine.sampling_defaults)
        if engine.parser is not None and request.tools:
            settings |= engine.parser.sampling_settings(request)
        rules = grammar(request, engine.grammar_library, engine.added_tokens)
        if soft is None:
            prompt = engine.prompt(ids, request.cache_salt)
        else:
            prompt = self._soft.prompt(soft, ids, request.cache_salt)
        return _Job(prompt, engine.sampling(settings, rules, streamed))

    async def _answers(self, jobs: Sequence[_Job]) -> list[Any]:
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[Any]] = []
        waiting = True

        def one_more(_: asyncio.Task[Any]) -> None:
            if waiting and not limit.expired():
                limit.reschedule(loop.time() + self._timeout_s)

        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                tasks += [loop.create_task(self._answer(j)) for j in jobs]
                for task in tasks:
                    task.add_done_callback(one_more)
                return await asyncio.gather(*tasks)
        except TimeoutError as e:
            raise self._too_late() from e
        finally:
            waiting = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, job: _Job) -> Any:
        last = None
        async for output in self._outputs(job):
            last = output
        return last

    async def _pump(self, job: _Job, put: Callable[[Any], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                async for output in self._outputs(job):
                    put(output)
                    limit.reschedule(loop.time() + self._timeout_s)
        except TimeoutError as e:
            raise self._too_late() from e
        finally:
            put(None)

    async def _outputs(self, job: _Job) -> Any:
        from vllm.exceptions import VLLMError

        outputs = self._engine.core.generate(job.prompt, job.sampling, f"agentmem-{next(_numbers)}")
        try:
            async for output in outputs:
                yield output
        except VLLMError as e:
            raise answer_error(e, self.name, self._engine.log.cause) from e
        finally:
            await outputs.aclose()

    def _call(self, begin: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        from vllm.exceptions import VLLMError

        if self._closed:
            raise BackendUnavailableError("the engine is closed", hint="make a new backend")
        try:
            return self._loop.call(begin(self._engine.core))
        except VLLMError as e:
            raise answer_error(e, self.name, self._engine.log.cause) from e

    def _too_late(self) -> BackendTimeoutError:
        return BackendTimeoutError(
            f"{self.name}: no answer within {self._timeout_s:g} s; the request was aborted", hint="raise timeout_s"
        )

    def _completion(self, request: Request, output: Any, text: str, ids: Sequence[int] | None = None) -> Completion:
        said = output.outputs[0]
        written = tuple(said.token_ids if ids is None else ids)
        finish = said.finish_reason or "stop"
        if finish == "abort":
            raise BackendUnavailableError(f"{self.name}: the engine aborted the request", hint="ask again")
        if finish not in ("stop", "length", "repetition"):
            raise BadCompletionError(f"{self.name}: the answer ended with {finish!r}")
        usage = Usage(len(output.prompt_token_ids), len(written), output.num_cached_tokens)
        if finish == "stop" and written and written[-1] in self._engine.ending_ids:
            written = written[:-1]
        if self._engine.parser is not None and request.tools:
            text, calls = self._engine.parser.split(text, request)
            return Completion(text, calls, usage, "tool_calls" if calls else finish, token_ids=written)
        return Completion(text, (), usage, finish, token_ids=written)
