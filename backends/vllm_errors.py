"""What vLLM raises, and what its processes leave in their log, as errors of ours that say what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from agentmem.errors import BackendError, BackendUnavailableError, BadRequestError, ConfigError, RateLimitedError

_NO_ROOM = re.compile(
    r"max seq len \((?P<len>\d+)\), \((?P<need>[\d.]+) GiB .*?available KV cache memory \((?P<have>[\d.]+) GiB\)"
    r"(?:.*?estimated maximum model length is (?P<fits>\d+))?",
    re.DOTALL,
)
_LESS = re.compile(r"(?:Available|Free) memory on .*?\((?P<have>[\d.]+)/(?P<total>[\d.]+) GiB\).*?less than", re.DOTALL)
_GUARD = "put what starts the engine under `if __name__ == '__main__':`, as its process imports the script again"


def start_error(cause: str, options: Mapping[str, Any], path: str) -> ConfigError | BackendError:
    """The error for an engine that did not start, from what its log, or vLLM's own exception, says."""
    size = "kv_cache_memory_bytes" if options.get("kv_cache_memory_bytes") else "gpu_memory_utilization"
    if found := _NO_ROOM.search(cause):
        problem = f"one request of this length needs {found['need']} GiB of cache, {found['have']} GiB are there for it"
        fits = f"max_model_len={found['fits']} fits; or " if found["fits"] else "lower it, or "
        return ConfigError(
            "max_model_len", int(found["len"]), problem, hint=f"{fits}raise {size} ({options.get(size)})"
        )
    if found := _LESS.search(cause):
        problem = f"is more than is free: {found['have']} of {found['total']} GiB"
        return ConfigError(size, options.get(size), problem, hint=f"lower {size}, or end what else uses the memory")
    if "No available memory for the cache blocks" in cause or "out of memory" in cause.lower():
        problem = f"the model leaves no memory for the cache ({_shortened(cause)})"
        hint = "raise it, lower max_model_len or max_num_seqs, quantise the model, or end what else uses the memory"
        return ConfigError(size, options.get(size), problem, hint=hint)
    if cause:
        return ConfigError("backend", f"vllm:{path}", f"the engine did not start: {_shortened(cause)}")
    return BackendUnavailableError(
        f"vllm:{path}: the engine's process ended while it started",
        hint=f"what it wrote above says why (VLLM_LOGGING_LEVEL=INFO makes it say more); in a script, {_GUARD}",
    )


def import_error(path: str) -> ConfigError:
    """The error for a script that starts an engine again when the engine's process imports it."""
    return ConfigError("backend", f"vllm:{path}", "the engine's process imports the script that starts it", hint=_GUARD)


def _shortened(cause: str) -> str:
    line = " ".join(cause.split())
    return line if len(line) <= 500 else line[:497] + "..."


def answer_error(error: Exception, name: str, cause: Callable[[], str]) -> BackendError:
    """The error for a `VLLMError` that ended an answer. `cause` gives the last error in the engine's log."""
    from vllm.exceptions import GracefulHTTPError, VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError

    if isinstance(error, EngineDeadError):
        told = f": {_shortened(found)}" if (found := cause()) else ""
        return BackendUnavailableError(
            f"{name}: the engine's process has ended{told}",
            hint="close this backend and make a new one; if it happens again, look at memory "
            "(lower gpu_memory_utilization, kv_cache_memory_bytes or max_num_seqs)",
        )
    if isinstance(error, GracefulHTTPError):
        return RateLimitedError(f"{name}: {error}")
    behind = error.__cause__
    if isinstance(error, VLLMClientError) or isinstance(behind, ValueError | TypeError):
        return BadRequestError(f"{name} refuses the request: {behind or error}")
    return BackendError(f"{name}: {behind or error or type(error).__name__}")
