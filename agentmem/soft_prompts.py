"""Soft prompts: a text as rows in a model's embedding space, shorter than its tokens. A door for encoders that were
trained for exactly one model (ICAE, AutoCompressor); agentmem brings the contracts, no encoder and no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from agentmem.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.types import Completion, Request


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SoftPrompt:
    """What stands first in a prompt instead of tokens: `rows`, float32 of shape (tokens, hidden), as the model's first
    layer takes them, and the fingerprint of the `model` that they were made for.

    The rows are copied, and can't be written. Raises ConfigError for another type, dtype or shape, for no rows, and
    for NaN and infinity.
    """

    rows: NDArray[np.float32]
    model: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", _checked(self.rows))
        if not self.model:
            hint = "give the fingerprint of the model that the encoder was trained for"
            raise ConfigError("model", self.model, "a soft prompt fits one model only", hint=hint)

    def __repr__(self) -> str:
        return f"SoftPrompt({len(self)} rows of {self.hidden}, model {self.model[:12]})"

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    @property
    def hidden(self) -> int:
        """Length of a row."""
        return int(self.rows.shape[1])


def _checked(rows: Any) -> NDArray[np.float32]:
    import numpy as np

    if not isinstance(rows, np.ndarray):
        hint = "of a torch tensor: tensor.detach().float().cpu().numpy()"
        raise ConfigError("rows", type(rows).__name__, "must be a numpy array", hint=hint)
    what = f"{rows.dtype} {rows.shape}"
    if rows.dtype != np.float32:
        raise ConfigError("rows", what, "must be float32", hint="rows.astype(numpy.float32)")
    if rows.ndim != 2 or 0 in rows.shape:
        hint = "one row for each place in the prompt; for no soft prompt give None"
        raise ConfigError("rows", what, "must be of shape (tokens, hidden), both at least 1", hint=hint)
    if not bool(np.isfinite(rows).all()):
        hint = "look for an overflow in the encoder: float16 ends at 65504"
        raise ConfigError("rows", what, "holds NaN or infinity", hint=hint)
    kept = np.array(rows, order="C", copy=True)
    kept.setflags(write=False)
    return kept


class SoftPromptEncoder(Protocol):
    """Turns texts into soft prompts of one model: what a plug-in brings.

    Laws: `encode` returns one result per text, in order; [] for []. A result is None for what it can't make shorter: it
    has fewer rows than its text has tokens of that model. The same text gives the same rows up to rounding, whatever
    else is in the batch. Each result's `model` is the encoder's. Failures are `CompressionError`. Constructing one is
    cheap: weights load at the first `encode`.
    """

    @property
    def model(self) -> str:
        """Fingerprint of the model that it was trained for; a constant that its author writes down."""
        ...

    def encode(self, texts: Sequence[str]) -> list[SoftPrompt | None]:
        """One soft prompt per text."""
        ...


@runtime_checkable
class SoftPromptBackend(Protocol):
    """A backend that can put a soft prompt before a prompt.

    Laws: rows that are the model's own embeddings of some tokens give what those tokens give. The usage counts a row as
    a token of the prompt. ConfigError for a soft prompt of another model or another row length, and where the backend
    was not made for soft prompts; BadRequestError where rows and prompt together are too long. All requests are
    looked at before the first is sent, and the backend answers on afterwards.
    """

    def soft_prompt_model(self) -> str:
        """Fingerprint of the model that it runs; may read the model's files. ConfigError where it takes none."""
        ...

    def generate_with(self, requests: Sequence[Request], soft: Sequence[SoftPrompt | None]) -> list[Completion]:
        """Answer the requests, each with the soft prompt of the same place before it (None: without)."""
        ...
