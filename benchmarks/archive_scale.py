"""The archive at 10,000, 100,000 and a million passages: agentmem against FAISS and SQLite called directly.

Both arms hold the same passages (benchmarks/scale_data.py) with the same pragmas, so each commit is as durable in one
as in the other; the raw FAISS index has the type and the parameters of agentmem's own, its lists' centres included. The
arms take turns query by query, on one thread, so that a busy machine slows both; ratios are of medians. Measured:

- *bulk*: rows a second of `archive_many`, the stub embedder's time taken out
- *single*: one `archive` and its vector, in turns with a store of 1,000: cost must not grow with the store
- *dense*: the index's own search and the fetch of 10 rows; recall@10 against an exact scan by numpy
- *lexical*: BM25 and the fetch of 10 rows; *overlap* is the share of raw FTS5's ten that agentmem finds too
- *hybrid*: `Memory.search`, against the sum of both engines
- *open*: in a new process, from opening the file to the end of the first search; its memory (RSS, over what the process
  had before) against the index's own bytes
- the searches and the recall again after a tenth of the passages is deleted
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem import Memory
from benchmarks import machine
from benchmarks.raw_engines import RawEngines
from benchmarks.raw_faiss import RawIndex
from benchmarks.scale_arms import LINES, TOP_K, Arms, dense, lexical, tree_bytes, wait
from benchmarks.scale_data import StubEmbedder

if TYPE_CHECKING:
    import argparse

BASE = 1000
WARM = 10
OFTEN, DELETED = 300, 0.1
NAMED = {"p50": "p50", "p95": "p95", "worked": "processor p50"}


def searches(arms: Arms, count: int, gone: set[int]) -> dict[str, Any]:
    """Times in ms and what was found, the arms in turns, another one first each time."""
    import faiss
    import numpy as np

    asked = arms.questions(count + WARM)
    times: dict[str, list[tuple[float, float]]] = {}
    found: dict[str, list[list[int]]] = {}
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        for n, (question, vector) in enumerate(asked):
            steps: dict[str, Callable[[], Any]] = {
                "dense": lambda v=vector: dense(arms.memory, v),
                "raw dense": lambda v=vector: arms.raw.dense(v, TOP_K),
                "lexical": lambda q=question: lexical(arms.memory, q),
                "raw lexical": lambda q=question: arms.raw.lexical(q, TOP_K),
                "hybrid": lambda q=question: [
                    int(h.id[1:]) for h in arms.memory.search(q, top_k=TOP_K, tier="archival")
                ],
            }
            names = list(steps)
            for name in names[n % len(names) :] + names[: n % len(names)]:
                start, worked = time.perf_counter(), time.thread_time()
                ids = steps[name]()
                worked, passed = time.thread_time() - worked, time.perf_counter() - start
                if n >= WARM:
                    times.setdefault(name, []).append((1000 * passed, 1000 * worked))
                    found.setdefault(name, []).append(ids)
    finally:
        faiss.omp_set_num_threads(before)
    if any(gone & set(ids) for name in ("dense", "lexical", "hybrid") for ids in found[name]):
        raise SystemExit("a deleted passage was found")
    truth = arms.exact(np.array([v for _, v in asked[WARM:]]), gone)
    result: dict[str, Any] = {
        n: {"p50": _at([p for p, _ in t], 50), "p95": _at([p for p, _ in t], 95), "worked": _at([w for _, w in t], 50)}
        for n, t in times.items()
    }
    for name in ("dense", "raw dense"):
        shares = [len(t & set(ids)) / len(t) for t, ids in zip(truth, found[name], strict=True)]
        result[name]["recall"] = statistics.mean(shares)
    pairs = zip(found["lexical"], found["raw lexical"], strict=True)
    result["lexical"]["overlap"] = statistics.mean(len(set(a) & set(b)) / max(1, len(b)) for a, b in pairs)
    return result


def singles(arms: Arms, base: Arms | None) -> dict[str, Any]:
    """Median ms of one insert with its vector, of both arms, and of the small store in the same turns."""
    times: dict[str, list[float]] = {"ours": [], "raw": [], "base": [], "found": []}
    texts = [t for batch in arms.texts.batches(LINES, LINES, first=10**9) for t in batch][: arms.options.inserts]
    for n, text in enumerate(texts):
        steps: dict[str, Callable[[], object]] = {"ours": lambda t=text: _store(arms.memory, t)}
        row = arms.embedder.embed([text], input_type="document")
        steps["raw"] = lambda t=text, r=row, i=arms.next + n: arms.raw.insert(i, [t], r)
        if base is not None:
            steps["base"] = lambda t=text: _store(base.memory, t)
        names = list(steps)
        for name in names[n % len(names) :] + names[: n % len(names)]:
            start = time.perf_counter()
            steps[name]()
            times[name].append(1000 * (time.perf_counter() - start))
        if n % 10 == 0:
            vector = row[0]
            start = time.perf_counter()
            newest = dense(arms.memory, vector)
            times["found"].append(1000 * (time.perf_counter() - start))
            assert newest[0] == arms.next + n, (newest, arms.next + n)
    result = {name: {"p50": _at(t, 50), "p95": _at(t, 95)} for name, t in times.items() if t}
    # Out again: the searches that follow are over the passages that are known.
    arms.delete(range(arms.next, arms.next + len(texts)))
    return result


def _store(memory: Memory, text: str) -> None:
    memory.archive(text)
    memory.catch_up()


def _at(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def memory_kb(field: str) -> int:
    """A line of /proc/self/status in kB, 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


def child(arm: str, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What opening costs in this process, which is new: seconds to the end of the first search, and memory in kB."""
    import faiss  # before the clock starts, as numpy

    faiss.omp_set_num_threads(1)
    embedder = StubEmbedder(options.vectors, options.seed)
    question = "what about the zuzuzu"
    vector = embedder.embed([question], input_type="query")[0]
    with Memory(":memory:", embedder=embedder) as small:  # what loads at first use, loaded
        small.archive("something")
        small.search("something")
    before, start = memory_kb("VmRSS"), time.perf_counter()
    if arm == "agentmem":
        memory = Memory(path, embedder=embedder)
        memory.search(question, tier="archival")
        passed = time.perf_counter() - start
        after = memory_kb("VmRSS")
        memory.close()
    else:
        raw = RawEngines(path, {})
        index = RawIndex.read(path.with_suffix(".faiss"))
        index.search(vector.reshape(1, -1), TOP_K)
        raw.lexical(question, TOP_K)
        passed = time.perf_counter() - start
        after = memory_kb("VmRSS")
    return {"seconds": passed, "kb": after - before, "peak_kb": memory_kb("VmHWM") - before}


def opened(arm: str, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """`child` in a process of its own, the better of two: the first may read the file from the disk."""
    command = [
        sys.executable, "-m", "benchmarks.archive_scale", "--child", arm, "--folder", str(path),
        "--vectors", options.vectors, "--seed", str(options.seed),
    ]  # fmt: skip
    runs = [json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout) for _ in range(2)]
    best: dict[str, Any] = min(runs, key=lambda r: r["seconds"])
    return best


def measure(count: int, folder: Path, options: argparse.Namespace, base: Arms | None) -> dict[str, Any]:
    """Everything at one size."""
    arms = Arms(folder, count, options)
    found: dict[str, Any] = {"passages": count, "bulk": arms.fill()}
    machine.say(options, f"{count} passages in both arms")
    raw = arms.raw.index
    assert raw is not None
    found["index"] = {"kind": arms.memory.records.dense["archival"].kind, "raw": raw.describe()}
    found["search"] = searches(arms, options.queries, set())
    machine.say(options, f"{count}: searched")
    found["single"] = singles(arms, base)
    arms.memory.close()
    arms.raw.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    index_bytes = raw.write(arms.raw.path.with_suffix(".faiss"))
    found["open"] = {
        "ours": opened("agentmem", arms.path, options), "raw": opened("raw", arms.raw.path, options),
    }  # fmt: skip
    found["bytes"] = {
        "index": index_bytes, "ours": tree_bytes(arms.path), "raw": arms.raw.file_bytes() + index_bytes,
    }  # fmt: skip
    arms.memory = Memory(arms.path, embedder=arms.embedder)
    if not options.deleted:
        arms.close()
        return found
    gone = set(range(5, count + 1, round(1 / options.deleted)))
    found["delete"] = {"count": len(gone), **arms.delete(sorted(gone))}
    wait(arms.memory, arms.embedder.embed(["ready?"], input_type="query")[0])
    found["after deletion"] = searches(arms, options.queries, gone)
    machine.say(options, f"{count}: deleted and searched")
    arms.close()
    return found


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One size as lines: what, agentmem, raw, agentmem over raw."""
    size = found["passages"]
    made: list[dict[str, Any]] = []

    def put(what: str, ours: float, raw: float | None, digits: int = 2) -> None:
        ratio = "" if not raw else f"{ours / raw:.2f}"
        shown = "" if raw is None else f"{raw:,.{digits}f}"
        made.append({"passages": f"{size:,}", "what": what, "agentmem": f"{ours:,.{digits}f}", "raw": shown,
                     "ratio": ratio})  # fmt: skip

    for clock, unit in (("wall", "rows/s"), ("processor", "rows/s of processor time")):
        put(f"bulk insert, {unit}", found["bulk"]["ours"][clock], found["bulk"]["raw"][clock], 0)
    put("index built after that, s", found["bulk"]["built_s"], None)
    single = found["single"]
    for at in ("p50", "p95"):
        put(f"single insert {at}, ms", single["ours"][at], single["raw"][at])
    if "base" in single:
        made.append({"passages": f"{size:,}", "what": f"single insert over a store of {BASE:,}", "agentmem": "",
                     "raw": "", "ratio": f"{single['ours']['p50'] / single['base']['p50']:.2f}"})  # fmt: skip
    put("dense search just after an insert p50, ms", single["found"]["p50"], None)
    for when, key in (("", "search"), ("after deletion: ", "after deletion")):
        if (s := found.get(key)) is None:
            continue
        for at in ("p50", "p95", "worked"):
            put(f"{when}dense {NAMED[at]}, ms", s["dense"][at], s["raw dense"][at])
        put(f"{when}recall@10", s["dense"]["recall"], s["raw dense"]["recall"], 3)
        for at in ("p50", "p95", "worked"):
            put(f"{when}lexical {NAMED[at]}, ms", s["lexical"][at], s["raw lexical"][at])
        put(f"{when}of raw BM25's ten", s["lexical"]["overlap"], None, 3)
        for at in ("p50", "p95", "worked"):
            put(
                f"{when}hybrid over both raw {NAMED[at]}, ms",
                s["hybrid"][at],
                s["raw dense"][at] + s["raw lexical"][at],
            )
    if deleted := found.get("delete"):
        put(f"delete {deleted['count']:,}, s", deleted["ours"], deleted["raw"])
    put("open to first search, s", found["open"]["ours"]["seconds"], found["open"]["raw"]["seconds"])
    put("memory, MB", found["open"]["ours"]["kb"] / 1e3, found["open"]["raw"]["kb"] / 1e3, 0)
    made[-1]["what"] += f" ({_of_index(found):.2f} times the index's bytes)"
    put("files, MB", found["bytes"]["ours"] / 1e6, found["bytes"]["raw"] / 1e6, 0)
    return made


def _of_index(found: dict[str, Any]) -> float:
    return float(1024 * found["open"]["ours"]["kb"] / found["bytes"]["index"])


def goals(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The goals of the archive at one size, each met or not."""
    s, single, size = found["search"], found["single"], found["passages"]
    engines = s["raw dense"]["p50"] + s["raw lexical"]["p50"]
    least = 1.3 * s["raw dense"]["p50"] + 0.5
    said = [
        (f"dense p50 within 1.3 times raw + 0.5 ms ({least:.2f} ms)", s["dense"]["p50"], s["dense"]["p50"] <= least),
        ("recall@10 at least 0.97", s["dense"]["recall"], s["dense"]["recall"] >= 0.97),
        ("hybrid p50 within 1.5 times both raw", s["hybrid"]["p50"] / engines, s["hybrid"]["p50"] <= 1.5 * engines),
        ("open to first search under 3 s", found["open"]["ours"]["seconds"], found["open"]["ours"]["seconds"] < 3),
        ("memory under 1.2 times the index's bytes", _of_index(found), _of_index(found) < 1.2),
    ]
    if "base" in single:
        ratio = single["ours"]["p50"] / single["base"]["p50"]
        said.append((f"single insert within 1.5 times that of {BASE:,}", ratio, ratio <= 1.5))
    return [
        {"passages": f"{size:,}", "goal": goal, "measured": f"{value:.3f}", "met": "met" if met else "NOT met"}
        for goal, value, met in said
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = machine.parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000], help="passages (10000 100000)")
    parser.add_argument("--vectors", choices=("clustered", "random"), default="clustered", help="(clustered)")
    parser.add_argument("--queries", type=int, default=100, help="measured searches of each kind (100)")
    parser.add_argument("--inserts", type=int, default=OFTEN, help=f"measured single inserts ({OFTEN})")
    parser.add_argument("--deleted", type=float, default=DELETED, help=f"share that is deleted, 0 for none ({DELETED})")
    parser.add_argument("--folder", type=Path, help="where the files go, in a folder of their own that is deleted")
    parser.add_argument("--out", type=Path, help="a file for the JSON document, written after each size")
    parser.add_argument("--child", choices=("agentmem", "raw"), help="used by the script itself: open --folder, a file")
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(child(options.child, options.folder, options)))
        return
    done: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        base = Arms(Path(folder), BASE, options)
        base.fill()
        pragmas = base.pragmas
        for count in options.sizes:
            with tempfile.TemporaryDirectory(dir=folder) as own:
                done.append(measure(count, Path(own), options, base if count != BASE else None))
            if options.out:
                options.out.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
        base.close()
    indexes = [{"passages": f"{d['passages']:,}", **d["index"]} for d in done]
    tables = {
        "indexes": indexes, "agentmem and raw": [r for d in done for r in rows(d)],
        "goals": [g for d in done for g in goals(d)],
    }  # fmt: skip
    modes = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
    note = (
        f"{options.vectors} vectors; journal {pragmas['journal_mode']}, PRAGMA synchronous="
        f"{modes.get(pragmas['synchronous'], pragmas['synchronous'])} in both arms; the lists' centres of a raw IVF are"
        " agentmem's, so that its training is in no figure; ratios are agentmem over raw"
    )
    machine.show_tables(options, tables, note=note, measured=done, pragmas=pragmas, vectors=options.vectors)


if __name__ == "__main__":
    main()
