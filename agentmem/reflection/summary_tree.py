"""The shape of a tree of summaries over a history (MemWalker, arXiv 2310.05029, section 2.1). Pure.

Leaves are windows of messages, in order, none over the end of a session; above them stand groups of at most eight, up
to one root. A shape is found from the messages and the nodes that there are: what is whole stays, so that new messages
cost their own leaves and the right spine, and what was taken out costs its own place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmem.summary_nodes import SUMMARIES, Node

if TYPE_CHECKING:
    from agentmem.types import Message

TAG = SUMMARIES
CHILDREN = 8
LEAF_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the shape, in order: nodes that stay (of a lower level too: what would stand alone goes up as it
    is), and groups, each to be made a node. `dissolved` are nodes that hold no longer."""

    places: tuple[Node | tuple[Node, ...], ...]
    dissolved: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Leaves:
    """The lowest level: leaves that stay, and windows of messages, each to be made one; in order."""

    places: tuple[Node | tuple[Message, ...], ...]
    dissolved: tuple[Node, ...]


def tags(level: int, first: int, last: int, by: str) -> tuple[str, ...]:
    """How a node is tagged; `by` says who wrote it ("rules", "model")."""
    return (TAG, f"level:{level}", f"from:m{first}", f"to:m{last}", f"by:{by}")


def leaves(
    messages: Sequence[Message], nodes: Sequence[Node], cost: Callable[[Message], int], most: int = LEAF_TOKENS
) -> Leaves:
    """The leaves over all messages (ascending): those of `nodes` that stay, and windows of at most `most` by `cost`
    (one message at least). The last leaf stays open: it is made anew when what follows belongs to it."""
    known = sorted((n for n in nodes if n.level == 0), key=lambda n: (n.first, n.ref))
    kept: list[Node] = []
    dissolved: list[Node] = []
    for node in known:
        # Two that overlap can't be: somebody else wrote one.
        (dissolved if kept and node.first <= kept[-1].last else kept).append(node)
    if kept and messages and _reopened(messages, kept[-1], cost, most):
        dissolved.append(kept.pop())
    places: list[Node | tuple[Message, ...]] = []
    run: list[Message] = []
    left, covered = kept[::-1], 0
    for message in messages:
        while left and left[-1].first <= message.id:
            leaf = left.pop()
            places += [*_windows(run, cost, most), leaf]
            run, covered = [], leaf.last
        if message.id > covered:
            run.append(message)
    return Leaves((*places, *_windows(run, cost, most), *left[::-1]), tuple(dissolved))


def level(below: Sequence[Node], nodes: Sequence[Node], number: int) -> Level:
    """The level above the nodes `below`, in order; `nodes` are those that there are, `number` is the level's."""
    parents = {n.children[0]: n for n in nodes if n.level == number and n.children}
    refs = [n.ref for n in below]
    places: list[Node | tuple[Node, ...]] = []

    def stands(at: int) -> Node | None:
        """The parent over just the nodes from a place on."""
        parent = parents.get(refs[at]) if at < len(refs) else None
        return parent if parent is not None and tuple(refs[at : at + len(parent.children)]) == parent.children else None

    def stays(at: int) -> Node | None:
        """That parent, if it is full; one that is not is open to what follows, unless that has its place."""
        parent = stands(at)
        end = at + len(parent.children) if parent is not None else 0
        closed = parent is not None and (end - at == CHILDREN or end == len(refs) or stands(end) is not None)
        return parent if closed else None

    at = 0
    while at < len(refs):
        parent = stays(at)
        if parent is not None:
            places.append(parent)
            at += len(parent.children)
            continue
        end = at + 1
        while end < len(refs) and end - at < CHILDREN and stays(end) is None:
            end += 1
        places.append(tuple(below[at:end]) if end - at > 1 else below[at])
        at = end
    kept = {p.ref for p in places if isinstance(p, Node)}
    return Level(tuple(places), tuple(n for n in nodes if n.level == number and n.ref not in kept))


def _reopened(messages: Sequence[Message], last: Node, cost: Callable[[Message], int], most: int) -> bool:
    """Whether the last leaf goes on with the message that follows it."""
    after = next((m for m in messages if m.id > last.last), None)
    inside = [m for m in messages if last.first <= m.id <= last.last]
    if after is None or not inside or after.session != inside[-1].session:
        return False
    return sum(map(cost, inside)) + cost(after) <= most


def _windows(run: Sequence[Message], cost: Callable[[Message], int], most: int) -> list[tuple[Message, ...]]:
    out: list[list[Message]] = []
    used = 0
    for message in run:
        tokens = cost(message)
        if out and used + tokens <= most and out[-1][-1].session == message.session:
            out[-1].append(message)
            used += tokens
        else:
            out.append([message])
            used = tokens
    return [tuple(w) for w in out]
