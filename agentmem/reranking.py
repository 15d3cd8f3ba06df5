"""A second opinion on the best hits: a reranker's scores blended with the ranking's own. Pure but for the reranker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentmem.errors import BackendError
from agentmem.ranking import standardise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.protocols import Reranker

RERANKED = 50
"""So many of the best hits are scored again."""


def rerank(
    reranker: Reranker, query: str, texts: Sequence[str], totals: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The new order of the hits (`texts` and `totals`, best first), and the reranker's score of each, both (n,).

    Standardised over the hits and added at equal weights. Raises BackendError when the reranker breaks its contract.
    """
    import numpy as np

    scores = np.asarray(reranker.scores(query, list(texts)), np.float64)
    if scores.shape != (len(texts),) or not np.isfinite(scores).all():
        raise BackendError(
            f"the reranker {reranker.name!r} gave scores of shape {scores.shape} for {len(texts)} texts, or values that"
            " are no numbers",
            hint="search without it, or check the model",
        )
    blended = standardise(totals) + standardise(scores)
    return np.lexsort((np.arange(len(texts)), -blended)), scores
