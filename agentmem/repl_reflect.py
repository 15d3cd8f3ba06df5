"""The chat's commands for offline reflection: /reflect and /undo.

Somebody is waiting, so a job by the model says first what it will ask, and goes no further than that.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from agentmem.errors import ConfigError, UnknownNameError
from agentmem.reflection.budget import Budget, Estimate
from agentmem.reflection.forecast import expected_seconds
from agentmem.reflection.job import estimated, reflect
from agentmem.reflection.strategies import DEFAULT
from agentmem.reflection.telling import job_lines, plan_lines, undone_lines
from agentmem.reflection.undoing import undo
from agentmem.reflection.watching import watching

if TYPE_CHECKING:
    from agentmem.agent import Agent
    from agentmem.memory import Memory
    from agentmem.protocols import Backend

BATCH_SIZE = 8
"""Questions at once: few, so that the bar moves, and Ctrl-C loses the answers of a few alone."""
SLACK = 4
"""Where tokens are estimated, a job may use a fourth part more than its plan says."""
GRAMMAR = "[STRATEGY ...] [--rules|--model] [--dry-run] [--max-calls N] [--max-tokens N] [--max-seconds S] [--yes]"
STOPPED = "(stopped; what was committed and answered by now stays, and the same /reflect goes on from there)"
Say = Callable[[str], None]
AskPerson = Callable[[str], str]
"""Puts a question to the person; what was answered, "" at the end of the input."""


def reflect_here(agent: Agent, rest: str, say: Say, ask: AskPerson) -> None:
    """Run the strategies that are named (those that run by default), and say what changed and why.

    They run by the chat's own model where there is one, else by rules. Of a model's job the plan is shown, and it is
    run when the person says yes, within the calls and tokens of the plan or of the options. The conversation is as it
    was afterwards: what a job wrote into core memory stands in the prompt from the next epoch on. Ctrl-C stops it.
    Raises ConfigError for options that are none.
    """
    given = _parsed(rest)
    names, memory = given.strategies or DEFAULT, agent.memory
    backend = _model_of(agent.backend, given)
    budget = Budget(given.max_calls, given.max_tokens, given.max_seconds)
    try:
        if backend is not None or given.dry_run:
            plan = _planned(memory, names, backend, say, always=given.dry_run)
            if given.dry_run:
                return
            budget = _within(budget, plan, exact=memory.shape.counter.exact)
            if plan.calls and not given.yes and not _agreed(budget, ask):
                say("(nothing was asked and nothing changed; /reflect --rules goes without the model)")
                return
        with watching(1) as on_event:
            (report,) = reflect(
                memory, names, backend=backend, budget=budget, batch_size=BATCH_SIZE, on_event=on_event
            )  # fmt: skip
    except KeyboardInterrupt:
        say(STOPPED)
        return
    finally:
        memory.refresh()
    for line in job_lines(report, memory):
        say(line)


def _planned(memory: Memory, names: Sequence[str], backend: Backend | None, say: Say, *, always: bool) -> Estimate:
    """The estimate of a dry run, which is shown if a model will be asked, or `always`."""
    (report,) = reflect(memory, names, backend=backend, dry_run=True)
    plan = estimated([report])
    expected = None
    if backend is not None:
        expected = expected_seconds(memory.records.jobs.all(), backend.name, plan.calls)
    for line in plan_lines([report], plan, expected) if plan.calls or always else ():
        say(line)
    return plan


def _within(budget: Budget, plan: Estimate, *, exact: bool) -> Budget:
    """What the person is asked for: the limits that were given, else those of the plan. A strategy that plans calls
    and says nothing of their tokens is held to its calls."""
    tokens = plan.tokens if exact else plan.tokens + plan.tokens // SLACK
    return Budget(
        plan.calls if budget.max_calls is None else budget.max_calls,
        (tokens or None) if budget.max_tokens is None else budget.max_tokens,
        budget.max_seconds,
    )


def _agreed(budget: Budget, ask: AskPerson) -> bool:
    limits = {"calls": budget.max_calls, "tokens": budget.max_tokens, "seconds": budget.max_seconds}
    within = ", ".join(f"{most:,} {what}" for what, most in limits.items() if most is not None)
    return ask(f"ask the model, within {within}? [y/n] ").strip().lower() in ("y", "yes")


def _model_of(backend: Backend, given: argparse.Namespace) -> Backend | None:
    """The backend that is to be asked; None: by rules."""
    if backend.name != "extractive":
        return None if given.rules else backend
    if given.model:
        raise ConfigError(
            "--model", backend.name, "is no language model",
            hint="begin the chat with --backend vllm:PATH, openai:URL#model or hf:PATH, or leave --model out",
        )  # fmt: skip
    return None


class _Grammar(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError("/reflect", message, "is not understood", hint=f"/reflect {GRAMMAR}")


def _parsed(rest: str) -> argparse.Namespace:
    """What was typed behind /reflect; options are named as those of the command `agentmem reflect`."""
    try:
        words = shlex.split(rest)
    except ValueError as e:  # a quotation mark without its other
        raise ConfigError("strategies", rest, str(e), hint="give names: /reflect consolidate") from e
    grammar = _Grammar(prog="/reflect", add_help=False, allow_abbrev=False)
    grammar.add_argument("strategies", nargs="*")
    form = grammar.add_mutually_exclusive_group()
    form.add_argument("--rules", action="store_true")
    form.add_argument("--model", action="store_true")
    grammar.add_argument("--dry-run", action="store_true")
    grammar.add_argument("--yes", action="store_true")
    grammar.add_argument("--max-calls", type=int)
    grammar.add_argument("--max-tokens", type=int)
    grammar.add_argument("--max-seconds", type=float)
    return grammar.parse_intermixed_args(words)


def undo_here(memory: Memory, rest: str, say: Say) -> None:
    """Take back the job that is named, or the last one that was not taken back. Raises as `undo`."""
    job = rest
    if not job:
        left = [row.ref for row in memory.records.jobs.all() if row.state != "undone"]
        if not left:
            raise UnknownNameError("job", "the last one", [], hint="nothing is there to be undone: /reflect makes jobs")
        job = left[-1]
    for line in undone_lines(undo(memory, job)):
        say(line)
