"""Any OpenAI-compatible server over HTTP: vLLM's first of all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

from agentmem.backends.checked_tokenizer import Tokenizer, choose_counter
from agentmem.backends.http import HttpClient, encode, split_target
from agentmem.backends.openai_stream import Pieces, read_stream
from agentmem.backends.openai_wire import (
    SCHEMA_FORMS,
    CallBuilder,
    TokenIds,
    chat_body,
    message_of,
    strict,
    typed,
    usage_of,
)
from agentmem.backends.served_model import ServedModel
from agentmem.backends.server_features import FeatureProbe, Features, Finding
from agentmem.backends.server_metrics import ServerMetrics, read_metrics
from agentmem.encoding import ToolMode
from agentmem.errors import (
    BadRequestError,
    ConfigError,
)
from agentmem.protocols import TokenCounter
from agentmem.types import ChatMessage, Chunk, Completion, Request, ToolCall, ToolSpec, Usage

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


class OpenAIBackend:
    """Chat completions of a server named by `http://host:port/v1#model`; without `#model`, of its only model.

    The key comes from `api_key` or OPENAI_API_KEY and is shown nowhere. `timeout_s` is the longest wait for the
    next byte of an answer. Retryable failures are asked again `max_retries` times (see HttpClient); up to
    `concurrency` requests run at once. `context_window` in tokens is asked of the server when first read, unless
    it is given. `tokenizer` says who counts (see `choose_counter`). `strict_tools` asks for calls that keep to their
    schema; the mark is then part of every prompt, and counted. Raises ConfigError for bad settings and
    MissingExtraError without httpx; connects at first use.
    """

    native_tools = True

    def __init__(
        self,
        target: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 3,
        concurrency: int = 8,
        context_window: int | None = None,
        tokenizer: str | Tokenizer = "auto",
        strict_tools: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        url, model = split_target(target)
        if context_window is not None and context_window < 1:
            raise ConfigError("context_window", context_window, "must be 1 token or more")
        self._http = HttpClient(
            url,
            api_key=api_key,
            timeout_s=timeout_s,
            max_retries=max_retries,
            concurrency=concurrency,
            sleep=sleep,
            transport=transport,
        )
        self._served = ServedModel(self._http, model)
        self._probe = FeatureProbe(self._http, self._served)
        self._window = context_window
        self._tokenizer = tokenizer
        self._tool: Callable[[ToolSpec], ToolSpec] = strict if strict_tools else _as_it_is
        self._lock = threading.Lock()
        self._counter: TokenCounter | None = None
        self._metrics: ServerMetrics | None = None
        self._refused: set[str] = set()
        self.name = f"openai:{url}#{model}" if model else f"openai:{url}"

    def __repr__(self) -> str:
        return f"OpenAIBackend({self.name!r})"

    @property
    def context_window(self) -> int | None:
        """The window in tokens; None when the server does not say. May ask the server: raises BackendError."""
        if self._window is None:
            self._window = self._served.max_tokens()
        return self._window

    @context_window.setter
    def context_window(self, max_tokens: int | None) -> None:
        self._window = max_tokens

    @property
    def counter(self) -> TokenCounter:
        """Counts as the model does. Asks the server when first read: raises BackendError, and ConfigError for a
        tokenizer that can't be loaded."""
        with self._lock:
            if self._counter is None:
                self._counter = choose_counter(self._http, self._served, self._tokenizer, self._tool, self._measured)
            return self._counter

    @property
    def block_size(self) -> int | None:
        """Tokens of a block of the prefix cache; None where /metrics do not say. May raise BackendError."""
        if self._metrics is None:
            self._metrics = self.metrics()
        return self._metrics.block_size

    def tool_modes(self) -> tuple[ToolMode, ...]:
        """The ways in which the model can be given tools, best first, found out by asking. May raise BackendError."""
        json, native = self._probe.structured().found, self._probe.tools().found
        modes: tuple[tuple[ToolMode, bool], ...] = (("native", native), ("json", json), ("off", True))
        return tuple(mode for mode, is_there in modes if is_there)

    def metrics(self) -> ServerMetrics:
        """The server's own numbers, now. Raises BackendError."""
        return read_metrics(self._http)

    def features(self) -> Features:
        """All that the server can do; asks it what was not asked before. Raises BackendError."""
        window, metrics, counter = self._served.max_tokens(), self.metrics(), self.counter
        tokenize = Finding(counter.exact, getattr(counter, "how", "") or counter.name)
        return Features(
            tools=self._probe.tools(),
            structured=self._probe.structured(),
            tokenize=tokenize,
            token_ids=self._probe.token_ids(),
            metrics=Finding(not metrics.missing, metrics.missing or f"blocks of {metrics.block_size} tokens"),
            embeddings=self._probe.embeddings(),
            window=Finding(window is not None, f"{window} tokens" if window else "the server does not say"),
        )

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer the requests, in order. Once one fails no further one is sent, and its error is raised.

        Raises BackendError, or ConfigError for a request that can't be sent (then none is).
        """
        bodies = [self._body(r) for r in requests]
        if len(bodies) == 1:  # on this thread, where Ctrl-C can stop it
            return [self._complete(requests[0], bodies[0], None)]
        if not bodies:
            return []
        stop = threading.Event()
        pool = ThreadPoolExecutor(min(self._http.concurrency, len(bodies)), thread_name_prefix="agentmem-openai")
        try:
            futures = [pool.submit(self._complete, r, b, stop) for r, b in zip(requests, bodies, strict=True)]
            failed = _first_failure(futures)
            if failed is not None:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise failed
            return [f.result() for f in futures]
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def stream(self, request: Request) -> Iterator[Chunk]:
        """Answer one request piece by piece; retried until the first piece came. Closing it closes the connection.

        Raises as `generate`; BadCompletionError when the stream was cut before its end.
        """
        body = self._body(request) | {"stream": True}
        pieces, first = self._http.retrying(lambda: self._begin(request, body))
        try:
            yield first
            yield from pieces
        finally:
            pieces.close()

    def describe(self) -> str:
        """One line: the server, the model, how tokens are counted, and what was found out about the server so far."""
        counter = self._counter
        counted = counter.name if counter is not None else f"not asked yet (/tokenize at {self._http.root})"
        found = [f"{name}: {x.how if x.found else 'none'}" for name, x in self._probe.known().items()]
        return f"{self.name} (OpenAI-compatible server; {'; '.join([f'token counts: {counted}', *found])})"

    def close(self) -> None:
        """Close the connections; may be called twice."""
        self._http.close()

    def _body(self, request: Request) -> dict[str, Any]:
        encode(chat_body(request, "", self._tool))  # what can't be sent is said before anybody is asked
        body = chat_body(request, self._served.id(), self._tool)
        if request.schema is not None:
            form = self._probe.schema_form()
            if form is None:
                raise ConfigError(
                    "schema",
                    request.schema,
                    f"{self._http.url} keeps no answer to a JSON schema ({self._probe.structured().how})",
                    hint="serve the model with vLLM 0.12 or later, or use tools in another mode",
                )
            body |= SCHEMA_FORMS[form](request.schema)
        return body

    def _options(self, *, stream: bool) -> dict[str, Any]:
        """What is asked for where the server knows it, and can be done without."""
        options: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
        if self._served.row().owner == "vllm":
            options["return_token_ids"] = True
        return {name: value for name, value in options.items() if name not in self._refused}

    def _with_options(self, body: dict[str, Any], ask: Callable[[dict[str, Any]], T]) -> T:
        """`ask` with the options; a refusal drops those that it names, or all, and what then works is remembered."""
        options = self._options(stream="stream" in body)
        dropped: set[str] = set()
        while True:
            try:
                done = ask(body | options)
            except BadRequestError as e:
                if e.status not in (400, 422) or not options:
                    raise
                named = {name for name in options if name in e.message} or set(options)
                dropped |= named
                options = {name: value for name, value in options.items() if name not in named}
            else:
                self._refused |= dropped
                return done

    def _complete(self, request: Request, body: dict[str, Any], stop: threading.Event | None) -> Completion:
        url = f"{self._http.url}/chat/completions"
        reply = self._with_options(body, lambda b: self._http.post(url, b, model=b["model"], stop=stop))
        choice, message = message_of(reply)
        self._served.check(reply)
        text = typed(reply, message, "content", str) or ""
        built, ids = CallBuilder(), TokenIds(request.max_tokens)
        for index, call in enumerate(typed(reply, message, "tool_calls", list) or []):
            built.add(reply, call, index)
        ids.add(reply, choice)
        calls, finish = built.calls(reply), typed(reply, choice, "finish_reason", str) or "stop"
        usage = usage_of(reply) or self._counted(request, text, calls)
        return Completion(text, calls, usage, finish, token_ids=ids.generated(finish))

    def _begin(self, request: Request, body: dict[str, Any]) -> tuple[Pieces, Chunk]:
        return self._with_options(body, lambda b: _started(self._pieces(request, b)))

    def _pieces(self, request: Request, body: dict[str, Any]) -> Pieces:
        return read_stream(self._http, self._served, body, lambda text, calls: self._counted(request, text, calls))

    def _counted(self, request: Request, text: str, calls: tuple[ToolCall, ...]) -> Usage:
        """The usage of a server that states none."""
        counter = self.counter
        said = counter.count(text) + sum(counter.count(c.name) + counter.count(c.arguments) for c in calls)
        return Usage(counter.count_prompt(request.messages, request.tools), said)

    def _measured(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> int | None:
        sent = [self._tool(t).to_dict() for t in tools]
        return self._probe.prompt_tokens([m.to_dict() for m in messages], sent)


def _as_it_is(tool: ToolSpec) -> ToolSpec:
    return tool


def _started(pieces: Pieces) -> tuple[Pieces, Chunk]:
    return pieces, next(pieces)


def _first_failure(futures: Sequence[Future[Completion]]) -> BaseException | None:
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    return next((e for f in futures if f in done and (e := f.exception()) is not None), None)
