"""What a recursive summary made from the tree of summaries (`reflect summaries`, by rules) reads and keeps, beside one
made from the summary so far and the turns that leave.

`--data` as `benchmarks.retrieval_locomo`. Each conversation is told once, the tree built over all of it, and the queue
then flushed as if the messages came one by one. With a model (scripted: it answers the same text each time) the tokens
of the summariser's requests are counted; *new* are those of them behind the part that every prompt of the epoch begins
with, or, without a tree, behind the turns too: what an engine with a warm prefix cache computes. Without a model, the
share of the words of a question's evidence that stand in the summary at each flush after which all of it is out of the
queue; *older half*: where it is all in the older half of what left.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentmem import Agent, Memory
from agentmem.budget import Budget
from agentmem.language import content_words
from agentmem.reflection import reflect
from agentmem.scripted import ScriptedBackend
from agentmem.summary import Summarise, without_model
from agentmem.types import Request
from benchmarks import machine
from benchmarks.retrieval_locomo import lines

WIDE = 5_000_000
SAID = " ".join(["They talked about their work, the family, and what they plan for the summer."] * 12)


def flushed(memory: Memory, summarise: Summarise, window: int) -> list[Mapping[str, Any]]:
    """Flush as if the messages came one by one; what the events say."""
    memory.config = type(memory.config).create(window_tokens=window)
    memory.budget = Budget.of(memory.config)
    pager, last = memory.pager, memory.records.recall.last_id()
    pager.forget()
    state, now = pager.state, [0]
    # The summariser asks for the queue as it is "now", too.
    pager.state = lambda upto=None: state(now[0] if upto is None else upto)  # type: ignore[method-assign]
    for now[0] in range(1, last + 1):
        memory.relieve(summarise, upto=now[0])
    return [e.payload for e in memory.events("page_out")]


def told(path: Path, tree: bool) -> Memory:
    """A conversation in RAM, all of it in the queue."""
    memory = Memory(":memory:", embedder="none", window_tokens=WIDE)
    memory.ingest(lines(path))
    if tree:
        reflect(memory, "summaries")
    return memory


def by_model(path: Path, tree: bool, window: int) -> list[dict[str, float]]:
    """A row a flush: tokens read, those of them that are new, whether nodes were read."""
    with told(path, tree) as memory:
        backend = ScriptedBackend([SAID] * 10_000, context_window=WIDE)
        agent = Agent(memory, backend)
        events = flushed(memory, agent.summariser, window)
        count = backend.counter
        found = []
        for request, event in zip(backend.requests, events, strict=True):
            nodes = "from_nodes" in event
            behind = request.messages[1:] if nodes else _instruction(request)
            found.append({
                "read": count.count_prompt(request.messages, request.tools),
                "new": sum(map(count.count_message, behind)),
                "nodes": nodes,
                "alone": nodes and "<summary>" not in request.messages[0].content,
            })  # fmt: skip
        return found


def _instruction(request: Request) -> list[Any]:
    from dataclasses import replace

    last = request.messages[-1]
    return [replace(last, content=last.content[last.content.rindex("[memory] The conversation above") :])]


def kept(path: Path, tree: bool, window: int) -> tuple[list[float], list[float]]:
    """Of each flush and question, the share of its evidence's words in the summary: of all, and of the older half."""
    asked: Sequence[Mapping[str, Any]] = lines(path.with_name(path.name.replace(".messages.", ".questions.")))
    with told(path, tree) as memory:
        flushed(memory, without_model, window)
        stored = {m.key: m for m in memory.records.recall.since(1)}
        every: list[float] = []
        older: list[float] = []
        for epoch, _ in memory.records.journal.epochs()[1:]:
            words = set(content_words(epoch.summary))
            for question in asked:
                evidence = [stored[k] for k in question.get("evidence", ()) if k in stored]
                wanted = {w for m in evidence for w in content_words(m.said)}
                if not wanted or max(m.id for m in evidence) > epoch.summary_to:
                    continue
                share = 100 * len(wanted & words) / len(wanted)
                every.append(share)
                older += [share] if max(m.id for m in evidence) <= epoch.summary_to // 2 else []
        return every, older


def main() -> None:
    """Measure and print."""
    parser = machine.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with CONV.messages.jsonl")
    parser.add_argument("--windows", type=int, nargs="+", default=[8192, 16_384], help="in tokens (8192 16384)")
    options = parser.parse_args()
    paths = sorted(options.data.glob("*.messages.jsonl"))
    if not paths:
        parser.error(f"{options.data} has no CONV.messages.jsonl")
    rows = []
    for window in options.windows:
        for tree in (False, True):
            asked = [row for path in paths for row in by_model(path, tree, window)]
            shares = [kept(path, tree, window) for path in paths]
            rows.append({
                "window": window, "tree": "yes" if tree else "no", "flushes": len(asked),
                "from nodes": sum(r["nodes"] for r in asked), "without the old summary": sum(r["alone"] for r in asked),
                "tokens read": statistics.mean(r["read"] for r in asked),
                "of them new": statistics.mean(r["new"] for r in asked),
                "evidence words %": statistics.mean(s for every, _ in shares for s in every),
                "older half %": statistics.mean(s for _, older in shares for s in older),
            })  # fmt: skip
            machine.say(options, f"window {window}, tree {rows[-1]['tree']}")
    machine.show(options, rows, note="means over flushes; over flushes and questions")


if __name__ == "__main__":
    main()
