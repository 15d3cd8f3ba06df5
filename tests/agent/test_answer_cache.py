"""Kept answers: given again while nothing has changed that they rest on, and never once anything has."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)  # fmt: skip

from agentmem import Agent, Memory
from agentmem.answer_cache import EVENT, NO_EMBEDDER
from agentmem.archive_file import export_lines, import_lines
from agentmem.backends.extractive import ExtractiveBackend
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.errors import BackendUnavailableError, ConfigError, EmbedderMismatchError, InvalidInputError
from agentmem.indexing import reembed
from agentmem.inspecting import verify
from agentmem.scripted import ScriptedBackend, tool_call
from agentmem.types import Completion, Passage, Reply, Request, Usage
from tests.cli.conftest import NO_MODEL, run_here
from tests.conftest import Clock
from tests.crashing import crash_at
from tests.state.test_erase import SECRET, WORDS, assert_no_byte, files_of

Make = Callable[..., Memory]
FAQ = {"faq": {"threshold": 0.9, "ttl_s": 600, "max_entries": 3}}
QUESTION = "Where does Anna live?"


class Counting(ScriptedBackend):
    """Answers `n: question` at its n-th turn."""

    def __init__(self) -> None:
        super().__init__([self._line] * 500)

    def _line(self, request: Request) -> Completion:
        return Completion(f"{len(self.requests)}: {request.query}")


class Vectors(HashingEmbedder):
    """Gives the questions of `rows` these vectors (dim 3, made unit), everything else [0, 0, 1]."""

    def __init__(self, rows: dict[str, Sequence[float]]) -> None:
        super().__init__(3)
        self._rows = rows

    def embed(self, texts: Sequence[str], *, input_type: Any) -> Any:
        import numpy as np

        return np.array([self._rows.get(t, (0.0, 0.0, 1.0)) for t in texts], np.float32).reshape(len(texts), 3)


def again(reply: Reply) -> float | None:
    """The cosine with which an answer was given again, None for one of its own."""
    return next((e.payload["cosine"] for e in reply.events if e.kind == EVENT), None)


def asking(memory: Memory, backend: Any = None, **more: Any) -> Agent:
    return Agent(memory, backend or Counting(), **{"answer_cache": FAQ, **more})


def ask(agent: Agent, text: str = QUESTION, category: str | None = "faq", **more: Any) -> Reply:
    return agent.send(text, store=False, category=category, **more)


# -- what is given again -----------------------------------------------------------------------------------------


def test_the_reply_is_the_one_that_it_was(memory_factory: Make, clock: Clock) -> None:
    seen: list[str] = []
    memory = memory_factory(on_event=lambda e: seen.append(e.kind))
    memory.observe("user", "I live in Lisbon now.", name="Anna", key="D1:3", at="2023-05-07T10:00:00+02:00")
    memory.archive("Anna lives in Lisbon, at Rua Augusta 12.", tags=["address"], key="flat")
    agent = asking(memory, ExtractiveBackend())
    first = ask(agent)
    assert again(first) is None and first.citations and first.page.items
    logged = len(memory.events())
    clock.tick(30)
    second = ask(agent)
    assert again(second) == 1.0
    assert second == replace(first, usage=Usage(), steps=0, events=second.events, prefixes=())
    event = second.events[0]
    assert (event.number, event.kind, event.at) == (0, EVENT, clock.now)
    assert event.payload == {"category": "faq", "cosine": 1.0, "age_s": 30.0}
    assert seen[-1] == EVENT and len(memory.events()) == logged, "the listener is told, the log stays as it was"
    chunks = list(agent.stream(QUESTION, store=False, category="faq"))
    assert "".join(c.text for c in chunks) == first.text
    assert chunks[-1].reply is not None and chunks[-1].reply.citations == first.citations
    assert verify(memory) == []


def test_only_of_a_configured_category_on_the_side(memory_factory: Make) -> None:
    memory = memory_factory()
    off = Agent(memory, Counting())
    assert [ask(off).text[:2] for _ in range(2)] == ["1:", "2:"], "off by default"
    agent = asking(memory, answer_cache={**FAQ, "other": {}})
    assert [ask(agent, category=c).text[:2] for c in ("faq", None, "unknown", "unknown", "other", "faq")] == [
        "1:", "2:", "3:", "4:", "5:", "1:",
    ]  # fmt: skip
    stored = agent.send(QUESTION, category="faq")
    assert stored.text.startswith("6:") and stored.usage.prompt_tokens
    assert memory.records.recall.last_id() == 2
    assert ask(agent).text.startswith("7:"), "what was stored is a new memory"


@pytest.mark.parametrize(("threshold", "cosine", "served"), [
    (0.9, 0.9, True), (0.9, 0.8999, False), (0.6, 0.6, True), (0.6, 0.5999, False), (1.0, 0.9999, False),
    (1.0, 1.0, True), (0.001, 0.0, False), (0.001, -1.0, False),
])  # fmt: skip
def test_the_threshold_is_reached_or_not(memory_factory: Make, threshold: float, cosine: float, served: bool) -> None:
    one, other = "what is a lighthouse", "explain lighthouses"
    rows = {one: (1.0, 0.0, 0.0), other: (cosine, (1 - cosine**2) ** 0.5, 0.0)}
    agent = asking(
        memory_factory(embedder=Vectors(rows)), answer_cache={"faq": {"threshold": threshold}}
    )  # fmt: skip
    first = ask(agent, one)
    found = ask(agent, other)
    assert (found.text == first.text) == served
    if served:
        assert again(found) == pytest.approx(cosine, abs=1e-6)


def test_the_nearest_is_given_and_fixed_words_are_no_matter_of_likeness(memory_factory: Make) -> None:
    near = {"tea": (1.0, 0.0, 0.0), "coffee": (0.6, 0.8, 0.0), "drinks": (0.8, 0.6, 0.0)}
    near |= {f"{q} in {year}": v for q, v in near.items() for year in (2019, 2020)}
    agent = asking(memory_factory(embedder=Vectors(near)), answer_cache={"faq": {"threshold": 0.7}})
    ask(agent, "tea")
    ask(agent, "coffee")
    assert ask(agent, "drinks").text == "2: coffee" and again(ask(agent, "drinks")) == pytest.approx(0.96, abs=1e-6)
    ask(agent, "tea in 2019")
    assert ask(agent, "drinks in 2020").text == "4: drinks in 2020"
    assert ask(agent, "drinks in 2019").text == "3: tea in 2019"


def test_without_an_embedder_the_same_words_alone_and_it_is_said(memory_factory: Make) -> None:
    memory = memory_factory(embedder="none")
    agent = asking(memory, answer_cache={"faq": {"threshold": 0.01}})
    assert NO_EMBEDDER in memory.notices
    assert ask(agent).text == ask(agent, f" {QUESTION}\n").text
    assert ask(agent, "Where is it that Anna lives?").text.startswith("2:")


def test_an_embedder_that_fails_costs_the_likeness_and_not_the_turn(memory_factory: Make) -> None:
    class Failing(HashingEmbedder):
        def embed(self, texts: Sequence[str], *, input_type: Any) -> Any:
            raise BackendUnavailableError("no connection to the embedder")

    memory = memory_factory(embedder=Failing())
    agent = asking(memory)
    assert [ask(agent).text[:2] for _ in range(2)] == ["1:", "1:"]
    assert any("no connection" in n for n in memory.notices)


def test_an_abstention_is_given_again_for_the_same_words_only(memory_factory: Make) -> None:
    memory = memory_factory()
    memory.observe("user", "The harbour was cold today.")
    agent = asking(memory, ExtractiveBackend(), answer_cache={"faq": {"threshold": 0.05}})
    assert ask(agent, "where is the wrench kept?").abstained
    same, other = ask(agent, "where is the wrench kept?"), ask(agent, "where is that wrench kept?")
    assert same.abstained and again(same) == 1.0
    assert again(other) is None


# -- what is not ------------------------------------------------------------------------------------------------


def test_time_to_live_by_the_memorys_clock(memory_factory: Make, clock: Clock) -> None:
    agent = asking(memory_factory())
    ask(agent)
    clock.tick(599)
    assert ask(agent).text.startswith("1:")
    clock.tick(1)
    assert ask(agent).text.startswith("2:"), "600 seconds old is too old"
    clock.tick(-60)
    assert ask(agent).text.startswith("3:"), "what was kept later than now is of another clock"


def test_asked_on_another_day_by_another_or_in_another_way(memory_factory: Make, clock: Clock) -> None:
    memory = memory_factory()
    backend = Counting()
    many = {"faq": {"ttl_s": 1e6}}
    one = asking(memory, backend, answer_cache=many)
    day = "2023-05-01T{}:00:00+00:00"
    texts = [
        ask(one).text, ask(one, at=day.format("09")).text, ask(one, at=day.format("21")).text,
        ask(one, at="2023-05-02").text, ask(one, name="Tom").text, ask(one, name="Anna").text,
        ask(one, name="Tom").text, ask(asking(memory, backend, temperature=0.5, answer_cache=many)).text,
        ask(asking(memory, backend, tools=False, answer_cache=many)).text,
    ]  # fmt: skip
    assert [t[0] for t in texts] == ["1", "2", "2", "3", "4", "5", "4", "6", "7"]
    other = ScriptedBackend(["Of another model."])
    other.name = "another"
    assert ask(asking(memory, other, answer_cache=many)).text == "Of another model."
    small = memory_factory(window_tokens=3000)
    assert ask(asking(small, backend, answer_cache=many)).text.startswith("8:"), "another window is another prompt"
    assert ask(asking(memory_factory(), backend, answer_cache=many)).text.startswith("1:"), (
        "and all of it is still there"
    )
    clock.now = datetime(2023, 5, 8, 23, 59, 59, tzinfo=UTC)
    assert ask(one).text.startswith("1:")
    clock.tick(1)
    assert ask(one).text.startswith("9:"), "tomorrow, today is another day"


def test_the_oldest_go_when_a_category_is_full(memory_factory: Make) -> None:
    memory = memory_factory()
    agent = asking(memory)
    for text in ("a", "b", "c", "d"):
        ask(agent, text)
    assert memory.records.answers.count("faq") == 3
    assert [again(ask(agent, t)) is not None for t in ("b", "c", "d", "a")] == [True, True, True, False]


def test_agents_of_one_file_do_not_see_each_others(memory_factory: Make) -> None:
    backend = Counting()
    one, two = (asking(memory_factory(agent=name), backend) for name in ("one", "two"))
    assert [ask(a).text[0] for a in (one, two, one, two)] == ["1", "2", "1", "2"]
    two.memory.observe("user", "I live in Porto now.", name="Anna")
    assert [ask(a).text[0] for a in (one, two)] == ["1", "3"]


def test_two_handles_share_answers_and_changes(memory_factory: Make) -> None:
    backend = Counting()
    one, two = (asking(memory_factory(), backend) for _ in range(2))
    assert [ask(a).text[0] for a in (one, two)] == ["1", "1"]
    two.memory.observe("user", "I live in Porto now.", name="Anna")
    assert [ask(a).text[0] for a in (one, two)] == ["2", "2"]
    one.memory.core["human"].append("Is called Anna.")
    assert [ask(a).text[0] for a in (two, one)] == ["3", "3"]


def test_a_file_that_was_embedded_anew_answers_no_open_handle_from_before(memory_factory: Make) -> None:
    memory, other = memory_factory(), memory_factory(embedder="none")
    memory.observe("user", "Anna lives in Lisbon.")
    agent = asking(memory, ExtractiveBackend())
    assert ask(agent).text == ask(agent).text
    reembed(other.store, [other.records], HashingEmbedder(64), "", other.clock())
    with pytest.raises(EmbedderMismatchError):
        ask(agent)


def test_a_memory_that_changes_during_the_turn_keeps_nothing(memory_factory: Make, clock: Clock) -> None:
    other, memory = memory_factory(), memory_factory()

    def observing(request: Request) -> Completion:
        other.observe("user", "Anna lives in Porto.")
        return Completion("In Lisbon.")

    def ageing(request: Request) -> Completion:
        clock.tick(60)
        return Completion("In Porto.")

    memory.archive("Anna lives in Braga.", valid_from=clock.now + timedelta(seconds=50))
    agent = asking(memory, ScriptedBackend([observing, ageing, "In Braga."]))
    assert [ask(agent).text for _ in range(4)] == ["In Lisbon.", "In Porto.", "In Braga.", "In Braga."]


def test_turns_that_fail_or_are_left_keep_nothing(memory_factory: Make) -> None:
    agent = asking(memory_factory(), ScriptedBackend([BackendUnavailableError("away"), "a b c", "x y", "z"]))
    with pytest.raises(BackendUnavailableError):
        ask(agent)
    left = agent.stream(QUESTION, store=False, category="faq")
    next(left)
    left.close()  # type: ignore[attr-defined]
    assert ask(agent).text == "x y" == ask(agent).text
    for bad in ("", " \n", "half \ud800"):
        with pytest.raises(InvalidInputError):
            ask(agent, bad)


def test_a_turn_with_tools_is_kept_as_a_whole(memory_factory: Make) -> None:
    memory = memory_factory(window_tokens=6000)
    memory.observe("user", "Anna lives in Lisbon.")
    script = [tool_call("conversation_search", query="Anna", request_heartbeat=True), "In Lisbon."]
    agent = asking(memory, ScriptedBackend(script))
    first, second = ask(agent), ask(agent)
    assert (first.text, first.steps, second.text, second.steps) == ("In Lisbon.", 2, "In Lisbon.", 0)
    assert memory.records.recall.last_id() == 1


def test_with_the_companions_ranking_it_is_refused(memory_factory: Make) -> None:
    with pytest.raises(ConfigError, match="companion"):
        asking(memory_factory(companion=True))
    Agent(memory_factory(companion=True), Counting())


# -- in the file -------------------------------------------------------------------------------------------------


def test_a_damaged_answer_is_made_anew(memory_factory: Make) -> None:
    memory = memory_factory()
    agent = asking(memory)
    for bad in (b"", b"\xff", b"{}", b"[]", b'{"text": 1}', "text", b"null"):
        ask(agent)
        with memory.store.write():
            memory.store.db.run("UPDATE answers SET reply = ?, vector = ?", (bad, b"abc"))
        before = len(agent.backend.requests)  # type: ignore[attr-defined]
        assert again(ask(agent)) is None and again(ask(agent)) == 1.0
        assert len(agent.backend.requests) == before + 1  # type: ignore[attr-defined]


def test_a_full_disk_costs_the_answer_and_not_the_turn(memory_factory: Make) -> None:
    memory = memory_factory()
    agent = asking(memory, ScriptedBackend(["long " * 60_000, "short", "short"]), answer_cache={"faq": {}})
    ask_first = ask(asking(memory, Counting()), "anything")  # the embedder is known to the file
    memory.store.db.run("VACUUM")
    memory.store.db.rows("PRAGMA max_page_count = 1")
    reply = ask(agent)
    assert ask_first.text and reply.text.startswith("long")
    assert any("not kept" in n and "disk is full" in n for n in memory.notices)
    memory.store.db.rows("PRAGMA max_page_count = 1000000")
    assert again(ask(agent)) is None and again(ask(agent)) == 1.0
    assert verify(memory) == []


def test_within_a_callers_transaction_nothing_is_kept(memory_factory: Make) -> None:
    memory = memory_factory()
    agent = asking(memory)
    ask(agent)

    class Undone(Exception):
        pass

    with pytest.raises(Undone), memory.store.write():
        memory.observe("user", "I live in Porto.")
        assert ask(agent).text.startswith("2:")
        raise Undone
    memory.pager.forget()
    memory.observe("user", "I live in Braga.")
    assert ask(agent).text.startswith("3:")


def test_what_was_erased_is_in_no_cache(memory_factory: Make) -> None:
    def line(request: Request) -> Completion:
        if "Output the summary alone" in request.messages[-1].content:
            return Completion("Tom's sister Wilhelmina hides a big xylophone.")
        return Completion("In locker 8841-QZ, says Wilhelmina.")

    memory = memory_factory(window_tokens=3200)
    agent = asking(memory, ScriptedBackend([line] * 90))
    agent.send(SECRET)
    for n in range(14):
        agent.send(f"Line {n}: the weather over the harbour was number {n * 37} of its kind, and so it went on. " * 4)
    assert ask(agent).text == ask(agent).text
    kept = [r[0] for r in memory.store.db.rows("SELECT value FROM derived UNION ALL SELECT reply FROM answers")]
    assert any(b"big xylophone" in k for k in kept) and any(b"8841-QZ" in k for k in kept)
    assert any(b"Wilhelmina" in p.read_bytes() for p in files_of(memory))
    memory.erase(id="m1")
    # What the model said of it in its own words is another message, and goes by itself.
    for message in memory.records.recall.since(1):
        if "Wilhelmina" in message.said:
            memory.erase(id=message.ref)
    assert memory.records.derived.size() == (0, 0) and memory.records.answers.count("faq") == 0
    assert_no_byte(memory, *WORDS)
    assert verify(memory) == []


def test_a_summary_that_was_being_made_of_an_erased_text_is_not_kept(memory_factory: Make) -> None:
    other, memory = memory_factory(window_tokens=3200), memory_factory(window_tokens=3200)
    told = []

    def line(request: Request) -> Completion:
        if "Output the summary alone" in request.messages[-1].content:
            if not told:
                other.erase(id="m1")
            told.append(request)
            return Completion("Wilhelmina hides it.")
        return Completion("Noted.")

    agent = Agent(memory, ScriptedBackend([line] * 90))
    agent.send(SECRET)
    while not told:
        agent.send("The weather over the harbour was of its kind, and so it went on and on from day to day. " * 4)
    values = [r[0] for r in memory.store.db.rows("SELECT value FROM derived WHERE kind = 'summary'")]
    assert len(values) == len(told) - 1, "only what was told without the erased text"


def test_an_interrupted_flush_does_not_pay_twice(memory_factory: Make) -> None:
    told: list[Request] = []

    def line(request: Request) -> Completion:
        if "Output the summary alone" in request.messages[-1].content:
            told.append(request)
            return Completion("They spoke of the weather.")
        return Completion("Noted.")

    memory = memory_factory(window_tokens=3200)
    agent = Agent(memory, ScriptedBackend([line] * 90))
    with crash_at("page_out.before_commit"):
        for _ in range(60):
            agent.send("The weather over the harbour was of its kind, and so it went on from day to day. " * 4)
    assert len(told) == 1 and memory.pager.state()[0].number == 1
    fresh = memory_factory(window_tokens=3200)
    later = Agent(fresh, ScriptedBackend([line] * 9))
    begun = fresh.relieve(later.summariser)
    assert [e.summary for e in begun] == ["They spoke of the weather."]
    assert len(told) == 1, "the model was not asked again"
    assert (
        json.loads(fresh.store.db.rows("SELECT value FROM derived WHERE kind = 'summary'")[0][0])
        == "They spoke of the weather."
    )


def test_an_archive_leaves_the_caches_out_and_empties_the_receivers(memory_factory: Make) -> None:
    memory, new = memory_factory(), memory_factory("new.db", agent="new")
    memory.observe("user", "Anna lives in Lisbon.")
    agent, waiting = asking(memory, ScriptedBackend(["In Lisbon, I think."])), asking(new)
    ask(agent)
    assert ask(waiting).text == ask(waiting).text
    lines = list(export_lines(memory))
    assert "I think" not in "\n".join(lines)
    import_lines(new, lines)
    assert new.records.answers.count("faq") == 0
    assert ask(waiting).text.startswith("2:")
    assert list(export_lines(new))[1:3] == lines[1:3]


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from agentmem import Agent, Memory, crashpoints
from agentmem.backends.hashing_embedder import HashingEmbedder
from agentmem.scripted import ScriptedBackend
def hook(name):
    if name == "answer_cache.before_commit":
        os.kill(os.getpid(), signal.SIGKILL)
crashpoints.install(hook)
memory = Memory(sys.argv[1], embedder=HashingEmbedder(), clock=lambda: datetime(2023, 5, 8, 12, 0, tzinfo=UTC))
agent = Agent(memory, ScriptedBackend(["In Lisbon."]), answer_cache={"faq": {}})
agent.send("Where does Anna live?", store=False, category="faq")
"""


def test_a_kill_between_the_turn_and_the_cache_harms_nothing(memory_factory: Make, tmp_path: Path) -> None:
    memory = memory_factory()
    memory.observe("user", "Anna lives in Lisbon.")
    ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "m.db")], check=False, capture_output=True)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert verify(memory) == [] and memory.records.answers.count("faq") == 0
    agent = asking(memory)
    assert [again(ask(agent)) for _ in range(2)] == [None, 1.0]


def test_the_command(tmp_path: Path) -> None:
    where = ("--db", tmp_path / "m.db", *NO_MODEL)
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"query": "Where do I live?", "id": 1}\n{"query": "Where do I live?", "id": 2}\n')
    assert run_here("ask", "I live in Lisbon.", *where).code == 0
    ask_all = ("ask", "--queries", questions, "--no-store", *where)
    assert all("cached" not in line for line in run_here(*ask_all).lines)
    ran = [run_here(*ask_all, "--cache", "3600").lines for _ in range(2)]
    assert [line["cached"] for lines in ran for line in lines] == [None, 1.0, 1.0, 1.0]
    assert ran[0][0]["text"] == ran[1][1]["text"] and ran[1][1]["usage"]["prompt_tokens"] == 0
    assert run_here("ask", "I live in Porto.", *where).code == 0
    assert [line["cached"] for line in run_here(*ask_all, "--cache", "3600").lines] == [None, 1.0]
    refused = run_here("ask", "Where do I live?", "--cache", "60", *where)
    assert refused.code == 2 and "--no-store" in refused.err


# -- the law -----------------------------------------------------------------------------------------------------

WHO = ("Anna", "Tom", "Mia")
CITIES = ("Lisbon", "Porto", "Braga", "Evora")
SOON = timedelta(minutes=7)
handles = st.integers(0, 1)


class NoOldAnswer(RuleBasedStateMachine):
    """Whatever happens to a memory, through one of two handles on its file: each answer is the one that would be given
    now; and where nothing has happened that could change it, it is given again."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "m.db"
        self.clock = Clock()
        self.dim = 16
        self.asked: set[str] = set()
        self.steps = 0
        self.opened: list[tuple[Memory, Agent, Agent]] = []
        self.other = self._memory("other")
        self._open()

    def _memory(self, agent: str = "a") -> Memory:
        embedder = HashingEmbedder(self.dim)
        return Memory(self.path, agent, embedder=embedder, clock=self.clock, window_tokens=500, index="numpy")

    def _open(self) -> None:
        for _ in range(2):
            memory = self._memory()
            cached = Agent(memory, ExtractiveBackend(), answer_cache={"q": {"threshold": 1.0, "ttl_s": 1e7}})
            self.opened.append((memory, cached, Agent(memory, ExtractiveBackend())))

    def _close(self) -> None:
        while self.opened:
            self.opened.pop()[0].close()

    def teardown(self) -> None:
        self._close()
        self.other.close()
        self.folder.cleanup()

    def _ask(self, handle: int, who: str) -> None:
        _, cached, plain = self.opened[handle]
        question = f"Where does {who} live?"
        now = plain.send(question, store=False)
        got = cached.send(question, store=False, category="q")
        shown = [(r.text, r.answer, r.citations, r.abstained, r.confidence, r.page) for r in (got, now)]
        assert shown[0] == shown[1]
        assert (again(got) is not None) == (who in self.asked)
        self.asked.add(who)

    def _told(self, handle: int, change: Callable[[Memory], bool]) -> None:
        """A change through a handle (True: it may change answers), between two questions, one through each handle."""
        who = WHO[self.steps % len(WHO)]
        self.steps += 1
        self._ask(handle, who)
        if change(self.opened[handle][0]):
            self.asked.clear()
        self._ask(1 - handle, who)

    def _live(self, memory: Memory) -> list[Passage]:
        return [p for p in memory.records.archival.after(0) if p.superseded_by is None]

    @initialize()
    def something_is_known(self) -> None:
        self.opened[0][0].observe("user", "I live in Lisbon.", name="Anna", key="k")

    @rule(handle=handles, who=st.sampled_from(WHO))
    def ask(self, handle: int, who: str) -> None:
        self._ask(handle, who)

    @rule(handle=handles, who=st.sampled_from(WHO), city=st.sampled_from(CITIES), long=st.booleans())
    def observe(self, handle: int, who: str, city: str, long: bool) -> None:
        text = f"I live in {city}." + " The weather is as it was, and so it goes on." * (20 if long else 0)
        self._told(handle, lambda memory: bool(memory.observe("user", text, name=who)))

    @rule(
        handle=handles, who=st.sampled_from(WHO), city=st.sampled_from(CITIES), begins=st.integers(-2, 3),
        lasts=st.none() | st.integers(1, 3),
    )  # fmt: skip
    def archive(self, handle: int, who: str, city: str, begins: int, lasts: int | None) -> None:
        first = self.clock.now + begins * SOON
        last = None if lasts is None else first + lasts * SOON
        text = f"{who} lives in {city}."
        self._told(handle, lambda memory: bool(memory.archive(text, valid_from=first, valid_to=last)))

    @rule(handle=handles, city=st.sampled_from(CITIES), begins=st.integers(-1, 2))
    def supersede(self, handle: int, city: str, begins: int) -> None:
        first = self.clock.now + begins * SOON

        def change(memory: Memory) -> bool:
            old = [p for p in self._live(memory) if p.valid_from < first]
            if old:
                memory.supersede(old[0].id, f"{old[0].text.split()[0]} lives in {city}.", valid_from=first)
            return bool(old)

        self._told(handle, change)

    @rule(handle=handles, n=st.integers(0, 40), passage=st.booleans())
    def erase(self, handle: int, n: int, passage: bool) -> None:
        def change(memory: Memory) -> bool:
            found = memory.records.archival.after(0) if passage else memory.records.recall.since(1)
            if found:
                memory.erase(id=found[n % len(found)].ref)
            return bool(found)

        self._told(handle, change)

    @rule(handle=handles, who=st.sampled_from(WHO), city=st.sampled_from(CITIES), adds=st.booleans())
    def edit_core_memory(self, handle: int, who: str, city: str, adds: bool) -> None:
        def change(memory: Memory) -> bool:
            block = memory.core["human"]
            if adds:
                block.max_tokens = 5000
                block.append(f"{who} lives in {city}.")
            else:
                block.read_only = False
            return True

        self._told(handle, change)

    @rule(handle=handles)
    def page_out(self, handle: int) -> None:
        self._told(handle, lambda memory: bool(memory.pager.fold_in("for the test", memory.store.write)))

    @rule(handle=handles)
    def turn(self, handle: int) -> None:
        agent = self.opened[handle][1]
        self._told(handle, lambda _: bool(agent.send("My name is Tom and I live in Porto.", category="q")))

    @precondition(lambda self: self.clock.now < datetime(2023, 5, 8, 23, 0, tzinfo=UTC))
    @rule(handle=handles, minutes=st.integers(1, 15))
    def time_passes(self, handle: int, minutes: int) -> None:
        before = self.clock.now

        def change(memory: Memory) -> bool:
            self.clock.tick(minutes=minutes)
            # As they stand now: a passage that was superseded ends to hold earlier than it was said to.
            bounds = {t for p in memory.records.archival.after(0) for t in (p.valid_from, p.valid_to)}
            return any(before < t <= self.clock.now for t in bounds if t is not None)

        self._told(handle, change)

    @rule()
    def re_embed(self) -> None:
        self._close()
        self.other.close()
        self.dim = 48 - self.dim
        with Memory(self.path, "a", embedder="none", clock=self.clock) as memory:
            agents = [
                memory.store.agent(n, create=False, now=self.clock.now, notify=lambda _kind, _payload: None)
                for n in memory.store.agent_names()
            ]
            reembed(memory.store, agents, HashingEmbedder(self.dim), "", self.clock.now)
        self.other = self._memory("other")
        self._open()
        self.asked.clear()
        self._ask(0, WHO[0])  # with the first answer those of the other embedder go

    @rule(handle=handles)
    def nothing_that_matters(self, handle: int) -> None:
        def change(_: Memory) -> bool:
            self._close()
            self._open()
            self.other.observe("user", "I live in Porto.", name="Anna")
            return False

        self._told(handle, change)

    @invariant()
    def a_quota_is_kept(self) -> None:
        assert self.opened[0][0].records.answers.count("q") <= len(WHO)


def test_each_change_ends_the_answers_before_it() -> None:
    """The rules above, each at least once: what is drawn leaves some out."""
    life = NoOldAnswer()
    life.something_is_known()
    life.observe(handle=1, who="Mia", city="Porto", long=False)
    life.erase(handle=0, n=-1, passage=False)
    life.archive(handle=0, who="Tom", city="Porto", begins=1, lasts=1)
    life.time_passes(handle=0, minutes=6)
    life.time_passes(handle=0, minutes=1)  # it begins to hold, at this very moment
    life.time_passes(handle=1, minutes=6)
    life.time_passes(handle=0, minutes=1)  # and holds no longer
    life.archive(handle=1, who="Mia", city="Braga", begins=-2, lasts=None)
    life.archive(handle=1, who="Mia", city="Evora", begins=-2, lasts=None)
    life.archive(handle=1, who="Mia", city="Evora", begins=1, lasts=None)
    life.time_passes(handle=0, minutes=10)
    life.supersede(handle=0, city="Evora", begins=0)
    life.supersede(handle=1, city="Lisbon", begins=1)
    life.time_passes(handle=0, minutes=10)
    life.edit_core_memory(handle=0, who="Anna", city="Braga", adds=True)
    life.edit_core_memory(handle=1, who="Anna", city="Braga", adds=False)
    life.turn(handle=0)
    for n in range(4):
        life.observe(handle=n % 2, who="Anna", city="Porto", long=True)
    life.page_out(handle=0)
    life.erase(handle=0, n=0, passage=True)
    life.erase(handle=1, n=0, passage=False)
    life.re_embed()
    life.nothing_that_matters(handle=0)
    assert life.opened[0][0].pager.state()[0].first_message > 1, "messages were paged out"
    life.teardown()


class TestNoOldAnswer(NoOldAnswer.TestCase):  # type: ignore[misc,name-defined]
    settings = settings(max_examples=3, stateful_step_count=10, deadline=None)


@pytest.mark.slow
def test_no_old_answer_in_many_lives() -> None:
    run_state_machine_as_test(NoOldAnswer, settings=settings(max_examples=40, stateful_step_count=25, deadline=None))
