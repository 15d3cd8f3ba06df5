"""Exact nearest neighbours with FAISS: a flat inner-product index under an id map.

An id map over a flat index is right with removals; over IVF it returns wrong ids after one (see `ivf_index`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agentmem.errors import IndexDamagedError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.store.gpu_index import GpuCopy

# Copied at a time, under the store's lock.
PART_BYTES = 2 << 20
# Up to here a set in a bloom filter is looked up faster than a map of bits over all ids is made.
FEW_IDS = 256


def load_faiss() -> Any:
    """The module `faiss`. Raises MissingExtraError."""
    try:
        import faiss
    except ImportError as e:
        raise MissingExtraError("the FAISS index", "cpu", "faiss-cpu") from e
    return faiss


@contextmanager
def one_thread(faiss: Any) -> Iterator[None]:
    """One query is quicker on one thread than on two. The setting is OpenMP's for the calling thread, and is put back:
    nobody else's FAISS is changed."""
    before = faiss.omp_get_max_threads()
    if before == 1:
        yield
        return
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


class Chosen:
    """What may be found: `allowed` ids only, or all but `excluded`. Raises ValueError for both."""

    def __init__(self, allowed: NDArray[np.int64] | None, excluded: NDArray[np.int64] | None) -> None:
        import numpy as np

        if allowed is not None and excluded is not None:
            raise ValueError("give allowed or excluded, not both")
        given = allowed if allowed is not None else excluded
        self._inverted = excluded is not None
        self.all = given is None or (self._inverted and not len(given))
        self._ids = np.ascontiguousarray([] if given is None else given, np.int64)
        self._bits: NDArray[np.bool_] | None = None
        if len(self._ids) > FEW_IDS:
            ids = self._ids[self._ids >= 0]
            self._bits = np.zeros((int(ids.max(initial=0)) // 8 + 1) * 8, bool)
            self._bits[ids] = True

    def __len__(self) -> int:
        return len(self._ids)

    def selector(self, faiss: Any) -> Any:
        """As FAISS takes it, None for all."""
        import numpy as np

        if self.all:
            return None
        if self._bits is None:
            chosen = faiss.IDSelectorBatch(self._ids)
        else:
            chosen = faiss.IDSelectorBitmap(np.packbits(self._bits, bitorder="little"))
        return faiss.IDSelectorNot(chosen) if self._inverted else chosen

    def keeps(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some ids, none below 0, may be found."""
        import numpy as np

        if self._bits is None:
            return np.isin(ids, self._ids, invert=self._inverted)
        known = ids < len(self._bits)
        there = known & self._bits[np.where(known, ids, 0)]
        return ~there if self._inverted else there


def last_of_each(ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Of several rows of one id the last."""
    import numpy as np

    if len(ids) < 2 or bool((ids[1:] > ids[:-1]).all()):
        return ids, vectors
    _, at = np.unique(ids[::-1], return_index=True)
    keep = np.sort(len(ids) - 1 - at)
    return ids[keep], vectors[keep]


def row_parts(ids: NDArray[np.int64], rows: NDArray[np.float32]) -> Iterator[tuple[str, bytes]]:
    """Ids and rows, little-endian, the rows in pieces."""
    yield "head", json.dumps({"count": len(ids), "dim": rows.shape[1]}).encode()
    yield "ids", ids.astype("<i8").tobytes()
    step = max(1, PART_BYTES // (4 * rows.shape[1]))
    for number, start in enumerate(range(0, len(rows), step)):
        yield f"rows.{number}", rows[start : start + step].astype("<f4", copy=False).tobytes()


def read_rows(parts: Mapping[str, bytes], dim: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """What `row_parts` gave, a piece at a time. Raises IndexDamagedError."""
    import numpy as np

    try:
        head = json.loads(parts["head"])
        ids = np.frombuffer(parts["ids"], "<i8").astype(np.int64)
        if head != {"count": len(ids), "dim": dim}:
            raise ValueError(f"{len(ids)} ids under the head {head}")
        done = 0
        for number in range(sum(name.startswith("rows.") for name in parts)):
            rows = np.frombuffer(parts[f"rows.{number}"], "<f4").reshape(-1, dim).astype(np.float32)
            if done + len(rows) > len(ids):
                break
            yield ids[done : done + len(rows)], rows
            done += len(rows)
        if done != len(ids):
            raise ValueError(f"the rows are not {len(ids)}, as the ids are")
    except (ValueError, KeyError, TypeError) as e:
        raise IndexDamagedError(f"the index's parts can't be read: {e}") from e


class FaissRows:
    """What FAISS's indexes have in common here: rows under ids that come and go, and a copy on a GPU to drop then."""

    _index: Any
    _highest: int
    _copy: GpuCopy | None

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add or replace rows; `vectors` is (len(ids), dim). FAISS itself would keep both rows of one id."""
        import numpy as np

        ids, vectors = last_of_each(ids.astype(np.int64), vectors)
        if not len(ids):
            return
        # The store gives ids out ascending, so that what is there already need not be looked for.
        if int(ids.min()) <= self._highest:
            self.remove(ids)
        self._index.add_with_ids(np.ascontiguousarray(vectors, np.float32), ids)
        self._highest = max(self._highest, int(ids.max()))
        if self._copy is not None:
            self._copy.drop()

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Remove ids; unknown ones are ignored. One pass over the ids, however many go."""
        import numpy as np

        if not len(ids) or not len(self):
            return 0
        if self._copy is not None:
            self._copy.drop()
        chosen = load_faiss().IDSelectorBatch(np.ascontiguousarray(ids, np.int64))
        return int(self._index.remove_ids(chosen))


class FaissIndex(FaissRows):
    """`IndexIDMap(IndexFlatIP)`. Exact: it scans all rows, about 0.1 ms for a thousand of 384 dimensions."""

    kind = "faiss-flat"

    def __init__(self, dim: int) -> None:
        from agentmem.store.gpu_index import GpuCopy

        faiss = load_faiss()
        self.dim = dim
        self._index = faiss.IndexIDMap(faiss.IndexFlatIP(dim))
        self._highest = -1
        self._copy = GpuCopy.wanted(faiss)

    @property
    def nbytes(self) -> int:
        """Rows and ids."""
        return len(self) * (4 * self.dim + 8)

    def search(
        self,
        vector: NDArray[np.float32],
        *,
        top_k: int,
        allowed: NDArray[np.int64] | None = None,
        excluded: NDArray[np.int64] | None = None,
    ) -> list[tuple[int, float]]:
        """(id, cosine), best first, ties by lower id."""
        import numpy as np

        faiss = load_faiss()
        chosen = Chosen(allowed, excluded).selector(faiss)
        most = len(self) if allowed is None else min(len(allowed), len(self))
        wanted = min(top_k, most)
        if wanted <= 0:
            return []
        query = np.ascontiguousarray(vector, np.float32).reshape(1, -1)
        asked = min(wanted + 1, most)
        while True:
            scores, found = self._ask(faiss, query, asked, chosen)
            # Which of equal rows FAISS gives is chance: ask on until the tie at the end is whole.
            if asked == most or found[0][-1] < 0 or scores[0][wanted - 1] != scores[0][-1]:
                break
            asked = min(2 * asked, most)
        # FAISS pads with id -1 when it has fewer than was asked for.
        pairs = [(int(i), float(s)) for i, s in zip(found[0], scores[0], strict=True) if i >= 0]
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:wanted]

    def _ask(self, faiss: Any, query: NDArray[np.float32], asked: int, chosen: Any) -> tuple[Any, Any]:
        if chosen is None and self._copy is not None and self._copy.takes(asked):
            return self._copy.search(self._index, query, asked)
        parameters = faiss.SearchParameters(sel=chosen) if chosen is not None else None
        with one_thread(faiss):
            scores, found = self._index.search(query, asked, params=parameters)
        return scores, found

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        import numpy as np

        return np.sort(load_faiss().vector_to_array(self._index.id_map))

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Ids and rows (`row_parts`), copied at the first step."""
        faiss = load_faiss()
        flat = faiss.downcast_index(self._index.index)
        ids = faiss.vector_to_array(self._index.id_map)
        rows = faiss.rev_swig_ptr(flat.get_xb(), len(ids) * self.dim).reshape(-1, self.dim).copy()
        yield from row_parts(ids, rows)

    def load(self, parts: Mapping[str, bytes]) -> None:
        """Raises IndexDamagedError when the parts are not what `parts` gives."""
        for ids, rows in read_rows(parts, self.dim):
            self.add(ids, rows)
