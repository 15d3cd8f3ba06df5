"""Embeddings of an OpenAI-compatible server."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from agentmem.backends.http import HttpClient, split_target
from agentmem.backends.http_replies import Reply
from agentmem.backends.served_model import ServedModel
from agentmem.backends.server_tokens import ServerCounter
from agentmem.errors import ConfigError
from agentmem.protocols import TokenCounter
from agentmem.tokens import cut_text
from agentmem.types import InputType

if TYPE_CHECKING:
    import httpx
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 128
# The smallest limit of the models in common use, for servers that state none.
_USUAL_MAX_TOKENS = 512
# A model adds its own marks at both ends.
_SPECIAL_TOKENS = 2


class OpenAIEmbedder:
    """`POST /embeddings` at `http://host:port/v1#model`; without `#model`, of the server's only model.

    Settings and errors as in OpenAIBackend. Texts longer than `max_tokens` are cut here, as servers refuse them;
    it is the server's `max_model_len` unless given (512 where the server states none). Sends no instruction for
    queries: `input_type` makes no difference. Thread-safe.
    """

    def __init__(
        self,
        target: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 3,
        max_tokens: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        url, model = split_target(target)
        if max_tokens is not None and max_tokens <= _SPECIAL_TOKENS:
            raise ConfigError("max_tokens", max_tokens, f"must be above {_SPECIAL_TOKENS}")
        self._http = HttpClient(
            url, api_key=api_key, timeout_s=timeout_s, max_retries=max_retries, sleep=sleep, transport=transport
        )
        self._served = ServedModel(self._http, model)
        self._counter = ServerCounter(self._http, self._served.id)
        self._max_tokens = max_tokens
        self._dim: int | None = None
        self._model_id = model

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self._http.url!r}, model={self._model_id!r})"

    @property
    def model_id(self) -> str:
        """The model's name; asks the server when none was given."""
        if self._model_id is None:
            self._model_id = self._served.id()
        return self._model_id

    @model_id.setter
    def model_id(self, name: str) -> None:
        self._model_id = name

    @property
    def max_tokens(self) -> int:
        """Where a text is cut, in tokens; may ask the server."""
        if self._max_tokens is None:
            self._max_tokens = max(self._served.max_tokens() or _USUAL_MAX_TOKENS, _SPECIAL_TOKENS + 1)
        return self._max_tokens

    @max_tokens.setter
    def max_tokens(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens

    @property
    def dim(self) -> int:
        """Length of a row; embeds a word to learn it."""
        if self._dim is None:
            self.embed(["dimension"], input_type="document")
        assert self._dim is not None
        return self._dim

    @property
    def counter(self) -> TokenCounter:
        """Counts by the server's /tokenize; an estimate, and named so, where it has none."""
        return self._counter

    def embed(self, texts: Sequence[str], *, input_type: InputType) -> NDArray[np.float32]:
        """One unit row per text, float32 of shape (len(texts), dim), in requests of 128.

        Raises BackendError; BadCompletionError when rows are missing, ragged, zero or no finite numbers.
        """
        import numpy as np

        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        cut = [self._cut(t) for t in texts]
        return np.concatenate([self._batch(cut[i : i + _BATCH]) for i in range(0, len(cut), _BATCH)])

    def close(self) -> None:
        """Close the connections; may be called twice."""
        self._http.close()

    def _cut(self, text: str) -> str:
        room = self.max_tokens - _SPECIAL_TOKENS
        # No token is shorter than a byte: most texts need no count, which may cost a request.
        if len(text.encode("utf-8", "replace")) > room:
            text = text[: cut_text(text, room, self._counter)]
        return text or " "  # servers refuse the empty text

    def _batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        model = self._served.id()
        body = {"model": model, "input": list(texts), "encoding_format": "float"}
        reply = self._http.post(f"{self._http.url}/embeddings", body, model=model)
        vectors = _vectors(reply, len(texts))
        dims = {len(v) for v in vectors} | ({self._dim} if self._dim is not None else set())
        if len(dims) != 1 or 0 in dims:
            raise reply.bad(f"has vectors of unequal or no length ({', '.join(map(str, sorted(dims)))})")
        try:
            rows = np.asarray(vectors, dtype=np.float64)
        except (TypeError, ValueError) as e:
            raise reply.bad("has a vector that holds something else than numbers") from e
        if rows.ndim != 2:
            raise reply.bad("has a vector that holds something else than numbers")
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or bool((lengths == 0).any()):
            raise reply.bad("has a vector that is zero, or not finite")
        self._dim = rows.shape[1]
        unit: NDArray[np.float32] = (rows / lengths).astype(np.float32)
        return unit


def _vectors(reply: Reply, count: int) -> list[list[Any]]:
    """The embeddings in the order of the texts."""
    data = reply.body.get("data") if isinstance(reply.body, dict) else None
    if not isinstance(data, list) or len(data) != count:
        got = len(data) if isinstance(data, list) else "no"
        raise reply.bad(f"has {got} embeddings for {count} texts")
    placed: dict[int, list[Any]] = {}
    for row in data:
        index = row.get("index") if isinstance(row, dict) else None
        vector = row.get("embedding") if isinstance(row, dict) else None
        if type(index) is not int or not isinstance(vector, list):
            raise reply.bad("has an embedding without an index or a vector")
        placed[index] = vector
    if sorted(placed) != list(range(count)):
        raise reply.bad("has embeddings with wrong indices")
    return [placed[i] for i in range(count)]
