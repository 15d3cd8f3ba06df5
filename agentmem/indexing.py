"""Keeping vectors level with records: fingerprint, batches, the content-hash cache, re-embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from agentmem.crashpoints import crash_point
from agentmem.errors import BackendError, EmbedderMismatchError
from agentmem.keys import CONTEXT_PART, KEY_PART, further_keys, key_hash, message_keys, passage_keys
from agentmem.types import Message, Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmem.protocols import Embedder
    from agentmem.store.agent_store import AgentStore
    from agentmem.store.sqlite import EmbedderRow, SqliteStore

PROBE = "The quick brown fox jumps over the lazy dog on 7 May 2023."
# Two machines differ in the last bits of a float, so fingerprints are compared as vectors, not as a hash.
PROBE_COSINE = 0.995
BATCH = 128
KEYS_DUE = "record_keys_due"
"""A cursor: there since further keys were set, until each has its vector."""
Progress = Callable[[int, int], None]
Entry = tuple[str, int, int, bytes]
Further = Mapping[tuple[str, int], Sequence[str]]
"""The further keys of records that have any, by tier and id."""


class Indexer:
    """Embeds what one agent has stored and not yet embedded."""

    def __init__(
        self, store: SqliteStore, agent: AgentStore, embedder: Embedder, spec: str, clock: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._spec = spec
        self._agent = agent
        self._clock = clock
        self._row: EmbedderRow | None = None
        self._asked: tuple[str, NDArray[np.float32]] | None = None
        self.embedder = embedder
        found = store.embedder()
        if found is not None and found.model_id != embedder.model_id:
            names = (found.spec or found.model_id, spec or embedder.model_id)
            raise EmbedderMismatchError(*names, "their vectors can't be compared")

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """One unit row of shape (dim,); the newest is kept: a page asks for the same query as its search."""
        if self._asked is None or self._asked[0] != text:
            self._asked = (text, self._embed([text], query=True)[0])
        return self._asked[1]

    def fingerprint(self) -> EmbedderRow:
        """The embedder's row in the file, made or checked at first use. Raises EmbedderMismatchError."""
        current = self._store.embedder()
        if self._row is not None and current is not None and current.id == self._row.id:
            return self._row
        probe = self._embed([PROBE])[0]
        if current is None:
            with self._store.write():
                current = self._store.embedder()
                if current is None:
                    now = self._clock()
                    current = self._store.add_embedder(self.embedder.model_id, self._spec, probe, now, active=True)
        check_probe(current, self._spec or self.embedder.model_id, probe)
        self._row = current
        return current

    def catch_up(self, progress: Progress | None = None) -> int:
        """Embed everything that is pending, a batch a transaction; how many records got vectors."""
        messages, passages = self._agent.pending()
        if not messages and not passages and not self._keys_due():
            return 0
        embedder = self.fingerprint()
        done = 0
        total = messages + passages
        while messages:
            first = self._agent.vectors.watermark("recall") + 1
            last = min(first + BATCH - 1, self._agent.recall.last_id())
            done += self.attach(embedder, self._agent.recall.since(first, last), [], watermark=last)
            messages, _ = self._agent.pending()
            if progress is not None:
                progress(total - messages - passages, total)
        if passages:
            top = self._agent.archival.next_id() - 1
            new = [p for p in self._agent.archival.after(self._agent.vectors.watermark("archival")) if p.id <= top]
            for start in range(0, len(new), BATCH):
                done += self.attach(embedder, [], new[start : start + BATCH])
                if progress is not None:
                    progress(total - passages + start + len(new[start : start + BATCH]), total)
            with self._store.write():
                self._agent.vectors.set_watermark("archival", top)
        if self._keys_due():
            done += self._attach_keys(embedder)
        return done

    def _keys_due(self) -> bool:
        return self._agent.journal.get_cursor(KEYS_DUE) is not None

    def _attach_keys(self, embedder: EmbedderRow) -> int:
        """Embed the further keys that were set for records that have their own vectors; how many records that are."""
        keys, vectors, done = self._agent.keys, self._agent.vectors, set()
        for tier in ("recall", "archival"):
            after, upto = 0, vectors.watermark(tier)
            while due := keys.without_vector(tier, KEY_PART, upto, after, BATCH):
                texts = {key_hash(text): text for _, _, text in due}
                rows = self.embed_new(embedder, texts)
                last = due[-1][0]
                with self._store.write():
                    vectors.add_embeddings(embedder.id, rows)
                    # Others may have set these keys anew meanwhile, or attached them.
                    still = keys.without_vector(tier, KEY_PART, last, after, BATCH)
                    fresh: list[Entry] = [(tier, i, part, key_hash(text)) for i, part, text in still]
                    alive = self._alive(fresh)
                    fresh = [e for e in fresh if e[3] in texts and e[:2] in alive]
                    late = self.embed_new(embedder, {e[3]: texts[e[3]] for e in fresh})
                    vectors.add_embeddings(embedder.id, late)
                    vectors.add(embedder.id, fresh)
                    vectors.drop_unused(texts.keys() - {e[3] for e in fresh})
                    crash_point("attach_keys.before_commit")
                done |= {e[:2] for e in fresh}
                # The last record's keys may go on in the next batch.
                after = last - 1 if fresh else last
        with self._store.write():
            if not any(keys.without_vector(t, KEY_PART, vectors.watermark(t), most=1) for t in ("recall", "archival")):
                self._agent.journal.drop_cursors(KEYS_DUE)
        return len(done)

    def attach(
        self,
        embedder: EmbedderRow,
        messages: Sequence[Message],
        passages: Sequence[Passage],
        *,
        watermark: int | None = None,
    ) -> int:
        """Embed records and commit their vectors with the watermark; how many records got any."""
        further = further_of(self._agent, messages, passages)
        entries, texts = entries_of(messages, passages, previous_of(self._agent, messages), further)
        rows = self.embed_new(embedder, texts)
        with self._store.write():
            self._agent.vectors.add_embeddings(embedder.id, rows)
            # Another process may have attached the same records meanwhile.
            done = {t: self._agent.vectors.watermark(t) for t in ("recall", "archival")}
            fresh = [e for e in entries if e[1] > done[e[0]]]
            alive = self._alive(fresh)
            fresh = [e for e in fresh if alive >= _stands_on(e)]
            if further:
                # Keys that were set anew meanwhile are due: theirs come later.
                now = further_of(self._agent, messages, passages)
                fresh = [e for e in fresh if e[2] < KEY_PART or _is_key(e, now)]
            # A text that the file had may have been erased since, with its record: it is embedded after all.
            late = self.embed_new(embedder, {e[3]: texts[e[3]] for e in fresh})
            self._agent.vectors.add_embeddings(embedder.id, late)
            self._agent.vectors.add(embedder.id, fresh)
            self._agent.vectors.drop_unused({e[3] for e in entries} - {e[3] for e in fresh})
            if watermark is not None:
                self._agent.vectors.set_watermark("recall", watermark)
            if passages:
                self._agent.vectors.set_watermark("archival", passages[-1].id)
            crash_point("attach.before_commit")
        crash_point("attach.committed")
        return len({(t, r) for t, r, _, _ in fresh})

    def _alive(self, entries: Sequence[Entry]) -> set[tuple[str, int]]:
        """Which of the records that the entries were made of are still there."""
        wanted = set().union(*(_stands_on(e) for e in entries))
        alive = {("recall", m.id) for m in self._agent.recall.get([r for t, r in wanted if t == "recall"])}
        return alive | {("archival", p.id) for p in self._agent.archival.get([r for t, r in wanted if t == "archival"])}

    def embed_new(self, embedder: EmbedderRow, texts: dict[bytes, str]) -> dict[bytes, NDArray[np.float32]]:
        """Vectors of the texts that the file has none of yet."""
        known = self._agent.vectors.cached(embedder.id, list(texts))
        missing = [h for h in texts if h not in known]
        if not missing:
            return {}
        return dict(zip(missing, self._embed([texts[h] for h in missing]), strict=True))

    def _embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        return embed_checked(self.embedder, texts, query=query)


def previous_of(agent: AgentStore, messages: Sequence[Message]) -> dict[int, Message]:
    """The messages that stand directly before some (by the id after theirs), as far as there are any."""
    found = {m.id + 1: m for m in messages}
    missing = [m.id - 1 for m in messages if m.id not in found]
    return found | {m.id + 1: m for m in agent.recall.get(missing)}


def further_of(agent: AgentStore, messages: Sequence[Message], passages: Sequence[Passage]) -> Further:
    """The further keys of records."""
    found: dict[tuple[str, int], Sequence[str]] = {}
    for tier, ids in (("recall", [m.id for m in messages]), ("archival", [p.id for p in passages])):
        found |= {(tier, i): keys for i, keys in agent.keys.of(tier, ids).items()}
    return found


def set_keys(agent: AgentStore, tier: str, record_id: int, keys: Sequence[str], now: datetime) -> None:
    """Let a record have exactly these further keys, within the caller's transaction; their words count at once, their
    vectors are made at the next catch-up. Raises InvalidInputError for a record that is not searched."""
    agent.vectors.remove(tier, [record_id], from_part=KEY_PART)
    agent.set_keys(tier, record_id, keys)
    if keys:
        agent.journal.put_cursor(KEYS_DUE, True, now)


def entries_of(
    messages: Iterable[Message],
    passages: Iterable[Passage],
    previous: Mapping[int, Message],
    further: Further | None = None,
) -> tuple[list[Entry], dict[bytes, str]]:
    """(tier, record, part, hash) of every key, and the text of each hash. `previous` is what `previous_of` gives,
    `further` what `further_of` gives."""
    entries: list[Entry] = []
    texts: dict[bytes, str] = {}
    for tier, record, keys in [
        *(("recall", m.id, message_keys(m, previous.get(m.id))) for m in messages if m.searchable),
        *(("archival", p.id, passage_keys(p)) for p in passages),
    ]:
        for part, text in keys + further_keys((further or {}).get((tier, record), ())):
            digest = key_hash(text)
            texts[digest] = text
            entries.append((tier, record, part, digest))
    return entries, texts


def _is_key(entry: Entry, further: Further) -> bool:
    keys = further.get(entry[:2], ())
    n = entry[2] - KEY_PART
    return n < len(keys) and key_hash(keys[n]) == entry[3]


def _stands_on(entry: Entry) -> set[tuple[str, int]]:
    """The records whose words are in a key: with one of them erased, it must not be stored."""
    tier, record, part, _ = entry
    return {(tier, record), (tier, record - 1)} if part == CONTEXT_PART else {(tier, record)}


def embed_checked(embedder: Embedder, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
    """Embed, and hold the embedder to its contract. Raises BackendError when it breaks it."""
    import numpy as np

    rows = embedder.embed(list(texts), input_type="query" if query else "document")
    if rows.shape != (len(texts), embedder.dim) or not np.isfinite(rows).all():
        raise BackendError(
            f"the embedder {embedder.model_id!r} gave an array of shape {rows.shape} for {len(texts)} texts"
            " or values that are no numbers",
            hint="nothing was stored of it; check the embedder",
        )
    return rows


def check_probe(row: EmbedderRow, model_id: str, probe: NDArray[np.float32]) -> None:
    """Raises EmbedderMismatchError unless the embedder still gives the vectors that the file was made with."""
    import numpy as np

    if row.dim != len(probe):
        raise EmbedderMismatchError(
            row.spec or row.model_id, model_id, f"{row.dim} dimensions there, {len(probe)} here"
        )
    cosine = float(np.frombuffer(row.probe, "<f4") @ probe)
    if cosine < PROBE_COSINE:
        raise EmbedderMismatchError(
            row.spec or row.model_id, model_id, f"the probe text's vectors agree only to {cosine:.3f}"
        )


def reembed(
    store: SqliteStore,
    agents: Sequence[AgentStore],
    embedder: Embedder,
    spec: str,
    now: datetime,
    progress: Progress | None = None,
) -> int:
    """Give every agent of the file vectors of another embedder; how many keys that are.

    New vectors are stored beside the old ones, a batch a transaction, so that a killed run goes on where it was; the
    old ones serve until one last transaction switches everything over.
    """
    probe = embed_checked(embedder, [PROBE])[0]
    with store.write():
        row = store.add_embedder(embedder.model_id, spec, probe, now, active=False)
    check_probe(row, embedder.model_id, probe)
    total = sum(a.recall.last_id() + a.archival.next_id() - 1 for a in agents)
    done = 0
    for agent in agents:
        for messages, passages in _batches(agent):
            _, texts = entries_of(*_with_keys(agent, messages, passages))
            known = agent.vectors.cached(row.id, list(texts))
            missing = [h for h in texts if h not in known]
            if missing:
                rows = dict(zip(missing, embed_checked(embedder, [texts[h] for h in missing]), strict=True))
                with store.write():
                    agent.vectors.add_embeddings(row.id, rows)
            crash_point("reembed.batch")
            done += len(messages) + len(passages)
            if progress is not None:
                progress(done, total)
    keys = 0
    with store.write():
        for agent in agents:
            agent.vectors.clear()
            for messages, passages in _batches(agent):
                # What was stored since the passes above stays pending: its texts have no vector yet.
                entries, texts = entries_of(*_with_keys(agent, messages, passages))
                have = agent.vectors.cached(row.id, list(texts))
                late = {e[1] for e in entries if e[3] not in have}
                if late:
                    messages = [m for m in messages if m.id < min(late)]
                    passages = [p for p in passages if p.id < min(late)]
                    entries, _ = entries_of(*_with_keys(agent, messages, passages))
                agent.vectors.add(row.id, entries)
                keys += len(entries)
                for tier, records in (("recall", messages), ("archival", passages)):
                    if records:
                        agent.vectors.set_watermark(tier, records[-1].id)
                if late:
                    break
        store.activate_embedder(row.id)
        store.drop_embedders_but(row.id)
        crash_point("reembed.before_switch")
    crash_point("reembed.switched")
    for agent in agents:
        for index in agent.dense.values():
            index.forget()
    return keys


def _with_keys(
    agent: AgentStore, messages: Sequence[Message], passages: Sequence[Passage]
) -> tuple[Sequence[Message], Sequence[Passage], Mapping[int, Message], Further]:
    return messages, passages, previous_of(agent, messages), further_of(agent, messages, passages)


def _batches(agent: AgentStore) -> Iterable[tuple[list[Message], list[Passage]]]:
    last = agent.recall.last_id()
    for first in range(1, last + 1, BATCH):
        yield agent.recall.since(first, min(first + BATCH - 1, last)), []
    new = agent.archival.after(0)
    for start in range(0, len(new), BATCH):
        yield [], new[start : start + BATCH]
