"""Carrying a step out: its calls, their results, and that all of it is stored together or not at all.

Reads that come first in a step do not depend on each other and run at the same time (arXiv 2312.04511 does so for
function calls in general); from the first write on calls run in order, so that a read sees the writes before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import TYPE_CHECKING

from agentmem.tool_specs import READS
from agentmem.tools import Toolbox, ToolResult
from agentmem.types import Draft, ToolCall

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.turn import Turn

MAX_AT_ONCE = 4


def carry_out(memory: Memory, turn: Turn, text: str, calls: tuple[ToolCall, ...], derived: bool) -> list[ToolResult]:
    """Run the calls of an answer and store it with their results."""
    toolbox = Toolbox(memory, sources=(turn.user.ref,), read_only=not turn.store)
    output = Draft("assistant", text, at=turn.asked_at, tool_calls=calls, derived=derived)
    first = _reads_first(toolbox, calls)
    if not turn.store:
        results = first + [toolbox.run(c) for c in calls[len(first) :]]
        turn.keep_unstored(output, [(c, r.text) for c, r in zip(calls, results, strict=True)])
        return results
    try:
        with memory.store.write():
            turn.log(memory)
            results = first + [toolbox.run(c) for c in calls[len(first) :]]
            pairs = list(zip(calls, results, strict=True))
            tools = [Draft("tool", r.text, at=turn.asked_at, tool_call_id=c.id) for c, r in pairs]
            stored = memory.append([output, *tools])
            memory.touch(turn.page, turn.asked_at)
            step = {
                "turn": turn.user.id,
                "step": turn.steps,
                "message": stored[0].id,
                "tools": [c.name for c in calls],
                "failed": [c.name for c, r in pairs if r.failed],
            }
            memory.log("step", step)
    except BaseException:
        memory.pager.forget()
        raise
    turn.messages += stored
    return results


def _reads_first(toolbox: Toolbox, calls: Sequence[ToolCall]) -> list[ToolResult]:
    """The results of the reads that a step begins with, where there are several."""
    reads = list(takewhile(lambda c: c.name in READS, calls))
    if len(reads) < 2:
        return []
    with ThreadPoolExecutor(min(MAX_AT_ONCE, len(reads)), thread_name_prefix="agentmem-read") as pool:
        return list(pool.map(toolbox.run, reads))
