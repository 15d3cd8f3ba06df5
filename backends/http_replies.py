"""What comes back over HTTP: bodies, server-sent events, and the error that each refusal is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from agentmem.errors import (
    BackendError,
    BackendTimeoutError,
    BackendUnavailableError,
    BadCompletionError,
    BadRequestError,
    RateLimitedError,
)

DONE = "[DONE]"
_EXCERPT_CHARS = 200
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
_TOO_LONG = re.compile(r"context.?(length|window)|maximum.{0,20}length|max_model_len|too long|too many tokens", re.I)


@dataclass(frozen=True, slots=True)
class Reply:
    """A body that a server sent: `text` as it came (the key struck out), `body` as JSON."""

    url: str
    text: str
    body: Any
    request_id: str | None

    def bad(self, problem: str) -> BadCompletionError:
        """The error for a body that can't be used; quotes its first 200 characters."""
        return BadCompletionError(
            f"{self.url}: the answer {problem}: {excerpt(self.text)}",
            hint="is it an OpenAI-compatible server?",
            request_id=self.request_id,
        )


def excerpt(text: str) -> str:
    """The start of a text, on one line, as error messages quote it (at most 200 characters)."""
    return repr(text[:_EXCERPT_CHARS]) if text else "(empty)"


def retry_after_s(header: str | None) -> float | None:
    """A Retry-After header (seconds, or an HTTP date) as seconds >= 0; None when absent or unreadable."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if seconds == seconds else None


def sse_data(pieces: Iterable[bytes]) -> Iterator[str]:
    """The data of each server-sent event. Raises UnicodeDecodeError.

    Lines end at CR and LF only: U+2028 and its like stand raw inside JSON, and `str.splitlines` would cut there.
    """
    data: list[str] = []

    def take(line: bytes) -> str | None:
        if line:
            if line == b"data" or line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" ").decode("utf-8"))
            return None
        event, has_data = "\n".join(data), bool(data)
        data.clear()
        return event if has_data else None

    rest = b""
    for piece in pieces:
        *lines, rest = _LINE_END.split(rest + piece)
        for line in lines:
            if (event := take(line)) is not None:
                yield event
    # The last event counts even where the server forgot its empty line.
    for line in (rest.rstrip(b"\r\n"), b""):
        if (event := take(line)) is not None:
            yield event


def refusal(
    status: int, text: str, url: str, model: str | None, request_id: str | None, retry_after: str | None
) -> BackendError:
    """The error for a status that is no success: 5xx and 408 and 429 are retryable, the rest is not."""
    said = server_message(text)
    message = f"{url} answered {status}: {said}"
    wait_s = retry_after_s(retry_after)
    if status == 429:
        return RateLimitedError(
            message, hint="lower concurrency, or wait", retry_after_s=wait_s, status=status, request_id=request_id
        )
    if status == 408:
        return BackendTimeoutError(message, hint="the server gave up waiting", status=status, request_id=request_id)
    if status >= 500:
        error = BackendUnavailableError(message, hint="see the server's log", status=status, request_id=request_id)
        vars(error)["retry_after_s"] = wait_s  # a 503 may name a wait too
        return error
    hint = ""
    if status in (401, 403):
        hint = "set OPENAI_API_KEY to a key that this server takes"
    elif status == 404:
        hint = f"asked {url} for the model {model!r}: check the URL (it ends in /v1 mostly) and the model's name"
    elif _TOO_LONG.search(said):
        hint = "the prompt is longer than the server allows: lower --window to the server's own limit"
    elif "auto-tool-choice" in said:
        hint = "start vLLM with --enable-auto-tool-choice --tool-call-parser NAME"
    return BadRequestError(message, hint=hint, status=status, request_id=request_id)


def server_message(text: str) -> str:
    """What the server says in any of the usual shapes; the body's start where it has none of them."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return excerpt(text)
    for _ in range(2):
        if isinstance(body, dict):
            body = next((body[k] for k in ("error", "message", "detail") if body.get(k)), body)
    return body[:1000] if isinstance(body, str) else excerpt(text)
