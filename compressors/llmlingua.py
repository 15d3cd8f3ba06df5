"""LLMLingua (arXiv 2310.05736) through the package llmlingua: a causal language model drops the tokens it foresees.

The package ranks the parts by perplexity and leaves the most predictable ones out (section 3.1 of the paper), then
drops tokens in segments, each read after what is left of those before it (section 3.2). It aims at tokens of its own
model; here the share is found that meets the target in the served model's tokens, and what the package kept is brought
to whole words by the rules of `agentmem.cutting`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agentmem.compression import Compressed, CompressionRequest, shown_tokens
from agentmem.compressors.budgeted import fitted, total_tokens
from agentmem.compressors.causal_scorer import checked_path, digest, load, short_of_memory
from agentmem.compressors.model_options import MODEL_OPTIONS, options_of, words_of
from agentmem.cutting import Cutting, cutting
from agentmem.errors import CompressionError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.compressors.llmlingua_package import CausalPackage

VERSION = 1
PACKAGE_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the package raises for texts that it can't take."""
TRIES = 3
CLOSE = 0.9
"""A try that meets so much of the target without going over it is good enough."""
MIN_RATE = 0.02
EDGE = 0.01
MIN_WINDOW = 64
CAUSAL_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {**MODEL_OPTIONS, "keep": (), "rate": 0.33, "segment": 200, "window": 2048}
)
_HALF_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Piece:
    """The characters `start` to `end` of a part: what the package is given as one document of `tokens` tokens."""

    part: int
    start: int
    end: int
    tokens: int


class LLMLinguaCompressor:
    """Drops tokens that a small causal language model foresees. `target` is `PATH?name=value&...`; by keyword too:

    `rate`, the least share of a text's tokens that is left of it: where the target is less, whole sentences go (0.33);
    `keep`, words that survive in each sentence that is kept; `segment`, the most tokens that are judged at once (200);
    `window`, the most tokens of its own model that it reads together (2048); `device` and `dtype` of the model.
    Raises ConfigError for an option or a folder that is none, MissingExtraError without the package llmlingua. The
    model is loaded at the first `compress`, which raises ConfigError for what is no causal language model, and
    CompressionError when the package fails. Threads take turns.
    """

    name = "llmlingua"
    question_aware = False
    joint = False
    _defaults = CAUSAL_OPTIONS

    def __init__(self, target: str, **options: Any) -> None:
        path, given = options_of(target, options, self._defaults)
        self._path = checked_path(path)
        for option, least, most in (("rate", 0.0, 1.0), ("segment", 8, 1 << 20), ("window", MIN_WINDOW, 1 << 20)):
            number(given, option, least, most)
        need_package(self.name, path)
        self._keep = words_of(given["keep"])
        self._given = given
        self._turn = threading.Lock()
        self._package: CausalPackage | None = None

    @property
    def fingerprint(self) -> str:
        """The algorithm's version, its settings and its model."""
        return fingerprint(self.name, VERSION, self._given, self._keep, self._path)

    def compress(self, requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
        """Compress, one request after the other, so that no result depends on its neighbours."""
        return [self._one(r) for r in requests]

    def _one(self, request: CompressionRequest) -> Compressed | None:
        total = total_tokens(request)
        if total <= request.target_tokens or request.target_tokens < 1:
            return None
        found = cutting(request.parts, self._keep)
        if not found.units:
            return None
        with self._turn:
            scores, there = self._judged(request, found, total)
        return fitted(request, found, scores, there=there, rate=float(self._given["rate"]))

    def _judged(
        self, request: CompressionRequest, found: Cutting, total: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """How often, and with how much of its characters, each chunk was kept; and which units were begun.

        The package is asked at most `TRIES` times, each time nearer to the target in the request's tokens.
        """
        import numpy as np

        package = self._loaded()
        question = self._question(request, package)
        pieces = _pieces(found, package, self._room(package, question) // 2)
        sums = np.zeros(len(found.chunks))
        begun = np.zeros(len(found.chunks), bool)
        least = max(MIN_RATE, float(self._given["rate"]))
        rate = max(least, request.target_tokens / total)
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
            masks = self._asked(
                lambda texts=texts, goal=goal: package.kept(
                    texts, goal, segment=self._given["segment"], question=question, spread=self._given.get("spread", 0)
                )
            )
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

    def _asked(self, ask: Any) -> Any:
        return asked(self.name, ask)

    def _loaded(self) -> CausalPackage:
        if self._package is None:
            model = load(self._path, name=self.name, dtype=self._given["dtype"], device=self._given["device"])
            from transformers import AutoTokenizer

            from agentmem.compressors.llmlingua_package import CausalPackage

            tokenizer = AutoTokenizer.from_pretrained(self._path, local_files_only=True, trust_remote_code=False)
            self._package = CausalPackage(model.network, tokenizer, model.device, model.window)
        return self._package


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


def sound(text: str) -> str:
    """A text of the same length that tokenizers can read."""
    return _HALF_PAIR.sub("\ufffd", text)


def asked(name: str, ask: Any) -> Any:
    """What `ask` gives. Raises CompressionError when the package fails, or memory is short."""
    try:
        return ask()
    except (*PACKAGE_ERRORS, MemoryError) as e:
        if isinstance(e, MemoryError) or "memory" in str(e).lower():
            raise short_of_memory(name, "a text") from e
        first = (str(e).splitlines() or [""])[0][:200]
        hint = "the text is used as it is; another model, or the compressor extractive, may take it"
        raise CompressionError(name, f"the package llmlingua failed: {type(e).__name__}: {first}", hint=hint) from e


def need_package(name: str, path: str) -> None:
    """Raises MissingExtraError without the package llmlingua or what it stands on."""
    for package in ("llmlingua", "torch", "transformers"):
        if find_spec(package) is None:
            raise MissingExtraError(f"the compressor {name}:{path}", "llmlingua", package)


def number(given: dict[str, Any], option: str, least: float, most: float) -> None:
    """Raises ConfigError for an option that is no number from `least` to `most`."""
    value = given[option]
    right = isinstance(value, int if isinstance(least, int) else int | float) and not isinstance(value, bool)
    if not right or not least <= value <= most:
        what = "a whole number" if isinstance(least, int) else "a number"
        raise ConfigError(option, value, f"must be {what} from {least} to {most}", hint=f"leave {option} out")


def fingerprint(name: str, version: int, given: dict[str, Any], keep: frozenset[str], path: str) -> str:
    """The algorithm's version, its settings and its model."""
    settings = ",".join(f"{k}={v}" for k, v in sorted(given.items()) if k not in ("keep", "device"))
    return f"{name}/{version}/{settings}/{','.join(sorted(keep))}/{digest(path)}"
