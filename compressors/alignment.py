"""From the words that a package gives back to where they stand in the text that it was given.

Such words are normalised (case, accents, width), have lost their white space, and those that a vocabulary lacks are
missing; their order is the text's. So they are found one after the other, in the text's letters without white space.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.compression import Span

NEAR = 48
"""How many letters are passed over for any word; for more, a word must be of some length, so that it is no accident."""
LONG_LETTERS = 4


def aligned(words: Sequence[str], text: str) -> list[Span | None]:
    """Where each of the words stands in the text: (start, end) in characters, ascending and apart; None for a word that
    is not found. How far ahead a word is sought doubles with each that is not found, so that a stretch of the text that
    has no words at all can be passed."""
    letters, places = _letters(text)
    out: list[Span | None] = []
    at, near = 0, NEAR
    for word in words:
        wanted = normal(word)
        found = letters.find(wanted, at, at + near + len(wanted)) if wanted else -1
        if found - at > NEAR and len(wanted) < LONG_LETTERS:
            found = -1
        if found < 0:
            out.append(None)
            near = min(2 * near, len(letters)) if wanted else near
            continue
        at, near = found + len(wanted), NEAR
        start, end = places[found], places[at - 1] + 1
        # One sign may give several letters, and two words share it: the first has it.
        last = next((s[1] for s in reversed(out) if s is not None), 0)
        out.append((max(start, last), end) if end > last else None)
    return out


def normal(text: str) -> str:
    """A text's letters as they are compared: compatibility forms, lower case, without accents and white space."""
    return "".join(map(_normal_sign, text))


@lru_cache(maxsize=4096)
def _normal_sign(sign: str) -> str:
    whole = unicodedata.normalize("NFKD", sign).casefold()
    return "".join(c for c in whole if unicodedata.category(c) not in ("Mn", "Cc", "Cf") and not c.isspace())


def _letters(text: str) -> tuple[str, list[int]]:
    """The normal letters, and for each the place in the text that it comes from."""
    out: list[str] = []
    places: list[int] = []
    for place, sign in enumerate(text):
        for letter in _normal_sign(sign):
            out.append(letter)
            places.append(place)
    return "".join(out), places


def over_chunks(
    chunks: Sequence[Span], spans: Sequence[Span | None], values: Sequence[float] | NDArray[np.float64], length: int
) -> NDArray[np.float64]:
    """The mean of the values over each chunk's characters, shape (chunks,); nan for a chunk that no span touches.

    `values` belong to `spans`; `length` is that of the text in characters.
    """
    import numpy as np

    sums, seen = np.zeros(length + 1), np.zeros(length + 1)
    for span, value in zip(spans, values, strict=True):
        if span is not None:
            sums[span[0] : span[1]] += value
            seen[span[0] : span[1]] += 1
    before, known = (np.concatenate(([0.0], np.cumsum(a))) for a in (sums, seen))
    starts, ends = (np.array([c[n] for c in chunks], np.int64) for n in (0, 1))
    count = known[ends] - known[starts]
    return np.where(count > 0, (before[ends] - before[starts]) / np.maximum(count, 1), np.nan)
