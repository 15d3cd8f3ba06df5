"""The memory of one agent: what is observed, what stands in the prompt, and how it is found again.

Data flows one way: a message is committed to recall, then it is in the queue, then it has vectors; a flush pages out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from agentmem import archiving, drafts, registry
from agentmem.budget import Budget
from agentmem.compressing import Compressing
from agentmem.context import shown_keys
from agentmem.core_memory import DEFAULT_BLOCKS, CoreMemory
from agentmem.errors import InvalidInputError, StoreBusyError, StoreFullError, StoreReadOnlyError, UnknownNameError
from agentmem.memory_reads import MemoryReads
from agentmem.pager import Pager
from agentmem.planning import Ask, Fitted, Shape, fit
from agentmem.reports import IngestReport
from agentmem.summary import Summarise, without_model
from agentmem.times import clock_words, parse_time, system_clock, utc_seconds
from agentmem.tokens import approximate_counter
from agentmem.types import (
    Block,
    Draft,
    Epoch,
    Event,
    Message,
    Page,
    Passage,
    Pressure,
    Prompt,
    Role,
    Tier,
)  # fmt: skip

if TYPE_CHECKING:
    from agentmem.compression import Compressed, CompressionRequest
    from agentmem.config import MemoryConfig
    from agentmem.protocols import Compressor, Embedder, Reranker
    from agentmem.store.agent_store import AgentStore
    from agentmem.store.sqlite import SqliteStore

PAGE_SHARE = 0.75
"""The page-in's share of what is left after system, core and question, where nothing is lost by shortening the queue:
for backends without a prefix cache, and for prompts smaller than the epoch's."""
Clock = Callable[[], datetime]
OnEvent = Callable[[Event], None]


class Memory(MemoryReads):
    """Opens or creates the memory of `agent` in the file `path` (":memory:" keeps it in RAM); a context manager.

    `embedder` is a spec ("minilm", "st:NAME", "openai:URL#MODEL", "none"), an object, or "auto": the one that the file
    was made with, else MiniLM where it is installed, else none (search is then lexical alone, and a notice says so).
    `reranker` ("none", "cross-encoder:PATH", "late-interaction:minilm", or an object) scores the best hits once more.
    `compressor` shortens what a full prompt reads ("extractive", "none", "llmlingua2:PATH", ..., or an object).
    Settings are those of `MemoryConfig`, given as `config` or by name. Thread-safe; several processes may share a file.
    """

    def __init__(
        self,
        path: str | Path,
        agent: str = "default",
        *,
        embedder: str | Embedder = "auto",
        reranker: str | Reranker = "none",
        compressor: str | Compressor = "extractive",
        config: MemoryConfig | None = None,
        create: bool = True,
        index: str = "auto",
        clock: Clock = system_clock,
        on_event: OnEvent | None = None,
        **settings: Any,
    ) -> None:
        from agentmem.config import MemoryConfig  # pydantic: loaded when first needed

        self.config = config if config is not None else MemoryConfig.create(**settings)
        self.budget = Budget.of(self.config)
        self.clock = clock
        self.agent_name = agent
        self.notices: list[str] = []
        self.on_event = on_event
        self.store: SqliteStore = registry.load(registry.STORE)(path, create=create, index=index)
        try:
            self.records: AgentStore = self.store.agent(agent, create=create, now=clock(), notify=self._notify)
            self.embedder, self.embedder_spec, notice = registry.choose_embedder(embedder, self.store.embedder())
            self.notices += [notice] if notice else []
            self.shape = Shape(self.embedder.counter if self.embedder is not None else approximate_counter())
            self.reranker = registry.make_reranker(reranker) if isinstance(reranker, str) else reranker
            made = registry.make_compressor(compressor) if isinstance(compressor, str) else compressor
            self.compressing = None if made is None else Compressing(made, self._tell_once)
            self._retrieval = self._make_retrieval()
        except BaseException:
            self.store.close()
            raise
        self.pager = Pager(self.records, clock, self.log)
        read, write, most = self.records.journal.blocks, self.store.write, self.config.block_max_tokens
        self.core = CoreMemory(read, self._edited, lambda: self.shape.counter, most, write)
        if create and not self.core:
            with self.store.write():
                for label, description in DEFAULT_BLOCKS:
                    if label not in self.core:
                        self.core.add(label, description=description)

    # -- writing ----------------------------------------------------------------------------------------------

    def observe(
        self,
        role: Role,
        content: str,
        *,
        name: str | None = None,
        at: datetime | str | None = None,
        key: str | None = None,
        session: str | None = None,
    ) -> Message:
        """Store one message; durable when this returns. The same key with the same content gives the stored message.

        Raises InvalidInputError for what can't be stored, and for a key that stands for other content.
        """
        when = parse_time(at) if at is not None else None
        draft = drafts.check(Draft(role, content, name, when, key, session))
        try:
            with self.store.write():
                known = self.records.recall.by_keys([key]).get(key) if key is not None else None
                if known is not None and known.content == content:
                    return known
                if known is not None:
                    raise InvalidInputError("key", key, "stands for another message already", hint="keys are unique")
                message = self.append([draft])[0]
                if self.flushes_within:
                    self.relieve()
        except BaseException:
            self.pager.forget()
            raise
        if not self.flushes_within:
            self.relieve()
        return message

    def ingest(
        self,
        messages: Iterable[Mapping[str, Any] | Draft | str],
        *,
        strict: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> IngestReport:
        """Store many messages (mappings as in a history file, drafts, or lines of JSON), and embed them.

        What can't be read is reported, and the rest is stored; with `strict` nothing is stored then, and
        InvalidInputError is raised.
        """
        from agentmem.ingesting import ingest

        return ingest(self, messages, strict=strict, progress=progress)

    def archive(
        self,
        text: str,
        *,
        tags: Sequence[str] = (),
        valid_from: datetime | str | None = None,
        valid_to: datetime | str | None = None,
        key: str | None = None,
        kind: str = "fact",
        sources: Sequence[str] = (),
    ) -> Passage:
        """Put a passage into archival storage. `sources` are refs of the records it was derived from."""
        with self.store.write():
            passage = archiving.new_passage(
                self.records, text, self.clock(), tags=tags, valid_from=valid_from, valid_to=valid_to, key=key,
                kind=kind, sources=sources,
            )  # fmt: skip
            self.records.archival.add([passage])
            self.log("archive", {"passage": passage.id})
        return passage

    def archive_many(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        strict: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> IngestReport:
        """Put many passages into archival storage (`agentmem.archiving.archive_many`), and embed them."""
        return archiving.archive_many(self, rows, strict=strict, progress=progress)

    def supersede(
        self,
        passage_id: str | int,
        text: str,
        *,
        valid_from: datetime | str | None = None,
        tags: Sequence[str] | None = None,
    ) -> Passage:
        """Let a new passage hold from `valid_from` (now) on in an old one's place; the old one stays, closed."""
        with self.store.write():
            old = self.passage(passage_id)
            new = archiving.successor(self.records, old, text, self.clock(), valid_from=valid_from, tags=tags)
            self.log("supersede", {"old": old.id, "new": new.id})
        return new

    def rate(self, ref: str, importance: int) -> None:
        """Say how much a record (`m12`, `p3` or a key) matters, from 1 (mundane) to 10; told by `companion` alone.

        Raises InvalidInputError for another number, UnknownNameError when nothing has that id or key.
        """
        with self.store.write():
            for record in self._named(ref):
                tier = Tier.RECALL if isinstance(record, Message) else Tier.ARCHIVAL
                self.records.uses.rate(tier, record.id, importance)

    def erase(self, *, key: str | None = None, id: str | None = None) -> Mapping[str, int]:
        """Delete a record for good, with all that was derived from it; what was deleted, counted.

        Raises UnknownNameError when nothing has that key or id.
        """
        from agentmem.erasing import erase

        done: Mapping[str, int] = erase(self, key=key, ref=id)
        return done

    # -- reading ----------------------------------------------------------------------------------------------

    def render(self, *, query: str = "", max_tokens: int | None = None, at: datetime | str | None = None) -> Prompt:
        """The whole prompt that would be sent for a query, of at most `max_tokens`; stores nothing.

        Raises ContextOverflowError when system and core memory alone are larger.
        """
        budget = self.budget.max_tokens if max_tokens is None else max_tokens
        drafts.check_text("query", query)
        asked = self.clock() if at is None else parse_time(at, "at")
        # A prompt of the window's own size is the one that a turn would send.
        share = PAGE_SHARE if max_tokens is not None else self.page_share
        most = max(self.budget.page_max, max_tokens or 0)
        floor = self.budget.page_floor if max_tokens is None else 0
        ask = Ask(
            (), query, clock_words(asked), page_share=share, page_min=floor, page_max=most, pageable=self.pageable()
        )
        epoch, queue = self.pager.state()
        fitted = self.fit(ask, epoch, queue, budget, query, asked)
        messages = {m.id: m for m in queue}
        keys, shortened = shown_keys(fitted.plan, messages, fitted.page, epoch.compressed)
        return Prompt(tuple(w.message() for w in fitted.written), fitted.ledger, fitted.page, keys, shortened)

    def stats(self) -> dict[str, Any]:
        """Counts and sizes; reads everything once, so it is not for the path of a turn."""
        from agentmem.inspecting import stats

        counted: dict[str, Any] = stats(self)
        return counted

    # -- for the agent and the commands -----------------------------------------------------------------------

    def use(self, shape: Shape, context_window: int | None) -> None:
        """Count and lay out prompts for a backend; its window is taken where none was set."""
        self.shape = shape
        if context_window is not None and "window_tokens" not in self.config.model_fields_set:
            self.config = type(self.config).create(
                **{**self.config.model_dump(exclude_unset=True), "window_tokens": context_window}
            )
            self.budget = Budget.of(self.config)

    def append(self, new: Sequence[Draft]) -> list[Message]:
        """Store drafts within the caller's transaction."""
        return self.records.recall.append(new, self.clock())

    def fit(
        self, ask: Ask, epoch: Epoch, queue: Sequence[Message], max_tokens: int, query: str, asked_at: datetime
    ) -> Fitted:
        """A prompt within `max_tokens`."""
        own = frozenset(m.ref for m in ask.turn)
        return fit(
            epoch, queue, ask, max_tokens, self.shape,
            lambda tokens, visible: self.page(query, tokens, visible, asked_at, turn=own, explain=True),
        )  # fmt: skip

    @property
    def page_share(self) -> float:
        """The page-in's share in a turn: a model's queue is not shortened for it, since its prefix is worth keeping."""
        return 0.0 if self.shape.model else PAGE_SHARE

    @property
    def flushes_within(self) -> bool:
        """Whether a flush fits into the transaction that stores messages: by rules alone, so that all is stored or
        nothing. A compressor with a model takes its time, and nobody shall wait for it with the file locked."""
        return self.compressing is None or self.compressing.quick

    def pageable(self) -> bool:
        """Whether memory holds anything outside the queue."""
        epoch, _ = self.pager.state()
        return epoch.first_message > 1 or self.records.archival.next_id() > 1

    def relieve(
        self, summarise: Summarise = without_model, *, hold_from: int | None = None, upto: int | None = None
    ) -> list[Epoch]:
        """Page out while the prompt is too full; the epochs that began."""
        begun: list[Epoch] = []
        while self.pager.pressure(self.budget, self.shape, upto) is Pressure.FLUSH:
            epoch = self.pager.page_out(
                self.budget, self.shape, summarise=summarise,
                compress=self._frozen if self.compressing is not None else None,
                keep_last=self.config.keep_last, hold_from=hold_from,
                upto=upto, transaction=self.store.write,
            )  # fmt: skip
            if epoch is None:
                break
            begun.append(epoch)
        return begun

    def log(self, kind: str, payload: Mapping[str, Any]) -> Event:
        """Append to the event log and tell the listener."""
        with self.store.write():
            event = self.records.journal.append_event(kind, self.clock(), payload)
        if self.on_event is not None:
            self.on_event(event)
        return event

    def touch(self, page: Page | None, at: datetime) -> None:
        """Note that the records of a page were used; nothing where `companion` is off."""
        if self.config.companion and page is not None:
            with self.store.write():
                self.records.uses.touch([(i.hit.tier, int(i.hit.id[1:])) for i in page.items], utc_seconds(at))

    def refresh(self) -> None:
        """Drop what is held of the store in memory, after it was changed behind this object's back."""
        self.pager.forget()
        self._retrieval = self._make_retrieval()

    def close(self) -> None:
        """Write the index snapshots if they are worth it, and close the file; may be called twice."""
        for index in self.records.dense.values():
            index.write_if_due(closing=True)
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- inside -----------------------------------------------------------------------------------------------

    def _edited(self, block: Block, op: str, before: str, actor: str) -> None:
        with self.store.write():
            self.records.journal.put_block(block, op=op, before=before, actor=actor, at=self.clock())
            self.log("core_edit", {"label": block.label, "version": block.version, "op": op, "actor": actor})
            if op == "create" and self.records.journal.epoch() is None:
                return
            if actor == "user" and op in ("append", "replace", "create"):
                _, queue = self.pager.state()
                if queue:
                    note = f"Core memory block {block.label} now reads: {block.value}"
                    self.append([Draft("system", note)])
                else:
                    self.pager.fold_in("an edit before the first message", self.store.write)

    def _named(self, ref: str) -> list[Message | Passage]:
        """The record with an id; else those with a key: a message, a passage, or one of each."""
        number = int(ref[1:]) if re.fullmatch("[mp][0-9]{1,18}", ref) else 0
        tier = self.records.recall if ref[:1] == "m" else self.records.archival
        found: list[Message | Passage] = [*tier.get([number])]
        if not found:
            keyed = (self.records.recall.by_keys([ref]).get(ref), self.records.archival.by_key(ref))
            found = [record for record in keyed if record is not None]
        if not found:
            raise UnknownNameError("record", ref, [], hint="agentmem search shows keys and ids")
        return found

    def _frozen(self, requests: Sequence[CompressionRequest]) -> Sequence[Compressed | None]:
        """Question-agnostic compression, kept by content."""
        assert self.compressing is not None
        return self.compressing.frozen(requests, self.records.derived, self.clock())

    def _tell_once(self, problem: str) -> None:
        self.notices.append(problem)
        assert self.compressing is not None
        with suppress(StoreReadOnlyError, StoreFullError, StoreBusyError):  # a reader is told by the notice alone
            self.log("compressor_failed", {"compressor": self.compressing.compressor.name})

    def _notify(self, kind: str, payload: dict[str, Any]) -> None:
        self.notices.append(f"{kind.replace('_', ' ')}: {payload.get('reason', '')}")
        self.log(kind, payload)
