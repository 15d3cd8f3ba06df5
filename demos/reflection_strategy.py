"""A reflection strategy of one's own, in some forty lines: it notes who promised what.

From this repository, `PYTHONPATH=. agentmem reflect demos.reflection_strategy:Promises --agent NAME` runs it, and
`python -m demos.reflection_strategy` shows it at work on the demo's history.
"""

from __future__ import annotations

import re

from agentmem.reflection.budget import Estimate
from agentmem.reflection.changes import AddPassage
from agentmem.reflection.strategy import Form, Steps, propose
from agentmem.reflection.view import View
from agentmem.times import day_words, format_time
from agentmem.types import Message

_PROMISE = re.compile(r"\b(?:I promise|I'll|I will|I am going to)\b[^.!?]*[.!?]?")
WINDOW = 100


class Promises:
    """Each sentence in which a person says what they will do becomes a passage that cites it. By rules alone."""

    name = "promises"
    version = 1
    forms: tuple[Form, ...] = ("rules",)

    def __init__(self, most: int = 3) -> None:
        self.most = most

    def estimate(self, view: View) -> Estimate:
        """Rules ask no model: all that there is to say is how much will be read."""
        return Estimate(records=len(view.messages(view.cursor or 0)))

    def run(self, view: View) -> Steps:
        """A window of new messages after the other; each is committed with the cursor, so that a killed run goes on."""
        new = view.messages(view.cursor or 0)
        for start in range(0, len(new), WINDOW):
            window = new[start : start + WINDOW]
            changes = [change for message in window if message.role == "user" for change in self._promises(message)]
            yield from propose(changes, cursor=window[-1].id)

    def _promises(self, message: Message) -> list[AddPassage]:
        who, day = message.name or "the user", day_words(message.at)
        said = [found.group().strip() for found in _PROMISE.finditer(message.content)][: self.most]
        return [
            AddPassage(
                f"{who} promised on {day}: {text}", "promise", (message.ref,),
                tags=("promise",), valid_from=format_time(message.at), why=f"{who} said what they will do",
            )
            for text in said
        ]  # fmt: skip


def main() -> None:
    """Run it on the demo's history: what it changed and why, and that it can be taken back."""
    from pathlib import Path

    from agentmem import Memory, reflect
    from agentmem.reflection import undo
    from agentmem.reflection.telling import job_lines, undone_lines

    with Memory(":memory:", agent="friends", embedder="none") as memory:
        memory.ingest(Path(__file__).with_name("history.jsonl").read_text(encoding="utf-8").splitlines())
        (report,) = reflect(memory, Promises())
        print("\n".join(job_lines(report, memory)))
        (second,) = reflect(memory, Promises())
        print("\n".join(job_lines(second, memory)))
        assert report.job is not None, "the demo's history has promises"
        print("\n".join(undone_lines(undo(memory, report.job))))


if __name__ == "__main__":
    main()
