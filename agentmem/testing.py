"""What authors of drivers and of agents test with: the scripted backend, the hashing embedder, the contract classes.

    from agentmem.testing import EmbedderContract, ScriptedBackend, tool_call

The contract classes are for pytest: inherit one, give its fixtures, and its laws run on your driver.
"""

from __future__ import annotations

from agentmem.compressor_contract import CompressorContract
from agentmem.contracts import BackendContract, EmbedderContract, VectorIndexContract
from agentmem.reflection_contract import StrategyContract
from agentmem.registry import EMBEDDERS, load
from agentmem.reranker_contract import RerankerContract
from agentmem.scripted import ScriptedBackend, tool_call
from agentmem.soft_prompt_contract import SoftPromptBackendContract, SoftPromptEncoderContract
from agentmem.tokenizer_contract import PromptTokenizerContract

# ruff: noqa: F822 - HashingEmbedder is resolved below
__all__ = [
    "BackendContract",
    "CompressorContract",
    "EmbedderContract",
    "HashingEmbedder",
    "PromptTokenizerContract",
    "RerankerContract",
    "ScriptedBackend",
    "SoftPromptBackendContract",
    "SoftPromptEncoderContract",
    "StrategyContract",
    "VectorIndexContract",
    "tool_call",
]


def __getattr__(name: str) -> object:
    # A driver: the kernel names it by a string, here too.
    if name == "HashingEmbedder":
        return load(EMBEDDERS["hash"])
    raise AttributeError(f"module 'agentmem.testing' has no attribute {name!r}")
