"""An embedder without a model: signed feature hashing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from agentmem.errors import ConfigError
from agentmem.protocols import TokenCounter
from agentmem.tokens import approximate_counter, cut_text
from agentmem.types import InputType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PIECE = re.compile(r"\w+|[^\w\s]")
_WORD, _PAIR, _TRIGRAM = 1.0, 0.5, 0.25


class HashingEmbedder:
    """Hashes words, pairs of words and letter trigrams into `dim` signed buckets.

    Lexical, not semantic: texts are near each other when they share words or parts of words. For tests, and for
    machines without torch. Rows are the same in every process, on every platform. A text without any word or
    sign gets the first basis vector. Raises ConfigError for a `dim` below 1.
    """

    max_tokens = 512

    def __init__(self, dim: int = 256) -> None:
        if dim < 1:
            raise ConfigError("dim", dim, "must be 1 or more")
        self._dim = dim
        self._counter = approximate_counter()
        self.model_id = f"hashing-{dim}"

    @property
    def dim(self) -> int:
        """Length of a row."""
        return self._dim

    @property
    def counter(self) -> TokenCounter:
        """An estimate: there is no model whose tokens could be counted."""
        return self._counter

    def embed(self, texts: Sequence[str], *, input_type: InputType) -> NDArray[np.float32]:
        """One unit row per text, float32 of shape (len(texts), dim). `input_type` makes no difference."""
        import numpy as np

        rows = np.zeros((len(texts), self._dim), dtype=np.float64)
        for row, text in zip(rows, texts, strict=True):
            for feature, weight in _features(text[: cut_text(text, self.max_tokens, self._counter)]):
                number = int.from_bytes(blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest(), "big")
                row[(number >> 1) % self._dim] += weight if number & 1 else -weight
            # Features of opposite sign may cancel out to nothing, too.
            length = float(np.linalg.norm(row))
            if length < 1e-9:
                row[:] = 0.0
                row[0] = 1.0
            else:
                row /= length
        return rows.astype(np.float32)


def _features(text: str) -> Iterator[tuple[str, float]]:
    """Each feature as a string that no feature of another kind can equal, and its weight."""
    before = ""
    for word in _PIECE.findall(text.lower()):
        yield f"w {word}", _WORD
        if before:
            yield f"p {before} {word}", _PAIR
        marked = f"^{word}$"
        for i in range(len(marked) - 2):
            yield f"t {marked[i : i + 3]}", _TRIGRAM
        before = word
