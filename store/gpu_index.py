"""FAISS on a GPU: a copy of an index there answers the searches that need no selector.

Used where `faiss.get_num_gpus()` says there is one, which only the GPU packages of FAISS do. It was written against
the documented interface (`index_cpu_to_gpu`, k and nprobe of 2,048 at most, no id selectors) and is tested with a
stand-in: no GPU has run it yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST = 2048
"""The largest k, and nprobe, of FAISS's GPU indexes."""


class GpuCopy:
    """A copy on the first GPU, made at the first search after a change. The index in memory stays the whole truth:
    what is filtered, and k above `MOST`, is searched there."""

    def __init__(self, faiss: Any) -> None:
        self._faiss = faiss
        self._resources = faiss.StandardGpuResources()
        self._copy: Any = None

    @classmethod
    def wanted(cls, faiss: Any) -> Self | None:
        """A copy to be filled where there is a GPU, else None."""
        return cls(faiss) if faiss.get_num_gpus() > 0 else None

    @staticmethod
    def takes(top_k: int, probes: int = 1) -> bool:
        """Whether a GPU index can be asked for so much."""
        return top_k <= MOST and probes <= MOST

    def drop(self) -> None:
        """The index has changed."""
        self._copy = None

    def search(
        self, index: Any, query: NDArray[np.float32], top_k: int, probes: int | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(scores, ids), each (1, top_k), as FAISS gives them; `index` is what the copy is made of."""
        if self._copy is None:
            self._copy = self._faiss.index_cpu_to_gpu(self._resources, 0, index)
        if probes is None:
            scores, found = self._copy.search(query, top_k)
        else:
            parameters = self._faiss.SearchParametersIVF(nprobe=probes)
            scores, found = self._copy.search(query, top_k, params=parameters)
        return scores, found
