"""Derives the constants of agentmem.reading from LoCoMo conversations, and measures the extractive reader on them.

python benchmarks/fit_reading.py --data PATH_OF_LOCOMO_FOLDER [--seed 0] [--no-minilm]

The page-ins come from the stand-in retriever of `locomo_pages.py`. Tables are fitted with each conversation left out
in turn, and measured on it; what is shipped is fitted on all. LoCoMo is the only data: "foreign" questions are its own
with the names of the next conversation put in and asked of that one, which can't answer them.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from locomo_pages import TOP_K, Asked, f1_tokens, gold_f1, load, token_f1, without_names

from agentmem import reading, reading_weights
from agentmem.dates import day_phrase, spoken
from agentmem.evidence import Candidate, Evidence
from agentmem.phrases import Phrases
from agentmem.types import PageItem

# Where the weights are drawn to: what a person would say of kinds of question that the conversations have few of.
PRIOR = {
    "number type": 1.0, "duration type": 1.0, "who type": 0.5, "where type": 0.5, "why type": 0.5,
    "why after because": 2.0, "number has number": 1.0, "number first num": 1.0, "duration first num": 1.0,
    "duration has unit": 1.0, "number has unit": 0.5, "who has capital": 1.0, "who first cap": 1.0,
    "where first cap": 1.0,
    "where left prep": 0.5, "after verb 0": 1.0, "has focus": 0.5, "only a speaker": -1.0, "cuts a name": -1.0,
    "cuts its name": -1.0,
}  # fmt: skip


def soft_fit(
    groups: list[tuple[np.ndarray, np.ndarray]], prior: np.ndarray, l2: float, steps: int, rate: float = 0.1
) -> np.ndarray:
    """Weights under which a softmax over each group's rows expects the most: Adam on its mean and logarithm."""
    x, y = np.concatenate([g[0] for g in groups]), np.concatenate([g[1] for g in groups])
    cuts = np.cumsum([0] + [len(g[1]) for g in groups])[:-1]
    sizes = np.array([len(g[1]) for g in groups])
    scale = 1 / np.maximum(np.maximum.reduceat(y, cuts), 0.05)
    w, m, v = prior.copy(), np.zeros_like(prior), np.zeros_like(prior)
    for t in range(1, steps + 1):
        z_ = x @ w
        e = np.exp(z_ - np.repeat(np.maximum.reduceat(z_, cuts), sizes))
        p = e / np.repeat(np.add.reduceat(e, cuts), sizes)
        mean = np.add.reduceat(p * y, cuts)
        outer = (1 + 0.3 * scale / (mean * scale + 0.02)) / len(groups)
        grad = -(x.T @ (p * (y - np.repeat(mean, sizes)) * np.repeat(outer, sizes))) + 2 * l2 * (w - prior)
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        w = w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


def fit_table(
    groups: list[tuple[list[dict[str, float]], list[float]]], l2: float, steps: int, least: float
) -> dict[str, float]:
    """A table of named weights, the small ones left out and the others fitted again."""
    names = sorted({f for rows_, _ in groups for r in rows_ for f in r})
    weights: dict[str, float] = {}
    for last in (False, True):
        place = {n: i for i, n in enumerate(names)}
        prior = np.array([PRIOR.get(n, 0.0) for n in names], np.float32)
        arrays = []
        for rows_, y in groups:
            x = np.zeros((len(rows_), len(names)), np.float32)
            for i, row in enumerate(rows_):
                for f, value in row.items():
                    if f in place:
                        x[i, place[f]] = value
            arrays.append((x, np.array(y, np.float32)))
        weights = dict(zip(names, soft_fit(arrays, prior, l2, steps).tolist(), strict=True))
        names = names if last else [n for n in names if abs(weights[n]) >= least]
    return {n: round(w, 2) for n, w in sorted(weights.items()) if abs(w) >= 0.05}


def best_f1_in(c: Candidate, gold: list[Counter[str]]) -> float:
    """The best token F1 of any run of twelve words of a sentence."""
    tokens = [f1_tokens(c.text[w.start : w.end]) for w in c.words]
    best = 0.0
    for g in gold:
        for i in range(len(tokens)):
            if not any(t in g for t in tokens[i]):
                continue
            for j in range(i + 1, min(len(tokens), i + 12) + 1):
                best = max(best, counts_f1([t for ts in tokens[i:j] for t in ts], g))
    return best


def counts_f1(said: list[str], gold: Counter[str]) -> float:
    same = sum(min(n, gold.get(t, 0)) for t, n in Counter(said).items())
    return 2 * same / (len(said) + sum(gold.values())) if same else 0.0


def golds(q: Asked) -> list[Counter[str]]:
    answer = q.answer.split(";")[0] if q.category == 3 else q.answer
    parts = [p for p in answer.split(",") if p.strip()] if q.category == 1 else []
    return [Counter(f1_tokens(p)) for p in [*parts, answer]]


def use(sentence: dict[str, float], phrase: dict[str, float]) -> None:
    """Let the reader read with these tables."""
    for table, new in ((reading_weights.SENTENCE, sentence), (reading_weights.PHRASE, phrase)):
        table.clear()
        table.update(new)


def sentence_group(q: Asked) -> tuple[list[dict[str, float]], list[float]]:
    evidence = Evidence(q.query, q.items, q.at)
    rows_, y = [], []
    for c in evidence.candidates():
        hit = q.items[c.item].hit
        if evidence.asking.kind == "when":
            said = [spoken(d) for d in c.dates]
            value = max([gold_f1(s, q.answer, 2) for s in said] or [0.7 * gold_f1(day_phrase(hit.at), q.answer, 2)])
        else:
            value = best_f1_in(c, golds(q))
        rows_.append(c.features)
        y.append(value)
    return rows_, y


def phrase_group(q: Asked) -> tuple[list[dict[str, float]], list[float]]:
    """Phrases of the best sentences, under the sentence table in use."""
    evidence = Evidence(q.query, q.items, q.at)
    rows_: list[dict[str, float]] = []
    y: list[float] = []
    if evidence.asking.kind in ("when", "yesno"):
        return rows_, y
    ranked = reading.rank_sentences(evidence)
    gold = golds(q)
    for rank, (score, c) in enumerate(reading.sentences_read(evidence, ranked)):
        phrases = Phrases(evidence.asking, c.words, evidence.rarity, evidence.names)
        part = reading.sentence_part(score - ranked[0][0], rank)
        for i, j in reading.answer_runs(evidence, c):
            rows_.append(phrases.features(i, j) | part)
            said = f1_tokens(c.text[c.words[i].start : c.words[j - 1].end])
            y.append(max(counts_f1(said, g) for g in gold))
    return rows_, y


def fit_tables(asked: list[Asked]) -> tuple[dict[str, float], dict[str, float]]:
    """The sentence and the phrase table from answerable questions."""
    answerable = [q for q in asked if q.category != 5 and q.items]
    groups = [g for g in map(sentence_group, answerable) if g[1] and max(g[1]) > 0.15]
    sentence = fit_table(groups, l2=1e-3, steps=150, least=0.2)
    use(sentence, {})
    groups = [g for g in map(phrase_group, answerable) if g[1] and max(g[1]) > 0.2]
    return sentence, fit_table(groups, l2=1e-3, steps=120, least=0.3)


def raw_signals(query: str, items: tuple[PageItem, ...], at: datetime | None) -> dict[str, float]:
    """The confidence rule's signals for what the reader would cite."""
    evidence = Evidence(query, items, at)
    ranked = reading.rank_sentences(evidence)
    kind = evidence.asking.kind
    parts = [("", ranked[0][1])] if kind in ("when", "yesno") else reading.answer_parts(evidence, ranked)
    return reading.signals(evidence, parts[0][1])


@dataclass(frozen=True)
class Tried:
    """The signals of a question, one way it was asked: `answerable`, `adversarial` (the other person's fact),
    `foreign` (another conversation's fact); the first and the last also with no speaker named."""

    conversation: str
    way: str
    found: dict[str, float]

    @property
    def good(self) -> bool:
        return self.way.startswith("answerable")


def try_all(asked: list[Asked]) -> list[Tried]:
    out = []
    for q in asked:
        names = {i.hit.name for i in q.items if i.hit.name}
        others = {i.hit.name for i in q.foreign if i.hit.name}
        if q.category == 5:
            out.append(Tried(q.conversation, "adversarial", raw_signals(q.query, q.items, q.at)))
            continue
        out.append(Tried(q.conversation, "answerable", raw_signals(q.query, q.items, q.at)))
        out.append(
            Tried(q.conversation, "answerable, no name", raw_signals(without_names(q.query, names), q.items, q.at))
        )
        out.append(Tried(q.conversation, "foreign", raw_signals(q.foreign_query, q.foreign, q.at)))
        out.append(
            Tried(
                q.conversation, "foreign, no name", raw_signals(without_names(q.foreign_query, others), q.foreign, q.at)
            )
        )
    return out


WAYS = ("answerable", "answerable, no name", "adversarial", "foreign", "foreign, no name")
SHARES = {"answerable": 0.35, "answerable, no name": 0.15, "adversarial": 0.3, "foreign": 0.1, "foreign, no name": 0.1}


def fit_confidence(tried: list[Tried]) -> dict[str, float]:
    """Logistic regression of "can be answered" on the raw signals; SHARES is what each way of asking weighs."""
    names = sorted({n for t in tried for n in t.found})
    counts = Counter(t.way for t in tried)
    x = np.array([[t.found.get(n, 0.0) for n in names] for t in tried])
    y = np.array([t.good for t in tried], float)
    weight = np.array([SHARES[t.way] / counts[t.way] for t in tried])
    w = np.zeros(len(names))
    for _ in range(50):  # Newton's steps
        p = 1 / (1 + np.exp(-(x @ w)))
        grad = x.T @ (weight * (p - y)) + 1e-3 * w
        hess = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(len(names))
        w -= np.linalg.solve(hess, grad)
    out = dict(zip(names, w.tolist(), strict=True))
    # One threshold for both: questions that name nobody lack signals, so their tenth is moved to that of the others.
    tenth = [
        np.quantile([sum(out[n] * v for n, v in t.found.items()) for t in tried if t.way == way], 0.1)
        for way in WAYS[:2]
    ]
    shift = float(tenth[0] - tenth[1])
    out["bias"] += shift
    out["named"] -= shift
    return {n: round(v, 2) for n, v in out.items()}


def confidence(found: dict[str, float], table: dict[str, float]) -> float:
    return 0.0 if found["cover"] <= 0 else 1 / (1 + math.exp(-reading.worth(found, table)))


def threshold(values: list[float], share: float) -> float:
    """Below it lies `share` of the values."""
    return round(float(np.quantile(values, share)), 3)


def auc(good: list[float], bad: list[float]) -> float:
    a, b = np.array(good)[:, None], np.array(bad)[None, :]
    return float((a > b).mean() + 0.5 * (a == b).mean())


def f1_line(name: str, scored: list[tuple[int, float]]) -> str:
    by = {c: [s for k, s in scored if k == c] for c in (1, 2, 3, 4)}
    cells = " / ".join(f"{100 * float(np.mean(by[c])):5.1f}" for c in by)
    return f"{name:44s} | {cells} | {100 * float(np.mean([s for _, s in scored])):5.1f}  n={len(scored)}"


def spans(asked: list[Asked]) -> list[str]:
    """What the reader would answer if it never abstained."""
    reading.THRESHOLD, kept = -1.0, reading.THRESHOLD
    try:
        return [reading.read(q.query, q.items, asked_at=q.at).span for q in asked]
    finally:
        reading.THRESHOLD = kept


def scored(asked: list[Asked], said: list[str]) -> list[tuple[int, float]]:
    return [(q.category, gold_f1(s, q.answer, q.category)) for q, s in zip(asked, said, strict=True) if q.category != 5]


def plain(asked: list[Asked], said: list[str]) -> list[tuple[int, float]]:
    """One F1 over the whole answer for every category, multi-hop too."""
    return [(q.category, token_f1(s, q.answer)) for q, s in zip(asked, said, strict=True) if q.category != 5]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-minilm", action="store_true")
    parser.add_argument("--write", type=Path, help="write the constants as this Python file")
    args = parser.parse_args()
    np.random.seed(args.seed)
    print(f"python {sys.version.split()[0]}, numpy {np.__version__}, seed {args.seed} (nothing here is random)")
    asked = load(args.data, not args.no_minilm)
    shipped = (dict(reading_weights.SENTENCE), dict(reading_weights.PHRASE))
    folds = sorted({q.conversation for q in asked})
    print(f"{len(asked)} questions of {', '.join(folds)}; page-in: {TOP_K} turns")
    print("token F1 x100 by category (1 multi-hop / 2 temporal / 3 open / 4 single-hop) | mean; nothing abstained")
    if shipped[0]:
        print(f1_line("shipped constants (fitted on these)", scored(asked, spans(asked))))
    held_asked, held_said, tried = [], [], []
    for fold in folds:
        rest, held = ([q for q in asked if (q.conversation == fold) == side] for side in (False, True))
        use(*fit_tables(rest))
        held_asked += held
        held_said += spans(held)
        tried += try_all(held)
    print(f1_line("leave one conversation out", scored(held_asked, held_said)))
    print(f1_line("leave one out, lists scored as one text", plain(held_asked, held_said)))
    print("abstained on, leave one conversation out (tables, constants and threshold from the other four):")
    for share in (0.05, 0.1, 0.2):
        said: dict[str, list[bool]] = {way: [] for way in WAYS}
        values: dict[str, list[float]] = {way: [] for way in WAYS}
        for fold in folds:
            others = [t for t in tried if t.conversation != fold]
            table = fit_confidence(others)
            cut = threshold([confidence(t.found, table) for t in others if t.way == "answerable"], share)
            for t in tried:
                if t.conversation == fold:
                    values[t.way].append(confidence(t.found, table))
                    said[t.way].append(values[t.way][-1] < cut)
        cells = "; ".join(f"{way} {100 * float(np.mean(x)):.1f}% of {len(x)}" for way, x in said.items())
        print(f"  aimed at {100 * share:.0f}% wrong: {cells}; AUC against adversarial "
              f"{auc(values['answerable'], values['adversarial']):.3f}, foreign "
              f"{auc(values['answerable'], values['foreign']):.3f}")  # fmt: skip
    for name in sorted({n for t in tried for n in t.found} - {"bias"}):
        value = {way: [t.found.get(name, 0.0) for t in tried if t.way == way] for way in WAYS}
        print(f"  {name} alone: AUC against adversarial {auc(value['answerable'], value['adversarial']):.3f}, "
              f"foreign {auc(value['answerable'], value['foreign']):.3f}")  # fmt: skip

    sentence, phrase = fit_tables(asked)
    use(sentence, phrase)
    table = fit_confidence(tried)
    cut = threshold([confidence(t.found, table) for t in tried if t.way == "answerable"], 0.1)
    print(f1_line("fitted on all five (what is shipped)", scored(asked, spans(asked))))
    print(f"{len(sentence)} sentence weights, {len(phrase)} phrase weights")
    print(f"CONFIDENCE = {table}\nTHRESHOLD = {cut}")
    if args.write:
        write(args.write, sentence, phrase, table, cut)


def write(
    path: Path, sentence: dict[str, float], phrase: dict[str, float], table: dict[str, float], cut: float
) -> None:
    lines = ['"""What the features of the reader are worth. Written by `benchmarks/fit_reading.py`: not by hand."""',
             "", "from __future__ import annotations", ""]  # fmt: skip
    for name, weights in (("SENTENCE", sentence), ("PHRASE", phrase), ("CONFIDENCE", table)):
        lines.append(f"{name}: dict[str, float] = {{")
        line = "   "
        for f, w in weights.items():
            cell = f' "{f}": {w},'
            if len(line) + len(cell) > 118:
                lines.append(line)
                line = "   "
            line += cell
        lines += [line, "}"]
    path.write_text("\n".join([*lines, f"THRESHOLD = {cut}", ""]), encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
