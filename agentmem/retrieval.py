"""Finding records: candidates of both tiers, one ranking over them, and a page of the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from agentmem import candidates, companion, ranking
from agentmem.candidates import POOL, Candidates, Query
from agentmem.compressing import Compressing
from agentmem.errors import InvalidInputError
from agentmem.indexing import Indexer
from agentmem.keys import part_spans
from agentmem.ordering import OrderPolicy
from agentmem.paging import pack
from agentmem.questions import analyse
from agentmem.reranking import RERANKED, rerank
from agentmem.summary_nodes import SUMMARIES
from agentmem.times import parse_time, utc_seconds
from agentmem.types import EMPTY_PAGE, Hit, Message, Page, PageItem, Passage, Tier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.protocols import Reranker, TokenCounter
    from agentmem.store.agent_store import AgentStore

SPREAD = 0.85
"""Where records may stand shortened more of them fit, and the ranking's odds are too sure of the first."""
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

    def __init__(
        self,
        agent: AgentStore,
        indexer: Indexer | None,
        clock: Callable[[], datetime],
        reranker: Reranker | None = None,
        *,
        companion: bool = False,
        compressing: Compressing | None = None,
        order: OrderPolicy = "time",
    ) -> None:
        self._agent = agent
        self.indexer = indexer
        self._clock = clock
        self._reranker = reranker
        self._companion = companion
        self._compressing = compressing
        self._order = order

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
        turn: frozenset[str] = frozenset(),
    ) -> Found:
        """The best `top_k` records; None ranks all that were looked at (some hundreds), and `exhaustive` adds the refs
        of all others that share a word with the query. `widen` looks at so many more; by the
        companion's ranking records of the `turn` are not ranked: the question is like nothing so much as itself.
        Raises InvalidInputError for an empty query.
        """
        if top_k is not None and top_k < 1:
            raise InvalidInputError("top_k", top_k, "must be at least 1")
        import numpy as np

        found = self.candidates(query, where, asked_at, exhaustive=exhaustive, pool=POOL + widen)
        scores = ranking.score(found.signals)
        order = scores.order
        if self._companion:
            order = order[[found.refs[n] not in turn for n in order]]
        elif self._reranker is None:
            order = order[:top_k]
        places = {found.refs[n]: int(n) for n in order}
        records = found.records(self._agent, order)
        hits = [_hit(record, scores, places[record.ref], explain) for record in records]
        order = np.array([places[h.id] for h in hits], np.int64)
        if self._companion:
            hits = self._by_use(hits, scores.total[order], asked_at)
        if self._reranker is not None:
            hits = self._reranked(self._reranker, query, hits, scores.total[order])
        ranked = set(found.refs)
        return Found(tuple(hits[:top_k]), tuple(r for r in found.matched if r not in ranked) if exhaustive else ())

    def _by_use(self, hits: list[Hit], totals: NDArray[np.float64], asked_at: datetime | None) -> list[Hit]:
        """By recency, importance and relevance (`agentmem.companion`); what was never used counts as used at its own
        time."""
        import numpy as np

        importance, used = np.full(len(hits), np.nan), np.array([utc_seconds(h.at) for h in hits])
        for tier in Tier:
            rows = np.array([n for n, h in enumerate(hits) if h.tier is tier], np.int64)
            importance[rows], last = self._agent.uses.of(tier, [int(hits[n].id[1:]) for n in rows])
            used[rows] = np.where(np.isnan(last), used[rows], last)
        now = utc_seconds(asked_at or self._clock())
        return companion.reordered(hits, companion.companion_totals(totals, used, importance, now))

    def _cosines(self, query: str, hits: Sequence[Hit]) -> Mapping[str, Sequence[tuple[int, int, float]]]:
        """What the archive's vectors say of the sentences (of long texts: the chunks) of hits."""
        if self.indexer is None:
            return {}
        question = analyse(query, self._agent.recall.names(), None)
        vector = self.indexer.embed_query(question.dense_text)
        out: dict[str, Sequence[tuple[int, int, float]]] = {}
        for tier, letter in ((Tier.RECALL, "m"), (Tier.ARCHIVAL, "p")):
            texts = {int(h.id[1:]): h.text for h in hits if h.tier is tier}
            if not texts:
                continue
            owners, parts, rows = self._agent.vectors.parts_of(tier, sorted(texts))
            cosines = (rows @ vector).tolist() if len(rows) else []
            found: dict[int, tuple[list[int], list[float]]] = {}
            for owner, part, cosine in zip(owners.tolist(), parts.tolist(), cosines, strict=True):
                known = found.setdefault(owner, ([], []))
                known[0].append(part)
                known[1].append(cosine)
            out |= {f"{letter}{i}": _known_parts(texts[i], *known) for i, known in found.items()}
        return out

    @staticmethod
    def _reranked(reranker: Reranker, query: str, hits: list[Hit], totals: NDArray[np.float64]) -> list[Hit]:
        """With the best in the reranker's order. Their scores are dealt out anew, the best to the first: so they stay
        comparable with those of the hits below."""
        best = hits[:RERANKED]
        order, scores = rerank(reranker, query, [h.text for h in best], totals[: len(best)])
        for place, n in enumerate(order):
            hit = best[n]
            parts = None if hit.parts is None else {**hit.parts, "reranker": float(scores[n])}
            hits[place] = replace(hit, score=best[place].score, parts=parts)
        return hits

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
            parts.append(candidates.messages(self._agent, asked, within, until=until, pool=pool, exhaustive=exhaustive))
        if where.tier in (None, Tier.ARCHIVAL) and not of_messages:
            within = self._agent.archival.selection(
                utc_seconds(where.as_of or self._clock()), _seconds(where.known_at), since=_seconds(where.since),
                until=_seconds(where.until), tags=where.tags, superseded=where.superseded,
                without=() if SUMMARIES in where.tags else (SUMMARIES,),
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
        found = self.search(query, top_k=None, asked_at=asked_at, explain=explain, widen=len(visible), turn=turn)
        hits = [h for h in found.hits if h.id not in turn]
        new = [h for h in hits if h.id not in visible]
        worth = _worth(new)
        shorten = None
        if self._compressing is not None:
            by_id = {h.id: w for h, w in zip(new, worth, strict=True)}
            shorten = self._compressing.shorten(query, counter, lambda some: self._cosines(query, some), by_id)
            worth = [w**SPREAD for w in worth]
        page = pack(new, query, max_tokens, counter, worth, shorten=shorten, order=self._order)
        seen = [PageItem(h, 0, len(h.text)) for h in hits if h.id in visible]
        return replace(page, in_queue=tuple(seen[:IN_QUEUE]))


def _known_parts(text: str, parts: Sequence[int], cosines: Sequence[float]) -> tuple[tuple[int, int, float], ...]:
    spans = part_spans(text)
    return tuple((*spans[p], c) for p, c in zip(parts, cosines, strict=True) if p in spans)


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
        source=record.sources, tags=record.tags, parts=shown, dated=record.valid_from != record.stored_at,
    )  # fmt: skip
