"""How often a compressor asked its model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook

HEADS = ("ForCausalLM", "ForTokenClassification")


def model_passes(work: Callable[[], Any]) -> int:
    """The passes of networks with a head of language or of classes while `work` runs, in any thread."""
    count = 0

    def passed(module: object, _: object) -> None:
        nonlocal count
        count += type(module).__name__.endswith(HEADS)

    hook = register_module_forward_pre_hook(passed)
    try:
        work()
    finally:
        hook.remove()
    return count
