"""From a completion to what the user sees and what is to be called, by the way in which tools reach the model."""

from __future__ import annotations

from collections.abc import Iterator

from agentmem import actions
from agentmem.citing import clean
from agentmem.encoding import ToolMode
from agentmem.errors import BadCompletionError
from agentmem.parsing import NO_NAME, StreamFilter, strip_thinking, text_calls
from agentmem.protocols import Backend, StreamingBackend
from agentmem.tool_specs import SPECS
from agentmem.types import Completion, Request, ToolCall

MAX_CALLS = 16
"""More calls than this in one answer are dropped: no step needs them."""


def interpret(completion: Completion, mode: ToolMode, first_id: int) -> tuple[str, tuple[ToolCall, ...]]:
    """(what the user sees, the calls). Plain text is always a reply; thinking is in neither.

    Ids of calls are unique within an answer; made ones count up from `first_id`.
    """
    text = clean(strip_thinking(completion.text))
    calls = completion.tool_calls
    if not calls and mode == "native":
        text, calls = text_calls(text, SPECS, first_id)
    elif not calls and mode == "json":
        text, calls = actions.decode(text, first_id)
    elif mode == "off":
        calls = ()
    sound: list[ToolCall] = []
    for n, call in enumerate(calls[:MAX_CALLS]):
        number = clean(call.id) or f"call_{first_id + n}"
        while any(c.id == number for c in sound):
            number += "_"
        sound.append(ToolCall(number, clean(call.name) or NO_NAME, clean(call.arguments)))
    return text, tuple(sound)


def answer(backend: Backend, request: Request, mode: ToolMode, stream: bool) -> Iterator[str | Completion]:
    """The visible text in pieces, then the completion. Raises BackendError."""
    if stream and isinstance(backend, StreamingBackend):
        yield from _streamed(backend, request, mode)
        return
    completions = backend.generate([request])
    if len(completions) != 1:
        raise BadCompletionError(f"the backend gave {len(completions)} completions for one request")
    if text := interpret(completions[0], mode, 0)[0]:
        yield text
    yield completions[0]


def _streamed(backend: StreamingBackend, request: Request, mode: ToolMode) -> Iterator[str | Completion]:
    visible = StreamFilter()
    completion: Completion | None = None
    chunks = backend.stream(request)
    try:
        for chunk in chunks:
            # Empty while a call or a thought is written: the reader may leave there too.
            yield clean(visible.feed(chunk.text))
            completion = chunk.completion or completion
    finally:
        # Leaving early frees the request now, not when the iterator happens to be collected.
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    if completion is None:
        raise BadCompletionError("the stream ended without a completion", hint="ask again")
    # What was held back belongs to the text only if it was no tool call.
    text = interpret(completion, mode, 0)[0]
    shown = clean(visible.shown)
    if len(text) > len(shown) and text.startswith(shown):
        yield text[len(shown) :]
    yield completion
