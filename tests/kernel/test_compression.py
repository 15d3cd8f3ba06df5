"""What a result shows, and that `fault` sees each law that is broken."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.compression import Compressed, CompressionRequest, Part, Spans, fault, joined, shown, shown_tokens
from agentmem.tokens import approximate_counter
from tests.compressors.laws import texts
from tests.counters import MergingCounter, PairCounter, word_counter

COUNTERS: list[Any] = [approximate_counter(), word_counter(), PairCounter(), MergingCounter()]


@st.composite
def text_and_spans(draw: st.DrawFn) -> tuple[str, Spans]:
    """Spans that are ascending and apart, of a text of any signs."""
    text = draw(texts(4) | st.text(st.sampled_from("ab .,\n?）é"), max_size=30))
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=10)))
    return text, tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=False))


@given(text_and_spans())
def test_shown_says_what_was_there(case: tuple[str, Spans]) -> None:
    text, spans = case
    told = shown(text, spans)
    inked = [c for s, e in spans for c in text[s:e]]
    rest = iter(told)
    assert all(c in rest for c in inked), "all that is kept, in its order"
    assert len(told) - len(inked) <= max(0, len(spans) - 1), "and one sign between two at most"
    assert told.count("\n") <= text.count("\n")
    assert shown(text, ((0, len(text)),)) == text and shown(text, ()) == ""


@pytest.mark.parametrize(
    ("text", "spans", "told"),
    [
        ("one two three", ((0, 3), (8, 13)), "one three"),
        ("one\ntwo three", ((0, 3), (8, 13)), "one\nthree"),
        ("one, two.", ((0, 3), (8, 9)), "one."),
        ("one two", ((0, 3), (3, 7)), "one two"),
        ("一二，三。", ((0, 1), (2, 3), (4, 5)), "一，。"),
    ],
)
def test_how_spans_are_joined(text: str, spans: Spans, told: str) -> None:
    assert shown(text, spans) == told


@given(texts(3), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), max_size=8))
def test_joined_is_ascending_apart_and_covers(text: str, pairs: list[tuple[int, int]]) -> None:
    spans = [(min(a, b, len(text)), min(max(a, b), len(text))) for a, b in pairs]
    found = joined(spans, text)
    assert all(0 <= s < e <= len(text) for s, e in found)
    assert all(a[1] < b[0] and text[a[1] : b[0]].strip() for a, b in pairwise(found))
    covered = {n for s, e in found for n in range(s, e)}
    wanted = {n for s, e in spans for n in range(s, e)}
    assert wanted <= covered
    assert not "".join(text[n] for n in covered - wanted).strip(), "only white space is added"
    assert joined(found, text) == found == joined(spans[::-1], text)


# -- fault -------------------------------------------------------------------------------------------------------

TEXT = "one two three four five six seven eight"
UNIT = (Part("call one two", unit="u"), Part("result three four", unit="u"), Part("so it was then"))


def asked(parts: tuple[Part, ...] = (Part(TEXT),), target: int = 4, most: int | None = None) -> CompressionRequest:
    return CompressionRequest(parts, target, word_counter(), "", most)


def result(*parts: Spans, worth: float = 1.0) -> Compressed:
    return Compressed(parts, 3, worth)


@pytest.mark.parametrize(
    ("request_", "found", "says"),
    [
        (asked(), result(((0, 7),)), ""),
        (asked(), result(((0, 3), (8, 13))), ""),
        (asked(UNIT, 6), result(((0, 8),), ((0, 6),), ()), ""),
        (asked(UNIT, 6), result((), (), ((0, 5),)), ""),
        (asked((Part("a call of a tool", unit="u"), Part(" ", unit="u")), 3), result(((0, 6),), ()), ""),
        (asked(), result(), "0 parts for 1"),
        (asked(), result(((0, 3),), ((0, 3),)), "2 parts for 1"),
        (asked(), result(()), "left nothing"),
        (asked(), result(((0, 8), (4, 13))), "not ascending"),
        (asked(), result(((8, 13), (0, 3))), "not ascending"),
        (asked(), result(((0, 3), (3, 7))), "not ascending"),
        (asked(), result(((0, 3), (0, 3))), "not ascending"),
        (asked(), result(((-1, 3),)), "not ascending"),
        (asked(), result(((3, 3),)), "not ascending"),
        (asked(), result(((5, 3),)), "not ascending"),
        (asked(), result(((0, len(TEXT) + 1),)), "not ascending"),
        (asked((Part(""),)), result(((0, 1),)), "not ascending"),
        (asked(UNIT, 6), result(((0, 8),), (), ()), "split a call"),
        (asked(UNIT, 6), result((), ((0, 6),), ((0, 5),)), "split a call"),
        (asked(target=4), result(((0, 23),)), "5 tokens where 4"),
        (asked(target=4, most=5), result(((0, 23),)), ""),
        (asked(target=4, most=2), result(((0, 23),)), "5 tokens where 4"),
        (asked(target=99), result(((0, len(TEXT)),)), "not smaller"),
        (asked(), result(((0, 7),), worth=1.5), "worth"),
        (asked(), result(((0, 7),), worth=-0.1), "worth"),
        (asked(), result(((0, 7),), worth=float("nan")), "worth"),
    ],
)
def test_each_broken_law_is_named(request_: CompressionRequest, found: Compressed, says: str) -> None:
    wrong = fault(request_, found)
    assert says in wrong and bool(says) == bool(wrong)


@given(text_and_spans(), st.integers(0, 20), st.sampled_from(COUNTERS))
def test_a_fault_is_a_broken_law(case: tuple[str, Spans], target: int, counter: Any) -> None:
    text, spans = case
    request = CompressionRequest((Part(text),), target, counter)
    tokens = shown_tokens(request.parts, (spans,), counter)
    assert tokens == (counter.count(shown(text, spans)) if spans else 0)
    lawful = (
        all(0 <= s < e <= len(text) for s, e in spans)
        and all(a[1] < b[0] for a, b in pairwise(spans))
        and bool(spans)
        and tokens <= target
        and tokens < counter.count(text)
    )
    assert (fault(request, Compressed((spans,), tokens)) == "") == lawful


def test_the_budget_is_never_under_the_target() -> None:
    assert [asked(target=4, most=m).budget for m in (None, 2, 4, 9)] == [4, 4, 4, 9]
