"""Sentences and phrases that may answer a question, each described by named features.

A feature is a short readable name; what it is worth stands in `agentmem.reading_weights`. A phrase is a run of at
most twelve words inside a sentence that begins and ends where phrases do. All features are of the words themselves
and of the words around them: no parser, no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from agentmem.asking import Asking, fact_word
from agentmem.language import STOP_WORDS, stem, word_set, word_spans

MAX_SPAN_WORDS = 12
_COLOUR = stem("color")
_COLOURS = word_set(
    "red blue green yellow black white brown grey gray orange purple pink silver gold golden beige turquoise teal violet"
)
_DETERMINERS = word_set("a an the my his her their our your its this these those some any every each another")
_PREPOSITIONS = word_set(
    "in on at to from with for by of about into through during after before near around over under between against "
    "since until like as than without within along across behind onto toward towards"
)
_JOINERS = word_set("and or but so because that which who when while if where than then though although since whether")
_PRONOUNS = word_set("i you he she it we they me him us them there i'm i've i'd i'll it's we're we've they're you're he's she's that's")
_AUXILIARIES = word_set(
    "am is are was were be been being have has had having do does did will would can could should may might must "
    "don't didn't doesn't can't couldn't won't wouldn't isn't wasn't aren't weren't haven't hasn't not just really "
    "also still even very so too always never get got let let's"
)
_VERBS = word_set("go went gone do did make made take took have had get got give gave see saw say said know feel felt think")
_NUMBERS = word_set(
    "one two three four five six seven eight nine ten eleven twelve dozen hundred thousand couple few several once twice"
)
UNITS = word_set(
    "second seconds minute minutes hour hours day days week weeks month months year years decade decades weekend daily weekly "
    "monthly yearly times time"
)
_NEVER_LAST = _DETERMINERS | _PREPOSITIONS - {"before", "around", "over", "through"} | _JOINERS | _AUXILIARIES | _PRONOUNS - {
    "me", "him", "us", "them", "it"}  # fmt: skip
_SUBJECTS = word_set("i he she we they i'm i've i'll i'd we're we've they're he's she's")
_NEVER_FIRST = _JOINERS - {"because"} | word_set("is are was were am be been being has have had do does did will would can get got")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a sentence: where it stands, its lower-case form, its stem ("" for a stop word), its shape, and
    whether a stop lies between it and the next word."""

    start: int
    end: int
    low: str
    stem: str
    shape: str
    gap: str


def _shape(word: str, low: str, first: bool) -> str:
    if low in _DETERMINERS:
        return "det"
    if low in _PRONOUNS:
        return "pron"
    if low in _PREPOSITIONS:
        return "to" if low == "to" else "prep"
    if low in _JOINERS:
        return "join"
    if low in _AUXILIARIES:
        return "aux"
    if low[0].isdigit() or low in _NUMBERS:
        return "num"
    if word[0].isupper() and not first:
        return "cap"
    if low.endswith("ing") and len(low) > 4:
        return "ing"
    if low in _VERBS or (low.endswith("ed") and len(low) > 3):
        return "verb"
    if low.endswith("ly") and len(low) > 3:
        return "ly"
    return "word"


def read_words(sentence: str) -> list[Word]:
    """The words of a sentence with their shapes."""
    spans = word_spans(sentence)
    out = []
    for i, (start, end) in enumerate(spans):
        text = sentence[start:end]
        low = text.lower().replace("’", "'")
        base = low.split("'")[0]
        gap = sentence[end : spans[i + 1][0]] if i + 1 < len(spans) else "."
        out.append(
            Word(start, end, low, "" if base in STOP_WORDS else fact_word(stem(base)), _shape(text, low, i == 0), gap.strip())
        )
    return out


def suits(asking: Asking, words: list[Word], i: int, j: int) -> bool:
    """Whether the run [i, j) is of the kind that is asked for, as far as words can tell."""
    inside = words[i:j]
    match asking.kind:
        case "number":
            return any(w.shape == "num" for w in inside)
        case "duration":
            return any(w.shape == "num" or w.low in UNITS or w.low in ("always", "forever") for w in inside)
        case "who":
            placed = i > 0 and not words[i - 1].gap and words[i - 1].low in ("in", "at", "to", "from", "on")
            return not (placed and inside[0].shape == "cap")
        case "why":
            return "because" not in [w.low for w in words] or any(
                w.low == "because" for w in (words[max(0, i - 1)], words[i])
            )
        case "what" if _COLOUR in asking.focus:
            return j - i <= 2 and any(w.low in _COLOURS for w in inside)
        case "what":  # "3 years old" is no answer to it
            return not (inside[0].shape == "num" and (inside[-1].low in UNITS or inside[-1].low == "old"))
        case _:
            return True


def _bucket(n: int) -> str:
    return str(n) if n < 5 else "5-6" if n < 7 else "7-9" if n < 10 else "10-12"


def _near(n: int | None) -> str:
    return "none" if n is None else str(n) if n < 3 else "3-5" if n < 6 else "far"


def _breaks(gap: str) -> bool:
    """Whether a phrase can't go on over this gap."""
    return any(c in ".!?;:()[]—–…" for c in gap)


def _new_clause(last: Word, following: Word) -> bool:
    """Whether a clause with its own subject begins: "Anna and I live", "late, he said"."""
    return following.low in _SUBJECTS and (bool(last.gap) or last.shape == "join")


_ASIDE = re.compile(
    r"\b(?:by\s+the\s+way|btw|you\s+know|i\s+think|i\s+guess|to\s+be\s+honest|of\s+course|lol|haha|please|though|too|"
    r"as\s+well)\b",
    re.IGNORECASE,
)


def asides(sentence: str) -> list[tuple[int, int]]:
    """Where words stand that say nothing about the matter ("by the way")."""
    return [m.span() for m in _ASIDE.finditer(sentence)]


def runs(words: list[Word], left_out: Sequence[tuple[int, int]] = ()) -> Iterator[tuple[int, int]]:
    """The word runs [i, j) that may be an answer, none with a character of the places left out."""
    closed = [any(w.start < b and a < w.end for a, b in left_out) for w in words]
    for i, first in enumerate(words):
        if closed[i] or first.low in _NEVER_FIRST or first.low in _PRONOUNS:
            continue
        content = False
        for j in range(i + 1, min(len(words), i + MAX_SPAN_WORDS) + 1):
            last = words[j - 1]
            content = content or bool(last.stem) or last.shape == "num"
            if content and last.low not in _NEVER_LAST:
                yield i, j
            if j < len(words) and (closed[j] or _breaks(last.gap) or _new_clause(last, words[j])):
                break


def suits(asking: Asking, words: list[Word], i: int, j: int) -> bool:
    """Whether the run [i, j) is of the kind that is asked for, as far as words can tell."""
    inside = words[i:j]
    match asking.kind:
        case "number":
            return any(w.shape == "num" for w in inside)
        case "duration":
            return any(w.shape == "num" or w.low in UNITS or w.low in ("always", "forever") for w in inside)
        case "who":
            placed = i > 0 and not words[i - 1].gap and words[i - 1].low in ("in", "at", "to", "from", "on")
            return not (placed and inside[0].shape == "cap")
        case "why":
            return "because" not in [w.low for w in words] or any(
                w.low == "because" for w in (words[max(0, i - 1)], words[i])
            )
        case "what" if _COLOUR in asking.focus:
            return j - i <= 2 and any(w.low in _COLOURS for w in inside)
        case "what":  # "3 years old" is no answer to it
            return not (inside[0].shape == "num" and (inside[-1].low in UNITS or inside[-1].low == "old"))
        case _:
            return True


def _bucket(n: int) -> str:
    return str(n) if n < 5 else "5-6" if n < 7 else "7-9" if n < 10 else "10-12"


def _near(n: int | None) -> str:
    return "none" if n is None else str(n) if n < 3 else "3-5" if n < 6 else "far"


def _breaks(gap: str) -> bool:
    """Whether a phrase can't go on over this gap."""
    return any(c in ".!?;:()[]—–…" for c in gap)


def _new_clause(last: Word, following: Word) -> bool:
    """Whether a clause with its own subject begins: "Anna and I live", "late, he said"."""
    return following.low in _SUBJECTS and (bool(last.gap) or last.shape == "join")


def runs(words: list[Word]) -> Iterator[tuple[int, int]]:
    """The word runs [i, j) that may be an answer."""
    for i, first in enumerate(words):
        if first.low in _NEVER_FIRST or first.low in _PRONOUNS:
            continue
        content = False
        for j in range(i + 1, min(len(words), i + MAX_SPAN_WORDS) + 1):
            last = words[j - 1]
            content = content or bool(last.stem) or last.shape == "num"
            if content and last.low not in _NEVER_LAST:
                yield i, j
            if j < len(words) and (_breaks(last.gap) or _new_clause(last, words[j])):
                break


class Phrases:
    """The phrases of one sentence and their features; those of a phrase's start, end and inside are kept apart, as
    the first two are shared by many phrases."""

    def __init__(
        self, asking: Asking, words: list[Word], rarity: Mapping[str, float], names: frozenset[str] = frozenset()
    ) -> None:
        self.asking = asking
        self.words = words
        self.names = names
        self.rarity = rarity
        self.matched = [w.stem in asking.words if w.stem else False for w in words]
        weight = [rarity.get(w.stem, 1.0) if m else 0.0 for w, m in zip(words, self.matched, strict=True)]
        total = sum(rarity.get(w, 1.0) for w in asking.words) or 1.0
        self.share = [sum(weight[:i]) / total for i in range(len(words) + 1)]

    def start(self, i: int) -> dict[str, float]:
        """What a phrase that begins with word i has by that."""
        words, kind, first = self.words, self.asking.kind, self.words[i]
        left = words[i - 1] if i else None
        side = "cut" if left is None or left.gap else left.shape
        before = next((i - 1 - k for k in range(i - 1, -1, -1) if self.matched[k]), None)
        out = {
            f"first {first.shape}": 1.0,
            f"{kind} first {first.shape}": 1.0,
            f"left {side}": 1.0,
            f"{kind} left {side}": 1.0,
            f"match before {_near(before)}": 1.0,
            "matched before": self.share[i],
        }
        if before is not None and self.asking.verb and words[i - 1 - before].stem == self.asking.verb:
            out[f"after verb {_near(before)}"] = 1.0
        if left is not None and left.low in ("because", "since", "so"):
            out["after because"] = 1.0
            out[f"{kind} after because"] = 1.0
        if left is not None and left.shape == "cap" and not left.gap and first.shape == "cap":
            out["cuts a name"] = 1.0
        return out

    def end(self, j: int) -> dict[str, float]:
        """What a phrase that ends before word j has by that."""
        words, last = self.words, self.words[j - 1]
        shape = words[j].shape if j < len(words) else "end"
        after = next((k - j for k in range(j, len(words)) if self.matched[k]), None)
        out = {
            f"last {last.shape}": 1.0,
            f"right {'end' if shape == 'end' else 'stop' if last.gap else shape}": 1.0,
            f"match after {_near(after)}": 1.0,
            "matched after": self.share[-1] - self.share[j],
        }
        if last.shape == "cap" and shape == "cap" and not last.gap:
            out["cuts its name"] = 1.0
        return out

    def body(self, i: int, j: int) -> dict[str, float]:
        """What the phrase of the words i to j - 1 has inside."""
        kind, inside = self.asking.kind, self.words[i:j]
        n = j - i
        content = [w for w in inside if w.stem]
        new = [w for w in content if w.stem not in self.asking.words]
        length = _bucket(n)
        out = {
            f"length {length}": 1.0,
            f"{kind} length {length}": 1.0,
            "repeats": (len(content) - len(new)) / max(1, len(content)),
            "new words": min(4, len(new)) / 4,
            "rarity": sum(self.rarity.get(w.stem, 1.0) for w in new) / max(1, len(new)),
        }
        if not new:
            out["all repeats"] = 1.0
        shapes = [w.shape for w in inside]
        if "num" in shapes:
            out[f"{kind} has number"] = 1.0
        if "cap" in shapes:
            out[f"{kind} has capital"] = 1.0
            if shapes.count("cap") == n:
                out["all capital"] = 1.0
        if "pron" in shapes:
            out["has pronoun"] = 1.0
        if "aux" in shapes:
            out["has auxiliary"] = 1.0
        if self.asking.focus and any(w.stem in self.asking.focus for w in content):
            out["has focus"] = 1.0
        if any(w.low in UNITS for w in inside):
            out[f"{kind} has unit"] = 1.0
        speakers = sum(w.stem in self.names for w in content)
        if speakers:
            out["only a speaker" if speakers == n else "names a speaker"] = 1.0
        commas = sum("," in w.gap for w in inside[:-1])
        if commas:
            out["commas"] = float(commas)
        if i and any(c in "\"“" for c in self.words[i - 1].gap) and any(c in "\"”" for c in inside[-1].gap):
            out["quoted"] = 1.0
        return out

    def features(self, i: int, j: int) -> dict[str, float]:
        """All features of a phrase."""
        return self.start(i) | self.end(j) | self.body(i, j)


_PLACE = re.compile(r"\b(?:in|at|to|from|near|around|on)\s+(?:the\s+|a\s+|an\s+|my\s+|our\s+)?[A-Za-z]")
_REASON = re.compile(r"\b(?:because|since|so\s+that|reason|inspired|motivat\w+|to\s+\w+|as\s+it)\b", re.IGNORECASE)


def type_match(asking: Asking, words: list[Word], sentence: str, dated: bool) -> float:
    """Whether the sentence has what the question asks for: a date, a number, a name, a place, a reason."""
    match asking.kind:
        case "when":
            return float(dated)
        case "duration":
            return float(any(w.low in UNITS for w in words) and any(w.shape in ("num", "det") for w in words))
        case "number":
            return float(any(w.shape == "num" or w.low in ("a", "an") for w in words) * 0.5
                         + 0.5 * any(w.shape == "num" for w in words))  # fmt: skip
        case "who":
            return float(any(w.shape == "cap" and w.stem not in asking.words for w in words))
        case "where":
            return float(bool(_PLACE.search(sentence)))
        case "why":
            return float(bool(_REASON.search(sentence)))
        case _:
            return 0.5
