"""Messages from outside: what can be stored is taken as it is, the rest is refused by the field's name."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmem.drafts import MAX_LABEL_CHARS, check, from_line, from_mapping
from agentmem.errors import InvalidInputError
from agentmem.types import Draft


def test_a_whole_line() -> None:
    line = '{"id": "D1:3", "session": "1", "role": "user", "name": "Ann", "x": 1,'
    line += ' "content": " hi\\u0000", "at": "2023-05-08"}'
    assert from_line(line) == Draft("user", " hi\0", "Ann", datetime(2023, 5, 8), "D1:3", "1")
    assert from_mapping({"role": "assistant", "content": "x"}) == Draft("assistant", "x")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"content": "x"}, "role"),
        ({"role": "user"}, "content"),
        ({"role": "robot", "content": "x"}, "role"),
        ({"role": 5, "content": "x"}, "role"),
        ({"role": "user", "content": None}, "content"),
        ({"role": "user", "content": ["x"]}, "content"),
        ({"role": "user", "content": " \n"}, "content"),
        ({"role": "user", "content": "a\ud83d"}, "content"),
        ({"role": "user", "content": "x", "id": ""}, "id"),
        ({"role": "user", "content": "x", "id": 7}, "id"),
        ({"role": "user", "content": "x", "id": "a\nb"}, "id"),
        ({"role": "user", "content": "x", "id": "k" * (MAX_LABEL_CHARS + 1)}, "id"),
        ({"role": "user", "content": "x", "name": "\udc00"}, "name"),
        ({"role": "user", "content": "x", "session": "\t"}, "session"),
        ({"role": "user", "content": "x", "at": "soon"}, "at"),
        ({"role": "user", "content": "x", "at": 1683547200}, "at"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError) as e:
        from_mapping(values)
    assert e.value.field == field and len(str(e.value)) < 400


@pytest.mark.parametrize("line", ["", "x", "[]", "5", '"x"', "null", "[" * 200_000, '{"role": "user"', "NaN"])
def test_what_is_no_line(line: str) -> None:
    with pytest.raises(InvalidInputError) as e:
        from_line(line)
    assert e.value.field == "line"


@given(text=st.text(max_size=50))
def test_any_text_is_taken_or_refused(text: str) -> None:
    try:
        draft = from_line(json.dumps({"role": "user", "content": text}))
    except InvalidInputError as e:
        assert e.field == "content" and (not text.strip() or any("\ud800" <= c <= "\udfff" for c in text))
    else:
        assert draft.content == text and check(draft) is draft
        draft.content.encode()


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda i: (
            st.lists(i, max_size=2) | st.dictionaries(st.sampled_from(["role", "content", "id", "at"]), i, max_size=4)
        ),
        max_leaves=6,
    )
)
def test_any_json_is_taken_or_refused(value: Any) -> None:
    try:
        from_line(json.dumps(value))
    except InvalidInputError:
        pass
