"""How the full-text index cuts up a text: FTS5's own tokenizer, and what is done to a text before it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from functools import cache

from agentmem.terms import UNSPACED

TOKENIZE = "porter unicode61 remove_diacritics 2"
MAX_TERM_CHARS = 200
"""Of a term that is asked for: FTS5 takes memory for each token of a phrase."""
MOST_KNOWN = 50_000


def spaced(text: str) -> str:
    """The text with unspaced scripts' signs set apart (FTS5's tokenizer takes a run of them for one word; apart, they
    match as phrases), and NUL (which ends a text for SQLite) taken out."""
    return UNSPACED.sub(r" \1 ", text.replace("\0", " "))


class _Tokenizer:
    """FTS5's own tokenizer, in a table that only this process has: what it makes of a term can't be guessed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, list[str]] = {}
        self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute(f"CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='{TOKENIZE}')")
        self._db.execute("CREATE VIRTUAL TABLE tokens USING fts5vocab(words, instance)")

    def tokens(self, terms: Sequence[str]) -> dict[str, list[str]]:
        with self._lock:
            if len(self._known) > MOST_KNOWN:
                self._known.clear()
            new = [t for t in dict.fromkeys(terms) if t not in self._known]
            if new:
                texts = [(n, spaced(t[:MAX_TERM_CHARS])) for n, t in enumerate(new)]
                self._db.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", texts)
                self._known.update((t, []) for t in new)
                for doc, token in self._db.execute("SELECT doc, term FROM tokens ORDER BY doc, offset"):
                    self._known[new[doc]].append(token)
                self._db.execute("INSERT INTO words (words) VALUES ('delete-all')")
            return {t: self._known[t] for t in terms}


@cache
def _tokenizer() -> _Tokenizer:
    return _Tokenizer()


def tokens_of(terms: Sequence[str]) -> dict[str, list[str]]:
    """The index's tokens of each term, in order; none of a term without letters and digits."""
    return _tokenizer().tokens(terms)
