"""A text taken apart for the extractive compressor: its sentences, what each tells, and which of its words may go.

None of it depends on a query, so it is kept by text: the records that a memory pages in come again and again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from weakref import ReferenceType, ref

from agentmem.compression import Part, Span, Spans, joined, shown
from agentmem.compressors.word_information import bits, known
from agentmem.cutting import PUNCTUATION, Cutting, Unit, cutting
from agentmem.language import STOP_WORDS, content_words, word_set, words
from agentmem.protocols import TokenCounter

MIN_KNOWN_SHARE = 0.6
"""Where fewer of a sentence's words are in the list of words, it is another language: no single word is left out."""
KEPT_TEXTS = 5_000
MAX_KEPT_CHARS = 4_000
_FILLERS = word_set(
    "wow yeah yep yup yes well hey hi hello ok okay oh ah aww haha hmm sure thanks thank btw anyway actually basically "
    "honestly definitely absolutely totally exactly finally really very quite pretty just so such too also even "
    "literally seriously however congrats congratulations glad sorry please though"
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A unit of a text: the stems of its content words, how many bits those tell together, whether a digit is in it;
    `light` is what is shown of it without its loose words, `loose` are those, with the bits of each."""

    start: int
    end: int
    stems: frozenset[str]
    told: float
    digit: bool
    light: Spans
    loose: tuple[tuple[float, Span], ...]


@dataclass(frozen=True, slots=True)
class TakenApart:
    """A text's sentences; `light` says what each costs without its loose words, `cost` what the text costs;
    `additive`: whether several cost the sum of what each does."""

    sentences: tuple[Sentence, ...]
    light: tuple[int, ...]
    cost: int
    additive: bool


class TextBits:
    """Takes texts apart, and keeps the result for one counter. `keep` are words that survive in each kept sentence."""

    def __init__(self, keep: frozenset[str], drop_words: bool) -> None:
        self.keep = keep
        self.drop_words = drop_words
        self._kept: OrderedDict[str, TakenApart] = OrderedDict()
        self._counter: ReferenceType[TokenCounter] | None = None

    def of(self, text: str, counter: TokenCounter) -> TakenApart:
        """A text, taken apart; costs are the counter's."""
        if self._counter is None or self._counter() is not counter:
            self._kept, self._counter = OrderedDict(), ref(counter)
        found = self._kept.get(text)
        if found is None:
            found = self._take_apart(text, counter)
            if len(text) <= MAX_KEPT_CHARS:
                self._kept[text] = found
                while len(self._kept) > KEPT_TEXTS:
                    self._kept.popitem(last=False)
        return found

    def _take_apart(self, text: str, counter: TokenCounter) -> TakenApart:
        found = cutting((Part(text),), self.keep)
        last = len(found.units) - 1
        sentences = tuple(self._sentence(found, u, n == last) for n, u in enumerate(found.units))
        light = tuple(max(1, counter.count(shown(text, s.light))) for s in sentences)
        borders = [(a.end, b.start) for a, b in pairwise(sentences)]
        additive = counter.additive and all(text[a:b].strip() == "" and b > a for a, b in borders)
        return TakenApart(sentences, light, counter.count(text), additive)

    def _sentence(self, found: Cutting, unit: Unit, last: bool) -> Sentence:
        text = found.parts[unit.part].text
        stems, all_told, digit, foreign = _told(text[unit.start : unit.end])
        if unit.whole or not self.drop_words or foreign:
            return Sentence(unit.start, unit.end, stems, all_told, digit, ((unit.start, unit.end),), ())
        chunks = found.chunks[unit.first : unit.last]
        firm: list[Span] = []
        loose: list[tuple[float, Span]] = []
        for n, (start, end) in enumerate(chunks):
            chunk = text[start:end]
            # The mark at a sentence's end keeps sentences apart; the record's own last one does not need it.
            if PUNCTUATION.issuperset(chunk):
                goes = n + 1 < len(chunks) or last or chunk[-1] in ",;:"
                told = 0.0
            else:
                goes, told = _may_go(chunk)
            if goes and not found.protected[unit.first + n]:
                loose.append((told, (start, end)))
            else:
                firm.append((start, end))
        if all(PUNCTUATION.issuperset(text[s:e]) for s, e in firm):
            return Sentence(unit.start, unit.end, stems, 0.0, digit, ((unit.start, unit.end),), ())
        return Sentence(
            unit.start, unit.end, stems, all_told, digit, joined(_with_words(firm, text), text), tuple(loose)
        )


def _with_words(firm: list[Span], text: str) -> list[Span]:
    """Without the punctuation of words that go, but for the mark at the end."""
    return [
        (s, e)
        for n, (s, e) in enumerate(firm)
        if not PUNCTUATION.issuperset(text[s:e]) or n + 1 == len(firm) or firm[n - 1][1] == s
    ]


def core(word: str) -> str:
    """A word in lower case, without what a contraction or possessive adds."""
    return word.lower().replace("’", "'").split("'")[0]


@lru_cache(maxsize=50_000)
def droppable(word: str) -> bool:
    """Whether a word (a `core`) says little by itself: function words and fillers."""
    return word in STOP_WORDS or word in _FILLERS


@lru_cache(maxsize=50_000)
def _may_go(chunk: str) -> tuple[bool, float]:
    """Whether a chunk is all words that say little, or a mark; and what its most telling word tells."""
    cores = [core(w) for w in words(chunk)]
    return all(map(droppable, cores)) and (bool(cores) or len(chunk) < 3), max(map(bits, cores), default=0.0)


def _told(text: str) -> tuple[frozenset[str], float, bool, bool]:
    """The stems, bits, and digit of a `Sentence`; and whether it is in another language than the list of words."""
    found = [core(w) for w in words(text)]
    telling = {c for c in found if not droppable(c)}
    foreign = sum(map(known, found)) < MIN_KNOWN_SHARE * len(found)
    return frozenset(content_words(text)), sum(map(bits, telling)), any(map(str.isdigit, text)), foreign
