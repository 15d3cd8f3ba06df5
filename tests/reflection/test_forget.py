"""`forget`: what was derived and grew cold is closed, what people told is only proposed, and nothing is destroyed."""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.errors import ConfigError
from agentmem.memory import Memory
from agentmem.reflection import AddPassage, JobReport, Rate, reflect, undo
from agentmem.reflection.forget import Forget
from agentmem.reflection.heat import HOT, UseClock, covering, decay, heat, warmth
from agentmem.reflection.strategies import DEFAULT, make_strategy
from agentmem.times import utc_seconds
from tests.reflection.toys import Misused
from tests.reflection.views import views

Make = Callable[..., Memory]
ALL = "forget?keep=0"


def test_golden_numbers() -> None:
    assert heat(0, 4, 0.0) == HOT == 5.0
    assert heat(2, 1, 24.0) == pytest.approx(3.0 + exp(-1))
    assert heat(0, 4, -3.0) == 5.0, "a use that is yet to come is one of now"
    found = [decay(h) for h in (24.0, 138.3, 168.0)]
    assert [round(v, 3) for v in found] == [0.887, 0.5, 0.431]
    assert decay(24.0) == pytest.approx(0.995**24, abs=1e-4)
    assert warmth(0, 4, 0.0, 5.0) == 5.0 and warmth(0, 4, 0.0, 10.0) == 10.0
    # By hand: (0 + 3 + e^-15) * 0.5^(360 / 138.3) = 3 * 0.16457 = 0.4937.
    assert warmth(0, 3, 360.0, 5.0) == pytest.approx(0.4937, abs=1e-4)


def test_what_covers_most_of_the_weight() -> None:
    assert covering([50, 1, 45, 4]) == [0, 2]  # 95 of 100
    assert covering([50, 1, 44, 5]) == [0, 2, 3]
    assert covering([1.0, 1.0]) == [1, 0] and covering([]) == [] and covering([0.0, 0.0]) == []


@given(st.lists(st.floats(0, 1e6), max_size=30))
def test_it_covers_with_as_few_as_can_be(weights: list[float]) -> None:
    found = covering(weights)
    assert len(set(found)) == len(found)
    covered, whole = sum(sorted((weights[n] for n in found), reverse=True)), sum(weights)
    assert covered >= 0.95 * whole - 1e-6 * whole
    if found:
        assert covered - min(weights[n] for n in found) < 0.95 * whole + 1e-6 * whole


def test_time_stands_still_while_nobody_talks() -> None:
    hour = 3600.0
    clock = UseClock([0.0, 10 * hour, 1000 * hour], 1002 * hour)
    assert clock.hours_since(0.0) == 10 + 24 + 2
    assert clock.hours_since(10 * hour) == 24 + 2 and clock.hours_since(500 * hour) == 2
    assert clock.hours_since(1001 * hour) == 1 and clock.hours_since(5000 * hour) == 0
    assert UseClock([], 7.0).hours_since(3.0) == 0.0


@given(st.lists(st.floats(0, 1e7), max_size=12), st.floats(0, 1e7), st.floats(0, 1e7))
def test_hours_of_use_fall_with_the_moment_and_are_at_most_those_of_the_clock(
    times: list[float], a: float, b: float
) -> None:
    clock = UseClock(times, 1e7)
    first, second = sorted((a, b))
    assert clock.hours_since(first) >= clock.hours_since(second) >= 0
    assert clock.hours_since(first) <= (1e7 - first) / 3600 + 1e-6


@pytest.fixture
def memory(memory_factory: Make, clock: Any) -> Memory:
    """Notes of old and of today; a message a day over 60 days."""
    memory = memory_factory()
    memory.archive("Anna lives in Lisbon.")
    for day in range(60):
        memory.observe("user", f"Anna spoke of harbour number {day} and of tea.")
        if day in (0, 50):
            derive(memory, f"An insight of day {day}", f"m{day + 1}", "p1")
        clock.tick(days=1)
    return memory


def derive(memory: Memory, text: str, *sources: str, kind: str = "insight") -> None:
    reflect(memory, Misused(AddPassage(text, kind, sources)))


def open_texts(memory: Memory) -> list[str]:
    return [p.text for p in memory.records.archival.after(0) if p.valid_to is None]


def test_what_is_cold_is_closed_and_opened_again_by_undo(memory: Memory) -> None:
    before = views(memory)
    (report,) = reflect(memory, ALL)
    assert open_texts(memory) == ["Anna lives in Lisbon.", "An insight of day 50"]
    assert "cold: warmth" in report.changes[0].change.why
    assert "An insight of day 0" not in [h.text for h in memory.search("An insight of day 0", top_k=20)]
    assert "An insight of day 0" in [h.text for h in memory.search("An insight of day 0", top_k=20, superseded=True)]
    (again,) = reflect(memory, ALL)
    assert (again.job, again.state) == (None, "nothing new")
    assert report.job is not None
    undo(memory, report.job)
    assert views(memory) == before
    assert reflect(memory, ALL)[0].state == "nothing new", "what was opened again is wanted"


def test_it_is_off_by_default_and_keeps_what_it_is_told_to(memory: Memory) -> None:
    assert "forget" not in DEFAULT
    assert reflect(memory, "forget")[0].state == "nothing new"
    assert reflect(memory, "forget?keep=2")[0].state == "nothing new"
    assert reflect(memory, "forget?keep=0&max_demotions=0")[0].state == "nothing new"
    assert len(reflect(memory, "forget?keep=1")[0].changes) == 1


def test_a_day_without_messages_makes_nothing_colder(memory: Memory, clock: Any) -> None:
    clock.tick(days=700)
    reflect(memory, ALL)
    assert "An insight of day 50" in open_texts(memory)


def test_a_use_keeps_it_warm(memory: Memory, clock: Any) -> None:
    with memory.store.write():
        memory.records.uses.touch([("archival", 2)], utc_seconds(clock.now))
    assert reflect(memory, ALL)[0].state == "nothing new"


def test_where_uses_are_known_what_covers_most_of_the_warmth_stays(memory: Memory, clock: Any) -> None:
    with memory.store.write():
        memory.records.uses.touch([("archival", 3)], utc_seconds(clock.now))
    reflect(memory, "forget?keep=0&cold=100")
    assert open_texts(memory) == ["Anna lives in Lisbon.", "An insight of day 50"]


def test_importance_keeps_it_warm(memory: Memory) -> None:
    reflect(memory, Misused(Rate("p2", 10, None, ("m1",)), Rate("p3", 1, None, ("m1",))))
    half = "forget?keep=0&half_life_h=1000&cold=1.2"
    reflect(memory, half)
    assert "An insight of day 0" in open_texts(memory) and "An insight of day 50" not in open_texts(memory)


def test_what_rests_on_nothing_that_holds_goes_first(memory: Memory) -> None:
    derive(memory, "An insight of what was", "p1")
    memory.supersede("p1", "Anna lives in Porto.")
    reflect(memory, "forget?keep=0&max_demotions=1")
    assert "An insight of what was" not in open_texts(memory) and "An insight of day 0" in open_texts(memory)


def test_what_people_told_is_only_proposed(memory: Memory) -> None:
    memory.supersede("p1", "Anna lives in Porto.")
    reflect(memory, Misused(Rate("m1", 1, None, ("m1",)), Rate("m2", 9, None, ("m1",)), Rate("m60", 1, None, ("m1",))))
    before = views(memory)
    (report,) = reflect(memory, "forget")
    assert report.changes == () and views(memory) == before
    first, second = report.strategies[0].proposals
    assert "m1 (rated 1 of 10" in first and f"agentmem erase m1 --agent {memory.agent_name}" in first
    assert "p1 (superseded by p4" in second
    assert JobReport.of_dict(report.to_dict()).strategies[0].proposals == (first, second)
    assert reflect(memory, "forget")[0].strategies[0].proposals == (), "said once"


def test_an_agent_without_records_and_a_clock_moved_back(memory_factory: Make, memory: Memory, clock: Any) -> None:
    assert reflect(memory_factory(name="empty.db"), ALL)[0].state == "nothing new"
    clock.tick(days=-400)
    (report,) = reflect(memory, ALL)
    assert report.state == "nothing new" and len(open_texts(memory)) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"half_life_h": 0}, {"half_life_h": "x"}, {"half_life_h": float("nan")}, {"cold": -1.0}, {"keep": -1},
        {"keep": 1.5}, {"max_demotions": True},
    ],
)  # fmt: skip
def test_bad_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Forget(**options)


def test_options_in_a_spec() -> None:
    made = make_strategy("forget?half_life_h=24&keep=3&max_demotions=7")
    assert isinstance(made, Forget) and (made.half_life_h, made.keep, made.max_demotions) == (24.0, 3, 7)
