"""A full-text index (SQLite FTS5, BM25) of one agent and one tier.

Each agent has tables of its own: another agent's words can change neither a hit nor its score.
The tables hold no copy of the text (content=''), so a deletion must present the text that was indexed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from agentmem.language import STOP_WORDS
from agentmem.store.database import Database, marks
from agentmem.store.postings import bm25, frequencies, idf, most_shared
from agentmem.store.selection import EVERYTHING, Selection
from agentmem.store.tokenizer import MAX_TERM_CHARS, TOKENIZE, spaced, tokens_of
from agentmem.terms import pairs, term_numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Lists = Callable[[Sequence[int]], "tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]"]
_TERM = re.compile(r"[\w]+(?:[-_.:/@'’][\w]+)*", re.UNICODE)
# A pasted document is no question: its first and last terms stand for it.
MAX_TERMS = 256
# Of a bounded search; benchmarks/lexical_engines.py measures them. Postings that are scored one by one by FTS5 (1 to 9
# microseconds each), that are read (0.2), and records that are scored from their term lists (3 to 4).
WHOLE, BUDGET, SCORED = 10_000, 50_000, 1_000
LEAST_TERMS = 2
FEW = 4_000
"""So many named records are scored from their term lists without a look at postings."""
MOST_NAMED = 2_000
"""So many ids are handed to SQLite; more are looked up afterwards, which is quicker."""
MOST_READS = 20
KEPT_COUNT = 1_000


def query_terms(query: str) -> list[str]:
    """The terms of a question, in order: words that carry meaning, and identifiers whole."""
    terms = [t.lower().replace("’", "'") for t in _TERM.findall(query.replace("\0", " "))]
    bare = [t[:-2] if t.endswith("'s") else t for t in terms]
    content = [t for t in bare if t not in STOP_WORDS]
    found = list(dict.fromkeys(piece for t in content or bare for piece in pairs(t)))
    return found if len(found) <= MAX_TERMS else found[: MAX_TERMS // 2] + found[-MAX_TERMS // 2 :]


def match_expression(terms: Sequence[str]) -> str:
    """An OR of quoted terms; a term of several tokens (an identifier) is a phrase."""
    quoted = ['"' + " ".join(spaced(t[:MAX_TERM_CHARS]).split()).replace('"', "") + '"' for t in terms]
    return " OR ".join(q for q in quoted if q != '""')


class Lexical:
    """One FTS5 table; its rowids are the ids of the records. `lists` gives the term lists of records by their ids (see
    `TermLists.of`); without it, records of a bounded search are ranked by the terms they share alone."""

    def __init__(self, db: Database, table: str, lists: Lists | None = None) -> None:
        self._db = db
        self.table = table
        self._lists = lists
        self._kept: tuple[int, dict[str, int]] = (0, {})

    @staticmethod
    def terms(query: str) -> list[str]:
        """The terms of a question, as `search` takes them."""
        return query_terms(query)

    def create(self) -> None:
        """Make the table, within the caller's transaction."""
        self._db.run(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {self.table} USING fts5(text, content='', tokenize='{TOKENIZE}')"
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

    def forget_counts(self) -> None:
        """Count documents anew: those of a term changed, though there are as many records as before."""
        self._kept = (0, {})

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

    def size(self) -> int:
        """Documents indexed, as of the last commit."""
        return self._totals()[0]

    def average_length(self) -> float:
        """Tokens of a document on average, as of the last commit; 0.0 when there is none."""
        documents, tokens = self._totals()
        return tokens / documents if documents else 0.0

    def _totals(self) -> tuple[int, int]:
        # FTS5 keeps both for its own BM25: the first two varints of the record with id 1 (fts5_storage.c).
        row = self._db.row(f"SELECT block FROM {self.table}_data WHERE id = 1")
        documents, tokens = (*_varints(row[0] if row else b""), 0, 0)[:2]
        return documents, tokens

    def document_counts(self, terms: Sequence[str], *, stemmed: bool = False) -> dict[str, int]:
        """How many documents have each term; of a term of several tokens (an identifier, a pair of signs), how many
        have its rarest. Terms are words as they are written, or with `stemmed` those of `agentmem.terms`.

        Counts of a thousand and more are kept until the index has grown or shrunk by a tenth: what is left out of an
        inverse document frequency then is under 0.1.
        """
        parts = {t: spaced(t[:MAX_TERM_CHARS]).split() for t in terms} if stemmed else tokens_of(terms)
        counts = self._counts({token for tokens in parts.values() for token in tokens})
        return {t: min((counts.get(token, 0) for token in tokens), default=0) for t, tokens in parts.items()}

    def _counts(self, tokens: set[str]) -> dict[str, int]:
        size = self.size()
        at, kept = self._kept
        if abs(size - at) * 10 > at:
            kept = {}
            self._kept = size, kept
        found = {token: kept[token] for token in tokens if token in kept}
        unknown = sorted(tokens - found.keys())
        if unknown:
            # The table of terms is temporary (it holds nothing): a rolled back transaction takes it away.
            with self._db.lock:
                self._db.run(
                    f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.{self.table}_terms"
                    f" USING fts5vocab('main', '{self.table}', 'row')"
                )
                sql = f"SELECT term, doc FROM temp.{self.table}_terms WHERE term IN"
                for start in range(0, len(unknown), 500):
                    chunk = unknown[start : start + 500]
                    found.update((r[0], r[1]) for r in self._db.rows(f"{sql} ({marks(chunk)})", chunk))
            # Few are quickly counted, and then the same in every process.
            kept.update((token, count) for token, count in found.items() if count >= KEPT_COUNT)
        return found

    def search(
        self,
        terms: Sequence[str],
        *,
        top_k: int | None,
        within: Selection = EVERYTHING,
        allowed: str = "",
        parameters: Sequence[Any] = (),
    ) -> list[tuple[int, float]]:
        """(id, BM25 > 0), best first, ties by lower id. `within`, and `allowed` (SQL on `rowid`), are part of the
        search itself.

        Up to WHOLE postings of all terms together every one is scored. Beyond (and unless `top_k` is None, which asks
        for all), the postings of the rarest terms are read until BUDGET is used, at least two terms, the newest
        records first; those that share most are then scored over all terms.
        """
        expression = match_expression(terms)
        if not expression or within.nothing:
            return []
        if top_k is not None:
            counts = self.document_counts(terms)
            if sum(counts.values()) > WHOLE:
                return self._bounded(counts, top_k, within, allowed, parameters)
        narrow = len(within.ids) <= MOST_NAMED
        sql, named = within.sql() if narrow else ("", [])
        where = "".join(f" AND ({part})" for part in (sql, allowed) if part)
        rows = self._db.rows(
            f"SELECT rowid, bm25({self.table}) AS rank FROM {self.table} WHERE {self.table} MATCH ?{where}"
            " ORDER BY rank, rowid LIMIT ?",
            (expression, *named, *parameters, -1 if top_k is None or not narrow else top_k),
        )
        found = [(int(r[0]), -float(r[1])) for r in rows]
        if not narrow:
            kept = set(within.kept(i for i, _ in found))
            found = [pair for pair in found if pair[0] in kept][:top_k]
        return found

    def _bounded(
        self, counts: dict[str, int], top_k: int, within: Selection, allowed: str, parameters: Sequence[Any]
    ) -> list[tuple[int, float]]:
        import numpy as np

        weights = {t: idf(self.size(), n) for t, n in counts.items() if n}
        postings: dict[str, NDArray[np.int64]] = {}
        if self._lists is not None and not within.excluding and len(within.ids) <= FEW and not allowed:
            ids = within.array()
        else:
            left, kept = BUDGET, 0
            for term in sorted(weights, key=lambda t: (counts[t], t)):
                # A filter may leave nothing of the rarest.
                enough = len(postings) >= LEAST_TERMS and kept >= top_k
                most = left if enough else max(left, BUDGET // LEAST_TERMS)
                if most <= 0:
                    break
                postings[term] = self._newest(term, most, within, allowed, parameters)
                left -= min(counts[term], most)
                kept += len(postings[term])
            ids = most_shared(list(postings.values()), [weights[t] for t in postings], max(top_k, SCORED))
        lengths, lists = self._lists_of(ids)
        average = self.average_length()
        scores = np.zeros(len(ids))
        for term, weight in weights.items():
            times = frequencies(*lists, term_numbers(term).tolist())
            if term in postings:
                # A speaker's name stands in the index alone.
                times = np.maximum(times, np.isin(ids, postings[term], assume_unique=True))
            scores += bm25(times, lengths, weight, average)
        order = [n for n in np.lexsort((ids, -scores)) if scores[n] > 0][:top_k]
        return [(int(ids[n]), float(scores[n])) for n in order]

    def _newest(
        self, term: str, most: int, within: Selection, allowed: str, parameters: Sequence[Any]
    ) -> NDArray[np.int64]:
        """The highest ids that have a term and may be found, `most` of them at most, descending."""
        import numpy as np

        where = f" AND ({allowed})" if allowed else ""
        lowest, below = 0, 2**62
        if within.ids and not within.excluding:
            lowest, below = within.ids[0], within.ids[-1] + 1
        found: list[NDArray[np.int64]] = []
        for _ in range(MOST_READS):
            # One text of numbers is read three times as fast as a row each.
            row = self._db.row(
                f"SELECT group_concat(rowid) FROM (SELECT rowid FROM {self.table} WHERE {self.table} MATCH ?"
                f" AND rowid >= ? AND rowid < ?{where} ORDER BY rowid DESC LIMIT ?)",
                (match_expression([term]), lowest, below, *parameters, most),
            )
            ids = np.fromstring((row[0] if row else None) or "", dtype=np.int64, sep=",")
            found.append(ids[within.keeps(ids)])
            if len(ids) < most or sum(map(len, found)) >= most:
                break
            below = int(ids.min())
        return np.concatenate(found)[:most]

    def _lists_of(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[NDArray[Any], NDArray[Any]]]:
        """Lengths, and offsets and numbers of the lists of `ids` (ascending); a record without one has an empty one."""
        import numpy as np

        if self._lists is None:
            return np.zeros(len(ids), np.int64), (np.zeros(len(ids) + 1, np.int64), np.zeros(0, np.uint32))
        have, offsets, numbers = self._lists(ids.tolist())
        lengths = np.zeros(len(ids), dtype=np.int64)
        lengths[np.searchsorted(ids, have)] = np.diff(offsets)
        return lengths, (np.concatenate(([0], np.cumsum(lengths))), numbers)


def _varints(block: bytes) -> list[int]:
    """The variable-length integers of SQLite (seven bits a byte, the highest first) in a block."""
    found, value = [], 0
    for byte in block:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            found.append(value)
            value = 0
    return found
