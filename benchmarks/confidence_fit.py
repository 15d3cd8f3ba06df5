"""How the confidence rule of agentmem.confidence is fitted, and what it catches."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from agentmem.confidence import worth


@dataclass(frozen=True)
class Tried:
    """The signals of a question, one way it was asked: `answerable`, `adversarial` (the other person's fact),
    `foreign` (another conversation's fact); the first and the last also with no speaker named. `f1` is that of what
    would be answered."""

    conversation: str
    way: str
    found: dict[str, float]
    f1: float = 0.0

    @property
    def good(self) -> bool:
        return self.way.startswith("answerable")


WAYS = ("answerable", "answerable, no name", "adversarial", "foreign", "foreign, no name")
SHARES = {"answerable": 0.35, "answerable, no name": 0.15, "adversarial": 0.3, "foreign": 0.1, "foreign, no name": 0.1}


Tables = tuple[dict[str, float], dict[str, float]]
"""The weights of the signals for questions that name one speaker, and for the others."""


def _logistic(tried: list[Tried], weight: dict[str, float]) -> dict[str, float]:
    """Logistic regression of "can be answered" on the raw signals, by Newton's steps."""
    names = sorted({n for t in tried for n in t.found} - {"unsaid"})
    x = np.array([[t.found.get(n, 0.0) for n in names] for t in tried])
    y = np.array([t.good for t in tried], float)
    share = np.array([weight[t.way] for t in tried])
    w = np.zeros(len(names))
    for _ in range(50):
        p = 1 / (1 + np.exp(-(x @ w)))
        grad = x.T @ (share * (p - y)) + 1e-3 * w
        hess = (x * (share * p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(len(names))
        w -= np.linalg.solve(hess, grad)
    return dict(zip(names, w.tolist(), strict=True))


def fit_confidence(tried: list[Tried]) -> Tables:
    """The two tables; SHARES is what each way of asking weighs."""
    counts = Counter(t.way for t in tried)
    weight = {way: SHARES[way] / counts[way] for way in counts}
    named, others = (_logistic([t for t in tried if ("named" in t.found) is side], weight) for side in (True, False))
    # One threshold for both: the tenth of the questions that name nobody is moved to that of those that name one.
    tenth = [
        np.quantile([worth(t.found, table) for t in tried if t.way == way and ("named" in t.found) is side], 0.1)
        for way, table, side in ((WAYS[0], named, True), (WAYS[1], others, False))
    ]
    others["bias"] += float(tenth[0] - tenth[1])
    others["several named"] -= float(tenth[0] - tenth[1])
    return {n: round(v, 2) for n, v in named.items()}, {n: round(v, 2) for n, v in others.items()}


def confidence(found: dict[str, float], tables: Tables) -> float:
    """The rule of agentmem.confidence under these tables."""
    return 0.0 if "unsaid" in found else 1 / (1 + math.exp(-worth(found, tables["named" not in found])))


def threshold(values: list[float], share: float) -> float:
    """Below it lies `share` of the values."""
    return round(float(np.quantile(values, share)), 3)


def auc(good: list[float], bad: list[float]) -> float:
    a, b = np.array(good)[:, None], np.array(bad)[None, :]
    return float((a > b).mean() + 0.5 * (a == b).mean())


def abstentions(tried: list[Tried], folds: list[str]) -> None:
    """Print what is caught, each conversation under constants and threshold of the others."""
    print("abstained on, leave one conversation out (tables, constants and threshold from the other four):")
    for share in (0.05, 0.1, 0.2):
        said: dict[str, list[bool]] = {way: [] for way in WAYS}
        values: dict[str, list[float]] = {way: [] for way in WAYS}
        kept: list[float] = []
        for fold in folds:
            others = [t for t in tried if t.conversation != fold]
            table = fit_confidence(others)
            cut = threshold([confidence(t.found, table) for t in others if t.way == "answerable"], share)
            for t in tried:
                if t.conversation == fold:
                    values[t.way].append(confidence(t.found, table))
                    said[t.way].append(values[t.way][-1] < cut)
                    kept += [0.0 if said[t.way][-1] else t.f1] if t.way == "answerable" else []
        cells = "; ".join(f"{way} {100 * float(np.mean(x)):.1f}% of {len(x)}" for way, x in said.items())
        good, bad = np.array(values["answerable"]), np.array(values["adversarial"])
        exact = 100 * float(np.mean(bad < np.quantile(good, share)))
        print(f"  aimed at {100 * share:.0f}% wrong: {cells}; at exactly {100 * share:.0f}% adversarial {exact:.1f}%; "
              f"F1 with what is declined as 0: {100 * float(np.mean(kept)):.1f}; "
              f"AUC against adversarial {auc(values['answerable'], values['adversarial']):.3f}, foreign "
              f"{auc(values['answerable'], values['foreign']):.3f}")  # fmt: skip
