"""Answers that are given again: a semantic cache of questions on the side, off unless a category is configured.

After category-aware semantic caching (a threshold, a time to live and a quota for each kind of question), with what it
lacks for a memory: an answer is kept under the memory's version, so that it is not given again once anything has
changed that it could depend on, and under the backend, its settings and the day of asking. By embedding alone "Did Anna
call Tom?" and "Did Tom call Anna?" are nearly one question (cosine 0.98 by MiniLM): so names, numbers, times, negations
and quoted words must be the same, in the same order, whatever the cosine.

What is kept is what a turn without `store` said; a turn that failed or was left keeps nothing. That memory holds no
answer is kept for the same words only: other words may find what these did not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from agentmem import __version__, drafts, prompts
from agentmem.compression import Part
from agentmem.crashpoints import crash_point
from agentmem.cutting import cutting
from agentmem.derived import derived_key
from agentmem.errors import BackendError, ConfigError, StoreBusyError, StoreFullError, StoreReadOnlyError
from agentmem.indexing import embed_checked
from agentmem.language import words
from agentmem.times import parse_time, utc_seconds
from agentmem.types import Citation, Draft, Event, Ledger, Page, Reply, ReplyChunk, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydantic import TypeAdapter

    from agentmem.config import AgentConfig, AnswerCategory
    from agentmem.memory import Memory
    from agentmem.protocols import Backend

EVENT = "answer_cache"
"""The event in `Reply.events` of an answer that was given again. It is number 0: the log has none of it."""
NO_EMBEDDER = "answer cache: without an embedder only the same words are answered again"
Chunks = Generator[ReplyChunk, None, None]
_UNWRITABLE = (StoreBusyError, StoreFullError, StoreReadOnlyError)


class Run(Protocol):
    """Begins a turn: `Agent`'s own."""

    def __call__(  # noqa: D102
        self, text: str, name: str | None, at: datetime | str | None, store: bool, *, stream: bool
    ) -> Chunks: ...


_MARK = re.compile(r"[?？](?=\s|$)")
# "Tell me where Anna lives": a capital at the beginning, and no name.
_ASKING = frozenset(["tell", "describe", "list", "give", "show", "name", "explain", "remind", "say", "please", "find"])


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What is kept of a reply."""

    text: str
    answer: str
    citations: tuple[Citation, ...]
    abstained: bool
    confidence: float | None
    page: Page
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question as it is looked up: digests of memory's version, of all else that it depends on, and of its words; its
    unit row where there is an embedder."""

    category: str
    version: bytes
    scope: bytes
    question: bytes
    vector: NDArray[np.float32] | None


class AnswerCache:
    """The answers of one agent's memory. Processes on one file share them.

    Raises ConfigError where the memory ranks as a companion does: there every moment has another ranking.
    """

    def __init__(self, memory: Memory, backend: Backend, config: AgentConfig) -> None:
        self._memory, self._backend, self._config = memory, backend, config
        if not config.answer_cache:
            return
        if memory.config.companion:
            raise ConfigError(
                "answer_cache", sorted(config.answer_cache), "can't be used with companion, which ranks by the moment",
                hint="leave out one of the two",
            )  # fmt: skip
        if memory.embedder is None:
            memory.notices.append(NO_EMBEDDER)

    def turn(
        self, run: Run, text: str, name: str | None, at: datetime | str | None, store: bool, category: str | None, *,
        stream: bool,
    ) -> Chunks:  # fmt: skip
        """The turn that `run` begins; of a configured category, and without `store`, the answer that was kept, if there
        is one. Raises what the turn raises."""
        if store or category is None or category not in self._config.answer_cache:
            return run(text, name, at, store, stream=stream)
        return self._around(run, category, text, name, at, stream)

    def _around(
        self, run: Run, category: str, text: str, name: str | None, at: datetime | str | None, stream: bool
    ) -> Chunks:
        limits = self._config.answer_cache[category]
        asked_at = self._memory.clock() if at is None else parse_time(at)
        drafts.check(Draft("user", text, name, asked_at))
        asked, found = self._look(category, limits, text, name, asked_at)
        if found is not None:
            yield ReplyChunk(found.text)
            yield ReplyChunk("", found)
            return
        with closing(run(text, name, asked_at, False, stream=stream)) as chunks:
            for chunk in chunks:
                if chunk.reply is not None:
                    self._keep(asked, chunk.reply, limits)
                yield chunk

    # -- looking it up ------------------------------------------------------------------------------------------

    def _look(
        self, category: str, limits: AnswerCategory, text: str, name: str | None, asked_at: datetime
    ) -> tuple[_Asked, Reply | None]:
        memory = self._memory
        vector = self._vector(text)
        memory.pager.state()  # a new agent's first epoch begins when it is looked at
        with memory.store.db.read():
            now = memory.clock()
            asked = _Asked(
                category, self._version(now, vector), self._scope(text, name, asked_at, now),
                derived_key("question", "", text.strip()), vector,
            )  # fmt: skip
            last = utc_seconds(now)
            rows = memory.records.answers.find(category, asked.version, asked.scope, last - limits.ttl_s, last)
            near = {} if vector is None else _cosines(vector, {r.id: r.vector for r in rows if r.vector is not None})
            near |= {r.id: 1.0 for r in rows if r.question == asked.question}
            for row in sorted(rows, key=lambda r: (-near.get(r.id, -1.0), -r.id)):
                same, cosine = row.question == asked.question, near.get(row.id, -1.0)
                if not same and not _reaches(cosine, limits.threshold):
                    break
                kept = _read(memory.records.answers.reply(row.id))
                if kept is not None and (same or not kept.abstained):
                    return asked, self._again(category, kept, cosine, now, last - row.kept_utc)
        return asked, None

    def _again(self, category: str, kept: KeptAnswer, cosine: float, now: datetime, age_s: float) -> Reply:
        event = Event(0, EVENT, now, {"category": category, "cosine": round(cosine, 6), "age_s": age_s})
        if self._memory.on_event is not None:
            self._memory.on_event(event)
        return Reply(
            kept.text, Usage(), kept.ledger, 0, kept.answer, kept.citations, kept.abstained, kept.confidence, kept.page,
            (event,),
        )  # fmt: skip

    def _vector(self, text: str) -> NDArray[np.float32] | None:
        memory = self._memory
        if memory.embedder is None:
            return None
        try:
            row: NDArray[np.float32] = embed_checked(memory.embedder, [text], query=True)[0]
        except BackendError as e:
            # The turn may do without a vector: where it can't, it says so itself.
            memory.notices.append(f"answer cache: only the same words are looked for: {e.message}")
            return None
        return row

    def _version(self, now: datetime, vector: NDArray[np.float32] | None) -> bytes:
        """The memory's version: another one as soon as anything could be answered otherwise."""
        memory = self._memory
        embedder = None if memory.embedder is None or vector is None else (memory.embedder.model_id, len(vector))
        return derived_key("memory", "", json.dumps(memory.records.answers.state(utc_seconds(now), embedder)))

    def _scope(self, text: str, name: str | None, asked_at: datetime, now: datetime) -> bytes:
        """What an answer depends on beside memory: who is asked, with which settings, by whom, on which day ("last
        week"; tools resolve it by the clock), and the words of the question that no likeness may replace."""
        memory, backend = self._memory, self._backend
        settings = {
            "agentmem": [__version__, prompts.TEMPLATE],
            "backend": [type(backend).__module__, type(backend).__qualname__, backend.name, memory.shape.mode],
            "counter": memory.shape.counter.name,
            "agent": self._config.model_dump(mode="json", exclude={"answer_cache"}),
            "memory": memory.config.model_dump(mode="json"),
            "embedder": memory.embedder.model_id if memory.embedder is not None else None,
            "reranker": memory.reranker.name if memory.reranker is not None else None,
            "compressor": memory.compressing.compressor.fingerprint if memory.compressing is not None else None,
            "name": name,
            "days": [asked_at.date().isoformat(), now.date().isoformat()],
        }
        return derived_key("answer", json.dumps(settings), *fixed_words(text, memory.records.recall.names()))

    # -- keeping it ---------------------------------------------------------------------------------------------

    def _keep(self, asked: _Asked, reply: Reply, limits: AnswerCategory) -> None:
        """Keep a reply, if memory is still what it was when it was asked. A turn is not lost for a cache: where the
        file can't be written, that is said."""
        memory = self._memory
        kept = KeptAnswer(
            reply.text, reply.answer, reply.citations, reply.abstained, reply.confidence, reply.page, reply.ledger
        )
        data = _adapter().dump_json(kept)
        with memory.store.db.lock:
            if memory.store.db.connection.in_transaction:
                return  # the answer rests on what may yet be undone
            try:
                with memory.store.write():
                    now = memory.clock()
                    if self._version(now, asked.vector) != asked.version:
                        return
                    vector = None if asked.vector is None else asked.vector.astype("<f4").tobytes()
                    memory.records.answers.keep(
                        asked.category, asked.version, asked.scope, asked.question, vector, data, utc_seconds(now),
                        most=limits.max_entries,
                    )  # fmt: skip
                    crash_point("answer_cache.before_commit")
            except _UNWRITABLE as e:
                memory.notices.append(f"answer cache: an answer was not kept: {e.message}")


def fixed_words(text: str, speakers: list[str]) -> list[str]:
    """The words of a question that are the same in every question like it, in their order: names, numbers, times,
    negations, limits, quotations, code. A name in small letters is known where it is a speaker's."""
    from agentmem.questions import analyse

    # The mark of a question is kept where texts are cut; here it would fix the word before it.
    found = cutting([Part(_MARK.sub(".", text))])
    named = {part for speaker in analyse(text, speakers, None).named for part in words(speaker.lower())}
    fixed: list[str] = []
    for unit in found.units:
        for n in range(unit.first, unit.last):
            start, end = found.chunks[n]
            said = [w.removesuffix("'s") for w in _plain(text[start:end])]
            asking = n == unit.first and not unit.whole and " ".join(said) in _ASKING
            if (found.protected[n] and not asking) or named & set(said):
                fixed.append(text[start:end] if unit.whole else " ".join(said) or text[start:end])
    return fixed


def _plain(chunk: str) -> list[str]:
    return chunk.lower().replace("’", "'").strip(".,;:?!()[]\"'“”«»").split()


def _cosines(vector: NDArray[np.float32], rows: Mapping[int, bytes]) -> dict[int, float]:
    """The cosine with each row that is a vector of this length."""
    import numpy as np

    sound = {i: data for i, data in rows.items() if len(data) == 4 * len(vector)}
    matrix = np.frombuffer(b"".join(sound.values()), "<f4").reshape(len(sound), len(vector))
    cosines = matrix @ vector
    return {i: min(1.0, float(c)) for i, c in zip(sound, cosines, strict=True) if np.isfinite(c)}


def _reaches(cosine: float, threshold: float) -> bool:
    """Compared as precisely as rows are."""
    import numpy as np

    return bool(np.float32(cosine) >= np.float32(threshold))


@cache
def _adapter() -> TypeAdapter[KeptAnswer]:
    from pydantic import TypeAdapter

    return TypeAdapter(KeptAnswer)


def _read(data: Any) -> KeptAnswer | None:
    """What was kept; None when it is damaged."""
    try:
        return _adapter().validate_json(data)
    except (ValueError, TypeError):
        return None
