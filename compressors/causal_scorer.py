"""A causal language model that compressors ask how likely texts are: found, checked, loaded. Nothing is generated."""

from __future__ import annotations

import hashlib
import inspect
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentmem.devices import device_of
from agentmem.errors import CompressionError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    import torch

HINT = "give a folder with the config.json, safetensors weights and tokenizer.json of a causal language model"
DTYPES = ("auto", "float32", "bfloat16", "float16")
_HEADS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_EDGE_BYTES = 1 << 16
# The switch for the bar over loading weights is one for the whole process.
_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network that is ready, with its tokenizer (of the package tokenizers, without truncation).

    `prefix` is the token that a text begins with, `window` the most tokens of a pass, `keeps` whether the network can
    be asked for the last logits alone.
    """

    network: Any
    tokenizer: Any
    device: torch.device
    prefix: int
    window: int
    vocabulary: int
    keeps: bool


def checked_path(path: str) -> str:
    """`path`, the user's home written out. Raises ConfigError for what looks like a folder and is none."""
    full = os.path.expanduser(path)
    if not path:
        raise ConfigError("model", path, "no model is named", hint=HINT)
    looks = path.startswith(("/", "./", "../", "~", "\\")) or os.path.exists(full)
    if looks and not os.path.isdir(full):
        raise ConfigError("model", path, "is no folder", hint=HINT)
    return full


def digest(path: str) -> str:
    """What tells a model's folder from another, without reading all of it: its settings, its tokenizer, and of each
    file of weights the size and the edges. A model by name is told by its name."""
    folder = Path(path)
    if not folder.is_dir():
        return path
    found = hashlib.sha256()
    for file in sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors", ".model", ".txt")):
        if file.name == "generation_config.json" or not file.is_file():
            continue
        size = file.stat().st_size
        found.update(f"{file.name}:{size}\n".encode())
        with file.open("rb") as opened:
            found.update(opened.read(_EDGE_BYTES))
            opened.seek(max(0, size - _EDGE_BYTES))
            found.update(opened.read(_EDGE_BYTES))
    return found.hexdigest()[:16]


def load(path: str, *, name: str, dtype: str = "auto", device: str = "auto") -> LoadedModel:
    """The model in a folder, or of the Hugging Face cache by its name, for the compressor `name`.

    `device` "auto" is CUDA where there is one, else the CPU; `dtype` "auto" the checkpoint's own on an accelerator and
    float32 on a CPU. Weights are read from safetensors files only; code that came with a model is never run.
    Raises ConfigError for what is no causal language model, or not whole, or has no fast tokenizer or no token to begin
    a text with; MissingExtraError without the package transformers; CompressionError when memory is short.
    """
    try:
        import torch
        from safetensors import SafetensorError
        from tokenizers import Tokenizer
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    except ImportError as e:
        raise MissingExtraError(f"the compressor {name}:{path}", "hf", e.name or "transformers") from e
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    where = device_of(device)
    # With `dtype` "auto" transformers takes the checkpoint's own.
    kind = "float32" if dtype == "auto" and where.type == "cpu" else dtype
    try:
        with quiet():
            config = AutoConfig.from_pretrained(path, **options)
            _check_kind(path, config)
            tokenizer = AutoTokenizer.from_pretrained(path, **options)
            network, found = AutoModelForCausalLM.from_pretrained(
                path, dtype=kind, output_loading_info=True, use_safetensors=True, **options
            )
        network = network.to(where).eval()
    except (MemoryError, torch.OutOfMemoryError) as e:
        raise _short(name, path) from e
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as e:
        if isinstance(e, ConfigError):
            raise
        if "memory" in str(e).lower() and isinstance(e, RuntimeError):
            raise _short(name, path) from e
        raise _unloadable(path, e) from e
    # What a checkpoint lacks would be random numbers, and so would the scores.
    if lacking := sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]])):
        raise ConfigError("model", path, f"lacks {len(lacking)} of its weights, e.g. {lacking[0]}", hint=HINT)
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        raise ConfigError("model", path, "has no fast tokenizer, which tells where its tokens stand", hint=HINT)
    plain = Tokenizer.from_str(fast.to_str())
    plain.no_truncation()
    plain.no_padding()
    vocabulary = int(network.get_output_embeddings().weight.shape[0])
    if plain.get_vocab_size() > int(network.get_input_embeddings().weight.shape[0]):
        problem = f"has a tokenizer of {plain.get_vocab_size()} tokens and weights for {vocabulary}"
        raise ConfigError("model", path, problem, hint="give the tokenizer that the model was trained with")
    return LoadedModel(
        network=network,
        tokenizer=plain,
        device=where,
        prefix=_prefix(path, tokenizer),
        window=_window(config),
        vocabulary=vocabulary,
        keeps="logits_to_keep" in inspect.signature(network.forward).parameters,
    )


def short_of_memory(name: str, what: str) -> CompressionError:
    """The error for work that does not fit into the device's memory."""
    return CompressionError(
        name, f"memory is short for {what}", hint="give a smaller model, dtype=bfloat16, or device=cpu"
    )


def _short(name: str, path: str) -> CompressionError:
    return short_of_memory(name, f"the model {path}")


def _prefix(path: str, tokenizer: Any) -> int:
    """The token before a text's first one, without which the first has no probability."""
    for given in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if given is not None:
            return int(given)
    raise ConfigError(
        "model",
        path,
        "its tokenizer has no token that begins or ends a text",
        hint="set bos_token, eos_token or pad_token in its tokenizer_config.json",
    )


def _window(config: Any) -> int:
    found = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return int(found) if found else 1 << 20


def _check_kind(path: str, config: Any) -> None:
    names = getattr(config, "architectures", None) or []
    if getattr(config, "is_encoder_decoder", False) or (names and not any(n.endswith(_HEADS) for n in names)):
        what = ", ".join(names) or type(config).__name__
        raise ConfigError("model", path, f"holds a {what}, which is no causal language model", hint=HINT)


def _unloadable(path: str, error: Exception) -> ConfigError:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if not Path(path).is_dir():
        hint = f"give a folder, or fetch the model first: hf download {path}"
        return ConfigError("model", path, f"is neither a folder nor a model in the cache: {first}", hint=hint)
    if "trust_remote_code" in str(error):
        return ConfigError("model", path, "comes with code of its own, which is never run", hint=HINT)
    return ConfigError("model", path, f"can't be loaded: {first}", hint=HINT)


@contextmanager
def quiet() -> Iterator[None]:
    """No bar over the weights, and the user's seed stays."""
    import torch
    from transformers.utils import logging

    with _LOCK, torch.random.fork_rng(devices=[]):
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            if shown:
                logging.enable_progress_bar()
