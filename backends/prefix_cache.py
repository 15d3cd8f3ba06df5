"""Keys and values of past prompts, kept so that a prompt that begins like one of them is computed from there on."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Kept:
    ids: tuple[int, ...]
    salt: str | None
    past: Any
    nbytes: int


class PrefixCache:
    """The most recently used pasts of single prompts, within `max_bytes`. Not thread-safe.

    A past is a transformers DynamicCache of one row, of a model for which `can_be_cut`: a layer with a sliding window
    or a state can't be taken back to a prefix. Nothing kept is ever changed: a step on a past makes new tensors.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: list[_Kept] = []  # least recently used first

    def find(self, ids: Sequence[int], salt: str | None) -> tuple[int, Any]:
        """How many tokens of a prompt are there, and their past; (0, None) for none. One token is always left over,
        as the logits behind a prompt are those of a step."""
        asked = tuple(ids[:-1])
        best, length = None, 0
        for kept in self._kept:
            if kept.salt == salt and (shared := _shared(kept.ids, asked)) > length:
                best, length = kept, shared
        if best is None:
            return 0, None
        self._kept.remove(best)
        self._kept.append(best)
        return length, _cut(best.past, len(best.ids) - length)

    def keep(self, ids: Sequence[int], salt: str | None, past: Any) -> None:
        """Keep the past of a prompt and its answer. `ids` may be longer: the last token has no keys yet."""
        known = tuple(ids[: int(past.get_seq_length())])
        nbytes = sum(layer.keys.nbytes + layer.values.nbytes for layer in past.layers)
        # What a longer past contains is not kept twice.
        self._kept = [k for k in self._kept if k.salt != salt or k.ids != known[: len(k.ids)]]
        if known and nbytes <= self._max_bytes:
            self._kept.append(_Kept(known, salt, past, nbytes))
        while sum(k.nbytes for k in self._kept) > self._max_bytes:
            del self._kept[0]

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()


def can_be_cut(config: Any) -> bool:
    """Whether the pasts of a model with these settings can be cut to a prefix: each layer keeps all its tokens."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    layers = DynamicCache(config=config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _cut(past: Any, tokens: int) -> Any:
    """A past without the last `tokens`, of its own; the tensors are shared."""
    out = copy.copy(past)
    out.layers = [copy.copy(layer) for layer in past.layers]
    if tokens:
        out.crop(-tokens)
    return out


def _shared(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many tokens two prompts have in common from the start; by halves, as comparing slices is quick."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
