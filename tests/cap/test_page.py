"""The page of a CAP report: whole, sound HTML that loads nothing, and in which a user's words stay words."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from agentmem.cap_markup import SECTION_COLOURS, esc, place
from agentmem.cap_page import page, write_page
from agentmem.types import SECTIONS
from tests.cap.sample_report import NAMES, sample

VOID = {"meta", "br", "img", "hr"}
PICTURE = b"\x89PNG\r\n\x1a\nnot quite"


class Reader(HTMLParser):
    """Tags in order, with their attributes, and the text; fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[list[str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("th", "td"):
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "th" in self.open or "td" in self.open:
            self.cells[-1][-1] += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize("model", [False, True])
def test_every_rung_stands_in_every_table(model: bool) -> None:
    report = sample(model=model)
    html = page(report, PICTURE)
    reader = read(html)
    tables = sum(tag == "table" for tag, _ in reader.tags)
    assert tables == 5
    for name in NAMES:
        assert sum(c[0] == name for c in reader.cells) == tables
    widths = {len(c) for c in reader.cells}
    assert all(w > 1 for w in widths)
    assert html.count('class="track"') == 3 * len(NAMES)
    assert ("No language model ran" in reader.text) == (not model)
    assert ("judge accepts wrong answers" in reader.text) == model
    assert ("first token" in reader.text.split("The picture")[0]) == model


def test_the_figures_are_the_reports() -> None:
    report = sample(model=True, names=["agentmem"])
    cells = [c for c in read(page(report)).cells if c[0] == "agentmem"]
    sections, context, accuracy, categories, performance = cells
    assert sections[1:] == ["210", "40", "96", "300", "690", "30"]
    assert context[1:] == [
        "1,470", "45,570", "1,366p95 1,421", "–", "78.0 %73.5 to 82.5 %, n 320", "74.0 %69.2 to 78.8 %, n 320",
    ]  # fmt: skip
    assert accuracy[1].startswith("42.0 %") and accuracy[-1].startswith("6.0 %") and len(accuracy) == 8
    assert [c.split(" ")[0] for c in categories[1:]] == ["42.0", "21.0", "33.6"]
    assert performance[1:4] == ["0.90 msp95 2.2 ms", "7.2 msp95 13 ms", "1.1 msp95 1.7 ms"]
    assert performance[5:] == ["58.0", "1.00", "1,387", "71 %"]


def test_nothing_is_loaded_and_nothing_runs() -> None:
    html = page(sample(), PICTURE)
    assert "http" not in html.replace("http-equiv", "")
    reader = read(html)
    assert not {t for t, _ in reader.tags} & {"script", "link", "iframe", "object", "embed", "base", "form", "svg"}
    for tag, attributes in reader.tags:
        assert not any(name.startswith("on") or name in ("href", "srcset", "action") for name in attributes)
        if "src" in attributes:
            assert tag == "img"
            assert attributes["src"] == f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    assert not re.search(r"@import|url\(|expression\(|javascript:", html)
    policy = next(a["content"] for t, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'")
    assert "prefers-color-scheme: dark" in html and 'name="viewport"' in html


NASTY = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;"


def nasty(value: Any) -> Any:
    """The same report with something nasty in each of its texts, and in the names of what is named by users."""
    if isinstance(value, str):
        return value + NASTY
    if isinstance(value, list):
        return [nasty(v) for v in value]
    if isinstance(value, dict):
        return {k: nasty(v) for k, v in value.items()}
    return value


def test_a_users_words_are_no_markup() -> None:
    report = nasty(sample(model=True, names=["BM25", "agentmem"]))
    for rung in report["rungs"]:
        rung["C"]["sections"][f"extra{NASTY}"] = 12.0
        rung["A"]["by_category"] = {f"{k}{NASTY}": v for k, v in rung["A"]["by_category"].items()}
    report["packages"] = {NASTY: NASTY}
    reader = read(page(report))
    assert not {t for t, _ in reader.tags} & {"script", "img"}
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    assert f"BM25{NASTY}" in {c[0] for c in reader.cells}
    for text in (f"CAP report: locomo{NASTY}", f"12 evidence keys are not in the data{NASTY}", f"extra{NASTY}"):
        assert text in reader.text


def test_the_notes_and_limits_are_said() -> None:
    report = sample(names=["BM25"])
    report["embedder"], report["counter"] = None, {"name": "approximate", "exact": False}
    text = read(page(report)).text
    assert "12 evidence keys are not in the data" in text
    assert "no language model ran, and there is no time to a first token" in text
    assert "Tokens are estimated (approximate)" in text
    assert "searched by words alone" in text
    assert "x86_64, 2 cores, Linux" in text and "numpy 2.4.6" in text and "ab" * 32 in text


def test_what_was_not_measured_is_a_dash() -> None:
    report = sample(names=["no memory"])
    rung = report["rungs"][0]
    rung["A"]["f1"] = rung["C"]["evidence_tokens"] = {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 0}
    rung["A"]["by_category"] = {}
    html = page(report)
    context, accuracy, performance = [c for c in read(html).cells if c[0] == "no memory"][1:]
    assert context[5] == accuracy[1] == accuracy[4] == performance[4] == performance[8] == "–"
    assert html.count('class="track"') == 1


def test_an_interval_without_width_is_no_certainty() -> None:
    warning = "An interval without width"
    report = sample(names=["BM25"])
    assert warning not in read(page(report)).text
    report["rungs"][0]["A"]["abstention_recall"] = {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 5}
    assert warning in read(page(report)).text


def test_a_backend_that_quotes_has_no_first_token() -> None:
    report = sample(names=["BM25"]) | {"rungs": sample(model=True, names=["BM25"])["rungs"]}
    html = page(report)
    performance = [c for c in read(html).cells if c[0] == "BM25"][-1]
    assert performance[4:6] == ["–", "–"] and 'class="first"' not in html


def test_an_empty_ladder_is_still_a_page() -> None:
    assert "CAP report" in read(page(sample(names=[]))).text


def test_the_curve_of_positions_is_shown_when_measured() -> None:
    points = [{"depth": d, "correct": 9, "n": 10, "share": 0.9, "low": 0.6, "high": 0.98} for d in (0.0, 0.5, 1.0)]
    advice = {"order": "best-first", "reason": "it reads the <start> better", "significant": True}
    report = sample(names=["BM25"]) | {"position": {"points": points, "recommendation": advice}}
    text = read(page(report)).text
    assert "at 50 %90 %n 10" in text and "page-ins: best-first; it reads the <start> better." in text


def test_the_file_is_written_with_its_picture(tmp_path: Path) -> None:
    (tmp_path / "cap.png").write_bytes(PICTURE)
    report = sample(names=["BM25"])
    report["rungs"][0]["name"] = "half \ud83d 記憶 🙂"
    write_page(report, tmp_path / "cap.html", picture=tmp_path / "cap.png")
    html = (tmp_path / "cap.html").read_text(encoding="utf-8")
    assert "記憶 🙂" in html and html.count("data:image/png") == 1
    assert html == page(report, PICTURE).encode("utf-8", "xmlcharrefreplace").decode()
    with pytest.raises(OSError, match="missing"):
        write_page(report, tmp_path / "other.html", picture=tmp_path / "missing.png")
    assert not (tmp_path / "other.html").exists()


def test_every_section_has_its_colour() -> None:
    assert set(SECTION_COLOURS) == set(SECTIONS)
    assert len(set(SECTION_COLOURS.values())) == len(SECTIONS)


def test_escaping_and_places() -> None:
    assert esc("<a href='x'>\"&") == "&lt;a href=&#x27;x&#x27;&gt;&quot;&amp;"
    assert [place(s) for s in (-1, 0.256, 2)] == ["0.00%", "25.60%", "100.00%"]
