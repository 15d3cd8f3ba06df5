"""A CAP report as the command makes it, for the tests of its page and picture: eight rungs, none like another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# name, history, prompt tokens by section, evidence, answer tokens, F1, ms to retrieve and assemble
RUNGS: list[tuple[str, int, dict[str, float], float, float, float, tuple[float, float]]] = [
    ("no memory", 0, {"system": 210, "template": 12}, 0.0, 0.03, 0.02, (0.0, 0.05)),
    ("last messages", 24, {"system": 210, "queue": 812, "template": 60}, 0.06, 0.11, 0.07, (0.0, 0.4)),
    ("full context", 310, {"system": 210, "queue": 6890, "template": 640}, 0.52, 0.61, 0.31, (0.0, 3.1)),
    ("dense top-k", 1470, {"system": 210, "tail": 1004, "template": 14}, 0.61, 0.66, 0.33, (4.8, 0.6)),
    ("BM25", 1470, {"system": 210, "tail": 1011, "template": 14}, 0.64, 0.69, 0.35, (1.9, 0.6)),
    ("agentmem", 1470, {"system": 210, "core": 40, "summary": 96, "queue": 300, "tail": 690, "template": 30},
     0.74, 0.78, 0.42, (7.2, 1.1)),
    ("+ compression", 1470, {"system": 210, "core": 40, "summary": 60, "compressed": 180, "queue": 200, "tail": 640,
     "template": 28}, 0.71, 0.83, 0.44, (8.0, 2.4)),
    ("+ reflection", 1470, {"system": 210, "core": 44, "summary": 60, "compressed": 180, "queue": 200, "tail": 660,
     "template": 28}, 0.72, 0.84, 0.45, (8.3, 2.5)),
]  # fmt: skip
NAMES = [row[0] for row in RUNGS]


def share(mean: float, n: int = 320) -> dict[str, float]:
    """An interval of about the width that n questions give."""
    half = 1.96 * (mean * (1 - mean) / n) ** 0.5
    return {"mean": mean, "low": max(0.0, mean - half), "high": min(1.0, mean + half), "n": n}


def rung(name: str, *, model: bool) -> dict[str, Any]:
    """One rung of the ladder by name."""
    _, history, sections, evidence, tokens, f1, (retrieve, assemble) = next(r for r in RUNGS if r[0] == name)
    total = sum(sections.values())
    return {
        "name": name,
        "C": {
            "history_messages": float(history), "history_tokens": history * 31.0, "prompt_tokens_mean": total,
            "prompt_tokens_p95": total * 1.04, "sections": dict(sections),
            "compression_ratio": 0.42 if name.startswith("+") else None,
            "evidence_in_prompt": share(evidence), "evidence_tokens": share(tokens),
        },
        "A": {
            "f1": share(f1), "evidence_recall": share(evidence), "abstention_precision": share(0.4 + f1 / 2, 80),
            "abstention_recall": None if name == "no memory" else share(0.5, 80), "stale": share(0.12, 40),
            "judge": {"accuracy": share(f1 + 0.1), "false_accept": share(0.06, 100)} if model else None,
            "by_category": {"single hop": {"f1": share(f1, 120), "n": 120}, "when": {"f1": share(f1 / 2, 60), "n": 60},
                            "several": {"f1": share(f1 * 0.8, 60), "n": 60}},
        },
        "P": {
            "write_ms_p50": 0.9, "write_ms_p95": 2.2, "retrieve_ms_p50": retrieve, "retrieve_ms_p95": retrieve * 1.8,
            "assemble_ms_p50": assemble, "assemble_ms_p95": assemble * 1.5,
            "first_token_ms_p50": 40 + total / 12 if model else None,
            "first_token_ms_p95": 70 + total / 8 if model else None, "tokens_per_s": 58.0 if model else None,
            "calls_per_turn": 1.0, "tokens_per_turn": total + 21, "prefix_reuse": 0.71 if model else None,
        },
    }  # fmt: skip


def sample(*, model: bool = False, names: Sequence[str] = NAMES) -> dict[str, Any]:
    """The report of so many rungs."""
    describe = "a served model, Example-8B" if model else "extractive: no language model. It answers by quoting."
    return {
        "version": 1, "agentmem": "0.3.0", "machine": "x86_64, 2 cores, Linux", "packages": {"numpy": "2.4.6"},
        "seed": 0, "data": {"name": "locomo", "conversations": 10, "messages": 5882, "questions": 400,
                            "unanswerable": 80, "sha256": "ab" * 32},
        "backend": {"name": "openai" if model else "extractive", "describe": describe, "model": model},
        "embedder": "minilm", "compressor": "extractive", "window_tokens": 8192, "reserve_tokens": 512,
        "counter": {"name": "wordpiece", "exact": True}, "notes": ["12 evidence keys are not in the data"],
        "rungs": [rung(n, model=model) for n in names],
    }  # fmt: skip
