"""Selective Context (arXiv 2310.06201, section 3): what a causal language model foresees anyway is left out.

Each sentence is read on its own. The self-information of its tokens is averaged over units: what stands between white
space (`unit=token`), a phrase (the default), or the sentence. Units over a threshold, a percentile of all units, are
kept; here the percentile is the one that meets the target in the served model's tokens. What differs from the paper:

- Its phrases are the noun phrases of a parser, and each other word for itself. Here a phrase is a run of content words
  with the function words before it, ended by punctuation: a rule, so no parser is needed. In scripts without spaces a
  sentence is one unit.
- No word is torn, and what `agentmem.cutting` protects survives in each sentence of which anything is kept; code and
  JSON are one unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentmem.compression import Compressed, CompressionRequest, Spans, shown_tokens
from agentmem.compressors.model_options import MODEL_OPTIONS, options_of, words_of
from agentmem.compressors.self_information import SelfInformation, Tokens
from agentmem.cutting import Cutting, Unit, cutting, within
from agentmem.errors import ConfigError
from agentmem.language import STOP_WORDS, words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 1
UNITS = ("token", "phrase", "sentence")
MAX_PHRASE_CHUNKS = 5
"""Where the function words of a language are not known, a phrase ends after as many words."""
DECIMALS = 3
"""Of means and shares: the size of a batch changes sums in their last digits, and shall not change an order."""
_ENDS = frozenset(",;:.!?…)]}”’»\"'")
_DEFAULTS = {**MODEL_OPTIONS, "unit": "phrase", "keep": ()}


@dataclass(frozen=True, slots=True)
class _Told:
    """A request as it may be cut, and for each chunk the nats of its tokens: their sum and their number."""

    found: Cutting
    nats: NDArray[np.float64]
    tokens: NDArray[np.float64]


class SelectiveCompressor:
    """Leaves out what a small causal language model finds likely. `target` is `PATH?name=value&...`; by keyword too:

    `unit` "token", "phrase" or "sentence"; `keep`, words that survive in each sentence that is kept; `device` and
    `dtype` of the model. Raises ConfigError for an option or a folder that is none. The model is loaded at the first
    `compress`, which raises ConfigError for what is no causal language model, MissingExtraError without transformers.
    """

    name = "selective"
    question_aware = False
    joint = False

    def __init__(self, target: str, **options: Any) -> None:
        path, given = options_of(target, options, _DEFAULTS)
        if given["unit"] not in UNITS:
            raise ConfigError("unit", given["unit"], "is not known", hint=f"one of {', '.join(UNITS)}")
        self._unit = str(given["unit"])
        self._keep = words_of(given["keep"])
        self._model = SelfInformation(path, name=self.name, device=given["device"], dtype=given["dtype"])

    @property
    def fingerprint(self) -> str:
        """The algorithm's version, its settings and its model."""
        return f"selective/{VERSION}/{self._unit}/{','.join(sorted(self._keep))}/{self._model.fingerprint}"

    def compress(self, requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
        """Compress; the sentences of all requests are read in batches, once for all targets."""
        totals = [sum(r.counter.count(p.text) for p in r.parts) for r in requests]
        long = [n for n, r in enumerate(requests) if totals[n] > r.target_tokens >= 1]
        parts = list(dict.fromkeys(requests[n].parts for n in long))
        cuttings = [cutting(p, self._keep) for p in parts]
        out: list[Compressed | None] = [None] * len(requests)
        if not any(c.units for c in cuttings):
            return out
        told = dict(zip(parts, self._told(cuttings), strict=True))
        for n in long:
            said = told[requests[n].parts]
            out[n] = self._one(requests[n], said, totals[n]) if said.found.units else None
        return out

    def _told(self, cuttings: Sequence[Cutting]) -> list[_Told]:
        texts = list(dict.fromkeys(c.text(u) for c in cuttings for u in c.units))
        read = self._model.tokens(texts)
        nats = self._model.surprisals([((), t.ids) for t in read])
        known = dict(zip(texts, zip(read, nats, strict=True), strict=True))
        return [_by_chunk(c, [known[c.text(u)] for u in c.units]) for c in cuttings]

    def _one(self, request: CompressionRequest, told: _Told, total: int) -> Compressed | None:
        values = unit_values(told.found, told.nats, told.tokens, self._unit)
        spans = over_threshold(told.found, values, request)
        if spans is None:
            sentences = unit_values(told.found, told.nats, told.tokens, "sentence")
            means = [float(sentences[u.first]) for u in told.found.units]
            spans = within(told.found, values, request.target_tokens, request.counter, unit_scores=means)
        if spans is None:
            return None
        tokens = shown_tokens(request.parts, spans, request.counter)
        return None if tokens >= total else Compressed(spans, tokens, _worth(told, spans))


def unit_values(
    found: Cutting, nats: NDArray[np.float64], tokens: NDArray[np.float64], unit: str
) -> NDArray[np.float64]:
    """For each chunk the mean nats a token of the unit that it belongs to; shape (chunks,), as `nats` and `tokens`."""
    import numpy as np

    starts: list[int] = []
    for cut in found.units:
        if cut.whole or unit == "sentence":
            starts.append(cut.first)
        elif unit == "token":
            # Punctuation belongs to the word that it stands behind.
            chunks = found.chunks
            starts += (n for n in range(cut.first, cut.last) if n == cut.first or chunks[n][0] > chunks[n - 1][1])
        else:
            starts += phrase_starts(found, cut)
    means = np.add.reduceat(nats, starts) / np.maximum(np.add.reduceat(tokens, starts), 1)
    sizes = np.diff([*starts, len(nats)])
    values: NDArray[np.float64] = np.repeat(means.round(DECIMALS), sizes)
    return values


def phrase_starts(found: Cutting, unit: Unit) -> list[int]:
    """The chunks with which the phrases of a sentence begin."""
    out: list[int] = []
    content, ended, size = False, False, 0
    for n, chunk in enumerate(found.words(unit), unit.first):
        inner = words(chunk.lower())
        light = all(w in STOP_WORDS for w in inner)
        # A sign alone ends the phrase that it stands behind.
        begins = not out or (bool(inner) and (ended or (light and content) or size >= MAX_PHRASE_CHUNKS))
        if begins:
            out.append(n)
            content, size = False, 0
        content, size = content or not light, size + bool(inner)
        ended = chunk[-1] in _ENDS or (ended and not inner)
    return out


def over_threshold(
    found: Cutting, values: NDArray[np.float64], request: CompressionRequest
) -> tuple[Spans, ...] | None:
    """The units at or over the lowest threshold that meets the target; None where none does."""
    import numpy as np

    levels = np.unique(values)

    def at(n: int) -> tuple[Spans, ...]:
        return found.spans((values >= levels[n]).tolist())

    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        if shown_tokens(request.parts, at(middle), request.counter) <= request.target_tokens:
            high = middle
        else:
            low = middle + 1
    spans = at(low) if low < len(levels) else ()
    return spans if any(spans) else None


def _by_chunk(found: Cutting, read: Sequence[tuple[Tokens, NDArray[np.float64]]]) -> _Told:
    """Tokens given to the chunks that they end in. A token of white space alone tells nothing that is left out."""
    import numpy as np

    nats, tokens = np.zeros(len(found.chunks)), np.zeros(len(found.chunks))
    for unit, (made, values) in zip(found.units, read, strict=True):
        text = found.text(unit)
        starts = np.array([s - unit.start for s, _ in found.chunks[unit.first : unit.last]])
        told = [n for n, (s, e) in enumerate(made.spans) if e > s and not text[s:e].isspace()]
        ends = np.array([made.spans[n][1] - 1 for n in told], np.int64)
        place = unit.first + np.searchsorted(starts, ends, side="right") - 1
        np.add.at(nats, place, values[told])
        np.add.at(tokens, place, 1)
    return _Told(found, nats, tokens)


def _worth(told: _Told, spans: Sequence[Spans]) -> float:
    """The share of the self-information that is kept, parts counted by their worth."""
    parts = told.found.parts
    kept, of_all = [0.0] * len(parts), [0.0] * len(parts)
    for unit in told.found.units:
        ends = iter(spans[unit.part])
        span = next(ends, None)
        for n in range(unit.first, unit.last):
            start, end = told.found.chunks[n]
            while span is not None and span[1] < end:
                span = next(ends, None)
            of_all[unit.part] += told.nats[n]
            if span is not None and span[0] <= start:
                kept[unit.part] += told.nats[n]
    worth = [max(p.worth, 0.0) if of_all[n] > 0 else 0.0 for n, p in enumerate(parts)]
    if sum(worth) <= 0:
        worth = [float(of > 0) for of in of_all]
    share = sum(w * k / a for w, k, a in zip(worth, kept, of_all, strict=True) if a > 0)
    return round(float(min(1.0, share / sum(worth))), DECIMALS) if sum(worth) else 1.0
