"""What the workers of a run are told, once: the settings of `reflect` as values that can go to another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from agentmem import __version__
from agentmem.errors import ConfigError
from agentmem.reflection.budget import Budget
from agentmem.reflection.job import BATCH_SIZE
from agentmem.reflection.strategies import DEFAULT, form_of, make_strategy


@dataclass(frozen=True, slots=True)
class Orders:
    """The settings of a run by workers. `strategies` (one spec, or several), `backend` and `embedder` are specs;
    `window` is of the memories, in tokens (None: as the backend or the settings say); `budget` holds over all workers
    together; `again`, `seed` and `batch_size` are as of `reflect`."""

    strategies: tuple[str, ...] | str = DEFAULT
    backend: str | None = None
    embedder: str = "auto"
    window: int | None = None
    again: bool = False
    seed: int = 0
    batch_size: int = BATCH_SIZE
    budget: Budget = field(default_factory=Budget)

    @property
    def named(self) -> tuple[str, ...]:
        """The strategies' specs."""
        return (self.strategies,) if isinstance(self.strategies, str) else tuple(self.strategies)

    def checked(self) -> Self:
        """Raises ConfigError and UnknownNameError for what no worker could do."""
        for spec in self.named:
            if not isinstance(spec, str):
                raise ConfigError(
                    "strategies", spec, "an object can't go to another process",
                    hint="name it: package.module:Class, or package.module:Class?option=value",
                )  # fmt: skip
        made = [make_strategy(s) for s in self.named]
        if not made:
            raise ConfigError("strategies", self.strategies, "names none")
        if len({s.name for s in made}) < len(made):
            raise ConfigError("strategies", [s.name for s in made], "one is named twice")
        for name in ("backend", "embedder"):
            if not isinstance(getattr(self, name), str | None):
                raise ConfigError(
                    name, getattr(self, name), "an object can't go to another process", hint="give a spec"
                )
        if self.batch_size < 1:
            raise ConfigError("batch_size", self.batch_size, "must be at least 1")
        for strategy in made:
            form_of(strategy, self.backend not in (None, "extractive"))
        return self

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON; `of_dict` is the inverse."""
        return {**asdict(self), "strategies": list(self.named), "version": __version__}

    @classmethod
    def of_dict(cls, value: Mapping[str, Any]) -> Self:
        """What `to_dict` wrote. Raises ConfigError when another version of agentmem did."""
        fields = dict(value)
        if (version := fields.pop("version")) != __version__:
            raise ConfigError(
                "version", version, f"a worker has agentmem {__version__}", hint="install the same version everywhere"
            )
        fields |= {"strategies": tuple(fields["strategies"]), "budget": Budget(**fields["budget"])}
        return cls(**fields)
