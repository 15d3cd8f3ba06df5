"""Named points at which the tests kill the process: the moments between two durable states.

Nothing happens at them in normal use; a test's child process installs a hook.
"""

from __future__ import annotations

from collections.abc import Callable

_hook: Callable[[str], None] | None = None


def install(hook: Callable[[str], None] | None) -> None:
    """Call `hook(name)` at every crash point from now on; None takes it away."""
    global _hook
    _hook = hook


def crash_point(name: str) -> None:
    """Mark a moment."""
    if _hook is not None:
        _hook(name)
