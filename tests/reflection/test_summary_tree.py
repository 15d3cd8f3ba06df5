"""The shape of the tree of summaries, against an oracle: bit by bit, after erasures, and what an update costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentmem.reflection.summary_tree import CHILDREN, leaves, level
from agentmem.summary_nodes import Node
from agentmem.types import Message

AT = datetime(2023, 5, 8, 12, tzinfo=UTC)
MOST = 10


def message(number: int, session: str | None = "s", text: str = "tea") -> Message:
    return Message(number, "user", text, AT, AT, name="Anna", session=session)


def cost(m: Message) -> int:
    return len(m.content)


class Forest:
    """A memory of nodes: what a job would have stored."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.made = 0
        self.root: list[Node] = []

    def build(self, messages: Sequence[Message]) -> int:
        """Make what is missing; how many nodes that were."""
        before = self.made
        shape = leaves(messages, self.nodes, cost, MOST)
        below = self._fill(shape.places, shape.dissolved, 0)
        number, top = 1, max((n.level for n in self.nodes), default=0)
        while len(below) > 1 or number <= top:
            above = level(below, self.nodes, number)
            below = self._fill(above.places, above.dissolved, number)
            number += 1
        self.root = below
        return self.made - before

    def _fill(self, places: Sequence[Any], dissolved: Sequence[Node], number: int) -> list[Node]:
        out = []
        for place in places:
            if not isinstance(place, Node):
                self.made += 1
                first = place[0].id if number == 0 else place[0].first
                last = place[-1].id if number == 0 else place[-1].last
                place = Node(f"p{self.made}", number, first, last, tuple(x.ref for x in place))
                self.nodes.append(place)
            out.append(place)
        self.nodes = [n for n in self.nodes if n not in dissolved]
        return out

    def check(self, messages: Sequence[Message]) -> None:
        """The oracle: each message under one leaf; each node over its children, whole and in order; one root."""
        known = {n.ref: n for n in self.nodes}
        sessions = {m.ref: m.session for m in messages}
        under = [c for n in self.nodes if n.level == 0 for c in n.children]
        assert sorted(under) == sorted(m.ref for m in messages) and len(set(under)) == len(under)
        assert len(self.root) == min(1, len(messages))
        parents: dict[str, int] = {}
        for node in self.nodes:
            if node.level == 0:
                ids = [int(c[1:]) for c in node.children]
                assert ids == sorted(ids) and (node.first, node.last) == (ids[0], ids[-1])
                assert len({sessions[c] for c in node.children}) == 1
                assert len(ids) == 1 or sum(cost(m) for m in messages if m.id in ids) <= MOST
                continue
            children = [known[c] for c in node.children]
            assert 2 <= len(children) <= CHILDREN and all(c.level < node.level for c in children)
            assert (node.first, node.last) == (children[0].first, children[-1].last)
            assert all(a.last < b.first for a, b in pairwise(children))
            for c in node.children:
                parents[c] = parents.get(c, 0) + 1
        assert all(parents.get(n.ref, 0) == (0 if n in self.root else 1) for n in self.nodes)


histories = st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=150)


def history(drawn: Sequence[tuple[int, bool]]) -> list[Message]:
    found, session = [], 0
    for n, (size, new) in enumerate(drawn, 1):
        session += new
        found.append(message(n, f"s{session}", "x" * size))
    return found


@given(drawn=histories, cuts=st.lists(st.integers(0, 150), max_size=6))
def test_built_bit_by_bit_the_tree_is_the_same(drawn: Sequence[tuple[int, bool]], cuts: Sequence[int]) -> None:
    messages = history(drawn)
    whole, grown = Forest(), Forest()
    whole.build(messages)
    whole.check(messages)
    for cut in sorted(min(c, len(messages)) for c in cuts):
        grown.build(messages[:cut])
        grown.check(messages[:cut])
    grown.build(messages)
    grown.check(messages)
    spans = [sorted((n.level, n.first, n.last) for n in f.nodes) for f in (whole, grown)]
    assert spans[0] == spans[1]
    assert grown.build(messages) == 0, "nothing new, nothing made"


@given(drawn=histories, gone=st.lists(st.integers(1, 150), max_size=8), more=histories)
def test_what_is_erased_costs_its_place_alone(
    drawn: Sequence[tuple[int, bool]], gone: Sequence[int], more: Sequence[tuple[int, bool]]
) -> None:
    messages = history(drawn)
    forest = Forest()
    forest.build(messages)
    out = {f"m{n}" for n in gone}
    while len(grown := out | {n.ref for n in forest.nodes if not out.isdisjoint(n.children)}) > len(out):
        out = grown
    forest.nodes = [n for n in forest.nodes if n.ref not in out]
    left = [m for m in messages if m.ref not in out]
    untouched = {n.ref for n in forest.nodes if n.level == 0 and n.last < len(messages)}
    later = [replace(m, id=m.id + len(messages), session=f"t{m.session}") for m in history(more)]
    forest.build(left + later)
    forest.check(left + later)
    assert untouched - {n.ref for n in forest.nodes} <= {max(untouched, key=lambda r: int(r[1:]), default="")}
    assert forest.build(left + later) == 0


def test_an_update_costs_the_right_spine() -> None:
    messages = [message(n, None, "x" * MOST) for n in range(1, 1001)]  # a leaf each
    forest = Forest()
    forest.build(messages[:900])
    for n in range(901, 1001):
        made = forest.build(messages[:n])
        assert made <= 1 + math.ceil(math.log(n, CHILDREN)), "one leaf, and the nodes above it"
    forest.check(messages)


def test_nodes_that_overlap_give_way() -> None:
    messages = [message(n) for n in range(1, 4)]
    forest = Forest()
    forest.nodes = [Node("p8", 0, 1, 2, ("m1", "m2")), Node("p9", 0, 2, 3, ("m2", "m3"))]
    forest.build(messages)
    forest.check(messages)
