"""Strategies by name: those of agentmem, and those that installed packages offer (entry points of the group
`agentmem.reflections`: a class, or anything that makes a `Strategy` from its options as keywords)."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from agentmem.errors import ConfigError, UnknownNameError
from agentmem.reflection.strategy import Form, Strategy
from agentmem.registry import load
from agentmem.spec_options import split_target

GROUP = "agentmem.reflections"
STRATEGIES = {
    "consolidate": "agentmem.reflection.consolidate:Consolidate",
    "forget": "agentmem.reflection.forget:Forget",
    "insights": "agentmem.reflection.insights:Insights",
    "keys": "agentmem.reflection.keys:Keys",
    "lessons": "agentmem.reflection.lessons:Lessons",
    "profile": "agentmem.reflection.profile:Profile",
    "summaries": "agentmem.reflection.summaries:Summaries",
}
DEFAULT = ("consolidate",)
"""What runs where nothing else is named: strategies that help on a measure (`benchmarks/reflection.py`,
`benchmarks/updates_measured.py`)."""


def known() -> dict[str, str]:
    """All strategies by name, with where each is loaded from."""
    return {**{e.name: e.value for e in entry_points(group=GROUP)}, **STRATEGIES}


def make_strategy(spec: str | Strategy) -> Strategy:
    """A strategy: itself, or by `name`, `name?option=value&...`, or `package.module:Class`.

    Raises UnknownNameError, and ConfigError for options that it does not have and for what is no strategy.
    """
    if not isinstance(spec, str):
        return spec
    name, options = split_target(spec, "strategy")
    path = known().get(name)
    if path is None and (":" not in name or "." not in name):
        raise UnknownNameError("strategy", name, sorted(known()), hint="or your own class as package.module:Class")
    try:
        made: Any = load(path or name)
    except (ImportError, AttributeError) as e:
        raise ConfigError("strategy", spec, f"can't be imported: {e}") from e
    try:
        strategy = made(**options)
    except TypeError as e:
        raise ConfigError("strategy", spec, f"can't be made with these options: {e}") from e
    if not isinstance(strategy, Strategy):
        raise ConfigError("strategy", spec, "is no strategy", hint="see agentmem.reflection.strategy.Strategy")
    return strategy


def form_of(strategy: Strategy, model: bool) -> Form:
    """The form in which a strategy runs: with a model where there is one and it has that form, else by rules.

    Raises ConfigError for one that needs a model when there is none.
    """
    if model and "model" in strategy.forms:
        return "model"
    if "rules" in strategy.forms:
        return "rules"
    raise ConfigError(
        "strategy",
        strategy.name,
        "needs a language model",
        hint="name one: --backend vllm:PATH, openai:URL#MODEL or hf:PATH",
    )
