"""An index with the state of SQLite that it stands for, and how it is brought up to another."""

from __future__ import annotations

from dataclasses import dataclass

from agentmem.protocols import VectorIndex
from agentmem.store.snapshot import SnapshotHead
from agentmem.store.vectors import Vectors


@dataclass(slots=True)
class Followed:
    """An index of one tier that has every vector up to `last_vector` but what went up to `generation`."""

    index: VectorIndex
    embedder_id: int
    generation: int = 0
    last_vector: int = 0

    def head(self) -> SnapshotHead:
        """What a snapshot taken now says of itself."""
        return SnapshotHead(self.index.kind, self.index.dim, self.embedder_id, self.generation, self.last_vector)

    def follow(self, vectors: Vectors, tier: str) -> tuple[int, int]:
        """Take over what SQLite has and the index has not; how many vectors (came, went).

        What is committed between the reads below is seen by the next call, for its generation is higher.
        """
        import numpy as np

        generation, last = vectors.state()
        if generation == self.generation:
            return 0, 0
        before = len(self.index)
        # What is read below is there: only what the index had before can have gone.
        removed = np.array(vectors.removed_after(self.generation) if before else [], np.int64)
        for ids, rows in vectors.blocks(tier, self.embedder_id, self.last_vector, last, self.index.dim):
            self.index.add(ids, rows)
        came = len(self.index) - before
        went = self.index.remove(removed) if len(removed) else 0
        self.generation, self.last_vector = generation, last
        return came, went
