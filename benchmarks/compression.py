"""Evidence kept against prompt tokens: page-ins of 256 to 2,048 tokens with a compressor, beside those without one.

`Memory(..., compressor=SPEC).page_in(query, max_tokens=N)` on LoCoMo (`--data`, as `benchmarks.retrieval_locomo`) and
LongMemEval-S (`--longmemeval`, as `benchmarks.retrieval_longmemeval`): one store a conversation, opened with each of
`--compressors`, so that all arms have the same ranker. "none" pages in whole records, of very long ones excerpts.

LoCoMo: the questions of categories 1, 3 and 4 of whose answer tokens at least one stands in the gold turns (and, apart,
those of which all do; and category 2, whose answers are dates, mostly reckoned and not said). LongMemEval: those with
an answer of at most 16 tokens that an evidence turn says as it is; such turns are the gold. A question counts where

- *in the page*: all those tokens are somewhere in the page's text, also by another turn's words, a label, a date;
- *in the gold turns*: each gold turn still shows all answer tokens that it holds;
- *whole*: all gold turns stand whole.

Function words are left out of the tokens (`benchmarks.answer_tokens`), and left in for a note. Per cents with 95 %
bootstrap intervals over questions; differences are paired. A model with random weights runs, and says nothing of
quality.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem import Memory
from agentmem.registry import make_compressor, make_embedder
from agentmem.types import Page
from benchmarks import answer_tokens, machine, plots, report, retrieval_longmemeval
from benchmarks.answer_tokens import Gold, said_in
from benchmarks.locomo_pages import f1_tokens
from benchmarks.measures import Bootstrap, Mean, Scores, differences, summary
from benchmarks.retrieval_locomo import lines
from benchmarks.stores import Progress, Results, fingerprint, ingest_fingerprint, ingested, kept_embedder

if TYPE_CHECKING:
    from agentmem.protocols import Compressor, Embedder, TokenCounter

NONE = "none"
TOKENS = (256, 512, 1024, 2048)
FROM, TO = 1024, 512
"""What none reaches at so many tokens is to be reached at so many."""
WITHIN = 1.0
MEASURES = {"page": "in the page", "turns": "in the gold turns", "whole": "gold turns whole"}
NOTED = {"page+": "in the page", "turns+": "in the gold turns"}
LONGEST_ANSWER = 16
MAIN = ("categories 1, 3, 4", "all")
"""The questions of a data set that its total is over."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question and what its answer leaves in its evidence. `store` names the history that it is asked of; `groups`
    are the totals that it belongs to."""

    id: str
    store: str
    query: str
    at: str | None
    groups: tuple[str, ...]
    gold: Gold


def locomo(folder: Path) -> Iterator[tuple[Sequence[Question], list[dict[str, Any]]]]:
    """The questions of each conversation, and its messages."""
    for path in sorted(folder.glob("*.messages.jsonl")):
        messages, name = lines(path), path.name.split(".")[0]
        said = {m["id"]: m["content"] for m in messages}
        found = []
        for q in lines(path.with_name(path.name.replace(".messages.", ".questions."))):
            category = int(q.get("category", 0))
            gold = Gold.of(str(q.get("answer", "")), {k: said[k] for k in q.get("evidence", ()) if k in said})
            if category not in (1, 2, 3, 4) or not gold:
                continue
            groups = ("category 2 (dates)",) if category == 2 else (MAIN[0], f"category {category}")
            if gold.complete and category != 2:
                groups = (*groups, "categories 1, 3, 4, all tokens there")
            found.append(Question(q["id"], f"locomo-{name}", q["query"], q.get("at"), groups, gold))
        yield found, messages


def longmemeval(folder: Path, every: int) -> Iterator[tuple[Sequence[Question], list[dict[str, Any]]]]:
    """One question a history, as above."""
    questions, sessions = retrieval_longmemeval.load(folder)
    for q in [q for q in questions if retrieval_longmemeval.evidence(q)[0]][::every]:
        answer = str(q["answer"])
        if len(f1_tokens(answer)) > LONGEST_ANSWER:
            continue
        history = list(retrieval_longmemeval.messages(q, sessions))
        turns = {m["id"]: m["content"] for m in history}
        gold = Gold.of(answer, {k: turns[k] for k in retrieval_longmemeval.evidence(q)[0] if said_in(answer, turns[k])})
        if gold:
            yield (
                [Question(q["id"], f"longmemeval-{q['id']}", q["query"], q.get("at"), (MAIN[1], q["type"]), gold)],
                (history),
            )


def looked_at(page: Page, gold: Gold, counter: TokenCounter) -> dict[str, float]:
    """What a page keeps of the evidence, and what it is made of."""
    return {
        **gold.kept(page),
        "tokens": page.num_tokens,
        "records": len(page.items),
        "short": sum(not i.whole for i in page.items),
        "shown": sum(counter.count(i.text) for i in page.items),
        "stored": sum(counter.count(i.hit.text) for i in page.items),
    }


def ask(memory: Memory, question: Question) -> dict[str, float]:
    """All measures at each number of tokens, as `measure@tokens`."""
    found: dict[str, float] = {}
    for tokens in TOKENS:
        page = memory.page_in(question.query, max_tokens=tokens, asked_at=question.at)
        found |= {f"{m}@{tokens}": v for m, v in looked_at(page, question.gold, memory.shape.counter).items()}
    return found


class Run:
    """Asks each question with each compressor, unless its result is kept already."""

    def __init__(self, options: argparse.Namespace, stores: Path, embedder: Embedder) -> None:
        self._options, self._stores, self._embedder = options, stores, embedder
        sources = (p.read_text(encoding="utf-8") for p in (Path(__file__), Path(answer_tokens.__file__)))
        self._kept = Results(
            options.out / "compression.questions.jsonl" if options.out else None,
            fingerprint(*sources, embedder.model_id), fresh=options.fresh,
        )  # fmt: skip
        self._stored = ingest_fingerprint(embedder.model_id)
        self._compressors: dict[str, Compressor | str] = {s: make_compressor(s) or NONE for s in options.compressors}
        self.failures: Counter[str] = Counter()

    def scores(self, work: Sequence[tuple[Sequence[Question], list[dict[str, Any]]]]) -> list[tuple[Question, Scores]]:
        """For each question what each compressor reached."""
        total = sum(self._id(q, s) not in self._kept.found for qs, _ in work for q in qs for s in self._compressors)
        with Progress(self._options, total) as progress:
            for questions, messages in work:
                self._history(questions, messages, progress)
        return [
            (q, {s: self._kept.found[self._id(q, s)]["scores"] for s in self._compressors})
            for qs, _ in work
            for q in qs
        ]

    def _id(self, question: Question, spec: str) -> str:
        made = self._compressors[spec]
        return f"{question.id} {made if isinstance(made, str) else f'{spec} {made.fingerprint}'}"

    def _history(self, questions: Sequence[Question], messages: list[dict[str, Any]], progress: Progress) -> None:
        for spec, made in self._compressors.items():
            left = [q for q in questions if self._id(q, spec) not in self._kept.found]
            if not left:
                continue
            name = left[0].store
            ingested(self._stores, name, messages, self._embedder, self._stored).close()
            with Memory(self._stores / f"{name}.db", embedder=self._embedder, compressor=made) as memory:
                for q in left:
                    self._kept.add({"id": self._id(q, spec), "scores": ask(memory, q)})
                    progress.step(f"{name}, {spec}")
                said = [n for n in memory.notices if n.startswith("compressor ")]
            self.failures.update(f"{spec}: {notice}" for notice in said)


def tables(
    name: str, found: Sequence[tuple[Question, Scores]], *, draws: int, seed: int
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """The tables of one data set, and its `means`, `differences` and `verdicts`."""
    parts: dict[str, list[Scores]] = {}
    for question, scores in found:
        for group in question.groups:
            parts.setdefault(group, []).append(scores)
    parts = {g: parts[g] for g in sorted(parts, key=lambda g: (g not in MAIN, g))}
    means = {g: summary(_shares(s, (*MEASURES, *NOTED)), draws=draws, seed=seed) for g, s in parts.items()}
    main = next(iter(parts))
    out: dict[str, list[dict[str, Any]]] = {}
    for kind, title in MEASURES.items():
        out[f"{name}: {title}"] = report.rows({main: means[main]}, _at(kind))
    out[f"{name}: pages of {main}"] = _made_of(parts[main])
    paired = {g: _less_none(s, draws=draws, seed=seed) for g, s in parts.items()}
    for kind, title in MEASURES.items():
        out[f"{name}: minus none at the same tokens, {title}"] = report.rows({main: paired[main]}, _at(kind), sign="+")
    for kind, title in MEASURES.items():
        out[f"{name}: by kind of question, {title}"] = report.rows(
            {g: m for g, m in means.items() if g != main}, _at(kind), intervals=False
        )
    for kind, title in NOTED.items():
        out[f"{name}: function words too, {title}"] = report.rows({main: means[main]}, _at(kind), intervals=False)
    verdicts = _verdicts(name, parts[main], draws=draws, seed=seed)
    return out, {"means": means, "differences": paired, "verdicts": verdicts, "main": main}


def _at(measure: str) -> tuple[str, ...]:
    return tuple(f"{measure}@{t}" for t in TOKENS)


def _shares(scores: Sequence[Scores], measures: Sequence[str]) -> list[Scores]:
    names = [m for measure in measures for m in _at(measure)]
    return [{s: {m: row[s][m] for m in names} for s in row} for row in scores]


def _less_none(scores: Sequence[Scores], *, draws: int, seed: int) -> dict[str, dict[str, Mean]]:
    pure = _shares(scores, tuple(MEASURES))
    found: dict[str, dict[str, Mean]] = {}
    for spec in (s for s in pure[0] if s != NONE):
        pairs = [{spec: row[spec], NONE: row[NONE]} for row in pure]
        found[spec] = differences(pairs, spec, draws=draws, seed=seed)[NONE]
    return found


def _made_of(scores: Sequence[Scores]) -> list[dict[str, Any]]:
    rows = []
    for spec in scores[0]:
        row: dict[str, Any] = {"system": spec}
        for tokens in TOKENS:
            sums = {
                m: sum(s[spec][f"{m}@{tokens}"] for s in scores)
                for m in ("tokens", "records", "short", "shown", "stored")
            }
            n = len(scores)
            row[f"records@{tokens}"] = f"{sums['records'] / n:.1f} ({sums['short'] / n:.1f} short)"
            row[f"ratio@{tokens}"] = f"{sums['shown'] / max(1, sums['stored']):.3f}"
            row[f"tokens@{tokens}"] = f"{sums['tokens'] / n:.0f}"
        rows.append(row)
    return rows


def _verdicts(name: str, scores: Sequence[Scores], *, draws: int, seed: int) -> list[dict[str, Any]]:
    """For each compressor and way to look whether it reaches at fewer tokens what none does at more."""
    boot = Bootstrap(len(scores), draws=draws, seed=seed)
    found = []
    for spec in (s for s in scores[0] if s != NONE):
        for kind in ("page", "turns"):
            ours = [s[spec][f"{kind}@{TO}"] for s in scores]
            theirs = [s[NONE][f"{kind}@{FROM}"] for s in scores]
            less = boot.difference(ours, theirs)
            found.append({
                "goal": f"{name}, {MEASURES[kind]}: {spec} at {TO} within {WITHIN:g} of none at {FROM}",
                "measured": f"{boot.mean(ours).mean:.1f} against {boot.mean(theirs).mean:.1f}: {less.shown('+')}",
                "met": less.mean >= -WITHIN,
            })  # fmt: skip
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    parser = machine.parser(__doc__)
    report.add_options(parser, "LoCoMo: a folder of CONV.messages.jsonl and CONV.questions.jsonl")
    parser.add_argument("--longmemeval", type=Path, help="a folder of questions.jsonl and sessions.jsonl.gz")
    parser.add_argument("--longmemeval-every", type=int, default=1, help="take every n-th question of it only (1)")
    parser.add_argument("--compressors", nargs="+", default=["extractive"], help="specs; none is always beside them")
    options = parser.parse_args(arguments)
    options.compressors = list(dict.fromkeys([NONE, *options.compressors]))
    draw = options.out is not None and plots.installed(lambda text: machine.say(options, text))
    inner = make_embedder(options.embedder)
    if inner is None:
        raise SystemExit("the ranking needs an embedder")
    sets: dict[str, list[tuple[Sequence[Question], list[dict[str, Any]]]]] = {"LoCoMo": []}
    sets["LoCoMo"] = [(qs[:: options.every], m) for qs, m in locomo(options.data)]
    if not any(qs for qs, _ in sets["LoCoMo"]):
        raise SystemExit(f"{options.data} has no CONV.messages.jsonl with questions")
    if options.longmemeval:
        sets["LongMemEval"] = list(longmemeval(options.longmemeval, options.longmemeval_every))
    found: dict[str, Any] = {}
    shown: dict[str, list[dict[str, Any]]] = {}
    verdicts: list[dict[str, Any]] = []
    with nullcontext(options.stores) if options.stores else tempfile.TemporaryDirectory() as folder:
        embedder = kept_embedder(inner, Path(folder))
        run = Run(options, Path(folder), embedder)
        for name, work in sets.items():
            more, found[name] = tables(name, run.scores(work), draws=options.draws, seed=options.seed)
            shown |= more
            verdicts += found[name]["verdicts"]
        embedder.close()
    if run.failures:
        shown["compressors that failed"] = [{"what": w, "histories": n} for w, n in run.failures.most_common()]
    if models := [s for s in options.compressors if ":" in s and not s.startswith("extractive")]:
        said = "what is kept depends on the weights; random ones run, and say nothing of quality"
        shown["compressors with a model"] = [{"compressor": s, "note": said} for s in models]
    report.finish(
        options, "compression", shown,
        means={f"{n}, {g}": m for n, f in found.items() for g, m in f["means"].items()},
        differences={f"{n}, {g}": m for n, f in found.items() for g, m in f["differences"].items()}, verdicts=verdicts,
    )  # fmt: skip
    if draw:
        for name, f in found.items():
            path = options.out / f"compression.{name.lower()}.png"
            plots.evidence_kept(f["means"][f["main"]], TOKENS, path, title=f"{name}, {f['main']}", goal=(FROM, TO))


if __name__ == "__main__":
    main()
