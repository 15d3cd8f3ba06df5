"""A prompt as the model reads it: its tokens, in pieces that are tokenised apart.

A chat template whose rendering of a message does not depend on what follows, and whose messages begin and end at
special tokens, allows a piece a message: what did not change is not tokenised again. Any other prompt is one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal

ToolMode = Literal["native", "json", "off", "none"]
"""How memory tools reach a model: schemas in its prompt and calls parsed from its answer, actions under a JSON schema,
not at all; `none`: what answers is no language model."""


@dataclass(frozen=True)
class Piece:
    """A stretch of the rendered prompt: its `text`, the `ids` of its tokens, and the offset in `text` of each token's
    first character, non-decreasing (a character of several tokens: they share its offset)."""

    text: str
    ids: tuple[int, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Encoding:
    """A whole prompt. `messages[n]` is the range [first, end) of the prompt's messages that `pieces[n]` renders; the
    piece that opens the reply renders none. The texts joined are the rendered prompt, the ids joined its tokens."""

    pieces: tuple[Piece, ...]
    messages: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return self._length

    @cached_property
    def _length(self) -> int:
        return sum(len(p.ids) for p in self.pieces)

    @property
    def ids(self) -> tuple[int, ...]:
        """All tokens."""
        return tuple(chain.from_iterable(p.ids for p in self.pieces))

    @property
    def text(self) -> str:
        """The rendered prompt."""
        return "".join(p.text for p in self.pieces)


@dataclass(frozen=True, slots=True)
class PrefixReport:
    """How much of a prompt of `total` tokens could be reused from the agent's request before it, and how much was.

    `tokens` from the start are equal to that request and what was generated for it; `blocks` of them are whole blocks
    of `block_size` (None: not known). `cached` is what the engine says it took from its cache (None: it does not say);
    that may be more than `tokens`, since it keeps other requests too. `cause` says in words why the equal part ends
    where it does, and why the engine took less than its whole blocks where it did.
    """

    tokens: int
    total: int
    block_size: int | None = None
    cached: int | None = None
    cause: str = ""

    @property
    def blocks(self) -> int | None:
        """Whole blocks among the equal tokens; the prompt's last token is always computed anew."""
        return None if self.block_size is None else min(self.tokens, self.total - 1) // self.block_size

    @property
    def reusable(self) -> int | None:
        """Tokens in those blocks: what an engine that evicted nothing takes from its cache."""
        return None if self.blocks is None or self.block_size is None else self.blocks * self.block_size


def shared_prefix(a: Encoding, b: Encoding) -> int:
    """How many tokens two prompts have in common from the start. Pieces that are the same object are not compared."""
    total = 0
    for mine, other in zip(a.pieces, b.pieces, strict=False):
        if mine is not other and mine.ids != other.ids:
            break
        total += len(mine.ids)
    return total + common_length(_from(a, total), _from(b, total))


def shared_with_reply(before: Encoding, generated: Sequence[int], now: Encoding) -> int:
    """How many tokens a prompt shares with an earlier one followed by what was generated for it."""
    tokens = shared_prefix(before, now)
    if tokens < len(before):
        return tokens
    return tokens + common_length(generated, _from(now, tokens))


def _from(encoding: Encoding, start: int) -> list[int]:
    out: list[int] = []
    for piece in encoding.pieces:
        if start >= len(piece.ids):
            start -= len(piece.ids)
            continue
        out += piece.ids[start:]
        start = 0
    return out


def common_length(a: Sequence[int] | str, b: Sequence[int] | str) -> int:
    """How far two sequences are the same from the start."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
