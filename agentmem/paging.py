"""What of the ranked hits is paged in, within a number of tokens, and how it is written. Planning is pure.

Written by time, a heading a day, each record on a line with its id: models need the date, and the id to cite it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agentmem.errors import InvalidInputError
from agentmem.keys import chunk_spans
from agentmem.language import content_words, sentences
from agentmem.packing import MAX_CAPACITY, MAX_ITEMS, Variant, choose
from agentmem.times import day_words, utc_seconds
from agentmem.tokens import cut_text
from agentmem.types import EMPTY_PAGE, Hit, Page, PageItem, Tier

if TYPE_CHECKING:
    from agentmem.protocols import TokenCounter

# A shortened record is worth its label from here on.
MIN_EXCERPT_TOKENS = 24
# Hits that did not fit are passed over; after so many in a row the page is as good as full.
MAX_MISSES = 40
# A text of more characters than this may be shown shortened, in so many tokens, and is then worth so much of itself.
LONG_CHARS = 800
EXCERPT_TOKENS = 96
EXCERPT_WORTH = 0.5
MAX_SHORTENED = 30


def label(hit: Hit) -> str:
    """What stands before a record: its id (the caller's key where there is one) and who said it."""
    who = hit.name or (hit.role if hit.tier is Tier.RECALL else "memory")
    return f"{hit.key or hit.id} {who}:"


def line(item: PageItem) -> str:
    """A record as it stands in a page."""
    text = item.text if item.whole else f"[...] {item.text} [...]"
    return f"{label(item.hit)} {text}"


def page_text(items: Sequence[PageItem]) -> str:
    """The page: by time, a heading for each day."""
    lines: list[str] = []
    day = ""
    for item in items:
        heading = f"-- {day_words(item.hit.at)}"
        if heading != day:
            lines.append(heading)
            day = heading
        lines.append(line(item))
    return "\n".join(lines)


def _in_time(items: Sequence[PageItem]) -> tuple[PageItem, ...]:
    return tuple(sorted(items, key=lambda i: (utc_seconds(i.hit.at), int(i.hit.id[1:]), i.hit.tier)))


def excerpt(hit: Hit, query: str, max_tokens: int, counter: TokenCounter) -> PageItem | None:
    """The part of a long record that shares most words with the query, within a number of tokens."""
    wanted = set(content_words(query))
    start, end = _best(hit.text, chunk_spans(hit.text), wanted)
    inside = [(start + s, start + e) for s, e in sentences(hit.text[start:end])] or [(start, end)]
    at = inside.index(_best(hit.text, inside, wanted))
    start = inside[at][0]
    length = cut_text(hit.text[start:end], max_tokens, counter)
    if length == 0:
        return None
    stop = start + length
    # What room is left is for the sentences before.
    while at > 0 and stop == end and counter.count(hit.text[inside[at - 1][0] : stop]) <= max_tokens:
        at -= 1
        start = inside[at][0]
    return PageItem(hit, start, stop)


def _best(text: str, spans: Sequence[tuple[int, int]], wanted: set[str]) -> tuple[int, int]:
    """The span that shares most words with the query; the earliest of equals."""
    return max(spans, key=lambda s: (len(wanted & set(content_words(text[s[0] : s[1]]))), -s[0]))


def pack(
    hits: Sequence[Hit], query: str, max_tokens: int, counter: TokenCounter, values: Sequence[float] | None = None
) -> Page:
    """A page of hits within `max_tokens`; `num_tokens` of the result never exceeds it.

    With `values` (what each hit is worth, best first) it is a knapsack: the records, whole or a long one shortened,
    that are worth most together; then what still fits, by rank. Without, the best that fit, by rank.
    """
    if max_tokens < 1:
        raise InvalidInputError("max_tokens", max_tokens, "must be at least 1")
    chosen: list[PageItem] = []
    if values is not None and max_tokens <= MAX_CAPACITY:
        chosen = _worth_most(hits, values, query, max_tokens, counter)
    chosen = _filled(chosen, hits, query, max_tokens, counter)
    while chosen:
        items = _in_time(chosen)
        text = page_text(items)
        if (total := counter.count(text)) <= max_tokens:
            return Page(text, total, items)
        chosen.pop()  # times of several zones: a day may need its heading more than once
    return EMPTY_PAGE


def _worth_most(
    hits: Sequence[Hit], values: Sequence[float], query: str, max_tokens: int, counter: TokenCounter
) -> list[PageItem]:
    """The knapsack's choice, by rank. A day's heading is charged to the first hit of that day."""
    items: list[list[PageItem]] = []
    variants: list[list[Variant]] = []
    days: set[str] = set()
    for hit, value in list(zip(hits, values, strict=True))[:MAX_ITEMS]:
        heading = f"-- {day_words(hit.at)}"
        extra = (0 if heading in days else counter.count(heading)) + (not counter.additive)
        ways = [PageItem(hit, 0, len(hit.text))]
        costs = [_cost(ways[0], extra, max_tokens, counter)]
        if (costs[0] is None or len(hit.text) > LONG_CHARS) and len(items) < MAX_SHORTENED:
            most = EXCERPT_TOKENS if costs[0] is not None else max(EXCERPT_TOKENS, max_tokens // 2)
            room = min(max_tokens - extra - counter.count(f"{label(hit)} [...] [...]") - 1, most)
            short = excerpt(hit, query, room, counter) if room >= MIN_EXCERPT_TOKENS else None
            if short is not None and not short.whole:
                ways.append(short)
                costs.append(_cost(short, extra, max_tokens, counter))
        # What never fits whole loses nothing by being shortened.
        worth = (value, value if costs[0] is None else EXCERPT_WORTH * value)
        kept = [(w, Variant(v, c)) for w, v, c in zip(ways, worth, costs, strict=False) if c is not None]
        if kept:
            days.add(heading)
            items.append([w for w, _ in kept])
            variants.append([v for _, v in kept])
    picked = zip(items, choose(variants, max_tokens), strict=True)
    chosen = [ways[n] for ways, n in picked if n is not None]
    while chosen and counter.count(page_text(_in_time(chosen))) > max_tokens:
        chosen.pop()
    return chosen


def _filled(
    chosen: list[PageItem], hits: Sequence[Hit], query: str, max_tokens: int, counter: TokenCounter
) -> list[PageItem]:
    """With the best further hits that fit, in whole where possible. The count of an additive counter is kept as the
    page grows; with another the text is counted whole each time."""
    chosen = list(chosen)
    there = {item.hit.id for item in chosen}
    days = {f"-- {day_words(item.hit.at)}" for item in chosen}
    used = counter.count(page_text(_in_time(chosen))) if chosen else 0
    misses = 0
    for hit in hits:
        if misses >= MAX_MISSES or max_tokens - used < 4:
            break
        if hit.id in there:
            continue
        heading = f"-- {day_words(hit.at)}"
        extra = 0 if heading in days else counter.count(heading)
        whole = PageItem(hit, 0, len(hit.text))
        item: PageItem | None = whole
        cost = _cost(whole, extra, max_tokens - used, counter)
        if cost is None:
            # The first hits matter most: a long one is shortened rather than left out.
            room = max_tokens - used - extra - counter.count(f"{label(hit)} [...] [...]") - 1
            item = None
            if room >= MIN_EXCERPT_TOKENS and counter.count(hit.text[:20_000]) > max(4 * MIN_EXCERPT_TOKENS, room):
                item = excerpt(hit, query, min(room, max(MIN_EXCERPT_TOKENS, max_tokens // 2)), counter)
                cost = _cost(item, extra, max_tokens - used, counter) if item is not None else None
        if item is None or cost is None:
            misses += 1
            continue
        if not counter.additive:
            cost = counter.count(page_text(_in_time([*chosen, item]))) - used
            if used + cost > max_tokens:
                misses += 1
                continue
        misses = 0
        chosen.append(item)
        days.add(heading)
        used += cost
    return chosen


def shrunk(page: Page, max_tokens: int, counter: TokenCounter) -> Page:
    """The best records of a page that fit into fewer tokens."""
    kept: list[PageItem] = []
    for item in sorted(page.items, key=lambda i: -i.hit.score):
        if counter.count(page_text(_in_time([*kept, item]))) <= max_tokens:
            kept.append(item)
    if not kept:
        return replace(EMPTY_PAGE, in_queue=page.in_queue)
    text = page_text(_in_time(kept))
    return Page(text, counter.count(text), _in_time(kept), page.in_queue)


def _cost(item: PageItem, extra: int, room: int, counter: TokenCounter) -> int | None:
    # No text of that many characters fits; do not count it.
    if len(item.text) > 40 * room + 40:
        return None
    cost = extra + counter.count(line(item))
    return cost if cost <= room else None
