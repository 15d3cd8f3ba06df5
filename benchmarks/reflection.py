"""What reflection is worth, and costs: retrieval, page-ins and answers with and without each strategy, by rules.

LoCoMo (`--data`, as `benchmarks.retrieval_locomo`) and LongMemEval-S (`--longmemeval`, as
`benchmarks.retrieval_longmemeval`): one store a conversation; of each a copy on which one strategy of `--strategies`
was run in its model-free form, one on which those that are on by default were (`+default`), and one on which none was.
All are asked the same questions with the same budgets:

- *all@5, all@10*: all evidence is among the best hits of `Memory.search` (a derived passage is no evidence, and takes
  its place);
- *page-in 512, 2048*: all evidence stands whole in `Memory.page_in`; *shown*: whole or in part;
- *F1*: LoCoMo's token F1 of the extractive agent's answer, over questions that have one (of LongMemEval: a short one);
  *declined*: of those of category 5, which can't be answered.

Where a strategy changes nothing of a conversation, its results are those of none, and are not measured again.

Per cents with 95 % bootstrap intervals over questions; differences to none are paired. A strategy *helps* where a
difference's whole interval is above 0, and *harms* where it is below. Cost: seconds, model calls (none by rules) and
changes for 1,000 messages, reading what is new and reading nothing new.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem import Agent, Memory
from agentmem.cap_scores import f1_tokens, gold_f1
from agentmem.reflection import reflect
from agentmem.reflection.strategies import DEFAULT, STRATEGIES, make_strategy
from agentmem.registry import make_embedder
from benchmarks import machine, report, retrieval_longmemeval
from benchmarks.measures import Mean, Scores, differences, inside, ranked, summary
from benchmarks.retrieval_locomo import ADVERSARIAL, lines
from benchmarks.stores import Progress, Results, fingerprint, ingest_fingerprint, ingested, kept_embedder

if TYPE_CHECKING:
    from agentmem.protocols import Embedder

NONE, ON = "none", "+default"
LONGEST_ANSWER = 16
"""Of LongMemEval's, in tokens: longer ones are descriptions of a good answer."""
TOKENS = (512, 2048)
MEASURES = ("all@5", "all@10", *(f"page-in {t}" for t in TOKENS), *(f"shown {t}" for t in TOKENS), "F1")


@dataclass(frozen=True, slots=True)
class Question:
    """A question; `category` is LoCoMo's, or 0. Without `evidence` only its answer is scored."""

    id: str
    query: str
    at: str | None
    evidence: tuple[str, ...]
    answer: str
    category: int


def locomo(folder: Path, every: int) -> Iterator[tuple[str, list[Question], list[dict[str, Any]]]]:
    """Each conversation: the name of its store, its questions, its messages."""
    for path in sorted(folder.glob("*.messages.jsonl")):
        asked = lines(path.with_name(path.name.replace(".messages.", ".questions.")))
        found = [
            Question(
                q["id"], q["query"], q.get("at"), tuple(q.get("evidence") or ()), str(q.get("answer") or ""),
                int(q.get("category", 0)),
            )
            for q in asked
        ]  # fmt: skip
        yield f"locomo-{path.name.split('.')[0]}", [q for q in found if q.evidence][::every], lines(path)


def longmemeval(folder: Path, every: int) -> Iterator[tuple[str, list[Question], list[dict[str, Any]]]]:
    """As `locomo`, one question a history."""
    questions, sessions = retrieval_longmemeval.load(folder)
    for q in [q for q in questions if retrieval_longmemeval.evidence(q)[0]][::every]:
        turns = tuple(retrieval_longmemeval.evidence(q)[0])
        answer = str(q["answer"])
        short = answer if len(f1_tokens(answer)) <= LONGEST_ANSWER else ""
        asked = Question(q["id"], q["query"], q.get("at"), turns, short, 0)
        yield f"longmemeval-{q['id']}", [asked], list(retrieval_longmemeval.messages(q, sessions))


def ask(agent: Agent, question: Question) -> dict[str, float]:
    """All measures of one question."""
    memory, evidence = agent.memory, question.evidence
    found: dict[str, float] = {}
    if question.category != ADVERSARIAL:
        hits = memory.search(question.query, top_k=10, asked_at=question.at)
        # A derived passage has no key: it takes a place, and is no evidence.
        ranks = ranked([h.key or f"derived {h.id}" for h in hits], evidence, (5, 10))
        found = {m: ranks[m] for m in ("all@5", "all@10")}
        for tokens in TOKENS:
            page = memory.page_in(question.query, max_tokens=tokens, asked_at=question.at)
            found[f"page-in {tokens}"] = inside(page.keys, evidence)
            found[f"shown {tokens}"] = inside((*page.keys, *page.shortened), evidence)
    if question.answer or question.category == ADVERSARIAL:
        reply = agent.send(question.query, at=question.at, store=False)
        if question.category == ADVERSARIAL:
            found["declined"] = float(reply.abstained)
        else:
            said = "" if reply.abstained else reply.answer
            found["F1"] = gold_f1(said, question.answer, str(question.category))
    return found


def copied(source: Path, target: Path) -> None:
    """A store beside another, with its index."""
    shutil.copy(source, target)
    shutil.rmtree(f"{target}-index", ignore_errors=True)
    if Path(f"{source}-index").exists():
        shutil.copytree(f"{source}-index", f"{target}-index")


class Run:
    """Asks every question of every arm, unless its result is kept already."""

    def __init__(self, options: argparse.Namespace, stores: Path, embedder: Embedder) -> None:
        self._stores, self._embedder, self._options = stores, embedder, options
        mark = fingerprint(Path(__file__).read_text(encoding="utf-8"), embedder.model_id)
        self._kept = Results(
            options.out / "reflection.questions.jsonl" if options.out else None, mark, fresh=options.fresh
        )
        self._stored = ingest_fingerprint(embedder.model_id)
        self.arms = {NONE: (), **{s: (s,) for s in options.strategies}, ON: DEFAULT}

    def scores(self, work: Sequence[tuple[str, list[Question], list[dict[str, Any]]]]) -> list[tuple[Question, Scores]]:
        """For each question what each arm reached."""
        wanted = [f"{q.id} {arm}" for _, qs, _ in work for q in qs for arm in self.arms]
        with Progress(self._options, sum(w not in self._kept.found for w in wanted)) as progress:
            for name, questions, messages in work:
                for arm in self.arms:
                    self._ask(name, arm, questions, messages, progress)
        return [
            (q, {arm: self._kept.found[f"{q.id} {arm}"]["scores"] for arm in self.arms})
            for _, qs, _ in work
            for q in qs
        ]

    def costs(self, work: Sequence[tuple[str, list[Question], list[dict[str, Any]]]]) -> list[dict[str, Any]]:
        """A row an arm: for 1,000 messages."""
        rows = []
        for arm in [a for a in self.arms if a != NONE]:
            found = [self._kept.found[f"cost {name} {arm}"] for name, _, _ in work]
            thousands = sum(f["messages"] for f in found) / 1000
            row: dict[str, Any] = {"strategy": arm, "messages": int(1000 * thousands)}
            for column in ("seconds", "calls", "applied", "added", "closed"):
                row[column] = sum(f[column] for f in found) / thousands
            rows.append({**row, "nothing new, seconds": sum(f["again_s"] for f in found) / thousands})
        return rows

    def _ask(
        self, name: str, arm: str, questions: Sequence[Question], messages: list[dict[str, Any]], progress: Progress
    ) -> None:
        left = [q for q in questions if f"{q.id} {arm}" not in self._kept.found]
        if not left and (arm == NONE or f"cost {name} {arm}" in self._kept.found):
            return
        ingested(self._stores, name, messages, self._embedder, self._stored).close()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.db"
            copied(self._stores / f"{name}.db", path)
            with Memory(path, embedder=self._embedder) as memory:
                if self.arms[arm]:
                    cost = self._reflected(memory, arm, len(messages))
                    self._kept.add({"id": f"cost {name} {arm}", **cost})
                    if not cost["applied"]:
                        for q in left:
                            self._kept.add({**self._kept.found[f"{q.id} {NONE}"], "id": f"{q.id} {arm}"})
                            progress.step(f"{name}, {arm}")
                        return
                memory.catch_up()
                agent = Agent(memory)
                for q in left:
                    self._kept.add({"id": f"{q.id} {arm}", "scores": ask(agent, q)})
                    progress.step(f"{name}, {arm}")

    def _reflected(self, memory: Memory, arm: str, messages: int) -> dict[str, Any]:
        began = time.perf_counter()
        (found,) = reflect(memory, self.arms[arm])
        took = time.perf_counter() - began
        if found.state == "stopped":
            raise SystemExit(f"{arm}: {found.reason}")
        began = time.perf_counter()
        (again,) = reflect(memory, self.arms[arm])
        if again.state != "nothing new":
            raise SystemExit(f"{arm}: a second run with nothing new was {again.state}: {again.to_dict()}")
        ops = [a.change.op for a in found.changes if a.fate == "applied"]
        return {
            "messages": messages, "seconds": took, "calls": sum(s.calls for s in found.strategies),
            "applied": len(ops), "added": ops.count("add"), "closed": ops.count("close"),
            "again_s": time.perf_counter() - began,
        }  # fmt: skip


def verdicts(name: str, paired: Mapping[str, Mapping[str, Any]], arms: Sequence[str]) -> list[dict[str, str]]:
    """Of each strategy what it helps and harms, by intervals that leave 0 out."""
    rows = []
    for arm in [a for a in arms if a != NONE]:
        # `differences` says none minus the arm.
        helped = [f"{m} {0.0 - d.mean:+.1f}" for m, d in paired[arm].items() if d.high < 0]
        harmed = [f"{m} {0.0 - d.mean:+.1f}" for m, d in paired[arm].items() if d.low > 0]
        shown = {"helps": ", ".join(helped) or "nothing", "harms": ", ".join(harmed) or "nothing"}
        rows.append({"data": name, "strategy": arm, **shown})
    return rows


def by_measure(scores: Sequence[Scores], *, draws: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Means of every arm, and none minus each, each measure over the questions that have it."""
    means: dict[str, dict[str, Any]] = {}
    paired: dict[str, dict[str, Any]] = {}
    for m in (*MEASURES, "declined"):
        having = [{arm: {m: s[m]} for arm, s in q.items()} for q in scores if all(m in s for s in q.values())]
        for arm, found in summary(having, draws=draws, seed=seed).items():
            means.setdefault(arm, {}).update(found)
        for arm, found in differences(having, NONE, draws=draws, seed=seed).items():
            paired.setdefault(arm, {}).update(found)
    return means, paired


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    parser = machine.parser(__doc__)
    report.add_options(parser, "a folder of CONV.messages.jsonl and CONV.questions.jsonl")
    parser.add_argument("--longmemeval", type=Path, help="a folder with questions.jsonl and sessions.jsonl.gz")
    parser.add_argument("--lme-every", type=int, default=1, help="take every n-th question of LongMemEval only (1)")
    parser.add_argument(
        "--strategies", nargs="+", default=[s for s in STRATEGIES if "rules" in make_strategy(s).forms],
        help="names; each alone, beside none and the default ones together",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    inner = make_embedder(options.embedder)
    if inner is None:
        raise SystemExit("this measures with an embedder")
    drawn = {"draws": options.draws, "seed": options.seed}
    sets = {"locomo": list(locomo(options.data, options.every))}
    if options.longmemeval is not None:
        sets["longmemeval"] = list(longmemeval(options.longmemeval, options.lme_every))
    tables: dict[str, list[dict[str, Any]]] = {}
    told: list[dict[str, str]] = []
    means_of, paired_of = {}, {}
    with nullcontext(options.stores) if options.stores else tempfile.TemporaryDirectory() as folder:
        run = Run(options, Path(folder), kept_embedder(inner, Path(folder)))
        for name, work in sets.items():
            scores = [s for _, s in run.scores(work)]
            means_of[name], paired_of[name] = by_measure(scores, **drawn)
            columns = [m for m in (*MEASURES, "declined") if m in means_of[name][NONE]]
            tables[f"{name}: with each strategy"] = report.rows({name: means_of[name]}, columns)
            flipped = {
                arm: {m: Mean(0.0 - d.mean, 0.0 - d.high, 0.0 - d.low, d.count) for m, d in found.items()}
                for arm, found in paired_of[name].items()
            }
            tables[f"{name}: minus none"] = report.rows({name: flipped}, columns, sign="+")
            tables[f"{name}: cost for 1,000 messages"] = run.costs(work)
            told += verdicts(name, paired_of[name], list(run.arms))
    tables["what each is worth"] = told
    note = f"per cent of questions, 95 % intervals of {options.draws} bootstrap draws, seed {options.seed}"
    document = machine.show_tables(options, tables, note=note, default=list(DEFAULT), verdicts=told)
    if options.out:
        import json

        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / "reflection.results.json"
        path.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        machine.say(options, f"written: {path}")


if __name__ == "__main__":
    main()
