"""LLMLingua (arXiv 2310.05736) through the package llmlingua: a causal language model drops the tokens it foresees.

The package ranks the parts by perplexity and leaves the most predictable ones out (section 3.1 of the paper), then
drops tokens in segments, each read after what is left of those before it (section 3.2). It aims at tokens of its own
model; here the share is found that meets the target in the served model's tokens, and what the package kept is brought
to whole words by the rules of `agentmem.cutting`.

Passes over whole texts (the parts' perplexity, the first of a fine step) depend on no share, so in a `compress` they
are made once; for texts of one segment there are no others. A segment after the first is read after what a share left
of those before it: there each share has passes of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agentmem.compression import CompressionRequest, shown_tokens
from agentmem.compressors.budgeted import total_tokens
from agentmem.compressors.causal_scorer import load
from agentmem.compressors.llmlingua_base import PackageCompressor, number, sound
from agentmem.compressors.model_options import MODEL_OPTIONS
from agentmem.cutting import Cutting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.compressors.llmlingua_package import CausalPackage

TRIES = 3
CLOSE = 0.9
"""A try that meets so much of the target without going over it is good enough."""
MIN_RATE = 0.02
EDGE = 0.01
MIN_WINDOW = 64
CAUSAL_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {**MODEL_OPTIONS, "keep": (), "rate": 0.33, "segment": 200, "window": 2048}
)


@dataclass(frozen=True, slots=True)
class _Piece:
    """The characters `start` to `end` of a part: what the package is given as one document of `tokens` tokens."""

    part: int
    start: int
    end: int
    tokens: int


class LLMLinguaCompressor(PackageCompressor["CausalPackage"]):
    """Drops tokens that a small causal language model foresees. `target` is `PATH?name=value&...`; by keyword too:

    `rate`, the least share of a text's tokens that is left of it: where the target is less, whole sentences go (0.33);
    `keep`, words that survive in each sentence that is kept; `segment`, the most tokens that are judged at once (200);
    `window`, the most tokens of its own model that it reads together (2048); `device` and `dtype` of the model.
    Raises ConfigError for an option or a folder that is none, MissingExtraError without the package llmlingua. The
    model is loaded at the first `compress`, which raises ConfigError for what is no causal language model, and
    CompressionError when the package fails. Threads take turns.
    """

    name = "llmlingua"
    _defaults = CAUSAL_OPTIONS

    def _check(self, given: Mapping[str, Any]) -> None:
        number(given, "segment", 8, 1 << 20)
        number(given, "window", MIN_WINDOW, 1 << 20)

    def _judged(
        self, request: CompressionRequest, found: Cutting, known: dict[Hashable, Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        package = self._loaded()
        with package.reading_once(known):
            return self._tried(request, found, package)

    def _tried(
        self, request: CompressionRequest, found: Cutting, package: CausalPackage
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """How often, and with how much of its characters, each chunk was kept; and which units were begun.

        The package is asked at most `TRIES` times, each time nearer to the target in the request's tokens.
        """
        import numpy as np

        question = self._question(request, package)
        pieces = _pieces(found, package, self._room(package, question) // 2)
        sums = np.zeros(len(found.chunks))
        begun = np.zeros(len(found.chunks), bool)
        least = max(MIN_RATE, float(self._given["rate"]))
        rate = max(least, request.target_tokens / total_tokens(request))
        for _ in range(TRIES):
            shares = self._shares(request, found, package, pieces, rate, question)
            sums += shares
            begun |= shares > 0.5
            tokens = shown_tokens(found.parts, found.spans((shares > 0.5).tolist()), request.counter)
            if CLOSE * request.target_tokens <= tokens <= request.target_tokens:
                break
            nearer = max(least, rate * request.target_tokens / max(1, tokens))
            if nearer >= 1.0 or abs(nearer - rate) < 0.01:
                break
            rate = nearer
        # Among chunks that were kept alike, those of the unit of which more was kept come first.
        sums += [EDGE * sums[u.first : u.last].mean() for u in found.units for _ in range(u.first, u.last)]
        return sums, np.array([begun[u.first : u.last].any() for u in found.units])

    def _shares(
        self, request: CompressionRequest, found: Cutting, package: CausalPackage, pieces: Sequence[_Piece],
        rate: float, question: str,
    ) -> NDArray[np.float64]:  # fmt: skip
        """The share of each chunk's characters that the package keeps at a rate, shape (chunks,)."""
        import numpy as np

        kept = [np.zeros(len(p.text), bool) for p in found.parts]
        groups = _groups(pieces, self._room(package, question))
        if len(groups) > 1 and question:
            groups = _groups(self._relevant(package, pieces, rate, question, found), self._room(package, question))
        whole = sum(p.tokens for p in pieces)
        read = sum(p.tokens for g in groups for p in g)
        for group in groups:
            texts = [sound(found.parts[p.part].text[p.start : p.end]) for p in group]
            goal = rate * whole * sum(p.tokens for p in group) / read
            how = {"segment": self._given["segment"], "question": question, "spread": self._given.get("spread", 0)}
            masks = self._asked(partial(package.kept, texts, goal, **how))
            for piece, mask in zip(group, masks, strict=True):
                kept[piece.part][piece.start : piece.end] = mask
        return np.array([kept[u.part][s:e].mean() for u in found.units for s, e in found.chunks[u.first : u.last]])

    def _relevant(
        self, package: CausalPackage, pieces: Sequence[_Piece], rate: float, question: str, found: Cutting
    ) -> list[_Piece]:
        """The pieces that the coarse step leaves, in order, where not all can be read together."""
        texts = [sound(found.parts[p.part].text[p.start : p.end]) for p in pieces]
        lengths = [p.tokens for p in pieces]
        used = self._asked(
            lambda: package.control_context_budget(
                texts, lengths, rate * sum(lengths), question=question, condition_in_question="after",
                rank_method="longllmlingua",
            )[2]
        )  # fmt: skip
        return [pieces[n] for n in used]

    def _question(self, request: CompressionRequest, package: CausalPackage) -> str:
        """What the package is asked with; "" for a question-agnostic compressor."""
        return ""

    def _room(self, package: CausalPackage, question: str) -> int:
        """How many tokens of parts can be read together, beside the question."""
        room = min(int(self._given["window"]), package.max_position_embeddings) - 8
        return max(MIN_WINDOW // 2, room - (package.get_token_length(question) + 2 if question else 0))

    def _load(self) -> CausalPackage:
        model = load(self._path, name=self.name, dtype=self._given["dtype"], device=self._given["device"])
        from transformers import AutoTokenizer

        from agentmem.compressors.llmlingua_package import CausalPackage

        tokenizer = AutoTokenizer.from_pretrained(self._path, local_files_only=True, trust_remote_code=False)
        return CausalPackage(model.network, tokenizer, model.device, model.window)


def _pieces(found: Cutting, package: CausalPackage, most: int) -> list[_Piece]:
    """The parts in pieces of at most `most` tokens, cut between units where that can be, else between chunks or inside
    them; those of less than two tokens, of which no token can be foreseen, are left out."""
    out = []
    for n, part in enumerate(found.parts):
        ends = [u.end for u in found.units if u.part == n]
        offsets = package.offsets(sound(part.text))
        if not offsets or not ends:
            continue
        inner = [e for u in found.units if u.part == n for _, e in found.chunks[u.first : u.last]]
        first, start = 0, 0
        while first < len(offsets):
            last = min(first + most, len(offsets))
            end = len(part.text)
            if last < len(offsets):
                limit = offsets[last][0]
                end = _last_under(ends, start, limit) or _last_under(inner, start, limit) or max(limit, start + 1)
                last = next((k for k in range(first, len(offsets)) if offsets[k][0] >= end), len(offsets))
                last = max(last, first + 1)
            if last - first > 1 and end > start:
                out.append(_Piece(n, start, end, last - first))
            first, start = last, end
    return out


def _last_under(ends: Sequence[int], start: int, limit: int) -> int:
    from bisect import bisect_right

    n = bisect_right(ends, limit)
    return ends[n - 1] if n and ends[n - 1] > start else 0


def _groups(pieces: Sequence[_Piece], room: int) -> list[list[_Piece]]:
    """Neighbours that can be read together."""
    out: list[list[_Piece]] = []
    left = 0
    for piece in pieces:
        if piece.tokens + 2 > left:
            out.append([])
            left = room
        out[-1].append(piece)
        left -= piece.tokens + 2
    return out
