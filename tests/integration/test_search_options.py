"""Filters and rerankers, through `Memory.search` and the command."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from agentmem.cli import app
from agentmem.errors import BackendError, InvalidInputError, UnknownNameError

Make = Callable[..., Any]


def talk(memory: Any) -> Any:
    for n, (name, session, text) in enumerate(
        [
            ("Ann", "1", "The harbour was full of boats."), ("Tom", "1", "I saw the harbour too."),
            ("Ann", "2", "We walked to the old harbour."), ("Tom", "2", "Tea afterwards?"),
        ]
    ):  # fmt: skip
        at = datetime(2023, 5, 1 + 7 * n, 12)
        memory.observe("user", text, name=name, session=session, key=f"k{n}", at=at)
    return memory


def keys(hits: Sequence[Any]) -> set[str]:
    return {h.key for h in hits}


def test_filters_of_messages(memory_factory: Make) -> None:
    memory = talk(memory_factory())
    memory.archive("The harbour is in Lisbon.", key="p")
    assert keys(memory.search("harbour")) >= {"k0", "k1", "k2", "p"}
    assert keys(memory.search("harbour", speaker="ann")) == {"k0", "k2"}, "in any case; no passage has a speaker"
    assert keys(memory.search("harbour", session="1")) == {"k0", "k1"}
    assert keys(memory.search("harbour", speaker="Tom", session="1")) == {"k1"}
    assert memory.search("harbour", speaker="Nobody") == [] and memory.search("harbour", session="") == []
    assert keys(memory.search("harbour", since="2023-05-09", tier="recall")) == {"k2", "k3"}
    assert keys(memory.search("harbour", since="2023-05-01", until="2023-05-09", speaker="Ann")) == {"k0"}
    with pytest.raises(InvalidInputError, match="after until"):
        memory.search("harbour", since="2023-05-09", until="2023-05-01")


def test_what_is_said_later_weighs_nothing_in_a_view_of_before(memory_factory: Make) -> None:
    memory = memory_factory()
    for n, text in enumerate(("We saw the harbour.", "It was full of tourists.", "Old boats in the old harbour.")):
        memory.observe("user", text, name="Ann", session="1", key=f"k{n}", at=datetime(2023, 5, 1 + 7 * n, 12))
    now = {h.key: h.parts["cover_window"] for h in memory.search("old boats", tier="recall", explain=True)}
    assert now["k1"] > 0, "a neighbour's words count"
    then = memory.search("old boats", as_of="2023-05-09", tier="recall", explain=True)
    assert {h.key: h.parts["cover_window"] for h in then} == {"k0": 0.0, "k1": 0.0}


def test_what_was_superseded_is_there_on_request(memory_factory: Make) -> None:
    memory = memory_factory()
    old = memory.archive("Anna lives in Porto.", key="old", valid_from="2020-01-01")
    memory.supersede(old.id, "Anna lives in Lisbon.", valid_from="2022-01-01")
    assert [h.text for h in memory.search("Where does Anna live?")] == ["Anna lives in Lisbon."]
    both = {h.text for h in memory.search("Where does Anna live?", superseded=True)}
    assert both == {"Anna lives in Porto.", "Anna lives in Lisbon."}
    then = memory.search("Where does Anna live?", superseded=True, as_of="2021-01-01")
    assert [h.text for h in then] == ["Anna lives in Porto."], "what began later is not known of then"


class Longest:
    """A reranker that likes long texts."""

    name = "longest"

    def __init__(self, rows: Any = None) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self.rows = rows

    def scores(self, query: str, texts: Sequence[str]) -> Any:
        self.asked.append((query, list(texts)))
        return np.array([len(t) for t in texts], np.float32) if self.rows is None else self.rows


def test_a_reranker_scores_the_best_once_more(memory_factory: Make) -> None:
    plain = talk(memory_factory())
    reranker = Longest()
    memory = memory_factory(reranker=reranker)
    before, after = plain.search("old harbour boats", explain=True), memory.search("old harbour boats", explain=True)
    assert keys(before) == keys(after) and reranker.asked == [("old harbour boats", [h.text for h in before])]
    assert [h.score for h in after] == [h.score for h in before], "the scores are dealt out anew"
    assert all(h.parts["reranker"] == len(h.text) for h in after)
    shortest = min(before, key=lambda h: len(h.text))
    assert [h.id for h in after].index(shortest.id) >= [h.id for h in before].index(shortest.id)
    assert len(memory.search("old harbour", top_k=1)) == 1
    assert memory.page_in("old harbour", max_tokens=200).keys


@pytest.mark.parametrize("rows", [np.zeros(1, np.float32), np.array([[1.0]] * 4), np.full(4, np.nan)])
def test_a_reranker_that_breaks_its_contract(memory_factory: Make, rows: Any) -> None:
    memory = talk(memory_factory(reranker=Longest(rows)))
    with pytest.raises(BackendError, match="longest") as e:
        memory.search("harbour")
    assert "without it" in e.value.hint


def test_an_unknown_reranker(memory_factory: Make) -> None:
    with pytest.raises(UnknownNameError, match="cross-encoder"):
        memory_factory(reranker="crossencoder")


def test_the_command(tmp_path: Any, memory_factory: Make) -> None:
    from agentmem import Memory

    db = str(tmp_path / "c.db")
    with Memory(db, embedder="hash") as memory:
        talk(memory)
    run = CliRunner().invoke
    found = run(app, ["search", "harbour", "--db", db, "--speaker", "Ann", "--session", "2", "--json"])
    assert found.exit_code == 0 and [h["key"] for h in json.loads(found.stdout)["hits"]] == ["k2"]
    wrong = run(app, ["search", "harbour", "--db", db, "--reranker", "nonsense"])
    assert wrong.exit_code == 1 and "cross-encoder" in str(wrong.exception)
    assert run(app, ["search", "harbour", "--db", db, "--superseded", "--json"]).exit_code == 0
