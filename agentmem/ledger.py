"""The ledger: which section of the prompt each token belongs to. The sections sum to the total, always.

Where the tokens themselves are known, a token belongs to the section of its first character (design, section 5): the
text of each section is looked up in the rendered prompt; what is found in none is the chat template's own. Where only
numbers are known, the parts are counted apart and the rest is the template's.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from agentmem.encoding import Encoding, Piece, common_length
from agentmem.protocols import PromptTokenizer, TokenCounter
from agentmem.types import SECTIONS, ChatMessage, Ledger, ToolSpec

if TYPE_CHECKING:
    from agentmem.context import Written

Counts = Mapping[str, int]
_CACHE_SIZE = 4096


class Bookkeeper:
    """Makes ledgers with one counter. What it worked out for a piece of a prompt is kept for the next prompt."""

    def __init__(self, counter: TokenCounter) -> None:
        self.counter = counter
        self._known: OrderedDict[tuple[int, tuple[tuple[str, int], ...]], tuple[Piece, Counts]] = OrderedDict()
        self._without_tools: tuple[tuple[Written, ...], str] | None = None

    def ledger(
        self, written: Sequence[Written], tools: Sequence[ToolSpec], max_tokens: int, encoding: Encoding | None = None
    ) -> Ledger:
        """The ledger of a prompt; `encoding` where it was made already."""
        if encoding is None and isinstance(self.counter, PromptTokenizer):
            encoding = self.counter.encode_prompt([w.message() for w in written], tools)
        if encoding is not None and all(p.text or not p.ids for p in encoding.pieces):
            sections = dict.fromkeys(SECTIONS, 0)
            for piece, (start, end) in zip(encoding.pieces, encoding.messages, strict=True):
                for section, tokens in self._of_piece(piece, written[start:end], tools if start == 0 else ()).items():
                    sections[section] += tokens
            return Ledger(len(encoding), max_tokens, sections, self.counter.name, self.counter.exact)
        total = None if encoding is None else len(encoding)
        return _by_parts(written, tools, self.counter, max_tokens, total)

    def _of_piece(self, piece: Piece, written: Sequence[Written], tools: Sequence[ToolSpec]) -> Counts:
        if not written:
            return {"template": len(piece.ids)}
        key = (id(piece), tuple((s, len(t)) for w in written for s, t in w.segments))
        found = self._known.get(key)
        if found is not None and found[0] is piece:
            self._known.move_to_end(key)
            return found[1]
        spans = _spans(piece.text, written)
        if tools:
            spans = _with_tools(spans, *self._tools_span(piece.text, tuple(written)))
        counts = _tokens_of(piece, spans)
        self._known[key] = (piece, counts)
        while len(self._known) > _CACHE_SIZE:
            self._known.popitem(last=False)
        return counts

    def _tools_span(self, text: str, head: tuple[Written, ...]) -> tuple[int, int]:
        """Where the tools stand in the head: what is not there when it is rendered without them."""
        if self._without_tools is None or self._without_tools[0] != head:
            assert isinstance(self.counter, PromptTokenizer)
            # Many templates refuse a prompt without a user's message.
            messages = [w.message() for w in head] + ([ChatMessage("user", "x")] if len(head) == 1 else [])
            first = self.counter.encode_prompt(messages)
            self._without_tools = (head, first.pieces[0].text if len(first.pieces) > 1 else first.text)
        plain = self._without_tools[1]
        start = common_length(text, plain)
        end = common_length(text[start:][::-1], plain[start:][::-1])
        return start, max(start, len(text) - end)


def _spans(text: str, written: Sequence[Written]) -> list[tuple[int, int, str]]:
    """(start, end, section) of what can be found in a piece's text, in order. Line ends between two segments of one
    message are ours and belong to the first. A call's name and arguments are looked for as written, and as JSON."""
    spans: list[tuple[int, int, str]] = []
    at = 0
    for w in written:
        inside = False
        for section, segment in w.segments:
            wanted = segment.strip()
            start = text.find(wanted, at) if wanted else -1
            if start < 0:
                continue
            if inside:
                before = spans[-1]
                spans[-1] = (before[0], start, before[2])
            at = start + len(wanted)
            spans.append((start, at, section))
            inside = True
        for call in w.tool_calls:
            for ways in ((call.name,), _shapes(call.arguments)):
                places = [(text.find(way, at), way) for way in ways if way]
                start, way = min(((p, way) for p, way in places if p >= 0), default=(-1, ""))
                if start >= 0:
                    at = start + len(way)
                    spans.append((start, at, "queue"))
    return spans


def _shapes(arguments: str) -> tuple[str, ...]:
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return (arguments, json.dumps(arguments, ensure_ascii=False))
    ways = [arguments]
    for compact in (None, (",", ":")):
        for ascii_only in (False, True):
            for ordered in (False, True):
                ways.append(json.dumps(value, ensure_ascii=ascii_only, separators=compact, sort_keys=ordered))
    return tuple(dict.fromkeys([*ways, json.dumps(arguments, ensure_ascii=False)]))


def _with_tools(spans: list[tuple[int, int, str]], start: int, end: int) -> list[tuple[int, int, str]]:
    kept = [s for s in spans if s[1] <= start or s[0] >= end]
    return sorted([*kept, (start, end, "system")]) if end > start else spans


def _tokens_of(piece: Piece, spans: Sequence[tuple[int, int, str]]) -> Counts:
    counts: dict[str, int] = {}
    starts = [s for s, _, _ in spans]
    for offset in piece.starts:
        n = bisect_right(starts, offset) - 1
        section = spans[n][2] if n >= 0 and offset < spans[n][1] else "template"
        counts[section] = counts.get(section, 0) + 1
    return counts


def _by_parts(
    written: Sequence[Written], tools: Sequence[ToolSpec], counter: TokenCounter, max_tokens: int, total: int | None
) -> Ledger:
    sections = dict.fromkeys(SECTIONS, 0)
    for w in written:
        for section, text in w.segments:
            sections[section] += counter.count(text)
        for call in w.tool_calls:
            sections["queue"] += counter.count(call.name) + counter.count(call.arguments)
    for tool in tools:
        sections["system"] += counter.count(json.dumps(tool.to_dict(), sort_keys=True))
    if total is None:
        total = counter.count_prompt([w.message() for w in written], tools)
    rest = total - sum(sections.values())
    sections["template"] = max(0, rest)
    if rest < 0:
        # Tokens merged over a border between sections: they belong to the section of their first byte.
        largest = max(SECTIONS, key=lambda s: sections[s])
        sections[largest] += rest
    return Ledger(total, max_tokens, sections, counter.name, counter.exact)
