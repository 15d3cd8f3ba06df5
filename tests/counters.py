"""Token counters for tests: one that splits at white space, and two that no sum of parts can predict."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from zlib import crc32

from agentmem.encoding import Encoding, Piece
from agentmem.tokens import AdditiveCounter
from agentmem.types import ChatMessage, ToolSpec

_PIECE = re.compile(r"<(?:end|call|user|tool|system|assistant)>|\s*[^\s<]+|\s+|<")


def word_counter() -> AdditiveCounter:
    """A word is a token."""
    return AdditiveCounter(lambda text: len(text.split()), name="words", exact=True)


class PairCounter:
    """Not additive: every two characters begun are a token, line ends included, and the template costs 3 a message.

    The whole may be fewer or more than the parts, as with a byte-pair encoding.
    """

    name = "pairs"
    exact = True
    additive = False

    def count(self, text: str) -> int:
        return -(-len(text) // 2)

    def count_message(self, message: ChatMessage) -> int:
        return self.count_prompt([message])

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        said = "".join(f"<{m.role}>{m.content}{[(c.name, c.arguments) for c in m.tool_calls]}\n" for m in messages)
        return self.count(said + "".join(json.dumps(t.to_dict()) for t in tools)) + 3 * len(messages)


class MergingCounter:
    """Not additive: a run of equal characters is one token, so that parts joined may be fewer tokens than apart."""

    name = "merging"
    exact = True
    additive = False

    def count(self, text: str) -> int:
        return sum(1 for n, c in enumerate(text) if n == 0 or text[n - 1] != c)

    def count_message(self, message: ChatMessage) -> int:
        return self.count_prompt([message])

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        total = sum(self.count(m.content) + 1 for m in messages)
        total += sum(self.count(c.name) + self.count(c.arguments) for m in messages for c in m.tool_calls)
        return total + sum(self.count(json.dumps(t.to_dict())) for t in tools)


class PieceCounter:
    """Knows its tokens (agentmem.protocols.PromptTokenizer): white space and the word after it are one, and so is every
    mark of the template, which renders each message apart. `stripped` is cut from answers when they are rendered."""

    name = "pieces"
    exact = True
    additive = False
    incremental = True
    how = "a piece a message"

    def __init__(self, stripped: str = "") -> None:
        self.stripped = stripped
        self.tokenised: list[str] = []
        self._pieces: dict[str, Piece] = {}

    def count(self, text: str) -> int:
        return len(_PIECE.findall(text))

    def count_message(self, message: ChatMessage) -> int:
        return len(self._piece(self._render(message)).ids)

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        return len(self.encode_prompt(messages, tools))

    def encode_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> Encoding:
        head = self._render(messages[0]) if messages else ""
        if tools:
            head = head.replace("<end>", "\n# Tools\n" + json.dumps([t.to_dict() for t in tools]) + "<end>")
        texts = [head, *(self._render(m) for m in messages[1:]), "<assistant>"]
        pieces = tuple(self._piece(t) for t in texts)
        return Encoding(pieces, (*((n, n + 1) for n in range(len(messages))), (len(messages), len(messages))))

    def rerendered(self, message: ChatMessage, ids: Sequence[int]) -> str:
        said = self._piece(self._render(message)).ids[1 : 1 + len(ids)]
        return "" if said == tuple(ids) else f"differs from token {_shared(said, ids)} on"

    def ids_of(self, text: str) -> tuple[int, ...]:
        return tuple(crc32(t.encode()) for t in _PIECE.findall(text))

    def _render(self, message: ChatMessage) -> str:
        content = message.content
        if message.role == "assistant" and self.stripped:
            content = content.replace(self.stripped, "")
        calls = "".join(f"<call>{c.name} {c.arguments}" for c in message.tool_calls)
        return f"<{message.role}>{content}{calls}<end>"

    def _piece(self, text: str) -> Piece:
        if text not in self._pieces:
            self.tokenised.append(text)
            found = list(_PIECE.finditer(text))
            self._pieces[text] = Piece(text, self.ids_of(text), tuple(m.start() for m in found))
        return self._pieces[text]


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
