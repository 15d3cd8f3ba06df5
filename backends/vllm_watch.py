"""Ends the engine's processes when the program that started them is gone, however it went: vLLM's do not notice.

This file is also the watcher's whole program: run as a script, with process ids, it waits on its standard input.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

_DONE = b"done"
_GRACE_S = 10.0


class Watch:
    """A small process beside this one; when its pipe closes without a word, it ends the processes `pids`."""

    def __init__(self, pids: Sequence[int]) -> None:
        # In a session of its own, so that what is sent to this one's group does not reach it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *map(str, pids)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def end(self) -> None:
        """The processes have ended in order: stop watching. May be called twice."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # it has ended already
                self._process.stdin.write(_DONE)
                self._process.stdin.close()
        self._process.wait()


def _started(pid: int) -> str:
    """When a process started, in the kernel's count; "" when there is none. A pid alone may come to name another."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def main(pids: Sequence[int]) -> None:
    """Wait for the end of the input, and end the processes unless it said that all is done."""
    known = {pid: _started(pid) for pid in pids}
    if sys.stdin.buffer.read() == _DONE:
        return
    for sent in (signal.SIGTERM, signal.SIGKILL):
        ends = time.monotonic() + _GRACE_S
        for pid, started in known.items():
            if started and _started(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sent)
        while time.monotonic() < ends and any(s and _started(p) == s for p, s in known.items()):
            time.sleep(0.1)


if __name__ == "__main__":
    main([int(a) for a in sys.argv[1:]])
