from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from agentmem.backends.text_stream import TextStream


def decoded(ids: Sequence[int]) -> str:
    """Tokens that are bytes, as in a byte-level vocabulary."""
    return bytes(ids).decode("utf-8", "replace")


def pieces(ids: Sequence[int]) -> list[str]:
    stream = TextStream(decoded)
    return [*(stream.feed(i) for i in ids), stream.end()]


@given(st.text())
def test_a_text_comes_in_whole_characters(text: str) -> None:
    found = pieces(text.encode("utf-8", "replace"))
    assert "".join(found) == text.encode("utf-8", "replace").decode()
    if "\ufffd" not in text:
        assert all("\ufffd" not in p for p in found)
        # Each character is said with its last byte.
        assert [p for p in found if p] == list("".join(found))


@given(st.binary())
def test_any_bytes_join_to_what_they_decode_to_at_once(data: bytes) -> None:
    assert "".join(pieces(data)) == decoded(data)


def test_half_a_character_waits_and_is_told_at_the_end() -> None:
    assert pieces("é".encode()[:1]) == ["", "\ufffd"]
    assert pieces("aé".encode()) == ["a", "", "é", ""]


def test_a_token_may_depend_on_the_one_before() -> None:
    words = ["▁Hello", "▁there", "▁you"]

    def with_spaces(ids: Sequence[int]) -> str:
        return "".join(words[i] for i in ids).replace("▁", " ").removeprefix(" ")

    stream = TextStream(with_spaces)
    assert [*(stream.feed(i) for i in range(3)), stream.end()] == ["Hello", " there", " you", ""]
