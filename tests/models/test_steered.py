"""A steered backend asks the real one for everything, and says what the script says."""

from __future__ import annotations

import pytest

from agentmem.errors import BackendUnavailableError, BadCompletionError
from agentmem.protocols import ModelBackend, StreamingBackend
from agentmem.testing import ScriptedBackend, tool_call
from agentmem.types import ChatMessage, Completion, Request
from tests.models.steered import Steered


class Real(ScriptedBackend):
    block_size = 16

    def tool_modes(self):
        return ("native", "off")


def ask(text: str = "hello there") -> Request:
    return Request((ChatMessage("user", text),), max_tokens=500)


def test_words_are_the_scripts_and_usage_is_the_models() -> None:
    real = Real(["nonsense"] * 4)
    call = tool_call("send_message", message="hi")
    steered = Steered(real, ["said", call, lambda request: Completion(request.messages[0].content.upper())])
    one, two = steered.generate([ask(), ask("a longer question than that")])
    assert (one.text, two.tool_calls) == ("said", call.tool_calls)
    assert [c.usage for c in (one, two)] == [c.usage for c in steered.real]
    assert [r.max_tokens for r in real.requests] == [2, 2] and steered.requests[0].max_tokens == 500
    chunks = list(steered.stream(ask()))
    assert "".join(c.text for c in chunks) == "HELLO THERE" and len(chunks) == 3
    assert chunks[-1].completion is not None and chunks[-1].completion.usage == steered.real[-1].usage
    with pytest.raises(BadCompletionError, match="used up"):
        steered.generate([ask()])


def test_it_is_what_it_steers() -> None:
    steered = Steered(Real([]), [])
    assert isinstance(steered, ModelBackend) and isinstance(steered, StreamingBackend)
    assert (steered.tool_modes(), steered.block_size, steered.context_window) == (("native", "off"), 16, 8192)
    assert steered.counter is steered.backend.counter and "steered" in steered.describe()


def test_errors_are_raised_after_the_model_was_asked() -> None:
    real = Real(["x", "x"])
    steered = Steered(real, [BackendUnavailableError("away")] * 2)
    with pytest.raises(BackendUnavailableError):
        steered.generate([ask()])
    with pytest.raises(BackendUnavailableError):
        list(steered.stream(ask()))
    assert len(real.requests) == 2


def test_leaving_a_stream_leaves_the_real_one() -> None:
    class Watched(Real):
        closed = 0

        def stream(self, request):
            try:
                yield from super().stream(request)
            finally:
                self.closed += 1

    real = Watched(["some words of nonsense"])
    stream = Steered(real, ["one two three"]).stream(ask())
    next(stream)
    stream.close()
    assert real.closed == 1
