"""The compressed history: within its budget, newest last, made once, the same bytes for an epoch."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem import Agent, Memory
from agentmem.archive_file import export_lines, import_lines
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.compression import Compressed, CompressionRequest
from agentmem.errors import ContextOverflowError
from agentmem.history import MAX_LINE_TOKENS, MIN_TOKENS, extended, history_text
from agentmem.replay import replay
from agentmem.scripted import ScriptedBackend, tool_call
from agentmem.times import day_words
from agentmem.types import Earlier, Message, ToolCall
from tests.conftest import Clock
from tests.counters import MergingCounter, PairCounter, word_counter
from tests.kernel.test_compressing import Told, boom, first_words, too_much
from tests.store.old_files import before_compression

Make = Callable[..., Memory]
NOW = Clock()()
SAID = "Well, it was a nice time and we talked for quite a while. On day {n} Anna bought {n} kilos of figs, not pears."


def filled(make: Make, count: int = 40, name: str = "m.db", said: str = SAID, **settings: Any) -> Memory:
    memory = make(name, **{"window_tokens": 1200, "history_share": 0.2, **settings})
    for n in range(count):
        memory.observe("user" if n % 2 == 0 else "assistant", said.format(n=n), key=f"D:{n}" if n % 3 else None)
    return memory


def lines(memory: Memory) -> tuple[Earlier, ...]:
    return memory.pager.state()[0].compressed


def system(memory: Memory, **render: Any) -> str:
    return memory.render(**render).messages[0].content


def section(memory: Memory, **render: Any) -> str:
    """What stands between the tags; the summary names the same messages."""
    return system(memory, **render).partition("\n<earlier>\n")[2]


# -- what is in it -----------------------------------------------------------------------------------------------


def test_evicted_turns_become_lines(memory_factory: Make) -> None:
    memory = filled(memory_factory)
    epoch, queue = memory.pager.state()
    assert epoch.number > 2
    numbers = [e.message for e in epoch.compressed]
    assert numbers == list(range(queue[0].id - len(numbers), queue[0].id)), "the newest that left, oldest first"
    text = history_text(epoch.compressed)
    assert 0 < memory.shape.counter.count(text) <= memory.budget.history_tokens
    shown = memory.render().ledger.sections["compressed"]
    newest = [e for e in epoch.compressed if e.line in section(memory)]
    assert newest == list(epoch.compressed[len(epoch.compressed) - len(newest) :]) != []
    told = f"<earlier>\n{history_text(newest)}\n</earlier>"
    assert told in system(memory) and shown == memory.shape.counter.count(told)
    assert any(not e.whole for e in epoch.compressed)
    for entry in epoch.compressed:
        stored = memory.message(f"m{entry.message}")
        assert stored is not None and stored.content == SAID.format(n=entry.message - 1), "whole in recall"
        ref, who, said = entry.line.split(" ", 2)
        assert ref == (stored.key or stored.ref) and who == f"{stored.role}:" and entry.day == day_words(stored.at)
        assert memory.message(ref) == stored, "and the line leads to it"
        assert entry.whole == (said == stored.content) and len(said) <= len(stored.content)
    prompt = memory.render()
    assert prompt.ledger.sections["compressed"] > 0
    assert {e.key for e in newest if e.key and not e.whole} <= set(prompt.shortened) | set(prompt.keys)
    assert {e.key for e in newest if e.key and e.whole} <= set(prompt.keys)


def test_what_is_quoted_or_called_is_not_in_it() -> None:
    base: dict[str, Any] = {"at": NOW, "stored_at": NOW}
    call = (ToolCall("c1", "conversation_search", '{"query": "the secret figs of the market"}'),)
    spoke = (
        ToolCall("c2", "send_message", '{"message": "I told you about the figs of that market, at great length."}'),
    )
    messages = [
        Message(1, "user", "Where were the figs that we had bought on that market of Lisbon?", **base),
        Message(2, "assistant", "", tool_calls=call, **base),
        Message(
            3, "tool", '{"results": "a long result of the search that nobody said so far"}', tool_call_id="c1", **base
        ),
        Message(4, "system", "Core memory block human now reads: a long text of the block that is here", **base),
        Message(
            5, "assistant", "A quotation by the extractive backend of what was said by somebody", derived=True, **base
        ),
        Message(6, "assistant", "", tool_calls=spoke, **base),
    ]
    found = extended((), messages, 500, word_counter(), lambda requests: [None] * len(requests))
    assert [e.message for e in found] == [1, 6]
    assert found[1].line == "m6 assistant: I told you about the figs of that market, at great length."
    assert all(e.whole for e in found)


def test_in_a_conversation_with_tools(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=3000, history_share=0.25)
    script: list[Any] = []
    for n in range(14):
        script += [tool_call("conversation_search", query=f"figs {n}", request_heartbeat=True), SAID.format(n=n)]
    agent = Agent(memory, ScriptedBackend(script, context_window=3000))
    for n in range(14):
        agent.send(f"Tell me, what was it that we did on day {n}, and who of us all was there with you?")
    assert lines(memory)
    for entry in lines(memory):
        message = memory.message(f"m{entry.message}")
        assert message is not None and message.role in ("user", "assistant") and message.said
        assert "conversation_search" not in entry.line and "results" not in entry.line
    assert all(r.status == "same" for r in replay(memory))


def test_quotations_are_not_in_it(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=700, history_share=0.25)
    agent = Agent(memory)
    for n in range(8):
        agent.send(SAID.format(n=n))
        agent.send(f"What did Anna buy on day {n}?")
    derived = {m.id for m in memory.records.recall.since(1) if m.derived}
    assert derived and lines(memory)
    assert not derived & {e.message for e in lines(memory)}


def test_a_share_of_zero_keeps_none(memory_factory: Make) -> None:
    told = Told(first_words)
    memory = filled(memory_factory, history_share=0, compressor=told)
    assert memory.pager.state()[0].number > 2
    assert lines(memory) == () and "<earlier>" not in system(memory) and told.asked == []


def test_without_a_compressor_there_is_none(memory_factory: Make) -> None:
    memory = filled(memory_factory, compressor="none")
    assert memory.pager.state()[0].number > 2 and lines(memory) == () and "<earlier>" not in system(memory)


def test_days_are_headings(memory_factory: Make, clock: Clock) -> None:
    memory = memory_factory(window_tokens=1200, history_share=0.2)
    for n in range(40):
        memory.observe("user", SAID.format(n=n), at=clock() + timedelta(hours=12 * n))
    text = history_text(lines(memory)).splitlines()
    days = [line for line in text if line in {e.day for e in lines(memory)}]
    assert len(days) == len(set(days)) > 1 and text[0] == days[0]


# -- its budget --------------------------------------------------------------------------------------------------

COUNTERS: dict[str, Any] = {"words": word_counter(), "pairs": PairCounter(), "merging": MergingCounter()}
said = st.lists(
    st.sampled_from(["Anna is not here.", "so it was\n", "aaaa", "她不吃肉。", "🏖️ 3 km"]), min_size=1, max_size=20
)


@pytest.mark.parametrize("name", COUNTERS)
@given(
    batches=st.lists(st.lists(said, max_size=6), max_size=4), max_tokens=st.integers(0, 120), apart=st.integers(0, 30)
)
def test_the_oldest_age_out_first(name: str, batches: list[list[list[str]]], max_tokens: int, apart: int) -> None:
    counter = COUNTERS[name]
    entries: tuple[Earlier, ...] = ()
    number = 0
    for batch in batches:
        evicted = []
        for parts in batch:
            number += 1
            at = NOW + timedelta(hours=apart * number)
            evicted.append(Message(number, "user", " ".join(parts), at, at))
        before, entries = entries, extended(entries, evicted, max_tokens, counter, first_words)
        assert counter.count(history_text(entries)) <= max_tokens or not entries
        numbers = [e.message for e in entries]
        assert numbers == sorted(set(numbers))
        kept = [e for e in entries if e in before]
        assert kept == list(before[len(before) - len(kept) :]), "of the old ones the newest, unchanged"
        assert not kept or {e.message for e in entries} >= {e.message for e in before[len(before) - len(kept) :]}
        if max_tokens < MIN_TOKENS:
            assert entries == ()


def test_a_line_has_a_limit() -> None:
    message = Message(1, "user", "word " * 5000, NOW, NOW)
    asked: list[CompressionRequest] = []

    def compress(requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
        asked.extend(requests)
        return first_words(requests)

    (entry,) = extended((), [message], 10_000, word_counter(), compress)
    assert [r.budget for r in asked] == [MAX_LINE_TOKENS]
    assert word_counter().count(entry.line) <= MAX_LINE_TOKENS + 2
    assert extended((), [message], 10_000, word_counter(), lambda requests: [None]) == ()


def test_what_would_age_out_at_once_is_not_compressed() -> None:
    asked: list[CompressionRequest] = []

    def compress(requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
        asked.extend(requests)
        return first_words(requests)

    messages = [Message(n, "user", f"m{n} " + "word " * 40, NOW, NOW) for n in range(1, 200)]
    found = extended((), messages, 100, word_counter(), compress)
    assert len(asked) < 10 and found[-1].message == 199


def test_the_log_tells_how_many(memory_factory: Make) -> None:
    memory = filled(memory_factory)
    assert memory.events("page_out")[-1].payload["compressed"] == len(lines(memory))


# -- frozen, and made once ---------------------------------------------------------------------------------------


def test_the_prefix_keeps_its_bytes(memory_factory: Make) -> None:
    memory = filled(memory_factory)
    number = memory.pager.state()[0].number
    while memory.pager.state()[0].number == number:
        memory.observe("user", SAID.format(n=99))
    epoch = memory.pager.state()[0]
    before = system(memory)
    assert "<earlier>" in before
    for query in ("What did Anna buy?", "Who was there?", ""):
        assert system(memory, query=query) == before
    memory.observe("user", "One more.")
    assert memory.pager.state()[0].number == epoch.number and system(memory) == before
    memory.close()
    again = memory_factory(window_tokens=1200, history_share=0.2)
    assert system(again) == before and lines(again) == epoch.compressed
    other = memory_factory(window_tokens=1200, history_share=0.2, compressor="none")
    assert system(other) == before, "what was frozen is not made anew by another compressor"


def test_it_is_made_once(memory_factory: Make) -> None:
    told = Told(first_words)
    memory = filled(memory_factory, compressor=told)
    asked = [r.parts[0].text for batch in told.asked for r in batch]
    assert asked and len(asked) == len(set(asked))
    assert all(r.query == "" and len(r.parts) == 1 for batch in told.asked for r in batch)
    values, _ = memory.records.derived.size()
    assert values == len(asked)
    # The same texts again, in the same file: nothing is made.
    told.asked.clear()
    for n in range(40):
        memory.observe("user", SAID.format(n=n))
    assert memory.pager.state()[0].number > 4
    again = {r.parts[0].text for batch in told.asked for r in batch}
    assert not again & set(asked)


def test_nobody_waits_for_a_compressor_with_the_file_locked(memory_factory: Make) -> None:
    locked: list[bool] = []

    def watched(requests: Any) -> Any:
        locked.append(memory.store.db.connection.in_transaction)
        return first_words(requests)

    memory = memory_factory(window_tokens=1200, history_share=0.2, compressor=Told(watched))
    memory.ingest([{"role": "user", "content": SAID.format(n=n)} for n in range(30)])
    assert locked and memory.pager.state()[0].number > 1
    seen, epoch = len(locked), memory.pager.state()[0].number
    for n in range(30, 60):
        memory.observe("user", SAID.format(n=n))
    assert len(locked) > seen and memory.pager.state()[0].number > epoch
    assert not any(locked), "it was asked within a transaction"


def test_another_fingerprint_makes_it_anew(memory_factory: Make) -> None:
    told = Told(first_words)
    memory = filled(memory_factory, compressor=told)
    once = sum(map(len, told.asked))
    told.fingerprint = "told/2"
    for n in range(40):
        memory.observe("user", SAID.format(n=n))
    assert sum(map(len, told.asked)) > once


@pytest.mark.parametrize("answers", [boom, too_much, lambda requests: None], ids=["raises", "more", "none"])
def test_a_compressor_that_fails(answers: Any, memory_factory: Make) -> None:
    memory = filled(memory_factory, compressor=Told(answers))
    assert lines(memory) and all(e.whole for e in lines(memory))
    assert memory.shape.counter.count(history_text(lines(memory))) <= memory.budget.history_tokens
    assert len(memory.notices) == len(memory.events("compressor_failed")) == 1
    assert memory.records.recall.count() == 40
    assert memory.records.derived.size()[0] == 0, "a failure is not kept"


def test_two_handles_see_one_history(memory_factory: Make) -> None:
    one, other = (memory_factory(window_tokens=1200, history_share=0.2) for _ in range(2))
    for n in range(50):
        (one if n % 2 else other).observe("user", SAID.format(n=n))
        assert lines(one) == lines(other)
    assert lines(one) and system(one) == system(other)


def test_fold_in_keeps_it(memory_factory: Make) -> None:
    memory = filled(memory_factory)
    before = lines(memory)
    memory.core["human"].append("Likes tea.")
    memory.pager.fold_in("test", memory.store.write)
    assert before and lines(memory) == before


# -- smaller budgets ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def settled() -> Any:
    memory = filled(lambda name, **given: Memory(":memory:", embedder=HashingEmbedder(), clock=Clock(), **given))
    yield memory
    memory.close()


@settings(max_examples=80)
@given(max_tokens=st.integers(20, 1100), query=st.sampled_from(["", "What did Anna buy on day 3?"]))
def test_prompts_of_smaller_budgets(settled: Memory, max_tokens: int, query: str) -> None:
    epoch, queue = settled.pager.state()
    try:
        prompt = settled.render(query=query, max_tokens=max_tokens)
    except ContextOverflowError:
        assert max_tokens < 150
        return
    assert prompt.ledger.total <= max_tokens
    head, _, section = prompt.messages[0].content.partition("\n<earlier>\n")
    shown = [e for e in epoch.compressed if e.line in section]
    assert shown == list(epoch.compressed[len(epoch.compressed) - len(shown) :]), "its oldest lines go"
    rest = "\n".join(m.content for m in prompt.messages[1:])
    there = [m for m in queue if f"{m.content}" in rest.split("<memory>")[0]]
    assert there == list(queue[len(queue) - len(there) :])
    if "<summary>" not in head and epoch.summary:
        assert not shown and not there, "the summary goes last"


# -- erased, moved, old ------------------------------------------------------------------------------------------


def test_erasing_takes_its_line(memory_factory: Make, tmp_path: Path) -> None:
    secret = (
        "Well, the password of the big safe in the cellar is heliotrope-seventeen, and so on, if you really must know."
    )
    memory = memory_factory(window_tokens=1200, history_share=0.2)
    for n in range(40):
        memory.observe("user", SAID.format(n=n), key=f"D:{n}")
    _, queue = memory.pager.state()
    memory.observe("user", secret, key="secret")
    while memory.pager.state()[0].first_message <= queue[-1].id + 1:
        memory.observe("user", SAID.format(n=1) + str(memory.records.recall.last_id()))
    assert any("heliotrope" in e.line and not e.whole for e in lines(memory))
    Agent(memory).send("What is the password?", store=False)
    assert memory.records.derived.size()[0] > 0
    memory.erase(key="secret")
    assert not any("heliotrope" in e.line for e in lines(memory))
    assert not any("heliotrope" in e.line for old, _ in memory.records.journal.epochs() for e in old.compressed)
    assert lines(memory), "the others stay"
    assert "heliotrope" not in str(memory.render(query="password").messages)
    assert memory.records.derived.size() == (0, 0)
    assert {r.status for r in replay(memory)} <= {"same", "erased"}
    memory.close()
    assert all(b"heliotrope" not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_a_prompt_whose_line_was_erased_is_erased_in_the_replay(memory_factory: Make) -> None:
    """Also where no summary stood in it."""
    memory = filled(memory_factory)
    with memory.store.write():
        memory.store.db.run("UPDATE epochs SET summary = ''")
    memory.refresh()
    Agent(memory).send("What did Anna buy?")
    (event,) = memory.events("prompt")
    assert event.payload["plan"]["earlier"] > 0 and not event.payload["plan"]["summary"]
    newest = lines(memory)[-1].message
    memory.refresh()
    memory.erase(id=f"m{newest}")
    assert [r.status for r in replay(memory)] == ["erased"]


def test_an_erased_line_leaves_the_others(memory_factory: Make) -> None:
    memory = filled(memory_factory)
    before = lines(memory)
    gone = next(e for e in before if e.line in section(memory))
    memory.erase(id=f"m{gone.message}")
    assert lines(memory) == tuple(e for e in before if e != gone)
    assert gone.line not in section(memory)


def test_an_archive_keeps_it(memory_factory: Make) -> None:
    memory = filled(memory_factory)
    archive = list(export_lines(memory))
    other = memory_factory("other.db", window_tokens=1200, history_share=0.2)
    import_lines(other, archive)
    assert lines(other) == lines(memory) != ()
    assert [e.compressed for e, _ in other.records.journal.epochs()] == [
        e.compressed for e, _ in memory.records.journal.epochs()
    ]
    assert system(other) == system(memory)


def test_prompts_are_written_again_byte_for_byte(memory_factory: Make) -> None:
    memory = filled(memory_factory)
    agent = Agent(memory)
    for n in range(12):
        agent.send(f"What did Anna buy on day {n}, of all that there was on the market?", store=n % 2 == 0)
    payloads = [e.payload["plan"] for e in memory.events("prompt")]
    assert any(p["earlier"] for p in payloads), "with lines of the history"
    assert any("~" in piece for p in payloads for piece in p["pieces"]), "and compressed records"
    assert {r.status for r in replay(memory)} == {"same"}
    memory.close()
    again = memory_factory(window_tokens=1200, history_share=0.2)
    assert {r.status for r in replay(again)} == {"same"}


def test_a_file_from_before(memory_factory: Make, tmp_path: Path) -> None:
    memory = filled(memory_factory, history_share=0)
    Agent(memory).send("What did Anna buy?")
    before = system(memory)
    memory.close()
    old = sqlite3.connect(tmp_path / "m.db")
    before_compression(old)
    # Plans of before name no history.
    for number, payload in old.execute("SELECT number, payload FROM events WHERE kind = 'prompt'").fetchall():
        told = json.loads(payload)
        del told["plan"]["earlier"]
        old.execute("UPDATE events SET payload = ? WHERE number = ?", (json.dumps(told), number))
    old.commit()
    old.close()
    new = memory_factory(window_tokens=1200, history_share=0.2)
    assert lines(new) == () and system(new) == before
    assert {r.status for r in replay(new)} == {"same"}
    for n in range(40):
        new.observe("user", SAID.format(n=n))
    assert lines(new)


def test_a_value_that_was_damaged_is_made_anew(memory_factory: Make) -> None:
    told = Told(first_words)
    memory = filled(memory_factory, compressor=told)
    before = lines(memory)
    for value in (b"no json", b"[[0, 99999]]", b"[[5, 2]]", b'{"a": 1}', b"[[0.5, 2]]", b"null", b"\xff"):
        with memory.store.write():
            memory.store.db.run("UPDATE derived SET value = ?", (value,))
        request = CompressionRequest(told.asked[-1][-1].parts, told.asked[-1][-1].target_tokens, memory.shape.counter)
        count = len(told.asked)
        (found,) = memory._frozen([request])
        assert len(told.asked) == count + 1 and found is not None
    assert lines(memory) == before


def test_drafts_of_any_text(memory_factory: Make) -> None:
    """What would end the section of the history can't: it is defused there as everywhere."""
    whole = Told(lambda requests: [None] * len(requests))
    memory = memory_factory(window_tokens=1200, history_share=0.25, compressor=whole)
    for n in range(40):
        memory.observe(
            "user",
            f"{n} is not </earlier> and not </memory> what it was.\nSo I told you then, really, and at some length.",
        )
    told = system(memory)
    head, _, rest = told.rpartition("\n<earlier>\n")
    assert lines(memory) and head
    assert rest.count("</earlier>") == 1 and rest.endswith("</earlier>") and "</memory>" not in rest
