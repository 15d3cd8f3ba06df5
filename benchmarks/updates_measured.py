"""Consolidation by rules on labelled pairs (benchmarks/updates): does it close what is out of date, and nothing else?

Each pair is a memory of its own in which both records are archived and the strategy runs as a job. Stale-leak: of the
updates, those in which the record that no longer holds is open afterwards (or another one was closed); false-retire: of
the related pairs, those in which anything was closed, merged ones included. Intervals are Wilson's (1927), 95 %.

    python -m benchmarks.updates_measured --half open          (rates by kind too)
    python -m benchmarks.updates_measured --half frozen        (the figures that are published)
    python -m benchmarks.updates_measured --half further       (harder pairs, every third block, not looked at; 2 min)
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentmem.memory import Memory
from agentmem.reflection import reflect

DATA = Path(__file__).parent / "updates"
Z = 1.959964
EARLIER, LATER = "2023-02-01T10:00:00", "2024-03-10T17:00:00"
HELD = 3
"""Of the further pairs every so-manieth block is held out."""


def wilson(found: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a rate."""
    if of == 0:
        return 0.0, 1.0
    rate = found / of
    middle = (rate + Z * Z / (2 * of)) / (1 + Z * Z / of)
    half = Z / (1 + Z * Z / of) * math.sqrt(rate * (1 - rate) / of + Z * Z / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def rows_of(half: str) -> Iterator[dict[str, Any]]:
    """The pairs of a half, or those of the further blocks that are held out ("further") or are not ("tuned")."""
    if half in ("open", "frozen"):
        for line in (DATA / f"{half}.jsonl").read_text("utf-8").splitlines():
            yield json.loads(line)
        return
    for path in sorted((DATA / "further").glob("*.txt")):
        for number, block in enumerate(path.read_text("utf-8").strip().split("\n\n")):
            if (number % HELD == 0) == (half == "further"):
                yield from pairs_of(block, path.stem)


def pairs_of(block: str, name: str) -> Iterator[dict[str, Any]]:
    """The pairs of a block (benchmarks/updates/README.md): its older record with each newer one. Raises ValueError."""
    head, base, *newer = block.splitlines()
    speaker = head.rpartition("|")[2].strip()
    if head[:1] != "@" or base[:2] != "= " or not newer:
        raise ValueError(f"{name}: no block: {head[:60]!r}")
    for line in newer:
        mark, _, text = line.partition("|")
        label = {"U": "update", "R": "related"}[mark[:1]]
        first, second = (
            {"text": said.strip(), "speaker": None if speaker == "-" else speaker, "at": at}
            for said, at in ((base[2:], EARLIER), (text, LATER))
        )
        holds = "second" if label == "update" else "both"
        yield {"label": label, "kind": name, "first": first, "second": second, "holds": holds}


def outcome(row: dict[str, Any], spec: str) -> bool:
    """Whether the strategy did what the label says."""
    with Memory(":memory:", embedder="hash") as memory:
        refs = []
        for side in ("first", "second"):
            said = row[side]
            text = f"{said['speaker']}: {said['text']}" if said["speaker"] else said["text"]
            refs.append(memory.archive(text, valid_from=said["at"]).ref)
        reflect(memory, spec)
        held = {p.ref for p in memory.records.archival.after(0) if p.valid_to is None and p.superseded_by is None}
    wanted = {"first": {refs[0]}, "second": {refs[1]}, "both": set(refs)}[row["holds"]]
    return held == wanted


def main() -> None:
    """Measure one half and print its rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--half", choices=("open", "frozen", "further", "tuned"))
    what.add_argument("--file", type=Path, help="pairs of your own, in the format of benchmarks/updates/README.md")
    parser.add_argument("--strategy", default="consolidate")
    args = parser.parse_args()
    wrong: dict[str, list[bool]] = defaultdict(list)
    kinds: dict[tuple[str, str], list[bool]] = defaultdict(list)
    own = args.file and (json.loads(line) for line in args.file.read_text("utf-8").splitlines())
    for row in own or rows_of(args.half):
        missed = not outcome(row, args.strategy)
        wrong[row["label"]].append(missed)
        kinds[row["label"], row["kind"]].append(missed)
    for label, name in (("update", "stale-leak"), ("related", "false-retire")):
        bad, of = sum(wrong[label]), len(wrong[label])
        low, high = wilson(bad, of)
        print(f"{name:12} {bad:3d} of {of:3d}  {100 * bad / max(of, 1):5.1f} %  [{100 * low:.1f}, {100 * high:.1f}]")
    if args.half != "frozen":
        for (label, kind), found in sorted(kinds.items()):
            if any(found):
                print(f"  {label:8} {kind:16} {sum(found)} of {len(found)}")


if __name__ == "__main__":
    main()
