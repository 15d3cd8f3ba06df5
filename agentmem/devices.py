"""Where a network computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentmem.errors import ConfigError

if TYPE_CHECKING:
    import torch


def device_of(wanted: str) -> torch.device:
    """The device of a name; `auto` is CUDA where there is one, else the CPU. Loads torch.

    Raises ConfigError for one that can't be used.
    """
    import torch

    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as e:
        problem = f"can't be used: {str(e).splitlines()[0]}"
        raise ConfigError("device", wanted, problem, hint="auto, cpu, cuda or cuda:N") from e
    return device
