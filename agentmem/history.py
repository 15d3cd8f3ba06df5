"""The compressed history: what left the queue last, shortened once and then kept as it is, until it ages out.

The tier between the queue (verbatim) and recall (whole, out of the prompt), as zswap is for RAM. It is the same for
every question, so that the prompt's prefix keeps its bytes. Pure but for the compressor that is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentmem.compression import Compressed, CompressionRequest, Part
from agentmem.paging import label
from agentmem.protocols import TokenCounter
from agentmem.times import day_words
from agentmem.types import Earlier, Hit, Message, PageItem, Tier

SHARE = 0.5
"""Of its tokens that a message keeps when it leaves the queue."""
MAX_LINE_TOKENS = 96
"""And no more than these."""
MIN_TOKENS = 12
"""A shorter message stays as it is: there is nothing to gain."""
Frozen = Callable[[Sequence[CompressionRequest]], Sequence[Compressed | None]]
"""Question-agnostic compression; None for what is to be used as it is."""


def history_text(entries: Sequence[Earlier]) -> str:
    """The lines, a heading for each day."""
    lines: list[str] = []
    day = ""
    for entry in entries:
        if entry.day != day:
            lines.append(entry.day)
            day = entry.day
        lines.append(entry.line)
    return "\n".join(lines)


def extended(
    before: Sequence[Earlier],
    evicted: Sequence[Message],
    max_tokens: int,
    counter: TokenCounter,
    compress: Frozen,
) -> tuple[Earlier, ...]:
    """The history with what was evicted; its oldest lines go until it costs at most `max_tokens`.

    What people and the assistant said is in it; calls and their results are left out together, and quotations of memory
    too. A message that can't be shortened and is too long for a line is left out: recall has it.
    """
    if max_tokens < MIN_TOKENS:
        return ()
    most = min(MAX_LINE_TOKENS, max_tokens)
    # The newest first: what would age out at once is not compressed.
    said = [m for m in evicted if m.searchable][::-1]
    sizes = [counter.count(m.said) if len(m.said) <= 200 * most else 200 * most for m in said]
    wanted: list[tuple[Message, int]] = []
    total = 0
    for message, size in zip(said, sizes, strict=True):
        if total > max_tokens:
            break
        total += min(size, max(MIN_TOKENS, int(SHARE * size)), most)
        wanted.append((message, size))
    requests = [
        CompressionRequest((Part(m.said),), min(most, int(SHARE * size)), counter)
        for m, size in wanted
        if size >= MIN_TOKENS
    ]
    found = iter(compress(requests))
    fresh: list[Earlier] = []
    for message, size in wanted:
        result = next(found) if size >= MIN_TOKENS else None
        entry = _entry(message, result, size, most)
        if entry is not None:
            fresh.append(entry)
    entries = (*before, *reversed(fresh))
    start = _first_that_fits(entries, max_tokens, counter)
    return entries[start:]


def earlier_fitting(entries: Sequence[Earlier], max_tokens: int, cost: Callable[[Sequence[Earlier]], int]) -> int:
    """How many of the newest lines cost at most `max_tokens`."""
    low, high = 0, len(entries)
    while low < high:
        middle = (low + high + 1) // 2
        if cost(entries[len(entries) - middle :]) <= max_tokens:
            low = middle
        else:
            high = middle - 1
    return low


def item_of(message: Message) -> PageItem:
    """A message as a record of a page, whole."""
    hit = Hit(
        message.ref,
        Tier.RECALL,
        message.said,
        0.0,
        message.at,
        message.key,
        message.name,
        message.role,
        message.session,
    )
    return PageItem(hit, 0, len(message.said))


def _entry(message: Message, result: Compressed | None, size: int, most: int) -> Earlier | None:
    item = item_of(message)
    if result is not None:
        item = PageItem.short(item.hit, result.parts[0])
    elif size > most:
        return None
    # A line of its own for each: what a text's line ends meant is not worth a line each here.
    text = " ".join(item.text.split("\n")) if not item.whole else item.text
    return Earlier(message.id, day_words(message.at), f"{label(item.hit)} {text}", message.key, item.whole)


def _first_that_fits(entries: Sequence[Earlier], max_tokens: int, counter: TokenCounter) -> int:
    return len(entries) - earlier_fitting(entries, max_tokens, lambda some: counter.count(history_text(some)))
