"""What of the ranked hits is paged in, within a number of tokens, and how it is written. Planning is pure.

Written by time, a line for each day, each record on a line with its id: models need the date, and the id to cite it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agentmem.errors import InvalidInputError
from agentmem.keys import chunk_spans
from agentmem.language import content_words, sentences
from agentmem.ordering import OrderPolicy, ordered
from agentmem.packing import MAX_CAPACITY, MAX_ITEMS, Variant, choose
from agentmem.times import day_words
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


Shorten = Callable[[Sequence[Hit], Sequence[int], int], Sequence[Sequence[tuple[PageItem, float]]]]
"""(hits, what each costs whole, the page's tokens) -> for each hit shorter forms, with the share of its worth that each
keeps: `agentmem.compressing` makes one."""


def label(hit: Hit) -> str:
    """What stands before a record: its id (the caller's key where there is one) and who said it."""
    who = hit.name or (hit.role if hit.tier is Tier.RECALL else "memory")
    return f"{hit.key or hit.id} {who}:"


def line(item: PageItem) -> str:
    """A record as it stands in a page. What was cut off is marked; a compressed text reads as such."""
    text = item.text if item.whole or item.spans else f"[...] {item.text} [...]"
    return f"{label(item.hit)} {text}"


def heading(hit: Hit) -> str:
    """The line under which a record stands."""
    return day_words(hit.at)


def page_text(items: Sequence[PageItem]) -> str:
    """The page: a heading for each day."""
    lines: list[str] = []
    day = ""
    for item in items:
        if (found := heading(item.hit)) != day:
            lines.append(found)
            day = found
        lines.append(line(item))
    return "\n".join(lines)


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
    hits: Sequence[Hit],
    query: str,
    max_tokens: int,
    counter: TokenCounter,
    values: Sequence[float] | None = None,
    *,
    shorten: Shorten | None = None,
    order: OrderPolicy = "time",
) -> Page:
    """A page of hits within `max_tokens`; `num_tokens` of the result never exceeds it.

    With `values` (what each hit is worth, best first) it is a knapsack: the records, whole or shortened, that are worth
    most together; then what still fits, by rank. Without, the best that fit, by rank. `shorten` is asked for shorter
    forms where not all hits fit whole; without it a long record may be shown by an excerpt.
    """
    if max_tokens < 1:
        raise InvalidInputError("max_tokens", max_tokens, "must be at least 1")
    chosen: list[PageItem] = []
    if values is not None and max_tokens <= MAX_CAPACITY:
        chosen = _worth_most(hits, values, query, max_tokens, counter, shorten)
    chosen = _filled(chosen, hits, query, max_tokens, counter)
    while chosen:
        items = ordered(chosen, order)
        text = page_text(items)
        if (total := counter.count(text)) <= max_tokens:
            return Page(text, total, items)
        chosen.pop()  # times of several zones: a day may need its heading more than once
    return EMPTY_PAGE


def _worth_most(
    hits: Sequence[Hit],
    values: Sequence[float],
    query: str,
    max_tokens: int,
    counter: TokenCounter,
    shorten: Shorten | None,
) -> list[PageItem]:
    """The knapsack's choice, by rank. A day's heading is charged to the first hit of that day."""
    looked_at = list(hits[:MAX_ITEMS])
    joint = 0 if counter.additive else 1
    extras: list[int] = []
    days: set[str] = set()
    for hit in looked_at:
        extras.append((0 if heading(hit) in days else counter.count(heading(hit)) + joint) + joint)
        days.add(heading(hit))
    wholes = [
        _cost(PageItem(h, 0, len(h.text)), e, max_tokens, counter) for h, e in zip(looked_at, extras, strict=True)
    ]
    short: Sequence[Sequence[tuple[PageItem, float]]] = [()] * len(looked_at)
    if shorten is None:
        short = _excerpts(looked_at, query, max_tokens, wholes, extras, counter)
    elif len(hits) > len(looked_at) or None in wholes or sum(w or 0 for w in wholes) > max_tokens:
        short = shorten(looked_at, [w or max_tokens + 1 for w in wholes], max_tokens)
    items: list[list[PageItem]] = []
    variants: list[list[Variant]] = []
    for hit, value, whole, extra, others in zip(looked_at, values, wholes, extras, short, strict=False):
        ways = [(PageItem(hit, 0, len(hit.text)), value, whole)]
        ways += [(i, value * share, _cost(i, extra, max_tokens, counter)) for i, share in others]
        kept = [(item, Variant(v, c)) for item, v, c in ways if c is not None]
        items.append([item for item, _ in kept])
        variants.append([v for _, v in kept])
    picked = zip(items, choose(variants, max_tokens), strict=True)
    chosen = [ways[n] for ways, n in picked if n is not None]
    while chosen and counter.count(page_text(ordered(chosen, "time"))) > max_tokens:
        chosen.pop()
    return chosen


def _excerpts(
    hits: Sequence[Hit],
    query: str,
    max_tokens: int,
    wholes: Sequence[int | None],
    extras: Sequence[int],
    counter: TokenCounter,
) -> list[list[tuple[PageItem, float]]]:
    """Without a compressor: of long records an excerpt."""
    out: list[list[tuple[PageItem, float]]] = [[] for _ in hits]
    for n, (hit, whole, extra) in enumerate(list(zip(hits, wholes, extras, strict=True))[:MAX_SHORTENED]):
        if whole is not None and len(hit.text) <= LONG_CHARS:
            continue
        most = EXCERPT_TOKENS if whole is not None else max(EXCERPT_TOKENS, max_tokens // 2)
        room = min(max_tokens - extra - counter.count(f"{label(hit)} [...] [...]") - 1, most)
        found = excerpt(hit, query, room, counter) if room >= MIN_EXCERPT_TOKENS else None
        if found is not None and not found.whole:
            # What never fits whole loses nothing by being shortened.
            out[n].append((found, 1.0 if whole is None else EXCERPT_WORTH))
    return out


def _filled(
    chosen: list[PageItem], hits: Sequence[Hit], query: str, max_tokens: int, counter: TokenCounter
) -> list[PageItem]:
    """With the best further hits that fit, in whole where possible. The count of an additive counter is kept as the
    page grows; with another the text is counted whole each time."""
    chosen = list(chosen)
    there = {item.hit.id for item in chosen}
    days = {heading(item.hit) for item in chosen}
    used = counter.count(page_text(ordered(chosen, "time"))) if chosen else 0
    misses = 0
    for hit in hits:
        if misses >= MAX_MISSES or max_tokens - used < 4:
            break
        if hit.id in there:
            continue
        extra = 0 if heading(hit) in days else counter.count(heading(hit))
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
            cost = counter.count(page_text(ordered([*chosen, item], "time"))) - used
            if used + cost > max_tokens:
                misses += 1
                continue
        misses = 0
        chosen.append(item)
        days.add(heading(hit))
        used += cost
    return chosen


def shrunk(page: Page, max_tokens: int, counter: TokenCounter) -> Page:
    """The best records of a page that fit into fewer tokens, in the page's order."""
    kept: list[PageItem] = []
    for item in sorted(page.items, key=lambda i: -i.hit.score):
        if counter.count(page_text([i for i in page.items if i in (*kept, item)])) <= max_tokens:
            kept.append(item)
    if not kept:
        return replace(EMPTY_PAGE, in_queue=page.in_queue)
    items = tuple(i for i in page.items if i in kept)
    text = page_text(items)
    return Page(text, counter.count(text), items, page.in_queue)


def _cost(item: PageItem, extra: int, room: int, counter: TokenCounter) -> int | None:
    # No text of that many characters fits; do not count it.
    if len(item.text) > 40 * room + 40:
        return None
    cost = extra + counter.count(line(item))
    return cost if cost <= room else None
