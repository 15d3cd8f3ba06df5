"""The benchmarks' pictures: Matplotlib without a screen, colours of Okabe and Ito (told apart by the colour-blind).

Each line is labelled where it ends, and no axis is cut without saying so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.measures import Mean

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GAP = 0.045
"""Between two labels, as a share of the axis's height."""


def installed(say: Callable[[str], None]) -> bool:
    """Whether pictures can be drawn; says what to install where not, before the long part begins."""
    if find_spec("matplotlib") is None:
        say("no picture without Matplotlib: pip install 'agentmem[bench]'")
        return False
    return True


def _figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), dpi=160, layout="constrained")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


def _apart(heights: Sequence[float], gap: float) -> list[float]:
    """Where labels for these heights go so that none lies on another: moved as little as is simple."""
    order = sorted(range(len(heights)), key=lambda n: heights[n])
    placed = list(heights)
    for below, above in pairwise(order):
        placed[above] = max(placed[above], placed[below] + gap)
    # All of them down by the mean of what some were moved up.
    shift = sum(p - h for p, h in zip(placed, heights, strict=True)) / max(1, len(heights))
    return [p - shift for p in placed]


def pages(systems: Mapping[str, Mapping[str, Mean]], tokens: Sequence[int], path: Path, *, ours: str) -> None:
    """Evidence inside the page-in against its tokens, one line a system; the band of `ours` is its 95 % interval."""
    figure, axes = _figure(8.4, 5.2)
    ends: list[float] = []
    for n, (system, found) in enumerate(systems.items()):
        means = [found[f"page-in {t}"] for t in tokens]
        line = {"linewidth": 2.6 if system == ours else 1.5, "zorder": 4 if system == ours else 3}
        axes.plot(
            tokens, [m.mean for m in means], color=COLOURS[n], marker=MARKERS[n], markersize=5, clip_on=False, **line
        )
        if system == ours:
            low, high = [m.low for m in means], [m.high for m in means]
            axes.fill_between(tokens, low, high, color=COLOURS[n], alpha=0.15, linewidth=0)
        ends.append(means[-1].mean)
    axes.set_xscale("log", base=2)
    axes.set_xlim(tokens[0] * 0.93, tokens[-1] * 1.05)
    axes.set_ylim(0, 100)
    for n, (system, end, at) in enumerate(zip(systems, ends, _apart(ends, 100 * GAP), strict=True)):
        axes.annotate(
            f"{system}  {end:.1f}", (tokens[-1], end), (tokens[-1] * 1.12, at), color=COLOURS[n], va="center",
            fontsize=9.5, fontweight="bold" if system == ours else "normal", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": COLOURS[n], "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
    axes.set_xticks(list(tokens), [f"{t:,}" for t in tokens])
    axes.minorticks_off()
    axes.set_xlabel("tokens of the page-in (logarithmic)")
    axes.set_ylabel("questions with all their evidence inside (%)")
    count = next(iter(systems[ours].values())).count
    axes.set_title(f"LoCoMo: {count} answerable questions, no language model", loc="left", fontsize=11)
    _save(figure, path)


def dots(systems: Mapping[str, Mapping[str, Mean]], measures: Mapping[str, str], path: Path, *, ours: str) -> None:
    """One column a measure (its label given), one dot a system with its 95 % interval."""
    figure, axes = _figure(9.2, 5.0)
    lowest, total = 100.0, len(systems)
    for n, (system, found) in enumerate(systems.items()):
        xs = [k + 0.62 * ((n + 0.5) / total - 0.5) for k in range(len(measures))]
        means = [found[m] for m in measures]
        ys = [m.mean for m in means]
        errors = [[m.mean - m.low for m in means], [m.high - m.mean for m in means]]
        bold = system == ours
        axes.errorbar(
            xs, ys, yerr=errors, fmt=MARKERS[n], color=COLOURS[n], markersize=8 if bold else 6, label=system,
            elinewidth=1.8 if bold else 1.0, capsize=0, zorder=4 if bold else 3, clip_on=False,
        )  # fmt: skip
        for x, y in zip(xs, ys, strict=True):
            if bold:
                axes.annotate(f"{y:.0f}", (x, y), (-7, 0), textcoords="offset points", ha="right", va="center",
                              fontsize=9, fontweight="bold", color=COLOURS[n])  # fmt: skip
        lowest = min(lowest, *(m.low for m in means))
    axes.set_xticks(range(len(measures)), list(measures.values()))
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.55, len(measures) - 0.45)
    axes.set_ylim(0, 101)
    axes.set_ylabel("questions with all their evidence found (%)")
    figure.legend(loc="outside lower center", ncols=total, frameon=False, fontsize=9)
    count = next(iter(systems[ours].values())).count
    axes.set_title(f"LongMemEval-S: {count} answerable questions, no language model; bars: 95 % intervals", loc="left",
                   fontsize=11)  # fmt: skip
    _save(figure, path)


def evidence_kept(
    systems: Mapping[str, Mapping[str, Mean]],
    tokens: Sequence[int],
    path: Path,
    *,
    title: str,
    goal: tuple[int, int],
    reference: str = "none",
) -> None:
    """Evidence kept against the page-in's tokens, in the page and in the gold turns: a line and band a compressor, the
    reference in grey. `goal`: the dashed line carries what the reference reaches at the first to the second."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(12.4, 5.0), dpi=160, layout="constrained", sharey=True)
    lowest = min(found[f"{m}@{t}"].low for found in systems.values() for m in ("page", "turns") for t in tokens)
    floor = max(0, 10 * int(lowest // 10) - 10)
    colours = {s: COLOURS[n % len(COLOURS)] for n, s in enumerate(s for s in systems if s != reference)}
    for axes, (measure, name) in zip(both, (("page", "in the page"), ("turns", "in the gold turns")), strict=True):
        ends = [found[f"{measure}@{tokens[-1]}"].mean for found in systems.values()]
        for n, (system, found) in enumerate(systems.items()):
            means = [found[f"{measure}@{t}"] for t in tokens]
            colour = colours.get(system, "#777777")
            axes.plot(tokens, [m.mean for m in means], color=colour, marker=MARKERS[n % len(MARKERS)], markersize=5,
                      linewidth=1.8 if system == reference else 2.4, clip_on=False, zorder=4)  # fmt: skip
            axes.fill_between(tokens, [m.low for m in means], [m.high for m in means], color=colour, alpha=0.13,
                              linewidth=0)  # fmt: skip
        for (system, _), end, at in zip(systems.items(), ends, _apart(ends, (100 - floor) * GAP), strict=True):
            colour = colours.get(system, "#777777")
            axes.annotate(
                f"{_short_spec(system)}  {end:.1f}", (tokens[-1], end), (tokens[-1] * 1.1, at), color=colour,
                va="center", fontsize=9.5, annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
            )  # fmt: skip
        dashed = ""
        if reference in systems:
            level = systems[reference][f"{measure}@{goal[0]}"].mean
            axes.plot(goal[::-1], [level, level], color="#555555", linewidth=1.2, linestyle="--", zorder=3)
            dashed = f" (dashed: {reference} at {goal[0]:,}, {level:.1f})"
        axes.set_xscale("log", base=2)
        axes.set_xlim(tokens[0] * 0.93, tokens[-1] * 1.05)
        axes.set_ylim(floor, 100)
        axes.set_xticks(list(tokens), [f"{t:,}" for t in tokens])
        axes.minorticks_off()
        axes.grid(axis="y", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.set_xlabel("tokens of the page-in (logarithmic)")
        axes.set_title(f"answer tokens {name}{dashed}", loc="left", fontsize=11)
    both[0].set_ylabel("questions whose answer tokens are kept (%)" + (f", from {floor}" if floor else ""))
    count = next(iter(next(iter(systems.values())).values())).count
    figure.suptitle(f"{title}: {count} questions; bands: 95 % intervals", x=0.01, ha="left", fontsize=11)
    _save(figure, path)


def _short_spec(spec: str) -> str:
    """A compressor's spec without its folders."""
    kind, _, target = spec.partition(":")
    return f"{kind}:{Path(target.partition('?')[0]).name}" if target else kind
