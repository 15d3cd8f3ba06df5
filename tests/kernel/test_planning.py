"""Fitting a prompt into its budget: the laws, over random histories, budgets and counters."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem import prompts
from agentmem.budget import Budget
from agentmem.config import MemoryConfig
from agentmem.context import PromptPlan, fingerprint, render, shown_keys
from agentmem.errors import ContextOverflowError
from agentmem.paging import pack
from agentmem.planning import Ask, Fitted, Shape, fit, head_cost, message_cost, used_tokens
from agentmem.tokens import approximate_counter
from agentmem.tools import SPECS
from agentmem.types import SECTIONS, Block, Epoch, Hit, Message, Page, Tier, ToolCall
from tests.counters import MergingCounter, PairCounter, word_counter

NOW = datetime(2023, 5, 8, 12, 0, tzinfo=UTC)
COUNTERS: dict[str, Any] = {
    "approximate": approximate_counter(), "words": word_counter(), "pairs": PairCounter(), "merging": MergingCounter(),
}  # fmt: skip
EPOCH = Epoch(3, 5, "", 0, 0, (), NOW)

words = st.sampled_from(
    [
        "w" * 300,
        "tea",
        "Lisbon",
        "sister",
        "東京",
        "naïve",
        "😀",
        "x" * 60,
        "a-b_c",
        "\n",
        "\t",
        "שלום",
        "zzzzzzzz",
        "12:30",
    ]
)
said = st.lists(words, min_size=1, max_size=12).map(" ".join).filter(str.strip)
long_said = st.builds(lambda text, n: f"{text} " * n, said, st.integers(20, 120))
contents = st.one_of(said, said, said, long_said)


def message(number: int, role: str, content: str, **values: Any) -> Message:
    return Message(number, role, content, NOW + timedelta(minutes=number), NOW, **values)  # type: ignore[arg-type]


@st.composite
def histories(draw: st.DrawFn, first: int = 1) -> list[Message]:
    """Users with names, assistants, notes, tool calls with results, and notes that come in between."""
    found: list[Message] = []

    def add(role: str, content: str, **values: Any) -> None:
        found.append(message(first + len(found), role, content, **values))

    for turn in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(["talk", "talk", "people", "tools", "interrupted", "note", "import"]))
        key = draw(st.none() | st.just(f"k{turn}"))
        if kind == "people":
            add("user", draw(contents), name=draw(st.sampled_from(["Ann", "Tom"])), key=key)
        elif kind == "note":
            add("system", draw(said))
        elif kind == "import":
            add("tool", draw(said))
        else:
            add("user", draw(contents), key=key)
            if kind in ("tools", "interrupted"):
                # Ids come again in later turns, as with servers that count from nothing.
                calls = tuple(
                    ToolCall(f"call_{n}", "conversation_search", json.dumps({"query": draw(said)}))
                    for n in range(draw(st.integers(1, 2)))
                )
                add("assistant", draw(st.just("") | said), tool_calls=calls)
                for call in calls:
                    if kind == "interrupted":
                        add("system", "Core memory block human now reads: x")
                    add("tool", draw(contents), tool_call_id=call.id)
            add("assistant", draw(contents))
    return found


@st.composite
def epochs(draw: st.DrawFn) -> Epoch:
    blocks = tuple(
        Block(label, draw(st.just("") | said), 100)
        for label in draw(st.sampled_from([(), ("human",), ("persona", "human")]))
    )
    summary = draw(st.just("") | said | long_said)
    return Epoch(draw(st.integers(1, 9)), 1, summary, int(bool(summary)), int(bool(summary)), blocks, NOW)


def memory_of(number: int) -> list[Hit]:
    """What a search might find, best first."""
    texts = ["My sister lives in Lisbon.", "喝茶 " * 30, "tea " * 200, "The invoice INV-2041\nis not paid."]
    zone = datetime(2023, 1, 1).astimezone().tzinfo
    return [
        Hit(
            f"m{900 + n}",
            Tier.RECALL,
            texts[n % 4],
            1 - n / 100,
            (NOW if n % 2 else NOW.astimezone(zone)) - timedelta(days=n // 3),
            f"h{n}" if n % 2 else None,
        )
        for n in range(number)
    ]


def orphans(fitted: Fitted) -> list[str]:
    """Tool results in the prompt that answer no call before them."""
    open_calls: list[str] = []
    found = []
    for m in (w.message() for w in fitted.written):
        open_calls += [c.id for c in m.tool_calls]
        if m.role == "tool":
            if m.tool_call_id in open_calls:
                open_calls.remove(m.tool_call_id)
            else:
                found.append(str(m.tool_call_id))
    return found


def least(epoch: Epoch, ask: Ask, shape: Shape) -> int:
    """What can't be left out: system, tools, core memory, the clock and the notes, each in a message of its own."""
    head = head_cost(epoch, shape)
    notes = [f"Now: {ask.clock}"] if ask.clock else []
    notes += [prompts.PRESSURE_NOTE] if ask.pressure else []
    notes += [prompts.LAST_STEP_NOTE] if ask.last_step else []
    return head + sum(shape.counter.count(n) + 12 for n in notes) + 12


def check(fitted: Fitted, epoch: Epoch, queue: list[Message], ask: Ask, max_tokens: int, shape: Shape) -> None:
    counter = shape.counter
    ledger = fitted.ledger
    assert ledger.total <= max_tokens == ledger.max_tokens
    assert ledger.total == counter.count_prompt([w.message() for w in fitted.written], shape.tools)
    assert set(ledger.sections) == set(SECTIONS)
    assert sum(ledger.sections.values()) == ledger.total
    assert all(n >= 0 for n in ledger.sections.values()), ledger.sections
    assert (ledger.counter, ledger.exact) == (counter.name, counter.exact)
    assert orphans(fitted) == []
    by_id = {m.id: m for m in (*queue, *ask.turn)}
    again = render(fitted.plan, epoch, by_id, fitted.page.items)
    assert again == fitted.written
    plan = PromptPlan.from_payload(json.loads(json.dumps(fitted.plan.to_payload())))
    assert plan == fitted.plan
    assert fingerprint(render(plan, epoch, by_id, fitted.page.items)) == fingerprint(fitted.written)
    kept = [m.id for m in queue if fitted.plan.first <= m.id <= fitted.plan.last]
    assert kept == [m.id for m in queue][len(queue) - len(kept) :], "the oldest leave first, none from between"
    keys, shortened = shown_keys(fitted.plan, by_id, fitted.page)
    assert not set(keys) & set(shortened)
    whole = "\n".join(w.message().content for w in fitted.written)
    for m in by_id.values():
        if m.key in keys and m.key is not None:
            assert m.content in whole


budgets = st.one_of(st.integers(60, 400), st.integers(400, 3000))


for_a_query = given(
    epoch=epochs(), queue=histories(), query=st.just("") | contents, max_tokens=budgets, native=st.booleans(),
    clock=st.sampled_from(["", "Monday 8 May 2023, 12:00"]), share=st.sampled_from([0.0, 0.5, 0.75]),
    found=st.integers(0, 12), pageable=st.booleans(), least_page=st.sampled_from([0, 50]),
)  # fmt: skip


def check_a_prompt_for_a_query(
    name: str, epoch: Epoch, queue: list[Message], query: str, max_tokens: int, native: bool, clock: str, share: float,
    found: int, pageable: bool, least_page: int,
) -> None:  # fmt: skip
    shape = Shape(COUNTERS[name], SPECS if native else (), "native" if native else "none")
    ask = Ask(query=query, clock=clock, page_share=share, page_min=least_page, pageable=pageable)
    asked: list[tuple[int, frozenset[str]]] = []

    def page_for(tokens: int, visible: frozenset[str]) -> Page:
        asked.append((tokens, visible))
        return pack(memory_of(found), query, tokens, shape.counter)

    try:
        fitted = fit(epoch, queue, ask, max_tokens, shape, page_for)
    except ContextOverflowError as e:
        assert least(epoch, ask, shape) > max_tokens, e
        return
    check(fitted, epoch, queue, ask, max_tokens, shape)
    assert all(tokens > 0 for tokens, _ in asked)
    if asked and asked[-1][1]:
        shown = {m.ref for m in queue if fitted.plan.first <= m.id <= fitted.plan.last}
        assert asked[-1][1] == shown, "what stands in the prompt is told to the search"
    if shape.counter.additive and query.split() and head_cost(epoch, shape) + 200 < max_tokens:
        assert fitted.plan.query.strip(), "the question is never left out whole"


@pytest.mark.parametrize("name", COUNTERS)
@settings(max_examples=15)
@for_a_query
def test_a_prompt_for_a_query(name: str, **drawn: Any) -> None:
    check_a_prompt_for_a_query(name, **drawn)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTERS)
@settings(max_examples=200)
@for_a_query
def test_many_prompts_for_a_query(name: str, **drawn: Any) -> None:
    check_a_prompt_for_a_query(name, **drawn)


for_a_turn = given(
    epoch=epochs(), queue=histories(), text=contents, max_tokens=st.integers(900, 4000), native=st.booleans(),
    pressure=st.booleans(), last_step=st.booleans(), found=st.integers(0, 8), steps=st.lists(contents, max_size=4),
)  # fmt: skip


def check_a_prompt_for_a_turn_and_its_steps(
    name: str, epoch: Epoch, queue: list[Message], text: str, max_tokens: int, native: bool, pressure: bool,
    last_step: bool, found: int, steps: list[str],
) -> None:  # fmt: skip
    shape = Shape(COUNTERS[name], SPECS if native else (), "native" if native else "none")
    number = len(queue) + 1
    turn = [message(number, "user", text)]
    for n, result in enumerate(steps):
        call = ToolCall(f"call_{n}", "conversation_search", '{"query": "tea"}')
        turn.append(message(number + 2 * n + 1, "assistant", "", tool_calls=(call,)))
        turn.append(message(number + 2 * n + 2, "tool", result, tool_call_id=call.id))
    ask = Ask(
        turn=tuple(turn), clock="Monday 8 May 2023, 12:00", pressure=pressure, last_step=last_step, page_share=0.0,
        page_min=40,
    )  # fmt: skip
    try:
        fitted = fit(epoch, queue, ask, max_tokens, shape, lambda t, v: pack(memory_of(found), text, t, shape.counter))
    except ContextOverflowError as e:
        # What the turn itself must show: each message's least, a marker included.
        rest = sum(
            shape.counter.count(c.arguments) + 80 for m in turn for c in (m.tool_calls or (ToolCall("", "", ""),))
        )
        assert least(epoch, ask, shape) + 2 * rest > max_tokens, e
        return
    check(fitted, epoch, queue, ask, max_tokens, shape)
    # The tail of the first step is that of the later ones: the page is given, and nothing is searched again.
    if len(turn) > 1:
        first = fit(epoch, queue, Ask(turn=(turn[0],), clock=ask.clock, page_min=40, page_share=0.0), max_tokens, shape,
                    lambda t, v: pack(memory_of(found), text, t, shape.counter))  # fmt: skip

        def never(tokens: int, visible: frozenset[str]) -> Page:
            raise AssertionError("searched again within a turn")

        again = Ask(turn=tuple(turn), clock=ask.clock, page=first.page, page_min=40, page_share=0.0)
        try:
            later = fit(epoch, queue, again, max_tokens, shape, never)
        except ContextOverflowError:
            return
        check(later, epoch, queue, again, max_tokens, shape)
        # It is only ever made smaller, and only where the turn's own messages leave no room for it.
        assert set(later.page.items) <= set(first.page.items)
        if later.page != first.page:
            assert later.ledger.total + first.page.num_tokens - later.page.num_tokens > max_tokens * 3 // 4


@pytest.mark.parametrize("name", COUNTERS)
@settings(max_examples=15)
@for_a_turn
def test_a_prompt_for_a_turn_and_its_steps(name: str, **drawn: Any) -> None:
    check_a_prompt_for_a_turn_and_its_steps(name, **drawn)


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTERS)
@settings(max_examples=200)
@for_a_turn
def test_many_prompts_for_a_turn_and_its_steps(name: str, **drawn: Any) -> None:
    check_a_prompt_for_a_turn_and_its_steps(name, **drawn)


def test_two_prompts_that_differ_only_in_the_tail_share_all_before_it() -> None:
    # methods.md 8.7: the common prefix is everything before the tail.
    shape = Shape(word_counter())
    epoch = Epoch(1, 1, "They spoke of tea.", 1, 2, (Block("human", "Likes tea.", 50),), NOW)
    queue = [message(3, "user", "one two three"), message(4, "assistant", "four five")]

    def sent(query: str, clock: str, found: int) -> list[dict[str, Any]]:
        ask = Ask(query=query, clock=clock)
        fitted = fit(epoch, queue, ask, 2000, shape, lambda t, v: pack(memory_of(found), query, t, shape.counter))
        return [w.message().to_dict() for w in fitted.written]

    one, other = sent("Where is Anna?", "Monday", 3), sent("And Tom?", "Tuesday", 5)
    assert one[:-1] == other[:-1] and len(one) == 4
    assert one[-1] != other[-1]
    joined = [json.dumps(p) for p in (one, other)]
    common = next(n for n, (a, b) in enumerate(zip(*joined, strict=False)) if a != b)
    before_the_tail = len(json.dumps(one[:-1])) - 1
    assert common > before_the_tail


def test_head_alone_too_big() -> None:
    shape = Shape(word_counter())
    epoch = Epoch(1, 1, "", 0, 0, (Block("human", "word " * 100, 200),), NOW)
    with pytest.raises(ContextOverflowError, match="core memory") as e:
        fit(epoch, [], Ask(query="x"), 50, shape, lambda t, v: Page("", 0))
    assert e.value.available_tokens == 50 < e.value.needed_tokens


def test_the_oldest_go_before_the_summary_and_the_page_keeps_its_share() -> None:
    shape = Shape(word_counter())
    epoch = Epoch(1, 1, "summary " * 20, 1, 9, (), NOW)
    queue = [message(n, "user" if n % 2 else "assistant", f"n{n} " * 20) for n in range(10, 40)]
    head = head_cost(epoch, shape)
    roomy = fit(epoch, queue, Ask(query="tea"), head + 1000, shape, lambda t, v: Page("", 0))
    assert roomy.plan.summary and (roomy.plan.first, roomy.plan.last) == (18, 39)
    small = fit(epoch, queue, Ask(query="tea"), head + 120, shape, lambda t, v: Page("", 0))
    assert small.plan.summary and small.plan.first == 39
    tiny = fit(epoch, queue, Ask(query="tea", page_share=0.75), head + 60, shape, lambda t, v: Page("", 0))
    assert not tiny.plan.summary and tiny.plan.first > tiny.plan.last


def test_what_pressure_is_measured_by() -> None:
    counter = word_counter()
    budget = Budget.of(MemoryConfig(window_tokens=1000))
    queue = [message(1, "user", "one two"), message(2, "assistant", "word " * 500)]
    costs = [message_cost(m, budget.entry_tokens, Shape(counter)) for m in queue]
    assert costs[0] == 3 and 24 < costs[1] <= budget.entry_tokens + 2
    epoch = Epoch(1, 1, "a summary", 1, 1, (), NOW)
    head = head_cost(epoch, Shape(counter))
    summary = counter.count(prompts.summary_text("a summary"))
    assert used_tokens(epoch, sum(costs), budget, Shape(counter)) == head + summary + sum(costs) + budget.page_floor


def test_a_question_that_begins_with_a_huge_word_is_cut_and_not_left_out() -> None:
    shape = Shape(approximate_counter())
    epoch = Epoch(1, 1, "", 0, 0, (), NOW)
    for query in ("x" * 1000 + " what is this?", "x" * 50_000, "x" * 50_000 + " what is this?"):
        fitted = fit(epoch, [], Ask(query=query), 200, shape, lambda t, v: Page("", 0))
        assert fitted.plan.query.startswith("xxx") and fitted.ledger.total <= 200
