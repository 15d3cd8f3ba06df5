"""The CAP report as one HTML file that needs nothing else: no script, nothing from elsewhere, every value escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agentmem.cap_axes import (
    A_SAYS,
    A_TITLE,
    C_SAYS,
    C_TITLE,
    FLOOR_MS,
    P_SAYS,
    P_TITLE,
    first_token_ms,
    is_ours,
    milliseconds,
    percent,
    prepare_ms,
    wait_range,
)
from agentmem.cap_markup import STYLE, esc, facts, items, legend, row, stack, table, ticks, track
from agentmem.types import SECTIONS

Rung = Mapping[str, Any]
Cell = tuple[str, str]
NOTHING: Cell = ("–", "")

# Nothing is loaded and nothing runs, whatever should stand in a name.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

READING = (
    "C, context: the share of questions for which every word of the answer that the gold messages hold stands in the "
    "prompt. Whether the model uses it is not in it. The table also has the share of questions whose gold messages all "
    "stand there whole.",
    "A, accuracy: token F1 between the answer and the accepted one (LoCoMo's scorer) over the answerable questions. "
    "Low figures are usual: whole sentences are compared with bare phrases. By "
    "category, where nothing was said that could be found, to decline is right and all else is wrong.",
    "P, performance: wall-clock time on this machine to retrieve and to assemble a prompt; median and 95th percentile "
    "of each, added up. Times differ from run to run; everything else is the same for the same seed and data.",
    "Intervals are 95 %, over questions. Two rungs answered the same questions, so that overlapping intervals do not "
    "say that they are equal.",
)


def write_page(report: Mapping[str, Any], path: Path, *, picture: Path | None = None) -> None:
    """Write the page of a report (the JSON of `agentmem cap`); `picture`, a PNG, is put into it.

    Raises OSError when a file can't be read or written.
    """
    drawn = picture.read_bytes() if picture is not None else None
    # Half a surrogate pair is no text; it is written as what browsers show as U+FFFD.
    path.write_text(page(report, drawn), encoding="utf-8", errors="xmlcharrefreplace")


def page(report: Mapping[str, Any], picture: bytes | None = None) -> str:
    """The page's HTML; `picture` is a PNG's bytes."""
    rungs = list(report["rungs"])
    title = f"CAP report: {report['data']['name']}"
    parts = [
        _head(report, title),
        "<h2>The three axes</h2>",
        f'<div class="axes">{_context(rungs)}{_accuracy(rungs)}{_performance(report)}</div>',
        _sections(rungs),
        _picture(picture),
        "<h2>Figures</h2>",
        _context_table(rungs),
        _accuracy_table(rungs),
        _category_table(rungs),
        _performance_table(report),
        "<h2>How to read it, and what it does not say</h2>",
        items((*READING, *_limits(report))),
        _position(report.get("position")),
        "<h2>How it was made</h2>",
        facts(_made(report)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{esc(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(p for p in parts if p)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(report: Mapping[str, Any], title: str) -> str:
    data, backend = report["data"], report["backend"]
    counts = {
        "conversations": data["conversations"], "messages": data["messages"], "questions": data["questions"],
        "of them unanswerable": data["unanswerable"], "window in tokens": report["window_tokens"],
        "of it for the answer": report["reserve_tokens"],
    }  # fmt: skip
    shown = "".join(f"<li>{esc(name)} <b>{value:,}</b></li>" for name, value in counts.items())
    warning = ""
    if not backend["model"]:
        warning = (
            '<p class="warn"><b>No language model ran.</b> The backend answers by quoting what memory finds; accuracy '
            "here says what quoting alone reaches, and no rung says what a model would make of its prompt.</p>"
        )
    return (
        f"<header><h1>{esc(title)}</h1><p>The same questions, asked of every rung of a ladder from no memory at all to "
        "agentmem: what each gets into the prompt (C), how well it answers (A) and what that costs (P).</p>"
        f'<p class="soft">{esc(backend["describe"])}</p>{warning}<ul class="facts">{shown}</ul></header>'
    )


def _card(letter: str, title: str, says: str, lines: Sequence[str], below: str) -> str:
    return (
        f'<section class="card"><h3><span>{letter}</span>{esc(title)}</h3><p class="soft">{esc(says)}</p>'
        f"{''.join(lines)}{below}</section>"
    )


def _share_line(rung: Rung, interval: Mapping[str, float], value: str, note: str) -> str:
    if not interval["n"]:
        return row(rung["name"], "<span></span>", NOTHING[0], ours=is_ours(rung["name"]))
    middle = track(interval["low"], interval["high"], interval["mean"])
    return row(rung["name"], middle, value, note, ours=is_ours(rung["name"]))


def _context(rungs: Sequence[Rung]) -> str:
    lines = []
    for r in rungs:
        found = r["C"]["evidence_tokens"]
        lines.append(_share_line(r, found, percent(found["mean"]), f"{r['C']['prompt_tokens_mean']:,.0f} tokens"))
    return _card("C", C_TITLE, f"{C_SAYS}; below, the prompt's tokens", lines, ticks(_SHARES))


def _accuracy(rungs: Sequence[Rung]) -> str:
    lines = [
        _share_line(r, r["A"]["f1"], f"{100 * r['A']['f1']['mean']:.1f} %", _range(r["A"]["f1"], "")) for r in rungs
    ]
    return _card("A", A_TITLE, f"{A_SAYS}; below, its 95 % interval", lines, ticks(_SHARES))


_SHARES = {0.0: "0", 0.5: "50", 1.0: "100 %"}


def _performance(report: Mapping[str, Any]) -> str:
    low, high = (math.log10(t) for t in wait_range(report))

    def at(ms: float) -> float:
        return (math.log10(max(ms, FLOOR_MS)) - low) / (high - low)

    lines = []
    says = f"{P_SAYS}, median to p95; below, tokens per turn"
    for r in report["rungs"]:
        middle, late = prepare_ms(r, "p50"), prepare_ms(r, "p95")
        first = first_token_ms(report, r)
        mark = None if first is None else at(first[0])
        tokens = f"{r['P']['tokens_per_turn']:,.0f} a turn"
        drawn = track(at(middle), at(late), at(middle), mark)
        lines.append(row(r["name"], drawn, milliseconds(middle), tokens, ours=is_ours(r["name"])))
        if first is not None and "triangle" not in says:
            says += "; triangle: the model's first token"
    # Every second one where there are many, so that they do not touch on a phone.
    powers = range(round(low), round(high) + 1, 2 if high - low > 4 else 1)
    marks = {(n - low) / (high - low): _short_ms(10.0**n) for n in powers}
    return _card("P", P_TITLE, says, lines, ticks(marks))


def _short_ms(ms: float) -> str:
    return f"{ms:g}" if ms < 1000 else f"{ms / 1000:g} s"


def _sections(rungs: Sequence[Rung]) -> str:
    order = [*SECTIONS, *sorted({s for r in rungs for s in r["C"]["sections"]} - set(SECTIONS))]
    present = [s for s in order if any(r["C"]["sections"].get(s, 0) > 0 for r in rungs)]
    parts = [{s: float(r["C"]["sections"].get(s, 0)) for s in present} for r in rungs]
    totals = [sum(p.values()) for p in parts]
    most = max(totals, default=0.0)
    lines = [
        row(r["name"], stack(p, most), f"{total:,.0f}", ours=is_ours(r["name"]))
        for r, p, total in zip(rungs, parts, totals, strict=True)
    ]
    rows = [
        (r["name"], is_ours(r["name"]), [(f"{p[s]:,.0f}", "") for s in present])
        for r, p in zip(rungs, parts, strict=True)
    ]
    return (
        '<h2>What the prompt is made of</h2><p class="soft">Mean tokens of a prompt, by section; all bars have one '
        f'scale.</p><section class="card wide">{"".join(lines)}{legend(present)}</section>'
        + table("Tokens of a prompt, by section (mean)", ["rung", *present], rows)
    )


def _picture(picture: bytes | None) -> str:
    if picture is None:
        return ""
    data = base64.b64encode(picture).decode("ascii")
    says = "The three axes of every rung as one picture; its figures are in the tables below."
    return (
        f'<h2>The picture</h2><figure><img alt="{esc(says)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{esc(says)}</figcaption></figure>"
    )


def _range(found: Mapping[str, float], sign: str = " %") -> str:
    return f"{100 * found['low']:.1f} to {100 * found['high']:.1f}{sign}"


def _share_cell(found: Mapping[str, float] | None) -> Cell:
    if found is None or not found["n"]:
        return NOTHING
    return f"{100 * found['mean']:.1f} %", f"{_range(found)}, n {found['n']:,}"


def _plain_cell(value: float | None, form: str = ",.0f", sign: str = "") -> Cell:
    return NOTHING if value is None else (f"{value:{form}}{sign}", "")


def _ms_cell(block: Mapping[str, Any], name: str) -> Cell:
    middle, late = block.get(f"{name}_p50"), block.get(f"{name}_p95")
    return NOTHING if middle is None or late is None else (milliseconds(middle), f"p95 {milliseconds(late)}")


def _rows(rungs: Sequence[Rung], cells: Sequence[Sequence[Cell]]) -> list[tuple[str, bool, Sequence[Cell]]]:
    return [(r["name"], is_ours(r["name"]), c) for r, c in zip(rungs, cells, strict=True)]


def _context_table(rungs: Sequence[Rung]) -> str:
    heads = (
        "rung", "history reachable (messages)", "history reachable (tokens)", "prompt tokens", "compressed to",
        "answer's words in the prompt", "all gold messages whole in the prompt",
    )  # fmt: skip
    cells = []
    for c in (r["C"] for r in rungs):
        ratio = c["compression_ratio"]
        cells.append([
            _plain_cell(c["history_messages"]), _plain_cell(c["history_tokens"]),
            (f"{c['prompt_tokens_mean']:,.0f}", f"p95 {c['prompt_tokens_p95']:,.0f}"),
            NOTHING if ratio is None else (percent(ratio), "of its tokens"),
            _share_cell(c["evidence_tokens"]), _share_cell(c["evidence_in_prompt"]),
        ])  # fmt: skip
    return table("C: context", heads, _rows(rungs, cells))


def _accuracy_table(rungs: Sequence[Rung]) -> str:
    judged = any(r["A"].get("judge") for r in rungs)
    heads = [
        "rung", "token F1", "evidence recall", "right to decline (precision)", "declined where it should (recall)",
        "stale answers after an update", *(("judged right", "judge accepts wrong answers") if judged else ()),
    ]  # fmt: skip
    cells = []
    for a in (r["A"] for r in rungs):
        line = [
            _share_cell(a[k]) for k in ("f1", "evidence_recall", "abstention_precision", "abstention_recall", "stale")
        ]
        if judged:
            judge = a.get("judge") or {}
            line += [_share_cell(judge.get("accuracy")), _share_cell(judge.get("false_accept"))]
        cells.append(line)
    return table("A: accuracy", heads, _rows(rungs, cells))


def _category_table(rungs: Sequence[Rung]) -> str:
    names = list(dict.fromkeys(c for r in rungs for c in r["A"]["by_category"]))
    if not names:
        return ""
    cells = [[_share_cell(r["A"]["by_category"].get(n, {}).get("f1")) for n in names] for r in rungs]
    return table("A: token F1 by category", ["rung", *names], _rows(rungs, cells))


def _performance_table(report: Mapping[str, Any]) -> str:
    rungs, model = list(report["rungs"]), report["backend"]["model"]
    heads = (
        "rung", "write", "retrieve", "assemble", "first token", "tokens per second", "model calls a turn",
        "tokens a turn", "prefix reused",
    )  # fmt: skip
    cells = []
    for p in (r["P"] for r in rungs):
        reuse = p["prefix_reuse"]
        cells.append([
            *(_ms_cell(p, n) for n in ("write_ms", "retrieve_ms", "assemble_ms")),
            _ms_cell(p, "first_token_ms") if model else NOTHING,
            _plain_cell(p["tokens_per_s"] if model else None, ",.1f"), _plain_cell(p["calls_per_turn"], ".2f"),
            _plain_cell(p["tokens_per_turn"]), NOTHING if reuse is None else (percent(reuse), ""),
        ])  # fmt: skip
    return table("P: performance", heads, _rows(rungs, cells))


def _limits(report: Mapping[str, Any]) -> list[str]:
    """What is true of this run alone."""
    counter, limits = report["counter"], []
    if not report["backend"]["model"]:
        limits.append("The backend answers by quoting; no language model ran, and there is no time to a first token.")
    if not counter["exact"]:
        limits.append(f"Tokens are estimated ({counter['name']}): no tokenizer of a model was at hand.")
    if report["embedder"] is None:
        limits.append("No embedder: agentmem and the baselines searched by words alone.")
    if any(_certain(block) for r in report["rungs"] for block in (*r["C"].values(), *r["A"].values())):
        limits.append("An interval without width means that all questions came out alike, and not that it is certain.")
    if any(r["A"].get("judge") for r in report["rungs"]):
        limits.append("A language model judged; how often it accepts answers known to be wrong stands beside it.")
    return [*limits, *(str(n) for n in report["notes"])]


def _certain(block: object) -> bool:
    return isinstance(block, Mapping) and bool(block.get("n")) and block.get("low") == block.get("high")


def _position(found: Mapping[str, Any] | None) -> str:
    """The curve of `agentmem cap --position`, where it was measured too."""
    if not found:
        return ""
    lines = [
        row(f"at {percent(p['depth'])}", track(p["low"], p["high"], p["share"]), percent(p["share"]), f"n {p['n']:,}")
        for p in found["points"]
    ]
    advice = found["recommendation"]
    return (
        "<h2>Where in the prompt the model reads best</h2>"
        f'<section class="card wide"><p class="soft">share of right answers by how deep the answer stands</p>'
        f"{''.join(lines)}{ticks(_SHARES)}</section>"
        f"<p>Recommended order of undated page-ins: <b>{esc(advice['order'])}</b>; {esc(advice['reason'])}.</p>"
    )


def _made(report: Mapping[str, Any]) -> dict[str, Any]:
    data = report["data"]
    versions = ", ".join(f"{k} {v}" for k, v in report["packages"].items())
    counter = report["counter"]
    return {
        "agentmem": report["agentmem"], "machine": report["machine"], "packages": versions or "–",
        "seed": report["seed"], "data": f"{data['name']}, sha256 {data['sha256']}",
        "backend": f"{report['backend']['name']}: {report['backend']['describe']}",
        "embedder": report["embedder"] or "none", "compressor": report["compressor"],
        "tokens": f"{counter['name']} ({'exact' if counter['exact'] else 'estimated'})",
    }  # fmt: skip
