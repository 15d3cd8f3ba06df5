"""Finding records: candidates from the dense and the lexical index, raw signals, one ranking over both tiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentmem import ranking
from agentmem.errors import InvalidInputError
from agentmem.indexing import Indexer
from agentmem.language import is_question
from agentmem.paging import pack
from agentmem.questions import Question, analyse
from agentmem.ranking import Candidate
from agentmem.times import utc_seconds
from agentmem.types import EMPTY_PAGE, Hit, Message, Page, PageItem, Passage, Tier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.protocols import TokenCounter
    from agentmem.store.agent_store import AgentStore

POOL = 200
IN_QUEUE = 12
"""So many of the best records that stand in the queue are named in a page."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Filter:
    """What may be found. `tier` None is both; times are inclusive.

    Archival passages are those that hold at `as_of` (None: now); `known_at` also leaves out what was learned later.
    """

    tier: Tier | None = None
    as_of: datetime | None = None
    known_at: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    tags: tuple[str, ...] = ()


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
        if not query.strip():
            raise InvalidInputError("query", query, "is empty", hint="say what to look for")
        if top_k is not None and top_k < 1:
            raise InvalidInputError("top_k", top_k, "must be at least 1")
        question = analyse(query, self._agent.recall.names(), asked_at)
        vector = None
        if self.indexer is not None:
            self.indexer.catch_up()
            vector = self.indexer.embed_query(question.dense_text)
        pool: list[tuple[Candidate, Message | Passage]] = []
        matched: list[str] = []
        if where.tier in (None, Tier.RECALL) and not where.tags:
            part, refs = self._recall(question, vector, where, exhaustive, POOL + widen)
            pool += part
            matched += refs
        if where.tier in (None, Tier.ARCHIVAL):
            part, refs = self._archival(question, vector, where, exhaustive)
            pool += part
            matched += refs
        candidates = [c for c, _ in pool]
        scored = ranking.score(candidates)
        best = ranking.order(candidates, scored)[:top_k]
        ranked = {c.ref for c in candidates}
        rest = tuple(r for r in matched if r not in ranked) if exhaustive else ()
        return Found(tuple(_hit(pool[n][1], scored[n], explain) for n in best), rest)

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
        page = pack([h for h in hits if h.id not in visible], query, max_tokens, counter)
        seen = [PageItem(h, 0, len(h.text)) for h in hits if h.id in visible]
        return replace(page, in_queue=tuple(seen[:IN_QUEUE]))

    def _recall(
        self, question: Question, vector: NDArray[np.float32] | None, where: Filter, exhaustive: bool, pool_size: int
    ) -> tuple[list[tuple[Candidate, Message | Passage]], list[str]]:
        store = self._agent
        # A history as it stood then: what was said later is not part of it.
        until = min((utc_seconds(t) for t in (where.until, where.as_of) if t is not None), default=None)
        since = utc_seconds(where.since) if where.since is not None else None
        allowed: list[int] | None = None
        sql, parameters = "", []
        if since is not None or until is not None:
            allowed = store.recall.between(since, until)
            sql = "rowid IN (SELECT id FROM messages WHERE agent_id = ? AND at_utc >= ? AND at_utc <= ?)"
            parameters = [store.agent_id, -1e18 if since is None else since, 1e18 if until is None else until]
        most = None if exhaustive else 2 * pool_size
        lexical = self._lexical(store.recall.lexical, question, most, sql, parameters)
        cosines = self._cosines(vector, "recall", allowed, pool_size)
        bm25 = {i: s for i, s, _ in lexical}
        exact = {i: e for i, _, e in lexical}
        ids = set(cosines) | {i for i, _, _ in lexical[:pool_size]}
        # Answers stand beside what they answer: the neighbours of the best lexical hits are looked at as well.
        best = [i for i, _, _ in lexical[:30]]
        near = {n for i in best for n in (i - 1, i + 1)} - ids
        if allowed is not None:
            near &= set(allowed)
        messages = {m.id: m for m in store.recall.get(sorted(ids | near)) if m.searchable}
        cosines.update(self._missing(vector, "recall", [i for i in messages if i not in cosines]))
        pool: list[tuple[Candidate, Message | Passage]] = []
        for i, message in sorted(messages.items()):
            before, after = self._beside(messages, message, i - 1), self._beside(messages, message, i + 1)
            candidate = Candidate(
                ref=message.ref,
                at_utc=utc_seconds(message.at),
                cosine=cosines.get(i),
                bm25=bm25.get(i, 0.0),
                around=(bm25.get(i - 1, 0.0) if before else 0.0) + (0.5 * bm25.get(i + 1, 0.0) if after else 0.0),
                dense_before=cosines.get(i - 1) if before else None,
                session=message.session,
                speaker=float(message.name in question.named) if message.name else 0.0,
                time=_in_days(message.at, question),
                exact=max(exact.get(i, 0.0), question.verbatim(message.said)),
                kind=question.kind_match(message.said),
                question=float(message.said.rstrip().endswith("?") and is_question(message.said)),
            )
            pool.append((candidate, message))
        return pool, [f"m{i}" for i, _, _ in lexical]

    def _archival(
        self, question: Question, vector: NDArray[np.float32] | None, where: Filter, exhaustive: bool
    ) -> tuple[list[tuple[Candidate, Message | Passage]], list[str]]:
        store = self._agent
        at = utc_seconds(where.as_of or self._clock())
        known = utc_seconds(where.known_at) if where.known_at is not None else None
        holding = set(store.archival.holding(at, known))
        if where.since is not None or where.until is not None or where.tags:
            holding = {p.id for p in store.archival.get(sorted(holding)) if _passes(p, where)}
        if not holding:
            return [], []
        everything = len(holding) == len(store.archival.all_ids())
        allowed = None if everything else sorted(holding)
        sql = "" if everything else f"rowid IN ({','.join(str(i) for i in sorted(holding))})"
        lexical = self._lexical(store.archival.lexical, question, None if exhaustive else 2 * POOL, sql, [])
        cosines = self._cosines(vector, "archival", allowed, POOL)
        ids = set(cosines) | {i for i, _, _ in lexical[:POOL]}
        cosines.update(self._missing(vector, "archival", [i for i in ids if i not in cosines]))
        bm25 = {i: s for i, s, _ in lexical}
        exact = {i: e for i, _, e in lexical}
        pool: list[tuple[Candidate, Message | Passage]] = []
        for passage in store.archival.get(sorted(ids)):
            candidate = Candidate(
                ref=passage.ref,
                at_utc=utc_seconds(passage.valid_from),
                cosine=cosines.get(passage.id),
                bm25=bm25.get(passage.id, 0.0),
                speaker=float(any(n.lower() in passage.text.lower() for n in question.named)),
                time=_in_days(passage.valid_from, question),
                exact=max(exact.get(passage.id, 0.0), question.verbatim(passage.text)),
                kind=question.kind_match(passage.text),
            )
            pool.append((candidate, passage))
        return pool, [f"p{i}" for i, _, _ in lexical]

    def _lexical(
        self, index: Any, question: Question, most: int | None, sql: str, parameters: Sequence[Any]
    ) -> list[tuple[int, float, float]]:
        """(id, BM25, share of the question's identifiers that stand in it), best first."""
        terms = index.terms(question.text)
        found = index.search(terms, top_k=most, allowed=sql, parameters=parameters)
        exact: dict[int, float] = {}
        for identifier in question.identifiers:
            for i, _ in index.search([identifier.lower()], top_k=POOL, allowed=sql, parameters=parameters):
                exact[i] = exact.get(i, 0.0) + 1.0 / len(question.identifiers)
        return [(i, s, exact.get(i, 0.0)) for i, s in found]

    def _cosines(
        self, vector: NDArray[np.float32] | None, tier: str, allowed: Sequence[int] | None, most: int
    ) -> dict[int, float]:
        if vector is None or self.indexer is None:
            return {}
        store = self._agent
        embedder = self.indexer.fingerprint().id
        vectors = None if allowed is None else store.vectors.of_records(tier, allowed)
        found = store.dense[tier].search(vector, embedder, top_k=most, allowed=vectors)
        owners = store.vectors.owners([v for v, _ in found])
        best: dict[int, float] = {}
        for vector_id, cosine in found:
            owner = owners.get(vector_id)
            if owner is not None and owner[0] == tier:
                best[owner[1]] = max(best.get(owner[1], -1.0), cosine)
        return best

    def _missing(self, vector: NDArray[np.float32] | None, tier: str, ids: Sequence[int]) -> dict[int, float]:
        """Cosines of records that only the lexical index found."""
        if vector is None or not ids:
            return {}
        best: dict[int, float] = {}
        for record, row in self._agent.vectors.rows_of(tier, ids):
            best[record] = max(best.get(record, -1.0), float(row @ vector))
        return best

    @staticmethod
    def _beside(messages: dict[int, Message], message: Message, other: int) -> bool:
        return other in messages and messages[other].session == message.session


def _passes(passage: Passage, where: Filter) -> bool:
    at = utc_seconds(passage.valid_from)
    return (
        (where.since is None or at >= utc_seconds(where.since))
        and (where.until is None or at <= utc_seconds(where.until))
        and set(where.tags) <= set(passage.tags)
    )


def _in_days(at: datetime, question: Question) -> float:
    """1 when the record is of a day that the question names, falling to 0 within a week outside."""
    best = 0.0
    for first, last in question.days:
        start = datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()
        end = datetime(last.year, last.month, last.day, tzinfo=UTC).timestamp() + DAY_S
        moment = utc_seconds(at)
        outside = max(start - moment, moment - end, 0.0) / DAY_S
        best = max(best, 1.0 - outside / 7)
    return max(0.0, best)


def _hit(record: Message | Passage, parts: dict[str, float], explain: bool) -> Hit:
    shown = {name: round(value, 6) for name, value in parts.items()}
    if isinstance(record, Message):
        hit = Hit(
            record.ref, Tier.RECALL, record.said, parts["score"], record.at, key=record.key, name=record.name,
            role=record.role, session=record.session, parts=shown,
        )  # fmt: skip
    else:
        hit = Hit(
            record.ref, Tier.ARCHIVAL, record.text, parts["score"], record.valid_from, key=record.key,
            source=record.sources, tags=record.tags, parts=shown,
        )  # fmt: skip
    return hit if explain else replace(hit, parts=None)
