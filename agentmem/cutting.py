"""Where a text may be cut, and what must survive: the rules that every compressor keeps.

A text is units (a sentence, or a whole code fence or JSON value), a unit is chunks: what stands between white space,
and the punctuation behind it. Chunks are the smallest thing that is left out, so that no word or sign is ever torn. In
a unit of which anything is kept, the protected chunks are kept too; a unit of code or JSON is kept whole or left out.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from agentmem.compression import Part, Span, Spans, joined, shown_tokens
from agentmem.language import STOP_WORDS, sentences, word_set
from agentmem.protocols import TokenCounter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEGATIONS = word_set(
    "no not never none nobody dont doesnt didnt isnt arent wasnt werent cant couldnt wouldnt shouldnt wont havent "
    "hasnt hadnt aint mustnt neednt nothing nowhere neither nor cannot without hardly barely scarcely rarely seldom "
    "nicht nichts nie niemals niemand kein keine keinen keinem keiner ohne pas ne plus jamais rien aucun aucune "
    "sans nunca jamás nada nadie ningún ninguna ninguno tampoco sin non mai niente nessuno senza não nenhum nenhuma "
    "sem niet geen nooit niets zonder не ни нет без никогда нельзя لا ليس لم لن غير بدون לא אין אל בלי"
)
"""Negations in several languages: what they stand before is kept with them."""
KEEP = NEGATIONS | word_set(
    "unless except until till instead rather longer anymore ago used former formerly ex stop stopped stops quit quits "
    "ended refuse refused refuses deny denied denies fail failed fails reject rejected cancel cancelled canceled only "
    "if but almost nearly before after since from than versus vs more less fewer least most might maybe perhaps "
    "or over under few some all both every should would could must will shall "
    "he she they them him her his hers their theirs"
)
"""What turns a sentence round: negations, ends, limits, times, comparisons, what should be and is not, who it was."""
_TIMES = word_set(
    "today tomorrow yesterday tonight now then last next ago past coming morning noon afternoon evening night midnight "
    "day days week weeks weekend month months year years hour hours minute minutes january february march april may "
    "june july august september october november december jan feb mar apr jun jul aug sep sept oct nov dec monday "
    "tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thurs fri sun spring summer autumn "
    "winter fall "
    "christmas easter birthday anniversary"
)
_NUMBERS = word_set(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half "
    "dozen once twice first second third fourth fifth double triple couple several both"
)
_FENCE = re.compile(r"^[ \t]*(```+(?=[^`\n]*$)|~~~+)[^\n]*$", re.MULTILINE)
_QUOTED = re.compile(
    r"\"[^\"\n]{1,200}\"|“[^”\n]{1,200}”|«[^»\n]{1,200}»|„[^“”\n]{1,200}[“”]|「[^」\n]{1,200}」|`[^`\n]{1,200}`"
)
_LABEL = re.compile(r"(?m)^[^\W\d][\w.'’-]{0,30}(?: [^\W\d][\w.'’-]{0,30})?:(?=\s)")
_CHUNK = re.compile(r"\S+")
_PUNCTUATED = re.compile(r"(?<=\w)[.,;:!…]+$")
_EDGES = re.compile(r"^[^\w]+|[^\w]+$")
_PARTS = re.compile(r"['\-–—/]")
_APOSTROPHES = str.maketrans("’`´", "'''")
_ID = re.compile(r"[\d@/_#\\=+<>{}$€£¥%]|\w\.\w")
# What a value can begin with behind its bracket; of a run of brackets the last alone is tried.
_JSON_START = re.compile(r"[\[{](?![\[{]*[\[{]{16})(?=\s*[\"\[{\]}\d\-tfn])")
PUNCTUATION = frozenset(".,;:!…")
MIN_JSON_CHARS = 12
MAX_JSON_FAILURES = 1000
# "No." and "Not really." belong to what they answer.
SHORT_REPLY_CHUNKS = 2


@dataclass(frozen=True, slots=True)
class Unit:
    """The chunks `first` to `last` (excluded) of a part; `whole`: code or JSON."""

    part: int
    start: int
    end: int
    first: int
    last: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Cutting:
    """Parts as a compressor may cut them. `chunks` are (start, end) in the text of their part, unit by unit."""

    parts: tuple[Part, ...]
    units: tuple[Unit, ...]
    chunks: tuple[Span, ...]
    protected: tuple[bool, ...]

    def text(self, unit: Unit) -> str:
        """The text of a unit."""
        return self.parts[unit.part].text[unit.start : unit.end]

    def words(self, unit: Unit) -> list[str]:
        """The texts of a unit's chunks."""
        text = self.parts[unit.part].text
        return [text[s:e] for s, e in self.chunks[unit.first : unit.last]]

    def spans(self, kept: Sequence[bool]) -> tuple[Spans, ...]:
        """What is shown of each part when these chunks shall be kept: with what the rules add (protected chunks of a
        unit that is begun) and take away (the rest of code and JSON of which less than half is wanted, units whose
        fellows are out)."""
        out: list[list[Span]] = [[] for _ in self.parts]
        for unit in self.units:
            wanted = kept[unit.first : unit.last]
            if not any(wanted) or (unit.whole and 2 * sum(wanted) < len(wanted)):
                continue
            if unit.whole:
                out[unit.part].append((unit.start, unit.end))
                continue
            text, last = self.parts[unit.part].text, -1
            for n in range(unit.first, unit.last):
                start, end = self.chunks[n]
                # Punctuation goes with the word that it stands behind.
                behind = start > 0 and not text[start - 1].isspace() and text[start] in PUNCTUATION and last != start
                if self.protected[n] or (kept[n] and not behind):
                    out[unit.part].append((start, end))
                    last = end
        gone = {p.unit for p, spans in zip(self.parts, out, strict=True) if p.unit and not spans and p.text.strip()}
        return tuple(
            () if part.unit and part.unit in gone else joined(spans, part.text)
            for part, spans in zip(self.parts, out, strict=True)
        )


def cutting(parts: Sequence[Part], keep: frozenset[str] = frozenset()) -> Cutting:
    """Parts as they may be cut. `keep` are further words (lower case) that survive in each sentence that is kept."""
    units: list[Unit] = []
    chunks: list[Span] = []
    protected: list[bool] = []
    for n, part in enumerate(parts):
        for start, end, whole, found in _cut(part.text, keep):
            units.append(Unit(n, start, end, len(chunks), len(chunks) + len(found), whole))
            chunks += [(s, e) for s, e, _ in found]
            protected += [p for _, _, p in found]
    return Cutting(tuple(parts), tuple(units), tuple(chunks), tuple(protected))


@lru_cache(maxsize=4096)
def _cut(text: str, keep: frozenset[str]) -> tuple[tuple[int, int, bool, tuple[tuple[int, int, bool], ...]], ...]:
    """(start, end, whole, chunks with whether each is protected) of each unit."""
    safe = _safe_spans(text)
    out = []
    for start, end, whole in units(text):
        found = _chunks(text, start, end, whole)
        kept = [whole or _is_protected(text, s, e, safe, keep) for s, e in found]
        if not whole:
            _with_what_they_govern(text, found, kept)
        out.append((start, end, whole, tuple((s, e, k) for (s, e), k in zip(found, kept, strict=True))))
    return tuple(out)


def _chunks(text: str, start: int, end: int, whole: bool) -> list[Span]:
    found: list[Span] = []
    for match in _CHUNK.finditer(text, start, end):
        punctuated = not whole and text[match.end() - 1] in PUNCTUATION
        punctuation = _PUNCTUATED.search(match.group()) if punctuated else None
        if punctuation is None:
            found.append(match.span())
        else:
            border = match.start() + punctuation.start()
            found += [(match.start(), border), (border, match.end())]
    return found


def units(text: str) -> list[tuple[int, int, bool]]:
    """(start, end, whole) of the units of a text, in order; every sign that is not white space is in exactly one."""
    out: list[tuple[int, int, bool]] = []
    at = 0
    for start, end in [*blocks(text), (len(text), len(text))]:
        for s, e in sentences(text[at:start]):
            piece = text[at + s : at + e]
            reply = len(_CHUNK.findall(piece)) <= SHORT_REPLY_CHUNKS
            if reply and out and s > 0 and not out[-1][2] and "\n" not in text[out[-1][1] : at + s]:
                out[-1] = (out[-1][0], at + e, False)
            else:
                out.append((at + s, at + e, False))
        if end > start:
            out.append((start, end, True))
        at = end
    return out


def blocks(text: str) -> list[Span]:
    """Code fences (one that is never closed reaches to the end) and JSON objects and arrays, in order and apart."""
    found: list[Span] = []
    opened: re.Match[str] | None = None
    for match in _FENCE.finditer(text):
        if opened is None:
            opened = match
        elif match.group(1).startswith(opened.group(1)):
            found.append((opened.start(), match.end()))
            opened = None
    if opened is not None:
        found.append((opened.start(), len(text)))
    edges = [0, *(e for span in found for e in span), len(text)]
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        found += _json(text, start, end)
    return sorted(found)


def _json(text: str, start: int, end: int) -> list[Span]:
    found: list[Span] = []
    decoder = json.JSONDecoder()
    at, failed = start, 0
    while failed < MAX_JSON_FAILURES and (match := _JSON_START.search(text, at, end)) is not None:
        try:
            value, stop = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            at, failed = match.end(), failed + 1
            continue
        if (
            stop <= end
            and stop - match.start() >= MIN_JSON_CHARS
            and (isinstance(value, dict) or '"' in text[match.start() : stop])
        ):
            found.append((match.start(), stop))
        at = stop
    return found


def _safe_spans(text: str) -> list[Span]:
    """Quoted strings and speaker labels, in order and apart."""
    out: list[Span] = []
    for start, end in sorted(m.span() for pattern in (_QUOTED, _LABEL) for m in pattern.finditer(text)):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def _with_what_they_govern(text: str, chunks: Sequence[Span], kept: list[bool]) -> None:
    """Protect what follows a negation ("not paid"; "is not a doctor") and a number ("310 euros")."""
    for n, (start, end) in enumerate(chunks):
        for m in range(n + 1, min(n + 1 + _governs(text[start:end]), len(chunks))):
            if text[chunks[m][0]] in PUNCTUATION or text[chunks[m - 1][1] - 1] == "?":
                break
            kept[m] = True
            word = _word(text[slice(*chunks[m])])
            if word not in STOP_WORDS and word not in KEEP:
                break


@lru_cache(maxsize=50_000)
def _word(chunk: str) -> str:
    return _EDGES.sub("", chunk).lower().translate(_APOSTROPHES)


def _is_protected(text: str, start: int, end: int, safe: Sequence[Span], keep: frozenset[str]) -> bool:
    chunk = text[start:end]
    if _protects(chunk) or (safe and _touches(safe, start, end)):
        return True
    return bool(keep) and (_word(chunk) in keep or not keep.isdisjoint(_PARTS.split(_word(chunk))))


@lru_cache(maxsize=50_000)
def _protects(chunk: str) -> bool:
    """Whether a chunk is protected wherever it stands."""
    if _ID.search(chunk) or "?" in chunk or "？" in chunk:
        return True
    low = _word(chunk)
    if low in KEEP or low in _TIMES or low in _NUMBERS or low.endswith("n't") or low.startswith("n'"):
        return True
    parts = _PARTS.split(low)
    if any(p in KEEP or p in _NUMBERS for p in parts):
        return True
    # A name; at the start of a sentence a stop word has a capital too.
    return _EDGES.sub("", chunk)[:1].isupper() and parts[0] not in STOP_WORDS


@lru_cache(maxsize=50_000)
def _governs(chunk: str) -> int:
    """How many chunks behind a chunk it reaches, at most: a negation 4, a number 1."""
    word = _word(chunk)
    if word in NEGATIONS or word.endswith("n't") or word.startswith("n'"):
        return 4
    return int(word[:1].isdigit() or word in _NUMBERS)


def _touches(spans: Sequence[Span], start: int, end: int) -> bool:
    """Whether spans, in order and apart, share a sign with these bounds."""
    n = bisect_left(spans, end, key=lambda s: s[0])
    return n > 0 and spans[n - 1][1] > start


def within(
    found: Cutting,
    scores: Sequence[float] | NDArray[np.float64],
    max_tokens: int,
    counter: TokenCounter,
    *,
    unit_scores: Sequence[float] | NDArray[np.float64] | None = None,
) -> tuple[Spans, ...] | None:
    """The chunks that score highest, as many as cost at most `max_tokens`, by a threshold on their scores. Where the
    protected chunks of all units are too many, whole units go: those of the lowest `unit_scores` (where not given, of
    the lowest mean of their chunks' scores) first. None when no unit fits.

    `scores` has one number a chunk, higher is better. Counts O(log chunks) texts.
    """
    import numpy as np

    values = np.asarray(scores, np.float64)
    sizes = [u.last - u.first for u in found.units]
    if not sizes or max_tokens < 1:
        return None
    means = np.add.reduceat(values, [u.first for u in found.units]) / sizes if unit_scores is None else unit_scores
    best = np.zeros(len(values), bool)
    best[[u.first + int(values[u.first : u.last].argmax()) for u in found.units]] = True
    order = np.argsort(means, kind="stable")

    def spans_of(gone: int, level: float) -> tuple[Spans, ...]:
        """Without the `gone` worst units, of the others what scores `level` or more, and the best chunk of each."""
        there = np.ones(len(sizes), bool)
        there[order[:gone]] = False
        return found.spans((np.repeat(there, sizes) & ((values >= level) | best)).tolist())

    def fits(spans: Sequence[Spans]) -> bool:
        return shown_tokens(found.parts, spans, counter) <= max_tokens

    gone = _first(len(sizes), lambda n: fits(spans_of(n, np.inf)))
    if gone == len(sizes):
        return None
    levels = np.unique(values)
    n = _first(len(levels), lambda n: fits(spans_of(gone, levels[n])))
    spans = spans_of(gone, levels[n] if n < len(levels) else np.inf)
    return spans if any(spans) else None


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The first number under `count` for which something holds that holds for all later ones; `count` when none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
