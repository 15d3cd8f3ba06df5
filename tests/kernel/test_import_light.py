"""Importing agentmem is quick because it loads nothing heavy, says nothing and makes nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "faiss",
    "transformers",
    "sentence_transformers",
    "tokenizers",
    "vllm",
    "numpy",
    "pydantic",
    "sqlite_utils",
    "typer",
    "rich",
    "prompt_toolkit",
    "dateutil",
    "filelock",
    "httpx",
    "agentmem.store",
    "agentmem.backends",
    "agentmem.compressors",
)


@pytest.mark.parametrize("line", ["import agentmem", "from agentmem import Agent, Memory", "import agentmem.contracts"])
def test_loads_nothing_heavy_says_nothing_makes_nothing(tmp_path: Path, line: str) -> None:
    code = f"{line}\nimport sys\nsys.exit(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", "\n"), "loaded: " + ran.stderr
    assert list(tmp_path.iterdir()) == []
    assert list(Path.home().iterdir()) == []


def test_the_probe_sees_a_heavy_module(tmp_path: Path) -> None:
    code = f"import numpy, sys\nsys.exit(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr == "numpy\n"
