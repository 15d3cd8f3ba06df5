"""What every benchmark prints first and last: the machine, the versions, and its results as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "agentmem", "numpy", "sqlite-utils", "pydantic", "faiss-cpu", "faiss-gpu-cu12", "torch", "transformers",
    "matplotlib",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Cores, processor, load, Python and the packages that matter."""
    versions: dict[str, str] = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": cores,
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": versions,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have; the first line of the module's text is the description."""
    made = argparse.ArgumentParser(description=(doc or "").split("\n\n")[0], prog=f"python -m {_module()}")
    made.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    made.add_argument("--seed", type=int, default=0, help="of everything drawn (0)")
    return made


def _module() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else "benchmarks"


def say(options: argparse.Namespace, text: str) -> None:
    """A line of progress, on standard error, so that standard output holds results alone."""
    print(text, file=sys.stderr, flush=True)


def show(
    options: argparse.Namespace, rows: Sequence[Mapping[str, Any]], *, note: str = "", **more: Any
) -> dict[str, Any]:
    """Print one table; the document that `--json` prints has its rows as `rows`."""
    document = {"machine": describe(), "rows": [dict(r) for r in rows], **more, "note": note}
    _print(options, document, {"": rows})
    return document


def show_tables(
    options: argparse.Namespace, tables: Mapping[str, Sequence[Mapping[str, Any]]], *, note: str = "", **more: Any
) -> dict[str, Any]:
    """Print several tables, each under its title; the document has them as `tables`."""
    kept = {title: [dict(r) for r in rows] for title, rows in tables.items()}
    document = {"machine": describe(), "tables": kept, **more, "note": note}
    _print(options, document, tables)
    return document


def _print(
    options: argparse.Namespace, document: Mapping[str, Any], tables: Mapping[str, Sequence[Mapping[str, Any]]]
) -> None:
    if options.json:
        print(json.dumps(document, ensure_ascii=False))
        return
    machine = document["machine"]
    print(f"{machine['cores']} cores, {machine['processor']}, load {machine['load']}, {machine['system']}")
    print(f"Python {machine['python']}, " + ", ".join(f"{n} {v}" for n, v in machine["packages"].items()))
    for title, rows in tables.items():
        print(f"\n{title}\n" if title else "")
        columns = list(dict.fromkeys(c for r in rows for c in r))
        cells = [columns, *([_cell(r.get(c, "")) for c in columns] for r in rows)]
        widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
        for row in cells:
            shown = [c.ljust(w) if n == 0 else c.rjust(w) for n, (c, w) in enumerate(zip(row, widths, strict=True))]
            print("  ".join(shown).rstrip())
    if note := document.get("note"):
        print(f"\n{note}")


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
