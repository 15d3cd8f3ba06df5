"""Approximate nearest neighbours at scale: FAISS's inverted lists over 8-bit codes, re-ranked by the float32 rows.

Lists by k-means (Jégou, Douze, Schmid 2011, "Product quantization for nearest neighbor search", section IV), codes by
a scalar quantiser with a range for each dimension; the codes are of the rows themselves, not of residuals, so that
one query reads every list in the same terms. The best candidates are ranked again by their rows from the store, so a
cosine that comes out is exact, and a candidate that the store does not know does not come out at all.

How many lists are read is measured after each build (`index_builder.calibrate`). Where no small share of them finds
the neighbours, as with random vectors, all are read: then only the codes' rounding is between this and an exact scan.
IVF keeps its own ids: under an id map FAISS returns wrong ones after a removal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from agentmem.errors import IndexDamagedError
from agentmem.store.faiss_index import PART_BYTES, Chosen, FaissRows, load_faiss, one_thread
from agentmem.store.gpu_index import GpuCopy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    RowSource = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.float32]]]

MARGIN = 16
"""So many candidates more than results are ranked again: the codes' rounding moves a neighbour by few places."""
ALLOWED_SHARE = 0.5
"""Where less than this share of the index may be found, all lists are read: only that share is scored, and it may stand
anywhere, not only near the query."""


class IvfIndex(FaissRows):
    """`IndexIVFScalarQuantizer`, 8 bits a dimension. `rows(ids)` gives the ids that exist and their float32 rows.

    `lists` are the lists' centres, (number, dim); `ranges` the lowest and highest value of each dimension, (2, dim).
    Without them it is one list over [-1, 1]: right, coarse, and meant for pools that the margin covers.
    `reach` says how many lists are read for how many results, ((results, lists), ...) ascending; () is all.
    `built_from` is how many rows the lists were made for, 0 where they were not.
    """

    kind = "ivf-sq8"

    def __init__(
        self,
        dim: int,
        rows: RowSource,
        *,
        lists: NDArray[np.float32] | None = None,
        ranges: NDArray[np.float32] | None = None,
        built_from: int = 0,
    ) -> None:
        import numpy as np

        self.dim = dim
        self.rows = rows
        self.reach: tuple[tuple[int, int], ...] = ()
        self.built_from = built_from
        self._highest = -1
        self._copy = GpuCopy.wanted(load_faiss())
        self._make(
            lists if lists is not None else np.zeros((1, dim), np.float32),
            ranges if ranges is not None else np.repeat(np.array([[-1], [1]], np.float32), dim, axis=1),
        )

    def _make(self, lists: NDArray[np.float32], ranges: NDArray[np.float32]) -> None:
        import numpy as np

        faiss = load_faiss()
        self._lists = np.ascontiguousarray(lists, np.float32)
        self._ranges = np.ascontiguousarray(ranges, np.float32)
        self._quantizer = faiss.IndexFlatIP(self.dim)
        self._quantizer.add(self._lists)
        kind, metric = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        self._index = faiss.IndexIVFScalarQuantizer(self._quantizer, self.dim, len(lists), kind, metric, False)
        low, high = self._ranges
        faiss.copy_array_to_vector(np.concatenate([low, np.maximum(high - low, 1e-6)]), self._index.sq.trained)
        self._index.is_trained = True
        if self._copy is not None:
            self._copy.drop()

    @property
    def nbytes(self) -> int:
        """Codes, ids and centres."""
        return len(self) * (self.dim + 8) + self._lists.nbytes

    @property
    def num_lists(self) -> int:
        """How many lists there are."""
        return len(self._lists)

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

        chosen = Chosen(allowed, excluded)
        wanted = min(top_k, len(self) if allowed is None else min(len(allowed), len(self)))
        if wanted <= 0:
            return []
        query = np.ascontiguousarray(vector, np.float32).reshape(1, -1)
        ids, rows = self.rows(self._near(query, wanted + MARGIN, chosen, allowed is not None))
        # A product per row: a matrix product may give equal rows unequal cosines.
        cosines = np.einsum("ij,j->i", rows, query[0], optimize=False)
        order = np.lexsort((ids, -cosines))[:wanted]
        return [(int(ids[i]), float(cosines[i])) for i in order]

    def _near(self, query: NDArray[np.float32], enough: int, chosen: Chosen, only: bool) -> NDArray[np.int64]:
        """The best `enough` candidates of those chosen, best first."""
        if chosen.all:
            return self._candidates(query, enough, None, self._probes(enough))
        share = len(chosen) / len(self) if only else 1 - len(chosen) / len(self)
        if share >= ALLOWED_SHARE:
            # Most may be found: so far down the whole ranking that enough of them stand there. Where what may not be
            # found fills the neighbourhood, a scan is surer.
            depth = math.ceil(enough / min(share, 1.0))
            while depth <= 8 * enough:
                near = self._candidates(query, depth, None, self._probes(depth))
                near = near[chosen.keeps(near)]
                if len(near) >= enough:
                    return near[:enough]
                depth *= 4
        return self._candidates(query, enough, chosen.selector(load_faiss()), self.num_lists)

    def _candidates(self, query: NDArray[np.float32], enough: int, chosen: Any, probes: int) -> NDArray[np.int64]:
        """The ids of the best `enough` by their codes, ties by lower id; from more lists if these have too few."""
        import numpy as np

        enough = min(enough, len(self))
        asked = min(enough + 1, len(self))
        while True:
            scores, found = self._ask(query, asked, chosen, probes)
            count = int((found >= 0).sum())
            if count < enough and probes < self.num_lists:
                probes = min(4 * probes, self.num_lists)
            elif count < asked or asked == len(self) or scores[enough - 1] != scores[-1]:
                # Which of equal codes FAISS gives is chance, so that it was asked until the tie at the end was whole.
                scores, found = scores[:count], found[:count]
                best: NDArray[np.int64] = found[np.lexsort((found, -scores))[:enough]]
                return best
            else:
                asked = min(2 * asked, len(self))

    def _ask(self, query: NDArray[np.float32], asked: int, chosen: Any, probes: int) -> tuple[Any, Any]:
        faiss = load_faiss()
        if chosen is None and self._copy is not None and self._copy.takes(asked, probes):
            scores, found = self._copy.search(self._index, query, asked, probes)
        else:
            parameters = faiss.SearchParametersIVF(nprobe=probes, sel=chosen)
            with one_thread(faiss):
                scores, found = self._index.search(query, asked, params=parameters)
        return scores[0], found[0]

    def nearest(self, queries: NDArray[np.float32], top_k: int, probes: int) -> NDArray[np.int64]:
        """Candidates of several queries, (len(queries), top_k), by their codes, -1 where there are fewer."""
        found: NDArray[np.int64] = self._index.search(
            queries, top_k, params=load_faiss().SearchParametersIVF(nprobe=probes)
        )[1]
        return found

    def _probes(self, candidates: int) -> int:
        """How many lists to read for so many candidates."""
        wanted = candidates - MARGIN
        for results, lists in self.reach:
            if wanted <= results:
                return lists
        if not self.reach:
            return self.num_lists
        results, lists = self.reach[-1]
        return min(self.num_lists, math.ceil(lists * wanted / results))

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        import numpy as np

        each = [self._list(number)[0] for number in range(self.num_lists)]
        return np.sort(np.concatenate(each))

    def _list(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """A list's ids and codes, copied."""
        import numpy as np

        faiss = load_faiss()
        stored = self._index.invlists
        size = stored.list_size(number)
        if not size:
            return np.empty(0, np.int64), np.empty((0, self.dim), np.uint8)
        ids = faiss.rev_swig_ptr(stored.get_ids(number), size).copy()
        return ids, faiss.rev_swig_ptr(stored.get_codes(number), size * self.dim).reshape(size, self.dim).copy()

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Centres, ranges and ids, and the codes list by list in bulk parts. A step copies some lists, not all."""
        import numpy as np

        highest = self._highest
        head = {"dim": self.dim, "lists": self.num_lists, "reach": self.reach, "built_from": self.built_from}
        yield "head", json.dumps(head).encode()
        yield "lists", self._lists.astype("<f4").tobytes()
        yield "ranges", self._ranges.astype("<f4").tobytes()
        sizes: list[int] = []
        kept: list[NDArray[np.int64]] = []
        codes: list[bytes] = []
        number = 0
        for at in range(self.num_lists):
            ids, coded = self._list(at)
            # An id is given once and its row never changes, so each list may be of its own moment.
            old = ids <= highest
            kept.append(ids[old])
            codes.append(coded[old].tobytes())
            sizes.append(len(kept[-1]))
            if sum(map(len, codes)) >= PART_BYTES or at == self.num_lists - 1:
                yield f"bulk.{number}", b"".join(codes)
                number, codes = number + 1, []
        yield "sizes", np.array(sizes, "<i8").tobytes()
        yield "ids", np.concatenate(kept).astype("<i8").tobytes()

    def load(self, parts: Mapping[str, bytes]) -> None:
        """Raises IndexDamagedError when the parts are not what `parts` gives."""
        try:
            self._load(parts)
        except (ValueError, KeyError, TypeError, IndexError) as e:
            raise IndexDamagedError(f"the index's parts can't be read: {e}") from e

    def _load(self, parts: Mapping[str, bytes]) -> None:
        import numpy as np

        head = json.loads(parts["head"])
        number = int(head["lists"])
        if head["dim"] != self.dim:
            raise ValueError(f"it is of {head['dim']} dimensions, not {self.dim}")
        lists = np.frombuffer(parts["lists"], "<f4").astype(np.float32).reshape(number, self.dim)
        ranges = np.frombuffer(parts["ranges"], "<f4").astype(np.float32).reshape(2, self.dim)
        sizes = np.frombuffer(parts["sizes"], "<i8").tolist()
        ids = np.frombuffer(parts["ids"], "<i8").astype(np.int64)
        if len(sizes) != number or min(sizes) < 0 or sum(sizes) != len(ids):
            raise ValueError(f"{len(ids)} ids for {len(sizes)} of {number} lists")
        reach = tuple((int(results), int(probes)) for results, probes in head["reach"])
        self._make(lists, ranges)
        pieces = self._pieces(parts, sizes)
        faiss, at = load_faiss(), 0
        for one, size in enumerate(sizes):
            codes = next(pieces)
            if size:
                own = ids[at : at + size]
                self._index.invlists.add_entries(one, size, faiss.swig_ptr(own), faiss.swig_ptr(codes))
                at += size
        if next(pieces, None) is not None:
            raise ValueError("there are codes left over")
        self._index.ntotal = len(ids)
        self._highest = int(ids.max(initial=-1))
        self.reach, self.built_from = reach, int(head["built_from"])

    def _pieces(self, parts: Mapping[str, bytes], sizes: list[int]) -> Iterator[NDArray[np.uint8]]:
        """The codes of each list in turn, a bulk part at a time. Raises ValueError when they don't come out even."""
        import numpy as np

        number = at = 0
        data = np.frombuffer(parts["bulk.0"], np.uint8)
        for size in sizes:
            need = size * self.dim
            if at == len(data) and need:
                number, at = number + 1, 0
                data = np.frombuffer(parts[f"bulk.{number}"], np.uint8)
            if at + need > len(data):
                raise ValueError(f"the codes of part {number} are too few")
            yield data[at : at + need]
            at += need
        if at != len(data) or f"bulk.{number + 1}" in parts:
            raise ValueError("there are codes left over")
