"""The main job: a small window holds a long history, pages it out, pages the right parts back in, and answers.

Run by `make demo`. It ingests `demos/history.jsonl` (two friends, over a year), asks the questions of
`demos/questions.jsonl`, and compares with two baselines at the same token budget. No language model, no network.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentmem import Agent, Memory, reflect
from agentmem.language import content_words
from agentmem.progress import lines_bar
from agentmem.reading import read
from agentmem.reflection import AddPassage, undo
from agentmem.screen import ledger_bar
from agentmem.times import parse_time
from agentmem.types import PageItem
from demos.baselines import Baseline, dense_top_k, last_messages
from demos.reflection_strategy import Promises

HERE = Path(__file__).parent
WINDOW = 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way of filling the prompt came to on one question. Of the evidence: None where there is none; `whole`
    without a word left out. `right` is judged by the expected words being in the quotation."""

    evidence_in_prompt: bool | None
    whole: bool
    right: bool
    abstained: bool


def load(name: str) -> list[dict[str, Any]]:
    """The lines of a JSONL file beside this one."""
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines() if line.strip()]


def expected_in(text: str, expected: Sequence[str]) -> bool:
    """Whether any of the accepted answers stands in a text, compared by its stems and numbers."""
    have = set(content_words(text))
    return any(set(content_words(answer)) <= have for answer in expected)


def judge(question: dict[str, Any], shown: Mapping[str, tuple[str, str]], said: str, abstained: bool) -> Outcome:
    """`shown` is what stands in the prompt: by key, as it stands there and whole. The gold evidence is in the prompt
    when all of it is, and, where it was shortened, the expected words are still there if the whole has them."""
    gold, answers = question["evidence"], question["answers"]
    if not gold:
        return Outcome(None, False, abstained, abstained)
    there = [shown[key] for key in gold if key in shown]
    kept, full = (" ".join(texts) for texts in zip(*there, strict=True)) if there else ("", "")
    evidence = len(there) == len(gold) and (expected_in(kept, answers) or not expected_in(full, answers))
    whole = len(there) == len(gold) and kept == full
    return Outcome(evidence, whole, not abstained and expected_in(said, answers), abstained)


def standing(items: Iterable[PageItem]) -> dict[str, tuple[str, str]]:
    """What stands in a page, by key: as it stands there, and whole."""
    return {i.hit.key: (i.text, i.hit.text) for i in items if i.hit.key is not None}


def total(outcomes: Sequence[Outcome]) -> tuple[int, int, int, int, int, int, int]:
    """(evidence in the prompt, of it whole, of, answered right, of, declined rightly, of)."""
    answerable = [o for o in outcomes if o.evidence_in_prompt is not None]
    other = [o for o in outcomes if o.evidence_in_prompt is None]
    evidence = sum(bool(o.evidence_in_prompt) for o in answerable)
    return (
        evidence, sum(o.whole for o in answerable), len(answerable), sum(o.right for o in answerable),
        len(answerable), sum(o.right for o in other), len(other),
    )  # fmt: skip


def by_baseline(baseline: Baseline, question: dict[str, Any]) -> Outcome:
    """The same reader over a baseline's prompt."""
    items: Sequence[PageItem] = baseline.items(question["query"])
    answer = read(question["query"], items, asked_at=parse_time(question["at"]))
    quoted = " ".join([answer.span, answer.text])
    return judge(question, standing(items), quoted, answer.abstained)


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="agentmem's main job, with two baselines beside it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every outcome to a file as well")
    parser.add_argument("--db", type=Path, help="keep the database here (default: a temporary folder)")
    args = parser.parse_args()
    out = Console(highlight=False, markup=False)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = args.db or Path(folder) / "demo.db"
        with Memory(path, agent="demo", window_tokens=WINDOW) as memory:
            agent = Agent(memory)
            results = run(memory, agent, out)
            out.print(reflected(memory))
    out.print(f"\n{time.perf_counter() - started:.0f} s in all.")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    out.print(
        "\nTry it yourself:\n"
        "  . .venv/bin/activate\n"
        "  agentmem chat                                              talk to an agent that remembers\n"
        "  agentmem ingest demos/history.jsonl --agent friends        the same history, then:\n"
        '  agentmem ask "Where does Mara live now?" --agent friends --no-store\n'
        '  agentmem search "the boat" --agent friends --explain       what is found, and why\n'
        "  agentmem reflect --agent friends --dry-run                 what reflection would change\n"
        "  python -m demos.reflection_strategy                        a reflection strategy of one's own\n"
        "  make test"
    )


def reflected(memory: Memory) -> str:
    """A reflection strategy of the demo's own (`demos/reflection_strategy.py`) at work, and taken back."""
    (report,) = reflect(memory, Promises())
    made = [a.change.text for a in report.changes if isinstance(a.change, AddPassage)]
    (again,) = reflect(memory, Promises())
    assert report.job is not None, "the demo's history has promises"
    gone = undo(memory, report.job)
    return (
        f"\nReflection by a strategy of the demo's own: {len(made)} promises noted, each with its source;"
        f" run again: {again.state}; taken back by undo: {len(gone.undone)}. The first: {made[0]}"
    )


def run(memory: Memory, agent: Agent, out: Console) -> dict[str, Any]:
    """Ingest, ask, compare; every outcome as JSON."""
    history = load("history.jsonl")
    out.print(Text("agentmem demo", style="bold"))
    out.print(agent.backend.describe())
    tokens = sum(memory.shape.counter.count(f"{m['name']}: {m['content']}") for m in history)
    with lines_bar("ingest", len(history)) as advance:
        report = memory.ingest(history, progress=advance)
    stats = memory.stats()
    covers = stats["summary_covers"]
    out.print(
        f"\n{report.stored} messages, {tokens} tokens of history; the window is {WINDOW} tokens, "
        f"{memory.budget.max_tokens} of them for the prompt."
    )
    out.print(
        f"{len(memory.events('page_out'))} flushes paged out all but {stats['in_queue']} messages "
        f"(epoch {stats['epoch']}; the summary covers m{covers[0]} to m{covers[1]}).\n"
    )
    messages = memory.records.recall.since(1)
    assert memory.embedder is not None, "the demo needs the extra cpu: pip install 'agentmem[cpu]'"
    room = memory.budget.max_tokens - memory.render().ledger.sections["system"]
    baselines = [
        last_messages(messages, room, memory.shape.counter),
        dense_top_k(messages, memory.embedder, room, memory.shape.counter),
    ]
    ours: list[Outcome] = []
    theirs: dict[str, list[Outcome]] = {b.name: [] for b in baselines}
    details: list[dict[str, Any]] = []
    for question in load("questions.jsonl"):
        prompt = memory.render(query=question["query"], at=question["at"])
        reply = agent.send(question["query"], at=question["at"], store=False)
        shown = standing((*reply.page.items, *reply.page.in_queue)) | in_queue(memory)
        outcome = judge(question, shown, f"{reply.answer} {reply.text}", reply.abstained)
        ours.append(outcome)
        for b in baselines:
            theirs[b.name].append(by_baseline(b, question))
        show(out, question, reply, outcome)
        details.append(
            {"id": question["id"], "text": reply.text, "evidence_in_prompt": outcome.evidence_in_prompt,
             "right": outcome.right, "confidence": reply.confidence, "total": prompt.ledger.total}
        )  # fmt: skip
    out.print()
    out.print(totals_table({"agentmem": ours, **theirs}))
    out.print(
        "Same token budget and the same extractive reader for all three. 'Answered' means that the expected words are "
        "in the quotation; evidence that was shortened counts while it still has them."
    )
    return {"questions": details, "totals": {n: total(o) for n, o in {"agentmem": ours, **theirs}.items()}}


def in_queue(memory: Memory) -> dict[str, tuple[str, str]]:
    """The messages of the queue, by key: they stand there whole."""
    return {m.key: (m.said, m.said) for m in memory.pager.state()[1] if m.key is not None}


def show(out: Console, question: dict[str, Any], reply: Any, outcome: Outcome) -> None:
    """One question: the answer, its citations, the evidence, the ledger."""
    out.print(Text(f"{question['id']}  {question['query']}", style="bold"))
    out.print(f"    {reply.text}")
    gold = ", ".join(question["evidence"]) or "none: it was never said"
    cited = ", ".join(c.key or c.id for c in reply.citations) or "none"
    mark = {True: "in the prompt", False: "NOT in the prompt", None: "-"}[outcome.evidence_in_prompt]
    mark += " in short" if outcome.evidence_in_prompt and not outcome.whole else ""
    judged = "right" if outcome.right else "not right"
    out.print(Text(f"    {judged} | cites {cited} | gold evidence {gold}: {mark}", style="dim"))
    out.print(Text("    ").append_text(ledger_bar(reply.ledger)))


def totals_table(ways: dict[str, list[Outcome]]) -> Table:
    """All ways side by side."""
    table = Table(title="Totals", box=None, pad_edge=False, title_justify="left")
    for column in ("", "gold evidence there", "of it whole", "answered", "rightly declined"):
        table.add_column(column)
    for name, outcomes in ways.items():
        e, w, n, r, n2, d, m = total(outcomes)
        table.add_row(name, f"{e} of {n}", str(w), f"{r} of {n2}", f"{d} of {m}")
    return table


if __name__ == "__main__":
    main()
