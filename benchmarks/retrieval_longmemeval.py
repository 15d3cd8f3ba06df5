"""How often the evidence of a LongMemEval-S question is found: agentmem through its public doors, and four baselines.

`--data` is a folder with questions.jsonl and sessions.jsonl.gz: a question lists its sessions in order with their
dates, and `evidence_turns`, pairs of session and turn. Each question has a history of its own, some 490 turns; both
sides of the conversation are stored, with ids SESSION:TURN. Measured: all and any of the evidence turns in the top 5,
10, 20 of `Memory.search` (questions that have evidence turns), and all evidence sessions in the top 5, 10 sessions, a
session being as good as its first hit. Questions that can't be answered (ids ending in _abs) are left out.

The baselines are those of `benchmarks/baselines.py`; nobody has a name here, so those that need one are missing.
Per cents with 95 % bootstrap intervals over questions; differences are paired.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.registry import make_embedder
from benchmarks import machine, plots, report
from benchmarks.baselines import BM25, DENSE, HYBRID, LAST, Baselines, Turn
from benchmarks.measures import DEPTH, Scores, differences, ranked, summary
from benchmarks.stores import Progress, Results, fingerprint, ingest_fingerprint, ingested, kept_embedder

if TYPE_CHECKING:
    from agentmem import Memory

OURS = "agentmem"
SYSTEMS = (OURS, LAST, DENSE, BM25, HYBRID)
TURN_KS, SESSION_KS = (5, 10, 20), (5, 10)
TURNS = (*(f"all@{k}" for k in TURN_KS), *(f"any@{k}" for k in TURN_KS), "MRR", "NDCG@10")
SESSIONS = tuple(f"session all@{k}" for k in SESSION_KS)
GOALS = {"all@5": 74.0, "all@10": 86.0, "session all@5": 91.0}
PLOTTED = {
    **{f"all@{k}": f"all turns @{k}" for k in TURN_KS},
    **{f"session all@{k}": f"all sessions @{k}" for k in SESSION_KS},
}

Question = Mapping[str, Any]


def load(folder: Path) -> tuple[list[Question], dict[str, list[dict[str, Any]]]]:
    """The questions, and the turns of each session by its key."""
    paths = folder / "questions.jsonl", folder / "sessions.jsonl.gz"
    if missing := [p.name for p in paths if not p.exists()]:
        raise SystemExit(f"{folder} has no {' and no '.join(missing)}")
    questions = [json.loads(x) for x in paths[0].read_text(encoding="utf-8").split("\n") if x.strip()]
    with gzip.open(paths[1], "rt", encoding="utf-8") as file:
        return questions, {row["key"]: row["turns"] for row in map(json.loads, file)}


def messages(question: Question, sessions: Mapping[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The history of a question as message lines, oldest session first; a second between turns."""
    for i, session in enumerate(question["sessions"]):
        begins = datetime.fromisoformat(session["at"])
        for j, turn in enumerate(sessions[session["key"]]):
            yield {"id": f"{i}:{j}", "session": f"{i}", "role": turn["role"], "content": turn["content"],
                   "at": (begins + timedelta(seconds=j)).isoformat()}  # fmt: skip


def evidence(question: Question) -> tuple[list[str], list[str]]:
    """Keys of the evidence turns, and of the evidence sessions; none where the question can't be answered."""
    if str(question["id"]).endswith("_abs"):
        return [], []
    wanted = set(question["answer_sessions"])
    sessions = [f"{i}" for i, s in enumerate(question["sessions"]) if s["session"] in wanted]
    return [f"{i}:{j}" for i, j in question.get("evidence_turns", [])], sessions


def score(keys: Sequence[str], turns: Sequence[str], sessions: Sequence[str]) -> dict[str, float]:
    """The measures of one ranking; without evidence turns those of sessions alone."""
    found = ranked(keys, turns, TURN_KS) if turns else {}
    if sessions:
        by_session = ranked(list(dict.fromkeys(k.split(":")[0] for k in keys)), sessions, SESSION_KS)
        found.update({f"session all@{k}": by_session[f"all@{k}"] for k in SESSION_KS})
    return found


def ask(memory: Memory, baselines: Baselines, question: Question) -> Scores:
    """Every system's scores on one question."""
    query, (turns, sessions) = question["query"], evidence(question)
    keys = [h.key for h in memory.search(query, top_k=DEPTH, asked_at=question.get("at")) if h.key]
    scores = {OURS: score(keys, turns, sessions)}
    for system in SYSTEMS[1:]:
        scores[system] = score(baselines.keys(system, query), turns, sessions)
    return scores


def run(options: argparse.Namespace, stores: Path) -> list[dict[str, Any]]:
    """Results of every answerable question that was asked for: id, type and scores."""
    inner = make_embedder(options.embedder)
    if inner is None:
        raise SystemExit("the dense baseline needs an embedder")
    embedder = kept_embedder(inner, stores)
    questions, sessions = load(options.data)
    taken = [q for q in questions if any(evidence(q))][:: options.every][: options.questions]
    mark = fingerprint(Path(__file__).read_text(encoding="utf-8"), embedder.model_id)
    stored = ingest_fingerprint(embedder.model_id)
    kept = Results(options.out / "longmemeval.questions.jsonl" if options.out else None, mark, fresh=options.fresh)
    left = [q for q in taken if q["id"] not in kept.found]
    with Progress(options, len(left)) as progress:
        for q in left:
            history = list(messages(q, sessions))
            with ingested(stores, f"longmemeval-{q['id']}", history, embedder, stored) as memory:
                baselines = Baselines([Turn.of(m) for m in history], embedder)
                kept.add({"id": q["id"], "type": q["type"], "scores": ask(memory, baselines, q)})
                baselines.close()
            progress.step(q["id"])
    embedder.close()
    return [kept.found[q["id"]] for q in taken]


def groups(results: Sequence[Mapping[str, Any]], measure: str) -> dict[str, list[Scores]]:
    """The questions that have a measure, all and by type."""
    have = [r for r in results if measure in r["scores"][OURS]]
    found = {"all": have, **{t: [r for r in have if r["type"] == t] for t in sorted({r["type"] for r in have})}}
    return {name: [r["scores"] for r in rows] for name, rows in found.items() if rows}


def _only(scores: Sequence[Scores], measures: Sequence[str]) -> list[Scores]:
    return [{s: {m: found[m] for m in measures} for s, found in by_system.items()} for by_system in scores]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    parser = machine.parser(__doc__)
    report.add_options(parser, "a folder of questions.jsonl and sessions.jsonl.gz")
    parser.add_argument("--questions", type=int, help="take the first n only")
    options = parser.parse_args(arguments)
    draw = options.out is not None and plots.installed(lambda text: machine.say(options, text))
    with nullcontext(options.stores) if options.stores else tempfile.TemporaryDirectory() as folder:
        results = run(options, Path(folder))
    drawn = {"draws": options.draws, "seed": options.seed}
    means: dict[str, dict[str, dict[str, Any]]] = {}
    paired: dict[str, dict[str, dict[str, Any]]] = {"all": {}}
    # Some questions have evidence by session alone: each kind of measure has questions of its own.
    for measures in (TURNS, SESSIONS):
        for name, scores in groups(results, measures[0]).items():
            scores = _only(scores, measures)
            for system, found in summary(scores, **drawn).items():
                means.setdefault(name, {}).setdefault(system, {}).update(found)
            if name == "all":
                for other, found in differences(scores, OURS, **drawn).items():
                    paired["all"].setdefault(other, {}).update(found)
    total = {n: m for n, m in means.items() if n == "all"}
    types = {n: m for n, m in means.items() if n != "all"}
    tables = {
        "turns, both sides of the conversation": report.rows(total, TURNS),
        "sessions, each as good as its first hit": report.rows(total, SESSIONS),
        "by type of question": report.rows(types, TURNS[:3] + SESSIONS, intervals=False),
        "agentmem minus each, turns": report.rows(paired, TURNS, sign="+"),
        "agentmem minus each, sessions": report.rows(paired, SESSIONS, sign="+"),
    }
    verdicts = report.goals(means.get("all", {}).get(OURS, {}), GOALS)
    if found := paired["all"].get(HYBRID):
        verdicts.append(report.not_below(found, TURNS[:3] + SESSIONS, HYBRID))
    report.finish(options, "longmemeval", tables, means=means, differences=paired, verdicts=verdicts)
    if draw and "all" in means:
        plots.dots(means["all"], PLOTTED, options.out / "longmemeval.png", ours=OURS)


if __name__ == "__main__":
    main()
