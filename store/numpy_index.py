"""Exact nearest neighbours with numpy alone: the oracle of the tests, and what serves where faiss is missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agentmem.errors import IndexDamagedError

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
        self._ids = np.empty(0, dtype=np.int64)
        self._rows = np.empty((0, dim), dtype=np.float32)
        self._position: dict[int, int] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add or replace rows; `vectors` is (len(ids), dim)."""
        import numpy as np

        needed = self._count + len(ids)
        if needed > len(self._ids):
            capacity = max(needed, 2 * len(self._ids), 64)
            grown_ids, grown = np.empty(capacity, np.int64), np.empty((capacity, self.dim), np.float32)
            grown_ids[: self._count], grown[: self._count] = self._ids[: self._count], self._rows[: self._count]
            self._ids, self._rows = grown_ids, grown
        for one, row in zip(ids.tolist(), vectors, strict=True):
            at = self._position.setdefault(one, self._count)
            self._count += at == self._count
            self._ids[at], self._rows[at] = one, row

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Remove ids by moving the last row into the hole; unknown ones are ignored."""
        removed = 0
        for one in ids.tolist():
            at = self._position.pop(one, None)
            if at is None:
                continue
            removed += 1
            self._count -= 1
            if at != self._count:
                self._ids[at], self._rows[at] = self._ids[self._count], self._rows[self._count]
                self._position[int(self._ids[at])] = at
        return removed

    def search(
        self, vector: NDArray[np.float32], *, top_k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[tuple[int, float]]:
        """(id, cosine), best first, ties by lower id."""
        import numpy as np

        ids, rows = self._ids[: self._count], self._rows[: self._count]
        if allowed is not None:
            keep = np.isin(ids, allowed)
            ids, rows = ids[keep], rows[keep]
        if top_k <= 0 or not len(ids):
            return []
        scores = rows @ vector.astype(np.float32)
        order = np.lexsort((ids, -scores))[:top_k]
        return [(int(ids[i]), float(scores[i])) for i in order]

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        import numpy as np

        return np.sort(self._ids[: self._count])

    def to_bytes(self) -> bytes:
        """A line of JSON, then the ids, then the rows, little-endian."""
        head = json.dumps({"count": self._count, "dim": self.dim}).encode() + b"\n"
        ids, rows = self._ids[: self._count].astype("<i8"), self._rows[: self._count].astype("<f4")
        return head + ids.tobytes() + rows.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> NumpyIndex:
        """Raises IndexDamagedError when the bytes are not what `to_bytes` writes."""
        import numpy as np

        try:
            head, body = data.split(b"\n", 1)
            shape = json.loads(head)
            count, dim = int(shape["count"]), int(shape["dim"])
            ids = np.frombuffer(body, "<i8", count).astype(np.int64)
            rows = np.frombuffer(body, "<f4", count * dim, offset=8 * count).reshape(count, dim).astype(np.float32)
        except (ValueError, KeyError, TypeError) as e:
            raise IndexDamagedError(f"the index bytes can't be read: {e}") from e
        index = cls(dim)
        index.add(ids, rows)
        return index
