"""Exact nearest neighbours with FAISS: a flat inner-product index under an id map.

IDMap2 over Flat is the combination that was found right with removals; IVF under IDMap2 returns wrong ids after one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentmem.errors import IndexDamagedError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as e:
        raise MissingExtraError("the FAISS index", "cpu", "faiss-cpu") from e
    return faiss


class FaissIndex:
    """`IndexIDMap2(IndexFlatIP)` with the set of ids kept beside it."""

    kind = "faiss-flat"

    def __init__(self, dim: int) -> None:
        faiss = _faiss()
        self.dim = dim
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dim))
        self._known: set[int] = set()

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add or replace rows; `vectors` is (len(ids), dim). FAISS itself would keep both rows of one id."""
        import numpy as np

        ids = ids.astype(np.int64)
        again = [i for i in ids.tolist() if i in self._known]
        if again:
            self.remove(np.array(again, np.int64))
        last = {one: at for at, one in enumerate(ids.tolist())}
        if len(last) < len(ids):
            keep = np.array(sorted(last.values()))
            ids, vectors = ids[keep], vectors[keep]
        if len(ids):
            self._index.add_with_ids(np.ascontiguousarray(vectors, np.float32), ids)
            self._known.update(ids.tolist())

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Remove ids; unknown ones are ignored."""
        import numpy as np

        present = [i for i in dict.fromkeys(ids.tolist()) if i in self._known]
        if not present:
            return 0
        faiss = _faiss()
        removed = int(self._index.remove_ids(faiss.IDSelectorBatch(np.array(present, np.int64))))
        self._known.difference_update(present)
        return removed

    def search(
        self, vector: NDArray[np.float32], *, top_k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[tuple[int, float]]:
        """(id, cosine), best first, ties by lower id. One query is quicker on one thread than on two."""
        import numpy as np

        most = len(self) if allowed is None else min(len(allowed), len(self))
        wanted = min(top_k, most)
        if wanted <= 0:
            return []
        faiss = _faiss()
        parameters = None
        if allowed is not None:
            selector = faiss.IDSelectorBatch(np.ascontiguousarray(allowed, np.int64))
            parameters = faiss.SearchParameters(sel=selector)
        query = np.ascontiguousarray(vector, np.float32).reshape(1, -1)
        asked = min(wanted + 1, most)
        while True:
            scores, found = self._index.search(query, asked, params=parameters)
            # Which of equal rows FAISS gives is chance: ask on until the tie at the end is whole.
            if asked == most or scores[0][wanted - 1] != scores[0][-1]:
                break
            asked = min(2 * asked, most)
        # FAISS pads with id -1 when it has fewer than was asked for.
        pairs = [(int(i), float(s)) for i, s in zip(found[0], scores[0], strict=True) if i >= 0]
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:wanted]

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        import numpy as np

        return np.array(sorted(self._known), dtype=np.int64)

    def to_bytes(self) -> bytes:
        """FAISS's own serialisation."""
        data: bytes = _faiss().serialize_index(self._index).tobytes()
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> FaissIndex:
        """Raises IndexDamagedError when FAISS can't read the bytes."""
        import numpy as np

        faiss = _faiss()
        try:
            raw = faiss.deserialize_index(np.frombuffer(data, np.uint8))
        except RuntimeError as e:
            raise IndexDamagedError(f"FAISS can't read the index: {str(e)[:200]}") from e
        index = cls.__new__(cls)
        index.dim = int(raw.d)
        index._index = raw
        index._known = set(faiss.vector_to_array(raw.id_map).tolist())
        return index
