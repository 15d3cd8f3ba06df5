"""The CAP report's picture: a row a rung, a column an axis, each a dot with its interval beside its numbers.

Three columns that share their rows, and no single figure made of three axes: what is good at one and bad at another is
to be seen, not averaged away. Needs Matplotlib (the extra `bench`); no screen.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentmem.cap_axes import (
    A_SAYS,
    A_TITLE,
    C_SAYS,
    C_TITLE,
    FLOOR_MS,
    MODEL,
    OURS,
    P_SAYS,
    P_TITLE,
    first_token_ms,
    is_ours,
    milliseconds,
    percent,
    prepare_ms,
    wait_range,
)
from agentmem.errors import MissingExtraError

BASELINE = "#595959"
FAINT = "#6b6b6b"
NAME_CHARS = 18
TITLE_CHARS = 100


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a report (the JSON of `agentmem cap`) as PNG, or what the path's ending says.

    Raises MissingExtraError without Matplotlib, OSError when the file can't be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise MissingExtraError("a picture of the CAP report", "bench", "matplotlib") from e

    rungs = list(report["rungs"])
    figure = Figure(figsize=(13, 2.5 + 0.42 * len(rungs)), dpi=160, facecolor="white")
    height = figure.get_figheight()
    top, bottom = 1 - 1.4 / height, 0.85 / height
    boxes = ((0.13, 0.17), (0.46, 0.17), (0.71, 0.155))
    axes = [figure.add_axes((left, bottom, width, top - bottom)) for left, width in boxes]
    rows = range(len(rungs))
    for ax in axes:
        _frame(ax, len(rungs))
    axes[0].set_yticks(list(rows))
    axes[0].set_yticklabels([_plain(r["name"], NAME_CHARS) for r in rungs], parse_math=False, fontsize=10.5)
    for label, r in zip(axes[0].get_yticklabels(), rungs, strict=True):
        label.set(color=OURS if is_ours(r["name"]) else "black", weight="bold" if is_ours(r["name"]) else "normal")
    _shares(axes[0], [r["C"]["evidence_tokens"] for r in rungs], rungs)
    _shares(axes[1], [r["A"]["f1"] for r in rungs], rungs)
    _times(axes[2], report)
    _heading(axes[0], "C", C_TITLE, C_SAYS, ("in prompt", "prompt tokens"))
    _heading(axes[1], "A", A_TITLE, A_SAYS, ("F1",))
    _heading(axes[2], "P", P_TITLE, P_SAYS, ("median", "tokens a turn"))
    for row, r in enumerate(rungs):
        look = {"color": OURS if is_ours(r["name"]) else "black", "weight": "bold" if is_ours(r["name"]) else "normal"}
        there, f1 = r["C"]["evidence_tokens"], r["A"]["f1"]
        _number(axes[0], row, 0, percent(there["mean"]) if there["n"] else "–", look)
        _number(axes[0], row, 1, f"{r['C']['prompt_tokens_mean']:,.0f}", look)
        _number(axes[1], row, 0, f"{100 * f1['mean']:.1f} %" if f1["n"] else "–", look)
        _number(axes[2], row, 0, milliseconds(prepare_ms(r, "p50")), look)
        _number(axes[2], row, 1, f"{r['P']['tokens_per_turn']:,.0f}", look)
    _words(figure, report, height)
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the page has it as it is.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(path)


def _plain(text: object, most: int) -> str:
    """A name on one line, cut where it is long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _frame(ax: Any, rows: int) -> None:
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.set_ylim(rows - 0.5, -0.5)
    ax.set_yticks(list(range(rows)), [""] * rows)
    ax.tick_params(axis="y", length=0, pad=9)
    ax.tick_params(axis="x", labelsize=9, colors=FAINT)
    ax.grid(axis="x", color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)
    for row in range(0, rows, 2):
        ax.axhspan(row - 0.5, row + 0.5, color="#f4f6f8", zorder=0, linewidth=0)


def _shares(ax: Any, found: Sequence[Mapping[str, float]], rungs: Sequence[Mapping[str, Any]]) -> None:
    """Dots of shares with their 95 % intervals; the axis is whole, 0 to 100."""
    for row, (interval, rung) in enumerate(zip(found, rungs, strict=True)):
        if not interval["n"]:
            continue
        ours = is_ours(rung["name"])
        colour = OURS if ours else BASELINE
        low, high = 100 * interval["low"], 100 * interval["high"]
        ax.plot([low, high], [row, row], color=colour, linewidth=2.6, alpha=0.5, solid_capstyle="butt", zorder=3)
        _dot(ax, 100 * interval["mean"], row, colour, ours)
    ax.set_xlim(0, 100)
    ax.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100 %"])


def _times(ax: Any, report: Mapping[str, Any]) -> None:
    """Dots of medians with a line to p95; a triangle where a model's first token came."""
    low, high = wait_range(report)
    for row, rung in enumerate(report["rungs"]):
        ours = is_ours(rung["name"])
        colour = OURS if ours else BASELINE
        middle, late = (max(prepare_ms(rung, w), FLOOR_MS) for w in ("p50", "p95"))
        ax.plot([middle, late], [row, row], color=colour, linewidth=2.6, alpha=0.5, solid_capstyle="butt", zorder=3)
        _dot(ax, middle, row, colour, ours)
        if first := first_token_ms(report, rung):
            ax.plot(first, [row, row], color=MODEL, linewidth=1.4, alpha=0.7, zorder=3)
            ax.plot(first[:1], [row], "^", color=MODEL, markersize=6.5, zorder=4, clip_on=False)
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ax.minorticks_off()
    ticks = [10.0**n for n in range(-2, 7) if low <= 10.0**n <= high]
    ax.set_xticks(ticks, [f"{t:g}" if t < 1000 else f"{t / 1000:g} s" for t in ticks])


def _dot(ax: Any, x: float, row: int, colour: str, ours: bool) -> None:
    size = 7.0 if ours else 5.5
    ax.plot([x], [row], "o" if ours else "s", color=colour, markersize=size, zorder=5, clip_on=False)


def _heading(ax: Any, letter: str, title: str, says: str, columns: Sequence[str]) -> None:
    ax.annotate(f"{letter}  {title}", (0, 1), (0, 36), xycoords="axes fraction", textcoords="offset points",
                fontsize=12.5, weight="bold", annotation_clip=False)  # fmt: skip
    ax.annotate(says, (0, 1), (0, 22), xycoords="axes fraction", textcoords="offset points", fontsize=8.5,
                color=FAINT, annotation_clip=False)  # fmt: skip
    for n, column in enumerate(columns):
        ax.annotate(column, (1, 1), (_column(n), 6), xycoords="axes fraction", textcoords="offset points",
                    fontsize=8, color=FAINT, ha="right", annotation_clip=False)  # fmt: skip


def _column(n: int) -> float:
    """How far right of the axes, in points, the numbers of column n end."""
    return (54.0, 118.0)[n]


def _number(ax: Any, row: int, column: int, text: str, look: Mapping[str, Any]) -> None:
    ax.annotate(text, (1, row), (_column(column), 0), xycoords=("axes fraction", "data"), va="center", ha="right",
                textcoords="offset points", fontsize=10, annotation_clip=False, **look)  # fmt: skip


def _words(figure: Any, report: Mapping[str, Any], height: float) -> None:
    """What was measured above, how to read it below."""
    data, backend = report["data"], report["backend"]
    answered = data["questions"] - data["unanswerable"]
    title = (
        f"{data['name']}: {data['questions']:,} questions ({answered:,} answerable) on {data['messages']:,} messages, "
        f"window {report['window_tokens']:,} tokens"
    )
    who = _plain(backend["describe"], TITLE_CHARS) if backend["model"] else "no language model ran: answers are quoted"
    figure.text(0.012, 1 - 0.32 / height, _plain(title, TITLE_CHARS), fontsize=12, va="center", parse_math=False)
    figure.text(0.012, 1 - 0.57 / height, who, fontsize=9.5, va="center", color=FAINT, parse_math=False)
    how = "lines: 95 % intervals (C, A), median to p95 (P).  Blue dots: agentmem; grey squares: baselines."
    if any(first_token_ms(report, r) for r in report["rungs"]):
        how += "  Orange triangles: the model's first token, median to p95."
    figure.text(0.012, 0.24 / height, how, fontsize=8.5, va="center", color=FAINT)
