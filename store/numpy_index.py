"""Exact nearest neighbours with numpy alone: the oracle of the tests, and what serves where faiss is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from agentmem.store.faiss_index import last_of_each, read_rows, row_parts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class NumpyIndex:
    """A matrix of unit rows and the ids beside it. Capacity doubles, so adding is amortised O(1) a row."""

    kind = "numpy"

    def __init__(self, dim: int) -> None:
        import numpy as np

        self.dim = dim
        self._count = 0
        self._highest = -1
        self._ids = np.empty(0, dtype=np.int64)
        self._rows = np.empty((0, dim), dtype=np.float32)

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Rows and ids."""
        return self._count * (4 * self.dim + 8)

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add or replace rows; `vectors` is (len(ids), dim)."""
        import numpy as np

        ids, vectors = last_of_each(ids.astype(np.int64), vectors)
        if not len(ids):
            return
        if int(ids.min()) <= self._highest:
            self.remove(ids)
        end = self._count + len(ids)
        if end > len(self._ids):
            capacity = max(end, 2 * len(self._ids), 64)
            grown_ids, grown = np.empty(capacity, np.int64), np.empty((capacity, self.dim), np.float32)
            grown_ids[: self._count], grown[: self._count] = self._ids[: self._count], self._rows[: self._count]
            self._ids, self._rows = grown_ids, grown
        self._ids[self._count : end], self._rows[self._count : end] = ids, vectors
        self._count, self._highest = end, max(self._highest, int(ids.max()))

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Remove ids by moving the last rows into the holes; unknown ones are ignored."""
        import numpy as np

        gone = np.isin(self._ids[: self._count], ids)
        removed = int(gone.sum())
        left = self._count - removed
        holes, moved = np.flatnonzero(gone[:left]), left + np.flatnonzero(~gone[left:])
        self._ids[holes], self._rows[holes] = self._ids[moved], self._rows[moved]
        self._count = left
        return removed

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

        if allowed is not None and excluded is not None:
            raise ValueError("give allowed or excluded, not both")
        ids, rows = self._ids[: self._count], self._rows[: self._count]
        if allowed is not None:
            keep = np.isin(ids, allowed)
            ids, rows = ids[keep], rows[keep]
        if top_k <= 0 or not len(ids):
            return []
        scores = rows @ vector.astype(np.float32)
        if excluded is not None and len(excluded):
            keep = np.isin(ids, excluded, invert=True)
            ids, scores = ids[keep], scores[keep]
        if top_k < len(ids):
            # Everything that ties with the last of the best stays in, for the lower id to win.
            near = scores >= np.partition(scores, -top_k)[-top_k]
            ids, scores = ids[near], scores[near]
        order = np.lexsort((ids, -scores))[:top_k]
        return [(int(ids[i]), float(scores[i])) for i in order]

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        import numpy as np

        return np.sort(self._ids[: self._count])

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Ids and rows (`faiss_index.row_parts`), copied at the first step."""
        yield from row_parts(self._ids[: self._count].copy(), self._rows[: self._count].copy())

    def load(self, parts: Mapping[str, bytes]) -> None:
        """Raises IndexDamagedError when the parts are not what `parts` gives."""
        for ids, rows in read_rows(parts, self.dim):
            self.add(ids, rows)
