"""What agentmem is compared with: rankings of the same turns by simple means, in code of their own.

- *last messages*: the newest first, whatever is asked
- *dense*: cosine of the same embedder, the question embedded as it is (speakers' names and all); a turn's key is
  "Speaker: text", a long turn has a key for each part of about 900 bytes and counts by its best one
- *BM25*: SQLite's FTS5 over the turns, Porter stems, the question's words without stop words OR-ed
- *BM25 + speaker*: the same over "Speaker: text"
- *hybrid*: 0.5 z(dense) + 0.5 z(BM25), both standardised over all turns, a turn without any word of the question at 0:
  the plain equal-weight hybrid
- *hybrid, names out + window*: the speakers' names taken out of the embedded question, and BM25 over each turn with one
  turn on either side: the two-term hybrid to know

Packing is agentmem's own, in the order of the baseline's ranking: only the ranking differs.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentmem.keys import chunk_spans
from agentmem.language import STOP_WORDS, words
from agentmem.paging import pack
from agentmem.times import parse_time
from agentmem.types import Hit, Tier
from benchmarks.measures import DEPTH

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.protocols import Embedder, TokenCounter

LAST, DENSE, BM25, BM25_SPEAKER = "last messages", "dense", "BM25", "BM25 + speaker"
HYBRID, HYBRID_WINDOW = "hybrid", "hybrid, names out + window"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a history."""

    key: str
    content: str
    name: str | None
    role: Any
    session: str
    at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Turn:
        """A message line."""
        at = parse_time(row["at"])
        return cls(row["id"], row["content"], row.get("name"), row["role"], str(row.get("session", "")), at)

    @property
    def spoken(self) -> str:
        """With the speaker's name, where there is one."""
        return f"{self.name}: {self.content}" if self.name else self.content


class FullText:
    """BM25 of FTS5 over texts, in memory."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._count = len(texts)
        self._db = sqlite3.connect(":memory:")
        self._db.execute("CREATE VIRTUAL TABLE t USING fts5(x, tokenize='porter unicode61 remove_diacritics 2')")
        self._db.executemany("INSERT INTO t (rowid, x) VALUES (?, ?)", enumerate(texts))

    def scores(self, query: str) -> NDArray[np.float64]:
        """BM25 of every text, 0 where no word of the query is; of shape (texts,)."""
        import numpy as np

        found = np.zeros(self._count)
        said = [w.lower().replace("’", "'").removesuffix("'s") for w in words(query)]
        terms = dict.fromkeys([w for w in said if w not in STOP_WORDS] or said)
        if terms:
            expression = " OR ".join(f'"{t}"' for t in terms)
            for row, rank in self._db.execute("SELECT rowid, bm25(t) FROM t WHERE t MATCH ?", (expression,)):
                found[row] = -rank
        return found

    def close(self) -> None:
        """Give the memory back."""
        self._db.close()


class Baselines:
    """The rankings over one history. `names` says which systems there are; those by speaker need speakers."""

    def __init__(self, turns: Sequence[Turn], embedder: Embedder) -> None:
        import numpy as np

        self.turns = list(turns)
        self.speakers = sorted({t.name for t in turns if t.name})
        self._embedder = embedder
        parts: list[str] = []
        owners: list[int] = []
        for n, turn in enumerate(self.turns):
            prefix = f"{turn.name}: " if turn.name else ""
            for start, end in chunk_spans(turn.content):
                parts.append(prefix + turn.content[start:end])
                owners.append(n)
        self._rows = embedder.embed(parts, input_type="document")
        self._starts = np.unique(owners, return_index=True)[1]
        self._text = FullText([t.content for t in self.turns])
        self._spoken = FullText([t.spoken for t in self.turns])
        self._windows = FullText([self._window(n) for n in range(len(self.turns))])
        self.systems: dict[str, Callable[[str], NDArray[np.float64]]] = {
            LAST: lambda _: np.arange(len(self.turns), dtype=float),
            DENSE: self._dense,
            BM25: self._text.scores,
            HYBRID: lambda q: _equal(self._dense(q), self._text.scores(q)),
        }
        if self.speakers:
            self.systems[BM25_SPEAKER] = self._spoken.scores
            self.systems[HYBRID_WINDOW] = self._names_out

    def ranking(self, system: str, query: str, depth: int | None = None) -> list[Hit]:
        """The turns by one system, best first, ties by age; those that a system of words has nothing on are left
        out."""
        import numpy as np

        scores = self.systems[system](query)
        order = np.argsort(-scores, kind="stable")
        if system in (BM25, BM25_SPEAKER):
            order = order[scores[order] > 0]
        return [self._hit(int(n), float(scores[n])) for n in order[:depth]]

    def keys(self, system: str, query: str) -> list[str]:
        """Keys of the best turns, as many as are looked at."""
        return [h.key or "" for h in self.ranking(system, query, DEPTH)]

    def page_keys(self, system: str, query: str, budgets: Sequence[int], counter: TokenCounter) -> list[list[str]]:
        """For each budget in tokens: the keys of the turns that stand whole in the page-in."""
        hits = self.ranking(system, query)
        return [page_keys(hits, query, tokens, counter) for tokens in budgets]

    def close(self) -> None:
        """Give the memory of the full-text tables back."""
        for table in (self._text, self._spoken, self._windows):
            table.close()

    def _window(self, n: int) -> str:
        near = self.turns[max(0, n - 1) : n + 2]
        return "\n".join(t.content for t in near if t.session == self.turns[n].session)

    def _dense(self, query: str) -> NDArray[np.float64]:
        import numpy as np

        vector = self._embedder.embed([query], input_type="query")[0]
        return np.maximum.reduceat((self._rows @ vector).astype(np.float64), self._starts)

    def _names_out(self, query: str) -> NDArray[np.float64]:
        bare = re.sub(
            rf"\b(?:{'|'.join(map(re.escape, self.speakers))})(?:['’]s)?(?!\w)", " ", query, flags=re.IGNORECASE
        )
        return _equal(self._dense(" ".join(bare.split()) or query), self._windows.scores(query))

    def _hit(self, n: int, score: float) -> Hit:
        t = self.turns[n]
        return Hit(f"m{n + 1}", Tier.RECALL, t.content, score, t.at, t.key, t.name, t.role, t.session)


def page_keys(hits: Sequence[Hit], query: str, max_tokens: int, counter: TokenCounter) -> list[str]:
    """What agentmem's packing makes of a baseline's ranking."""
    return list(pack(hits, query, max_tokens, counter).keys)


def _equal(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * _standard(a) + 0.5 * _standard(b)


def _standard(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """z-scores; all 0 where nothing differs."""
    spread = float(x.std())
    return (x - x.mean()) / spread if spread > 1e-12 else x * 0.0
