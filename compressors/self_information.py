"""How much each token of a text tells a causal language model: I(x_t) = -log p(x_t | x_<t), in nats.

The quantity of Selective Context (arXiv 2310.06201, section 3.1) and of LongCodeZip (arXiv 2510.00446, section 3).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from agentmem.compressors.causal_scorer import LoadedModel, checked_path, digest, load, short_of_memory
from agentmem.errors import CompressionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_ROW = 2048
"""Tokens of a pass over one text, what it stands after included."""
MAX_SCORED = 1024
"""A text of more tokens is read by windows of as many, each half over the last."""
# Tokens of a pass, padding too. A CPU gains nothing from more, and has more padding to compute.
_CPU_TOKENS, _DEVICE_TOKENS = 512, 8192
_LOGIT_BYTES = 1 << 29
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text's tokens for the model, and (start, end) of each in the text."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of a pass: `count` tokens at the end of `ids` belong to the text `item`, from its token `first` on."""

    item: int
    first: int
    count: int
    ids: tuple[int, ...]


class SelfInformation:
    """Token self-information by the model in a folder, which is loaded at the first use. Thread-safe.

    Texts are batched by length, and a text that comes twice is read once. In float32 on a CPU what a batch changes is
    within 1e-5 nats.
    """

    def __init__(self, path: str, *, name: str, device: str = "auto", dtype: str = "auto") -> None:
        self.path = checked_path(path)
        self._name, self._device, self._dtype = name, device, dtype
        self._lock = threading.Lock()
        self._loaded: LoadedModel | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Names the model and how it computes."""
        return f"{digest(self.path)}/{self._dtype}/{self._device}"

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of texts, without any that begin or end a text."""
        tokenizer = self._model().tokenizer
        # Half of a surrogate pair has no bytes; another sign of the same length leaves all places as they are.
        plain = [_SURROGATE.sub("\ufffd", t) for t in texts]
        found = tokenizer.encode_batch(plain, add_special_tokens=False)
        return [Tokens(tuple(e.ids), tuple(e.offsets)) for e in found]

    def surprisals(self, items: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[NDArray[np.float64]]:
        """For each (context, text) as token ids the nats of each of the text's tokens: shape (tokens of the text,).

        A text stands after the token that begins texts, and its context. A context that the window has no room for
        loses its end. Raises CompressionError when memory is short or the model gives no numbers.
        """
        import numpy as np

        model = self._model()
        distinct = list(dict.fromkeys(items))
        out = [np.zeros(len(ids)) for _, ids in distinct]
        window = min(model.window, MAX_ROW)
        rows = [
            row for n, (context, ids) in enumerate(distinct) for row in _rows(n, (model.prefix,), context, ids, window)
        ]
        with self._lock:
            most = _CPU_TOKENS if model.device.type == "cpu" else _DEVICE_TOKENS
            for batch in _batches(rows, most, model.vocabulary):
                for row, values in zip(batch, self._pass(model, batch), strict=True):
                    out[row.item][row.first : row.first + row.count] = values
        if not all(bool(np.isfinite(values).all()) for values in out):
            raise CompressionError(self._name, f"the model {self.path} gives no numbers", hint="try dtype=float32")
        place = {item: n for n, item in enumerate(distinct)}
        return [out[place[item]] for item in items]

    def _model(self) -> LoadedModel:
        with self._lock:
            if self._loaded is None:
                self._loaded = load(self.path, name=self._name, device=self._device, dtype=self._dtype)
            return self._loaded

    def _pass(self, model: LoadedModel, rows: Sequence[_Row]) -> list[NDArray[np.float64]]:
        """One pass of the network: the nats of each row's scored tokens."""
        import torch

        width = max(len(r.ids) for r in rows)
        # Behind the text, where a causal model does not look back from.
        ids = torch.tensor([[*r.ids, *([model.prefix] * (width - len(r.ids)))] for r in rows], device=model.device)
        mask = torch.tensor([[1] * len(r.ids) + [0] * (width - len(r.ids)) for r in rows], device=model.device)
        begin = min(len(r.ids) - r.count for r in rows) - 1 if model.keeps else 0
        options: dict[str, Any] = {"logits_to_keep": width - begin} if model.keeps else {}
        try:
            with torch.inference_mode():
                logits = model.network(input_ids=ids, attention_mask=mask, use_cache=False, **options).logits
                out = []
                for n, row in enumerate(rows):
                    last = len(row.ids)
                    scores = logits[n, last - row.count - 1 - begin : last - 1 - begin].float()
                    said = ids[n, last - row.count : last]
                    out.append(torch.nn.functional.cross_entropy(scores, said, reduction="none").double().cpu().numpy())
                return out
        except (MemoryError, torch.OutOfMemoryError) as e:
            raise short_of_memory(self._name, f"a pass over {len(rows)} x {width} tokens") from e
        except (RuntimeError, ValueError, IndexError, TypeError) as e:
            if "memory" in str(e).lower():
                raise short_of_memory(self._name, f"a pass over {len(rows)} x {width} tokens") from e
            first = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise CompressionError(self._name, f"the model {self.path} failed: {first}") from e


def _rows(
    item: int, prefix: tuple[int, ...], context: tuple[int, ...], ids: tuple[int, ...], window: int
) -> Iterator[_Row]:
    """What is read for a text: one row, or windows of which each stands half on the tokens before it."""
    if not ids:
        return
    room = window - len(prefix)
    if len(ids) <= min(room, MAX_SCORED):
        head = context[: max(0, room - len(ids))]
        yield _Row(item, 0, len(ids), (*prefix, *head, *ids))
        return
    size = min(room, MAX_SCORED)
    yield _Row(item, 0, size, (*prefix, *ids[:size]))
    step = max(1, size // 2)
    for first in range(size, len(ids), step):
        count = min(step, len(ids) - first)
        yield _Row(item, first, count, (*prefix, *ids[first + count - size : first + count]))


def _batches(rows: Sequence[_Row], most_tokens: int, vocabulary: int) -> Iterator[list[_Row]]:
    """Rows of about one length together, as many as have room in a pass and its logits in memory."""
    most_scored = max(1, _LOGIT_BYTES // (4 * vocabulary))
    batch: list[_Row] = []
    width = scored = 0
    for row in sorted(rows, key=lambda r: (len(r.ids), r.count, r.item, r.first)):
        longest, most = max(width, len(row.ids)), max(scored, row.count)
        spread = longest - min((len(r.ids) for r in batch), default=longest)
        full = (len(batch) + 1) * longest > most_tokens or (len(batch) + 1) * (most + spread) > most_scored
        if batch and full:
            yield batch
            batch, longest, most = [], len(row.ids), row.count
        batch.append(row)
        width, scored = longest, most
    if batch:
        yield batch
