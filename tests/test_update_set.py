"""The labelled set of updates and near misses: format, counts, no sentence twice, and the frozen half unchanged.

Nothing here may print a text of the frozen half, on failure neither: faults are lists of ids, raised without a
traceback (which would show arguments), and the texts are kept out of every repr.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.updates_measured import rows_of

FOLDER = Path(__file__).parents[1] / "benchmarks" / "updates"
HALVES = ("open", "frozen")
LEAST = {"update": 100, "related": 200}
KEYS = {"id", "label", "kind", "first", "second", "holds"}
INITIAL = re.compile(r"\b(Mr|Mrs|Ms|Dr|St|[A-Z])\.(?=\s)")


@dataclass(frozen=True)
class Line:
    """One line of a file: what may be shown is its name."""

    name: str
    pair: dict[str, Any] = field(repr=False)


def read(half: str) -> list[Line]:
    lines = (FOLDER / f"{half}.jsonl").read_bytes().split(b"\n")
    if lines.pop() != b"":
        pytest.fail(f"{half}.jsonl does not end with a line feed", pytrace=False)
    found = []
    for number, line in enumerate(lines, 1):
        try:
            pair = json.loads(line.decode("utf-8"))
        except ValueError:
            pair = None
        if not isinstance(pair, dict) or set(pair) != KEYS or not isinstance(pair["id"], str):
            pytest.fail(f"{half}.jsonl, line {number}: not a pair", pytrace=False)
        found.append(Line(pair["id"], pair))
    return found


def well_formed(line: Line) -> bool:
    pair = line.pair
    try:
        times = [datetime.fromisoformat(pair[side]["at"]) for side in ("first", "second")]
        sides_fit = all(
            set(pair[side]) == {"text", "speaker", "at"}
            and isinstance(pair[side]["text"], str)
            and pair[side]["text"].strip() == pair[side]["text"] != ""
            and len(pair[side]["text"]) <= 200
            and (pair[side]["speaker"] is None or pair[side]["speaker"].strip() == pair[side]["speaker"] != "")
            for side in ("first", "second")
        )
        late = pair["kind"].startswith("late-")
        holds = "both" if pair["label"] == "related" else "first" if late else "second"
        return (
            sides_fit
            and re.fullmatch(r"[ur]\d{3}", pair["id"]) is not None
            and pair["label"] == {"u": "update", "r": "related"}[pair["id"][0]]
            and re.fullmatch(r"[a-z]+(-[a-z]+)*", pair["kind"]) is not None
            and all(time.tzinfo is None for time in times)
            and (times[1] < times[0] if late else times[0] < times[1])
            and pair["holds"] == holds
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def sentences(line: Line) -> list[str]:
    texts = [INITIAL.sub(r"\1", line.pair[side]["text"]) for side in ("first", "second")]
    cut = [sentence for text in texts for sentence in re.split(r"(?<=[.!?])\s+", text)]
    return [re.sub(r"\W+", " ", sentence).strip().casefold() for sentence in cut]


def refuse(names: list[str], what: str) -> None:
    if names:
        pytest.fail(f"{what}: {', '.join(names)}", pytrace=False)


@pytest.mark.parametrize("half", HALVES)
def test_each_pair_is_well_formed(half: str) -> None:
    refuse([line.name for line in read(half) if not well_formed(line)], f"malformed in {half}.jsonl")


@pytest.mark.parametrize("half", HALVES)
def test_counts_are_those_of_the_readme(half: str) -> None:
    counts = Counter((line.pair["label"], line.pair["kind"]) for line in read(half))
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for label, title in (("update", "## Updates\n"), ("related", "## Related")):
        section = readme.split(title)[1].split("\n## ")[0]
        column = HALVES.index(half)
        table = {row[0]: int(row[1 + column]) for row in re.findall(r"\| ([a-z-]+) \| (\d+) \| (\d+) \|", section)}
        total = table.pop("all")
        assert {key: count for key, count in table.items() if count} == {
            kind: count for (of, kind), count in counts.items() if of == label
        }
        assert total == sum(table.values()) >= LEAST[label]


def test_the_whole_is_broad() -> None:
    lines = [line for half in HALVES for line in read(half)]
    labels = Counter(line.pair["label"] for line in lines)
    kinds = Counter((line.pair["label"], line.pair["kind"]) for line in lines)
    assert labels["update"] >= 200 and labels["related"] >= 400
    assert kinds["update", "late-news"] >= 25 and kinds["update", "correction"] >= 25
    assert sum(1 for label, _ in kinds if label == "update") >= 40


def test_no_id_and_no_sentence_occurs_twice_in_either_half() -> None:
    lines = [line for half in HALVES for line in read(half)]
    names = Counter(line.name for line in lines)
    refuse([name for name, count in names.items() if count > 1], "ids that occur twice")
    seen: dict[str, str] = {}
    twice = []
    for line in lines:
        for sentence in sentences(line):
            if sentence in seen:
                twice.append(f"{seen[sentence]}/{line.name}")
            seen[sentence] = line.name
    refuse(twice, "a sentence occurs twice")


def test_the_frozen_half_is_unchanged() -> None:
    written = re.search(r"SHA-256 of `frozen\.jsonl`: `([0-9a-f]{64})`", (FOLDER / "README.md").read_text("utf-8"))
    assert written is not None
    assert hashlib.sha256((FOLDER / "frozen.jsonl").read_bytes()).hexdigest() == written.group(1)


def test_the_further_pairs_are_well_formed_and_near_no_sentence_of_the_halves() -> None:
    seen = {sentence for half in HALVES for line in read(half) for sentence in sentences(line)}
    counts: Counter[str] = Counter()
    twice: Counter[tuple[str, str]] = Counter()
    known = []
    for half in ("further", "tuned"):
        for pair in rows_of(half):
            texts = [pair[side]["text"] for side in ("first", "second")]
            assert all(t and t == t.strip() for t in texts), pair
            assert pair["first"]["speaker"] != ""
            counts[pair["label"]] += 1
            twice[texts[0], texts[1]] += 1
            known += [t for t in texts if re.sub(r"\W+", " ", INITIAL.sub(r"\1", t)).strip().casefold() in seen]
    assert known == []
    assert max(twice.values()) == 1
    written = (FOLDER / "README.md").read_text(encoding="utf-8")
    total = sum(counts.values())
    assert f"{total:,} pairs ({counts['update']:,} updates, {counts['related']:,} related)" in written
