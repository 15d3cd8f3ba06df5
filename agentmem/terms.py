"""The terms of a text, as ranking counts them: folded words, stemmed, and pairs of the signs of unspaced scripts.

They are the tokens of the full-text index (SQLite's `porter unicode61 remove_diacritics 2`), but for the endings of
contractions, which are left out here, and for unspaced scripts, of which it keeps each sign. Pure, deterministic,
never raises on any text; a text of any length costs no more than its first terms.

The stemmer is M. F. Porter, "An algorithm for suffix stripping", 1980, as the Snowball project generates it.
"""

from __future__ import annotations

import re
import threading
import unicodedata
import zlib
from collections.abc import Iterator
from itertools import chain, islice
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TERMS = 4096
"""Of one text: a chapter. What comes later is not counted."""
MAX_TERM_CHARS = 200
# Between these many bytes the full-text index stems a token.
LEAST_STEMMED, MOST_STEMMED = 3, 64
LETTERS = frozenset(ascii_lowercase)
MOST_CACHED = 100_000

_SIGN = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
UNSPACED = re.compile(f"([{_SIGN}])")
"""A sign of Thai, Japanese or Chinese, which are written without spaces between words."""
_RUN = re.compile(f"(?P<signs>[{_SIGN}]+)|[^{_SIGN}]+")
# What stands over or under letters: accents of Latin, Greek and Cyrillic, points of Hebrew and Arabic. The marks of
# Indian scripts and of Thai are vowels; they stay.
_POINTS = "\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
_VOWELS = "\u0900-\u0963\u0966-\u0df3\u0e31-\u0e4e"
_POINT = re.compile(f"[{_POINTS}]")
_TOKEN = re.compile(rf"[\w{_POINTS}{_VOWELS}]+(?:['’](?:s|t|d|m|re|ve|ll)\b)?", re.IGNORECASE)
_APOSTROPHE = re.compile("['’]")
_PIECE = re.compile(rf"[^\W_](?:[^\W_]|[{_VOWELS}])*")

_Entry = tuple[tuple[str, ...], tuple[int, ...]]
# Words come again and again: a token as it is written, its terms, and their numbers.
_cache: dict[str, _Entry] = {}
_lock = threading.Lock()
_stemmer: Any = None


def pairs(term: str) -> list[str]:
    """A run of an unspaced script as its pairs of neighbouring signs (nobody repeats a whole clause); what stands
    between such runs as it is."""
    if not UNSPACED.search(term):
        return [term]
    pieces: list[str] = []
    for match in _RUN.finditer(term):
        run = match.group()
        if match.lastgroup:
            pieces += [run[i : i + 2] for i in range(max(1, len(run) - 1))]
        else:
            pieces.append(run)
    return pieces


def stemmed(word: str) -> str:
    """Porter's stem of a folded word."""
    global _stemmer
    # Every rule of Porter's begins with an ending in these letters.
    if word[-1:] not in LETTERS or not LEAST_STEMMED <= len(word.encode("utf-8", "surrogatepass")) <= MOST_STEMMED:
        return word
    with _lock:  # the stemmer keeps the word that it is at
        if _stemmer is None:
            import snowballstemmer

            _stemmer = snowballstemmer.stemmer("porter")
        return str(_stemmer.stemWord(word))


def term_number(term: str) -> int:
    """A term as a number in 0 to 2**32 - 1, the same everywhere and for ever: CRC-32 of its UTF-8."""
    return zlib.crc32(term.encode("utf-8", "surrogatepass"))


def terms_of(text: str, most: int = MAX_TERMS) -> list[str]:
    """The first `most` terms in order, stop words too."""
    return list(islice(chain.from_iterable(terms for terms, _ in _entries(text)), most))


def term_numbers(text: str, most: int = MAX_TERMS) -> NDArray[np.uint32]:
    """The numbers of `terms_of(text, most)`, shape (terms,)."""
    import numpy as np

    return np.fromiter(islice(chain.from_iterable(numbers for _, numbers in _entries(text)), most), np.uint32)


def _entries(text: str) -> Iterator[_Entry]:
    for match in _TOKEN.finditer(text):
        token = match.group()
        found = _cache.get(token)
        yield found if found is not None else _look_up(token)


def _look_up(token: str) -> _Entry:
    terms = tuple(_fold(token))
    entry = terms, tuple(map(term_number, terms))
    if len(token) <= MAX_TERM_CHARS:
        if len(_cache) >= MOST_CACHED:
            _cache.clear()
        _cache[token] = entry
    return entry


def _fold(token: str) -> list[str]:
    """The terms of a run of letters: compatibility forms resolved, lower case, accents off."""
    word = _APOSTROPHE.split(token, maxsplit=1)[0][: 4 * MAX_TERMS]
    if word.isascii():
        word = word.lower()
    else:
        word = _POINT.sub("", unicodedata.normalize("NFKD", word).lower())
        word = unicodedata.normalize("NFC", word)
    found = islice(_PIECE.finditer(word), MAX_TERMS)
    return [stemmed(t[:MAX_TERM_CHARS]) for piece in found for t in pairs(piece.group())]
