"""The candidates of a query: the best of the dense and of the lexical index of a tier, read with all their signals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from agentmem import matching
from agentmem.keys import CONTEXT_PART, KEY_PART, SENTENCE_PART, follows
from agentmem.questions import Question, tells_of_oneself
from agentmem.ranking import Signals
from agentmem.summary_nodes import SUMMARIES
from agentmem.terms import term_number
from agentmem.times import utc_seconds
from agentmem.types import Message, Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.store.agent_store import AgentStore
    from agentmem.store.selection import Selection

POOL = 350
"""So many messages of each index are looked at."""
PASSAGES = 200
"""So many passages, unless more is asked for: they are told by themselves, not by what stands around them."""
VECTORS_A_RECORD = {"recall": 4, "archival": 2}
NEIGHBOURS_OF = 30
"""The neighbours of so many lexical hits are looked at too: answers stand beside what they answer."""
WHOLE_LEAVES = 3
"""All messages under so many of the summaries that fit best are looked at."""
DAY_S = 86_400.0
WEEK_DAYS = 7.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of one query with their signals, row by row, by ref ("m12", "p3"); `messages` are those of them
    that were read for it. `matched` are the refs of all records that share a word with it, by BM25 (as many as were
    asked for)."""

    refs: tuple[str, ...]
    signals: Signals
    messages: Mapping[int, Message]
    matched: tuple[str, ...] = ()

    def records(self, store: AgentStore, rows: Iterable[int]) -> list[Message | Passage]:
        """The records of some rows, in their order; one that was erased meanwhile is left out."""
        refs = [self.refs[n] for n in rows]
        passages = {p.ref: p for p in store.archival.get([int(r[1:]) for r in refs if r[0] == "p"])}
        found = ((passages.get(r) if r[0] == "p" else self.messages[int(r[1:])]) for r in refs)
        return [record for record in found if record is not None]


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: the question, its unit vector (None: no embedder) and the embedder's id in the file."""

    question: Question
    vector: NDArray[np.float32] | None
    embedder: int


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Several as one."""
    import numpy as np

    columns: dict[str, Any] = {n: [getattr(p.signals, n) for p in parts] for n in Signals.__dataclass_fields__}
    # Sessions and positions are numbered apart: those of a later part begin behind those of the ones before it.
    for name in ("session", "before"):
        start = 0
        for n, numbers in enumerate(columns[name]):
            columns[name][n] = np.where(numbers >= 0, numbers + start, -1)
            start += len(numbers)
    signals = Signals(**{name: np.concatenate(found) for name, found in columns.items()})
    messages = {i: m for p in parts for i, m in p.messages.items()}
    refs, matched = (tuple(r for p in parts for r in getattr(p, name)) for name in ("refs", "matched"))
    return Candidates(refs, signals, messages, matched)


def nothing() -> Candidates:
    """No candidates."""
    import numpy as np

    whole = {"tie", "session", "before"}
    columns: dict[str, Any] = {
        n: np.zeros(0, np.int64 if n in whole else np.float64) for n in Signals.__dataclass_fields__
    }
    return Candidates((), Signals(**columns), {})


def messages(
    store: AgentStore, query: Query, within: Selection, *, until: float | None, pool: int, exhaustive: bool
) -> Candidates:
    """Candidates among the messages that may be found; what was said after `until` (seconds, UTC) is not read."""
    import numpy as np

    lexical, exact = _lexical(store.recall.lexical, query.question, None if exhaustive else 2 * pool, within)
    nearest = _dense(store, "recall", query, within, pool)
    ids = set(nearest) | {i for i, _ in lexical[:pool]} | set(exact)
    near = {n for i, _ in lexical[:NEIGHBOURS_OF] for n in (i - 1, i + 1)} - ids
    ids |= set(within.kept(sorted(near)))
    # A summary tells of what was said later, too.
    fits = _leaves(store, sorted(ids), query) if until is None else {}
    best = sorted(fits, key=lambda p: (-fits[p], p))[:WHOLE_LEAVES]
    under = {int(s[1:]) for p in store.archival.get(best) for s in p.sources}
    ids |= set(within.kept(sorted(under - ids)))
    # What goes before and after them is read for its words, and is no candidate.
    around = store.recall.get(sorted(ids | {i - 1 for i in ids} | {i + 1 for i in ids}))
    read = {m.id: m for m in around if until is None or utc_seconds(m.at) <= until}
    row = {i: n for n, i in enumerate(sorted(read))}
    before = np.array([row[i - 1] if follows(read[i], read.get(i - 1)) else -1 for i in row], np.int64)
    after = np.full(len(row), -1, np.int64)
    after[before[before >= 0]] = np.flatnonzero(before >= 0)
    matches = _matches(store, "recall", list(row), query.question)
    window = matching.widened(matches, before, after)
    cover_window = matching.cover(matching.widened(matches, before, after, (1.0, 1.0)))
    cover_before = matching.cover(matching.widened(matches, before, after, (1.0, 0.0)))
    chosen = [i for i in row if i in ids and read[i].searchable]
    rows = np.array([row[i] for i in chosen], np.int64)
    place = np.full(len(row) + 1, -1, np.int64)
    place[rows] = np.arange(len(rows))
    asked = [read[i] for i in chosen]
    sessions = _numbered([m.session for m in asked])
    follow = before[rows]
    ends_asking = np.array([read[i].said.rstrip().endswith("?") for i in row], bool)
    columns = _columns(store, "recall", chosen, query) | _said(query.question, [(m.said, m.at) for m in asked])
    question = query.question
    assistant = np.array([m.role == "assistant" for m in asked], float)
    # What is asked of an assistant often tells something by the way; what people ask each other seldom does.
    to_assistant = np.array([_speaks_to_assistant(m, read) for m in asked], float)
    columns["tells"] = columns["tells"] * (1 - assistant)
    columns["request"] = columns["question"] * to_assistant
    columns["question"] = columns["question"] * (1 - to_assistant)
    signals = Signals(
        at_utc=np.array([utc_seconds(m.at) for m in asked]),
        tie=np.array(chosen, np.int64),
        session=sessions,
        before=place[follow],
        lexical=matching.bm25(_of(matches, rows)),
        window=matching.bm25(_of(window, rows)),
        session_lexical=matching.by_session(_of(matches, rows), sessions),
        length=np.log1p(matches.lengths[rows]),
        cover_window=cover_window[rows],
        cover_before=cover_before[rows],
        speaker=np.array([m.name in question.named if m.name else False for m in asked], float),
        after_question=np.where(follow >= 0, ends_asking[follow], False).astype(float),
        asked_assistant=assistant * question.asks_assistant,
        other_side=assistant * (not question.asks_assistant),
        exact=np.array([exact.get(i, 0.0) for i in chosen], float),
        summary=_summary(store, chosen, fits),
        **columns,
    )
    return Candidates(
        tuple(m.ref for m in asked), signals, {m.id: m for m in asked}, tuple(f"m{i}" for i, _ in lexical)
    )


def passages(store: AgentStore, query: Query, within: Selection, *, pool: int, exhaustive: bool) -> Candidates:
    """Candidates among the passages that may be found: with no session, no neighbours and no speaker of their own."""
    import numpy as np

    pool = max(pool - POOL, 0) + min(pool, PASSAGES)
    lexical, exact = _lexical(store.archival.lexical, query.question, None if exhaustive else 2 * pool, within)
    nearest = _dense(store, "archival", query, within, pool)
    ids = set(nearest) | {i for i, _ in lexical[:pool]} | set(exact)
    found = store.archival.texts(sorted(ids))
    chosen = [i for i, _, _ in found]
    days = query.question.days
    said = _said(
        query.question, [(text, datetime.fromisoformat(at) if days else None) for _, text, at in found], of_people=False
    )
    matches = _matches(store, "archival", chosen, query.question)
    none = np.full(len(found), -1, np.int64)
    zeros = np.zeros(len(found))
    # A passage tells of no "last month", and asks nobody.
    said |= dict.fromkeys(("event", "tells", "question", "request"), zeros)
    cover, lexical_scores = matching.cover(matches), matching.bm25(matches)
    named = [n.lower() for n in query.question.named]
    signals = Signals(
        at_utc=np.array([utc_seconds(datetime.fromisoformat(at)) for _, _, at in found]),
        tie=np.array(chosen, np.int64),
        session=none,
        before=none,
        lexical=lexical_scores,
        window=lexical_scores,
        session_lexical=lexical_scores,
        length=np.log1p(matches.lengths),
        cover_window=cover,
        cover_before=cover,
        speaker=np.array([any(n in text.lower() for n in named) for _, text, _ in found], float),
        after_question=zeros,
        asked_assistant=zeros,
        other_side=zeros,
        exact=np.array([exact.get(i, 0.0) for i in chosen], float),
        summary=np.full(len(found), np.nan),
        **(_columns(store, "archival", chosen, query, nearest) | said),
    )
    return Candidates(tuple(f"p{i}" for i in chosen), signals, {}, tuple(f"p{i}" for i, _ in lexical))


def _lexical(
    index: Any, question: Question, most: int | None, within: Selection
) -> tuple[list[tuple[int, float]], dict[int, float]]:
    """(id, BM25), best first, and of records that have identifiers of the question the share that they have."""
    found = index.search(index.terms(question.text), top_k=most, within=within)
    exact: dict[int, float] = {}
    for identifier in question.identifiers:
        for i, _ in index.search([identifier.lower()], top_k=POOL, within=within):
            exact[i] = exact.get(i, 0.0) + 1.0 / len(question.identifiers)
    return found, exact


def _dense(
    store: AgentStore, tier: str, query: Query, within: Selection, pool: int
) -> dict[int, list[tuple[int, float]]]:
    """The records with the nearest keys, nearest first: (part, cosine) of those of their keys that were found."""
    if query.vector is None or within.nothing:
        return {}
    vectors = store.vectors.of_records(tier, within.ids) if within.ids else []
    only = {} if within.everything else {"excluded" if within.excluding else "allowed": vectors}
    found = store.dense[tier].search(query.vector, query.embedder, top_k=VECTORS_A_RECORD[tier] * pool, **only)
    owners = store.vectors.owners([v for v, _ in found])
    records: dict[int, list[tuple[int, float]]] = {}
    for vector, cosine in found:
        owner = owners.get(vector)
        if owner is not None and owner[0] == tier and (owner[1] in records or len(records) < pool):
            records.setdefault(owner[1], []).append((owner[2], cosine))
    return records


def _matches(store: AgentStore, tier: str, ids: Sequence[int], question: Question) -> matching.Matches:
    """The question's terms in records, in their order; a record without a list has none."""
    import numpy as np

    index, lists = (
        (store.recall.lexical, store.recall.terms)
        if tier == "recall"
        else (store.archival.lexical, store.archival.terms)
    )
    have, offsets, numbers = lists.of(tier, ids)
    lengths = np.zeros(len(ids), np.int64)
    lengths[np.searchsorted(np.array(ids, np.int64), have)] = np.diff(offsets)
    counts = index.document_counts(question.terms, stemmed=True)
    weights = matching.idf(index.size(), [counts[t] for t in question.terms])
    return matching.count(
        np.concatenate(([0], np.cumsum(lengths))), numbers, [term_number(t) for t in question.terms], weights
    )


def _of(m: matching.Matches, rows: NDArray[np.int64]) -> matching.Matches:
    return replace(m, counts=m.counts[rows], lengths=m.lengths[rows])


def _numbered(sessions: Sequence[str | None]) -> NDArray[np.int64]:
    import numpy as np

    numbers: dict[str, int] = {}
    return np.array([-1 if s is None else numbers.setdefault(s, len(numbers)) for s in sessions], np.int64)


def _columns(
    store: AgentStore,
    tier: str,
    ids: Sequence[int],
    query: Query,
    known: Mapping[int, Sequence[tuple[int, float]]] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Cosines of the keys: the best of the record's own and further ones, the whole's, and the one with the message
    before it. `known` spares reading the vectors of records of which the whole was found."""
    import numpy as np

    found = {name: np.full(len(ids), -np.inf) for name in ("dense", "whole", "context")}
    if query.vector is not None and ids:
        row = {i: n for n, i in enumerate(ids)}
        spared = {i: keys for i, keys in (known or {}).items() if i in row and any(p < SENTENCE_PART for p, _ in keys)}
        owners, parts, rows = store.vectors.parts_of(tier, [i for i in ids if i not in spared])
        at = np.array([row[i] for i in owners.tolist()] + [row[i] for i, k in spared.items() for _ in k], np.int64)
        parts = np.concatenate([parts, np.array([p for k in spared.values() for p, _ in k], np.int64)])
        cosines = np.concatenate(
            [
                (rows @ query.vector).astype(np.float64) if len(rows) else np.zeros(0),
                np.array([c for k in spared.values() for _, c in k], np.float64),
            ]
        )
        for name, kept in (
            ("whole", parts < SENTENCE_PART), ("dense", (parts < CONTEXT_PART) | (parts >= KEY_PART)),
            ("context", parts == CONTEXT_PART)
        ):  # fmt: skip
            np.maximum.at(found[name], at[kept], cosines[kept])
        # What goes on from nothing is its own context.
        found["context"] = np.where(np.isinf(found["context"]), found["whole"], found["context"])
    return {name: np.where(np.isinf(values), np.nan, values) for name, values in found.items()}


def _leaves(store: AgentStore, messages: Sequence[int], query: Query) -> dict[int, float]:
    """The summaries (passage ids) that messages stand under, each with its cosine."""
    over = store.archival.over(SUMMARIES, messages) if query.vector is not None else {}
    ids = sorted(set(over.values()))
    whole = _columns(store, "archival", ids, query)["whole"].tolist() if ids else []
    return {i: cosine for i, cosine in zip(ids, whole, strict=True) if cosine == cosine}


def _summary(store: AgentStore, messages: Sequence[int], fits: Mapping[int, float]) -> NDArray[np.float64]:
    """The cosine of the summary that each message stands under, shape (len(messages),); NaN where there is none."""
    import numpy as np

    over = store.archival.over(SUMMARIES, messages) if fits else {}
    return np.array([fits.get(over.get(i, 0), np.nan) for i in messages], np.float64)


def _said(
    question: Question, texts: Sequence[tuple[str, datetime | None]], *, of_people: bool = True
) -> dict[str, NDArray[np.float64]]:
    """What texts, each with its time, tell by themselves."""
    import numpy as np

    table = np.zeros((len(texts), 8))
    for n, (text, at) in enumerate(texts):
        table[n] = (
            _in_days(at, question.days) if at is not None else 0.0,
            question.tells_of_day(text, at) if at is not None else 0.0,
            *question.asked_for(text), text.rstrip().endswith("?"), question.verbatim(text),
            of_people and tells_of_oneself(text),
        )  # fmt: skip
    names = ("time", "event", "when", "number", "who", "question", "verbatim", "tells")
    return dict(zip(names, table.T, strict=True))


def _speaks_to_assistant(message: Message, read: Mapping[int, Message]) -> bool:
    beside = (read.get(message.id - 1), read.get(message.id + 1))
    return message.role == "user" and any(
        m is not None and m.role == "assistant" and m.session == message.session for m in beside
    )


def _in_days(at: datetime, days: Sequence[tuple[date, date]]) -> float:
    """1 when the record is of a day that the question names, falling to 0 within a week outside."""
    best = 0.0
    moment = utc_seconds(at) if days else 0.0
    for first, last in days:
        start = datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()
        end = datetime(last.year, last.month, last.day, tzinfo=UTC).timestamp() + DAY_S
        best = max(best, 1.0 - max(start - moment, moment - end, 0.0) / DAY_S / WEEK_DAYS)
    return max(0.0, best)
