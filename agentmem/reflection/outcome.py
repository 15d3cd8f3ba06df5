"""What became of a job's changes, and of the job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from agentmem.reflection.budget import Estimate
from agentmem.reflection.changes import Change, of_json, to_json

if TYPE_CHECKING:
    from agentmem.reflection.strategy import Form

Fate = Literal["applied", "planned", "skipped", "rejected", "undone", "kept"]
"""skipped: what it rests on or changes is not as it was read; rejected: by the person who reviewed; kept: not undone,
since it was changed since."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A change and its fate. `made` is the ref of what it added; `before` what has to be restored."""

    number: int
    strategy: str
    change: Change
    fate: Fate
    reason: str = ""
    made: str | None = None
    before: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON."""
        return {
            "number": self.number, "strategy": self.strategy, "fate": self.fate, "reason": self.reason,
            "made": self.made, "change": to_json(self.change),
        }  # fmt: skip

    @classmethod
    def of_dict(cls, value: Mapping[str, Any]) -> Self:
        """What `to_dict` wrote; `before` is not in it."""
        return cls(**{**value, "change": of_json(value["change"])})


@dataclass(frozen=True, slots=True)
class StrategyReport:
    """What one strategy did for one agent. `estimate` was known before; `calls`, `prompt_tokens`, `completion_tokens`
    and `cached_tokens` (None: the backend does not say) are what it cost; `reused` answers came from an earlier, killed
    run. `rejected` are reasons why parts of answers were not taken; `proposals` what is left to a person to do."""

    name: str
    form: Form
    estimate: Estimate
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    reused: int = 0
    rejected: tuple[str, ...] = ()
    changes: tuple[Applied, ...] = ()
    proposals: tuple[str, ...] = ()

    def count(self, fate: Fate) -> int:
        """How many changes had a fate."""
        return sum(c.fate == fate for c in self.changes)


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job of one agent. `job` is None when there was nothing to do (and for a dry run). `state`: "done", "nothing
    new", "planned", or "stopped" with the `reason`; what was committed by then stays, and the next run goes on."""

    agent: str
    job: str | None
    state: Literal["done", "nothing new", "planned", "stopped"]
    reason: str
    strategies: tuple[StrategyReport, ...]
    seconds: float
    resumed: bool = False

    @property
    def changes(self) -> tuple[Applied, ...]:
        """Of all strategies, in order."""
        return tuple(c for s in self.strategies for c in s.changes)

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON."""
        return {
            "agent": self.agent, "job": self.job, "state": self.state, "reason": self.reason, "resumed": self.resumed,
            "seconds": round(self.seconds, 3),
            "strategies": [
                {
                    "name": s.name, "form": s.form, "estimate": asdict(s.estimate), "calls": s.calls,
                    "prompt_tokens": s.prompt_tokens, "completion_tokens": s.completion_tokens,
                    "cached_tokens": s.cached_tokens, "reused": s.reused, "rejected": list(s.rejected),
                    "changes": [c.to_dict() for c in s.changes], "proposals": list(s.proposals),
                }
                for s in self.strategies
            ],
        }  # fmt: skip

    @classmethod
    def of_dict(cls, value: Mapping[str, Any]) -> Self:
        """What `to_dict` wrote: seconds are rounded there, and the changes' `before` is left out."""
        strategies = tuple(
            StrategyReport(**{
                **s, "estimate": Estimate.of_dict(s["estimate"]), "rejected": tuple(s["rejected"]),
                "changes": tuple(Applied.of_dict(c) for c in s["changes"]),
                "proposals": tuple(s.get("proposals", ())),
            })
            for s in value["strategies"]
        )  # fmt: skip
        return cls(**{**value, "strategies": strategies})


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo restored, and what it left since it was changed after the job (with the reason of each)."""

    agent: str
    job: str
    undone: tuple[Applied, ...]
    kept: tuple[Applied, ...]

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON."""
        return {
            "agent": self.agent, "job": self.job, "undone": [a.to_dict() for a in self.undone],
            "kept": [a.to_dict() for a in self.kept],
        }  # fmt: skip
