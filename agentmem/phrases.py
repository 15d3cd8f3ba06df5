"""What speaks for a phrase as an answer: named features of its words and of the words around it.

What each is worth stands in `agentmem.reading_weights`.
"""

from __future__ import annotations

from agentmem.answer_sentences import READ, Candidate
from agentmem.evidence import Evidence
from agentmem.language import word_set
from agentmem.spans import UNITS

_NAMING = frozenset({"adj", "word", "cap", "num"})
_OBJECT = frozenset({*_NAMING, "det", "pron"})
_BE = word_set("is are was were be been being am")


def _bucket(n: int) -> str:
    return str(n) if n < 5 else "5-6" if n < 7 else "7-9" if n < 10 else "10-12" if n < 13 else "13-20"


def _near(n: int | None) -> str:
    return "none" if n is None else str(n) if n < 3 else "3-5" if n < 6 else "far"


class Phrases:
    """The phrases of one sentence and their features; those of a phrase's start, end and inside are kept apart, as
    the first two are shared by many phrases."""

    def __init__(self, evidence: Evidence, sentence: Candidate) -> None:
        asking, words = evidence.asking, sentence.words
        self.asking = asking
        self.kind = asking.kind
        self.form = asking.form
        self.words = words
        self.names = evidence.names
        self.rarity = evidence.rarity
        self.expected = evidence.expected
        self.told_by = evidence.told_by
        self.titled = evidence.titled
        self.support = evidence.support
        self.item = sentence.item
        self.bracketed = sentence.text[0] in "[("
        self.matched = [w.stem in asking.words if w.stem else False for w in words]
        weight = [self.rarity.get(w.stem, 1.0) if m else 0.0 for w, m in zip(words, self.matched, strict=True)]
        total = sum(self.rarity.get(w, 1.0) for w in asking.words) or 1.0
        self.share = [sum(weight[:i]) / total for i in range(len(words) + 1)]

    def start(self, i: int) -> dict[str, float]:
        """What a phrase that begins with word i has by that."""
        words, kind, form, first = self.words, self.kind, self.form, self.words[i]
        left = words[i - 1] if i else None
        side = "cut" if left is None or left.gap else left.shape
        before = next((i - 1 - k for k in range(i - 1, -1, -1) if self.matched[k]), None)
        near = _near(before)
        out = {
            f"first {first.shape}": 1.0,
            f"{form} first {first.shape}": 1.0,
            f"left {side}": 1.0,
            f"{form} left {side}": 1.0,
            f"match before {near}": 1.0,
            f"{form} match before {near}": 1.0,
            "matched before": self.share[i],
        }
        if before is not None and self.asking.verb and words[i - 1 - before].stem == self.asking.verb:
            out[f"after verb {near}"] = 1.0
        if before is not None and words[i - 1 - before].stem in (self.asking.focus or self.asking.head):
            out[f"after focus {near}"] = 1.0
        if left is not None and not left.gap:
            low = left.low
            if low in ("because", "since", "so"):
                out["after because"] = 1.0
                out[f"{kind} after because"] = 1.0
            if low in _BE or low.endswith(("'s", "'re", "'m")):
                out["after be"] = 1.0
                out[f"{form} after be"] = 1.0
                if before is not None and before <= 2:
                    out["after be and a match"] = 1.0
            if low in ("called", "named"):
                out["after called"] = 1.0
            if left.shape == "prep":
                out[f"after {low}"] = 1.0
        if left is not None and left.gap.startswith(":"):
            out["after colon"] = 1.0
        if left is not None and left.shape == "cap" and not left.gap and first.shape == "cap":
            out["cuts a name"] = 1.0
        if first.shape == "prep":
            out[f"first {first.low}"] = 1.0
        if first.stem and first.stem in self.asking.words:
            out["first repeats"] = 1.0
        return out

    def end(self, j: int) -> dict[str, float]:
        """What a phrase that ends before word j has by that."""
        words, last = self.words, self.words[j - 1]
        shape = words[j].shape if j < len(words) else "end"
        right = "end" if shape == "end" else "stop" if last.gap else shape
        after = next((k - j for k in range(j, len(words)) if self.matched[k]), None)
        out = {
            f"last {last.shape}": 1.0,
            f"{self.form} last {last.shape}": 1.0,
            f"right {right}": 1.0,
            f"{self.form} right {right}": 1.0,
            f"match after {_near(after)}": 1.0,
            "matched after": self.share[-1] - self.share[j],
        }
        if last.shape == "cap" and shape in ("cap", "num") and not last.gap:
            out["cuts its name"] = 1.0
        if last.shape == "ing" and not last.gap and shape in _OBJECT:
            out["cuts an object"] = 1.0
        if last.stem and last.stem in self.asking.words:
            out["last repeats"] = 1.0
        if last.stem and last.stem in self.expected:
            out[f"last listed by {self.told_by}"] = 1.0
        return out

    def body(self, i: int, j: int) -> dict[str, float]:
        """What the phrase of the words i to j - 1 has inside."""
        kind, form, inside = self.kind, self.form, self.words[i:j]
        n = j - i
        content = [w for w in inside if w.stem]
        new = [w for w in content if w.stem not in self.asking.words]
        length = _bucket(n)
        out = {
            f"length {length}": 1.0,
            f"{form} length {length}": 1.0,
            "words": n / 12,
            "repeats": (len(content) - len(new)) / max(1, len(content)),
            "new words": min(4, len(new)) / 4,
            "rarity": sum(self.rarity.get(w.stem, 1.0) for w in new) / max(1, len(new)),
            "support": sum(self.support(w.stem, self.item, READ) for w in new) / max(1, len(new)),
            "share": self.share[j] - self.share[i],
        }
        if not new:
            out["all repeats"] = 1.0
        shapes = [w.shape for w in inside]
        if "num" in shapes:
            out[f"{kind} has number"] = 1.0
        if "cap" in shapes:
            out[f"{form} has capital"] = 1.0
            if shapes.count("cap") == n:
                out["all capital"] = 1.0
                out[f"{form} all capital"] = 1.0
                if self.titled:
                    out["titled"] = 1.0
        if "pron" in shapes:
            out["has pronoun"] = 1.0
        if "aux" in shapes:
            out["has auxiliary"] = 1.0
        if "verb" in shapes:
            out["has verb"] = 1.0
        if "ing" in shapes[1:]:
            out["has ing"] = 1.0
        if "prep" in shapes[1:]:
            out["has preposition"] = 1.0
        if "join" in shapes:
            out["has joiner"] = 1.0
            if any(w.low == "and" for w in inside):
                out["has and"] = 1.0
                out[f"{form} has and"] = 1.0
        if "to" in shapes[1:]:
            out["has to"] = 1.0
        if self.asking.focus and any(w.stem in self.asking.focus for w in content):
            out["has focus"] = 1.0
        if self.expected:
            listed = sum(w.stem in self.expected for w in new)
            if listed:
                out[f"listed by {self.told_by}"] = 1.0
                out[f"listed share by {self.told_by}"] = listed / len(new)
        if any(w.low in UNITS for w in inside):
            out[f"{kind} has unit"] = 1.0
        speakers = sum(w.stem in self.names for w in content)
        if speakers:
            out["only a speaker" if speakers == n else "names a speaker"] = 1.0
        commas = sum("," in w.gap for w in inside[:-1])
        if commas:
            out["commas"] = float(commas)
            following = self.words[j].low if j < len(self.words) else ""
            if following in ("and", "or") or (following and "," in inside[-1].gap):
                out["cuts a list"] = 1.0
            if self.asking.many:
                out["many commas"] = float(commas)
        if i and any(c in '"“' for c in self.words[i - 1].gap) and any(c in '"”' for c in inside[-1].gap):
            out["quoted"] = 1.0
            if self.titled:
                out["titled and quoted"] = 1.0
        if self.bracketed:
            out["in brackets"] = 1.0
        if (
            j < len(self.words)
            and not inside[-1].gap
            and self.words[j].shape in _NAMING
            and inside[-1].shape in _NAMING
        ):
            out["cut short"] = 1.0
        if i and not self.words[i - 1].gap and self.words[i - 1].shape in _NAMING and inside[0].shape in _NAMING:
            out["cut late"] = 1.0
        if all(x in ("det", "adj", "word", "cap", "num", "ing") for x in shapes):
            out["noun phrase"] = 1.0
            out[f"{form} noun phrase"] = 1.0
        tail = next((k for k in range(n - 1, 0, -1) if shapes[k] in ("prep", "to")), None)
        if tail is not None and any(w.stem in self.asking.words for w in inside[tail:] if w.stem):
            out["tail repeats"] = 1.0
        if shapes[0] == "det" and inside[0].low not in ("a", "an", "the"):
            out["pointing"] = 1.0
        whole_left = i == 0 or bool(self.words[i - 1].gap)
        whole_right = j == len(self.words) or bool(self.words[j - 1].gap)
        if whole_left and whole_right:
            out["whole"] = 1.0
        return out

    def features(self, i: int, j: int) -> dict[str, float]:
        """All features of a phrase."""
        return self.start(i) | self.end(j) | self.body(i, j)
