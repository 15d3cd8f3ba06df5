"""Soft prompts as values, and the contract of encoders on one that stands in for a trained one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.errors import ConfigError
from agentmem.protocols import TokenCounter
from agentmem.soft_prompt_contract import SoftPromptEncoderContract
from agentmem.soft_prompts import SoftPrompt
from agentmem.tokens import approximate_counter

ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_a_soft_prompt_keeps_its_own_rows() -> None:
    given_rows = ROWS.copy()
    soft = SoftPrompt(given_rows[:, ::-1], "m" * 64)
    given_rows[:] = 9
    assert np.array_equal(soft.rows, ROWS[:, ::-1]) and soft.rows.flags.c_contiguous
    assert (len(soft), soft.hidden) == (2, 3)
    assert repr(soft) == "SoftPrompt(2 rows of 3, model mmmmmmmmmmmm)"
    with pytest.raises(ValueError, match="read-only"):
        soft.rows[0, 0] = 1


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        (ROWS.tolist(), "numpy array"),
        (b"rows", "numpy array"),
        (ROWS.astype(np.float64), "float32"),
        (ROWS.astype(np.float16), "float32"),
        (ROWS.astype(np.int32), "float32"),
        (ROWS.astype(object), "float32"),
        (ROWS[0], "shape"),
        (ROWS[None], "shape"),
        (ROWS[:0], "shape"),
        (ROWS[:, :0], "shape"),
    ],
)
def test_what_are_no_rows_is_refused(rows: object, word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        SoftPrompt(rows, "m")  # type: ignore[arg-type]
    assert caught.value.field == "rows" and caught.value.hint


@given(st.sampled_from([math.nan, math.inf, -math.inf]), st.integers(0, 5))
def test_no_nan_and_no_infinity_at_any_place(value: float, place: int) -> None:
    rows = ROWS.copy()
    rows.flat[place] = value
    with pytest.raises(ConfigError, match="NaN or infinity"):
        SoftPrompt(rows, "m")


def test_a_model_must_be_named() -> None:
    with pytest.raises(ConfigError) as caught:
        SoftPrompt(ROWS, "")
    assert caught.value.field == "model"


class MeanEncoder:
    """Untrained: the mean of the rows of each four words, a row being drawn by the word. It shows the shape only."""

    model = "f" * 64

    def encode(self, texts: Sequence[str]) -> list[SoftPrompt | None]:
        return [self._encoded(t) for t in texts]

    def _encoded(self, text: str) -> SoftPrompt | None:
        words = text.split()
        if len(words) < 4:
            return None
        rows = [np.mean([self._row(w) for w in words[n : n + 4]], axis=0) for n in range(0, len(words), 4)]
        return SoftPrompt(np.asarray(rows, np.float32), self.model)

    def _row(self, word: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(8)


class TestMeanEncoder(SoftPromptEncoderContract):
    @pytest.fixture
    def encoder(self) -> MeanEncoder:
        return MeanEncoder()

    def counter(self) -> TokenCounter:
        return approximate_counter()


class Constant(MeanEncoder):
    def _row(self, word: str) -> np.ndarray:
        return np.ones(8)


class Chance(MeanEncoder):
    def _row(self, word: str) -> np.ndarray:
        return np.random.default_rng().standard_normal(8)


class Longer(MeanEncoder):
    def _encoded(self, text: str) -> SoftPrompt | None:
        return SoftPrompt(np.ones((len(text) + 1, 8), np.float32), self.model)


class Foreign(MeanEncoder):
    def encode(self, texts: Sequence[str]) -> list[SoftPrompt | None]:
        return [s and SoftPrompt(s.rows, "other") for s in super().encode(texts)]


@pytest.mark.parametrize(
    ("encoder", "law"),
    [
        (Constant, "test_texts_differ_in_their_rows"),
        (Chance, "test_the_same_again_and_alone"),
        (Longer, "test_fewer_rows_than_tokens"),
        (Longer, "test_nothing_of_nothing"),
        (Foreign, "test_one_result_per_text_of_its_model"),
    ],
)
def test_the_contract_finds_what_breaks_it(encoder: type[MeanEncoder], law: str) -> None:
    with pytest.raises(AssertionError):
        getattr(TestMeanEncoder(), law)(encoder())
