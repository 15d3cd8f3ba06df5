"""Any OpenAI-compatible server over HTTP: vLLM's first of all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

from agentmem.backends.http import DONE, HttpClient, Reply, split_target
from agentmem.backends.server_tokens import ServedModel, ServerCounter
from agentmem.errors import (
    BackendTimeoutError,
    BackendUnavailableError,
    BadCompletionError,
    BadRequestError,
    ConfigError,
)
from agentmem.protocols import TokenCounter
from agentmem.types import Chunk, Completion, Request, ToolCall, Usage

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
_Pieces = Generator[Chunk, None, None]


class OpenAIBackend:
    """Chat completions of a server named by `http://host:port/v1#model`; without `#model`, of its only model.

    The key comes from `api_key` or OPENAI_API_KEY and is shown nowhere. `timeout_s` is the longest wait for the
    next byte of an answer. Retryable failures are asked again `max_retries` times (see HttpClient); up to
    `concurrency` requests run at once. `context_window` in tokens is asked of the server when first read, unless
    it is given. Raises ConfigError for bad settings and MissingExtraError without httpx; connects at first use.
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
        self._window = context_window
        self._streams_usage = True
        self.name = f"openai:{url}#{model}" if model else f"openai:{url}"
        self.counter: TokenCounter = ServerCounter(self._http, self._served.id)

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
        """One line: the server, the model, and how tokens are counted."""
        return f"{self.name} (OpenAI-compatible server; token counts: {self.counter.name})"

    def close(self) -> None:
        """Close the connections; may be called twice."""
        self._http.close()

    def _body(self, request: Request) -> dict[str, Any]:
        if not request.messages:
            raise ConfigError("messages", request.messages, "a request needs at least one message")
        if request.max_tokens < 1:
            raise ConfigError("max_tokens", request.max_tokens, "must be 1 or more")
        names = [t.name for t in request.tools]
        if request.only_tool is not None and request.only_tool not in names:
            raise ConfigError("only_tool", request.only_tool, f"is none of the request's tools: {', '.join(names)}")
        body: dict[str, Any] = {
            "model": self._served.id(),
            "messages": [m.to_dict() for m in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if request.tools:
            only = request.only_tool
            body["tools"] = [t.to_dict() for t in request.tools]
            body["tool_choice"] = {"type": "function", "function": {"name": only}} if only is not None else "auto"
        return body

    def _complete(self, request: Request, body: dict[str, Any], stop: threading.Event | None) -> Completion:
        reply = self._http.post(f"{self._http.url}/chat/completions", body, model=body["model"], stop=stop)
        message, finish = _first_choice(reply, "message")
        if message is None:
            raise reply.bad("lacks 'choices'")
        text = _typed(reply, message, "content", str) or ""
        built = _CallBuilder()
        for index, call in enumerate(_typed(reply, message, "tool_calls", list) or []):
            built.add(reply, call, index)
        calls = built.calls(reply)
        usage = _usage(reply) or self._counted(request, text, calls)
        return Completion(text, calls, usage, finish or "stop")

    def _begin(self, request: Request, body: dict[str, Any]) -> tuple[_Pieces, Chunk]:
        if self._streams_usage:
            try:
                return _started(self._pieces(request, body | {"stream_options": {"include_usage": True}}))
            except BadRequestError as e:
                if e.status not in (400, 422):
                    raise
        # Asked without the option: if that works the option was what the server refused.
        begun = _started(self._pieces(request, body))
        self._streams_usage = False
        return begun

    def _pieces(self, request: Request, body: dict[str, Any]) -> _Pieces:
        url = f"{self._http.url}/chat/completions"
        texts: list[str] = []
        built = _CallBuilder()
        usage: Usage | None = None
        finish, ended, reply = "", False, Reply(url, "", None, None)
        events = self._http.events(url, body, model=body["model"])
        try:
            for reply in events:
                if reply.body is None and reply.text.strip() == DONE:
                    ended = True
                    break
                delta, reason = _first_choice(reply, "delta")
                usage = _usage(reply) or usage
                finish = reason or finish
                if delta is None:
                    continue
                for call in _typed(reply, delta, "tool_calls", list) or []:
                    built.add(reply, call, None)
                if text := _typed(reply, delta, "content", str) or "":
                    texts.append(text)
                    yield Chunk(text)
        except (BackendUnavailableError, BackendTimeoutError) as e:
            if not finish:  # once the end was told nothing is missing but the usage
                if texts and isinstance(e, BackendUnavailableError) and e.status is None:
                    raise _cut(url, texts, reply) from e
                raise
        finally:
            events.close()
        if not ended and not finish:
            raise _cut(url, texts, reply)
        text, calls = "".join(texts), built.calls(reply)
        yield Chunk("", Completion(text, calls, usage or self._counted(request, text, calls), finish or "stop"))

    def _counted(self, request: Request, text: str, calls: tuple[ToolCall, ...]) -> Usage:
        """The usage of a server that states none."""
        count = self.counter.count
        said = count(text) + sum(count(c.name) + count(c.arguments) for c in calls)
        return Usage(self.counter.count_prompt(request.messages, request.tools), said)


def _started(pieces: _Pieces) -> tuple[_Pieces, Chunk]:
    return pieces, next(pieces)


def _first_failure(futures: Sequence[Future[Completion]]) -> BaseException | None:
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    return next((e for f in futures if f in done and (e := f.exception()) is not None), None)


def _cut(url: str, texts: Sequence[str], reply: Reply) -> BadCompletionError:
    got = sum(map(len, texts))
    return BadCompletionError(
        f"{url}: the stream was cut after {got} characters, before the model's answer ended",
        hint="ask again; see the server's log for why it stopped",
        request_id=reply.request_id,
    )


def _typed(reply: Reply, holder: dict[str, Any], key: str, kind: type[T]) -> T | None:
    """A field, None when absent or null. Raises BadCompletionError for another type."""
    value = holder.get(key)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise reply.bad(f"has a {type(value).__name__} in '{key}' where a {kind.__name__} belongs")
    return value


def _first_choice(reply: Reply, key: str) -> tuple[dict[str, Any] | None, str | None]:
    """choices[0][key] and its finish reason; (None, None) when there is no choice."""
    if not isinstance(reply.body, dict):
        raise reply.bad("is no JSON object")
    choices: list[Any] | None = _typed(reply, reply.body, "choices", list)
    if not choices:
        return None, None
    if not isinstance(choices[0], dict):
        raise reply.bad("has a choice that is no object")
    found: dict[str, Any] | None = _typed(reply, choices[0], key, dict)
    finish = _typed(reply, choices[0], "finish_reason", str)
    if found is None and key == "message":
        raise reply.bad("has a choice without a 'message'")
    return found, finish


def _usage(reply: Reply) -> Usage | None:
    told: dict[str, Any] | None = _typed(reply, reply.body, "usage", dict)
    if not told:
        return None
    details: dict[str, Any] = _typed(reply, told, "prompt_tokens_details", dict) or {}
    prompt, said = _typed(reply, told, "prompt_tokens", int), _typed(reply, told, "completion_tokens", int)
    if prompt is None:
        return None
    return Usage(prompt, said or 0, _typed(reply, details, "cached_tokens", int))


class _CallBuilder:
    """Puts tool calls together from whole ones or from streamed pieces."""

    def __init__(self) -> None:
        self._parts: dict[int, list[str]] = {}  # index -> id, name, arguments

    def add(self, reply: Reply, piece: Any, index: int | None) -> None:
        """Add a call, or a piece of one: a streamed piece says which it belongs to (`index=None`)."""
        if not isinstance(piece, dict):
            raise reply.bad("has a tool call that is no object")
        at = index if index is not None else _typed(reply, piece, "index", int)
        if at is None:
            raise reply.bad("has a tool call without an 'index'")
        function: dict[str, Any] = _typed(reply, piece, "function", dict) or {}
        parts = self._parts.setdefault(at, ["", "", ""])
        parts[0] = parts[0] or _typed(reply, piece, "id", str) or ""
        name = _typed(reply, function, "name", str) or ""
        if name != parts[1]:  # some servers repeat the whole name in every piece
            parts[1] += name
        parts[2] += _typed(reply, function, "arguments", str) or ""

    def calls(self, reply: Reply) -> tuple[ToolCall, ...]:
        """The calls, by index. A missing id is made from the position."""
        if any(not name for _, name, _ in self._parts.values()):
            raise reply.bad("has a tool call without a name")
        rows = [self._parts[i] for i in sorted(self._parts)]
        return tuple(ToolCall(id_ or f"call_{n}", name, args) for n, (id_, name, args) in enumerate(rows))
