"""Where a text may be cut: nothing is lost or torn, what is protected is named rule by rule, and the time is linear."""

from __future__ import annotations

import json
import re
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem import cutting as module
from agentmem.compression import Part, Spans, shown, shown_tokens
from agentmem.cutting import Cutting, blocks, cutting, units, within
from agentmem.tokens import approximate_counter
from tests.compressors.laws import texts
from tests.counters import MergingCounter, PairCounter, word_counter

HARD = st.one_of(
    texts(),
    st.text(st.sampled_from("a 1.?!\"'`~\n\t{}[]:,\\éé́👩‍👧אب。「」"), max_size=60),
    st.text(max_size=60),
)


def cut(text: str, keep: str = "") -> Cutting:
    return cutting((Part(text),), frozenset(keep.split()))


def protected(text: str, keep: str = "") -> list[str]:
    found = cut(text, keep)
    return [text[s:e] for (s, e), stays in zip(found.chunks, found.protected, strict=True) if stays]


# -- covering ----------------------------------------------------------------------------------------------------


@given(HARD)
def test_every_sign_is_in_one_unit_and_one_chunk(text: str) -> None:
    inked = [n for n, c in enumerate(text) if not c.isspace()]
    found = cut(text)
    assert [(u.start, u.end, u.whole) for u in found.units] == units(text)
    for spans in ([(u.start, u.end) for u in found.units], list(found.chunks)):
        assert all(start < end for start, end in spans)
        assert all(a[1] <= b[0] for a, b in pairwise(spans)), "in order and apart"
        covered = {n for start, end in spans for n in range(start, end)}
        assert covered >= set(inked)
    # The chunks hold nothing but the signs; each lies in its unit.
    assert sorted(n for s, e in found.chunks for n in range(s, e)) == inked
    for unit in found.units:
        assert unit.last > unit.first
        assert all(unit.start <= s and e <= unit.end for s, e in found.chunks[unit.first : unit.last])
    assert [u.first for u in found.units[1:]] == [u.last for u in found.units[:-1]]


@given(HARD)
def test_a_chunk_ends_at_white_space_at_a_unit_or_before_punctuation(text: str) -> None:
    found = cut(text)
    borders = {n for u in found.units for n in (u.start, u.end)}
    for unit in found.units:
        for start, end in found.chunks[unit.first : unit.last]:
            before, after = text[start - 1 : start], text[end : unit.end].split()[:1]
            assert not before or before.isspace() or start in borders or text[start] in module.PUNCTUATION
            if after and not text[end].isspace():
                assert set(after[0]) <= module.PUNCTUATION


@given(st.lists(HARD, max_size=3), st.randoms(use_true_random=False))
def test_any_choice_shows_whole_chunks_with_their_rules(several: list[str], chance: Any) -> None:
    parts = tuple(Part(t, unit="u" if n < 2 else "") for n, t in enumerate(several))
    found = cutting(parts)
    kept = [chance.random() < 0.4 for _ in found.chunks]
    out = found.spans(kept)
    assert len(out) == len(parts)
    for unit in found.units:
        inside = [any(a <= s and e <= b for a, b in out[unit.part]) for s, e in found.chunks[unit.first : unit.last]]
        touched = [any(a < e and s < b for a, b in out[unit.part]) for s, e in found.chunks[unit.first : unit.last]]
        assert inside == touched, "a chunk is torn"
        if unit.whole:
            assert len(set(inside)) == 1, "code or JSON is torn"
        if any(inside):
            stays = found.protected[unit.first : unit.last]
            assert all(i for i, p in zip(inside, stays, strict=True) if p)
    assert len({bool(o) for o, p in zip(out, parts, strict=True) if p.unit and p.text.strip()}) <= 1
    assert found.spans([False] * len(found.chunks)) == tuple(() for _ in parts)
    if not any(p.unit for p in parts):
        everything = found.spans([True] * len(found.chunks))
        for part, spans in zip(parts, everything, strict=True):
            assert [c for c in shown(part.text, spans) if not c.isspace()] == [c for c in part.text if not c.isspace()]


def test_nothing_is_nothing() -> None:
    assert cut("").units == cut(" \n\t\u2028").units == cutting(()).units == ()
    assert cut("").spans([]) == ((),)
    assert cutting(()).spans([]) == ()


# -- units -------------------------------------------------------------------------------------------------------


def pieces(text: str) -> list[tuple[str, bool]]:
    return [(text[s:e], whole) for s, e, whole in units(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Did you pay? No. We left then.", ["Did you pay? No.", "We left then."]),
        ("You like it? Not really! Fine then, we go.", ["You like it? Not really!", "Fine then, we go."]),
        ("Are you vegan? No longer.", ["Are you vegan? No longer."]),
        ("Did you pay?\nNo.", ["Did you pay?", "No."]),
        ("No. It was cold there.", ["No.", "It was cold there."]),
    ],
)
def test_a_short_reply_stays_with_what_it_answers(text: str, expected: list[str]) -> None:
    assert [t for t, _ in pieces(text)] == expected


def test_a_short_reply_after_a_block_is_not_part_of_the_block() -> None:
    assert pieces('{"paid": false} No. Not yet.') == [('{"paid": false}', True), ("No. Not yet.", False)]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("Try:\n```python\nif x:\n\n    y()\n```\nDone.", ["```python\nif x:\n\n    y()\n```"]),
        ("Try:\n~~~\nx\n~~~\nDone.", ["~~~\nx\n~~~"]),
        ("Open:\n```\nnever closed. Here. And here.", ["```\nnever closed. Here. And here."]),
        ("Long:\n````\n```\ninner\n```\n````\nDone now.", ["````\n```\ninner\n```\n````"]),
        ("  ```\n  indented\n  ```\nDone.", ["  ```\n  indented\n  ```"]),
        ('Sent {"a": {"b": [1, {"c": "} not the end. Really."}]}} and left.', None),
        ('List ["one. two", "three"] there.', ['["one. two", "three"]']),
        ('Broken {"a": [1, 2 and no more of it.', []),
        ("A set {not json at all, you see} here.", []),
        ("Short {} and [] and [1, 2] are plain.", []),
        ('{"broken": [1, {"whole": "value", "n": 1}', ['{"whole": "value", "n": 1}']),
    ],
)
def test_code_and_json_are_whole(text: str, whole: list[str] | None) -> None:
    if whole is None:
        whole = [text[text.index("{") : text.rindex("}") + 1]]
        json.loads(whole[0])
    assert [t for t, w in pieces(text) if w] == whole
    assert [text[s:e] for s, e in blocks(text)] == whole


def test_every_record_of_a_long_json_file_is_whole() -> None:
    rows = [json.dumps({"number": n, "note": "not paid yet, e.g. today."}) for n in range(300)]
    assert [t for t, w in pieces("\n".join(rows)) if w] == rows


def test_marks_of_footnotes_do_not_hide_json() -> None:
    text = "It is so [see 1]. " * 70 + 'And {"paid": false, "n": 1} is what was sent.'
    assert ('{"paid": false, "n": 1}', True) in pieces(text)


def test_backticks_within_a_line_open_no_fence() -> None:
    text = "```print(x)``` does it. And then we went home.\nIt was nice."
    assert not any(whole for _, whole in pieces(text))


def test_a_whole_unit_goes_where_less_than_half_is_wanted() -> None:
    found = cut('{"a": "one two three four", "b": 2}')
    (unit,) = found.units
    size = unit.last - unit.first
    few = [n < (size - 1) // 2 for n in range(size)]
    assert unit.whole and found.spans(few) == ((),)
    assert found.spans([n < (size + 1) // 2 for n in range(size)]) == (((unit.start, unit.end),),)


# -- what is protected -------------------------------------------------------------------------------------------

LOOSE = "so the man went to that place with a lot of friends of mine"
RULES = [
    # text, what of it must be protected
    ("he paid 310.50 euros for it", "310.50 euros"),
    ("it is 42 km from here", "42 km"),
    ("costs €12 or £3 there", "€12 £3"),
    ("about 20% of it", "20%"),
    ("she has three cats and a dozen birds", "three dozen"),
    ("he was twenty-one then", "twenty-one"),
    ("on 2023-05-07 we left", "2023-05-07"),
    ("see you on monday in may, at noon", "monday may noon"),
    ("we left yesterday, two weeks ago", "yesterday two weeks ago"),
    ("the invoice inv-2041 is open", "inv-2041"),
    ("write to anna.s+x@example.org today", "anna.s+x@example.org"),
    ("look at src/main.rs or my_var", "src/main.rs my_var"),
    ("call foo.bar on example.com please", "foo.bar example.com"),
    ("channel #general is loud", "#general"),
    ('she said "never ever again" to him', '"never ever again"'),
    ("she said “out of here” to him", "“out of here”"),
    ("er sagte „ohne uns alle“ zu ihm", "„ohne uns alle“"),
    ("il dit « pas du tout » hier", "« pas du tout »"),
    ("run `rm the thing` here", "`rm the thing`"),
    ("then we met Anna in Lisbon", "Anna Lisbon"),
    ("later Élodie met Ørsted", "Élodie Ørsted"),
    ("ben: we all went home", "ben:"),
    ("anna smith: we all went home", "anna smith:"),
    ("what is it all about?", "about?"),
    ("她吃素吗？ 好", "她吃素吗？"),
    ("he does not eat meat", "not eat"),
    ("he is not a doctor", "not a doctor"),
    ("she is no longer vegetarian", "no longer vegetarian"),
    ("he doesn't eat meat", "doesn't eat"),
    ("he doesn’t eat meat", "doesn’t eat"),
    ("i don't like it at all", "don't like"),
    ("she never eats fish", "never eats"),
    ("nobody came", "nobody came"),
    ("he left without paying", "without paying"),
    ("they can hardly swim", "hardly swim"),
    ("neither came nor wrote", "neither came nor wrote"),
    ("unless it rains", "unless"),
    ("she used to smoke but stopped", "used but stopped"),
    ("only if he pays before then", "only if before then"),
    ("more than that, or less", "more than less"),
    ("she refused and then failed", "refused failed"),
    ("maybe it will", "maybe"),
    ("ich esse kein fleisch", "kein fleisch"),
    ("ich bin nicht vegetarisch", "nicht vegetarisch"),
    ("er kam nie wieder", "nie wieder"),
    ("je ne mange pas", "ne mange pas"),
    ("elle ne sort jamais", "ne sort jamais"),
    ("ya no come carne", "no come"),
    ("nunca come carne", "nunca come"),
    ("non mangia mai", "non mangia mai"),
    ("ela não come carne", "não come"),
    ("ik eet geen vlees", "geen vlees"),
    ("она больше не живёт тут", "не живёт"),
    ("мы никогда там были", "никогда там"),
    ("هو لا يأكل", "لا يأكل"),
    ("لم أعد نباتيا", "لم أعد"),
    ("היא כבר לא גרה כאן", "לא גרה"),
    ("הוא בלי כסף", "בלי כסף"),
    # as people write without the apostrophe
    ("i dont eat meat", "dont eat"),
    ("she isnt coming", "isnt coming"),
    ("we cant come", "cant come"),
    ("it wont work and didnt", "wont work didnt"),
    ("don`t go there", "don`t go"),
    ("he isn´t a doctor", "isn´t a doctor"),
    # words for numbers have a unit too
    ("it cost three euros", "three euros"),
    # "no longer" in French and Italian
    ("elle n'est plus là", "n'est plus"),
]


@pytest.mark.parametrize(("text", "stays"), RULES, ids=[t for t, _ in RULES])
def test_each_rule_has_its_example(text: str, stays: str) -> None:
    found = protected(text)
    assert [w for w in re.findall(r"\S+?(?=:?(?:\s|$))", stays) if w not in found] == [], found


def test_plain_words_are_loose() -> None:
    assert protected(LOOSE) == []
    assert protected("It was such a lovely walk, so we talked.") == []


def test_the_users_words_stay() -> None:
    assert protected(LOOSE, "friends place") == ["place", "friends"]
    assert protected("so the half-friend's place", "friend") == ["half-friend's"]


def forget() -> None:
    for kept in (module._cut, module._word, module._protects, module._governs):
        kept.cache_clear()


@pytest.mark.parametrize("rule", ["_ID", "_QUOTED", "_LABEL"])
def test_without_a_pattern_its_examples_fail(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = {"_ID": "at foo_bar now", "_QUOTED": 'he said "in the end" so', "_LABEL": "ben: so we went"}
    before = protected(examples[rule])
    monkeypatch.setattr(module, rule, re.compile(r"(?!)"))
    forget()
    assert before and protected(examples[rule]) != before
    forget()


@pytest.mark.parametrize(
    ("rule", "text"),
    [("NEGATIONS", "never again"), ("KEEP", "unless so"), ("_TIMES", "by noon"), ("_NUMBERS", "the dozen")],
)
def test_without_a_list_its_example_fails(rule: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = protected(text)
    # KEEP holds the negations too, so that both go.
    for name in {rule, "KEEP"} if rule == "NEGATIONS" else {rule}:
        monkeypatch.setattr(module, name, frozenset())
    forget()
    assert before and protected(text) != before
    forget()


def test_what_a_negation_governs_ends_at_punctuation() -> None:
    assert protected("we did not, so we went") == ["not"]
    assert protected("is it not? so we went") == ["not?"]


def test_punctuation_goes_with_its_word() -> None:
    text = "we went home, and slept."
    found = cut(text)
    words = [text[s:e] for s, e in found.chunks]
    kept = [w in (",", "and", ".") for w in words]
    assert shown(text, found.spans(kept)[0]) == "and"
    kept = [w in ("home", ",") for w in words]
    assert shown(text, found.spans(kept)[0]) == "home,"


# -- within ------------------------------------------------------------------------------------------------------

COUNTERS: dict[str, Any] = {
    "approximate": approximate_counter(), "words": word_counter(), "pairs": PairCounter(), "merging": MergingCounter(),
}  # fmt: skip
small_texts = st.lists(
    st.sampled_from(["tea was good", "he is not a doctor", "Anna paid 3 euros.", '{"a": "b c", "d": 1}', "so on."]),
    min_size=0,
    max_size=3,
).map("\n".join)


@pytest.mark.parametrize("name", COUNTERS)
@settings(max_examples=40)
@given(several=st.lists(small_texts, min_size=1, max_size=2), max_tokens=st.integers(-1, 40), data=st.data())
def test_within_its_budget(name: str, several: list[str], max_tokens: int, data: st.DataObject) -> None:
    counter = COUNTERS[name]
    found = cutting(tuple(Part(t) for t in several))
    scores = [data.draw(st.integers(0, 4)) / 4 for _ in found.chunks]
    out = within(found, scores, max_tokens, counter)
    if out is not None:
        assert any(out) and shown_tokens(found.parts, out, counter) <= max_tokens
        assert out == within(found, np.array(scores), max_tokens, counter)


@settings(max_examples=80)
@given(text=small_texts, max_tokens=st.integers(0, 14), data=st.data())
def test_within_against_all_thresholds(text: str, max_tokens: int, data: st.DataObject) -> None:
    """Where cost grows with what is kept (words), it is the lowest threshold, and the fewest units that go."""
    counter = word_counter()
    found = cut(text)
    scores = [data.draw(st.integers(0, 3)) / 4 for _ in found.chunks]
    told = data.draw(st.permutations([float(n) for n in range(len(found.units))]))
    out = within(found, scores, max_tokens, counter, unit_scores=told)
    assert out == _oracle(found, scores, told, max_tokens)


def _oracle(found: Cutting, scores: list[float], told: list[float], max_tokens: int) -> tuple[Spans, ...] | None:
    ranked = sorted(range(len(found.units)), key=lambda n: told[n])
    levels = [*sorted(set(scores)), float("inf")]
    for gone, level in product(range(len(ranked)), levels):
        kept = [False] * len(scores)
        for n, unit in enumerate(found.units):
            if n in ranked[:gone]:
                continue
            inside = range(unit.first, unit.last)
            best = max(inside, key=lambda i: scores[i])
            for i in inside:
                kept[i] = scores[i] >= level or i == best
        spans = found.spans(kept)
        if shown_tokens(found.parts, spans, word_counter()) <= max_tokens:
            # The best chunk of a unit of code is less than half of it: then nothing is left.
            return spans if any(spans) and max_tokens >= 1 else None
    return None


# -- time --------------------------------------------------------------------------------------------------------

SIGNS = 40_000
LONG = {
    "words": "the man went home. ",
    "one word": "x",
    "quotes": 'say "a" ok ',
    "footnotes": "so it is [see 1]. ",
    "labels": "Ann: hello there\n",
    "open quotes": '"a ',
    "brackets": "[",
    "braces": '{"a": ',
    "fences": "```\n",
    "json": '{"n": 12345, "b": 2}\n',
    "negations": "not a ",
    "numbers": "1. ",
    "question": "?",
    "punctuation": "a,.;: ",
    "lines": "\n",
    "replies": "No. ",
    "chinese": "我昨天不再吃素了。",
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_text_is_cut(name: str) -> None:
    """Quadratic work on this would not end within the suite's time."""
    text = (LONG[name] * (SIGNS // len(LONG[name]) + 1))[:SIGNS]
    found = cut(text)
    forget()
    assert sum(e - s for s, e in found.chunks) == sum(1 for c in text if not c.isspace())


def test_quoted_strings_are_not_gone_through_for_each_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0

    class Watched(list[Any]):
        def __iter__(self) -> Any:
            nonlocal looked_at
            for item in super().__iter__():
                looked_at += 1
                yield item

    safe = module._safe_spans
    monkeypatch.setattr(module, "_safe_spans", lambda text: Watched(safe(text)))
    found = cut('say "so be it" again ' * 500)
    forget()
    assert sum(found.protected) == 1500 and looked_at <= 10 * len(found.chunks)
