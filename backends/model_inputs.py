"""Texts on their way into a network: what can be encoded, in batches of about equal work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def encodable(text: str) -> str:
    """The text with each lone surrogate as "?": it has no UTF-8, which tokenizers want."""
    return text.encode("utf-8", "replace").decode("utf-8")


def by_length(sizes: Sequence[int], budget: int) -> Iterator[list[int]]:
    """The indices of `sizes` in groups, shortest first, equal sizes in their given order.

    A group as a rectangle (members times the largest size) is at most `budget`, so that padding is bounded too: short
    texts fill a batch, long ones don't blow it up. What is larger than `budget` on its own is a group of one.
    """
    group: list[int] = []
    for i in sorted(range(len(sizes)), key=sizes.__getitem__):
        if group and (len(group) + 1) * sizes[i] > budget:
            yield group
            group = []
        group.append(i)
    if group:
        yield group
