"""The CAP report in a terminal: a line a rung, and below it what must be known to read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 118


def show(report: Mapping[str, Any], out: Console) -> None:
    """Print the report's headline figures."""
    data, rungs = report["data"], report["rungs"]
    out.print(
        f"{data['name']}: {data['questions']} questions ({data['unanswerable']} unanswerable) on {data['messages']} "
        f"messages; window {report['window_tokens']}, {report['reserve_tokens']} for the reply; "
        f"backend {report['backend']['name']}, embedder {report['embedder'] or 'none'}"
    )
    model = report["backend"]["model"]
    stale, judged = (any(r["A"][name] is not None for r in rungs) for name in ("stale", "judge"))
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    columns = ["C: reach", "prompt", "evidence %", "A: F1 %", "declined %"]
    columns += ["stale %"] * stale + ["judged %"] * judged + ["P: write", "prompt ms"]
    columns += ["first ms", "tokens/s", "prefix %"] if model else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for rung in rungs:
        table.add_row(rung["name"], *_cells(rung, model=model, stale=stale, judged=judged))
    out.print(table)
    out.print()
    out.print(
        "reach: messages of the history that can come into a prompt. prompt: its tokens, on average. evidence: all of "
        "it in the prompt. declined: of what was never said. ±: half of the 95 % interval.\n"
        "write: ms a message. prompt ms: to retrieve and assemble, median / 95th percentile."
        + (" first ms: from the call to the first text." if model else "")
        + (" judged: accepted by the model (of known-wrong answers)." if judged else "")
    )
    for note in report["notes"]:
        out.print(f"note: {note}")


def _cells(rung: Mapping[str, Any], *, model: bool, stale: bool, judged: bool) -> list[str]:
    c, a, p = rung["C"], rung["A"], rung["P"]
    cells = [
        f"{c['history_messages']:,.0f}", f"{c['prompt_tokens_mean']:,.0f}", _share(c["evidence_in_prompt"]),
        _share(a["f1"]), _share(a["abstention_recall"]),
    ]  # fmt: skip
    cells += [_share(a["stale"])] if stale else []
    if judged:
        found = a["judge"]
        cells.append(f"{_share(found['accuracy'])} ({100 * found['false_accept']['mean']:.0f})" if found else "-")
    cells.append(_ms(p["write_ms_p50"]))
    cells.append(
        f"{_ms(p['retrieve_ms_p50'] + p['assemble_ms_p50'])} / {_ms(p['retrieve_ms_p95'] + p['assemble_ms_p95'])}"
    )
    if model:
        first, speed, reuse = p["first_token_ms_p50"], p["tokens_per_s"], p["prefix_reuse"]
        cells.append("-" if first is None else _ms(first))
        cells.append("-" if speed is None else f"{speed:,.0f}")
        cells.append("-" if reuse is None else f"{100 * reuse:.0f}")
    return cells


def _share(found: Mapping[str, float] | None) -> str:
    """Per cent with half the width of its interval; a dash where there was nothing to measure."""
    if found is None or not found["n"]:
        return "-"
    return f"{100 * found['mean']:.0f} ±{50 * (found['high'] - found['low']):.0f}"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.05 or value == 0 else f"{value:.2f}"
