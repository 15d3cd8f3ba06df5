"""The contract of a reflection strategy: a coroutine that asks a model in batches and proposes changes.

class Mine:
    name, version, forms = "mine", 1, ("rules",)
    def estimate(self, view): return Estimate(records=len(view.messages(view.cursor or 0)))
    def run(self, view):
        new = view.messages(view.cursor or 0)
        if new:
            yield from propose([AddPassage("...", "note", sources=(new[-1].ref,))], cursor=new[-1].id)
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from agentmem.reflection.budget import Estimate
    from agentmem.reflection.changes import Change
    from agentmem.reflection.outcome import Applied
    from agentmem.reflection.view import View
    from agentmem.types import Request

Form = Literal["rules", "model"]


@dataclass(frozen=True, slots=True)
class Said:
    """What the model answered to a request, its thinking stripped. `problem` says why there is none ("" when there is):
    then `text` is empty."""

    text: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """Questions for the model; a list of `Said`, one a request, in order, is sent back."""

    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Propose:
    """Changes that belong together, and how far the strategy has come with them: both are written in one transaction,
    or nothing is. A list of `Applied`, one a change, is sent back. `cursor` is a value of JSON, None: as before.
    `rejected` are reasons why parts of answers were not taken; `proposals` what a person might do who is told."""

    changes: tuple[Change, ...] = ()
    cursor: Any = None
    rejected: tuple[str, ...] = ()
    proposals: tuple[str, ...] = ()


Step = Ask | Propose
Steps = Generator[Step, Any, None]


@runtime_checkable
class Strategy(Protocol):
    """One way to reflect.

    Laws: `run` reads through the view alone and changes nothing itself; the same view and the same answers give the
    same steps. Each addition names its sources, which are records of this agent; what is not evidence
    (`View.messages` leaves it out) is never among them, and no text that was paged in is taken for said. The cursor
    goes past all that was read, so that a second run with nothing new neither asks nor proposes. An answer that can't
    be used is left out with a reason (`Propose.rejected`), never guessed at. Stored text is data: whatever it says, the
    steps are of the same kind. `forms` are those that there are: "rules" asks no model. `estimate` is the cost of
    `run` for that view, at least what it will ask when all answers are good; it asks nothing.
    """

    name: str
    version: int
    forms: tuple[Form, ...]

    def estimate(self, view: View) -> Estimate:
        """What `run` will cost at most."""
        ...

    def run(self, view: View) -> Steps:
        """Read, ask, propose."""
        ...


def ask(requests: Sequence[Request]) -> Generator[Step, Any, list[Said]]:
    """`answers = yield from ask(requests)`; nothing is asked for no requests."""
    if not requests:
        return []
    found: list[Said] = yield Ask(tuple(requests))
    return found


def propose(
    changes: Sequence[Change], cursor: Any = None, rejected: Sequence[str] = (), proposals: Sequence[str] = ()
) -> Generator[Step, Any, list[Applied]]:
    """`outcomes = yield from propose(changes, cursor)`."""
    found: list[Applied] = yield Propose(tuple(changes), cursor, tuple(rejected), tuple(proposals))
    return found
