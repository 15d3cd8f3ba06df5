"""Offline reflection: what a memory learns from what it holds while nobody waits. `reflect(memory, ...)` runs
strategies (one a file) as a job: planned, budgeted, resumable, and undone by `undo`.

Data flows one way: a strategy reads a `View`, asks (`Ask`) and proposes (`Propose`); a job answers, checks and applies.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmem.reflection.budget import Budget, Estimate
    from agentmem.reflection.changes import AddPassage, Change, ClosePassage, EditBlock, Rate, SetKeys
    from agentmem.reflection.job import reflect
    from agentmem.reflection.orders import Orders
    from agentmem.reflection.outcome import Applied, JobReport, Undone
    from agentmem.reflection.ray_workers import reflect_on_ray
    from agentmem.reflection.strategy import Ask, Propose, Said, Strategy
    from agentmem.reflection.trajectories import Call, record_outcome
    from agentmem.reflection.undoing import undo
    from agentmem.reflection.view import View
    from agentmem.reflection.workers import reflect_agents

_HOMES = {
    "AddPassage": "changes",
    "Applied": "outcome",
    "Ask": "strategy",
    "Budget": "budget",
    "Call": "trajectories",
    "Change": "changes",
    "ClosePassage": "changes",
    "EditBlock": "changes",
    "Estimate": "budget",
    "JobReport": "outcome",
    "Orders": "orders",
    "Propose": "strategy",
    "Rate": "changes",
    "Said": "strategy",
    "SetKeys": "changes",
    "Strategy": "strategy",
    "Undone": "outcome",
    "View": "view",
    "record_outcome": "trajectories",
    "reflect": "job",
    "reflect_agents": "workers",
    "reflect_on_ray": "ray_workers",
    "undo": "undoing",
}

__all__ = [
    "AddPassage",
    "Applied",
    "Ask",
    "Budget",
    "Call",
    "Change",
    "ClosePassage",
    "EditBlock",
    "Estimate",
    "JobReport",
    "Orders",
    "Propose",
    "Rate",
    "Said",
    "SetKeys",
    "Strategy",
    "Undone",
    "View",
    "record_outcome",
    "reflect",
    "reflect_agents",
    "reflect_on_ray",
    "undo",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"agentmem.reflection.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'agentmem.reflection' has no attribute {name!r}")
