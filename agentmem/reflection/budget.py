"""What a job may cost, and what it is expected to: known before it starts, and held to while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from agentmem.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a job may use of the model: calls, tokens (prompt and completion together), seconds of wall time.
    None: no limit."""

    max_calls: int | None = None
    max_tokens: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_calls", "max_tokens", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigError(name, value, "must not be negative")

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited: where they are not, no prompt has to be counted before it is asked."""
        return self.max_tokens is not None

    def spent(self, cost: Estimate, seconds: float) -> str:
        """Which limit something of this cost would go over, in words; "" when none."""
        if self.max_calls is not None and cost.calls > self.max_calls:
            return f"the budget of {self.max_calls} calls"
        if self.max_tokens is not None and cost.tokens > self.max_tokens:
            return f"the budget of {self.max_tokens} tokens"
        if self.max_seconds is not None and seconds > self.max_seconds:
            return f"the budget of {self.max_seconds:g} seconds"
        return ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What something costs: `records` to read, model `calls`, tokens in and at most out. `uncounted` says in words
    what can't be known before and is not in it."""

    records: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """In and out."""
        return self.prompt_tokens + self.completion_tokens

    @classmethod
    def of_dict(cls, value: Mapping[str, Any]) -> Self:
        """What `asdict` made of one."""
        return cls(**{**value, "uncounted": tuple(value.get("uncounted", ()))})

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.records + other.records, self.calls + other.calls, self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            tuple(dict.fromkeys((*self.uncounted, *other.uncounted))),
        )  # fmt: skip


def total(estimates: Iterable[Estimate]) -> Estimate:
    """The sum."""
    return sum(estimates, Estimate())
