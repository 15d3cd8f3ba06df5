"""The strategy `forget`: what reflection derived and nobody needs is demoted, what people told is only proposed.

To demote is to close a passage: it is not found any more, but by `superseded=True` and `as_of`, and `undo` opens it
again. Nothing is destroyed: for a told record the report names the command that would erase it. When records were used
is known where `companion` is on; without it their age in hours of use counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from agentmem.companion import UNRATED
from agentmem.errors import ConfigError
from agentmem.reflection.budget import Estimate
from agentmem.reflection.changes import ClosePassage
from agentmem.reflection.heat import HALF_LIFE_H, UseClock, covering, warmth
from agentmem.reflection.strategy import Steps, propose
from agentmem.times import format_time, utc_seconds

if TYPE_CHECKING:
    from agentmem.reflection.strategy import Form
    from agentmem.reflection.view import View
    from agentmem.types import Message, Passage

KEEP = 100
MAX_DEMOTIONS = 100
MAX_PROPOSALS = 20
COLD = 0.5
"""Below this warmth a derived passage is cold: one of 3 records and middling importance after 15 days without use."""
MUNDANE = 2
"""A rated importance up to which a told record may be proposed."""
HALF_LIVES = 4.0
"""So many without use before a told record is proposed."""


@dataclass(frozen=True, slots=True)
class _Found:
    passage: Passage
    warmth: float
    hours: float
    gone: int


class Forget:
    """Options: `half_life_h` (hours of use), `keep` (so many derived passages, the warmest, always stay),
    `max_demotions` a run, `cold` (the warmth below which a passage is demoted)."""

    name = "forget"
    version = 1
    forms: tuple[Form, ...] = ("rules",)

    def __init__(
        self,
        half_life_h: float = HALF_LIFE_H,
        keep: int = KEEP,
        max_demotions: int = MAX_DEMOTIONS,
        cold: float = COLD,
    ) -> None:
        for name, value in (("half_life_h", half_life_h), ("cold", cold)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ConfigError(name, value, "must be a number above 0")
        for name, count in (("keep", keep), ("max_demotions", max_demotions)):
            if type(count) is not int or count < 0:
                raise ConfigError(name, count, "must be a whole number, 0 or more")
        self.half_life_h, self.keep, self.max_demotions, self.cold = float(half_life_h), keep, max_demotions, cold

    def estimate(self, view: View) -> Estimate:
        """Reads all passages, and the messages that are rated."""
        return Estimate(len(view.passages(closed=True)) + len(view.messages()))

    def run(self, view: View) -> Steps:
        """Demote what is cold, and say what might be erased."""
        cursor: Mapping[str, Any] = view.cursor if isinstance(view.cursor, dict) else {}
        before = set(cursor.get("demoted", ()))
        messages = view.messages()
        passages = view.passages(closed=True)
        clock = UseClock([utc_seconds(m.stored_at) for m in messages], utc_seconds(view.now))
        cold = self._cold(view, passages, clock, before)
        named = set(cursor.get("proposed", ()))
        proposals = {ref: text for ref, text in self._proposals(view, messages, passages, clock) if ref not in named}
        shown = dict(list(proposals.items())[:MAX_PROPOSALS])
        if not cold and not shown:
            return
        changes = [
            ClosePassage(
                found.passage.ref, format_time(view.now), sources=(found.passage.ref,), why=_why(found)
            )
            for found in cold
        ]  # fmt: skip
        # What was demoted once is left alone: who opened it again wanted it.
        demoted = sorted(before | {found.passage.id for found in cold})
        yield from propose(
            changes, {"demoted": demoted, "proposed": sorted(named | shown.keys())}, proposals=tuple(shown.values())
        )

    def _cold(self, view: View, passages: Sequence[Passage], clock: UseClock, before: set[int]) -> list[_Found]:
        """What is demoted, the coldest first."""
        holding = {p.ref for p in view.passages()}
        known = {p.ref for p in passages}
        derived = [p for p in passages if p.ref in holding and view.depth(p.ref) > 0]
        importance, used = view.uses("archival", [p.id for p in derived])
        found: list[_Found] = []
        for p, rated, last in zip(derived, importance.tolist(), used.tolist(), strict=True):
            gone = sum(s not in holding if s in known else not view.exists(s) for s in p.sources)
            stored = utc_seconds(p.stored_at)
            hours = clock.hours_since(stored if isnan(last) else max(last, stored))
            visits = 0.0 if isnan(last) else 1.0
            pages = len(p.sources) - gone
            value = warmth(visits, pages, hours, UNRATED if isnan(rated) else rated, self.half_life_h)
            found.append(_Found(p, 0.0 if gone == len(p.sources) else value, hours, gone))
        weights = [f.warmth for f in found]
        kept = set(sorted(range(len(found)), key=lambda n: (-weights[n], -n))[: self.keep])
        if any(not isnan(last) for last in used.tolist()):
            # Where uses are known, what covers nearly all of the warmth stays, however cold all is.
            kept.update(covering(weights))
        cold = [f for n, f in enumerate(found) if n not in kept and f.warmth < self.cold and f.passage.id not in before]
        return sorted(cold, key=lambda f: (f.warmth, f.passage.id))[: self.max_demotions]

    def _proposals(
        self, view: View, messages: Sequence[Message], passages: Sequence[Passage], clock: UseClock
    ) -> list[tuple[str, str]]:
        """(ref, what to say) of told records that might be erased: mundane ones that nobody used, and facts that others
        superseded."""
        told = [p for p in passages if view.depth(p.ref) == 0]
        found: list[tuple[float, str, str]] = []
        records: tuple[tuple[str, Sequence[Message | Passage]], ...] = (("recall", messages), ("archival", told))
        for tier, those in records:
            importance, used = view.uses(tier, [r.id for r in those])
            for record, rated, last in zip(those, importance.tolist(), used.tolist(), strict=True):
                stored = utc_seconds(record.stored_at)
                hours = clock.hours_since(stored if isnan(last) else max(last, stored))
                instead = getattr(record, "superseded_by", None)
                if hours < HALF_LIVES * self.half_life_h or not (rated <= MUNDANE or instead is not None):
                    continue
                why = f"superseded by p{instead}" if instead is not None else f"rated {rated:.0f} of 10"
                text = (
                    f"{record.ref} ({why}, not used for {hours / 24:.0f} days of use) might go:"
                    f" agentmem erase {record.ref} --agent {view.agent}"
                )
                found.append((-hours, record.ref, text))
        return [(ref, text) for _, ref, text in sorted(found)]


def _why(found: _Found) -> str:
    if found.gone == len(found.passage.sources):
        return "nothing that it rests on holds any more"
    lost = f", {found.gone} of the records that it rests on hold no longer" if found.gone else ""
    return f"cold: warmth {found.warmth:.2f} after {found.hours / 24:.0f} days of use without it{lost}"
