"""The contracts between the kernel and its drivers. Each docstring states laws; `agentmem.testing` checks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.compression import Compressed, CompressionRequest, Part
    from agentmem.encoding import Encoding, ToolMode
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

    def count_message(self, message: ChatMessage) -> int:
        """Tokens that a message adds to a prompt."""
        ...

    def count_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens of the whole prompt."""
        ...


@runtime_checkable
class PromptTokenizer(Protocol):
    """A `TokenCounter` that knows the tokens themselves, so that the ledger and the reusable prefix are exact.

    Laws: `len(encode_prompt(m, t)) == count_prompt(m, t)`; its ids are those that the model is given, the opening of
    the reply included. `incremental`: a prompt's unchanged messages are not tokenised again; `how` says in a line how
    prompts are counted, and why not incrementally where they are not. `rerendered(message, ids)` is "" when an
    assistant message stands in later prompts with the token ids that the model generated for it (what follows the last
    of them in the template does not count), else the cause in words.
    """

    @property
    def incremental(self) -> bool:
        """Whether a turn's cost is that of its new messages alone."""
        ...

    @property
    def how(self) -> str:
        """How prompts are counted, in a line."""
        ...

    def encode_prompt(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSpec] = ()) -> Encoding:
        """The prompt's tokens."""
        ...

    def rerendered(self, message: ChatMessage, ids: Sequence[int]) -> str:
        """The cause why a generated message would stand in the next prompt as other tokens; "" when it would not."""
        ...


class Backend(Protocol):
    """Runs a model.

    Laws: `generate` returns one completion per request, in order; [] for []; usage is filled in; the requests
    are not changed; every failure is a `BackendError` (or `ConfigError` for a request that can't be sent).
    `native_tools` says whether tool schemas are part of the prompt (the kernel then counts them).
    `context_window` is in tokens, None when it is not known. `describe()` says in a line what it is.
    """

    name: str

    @property
    def native_tools(self) -> bool:
        """Whether tool schemas are part of the prompt."""
        ...

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
class ModelBackend(Protocol):
    """A backend of a language model that says what it can do; both may ask the server, and raise BackendError."""

    def tool_modes(self) -> tuple[ToolMode, ...]:
        """The ways in which it can be given tools, best first; always ends in "off"."""
        ...

    @property
    def block_size(self) -> int | None:
        """Tokens of a block of its prefix cache; None when there is none, or it is not known."""
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


class Reranker(Protocol):
    """Scores texts against a query by reading both: a stronger, slower second look at the best candidates.

    Laws: `scores` returns float32 of shape (len(texts),), in the order of `texts`, all finite, (0,) for []; higher is
    better; a text's score depends on the query and that text alone, up to rounding, and not on chance. Scores are
    comparable within one query only. The empty query and the empty text are scored as any other. What is too long is
    cut. Failures are `BackendError`. Constructing one is cheap: weights load at the first `scores`.
    """

    name: str

    def scores(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """One score per text, higher is better."""
        ...


class Compressor(Protocol):
    """Makes texts shorter by leaving parts out, for what the agent reads.

    Laws: `compress` returns one result per request, in order; [] for []. A result is None unless it is smaller in the
    request's tokens, and None for texts that are within the target already: so a second pass to the same target changes
    nothing. It is never over the request's budget. The same request gives the same result. Of each sentence that is
    kept, what `agentmem.cutting` protects is kept: numbers, dates, ids, quoted strings, names, speaker labels,
    negations, and the words that the user named. Code fences and JSON are kept whole or left out whole, parts of one
    unit together or not at all. No word is cut, no sign garbled. `question_aware` says whether the query is read;
    `joint` that it weighs the parts of a request against each other, so that it wants all of a page at once.
    `fingerprint` names the algorithm, its version, model and settings: results are kept under it. Failures are
    `CompressionError`. Constructing one is cheap: models load at the first `compress`.
    """

    name: str

    @property
    def question_aware(self) -> bool:
        """Whether the query changes the result."""
        ...

    @property
    def joint(self) -> bool:
        """Whether the parts of a request are weighed against each other by a model of its own."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names all that a result depends on, the request apart."""
        ...

    def compress(self, requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
        """Compress, batch first."""
        ...


@runtime_checkable
class OffersForms(Protocol):
    """A `Compressor` that offers shorter forms of a text by itself, where others are asked for shares of its tokens.

    Laws: one list per part, in order; each form is a lawful result for a request of that part alone with a target of
    the form's own tokens; the longest first.
    """

    def forms(self, parts: Sequence[Part], query: str, counter: TokenCounter) -> list[list[Compressed]]:
        """Shorter forms of each part."""
        ...


class VectorIndex(Protocol):
    """Nearest neighbours by inner product over unit rows.

    Laws: ids are int64 >= 0; adding an id that is there replaces it; `search` returns at most `top_k`
    (id, cosine) pairs, best first, ties by lower id, never an id that was removed, never -1. The cosines are those of
    the float32 rows. With `allowed` it returns the best of those only, with `excluded` none of those: both are part of
    the search, never applied to its result; giving both is a ValueError. Search on an empty index is [].
    An exact index finds the nearest; an approximate one finds them all in a pool of a few dozen, and the share of them
    that its documentation states in a larger one; it always finds `top_k` when so many may be found.
    A new index of the same kind searches equally after `load(dict(index.parts()))`. Not thread-safe: the store
    serialises.
    """

    kind: str
    dim: int

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """Bytes of rows, codes and ids in memory."""
        ...

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add or replace rows."""
        ...

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Remove ids; unknown ones are ignored. Returns how many went."""
        ...

    def search(
        self,
        vector: NDArray[np.float32],
        *,
        top_k: int,
        allowed: NDArray[np.int64] | None = None,
        excluded: NDArray[np.int64] | None = None,
    ) -> list[tuple[int, float]]:
        """The nearest ids of one query vector of shape (dim,)."""
        ...

    def ids(self) -> NDArray[np.int64]:
        """All ids in the index, ascending."""
        ...

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """The whole index as named parts; never pickled. Names are unique.

        They stand for the index at the first step: what is added afterwards, under higher ids, is left out; what is
        removed while the steps are taken may be there or not. A part whose name begins with `bulk` is one in which a
        wrong byte can cost a neighbour and never make an answer wrong: it need not verify before it is used.
        """
        ...

    def load(self, parts: Mapping[str, bytes]) -> None:
        """Take over what `parts` gave, into an empty index. Raises IndexDamagedError when it can't be that."""
        ...
