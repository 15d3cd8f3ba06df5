"""Options of the vLLM engine: their names checked, defaults for memory that is shared.

No vLLM is needed here: the engine's own names are passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agentmem.errors import ConfigError

GIB = 1024**3
OWN = ("reserve_gib", "template", "timeout_s", "tool_parser")
# Set by the backend itself, or at odds with what it does.
REFUSED = {
    "model": "the model is the path",
    "skip_tokenizer_init": "the engine turns its tokens into text itself",
    "runner": "only models that generate text are served",
    "convert": "only models that generate text are served",
}
CEILING = 0.92  # vLLM's own default of gpu_memory_utilization
ENGINE_GIB = 1.5  # what the engine's processes take beside weights and cache (measured: 1.7 GiB resident, some shared)
MOST_CACHE_GIB, LEAST_CACHE_GIB = 16.0, 0.25
_SIZES = ("gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override")


def check_names(options: Mapping[str, Any], known: Collection[str]) -> None:
    """Raises ConfigError for an option that the engine (its names are `known`) does not have, listing those it has,
    the likeliest first; and for one that is not the caller's to set."""
    names = sorted({n for n in known if not n.startswith("_")} - REFUSED.keys() | set(OWN))
    for name, value in options.items():
        if name in REFUSED:
            raise ConfigError(name, value, f"can't be set here: {REFUSED[name]}")
        if name not in names:
            close = get_close_matches(name, names, n=3)
            listed = ", ".join([*close, *(n for n in names if n not in close)])
            meant = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigError(name, value, "is no option of this vLLM", hint=f"{meant}known: {listed}")


def check_values(options: Mapping[str, Any]) -> None:
    """Raises ConfigError for own options of a wrong value, and for what needs a package that is not there."""
    for name in ("timeout_s", "reserve_gib"):
        value = options.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise ConfigError(name, value, "must be a number, 0 or more")
    if options.get("timeout_s") == 0:
        raise ConfigError("timeout_s", 0, "must be more than 0 seconds")
    speculative = options.get("speculative_config")
    if speculative is not None and not isinstance(speculative, Mapping):
        raise ConfigError("speculative_config", speculative, "must be an object, e.g. {'method': 'ngram', ...}")
    if speculative and speculative.get("method") == "suffix" and find_spec("arctic_inference") is None:
        raise ConfigError(
            "speculative_config",
            dict(speculative),
            "suffix decoding needs the package arctic-inference, which is not installed",
            hint="pip install arctic-inference==0.1.1, or use {'method': 'ngram', 'num_speculative_tokens': 4, "
            "'prompt_lookup_max': 4}, which needs no package",
        )
    transfer = options.get("kv_transfer_config")
    if (
        isinstance(transfer, Mapping)
        and "LMCache" in str(transfer.get("kv_connector"))
        and find_spec("lmcache") is None
    ):
        raise ConfigError(
            "kv_transfer_config",
            dict(transfer),
            "this connector needs the package lmcache, which is not installed",
            hint="pip install lmcache, or give kv_offloading_size (GiB) for vLLM's own offloading to the CPU's memory",
        )


def gpu_share(total_gib: float, reserve_gib: float) -> float:
    """`gpu_memory_utilization` that leaves `reserve_gib` of a GPU of `total_gib` to others, an embedder and a reranker.

    0.92, vLLM's own default, less the reserve's share; rounded down to hundredths. Raises ConfigError below 0.1.
    """
    share = int((CEILING - reserve_gib / total_gib) * 100 + 1e-9) / 100
    if share < 0.1:
        problem = f"leaves too little of the GPU's {total_gib:.1f} GiB to the engine"
        raise ConfigError("reserve_gib", reserve_gib, problem, hint="lower it, or run the embedder on the CPU")
    return share


def cpu_cache_bytes(available: int, weights: int, reserve: int) -> int:
    """`kv_cache_memory_bytes` on a CPU: half of the memory that is free once weights, the engine and `reserve` are in
    it, between 0.25 and 16 GiB. All in bytes."""
    room = available - weights - reserve - int(ENGINE_GIB * GIB)
    return min(max(room // 2, int(LEAST_CACHE_GIB * GIB)), int(MOST_CACHE_GIB * GIB))


def memory_defaults(
    options: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    on_cpu: bool,
    total: int,
    available: int,
    weights: int,
    reserve_gib: float,
) -> dict[str, Any]:
    """The options that size the cache where the user set none of them, nor VLLM_CPU_KVCACHE_SPACE. Bytes, and GiB."""
    if any(options.get(name) is not None for name in _SIZES):
        return {}
    if not on_cpu:
        return {"gpu_memory_utilization": gpu_share(total / GIB, reserve_gib)}
    if environment.get("VLLM_CPU_KVCACHE_SPACE"):
        return {}
    return {"kv_cache_memory_bytes": cpu_cache_bytes(available, weights, int(reserve_gib * GIB))}


def weight_bytes(path: str) -> int:
    """Size of a local model's weight files; 0 for a name on the hub."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return 0
    for pattern in ("*.safetensors", "*.bin", "*.gguf"):
        if size := sum(f.stat().st_size for f in folder.glob(pattern)):
            return size
    return 0
