"""The contracts between the kernel and its drivers. Each docstring states laws; `agentmem.testing` checks them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.types import ChatMessage, Chunk, Completion, InputType, Request, ToolSpec


class TokenCounter(Protocol):
    """Counts tokens as the served model does.

    Laws: `count("") == 0`; `count` is deterministic; `count_prompt(messages, tools)` is the whole prompt,
    chat template included, and is at least the sum of `count(m.content)` for additive counters.
    `additive` promises count(a + "\\n" + b) == count(a) + count(b); only then may parts be counted apart.
    `exact` is False for an estimate.
    """

    name: str
    exact: bool
    additive: bool

    def count(self, text: str) -> int:
        """Tokens of a text on its own, without special tokens."""
        ...

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens of the whole prompt."""
        ...


class Backend(Protocol):
    """Runs a model.

    Laws: `generate` returns one completion per request, in order; [] for []; usage is filled in; the requests
    are not changed; every failure is a `BackendError` (or `ConfigError` for a request that can't be sent).
    `native_tools` says whether tool schemas are part of the prompt (the kernel then counts them).
    `context_window` is in tokens, None when it is not known. `describe()` says in a line what it is.
    """

    name: str
    native_tools: bool

    @property
    def context_window(self) -> int | None:
        """The model's window in tokens; may ask the server."""
        ...

    @property
    def counter(self) -> TokenCounter:
        """Counts as the model does."""
        ...

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer the requests, batch first."""
        ...

    def describe(self) -> str:
        """One line for people: what answers here."""
        ...

    def close(self) -> None:
        """Free what it holds; may be called twice."""
        ...


@runtime_checkable
class StreamingBackend(Protocol):
    """A backend that can also stream.

    Laws: the chunk texts joined are the completion's text; only the last chunk carries the completion;
    closing the iterator early aborts the request.
    """

    def stream(self, request: Request) -> Iterator[Chunk]:
        """Answer one request piece by piece."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors.

    Laws: `embed` returns float32 of shape (len(texts), dim), each row of unit length, (0, dim) for [];
    the same text gives the same row up to rounding (cosine > 0.9999), whatever else is in the batch;
    the empty text has a row too. `model_id` names the weights. `max_tokens` is where a text is cut.
    Constructing one is cheap: weights load at the first `embed`, the `counter` (its own tokenizer) apart from them.
    `dim` may load the model.
    """

    @property
    def model_id(self) -> str:
        """Names the weights."""
        ...

    @property
    def max_tokens(self) -> int:
        """Where a text is cut."""
        ...

    @property
    def dim(self) -> int:
        """Length of a row."""
        ...

    @property
    def counter(self) -> TokenCounter:
        """Counts in the embedder's own tokens."""
        ...

    def embed(self, texts: Sequence[str], *, input_type: InputType) -> NDArray[np.float32]:
        """One unit row per text."""
        ...


class VectorIndex(Protocol):
    """Nearest neighbours by inner product over unit rows.

    Laws: ids are int64 >= 0; adding an id that is there replaces it; `search` returns at most `top_k`
    (id, cosine) pairs, best first, ties by lower id, never an id that was removed, never -1; with `allowed`
    it returns the best of those only, exactly (never filtered after the fact); search on an empty index is [].
    `from_bytes(to_bytes())` searches equally. Not thread-safe: the store serialises.
    """

    kind: str
    dim: int

    def __len__(self) -> int: ...

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add or replace rows."""
        ...

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Remove ids; unknown ones are ignored. Returns how many went."""
        ...

    def search(
        self, vector: NDArray[np.float32], *, top_k: int, allowed: NDArray[np.int64] | None = None
    ) -> list[tuple[int, float]]:
        """The nearest ids of one query vector of shape (dim,)."""
        ...

    def ids(self) -> NDArray[np.int64]:
        """All ids in the index, ascending."""
        ...

    def to_bytes(self) -> bytes:
        """The whole index; never pickled."""
        ...
