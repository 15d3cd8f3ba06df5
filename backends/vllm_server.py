"""A vLLM server as a child process: started, waited for, stopped with all that it started."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from agentmem.backends.vllm_command import ServePlan
from agentmem.errors import BackendError, BackendTimeoutError, ConfigError

_POLL_S = 0.25
_STOP_S = 15.0
# On Linux the kernel stops the server when this process dies, however it dies (PR_SET_PDEATHSIG is 1).
_BOUND = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execv(sys.argv[1], sys.argv[1:])"
_TAIL_LINES, _TAIL_CHARS = 12, 4000
# What the log says -> what is wrong, and what to do.
_CAUSES = (
    (r"address already in use", "the port is taken", "give another --port"),
    (
        r"out of memory|Cannot allocate memory|less than desired (?:CPU|GPU) memory|No available memory for the cache"
        r"|larger than the available KV cache memory|MemoryError|oom-kill",
        "out of memory",
        "lower --window, or give -- --gpu-memory-utilization 0.5 (or --kv-cache-memory-bytes N)",
    ),
    (
        r"max_model_len.{0,80}greater than the derived|User-specified max_model_len",
        "the window is larger than the model's own",
        "lower --window",
    ),
    (
        r"invalid tool call parser|tool.call.parser.{0,40}(?:invalid|not found)|KeyError: 'invalid tool",
        "this vLLM has no such tool parser",
        "see vLLM's documentation of --tool-call-parser for the names",
    ),
    (r"unrecognized arguments?: (.*)", "this vLLM does not know a flag", "see --dry-run for the command line"),
    (
        r"Repository Not Found|is not a local folder|Can't load|offline mode|LocalEntryNotFound|Invalid repository ID",
        "the model's files can't be had",
        "give a folder with the model, or a name of the hub when there is a network",
    ),
    (r"chat template", "the model has no usable chat template", "give one: -- --chat-template FILE"),
)


class VllmServer:
    """The process of a `ServePlan`. Its log goes to `log`. Signals that stop this process stop the server first."""

    def __init__(self, plan: ServePlan, log: Path) -> None:
        self.plan = plan
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The server's process id; None before the start."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it. Raises ConfigError when the address can't be taken."""
        _check_free(self.plan.host, self.plan.port)
        command = self.plan.command
        if sys.platform == "linux":
            command = (sys.executable, "-c", _BOUND, *command)
        with self.log.open("wb") as out:
            # A session of its own: its engine processes can then be stopped with it, all at once.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.plan.environment},
                start_new_session=True,
            )

    def wait_ready(self, timeout_s: float, tell: Callable[[float, str], None]) -> None:
        """Wait until it answers; `tell` is called with the seconds waited and the log's last line.

        Raises BackendError with the log's end when it stops instead, BackendTimeoutError after `timeout_s`, and
        KeyboardInterrupt when it was stopped by a signal.
        """
        began = time.monotonic()
        while True:
            if self._code() is not None:
                raise KeyboardInterrupt if self._stopping else self._failure()
            if _answers(f"{self.plan.root}/health"):
                return
            waited = time.monotonic() - began
            if waited > timeout_s:
                raise BackendTimeoutError(
                    f"vLLM was not ready after {timeout_s:.0f} s; the end of {self.log}:\n{self.tail()}",
                    hint="give it more --timeout; a large model takes minutes to load",
                )
            tell(waited, self.tail(1))
            time.sleep(_POLL_S)

    def wait(self) -> int:
        """Wait until it stops; its exit code, as a shell gives it. Ctrl-C and SIGTERM are passed on to it."""
        assert self._process is not None
        return _as_shell(self._process.wait())

    def forward_signals(self) -> None:
        """From now on Ctrl-C and SIGTERM stop the server (a second one at once), and the wait for it ends."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._signal(signal.SIGKILL if self._stopping else number)
            self._stopping = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)

    def stop(self) -> None:
        """Stop it and every process it started. May be called twice."""
        if self._process is None:
            return
        if self._code() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                pass
        self._signal(signal.SIGKILL)  # what is left of its session, the engine's processes first of all
        self._process.wait()

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """The last lines of the log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_CHARS * (1 + lines // 8)))
                text = log.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])

    def _code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    def _signal(self, number: int) -> None:
        assert self._process is not None
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def _failure(self) -> BackendError:
        text = self.log.read_text(encoding="utf-8", errors="replace")
        code = self._code() or 0
        cause, hint = "", "see the log"
        for pattern, what, remedy in _CAUSES:
            if re.search(pattern, text, re.I):
                cause, hint = f": {what}", remedy
                break
        else:
            if code == -signal.SIGKILL:
                cause, hint = ": it was killed, mostly for want of memory", _CAUSES[1][2]
        return BackendError(
            f"vLLM did not start{cause} (exit code {_as_shell(code)}); the end of {self.log}:\n{self.tail()}", hint=hint
        )


def free_port(host: str) -> int:
    """A port that nobody listens on now. Raises ConfigError for a host that is none of this machine's."""
    return _check_free(host, 0)


def _check_free(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            return int(listener.getsockname()[1])
    except (OSError, OverflowError) as e:
        taken = isinstance(e, OSError) and e.errno in (98, 48, 10048)  # EADDRINUSE of Linux, macOS, Windows
        problem = "is taken by another server" if taken else f"can't be listened on at {host}: {e}"
        raise ConfigError("port", port, problem, hint="give another --port (0: any that is free)") from e


def _answers(url: str) -> bool:
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=2) as reply:  # a proxy can't reach this machine's servers
            return bool(reply.status == 200)
    except (URLError, OSError, ValueError):
        return False


def _as_shell(code: int) -> int:
    return 128 - code if code < 0 else code
