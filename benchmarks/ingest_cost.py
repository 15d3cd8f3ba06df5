"""What ingesting a history costs over embedding it: the ratio of the two times. Goal: at most 1.3.

The denominator is the same embedder, warm, on exactly the texts that the ingest embeds, in the same batches: they are
recorded in a first pass. The two are measured in turn, so that a busy machine is busy for both.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem import Memory
from agentmem.protocols import Embedder, TokenCounter
from agentmem.registry import make_embedder
from agentmem.types import InputType
from benchmarks import machine

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HISTORY = Path(__file__).parent.parent / "demos" / "history.jsonl"


class Recorder:
    """An embedder that notes its batches."""

    def __init__(self, inner: Embedder) -> None:
        self.inner = inner
        self.model_id = inner.model_id
        self.max_tokens = inner.max_tokens
        self.batches: list[tuple[list[str], InputType]] = []

    @property
    def dim(self) -> int:
        """Of the embedder inside."""
        return self.inner.dim

    @property
    def counter(self) -> TokenCounter:
        """Of the embedder inside."""
        return self.inner.counter

    def embed(self, texts: Sequence[str], *, input_type: InputType) -> NDArray[np.float32]:
        """Note, and embed."""
        self.batches.append((list(texts), input_type))
        return self.inner.embed(texts, input_type=input_type)


def ingest(folder: Path, name: str, lines: Sequence[str], embedder: Embedder, window: int | None) -> float:
    """Ingest into a new file; how long it took, from opening the file to closing it."""
    settings: dict[str, Any] = {} if window is None else {"window_tokens": window}
    start = time.perf_counter()
    with Memory(folder / f"{name}.db", embedder=embedder, **settings) as memory:
        opened = time.perf_counter()
        report = memory.ingest(lines)
        done = time.perf_counter() - opened
    assert report.stored == len(lines), report
    closing = time.perf_counter() - start - done
    return done + closing


def main() -> None:
    """Measure and print."""
    parser = machine.parser(__doc__)
    parser.add_argument("--history", type=Path, default=HISTORY, help="messages, a line each (demos/history.jsonl)")
    parser.add_argument("--embedder", default="minilm", help="a spec (minilm)")
    parser.add_argument("--runs", type=int, default=5, help="measured pairs (5)")
    parser.add_argument("--window", type=int, default=None, help="the window in tokens (the default one)")
    options = parser.parse_args()
    lines = [line for line in options.history.read_text(encoding="utf-8").split("\n") if line.strip()]
    embedder = make_embedder(options.embedder)
    if embedder is None:
        parser.error("there is nothing to compare without an embedder")
    embedder.embed(["warm"], input_type="document")
    ratios: list[float] = []
    ingests: list[float] = []
    embeds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(embedder)
        ingest(Path(folder), "recorded", lines, recorder, options.window)
        for run in range(options.runs):
            start = time.perf_counter()
            for texts, input_type in recorder.batches:
                embedder.embed(texts, input_type=input_type)
            embeds.append(time.perf_counter() - start)
            ingests.append(ingest(Path(folder), f"run-{run}", lines, embedder, options.window))
            ratios.append(ingests[-1] / embeds[-1])
            machine.say(options, f"pair {run + 1} of {options.runs}: {embeds[-1]:.2f} s, {ingests[-1]:.2f} s")
    texts_embedded = sum(len(t) for t, _ in recorder.batches)
    ratio = statistics.median(ratios)
    row = {
        "history": options.history.name, "messages": len(lines), "texts embedded": texts_embedded,
        "batches": len(recorder.batches), "embed s": statistics.median(embeds), "ingest s": statistics.median(ingests),
        "ratio": ratio, "min": min(ratios), "max": max(ratios), "goal": 1.3, "met": "yes" if ratio <= 1.3 else "NO",
    }  # fmt: skip
    machine.show(options, [row], note="medians; the ratio is the median of the pairs' ratios", ratios=ratios)


if __name__ == "__main__":
    main()
