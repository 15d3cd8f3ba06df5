"""The weights of the ranking, learned from LoCoMo and LongMemEval, and whether they carry over to what they never saw.

`--locomo` is a folder with CONV.messages.jsonl and CONV.questions.jsonl, `--longmemeval` one with questions.jsonl and
sessions.jsonl.gz. The model is that of agentmem/ranking.py, a weighted sum of named features; what is minimised is the
cross-entropy of each evidence record against all other candidates of its question (a softmax over the candidates), with
an L2 term, by L-BFGS. A question of LongMemEval counts `--share` times, since there are fewer. The second pass looks at
the first one's result, so that fitting is repeated until the weights agree with it.

Printed first: all evidence in the top k on conversations that the weights were not fitted on. Fold i leaves out the
i-th conversation of LoCoMo and every fifth question of LongMemEval. Beside it weights of either set alone, and the
plain equal-weight hybrid over the same candidates. Then the constants of agentmem/ranking_weights.py, fitted on all.
The weights of `exact`, `verbatim` and `lexical` are set by hand: neither set asks for identifiers, and a record that
has a word itself shall come before its neighbours.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agentmem import ranking
from agentmem.ranking import SECOND_PASS, Signals
from agentmem.registry import make_embedder
from agentmem.retrieval import Filter
from agentmem.times import parse_time
from agentmem.types import Tier
from benchmarks import machine
from benchmarks.retrieval_longmemeval import load, messages
from benchmarks.stores import Progress, ingest_fingerprint, ingested, kept_embedder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agentmem import Memory

BY_HAND = {"exact": 6.0, "verbatim": 6.0, "lexical": 0.15}
LEARNED = tuple(f for f in ranking.FEATURES if f not in BY_HAND)
FOLDS = 5
POOL = 200
"""So many of each index are told apart in the fit. A search looks at more, which was measured to find more."""
ADVERSARIAL = 5
KS = (5, 10, 20)
PLAIN_HYBRID = {"whole": 1.0, "lexical": 1.0}


@dataclass(slots=True)
class Asked:
    """A question: its candidates' signals, which of them are evidence, how many there are in all, and its fold."""

    of: str
    fold: int
    signals: Signals
    first: dict[str, NDArray[np.float64]]
    evidence: NDArray[np.bool_]
    wanted: int
    sessions: tuple[str | None, ...]
    wanted_sessions: frozenset[str]

    def fixed(self) -> NDArray[np.float64]:
        """What the weights that are set by hand add."""
        return np.sum([w * self.first[f] for f, w in BY_HAND.items()], axis=0)

    def matrix(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The features (n, features), those of the second pass as the weights of the first have it."""
        columns = [self.first[f] for f in LEARNED if f in self.first]
        first = np.stack(columns, 1) @ weights[: len(columns)] + self.fixed()
        second = ranking.second_pass(self.signals, first)
        return np.stack([*columns, *(second[f] for f in SECOND_PASS)], 1)


def ask(memory: Memory, question: Mapping[str, Any], evidence: set[str], of: str, fold: int) -> Asked:
    """The candidates of a question."""
    at = parse_time(question["at"], "at") if question.get("at") else None
    found = memory.candidates(question["query"], Filter(tier=Tier.RECALL), at, pool=POOL)
    records = [found.messages[int(r[1:])] for r in found.refs]
    keys = [r.key for r in records]
    gold = {s["session"]: str(i) for i, s in enumerate(question.get("sessions", ()))}
    wanted = frozenset(gold[s] for s in question.get("answer_sessions", ()))
    return Asked(
        of, fold, found.signals, ranking.features(found.signals), np.array([k in evidence for k in keys], bool),
        len(evidence), tuple(r.session for r in records), wanted,
    )  # fmt: skip


def locomo(options: argparse.Namespace, folder: Path, embedder: Any) -> list[Asked]:
    """Every answerable question with evidence."""
    asked: list[Asked] = []
    found = sorted(options.locomo.glob("*.messages.jsonl"))
    for fold, path in enumerate(found):
        lines = [json.loads(x) for x in path.read_text(encoding="utf-8").split("\n") if x.strip()]
        questions = path.with_name(path.name.replace(".messages.", ".questions.")).read_text(encoding="utf-8")
        rows = [json.loads(x) for x in questions.split("\n") if x.strip()]
        name = path.name.split(".")[0]
        with ingested(folder, f"locomo-{name}", lines, embedder, ingest_fingerprint(embedder.model_id)) as memory:
            for row in rows:
                if row.get("evidence") and row["category"] != ADVERSARIAL:
                    asked.append(ask(memory, row, set(row["evidence"]), "LoCoMo", fold % FOLDS))
        machine.say(options, f"{path.name}: {len(asked)} questions so far")
    return asked


def longmemeval(options: argparse.Namespace, folder: Path, embedder: Any) -> list[Asked]:
    """Every answerable question."""
    asked: list[Asked] = []
    questions, sessions = load(options.longmemeval)
    chosen = [q for q in questions if not q["id"].endswith("_abs")][:: options.every]
    with Progress(options, len(chosen)) as progress:
        for n, row in enumerate(chosen):
            lines, name = list(messages(row, sessions)), f"longmemeval-{row['id']}"
            with ingested(folder, name, lines, embedder, ingest_fingerprint(embedder.model_id)) as memory:
                evidence = {f"{i}:{j}" for i, j in row["evidence_turns"]}
                asked.append(ask(memory, row, evidence, "LongMemEval", n % FOLDS))
            progress.step("LongMemEval")
    return asked


def fit(asked: Sequence[Asked], share: float, l2: float, rounds: int = 3) -> NDArray[np.float64]:
    """Weights of LEARNED, in its order."""
    import torch

    weights = np.zeros(len(LEARNED))
    asked = [a for a in asked if a.evidence.any()]
    for _ in range(rounds):
        table = torch.tensor(np.concatenate([a.matrix(weights) for a in asked]))
        fixed = torch.tensor(np.concatenate([a.fixed() for a in asked]))
        positive = torch.tensor(np.concatenate([a.evidence for a in asked]))
        group = torch.tensor(np.repeat(np.arange(len(asked)), [len(a.evidence) for a in asked]))
        counts = torch.zeros(len(asked), dtype=torch.float64).index_add(0, group, positive.double())
        counted = torch.tensor([share if a.of == "LongMemEval" else 1.0 for a in asked], dtype=torch.float64)
        w = torch.tensor(weights, requires_grad=True)
        optimiser = torch.optim.LBFGS([w], max_iter=200, line_search_fn="strong_wolfe")

        def closure() -> Any:
            optimiser.zero_grad()  # noqa: B023
            scores = table @ w + fixed  # noqa: B023
            top = torch.full((len(asked),), -1e9, dtype=torch.float64)
            top = top.scatter_reduce(0, group, scores.detach(), "amax")  # noqa: B023
            others = torch.exp(scores - top[group]) * ~positive  # noqa: B023
            rest = torch.zeros(len(asked), dtype=torch.float64).index_add(0, group, others)  # noqa: B023
            of = group[positive]  # noqa: B023
            losses = torch.log1p(rest[of] / torch.exp(scores[positive] - top[of]).clamp_min(1e-30))  # noqa: B023
            loss = (losses / counts[of] * counted[of]).sum() / counted.sum() + l2 * (w**2).sum()  # noqa: B023
            loss.backward()
            return loss

        optimiser.step(closure)
        weights = w.detach().numpy().copy()
    return weights


def passed(a: Asked, scores: NDArray[np.float64]) -> dict[str, bool | None]:
    """Whether all evidence is in the top k, and all sessions of it in the top five; None where it does not apply."""
    order = np.lexsort((a.signals.tie, -a.signals.at_utc, -scores))
    there = a.evidence[order]
    found: dict[str, bool | None] = {
        f"@{k}": bool(there[:k].sum() == a.wanted) if a.wanted else None for k in KS
    }  # fmt: skip
    best = list(dict.fromkeys(a.sessions[n] for n in order))[:5]
    found["sessions @5"] = a.wanted_sessions <= set(best) if a.wanted_sessions else None
    return found


def row(name: str, asked: Sequence[Asked], scores: Sequence[NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Per cents of both sets."""
    rows = []
    for of in dict.fromkeys(a.of for a in asked):
        results = [passed(a, s) for a, s in zip(asked, scores, strict=True) if a.of == of]
        cells = {}
        for measure in results[0]:
            values = [r[measure] for r in results if r[measure] is not None]
            cells[measure] = f"{100 * sum(map(bool, values)) / len(values):.1f}" if values else ""
        rows.append({"weights": name, "on": of, "n": len(results), **cells})
    return rows


def left_out(asked: Sequence[Asked], of: str | None, options: argparse.Namespace) -> list[NDArray[np.float64]]:
    """Scores of every question by weights fitted on the other folds (of one set, or both)."""
    weights = [
        fit([a for a in asked if a.fold != k and of in (None, a.of)], options.share, options.l2) for k in range(FOLDS)
    ]
    return [a.matrix(weights[a.fold]) @ weights[a.fold] + a.fixed() for a in asked]


def main() -> None:
    """Fit and print."""
    parser = machine.parser(__doc__)
    parser.add_argument("--locomo", type=Path, required=True, help="a folder of CONV.messages.jsonl and questions")
    parser.add_argument("--longmemeval", type=Path, required=True, help="a folder of questions.jsonl and sessions")
    parser.add_argument("--embedder", default="minilm", help="a spec (minilm)")
    parser.add_argument("--stores", type=Path, help="keep the stores here between runs")
    parser.add_argument("--share", type=float, default=5.0, help="how often a question of LongMemEval counts (5)")
    parser.add_argument("--l2", type=float, default=1e-3, help="of the weights (0.001)")
    parser.add_argument("--every", type=int, default=1, help="take every n-th question of LongMemEval only (1)")
    options = parser.parse_args()
    inner = make_embedder(options.embedder)
    if inner is None:
        parser.error("the dense features need an embedder")
    with nullcontext(options.stores) if options.stores else tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        embedder = kept_embedder(inner, folder)
        asked = locomo(options, folder, embedder) + longmemeval(options, folder, embedder)
        embedder.close()
    plain = [np.sum([w * a.first[f] for f, w in PLAIN_HYBRID.items()], axis=0) for a in asked]
    rows = row("equal-weight hybrid", asked, plain)
    for name, of in (("of LoCoMo's other folds", "LoCoMo"), ("of LongMemEval's", "LongMemEval"), ("of both", None)):
        machine.say(options, f"fitting {name}")
        rows += row(name, asked, left_out(asked, of, options))
    final = fit(asked, options.share, options.l2)
    constants = {**{f: round(float(w), 3) for f, w in zip(LEARNED, final, strict=True)}, **BY_HAND}
    machine.show(
        options, rows, weights=constants, seed=options.seed,
        note="per cent of questions with all evidence in the top k, by weights that did not see the conversation\n"
        f"fitted on all: {json.dumps(constants)}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
