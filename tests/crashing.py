"""A process that ends at a named point, as far as one can be played within this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agentmem import crashpoints


class Crash(BaseException):
    """Stands for the end of the process."""


@contextmanager
def crash_at(point: str, times: int = 1) -> Iterator[None]:
    """What is done within ends when it comes to the point for the so-manieth time, and has to come there."""
    seen = 0

    def hook(name: str) -> None:
        nonlocal seen
        seen += name == point
        if name == point and seen == times:
            raise Crash

    crashpoints.install(hook)
    try:
        with pytest.raises(Crash):
            yield
    finally:
        crashpoints.install(None)
