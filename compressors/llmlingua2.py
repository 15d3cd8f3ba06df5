"""LLMLingua-2 (arXiv 2403.12968) through the package llmlingua: a token classifier says how likely each word is kept.

The package cuts a text into stretches of 512 tokens, classifies them, and merges tokens to words. It then keeps a share
of each stretch, so that one of mere noise keeps as much as one of facts (`threshold="chunk"`, as published);
`threshold="global"` compares all words of a request with each other. Words are counted in the served model's tokens,
where the package counts OpenAI's. What the model says of texts does not depend on the target: they are read once in a
`compress`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agentmem.compression import CompressionRequest
from agentmem.compressors.alignment import aligned, over_chunks
from agentmem.compressors.llmlingua_base import PackageCompressor, sound
from agentmem.compressors.model_options import MODEL_OPTIONS
from agentmem.compressors.token_classifier import load_classifier
from agentmem.cutting import Cutting
from agentmem.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.compressors.llmlingua_package import ClassifierPackage
    from agentmem.protocols import TokenCounter

THRESHOLDS = ("chunk", "global")
DECIMALS = 5
"""Of likelihoods: how many texts are read together changes their last digits, and shall not change an order."""

Stretches = Sequence[tuple[Sequence[str], Sequence[float]]]
"""Of a text: for each stretch its words, and how likely each is kept."""


class LLMLingua2Compressor(PackageCompressor["ClassifierPackage"]):
    """Keeps the words that a classifier was taught to keep. `target` is `PATH?name=value&...`; by keyword too:

    `threshold` "chunk" or "global", see above; `rate`, the least share of a text's tokens that is left of it: where the
    target is less, whole sentences go (0.33); `keep`, words that survive in each sentence that is kept; `device` and
    `dtype` of the model. Raises ConfigError for an option or a folder that is none, MissingExtraError without the
    package llmlingua. The model is loaded at the first `compress`, which raises ConfigError for what is no token
    classifier of BERT's or XLM-RoBERTa's family, and CompressionError when the package fails. Threads take turns.
    """

    name = "llmlingua2"
    _defaults = MappingProxyType({**MODEL_OPTIONS, "keep": (), "rate": 0.33, "threshold": "chunk"})

    def _check(self, given: Mapping[str, Any]) -> None:
        if given["threshold"] not in THRESHOLDS:
            raise ConfigError("threshold", given["threshold"], "is not known", hint=f"one of {', '.join(THRESHOLDS)}")

    def _load(self) -> ClassifierPackage:
        return load_classifier(self._path, name=self.name, dtype=self._given["dtype"], device=self._given["device"])

    def _judged(
        self, request: CompressionRequest, found: Cutting, known: dict[Hashable, Any]
    ) -> tuple[NDArray[np.float64], None]:
        texts = tuple(sound(p.text) for p in request.parts)
        if texts not in known:
            known[texts] = self._asked(partial(self._loaded().words, texts))
        return self._scores(found, texts, known[texts], request.counter), None

    def _scores(
        self, found: Cutting, texts: Sequence[str], words: Sequence[Stretches], counter: TokenCounter
    ) -> NDArray[np.float64]:
        """What is said of each chunk, in [0, 1], shape (chunks,): the mean over its words. A chunk of which the
        vocabulary knows nothing is as good as its part."""
        import numpy as np

        out = np.zeros(len(found.chunks))
        for n, stretches in enumerate(words):
            said = [w for ws, _ in stretches for w in ws]
            values = [v for ws, ps in stretches for v in self._values(ws, ps, counter)]
            units = [u for u in found.units if u.part == n]
            if not units:
                continue
            first, last = units[0].first, units[-1].last
            rows = over_chunks(found.chunks[first:last], aligned(said, texts[n]), values, len(texts[n]))
            known = rows[~np.isnan(rows)]
            out[first:last] = np.where(np.isnan(rows), known.mean() if len(known) else 0.5, rows)
        return out

    def _values(self, words: Sequence[str], likely: Sequence[float], counter: TokenCounter) -> list[float]:
        """A word's likelihood; or the share of its stretch's tokens that are less likely, which is how much of the
        stretch may go before the word does."""
        import numpy as np

        rounded = np.round(np.array(likely, np.float64), DECIMALS)
        if self._given["threshold"] == "global":
            return [float(v) for v in rounded]
        costs = np.array([max(1, counter.count(w)) for w in words], np.float64)
        order = np.argsort(rounded, kind="stable")
        before = np.concatenate(([0.0], np.cumsum(costs[order])))[:-1]
        firsts = np.searchsorted(rounded[order], rounded, side="left")
        return [float(v) for v in before[firsts] / costs.sum()]
