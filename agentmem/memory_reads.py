"""What is read of a memory: searches, pages, records, events. Nothing here changes what is stored (but for catching up:
what has no vector yet gets one)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentmem import archiving
from agentmem.times import parse_time
from agentmem.types import Event, Hit, Message, Page, Passage

if TYPE_CHECKING:
    from agentmem.candidates import Candidates
    from agentmem.compressing import Compressing
    from agentmem.config import MemoryConfig
    from agentmem.planning import Shape
    from agentmem.protocols import Embedder, Reranker
    from agentmem.retrieval import Filter, Found, Retrieval
    from agentmem.store.agent_store import AgentStore
    from agentmem.store.sqlite import SqliteStore


class MemoryReads:
    """The reading half of `agentmem.Memory`, which opens the store and makes the retrieval."""

    config: MemoryConfig
    records: AgentStore
    store: SqliteStore
    shape: Shape
    clock: Callable[[], datetime]
    embedder: Embedder | None
    embedder_spec: str
    reranker: Reranker | None
    compressing: Compressing | None
    _retrieval: Retrieval

    def search(
        self,
        query: str,
        *,
        top_k: int = 10,
        tier: str = "all",
        as_of: datetime | str | None = None,
        known_at: datetime | str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        tags: Sequence[str] = (),
        speaker: str | None = None,
        session: str | None = None,
        superseded: bool = False,
        asked_at: datetime | str | None = None,
        explain: bool = False,
    ) -> list[Hit]:
        """The best records for a query, best first; filters as in `agentmem.retrieval.Filter`.

        `asked_at` resolves "last May" in the query; it never filters.
        """
        from agentmem.retrieval import Filter

        where = Filter.of(
            tier, tags, speaker, session, superseded, as_of=as_of, known_at=known_at, since=since, until=until
        )
        asked = self.clock() if asked_at is None else parse_time(asked_at, "asked_at")
        return list(self._retrieval.search(query, top_k=top_k, where=where, asked_at=asked, explain=explain).hits)

    def page_in(
        self, query: str, *, max_tokens: int, asked_at: datetime | str | None = None, explain: bool = False
    ) -> Page:
        """What memory would page in for a query, within `max_tokens`; for people with a loop of their own."""
        asked = self.clock() if asked_at is None else parse_time(asked_at, "asked_at")
        return self.page(query, max_tokens, frozenset(), asked, explain=explain)

    def message(self, ref: str) -> Message | None:
        """A message by its id (`m12`) or key."""
        if ref[:1] == "m" and ref[1:].isdigit() and (found := self.records.recall.get([int(ref[1:])])):
            return found[0]
        return self.records.recall.by_keys([ref]).get(ref)

    def passage(self, passage_id: str | int) -> Passage:
        """A passage by its id (`p3` or 3). Raises UnknownNameError."""
        return archiving.find(self.records, passage_id)

    def events(self, kind: str | None = None) -> list[Event]:
        """The event log, oldest first, of one kind or all."""
        return list(self.records.journal.events(kind))

    # -- for the agent and the commands -----------------------------------------------------------------------

    def page(
        self,
        query: str,
        max_tokens: int,
        visible: frozenset[str],
        asked_at: datetime,
        *,
        turn: frozenset[str] = frozenset(),
        explain: bool = False,
    ) -> Page:
        """Search and pack; records that stand in the prompt already (`visible`) are noted and not packed again,
        those of the turn itself are left out."""
        return self._retrieval.page(
            query, max_tokens, self.shape.counter, visible=visible, turn=turn, asked_at=asked_at, explain=explain
        )

    def find(self, query: str, **kwargs: Any) -> Found:
        """The ranked records with their true total (`agentmem.retrieval.Retrieval.search`)."""
        return self._retrieval.search(query, **kwargs)

    def candidates(self, query: str, where: Filter, asked_at: datetime | None, **more: Any) -> Candidates:
        """What is ranked for a query, with its signals (`agentmem.retrieval.Retrieval.candidates`)."""
        return self._retrieval.candidates(query, where, asked_at, **more)

    def catch_up(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Embed what has no vector yet."""
        return self._retrieval.indexer.catch_up(progress) if self._retrieval.indexer is not None else 0

    def _make_retrieval(self) -> Retrieval:
        from agentmem.indexing import Indexer
        from agentmem.retrieval import Retrieval

        indexer = None
        if self.embedder is not None:
            indexer = Indexer(self.store, self.records, self.embedder, self.embedder_spec, self.clock)
        return Retrieval(
            self.records, indexer, self.clock, self.reranker, companion=self.config.companion,
            compressing=self.compressing, order=self.config.page_order,
        )  # fmt: skip
