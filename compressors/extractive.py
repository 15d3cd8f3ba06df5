"""The default compressor: no model beyond the embedder's vectors that the archive has already.

Sentences are chosen by how likely it is that they hold what is asked for (their cosine with the query, the words that
they share with it, how much they tell), then words that tell little are left out of them: function words and fillers,
those of least self-information first, by real word frequencies (as Selective Context drops units, arXiv 2310.06201,
but by word and without a model). Without a query a sentence is worth what it tells. What `agentmem.cutting` protects
stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from agentmem.compression import Compressed, CompressionRequest, Part, Span, Spans, joined, shown, shown_tokens
from agentmem.compressors.sentence_bits import Sentence, TextBits, core, droppable
from agentmem.compressors.word_information import bits
from agentmem.errors import ConfigError
from agentmem.language import stem, words
from agentmem.protocols import TokenCounter
from agentmem.spec_options import split_target

VERSION = 1
COSINE, OVERLAP, TELLING, LAST, DIGIT = 2.5, 1.2, 1.24, -0.3, 0.2
"""Weights of the softmax over a record's sentences: which of them holds the answer (fitted on LoCoMo's gold turns)."""
NO_COSINE = 0.25
"""Stands for the cosine of a sentence that the archive has no vector of."""
MAX_BITS = 18.0
WORD_LOSS = 0.02
"""What a text that lost all its function words is worth less."""
FORMS_AT = (0.2, 0.4, 0.6, 0.8, 0.95)
"""Of a text of many sentences forms are offered with about these shares of its worth, and the best sentence alone."""
USUAL_SENTENCES = 4
"""Of the texts that the weights were fitted on. Of more sentences the right one has to stand out by more."""


@dataclass(slots=True)
class _Choice:
    """Sentences that are kept or left out together: what they are worth, and what they cost without loose words."""

    worth: float
    cost: int
    sentences: list[tuple[int, Sentence]]


class ExtractiveCompressor:
    """Sentences by the query, then words by self-information. `keep`: further words that survive in each sentence that
    is kept; with `words=False` whole sentences alone are left out."""

    name = "extractive"
    question_aware = True
    joint = False

    def __init__(self, options: str = "", *, keep: Sequence[str] = (), words: bool = True) -> None:
        _, given = split_target("?" + options.removeprefix("?"), "compressor") if options else ("", {})
        if unknown := sorted(given.keys() - {"words", "keep"}):
            raise ConfigError("compressor", options, f"unknown option {unknown[0]!r}", hint="options: words, keep")
        told = given.get("keep", ())
        more = told.split(",") if isinstance(told, str) else told
        self._texts = TextBits(frozenset(w.strip().lower() for w in (*keep, *more)), bool(given.get("words", words)))

    @property
    def fingerprint(self) -> str:
        """The algorithm's version and its settings."""
        return f"extractive/{VERSION}/{int(self._texts.drop_words)}/{','.join(sorted(self._texts.keep))}"

    def compress(self, requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
        """Compress, one request after the other: there is no model to batch for."""
        return [self._one(r) for r in requests]

    def forms(self, parts: Sequence[Part], query: str, counter: TokenCounter) -> list[list[Compressed]]:
        """Of each part shorter forms, the longest first, all without their loose words: with all its sentences, with
        those that are worth about 0.95, 0.8, ... of it."""
        asked = _asked(query)
        return [self._forms(p, asked, counter) for p in parts]

    def _forms(self, part: Part, asked: dict[str, float], counter: TokenCounter) -> list[Compressed]:
        text = self._texts.of(part.text, counter)
        worth = _worth(part, text.sentences, asked)
        order = sorted(range(len(worth)), key=lambda n: -worth[n] / text.light[n])
        out: list[Compressed] = []
        kept: list[int] = []
        share, cost, wanted = 0.0, 0, list(FORMS_AT)
        whole = sum(worth) or 1.0
        for rank, n in enumerate(order, 1):
            kept.append(n)
            share += worth[n] / whole
            cost += text.light[n]
            if cost >= text.cost:
                break
            if len(order) <= len(FORMS_AT) or rank in (1, len(order)) or (wanted and share >= wanted[0]):
                wanted = [w for w in wanted if w > share]
                spans = joined([s for k in sorted(kept) for s in text.sentences[k].light], part.text)
                tokens = cost if text.additive else counter.count(shown(part.text, spans))
                if tokens < text.cost:
                    out.append(Compressed((spans,), tokens, min(1.0, share * (1 - WORD_LOSS))))
        return out[::-1]

    def _one(self, request: CompressionRequest) -> Compressed | None:
        counter, target = request.counter, request.target_tokens
        texts = [self._texts.of(p.text, counter) for p in request.parts]
        total = sum(t.cost for t in texts)
        if total <= target or target < 1:
            return None
        asked = _asked(request.query)
        found = [
            (n, s, light, worth)
            for n, (part, text) in enumerate(zip(request.parts, texts, strict=True))
            for s, light, worth in zip(text.sentences, text.light, _worth(part, text.sentences, asked), strict=True)
        ]
        choices: list[_Choice] = []
        # Parts of one unit are one choice; every other sentence is one by itself.
        for _, group in groupby(
            sorted(enumerate(found), key=lambda f: (request.parts[f[1][0]].unit, f[0])),
            key=lambda f: request.parts[f[1][0]].unit or f[0],
        ):
            members = [f for _, f in group]
            choices.append(
                _Choice(sum(m[3] for m in members), sum(m[2] for m in members), [(m[0], m[1]) for m in members])
            )
        choices.sort(key=lambda c: -c.worth / c.cost)
        room = target
        # The whole can cost more than its chunks where a tokenizer is not additive: then it is tried with less.
        for _ in range(8):
            spans, kept = _filled(request, choices, room)
            tokens = shown_tokens(request.parts, spans, counter)
            if tokens <= target:
                break
            room -= tokens - target
        if tokens > target or tokens >= total or not any(spans):
            return None
        return Compressed(spans, tokens, min(1.0, kept / max(sum(c.worth for c in choices), 1e-12)))


def _filled(request: CompressionRequest, choices: Sequence[_Choice], room: int) -> tuple[tuple[Spans, ...], float]:
    """The choices that fit into `room`, best first, with the loose chunks that tell most; and their worth."""
    kept: list[list[Span]] = [[] for _ in request.parts]
    loose: list[tuple[float, int, Span]] = []
    worth = 0.0
    for choice in choices:
        if choice.cost > room:
            continue
        room -= choice.cost
        worth += choice.worth
        for n, sentence in choice.sentences:
            kept[n] += sentence.light
            loose += [(-told, n, span) for told, span in sentence.loose]
    lost = 0
    for _, n, (start, end) in sorted(loose):
        cost = request.counter.count(request.parts[n].text[start:end])
        if cost <= room:
            room -= cost
            kept[n].append((start, end))
        else:
            lost += 1
    spans = tuple(joined(k, p.text) for k, p in zip(kept, request.parts, strict=True))
    return spans, worth * (1.0 - WORD_LOSS * lost / max(1, len(loose)))


def _asked(query: str) -> dict[str, float]:
    """The stems of a query's content words, and what each tells."""
    cores = [core(w) for w in words(query)]
    return {stem(c): min(bits(c), MAX_BITS) for c in cores if not droppable(c)}


def _worth(part: Part, sentences: Sequence[Sentence], asked: dict[str, float]) -> list[float]:
    """What each sentence is worth: the part's worth times its share of it, by the softmax of the weights above. Without
    a query all sentences compete with each other by what they tell."""
    if not asked:
        return [max(part.worth, 0.0) * (1.0 + s.told) ** TELLING for s in sentences]
    total = sum(asked.values())
    sharp = max(1.0, math.log(max(1, len(sentences))) / math.log(USUAL_SENTENCES))
    scores: list[float] = []
    for n, s in enumerate(sentences):
        cosine = max((c for a, b, c in part.sentences if a < s.end and s.start < b), default=NO_COSINE)
        shared = sum(asked.get(w, 0.0) for w in s.stems) / total
        score = TELLING * math.log1p(s.told) + sharp * (COSINE * cosine + OVERLAP * shared)
        scores.append(score + LAST * (n + 1 == len(sentences)) + DIGIT * s.digit)
    shares = [math.exp(x - max(scores)) for x in scores]
    whole = sum(shares)
    return [max(part.worth, 0.0) * x / whole for x in shares]
