"""One noun a file: none of the packages' files grows beyond 400 lines."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(p for d in ("agentmem", "backends", "compressors", "store") for p in (ROOT / d).glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_the_files_were_found() -> None:
    assert {"agentmem", "backends", "compressors", "store"} == {p.parent.name for p in FILES}
