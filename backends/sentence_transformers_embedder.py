"""Any model that the package sentence-transformers can load."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from agentmem.backends.model_inputs import by_length, encodable
from agentmem.backends.precision import Precision, check, uses_bfloat16
from agentmem.errors import BackendError, ConfigError, MissingExtraError
from agentmem.protocols import TokenCounter
from agentmem.tokens import AdditiveCounter
from agentmem.types import ChatMessage, InputType, ToolSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What a model without a stated limit gets: some have none, others state 10**30.
_UNLIMITED = 1_000_000
# Characters a batch, a text counted up to its limit: a token is seldom less than a character, so this bounds memory.
_BATCH_CHARS = 8192
# On another device than the processor, which wants more work at a time.
_DEVICE_BATCH_CHARS = 131_072
# What a model is tried on before its batches are computed in bfloat16, and the cosine that each must keep: a little
# above the law's 0.9999. Thanks and single words come out worst (benchmarks/embedding.py), so they are among them.
_PROBES = (
    "The quick brown fox jumps over the lazy dog on 7 May 2023.",
    "Where does she live now?",
    "ok, thanks a lot!",
    "Invoice INV-2041 is overdue by 30 days; the bank in Zürich wants 1,250.75 CHF.",
    "def area(r):\n    return 3.14159 * r ** 2",
    "東京は雨です。 Ça va très bien, merci 😀",
    "We talked about the garden, the roof and the dog, and in the end about nothing at all. " * 6,
)
_NEAR = 0.99992


class SentenceTransformerEmbedder:
    """A model by its Hugging Face name or by its folder; a name that is not in the cache is downloaded.

    Queries and documents get the model's own prompts where it has them. `device` is a torch device, None the best
    there is. `dim` and `max_tokens` load the model; the counter loads the tokenizer only. Thread-safe.

    One text in a call is computed in the model's own number format. A batch is computed in bfloat16 on a processor
    that multiplies it in hardware (AVX512-BF16, AMX), if the model bears it: it is tried on a few texts at the first
    batch, and each row must keep a cosine of 0.99992. `precision` "float32" is the model's own format for everything,
    "bfloat16" leaves the trial out. `batch_precision` says which it is.
    Raises ConfigError when there is no such model and MissingExtraError (extra `cpu`) without the package.
    """

    def __init__(self, name: str, device: str | None = None, precision: Precision = "auto") -> None:
        if not name:
            raise ConfigError("embedder", name, "names no model", hint="give a Hugging Face name or a folder")
        # Said now: looking for the tokenizer first would go over the network.
        if find_spec("sentence_transformers") is None:
            raise MissingExtraError(f"the embedder st:{name}", "cpu", "sentence-transformers")
        self.model_id = name
        self._device = device
        self._precision = check(precision)
        self._bfloat16: bool | None = None
        self._lock = threading.Lock()
        self._model: Any = None
        self._max_tokens: int | None = None

    @property
    def dim(self) -> int:
        """Length of a row."""
        return int(self._loaded().get_embedding_dimension())

    @property
    def max_tokens(self) -> int:
        """Where the model cuts a text, in its tokens. Assign to cut earlier."""
        if self._max_tokens is None:
            told = self._loaded().get_max_seq_length()
            self._max_tokens = int(min(told, _UNLIMITED)) if told else _UNLIMITED
        return self._max_tokens

    @max_tokens.setter
    def max_tokens(self, max_tokens: int) -> None:
        if max_tokens < 1:
            raise ConfigError("max_tokens", max_tokens, "must be 1 or more")
        self._loaded().max_seq_length = max_tokens
        self._max_tokens = max_tokens

    @cached_property
    def counter(self) -> TokenCounter:
        """Counts in the model's own tokens, exactly."""
        try:
            from transformers import AutoTokenizer
        except ImportError as e:
            raise MissingExtraError("a sentence-transformers model", "cpu", e.name or "transformers") from e
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model_id)
        except (OSError, ValueError):
            # Static models, and models in parts, keep it where only the package itself looks.
            tokenizer = self._loaded().tokenizer
        return _ModelCounter(tokenizer, self.model_id)

    @property
    def batch_precision(self) -> str:
        """What a batch is computed in here: "bfloat16", or "own" for the model's own format. Loads the model."""
        return "bfloat16" if self._in_bfloat16(self._loaded()) else "own"

    def embed(self, texts: Sequence[str], *, input_type: InputType) -> NDArray[np.float32]:
        """One unit row per text, float32 of shape (len(texts), dim). Raises BackendError for a zero or NaN row."""
        import numpy as np

        model = self._loaded()
        rows = np.empty((len(texts), self.dim), dtype=np.float32)
        if not texts:
            return rows
        name = "encode_query" if input_type == "query" else "encode_document"
        bfloat16 = self._precision == "bfloat16" or (len(texts) > 1 and self._in_bfloat16(model))
        plain = [encodable(t) for t in texts]
        budget = _BATCH_CHARS if model.device.type == "cpu" else _DEVICE_BATCH_CHARS
        limit = self.max_tokens
        for batch in by_length([min(len(t), limit) + 1 for t in plain], budget):
            rows[batch] = self._encode(model, name, [plain[i] for i in batch], bfloat16)
        return rows

    def _encode(self, model: Any, name: str, texts: list[str], bfloat16: bool) -> NDArray[np.float32]:
        import numpy as np
        import torch

        encode = getattr(model, name, model.encode)
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            found = encode(texts, batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True)
        rows = np.asarray(found, dtype=np.float64)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or bool((lengths == 0).any()):
            raise BackendError(f"{self.model_id} gave a row that is zero, or no number")
        unit: NDArray[np.float32] = (rows / lengths).astype(np.float32)
        return unit

    def _in_bfloat16(self, model: Any) -> bool:
        if self._bfloat16 is None:
            bears = uses_bfloat16(self._precision, model.device.type)
            if bears and self._precision == "auto":
                probes = [p[: 4 * self.max_tokens] for p in _PROBES]
                own, short = (self._encode(model, "encode_document", probes, bfloat16=b) for b in (False, True))
                bears = bool(((own * short).sum(axis=1) > _NEAR).all())
            self._bfloat16 = bears
        return self._bfloat16

    def _loaded(self) -> Any:
        with self._lock:
            if self._model is None:
                try:
                    from sentence_transformers import SentenceTransformer
                except ImportError as e:
                    missing = e.name or "sentence-transformers"
                    raise MissingExtraError("a sentence-transformers model", "cpu", missing) from e
                from agentmem.backends.loading import load_errors, quiet_loading

                try:
                    with quiet_loading():
                        self._model = SentenceTransformer(self.model_id, device=self._device)
                except load_errors() as e:
                    raise ConfigError(
                        "embedder",
                        self.model_id,
                        f"can't be loaded: {e}",
                        hint="give a folder, or a Hugging Face name that is cached or can be downloaded",
                    ) from e
            return self._model


class _ModelCounter:
    """Counts with a model's tokenizer. Not additive: most vocabularies join what stands around a line break."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self.name = f"{name} tokenizer"
        self.exact = True
        self.additive = False
        self._tokenizer = tokenizer
        # For the plain template and the cache; the promise of its `additive` is not passed on.
        self._plain = AdditiveCounter(self._count, name=self.name, exact=True)

    def count(self, text: str) -> int:
        """Tokens of a text on its own."""
        return self._plain.count(text)

    def count_message(self, message: ChatMessage) -> int:
        """Tokens of a message in the plain template."""
        return self._plain.count_message(message)

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens of the prompt in the plain template (an embedder has no chat template)."""
        return self._plain.count_prompt(messages, tools)

    def _count(self, text: str) -> int:
        encode = getattr(self._tokenizer, "encode", None)
        text = encodable(text)
        if callable(self._tokenizer):
            return len(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        if encode is None:
            raise BackendError(f"{self.name} can't count tokens")
        return len(encode(text, add_special_tokens=False).ids)
