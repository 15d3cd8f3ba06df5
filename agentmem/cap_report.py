"""The report of a CAP run, made of its lines alone: context, accuracy and performance of each rung, with intervals."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any

from agentmem.cap_intervals import DIGITS, Interval, interval, mean, percentile
from agentmem.types import SECTIONS

VERSION = 1
Line = Mapping[str, Any]
PACKAGES = ("numpy", "faiss-cpu", "faiss-gpu-cu12", "torch", "transformers", "vllm", "llmlingua")


def machine() -> str:
    """The machine in a line; neither its name nor a path."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}"


@cache
def packages() -> Mapping[str, str]:
    """Versions of the packages that matter, of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return MappingProxyType(found)


def rung_report(name: str, lines: Sequence[Line], writes: Sequence[Line], probes: Sequence[Line], seed: int) -> Line:
    """One rung, of its question lines, its lines of writing (one a conversation) and the judge's probes."""
    return {
        "name": name,
        "C": _context(lines, writes, seed),
        "A": _accuracy(lines, probes, seed),
        "P": _performance(lines, writes),
    }


def _context(lines: Sequence[Line], writes: Sequence[Line], seed: int) -> dict[str, Any]:
    totals = [sum(line["sections"].values()) for line in lines]
    reach = [_reach(w, [line for line in lines if line["conversation"] == w["conversation"]]) for w in writes]
    compressed = [line for line in lines if line["compressing"]]
    whole = sum(line["whole_tokens"] for line in compressed)
    return {
        "history_messages": mean([messages for messages, _ in reach]),
        "history_tokens": mean([tokens for _, tokens in reach]),
        "prompt_tokens_mean": mean(totals),
        "prompt_tokens_p95": percentile(totals, 95),
        "sections": {s: mean([line["sections"].get(s, 0) for line in lines]) for s in SECTIONS},
        "compression_ratio": _ratio(sum(line["shown_tokens"] for line in compressed), whole) if whole else None,
        "evidence_in_prompt": _over(lines, lambda q: q["evidence_share"] == 1.0, "evidence_share", seed),
        "evidence_tokens": _over(lines, lambda q: q["evidence_tokens"], "evidence_tokens", seed),
    }


def _reach(write: Line, lines: Sequence[Line]) -> tuple[float, float]:
    """The most of the history that can come into a prompt: all, or what ever stood in one."""
    if write["reach"] is not None:
        messages, tokens = write["reach"]
        return messages, tokens
    return max((line["reach"][0] for line in lines), default=0), max((line["reach"][1] for line in lines), default=0)


def _accuracy(lines: Sequence[Line], probes: Sequence[Line], seed: int) -> dict[str, Any]:
    kinds = sorted({line["category"] for line in lines})
    judged = [line for line in lines if line["judge"] is not None]
    declining = [float(line["unanswerable"]) for line in lines if line["declined"]]
    unanswerable = [float(line["declined"]) for line in lines if line["unanswerable"]]
    by_category = {}
    for kind in kinds:
        # Where nothing was said to be found, to decline is the whole answer.
        values = [line["f1"] if line["f1"] is not None else float(line["declined"]) for line in lines
                  if line["category"] == kind]  # fmt: skip
        by_category[kind] = {"f1": interval(values, seed), "n": len(values)}
    return {
        "f1": _over(lines, lambda q: q["f1"], "f1", seed),
        "evidence_recall": _over(lines, lambda q: q["evidence_share"], "evidence_share", seed),
        "abstention_precision": interval(declining, seed) if declining else None,
        "abstention_recall": interval(unanswerable, seed) if unanswerable else None,
        "stale": _over(lines, lambda q: q["stale"], "stale", seed) if _known(lines, "stale") else None,
        "judge": {
            "accuracy": interval([float(line["judge"]) for line in judged], seed),
            "false_accept": interval([float(v) for p in probes for v in p["accepted"]], seed),
        } if judged else None,
        "by_category": by_category,
    }  # fmt: skip


def _performance(lines: Sequence[Line], writes: Sequence[Line]) -> dict[str, Any]:
    timed: list[Mapping[str, Any]] = [line["P"] for line in lines]
    written = [v for w in writes for v in w["P"]["write_ms"]]
    first = [p["first_token_ms"] for p in timed if p["first_token_ms"] is not None]
    generated = [p for p in timed if p["written_ms"]]
    seconds = sum(p["written_ms"] for p in generated) / 1000
    reused = [p["reused"] for p in timed if p["reused"] is not None]
    out: dict[str, Any] = {}
    for name, values in (
        ("write_ms", written),
        ("retrieve_ms", [p["retrieve_ms"] for p in timed]),
        ("assemble_ms", [p["assemble_ms"] for p in timed]),
        ("first_token_ms", first),
    ):
        for percent in (50, 95):
            known = bool(values) or name != "first_token_ms"
            out[f"{name}_p{percent}"] = percentile(values, percent) if known else None
    return out | {
        "tokens_per_s": _ratio(sum(p["written_tokens"] for p in generated), seconds) if seconds else None,
        "calls_per_turn": mean([p["calls"] for p in timed]),
        "tokens_per_turn": mean([p["tokens"] for p in timed]),
        "prefix_reuse": _ratio(sum(u for u, _ in reused), sum(t for _, t in reused)) if reused else None,
    }


def _known(lines: Sequence[Line], name: str) -> list[Line]:
    return [line for line in lines if line[name] is not None]


def _over(lines: Sequence[Line], value: Callable[[Line], Any], name: str, seed: int) -> Interval:
    """Over the questions for which `name` is defined."""
    return interval([float(value(line)) for line in _known(lines, name)], seed)


def _ratio(part: float, whole: float) -> float:
    return round(part / whole, DIGITS) if whole else 0.0
