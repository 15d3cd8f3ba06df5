"""The settings of a model that runs in this process, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from agentmem.errors import ConfigError

_DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LocalSettings:
    """How a local model is loaded and run; see `HuggingFaceBackend`. Raises ConfigError for a value that can't be."""

    dtype: str = "auto"
    device: str = "auto"
    max_batch: int = 8
    context_window: int | None = None
    template: str | None = None
    timeout_s: float | None = None
    prefix_cache_gb: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        self._check("dtype", self.dtype in _DTYPES, f"is unknown; one of {', '.join(_DTYPES)}")
        for name in ("device", "template"):
            value = getattr(self, name)
            self._check(name, isinstance(value, str) or (value is None and name == "template"), "must be text")
        self._number("max_batch", int, 1)
        self._number("context_window", int, 2)
        self._number("prefix_cache_gb", float, 0)
        self._number("top_k", int, 0)
        for name in ("timeout_s", "top_p"):
            self._number(name, float, 0)
            self._check(name, getattr(self, name) != 0, "must be more than 0")
        self._check("top_p", self.top_p is None or self.top_p <= 1, "must be at most 1")

    @classmethod
    def of(cls, target: str, options: Mapping[str, Any]) -> LocalSettings:
        """Settings by name. Raises ConfigError for one that does not exist."""
        known = [f.name for f in fields(cls)]
        for name, value in options.items():
            if name not in known:
                close = get_close_matches(name, known, n=1)
                meant = f"did you mean {close[0]!r}? " if close else ""
                raise ConfigError(name, value, f"is no option of hf:{target}", hint=f"{meant}known: {', '.join(known)}")
        return cls(**options)

    def _check(self, name: str, right: bool, problem: str) -> None:
        if not right:
            raise ConfigError(name, getattr(self, name), problem)

    def _number(self, name: str, kind: type, least: int) -> None:
        value = getattr(self, name)
        kinds = (int,) if kind is int else (int, float)
        optional = value is None and type(self).__dataclass_fields__[name].default is None
        right = type(value) in kinds and least <= value < float("inf")
        what = "a whole number" if kind is int else "a number"
        self._check(name, optional or right, f"must be {what}, {least} or more")
