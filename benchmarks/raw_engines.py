"""What agentmem's archive is compared with at scale: FAISS and SQLite's FTS5, called directly on the same data.

The full-text table, the pragmas and the durability are those of agentmem's file. The FAISS index has the type and the
parameters that agentmem's own index says it has.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.language import STOP_WORDS
from benchmarks.raw_faiss import RawIndex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRAGMAS = ("journal_mode", "synchronous", "secure_delete")
BATCH = 1000


class RawEngines:
    """SQLite with texts, vectors and an FTS5 table, and a FAISS index beside it."""

    def __init__(self, path: Path, pragmas: dict[str, Any]) -> None:
        self.path = path
        self.index: RawIndex | None = None
        self.db = sqlite3.connect(path, isolation_level=None)
        for name, value in pragmas.items():
            self.db.execute(f"PRAGMA {name}={value}")
        self.db.execute("CREATE TABLE IF NOT EXISTS passages (id INTEGER PRIMARY KEY, text TEXT, at TEXT)")
        self.db.execute("CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, vector BLOB)")
        self.db.execute(
            "CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5("
            "text, content='', tokenize='porter unicode61 remove_diacritics 2')"
        )

    def use(self, index: RawIndex) -> None:
        """Let an index serve; it ranks its candidates again by the rows of the file."""
        self.index = index
        index.rows = self.rows

    def insert(self, first: int, texts: Sequence[str], rows: NDArray[np.float32]) -> None:
        """Passages with ids from `first` on, in one transaction, and their vectors in the index that serves."""
        import numpy as np

        numbers = range(first, first + len(texts))
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(
            "INSERT INTO passages VALUES (?, ?, ?)", [(i, t, "2023-05-08") for i, t in zip(numbers, texts, strict=True)]
        )
        self.db.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", zip(numbers, texts, strict=True))
        self.db.executemany(
            "INSERT INTO vectors VALUES (?, ?)", [(i, r.tobytes()) for i, r in zip(numbers, rows, strict=True)]
        )
        self.db.execute("COMMIT")
        if self.index is not None:
            self.index.add(np.array(numbers, np.int64), rows)

    def delete(self, ids: Sequence[int]) -> None:
        """Take passages away everywhere."""
        for start in range(0, len(ids), BATCH):
            chunk = ids[start : start + BATCH]
            self.db.execute("BEGIN IMMEDIATE")
            texts = self.texts(chunk)
            self.db.executemany(
                "INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", [(i, texts[i]) for i in chunk]
            )
            for table in ("passages", "vectors"):
                self.db.executemany(f"DELETE FROM {table} WHERE id = ?", [(i,) for i in chunk])
            self.db.execute("COMMIT")
        if self.index is not None:
            self.index.remove(ids)

    def texts(self, ids: Iterable[int]) -> dict[int, str]:
        """The rows of some ids: what a search fetches at its end."""
        wanted = list(ids)
        marks = ",".join("?" * len(wanted))
        return dict(self.db.execute(f"SELECT id, text FROM passages WHERE id IN ({marks})", wanted))

    def rows(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of some ids in their order, shape (n, dim)."""
        import numpy as np

        marks = ",".join("?" * len(ids))
        found = dict(self.db.execute(f"SELECT id, vector FROM vectors WHERE id IN ({marks})", ids.tolist()))
        return np.frombuffer(b"".join(found[i] for i in ids.tolist()), np.float32).reshape(len(ids), -1)

    def dense(self, vector: NDArray[np.float32], top_k: int) -> list[int]:
        """Ids of the nearest, with their rows fetched."""
        assert self.index is not None
        ids = self.index.search(vector, top_k)
        self.texts(ids)
        return ids

    def lexical(self, question: str, top_k: int) -> list[int]:
        """Ids of the best by BM25 over every row that has a word of the question, with their rows fetched."""
        terms = dict.fromkeys(w for w in question.lower().split() if w not in STOP_WORDS)
        found = self.db.execute(
            "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words), rowid LIMIT ?",
            (" OR ".join(f'"{t}"' for t in terms), top_k),
        )
        ids = [row[0] for row in found]
        self.texts(ids)
        return ids

    def file_bytes(self) -> int:
        """Of the SQLite file, once its log is written back."""
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.path.stat().st_size

    def close(self) -> None:
        """Close the file."""
        self.db.close()
