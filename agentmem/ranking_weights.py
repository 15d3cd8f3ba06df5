"""The weights of the ranking, as `python -m benchmarks.fit_ranking` derives them from LoCoMo and LongMemEval."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHTS: Mapping[str, float] = {
    "dense": 0.859, "whole": -0.509, "context": 0.564, "lexical": 0.15, "window": -0.063, "session_lexical": 0.179,
    "length": 0.024, "session": 0.341, "cover_window": 1.397, "cover_before": 1.48, "speaker": 2.787, "time": 2.982,
    "event": 1.831, "when": 1.606, "number": 0.94, "who": 1.158, "tells": 0.774, "question": -0.922,
    "request": -0.071, "after_question": 1.052, "asked_assistant": 0.569, "other_side": -3.263, "exact": 6.0,
    "verbatim": 6.0, "answers": 0.084, "beside": 0.763,
}  # fmt: skip
