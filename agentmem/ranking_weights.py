"""The weights of the ranking, as benchmarks/fit_ranking.py derives them."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, float] = {
    "dense": 0.927, "whole": -0.421, "context": 0.414, "lexical": 0.15, "window": 0.188, "session_lexical": 0.21,
    "length": 0.202, "session": 0.284, "cover_window": 0.755, "cover_before": 1.651, "speaker": 2.852, "time": 2.941,
    "event": 1.93, "when": 1.677, "number": 0.935, "who": 1.175, "question": -0.503, "after_question": 1.019,
    "asked_assistant": -0.054, "other_side": -4.038, "answers": 0.077, "beside": 0.616, "near": 0.07, "exact": 6.0,
    "verbatim": 6.0,
}  # fmt: skip
