"""What a strategy may read of a memory, as it stood when the job began: evidence alone.

What was paged in, quoted from memory, or came back from a tool is no evidence: nobody said it again. What an assistant
said is evidence of what it said, and marked by its role.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentmem.times import utc_seconds
from agentmem.types import Block, Hit, Message, Passage, number_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.memory import Memory
    from agentmem.protocols import TokenCounter
    from agentmem.reflection.strategy import Form


class View:
    """One agent's records for one strategy. `cursor` is what the strategy committed last (None: nothing yet), `form`
    "rules" or "model". Messages and passages stored after the job began are not in it."""

    def __init__(self, memory: Memory, cursor: Any, form: Form, seed: int = 0) -> None:
        self._memory = memory
        self.agent = memory.agent_name
        self.cursor = cursor
        self.form = form
        self.seed = seed
        self.now: datetime = memory.clock()
        self.last_message = memory.records.recall.last_id()
        self.last_passage = memory.records.archival.next_id() - 1

    @property
    def counter(self) -> TokenCounter:
        """Counts as the backend does."""
        return self._memory.shape.counter

    @property
    def window_tokens(self) -> int:
        """Of the model; a request and its answer have to fit."""
        return self._memory.config.window_tokens

    def messages(self, after: int = 0, last: int | None = None) -> list[Message]:
        """What was said, by id: messages with ids above `after` and up to `last` (both in the view), of people and
        assistants, without what only repeats memory."""
        last = self.last_message if last is None else min(last, self.last_message)
        return [m for m in self._memory.records.recall.since(after + 1, last) if m.searchable] if last > after else []

    def message(self, ref: str) -> Message | None:
        """A message that is evidence, by its ref."""
        number = number_of(ref, "m")
        found = self._memory.records.recall.get([number]) if 0 < number <= self.last_message else []
        return found[0] if found and found[0].searchable else None

    def passages(self, after: int = 0, *, kinds: Sequence[str] = (), closed: bool = False) -> list[Passage]:
        """Passages with ids above `after`, of some kinds (all), that hold now; with `closed` also those that do not."""
        found = [p for p in self._memory.records.archival.after(after) if p.id <= self.last_passage]
        now = utc_seconds(self.now)
        return [p for p in found if (not kinds or p.kind in kinds) and (closed or _holds(p, now))]

    def passage(self, ref: str) -> Passage | None:
        """A passage by its ref, closed ones too."""
        number = number_of(ref, "p")
        found = self._memory.records.archival.get([number]) if 0 < number <= self.last_passage else []
        return found[0] if found else None

    def exists(self, ref: str) -> bool:
        """Whether a ref names evidence of this agent."""
        return self.message(ref) is not None if ref.startswith("m") else self.passage(ref) is not None

    def depth(self, ref: str) -> int:
        """0 for what was said or told; for a passage that reflection derived (insights and their like) one more than
        the deepest of its sources."""
        passage = self.passage(ref) if ref.startswith("p") else None
        if passage is None or not passage.sources or passage.kind == "fact":
            return 0
        # Sources have lower ids, or are messages: no circles.
        return 1 + max(self.depth(s) for s in passage.sources if s != ref)

    def blocks(self) -> tuple[Block, ...]:
        """The core blocks."""
        return self._memory.records.journal.blocks()

    def block_edits(self, label: str) -> list[Mapping[str, Any]]:
        """The edits of a block, oldest first: `op`, the text `before` and `after`, by whom (`actor`: "user", "tool",
        "reflect:j1", "undo:j1") and when (`at`, ISO 8601)."""
        return list(self._memory.records.journal.block_edits(label))

    def search(self, query: str, *, top_k: int = 10, tier: str = "all") -> list[Hit]:
        """The best records of the view for a query."""
        hits = self._memory.search(query, top_k=top_k, tier=tier)
        return [h for h in hits if int(h.id[1:]) <= (self.last_message if h.id[0] == "m" else self.last_passage)]

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32] | None:
        """A unit row a text, shape (len(texts), dim); None where the memory has no embedder."""
        embedder = self._memory.embedder
        return None if embedder is None else embedder.embed(list(texts), input_type="document")

    def uses(self, tier: str, ids: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Importance (1 to 10) and last use (UTC seconds) of records of a tier ("recall", "archival"), NaN where
        nothing is known, both of shape (len(ids),)."""
        return self._memory.records.uses.of(tier, ids)

    def keys(self, tier: str, ids: Sequence[int]) -> Mapping[int, tuple[str, ...]]:
        """The further keys of those records that have any."""
        return self._memory.records.keys.of(tier, ids)


def _holds(passage: Passage, now: float) -> bool:
    ends = passage.valid_to
    return utc_seconds(passage.valid_from) <= now and (ends is None or utc_seconds(ends) > now)
