"""What compression costs, and from which length of a record it gains: LoCoMo's conversations and questions.

`--data` is a folder as for `benchmarks.retrieval_locomo`. In one run, interleaved question by question:

- `Memory.page_in` with each of `--compressors` less the same without, over one query embedding; a question's first page
  and later ones (its texts are known then) apart. Goal: extractive at 2,048 tokens at most 3 embeddings (p50 of later
  pages), by the wall and by processor time. What is added holds all: the sentences' cosines from the archive, the
  forms, the larger knapsack.
- How often the compressor is asked for a page into which everything fits (goal: never), and for one where not.
- Tokens read a second by each compressor on the records of such pages, to half of their tokens; for llmlingua,
  longllmlingua and llmlingua2 beside the package's own `compress_prompt` on the same texts, for the same target.
- By length of a record: what share extractive leaves out of it, and whether that is more than a label costs, which is
  what another record has to pay before it says anything (beside `agentmem.compressing.BREAK_EVEN_TOKENS`).

A model with random weights costs what a trained one of its size does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem import Memory, compressing
from agentmem.compression import CompressionRequest, Part, shown
from agentmem.paging import label
from agentmem.protocols import OffersForms
from agentmem.registry import make_compressor, make_embedder
from benchmarks import machine, report
from benchmarks.compressor_speed import speeds, timed
from benchmarks.retrieval_locomo import lines
from benchmarks.stores import ingest_fingerprint, ingested, kept_embedder

if TYPE_CHECKING:
    from agentmem.compression import Compressed
    from agentmem.protocols import Compressor, Embedder, TokenCounter
    from agentmem.types import Hit

TOKENS = 2048
MOST = 3.0
DEFAULT = "extractive"
BUCKETS = (4, 8, 12, 16, 24, 32, 64)
ROUNDS = 4
"""Of each question: the first, and later ones."""
FEW = 12
"""Messages of a history that fits into a page whole."""


class Counting:
    """A compressor that counts how often it is asked."""

    def __init__(self, inner: Compressor) -> None:
        assert isinstance(inner, OffersForms)
        self._inner = inner
        self._forms = inner.forms
        self.name, self.question_aware, self.joint = inner.name, inner.question_aware, inner.joint
        self.fingerprint = inner.fingerprint
        self.asked = 0

    def compress(self, requests: Sequence[CompressionRequest]) -> list[Compressed | None]:
        """As the compressor's own."""
        self.asked += 1
        return self._inner.compress(requests)

    def forms(self, parts: Sequence[Part], query: str, counter: TokenCounter) -> list[list[Compressed]]:
        """As the compressor's own."""
        self.asked += 1
        return self._forms(parts, query, counter)


def page_cost(
    memories: dict[str, Memory], questions: Sequence[dict[str, Any]], embedder: Embedder
) -> dict[str, list[list[tuple[float, float]]]]:
    """Milliseconds (wall, processor) of a page for each question: by compressor, and as "embedding"; of each the first
    and the later rounds. All questions are asked before the next round, so that the query's vector is made anew; which
    compressor comes first changes."""
    found: dict[str, list[list[tuple[float, float]]]]
    found = {name: [[] for _ in questions] for name in ("embedding", *memories)}
    for k in range(ROUNDS):
        for n, q in enumerate(questions):
            order = list(memories)
            for name in order if (n + k) % 2 else order[::-1]:
                found[name][n].append(timed(partial(memories[name].page_in, q["query"], max_tokens=TOKENS)))
            found["embedding"][n].append(timed(partial(embedder.embed, [q["query"]], input_type="query")))
    return found


def cost_rows(
    found: dict[str, list[list[tuple[float, float]]]],
) -> tuple[list[dict[str, Any]], dict[str, tuple[float, float]]]:
    """Two rows a compressor, by the wall and by processor time; and of both what it adds over an embedding. Of a
    question's later rounds the fastest counts, which waited least for a processor; of questions the median."""
    rows: list[dict[str, Any]] = []
    ratios: dict[str, tuple[float, float]] = {}
    for name in (n for n in found if n not in ("embedding", "none")):
        both: list[float] = []
        for clock, what in enumerate(("wall", "processor")):
            first, later = ({n: [_of(r, clock) for r in rows] for n, rows in found.items()} for _of in (_first, _later))
            added = [statistics.median(a - b for a, b in zip(m[name], m["none"], strict=True)) for m in (first, later)]
            embedding = statistics.median(later["embedding"])
            both.append(added[1] / embedding)
            rows.append({
                "compressor": name, "time": what, "questions": len(later[name]), "embedding ms": embedding,
                "page without ms": statistics.median(later["none"]), "page with ms": statistics.median(later[name]),
                "added, first ms": added[0], "added, later ms": added[1], "first / embedding": added[0] / embedding,
                "later / embedding": added[1] / embedding,
            })  # fmt: skip
        ratios[name] = both[0], both[1]
    return rows, ratios


def _first(rounds: Sequence[tuple[float, float]], clock: int) -> float:
    return rounds[0][clock]


def _later(rounds: Sequence[tuple[float, float]], clock: int) -> float:
    return min(r[clock] for r in rounds[1:])


def asked_for(folder: Path, messages: Sequence[dict[str, Any]], query: str, embedder: Embedder) -> list[dict[str, Any]]:
    """How often the default compressor is asked: for a page, and for a whole prompt, that fits and that does not."""
    made = make_compressor(DEFAULT)
    assert made is not None
    rows = []
    for name, tokens in (("fits", TOKENS), ("does not fit", 128)):
        counting = Counting(made)
        with Memory(folder / f"{name.replace(' ', '-')}.db", embedder=embedder, compressor=counting) as memory:
            memory.ingest([dict(m) for m in messages[:FEW]])
            page = memory.page_in(query, max_tokens=tokens)
            for_page, counting.asked = counting.asked, 0
            memory.render(query=query, max_tokens=4 * TOKENS)
            rows.append({"page": name, "tokens": tokens, "records of": f"{len(page.items)} of {FEW}",
                         "asked for the page": for_page,
                         "asked for a prompt of 8,192": counting.asked})  # fmt: skip
    return rows


def texts_of(memory: Memory, query: str) -> tuple[list[Hit], list[Part]]:
    """The best records for a query, as many as make twice a page."""
    hits, total = [], 0
    for hit in memory.search(query, top_k=200):
        total += memory.shape.counter.count(hit.text)
        hits.append(hit)
        if total >= 2 * TOKENS:
            break
    return hits, [Part(h.text, 1.0 / (n + 1)) for n, h in enumerate(hits)]


def by_length(memory: Memory, queries: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Of the best records of each query: tokens, those left with all sentences and without loose words, those of the
    shortest form, those of the label."""
    made, counter = make_compressor(DEFAULT), memory.shape.counter
    assert isinstance(made, OffersForms)
    out = []
    for query in queries:
        hits, parts = texts_of(memory, query)
        for hit, forms in zip(hits, made.forms(parts, query, counter), strict=True):
            size = counter.count(hit.text)
            tokens = [counter.count(shown(hit.text, f.parts[0])) for f in forms] or [size]
            out.append((size, tokens[0], tokens[-1], counter.count(label(hit))))
    return out


def length_rows(found: Sequence[tuple[int, int, int, int]]) -> tuple[list[dict[str, Any]], int | None]:
    """A row a bucket; and the least length of one from which on more is left out than a label costs."""
    rows: list[dict[str, Any]] = []
    gains_from: int | None = None
    for low, high in zip(BUCKETS, (*BUCKETS[1:], 1 << 30), strict=True):
        there = [f for f in found if low <= f[0] < high]
        if not there:
            continue
        size, words, least, names = (sum(f[n] for f in there) / len(there) for n in range(4))
        net = size - least - names
        gains_from = (low if gains_from is None else gains_from) if net > 0 else None
        rows.append({
            "record's tokens": f"{low}-{high - 1}" if high < 1 << 30 else f"{low}+", "records": len(there),
            "left out, loose words": f"{100 * (1 - words / size):.1f} %",
            "left out, best sentence alone": f"{100 * (1 - least / size):.1f} %",
            "tokens left out": f"{size - words:.1f} to {size - least:.1f}", "label's tokens": f"{names:.1f}",
            "net gain": f"{size - words - names:+.1f} to {net:+.1f}",
        })  # fmt: skip
    return rows, gains_from


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write."""
    parser = machine.parser(__doc__)
    report.add_options(parser, "a folder of CONV.messages.jsonl and CONV.questions.jsonl")
    parser.add_argument("--compressors", nargs="+", default=[DEFAULT], help="specs; none is always beside them")
    parser.add_argument("--questions", type=int, default=12, help="of each conversation (12)")
    options = parser.parse_args(arguments)
    embedder = make_embedder(options.embedder)
    paths = sorted(options.data.glob("*.messages.jsonl"))[:: options.every]
    if embedder is None or not paths:
        raise SystemExit("needs an embedder, and --data with a CONV.messages.jsonl")
    specs = [s for s in dict.fromkeys([DEFAULT, *options.compressors]) if s != "none"]
    with nullcontext(options.stores) if options.stores else tempfile.TemporaryDirectory() as folder:
        measured = measure(options, paths, Path(folder), embedder, specs)
    machine_tables, more = measured
    document = machine.show_tables(
        options, machine_tables, note=f"p50 unless said; seed {options.seed}; record lengths in the embedder's tokens",
        settings={"embedder": options.embedder, "questions": options.questions, "compressors": specs}, **more,
    )  # fmt: skip
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        (options.out / "compression_cost.results.json").write_text(text, encoding="utf-8")


def measure(
    options: argparse.Namespace, paths: Sequence[Path], stores: Path, embedder: Embedder, specs: Sequence[str]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """All tables, and what else is in the document."""
    kept = kept_embedder(embedder, stores)
    mark = ingest_fingerprint(kept.model_id)
    costs: dict[str, list[list[tuple[float, float]]]] = {}
    pages: list[tuple[str, list[Part]]] = []
    lengths: list[tuple[int, int, int, int]] = []
    fits: list[dict[str, Any]] = []
    for path in paths:
        name = path.name.split(".")[0]
        messages = lines(path)
        asked = [q for q in lines(path.with_name(path.name.replace(".messages.", ".questions."))) if q.get("evidence")]
        asked = asked[:: max(1, len(asked) // options.questions)][: options.questions]
        with ExitStack() as stack:
            memories = {}
            for spec in ("none", *specs):
                # A file for each: one that is open twice is looked at twice.
                copy = f"cost-{name}-{'none' if spec == 'none' else specs.index(spec)}"
                ingested(stores, copy, messages, kept, mark).close()
                memories[spec] = stack.enter_context(Memory(stores / f"{copy}.db", embedder=embedder, compressor=spec))
            for spec, rows in page_cost(memories, asked, embedder).items():
                costs.setdefault(spec, []).extend(rows)
            pages += [(q["query"], texts_of(memories["none"], q["query"])[1]) for q in asked[:2]]
            lengths += by_length(memories["none"], [q["query"] for q in asked])
            counter = memories["none"].shape.counter
        machine.say(options, f"{name}: done")
        if not fits:
            with tempfile.TemporaryDirectory() as empty:
                fits = asked_for(Path(empty), messages, asked[0]["query"], embedder)
    cost, ratios = cost_rows(costs)
    by_size, gains_from = length_rows(lengths)
    speed = speeds(specs, pages, counter)
    kept.close()
    never = fits[0]["asked for the page"] + fits[0]["asked for a prompt of 8,192"]
    verdicts = [
        {"goal": f"{DEFAULT} adds at most {MOST:g} query embeddings to a page of {TOKENS}",
         "measured": "{:.2f} by the wall, {:.2f} of processor time".format(*ratios[DEFAULT]),
         "met": max(ratios[DEFAULT]) <= MOST},
        {"goal": "not asked where all fits", "measured": f"{never} calls", "met": never == 0},
    ]  # fmt: skip
    found = {
        f"a page of {TOKENS} tokens": cost, "how often extractive is asked": fits,
        f"reading records of {2 * TOKENS} tokens down to half": speed,
        f"by length of a record (break-even in use: {compressing.BREAK_EVEN_TOKENS} tokens; more is left out than a"
        f" label costs from {gains_from} tokens)": by_size,
        "goals": [{**v, "met": "met" if v["met"] else "NOT met"} for v in verdicts],
    }  # fmt: skip
    return found, {"verdicts": verdicts, "break_even_tokens": compressing.BREAK_EVEN_TOKENS, "gains_from": gains_from}


if __name__ == "__main__":
    main()
