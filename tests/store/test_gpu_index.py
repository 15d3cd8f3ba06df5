"""The copy on a GPU, with a stand-in: these say when it is asked and made anew, not that it works on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np
import pytest

from agentmem.contracts import VectorIndexContract
from agentmem.store.faiss_index import FaissIndex
from agentmem.store.gpu_index import MOST, GpuCopy
from tests.store.test_indexes import Rows, unit_rows


class Gpu:
    """FAISS's GPU functions as documented: an index is copied, the copy takes no selector and k of 2,048 at most."""

    def __init__(self) -> None:
        self.copies = 0
        self.searches = 0

    def copy(self, resources: object, device: int, index: Any) -> Any:
        assert resources == "resources" and device == 0
        self.copies += 1
        inner, gpu = faiss.clone_index(index), self

        class Copy:
            def search(self, query: Any, top_k: int, params: Any = None) -> Any:
                assert top_k <= MOST and (params is None or params.sel is None)
                gpu.searches += 1
                return inner.search(query, top_k, params=params)

        return Copy()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    made = Gpu()
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: "resources", raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", made.copy, raising=False)
    yield made


@pytest.mark.parametrize("make", [FaissIndex, Rows().make])
def test_unfiltered_searches_ask_the_copy(gpu: Gpu, make: Callable[[int], Any]) -> None:
    rows = unit_rows(3000, 8)
    index = make(8)
    index.add(np.arange(3000, dtype=np.int64), rows)
    first = index.search(rows[5], top_k=3)
    assert first[0][0] == 5
    assert index.search(rows[6], top_k=3)[0][0] == 6
    assert (gpu.copies, gpu.searches) == (1, 2), "copied once"
    assert index.search(rows[5], top_k=3, allowed=np.array([7, 9])) == index.search(
        rows[5], top_k=3, excluded=np.setdiff1d(np.arange(3000), [7, 9])
    )
    assert len(index.search(rows[5], top_k=2500)) == 2500
    assert gpu.searches == 2, "filters and large k are searched in memory"
    index.remove(np.array([5]))
    assert index.search(rows[5], top_k=1)[0][0] != 5
    index.add(np.array([9000], np.int64), rows[5:6])
    assert index.search(rows[5], top_k=1)[0][0] == 9000
    assert gpu.copies == 3, "and anew after each change"


class TestFlatOnGpu(VectorIndexContract):
    @pytest.fixture
    def make_index(self, gpu: Gpu) -> Callable[[int], Any]:
        return FaissIndex


class TestIvfOnGpu(VectorIndexContract):
    @pytest.fixture
    def make_index(self, gpu: Gpu) -> Callable[[int], Any]:
        return Rows().make


def test_without_a_gpu_there_is_no_copy() -> None:
    assert faiss.get_num_gpus() > 0 or GpuCopy.wanted(faiss) is None
    assert GpuCopy.takes(MOST, MOST) and not GpuCopy.takes(MOST + 1) and not GpuCopy.takes(1, MOST + 1)
