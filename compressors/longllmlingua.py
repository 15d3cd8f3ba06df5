"""LongLLMLingua (arXiv 2310.06839) through the package llmlingua: LLMLingua that knows the question.

Each part is a document: it stays when it makes the question likely (section 4.1 of the paper), better ones keep more
of their tokens (section 4.3), and a token stays when the question makes it more likely (contrastive perplexity, section
4.2). The order of the documents (its section 4.2, too) is agentmem's own; recovery is `agentmem.recovery`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agentmem.compression import CompressionRequest
from agentmem.compressors.llmlingua import CAUSAL_OPTIONS, LLMLinguaCompressor
from agentmem.compressors.llmlingua_base import number, sound

if TYPE_CHECKING:
    from agentmem.compressors.llmlingua_package import CausalPackage


class LongLLMLinguaCompressor(LLMLinguaCompressor):
    """LLMLingua with the query. Options as there, and `spread`: how much more than the average rate the best part
    keeps, and how much less the worst (0.3). Without a query it does what LLMLingua does.
    """

    name = "longllmlingua"
    question_aware = True
    joint = True
    _defaults = MappingProxyType({**CAUSAL_OPTIONS, "spread": 0.3})

    def _check(self, given: Mapping[str, Any]) -> None:
        super()._check(given)
        number(given, "spread", 0.0, 1.0)

    def _question(self, request: CompressionRequest, package: CausalPackage) -> str:
        """The query; of one that is longer than a quarter of the window, its end."""
        query = sound(request.query.strip())
        offsets = package.offsets(query)
        most = max(8, min(int(self._given["window"]), package.max_position_embeddings) // 4)
        return query if len(offsets) <= most else query[offsets[-most][0] :]
