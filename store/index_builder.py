"""Making an approximate index from SQLite: lists by k-means over a sample, all rows in, and how many lists to read.

The last is measured, not assumed. Stored vectors stand in as queries, half of them as they are (each without itself),
half of them moved as far off as a question is from its answer; their true neighbours come from the same pass over the
rows that fills the lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from agentmem.store.background import StoppedError
from agentmem.store.faiss_index import load_faiss, one_thread
from agentmem.store.following import Followed
from agentmem.store.ivf_index import MARGIN, IvfIndex
from agentmem.store.vectors import Vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.store.ivf_index import RowSource

SEED = 5
TARGET = 0.985
"""Recall at 10 that is asked for in the sample; 1,280 neighbours tell it to about 0.004, so that 0.97 is kept."""
DEEP, DEEP_TARGET, DEEP_SHARE = 200, 0.95, 1 / 8
"""For as many as a ranking asks for: their tail may cost recall, rather than more than this share of the lists."""
SCAN_ROWS = 10_000
"""Of so few rows all lists are read: 0.5 ms, as much as re-ranking costs."""
QUERIES = 128
LISTS = 2.0
"""So many times the square root of the number of rows. On 120,000 sentence embeddings (MiniLM), 0.985 took reading 18 %
of the rows with once the root, 12 % with twice, 9 % with four times; each doubling doubles the build."""
POINTS_PER_LIST = 40
MIN_MEMBERS = 8
"""A list's centre is the mean of at least so many rows: none is kept that stands for one text, which may be erased."""
ITERATIONS = 8
MOST_LISTS = 8192
ROUGH_LISTS = 64
NOISE = 1.0
"""Noise as long as the vector itself: a cosine of 0.7, as a question has with its answer. Real questions over those
embeddings found, from 8 lists on, as much as such queries to within 0.02."""


def build(
    vectors: Vectors,
    tier: str,
    embedder_id: int,
    dim: int,
    rows: RowSource,
    stopping: Callable[[], bool] = lambda: False,
) -> Followed:
    """An index of the tier as `vectors` shows it, calibrated and caught up. Raises StoppedError."""
    import numpy as np

    random = np.random.default_rng(SEED)
    generation, last = vectors.state()
    all_ids = vectors.id_array(tier)
    number = max(1, min(MOST_LISTS, round(LISTS * math.sqrt(len(all_ids)))))
    chosen = np.sort(random.permutation(all_ids)[: POINTS_PER_LIST * number])
    count = len(all_ids)
    del all_ids
    ids, sample = _fetch(vectors, chosen, dim, stopping)
    lists = centres(sample, number, stopping)
    index = IvfIndex(dim, rows, lists=lists, ranges=_ranges(sample), built_from=count)
    truth = Truth(ids, sample, random)
    del sample
    for block, block_rows in vectors.blocks(tier, embedder_id, 0, last, dim):
        _check(stopping)
        index.add(block, block_rows)
        truth.see(block, block_rows)
    followed = Followed(index, embedder_id, generation, last)
    calibrate(index, truth, lambda wanted: vectors.fetch(wanted, dim), stopping)
    # What came and went meanwhile; the little that is still to come is followed by the searches.
    followed.follow(vectors, tier)
    return followed


def rough(vectors: Vectors, dim: int, rows: RowSource) -> IvfIndex:
    """An empty index for rows that are needed now: lists without k-means, all of them read at each search.

    Codes and ids take a quarter of the float32 rows; many lists rather than one, so that none is large to copy.
    """
    import numpy as np

    random = np.random.default_rng(SEED)
    _, last = vectors.state()
    some = np.unique(random.integers(1, max(last, 1) + 1, POINTS_PER_LIST * ROUGH_LISTS))
    _, sample = vectors.fetch(some, dim)
    if len(sample) < MIN_MEMBERS * ROUGH_LISTS:
        return IvfIndex(dim, rows)
    sample = random.permutation(sample)
    means = sample[: MIN_MEMBERS * ROUGH_LISTS].reshape(ROUGH_LISTS, MIN_MEMBERS, dim).mean(axis=1)
    return IvfIndex(dim, rows, lists=means, ranges=_ranges(sample))


def _check(stopping: Callable[[], bool]) -> None:
    if stopping():
        raise StoppedError


def _fetch(
    vectors: Vectors, ids: NDArray[np.int64], dim: int, stopping: Callable[[], bool]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    import numpy as np

    found, rows, done = np.empty(len(ids), np.int64), np.empty((len(ids), dim), np.float32), 0
    for start in range(0, len(ids), 500):
        _check(stopping)
        some, their = vectors.fetch(ids[start : start + 500], dim)
        found[done : done + len(some)], rows[done : done + len(some)] = some, their
        done += len(some)
    return found[:done], rows[:done]


def _ranges(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lowest and highest value of each dimension, with a tenth of room for rows that the sample has not."""
    import numpy as np

    if not len(sample):
        return np.repeat(np.array([[-1], [1]], np.float32), sample.shape[1], axis=1)
    low, high = sample.min(axis=0), sample.max(axis=0)
    room = 0.05 * (high - low)
    return np.stack([low - room, high + room])


def centres(sample: NDArray[np.float32], number: int, stopping: Callable[[], bool]) -> NDArray[np.float32]:
    """Spherical k-means, (at most `number`, dim); an iteration at a time, so that it can be stopped."""
    import numpy as np

    faiss = load_faiss()
    number = min(number, len(sample) // MIN_MEMBERS)
    if number < 2:
        return np.zeros((1, sample.shape[1]), np.float32)
    found = None
    for _ in range(ITERATIONS):
        _check(stopping)
        means = faiss.Kmeans(
            sample.shape[1], number, niter=1, seed=SEED, spherical=True, min_points_per_centroid=1,
            max_points_per_centroid=len(sample),
        )  # fmt: skip
        means.train(sample, init_centroids=found)
        found = means.centroids
    assert found is not None
    quantizer = faiss.IndexFlatIP(sample.shape[1])
    quantizer.add(found)
    members = np.bincount(quantizer.search(sample, 1)[1].ravel(), minlength=len(found))
    kept: NDArray[np.float32] = found[members >= MIN_MEMBERS]
    return kept if len(kept) else np.zeros((1, sample.shape[1]), np.float32)


class Truth:
    """Queries made of some rows, and the cosines of their nearest, (queries, DEEP), best first, as rows are seen."""

    def __init__(self, ids: NDArray[np.int64], sample: NDArray[np.float32], random: np.random.Generator) -> None:
        import numpy as np

        picked = random.permutation(len(ids))[:QUERIES]
        self.own = ids[picked]
        self.queries = sample[picked].copy()
        noise = random.normal(size=(len(picked) // 2, sample.shape[1])).astype(np.float32)
        moved = self.queries[: len(noise)] + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        self.queries[: len(noise)] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        self.moved = len(noise)
        self.best = np.full((len(picked), DEEP), -np.inf, np.float32)

    def see(self, ids: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Take rows into account."""
        import numpy as np

        if not len(self.own):
            return
        scores = self.queries @ rows.T
        scores[self.own[:, None] == ids[None, :]] = -np.inf
        both = np.concatenate([self.best, scores], axis=1)
        self.best = -np.sort(np.partition(-both, DEEP - 1, axis=1)[:, :DEEP], axis=1)


def calibrate(index: IvfIndex, truth: Truth, rows: RowSource, stopping: Callable[[], bool]) -> None:
    """Set `index.reach` to the fewest lists that find enough of the true neighbours; to all of them where that is more
    than half, for then a scan costs no more."""
    number = index.num_lists
    if number < 2 or len(index) <= SCAN_ROWS:
        index.reach = ()
        return
    known: dict[int, NDArray[np.float32]] = {}
    few = _fewest(index, truth, 10, TARGET, number // 2, rows, known, stopping)
    if few is None:
        index.reach = ()
        return
    most = max(few, int(DEEP_SHARE * number))
    deep = _fewest(index, truth, DEEP, DEEP_TARGET, most, rows, known, stopping, start=few)
    index.reach = ((10, few), (DEEP, most if deep is None else deep))


def _fewest(
    index: IvfIndex,
    truth: Truth,
    depth: int,
    target: float,
    most: int,
    rows: RowSource,
    known: dict[int, NDArray[np.float32]],
    stopping: Callable[[], bool],
    start: int = 1,
) -> int | None:
    probes = start
    while probes <= most:
        _check(stopping)
        if recall(index, truth, depth, probes, rows, known) >= target:
            return probes
        probes = max(probes + 1, round(1.25 * probes))
    return None


def recall(
    index: IvfIndex,
    truth: Truth,
    depth: int,
    probes: int,
    rows: RowSource,
    known: dict[int, NDArray[np.float32]],
) -> float:
    """Share of the true nearest that reading so many lists finds, of the kind of query that has it worse.

    Counted by cosine: which of equal rows is found does not matter. `known` keeps the rows from call to call.
    """
    import numpy as np

    with one_thread(load_faiss()):
        found = index.nearest(truth.queries, depth + MARGIN + 1, probes)
    new = np.array(sorted(set(found[found >= 0].tolist()) - known.keys()), np.int64)
    known.update(zip(*(part.tolist() if part.ndim == 1 else list(part) for part in rows(new)), strict=True))
    shares = []
    for query, own, ids, best in zip(truth.queries, truth.own.tolist(), found.tolist(), truth.best, strict=True):
        wanted = best[:depth][np.isfinite(best[:depth])]
        if not len(wanted):
            continue
        near = [known[i] for i in ids if i != own and i in known]
        scores = np.array(near, np.float32).reshape(-1, len(query)) @ query
        shares.append(min(1.0, float((scores >= wanted[-1] - 1e-6).sum()) / len(wanted)))
    half = truth.moved
    return min((float(np.mean(part)) for part in (shares[:half], shares[half:]) if part), default=1.0)
