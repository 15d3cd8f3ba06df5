"""Which weights these are: a name for a model's folder by what its safetensors files hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from agentmem.errors import ConfigError

_PIECE = 4096
_MOST_HEADER = 100_000_000  # the format's own limit, in bytes


class _Tensor(NamedTuple):
    """A tensor's bytes lie in `path` from `start` to `end`."""

    name: str
    dtype: str
    shape: list[int]
    path: Path
    start: int
    end: int


def model_fingerprint(folder: str | Path) -> str:
    """SHA-256 (hex) over name, dtype, shape and the first and last 4 KiB of every tensor, in the order of names.

    So it does not depend on how the weights are split into files; a fine-tune, a merged LoRA and a quantised copy are
    other models. It reads 8 KiB a tensor, not the whole model, and nothing is unpickled. Settings (config.json, chat
    template) are not part of it. It is a name, no proof: who wants to can make two models of one name.

    Raises ConfigError for a folder without safetensors files, and for broken ones.
    """
    found = sorted((t for path in _files(Path(folder).expanduser()) for t in _tensors(path)), key=lambda t: t.name)
    digest = hashlib.sha256()
    for t in found:
        size = t.end - t.start
        digest.update(json.dumps([t.name, t.dtype, t.shape, size]).encode() + b"\n")
        with t.path.open("rb") as file:
            for start in (t.start, max(t.start, t.end - _PIECE)):
                file.seek(start)
                digest.update(file.read(min(_PIECE, size)))
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    """The files of the weights; of several sets (Mistral's folders hold two) the one that loaders take."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise _broken(index) from e
        if not all(isinstance(n, str) and n == Path(n).name for n in names):
            raise _broken(index)
        found = [folder / n for n in names]
    else:
        one = folder / "model.safetensors"
        found = [one] if one.is_file() else sorted(folder.glob("*.safetensors"))
    if not found:
        hint = "save the model with save_pretrained(..., safe_serialization=True)"
        raise ConfigError("model", str(folder), "has no safetensors files to know its weights by", hint=hint)
    if gone := [p for p in found if not p.is_file()]:
        raise ConfigError("model", str(gone[0]), "is named in the index and not there", hint="download it again")
    return found


def _tensors(path: Path) -> list[_Tensor]:
    """The tensors of a file, by its header alone."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(_MOST_HEADER, size - 8):
            raise _broken(path)
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            header.pop("__metadata__", None)
            found = [_tensor(name, told, path, 8 + length) for name, told in header.items()]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as e:
            raise _broken(path) from e
    if any(not 8 + length <= t.start <= t.end <= size for t in found):
        raise _broken(path)
    return found


def _tensor(name: str, told: dict[str, Any], path: Path, first: int) -> _Tensor:
    start, end = told["data_offsets"]
    return _Tensor(
        name, str(told["dtype"]), [int(n) for n in told["shape"]], path, first + int(start), first + int(end)
    )


def _broken(path: Path) -> ConfigError:
    return ConfigError("model", str(path), "is no whole safetensors file or index", hint="download the model again")
