"""The extractive reader: answers a question by quoting what memory paged in for it. No language model.

How it chooses. Every sentence of the page gets a score from named features (how much of the question it covers, by
rarity; the hit's own score; whether its speaker is the one asked about; whether it has a date, number, name or place
where one is asked for; whether it is a question itself). In the best few, every phrase gets one from the words in and
around it. What features are worth was fitted on LoCoMo conversations (`benchmarks/fit_reading.py`) and stands in
`agentmem.reading_weights`. A "when" is answered with the date resolved against the message's own time. Of statements
that cover the same words of the question, by the same person, the newest counts, or the oldest when the question
asks how things were.

The confidence rule. Confidence is a logistic function (`CONFIDENCE`) of raw signals that mean the same for every
question: the share of the question's content words, by rarity, that the cited turn and the paged-in turns next to it
cover; for a question that names one speaker, that share by the speaker's own turns minus by the others' turns, and
whether the cited turn is the speaker's; the raw cosine, where the hit has it. Below `THRESHOLD` the reader abstains;
confidence is 0 without items, when nothing of the question is covered, and, where no speaker is named, when less than
`COVER_FLOOR` of it is covered or the one asked about ("does Clara work", "my brother") is not in those turns.

Core-memory lines such as `Lives in: Lisbon` answer questions of the user about themself ("Where do I live?") when
the line covers the question's content words; the sentence then ends in `[core:human]` and there is no citation, as a
block is no record. A question about how things were is left to the records.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from agentmem import reading_weights
from agentmem.asking import Asking
from agentmem.core_lines import answer_from_blocks
from agentmem.dates import DateMention, day_phrase, find_dates, spoken
from agentmem.evidence import Candidate, Evidence
from agentmem.language import words
from agentmem.phrases import Phrases
from agentmem.spans import asides, runs, suits
from agentmem.times import day_words
from agentmem.types import Answer, Block, Citation, Hit, PageItem, Tier

THRESHOLD = reading_weights.THRESHOLD
"""Below this confidence the reader says that nothing stored answers."""
CONFIDENCE: Mapping[str, float] = reading_weights.CONFIDENCE
"""What each raw signal is worth; the sum goes through the logistic function."""
ITEMS_READ = 12
SENTENCES_READ = 5
MAX_PARTS = 3
MAX_QUOTE_WORDS = 60
RECENCY_MARGIN = 2.0
PART_MARGIN = 1.0
COVER_SHARE = 0.7
COVER_FLOOR = 0.2


def worth(features: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The weighted sum of named features."""
    return sum([weights[name] * value for name, value in features.items() if name in weights])


def _is_rival(a: Candidate, b: Candidate, evidence: Evidence) -> bool:
    """Whether two sentences are statements of the same person that cover the same words of the question."""
    if evidence.items[a.item].hit.name != evidence.items[b.item].hit.name:
        return False
    if evidence.items[a.item].hit.role != evidence.items[b.item].hit.role:
        return False
    asked = evidence.asking.words
    same = [frozenset(w.stem for w in c.words) & asked for c in (a, b)]
    return bool(same[0]) and same[0] == same[1] and evidence.cover(same[0]) > 0.6


def _said(c: Candidate) -> float:
    """What a sentence is worth by itself, whatever the search made of its turn."""
    return worth({f: v for f, v in c.features.items() if f not in ("score", "top")}, reading_weights.SENTENCE)


def rank_sentences(evidence: Evidence) -> list[tuple[float, Candidate]]:
    """All sentences, best first, statements that a newer one of the same kind replaces last."""
    weights = reading_weights.SENTENCE
    ranked = [(worth(c.features, weights), c) for c in evidence.candidates()]
    ranked.sort(key=lambda r: -r[0])
    if not ranked or evidence.asking.kind == "when" or evidence.asking.many:
        return ranked
    top_score, top = ranked[0]
    said = [_said(c) for _, c in ranked[: SENTENCES_READ * 2]]
    rivals = [0]
    for n, (_, c) in enumerate(ranked[1 : SENTENCES_READ * 2], 1):
        if abs(said[0] - said[n]) < RECENCY_MARGIN and c.item != top.item and _is_rival(top, c, evidence):
            rivals.append(n)
    times = {n: evidence.items[ranked[n][1].item].hit.at.replace(tzinfo=None) for n in rivals}
    pick = min(rivals, key=lambda n: times[n]) if evidence.asking.past else max(rivals, key=lambda n: times[n])
    behind = [ranked[n] for n in rivals if n != pick]
    rest = [r for n, r in enumerate(ranked) if n not in rivals]
    return [(top_score, ranked[pick][1]), *rest, *behind]


def sentences_read(evidence: Evidence, ranked: Sequence[tuple[float, Candidate]]) -> list[tuple[float, Candidate]]:
    """The best sentences. Between named people an answer often stands in the turn after the one that has the
    question's words; elsewhere a statement says all, and a sentence that covers far less than another is left out."""
    best = list(ranked[:SENTENCES_READ])
    if evidence.asking.named:
        return best
    covers = [c.features["cover"] + c.features["item cover"] / 2 for _, c in best]
    return [r for r, cover in zip(best, covers, strict=True) if cover >= COVER_SHARE * max(covers)]


def answer_runs(evidence: Evidence, c: Candidate) -> Iterator[tuple[int, int]]:
    """The phrases of a sentence that are of the kind asked for; dates and asides are no part of them."""
    at = evidence.items[c.item].hit.at
    dates = [] if evidence.asking.kind == "duration" else c.dates or find_dates(c.text, at)
    for i, j in runs(c.words, [*((d.start, d.end) for d in dates), *asides(c.text)]):
        if suits(evidence.asking, c.words, i, j):
            yield i, j


def rank_phrases(
    evidence: Evidence, ranked: Sequence[tuple[float, Candidate]]
) -> list[tuple[float, Candidate, int, int]]:
    """The phrases of the best sentences, best first: score, sentence, first word, word after the last."""
    weights = reading_weights.PHRASE
    out: list[tuple[float, Candidate, int, int]] = []
    for rank, (score, c) in enumerate(sentences_read(evidence, ranked)):
        phrases = Phrases(evidence.asking, c.words, evidence.rarity, evidence.names)
        base = worth(sentence_part(score - ranked[0][0], rank), weights)
        starts: dict[int, float] = {}
        ends: dict[int, float] = {}
        for i, j in answer_runs(evidence, c):
            if i not in starts:
                starts[i] = worth(phrases.start(i), weights)
            if j not in ends:
                ends[j] = worth(phrases.end(j), weights)
            out.append((base + starts[i] + ends[j] + worth(phrases.body(i, j), weights), c, i, j))
    out.sort(key=lambda r: -r[0])
    return out


def sentence_part(behind: float, rank: int) -> dict[str, float]:
    """What a phrase has from its sentence: how far it is behind the best one, and its place."""
    return {"sentence": behind / 2, f"sentence {min(rank, 3)}": 1.0}


def signals(evidence: Evidence, cited: Candidate) -> dict[str, float]:
    """The raw signals of the confidence rule for an answer from this sentence."""
    k = cited.item
    near = [n for n in (evidence.neighbour(k, -1), k, evidence.neighbour(k, 1)) if n is not None]
    stems = frozenset().union(*(evidence.stems[n] for n in near))
    out = {
        "bias": 1.0,
        "cover": evidence.cover(stems),
        "sentence cover": cited.features["cover"],
        "type": cited.features["type"],
    }
    named = evidence.asking.named
    if len(named) == 1:
        own = [s for s, i in zip(evidence.stems, evidence.items, strict=True) if i.hit.name in named]
        others = [s for s, i in zip(evidence.stems, evidence.items, strict=True) if i.hit.name not in named]
        out["named"] = 1.0
        out["named minus others"] = evidence.cover(frozenset().union(*own)) - evidence.cover(frozenset().union(*others))
        out["cited speaker"] = evidence.speaks(k)
    elif out["cover"] < COVER_FLOOR or evidence.is_elsewhere(stems):
        out["cover"] = 0.0
    cosine = (evidence.items[k].hit.parts or {}).get("cosine")
    if cosine is not None:
        out["cosine"] = cosine - 0.4
    return out


def confidence_of(found: Mapping[str, float]) -> float:
    """The confidence rule."""
    if found["cover"] <= 0.0:
        return 0.0
    return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, worth(found, CONFIDENCE)))))


def _mark(hit: Hit) -> str:
    return f"[{hit.key or hit.id}]"


def _who(hit: Hit) -> str:
    if hit.tier is not Tier.RECALL:
        return f"Archival memory says ({day_words(hit.at)})"
    name = hit.name or {"user": "You", "assistant": "I"}.get(hit.role or "", "Memory")
    return f"{name} said on {day_words(hit.at)}"


def _quote(text: str) -> str:
    said = " ".join(text.split()).strip('"“”')
    pieces = said.split(" ")
    return f'"{said}"' if len(pieces) <= MAX_QUOTE_WORDS else f'"{" ".join(pieces[:MAX_QUOTE_WORDS])} ..."'


def _cite(evidence: Evidence, c: Candidate) -> Citation:
    hit = evidence.items[c.item].hit
    return Citation(hit.id, hit.tier, c.text, hit.key)


def _date_of(evidence: Evidence, c: Candidate, ranked: Sequence[tuple[float, Candidate]]) -> DateMention | None:
    """The date that a sentence gives, or the one that its turn gives elsewhere."""
    matched = [(w.start + w.end) / 2 for w in c.words if w.stem in evidence.asking.words]

    def away(m: DateMention) -> float:
        return min((abs((m.start + m.end) / 2 - x) for x in matched), default=0.0)

    if c.dates:
        return min(c.dates, key=away)
    elsewhere = [o.dates for _, o in ranked if o.item == c.item and o.dates]
    return elsewhere[0][0] if elsewhere else None


def _when(evidence: Evidence, ranked: Sequence[tuple[float, Candidate]]) -> tuple[str, str]:
    """The date phrase that answers, and what to add to the quotation."""
    c = ranked[0][1]
    hit, asked = evidence.items[c.item].hit, evidence.asking.text.lower()
    mention = _date_of(evidence, c, ranked)
    if mention is None:
        return day_words(hit.at), ""
    if "how long ago" in asked and "ago" in mention.text:
        return mention.text, f" - that is {spoken(mention)}."
    phrase = spoken(mention)
    if "year" in asked.split()[:4] and mention.first.year == mention.last.year:
        phrase = str(mention.first.year)
    said = f" - that is {phrase}"
    if mention.precision == "day" and phrase != day_phrase(mention.first):
        said += f" ({day_phrase(mention.first)})"
    return phrase, "" if phrase.lower() == mention.text.lower() else said + "."


def trimmed(asking: Asking, c: Candidate, i: int, j: int) -> int:
    """Where a phrase begins without the question's own words: "hates cats" is "cats", "to peanuts" "peanuts"."""
    last = next(iter(words(asking.text)[-1:]), "").lower()
    while i + 1 < j and not c.words[i].gap:
        word = c.words[i]
        if not (word.low == last or (word.stem and word.stem in asking.words - asking.focus)):
            break
        if c.words[i + 1].shape not in ("word", "cap", "num", "ing", "verb", "ly", "det"):
            break
        i += 1
    return i


def answer_parts(evidence: Evidence, ranked: list[tuple[float, Candidate]]) -> list[tuple[str, Candidate]]:
    """The phrases that answer, with their sentences: one, or up to three where the question asks for many."""
    phrases = rank_phrases(evidence, ranked)
    if not phrases:
        c = ranked[0][1]
        return [(c.text.strip(), c)]
    best = phrases[0][0]
    out: list[tuple[str, Candidate]] = []
    seen: set[str] = set()
    for score, c, i, j in phrases:
        if out and (not evidence.asking.many or best - score > PART_MARGIN or len(out) == MAX_PARTS):
            break
        stems = {w.stem for w in c.words[i:j] if w.stem} - evidence.asking.words
        if stems & seen or any(c is o for _, o in out):
            continue
        seen |= stems
        i = trimmed(evidence.asking, c, i, j)
        out.append((c.text[c.words[i].start : c.words[j - 1].end], c))
    return out


def _clause(c: Candidate) -> str:
    """The sentence as an answer to a yes/no question, without its closing marks."""
    return c.text.strip().rstrip(".!").strip()


def _abstain(evidence: Evidence, k: int, confidence: float) -> Answer:
    hit = evidence.items[k].hit
    by = f", {hit.name}" if hit.name else ""
    where = f"{_mark(hit)} ({day_words(hit.at)}{by})"
    text = f"Nothing that is stored answers this; the nearest is {where}, which does not say."
    return Answer(text, "", confidence, True)


def best_items(items: Sequence[PageItem]) -> list[PageItem]:
    """The best hits of a page, as many as the weights were fitted on, by their unsquashed score where it is told."""
    best = sorted(items, key=lambda i: -i.hit.score)[:ITEMS_READ]
    told = [i.hit.parts.get("total") if i.hit.parts is not None else None for i in best]
    if any(t is None for t in told):
        return best
    return [replace(i, hit=replace(i.hit, score=t)) for i, t in zip(best, told, strict=True) if t is not None]


def read(
    question: str, items: Sequence[PageItem], *, asked_at: datetime | None = None, blocks: Sequence[Block] = ()
) -> Answer:
    """Answer a question from the items that memory paged in, by quoting, or say that nothing stored answers it.

    `asked_at` is when it is asked: it resolves the question's own dates ("What did I do yesterday?"); without it the
    newest item's time does. Deterministic.
    """
    evidence = Evidence(question, best_items(items), asked_at)
    line = answer_from_blocks(evidence.asking, blocks)
    if line is not None:
        return line
    ranked = rank_sentences(evidence)
    if not ranked:
        return Answer("Nothing that is stored answers this.", "", 0.0, True)
    kind = evidence.asking.kind
    if kind == "when":
        span, tail = _when(evidence, ranked)
        parts = [(span, ranked[0][1])]
    elif kind == "yesno":
        parts, tail = [(_clause(ranked[0][1]), ranked[0][1])], ""
    else:
        parts, tail = answer_parts(evidence, ranked), ""
    first = parts[0][1]
    confidence = confidence_of(signals(evidence, first))
    if confidence < THRESHOLD:
        return _abstain(evidence, first.item, confidence)
    said = [
        f"{_who(evidence.items[c.item].hit)}: {_quote(c.text)} {_mark(evidence.items[c.item].hit)}" for _, c in parts
    ]
    citations = tuple(_cite(evidence, c) for _, c in parts)
    return Answer("; ".join(said) + tail, ", ".join(p for p, _ in parts), confidence, False, citations)
