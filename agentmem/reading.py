"""The extractive reader: answers a question by quoting what memory paged in for it. No language model.

How it chooses. Every sentence of the best items gets a score from named features (how much of the question it covers,
by rarity; the hit's own score; whether its speaker is the one asked about; whether it has a date, number, name or place
where one is asked for, or a common word of the kind that is asked for; what stands around it). In the best few, every
phrase gets one from the words in and around it. What features are worth was fitted on LoCoMo conversations
(`benchmarks/fit_reading.py`) and stands in `agentmem.reading_weights`. A "when" is answered with the date resolved
against the message's own time. A question for many things is answered with phrases of several sentences. Of statements
that cover the same words of the question, by the same person, the newest counts, or the oldest when the question
asks how things were.

How sure it is: `agentmem.confidence`. Below `THRESHOLD` the reader abstains; confidence is 0 without items and, where
no speaker is named, when less than `COVER_FLOOR` of the question is covered or the one asked about ("does Clara work",
"my brother") is not in those turns.

Core-memory lines such as `Lives in: Lisbon` answer questions of the user about themself ("Where do I live?") when
the line covers the question's content words; the sentence then ends in `[core:human]` and there is no citation, as a
block is no record. A question about how things were is left to the records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from agentmem import reading_weights
from agentmem.answer_sentences import Candidate, candidates
from agentmem.asking import Asking
from agentmem.confidence import confidence_of, said, signals, worth
from agentmem.core_lines import answer_from_blocks
from agentmem.dates import DateMention, day_phrase, find_dates, spoken
from agentmem.evidence import Evidence
from agentmem.language import word_set, words
from agentmem.phrases import Phrases
from agentmem.polar import alternatives, chosen, yes_or_no
from agentmem.quoting import abstain, cite, quote
from agentmem.spans import asides, runs, suits
from agentmem.times import day_words
from agentmem.types import Answer, Block, PageItem

THRESHOLD = reading_weights.THRESHOLD
"""Below this confidence the reader says that nothing stored answers."""
ITEMS = 40
"""The best items that are looked at."""
SENTENCES_READ = 8
RIVALS = 10
MAX_PARTS = 3
RECENCY_MARGIN = 4.0
REPLACED = 20.0
"""So far behind the best is a statement that another replaces."""
PART_MARGIN = 2.0
LIST_MARGIN = 2.0
COVER_SHARE = 0.7

Phrase = tuple[float, Candidate, int, int]
"""Score, sentence, first word, word after the last."""
Ranked = Sequence[tuple[float, Candidate]]
"""Sentences with their scores, best first."""


def _is_rival(a: Candidate, b: Candidate, evidence: Evidence) -> bool:
    """Whether two sentences are statements of the same person that cover the same words of the question."""
    if evidence.items[a.item].hit.name != evidence.items[b.item].hit.name:
        return False
    if evidence.items[a.item].hit.role != evidence.items[b.item].hit.role:
        return False
    asked = evidence.asking.words
    same = [frozenset(w.stem for w in c.words) & asked for c in (a, b)]
    return bool(same[0]) and same[0] == same[1] and evidence.cover(same[0]) > 0.6


def rank_sentences(evidence: Evidence, found: Sequence[Candidate] | None = None) -> list[tuple[float, Candidate]]:
    """All sentences, best first, statements that a newer one of the same kind replaces last."""
    weights = reading_weights.SENTENCE
    ranked = [(worth(c.features, weights), c) for c in (candidates(evidence) if found is None else found)]
    ranked.sort(key=lambda r: -r[0])
    if not ranked or evidence.asking.kind == "when" or evidence.asking.many:
        return ranked
    top_score, top = ranked[0]
    worths = [said(c) for _, c in ranked[:RIVALS]]
    rivals = [0]
    for n, (_, c) in enumerate(ranked[1:RIVALS], 1):
        if abs(worths[0] - worths[n]) < RECENCY_MARGIN and c.item != top.item and _is_rival(top, c, evidence):
            rivals.append(n)
    times = {n: evidence.items[ranked[n][1].item].hit.at.replace(tzinfo=None) for n in rivals}
    pick = min(rivals, key=lambda n: times[n]) if evidence.asking.past else max(rivals, key=lambda n: times[n])
    behind = [(top_score - REPLACED, ranked[n][1]) for n in rivals if n != pick]
    rest = [r for n, r in enumerate(ranked) if n not in rivals]
    return [(top_score, ranked[pick][1]), *rest, *behind]


def sentences_read(evidence: Evidence, ranked: Ranked) -> list[tuple[float, Candidate]]:
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


def rank_phrases(evidence: Evidence, ranked: Ranked) -> list[Phrase]:
    """The phrases of the best sentences, best first."""
    weights = reading_weights.PHRASE
    out: list[Phrase] = []
    for rank, (score, c) in enumerate(sentences_read(evidence, ranked)):
        phrases = Phrases(evidence, c)
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
    return {"sentence": behind / 2, f"sentence {min(rank, 4)}": 1.0}


def _date_of(evidence: Evidence, c: Candidate, ranked: Ranked) -> DateMention | None:
    """The date that a sentence gives, or the one that its turn gives elsewhere."""
    matched = [(w.start + w.end) / 2 for w in c.words if w.stem in evidence.asking.words]

    def away(m: DateMention) -> float:
        return min((abs((m.start + m.end) / 2 - x) for x in matched), default=0.0)

    if c.dates:
        return min(c.dates, key=away)
    elsewhere = [o.dates for _, o in ranked if o.item == c.item and o.dates]
    return elsewhere[0][0] if elsewhere else None


def _when(evidence: Evidence, ranked: Ranked) -> tuple[str, str]:
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
    tail = f" - that is {phrase}"
    if mention.precision == "day" and phrase != day_phrase(mention.first):
        tail += f" ({day_phrase(mention.first)})"
    return phrase, "" if phrase.lower() == mention.text.lower() else tail + "."


_POINTING = word_set("this that these those some my our your")


def trimmed(asking: Asking, c: Candidate, i: int, j: int) -> int:
    """Where a phrase begins without the question's own words and without "my" and "this": "hates cats" is "cats", "to
    peanuts" and "some peanuts" are "peanuts"."""
    last = next(iter(words(asking.text)[-1:]), "").lower()
    while i + 1 < j and not c.words[i].gap:
        word = c.words[i]
        pointing = word.low in _POINTING and c.words[i + 1].shape in ("word", "cap", "num", "ing", "adj")
        if not (pointing or word.low == last or (word.stem and word.stem in asking.words - asking.focus)):
            break
        if c.words[i + 1].shape not in ("word", "cap", "num", "ing", "verb", "ly", "det", "adj"):
            break
        i += 1
    return i


def _goes_on(c: Candidate, j: int) -> bool:
    """Whether a list goes on behind word j - 1."""
    return j < len(c.words) and (c.words[j].low in ("and", "or") or "," in c.words[j - 1].gap)


def whole_list(phrases: Sequence[Phrase], score: float, c: Candidate, i: int, j: int) -> int:
    """Where the list ends that a phrase is the beginning of: at the end of the best phrase, not far behind it, that has
    the same beginning and goes on to a list's end."""
    if not _goes_on(c, j):
        return j
    longer = (
        (s, b)
        for s, o, a, b in phrases
        if o is c and a == i and b > j and score - s <= LIST_MARGIN and not _goes_on(c, b)
    )
    return max(longer, default=(0.0, j))[1]


def answer_parts(evidence: Evidence, ranked: Ranked) -> list[tuple[str, Candidate]]:
    """The phrases that answer, with their sentences: one, or up to `MAX_PARTS` where the question asks for many."""
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
        if out and (not stems or stems & seen or any(c is o for _, o in out)):
            continue
        if evidence.asking.many:
            j = whole_list(phrases, score, c, i, j)
            stems = {w.stem for w in c.words[i:j] if w.stem} - evidence.asking.words
        seen |= stems
        i = trimmed(evidence.asking, c, i, j)
        out.append((c.text[c.words[i].start : c.words[j - 1].end], c))
    return out


def _polar(evidence: Evidence, ranked: Ranked) -> list[tuple[str, Candidate]]:
    """Yes, no or one of two, with the sentence that it is told from."""
    c = ranked[0][1]
    pair = alternatives(evidence.asking.text)
    if pair is None:
        return [(yes_or_no(c), c)]
    one = chosen(evidence, pair)
    return [(one, c)] if one is not None else answer_parts(evidence, ranked)


def parts_of(evidence: Evidence, ranked: Ranked) -> tuple[list[tuple[str, Candidate]], str]:
    """What answers, each part with its sentence, and what to add to the quotation."""
    if evidence.asking.kind == "when":
        span, tail = _when(evidence, ranked)
        return [(span, ranked[0][1])], tail
    if evidence.asking.kind == "yesno":
        return _polar(evidence, ranked), ""
    return answer_parts(evidence, ranked), ""


def best_items(items: Sequence[PageItem]) -> list[PageItem]:
    """The best hits of a page, by their unsquashed score where it is told."""
    best = sorted(items, key=lambda i: -i.hit.score)[:ITEMS]
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
    parts, tail = parts_of(evidence, ranked)
    first = parts[0][1]
    confidence = confidence_of(signals(evidence, [c for _, c in ranked], first))
    if confidence < THRESHOLD:
        return abstain(evidence, first.item, confidence)
    text = "; ".join(quote(evidence, c) for _, c in parts) + tail
    return Answer(text, ", ".join(p for p, _ in parts), confidence, False, tuple(cite(evidence, c) for _, c in parts))
