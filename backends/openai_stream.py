"""A streamed chat completion, from its first piece to the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from agentmem.backends.http import Deadline, HttpClient
from agentmem.backends.http_replies import DONE, Reply
from agentmem.backends.openai_wire import CallBuilder, TokenIds, first_choice, typed, usage_of
from agentmem.backends.served_model import ServedModel
from agentmem.errors import BackendTimeoutError, BackendUnavailableError, BadCompletionError
from agentmem.types import Chunk, Completion, ToolCall, Usage

Pieces = Generator[Chunk, None, None]
# What a server still has to send once it told why the model stopped: its usage, and the end.
_REST_S, _END_S = 5.0, 1.0


def read_stream(
    http: HttpClient,
    served: ServedModel,
    body: dict[str, Any],
    counted: Callable[[str, tuple[ToolCall, ...]], Usage],
) -> Pieces:
    """The pieces of the answer to a request's `body`; the last one carries the completion.

    `counted` gives the usage where the server states none. Closing the iterator closes the connection. Raises
    BackendError; BadCompletionError for a stream that was cut.
    """
    url = f"{http.url}/chat/completions"
    texts: list[str] = []
    built, ids = CallBuilder(), TokenIds(body["max_tokens"])
    usage: Usage | None = None
    finish, ended, reply = "", False, Reply(url, "", None, None)
    deadline = Deadline()
    events = http.events(url, body, model=body["model"], deadline=deadline)
    try:
        for reply in events:
            if reply.body is None and reply.text.strip() == DONE:
                ended = True
                deadline.start(_END_S)  # read on to the end: only then can the connection be used again
                continue
            if ended:
                continue
            choice = first_choice(reply)
            usage = usage_of(reply) or usage
            if choice is None:
                continue
            served.check(reply)
            if not finish and (reason := typed(reply, choice, "finish_reason", str)):
                finish = reason
                deadline.start(_REST_S)
            ids.add(reply, choice)
            delta: dict[str, Any] = typed(reply, choice, "delta", dict) or {}
            for call in typed(reply, delta, "tool_calls", list) or []:
                built.add(reply, call, None)
            if text := typed(reply, delta, "content", str) or "":
                texts.append(text)
                yield Chunk(text)
    except (BackendUnavailableError, BackendTimeoutError) as e:
        if not finish and not ended:  # once the end was told nothing is missing but the usage
            if texts and isinstance(e, BackendUnavailableError) and e.status is None:
                raise _cut(url, texts, reply) from e
            raise
    finally:
        deadline.cancel()
        events.close()
    if not ended and not finish:
        raise _cut(url, texts, reply)
    said, calls, finish = "".join(texts), built.calls(reply), finish or "stop"
    yield Chunk("", Completion(said, calls, usage or counted(said, calls), finish, token_ids=ids.generated(finish)))


def _cut(url: str, texts: Sequence[str], reply: Reply) -> BadCompletionError:
    got = sum(map(len, texts))
    return BadCompletionError(
        f"{url}: the stream was cut after {got} characters, before the model's answer ended",
        hint="ask again; see the server's log for why it stopped",
        request_id=reply.request_id,
    )
