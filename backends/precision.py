"""Which number format a network computes in on this processor."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from agentmem.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16"]
# Dot products of bfloat16 in hardware. Elsewhere they are emulated, which is slower than float32.
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
_CPUINFO = Path("/proc/cpuinfo")


def check(precision: str) -> Precision:
    """The setting itself. Raises ConfigError for any other word."""
    for known in get_args(Precision):
        if precision == known:
            return precision  # type: ignore[return-value]
    raise ConfigError("precision", precision, "is unknown", hint=f"one of {', '.join(get_args(Precision))}")


@cache
def processor_has_bfloat16() -> bool:
    """True where the processor multiplies bfloat16 in hardware (AVX512-BF16 or AMX). False where nothing can tell.

    Imports torch. Its `mkldnn` check is not asked: that one says whether bfloat16 works, emulated or not.
    """
    import torch

    capabilities: Any = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        found = capabilities()
        return any(bool(found.get(name, False)) for name in _INSTRUCTIONS)
    return _in_cpuinfo(_CPUINFO)  # an older torch


def _in_cpuinfo(path: Path) -> bool:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return any(name in flags for name in _INSTRUCTIONS)


def uses_bfloat16(precision: Precision, device: str) -> bool:
    """Whether a batch is computed in bfloat16: as told, and with `auto` on a processor that has it."""
    if precision != "auto":
        return precision == "bfloat16"
    return device.split(":")[0] == "cpu" and processor_has_bfloat16()
