"""The tree of summaries as a flush reads it: which nodes stand for which of the messages that are about to be summed
up, so that the recursive summary need not be made from a summary of a summary.

The tree is built by reflection (`agentmem.reflection.summaries`; its shape is MemWalker's, arXiv 2310.05029); here its
nodes are passages of the store. One counts only while it is sound: open, of the messages that it names, and over nodes
that are sound themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmem.types import number_of

if TYPE_CHECKING:
    from agentmem.store.agent_store import AgentStore
    from agentmem.types import Epoch, Message, Passage

SUMMARIES = "summary-tree"
"""The tag of passages that are an index over messages (`agentmem.reflection.summaries`): they are found only by it."""
KIND = "summary"
READ_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Node:
    """A summary: the first and last message under it (ids), what it was made of (refs of messages or of nodes), and how
    many levels are below it."""

    ref: str
    level: int
    first: int
    last: int
    children: tuple[str, ...]

    @property
    def span(self) -> str:
        """The messages between its ends, as prompts name them."""
        return f"m{self.first}" if self.first == self.last else f"m{self.first}-m{self.last}"


@dataclass(frozen=True, slots=True)
class Standing:
    """A sound node with its text and the messages (ids) that it stands for: not always all between its ends."""

    node: Node
    text: str
    messages: frozenset[int]


@dataclass(frozen=True, slots=True)
class Cover:
    """What a summary can be made from instead of the evicted messages: `nodes` that share no message, by their first;
    `left`, the evicted messages that say something and stand under none; and, if `previous`, the summary so far, for
    what left before (of that `nodes` tell nothing then)."""

    nodes: tuple[Standing, ...]
    left: tuple[Message, ...]
    previous: bool

    @property
    def refs(self) -> tuple[str, ...]:
        """The nodes' refs."""
        return tuple(s.node.ref for s in self.nodes)


def node_of(passage: Passage) -> Node | None:
    """The node that a passage is; None for another passage, and for one that was closed."""
    if passage.kind != KIND or SUMMARIES not in passage.tags or passage.valid_to is not None:
        return None
    found = dict(t.split(":", 1) for t in passage.tags if ":" in t)
    try:
        level, first, last = int(found["level"]), int(found["from"][1:]), int(found["to"][1:])
    except (KeyError, ValueError):
        return None
    return Node(passage.ref, level, first, last, passage.sources)


class Nodes:
    """The sound nodes of an agent's tree. They are read at the first use and after a change of the tree: what a flush
    costs then depends little on how many messages are stored."""

    def __init__(self, store: AgentStore) -> None:
        self._store = store
        self._held: tuple[object, list[Standing], list[int]] = (None, [], [])

    def forget(self) -> None:
        """Read everything anew at the next use."""
        self._held = (None, [], [])

    def covers(self, epoch: Epoch, evicted: Sequence[Message]) -> tuple[Cover, ...]:
        """Ways to make the summary of `epoch`'s and the evicted messages from nodes, best first; () without a node.

        The best needs no previous summary: nodes stand for all that it stood for. It is told from it otherwise, and
        nodes count that stand for evicted messages alone. Of what no node can tell (quotations of memory, calls and
        their results, notes), what left before is not asked for.
        """
        new, last = evicted[0].id, evicted[-1].id
        first = min(epoch.summary_from or new, new)
        nodes, there = self._upto(last)
        found = [s for s in nodes if first <= s.node.first and s.node.last <= last]
        if not found:
            return ()
        everywhere, within = apart(found), apart([s for s in found if s.node.first >= new])
        told = frozenset().union(*(s.messages for s in everywhere))
        ways = [(within, True)] if epoch.summary_to else []
        if not _says_something(self._store, [i for i in there if first <= i < new and i not in told]):
            ways.insert(0, (everywhere, False))
        return tuple(_cover(nodes, evicted, previous) for nodes, previous in ways if nodes)

    def _upto(self, last: int) -> tuple[list[Standing], list[int]]:
        """The sound nodes, and the ids of the messages up to `last` at least. One that was erased since they were read
        stood under none, or the tree has changed."""
        archival, recall = self._store.archival, self._store.recall
        state = archival.tag_state(SUMMARIES)
        if not state[0]:
            return [], []
        held, nodes, there = self._held
        if held != state:
            there = recall.ids(1, last)
            # Leaves may be over later ones.
            nodes = sound(archival.tagged(SUMMARIES), frozenset(there).union(recall.ids(last + 1, recall.last_id())))
        elif not there or there[-1] < last:
            there = there + recall.ids(there[-1] + 1 if there else 1, last)
        self._held = (state, nodes, there)
        return nodes, there


def sound(passages: Iterable[Passage], there: frozenset[int]) -> list[Standing]:
    """The sound nodes among passages, of which all messages are among those `there` (ids): lower levels first."""
    nodes = [(node, p.text) for p in passages if (node := node_of(p)) is not None and p.text.strip()]
    found: dict[str, Standing] = {}
    for node, text in sorted(nodes, key=lambda n: (n[0].level, n[0].first, n[0].ref)):
        parts = [_numbers(node, there)] if node.level == 0 else [_of(found.get(c)) for c in node.children]
        messages = frozenset().union(*parts)
        whole = all(parts) and len(messages) == sum(map(len, parts))
        if whole and messages and (min(messages), max(messages)) == (node.first, node.last):
            found[node.ref] = Standing(node, text, messages)
    return list(found.values())


def apart(found: Sequence[Standing]) -> tuple[Standing, ...]:
    """Nodes that share no message, the highest first chosen, in the order of the messages."""
    chosen: list[Standing] = []
    taken: set[int] = set()
    for standing in sorted(found, key=lambda s: (-s.node.level, s.node.first, s.node.ref)):
        if taken.isdisjoint(standing.messages):
            chosen.append(standing)
            taken |= standing.messages
    return tuple(sorted(chosen, key=lambda s: s.node.first))


def _cover(nodes: tuple[Standing, ...], evicted: Sequence[Message], previous: bool) -> Cover:
    under = frozenset().union(*(s.messages for s in nodes))
    left = [m for m in evicted if m.id not in under and not m.derived and m.tool_call_id is None and m.said.strip()]
    return Cover(nodes, tuple(left), previous)


def _numbers(node: Node, there: frozenset[int]) -> frozenset[int]:
    """The ids of a leaf's messages; none unless all are there."""
    found = frozenset(number_of(c, "m") for c in node.children) & there
    return found if len(found) == len(node.children) else frozenset()


def _of(standing: Standing | None) -> frozenset[int]:
    return standing.messages if standing is not None else frozenset()


def _says_something(store: AgentStore, ids: Sequence[int]) -> bool:
    some = (ids[n : n + READ_AT_ONCE] for n in range(0, len(ids), READ_AT_ONCE))
    return any(m.searchable for few in some for m in store.recall.get(store.recall.spoken(few)))
