"""Decoding a batch of prompts step by step: prompts padded on the left, each with its own end, draws and grammar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from agentmem.backends.text_stream import TextStream

if TYPE_CHECKING:
    from agentmem.backends.causal_lm import CausalLM
    from agentmem.backends.sampling import Picker

# Tokens of a prompt's row in one pass: between two passes a stream can be closed and a time limit is kept.
_PASS = 1024


class Row:
    """One completion in the making: the prompt's `ids`, at most `max_tokens` more, `picker` for each of them.

    `out` is what was generated, without the token that ended it; `finish` is "" while it goes on, then "stop" or
    "length"; `num_generated` counts the ending token too, as servers do.
    """

    def __init__(
        self, ids: Sequence[int], max_tokens: int, picker: Picker, decode: Callable[[Sequence[int]], str]
    ) -> None:
        self.ids = list(ids)
        self.picker = picker
        self.out: list[int] = []
        self.finish = ""
        self.num_generated = 0
        self.text = ""
        self._max_tokens = max_tokens
        self._pieces = TextStream(decode)

    def take(self, token: int, ends: frozenset[int]) -> None:
        """Go on by a token."""
        self.num_generated += 1
        if token in ends:
            self.finish = "stop"
        else:
            self.out.append(token)
            self.text += self._pieces.feed(token)
            guide = self.picker.guide
            if guide is not None:
                guide.take(token)
            if guide is not None and guide.done:
                self.finish = "stop"
            elif len(self.out) >= self._max_tokens:
                self.finish = "length"
        if self.finish:
            self.text += self._pieces.end()


class Batch:
    """Rows that go through the network together.

    Left padding keeps the ends of all prompts in the last column; padded places are masked and positions count from
    each row's first token, so that a row computes what it would alone, up to rounding. A finished row leaves.
    `past` is that of the first `known` tokens of a batch of one row.
    """

    def __init__(
        self, model: CausalLM, rows: Sequence[Row], ends: frozenset[int], *, past: Any = None, known: int = 0
    ) -> None:
        import torch

        width = max(len(r.ids) for r in rows)
        padding = [width - len(r.ids) for r in rows]
        self.past = past
        self._model = model
        self._rows = list(rows)
        self._ends = ends
        self._at = known
        # 0 stands in the padded places: any token does, as none looks at it.
        ids = [[0] * n + r.ids for n, r in zip(padding, rows, strict=True)]
        mask = [[0] * n + [1] * len(r.ids) for n, r in zip(padding, rows, strict=True)]
        self._ids = torch.tensor(ids, dtype=torch.long, device=model.device)
        self._mask = torch.tensor(mask, dtype=torch.long, device=model.device)
        self._positions = (self._mask.cumsum(-1) - 1).clamp(min=0)

    def step(self) -> bool:
        """One pass: a stretch of the prompts, or one more token each. False when all rows are finished.

        Raises BackendError; the batch is of no use then.
        """
        end = min(self._at + _PASS, self._ids.shape[1])
        logits, self.past = self._model.step(
            self._ids[:, self._at : end], self._mask[:, :end], self._positions[:, self._at : end], self.past
        )
        self._at = end
        if end < self._ids.shape[1]:
            return True
        likeliest = logits.argmax(-1).tolist()
        tokens = [r.picker.pick(logits[n]) if not r.picker.plain else likeliest[n] for n, r in enumerate(self._rows)]
        for row, token in zip(self._rows, tokens, strict=True):
            row.take(token, self._ends)
        going = [n for n, r in enumerate(self._rows) if not r.finish]
        if going:
            self._go_on(going, tokens)
        return bool(going)

    def _go_on(self, going: list[int], tokens: list[int]) -> None:
        import torch

        if len(going) < len(self._rows):
            kept = torch.tensor(going, device=self._model.device)
            self._rows = [self._rows[n] for n in going]
            self._ids, self._mask, self._positions = self._ids[kept], self._mask[kept], self._positions[kept]
            self.past.reorder_cache(kept)
        new = torch.tensor([[tokens[n]] for n in going], dtype=torch.long, device=self._model.device)
        self._ids = torch.cat([self._ids, new], dim=1)
        self._mask = torch.cat([self._mask, torch.ones_like(new)], dim=1)
        self._positions = torch.cat([self._positions, self._positions[:, -1:] + 1], dim=1)
