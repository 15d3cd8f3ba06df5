"""The file of a derived index: a checksum, a line of JSON (generation, last vector, ...), then the index's bytes.

The checksum covers all that follows it: a wrong generation would hide deletions as surely as a wrong byte a neighbour.
Written as temp + fsync + rename + fsync of the folder, so that at any moment there is a whole old one or a
whole new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from agentmem.crashpoints import crash_point
from agentmem.errors import IndexDamagedError, StoreError

MAGIC = "agentmem-index-1"


@dataclass(frozen=True, slots=True)
class SnapshotHead:
    """What a snapshot says of itself: the state of SQLite that it stands for."""

    index: str
    dim: int
    embedder_id: int
    generation: int
    last_vector: int


def write_snapshot(path: Path, head: SnapshotHead, payload: bytes) -> None:
    """Raises StoreError when the file can't be written; the old one then still stands."""
    line = json.dumps(asdict(head)).encode() + b"\n"
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as f:
            f.write(_seal(line, payload) + line)
            crash_point("snapshot.half_written")
            f.write(payload)
            f.flush()
            os.fsync(f.fileno())
        crash_point("snapshot.before_rename")
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as e:
        with suppress(OSError):
            temporary.unlink()
        raise StoreError(
            f"{path}: the index snapshot can't be written: {e.strerror}",
            hint="nothing is lost: the index is rebuilt from SQLite at the next start",
        ) from e


def _seal(line: bytes, payload: bytes) -> bytes:
    checksum = hashlib.sha256(line)
    checksum.update(payload)
    return f"{MAGIC} {checksum.hexdigest()}\n".encode()


def read_snapshot(path: Path) -> tuple[SnapshotHead, bytes] | None:
    """The head and payload; None when there is no file; IndexDamagedError when it does not verify."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as e:
        raise IndexDamagedError(f"{path}: can't be read: {e.strerror}") from e
    seal, _, rest = data.partition(b"\n")
    line, end, payload = rest.partition(b"\n")
    if not seal.startswith(MAGIC.encode() + b" "):
        raise IndexDamagedError(f"{path}: is no index snapshot of this version")
    if seal + b"\n" != _seal(line + end, payload):
        raise IndexDamagedError(f"{path}: its checksum does not match its content")
    try:
        return SnapshotHead(**json.loads(line)), payload
    except (ValueError, TypeError) as e:
        raise IndexDamagedError(f"{path}: its header can't be read") from e
