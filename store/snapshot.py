"""The file of a derived index: a header line of JSON (generation, checksum, ...), then the index's bytes.

Written as temp + fsync + rename + fsync of the folder, so that at any moment there is a whole old one or a whole new one.
"""

from __future__ import annotations

import hashlib
import json
import os
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
    line = json.dumps({"magic": MAGIC, **asdict(head), "sha256": hashlib.sha256(payload).hexdigest()})
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as f:
            f.write(line.encode() + b"\n")
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
        temporary.unlink(missing_ok=True)
        raise StoreError(
            f"{path}: the index snapshot can't be written: {e.strerror}",
            hint="nothing is lost: the index is rebuilt from SQLite at the next start",
        ) from e


def read_snapshot(path: Path) -> tuple[SnapshotHead, bytes] | None:
    """The head and payload; None when there is no file; IndexDamagedError when it does not verify."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as e:
        raise IndexDamagedError(f"{path}: can't be read: {e.strerror}") from e
    try:
        line, payload = data.split(b"\n", 1)
        head = json.loads(line)
        if head.pop("magic") != MAGIC:
            raise IndexDamagedError(f"{path}: is no index snapshot of this version")
        checksum = head.pop("sha256")
        parsed = SnapshotHead(**head)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise IndexDamagedError(f"{path}: its header can't be read") from e
    if hashlib.sha256(payload).hexdigest() != checksum:
        raise IndexDamagedError(f"{path}: its checksum does not match its content")
    return parsed, payload
