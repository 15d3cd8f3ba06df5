"""Text and offsets from token strings, against texts that were cut at random bytes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agentmem.backends.token_text import token_text
from tests.backends.fake_openai import SIGNS

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def cut(data: bytes, ends: set[int]) -> list[bytes]:
    marks = [0, *sorted(e for e in ends if 0 < e < len(data)), len(data)]
    return [data[a:b] for a, b in pairwise(marks) if b > a]


def character_at(text: str, offset: int) -> int:
    """The character that the byte at an offset belongs to."""
    at = 0
    for n, c in enumerate(text):
        at += len(c.encode("utf-8"))
        if offset < at:
            return n
    raise AssertionError


@given(TEXTS, st.sets(st.integers(1, 240)))
def test_byte_level_tokens_give_the_text_and_where_each_begins(text: str, ends: set[int]) -> None:
    text = f" {text}\n"  # every prompt has one of them; neither can stand for itself
    pieces = cut(text.encode("utf-8"), ends)
    got, starts = token_text(["".join(SIGNS[b] for b in p) for p in pieces])
    assert got == text
    offset, expected = 0, []
    for piece in pieces:
        expected.append(character_at(text, offset))
        offset += len(piece)
    assert list(starts) == expected


def test_special_tokens_of_a_byte_level_vocabulary_stand_for_themselves() -> None:
    got, starts = token_text(["<|im_start|>", "user", "\u010a", "<\uff5cend\uff5c>", "Zo\u00c3\u00ab", "\u0120x"])
    assert got == "<|im_start|>user\n<\uff5cend\uff5c>Zo\u00eb x"
    assert starts == (0, 12, 16, 17, 24, 27)


def test_sentencepiece_tokens() -> None:
    got, starts = token_text(["<s>", "\u2581\u010desk\u00fd", "<0x0A>", "<0xE6>", "<0x9D>", "<0xB1>", "\u2581\u2581x"])
    assert got == "<s> \u010desk\u00fd\n\u6771  x"
    assert starts == (0, 3, 9, 10, 10, 10, 11)


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert token_text(["\u0120", SIGNS[0xE6] + SIGNS[0x9D]])[0] == " \ufffd"
    assert token_text([]) == ("", ())
