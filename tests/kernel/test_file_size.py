"""One noun a file: none of the packages' files grows beyond 400 lines."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(p for d in ("agentmem", "backends", "compressors", "store") for p in (ROOT / d).glob("*.py"))


def test_at_most_400_lines() -> None:
    lines = {f"{p.parent.name}/{p.name}": len(p.read_text(encoding="utf-8").splitlines()) for p in FILES}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_the_files_were_found() -> None:
    assert {"agentmem", "backends", "compressors", "store"} == {p.parent.name for p in FILES}
