"""A reranker that reads the query and a text together, through the package sentence-transformers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from agentmem.backends.model_inputs import by_length, encodable
from agentmem.errors import BackendError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_EXTRA = ("cpu", "sentence-transformers")
# Characters a batch, the query counted with each text.
_BATCH_CHARS = 16_384
# Characters of a query and of a text that are read, per token of the model's length: more than tokens have. The
# tokenizer keeps what it cuts, each piece of the query with each piece of the text, and a long pair would fill memory.
_CHARS_PER_TOKEN = 8
_LONGEST = 8192
_HEAD = "ForSequenceClassification"


class CrossEncoderReranker:
    """A cross-encoder by its Hugging Face name or by its folder; a name that is not in the cache is downloaded.

    The scores are the model's logits (no sigmoid: that makes the best ones equal), in its own number format. A pair
    beyond the model's length is cut at the end of the longer one; of query and text, 8 characters a token of that
    length are read. `device` is a torch device, None the best there is. Thread-safe.
    Raises MissingExtraError (extra `cpu`) without the package, ConfigError for no name.
    """

    def __init__(self, model: str, device: str | None = None) -> None:
        if not model:
            raise ConfigError("reranker", model, "names no model", hint="give a Hugging Face name or a folder")
        if find_spec("sentence_transformers") is None:
            raise MissingExtraError(f"the reranker cross-encoder:{model}", *_EXTRA)
        self.name = f"cross-encoder:{model}"
        self._path = model
        self._device = device
        self._lock = threading.Lock()
        self._model: Any = None

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """One score per text, higher is better, float32 of shape (len(texts),).

        Raises BackendError for a model that can't be loaded, that gives more than one number a pair, or no number.
        """
        import numpy as np

        scores = np.empty(len(texts), dtype=np.float32)
        if not texts:
            return scores
        model = self._loaded()
        chars = _CHARS_PER_TOKEN * min(int(model.max_seq_length or _LONGEST), _LONGEST)
        asked, *plain = (encodable(t[:chars]) for t in (query, *texts))
        for batch in by_length([len(asked) + len(t) + 1 for t in plain], _BATCH_CHARS):
            scores[batch] = self._predict(model, [(asked, plain[i]) for i in batch])
        return scores

    def _predict(self, model: Any, pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
        import numpy as np
        import torch

        try:
            found = model.predict(
                pairs, batch_size=len(pairs), show_progress_bar=False, activation_fn=torch.nn.Identity()
            )
        except (RuntimeError, ValueError, TypeError, IndexError) as e:
            raise BackendError(f"{self.name} failed: {e}") from e
        scores = np.asarray(found, dtype=np.float32)
        if scores.shape != (len(pairs),):
            raise BackendError(
                f"{self.name} gave an array of shape {scores.shape} for {len(pairs)} pairs",
                hint="give a model with one score a pair (num_labels 1)",
            )
        if not np.isfinite(scores).all():
            raise BackendError(f"{self.name} gave a score that is no number")
        return scores

    def _loaded(self) -> Any:
        with self._lock:
            if self._model is None:
                try:
                    from sentence_transformers import CrossEncoder
                except ImportError as e:
                    raise MissingExtraError(f"the reranker {self.name}", _EXTRA[0], e.name or _EXTRA[1]) from e
                from agentmem.backends.loading import load_errors, quiet_loading

                try:
                    with quiet_loading():
                        model = CrossEncoder(self._path, device=self._device)
                except load_errors() as e:
                    raise BackendError(
                        f"{self.name} can't be loaded: {e}",
                        hint="give a folder, or a Hugging Face name that is cached or can be downloaded",
                    ) from e
                self._check_head(model.model)
                self._model = model
            return self._model

    def _check_head(self, network: Any) -> None:
        """A checkpoint without a scoring head gets a random one, with a warning only: its scores mean nothing."""
        stored = getattr(getattr(network, "config", None), "architectures", None) or []
        if type(network).__name__.endswith(_HEAD) and stored and not any(a.endswith(_HEAD) for a in stored):
            raise BackendError(
                f"{self.name} is a {', '.join(stored)}, which has no layer that scores a pair",
                hint="give a cross-encoder; late-interaction scores with a plain encoder",
            )
