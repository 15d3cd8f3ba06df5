"""What reflection derived, as trees: each passage above the records that it rests on, down to what was said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentmem.reflection.diff import Quotes
from agentmem.times import format_time

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.types import Passage

TEXT_CHARS = 300


@dataclass(frozen=True, slots=True)
class Node:
    """A record in a tree: how deep it stands (0: a root), whether it is the last of its siblings at each level down to
    its own, and whether what it rests on stands above already."""

    ref: str
    depth: int
    last: tuple[bool, ...]
    repeated: bool = False


def derived(memory: Memory) -> list[Passage]:
    """The passages that reflection derived: those with sources, but for notes of single facts from what was said."""
    return [
        p
        for p in memory.records.archival.after(0)
        if p.sources and p.kind != "outcome" and (p.kind != "fact" or any(s.startswith("p") for s in p.sources))
    ]


def trees(memory: Memory) -> list[Node]:
    """All nodes, each tree from its root down, newest root first. A passage's sources stand below its first place
    alone, so that the whole is not longer than the passages and their sources together."""
    passages = {p.ref: p for p in derived(memory)}
    below = {s for p in passages.values() for s in p.sources}
    roots = [ref for ref in reversed(passages) if ref not in below]
    nodes: list[Node] = []
    shown: set[str] = set()
    # A stack, not recursion: an imported archive may hold a chain of any length.
    waiting = [Node(ref, 0, ()) for ref in reversed(roots)]
    while waiting:
        node = waiting.pop()
        passage = passages.get(node.ref)
        repeated = passage is not None and node.ref in shown
        nodes.append(Node(node.ref, node.depth, node.last, repeated))
        if passage is not None and not repeated:
            shown.add(node.ref)
            sources = list(dict.fromkeys(s for s in passage.sources if s != node.ref))
            waiting += [
                Node(s, node.depth + 1, (*node.last, n == len(sources) - 1)) for n, s in reversed([*enumerate(sources)])
            ]
    return nodes


def tree_lines(memory: Memory) -> list[str]:
    """The trees as text."""
    quotes = Quotes(memory)
    lines = []
    for node in trees(memory):
        rails = "".join("   " if last else "│  " for last in node.last[:-1])
        branch = ("└─ " if node.last[-1] else "├─ ") if node.last else ""
        lines.append(f"{rails}{branch}{quotes.line(node.ref, TEXT_CHARS)}{' (above)' if node.repeated else ''}")
    return lines


def tree_dicts(memory: Memory) -> list[dict[str, Any]]:
    """The derived passages as values of JSON, oldest first; a tree is read from their `sources`."""
    return [
        {
            "id": p.ref, "kind": p.kind, "text": p.text, "sources": list(p.sources), "tags": list(p.tags),
            "valid_from": format_time(p.valid_from), "valid_to": format_time(p.valid_to) if p.valid_to else None,
            "superseded_by": f"p{p.superseded_by}" if p.superseded_by else None,
        }
        for p in derived(memory)
    ]  # fmt: skip
