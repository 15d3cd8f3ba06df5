"""Rates an agent's new records, and says how far the rating and the reflection on it have come."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from agentmem.reflection.changes import Rate
from agentmem.reflection.importance import Record, names_in, rating_batches, read_ratings, rule_importance, text_of
from agentmem.reflection.strategy import Step, ask, propose
from agentmem.times import utc_seconds
from agentmem.types import Message

if TYPE_CHECKING:
    from agentmem.reflection.view import View

RATED_AT_ONCE = 500
KNOWN_NAMES_FROM = 2000
"""By rules, a name is mentioned for the first time when none of so many messages before had it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The cursor: ids up to which messages and passages were rated, and up to which they were reflected on."""

    message: int = 0
    passage: int = 0
    from_message: int = 0
    from_passage: int = 0
    first: bool = True
    """Nothing was reflected on yet."""

    @classmethod
    def of(cls, cursor: Any) -> Progress:
        """From the value that was committed."""
        return cls(**cursor) if isinstance(cursor, Mapping) else cls()

    def to_json(self) -> dict[str, Any]:
        """As the value that is committed."""
        return asdict(self)

    def rated(self, records: Iterable[Record]) -> Progress:
        """After the rating of these."""
        message, passage = _ends(records)
        return replace(self, message=max(self.message, message), passage=max(self.passage, passage))

    def reflected(self, records: Iterable[Record]) -> Progress:
        """After the reflection on these."""
        message, passage = _ends(records)
        return replace(
            self, from_message=max(self.from_message, message), from_passage=max(self.from_passage, passage),
            first=False,
        )  # fmt: skip


def told(view: View, message: int, passage: int) -> list[Record]:
    """What was said or told above these ids (passages derived from others are left out), in the order of storing."""
    messages = view.messages(message)
    passages = [p for p in view.passages(passage) if not p.sources]
    # A merge that keeps the order of ids within each tier: a cursor of two ids then says which were seen.
    out: list[Record] = []
    m = p = 0
    while m < len(messages) and p < len(passages):
        if utc_seconds(messages[m].stored_at) <= utc_seconds(passages[p].stored_at):
            out.append(messages[m])
            m += 1
        else:
            out.append(passages[p])
            p += 1
    return [*out, *messages[m:], *passages[p:]]


def known_ratings(view: View, records: Sequence[Record]) -> dict[str, int]:
    """The importance of those that have one."""
    found: dict[str, int] = {}
    for tier, kind in (("recall", "m"), ("archival", "p")):
        ids = [r.id for r in records if r.ref[0] == kind]
        if ids:
            importance, _ = view.uses(tier, ids)
            found |= {f"{kind}{i}": int(v) for i, v in zip(ids, importance, strict=True) if v == v}
    return found


def rate(view: View, at: Progress) -> Generator[Step, Any, Progress]:
    """Propose an importance for what has none, batch by batch; how far it came."""
    new = told(view, at.message, at.passage)
    known = known_ratings(view, new)
    if view.form == "rules":
        before = view.messages(max(0, at.message - KNOWN_NAMES_FROM), at.message)
        names = {name for m in before for name in names_in(m.said)} | {m.name.lower() for m in before if m.name}
        for start in range(0, len(new), RATED_AT_ONCE):
            run = new[start : start + RATED_AT_ONCE]
            changes = []
            for r in run:
                if r.ref not in known:
                    changes.append(Rate(r.ref, rule_importance(r, names), why="by a rule of thumb"))
                names |= names_in(text_of(r))
            at = at.rated(run)
            yield from propose(changes, at.to_json())
        return at
    batches = rating_batches(view, [r for r in new if r.ref not in known])
    answers = yield from ask([request for _, _, request in batches])
    for (run, shown, _), said in zip(batches, answers, strict=True):
        ratings, reasons = read_ratings(shown, said)
        at = at.rated(run)
        yield from propose(
            [Rate(ref, value, why="by the model") for ref, value in ratings.items()], at.to_json(), reasons
        )
    if new and at.rated(new) != at:  # those at the end were rated by somebody else
        at = at.rated(new)
        yield from propose([], at.to_json())
    return at


def _ends(records: Iterable[Record]) -> tuple[int, int]:
    listed = list(records)
    messages = [r.id for r in listed if isinstance(r, Message)]
    passages = [r.id for r in listed if not isinstance(r, Message)]
    return max(messages, default=0), max(passages, default=0)
