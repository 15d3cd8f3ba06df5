"""What speaks for a phrase as an answer: named features of its words and of the words around it.

What each is worth stands in `agentmem.reading_weights`.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentmem.asking import Asking
from agentmem.spans import UNITS, Word


def _bucket(n: int) -> str:
    return str(n) if n < 5 else "5-6" if n < 7 else "7-9" if n < 10 else "10-12"


def _near(n: int | None) -> str:
    return "none" if n is None else str(n) if n < 3 else "3-5" if n < 6 else "far"


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
        if i and any(c in '"“' for c in self.words[i - 1].gap) and any(c in '"”' for c in inside[-1].gap):
            out["quoted"] = 1.0
        return out

    def features(self, i: int, j: int) -> dict[str, float]:
        """All features of a phrase."""
        return self.start(i) | self.end(j) | self.body(i, j)
