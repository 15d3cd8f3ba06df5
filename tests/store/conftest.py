"""A store on disk, and an agent of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentmem.store.agent_store import AgentStore
from agentmem.store.sqlite import SqliteStore

NOW = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


def bind(store: SqliteStore, name: str = "a") -> AgentStore:
    """An agent of the store, which is made where it is not there."""
    return store.agent(name, create=True, now=NOW, notify=lambda kind, payload: None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "m.db", index="numpy")
    yield made
    made.close()
