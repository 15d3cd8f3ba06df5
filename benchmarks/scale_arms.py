"""agentmem's archive and the raw engines, filled with the same passages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem import Memory
from agentmem.archiving import archive_many
from benchmarks import machine
from benchmarks.raw_engines import PRAGMAS, RawEngines
from benchmarks.raw_faiss import RawIndex
from benchmarks.scale_data import StubEmbedder, Texts

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from numpy.typing import NDArray

    from agentmem.protocols import VectorIndex
    from agentmem.store.dense import DenseIndex

TOP_K = 10
BATCH = 1000
LINES = 10_000


def settle(index: DenseIndex, search: Callable[[], object]) -> float:
    """Search until nothing is built or written in the background any more, and what was built serves; seconds."""
    start = time.perf_counter()
    quiet = 0
    # Twice: what was built between a search and the look at it serves from the next search on.
    while quiet < 2:
        search()
        # No public word for it: a program need not know, for every search is answered meanwhile.
        jobs = index._jobs
        quiet = 0 if jobs.busy else quiet + 1
        while jobs.busy:
            time.sleep(0.02)
    return time.perf_counter() - start


def wait(memory: Memory, vector: NDArray[np.float32]) -> float:
    """`settle` for the archive."""
    return settle(memory.records.dense["archival"], lambda: dense(memory, vector))


def served(memory: Memory) -> VectorIndex:
    """The index that serves the archive."""
    held = memory.records.dense["archival"]._held
    assert held is not None
    return held.index


def dense(memory: Memory, vector: NDArray[np.float32]) -> list[int]:
    """Ids of the nearest passages, with their rows fetched."""
    records, row = memory.records, memory.store.embedder()
    assert row is not None
    found = records.dense["archival"].search(vector, row.id, top_k=TOP_K)
    owners = records.vectors.owners([i for i, _ in found])
    ids = [owners[i][1] for i, _ in found]
    records.archival.get(ids)
    return ids


def lexical(memory: Memory, question: str) -> list[int]:
    """Ids of the best passages by words, with their rows fetched."""
    index = memory.records.archival.lexical
    ids = [i for i, _ in index.search(index.terms(question), top_k=TOP_K)]
    memory.records.archival.get(ids)
    return ids


class _Clock:
    """Seconds, by the wall and of the processor, without the embedder's."""

    def __init__(self, embedder: StubEmbedder) -> None:
        self._embedder = embedder
        self.wall = self.worked = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time(), self._embedder.seconds

    def __exit__(self, *_: object) -> None:
        wall, worked, embedding = self._began
        embedding = self._embedder.seconds - embedding
        self.wall += time.perf_counter() - wall - embedding
        self.worked += time.process_time() - worked - embedding

    def rate(self, count: int) -> dict[str, float]:
        return {"wall": count / self.wall, "processor": count / max(self.worked, 1e-3)}


class Arms:
    """agentmem and the raw engines with the same passages."""

    def __init__(self, folder: Path, count: int, options: argparse.Namespace) -> None:
        self.folder, self.count, self.options = folder, count, options
        self.embedder = StubEmbedder(options.vectors, options.seed)
        self.texts = Texts(options.seed)
        self.path = folder / f"agentmem-{count}.db"
        self.memory = Memory(self.path, embedder=self.embedder)
        run = self.memory.store.db.row
        self.pragmas = {name: next(iter(run(f"PRAGMA {name}") or ("",))) for name in PRAGMAS}
        self.raw = RawEngines(folder / f"raw-{count}.db", self.pragmas)
        self.next = 1

    def fill(self) -> dict[str, Any]:
        """Both arms with `count` passages; rows a second of each, by the wall and by processor time, without the
        embedder."""
        ours, raw = _Clock(self.embedder), _Clock(self.embedder)
        for n, texts in enumerate(self.texts.batches(self.count, LINES)):
            with ours:
                report = archive_many(self.memory, ({"text": t} for t in texts))
            assert report.stored == len(texts), report
            rows = self.embedder.embed(texts, input_type="document")
            with raw:
                for at in range(0, len(texts), BATCH):
                    self.raw.insert(self.next + at, texts[at : at + BATCH], rows[at : at + BATCH])
            self.next += len(texts)
            if n % 10 == 9:
                machine.say(self.options, f"{self.next - 1} of {self.count} passages stored")
        built = wait(self.memory, self.embedder.embed(["ready?"], input_type="query")[0])
        index = RawIndex.like(served(self.memory))
        for n, texts in enumerate(self.texts.batches(self.count, LINES)):
            rows = self.embedder.embed(texts, input_type="document")
            with raw:
                index.add(_numbers(n * LINES + 1, len(texts)), rows)
        self.raw.use(index)
        return {"ours": ours.rate(self.count), "raw": raw.rate(self.count), "built_s": built}

    def questions(self, count: int) -> list[tuple[str, NDArray[np.float32]]]:
        """Questions with their vectors, in the words of stored passages."""
        some = next(iter(self.texts.batches(min(self.count, LINES), LINES)))
        asked = [self.texts.question(some[n * 37 % len(some)], n) for n in range(count)]
        return list(zip(asked, self.embedder.embed(asked, input_type="query"), strict=True))

    def exact(self, vectors: NDArray[np.float32], gone: set[int]) -> list[set[int]]:
        """The true ten nearest of each vector, of shape (n, dim), by a scan over all that is there."""
        import numpy as np

        best = np.full((len(vectors), TOP_K), -2.0, np.float32)
        ids = np.zeros((len(vectors), TOP_K), np.int64)
        for n, texts in enumerate(self.texts.batches(self.count, LINES)):
            numbers = _numbers(n * LINES + 1, len(texts))
            scores = vectors @ self.embedder.embed(texts, input_type="document").T
            scores[:, [i - 1 - n * LINES for i in numbers.tolist() if i in gone]] = -2.0
            all_scores = np.concatenate([best, scores], axis=1)
            all_ids = np.concatenate([ids, np.broadcast_to(numbers, scores.shape)], axis=1)
            top = np.argpartition(-all_scores, TOP_K - 1, axis=1)[:, :TOP_K]
            best, ids = np.take_along_axis(all_scores, top, 1), np.take_along_axis(all_ids, top, 1)
        return [set(row.tolist()) for row in ids]

    def delete(self, ids: Sequence[int]) -> dict[str, float]:
        """Take passages away in both arms; seconds of each."""
        records = self.memory.records
        start = time.perf_counter()
        for at in range(0, len(ids), BATCH):
            chunk = ids[at : at + BATCH]
            with self.memory.store.write():
                records.vectors.remove("archival", chunk)
                records.archival.delete(records.archival.get(chunk))
        ours = time.perf_counter() - start
        start = time.perf_counter()
        self.raw.delete(ids)
        return {"ours": ours, "raw": time.perf_counter() - start}

    def close(self) -> None:
        """Close both."""
        self.memory.close()
        self.raw.close()


def _numbers(first: int, count: int) -> NDArray[np.int64]:
    import numpy as np

    return np.arange(first, first + count, dtype=np.int64)


def tree_bytes(path: Path) -> int:
    """A store's file with its index folder."""
    files = [path, *Path(f"{path}-index").glob("*")]
    return sum(f.stat().st_size for f in files if f.is_file())
