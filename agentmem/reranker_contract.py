# ruff: noqa: D102
"""The laws of `agentmem.protocols.Reranker` as a test class: inherit it, give its fixture, and pytest runs them.

Nothing here imports pytest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentmem.protocols import Reranker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEXTS = (
    "My sister Anna moved to Lisbon in May.",
    "Olá, ça va? 東京は雨です。",
    "def f(x):\n    return x ** 2\n",
    "The invoice INV-2041 of 3 March is not paid.",
)


class RerankerContract:
    """Laws of Reranker. Override the fixture `reranker`; and `known` when it is known which of two texts is better."""

    def known(self) -> tuple[str, str, str] | None:
        """A query, a text that answers it, one that does not; None for a model without sense."""
        return None

    def _scores(self, reranker: Reranker, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        scores = reranker.scores(query, texts)
        assert scores.dtype == np.float32
        assert scores.shape == (len(texts),)
        assert bool(np.isfinite(scores).all())
        return scores

    def _same(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
        """Equal up to rounding, measured by how far the scores of a query lie apart."""
        import numpy as np

        spread = float(a.max() - a.min()) if len(a) else 0.0
        return bool((np.abs(a - b) <= 1e-3 * spread + 1e-5 * np.abs(a)).all())

    def test_says_what_it_is(self, reranker: Reranker) -> None:
        assert reranker.name and isinstance(reranker.name, str)

    def test_no_scores_for_no_texts(self, reranker: Reranker) -> None:
        self._scores(reranker, TEXTS[0], [])
        self._scores(reranker, "", ())

    def test_one_score_per_text_in_order(self, reranker: Reranker) -> None:
        texts = [f"{t} {'very ' * n}long" for n, t in enumerate(TEXTS * 5)]
        given = list(texts)
        together = self._scores(reranker, TEXTS[0], texts)
        assert texts == given, "the texts were changed"
        backwards = self._scores(reranker, TEXTS[0], texts[::-1])[::-1]
        assert self._same(together, backwards), "a score depends on the order of the texts"

    def test_a_score_depends_on_its_pair_alone(self, reranker: Reranker) -> None:
        texts = [*TEXTS, "word " * 300]
        together = self._scores(reranker, TEXTS[0], texts)
        alone = together.copy()
        for n, text in enumerate(texts):
            alone[n] = self._scores(reranker, TEXTS[0], [text])[0]
        assert self._same(together, alone), "a score differs when its text is alone"
        twice = self._scores(reranker, TEXTS[0], [*texts, *texts])
        assert self._same(together, twice[: len(texts)]) and self._same(together, twice[len(texts) :])

    def test_texts_and_queries_make_a_difference(self, reranker: Reranker) -> None:
        first = self._scores(reranker, TEXTS[0], list(TEXTS))
        assert float(first.max()) > float(first.min()), "all texts have one score"
        assert not bool((first == self._scores(reranker, TEXTS[3], list(TEXTS))).all()), "the query is not read"

    def test_higher_is_better(self, reranker: Reranker) -> None:
        given = self.known()
        if given is not None:
            query, good, bad = given
            scores = self._scores(reranker, query, [bad, good, bad])
            assert scores[1] > scores[0], f"{good!r} must score above {bad!r} for {query!r}"

    def test_empty_and_odd_ones_are_scored(self, reranker: Reranker) -> None:
        texts = ["", " \n\t", "!?", "\x00", "half a pair: \ud83d", "a\u2028b"]
        for query in ("who?", "", "\ud83d"):
            self._scores(reranker, query, texts)

    def test_what_is_too_long_is_cut(self, reranker: Reranker) -> None:
        for query, text in (("who?", "word " * 20_000), ("word " * 20_000, "Anna"), ("word " * 20_000,) * 2):
            self._scores(reranker, query, [text, "short"])
