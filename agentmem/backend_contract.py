"""The laws of `Backend`, `ModelBackend` and `StreamingBackend` as a test class; see `agentmem.contracts`."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from time import monotonic, sleep

from agentmem.errors import AgentMemError, BackendError, BackendTimeoutError, ConfigError
from agentmem.protocols import Backend, ModelBackend, PromptTokenizer, StreamingBackend
from agentmem.types import ChatMessage, Completion, Request

TEXTS = (
    "My sister Anna moved to Lisbon in May.",
    "Olá, ça va? 東京は雨です。",
    "def f(x):\n    return x ** 2\n",
    "The invoice INV-2041 of 3 March is not paid.",
)


class BackendContract:
    """Laws of Backend, and of StreamingBackend where the driver is one.

    Override the fixture `backend`; and `request_for_text` when the driver wants more than one user message;
    and `expected_text` when it is known what the driver answers (else a batch is compared with single requests,
    which asks of the driver that it answers the same request equally twice).
    """

    def request_for_text(self, text: str) -> Request:
        """A request that the driver under test can answer."""
        return Request((ChatMessage("user", text),), max_tokens=64)

    def expected_text(self, text: str) -> str | None:
        """What the driver answers to `request_for_text(text)`; None when that is not known."""
        return None

    def impatient(self, backend: Backend) -> Backend | None:
        """A backend of the same kind that can't answer within the time that it is given; None to leave that law out."""
        return None

    def running(self, backend: Backend) -> int | None:
        """Requests that the driver still works on; None when it can't tell."""
        return getattr(backend, "active_requests", None)

    def _freed(self, backend: Backend) -> bool:
        """Whether the driver soon works on nothing; true where it can't tell."""
        late = monotonic() + 20
        while self.running(backend) and monotonic() < late:
            sleep(0.02)
        return not self.running(backend)

    def _ask(self, backend: Backend, text: str) -> Completion:
        (completion,) = backend.generate([self.request_for_text(text)])
        return completion

    def test_says_what_it_is(self, backend: Backend) -> None:
        described = backend.describe()
        assert described.strip() and "\n" not in described, f"describe() must be one line: {described!r}"
        assert backend.name and isinstance(backend.name, str)
        assert isinstance(backend.native_tools, bool)
        window = backend.context_window
        assert window is None or window > 0, f"context_window: {window!r}"

    def test_nothing_for_nothing(self, backend: Backend) -> None:
        assert backend.generate([]) == []

    def test_one_completion_per_request_in_order(self, backend: Backend) -> None:
        completions = backend.generate([self.request_for_text(t) for t in TEXTS])
        assert len(completions) == len(TEXTS)
        for text, completion in zip(TEXTS, completions, strict=True):
            expected = self.expected_text(text)
            if expected is None:
                expected = self._ask(backend, text).text
            assert completion.text == expected, f"for {text!r}: {completion.text!r}, expected {expected!r}"

    def test_usage_is_filled_in(self, backend: Backend) -> None:
        request = self.request_for_text(TEXTS[0])
        (completion,) = backend.generate([request])
        usage = completion.usage
        assert usage.prompt_tokens > 0, f"usage: {usage}"
        assert usage.completion_tokens > 0 or not (completion.text or completion.tool_calls), f"usage: {usage}"
        assert usage.cached_tokens is None or 0 <= usage.cached_tokens <= usage.prompt_tokens, f"usage: {usage}"
        counted = backend.counter.count_prompt(request.messages, request.tools if backend.native_tools else ())
        if backend.counter.exact:
            assert counted == usage.prompt_tokens, f"predicted {counted} prompt tokens, used {usage.prompt_tokens}"

    def test_requests_are_not_changed(self, backend: Backend) -> None:
        requests = [self.request_for_text(t) for t in TEXTS[:2]]
        before = deepcopy(requests)
        backend.generate(requests)
        assert requests == before

    def test_odd_text_is_answered_or_refused_properly(self, backend: Backend) -> None:
        for text in ("", " \n", "\x00\x7f", "a\u2028b\x85c", "half a pair: \ud83d"):
            try:
                assert isinstance(self._ask(backend, text).text, str)
            except (BackendError, ConfigError) as e:
                assert str(e), f"{type(e).__name__} without words for {text!r}"

    def test_counter_laws(self, backend: Backend) -> None:
        counter = backend.counter
        assert counter.name
        assert counter.count("") == 0
        for text in TEXTS:
            assert counter.count(text) == counter.count(text) > 0
        messages = self.request_for_text(TEXTS[0]).messages
        whole = counter.count_prompt(messages)
        assert whole == counter.count_prompt(messages)
        if counter.additive:
            assert counter.count("\n".join(TEXTS)) == sum(counter.count(t) for t in TEXTS)
            assert whole >= sum(counter.count(m.content) for m in messages)

    def test_stream_joins_to_the_completion(self, backend: Backend) -> None:
        if not isinstance(backend, StreamingBackend):
            return
        for text in TEXTS:
            *chunks, last = backend.stream(self.request_for_text(text))
            assert all(c.completion is None for c in chunks), "only the last chunk carries the completion"
            assert last.completion is not None, "the last chunk carries the completion"
            assert "".join(c.text for c in [*chunks, last]) == last.completion.text
            assert last.completion.usage.prompt_tokens > 0
            expected = self.expected_text(text)
            assert last.completion.text == (self._ask(backend, text).text if expected is None else expected)

    def test_closing_a_stream_leaves_the_backend_usable(self, backend: Backend) -> None:
        if not isinstance(backend, StreamingBackend):
            return
        chunks = backend.stream(self.request_for_text(TEXTS[0]))
        next(chunks)
        close = getattr(chunks, "close", None)
        assert close is not None, "the iterator can't be closed: give a generator"
        close()
        assert list(chunks) == []
        assert isinstance(self._ask(backend, TEXTS[1]).text, str)

    def test_closing_a_stream_frees_its_request(self, backend: Backend) -> None:
        if not isinstance(backend, StreamingBackend) or self.running(backend) is None:
            return
        chunks = backend.stream(replace(self.request_for_text(TEXTS[0]), max_tokens=1000))
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        assert self._freed(backend), "the request of a closed stream goes on"

    def test_an_abandoned_stream_holds_nobody_up(self, backend: Backend) -> None:
        if not isinstance(backend, StreamingBackend):
            return
        begun = [backend.stream(self.request_for_text(t)) for t in TEXTS]
        for chunks in begun:
            next(chunks)
        assert isinstance(self._ask(backend, TEXTS[1]).text, str)
        for chunks in begun:
            chunks.close()  # type: ignore[attr-defined]

    def test_an_answer_is_cut_at_max_tokens(self, backend: Backend) -> None:
        if not isinstance(backend, ModelBackend):
            return
        (found,) = backend.generate([replace(self.request_for_text(TEXTS[0]), max_tokens=2)])
        assert found.usage.completion_tokens <= 2 and len(found.token_ids) <= 2

    def test_a_late_answer_is_a_time_out_that_can_be_asked_again(self, backend: Backend) -> None:
        hurried = self.impatient(backend)
        if hurried is None:
            return
        asks: list[Callable[[Request], object]] = [lambda r: hurried.generate([r])]
        if isinstance(hurried, StreamingBackend):
            asks.append(lambda r: list(hurried.stream(r)))
        try:
            for ask in asks:
                try:
                    ask(replace(self.request_for_text(TEXTS[0]), max_tokens=2000))
                except BackendTimeoutError as e:
                    assert e.retryable and str(e)
                else:
                    raise AssertionError(f"way {asks.index(ask)} answered, or waited without end")
                assert self._freed(backend), "what timed out is still worked on"
        finally:
            hurried.close()

    def test_a_prompt_beyond_the_window_is_an_error_of_the_tree(self, backend: Backend) -> None:
        window = backend.context_window
        if window is None or window > 20_000:
            return
        try:
            assert isinstance(self._ask(backend, "word " * 2 * window), Completion)
        except AgentMemError as e:
            assert str(e)

    def test_modes_of_a_model(self, backend: Backend) -> None:
        if not isinstance(backend, ModelBackend):
            return
        modes = backend.tool_modes()
        assert modes[-1] == "off" and set(modes) <= {"native", "json", "off"} and len(set(modes)) == len(modes)
        size = backend.block_size
        assert size is None or size > 0
        if "json" not in modes:
            return
        schema = {
            "type": "object", "properties": {"colour": {"enum": ["red", "green"]}, "n": {"type": "integer"}},
            "required": ["colour", "n"], "additionalProperties": False,
        }  # fmt: skip
        request = replace(self.request_for_text(TEXTS[0]), schema=schema)
        (completion,) = backend.generate([request])
        if completion.finish_reason == "length":
            return
        value = json.loads(completion.text)
        assert set(value) == {"colour", "n"} and value["colour"] in ("red", "green") and isinstance(value["n"], int)

    def test_the_counter_knows_the_tokens(self, backend: Backend) -> None:
        counter = backend.counter
        if not isinstance(counter, PromptTokenizer):
            return
        messages = self.request_for_text(TEXTS[1]).messages
        assert len(counter.encode_prompt(messages)) == counter.count_prompt(messages)
        assert counter.how and "\n" not in counter.how

    def test_close_twice(self, backend: Backend) -> None:
        backend.close()
        backend.close()
