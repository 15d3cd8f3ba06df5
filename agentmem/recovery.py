"""Subsequence recovery: an answer in the words of a compressed text gets back what stood between them.

LLMLingua's `recover` (arXiv 2310.06839, section 4.4), by words instead of tokens. A model that read "Anna vegetarian
2023" may say so; the original said "Anna is no longer vegetarian since May 2023".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentmem.language import word_spans

MAX_GAP = 10
"""So many words of the original may stand between two that follow each other in the answer."""
MIN_WORDS = 2
_END = re.compile(r"[.!?。！？；;:\n\[\](){}]")


@dataclass(frozen=True, slots=True)
class _Source:
    """A text that was compressed: its words, where they stand, and the words of what was shown of it."""

    text: str
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    shown: tuple[str, ...]


def recovered(answer: str, items: Iterable[tuple[str, str]]) -> str:
    """The answer, with each longest run of its words that stands in a compressed text, but not in the original,
    replaced by the shortest part of the original that has these words in their order.

    `items` are (original, compressed) texts. A run has at least `MIN_WORDS` words; at most `MAX_GAP` words of the
    original stand between two of its words, and no end of a sentence or bracket in the answer. Case and other
    punctuation do not count. What is not such a run stays as it is, and so does a run that some original has as it
    stands; nothing is put in that no original says.
    """
    sources = [_source(o, c) for o, c in dict.fromkeys(items) if c and c != o]
    if not sources:
        return answer
    spans = word_spans(answer)
    words = _folded(answer, spans)
    starts = [_places(s.shown) for s in sources]
    ends = {n for n in range(1, len(spans)) if _END.search(answer, spans[n - 1][1], spans[n][0])} | {len(spans)}
    out: list[str] = []
    done = at = 0
    while at < len(words):
        end_of_run = next(n for n in range(at + 1, len(words) + 1) if n in ends)
        runs = [_run(words[at:end_of_run], s.shown, where) for s, where in zip(sources, starts, strict=True)]
        length = max(runs)
        if length < MIN_WORDS:
            at += 1
            continue
        run = words[at : at + length]
        having = [s for s, n in zip(sources, runs, strict=True) if n == length]
        if not any(_contains(s.words, run) for s in sources):
            found = [f for s in having if (f := _shortest(run, s)) is not None]
            if found:
                start, end = spans[at][0], spans[at + length - 1][1]
                _, text = min(found, key=lambda f: f[0])
                out += [answer[done:start], _cased(text, answer[start])]
                done = end
        at += length
    return "".join([*out, answer[done:]])


def _source(original: str, compressed: str) -> _Source:
    spans = word_spans(original)
    return _Source(
        original, tuple(_folded(original, spans)), tuple(spans), tuple(_folded(compressed, word_spans(compressed)))
    )


def _folded(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    return [text[s:e].casefold().replace("’", "'") for s, e in spans]


def _places(words: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for n, word in enumerate(words):
        found[word].append(n)
    return found


def _run(words: Sequence[str], shown: Sequence[str], places: dict[str, list[int]]) -> int:
    """How many of the words, from the first on, stand in `shown` one behind the other."""
    best = 0
    for start in places.get(words[0], ()):
        pairs = zip(words, shown[start : start + len(words)], strict=False)
        best = max(best, next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(words), len(shown) - start)))
    return best


def _contains(words: Sequence[str], run: Sequence[str]) -> bool:
    size = len(run)
    return any(words[n] == run[0] and list(words[n : n + size]) == list(run) for n in range(len(words) - size + 1))


def _shortest(run: Sequence[str], source: _Source) -> tuple[int, str] | None:
    """The number of words, and the text, of the shortest part of the original that has the run's words in order."""
    places = _places(source.words)
    # For each place of the last word so far: the latest place at which a part that ends there can begin.
    begun = {n: n for n in places.get(run[0], ())}
    for word in run[1:]:
        ahead: dict[int, int] = {}
        for n in places.get(word, ()):
            before = [begun[m] for m in range(max(0, n - MAX_GAP - 1), n) if m in begun]
            if before:
                ahead[n] = max(before)
        begun = ahead
    if not begun:
        return None
    last, first = min(begun.items(), key=lambda place: (place[0] - place[1], place[0]))
    text = source.text[source.spans[first][0] : source.spans[last][1]]
    return last - first, " ".join(text.split())


def _cased(text: str, first: str) -> str:
    """A text that begins with a capital where what it replaces did."""
    return text[:1].upper() + text[1:] if first.isupper() else text
