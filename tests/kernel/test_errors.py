"""The errors are one tree, the one that is drawn at the head of the module."""

from __future__ import annotations

import inspect
import re

import pytest

from agentmem import errors
from agentmem.errors import AgentMemError, ConfigError, InvalidInputError, UnknownNameError, shown

_LINE = re.compile(r"^(?P<bars>(?:[|`] {2}|\|- |`- | {3})*)(?P<name>\w+Error)(?: \((?P<builtin>\w+)\))?")


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """Each name with its parent and the builtin in brackets."""
    found: dict[str, tuple[str | None, str | None]] = {}
    way: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if not (m := _LINE.match(line)):
            continue
        depth = len(m["bars"]) // 3
        del way[depth:]
        found[m["name"]] = (way[-1] if way else None, m["builtin"])
        way.append(m["name"])
    return found


def real() -> dict[str, tuple[str | None, str | None]]:
    found = {}
    for name, cls in vars(errors).items():
        if inspect.isclass(cls) and issubclass(cls, BaseException) and cls.__module__ == errors.__name__:
            ours = [b.__name__ for b in cls.__bases__ if b.__module__ == errors.__name__]
            others = [b.__name__ for b in cls.__bases__ if b.__module__ != errors.__name__ and b is not Exception]
            found[name] = (ours[0] if ours else None, others[0] if others else None)
            assert len(ours) <= 1 and len(others) <= 1
    return found


def test_the_drawing_is_the_tree() -> None:
    assert drawn() == real()
    assert len(real()) > 20


def test_every_error_is_explained() -> None:
    for name in real():
        assert vars(errors)[name].__doc__, name


def test_a_text_with_its_hint() -> None:
    error = ConfigError("top_k", 0, "must be at least 1", hint="give 1")
    assert str(error) == "top_k=0: must be at least 1\n  hint: give 1"
    assert (error.field, error.value, error.hint, error.message) == (
        "top_k",
        0,
        "give 1",
        "top_k=0: must be at least 1",
    )
    assert str(AgentMemError("plain")) == "plain"
    with pytest.raises(ValueError):
        raise InvalidInputError("at", "x", "is not a time")
    with pytest.raises(LookupError):
        raise UnknownNameError("agent", "b", ["a"])


def test_values_in_texts_are_short() -> None:
    assert len(shown("x" * 1000)) == 60
    assert "x" * 200 not in str(InvalidInputError("content", "x" * 10_000, "is too long"))


def test_retryable() -> None:
    flags = {n: vars(errors)[n].retryable for n, (parent, _) in real().items() if parent == "BackendError"}
    assert flags == {
        "BackendUnavailableError": True, "BackendTimeoutError": True, "RateLimitedError": True,
        "BadRequestError": False, "BadCompletionError": False,
    }  # fmt: skip
