"""Processes of their own without the second that a start costs: forked from one that has imported what they need.

`Forked(code, *args)` runs Python in a process whose streams, environment, folder and end are its own; it is killed,
signalled and waited for like any other. What a test says of a fresh interpreter (what it imports, how the command is
found) needs `subprocess`. Nothing of torch is imported beforehand, and no module of agentmem that itself imports numpy
or FAISS, so that a child can still hide them.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PRELOADED = (
    "numpy", "faiss", "filelock", "prompt_toolkit.shortcuts", "rich.console", "rich.markdown", "rich.progress",
    "rich.table", "agentmem.agent", "agentmem.archive_file", "agentmem.cli", "agentmem.config", "agentmem.environment",
    "agentmem.erasing", "agentmem.indexing", "agentmem.ingesting", "agentmem.inspecting", "agentmem.memory",
    "agentmem.replay", "agentmem.repl", "agentmem.repl_reflect", "agentmem.retrieval", "agentmem.screen",
    "agentmem.reflection.consolidate", "agentmem.reflection.orders", "agentmem.reflection.series",
    "agentmem.backends.extractive", "agentmem.backends.hashing_embedder", "agentmem.backends.minilm",
    "agentmem.compressors.extractive", "agentmem.store.sqlite",
)  # fmt: skip
_HEADER = struct.Struct("!Q")


@functools.cache
def _server() -> tuple[socket.socket, threading.Lock, subprocess.Popen[bytes]]:
    """The socket to this process's server of forks, which ends when this process does."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
        stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours, threading.Lock(), process


class Forked:
    """A process that runs `code` with `sys.argv[1:]` as given.

    Its streams are pipes of text (`stdin`, `stdout`, `stderr`), or all the one `terminal`, whose session it then leads.
    """

    def __init__(
        self, code: str, *args: object, env: Mapping[str, str] | None = None, cwd: Path | None = None,
        terminal: int | None = None,
    ) -> None:  # fmt: skip
        job = {
            "code": code, "args": [str(a) for a in args], "env": dict(os.environ if env is None else env),
            "cwd": str(cwd or Path.cwd()), "leads": terminal is not None,
        }  # fmt: skip
        data = json.dumps(job).encode()
        self._status, status = os.pipe()
        self.returncode: int | None = None
        if terminal is None:
            (read_in, write_in), (read_out, write_out), (read_err, write_err) = os.pipe(), os.pipe(), os.pipe()
            theirs = [read_in, write_out, write_err]
            self.stdin = os.fdopen(write_in, "w", encoding="utf-8", errors="surrogateescape")
            self.stdout = os.fdopen(read_out, encoding="utf-8", errors="surrogateescape")
            self.stderr = os.fdopen(read_err, encoding="utf-8", errors="surrogateescape")
        else:
            theirs = [os.dup(terminal) for _ in range(3)]
        server, lock, _ = _server()
        with lock:
            socket.send_fds(server, [_HEADER.pack(len(data))], [*theirs, status])
            server.sendall(data)
        for fd in (*theirs, status):
            os.close(fd)
        self.pid = int(self._said())

    def _said(self) -> str:
        """The next line of what its keeper says: its number, then how it ended."""
        line = b""
        while not line.endswith(b"\n"):
            piece = os.read(self._status, 1)
            assert piece, "the server of forks has ended"
            line += piece
        return line.decode()

    def poll(self) -> int | None:
        """The exit code, or minus the signal that killed it; None while it runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._said())
            os.close(self._status)
        return self.returncode

    def wait(self, timeout: float = 120) -> int:
        """The same, once it has ended."""
        if self.returncode is None:
            ready, _, _ = select.select([self._status], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired("forked", timeout)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Nothing once it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Kill it if it runs, and close its streams."""
        self.kill()
        self.wait()
        for stream in (self.stdin, self.stdout, self.stderr):
            with suppress(BrokenPipeError):
                stream.close()

    def communicate(self, said: str = "", timeout: float = 120) -> tuple[str, str]:
        """Say this, close its input, and wait for its end: what stood on its output and error output."""
        errors: list[str] = []
        threads = [
            threading.Thread(target=lambda: errors.append(self.stderr.read())),
            threading.Thread(target=self._say, args=(said,)),
        ]
        watch = threading.Timer(timeout, self.kill)
        for thread in (*threads, watch):
            thread.daemon = True
            thread.start()
        out = self.stdout.read()
        for thread in threads:
            thread.join()
        self.wait(timeout)
        watch.cancel()
        self.stdout.close()
        self.stderr.close()
        return out, errors[0]

    def _say(self, said: str) -> None:
        with suppress(BrokenPipeError):
            self.stdin.write(said)
        with suppress(BrokenPipeError):
            self.stdin.close()


def _receive(server: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next job and its file descriptors; None at the end."""
    header, fds, _, _ = socket.recv_fds(server, _HEADER.size, 4)
    if not header:
        return None
    (size,) = _HEADER.unpack(header)
    data = b""
    while len(data) < size:
        data += server.recv(size - len(data))
    return json.loads(data), fds


def _keep(fds: list[int], pid: int) -> None:
    """Say the number of the process, wait for it, say how it ended, and end."""
    for fd in fds[:3]:
        os.close(fd)
    os.write(fds[3], f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):  # nobody may wait for it
        os.write(fds[3], f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(job: dict[str, Any], fds: list[int]) -> None:
    """Make this process the one that the job asks for."""
    if job["leads"]:
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(fds[0], termios.TIOCSCTTY, 0)
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    for fd in fds:
        os.close(fd)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=stream is sys.stderr or os.isatty(1))  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(job["env"])
    time.tzset()
    os.chdir(job["cwd"])
    sys.path[0] = ""
    sys.argv[:] = ["agentmem", *job["args"]]


def _serve(server: socket.socket) -> str | None:
    """Fork for each job; in the fork, return its code to be run. None at the end."""
    while (received := _receive(server)) is not None:
        job, fds = received
        keeper = os.fork()
        if keeper == 0:
            server.close()
            # Forked twice, so that each process has one that waits for it while the server goes on.
            pid = os.fork()
            if pid == 0:
                _become(job, fds)
                return str(job["code"])
            _keep(fds, pid)
        for fd in fds:
            os.close(fd)
        # The keepers of processes that have ended.
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break
    return None


def _import() -> None:
    """What the commands need: a fork has it already."""
    for name in PRELOADED:
        importlib.import_module(name)
    import typer.main

    from agentmem.cli_options import app

    # The parser of the commands takes longer to make than most of them to run, and as long to be used first.
    typer.main.get_command = functools.cache(typer.main.get_command)
    with redirect_stdout(io.StringIO()):
        typer.main.get_command(app).main(["--version"], "agentmem", standalone_mode=False)


if __name__ == "__main__":
    _import()
    # With threads a fork would not be whole.
    assert threading.active_count() == 1
    gc.freeze()
    todo = _serve(socket.socket(fileno=int(sys.argv[1])))
    if todo is not None:
        # At the top, so that it ends as any program does: by its last line, an exception, a signal, `sys.exit`.
        exec(compile(todo, "<forked>", "exec"), {"__name__": "__main__"})
