"""What the two retrieval benchmarks share at their ends: options, tables of means with intervals, verdicts, files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.measures import Mean

Means = Mapping[str, Mapping[str, Mapping[str, Mean]]]
"""Group of questions, system, measure."""


def add_options(parser: argparse.ArgumentParser, data: str) -> None:
    """The options of a retrieval benchmark."""
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--embedder", default="minilm", help="a spec (minilm)")
    parser.add_argument("--draws", type=int, default=2000, help="of the bootstrap (2000)")
    parser.add_argument("--every", type=int, default=1, help="take every n-th question only (1)")
    parser.add_argument("--out", type=Path, help="a folder for results, the plot, and what a next run goes on with")
    parser.add_argument("--stores", type=Path, help="a folder that keeps vectors and stores, so that a rerun embeds"
                        " nothing")  # fmt: skip
    parser.add_argument("--fresh", action="store_true", help="forget the results in --out")


def rows(means: Means, measures: Sequence[str], *, intervals: bool = True, sign: str = "") -> list[dict[str, Any]]:
    """One row a group and system."""
    found: list[dict[str, Any]] = []
    for group, systems in means.items():
        for system, by_measure in systems.items():
            count = next(iter(by_measure.values())).count
            row: dict[str, Any] = {"system": system, "questions": group, "n": count}
            for m in measures:
                mean = by_measure.get(m)
                if mean is not None:
                    row[m] = mean.shown(sign) if intervals else f"{mean.mean:{sign}.1f}"
            found.append(row)
    return found


def goals(ours: Mapping[str, Mean], wanted: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each goal with what was reached, and whether that meets it (the mean; the interval stands beside it)."""
    return [
        {"goal": f"{m} at least {least:g}", "measured": ours[m].shown(), "met": ours[m].mean >= least}
        for m, least in wanted.items()
        if m in ours
    ]


def not_below(found: Mapping[str, Mean], measures: Sequence[str], other: str) -> dict[str, Any]:
    """Whether agentmem's mean is at least another's on every one of the measures; the least difference."""
    worst = min((m for m in measures if m in found), key=lambda m: found[m].mean)
    return {
        "goal": f"not below {other}",
        "measured": f"least at {worst}: {found[worst].shown('+')}",
        "met": found[worst].mean >= 0,
    }


def finish(
    options: argparse.Namespace,
    name: str,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    means: Means,
    differences: Means,
    verdicts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Print the tables and verdicts, or one JSON document, which --out keeps as well."""
    note = (
        f"per cent of questions, 95 % intervals of {options.draws} bootstrap draws over questions, seed {options.seed};"
        " differences are paired"
    )
    document = machine.show_tables(
        options, {**tables, "goals": [{**v, "met": "met" if v["met"] else "NOT met"} for v in verdicts]}, note=note,
        means=_plain(means), differences=_plain(differences), verdicts=list(verdicts),
        settings={"embedder": options.embedder, "every": options.every, "draws": options.draws, "seed": options.seed},
    )  # fmt: skip
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"{name}.results.json"
        path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        machine.say(options, f"written: {path}")
    return document


def _plain(means: Means) -> dict[str, Any]:
    return {
        group: {system: {m: mean.plain() for m, mean in found.items()} for system, found in systems.items()}
        for group, systems in means.items()
    }
