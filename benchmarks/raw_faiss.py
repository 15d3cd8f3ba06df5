"""A FAISS index as a program without agentmem would hold it, of the same type and parameters as agentmem's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MARGIN = 16
"""Candidates more than results that are ranked again, as agentmem does."""


class RawIndex:
    """`kind` is `faiss-flat`, or `ivf-sq8` with its centres, ranges and the lists to read for a number of results.

    `rows(ids)` gives the float32 rows by which candidates of codes are ranked again.
    """

    def __init__(
        self,
        dim: int,
        kind: str,
        *,
        lists: NDArray[np.float32] | None = None,
        ranges: NDArray[np.float32] | None = None,
        reach: Sequence[Sequence[int]] = (),
    ) -> None:
        import faiss
        import numpy as np

        self.kind, self.reach = kind, reach
        self.rows: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None
        if kind == "faiss-flat":
            self.faiss: Any = faiss.IndexIDMap(faiss.IndexFlatIP(dim))
            return
        if kind != "ivf-sq8" or lists is None or ranges is None:
            raise SystemExit(f"this benchmark knows no raw index like {kind!r}: add it to raw_faiss.py")
        quantizer = faiss.IndexFlatIP(dim)
        quantizer.add(np.ascontiguousarray(lists))
        self._quantizer = quantizer  # FAISS does not keep it alive
        coder, metric = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        self.faiss = faiss.IndexIVFScalarQuantizer(quantizer, dim, len(lists), coder, metric, False)
        low, high = ranges
        faiss.copy_array_to_vector(np.concatenate([low, np.maximum(high - low, 1e-6)]), self.faiss.sq.trained)
        self.faiss.is_trained = True

    @classmethod
    def like(cls, index: Any) -> RawIndex:
        """Of the type and parameters of an agentmem `VectorIndex`, empty."""
        import numpy as np

        if index.kind != "ivf-sq8":
            return cls(index.dim, "faiss-flat")
        parts: dict[str, bytes] = {}
        for name, part in index.parts():
            parts[name] = part
            if {"head", "lists", "ranges"} <= parts.keys():
                break
        head = json.loads(parts["head"])
        lists = np.frombuffer(parts["lists"], "<f4").reshape(-1, index.dim)
        ranges = np.frombuffer(parts["ranges"], "<f4").reshape(2, index.dim)
        return cls(index.dim, index.kind, lists=lists, ranges=ranges, reach=head["reach"])

    def describe(self) -> str:
        """Type and parameters in a line."""
        if self.kind == "faiss-flat":
            return "IndexIDMap(IndexFlatIP)"
        return f"IndexIVFScalarQuantizer, 8 bit, {self.faiss.nlist} lists, reads {list(self.reach) or 'all'}, re-ranked"

    def add(self, ids: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Add rows with new ids."""
        self.faiss.add_with_ids(rows, ids)

    def remove(self, ids: Sequence[int]) -> None:
        """Remove ids."""
        import faiss
        import numpy as np

        self.faiss.remove_ids(faiss.IDSelectorBatch(np.array(ids, np.int64)))

    def search(self, vector: NDArray[np.float32], top_k: int) -> list[int]:
        """Ids, best first. The caller sets the number of threads."""
        import faiss
        import numpy as np

        query = vector.reshape(1, -1)
        if self.kind == "faiss-flat":
            return [int(i) for i in self.faiss.search(query, top_k)[1][0] if i >= 0]
        probes = next((n for results, n in self.reach if top_k <= results), self.faiss.nlist)
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        near = self.faiss.search(query, top_k + MARGIN, params=parameters)[1][0]
        near = near[near >= 0]
        assert self.rows is not None
        cosines = self.rows(near) @ vector
        return [int(i) for i in near[np.argsort(-cosines, kind="stable")[:top_k]]]

    def write(self, path: Path) -> int:
        """Write FAISS's own file; its bytes."""
        import faiss

        faiss.write_index(self.faiss, str(path))
        return path.stat().st_size

    @staticmethod
    def read(path: Path) -> Any:
        """FAISS's index from its file, without what stands around it here."""
        import faiss

        return faiss.read_index(str(path))
