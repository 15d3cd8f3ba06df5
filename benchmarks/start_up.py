"""How long `from agentmem import Agent, Memory` and `agentmem --help` take in fresh processes, and what they load.

The time of the import is measured inside the fresh interpreter, that of the command around the whole process. Goals:
0.2 s without any of torch, faiss, transformers, vllm; 0.5 s.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import machine

HEAVY = (
    "torch", "faiss", "transformers", "sentence_transformers", "vllm", "numpy", "pydantic", "sqlite_utils", "httpx",
    "rich", "typer", "prompt_toolkit",
)  # fmt: skip
FORBIDDEN = ("torch", "faiss", "transformers", "sentence_transformers", "vllm")
IMPORT = f"""
import json, sys, time
start = time.perf_counter()
from agentmem import Agent, Memory
seconds = time.perf_counter() - start
print(json.dumps([seconds, [m for m in {HEAVY!r} if m in sys.modules]]))
"""
NOTHING = "pass"


def main() -> None:
    """Measure, interleaved, and print."""
    parser = machine.parser(__doc__)
    parser.add_argument("--runs", type=int, default=15, help="fresh processes of each kind (15)")
    options = parser.parse_args()
    imports: list[float] = []
    helps: list[float] = []
    bare: list[float] = []
    loaded: set[str] = set()
    command = [str(Path(sys.executable).with_name("agentmem")), "--help"]
    if not os.access(command[0], os.X_OK):
        command = [sys.executable, "-m", "agentmem.cli", "--help"]
    # The first of each fills the file cache and the compiled modules.
    for run in range(options.runs + 1):
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        seconds, modules = json.loads(done.stdout)
        loaded.update(modules)
        helped = _timed(command)
        empty = _timed([sys.executable, "-c", NOTHING])
        if run > 0:
            imports.append(seconds)
            helps.append(helped)
            bare.append(empty)
    rows = [
        _row("from agentmem import Agent, Memory", imports, 0.2),
        _row("agentmem --help (whole process)", helps, 0.5),
        _row("an empty Python process", bare, None),
    ]
    listed = ", ".join(sorted(loaded)) or "none"
    heavy = sorted(loaded & set(FORBIDDEN))
    machine.show(
        options, rows, note=f"modules of others that the import loads, of those watched: {listed}",
        loaded=sorted(loaded), heavy=heavy, runs=options.runs,
    )  # fmt: skip
    if heavy:
        sys.exit(f"the import loads {', '.join(heavy)}")


def _timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def _row(name: str, seconds: list[float], goal: float | None) -> dict[str, object]:
    median = statistics.median(seconds)
    met = "" if goal is None else ("yes" if median <= goal else "NO")
    return {
        "what": name, "median s": median, "min s": min(seconds), "max s": max(seconds), "goal s": goal or "",
        "met": met,
    }  # fmt: skip


if __name__ == "__main__":
    main()
