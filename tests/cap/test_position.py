"""The lost-in-the-middle curve: a model that reads only some places well is found out, and the order follows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.backends.extractive import ExtractiveBackend
from agentmem.cap_position import SURE, PositionReport, greater, measure, wilson
from agentmem.cap_trials import TASKS, Task, is_right, make_trials
from agentmem.errors import ConfigError, ContextOverflowError, InvalidInputError
from agentmem.scripted import ScriptedBackend
from agentmem.types import Completion, Request

FACTS = {"town": r"town of (\w+)", "boat": r"boat named (\w+)", "firm": r"firm called (\w+)"}


def read(request: Request) -> tuple[float, str]:
    """What a careful reader finds in a prompt: how deep the gold item stands, and its answer."""
    text = request.messages[-1].content
    if text.startswith("JSON data:\n"):
        data, key = re.fullmatch(r"JSON data:\n(.*)\n\nKey: (.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        pairs = json.loads(data)
        return list(pairs).index(json.loads(key)) / (len(pairs) - 1), pairs[json.loads(key)]
    *documents, question = text.split("\n\n")
    (place,) = [n for n, d in enumerate(documents) if d.split("\n")[0].split(": ")[1] in question]
    fact = next(pattern for word, pattern in FACTS.items() if word in question)
    answer = re.search(fact, documents[place])
    assert answer is not None
    return place / (len(documents) - 1), answer.group(1)


def model(
    answer: Callable[[Request, float, str], str | Completion], *, window: int | None = 8192, calls: int = 300
) -> ScriptedBackend:
    def play(request: Request) -> Completion:
        said = answer(request, *read(request))
        return said if isinstance(said, Completion) else Completion(said)

    return ScriptedBackend([play] * calls, context_window=window)


def good_at(*depths: float) -> ScriptedBackend:
    return model(lambda _, d, a: f"It is {a}." if any(abs(d - g) < 0.13 for g in depths) else "I do not know.")


def run(backend: ScriptedBackend, **changed: Any) -> PositionReport:
    return measure(backend, **{"documents": 5, "trials": 5, **changed})


@pytest.mark.parametrize(
    ("depths", "order", "significant"),
    [
        ((0.0, 0.25, 0.5, 0.75, 1.0), "time", False),
        ((0.0,), "best-first", True),
        ((0.0, 0.25), "best-first", True),
        ((1.0,), "best-last", True),
        ((0.5, 0.75, 1.0), "best-last", True),
        ((0.0, 1.0), "outside-in", True),
        ((0.25, 0.5, 0.75), "time", True),
        ((), "time", False),
    ],
)
def test_the_order_follows_what_the_model_reads(depths: tuple[float, ...], order: str, significant: bool) -> None:
    report = run(good_at(*depths))
    assert [p.share for p in report.points] == [float(d in depths) for d in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert all(p.n == 10 and p.low <= p.share <= p.high for p in report.points)
    assert (report.recommendation.order, report.recommendation.significant) == (order, significant)
    if not depths:
        assert "could not do the tasks at all" in report.recommendation.reason
    assert any("every answer was right" in n for n in report.notes) == (len(depths) == 5)


def test_a_small_difference_is_chance() -> None:
    # One document question in five goes wrong in the middle: 9 of 10 against 10 of 10.
    asked: list[float] = []

    def answer(request: Request, depth: float, gold: str) -> str:
        asked.append(depth)
        return "no idea" if depth == 0.5 and asked.count(0.5) == 1 else gold

    found = run(model(answer)).recommendation
    assert (found.order, found.significant) == ("time", False)
    assert "no place is better beyond chance" in found.reason


def test_two_positions_compare_start_and_end() -> None:
    report = run(good_at(1.0), positions=2)
    assert [p.depth for p in report.points] == [0.0, 1.0]
    assert report.recommendation.order == "best-last" and "middle" not in report.recommendation.reason


def test_prompts_fit_the_window_and_it_is_said() -> None:
    backend = model(lambda _, __, a: a, window=450)
    report = run(backend, documents=20)
    assert all(backend.counter.count_prompt(r.messages) + r.max_tokens <= 450 for r in backend.requests)
    for task, curve in zip(TASKS, report.tasks, strict=True):
        assert 2 <= curve.items < 20 * task.items_per_document
        assert any(f"{task.name}: {curve.items} items" in n for n in report.notes)
        # As many as fit: with one item more some prompt would not.
        more = make_trials(task, 0, curve.items + 1, 5)
        longest = max(backend.counter.count_prompt(task.messages(t, 0)) for t in more)
        assert longest + 128 > 450 or curve.prompt_tokens + 128 > 400
    fewest = min(c.items for c in report.tasks)
    assert len(report.points) == min(5, fewest)
    assert any("positions instead of 5" in n for n in report.notes) == (fewest < 5)


def test_no_window_is_enough_for_nothing() -> None:
    backend = model(lambda _, __, a: a, window=160)
    with pytest.raises(ContextOverflowError, match="a prompt of two items"):
        run(backend)
    assert backend.requests == []


def test_an_unknown_window_is_noted() -> None:
    assert any("not known" in n for n in run(model(lambda _, __, a: a, window=None), trials=1).notes)


def test_a_backend_that_is_no_language_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no language model") as caught:
        measure(ExtractiveBackend(), trials=1)
    assert "openai:" in caught.value.hint


def test_the_same_seed_asks_the_same() -> None:
    backends = [good_at(0.0), good_at(0.0), good_at(0.0)]
    reports = [run(b, trials=2, seed=s) for b, s in zip(backends, (3, 3, 4), strict=True)]
    assert reports[0] == reports[1]
    assert backends[0].requests == backends[1].requests
    assert {r.messages for r in backends[0].requests}.isdisjoint(r.messages for r in backends[2].requests)
    told = reports[0].to_dict()
    assert json.loads(json.dumps(told)) == json.loads(json.dumps(reports[1].to_dict()))
    assert told["version"] == 1 and told["recommendation"]["order"] == "best-first"
    assert [t["name"] for t in told["tasks"]] == ["documents", "key-value"]
    assert len(reports[0].lines()) >= 2 + 5 + 1


def test_who_repeats_the_prompt_has_not_answered() -> None:
    report = run(model(lambda r, _, __: r.messages[-1].content))
    assert [p.correct for p in report.points] == [0] * 5


def test_thinking_is_no_answer_and_cut_thoughts_are_noted() -> None:
    thought = run(model(lambda _, __, a: f"<think>not {a}, or is it?</think>no idea"), trials=2)
    assert [p.correct for p in thought.points] == [0] * 5 and thought.notes == ()
    cut = run(model(lambda _, __, a: Completion(f"<think>well, {a}", finish_reason="length")), trials=2)
    assert any("20 of 20 answers were cut off at 128 tokens" in n for n in cut.notes)
    assert [t.unfinished for t in cut.tasks] == [10, 10]


def test_progress_ends_at_all() -> None:
    told: list[tuple[int, int]] = []
    measure(good_at(0.0), documents=5, trials=3, progress=lambda done, total: told.append((done, total)))
    assert told == [(20, 30), (30, 30)]


@pytest.mark.parametrize(
    ("field", "value"), [("positions", 1), ("documents", 1), ("trials", 0), ("max_tokens", 0), ("positions", -3)]
)
def test_numbers_that_cannot_be(field: str, value: int) -> None:
    with pytest.raises(InvalidInputError, match=f"{field}={value}: must be at least"):
        run(good_at(0.0), **{field: value})


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), items=st.integers(2, 12), data=st.data())
def test_exactly_one_item_holds_the_answer(task: Task, seed: int, items: int, data: st.DataObject) -> None:
    (trial,) = make_trials(task, seed, items, 1)
    place = data.draw(st.integers(0, items - 1))
    shown = trial.items(place)
    assert len(shown) == items and shown[place] is trial.gold and set(shown) == {trial.gold, *trial.others}
    assert [i for i in shown if trial.gold.answer in i.text] == [trial.gold]
    messages = task.messages(trial, place)
    depth, answer = read(Request(messages))
    assert (depth, answer) == (place / (items - 1), trial.gold.answer)
    assert messages[-1].content.endswith(trial.question)
    assert is_right(f"The answer: {answer.upper()}!", trial)
    assert not is_right("", trial) and not is_right(f"{answer}x", trial)
    assert not any(is_right(f"{o.answer} or {answer}", trial) for o in trial.others)


@settings(max_examples=50)
@given(n=st.integers(1, 400), data=st.data())
def test_wilson_against_its_definition(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    # Its ends are the shares from which the observed one is just SURE standard errors away.
    for end in (low, high):
        error = SURE * math.sqrt(end * (1 - end) / n)
        assert math.isclose(abs(correct / n - end), error, abs_tol=1e-9)


def test_wilson_of_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@settings(max_examples=50)
@given(n=st.integers(1, 100), data=st.data())
def test_greater_is_an_order_and_needs_more_than_chance(n: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, n))
    if greater((a, n), (b, n)):
        assert a > b and not greater((b, n), (a, n))
        assert greater((a * 4, n * 4), (b * 4, n * 4)), "more of the same is surer"
    assert not greater((a, n), (a, n))


def test_greater_golden() -> None:
    # 95 % against 70 % of 40 are told apart at 5 % over three comparisons; 90 % against 75 % are not.
    assert greater((38, 40), (28, 40))
    assert not greater((36, 40), (30, 40))
