"""Writing a plan out: what stands where, merged where templates demand it, and counted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agentmem import prompts
from agentmem.context import PromptPlan, fingerprint, render, shown_keys
from agentmem.ledger import Bookkeeper
from agentmem.types import Block, Epoch, Hit, Message, Page, PageItem, Tier, ToolCall
from tests.counters import word_counter

NOW = datetime(2023, 5, 8, tzinfo=UTC)
CALL = ToolCall("a", "conversation_search", '{"query": "tea"}')


def message(number: int, role: str, content: str, **values: Any) -> Message:
    return Message(number, role, content, NOW, NOW, **values)  # type: ignore[arg-type]


QUEUE = [
    message(4, "user", "hi", name="Ann", key="k4"),
    message(5, "user", "hello", name="Tom", key="k5"),
    message(6, "assistant", "", tool_calls=(CALL,)),
    message(7, "tool", "found", tool_call_id="a"),
    message(8, "assistant", "well"),
]
EPOCH = Epoch(2, 4, "They met.", 1, 3, (Block("human", "Likes tea.", 9, read_only=True), Block("x", "", 9)), NOW)
ITEM = PageItem(Hit("m1", Tier.RECALL, "I like tea.", 0.9, NOW, "k1", "Ann", "user"), 0, 11)


def written(**values: Any) -> list[tuple[str, str]]:
    plan = PromptPlan(epoch=2, first=4, last=8, **values)
    found = render(plan, EPOCH, {m.id: m for m in QUEUE}, [ITEM])
    return [(w.message().role, w.message().content) for w in found]


def test_the_layout() -> None:
    found = written(query="And now?", clock="Monday", pressure=True, last_step=True)
    system = "\n".join(
        [
            prompts.SYSTEM_EXTRACTIVE,
            "<human> (read-only)\nLikes tea.\n</human>",
            "<x> empty </x>",
            "<summary>\nThey met.\n</summary>",
        ]
    )
    tail = "\n".join([
        "<memory>\n8 May 2023\nk1 Ann: I like tea.\n</memory>", "Now: Monday", prompts.PRESSURE_NOTE, "And now?",
        prompts.LAST_STEP_NOTE,
    ])  # fmt: skip
    assert found == [
        ("system", system),
        ("user", "Ann: hi\nTom: hello"),
        ("assistant", ""),
        ("tool", "found"),
        ("assistant", "well"),
        ("user", tail),
    ]
    assert "They met" not in written(summary=False)[0][1]
    assert written(mode="native")[0][1].startswith(prompts.SYSTEM_MODEL)


def test_nothing_asked_no_tail() -> None:
    found = render(PromptPlan(epoch=2, first=4, last=4), EPOCH, {4: QUEUE[0]}, [])
    assert [w.role for w in found] == ["system", "user"]


def test_a_message_that_the_plan_names_and_is_gone() -> None:
    with pytest.raises(KeyError):
        render(PromptPlan(epoch=2, first=1, last=0, turn=(99,)), EPOCH, {}, [])


def test_the_ledger_sums() -> None:
    counter = word_counter()
    plan = PromptPlan(epoch=2, first=4, last=8, query="And now?")
    found = render(plan, EPOCH, {m.id: m for m in QUEUE}, [ITEM])
    counted = Bookkeeper(counter).ledger(found, (), 500)
    assert counted.sections == {
        "system": counter.count(prompts.SYSTEM_EXTRACTIVE), "core": 8, "summary": 4, "compressed": 0,
        "queue": 2 + 2 + 3 + 1 + 1, "tail": 10 + 2, "template": 6,
    }  # fmt: skip
    assert counted.total == sum(counted.sections.values())


def test_the_fingerprint_is_of_the_bytes() -> None:
    plan = PromptPlan(epoch=2, first=4, last=8, query="x")
    by_id = {m.id: m for m in QUEUE}
    one = fingerprint(render(plan, EPOCH, by_id, [ITEM]))
    assert one == fingerprint(render(plan, EPOCH, by_id, [ITEM]))
    changed = {**by_id, 6: message(6, "assistant", "", tool_calls=(ToolCall("a", CALL.name, '{"query": "Tea"}'),))}
    assert fingerprint(render(plan, EPOCH, changed, [ITEM])) != one


def test_keys_and_shortened() -> None:
    plan = PromptPlan(epoch=2, first=4, last=8, cuts=((5, 1, 1),))
    part = PageItem(Hit("m2", Tier.RECALL, "long text", 0.5, NOW, "k2"), 0, 4)
    both = PageItem(Hit("m5", Tier.RECALL, "hello", 0.5, NOW, "k5"), 0, 5)
    found = shown_keys(plan, {m.id: m for m in QUEUE}, Page("", 0, (ITEM, part)))
    assert found == (("k4", "k1"), ("k5", "k2"))
    found = shown_keys(plan, {m.id: m for m in QUEUE}, Page("", 0, (ITEM, both)))
    assert found == (("k4", "k1", "k5"), ()), "whole in the page is whole"
