"""What other processes are told to run: a strategy that ends its own process, a backend that answers for ever."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from agentmem.reflection import View
from agentmem.reflection.strategy import Steps
from agentmem.scripted import ScriptedBackend
from agentmem.types import Completion, Request
from tests.reflection.toys import Notes, noted


class Lethal(Notes):
    """Notes, whose process is killed after the first window of `agent`, as long as `folder` has fewer than `times`
    marks of it."""

    name = "lethal"

    def __init__(self, folder: str, agent: str, times: int = 1) -> None:
        self._marks, self._agent, self._times = Path(folder), agent, times

    def run(self, view: View) -> Steps:
        sent, steps = None, super().run(view)
        while True:
            try:
                step = steps.send(sent)
            except StopIteration:
                return
            sent = yield step
            before = len(list(self._marks.iterdir()))
            if view.agent == self._agent and before < self._times:
                (self._marks / str(before)).touch()
                os.kill(os.getpid(), signal.SIGKILL)


class Slow(Notes):
    """Marks that it has begun, and goes on for a minute."""

    name = "slow"

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def run(self, view: View) -> Steps:
        Path(self._mark).write_text(str(os.getpid()))
        time.sleep(60)
        yield from super().run(view)


class Echo(ScriptedBackend):
    """Says of each window what it read. With a file named in ECHO_LOG it notes each batch's size there."""

    def __init__(self) -> None:
        super().__init__([noted] * 9999)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        with Path(os.environ.get("ECHO_LOG", os.devnull)).open("a") as f:
            f.write(f"{len(requests)}\n")
        return super().generate(requests)


class Unmade:
    """No backend: it can't be made."""

    def __init__(self) -> None:
        from agentmem.errors import BackendUnavailableError

        raise BackendUnavailableError("nobody is there", hint="start the server")
