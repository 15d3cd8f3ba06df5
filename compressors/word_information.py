"""How much a word tells: its self-information in bits, from real word frequencies (the package pyspellchecker's list of
English subtitles: people talking)."""

from __future__ import annotations

import math
from functools import lru_cache

UNKNOWN_BITS = 22.0
"""Of a word that the list has not: rarer than one in four million."""
MIN_KNOWN_SHARE = 0.6
"""A text of which a smaller share of words is in the list is in another language, or no language."""


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, int], int]:
    from spellchecker import SpellChecker

    words = SpellChecker(language="en").word_frequency
    return dict(words.dictionary), int(words.total_words)


@lru_cache(maxsize=100_000)
def bits(word: str) -> float:
    """-log2 of how often a word (lower case) is said among all words, at most `UNKNOWN_BITS`."""
    table, total = _table()
    count = table.get(word, 0)
    return min(UNKNOWN_BITS, math.log2(total / count)) if count else UNKNOWN_BITS


def known(word: str) -> bool:
    """Whether the list has a word (lower case)."""
    return word in _table()[0]
