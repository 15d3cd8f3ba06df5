"""Replay: write every logged prompt again from the records and compare its bytes with what was sent.

Nothing is searched and no model is asked: a prompt's plan names all that stood in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmem import prompts
from agentmem.context import PromptPlan, fingerprint, render
from agentmem.history import item_of
from agentmem.types import ChatMessage, Hit, Message, PageItem, Tier

if TYPE_CHECKING:
    from agentmem.memory import Memory


@dataclass(frozen=True, slots=True)
class Replayed:
    """One prompt, written again. `status`: `same` (byte for byte), `differs`, `erased` (it held something that was
    erased since), or `other_template` (written by a version with other fixed texts)."""

    event: int
    turn: int
    step: int
    status: str
    messages: tuple[ChatMessage, ...] = ()
    detail: str = ""


def replay(memory: Memory) -> Iterator[Replayed]:
    """Every prompt of the event log, oldest first."""
    erased: set[str] = set()
    for event in memory.records.journal.events("erase"):
        erased.update(event.payload["refs"])
    erase_numbers = [e.number for e in memory.records.journal.events("erase")]
    for event in memory.records.journal.events("prompt"):
        plan = PromptPlan.from_payload(event.payload["plan"])
        touched_later = any(n > event.number for n in erase_numbers)
        head = (event.number, int(event.payload["turn"]), int(event.payload["step"]))
        if plan.template != prompts.TEMPLATE:
            detail = f"template {plan.template}, this version writes {prompts.TEMPLATE}"
            yield Replayed(*head, "other_template", detail=detail)
            continue
        gone = sorted(_named(plan) & erased)
        if gone:
            yield Replayed(*head, "erased", detail=f"it held {', '.join(gone[:5])}")
            continue
        epoch = memory.records.journal.epoch(plan.epoch)
        items = [_item(memory, piece) for piece in plan.pieces]
        if epoch is None or any(i is None for i in items):
            yield Replayed(*head, "differs", detail="a record that it held is missing")
            continue
        messages = {m.id: m for m in _stored(memory, plan)}
        try:
            written = render(plan, epoch, messages, [i for i in items if i is not None])
        except KeyError as e:
            yield Replayed(*head, "differs", detail=f"message {e} is missing")
            continue
        shown = tuple(w.message() for w in written)
        if fingerprint(written) == event.payload["sha256"]:
            yield Replayed(*head, "same", shown)
        elif touched_later and (plan.summary or plan.earlier):
            detail = "its summary, compressed history or core memory held something erased"
            yield Replayed(*head, "erased", shown, detail)
        else:
            yield Replayed(*head, "differs", shown, "the bytes are not the same")


def _named(plan: PromptPlan) -> set[str]:
    ids = {*range(plan.first, plan.last + 1), *plan.turn}
    return {f"m{i}" for i in ids} | {str(piece[0]) for piece in plan.pieces}


def _stored(memory: Memory, plan: PromptPlan) -> list[Message]:
    recall = memory.records.recall
    queue = recall.since(plan.first, plan.last) if plan.last >= plan.first else []
    return queue + recall.get(plan.turn)


def _item(memory: Memory, piece: Sequence[str | int]) -> PageItem | None:
    ref = str(piece[0])
    if ref.startswith("m"):
        message = memory.message(ref)
        if message is None:
            return None
        hit = item_of(message).hit
    else:
        found = memory.records.archival.get([int(ref[1:])])
        if not found:
            return None
        hit = Hit(ref, Tier.ARCHIVAL, found[0].text, 0.0, found[0].valid_from, found[0].key)
    return PageItem.of_piece(hit, piece)
