"""A trie of prompts in whole blocks: which prefixes are shared, what that saves, and an order that keeps them together.

After BatchLLM (Zheng et al. 2024, arXiv 2412.03594, section 4: prefixes are found before anything is submitted) and
SGLang (Zheng et al. 2024, arXiv 2312.07104, section 3: a depth-first order of the prefix tree is optimal for one
sequence of requests and a cache that holds the longest).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence


class PrefixTrie:
    """Members are numbered as they are added. A node is a block after all blocks before it, as an engine's hash chain:
    two members that pass through a node share `depth` blocks. Roots are of depth 0, one a salt."""

    def __init__(self) -> None:
        self._children: dict[tuple[int, Hashable], int] = {}
        self._parent: list[int] = [0]
        self._depth: list[int] = [0]
        self._members: list[int] = [0]
        self._first: list[int] = [0]
        self._end: list[int] = []

    def __len__(self) -> int:
        """How many members there are."""
        return len(self._end)

    @property
    def total_blocks(self) -> int:
        """Of all members, those that they share counted each time."""
        return sum(self._depth[node] for node in self._end)

    @property
    def distinct_blocks(self) -> int:
        """How many different chains of blocks there are: what a cache without a bound computes."""
        return sum(depth > 0 for depth in self._depth)

    def add(self, blocks: Sequence[Hashable], salt: str | None = None) -> int:
        """One member more; returns its end's number, the same for members of the same blocks and salt."""
        member = len(self._end)
        node = self._step(0, ("salt", salt), 0, member)
        for depth, block in enumerate(blocks, 1):
            node = self._step(node, block, depth, member)
        self._end.append(node)
        return node

    def _step(self, node: int, block: Hashable, depth: int, member: int) -> int:
        found = self._children.setdefault((node, block), len(self._parent))
        if found == len(self._parent):
            self._parent.append(node)
            self._depth.append(depth)
            self._members.append(0)
            self._first.append(member)
        self._members[found] += 1
        return found

    def path(self, member: int) -> tuple[int, ...]:
        """The numbers of a member's blocks, from the first on: equal numbers are equal blocks after equal blocks."""
        return tuple(reversed([n for n in self._upwards(self._end[member]) if self._depth[n]]))

    def _upwards(self, node: int) -> Iterator[int]:
        while node:
            yield node
            node = self._parent[node]

    def order(self, rank: Sequence[tuple[int, ...]], min_saved: int = 0) -> list[int]:
        """Every member once, those of a group next to each other. `rank[member]` orders members within a group.

        A group is the deepest node of a member that at least two pass through and whose depth x (members - 1) is more
        than `min_saved` blocks. Groups with a common prefix stand together too, level by level (a depth-first walk),
        those first that save most; then those first that came first. What is in no deeper group follows the groups.
        """
        groups = [n for n in range(1, len(self._parent)) if self._depth[n] * (self._members[n] - 1) > min_saved]
        kept = set(groups)
        above = [self._nearest(self._parent[n], kept) for n in groups]
        inner: dict[int, list[int]] = {}
        for node, outer in zip(groups, above, strict=True):
            inner.setdefault(outer, []).append(node)
        loose: dict[int, list[int]] = {}
        for member, end in enumerate(self._end):
            loose.setdefault(self._nearest(end, kept), []).append(member)
        saved = self._saved()
        found: list[int] = []
        stack = [0]
        while stack:
            step = stack.pop()
            if step < 0:  # the second visit of a node, after its groups
                found += sorted(loose.get(~step, ()), key=lambda m: (rank[m], m))
                continue
            stack.append(~step)
            stack += sorted(inner.get(step, ()), key=lambda n: (saved[n], -self._first[n]))
        return found

    def _nearest(self, node: int, kept: set[int]) -> int:
        return next((n for n in self._upwards(node) if n in kept), 0)

    def _saved(self) -> list[int]:
        """Blocks that need not be computed again in a node's subtree, the node included."""
        saved = [
            (members - 1 if depth else 0) for members, depth in zip(self._members, self._depth, strict=True)
        ]  # a child's number is above its parent's
        for node in range(len(saved) - 1, 0, -1):
            saved[self._parent[node]] += saved[node]
        return saved
