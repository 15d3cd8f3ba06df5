"""One reflection job an agent at a time: the second is told who holds it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentmem.errors import StoreBusyError
from agentmem.times import format_time

if TYPE_CHECKING:
    from agentmem.memory import Memory


@contextmanager
def held(memory: Memory) -> Iterator[None]:
    """Hold the agent for a job; the lock goes with the process, however that ends. Raises StoreBusyError with the
    process, machine and time of the holder. A store in RAM belongs to one process, and needs none."""
    from filelock import FileLock, Timeout

    folder = memory.store.folder
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    name = f"agent-{memory.records.agent_id}.reflect"
    # Not a singleton: two jobs of one process exclude each other too.
    lock = FileLock(folder / f"{name}.lock", timeout=0)
    holder = folder / f"{name}.holder.json"
    try:
        lock.acquire()
    except Timeout as e:
        try:
            told = json.loads(holder.read_text(encoding="utf-8"))
            who = f"process {told['process']} on {told['machine']}, since {told['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            who = "another process"
        raise StoreBusyError(
            f"a reflection job on agent {memory.agent_name!r} of {memory.store.path} is running: {who}",
            hint="wait for it, or end that process: what it committed stays, and the next run goes on",
        ) from e
    try:
        now = format_time(memory.clock())
        told = {"process": os.getpid(), "machine": platform.node(), "since": now}
        holder.write_text(json.dumps(told), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
