"""Which full-text engine, and what bounding its work costs in quality: FTS5 whole and bounded, tantivy, bm25s.

Passages of about 20 words from a vocabulary as uneven as a language's (Zipf-Mandelbrot), each with one of two speakers'
names; questions of 3, 8 and 20 words, half of them from one passage, stop words (the 30 commonest) left out as the
analyser of questions does, with a speaker's name from 8 words on. The answer that counts as exact is BM25 over all
terms (FTS5 whole): overlap is the share of an engine's first ten that score at least what the tenth of the exact ones
does. `fts5 bounded` is what agentmem does: see `Lexical.search`. Insertion is one record a transaction, fsync at each
commit (synchronous=FULL) for FTS5, with the term list; a commit each for tantivy. tantivy and bm25s are measured where
they are installed (`pip install tantivy bm25s`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentmem.store import lexical as lexical_module
from agentmem.store.database import Database
from agentmem.store.lexical import Lexical
from agentmem.store.schema import migrate
from agentmem.store.term_lists import TermLists
from benchmarks import machine

VOCABULARY, STOPPED = 100_000, 30
SPEAKERS = ("Caroline", "Melanie")
CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"
TOP = 10
Found = list[tuple[int, float]]


def word(number: int) -> str:
    """A word of its own for each number: syllables."""
    out, number = "", number + 70
    while number:
        number, rest = divmod(number, 70)
        out += CONSONANTS[rest // 5] + VOWELS[rest % 5]
    return out


class Language:
    """Draws passages and questions."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        share = 1 / (np.arange(VOCABULARY) + 2.7) ** 1.07
        self.cumulated = np.cumsum(share / share.sum())
        self.words = [word(n) for n in range(VOCABULARY)]

    def draw(self, *shape: int) -> Any:
        return np.minimum(np.searchsorted(self.cumulated, self.rng.random(shape)), VOCABULARY - 1)

    def passages(self, count: int) -> Any:
        """Numbers of words, shape (count, 28), -1 behind the end of a passage (12 to 28 words)."""
        drawn = self.draw(count, 28)
        drawn[np.arange(28) >= self.rng.integers(12, 29, (count, 1))] = -1
        return drawn

    def text(self, drawn: Any, n: int) -> str:
        return f"{SPEAKERS[n % 2]} " + " ".join(self.words[w] for w in drawn[n] if w >= 0)

    def question(self, drawn: Any, length: int) -> list[str]:
        n = int(self.rng.integers(len(drawn)))
        own = list(dict.fromkeys(w for w in drawn[n] if w >= STOPPED))
        other = [w for w in self.draw(60) if w >= STOPPED and w not in own]
        chosen = dict.fromkeys([*own[: (length + 1) // 2], *other])
        terms = [self.words[w] for w in list(chosen)[: length - (length >= 8)]]
        return [*terms, SPEAKERS[n % 2].lower()] if length >= 8 else terms


def resident_mb() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Fts5:
    """The tables that agentmem keeps: FTS5 and term lists, one transaction for both."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.db = Database(path)
        migrate(self.db)
        self.db.run("INSERT INTO agents (id, name, created_at) VALUES (1, 'a', '')")
        self.lists = TermLists(self.db, 1)
        self.index = Lexical(self.db, "fts_messages_1", lambda ids: self.lists.of("recall", ids))
        self.index.create()

    def add(self, rows: Sequence[tuple[int, str]]) -> None:
        with self.db.write():
            self.index.add(rows)
            self.lists.add("recall", [(i, t.partition(" ")[2]) for i, t in rows])

    def reopen(self) -> None:
        self.db.run("PRAGMA wal_checkpoint(TRUNCATE)")
        self.db.close()
        self.db = Database(self.path)
        self.lists._db = self.index._db = self.db

    def whole(self, terms: Sequence[str], top_k: int) -> Found:
        kept, lexical_module.WHOLE = lexical_module.WHOLE, 10**12
        try:
            return self.index.search(terms, top_k=top_k)
        finally:
            lexical_module.WHOLE = kept

    def bounded(self, terms: Sequence[str], top_k: int) -> Found:
        return self.index.search(terms, top_k=top_k)

    def size_mb(self) -> float:
        return self.path.stat().st_size / 1e6

    def laws(self) -> str:
        self.add([(2**40, "x qqrollback"), (2**40 + 1, "x qqdelete")])
        try:
            with self.db.write():
                self.index.add([(2**40 + 2, "x qqrollback")])
                raise KeyError
        except KeyError:
            pass
        with self.db.write():
            self.index.remove([(2**40 + 1, "x qqdelete")])
        held = len(self.whole(["qqrollback"], 5)) == 1 and self.whole(["qqdelete"], 5) == []
        return "in the record's transaction; deletes at once" if held else "BROKEN"


class Tantivy:
    """An index of segments in a folder, English stems, one writer."""

    def __init__(self, folder: Path) -> None:
        self.module: Any = importlib.import_module("tantivy")
        self.folder = folder
        folder.mkdir()
        builder = self.module.SchemaBuilder()
        builder.add_integer_field("id", stored=True, indexed=True, fast=True)
        builder.add_text_field("text", stored=False, tokenizer_name="en_stem")
        self.schema = builder.build()
        self.index = self.module.Index(self.schema, path=str(folder))
        self.writer = self.index.writer(heap_size=100_000_000, num_threads=1)

    def add(self, rows: Sequence[tuple[int, str]]) -> None:
        for i, text in rows:
            self.writer.add_document(self.module.Document(id=i, text=text))
        self.writer.commit()

    def reopen(self) -> None:
        self.writer.wait_merging_threads()
        self.index = self.module.Index.open(str(self.folder))
        self.writer = self.index.writer(heap_size=100_000_000, num_threads=1)

    def search(self, terms: Sequence[str], top_k: int) -> Found:
        searcher = self.index.searcher()
        hits = searcher.search(self.index.parse_query(" ".join(terms), ["text"]), top_k).hits
        return [(searcher.doc(address)["id"][0], score) for score, address in hits]

    def size_mb(self) -> float:
        return sum(p.stat().st_size for p in self.folder.iterdir()) / 1e6

    def laws(self) -> str:
        self.add([(2**40, "x qqdelete")])
        self.writer.add_document(self.module.Document(id=2**40 + 1, text="x qqrollback"))
        self.writer.rollback()
        self.writer.delete_documents_by_term("id", 2**40)
        self.writer.commit()
        self.index.reload()
        held = not self.search(["qqrollback"], 5) and not self.search(["qqdelete"], 5)
        return "commits of its own; deletes at its commit; one writing process" if held else "BROKEN"


class Bm25s:
    """Scores of every (term, passage) pair in memory, made at once."""

    def __init__(self) -> None:
        self.module: Any = importlib.import_module("bm25s")
        self.model = self.module.BM25(method="lucene", k1=1.2, b=0.75)
        self.texts: list[list[str]] = []

    def add(self, rows: Sequence[tuple[int, str]]) -> None:
        self.texts += [t.lower().split() for _, t in rows]

    def reopen(self) -> None:
        self.model.index(self.texts, show_progress=False)
        self.texts = []

    def search(self, terms: Sequence[str], top_k: int) -> Found:
        known = [t for t in terms if t in self.model.vocab_dict]
        if not known:
            return []
        ids, scores = self.model.retrieve([known], k=top_k, show_progress=False, n_threads=0)
        return [(int(i) + 1, float(s)) for i, s in zip(ids[0], scores[0], strict=True)]

    def size_mb(self) -> float:
        return sum(self.model.scores[k].nbytes for k in ("data", "indices", "indptr")) / 1e6

    def laws(self) -> str:
        return "none: made anew for each change"


def batches(language: Language, drawn: Any, size: int = 20_000) -> Iterator[list[tuple[int, str]]]:
    for start in range(0, len(drawn), size):
        yield [(n + 1, language.text(drawn, n)) for n in range(start, min(start + size, len(drawn)))]


def measured(
    name: str, search: Callable[[Sequence[str], int], Found], asked: list[list[str]], exact: list[Found], top_k: int
) -> dict[str, Any]:
    """Times over all questions, each once before it counts, and the overlap with the exact answers."""
    walls, overlaps = [], []
    for terms, right in zip(asked, exact, strict=True):
        search(terms, top_k)
        start = time.perf_counter()
        found = search(terms, top_k)
        walls.append(1000 * (time.perf_counter() - start))
        if right:
            least = right[:TOP][-1][1] - 1e-6
            good = {i for i, score in right if score >= least}
            overlaps.append(len(good & {i for i, _ in found[:TOP]}) / min(TOP, len(right)))
    return {
        "engine": name, "p50 ms": statistics.median(walls), "p95 ms": statistics.quantiles(walls, n=20)[-1],
        f"overlap@{TOP}": statistics.mean(overlaps),
    }  # fmt: skip


def engines(options: Any, folder: Path) -> list[tuple[str, Any, list[tuple[str, str]]]]:
    """(name, engine, its ways to search)."""
    made: list[tuple[str, Any, list[tuple[str, str]]]] = [
        ("fts5", Fts5(folder / "fts5.db"), [("fts5 whole", "whole"), ("fts5 bounded", "bounded")])
    ]
    for name, make in (("tantivy", lambda: Tantivy(folder / "tantivy")), ("bm25s", Bm25s)):
        if importlib.util.find_spec(name) is None:
            machine.say(options, f"{name} is not installed: left out")
        else:
            made.append((name, make(), [(name, "search")]))
    return made


def run(options: Any, size: int) -> list[dict[str, Any]]:
    """One size."""
    language = Language(options.seed)
    drawn = language.passages(size)
    questions = {n: [language.question(drawn, n) for _ in range(options.questions)] for n in options.words}
    exact: dict[int, list[Found]] = {}
    rows: list[dict[str, Any]] = []
    folder = Path(tempfile.mkdtemp())
    try:
        for name, engine, ways in engines(options, folder):
            before = resident_mb()
            start = time.perf_counter()
            for batch in batches(language, drawn):
                engine.add(batch)
            engine.reopen()
            machine.say(options, f"{size} in {name}: {time.perf_counter() - start:.1f} s")
            if name == "fts5":
                exact = {n: [engine.whole(terms, 1000) for terms in asked] for n, asked in questions.items()}
            for n, asked in questions.items():
                for shown, way in ways:
                    row = measured(shown, getattr(engine, way), asked, exact[n], options.top_k)
                    rows.append({"passages": size, "words": n, **row})
            more = {
                "memory MB": resident_mb() - before,
                "file MB": engine.size_mb(),
                **insertion(engine, language, size),
            }
            for row in rows:
                if row["passages"] == size and row["engine"].startswith(name):
                    row.update(more)
    finally:
        shutil.rmtree(folder)
    return rows


def insertion(engine: Any, language: Language, size: int) -> dict[str, Any]:
    """One record at a time, each committed."""
    if isinstance(engine, Bm25s):
        return {"insert ms": float("nan"), "transactions": engine.laws()}
    more = language.passages(100)
    walls = []
    for n in range(len(more)):
        start = time.perf_counter()
        engine.add([(size + n + 1, language.text(more, n))])
        walls.append(1000 * (time.perf_counter() - start))
    return {"insert ms": statistics.median(walls), "transactions": engine.laws()}


def main() -> None:
    """Measure and print."""
    parser = machine.parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="passages stored")
    parser.add_argument("--words", type=int, nargs="+", default=[3, 8, 20], help="words of a question")
    parser.add_argument("--questions", type=int, default=40, help="questions of each length (40)")
    parser.add_argument("--top-k", type=int, default=400, help="records asked for (400)")
    parser.add_argument("--budget", type=int, default=lexical_module.BUDGET, help="postings of a bounded search")
    options = parser.parse_args()
    lexical_module.BUDGET = options.budget
    rows = [row for size in options.sizes for row in run(options, size)]
    note = (
        f"best {options.top_k} of each question; memory is what the process grew by; FTS5's file has the term lists;"
        f" bounded: whole up to {lexical_module.WHOLE} postings, then {lexical_module.BUDGET} postings and"
        f" {lexical_module.SCORED} records scored"
    )
    machine.show(options, rows, note=note)


if __name__ == "__main__":
    main()
