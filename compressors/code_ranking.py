"""How much sections and blocks of code have to do with a question: by words, or by a causal language model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from agentmem.compressors.code_pieces import Pieces
from agentmem.compressors.code_split import Section
from agentmem.compressors.self_information import SelfInformation
from agentmem.language import STOP_WORDS
from agentmem.terms import terms_of

NAME_WEIGHT, HEAD_WEIGHT = 4.0, 2.0
"""A word in a name, or in a signature, counts as so many in the body."""
SATURATION, LENGTH_SHARE = 1.2, 0.5
"""BM25's k1 and b."""
SPIKE = 0.2
"""A block ends at a line whose perplexity is over a neighbour's by the mean and so many standard deviations
(LongCodeZip, its code's k)."""
MAX_NATS = 50.0
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


class CodeRanking(Protocol):
    """What ranks code. Values are comparable within one call; higher is closer to the query."""

    def sections(self, query: str, found: Pieces) -> list[float]:
        """One value a section."""
        ...

    def blocks(self, query: str, texts: Sequence[str]) -> list[float]:
        """One value a block, at least 0."""
        ...

    def ends(self, texts: Sequence[str]) -> list[set[int]] | None:
        """For each function the lines after which a block ends, counted from its first; None: by a rule."""
        ...


def code_terms(text: str) -> list[str]:
    """The terms of a code or a question: words in identifiers apart and stemmed, and identifiers of several words as
    they are, lower case. Stop words are left out."""
    whole = [i.lower() for i in _IDENTIFIER.findall(text) if "_" in i.strip("_") or _CAMEL.search(i)]
    plain = " ".join(
        w for w in re.split(r"[\s_]+", _CAMEL.sub(" ", text)) if w.lower().strip(".,?!:;") not in STOP_WORDS
    )
    return [*whole, *terms_of(plain)]


class WordRanking:
    """BM25 over names, signatures and bodies (Robertson and Zaragoza 2009, section 3.6: the fields weighted before
    the saturation)."""

    def sections(self, query: str, found: Pieces) -> list[float]:
        """How many of the query's terms are in each section, rare ones and those in names counted more."""
        wanted = set(code_terms(query))
        counts: list[Counter[str]] = []
        for section in found.sections:
            body = Counter(code_terms(found.text(section.lines)))
            for field, weight in ((section.name, NAME_WEIGHT), (_signature(section, found), HEAD_WEIGHT)):
                for term in code_terms(field):
                    body[term] += weight  # type: ignore[assignment]
            counts.append(body)
        return _bm25(wanted, counts)

    def blocks(self, query: str, texts: Sequence[str]) -> list[float]:
        """As for sections, without names."""
        return _bm25(set(code_terms(query)), [Counter(code_terms(t)) for t in texts])

    def ends(self, texts: Sequence[str]) -> list[set[int]] | None:
        """None."""
        return None


class ModelRanking:
    """LongCodeZip's approximated mutual information (arXiv 2510.00446, section 3): how much less perplexed a causal
    language model is by the query when it has read the code."""

    def __init__(self, model: SelfInformation) -> None:
        self._model = model

    def sections(self, query: str, found: Pieces) -> list[float]:
        """ppl(query) - ppl(query | section)."""
        return self._drops(query, [found.text(s.lines) for s in found.sections])

    def blocks(self, query: str, texts: Sequence[str]) -> list[float]:
        """ppl(query) - ppl(query | block), where that is over 0."""
        return [max(0.0, d) for d in self._drops(query, texts)]

    def ends(self, texts: Sequence[str]) -> list[set[int]] | None:
        """The lines of a function whose perplexity stands out from their neighbours'."""
        tokens = self._model.tokens(texts)
        nats = self._model.surprisals([((), t.ids) for t in tokens])
        out = []
        for text, made, values in zip(texts, tokens, nats, strict=True):
            starts = [0, *(m.end() for m in re.finditer("\n", text))]
            sums, counts = [0.0] * len(starts), [0] * len(starts)
            line = 0
            for (start, end), value in zip(made.spans, values, strict=True):
                while line + 1 < len(starts) and starts[line + 1] < max(end, start + 1):
                    line += 1
                sums[line] += float(value)
                counts[line] += 1
            out.append(spikes([s / c / math.log(2) if c else 0.0 for s, c in zip(sums, counts, strict=True)]))
        return out

    def _drops(self, query: str, texts: Sequence[str]) -> list[float]:
        asked, *read = self._model.tokens([query, *(f"{t}\n\n" for t in texts)])
        if not asked.ids:
            return [0.0] * len(texts)
        nats = self._model.surprisals([((), asked.ids), *((t.ids, asked.ids) for t in read)])
        before, *after = [math.exp(min(MAX_NATS, float(n.mean()))) for n in nats]
        # What the size of a batch changes shall not change an order.
        return [float(f"{before - a:.4g}") for a in after]


def spikes(values: Sequence[float]) -> set[int]:
    """The local maxima that are over a neighbour by the mean of all and `SPIKE` standard deviations."""
    known = [v for v in values if v > 0]
    if len(known) < 3:
        return set()
    mean = sum(known) / len(known)
    least = mean + SPIKE * math.sqrt(sum((v - mean) ** 2 for v in known) / len(known))
    out = set()
    for n in range(1, len(values) - 1):
        left, right = values[n] - values[n - 1], values[n] - values[n + 1]
        if left >= 0 and right >= 0 and max(left, right) >= least:
            out.add(n)
    return out


def _signature(section: Section, found: Pieces) -> str:
    return found.text(section.head) if section.blocks else found.text(section.head[:1])


def _bm25(wanted: set[str], counts: Sequence[Counter[str]]) -> list[float]:
    total = len(counts)
    lengths = [sum(c.values()) for c in counts]
    mean = max(1.0, sum(lengths) / max(1, total))
    out = [0.0] * total
    for term in sorted(wanted):
        having = sum(term in c for c in counts)
        if not having:
            continue
        rarity = math.log(1 + (total - having + 0.5) / (having + 0.5))
        for n, found in enumerate(counts):
            if (often := found.get(term, 0)) > 0:
                room = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * lengths[n] / mean)
                out[n] += rarity * often * (SATURATION + 1) / (often + room)
    return out
