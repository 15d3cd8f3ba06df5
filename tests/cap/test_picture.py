"""The picture of the three axes is drawn of any report, and shows the report's figures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from agentmem import cap_picture
from agentmem.cap_axes import (
    FLOOR_MS,
    first_token_ms,
    is_ours,
    log_range,
    milliseconds,
    percent,
    prepare_ms,
    wait_range,
)
from agentmem.cap_picture import draw
from agentmem.errors import MissingExtraError
from tests.cap.sample_report import RUNGS, sample

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All texts that Matplotlib is given to draw."""
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    texts: list[str] = []
    annotate, text, labels = Axes.annotate, Figure.text, Axes.set_yticklabels

    def noted_annotate(self: Any, said: str, *args: Any, **kwargs: Any) -> Any:
        texts.append(said)
        return annotate(self, said, *args, **kwargs)

    def noted_text(self: Any, x: float, y: float, said: str, **kwargs: Any) -> Any:
        texts.append(said)
        return text(self, x, y, said, **kwargs)

    def noted_labels(self: Any, said: list[str], **kwargs: Any) -> Any:
        texts.extend(said)
        return labels(self, said, **kwargs)

    monkeypatch.setattr(Axes, "annotate", noted_annotate)
    monkeypatch.setattr(Figure, "text", noted_text)
    monkeypatch.setattr(Axes, "set_yticklabels", noted_labels)
    return texts


def test_every_rung_and_its_figures_are_in_it(tmp_path: Path, drawn: list[str]) -> None:
    report = sample(model=True, names=["no memory", "BM25", "agentmem"])
    # Users' words are text and not mathematics, whatever stands in them.
    report["rungs"][0]["name"] = "\\frac{$x^ 記憶\n\t$"
    report["data"]["name"] = "$\\alpha{ \U0001f600" * 20
    draw(report, tmp_path / "cap.png")
    assert (tmp_path / "cap.png").read_bytes().startswith(PNG)
    assert {"\\frac{$x^ 記憶 $", "BM25", "agentmem"} <= set(drawn)
    for r in report["rungs"]:
        assert percent(r["C"]["evidence_tokens"]["mean"]) in drawn
        assert f"{100 * r['A']['f1']['mean']:.1f} %" in drawn
        assert milliseconds(prepare_ms(r, "p50")) in drawn
    assert any("Example-8B" in t for t in drawn) and any("first token" in t for t in drawn)
    assert max(len(t) for t in drawn) <= 200


def test_it_says_that_no_model_ran(tmp_path: Path, drawn: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_: None)
    report = sample(names=["BM25"])
    report["rungs"][0]["A"]["f1"] = {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 0}
    draw(report, tmp_path / "cap.png")
    assert "–" in drawn and "0.0 %" not in drawn, "what was not measured is not 0"
    assert "no language model ran: answers are quoted" in drawn
    assert not any("first token" in t for t in drawn)


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"agentmem\[bench\]"):
        draw(sample(), tmp_path / "cap.png")
    assert list(tmp_path.iterdir()) == []


def test_what_is_ours() -> None:
    assert [r[0] for r in RUNGS if is_ours(r[0])] == ["agentmem", "+ compression", "+ reflection"]


def test_long_names_are_cut() -> None:
    assert cap_picture._plain("a  b\nc", 10) == "a b c"
    assert cap_picture._plain("x" * 30, 10) == "xxxxxxx..."


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.0, 8.0], (FLOOR_MS, 10.0)), ([], (1.0, 100.0)), ([3.0], (1.0, 100.0)), ([0.5, 20_000.0], (0.1, 100_000.0))],
)
def test_the_axis_holds_all_times(values: list[float], expected: tuple[float, float]) -> None:
    assert log_range(values) == pytest.approx(expected)


def test_the_first_token_is_a_models() -> None:
    quoted, served = sample(names=["agentmem"]), sample(model=True, names=["agentmem"])
    assert wait_range(quoted)[1] == 100 and wait_range(served)[1] == 1000
    # A backend that quotes streams too, and has no first token worth the name.
    quoted["rungs"] = served["rungs"]
    assert first_token_ms(quoted, served["rungs"][0]) is None and wait_range(quoted)[1] == 100
    served["rungs"][0]["P"]["first_token_ms_p95"] = None
    assert first_token_ms(served, served["rungs"][0]) == pytest.approx((153.8, 153.8), abs=0.1)


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, "0 %"), (1.0, "100 %"), (0.004, "0.4 %"), (0.996, "99.6 %"), (0.745, "74 %")]
)
def test_percent_rounds_nothing_away(share: float, said: str) -> None:
    assert percent(share) == said


def test_milliseconds() -> None:
    assert [milliseconds(v) for v in (0, 1e-3, 0.0512, 7.31, 120.4, 2100)] == [
        "0 ms",
        "<0.01 ms",
        "0.05 ms",
        "7.3 ms",
        "120 ms",
        "2.1 s",
    ]
