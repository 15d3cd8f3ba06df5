"""What the documents say is so: one version, the README's program runs, commands are named, links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer

import agentmem
from agentmem.cli import COMMANDS, app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert project == agentmem.__version__ == newest.group(1)


def test_the_readme_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert program is not None
    monkeypatch.chdir(tmp_path)
    # The hashing embedder stands in: the README's words must not depend on which embedder is there.
    text = program.group(1).replace('agent="anna")', 'agent="anna", embedder="hash")')
    exec(compile(text, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    promised = re.search(r"print\(reply\.text\)\s+# (.+)", program.group(1))
    assert promised is not None and printed[0] == promised.group(1)
    assert printed[1].startswith("D1:3 ")


def test_every_command_is_in_the_readme_and_has_an_example() -> None:
    assert COMMANDS
    group = typer.main.get_command(app)
    names = list(group.commands)  # type: ignore[attr-defined]
    assert len(names) >= 15
    for name in names:
        assert re.search(rf"agentmem [^\n]*\b{re.escape(name)}\b", README), f"{name} is not in the README"
        assert "Example: agentmem" in (group.commands[name].epilog or "")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(p.name for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page if (ROOT / page).exists() else ROOT / "docs" / page
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page} links to {target}"


def test_decisions_are_short_and_say_what_they_cost() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert len(pages) >= 5
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 60, page.name
        assert "- Bad:" in text, page.name


def test_every_module_has_its_line_in_the_layer_map() -> None:
    named = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    patterns = re.findall(r"`(?:agentmem/)?([a-z_*]+)\.py`", named)
    for path in (ROOT / "agentmem").glob("*.py"):
        if path.stem == "__init__":
            continue
        assert any(re.fullmatch(p.replace("*", ".*"), path.stem) for p in patterns), f"{path.name} is not in the map"
