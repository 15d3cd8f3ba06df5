"""A compressor that fails in any way costs the turn nothing, and is told of once; what works keeps bounds."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem import Memory
from agentmem.compressing import BREAK_EVEN_TOKENS, Compressing, shortened_worth
from agentmem.compression import Compressed, CompressionRequest, Part, shown
from agentmem.compressors.extractive import ExtractiveCompressor
from agentmem.errors import CompressionError
from agentmem.paging import pack, page_text
from agentmem.tokens import approximate_counter
from agentmem.types import Hit, Tier
from tests.counters import MergingCounter, PairCounter, word_counter

Make = Callable[..., Memory]
Answers = Callable[[Sequence[CompressionRequest]], Any]
ROOT = Path(__file__).parents[2]
TEXT = "Well, we went to the market and so on, then Anna bought three kilos of the ripe figs for us all."


class Told:
    """A compressor that answers as it is told, and remembers what it was asked."""

    name = "told"
    question_aware = True
    fingerprint = "told/1"

    def __init__(self, answers: Answers, *, joint: bool = False) -> None:
        self.joint = joint
        self.asked: list[list[CompressionRequest]] = []
        self._answers = answers

    def compress(self, requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
        self.asked.append(list(requests))
        found: list[Compressed | None] = self._answers(requests)
        return found


class Said(list[str]):
    """What was reported."""

    def __call__(self, problem: str) -> None:
        self.append(problem)


class WithForms(Told):
    """One that offers forms, as it is told."""

    def forms(self, parts: Sequence[Part], query: str, counter: Any) -> list[list[Compressed]]:
        found: list[list[Compressed]] = self._answers(parts)  # type: ignore[arg-type]
        return found


def first_words(requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
    """A lawful compressor: the first words of each part, as many as fit."""
    out: list[Compressed | None] = []
    for r in requests:
        share = r.target_tokens / max(1, sum(r.counter.count(p.text) for p in r.parts))
        spans = []
        for p in r.parts:
            end = int(len(p.text) * share * 0.7)
            end = p.text.rfind(" ", 0, end) if end < len(p.text) else end
            spans.append(((0, end),) if end > 0 else ())
        kept = sum(r.counter.count(shown(p.text, s)) for p, s in zip(r.parts, spans, strict=True) if s)
        lawful = any(spans) and share < 1 and kept <= r.target_tokens
        out.append(Compressed(tuple(spans), kept, share) if lawful else None)
    return out


def boom(requests: Sequence[Any]) -> Any:
    raise RuntimeError("it broke")


def refuses(requests: Sequence[Any]) -> Any:
    raise CompressionError("told", "has no model")


def late(requests: Sequence[Any]) -> Any:
    raise TimeoutError("the server did not answer")


_count = itertools.count(1)


def broken_anew(requests: Sequence[Any]) -> Any:
    raise ValueError(f"request number {next(_count)} is bad: x{next(_count)}")


def spans(*pairs: tuple[int, int], worth: float = 1.0) -> Answers:
    return lambda requests: [Compressed((pairs,) * len(r.parts), 1, worth) for r in requests]


def too_much(requests: Sequence[CompressionRequest]) -> Any:
    return [Compressed(tuple(((0, len(p.text)),) for p in r.parts), 1) for r in requests]


FAILING: dict[str, Answers] = {
    "raises": boom,
    "raises its own error": refuses,
    "raises a timeout": late,
    "raises anew each time": broken_anew,
    "returns the whole": too_much,
    "out of range": spans((0, 10**6)),
    "negative": spans((-5, 3)),
    "backwards": spans((9, 3)),
    "overlapping": spans((0, 9), (4, 12)),
    "nothing left": spans(),
    "too few results": lambda requests: [None] * (len(requests) - 1),
    "too many results": lambda requests: [None] * (len(requests) + 1),
    "no list": lambda requests: None,
    "no results": lambda requests: ["oops"] * len(requests),
    "wrong parts": lambda requests: [Compressed(((),) * (len(r.parts) + 1), 1) for r in requests],
    "spans of text": lambda requests: [Compressed(((("a", "b"),),) * len(r.parts), 1) for r in requests],  # type: ignore[arg-type]
    "spans are None": lambda requests: [Compressed((None,) * len(r.parts), 1) for r in requests],  # type: ignore[arg-type]
}


def request(target: int = 8) -> CompressionRequest:
    return CompressionRequest((Part(TEXT),), target, word_counter())


@pytest.mark.parametrize("how", FAILING)
def test_what_fails_is_none_and_said_once(how: str) -> None:
    said = Said()
    asks = Compressing(Told(FAILING[how]), said)
    for target in (8, 9, 7):
        assert asks.compress([request(target), request(target)]) == [None, None]
    assert len(said) == 1 and said[0].startswith("compressor told: ") and said[0].endswith("the text is used as it is")
    assert asks.compress([]) == []


def test_each_kind_is_said() -> None:
    said = Said()
    answers = iter([boom, refuses, spans((9, 3)), too_much, boom, spans((9, 3))])
    asks = Compressing(Told(lambda requests: next(answers)(requests)), said)
    for _ in range(6):
        asks.compress([request()])
    assert [s.split(";")[0] for s in said] == [
        "compressor told: RuntimeError: it broke",
        "compressor told: CompressionError: compressor told: has no model",
        "compressor told: its spans are not ascending parts of the text",
        "compressor told: it gave 21 tokens where 8 are allowed",
    ]


def test_one_bad_result_does_not_harm_the_others() -> None:
    good = Compressed((((0, 4),),), 1)
    asks = Compressing(Told(lambda requests: [good, Compressed((((9, 3),),), 1), None]), Said())
    assert asks.compress([request()] * 3) == [good, None, None]


def test_none_is_no_failure() -> None:
    said = Said()
    assert Compressing(Told(lambda requests: [None] * len(requests)), said).compress([request()] * 2) == [None] * 2
    assert said == []


def test_one_that_takes_too_long_is_not_asked_again() -> None:
    go, said = threading.Event(), Said()
    told = Told(lambda requests: [go.wait(20)] and [None] * len(requests))
    asks = Compressing(told, said, time_limit_s=0.05)
    assert asks.compress([request()]) == [None]
    assert asks.compress([request()] * 3) == [None] * 3
    go.set()
    assert len(told.asked) == 1 and len(said) == 1 and "took longer than 0.05 s" in said[0]


def test_a_timeout_of_its_own_is_not_that() -> None:
    told, said = Told(late), Said()
    asks = Compressing(told, said)
    assert asks.compress([request()]) == asks.compress([request()]) == [None]
    assert len(told.asked) == 2 and "the server did not answer" in said[0]


def test_the_process_ends_though_it_never_does() -> None:
    code = (
        "import threading\n"
        "from agentmem.compressing import Compressing\n"
        "from tests.kernel.test_compressing import Told, request\n"
        "asks = Compressing(Told(lambda requests: threading.Event().wait()), print, time_limit_s=0.05)\n"
        "print(asks.compress([request()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines()[-1] == "[None]"


def test_ctrl_c_is_no_failure() -> None:
    def stop(requests: Sequence[Any]) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Compressing(Told(stop), Said()).compress([request()])


# -- forms -------------------------------------------------------------------------------------------------------

FAILING_FORMS: dict[str, Any] = {
    "raises": boom,
    "too few": lambda parts: [[]] * (len(parts) - 1),
    "too many": lambda parts: [[]] * (len(parts) + 1),
    "no list": lambda parts: None,
    "no forms": lambda parts: ["oops"] * len(parts),
    "nothing left": lambda parts: [[Compressed(((),), 0)]] * len(parts),
    "no part": lambda parts: [[Compressed((), 0)]] * len(parts),
    "out of range": lambda parts: [[Compressed((((0, 10**6),),), 1)]] * len(parts),
    "backwards": lambda parts: [[Compressed((((9, 3),),), 1)]] * len(parts),
    "worth too much": lambda parts: [[Compressed((((0, 3),),), 1, 7.0)]] * len(parts),
}


@pytest.mark.parametrize("how", FAILING_FORMS)
def test_forms_that_fail(how: str) -> None:
    said = Said()
    asks = Compressing(WithForms(FAILING_FORMS[how]), said)
    for _ in range(2):
        assert asks.forms([Part(TEXT), Part(TEXT)], "figs", word_counter()) == [[], []]
    assert len(said) == 1


@pytest.mark.parametrize("how", FAILING_FORMS)
def test_a_page_with_forms_that_fail(how: str, memory_factory: Make) -> None:
    page, memory = paged(memory_factory, WithForms(FAILING_FORMS[how]))
    assert page.items and all(i.whole for i in page.items) and page.num_tokens <= 60
    assert len(memory.notices) == len(memory.events("compressor_failed")) == 1


# -- in a page ---------------------------------------------------------------------------------------------------


def paged(make: Make, compressor: Any, max_tokens: int = 60, times: int = 2, **settings: Any) -> tuple[Any, Memory]:
    memory = make(compressor=compressor, **settings)
    for n in range(8):
        memory.observe(
            "user", f"On day {n} we went to the market and so on, then Anna bought {n} kilos of the ripe figs."
        )
    for _ in range(times):
        page = memory.page_in("What did Anna buy on the market?", max_tokens=max_tokens)
    return page, memory


@pytest.mark.parametrize("joint", [False, True], ids=["alone", "joint"])
@pytest.mark.parametrize("how", FAILING)
def test_a_page_without_it(how: str, joint: bool, memory_factory: Make) -> None:
    page, memory = paged(memory_factory, Told(FAILING[how], joint=joint))
    assert page.items and all(i.whole for i in page.items) and page.num_tokens <= 60
    assert page.text == page_text(page.items)
    (event,) = memory.events("compressor_failed")
    (notice,) = memory.notices
    assert "the text is used as it is" in notice and event.payload


def test_it_is_what_comes_without_a_compressor_but_for_excerpts(memory_factory: Make) -> None:
    broken, _ = paged(memory_factory, Told(boom))
    none, _ = paged(memory_factory, "none", name="other.db")
    assert broken.text == none.text


def test_the_log_holds_no_content(memory_factory: Make) -> None:
    def quotes(requests: Sequence[CompressionRequest]) -> Any:
        raise ValueError(f"can't read {requests[0].parts[0].text!r}")

    _, memory = paged(memory_factory, Told(quotes))
    assert "ripe figs" not in str([dict(e.payload) for e in memory.events()])


@pytest.mark.parametrize("joint", [False, True], ids=["alone", "joint"])
def test_it_is_never_asked_when_everything_fits(joint: bool, memory_factory: Make) -> None:
    told = Told(first_words, joint=joint)
    page, _ = paged(memory_factory, told, max_tokens=1000)
    assert len(page.items) == 8 and told.asked == []
    page, _ = paged(memory_factory, told, max_tokens=60)
    assert told.asked


def test_a_joint_one_gets_the_page_at_once(memory_factory: Make) -> None:
    told = Told(first_words, joint=True)
    page, memory = paged(memory_factory, told, times=1)
    ((asked,),) = told.asked
    assert len(asked.parts) > 3 and asked.query == "What did Anna buy on the market?"
    assert 1 <= asked.target_tokens <= asked.budget <= 60
    assert [p.worth for p in asked.parts] == sorted((p.worth for p in asked.parts), reverse=True)
    assert any(i.spans for i in page.items) and page.num_tokens <= 60 and memory.notices == []


def test_one_alone_gets_each_text_at_several_targets(memory_factory: Make) -> None:
    told = Told(first_words)
    page, memory = paged(memory_factory, told, times=1)
    (asked,) = told.asked
    assert all(len(r.parts) == 1 for r in asked)
    for r in asked:
        assert BREAK_EVEN_TOKENS // 2 <= r.target_tokens < memory.shape.counter.count(r.parts[0].text)
        assert r.parts[0].sentences, "the archive's vectors are told"
    assert len({(r.parts, r.target_tokens) for r in asked}) == len(asked)
    assert any(i.spans for i in page.items) and memory.notices == []


def test_more_evidence_fits(memory_factory: Make) -> None:
    short, _ = paged(memory_factory, "extractive")
    whole, _ = paged(memory_factory, "none", name="other.db")
    assert len(short.items) > len(whole.items)


def test_short_records_are_left_alone(memory_factory: Make) -> None:
    told = Told(first_words)
    memory = memory_factory(compressor=told)
    for n in range(20):
        memory.observe("user", f"Anna bought {n} figs.")
    assert memory.page_in("figs", max_tokens=30).num_tokens <= 30
    assert not any(told.asked)


# -- worth and packing -------------------------------------------------------------------------------------------


def test_shortened_worth_falls_with_room() -> None:
    values = [shortened_worth(n) for n in range(0, 20_000, 7)]
    assert values == sorted(values, reverse=True)
    assert all(0.7 <= v <= 0.98 for v in values) and values[0] == 0.98 and values[-1] == 0.7


COUNTERS: dict[str, Any] = {
    "approximate": approximate_counter(), "words": word_counter(), "pairs": PairCounter(), "merging": MergingCounter(),
}  # fmt: skip
NOW = datetime(2023, 5, 8, 12, 0, tzinfo=UTC)
said = st.sampled_from(
    ["aaaa tea", "Anna is not here,", "so it was,", "😀 then", "東京は。", "\n", "she paid 3 euros."]
)
records = st.lists(st.lists(said, min_size=1, max_size=12).map(" ".join), max_size=8)


@pytest.mark.parametrize("which", ["extractive", "alone", "joint"])
@pytest.mark.parametrize("name", COUNTERS)
@settings(max_examples=20)
@given(texts=records, max_tokens=st.integers(1, 160), days=st.integers(0, 3))
def test_a_page_never_exceeds(name: str, which: str, texts: list[str], max_tokens: int, days: int) -> None:
    counter = COUNTERS[name]
    compressor = ExtractiveCompressor() if which == "extractive" else Told(first_words, joint=which == "joint")
    said = Said()
    hits = [
        Hit(f"m{n}", Tier.RECALL, t, 1 - n / 100, NOW - timedelta(days=n * days), f"k{n}", "Ann", "user")
        for n, t in enumerate(texts, 1)
    ]
    values = [0.8**n for n in range(len(hits))]
    worth = {h.id: v for h, v in zip(hits, values, strict=True)}
    shorten = Compressing(compressor, said).shorten("Is Anna here?", counter, lambda some: {}, worth)
    page = pack(hits, "Is Anna here?", max_tokens, counter, values, shorten=shorten)
    assert page.num_tokens == counter.count(page.text) <= max_tokens
    assert page.text == page_text(page.items)
    assert len({i.hit.id for i in page.items}) == len(page.items)
    for item in page.items:
        assert item.whole or not item.spans or item.text == shown(item.hit.text, item.spans)
    assert set(page.keys).isdisjoint(page.shortened)
    assert said == []
