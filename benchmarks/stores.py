"""What the retrieval benchmarks keep between runs: vectors by the hash of their text, stores as ingested, results.

Nothing stale is used again: stores and results carry a fingerprint of agentmem's and the benchmarks' source and of the
data, and are made anew when it is another. Vectors depend on the embedder and the text alone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import agentmem
from agentmem import Memory
from benchmarks import machine

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from numpy.typing import NDArray

    from agentmem.protocols import Embedder
    from agentmem.types import InputType


def fingerprint(*more: str) -> str:
    """Of the source of agentmem and of these benchmarks, and of what else a result depends on."""
    digest = hashlib.sha256()
    package = Path(agentmem.__file__).parent
    here = Path(__file__).parent
    files = sorted(p for d in (package, *sorted(p for p in package.iterdir() if p.is_dir())) for p in d.glob("*.py"))
    for path in (*files, *(here / f"{n}.py" for n in ("baselines", "measures"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for text in more:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]


def ingest_fingerprint(*more: str) -> str:
    """Of the source that says what is stored of a history, and under which keys; and of what else it depends on."""
    digest = hashlib.sha256()
    package = Path(agentmem.__file__).parent
    kernel = ("keys", "indexing", "ingesting", "language", "terms", "drafts", "wire")
    store = ("schema", "recall", "lexical", "record_words", "term_lists", "vectors")
    for path in (*(package / f"{n}.py" for n in kernel), *(package / "store" / f"{n}.py" for n in store)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for text in more:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]


class KeptEmbedder:
    """An embedder whose vectors are kept in a file, so that a text is embedded once. Everything else is its own."""

    def __init__(self, inner: Embedder, path: Path | str = ":memory:") -> None:
        self._inner = inner
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("CREATE TABLE IF NOT EXISTS vectors (hash BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        self.embedded = 0
        """Texts that had to be embedded."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def embed(self, texts: Sequence[str], *, input_type: InputType) -> NDArray[np.float32]:
        """As the embedder's own."""
        import numpy as np

        digests = [text_hash(t, input_type) for t in texts]
        known: dict[bytes, NDArray[np.float32]] = {}
        for digest in dict.fromkeys(digests):
            row = self._db.execute("SELECT vector FROM vectors WHERE hash = ?", (digest,)).fetchone()
            if row is not None:
                known[digest] = np.frombuffer(row[0], "<f4")
        missing = {d: t for d, t in zip(digests, texts, strict=True) if d not in known}
        if missing:
            rows = self._inner.embed(list(missing.values()), input_type=input_type)
            self.embedded += len(missing)
            self.keep(dict(zip(missing, rows, strict=True)))
            known.update(zip(missing, rows, strict=True))
        return np.array([known[d] for d in digests], np.float32).reshape(len(texts), self._inner.dim)

    def keep(self, rows: dict[bytes, NDArray[np.float32]]) -> None:
        """Put vectors into the file, by `text_hash`."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT OR IGNORE INTO vectors VALUES (?, ?)", [(h, v.astype("<f4").tobytes()) for h, v in rows.items()]
        )
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def text_hash(text: str, input_type: str) -> bytes:
    """Names a vector in the file."""
    return hashlib.blake2b(f"{input_type}\0{text}".encode("utf-8", "replace"), digest_size=16).digest()


def kept_embedder(inner: Embedder, folder: Path) -> KeptEmbedder:
    """The embedder with its file in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model = "".join(c if c.isalnum() else "-" for c in inner.model_id)
    return KeptEmbedder(inner, folder / f"vectors-{model}.sqlite")


def ingested(folder: Path, name: str, lines: Iterable[dict[str, Any]], embedder: Embedder, mark: str) -> Memory:
    """A memory with a history: the one that is in the folder, if it was made whole under the same fingerprint."""
    path, done = folder / f"{name}.db", folder / f"{name}.made"
    if not (done.exists() and done.read_text() == mark and path.exists()):
        done.unlink(missing_ok=True)
        for old in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            old.unlink(missing_ok=True)
        shutil.rmtree(f"{path}-index", ignore_errors=True)
        with Memory(path, embedder=embedder) as memory:
            report = memory.ingest(lines)
            if report.conflicts:
                raise SystemExit(f"{name}: {report.conflicts[:1]}")
            # The published LongMemEval has a turn or two without a word: nothing to find there.
            for line in report.malformed:
                print(f"{name}: left out: {line}", file=sys.stderr)
        done.write_text(mark)
    return Memory(path, embedder=embedder)


class Results:
    """Results by question, one line of JSON each, in a file that a later run goes on with."""

    def __init__(self, path: Path | None, mark: str, *, fresh: bool) -> None:
        self._path = path
        self._mark = mark
        self.found: dict[str, dict[str, Any]] = {}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if fresh:
                path.unlink(missing_ok=True)
            elif path.exists():
                self._read(path)

    def _read(self, path: Path) -> None:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the last line of a run that was killed
            if row.get("fingerprint") == self._mark:
                self.found[row["id"]] = row

    def add(self, row: dict[str, Any]) -> None:
        """Keep a question's result."""
        self.found[row["id"]] = row
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"fingerprint": self._mark, **row}, ensure_ascii=False) + "\n")


class Progress:
    """A line from time to time: how much is done, and about how long the rest takes."""

    def __init__(self, options: argparse.Namespace, total: int) -> None:
        self._options, self._total = options, total
        self._start = self._said = time.monotonic()
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        took = time.monotonic() - self._start
        machine.say(self._options, f"{self._done} of {self._total} questions in {took:.0f} s")

    def step(self, what: str, every_s: float = 10.0) -> None:
        """One more question is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._said >= every_s:
            self._said = now
            left = (now - self._start) / self._done * (self._total - self._done)
            text = f"{what}: {self._done} of {self._total} questions, about {left / 60:.1f} min left"
            machine.say(self._options, text)
