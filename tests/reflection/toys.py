"""Strategies for tests of the job: one that changes everything that can be changed, window by window."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from agentmem.reflection import AddPassage, Change, ClosePassage, EditBlock, Estimate, Rate, SetKeys, View
from agentmem.reflection.material import material, windows
from agentmem.reflection.strategy import Form, Steps, ask, propose
from agentmem.types import ChatMessage, Completion, Request

WINDOW = 3


class Notes:
    """A note of each window of messages, which supersedes the note before it; further keys, ratings, and a line in core
    memory with how many notes there are."""

    name = "notes"
    version = 1
    forms: tuple[Form, ...] = ("rules", "model")

    def estimate(self, view: View) -> Estimate:
        new = view.messages(view.cursor or 0)
        return Estimate(len(new), len(windows(new, WINDOW)) if view.form == "model" else 0)

    def run(self, view: View) -> Steps:
        for window in windows(view.messages(view.cursor or 0), WINDOW):
            text, rejected = f"A note about {window[0].said}", []
            block = next(b for b in view.blocks() if b.label == "human")
            if view.form == "model":
                shown = material(window)
                request = Request((ChatMessage("system", "Note it."), ChatMessage("user", shown.text)), max_tokens=50)
                (said,) = yield from ask([request])
                text = said.text or text
                rejected = [said.problem] if said.problem else []
            cites = tuple(m.ref for m in window)
            changes: list[Change] = [AddPassage(text, "note", cites, tags=("window",), why="a window is full")]
            notes = list(view.passages(kinds=["note"]))
            notes += [p for p in _fresh(view) if p.id > view.last_passage]
            changes += [
                ClosePassage(p.ref, view.now.isoformat(), "+0", cites) for p in notes[-1:] if p.superseded_by is None
            ]
            lines = [line for line in block.value.splitlines() if not line.startswith("Notes:")]
            changes.append(
                EditBlock("human", block.value, "\n".join([*lines, f"Notes: up to {window[-1].ref}"]), cites)
            )
            for m in window:
                known, _ = view.uses("recall", [m.id])
                before = None if known[0] != known[0] else int(known[0])
                changes.append(Rate(m.ref, 1 + m.id % 10, before, cites))
            (key,) = (view.keys("recall", [window[0].id]).get(window[0].id, ()),)
            changes.append(SetKeys(window[0].ref, (f"window of {window[0].said}",), key, cites))
            yield from propose(changes, cursor=window[-1].id, rejected=rejected)


def _fresh(view: View) -> list[Any]:
    # Notes of this very run: a strategy sees what it committed by reading the store again.
    return [p for p in view._memory.records.archival.after(view.last_passage) if p.kind == "note"]


class Misused:
    """Proposes what must not be taken."""

    name = "misused"
    version = 1
    forms: tuple[Form, ...] = ("rules",)

    def __init__(self, *changes: Change) -> None:
        self.changes = changes

    def estimate(self, view: View) -> Estimate:
        return Estimate()

    def run(self, view: View) -> Steps:
        yield from propose(self.changes, cursor=view.last_message)


class Broken(Misused):
    """A plug-in with a fault."""

    name = "broken"

    def run(self, view: View) -> Steps:
        yield from propose(self.changes)
        raise ZeroDivisionError("a fault of its own")


def noted(request: Request) -> Completion:
    """What a model says to `Notes`: a text that depends on what it was asked, so that none can be mistaken."""
    return Completion("Said of " + json.dumps(request.messages[-1].content[11:75]))


def ascending(values: list[int]) -> bool:
    return all(a < b for a, b in pairwise(values))
