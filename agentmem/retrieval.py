"""Finding records: candidates of both tiers, one ranking over them, and a page of the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from agentmem import candidates, ranking
from agentmem.candidates import POOL, Candidates, Query
from agentmem.errors import InvalidInputError
from agentmem.indexing import Indexer
from agentmem.paging import pack
from agentmem.questions import analyse
from agentmem.times import parse_time, utc_seconds
from agentmem.types import EMPTY_PAGE, Hit, Message, Page, PageItem, Passage, Tier

if TYPE_CHECKING:
    from agentmem.protocols import TokenCounter
    from agentmem.store.agent_store import AgentStore

IN_QUEUE = 12
"""So many of the best records that stand in the queue are named in a page."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What may be found. `tier` None is both; times are inclusive.

    Archival passages are those that hold at `as_of` (None: now), with `superseded` also those that held before;
    `known_at` also leaves out what was learned later. Only messages have a speaker (in any case) and a session: with
    one of those no passage is found; only passages have tags.
    """

    tier: Tier | None = None
    as_of: datetime | None = None
    known_at: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    tags: tuple[str, ...] = ()
    speaker: str | None = None
    session: str | None = None
    superseded: bool = False

    @classmethod
    def of(
        cls,
        tier: str,
        tags: Sequence[str],
        speaker: str | None,
        session: str | None,
        superseded: bool,
        **times: datetime | str | None,
    ) -> Filter:
        """A filter from what users give. Raises InvalidInputError naming the field."""
        if tier not in ("all", *Tier):
            raise InvalidInputError("tier", tier, "must be all, recall or archival")
        given = {name: parse_time(value, name) for name, value in times.items() if value is not None}
        since, until = given.get("since"), given.get("until")
        if since is not None and until is not None and utc_seconds(since) > utc_seconds(until):
            raise InvalidInputError("since", times["since"], f"is after until, {times['until']}")
        which = None if tier == "all" else Tier(tier)
        return cls(which, tags=tuple(tags), speaker=speaker, session=session, superseded=superseded, **given)


@dataclass(frozen=True, slots=True)
class Found:
    """Ranked hits, best first; `rest` (on request) are the refs of all further records that share a word with the
    query, by BM25."""

    hits: tuple[Hit, ...]
    rest: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """How many records match: those ranked, and those that only share a word."""
        return len(self.hits) + len(self.rest)


class Retrieval:
    """Searches one agent. `indexer` is None when there is no embedder: then the search is lexical alone."""

    def __init__(self, agent: AgentStore, indexer: Indexer | None, clock: Callable[[], datetime]) -> None:
        self._agent = agent
        self.indexer = indexer
        self._clock = clock

    def search(
        self,
        query: str,
        *,
        top_k: int | None,
        where: Filter = Filter(),
        asked_at: datetime | None = None,
        explain: bool = False,
        exhaustive: bool = False,
        widen: int = 0,
    ) -> Found:
        """The best `top_k` records; None ranks all that were looked at (some hundreds), and `exhaustive` adds the refs
        of all others that share a word with the query. `widen` looks at so many more.
        Raises InvalidInputError for an empty query.
        """
        if top_k is not None and top_k < 1:
            raise InvalidInputError("top_k", top_k, "must be at least 1")
        found = self.candidates(query, where, asked_at, exhaustive=exhaustive, pool=POOL + widen)
        scores = ranking.score(found.signals)
        hits = tuple(_hit(found.records[n], scores, int(n), explain) for n in scores.order[:top_k])
        ranked = {r.ref for r in found.records}
        return Found(hits, tuple(r for r in found.matched if r not in ranked) if exhaustive else ())

    def candidates(
        self,
        query: str,
        where: Filter = Filter(),
        asked_at: datetime | None = None,
        *,
        exhaustive: bool = False,
        pool: int = POOL,
    ) -> Candidates:
        """What is ranked for a query, with its signals. Raises InvalidInputError for an empty query."""
        if not query.strip():
            raise InvalidInputError("query", query, "is empty", hint="say what to look for")
        question = analyse(query, self._agent.recall.names(), asked_at)
        asked = Query(question, None, 0)
        if self.indexer is not None:
            self.indexer.catch_up()
            asked = Query(question, self.indexer.embed_query(question.dense_text), self.indexer.fingerprint().id)
        parts = []
        of_messages = where.speaker is not None or where.session is not None
        if where.tier in (None, Tier.RECALL) and not where.tags:
            # A history as it stood then: what was said later is not part of it.
            until = min((utc_seconds(t) for t in (where.until, where.as_of) if t is not None), default=None)
            within = self._agent.recall.selection(
                _seconds(where.since), until, name=where.speaker, session=where.session
            )
            parts.append(candidates.messages(self._agent, asked, within, pool=pool, exhaustive=exhaustive))
        if where.tier in (None, Tier.ARCHIVAL) and not of_messages:
            within = self._agent.archival.selection(
                utc_seconds(where.as_of or self._clock()), _seconds(where.known_at), since=_seconds(where.since),
                until=_seconds(where.until), tags=where.tags, superseded=where.superseded,
            )  # fmt: skip
            parts.append(candidates.passages(self._agent, asked, within, pool=pool, exhaustive=exhaustive))
        return candidates.joined(parts) if parts else candidates.nothing()

    def page(
        self,
        query: str,
        max_tokens: int,
        counter: TokenCounter,
        *,
        visible: frozenset[str],
        turn: frozenset[str],
        asked_at: datetime,
        explain: bool,
    ) -> Page:
        """Search and pack; `visible` records stand in the prompt already, those of the `turn` are its own."""
        if not query.strip() and max_tokens > 0:
            return EMPTY_PAGE
        found = self.search(query, top_k=None, asked_at=asked_at, explain=explain, widen=len(visible))
        hits = [h for h in found.hits if h.id not in turn]
        new = [h for h in hits if h.id not in visible]
        page = pack(new, query, max_tokens, counter, _worth(new))
        seen = [PageItem(h, 0, len(h.text)) for h in hits if h.id in visible]
        return replace(page, in_queue=tuple(seen[:IN_QUEUE]))


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else utc_seconds(at)


def _worth(hits: Sequence[Hit]) -> list[float]:
    """What hits are worth in a page, 1 for the best: the odds of the softmax that the ranking was fitted with."""
    scores = [min(max(h.score, 1e-15), 1 - 1e-15) for h in hits]
    totals = [4 * (math.log(s) - math.log1p(-s)) for s in scores]
    return [math.exp(t - totals[0]) for t in totals]


def _hit(record: Message | Passage, scores: ranking.Scores, n: int, explain: bool) -> Hit:
    shown = {name: round(value, 6) for name, value in scores.parts(n).items()} if explain else None
    if isinstance(record, Message):
        return Hit(
            record.ref, Tier.RECALL, record.said, scores.score(n), record.at, key=record.key, name=record.name,
            role=record.role, session=record.session, parts=shown,
        )  # fmt: skip
    return Hit(
        record.ref, Tier.ARCHIVAL, record.text, scores.score(n), record.valid_from, key=record.key,
        source=record.sources, tags=record.tags, parts=shown,
    )  # fmt: skip
