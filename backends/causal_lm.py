"""A causal language model of the package transformers: found, loaded, and run a step."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agentmem.backends.loading import load_errors, quiet_loading
from agentmem.devices import device_of
from agentmem.errors import BackendError, BackendUnavailableError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
_MEMINFO = Path("/proc/meminfo")
_HEADS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def config_of(path: str) -> Any:
    """The model's settings, without its weights. Raises ConfigError when there are none that transformers knows."""
    try:
        from transformers import AutoConfig
    except ImportError as e:
        raise MissingExtraError(f"the backend hf:{path}", "hf", e.name or "transformers") from e
    try:
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except load_errors() as e:
        raise _unloadable(path, e) from e


def window_of(config: Any) -> int | None:
    """The longest prompt and answer together, in tokens; None where the settings do not say."""
    found = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return int(found) if found else None


class CausalLM:
    """A loaded network. `ends` are the tokens that its own settings end an answer with.

    `device` "auto" is CUDA where there is one, else the CPU; `dtype` "auto" is the checkpoint's own on an accelerator
    and float32 on a CPU, where a batch then gives what a single request gives. Weights are read from local safetensors
    files only; code that came with a model is never run.
    Raises ConfigError for what is no causal language model, or not whole; BackendUnavailableError when memory is short.
    """

    def __init__(self, path: str, *, dtype: str = "auto", device: str = "auto") -> None:
        import torch

        config = config_of(path)
        _check_kind(path, config)
        where = device_of(device)
        kind = dtype if dtype != "auto" or where.type != "cpu" else "float32"
        size = _stored_bytes(path)
        _check_memory(path, size * (2 if kind == "float32" and _is_half(config) else 1), where)
        self.network = on_memory(lambda: _load(path, kind, where), f"loading {path} ({_gb(size)} of weights)")
        self.device = where
        self.dtype = str(self.network.dtype).removeprefix("torch.")
        self.window = window_of(config)
        self.ends = _ends(self.network)
        self.vocabulary = int(self.network.get_output_embeddings().weight.shape[0])
        known = inspect.signature(self.network.forward).parameters
        if "past_key_values" not in known:
            raise _wrong(path, f"{type(self.network).__name__} keeps no keys and values between steps")
        self._options = {"use_cache": True} | ({"logits_to_keep": 1} if "logits_to_keep" in known else {})
        self._positions = "position_ids" in known
        self._no_grad = torch.inference_mode

    def step(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, past: Any
    ) -> tuple[torch.Tensor, Any]:
        """One pass over `ids` of shape (rows, tokens), `mask` (rows, tokens so far), `positions` like `ids`.

        Gives the logits behind each row's last token, float32 of shape (rows, vocabulary), and the new past.
        Raises BackendUnavailableError when memory is short.
        """
        options = self._options | ({"position_ids": positions} if self._positions else {})

        def run() -> Any:
            with self._no_grad():
                return self.network(input_ids=ids, attention_mask=mask, past_key_values=past, **options)

        out = on_memory(run, f"a pass over {ids.shape[0]} x {mask.shape[1]} tokens")
        return out.logits[:, -1, :].float(), out.past_key_values


def on_memory(work: Callable[[], T], what: str) -> T:
    """The result of `work`. What torch and Python raise for want of memory becomes BackendUnavailableError."""
    import torch

    try:
        return work()
    except MemoryError as e:
        raise _short(what) from e
    except torch.OutOfMemoryError as e:
        raise _short(what) from e
    except RuntimeError as e:
        # The CPU's allocator has no error of its own.
        if "not enough memory" in str(e) or "can't allocate memory" in str(e):
            raise _short(what) from e
        raise BackendError(f"{what} failed: {e}") from e


def _short(what: str) -> BackendUnavailableError:
    hint = "give a smaller max_batch or context_window, dtype='bfloat16', or a smaller or quantised model"
    return BackendUnavailableError(f"memory is short: {what} does not fit", hint=hint)


def _load(path: str, dtype: str, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    try:
        with quiet_loading():
            network, found = AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, output_loading_info=True, **options
            )
    except load_errors() as e:
        if isinstance(e, RuntimeError) and "memory" in str(e).lower():
            raise
        raise _unloadable(path, e) from e
    # What a checkpoint lacks would be random numbers, and the text nonsense.
    lacking = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
    if lacking:
        raise _wrong(path, f"lacks {len(lacking)} of the model's weights, e.g. {lacking[0]}")
    return network.to(device).eval()


def _check_kind(path: str, config: Any) -> None:
    names = getattr(config, "architectures", None) or []
    if getattr(config, "is_encoder_decoder", False) or (names and not any(n.endswith(_HEADS) for n in names)):
        raise _wrong(path, f"holds a {', '.join(names) or type(config).__name__}, which is no causal language model")


def _wrong(path: str, problem: str) -> ConfigError:
    hint = "give a folder with the config.json, safetensors weights and tokenizer of a causal language model"
    return ConfigError("model", path, problem, hint=hint)


def _unloadable(path: str, error: Exception) -> ConfigError:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if not Path(path).is_dir():
        hint = f"give a folder, or fetch the model first: hf download {path}"
        return ConfigError("model", path, f"is neither a folder nor a model in the cache: {first}", hint=hint)
    if "trust_remote_code" in str(error):
        return _wrong(path, "comes with code of its own, which is never run")
    return _wrong(path, f"can't be loaded: {first}")


def _ends(network: Any) -> frozenset[int]:
    said = getattr(getattr(network, "generation_config", None), "eos_token_id", None)
    return frozenset(said if isinstance(said, list) else [] if said is None else [said])


def _is_half(config: Any) -> bool:
    return getattr(getattr(config, "dtype", None), "itemsize", 4) == 2


def _stored_bytes(path: str) -> int:
    folder = Path(path)
    return sum(f.stat().st_size for f in folder.glob("*.safetensors")) if folder.is_dir() else 0


def _check_memory(path: str, needed: int, device: torch.device) -> None:
    """A system that promises more memory than it has ends the process when it is used: so it is asked before."""
    if device.type != "cpu" or not _MEMINFO.exists():
        return
    lines = _MEMINFO.read_text(encoding="ascii", errors="replace").splitlines()
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
    if free is not None and needed > free:
        raise _short(f"{path} needs {_gb(needed)} of the {_gb(free)} that are free and")


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
