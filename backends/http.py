"""One HTTP client for every driver of an OpenAI-compatible server: time limits, retries and error translation."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from agentmem.backends.http_replies import DONE, Reply, refusal, sse_data
from agentmem.errors import (
    BackendError,
    BackendTimeoutError,
    BackendUnavailableError,
    BadCompletionError,
    ConfigError,
    MissingExtraError,
)

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

_MAX_WAIT_S = 30.0
_FIRST_WAIT_S = 0.5
_CONNECT_S = 10.0
_SURROGATE = re.compile("[\ud800-\udfff]")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def split_target(target: str) -> tuple[str, str | None]:
    """`http://host/v1#model` as (URL without a trailing slash, model or None). Raises ConfigError."""
    url, _, model = target.partition("#")
    url = url.strip().rstrip("/")
    # A password in the URL must not reach an error text, a log or the event log.
    public = re.sub(r"[^/@]*@", "***@", url)
    hint = "give e.g. openai:http://127.0.0.1:8000/v1#model"
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError as e:
        raise ConfigError("target", public, "is not a URL", hint=hint) from e
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        raise ConfigError("target", public, "is not an http(s) URL", hint=hint)
    if "@" in parts.netloc:
        raise ConfigError("target", public, "holds a name or password", hint="give the key in OPENAI_API_KEY")
    if parts.query:
        raise ConfigError("target", url.partition("?")[0] + "?...", "holds a query string", hint=hint)
    return url, model.strip() or None


class Deadline:
    """Breaks a stream that ought to be over: a server may have said all and keep the connection open.

    A read in progress has its own time limit, that of a pause between two pieces, and no other can be set from within.
    """

    def __init__(self) -> None:
        self._socket: Any = None
        self._timer: threading.Timer | None = None

    def attach(self, response: httpx.Response) -> None:
        """Take the response's connection; one that is none (a test's) can't be broken."""
        stream = response.extensions.get("network_stream")
        self._socket = stream.get_extra_info("socket") if stream is not None else None

    def start(self, seconds: float) -> None:
        """From now on the stream has this time; the last word counts."""
        self.cancel()
        if self._socket is not None:
            self._timer = threading.Timer(seconds, self._break)
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """The stream is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _break(self) -> None:
        with suppress(OSError):  # it is closed already
            # The base class's: a TLS socket's own would take the connection's state from under the reader.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class HttpClient:
    """Talks to one server. Thread-safe. The API key appears in no repr, error or log.

    `url` is without a trailing slash, `root` is it without `/v1`. `timeout_s` is the longest wait for the next
    byte. Retryable failures are asked again up to `max_retries` times with growing, jittered waits (at most 30 s);
    the server's Retry-After goes before. Raises ConfigError for bad settings, MissingExtraError without httpx.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 3,
        concurrency: int = 8,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if not timeout_s > 0:
            raise ConfigError("timeout_s", timeout_s, "must be above 0")
        if max_retries < 0:
            raise ConfigError("max_retries", max_retries, "must be 0 or more")
        if concurrency < 1:
            raise ConfigError("concurrency", concurrency, "must be 1 or more")
        try:
            import httpx
        except ImportError as e:
            raise MissingExtraError("an OpenAI-compatible server", "openai", "httpx") from e
        self.url = url
        self.root = url.removesuffix("/v1")
        self.concurrency = concurrency
        self._max_retries = max_retries
        self._sleep = sleep
        self._random = random.Random()  # own: a user's seed must not move by our waits
        self._closed = False
        self._key = (api_key if api_key is not None else os.environ.get("OPENAI_API_KEY", "")).strip()
        if not re.fullmatch(r"[!-~]*", self._key):
            # httpx would quote the bad header, that is the key, in its own error.
            raise ConfigError("api_key", "(hidden)", "holds a space or a sign that no header can carry")
        headers = {"User-Agent": "agentmem", "Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._client = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_S)),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=concurrency),
            # A proxy can't reach this machine's own servers.
            trust_env=urlsplit(url).hostname not in LOOPBACK,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"HttpClient({self.url!r})"

    def get(self, url: str) -> Reply:
        """GET; raises BackendError."""
        return self.retrying(lambda: self._exchange("GET", url, None, None), None)

    def get_text(self, url: str) -> str:
        """GET of what is no JSON; raises BackendError."""
        return self.retrying(lambda: self._exchange("GET", url, None, None, as_json=False), None).text

    def post(self, url: str, body: Any, *, model: str | None = None, stop: threading.Event | None = None) -> Reply:
        """POST JSON. `model` is named in a 404; once `stop` is set nothing is asked again. Raises BackendError."""
        content = encode(body)
        return self.retrying(lambda: self._exchange("POST", url, content, model), stop)

    def events(
        self, url: str, body: Any, *, model: str | None = None, deadline: Deadline | None = None
    ) -> Generator[Reply, None, None]:
        """POST JSON and read server-sent events, without retries; `[DONE]` comes as a Reply with body None.

        Closing the iterator closes the connection; `deadline` can break it earlier. Raises BackendError.
        """
        import httpx

        content = encode(body)
        self._check_open()
        try:
            with self._client.stream("POST", url, content=content) as response:
                if not response.is_success:
                    response.read()
                    raise self._refusal(response, url, model)
                if deadline is not None:
                    deadline.attach(response)
                request_id = response.headers.get("x-request-id")
                for data in sse_data(response.iter_bytes()):
                    reply = Reply(url, self._public(data), None, request_id)
                    if data.strip() != DONE:
                        reply = self._parsed(reply, data)
                        self._raise_error_event(reply, model)
                    yield reply
        except UnicodeDecodeError as e:
            raise BadCompletionError(f"{url}: the stream is not UTF-8", hint="is it a text stream?") from e
        except httpx.HTTPError as e:
            raise self._transport_error(e, url) from e

    def retrying(self, ask: Callable[[], T], stop: threading.Event | None = None) -> T:
        """`ask()`, again after a wait when it raises a retryable BackendError."""
        attempt = 0
        while True:
            try:
                return ask()
            except BackendError as e:
                if not e.retryable or attempt >= self._max_retries or (stop is not None and stop.is_set()):
                    raise
                self._sleep(self._wait_s(e, attempt))
                if stop is not None and stop.is_set():
                    raise
            attempt += 1

    def close(self) -> None:
        """Close the connections; may be called twice."""
        self._closed = True
        self._client.close()

    def _wait_s(self, error: BackendError, attempt: int) -> float:
        asked = vars(error).get("retry_after_s")
        if asked is not None:
            return float(min(asked, _MAX_WAIT_S))
        return min(_FIRST_WAIT_S * 2.0**attempt, _MAX_WAIT_S) * self._random.uniform(0.5, 1.0)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError(f"the connection to {self.url} was closed", hint="make a new backend")

    def _public(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _exchange(
        self, method: str, url: str, content: bytes | None, model: str | None, *, as_json: bool = True
    ) -> Reply:
        import httpx

        self._check_open()
        try:
            response = self._client.request(method, url, content=content)
        except httpx.HTTPError as e:
            raise self._transport_error(e, url) from e
        if not response.is_success:
            raise self._refusal(response, url, model)
        text = response.content.decode("utf-8", "replace")
        reply = Reply(url, self._public(text), None, response.headers.get("x-request-id"))
        return self._parsed(reply, text) if as_json else reply

    @staticmethod
    def _parsed(reply: Reply, text: str) -> Reply:
        try:
            return Reply(reply.url, reply.text, json.loads(text), reply.request_id)
        except (ValueError, RecursionError) as e:
            raise reply.bad("is not JSON") from e

    def _transport_error(self, error: httpx.HTTPError, url: str) -> BackendError:
        import httpx

        what = self._public(str(error)) or type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            kind = type(error).__name__.removesuffix("Timeout").lower()
            return BackendTimeoutError(
                f"{url}: no answer in time ({kind})", hint="is the server overloaded? else raise timeout_s"
            )
        if isinstance(error, httpx.DecodingError):
            return BadCompletionError(f"{url}: the answer's encoding is broken: {what}")
        return BackendUnavailableError(f"{url}: {what}", hint=f"is the server running at {self.url}?")

    def _raise_error_event(self, reply: Reply, model: str | None) -> None:
        problem = reply.body.get("error") if isinstance(reply.body, dict) else None
        if problem:
            code = problem.get("code") if isinstance(problem, dict) else None
            status = code if isinstance(code, int) and 400 <= code < 600 else 500
            raise refusal(status, reply.text, reply.url, model, reply.request_id, None)

    def _refusal(self, response: httpx.Response, url: str, model: str | None) -> BackendError:
        text = self._public(response.content.decode("utf-8", "replace"))
        header = response.headers.get
        if response.has_redirect_location:
            text = f"it redirects to {self._public(header('location'))}; give that URL instead"
        return refusal(response.status_code, text, url, model, header("x-request-id"), header("retry-after"))


def encode(body: Any) -> bytes:
    """A request's JSON as UTF-8; lone surrogates (no UTF-8 holds them) become U+FFFD. Raises ConfigError."""
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as e:
        raise ConfigError("request", type(body).__name__, f"can't be written as JSON: {e}") from e
    return _SURROGATE.sub("\ufffd", text).encode("utf-8")
