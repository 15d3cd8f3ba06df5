"""A person looks at changes before they are made: one after the other, as a diff, with an answer to each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from agentmem.errors import AgentMemError
from agentmem.reflection.diff import DiffLine, Quotes, diff_of, headline, printable

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.reflection.changes import Change

QUESTION = "apply this change? [y/n/a/q/?] "
HELP = (
    "y: apply it\n"
    "n: leave it out; it is not proposed again\n"
    "a: apply it and all that come\n"
    "q: stop; nothing of what belongs together with this change is written, and the next run proposes it again"
)


class Reviewer:
    """Asks about each change of each proposal. `say` shows a line, `ask` puts the question and returns what was
    answered ("" at the end of the input, which counts as q). `memories` are the agents' by name.

    Called as `agentmem.reflection.job.Review`. Raises AgentMemError after q, for all that comes then.
    """

    def __init__(
        self,
        memories: Mapping[str, Memory],
        say: Callable[[DiffLine | str], None],
        ask: Callable[[str], str],
    ) -> None:
        self._memories = memories
        self._say = say
        self._ask = ask
        self._all = False
        self._ended = False

    def __call__(self, agent: str, strategy: str, changes: Sequence[Change]) -> list[bool]:
        """Of each change whether it is applied."""
        quotes = Quotes(self._memories[agent])
        wanted: list[bool] = []
        for number, change in enumerate(changes, 1):
            if not self._all and not self._ended:
                title = f"{printable(agent)}, {strategy}, {number} of {len(changes)}: {headline(change)}"
                for line in diff_of(change, quotes, title=title):
                    self._say(line)
            wanted.append(self._all or self._taken())
        return wanted

    def _taken(self) -> bool:
        while not self._ended:
            answer = self._ask(QUESTION)
            match answer.strip().lower():
                case "y" | "yes":
                    return True
                case "n" | "no":
                    return False
                case "a" | "all":
                    self._all = True
                    return True
                case "q" | "quit":
                    self._ended = True
                case _ if not answer:
                    self._ended = True
                case _:
                    self._say(HELP)
        raise AgentMemError("the review was ended", hint="the next run proposes the rest again")
