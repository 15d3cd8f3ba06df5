"""Passages for the benchmark of scale: texts of about 20 words from a Zipf-like vocabulary, and vectors by their hash.

Stub vectors keep the embedder out of what is measured. *clustered*: a centre of a thousand plus noise, so that a query
has true neighbours, as texts of one subject have; *random*: no structure at all, the worst case of every approximate
index and unlike any text.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agentmem.language import STOP_WORDS
from agentmem.tokens import approximate_counter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.protocols import TokenCounter
    from agentmem.types import InputType

DIM = 384
CENTRES = 1000
NOISE = 0.9
"""Length of the noise over that of the centre: two texts of a cluster have a cosine of about 1 / (1 + 0.9 ** 2)."""
VOCABULARY = 50_000
LEAST_WORDS, MOST_WORDS = 12, 28
QUESTION_WORDS = 6
_SYLLABLES = ("ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu", "dra", "pel", "kin", "gos", "fum", "tha")


class StubEmbedder:
    """Unit vectors of 384 dimensions by the hash of the text alone; counts the seconds that it took."""

    max_tokens = 10_000

    def __init__(self, kind: str, seed: int) -> None:
        import numpy as np

        self.kind, self._seed = kind, seed
        self.model_id = f"stub-{kind}-{seed}"
        self.dim = DIM
        self.seconds = 0.0
        centres = np.random.default_rng(seed).standard_normal((CENTRES, DIM), np.float32)
        self._centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)

    @property
    def counter(self) -> TokenCounter:
        """An estimate."""
        return approximate_counter()

    def embed(self, texts: Sequence[str], *, input_type: InputType) -> NDArray[np.float32]:
        """One unit row per text, the same for a question as for a passage."""
        import numpy as np

        start = time.perf_counter()
        rows = np.empty((len(texts), DIM), np.float32)
        for n, text in enumerate(texts):
            number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
            noise = np.random.Generator(np.random.SFC64(number)).standard_normal(DIM, np.float32)
            if self.kind == "clustered":
                rows[n] = self._centres[number % CENTRES] + noise * np.float32(NOISE / DIM**0.5)
            else:
                rows[n] = noise
        if len(rows):
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        self.seconds += time.perf_counter() - start
        return rows


class Texts:
    """Texts by number, the same for the same seed; the commonest words are English function words, as in life."""

    def __init__(self, seed: int) -> None:
        import numpy as np

        self._seed = seed
        count = len(_SYLLABLES)
        made = [
            _SYLLABLES[n % count] + _SYLLABLES[n // count % count] + _SYLLABLES[n // count**2 % count]
            + ("" if n < count**3 else _SYLLABLES[n // count**3 % count])
            for n in range(VOCABULARY - len(STOP_WORDS))
        ]  # fmt: skip
        self.words = sorted(STOP_WORDS) + made
        weights = 1 / (np.arange(len(self.words)) + 2.7) ** 1.05
        self._edges = np.cumsum(weights / weights.sum())

    def batches(self, count: int, size: int = 10_000, first: int = 0) -> Iterator[list[str]]:
        """`count` texts from number `first` on, so many at a time. `first` must be a multiple of `size`."""
        import numpy as np

        for start in range(first, first + count, size):
            rng = np.random.default_rng((self._seed, start))
            number = min(size, first + count - start)
            lengths = rng.integers(LEAST_WORDS, MOST_WORDS + 1, size)
            drawn = np.searchsorted(self._edges, rng.random(int(lengths.sum())))
            ends = np.cumsum(lengths)
            yield [
                " ".join(self.words[min(w, len(self.words) - 1)] for w in drawn[end - length : end])
                for end, length in zip(ends[:number].tolist(), lengths[:number].tolist(), strict=True)
            ]

    def question(self, text: str, number: int) -> str:
        """Some of a text's words that carry meaning, in another order, as a question would repeat them."""
        import numpy as np

        rng = np.random.default_rng((self._seed, 7, number))
        content = list(dict.fromkeys(w for w in text.split() if w not in STOP_WORDS)) or text.split()[:1]
        chosen = rng.permutation(content)[:QUESTION_WORDS]
        return f"what about the {' '.join(chosen)}"
