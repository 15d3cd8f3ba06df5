"""Vectors keep level with records, whoever else writes to the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.errors import BackendError, EmbedderMismatchError
from agentmem.indexing import reembed
from agentmem.inspecting import verify
from agentmem.keys import CONTEXT_PART
from agentmem.types import Draft


class Watched(HashingEmbedder):
    """Counts what it embeds, and may let something happen meanwhile, or break its contract."""

    def __init__(self, dim: int = 64, *, model: str = "watched") -> None:
        super().__init__(dim)
        self.model_id = model
        self.texts: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.turn_over = False
        self.broken = False

    def embed(self, texts: Sequence[str], *, input_type: Any) -> Any:
        self.texts += texts
        happen, self.meanwhile = self.meanwhile, lambda: None
        happen()
        rows = super().embed(texts, input_type=input_type)
        if self.broken:
            rows[0, 0] = np.nan
        return -rows if self.turn_over else rows


def rows(memory: Any, tier: str = "recall") -> list[int]:
    """The record of every key of its own words."""
    return [record for _, record, part, _ in memory.records.vectors.entries(tier) if part < CONTEXT_PART]


def contexts(memory: Any) -> list[int]:
    """The records that have a key with the end of the message before."""
    return [record for _, record, part, _ in memory.records.vectors.entries("recall") if part == CONTEXT_PART]


def test_a_key_with_two_messages_goes_with_either(memory_factory: Callable[..., Any]) -> None:
    embedder = Watched()
    memory = memory_factory(embedder=embedder)
    for n, text in enumerate(("where were you", "in the old harbour", "nice", "indeed it was")):
        memory.observe("user", text, key=f"k{n}")
    memory.catch_up()
    assert rows(memory) == [1, 2, 3, 4] and contexts(memory) == [2, 3, 4]
    hashes = memory.store.db.rows("SELECT count(*) FROM embeddings")[0][0]
    memory.erase(key="k1")
    assert rows(memory) == [1, 3, 4] and contexts(memory) == [4], "m2's words stood in m3's key"
    assert memory.store.db.rows("SELECT count(*) FROM embeddings")[0][0] == hashes - 3
    assert memory.records.vectors.orphans() == [] and verify(memory) == []


def test_a_message_that_is_deleted_meanwhile_is_in_no_key(memory_factory: Callable[..., Any]) -> None:
    embedder = Watched()
    one, other = memory_factory(embedder=embedder), memory_factory(embedder=Watched())
    for text in ("the secret", "tea"):
        one.observe("user", text)
    one._retrieval.indexer.fingerprint()

    def delete() -> None:
        with other.store.write():
            other.store.db.run("DELETE FROM messages WHERE id = 1")

    embedder.meanwhile = delete
    one.catch_up()
    assert rows(one) == [2] and contexts(one) == []
    assert one.store.db.rows("SELECT count(*) FROM embeddings")[0][0] == 1


def test_a_batch_begins_with_what_stood_before_it(memory_factory: Callable[..., Any]) -> None:
    memory = memory_factory()
    for n in range(3):
        memory.observe("user", f"number {n}")
        memory.catch_up()
    assert contexts(memory) == [2, 3] and verify(memory) == []


def test_each_distinct_text_is_embedded_once(memory_factory: Callable[..., Any]) -> None:
    embedder = Watched()
    one = memory_factory(embedder=embedder)
    for text in ("ok", "ok", "tea", "ok"):
        one.observe("user", text)
    one.observe("tool", "a result")
    one.catch_up()
    assert sorted(t for t in embedder.texts if t in ("ok", "tea", "a result")) == ["ok", "tea"]
    assert rows(one) == [1, 2, 3, 4], "every message that was said has its own"
    other = memory_factory(embedder=embedder, agent="b")
    other.observe("user", "tea")
    other.catch_up()
    assert embedder.texts.count("tea") == 1, "the cache is the file's, the vectors are the agent's"
    before = len(embedder.texts)
    assert one.catch_up() == 0 and len(embedder.texts) == before


def test_long_records_have_a_vector_a_part(memory_factory: Callable[..., Any]) -> None:
    memory = memory_factory()
    memory.observe("user", "A sentence about tea. " * 200)
    memory.archive("A passage about coffee. " * 200)
    memory.catch_up()
    assert len(rows(memory)) > 3 and set(rows(memory)) == {1}
    assert len(rows(memory, "archival")) > 3 and memory.records.vectors.orphans() == []


def test_more_than_a_batch(memory_factory: Callable[..., Any]) -> None:
    memory = memory_factory()
    with memory.store.write():
        memory.append([Draft("user", f"number {n}") for n in range(700)])
    seen: list[tuple[int, int]] = []
    assert memory.catch_up(lambda done, total: seen.append((done, total))) == 700
    assert rows(memory) == list(range(1, 701))
    assert seen[-1] == (700, 700) and [d for d, _ in seen] == sorted(d for d, _ in seen)


def test_another_process_embeds_the_same_meanwhile(memory_factory: Callable[..., Any]) -> None:
    slow, quick = Watched(), Watched()
    one, other = memory_factory(embedder=slow), memory_factory(embedder=quick)
    one.observe("user", "tea")
    one.observe("user", "coffee")
    one._retrieval.indexer.fingerprint()
    slow.meanwhile = lambda: other.catch_up() and None  # type: ignore[func-returns-value]
    one.catch_up()
    assert rows(one) == [1, 2], "not twice"


def test_a_record_that_is_deleted_meanwhile_gets_no_vector(memory_factory: Callable[..., Any]) -> None:
    embedder = Watched()
    one, other = memory_factory(embedder=embedder), memory_factory(embedder=Watched())
    one.observe("user", "secret")
    one.observe("user", "tea")
    one._retrieval.indexer.fingerprint()

    def delete() -> None:
        with other.store.write():
            other.store.db.run("DELETE FROM messages WHERE id = 1")

    embedder.meanwhile = delete
    one.catch_up()
    assert rows(one) == [2] and one.records.vectors.orphans() == []
    assert one.store.db.rows("SELECT count(*) FROM embeddings")[0][0] == 1, "nor is its embedding kept"


def test_a_cached_text_whose_record_is_deleted_meanwhile(memory_factory: Callable[..., Any]) -> None:
    embedder = Watched()
    one, other = memory_factory(embedder=embedder), memory_factory(embedder=Watched())
    one.observe("user", "ok")
    one.catch_up()
    one.observe("user", "ok")
    one.observe("user", "tea")

    def erase_the_first() -> None:
        with other.store.write():
            other.records.vectors.remove("recall", [1])
            other.store.db.run("DELETE FROM messages WHERE id = 1")

    embedder.meanwhile = erase_the_first
    one.catch_up()
    assert rows(one) == [2, 3] and one.records.vectors.orphans() == []


def test_the_wrong_embedder_is_refused_by_its_name(memory_factory: Callable[..., Any]) -> None:
    memory = memory_factory(embedder=Watched())
    memory.observe("user", "tea")
    memory.catch_up()
    with pytest.raises(EmbedderMismatchError, match="watched") as e:
        memory_factory(embedder=Watched(model="other"))
    assert "reembed" in e.value.hint
    for wrong in (Watched(dim=32), Watched()):
        wrong.turn_over = wrong.dim == 64
        broken = memory_factory(embedder=wrong)
        broken.observe("user", "coffee")
        with pytest.raises(EmbedderMismatchError):
            broken.search("tea")
    assert next(h.text for h in memory.search("tea")) == "tea", "the old one serves on"


def test_an_embedder_that_breaks_its_contract_stores_nothing(memory_factory: Callable[..., Any]) -> None:
    embedder = Watched()
    memory = memory_factory(embedder=embedder)
    memory.observe("user", "tea")
    memory.catch_up()
    memory.observe("user", "coffee")
    embedder.broken = True
    with pytest.raises(BackendError, match="watched"):
        memory.catch_up()
    assert rows(memory) == [1] and memory.records.vectors.watermark("recall") == 1
    embedder.broken = False
    assert memory.catch_up() == 1


def test_reembedding(memory_factory: Callable[..., Any], clock: Any) -> None:
    memory = memory_factory(embedder=Watched())
    for n in range(300):
        memory.observe("user", f"number {n} of the list")
    memory.archive("The list has 300 numbers.")
    memory.search("number 7")
    new = Watched(32, model="new")
    assert reembed(memory.store, [memory.records], new, "", clock()) == 300 + 299 + 1, "own words and contexts"
    again = memory_factory(embedder=new)
    assert rows(again) == list(range(1, 301)) and rows(again, "archival") == [1]
    assert {h.id for h in again.search("number 7 of the list", top_k=3)} & {"m8"}
    assert again.store.db.rows("SELECT count(*) FROM embedders")[0][0] == 1
    assert again.records.vectors.orphans() == [] and again.store.integrity() == []
