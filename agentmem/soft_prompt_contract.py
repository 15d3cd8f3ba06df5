# ruff: noqa: D102
"""The laws of `agentmem.soft_prompts` as test classes: inherit one, give its fixture, and pytest runs them.

Nothing here imports pytest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentmem.errors import AgentMemError, BadRequestError, ConfigError
from agentmem.soft_prompts import SoftPrompt, SoftPromptBackend, SoftPromptEncoder
from agentmem.types import ChatMessage, Completion, Request

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.protocols import TokenCounter

STORY = (
    "Anna moved from Porto to Lisbon in May 2023, and her new flat is at Rua Augusta 12. "
    "The invoice INV-2041 over 310.50 euros was not paid. "
)
QUESTION = "Where does Anna live?"


class SoftPromptEncoderContract:
    """Laws of SoftPromptEncoder. Override the fixture `encoder`, and `counter`."""

    def counter(self) -> TokenCounter:
        """Counts in the tokens of the encoder's model."""
        raise NotImplementedError

    def texts(self) -> list[str]:
        odd = ["我昨天不再吃素了。", "لم أعد نباتيًا منذ مايو.", "👩‍👩‍👧‍👦 no 🥶", "half a pair: \ud83d", "\x00"]
        return [STORY, STORY * 4, QUESTION, *odd]

    def test_says_whose_it_is(self, encoder: SoftPromptEncoder) -> None:
        assert encoder.model and encoder.model == encoder.model

    def test_one_result_per_text_of_its_model(self, encoder: SoftPromptEncoder) -> None:
        assert encoder.encode([]) == []
        found = encoder.encode(self.texts())
        assert len(found) == len(self.texts())
        made = [s for s in found if s is not None]
        assert made, "it encodes nothing"
        assert {s.model for s in made} == {encoder.model}
        assert len({s.hidden for s in made}) == 1

    def test_fewer_rows_than_tokens(self, encoder: SoftPromptEncoder) -> None:
        for text, soft in zip(self.texts(), encoder.encode(self.texts()), strict=True):
            assert soft is None or len(soft) < self.counter().count(text), f"{text!r} is not made shorter"

    def test_nothing_of_nothing(self, encoder: SoftPromptEncoder) -> None:
        assert encoder.encode([""]) == [None]

    def test_the_same_again_and_alone(self, encoder: SoftPromptEncoder) -> None:
        together = encoder.encode(self.texts())
        for text, soft in zip(self.texts(), together, strict=True):
            (alone,) = encoder.encode([text])
            assert (alone is None) == (soft is None)
            if alone is not None and soft is not None:
                assert _close(alone.rows, soft.rows), f"{text!r}: rows depend on the batch, or on chance"

    def test_texts_differ_in_their_rows(self, encoder: SoftPromptEncoder) -> None:
        other = STORY.replace("Anna", "Peter").replace("Lisbon", "Madrid").replace("invoice", "letter")
        one, two = encoder.encode([STORY * 4, other * 4])
        assert one is not None and two is not None
        assert one.rows.shape != two.rows.shape or not _close(one.rows, two.rows)


class SoftPromptBackendContract:
    """Laws of SoftPromptBackend. Override the fixture `backend`, one that answers greedily, and `embedded`.

    Its chat template must write a user's message the same whatever stands before it.
    """

    def embedded(self, backend: Any, ids: Sequence[int]) -> NDArray[np.float32]:
        """The model's own embeddings of tokens, read by other means than the backend: float32 of (len(ids), hidden)."""
        raise NotImplementedError

    def story(self) -> str:
        """A text for which a soft prompt stands in."""
        return STORY

    def asked(self, *texts: str) -> Request:
        return Request(tuple(ChatMessage("user", t) for t in texts), max_tokens=24)

    def plain(self, backend: Any, text: str = "") -> Completion:
        """The answer to story and question as an ordinary prompt."""
        (said,) = backend.generate([self.asked(text or self.story(), QUESTION)])
        return said  # type: ignore[no-any-return]

    def soft(self, backend: Any, text: str = "") -> SoftPrompt:
        """The story as a soft prompt: its tokens' own embeddings, wrappers of its message included."""
        both = backend.counter.encode_prompt(self.asked(text or self.story(), QUESTION).messages).ids
        last = backend.counter.encode_prompt(self.asked(QUESTION).messages).ids
        assert both[-len(last) :] == last, "the template writes the question otherwise when it stands alone"
        return SoftPrompt(self.embedded(backend, both[: -len(last)]), backend.soft_prompt_model())

    def softly(self, backend: Any, soft: SoftPrompt | None) -> Completion:
        (said,) = backend.generate_with([self.asked(QUESTION)], [soft])
        return said  # type: ignore[no-any-return]

    def serves_on(self, backend: Any) -> None:
        """It still answers, and rightly, with a soft prompt and without."""
        assert _said(self.softly(backend, self.soft(backend))) == _said(self.plain(backend))

    def refused(self, backend: Any, soft: Any) -> AgentMemError:
        """The error for a soft prompt in a batch whose first request is fine."""
        try:
            backend.generate_with([self.asked(QUESTION), self.asked(QUESTION)], [None, soft])
        except AgentMemError as e:
            self.serves_on(backend)
            assert e.hint, "the error says not what to do"
            return e
        raise AssertionError(f"{soft!r} was not refused")

    def test_it_is_one(self, backend: Any) -> None:
        assert isinstance(backend, SoftPromptBackend)
        assert backend.soft_prompt_model() == backend.soft_prompt_model() != ""
        assert backend.generate_with([], []) == []

    def test_rows_that_are_embeddings_of_tokens_say_what_the_tokens_say(self, backend: Any) -> None:
        for text in (self.story(), "x", self.story() * 3):
            plain, softly = self.plain(backend, text), self.softly(backend, self.soft(backend, text))
            assert _said(softly) == _said(plain)
            assert softly.token_ids

    def test_other_rows_say_something_else(self, backend: Any) -> None:
        soft = self.soft(backend)
        others = [soft.rows[::-1], soft.rows * -1.0, soft.rows[: len(soft) // 2]]
        answers = [_said(self.softly(backend, s)) for s in (soft, None, *(SoftPrompt(o, soft.model) for o in others))]
        assert len(set(answers)) == len(answers), "rows do not reach the model"

    def test_each_request_of_a_batch_has_its_own(self, backend: Any) -> None:
        texts = [f"{n} {self.story()}" for n in range(6)]
        soft = [self.soft(backend, t) if n % 2 else None for n, t in enumerate(texts)]
        alone = [_said(self.softly(backend, s)) for s in soft]
        together = backend.generate_with([self.asked(QUESTION)] * 6, soft)
        assert [_said(c) for c in together] == alone

    def test_the_usage_counts_rows(self, backend: Any) -> None:
        soft = self.soft(backend)
        tokens = backend.counter.count_prompt(self.asked(QUESTION).messages)
        assert self.softly(backend, soft).usage.prompt_tokens == len(soft) + tokens
        assert self.softly(backend, None).usage.prompt_tokens == tokens

    def test_rows_of_another_length_are_refused(self, backend: Any) -> None:
        soft = self.soft(backend)
        for hidden in (1, soft.hidden - 1):
            error = self.refused(backend, SoftPrompt(soft.rows[:, :hidden], soft.model))
            assert isinstance(error, ConfigError) and str(soft.hidden) in str(error)

    def test_a_soft_prompt_of_another_model_is_refused(self, backend: Any) -> None:
        soft = self.soft(backend)
        error = self.refused(backend, SoftPrompt(soft.rows, "0" * 64))
        assert isinstance(error, ConfigError) and "another model" in str(error)

    def test_what_is_no_soft_prompt_is_refused(self, backend: Any) -> None:
        for thing in (self.soft(backend).rows, b"\x80\x04N.", "rows"):
            assert isinstance(self.refused(backend, thing), ConfigError)

    def test_a_soft_prompt_for_each_request(self, backend: Any) -> None:
        try:
            backend.generate_with([self.asked(QUESTION)], [])
        except ConfigError:
            self.serves_on(backend)
        else:
            raise AssertionError("one request, no soft prompt, no error")

    def test_more_rows_than_the_window_has_are_refused(self, backend: Any) -> None:
        import numpy as np

        soft, window = self.soft(backend), backend.context_window
        tokens = backend.counter.count_prompt(self.asked(QUESTION).messages)
        for rows in (window - tokens, window, 2 * window):
            many = SoftPrompt(np.resize(soft.rows, (rows, soft.hidden)), soft.model)
            error = self.refused(backend, many)
            assert isinstance(error, BadRequestError) and str(rows) in str(error)


def _said(completion: Completion) -> tuple[str, tuple[int, ...], str]:
    return completion.text, completion.token_ids, completion.finish_reason


def _close(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Equal up to rounding, measured by the largest value."""
    import numpy as np

    return a.shape == b.shape and bool(np.abs(a - b).max() <= 1e-3 * np.abs(a).max())
