"""A full-text index (SQLite FTS5, BM25) of one agent and one tier.

Each agent has tables of its own: another agent's words can change neither a hit nor its score.
The tables hold no copy of the text (content=''), so a deletion must present the text that was indexed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from agentmem.language import STOP_WORDS
from agentmem.store.database import Database

# FTS5's tokenizer takes a run of Chinese, Japanese or Thai for one word; apart, its signs match as phrases.
_SIGN = "[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
_UNSPACED = re.compile(f"({_SIGN})")
_RUN = re.compile(f"{_SIGN}+")
_TERM = re.compile(r"[\w]+(?:[-_.:/@'’][\w]+)*", re.UNICODE)
# A pasted document is no question: its first and last terms stand for it. FTS5 takes memory for each token of a phrase.
MAX_TERMS = 256
MAX_TERM_CHARS = 200


def spaced(text: str) -> str:
    """The text with unspaced scripts' signs set apart, and NUL (which ends a text for SQLite) taken out."""
    return _UNSPACED.sub(r" \1 ", text.replace("\0", " "))


def query_terms(query: str) -> list[str]:
    """The terms of a question, in order: words that carry meaning, and identifiers whole."""
    terms = [t.lower().replace("’", "'") for t in _TERM.findall(query.replace("\0", " "))]
    bare = [t[:-2] if t.endswith("'s") else t for t in terms]
    content = [t for t in bare if t not in STOP_WORDS]
    found = list(dict.fromkeys(piece for t in content or bare for piece in _pairs(t)))
    return found if len(found) <= MAX_TERMS else found[: MAX_TERMS // 2] + found[-MAX_TERMS // 2 :]


def _pairs(term: str) -> list[str]:
    """A run of an unspaced script as its pairs of neighbouring signs: nobody repeats a whole clause."""
    if not _UNSPACED.search(term):
        return [term]
    pieces = [p for p in _RUN.split(term) if p]
    for run in _RUN.findall(term):
        pieces += [run[i : i + 2] for i in range(max(1, len(run) - 1))]
    return pieces


def match_expression(terms: Sequence[str]) -> str:
    """An OR of quoted terms; a term of several tokens (an identifier) is a phrase."""
    quoted = ['"' + " ".join(spaced(t[:MAX_TERM_CHARS]).split()).replace('"', "") + '"' for t in terms]
    return " OR ".join(q for q in quoted if q != '""')


class Lexical:
    """One FTS5 table; its rowids are the ids of the records."""

    def __init__(self, db: Database, table: str) -> None:
        self._db = db
        self.table = table

    @staticmethod
    def terms(query: str) -> list[str]:
        """The terms of a question, as `search` takes them."""
        return query_terms(query)

    def create(self) -> None:
        """Make the table, within the caller's transaction."""
        self._db.run(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {self.table} USING fts5("
            "text, content='', tokenize='porter unicode61 remove_diacritics 2')"
        )

    def drop(self) -> None:
        """Remove the table."""
        self._db.run(f"DROP TABLE IF EXISTS {self.table}")

    def add(self, rows: Sequence[tuple[int, str]]) -> None:
        """Index (id, text) rows, within the caller's transaction."""
        if rows:
            self._db.run_many(
                f"INSERT INTO {self.table} (rowid, text) VALUES (?, ?)", [(i, spaced(t)) for i, t in rows]
            )

    def remove(self, rows: Sequence[tuple[int, str]]) -> None:
        """Take rows out; `text` must be what was added."""
        if rows:
            self._db.run_many(
                f"INSERT INTO {self.table} ({self.table}, rowid, text) VALUES ('delete', ?, ?)",
                [(i, spaced(t)) for i, t in rows],
            )

    def clear(self) -> None:
        """Empty the index."""
        self._db.run(f"INSERT INTO {self.table} ({self.table}) VALUES ('delete-all')")

    def optimize(self) -> None:
        """Merge all segments: words of removed rows leave the file."""
        self._db.run(f"INSERT INTO {self.table} ({self.table}) VALUES ('optimize')")

    def ids(self) -> set[int]:
        """All ids in the index."""
        return {r[0] for r in self._db.rows(f"SELECT rowid FROM {self.table}")}

    def check(self) -> bool:
        """FTS5's own integrity check."""
        from agentmem.errors import StoreError

        try:
            self._db.run(f"INSERT INTO {self.table} ({self.table}) VALUES ('integrity-check')")
        except StoreError:
            return False
        return True

    def search(
        self, terms: Sequence[str], *, top_k: int | None, allowed: str = "", parameters: Sequence[Any] = ()
    ) -> list[tuple[int, float]]:
        """(id, BM25 > 0), best first, ties by lower id. `allowed` is SQL on `rowid`, part of the search itself."""
        expression = match_expression(terms)
        if not expression:
            return []
        where = f" AND ({allowed})" if allowed else ""
        rows = self._db.rows(
            f"SELECT rowid, bm25({self.table}) AS rank FROM {self.table} WHERE {self.table} MATCH ?{where}"
            " ORDER BY rank, rowid LIMIT ?",
            (expression, *parameters, -1 if top_k is None else top_k),
        )
        return [(int(r[0]), -float(r[1])) for r in rows]
