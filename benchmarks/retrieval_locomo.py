"""How often all the evidence of a LoCoMo question is found: agentmem through its public doors, and six baselines.

`--data` is a folder with CONV.messages.jsonl and CONV.questions.jsonl in LoCoMo's format (a question has `query`, `at`,
`category` and `evidence`, keys of messages). Measured per question: whether every piece of evidence is among the best
5, 10, 20 hits (`Memory.search`), MRR and NDCG@10; whether it stands whole in a page-in of 512 to 4,096 tokens
(`Memory.page_in`), and in the whole prompt (`Memory.render`, agentmem alone). The baselines are those of
`benchmarks/baselines.py`; they page in by agentmem's own packing.

Category 5 (adversarial: the answer was never said; its evidence is what the question twists) is in no total. A second
total leaves out the questions whose gold a public audit found wrong (`audit_error`). Per cents with 95 % bootstrap
intervals over questions; differences are paired.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.registry import make_embedder
from benchmarks import machine, plots, report
from benchmarks.baselines import BM25, BM25_SPEAKER, DENSE, HYBRID, HYBRID_WINDOW, LAST, Baselines, Turn
from benchmarks.measures import DEPTH, Scores, differences, inside, ranked, summary
from benchmarks.stores import Progress, Results, fingerprint, ingest_fingerprint, ingested, kept_embedder

if TYPE_CHECKING:
    from agentmem import Memory

OURS = "agentmem"
SYSTEMS = (OURS, LAST, DENSE, BM25, BM25_SPEAKER, HYBRID, HYBRID_WINDOW)
TOP_KS = (5, 10, 20)
TOKENS = (512, 1024, 2048, 4096)
PROMPTS = (2048, 4096)
FOUND = (*(f"all@{k}" for k in TOP_KS), "MRR", "NDCG@10")
PAGED = tuple(f"page-in {n}" for n in TOKENS)
WHOLE = tuple(f"prompt {n}" for n in PROMPTS)
ADVERSARIAL = 5
GOALS = {"page-in 2048": 89.0, "page-in 512": 79.0, "all@10": 79.0}


def ask(memory: Memory, baselines: Baselines, question: Mapping[str, Any]) -> Scores:
    """Every system's scores on one question."""
    query, evidence, at = question["query"], question["evidence"], question.get("at")
    keys = [h.key for h in memory.search(query, top_k=DEPTH, asked_at=at) if h.key]
    ours = {m: v for m, v in ranked(keys, evidence, TOP_KS).items() if m in FOUND}
    for name, tokens in zip(PAGED, TOKENS, strict=True):
        ours[name] = inside(memory.page_in(query, max_tokens=tokens, asked_at=at).keys, evidence)
    for name, tokens in zip(WHOLE, PROMPTS, strict=True):
        ours[name] = inside(memory.render(query=query, max_tokens=tokens, at=at).keys, evidence)
    scores = {OURS: ours}
    for system in SYSTEMS[1:]:
        if system not in baselines.systems:
            continue
        found = ranked(baselines.keys(system, query), evidence, TOP_KS)
        scores[system] = {m: v for m, v in found.items() if m in FOUND}
        pages = baselines.page_keys(system, query, TOKENS, memory.shape.counter)
        scores[system].update({name: inside(keys, evidence) for name, keys in zip(PAGED, pages, strict=True)})
    return scores


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def run(options: argparse.Namespace, stores: Path) -> list[dict[str, Any]]:
    """Results of every question with evidence that was asked for: id, category, audit_error and scores."""
    inner = make_embedder(options.embedder)
    if inner is None:
        raise SystemExit("the dense baseline needs an embedder")
    embedder = kept_embedder(inner, stores)
    mark = fingerprint(Path(__file__).read_text(encoding="utf-8"), embedder.model_id)
    stored = ingest_fingerprint(embedder.model_id)
    kept = Results(options.out / "locomo.questions.jsonl" if options.out else None, mark, fresh=options.fresh)
    work: list[tuple[Path, list[dict[str, Any]]]] = []
    for path in sorted(options.data.glob("*.messages.jsonl")):
        asked = lines(path.with_name(path.name.replace(".messages.", ".questions.")))
        work.append((path, [q for q in asked if q.get("evidence")][:: options.every]))
    if not work:
        raise SystemExit(f"{options.data} has no CONV.messages.jsonl")
    wanted = [q["id"] for _, questions in work for q in questions]
    with Progress(options, sum(q not in kept.found for q in wanted)) as progress:
        for path, questions in work:
            left = [q for q in questions if q["id"] not in kept.found]
            if not left:
                continue
            name = path.name.split(".")[0]
            messages = lines(path)
            with ingested(stores, f"locomo-{name}", messages, embedder, stored) as memory:
                baselines = Baselines([Turn.of(m) for m in messages], embedder)
                for q in left:
                    kept.add({
                        "id": q["id"], "category": int(q.get("category", 0)), "audited": bool(q.get("audit_error")),
                        "scores": ask(memory, baselines, q),
                    })  # fmt: skip
                    progress.step(name)
                baselines.close()
    embedder.close()
    return [kept.found[q] for q in wanted]


def groups(results: Sequence[Mapping[str, Any]]) -> dict[str, list[Scores]]:
    """The questions of each total and category."""
    said = [r for r in results if r["category"] != ADVERSARIAL]
    found = {"all": said, "audited out": [r for r in said if not r["audited"]]}
    for category in sorted({r["category"] for r in results}):
        name = f"category {category}" + (" (adversarial)" if category == ADVERSARIAL else "")
        found[name] = [r for r in results if r["category"] == category]
    return {name: [r["scores"] for r in rows] for name, rows in found.items() if rows}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    parser = machine.parser(__doc__)
    report.add_options(parser, "a folder of CONV.messages.jsonl and CONV.questions.jsonl")
    options = parser.parse_args(arguments)
    draw = options.out is not None and plots.installed(lambda text: machine.say(options, text))
    with nullcontext(options.stores) if options.stores else tempfile.TemporaryDirectory() as folder:
        results = run(options, Path(folder))
    drawn = {"draws": options.draws, "seed": options.seed}
    parts = groups(results)
    means = {name: summary(scores, **drawn) for name, scores in parts.items()}
    paired = {name: differences(parts[name], OURS, **drawn) for name in ("all", "audited out") if name in parts}
    totals = {n: m for n, m in means.items() if not n.startswith("category")}
    tables = {
        "found by search": report.rows(totals, FOUND),
        "all evidence inside the page-in, or the whole prompt, of so many tokens": report.rows(totals, PAGED + WHOLE),
        "by category": report.rows(
            {n: m for n, m in means.items() if n not in totals}, FOUND[:3] + PAGED, intervals=False
        ),
        "agentmem minus each, found by search": report.rows(paired, FOUND, sign="+"),
        "agentmem minus each, inside the page-in": report.rows(paired, PAGED, sign="+"),
    }
    verdicts = report.goals(means.get("all", {}).get(OURS, {}), GOALS)
    for hybrid in (HYBRID, HYBRID_WINDOW):
        if found := paired.get("all", {}).get(hybrid):
            verdicts.append(report.not_below(found, FOUND[:3] + PAGED, hybrid))
    report.finish(options, "locomo", tables, means=means, differences=paired, verdicts=verdicts)
    if draw and "all" in means:
        plots.pages(means["all"], TOKENS, options.out / "locomo.png", ours=OURS)


if __name__ == "__main__":
    main()
