"""Whether the work of a turn grows with the history: turns over stores of 1,000, 10,000 and 100,000 messages.

All of a turn but embedding, search and model: `Agent.send` with a scripted backend, no embedder, and a page-in that
finds nothing. The turns of the stores are measured in turn within one run. Goal: the largest at most 1.5 times the
smallest. A search is measured apart, for what it is: by words alone, and again once every message has a vector of a
stub embedder (`benchmarks/scale_data.py`, clustered), which costs no time to speak of. A million messages
(`--sizes 1000 10000 100000 1000000`) take some time to store.

The ratio is of processor time. On a busy machine the clock on the wall also counts the wait for a processor, which is
the same for every store and so hides what grows: a median of 12 ms was seen where the work was 2 ms. Both are shown,
and the fastest tenth by the wall, which waited least; the goal must hold for that as well. Waiting for the disk is in
the wall times alone.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agentmem import Agent, Memory
from agentmem.scripted import ScriptedBackend
from agentmem.types import EMPTY_PAGE, Completion, Page, Request
from benchmarks import machine
from benchmarks.scale_arms import settle
from benchmarks.scale_data import StubEmbedder

WORDS = (
    "harbour", "lantern", "velvet", "copper", "meadow", "thunder", "ribbon", "walnut", "glacier", "saffron", "compass",
    "orchard", "pepper", "violin", "marble", "falcon", "ginger", "quartz", "willow", "ember", "canyon", "pocket",
)  # fmt: skip
SEARCHES = 20


def messages(count: int, seed: int) -> Iterator[dict[str, str]]:
    """A history of `count` messages."""
    rng = random.Random(seed)
    for n in range(count):
        said = " ".join(rng.choices(WORDS, k=rng.randint(6, 20)))
        yield {"id": f"k{n}", "role": "user", "name": ("Anna", "Tom")[n % 2], "content": f"{n}: {said}.",
               "session": str(n // 40)}  # fmt: skip


def nothing(*_: Any, **__: Any) -> Page:
    """Stands for the search."""
    return EMPTY_PAGE


def reply(request: Request) -> Completion:
    """Stands for the model."""
    return Completion("That is how it is, and that is all there is to say about it.")


class Store:
    """A memory with a history of a size, and an agent on it."""

    def __init__(self, folder: Path, count: int, seed: int, turns: int) -> None:
        self.count, self.seed = count, seed
        self.path = folder / f"{count}.db"
        start = time.perf_counter()
        self.memory = Memory(self.path, embedder="none")
        report = self.memory.ingest(messages(count, seed))
        assert report.stored == count, report
        self.ingest_s = time.perf_counter() - start
        # No tool schemas: their tokens are a matter of the backend, and the summary needs no model then.
        backend = ScriptedBackend([reply] * turns)
        backend.native_tools = False
        self.agent = Agent(self.memory, backend)
        self.memory.page = nothing  # type: ignore[method-assign]
        self.times: list[float] = []
        self.walls: list[float] = []
        self.search_times: list[float] = []
        self.vector_times: list[float] = []

    def embed(self) -> None:
        """Open the store again with a stub embedder, which gives every message its vector."""
        self.memory.close()
        self.memory = Memory(self.path, embedder=StubEmbedder("clustered", self.seed))
        self.memory.catch_up()
        settle(self.memory.records.dense["recall"], lambda: self.memory.search(WORDS[0]))

    def turn(self, n: int) -> tuple[float, float]:
        """How long turn n took: on the processor, and by the wall."""
        text = f"Turn {n}: what of the {WORDS[n % len(WORDS)]} and the {WORDS[n * 7 % len(WORDS)]}?"
        start, worked = time.perf_counter(), time.process_time()
        self.agent.send(text)
        return time.process_time() - worked, time.perf_counter() - start

    def look(self, n: int) -> float:
        """How long a search took."""
        text = f"the {WORDS[n % len(WORDS)]} and the {WORDS[n * 7 % len(WORDS)]} number {n * 31}"
        start = time.perf_counter()
        self.memory.search(text)
        return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = machine.parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="messages stored")
    parser.add_argument("--turns", type=int, default=60, help="measured turns on each store (60)")
    parser.add_argument("--words-alone", action="store_true", help="leave the search with vectors out")
    parser.add_argument("--folder", type=Path, help="where the files go, in a folder of their own that is deleted")
    parser.add_argument("--warm", type=int, default=10, help="turns before those (10)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        stores: list[Store] = []
        for count in options.sizes:
            stores.append(Store(Path(folder), count, options.seed, options.turns + options.warm))
            machine.say(options, f"{count} messages stored in {stores[-1].ingest_s:.1f} s")
        for n in range(options.turns + options.warm):
            # Another one first each time: none always runs after the largest.
            for k in range(len(stores)):
                store = stores[(n + k) % len(stores)]
                worked, passed = store.turn(n)
                if n >= options.warm:
                    store.times.append(worked)
                    store.walls.append(passed)
        for n in range(SEARCHES):
            for store in stores:
                store.search_times.append(store.look(n))
        if not options.words_alone:
            for store in stores:
                store.embed()
                machine.say(options, f"{store.count} messages have vectors")
            for n in range(SEARCHES):
                for store in stores:
                    store.vector_times.append(store.look(n))
        for store in stores:
            store.memory.close()
    base = statistics.median(stores[0].times)
    fastest = _fastest(stores[0])
    rows = [
        {
            "messages": s.count, "processor ms": 1000 * statistics.median(s.times),
            f"over {stores[0].count}": statistics.median(s.times) / base,
            "wall ms": 1000 * statistics.median(s.walls), "fastest tenth ms": 1000 * _fastest(s),
            "over ": _fastest(s) / fastest,
            "search ms (words alone)": 1000 * statistics.median(s.search_times),
            **({"search ms (and vectors)": 1000 * statistics.median(s.vector_times)} if s.vector_times else {}),
            "ingest s": s.ingest_s,
        }
        for s in stores
    ]  # fmt: skip
    ratio, by_wall = statistics.median(stores[-1].times) / base, _fastest(stores[-1]) / fastest
    said = "met" if max(ratio, by_wall) <= 1.5 else "NOT met"
    note = (
        f"medians of {options.turns} turns; {stores[-1].count} over {stores[0].count}: {ratio:.2f} of processor time,"
        f" {by_wall:.2f} of the fastest tenth by the wall; goal 1.5: {said}"
    )
    machine.show(options, rows, ratio=ratio, ratio_of_the_fastest=by_wall, goal=1.5, note=note)


def _fastest(store: Store) -> float:
    return statistics.quantiles(store.walls, n=10)[0]


if __name__ == "__main__":
    main()
