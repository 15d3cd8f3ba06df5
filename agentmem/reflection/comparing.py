"""Facts compared by twos: which are the same, which newer one takes an older one's place, and what is closed for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentmem.reflection.changes import ClosePassage
from agentmem.reflection.material import one_line
from agentmem.reflection.nearby import Fact, Nearby
from agentmem.reflection.relations import relation
from agentmem.times import format_time, utc_seconds


@dataclass(frozen=True, slots=True)
class Pair:
    """The older fact, the newer one, and whether that takes its place ("updates") or says the same ("same")."""

    older: Fact
    newer: Fact
    name: str


def compared(new: Sequence[Fact], known: Sequence[Fact]) -> list[Pair]:
    """By rules: the pairs of a new fact with a known one of which one says the same as the other, or ends it."""
    nearby = Nearby(known)
    found: list[Pair] = []
    done: set[frozenset[str]] = set()
    for fact in new:
        for other in nearby.of(fact):
            both = frozenset({fact.ref, other.ref})
            if both in done:
                continue
            done.add(both)
            older, newer = sorted((fact, other), key=lambda f: f.order)
            if older.plain == newer.plain and (older.states_now or older.told == newer.told):
                found.append(Pair(older, newer, "same"))
            elif relation(older.statements, newer.statements).name == "updates":
                found.append(Pair(older, newer, "updates"))
    return found


def closings(pairs: Sequence[Pair]) -> list[ClosePassage]:
    """What pairs close: each older fact once, by the first of those that came after it."""
    first: dict[str, Pair] = {}
    for pair in pairs:
        held = first.get(pair.older.ref)
        if held is None or (pair.name == "same", pair.newer.order) < (held.name == "same", held.newer.order):
            first[pair.older.ref] = pair
    out: list[ClosePassage] = []
    for pair in sorted(first.values(), key=lambda p: p.older.number):
        older, newer = pair.older, pair.newer
        says = "otherwise" if pair.name == "updates" else "the same"
        why = f"{newer.ref} is newer and says {says}: {one_line(newer.text, 120)}"
        ends = format_time(_end(older, newer))
        out.append(ClosePassage(older.ref, ends, newer.ref, (older.ref, newer.ref), why))
    return out


def _end(older: Fact, newer: Fact) -> Any:
    """When the older one ceased to hold: when the newer one began to, or, where that is not known so well, was told."""
    begins, known = newer.happened
    return begins if utc_seconds(begins) > utc_seconds(older.happened[1]) else known
