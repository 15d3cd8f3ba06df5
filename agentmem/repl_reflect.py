"""The chat's commands for offline reflection: /reflect and /undo. They go by rules: somebody is waiting."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from agentmem.errors import ConfigError, UnknownNameError
from agentmem.memory import Memory
from agentmem.reflection.job import reflect
from agentmem.reflection.strategies import DEFAULT
from agentmem.reflection.telling import job_lines, undone_lines
from agentmem.reflection.undoing import undo


def reflect_here(memory: Memory, rest: str, say: Callable[[str], None]) -> None:
    """Run the strategies that are named (those that run by default), and say what changed and why.

    Ctrl-C stops it: what was committed stays, and the next run goes on.
    """
    try:
        names = shlex.split(rest)
    except ValueError as e:  # a quotation mark without its other
        raise ConfigError("strategies", rest, str(e), hint="give names: /reflect consolidate") from e
    try:
        (report,) = reflect(memory, names or DEFAULT)
    except KeyboardInterrupt:
        say("(stopped; what was committed stays, and /reflect goes on from there)")
        return
    finally:
        memory.refresh()
    for line in job_lines(report, memory):
        say(line)


def undo_here(memory: Memory, rest: str, say: Callable[[str], None]) -> None:
    """Take back the job that is named, or the last one that was not taken back. Raises as `undo`."""
    job = rest
    if not job:
        left = [row.ref for row in memory.records.jobs.all() if row.state != "undone"]
        if not left:
            raise UnknownNameError("job", "the last one", [], hint="nothing is there to be undone: /reflect makes jobs")
        job = left[-1]
    for line in undone_lines(undo(memory, job)):
        say(line)
