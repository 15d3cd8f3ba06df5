"""Uses: importance and last use of one agent's records, gone with the record."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agentmem.errors import InvalidInputError
from agentmem.store.agent_store import AgentStore
from agentmem.store.sqlite import SqliteStore
from agentmem.types import Draft, Passage

NOW = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


def bind(store: SqliteStore, name: str) -> AgentStore:
    """An agent with 600 messages and a passage."""
    agent = store.agent(name, create=True, now=NOW, notify=lambda kind, payload: None)
    with store.write():
        agent.recall.append([Draft("user", f"Line {n}.") for n in range(600)], NOW)
        agent.archival.add([Passage(1, "Anna lives in Lisbon.", NOW, NOW)])
    return agent


def known(agent: AgentStore, tier: str, *ids: int) -> list[tuple[Any, Any]]:
    importance, used = agent.uses.of(tier, ids)
    assert importance.shape == used.shape == (len(ids),)
    return [(None if i != i else i, None if u != u else u) for i, u in zip(importance, used, strict=True)]


def test_what_is_put_in_comes_out_in_the_order_asked(store: SqliteStore) -> None:
    agent = bind(store, "a")
    agent.uses.rate("recall", 7, 10)
    agent.uses.touch([("recall", 7), ("archival", 1), ("recall", 2)], 50.5)
    agent.uses.rate("archival", 1, 3)
    agent.uses.rate("archival", 1, 4)
    assert known(agent, "recall", 2, 3, 7) == [(None, 50.5), (None, None), (10, 50.5)]
    assert known(agent, "recall", 7, 3, 2) == [(10, 50.5), (None, None), (None, 50.5)]
    assert known(agent, "archival", 1) == [(4, 50.5)] and known(agent, "recall") == []
    assert agent.uses.all() == [("archival", 1, 4, 50.5), ("recall", 2, None, 50.5), ("recall", 7, 10, 50.5)]


def test_the_last_use_never_goes_back(store: SqliteStore) -> None:
    agent = bind(store, "a")
    for at in (50.0, 20.0):
        agent.uses.touch([("recall", 1)], at)
    assert known(agent, "recall", 1) == [(None, 50.0)]
    agent.uses.touch([("recall", 1)], 80.0)
    agent.uses.rate("recall", 1, 1)
    assert known(agent, "recall", 1) == [(1, 80.0)]


def test_more_records_than_a_statement_takes(store: SqliteStore) -> None:
    agent = bind(store, "a")
    agent.uses.touch([("recall", n) for n in range(1, 601)], 5.0)
    assert known(agent, "recall", *range(600, 0, -1)) == [(None, 5.0)] * 600


@pytest.mark.parametrize("importance", [0, 11, -1, 5.0, "5", True, None])
def test_only_1_to_10(store: SqliteStore, importance: Any) -> None:
    agent = bind(store, "a")
    with pytest.raises(InvalidInputError, match="importance"):
        agent.uses.rate("recall", 1, importance)
    assert agent.uses.all() == []


def test_another_agents_stay(store: SqliteStore) -> None:
    one, two = bind(store, "a"), bind(store, "b")
    one.uses.rate("recall", 1, 2)
    two.uses.rate("recall", 1, 9)
    one.uses.remove("recall", [1])
    assert one.uses.all() == [] and known(two, "recall", 1) == [(9, None)]


def test_removal_is_of_one_tier_and_what_is_not_there_is_not_kept(store: SqliteStore) -> None:
    agent = bind(store, "a")
    agent.uses.touch([("recall", 2), ("recall", 0), ("archival", 1), ("archival", 2), ("recall", 601)], 5.0)
    agent.uses.remove("archival", [1, 2])
    assert agent.uses.all() == [("recall", 2, None, 5.0)]
