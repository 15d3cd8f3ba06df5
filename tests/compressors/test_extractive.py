"""The default compressor: the laws of all, its forms too, and what it chooses."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.compression import Compressed, CompressionRequest, Part, fault, shown, shown_tokens
from agentmem.compressor_contract import CODE, JSON, ODD, STORY, TEXTS
from agentmem.compressors.extractive import ExtractiveCompressor
from agentmem.cutting import cutting
from agentmem.errors import ConfigError
from agentmem.protocols import Compressor, OffersForms
from agentmem.testing import CompressorContract
from agentmem.tokens import approximate_counter
from tests.compressors.laws import GeneratedLaws, texts
from tests.counters import MergingCounter, PairCounter, word_counter

COUNTERS: dict[str, Any] = {"words": word_counter(), "pairs": PairCounter(), "merging": MergingCounter()}


class TestLaws(GeneratedLaws):
    @pytest.fixture
    def compressor(self) -> ExtractiveCompressor:
        return ExtractiveCompressor()


class _Few(GeneratedLaws):
    examples = 15

    def long_words(self) -> int:
        return 2000


class TestWholeSentences(_Few):
    @pytest.fixture
    def compressor(self) -> ExtractiveCompressor:
        return ExtractiveCompressor("words=false")


class TestKeptWords(_Few):
    def keep(self) -> frozenset[str]:
        return frozenset({"well", "lovely", "and"})

    @pytest.fixture
    def compressor(self) -> ExtractiveCompressor:
        return ExtractiveCompressor("keep=Well, lovely ", keep=("and",))


class TestNotAdditive(_Few):
    def counter(self) -> Any:
        return COUNTERS["pairs"]

    @pytest.fixture
    def compressor(self) -> ExtractiveCompressor:
        return ExtractiveCompressor()


# -- forms -------------------------------------------------------------------------------------------------------


def lawful(compressor: ExtractiveCompressor, part: Part, query: str, counter: Any) -> list[Compressed]:
    """The forms of a part, each of which is a lawful result of its own tokens; the longest first."""
    (forms,) = compressor.forms([part], query, counter)
    laws = CompressorContract()
    for form in forms:
        request = CompressionRequest((part,), form.num_tokens, counter, query)
        assert fault(request, form) == "", fault(request, form)
        assert form.num_tokens >= shown_tokens(request.parts, form.parts, counter)
        assert 0.0 <= form.worth <= 1.0
        laws.law_protected(request.parts, form.parts)
    assert all(a.num_tokens >= b.num_tokens and a.worth >= b.worth for a, b in pairwise(forms))
    return forms


def test_it_offers_forms() -> None:
    compressor: Compressor = ExtractiveCompressor()
    assert isinstance(compressor, OffersForms)
    assert compressor.forms([], "x", word_counter()) == []


@pytest.mark.parametrize("query", ["", "Where does Anna live?"])
@pytest.mark.parametrize("text", TEXTS)
def test_forms_are_lawful(text: str, query: str) -> None:
    for counter in (approximate_counter(), *COUNTERS.values()):
        lawful(ExtractiveCompressor(), Part(text), query, counter)


@pytest.mark.parametrize("name", ["approximate", "words"])
@settings(max_examples=60)
@given(text=texts(), query=st.sampled_from(["", "Where does Anna live?"]), worth=st.sampled_from([0.0, 1e-9, 1.0]))
def test_forms_of_any_text(name: str, text: str, query: str, worth: float) -> None:
    counter = approximate_counter() if name == "approximate" else word_counter()
    lawful(ExtractiveCompressor(), Part(text, worth), query, counter)


@settings(max_examples=40)
@given(text=texts(), name=st.sampled_from(sorted(COUNTERS)))
def test_forms_where_tokens_do_not_add_up(text: str, name: str) -> None:
    lawful(ExtractiveCompressor(), Part(text), "Where is Anna?", COUNTERS[name])


# -- what it chooses ---------------------------------------------------------------------------------------------

TWO = "We talked about the weather all day. The new flat of Anna is in Lisbon by the river."


def best(text: str, query: str, target: int, *, sentences: Any = (), **options: Any) -> str:
    part = Part(text, 1.0, sentences)
    (found,) = ExtractiveCompressor(**options).compress([CompressionRequest((part,), target, word_counter(), query)])
    assert found is not None
    return shown(text, found.parts[0])


def test_the_sentence_that_is_asked_for_stays() -> None:
    assert "Lisbon" in best(TWO, "Where is the flat of Anna?", 8)
    assert "weather" in best(TWO, "How was the weather?", 6)


def test_the_archives_cosines_count() -> None:
    text = "We saw a castle by the sea today. We saw a planet by the moon today."
    first, second = ((s, e) for s, e, *_ in ((u.start, u.end) for u in cutting((Part(text),)).units))
    for near, word in ((first, "castle"), (second, "planet")):
        known = tuple((*span, 0.9 if span == near else 0.0) for span in (first, second))
        assert word in best(text, "What did you visit?", 6, sentences=known)


def test_a_part_of_more_worth_stays() -> None:
    parts = (Part("We saw a castle by the sea today.", 0.1), Part("We saw a planet by the moon today.", 1.0))
    (found,) = ExtractiveCompressor().compress([CompressionRequest(parts, 6, word_counter(), "What?")])
    assert found is not None and found.parts[0] == () and found.parts[1]


def test_function_words_go_first() -> None:
    told = best("So then we all went to the old castle and it was just very windy there.", "", 10)
    assert {"castle", "windy", "old", "went"} <= set(told.split()) and not {"the", "to", "was"} & set(told.split())
    assert best(TWO, "flat of Anna", 10, words=False) in TWO


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("Well, I am really no longer vegetarian, you know, it was just too hard for me.", "no longer vegetarian"),
        ("So I do not really eat the meat any more, you know, it was just too hard.", "not really eat"),
        ("Well, I dont really eat meat any more, you know, it was such a long time ago.", "dont really eat"),
        ("So yeah, we cant really come to the party, it is just too far for us all.", "cant really come"),
        ("He didnt like the film at all, so then we just went home by the old bus.", "didnt like"),
        ("Oh well, he is not going to be at the party, so it is just us and them then.", "not going"),
        ("So it was 310 euros for the two of us, and that was just for the one night.", "310 euros"),
        ("So then we just put in .5 kg of it, and that was it for all of us then.", ".5 kg"),
        ("Yes, if it does not rain then we will all be there, so just let us know.", "if"),
        ("Ben: so yes, I will be there by the evening, and then we will all just eat.", "Ben:"),
        ('And he said "so be it then" to all of us, and that was just it for the day.', '"so be it then"'),
    ],
)
def test_no_form_and_no_target_turns_it_round(text: str, stays: str) -> None:
    compressor, counter = ExtractiveCompressor(), word_counter()
    told = [shown(text, f.parts[0]) for f in compressor.forms([Part(text)], "", counter)[0]]
    for target in range(1, counter.count(text)):
        (found,) = compressor.compress([CompressionRequest((Part(text),), target, counter)])
        told += [shown(text, found.parts[0])] if found is not None else []
    assert told and all(stays in t for t in told), [t for t in told if stays not in t]


@pytest.mark.parametrize("text", [CODE, JSON])
def test_code_and_json_are_whole_or_out(text: str) -> None:
    (block,) = [u for u in cutting((Part(text),)).units if u.whole]
    whole, counter = text[block.start : block.end], word_counter()
    seen = set()
    for target in range(1, counter.count(text)):
        (found,) = ExtractiveCompressor().compress([CompressionRequest((Part(text),), target, counter)])
        if found is not None:
            told = shown(text, found.parts[0])
            seen.add(whole in told)
            assert whole in told or not any(len(w) > 4 and w in told for w in set(whole.split()) - set(JSON.split()))
    assert seen


@pytest.mark.parametrize("text", ODD[:2])
def test_other_languages_lose_whole_sentences_alone(text: str) -> None:
    said = [text[u.start : u.end] for u in cutting((Part(text),)).units]
    for form in ExtractiveCompressor().forms([Part(text)], "", approximate_counter())[0]:
        told = shown(text, form.parts[0])
        kept = [s for s in said if s in told]
        assert kept and sum(len("".join(s.split())) for s in kept) == len("".join(told.split()))


def test_a_record_that_was_seen_costs_the_same_again() -> None:
    """What is kept by text is kept by counter too."""
    compressor = ExtractiveCompressor()
    for counter in (word_counter(), approximate_counter(), COUNTERS["pairs"], word_counter()):
        target = counter.count(STORY) // 2
        (found,) = compressor.compress([CompressionRequest((Part(STORY),), target, counter)])
        assert found is not None and found.num_tokens == counter.count(shown(STORY, found.parts[0])) <= target
        assert [found] == ExtractiveCompressor().compress([CompressionRequest((Part(STORY),), target, counter)])


@pytest.mark.parametrize("options", ["x=1", "words", "keep=", "words=true&words=false"])
def test_options_that_are_none(options: str) -> None:
    with pytest.raises(ConfigError):
        ExtractiveCompressor(options)
