"""How often all the evidence of a question is found: agentmem against three baselines, on conversations from outside.

`--data` is a folder with CONV.messages.jsonl and CONV.questions.jsonl in LoCoMo's format (a question has `query`,
`at`, `category` and `evidence`, keys of messages). Measured is whether every piece of evidence is among the best 5, 10,
20 hits, and whether it stands whole in a page-in of 512, 1024, 2048, 4096 tokens. The baselines page in by the same
packing, in the order of their own ranking:

- last messages: the newest first
- dense: the cosine of the same embedder, the question embedded as it is, speakers' names and all
- BM25: SQLite's full-text search alone, stop words out

Differences come with a 95 % interval of a paired bootstrap over the questions. Category 5 of LoCoMo (adversarial: the
answer was never said; its evidence is what the question twists) is a row of its own and in no total.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem import Memory
from agentmem.paging import pack
from agentmem.registry import make_embedder
from agentmem.types import Hit, Message, Tier
from benchmarks import machine

if TYPE_CHECKING:
    from agentmem.protocols import Embedder

TOKENS = (512, 1024, 2048, 4096)
TOP_KS = (5, 10, 20)
MEASURES = (*(f"@{k}" for k in TOP_KS), *(f"{n} tokens" for n in TOKENS))
SYSTEMS = ("agentmem", "last messages", "dense", "BM25")
ADVERSARIAL = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and for each system which measures it passed."""

    id: str
    category: int
    passed: dict[str, dict[str, bool]] = field(default_factory=dict)


class Conversation:
    """A history in a memory, and the rankings of the baselines over it."""

    def __init__(self, messages: Path, folder: Path, embedder: Embedder) -> None:
        lines = [line for line in messages.read_text(encoding="utf-8").split("\n") if line.strip()]
        self.embedder = embedder
        self.memory = Memory(folder / f"{messages.stem}.db", embedder=embedder)
        report = self.memory.ingest(lines)
        if report.malformed or report.conflicts:
            raise SystemExit(f"{messages}: {report.malformed[:1] or report.conflicts[:1]}")
        recall = self.memory.records.recall
        self.messages = {m.id: m for m in recall.since(1) if recall.is_searchable(m)}
        self.rows = self.memory.records.vectors.rows_of("recall", sorted(self.messages))

    def last(self, _: str) -> list[Hit]:
        """The newest first."""
        return [_hit(m, float(m.id)) for m in sorted(self.messages.values(), key=lambda m: -m.id)]

    def dense(self, query: str) -> list[Hit]:
        """By cosine, best key of each message."""
        vector = self.embedder.embed([query], input_type="query")[0]
        best: dict[int, float] = {}
        for record, row in self.rows:
            best[record] = max(best.get(record, -1.0), float(row @ vector))
        return [_hit(self.messages[i], s) for i, s in sorted(best.items(), key=lambda p: (-p[1], p[0]))]

    def bm25(self, query: str) -> list[Hit]:
        """By BM25."""
        lexical = self.memory.records.recall.lexical
        return [_hit(self.messages[i], s) for i, s in lexical.search(lexical.terms(query), top_k=None)]

    def ask(self, question: dict[str, Any]) -> Asked:
        """Every system's result for one question."""
        query, evidence = question["query"], set(question["evidence"])
        asked = Asked(question["id"], int(question.get("category", 0)))
        at = question.get("at")
        ours = [h.key for h in self.memory.search(query, top_k=max(TOP_KS), tier="recall", asked_at=at)]
        passed = {f"@{k}": evidence <= set(ours[:k]) for k in TOP_KS}
        for n in TOKENS:
            passed[f"{n} tokens"] = evidence <= set(self.memory.page_in(query, max_tokens=n, asked_at=at).keys)
        asked.passed["agentmem"] = passed
        rankings: dict[str, Callable[[str], list[Hit]]] = {
            "last messages": self.last, "dense": self.dense, "BM25": self.bm25
        }  # fmt: skip
        for name, rank in rankings.items():
            hits = rank(query)
            passed = {f"@{k}": evidence <= {h.key for h in hits[:k]} for k in TOP_KS}
            for n in TOKENS:
                passed[f"{n} tokens"] = evidence <= set(pack(hits, query, n, self.memory.shape.counter).keys)
            asked.passed[name] = passed
        return asked


def _hit(m: Message, score: float) -> Hit:
    return Hit(m.ref, Tier.RECALL, m.said, score, m.at, m.key, m.name, m.role, m.session)


def interval(differences: Sequence[float], draws: int, rng: random.Random) -> tuple[float, float]:
    """The 95 % interval of the mean, by bootstrap."""
    count = len(differences)
    means = sorted(sum(rng.choices(differences, k=count)) / count for _ in range(draws))
    return means[int(0.025 * draws)], means[int(0.975 * draws)]


def share(asked: Sequence[Asked], system: str, measure: str) -> float:
    """Per cent of the questions that passed."""
    return 100 * sum(a.passed[system][measure] for a in asked) / len(asked)


def table(asked: Sequence[Asked], categories: bool) -> list[dict[str, Any]]:
    """Rows of per cents: each system, in all and by category."""
    total = [a for a in asked if a.category != ADVERSARIAL]
    groups: list[tuple[str, list[Asked]]] = [("all", total)] if total else []
    if categories:
        for category in sorted({a.category for a in asked}):
            name = f"category {category}" + (" (adversarial)" if category == ADVERSARIAL else "")
            groups.append((name, [a for a in asked if a.category == category]))
    return [
        {
            "system": system, "questions": name, "n": len(group),
            **{m: f"{share(group, system, m):.1f}" for m in MEASURES},
        }
        for name, group in groups
        for system in SYSTEMS
    ]  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = machine.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder of CONV.messages.jsonl and questions")
    parser.add_argument("--embedder", default="minilm", help="a spec (minilm)")
    parser.add_argument("--draws", type=int, default=2000, help="of the bootstrap (2000)")
    parser.add_argument("--every", type=int, default=1, help="take every n-th question only (1)")
    options = parser.parse_args()
    embedder = make_embedder(options.embedder)
    if embedder is None:
        parser.error("the dense baseline needs an embedder")
    found = sorted(options.data.glob("*.messages.jsonl"))
    if not found:
        parser.error(f"{options.data} has no CONV.messages.jsonl")
    asked: list[Asked] = []
    left_out = 0
    with tempfile.TemporaryDirectory() as folder:
        for messages in found:
            start = time.perf_counter()
            conversation = Conversation(messages, Path(folder), embedder)
            file = messages.with_name(messages.name.replace(".messages.", ".questions."))
            questions = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
            with_evidence = [q for q in questions if q.get("evidence")]
            left_out += len(questions) - len(with_evidence)
            taken = with_evidence[:: options.every]
            asked += [conversation.ask(q) for q in taken]
            conversation.memory.close()
            seconds = time.perf_counter() - start
            machine.say(options, f"{messages.name}: {len(taken)} questions in {seconds:.0f} s")
    rng = random.Random(options.seed)
    total = [a for a in asked if a.category != ADVERSARIAL]
    differences: list[dict[str, Any]] = []
    for other in SYSTEMS[1:]:
        row: dict[str, Any] = {"system": f"agentmem - {other}", "questions": "all", "n": len(total)}
        for m in MEASURES:
            pairs = [100.0 * (a.passed["agentmem"][m] - a.passed[other][m]) for a in total]
            low, high = interval(pairs, options.draws, rng)
            row[m] = f"{sum(pairs) / len(pairs):+.1f} [{low:+.1f}, {high:+.1f}]"
        differences.append(row)
    machine.show(
        options, [*table(asked, True), *differences], seed=options.seed, conversations=len(found),
        note=f"per cent of questions with all their evidence found; {left_out} questions without evidence left out;"
        f" 95 % intervals of {options.draws} paired draws",
    )  # fmt: skip


if __name__ == "__main__":
    main()
