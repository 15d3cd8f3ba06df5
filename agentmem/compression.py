"""What a compressor is asked for and gives back: parts of texts by their spans, so that nothing can be said that was
not there, and the original stays reachable by id.

Every compressor here deletes (Selective Context, LLMLingua, LLMLingua-2, LongCodeZip and the extractive one alike).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentmem.protocols import TokenCounter

Span = tuple[int, int]
Spans = tuple[Span, ...]
_NO_SPACE_BEFORE = frozenset(".,;:!?…)]}’”。！？；，、」』）")


@dataclass(frozen=True, slots=True)
class Part:
    """One text to compress. `worth` is what the ranker gives it, relative to the other parts of its request.

    `sentences` are (start, end, cosine with the query) where the archive knows them. Parts with the same `unit` (a tool
    call and its results) are kept together or left out together; "" stands alone.
    """

    text: str
    worth: float = 1.0
    sentences: tuple[tuple[int, int, float], ...] = ()
    unit: str = ""


@dataclass(frozen=True, slots=True)
class CompressionRequest:
    """Texts, and how many tokens they shall have together, by `counter` (the served model's).

    `target_tokens` is a goal, `max_tokens` (the target where it is None) the law. Without a `query` the compression is
    question-agnostic.
    """

    parts: tuple[Part, ...]
    target_tokens: int
    counter: TokenCounter
    query: str = ""
    max_tokens: int | None = None

    @property
    def budget(self) -> int:
        """The most tokens that a result may have."""
        return self.target_tokens if self.max_tokens is None else max(self.max_tokens, self.target_tokens)


@dataclass(frozen=True, slots=True)
class Compressed:
    """For each part the spans of its text that are kept, ascending and apart; () for a part that is left out.

    `num_tokens` is what the shown texts cost together; `worth` in [0, 1] the share of what the parts were worth that
    the compressor judges to be still there.
    """

    parts: tuple[Spans, ...]
    num_tokens: int
    worth: float = 1.0


def shown(text: str, spans: Sequence[Span]) -> str:
    """The text that spans stand for: joined by a space, by a line end where one was left out."""
    out: list[str] = []
    last = 0
    for start, end in spans:
        if out and start > last:
            gap = text[last:start]
            out.append("\n" if "\n" in gap else "" if text[start] in _NO_SPACE_BEFORE else " ")
        out.append(text[start:end])
        last = end
    return "".join(out)


def shown_tokens(parts: Sequence[Part], kept: Sequence[Spans], counter: TokenCounter) -> int:
    """What the shown texts of parts cost together."""
    return sum(counter.count(shown(p.text, spans)) for p, spans in zip(parts, kept, strict=True) if spans)


def joined(spans: Sequence[Span], text: str) -> Spans:
    """Spans with those made one that have only white space between them; ascending and apart."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and (start <= out[-1][1] or not text[out[-1][1] : start].strip()):
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        elif end > start:
            out.append((start, end))
    return tuple(out)


def fault(request: CompressionRequest, found: Compressed) -> str:
    """What is wrong with a compressor's result; "" when it keeps the laws that can be seen from outside."""
    if len(found.parts) != len(request.parts):
        return f"it gave {len(found.parts)} parts for {len(request.parts)}"
    for part, spans in zip(request.parts, found.parts, strict=True):
        ends = [-1, *(end for _, end in spans)]
        if any(not last < start < end <= len(part.text) for last, (start, end) in zip(ends, spans, strict=False)):
            return "its spans are not ascending parts of the text"
    if not any(found.parts):
        return "it left nothing"
    units = {p.unit for p in request.parts if p.unit}
    for unit in units:
        fellows = [(p, s) for p, s in zip(request.parts, found.parts, strict=True) if p.unit == unit]
        there = {bool(s) for p, s in fellows if p.text.strip()}
        if len(there) > 1:
            return "it split a call from its result"
    if not 0.0 <= found.worth <= 1.0:
        return f"its worth is {found.worth}, not between 0 and 1"
    tokens = shown_tokens(request.parts, found.parts, request.counter)
    if tokens > request.budget:
        return f"it gave {tokens} tokens where {request.budget} are allowed"
    if tokens >= sum(request.counter.count(p.text) for p in request.parts):
        return "its result is not smaller"
    return ""
