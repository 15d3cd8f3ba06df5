"""What the compressors through the package llmlingua share: options, model, lock, and its failures as agentmem's."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agentmem.compression import Compressed, CompressionRequest
from agentmem.compressors.budgeted import fitted, total_tokens
from agentmem.compressors.causal_scorer import checked_path, digest, short_of_memory
from agentmem.compressors.model_options import options_of, words_of
from agentmem.cutting import Cutting, cutting
from agentmem.errors import CompressionError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGE_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the package raises for texts that it can't take."""
_HALF_PAIR = re.compile("[\ud800-\udfff]")

P = TypeVar("P")
T = TypeVar("T")


class PackageCompressor(Generic[P]):
    """A compressor over a `P` of `agentmem.compressors.llmlingua_package`, loaded at the first `compress`.

    A class of its own gives `name`, `_version`, `_defaults` (with `rate`, `keep`, `device` and `dtype`), `_check`,
    `_load` and `_judged`.
    """

    name = ""
    question_aware = False
    joint = False
    _version = 1
    _defaults: Mapping[str, Any]

    def __init__(self, target: str, **options: Any) -> None:
        path, given = options_of(target, options, self._defaults)
        self._path = checked_path(path)
        number(given, "rate", 0.0, 1.0)
        self._check(given)
        for package in ("llmlingua", "torch", "transformers"):
            if find_spec(package) is None:
                raise MissingExtraError(f"the compressor {self.name}:{path}", "llmlingua", package)
        self._keep = words_of(given["keep"])
        self._given = given
        self._turn = threading.Lock()
        self._package: P | None = None

    @property
    def fingerprint(self) -> str:
        """The algorithm's version, its settings and its model."""
        settings = ",".join(f"{k}={v}" for k, v in sorted(self._given.items()) if k not in ("keep", "device"))
        return f"{self.name}/{self._version}/{settings}/{','.join(sorted(self._keep))}/{digest(self._path)}"

    def compress(self, requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
        """Compress, one request after the other, so that no result depends on its neighbours; what the model says of a
        text at any target is asked once for all of them."""
        known: dict[Hashable, Any] = {}  # of this call alone: nothing of a text stays here that was erased elsewhere
        return [self._one(r, known) for r in requests]

    def _one(self, request: CompressionRequest, known: dict[Hashable, Any]) -> Compressed | None:
        if total_tokens(request) <= request.target_tokens or request.target_tokens < 1:
            return None
        found = cutting(request.parts, self._keep)
        if not found.units:
            return None
        with self._turn:
            scores, there = self._judged(request, found, known)
        return fitted(request, found, scores, there=there, rate=float(self._given["rate"]))

    def _check(self, given: Mapping[str, Any]) -> None:
        """Raises ConfigError for an option of the class's own that is none."""
        raise NotImplementedError

    def _load(self) -> P:
        """The package's object over the model."""
        raise NotImplementedError

    def _judged(
        self, request: CompressionRequest, found: Cutting, known: dict[Hashable, Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
        """The arguments `scores` and `there` of `fitted`. `known` is what was found for earlier requests of a call."""
        raise NotImplementedError

    def _loaded(self) -> P:
        if self._package is None:
            self._package = self._load()
        return self._package

    def _asked(self, ask: Callable[[], T]) -> T:
        """What the package gives. Raises CompressionError when it fails, or memory is short."""
        try:
            return ask()
        except (*PACKAGE_ERRORS, MemoryError) as e:
            if isinstance(e, MemoryError) or "memory" in str(e).lower():
                raise short_of_memory(self.name, "a text") from e
            first = (str(e).splitlines() or [""])[0][:200]
            problem = f"the package llmlingua failed: {type(e).__name__}: {first}"
            hint = "the text is used as it is; another model, or the compressor extractive, may take it"
            raise CompressionError(self.name, problem, hint=hint) from e


def sound(text: str) -> str:
    """A text of the same length that tokenizers can read."""
    return _HALF_PAIR.sub("\ufffd", text)


def number(given: Mapping[str, Any], option: str, least: float, most: float) -> None:
    """Raises ConfigError for an option that is no number from `least` to `most`."""
    value = given[option]
    right = isinstance(value, int if isinstance(least, int) else int | float) and not isinstance(value, bool)
    if not right or not least <= value <= most:
        what = "a whole number" if isinstance(least, int) else "a number"
        raise ConfigError(option, value, f"must be {what} from {least} to {most}", hint=f"leave {option} out")
