"""The order of these tests."""

from __future__ import annotations

import pytest

TOGETHER = ("test_embedders.py", "test_minilm.py", "test_rerankers.py")
"""They load the same packages, which takes seconds: side by side, so that one worker runs them all."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = next((n for n, item in enumerate(items) if item.path.parent.name == "backends"), 0)
    # A stable order: the rest stays as it is.
    items[first:] = sorted(items[first:], key=lambda item: item.path.name not in TOGETHER)
