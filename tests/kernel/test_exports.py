"""The names at the front door: sorted, there, and explained."""

from __future__ import annotations

import inspect

import pytest

import agentmem


def test_all_is_sorted_and_whole() -> None:
    assert agentmem.__all__ == sorted(agentmem.__all__)
    assert len(set(agentmem.__all__)) == len(agentmem.__all__)
    assert set(agentmem.__all__) == set(agentmem._HOMES)
    assert set(agentmem.__all__) <= set(dir(agentmem))
    assert not set(dir(agentmem)) - {*agentmem.__all__, "__version__"}


@pytest.mark.parametrize("name", agentmem.__all__)
def test_every_name_resolves_and_is_explained(name: str) -> None:
    found = getattr(agentmem, name)
    assert found.__name__ == name
    assert found.__module__ == f"agentmem.{agentmem._HOMES[name]}"
    assert found.__doc__ and inspect.getdoc(found) and not found.__doc__.startswith(f"{name}("), (
        "a docstring of its own"
    )
    for method, value in vars(found).items():
        if not method.startswith("_") and inspect.isfunction(value):
            assert value.__doc__, f"{name}.{method} has no docstring"


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        agentmem.Nothing  # noqa: B018
    with pytest.raises(ImportError):
        from agentmem import Nothing  # type: ignore[attr-defined]  # noqa: F401
