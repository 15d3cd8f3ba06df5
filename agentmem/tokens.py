"""Token counters that need no model, and cutting a text to a number of tokens.

The chat template of a model-free backend is plain: every message is `role: content` on its own line,
so a message costs its content and the tokens of `role:`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from agentmem.errors import MissingExtraError
from agentmem.types import ChatMessage, ToolSpec

if TYPE_CHECKING:
    from agentmem.protocols import TokenCounter

_PIECE = re.compile(r"\w+|[^\w\s]", re.UNICODE)
# An English word is 1.3 sub-word tokens or less in common vocabularies; long runs (ids, CJK) cost more.
_CHARS_PER_TOKEN = 4
# What is white space to BERT's normaliser and to nobody anything else; Python's own has control characters in it, which
# the normaliser takes out.
_SPACE = re.compile(r"[ \t\n\r]+")
_KEPT_WORDS = 50_000
_KEPT_CHARS = 64


class AdditiveCounter:
    """A counter over a function that splits at white space, so that lines may be counted apart.

    Counts are cached by text (the queue is counted at every turn, and does not change).
    """

    additive = True

    def __init__(self, count: Callable[[str], int], *, name: str, exact: bool, cache_size: int = 20_000) -> None:
        self.name = name
        self.exact = exact
        self._count_long = count
        self._cached = lru_cache(maxsize=cache_size)(count)

    def count(self, text: str) -> int:
        """Tokens of a text on its own."""
        if not text:
            return 0
        # A huge text is counted as it comes: the cache would keep it alive.
        return self._cached(text) if len(text) <= 20_000 else self._count_long(text)

    def count_message(self, message: ChatMessage) -> int:
        """Tokens of a message in the plain template; tool calls count as their JSON."""
        total = self.count(f"{message.role}:") + self.count(message.content)
        return total + sum(self.count(c.name) + self.count(c.arguments) for c in message.tool_calls)

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens of the prompt in the plain template."""
        total = sum(self.count_message(m) for m in messages)
        return total + sum(self.count(json.dumps(t.to_dict(), sort_keys=True)) for t in tools)


def _estimate(text: str) -> int:
    return sum(1 + (len(piece.encode("utf-8", "replace")) - 1) // _CHARS_PER_TOKEN for piece in _PIECE.findall(text))


def approximate_counter() -> AdditiveCounter:
    """An estimate for when no tokenizer is at hand: a word or sign is one token for each four bytes begun."""
    return AdditiveCounter(_estimate, name="approximate", exact=False)


def wordpiece_counter(tokenizer_json: Path, *, name: str) -> AdditiveCounter:
    """Exact counts from a WordPiece `tokenizer.json`: BERT's pre-tokenizer splits at white space, so it is additive.

    Raises MissingExtraError without the package `tokenizers`.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as e:
        raise MissingExtraError("exact token counts", "cpu", "tokenizers") from e
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def whole(text: str) -> int:
        # Half a surrogate pair is no text to the tokenizer; U+FFFD stands for it, as it does in what is sent.
        sound = text.encode("utf-8", "replace").decode("utf-8")
        return len(tokenizer.encode(sound, add_special_tokens=False).ids)

    word = lru_cache(maxsize=_KEPT_WORDS)(whole)

    def count(text: str) -> int:
        # Nothing joins over white space, and most words of a text were met before: looking them up is several times
        # quicker than a pass of the tokenizer.
        return sum(word(w) if len(w) <= _KEPT_CHARS else whole(w) for w in _SPACE.split(text) if w)

    return AdditiveCounter(count, name=name, exact=True)


def cut_text(text: str, max_tokens: int, counter: TokenCounter) -> int:
    """The largest number of characters, ending at a word boundary, of which `text`'s start costs at most `max_tokens`.

    Counts O(log n) prefixes. A first word that does not fit is cut inside.
    """
    if max_tokens <= 0:
        return 0
    # No vocabulary packs more than some 40 characters into a token on average; this bounds the work on huge texts.
    upper = min(len(text), 40 * max_tokens + 40)
    if upper == len(text) and counter.count(text) <= max_tokens:
        return len(text)
    ends = [m.start() for m in re.finditer(r"\s+", text[:upper]) if m.start() > 0]
    return _last_fitting(text, ends, max_tokens, counter) or _last_fitting(
        text, range(1, (ends[0] if ends else upper) + 1), max_tokens, counter
    )


def _last_fitting(text: str, ends: Sequence[int], max_tokens: int, counter: TokenCounter) -> int:
    low, high = -1, len(ends) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if counter.count(text[: ends[middle]]) <= max_tokens:
            low = middle
        else:
            high = middle - 1
    return ends[low] if low >= 0 else 0
