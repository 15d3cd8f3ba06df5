"""What the CAP report's page and picture show of a rung at a glance: one measure an axis, the same in both.

C: in how many questions the words of the answer that the gold messages hold stand in the prompt. A: token F1 of the
answers. P: the time to retrieve and assemble, before any model is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

# The colours of Okabe and Ito, told apart by the colour-blind.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
OURS = COLOURS[0]
MODEL = COLOURS[1]

C_TITLE, C_SAYS = "Context", "questions whose answer's words stand in the prompt"
A_TITLE, A_SAYS = "Accuracy", "token F1 of the answers"
P_TITLE, P_SAYS = "Performance", "ms to retrieve and assemble (logarithmic)"
FLOOR_MS = 0.01
"""Below it times are drawn as if they were so: a logarithmic axis has no 0."""


def is_ours(name: str) -> bool:
    """Whether a rung is agentmem, or agentmem with something on top ("+ compression"), and no baseline."""
    return name.startswith(("agentmem", "+"))


def prepare_ms(rung: Mapping[str, Any], which: str) -> float:
    """Milliseconds to retrieve and to assemble; `which` is "p50" or "p95" (of each, added up)."""
    return float(rung["P"][f"retrieve_ms_{which}"]) + float(rung["P"][f"assemble_ms_{which}"])


def log_range(values: Sequence[float]) -> tuple[float, float]:
    """Powers of ten (from FLOOR_MS on) between which all values lie, at least two apart."""
    low = math.floor(math.log10(max(min(values, default=1.0), FLOOR_MS)))
    high = math.ceil(math.log10(max(max(values, default=1.0), FLOOR_MS)))
    return 10.0**low, 10.0 ** max(high, low + 2)


def first_token_ms(report: Mapping[str, Any], rung: Mapping[str, Any]) -> tuple[float, float] | None:
    """Median and p95 of the time to the model's first token; None where no model ran, or none was streamed."""
    middle, late = (rung["P"].get(f"first_token_ms_{w}") for w in ("p50", "p95"))
    if not report["backend"]["model"] or middle is None:
        return None
    return float(middle), float(middle if late is None else late)


def wait_range(report: Mapping[str, Any]) -> tuple[float, float]:
    """The axis of all times that are drawn: to retrieve and assemble, and to the first token."""
    rungs = report["rungs"]
    times = [prepare_ms(r, w) for r in rungs for w in ("p50", "p95")]
    return log_range([*times, *(t for r in rungs for t in first_token_ms(report, r) or ())])


def percent(share: float) -> str:
    """`74 %`; `0.4 %` and `99.6 %` where rounding would say nothing or all."""
    value = 100 * share
    return f"{value:.1f} %" if 0 < value < 1 or 99 < value < 100 else f"{value:.0f} %"


def milliseconds(value: float) -> str:
    """`0 ms`, `<0.01 ms`, `0.05 ms`, `7.3 ms`, `120 ms`, `2.1 s`."""
    if value < 0.005:
        return "<0.01 ms" if value > 0 else "0 ms"
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"
