"""What a job did, in words: what changed, why, and the records that it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from agentmem.reflection.changes import AddPassage, ClosePassage, EditBlock, Rate, SetKeys
from agentmem.reflection.diff import Quotes, headline, printable, short

if TYPE_CHECKING:
    from agentmem.memory import Memory
    from agentmem.reflection.budget import Estimate
    from agentmem.reflection.outcome import Applied, JobReport, StrategyReport, Undone

MAX_SHOWN = 5
"""Changes of a kind that a summary shows; the rest is counted, and shown by `agentmem jobs JOB`."""
CITED = 2
_FATES = ("applied", "planned", "skipped", "rejected")
_MANY = {
    AddPassage: "passages added", ClosePassage: "passages closed", EditBlock: "edits of core memory",
    Rate: "records rated", SetKeys: "records with further keys",
}  # fmt: skip


def job_lines(report: JobReport, memory: Memory) -> list[str]:
    """The summary of one agent's job."""
    quotes = Quotes(memory)
    agent = printable(report.agent)
    if report.state == "nothing new":
        return [f"{agent}: nothing new", *_rejections(report.strategies), *_proposals(report.strategies)]
    job = f", job {report.job}" if report.job else ""
    resumed = ", taken up where it was interrupted" if report.resumed else ""
    lines = [f"{agent}: {report.state}{job}{resumed}"]
    if report.reason:
        lines.append(f"  because: {printable(report.reason)}")
    for s in report.strategies:
        lines += _strategy_lines(s, quotes)
    if report.job is not None and any(c.fate == "applied" for c in report.changes):
        lines.append(f"  to take it back: agentmem undo {report.job} --agent {agent}")
    return lines


def plan_lines(reports: Sequence[JobReport], whole: Estimate, expected_s: float | None) -> list[str]:
    """What a dry run found: a line a strategy, and the sum."""
    rows = [("agent", "strategy", "form", "records", "calls", "tokens in", "tokens out (at most)")]
    for report in reports:
        for s in report.strategies:
            e = s.estimate
            counts = (e.records, e.calls, e.prompt_tokens, e.completion_tokens)
            rows.append((short(report.agent, 30), s.name, s.form, *(f"{n:,}" for n in counts)))  # type: ignore[arg-type]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        lines.append("  ".join(c.ljust(w) if n < 3 else c.rjust(w) for n, (c, w) in enumerate(cells)))
    lines += [
        f"not in the plan ({short(report.agent, 30)}, {s.name}): {short(told, 200)}"
        for report in reports for s in report.strategies for told in s.estimate.uncounted
    ]  # fmt: skip
    seconds = "not known" if expected_s is None else f"about {expected_s:,.0f} s, as past jobs went"
    if not whole.calls:
        seconds = "not known; no model is asked"
    lines.append(
        f"in all: {whole.records:,} records, {whole.calls:,} calls, {whole.tokens:,} tokens at most; time: {seconds}"
    )
    return [line.rstrip() for line in lines]


def undone_lines(undone: Undone) -> list[str]:
    """What an undo restored, and what it left, with the reason."""
    restored = _counted(undone.undone) or "nothing to restore"
    lines = [f"{printable(undone.agent)}: {undone.job} is undone ({restored})"]
    for entry in undone.kept:
        what = headline(entry.change, entry.made)
        lines.append(f"  kept, since it was changed after the job: {what} ({printable(entry.reason)})")
    return lines


def _strategy_lines(s: StrategyReport, quotes: Quotes) -> list[str]:
    fates = ", ".join(f"{s.count(f)} {f}" for f in _FATES if s.count(f)) or "no change"  # type: ignore[arg-type]
    cost = ""
    if s.calls or s.reused:
        cached = f", {s.cached_tokens:,} of them from the cache" if s.cached_tokens is not None else ""
        cost = f"; {s.calls:,} calls, {s.prompt_tokens:,} tokens in{cached}, {s.completion_tokens:,} out"
        cost += f", {s.reused:,} answers of the interrupted run" if s.reused else ""
    lines = [f"  {s.name} ({'by rules' if s.form == 'rules' else 'by the model'}): {fates}{cost}"]
    for kind, many in _MANY.items():
        found = [c for c in s.changes if isinstance(c.change, kind) and c.fate in ("applied", "planned")]
        for entry in found[:MAX_SHOWN]:
            lines += _change_lines(entry, quotes)
        if more := len(found) - MAX_SHOWN:
            lines += [f"    ... {more} more {many}"] if more > 0 else []
    left = [c for c in s.changes if c.fate == "skipped"]
    lines += [f"    skipped: {headline(c.change)} ({printable(c.reason)})" for c in left[:MAX_SHOWN]]
    return [*lines, *_rejections([s]), *_proposals([s])]


def _rejections(strategies: Iterable[StrategyReport]) -> list[str]:
    lines = []
    for s in strategies:
        what = "not taken from the model's answers" if s.form == "model" else "left out"
        lines += [f"    {what} ({s.name}): {short(r, 200)}" for r in s.rejected[:MAX_SHOWN]]
        if len(s.rejected) > MAX_SHOWN:
            lines.append(f"    ... {len(s.rejected) - MAX_SHOWN} more not taken")
    return lines


def _proposals(strategies: Iterable[StrategyReport]) -> list[str]:
    lines = []
    for s in strategies:
        lines += [f"    proposed ({s.name}): {short(p, 200)}" for p in s.proposals[:MAX_SHOWN]]
        if len(s.proposals) > MAX_SHOWN:
            lines.append(f"    ... {len(s.proposals) - MAX_SHOWN} more proposed")
    return lines


def _change_lines(entry: Applied, quotes: Quotes) -> list[str]:
    change = entry.change
    if isinstance(change, AddPassage):
        what = f'+ {entry.made or ""} {printable(change.kind)}: "{short(change.text, 200)}"'.replace("+  ", "+ ")
    elif isinstance(change, ClosePassage):
        what = f"- {quotes.line(change.passage, 200)}"
        instead = entry.before.get("superseded_by")
        what += f"; p{instead} holds instead" if instead is not None else ""
    elif isinstance(change, EditBlock):
        old, new = set(change.before.splitlines()), set(change.after.splitlines())
        what = f"~ block {printable(change.label)}: {len(new - old)} lines come, {len(old - new)} go"
    elif isinstance(change, Rate):
        return [f"    ~ importance {change.importance}: {quotes.line(change.ref)}"]
    else:
        return [f"    ~ also found by {short('; '.join(change.keys))}: {quotes.line(change.ref)}"]
    lines = [f"    {what}"]
    if change.why:
        lines.append(f"      why: {short(change.why, 200)}")
    lines += [f"      from {quotes.line(ref)}" for ref in change.sources[:CITED]]
    if more := len(change.sources) - CITED:
        lines += [f"      and {more} more"] if more > 0 else []
    return lines


def _counted(entries: Sequence[Applied]) -> str:
    counts = {kind: sum(isinstance(e.change, kind) for e in entries) for kind in _MANY}
    return ", ".join(f"{n} {_MANY[kind]}" for kind, n in counts.items() if n)
