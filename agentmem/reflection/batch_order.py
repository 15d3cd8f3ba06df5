"""In which order requests are asked, so that those of one prefix find it in the engine's prefix cache.

An engine's cache holds whole blocks, each known by all tokens up to its end, and forgets those unused for longest. So
requests that begin alike are asked one after another: first all that share the longest prefix, then all that share a
shorter one with them, and so on (a depth-first walk of the trie of prefixes). One after another, this computes each
distinct block once, whatever the cache holds, if it holds the longest prompt; no order computes fewer. An engine that
runs many requests at once has no such proof; `benchmarks/batch_prefix.py` measures one.

Within a group the longest expected answer comes first, so that a batch does not end waiting for it. That request is
also the one whose prompt fills the cache for the rest: an engine takes a batch in its order and finds blocks from the
moment they are scheduled (vLLM 0.32 does so within one step), so the rest need no batch of their own.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmem.errors import BadRequestError, ConfigError
from agentmem.protocols import PromptTokenizer
from agentmem.reflection.prefix_trie import PrefixTrie

if TYPE_CHECKING:
    from agentmem.protocols import TokenCounter
    from agentmem.types import Request

BLOCK_SIZE = 16
"""Tokens, where the engine does not say: vLLM's default on GPUs. An order of these blocks keeps larger ones, of a
multiple of them, together too."""
CHARACTERS = 4
"""Of a token, where there is no tokenizer."""
_WIDTH = 4  # bytes of a token's id, and of a character


@dataclass(frozen=True, slots=True)
class BlockCount:
    """Whole blocks of `block_size` tokens in prompts of `prompt_tokens` tokens together.

    A prompt's last token is always computed, so a block that ends with it is left out. `exact` is False where tokens
    were estimated from characters.
    """

    block_size: int
    total_blocks: int
    distinct_blocks: int
    prompt_tokens: int
    exact: bool

    @property
    def shared(self) -> int:
        """Blocks that another prompt has as well and that need not be computed again."""
        return self.total_blocks - self.distinct_blocks

    @property
    def prefill_tokens(self) -> int:
        """Tokens to compute when each distinct block is computed once."""
        return self.prompt_tokens - self.shared * self.block_size


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Requests' numbers in the order in which they are to be asked, and their blocks."""

    order: tuple[int, ...]
    blocks: BlockCount

    def batches(self, size: int) -> Iterator[list[int]]:
        """The order in runs of at most `size`; a group may go over into the next batch, where it finds its blocks."""
        if size < 1:
            raise ConfigError("batch_size", size, "must be at least 1")
        for start in range(0, len(self.order), size):
            yield list(self.order[start : start + size])


def arranged(
    requests: Sequence[Request], counter: TokenCounter, block_size: int | None = None, min_saved: int = 0
) -> Arrangement:
    """Requests ordered for a prefix cache of blocks of `block_size` tokens (None: not known, 16).

    Groups that would save no more than `min_saved` blocks are not kept together; 0 computes the least. A
    `PromptTokenizer` gives the tokens themselves, in the time that it takes to encode every prompt; with another
    counter, four characters of the messages stand for a token. Requests of different `cache_salt` share nothing. Equal
    requests come one after another. The same requests give the same order.
    Raises ConfigError for a block size below 1.
    """
    trie, tails, tokens, exact = _trie(requests, counter, block_size or BLOCK_SIZE, block_size)
    same: dict[tuple[int, bytes, int], int] = {}
    rank = [
        (-request.max_tokens, same.setdefault((*tail, request.max_tokens), n))
        for n, (request, tail) in enumerate(zip(requests, tails, strict=True))
    ]
    blocks = BlockCount(block_size or BLOCK_SIZE, trie.total_blocks, trie.distinct_blocks, tokens, exact)
    return Arrangement(tuple(trie.order(rank, min_saved)), blocks)


def in_batches(requests: Sequence[Request], counter: TokenCounter, size: int) -> Iterator[list[int]]:
    """The numbers of the requests, in batches of at most `size`, in the order in which they are to be asked."""
    return arranged(requests, counter).batches(size)


def predicted(requests: Sequence[Request], counter: TokenCounter, block_size: int | None = None) -> BlockCount:
    """The blocks of the requests' prompts, and how many of them are distinct."""
    return arranged(requests, counter, block_size).blocks


def paths(requests: Sequence[Request], counter: TokenCounter, block_size: int | None = None) -> list[tuple[int, ...]]:
    """Each request's blocks as numbers: equal numbers are equal blocks after equal blocks."""
    trie, *_ = _trie(requests, counter, block_size or BLOCK_SIZE, block_size)
    return [trie.path(n) for n in range(len(trie))]


def _trie(
    requests: Sequence[Request], counter: TokenCounter, size: int, given: int | None
) -> tuple[PrefixTrie, list[tuple[int, bytes]], int, bool]:
    """The trie; of each request its end there and what follows it; all tokens; whether they are exact."""
    if given is not None and given < 1:
        raise ConfigError("block_size", given, "must be at least 1")
    tokenizer = counter if isinstance(counter, PromptTokenizer) else None
    unit = 1 if tokenizer is not None else CHARACTERS
    step = size * unit * _WIDTH
    trie, tails, total = PrefixTrie(), [], 0
    for request in requests:
        prompt = _encoded(request, tokenizer)
        total += len(prompt) // (_WIDTH * unit)
        # The last token is computed whatever is cached, so it is in no block.
        whole = max(0, len(prompt) - _WIDTH * unit) // step
        end = trie.add([prompt[n * step : (n + 1) * step] for n in range(whole)], request.cache_salt)
        tails.append((end, prompt[whole * step :]))
    return trie, tails, total, tokenizer is not None


def _encoded(request: Request, tokenizer: PromptTokenizer | None) -> bytes:
    """A prompt as bytes, four a token or a character."""
    if tokenizer is not None:
        try:
            return array("I", tokenizer.encode_prompt(request.messages, request.tools).ids).tobytes()
        except BadRequestError:
            return b""  # it has no prompt; the backend says why when it is asked
    tools = "".join(f"{t.name}\n{t.description}\n{t.parameters}\n" for t in request.tools)
    text = tools + "".join(f"{m.role}\n{m.content}\n" for m in request.messages)
    return text.encode("utf-32-le", "surrogatepass")
