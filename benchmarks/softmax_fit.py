"""Tables of named weights under which a softmax over each question's candidates expects the best answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

# Where the weights are drawn to: what a person would say of kinds of question that the conversations have few of.
PRIOR = {
    "number type": 1.0, "duration type": 1.0, "who type": 0.5, "where type": 0.5, "why type": 0.5,
    "why after because": 2.0, "number has number": 1.0, "number first num": 1.0, "duration first num": 1.0,
    "duration has unit": 1.0, "number has unit": 0.5, "who has capital": 1.0, "who first cap": 1.0,
    "where first cap": 1.0,
    "where left prep": 0.5, "after verb 0": 1.0, "has focus": 0.5, "only a speaker": -1.0, "cuts a name": -1.0,
    "cuts its name": -1.0, "date to come": -1.5, "cuts an object": -1.0, "cuts a list": -1.5,
}  # fmt: skip
CROSSED = tuple(
    f"{form} "
    for form in (
        "number",
        "duration",
        "who",
        "where",
        "why",
        "how",
        "what",
        "noun",
        "kind of",
        "do",
        "feel",
        "when",
        "yesno",
    )
)
"""How the names of features begin that count for one form of question alone; they are held nearer to the prior."""


@dataclass
class Names:
    """Feature names in the order in which they were met."""

    place: dict[str, int] = field(default_factory=dict)

    def encode(self, row: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """The features of a row that are not 0, as places and values."""
        told = [(self.place.setdefault(n, len(self.place)), v) for n, v in row.items() if v]
        return np.array([p for p, _ in told], np.int32), np.array([v for _, v in told], np.float32)


Row = tuple[np.ndarray, np.ndarray]
Group = tuple[Sequence[Row], Sequence[float]]


class Held(NamedTuple):
    """How a table is held to the prior: by `l2`, `crossed` times as much for what counts for one form of question
    alone; weights below `least` are left out."""

    l2: float
    crossed: float
    steps: int = 150
    least: float = 0.05


def fit(names: Names, groups: Sequence[Group], held: Held) -> dict[str, float]:
    """The weights of the features. Adam on the mean over groups of the expected value and of its logarithm (0.3 of it,
    each group's best as its unit), full batches, from the prior: deterministic."""
    flat = [row for rows, _ in groups for row in rows]
    idx = np.concatenate([i for i, _ in flat])
    val = np.concatenate([v for _, v in flat])
    lengths = np.array([len(i) for i, _ in flat])
    owner = np.repeat(np.arange(len(flat)), lengths)
    y = np.concatenate([np.asarray(v, np.float32) for _, v in groups])
    sizes = np.array([len(v) for _, v in groups])
    cuts = np.cumsum([0, *sizes])[:-1]
    prior = np.array([PRIOR.get(n, 0.0) for n in names.place])
    pull_back = held.l2 * np.array(
        [(held.crossed if n.startswith(CROSSED) and n not in PRIOR else 1.0) for n in names.place]
    )
    scale = 1 / np.maximum(np.maximum.reduceat(y, cuts), 0.05)
    w, m, v = prior.copy(), np.zeros_like(prior), np.zeros_like(prior)
    for t in range(1, held.steps + 1):
        z = np.bincount(owner, weights=val * w[idx], minlength=len(flat))
        e = np.exp(z - np.repeat(np.maximum.reduceat(z, cuts), sizes))
        p = e / np.repeat(np.add.reduceat(e, cuts), sizes)
        mean = np.add.reduceat(p * y, cuts)
        outer = (1 + 0.3 * scale / (mean * scale + 0.02)) / len(groups)
        pull = p * (y - np.repeat(mean, sizes)) * np.repeat(outer, sizes)
        grad = -np.bincount(idx, weights=val * pull[owner], minlength=len(prior)) + 2 * pull_back * (w - prior)
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        w = w - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return {n: round(float(x), 2) for n, x in sorted(zip(names.place, w, strict=True)) if abs(x) >= held.least}
