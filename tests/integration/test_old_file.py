"""A file with the keys of before gets those of today, and no text is embedded twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentmem import Memory
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.inspecting import verify
from agentmem.keys import SENTENCE_PART
from tests.store.old_files import before_compression


class Watched(HashingEmbedder):
    """Remembers what it embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], *, input_type: Any) -> Any:
        self.texts += texts
        return super().embed(texts, input_type=input_type)


def test_new_keys_for_old_records(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with Memory(path, embedder=HashingEmbedder()) as memory:
        memory.observe("user", "I went to the pottery class. We made a bowl of clay.", key="a")
        memory.observe("user", "Where is that bowl now?", key="b")
        memory.catch_up()
    old = sqlite3.connect(path)
    old.execute("DELETE FROM vectors WHERE part >= ?", (SENTENCE_PART,))
    old.execute("DELETE FROM embeddings WHERE NOT EXISTS (SELECT 1 FROM vectors v WHERE v.hash = embeddings.hash)")
    old.execute("DELETE FROM _sqlite_migrations WHERE name >= 'm004'")
    old.execute("DROP TABLE uses")
    before_compression(old)
    old.commit()
    old.close()
    embedder = Watched()
    with Memory(path, embedder=embedder) as memory:
        assert memory.search("a bowl of clay", top_k=1)[0].key == "a"
        assert verify(memory) == []
    whole = {"I went to the pottery class. We made a bowl of clay.", "Where is that bowl now?"}
    assert not whole & set(embedder.texts), "their vectors were there"
    assert {"I went to the pottery class.", "We made a bowl of clay."} <= set(embedder.texts)
