"""A real vLLM server for a benchmark: one that runs already, or one that is started here on a tiny random model."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine

START_S = 300


@dataclass(frozen=True)
class Server:
    """`url` ends in /v1; `tokenizer` is a folder, or "auto" where only the server knows it."""

    url: str
    model: str
    tokenizer: str
    what: str
    pid: int | None = None

    def worked_s(self) -> float:
        """Processor seconds of the server and the processes that it started; 0.0 where that can't be known."""
        return _worked_s(self.pid) if self.pid is not None else 0.0


@contextmanager
def serve(options: argparse.Namespace) -> Iterator[Server]:
    """The server of `options.url`, else one that `options.python` runs for the time of the block."""
    if options.url:
        url, _, model = options.url.removeprefix("openai:").partition("#")
        url = url.rstrip("/")
        yield Server(url, model or _first_model(url), options.tokenizer or "auto", url)
        return
    from agentmem.backends.vllm_command import plan
    from agentmem.backends.vllm_server import VllmServer, free_port
    from tests.models import tiny

    with tempfile.TemporaryDirectory() as folder:
        model = tiny.random_model(tiny.folder(Path(folder)) / "random8k")
        extra = ("--dtype", "float32", "--enforce-eager", "--max-num-seqs", str(options.concurrent),
                 "--kv-cache-memory-bytes", str(2**30), "--disable-uvicorn-access-log")  # fmt: skip
        made = plan(str(model), port=free_port("127.0.0.1"), name="tiny", extra=extra, on_cpu=True,
                    python=options.python or sys.executable)  # fmt: skip
        made.environment["OMP_NUM_THREADS"] = "1"  # type: ignore[index]
        server = VllmServer(made, Path(folder) / "server.log")
        machine.say(options, "vLLM starts ...")
        try:
            server.start()
            server.wait_ready(START_S, lambda seconds, line: None)
            what = "vLLM on this machine's processor, tiny random Llama"
            yield Server(f"{made.root}/v1", "tiny", str(model), what, server.pid)
        finally:
            server.stop()


def _worked_s(pid: int) -> float:
    """Of a process and those below it, from /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task").glob("*/children")
        below = [int(child) for path in children for child in path.read_text().split()]
    except OSError:  # no /proc, or it has just ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(map(_worked_s, below))


def _first_model(url: str) -> str:
    import httpx

    return str(httpx.get(f"{url}/models", trust_env=False).raise_for_status().json()["data"][0]["id"])
