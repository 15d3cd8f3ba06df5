"""The file of a derived index: a magic line, the index's parts one after another, a table, and the table's checksum.

The table says what state of SQLite the index stands for, and has the length and the SHA-256 of each part. It is at
the end, so that parts are written as they come; the last bytes say where it begins, and every byte of the file counts
as a part's, the table's or those. Opening checks the table and the lengths, reading a part checks the part; the
parts that an index calls `bulk` (see `protocols.VectorIndex.parts`) are checked by `verify`, in the background.
A wrong generation would hide deletions as surely as a wrong byte a neighbour, so the table is always checked.
Written as temp + fsync + rename + fsync of the folder, so that at any moment there is a whole old one or a whole new
one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from agentmem.crashpoints import crash_point
from agentmem.errors import IndexDamagedError, StoreError

MAGIC = b"agentmem-index-2\n"
OLD_MAGIC = b"agentmem-index-1 "
"""Of the format before this one, which was one part: it is made anew without being called damaged."""
BULK = "bulk"
_TAIL = 64 + 1 + 16 + 1
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class SnapshotHead:
    """What a snapshot says of itself: the state of SQLite that it stands for."""

    index: str
    dim: int
    embedder_id: int
    generation: int
    last_vector: int


def write_snapshot(
    path: Path,
    head: SnapshotHead,
    parts: Iterable[tuple[str, bytes]],
    publishing: Callable[[], AbstractContextManager[bool]] | None = None,
) -> bool:
    """Write the parts and give the file its name, within `publishing()` and if that is true; whether it was.

    Raises StoreError when the file can't be written; the old one then still stands.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{next(_numbers)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(temporary, head, parts)
        crash_point("snapshot.before_rename")
        if publishing is None:
            temporary.replace(path)
        else:
            with publishing() as wanted:
                if not wanted:
                    temporary.unlink(missing_ok=True)
                    return False
                try:
                    temporary.replace(path)
                except FileNotFoundError:
                    # Another process erased something, and took away every file that might still have it.
                    return False
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
    except Exception:
        with suppress(OSError):
            temporary.unlink()
        raise
    return True


def _write(temporary: Path, head: SnapshotHead, parts: Iterable[tuple[str, bytes]]) -> None:
    table: list[tuple[str, int, str]] = []
    with temporary.open("wb") as f:
        f.write(MAGIC)
        for name, data in parts:
            f.write(data)
            table.append((name, len(data), hashlib.sha256(data).hexdigest()))
            if len(table) == 1:
                crash_point("snapshot.half_written")
        line = json.dumps({**asdict(head), "parts": table}).encode()
        f.write(line)
        f.write(f"{hashlib.sha256(line).hexdigest()} {len(line):016x}\n".encode())
        f.flush()
        os.fsync(f.fileno())


def open_snapshot(path: Path) -> Snapshot | None:
    """The snapshot, to be closed; None when there is none, or one of an older format.

    Raises IndexDamagedError when its table or a length is wrong.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise IndexDamagedError(f"{path}: can't be read: {e.strerror}") from e
    snapshot = Snapshot(path, handle)
    try:
        if not snapshot.read_table():
            snapshot.close()
            return None
    except BaseException:
        snapshot.close()
        raise
    return snapshot


class Snapshot(Mapping[str, bytes]):
    """An open snapshot: `head`, and its parts by name, each read and checked when it is asked for. The file may be
    replaced or deleted meanwhile: what was opened stays readable until `close`."""

    head: SnapshotHead

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle
        self._parts: dict[str, tuple[int, int, str]] = {}

    def read_table(self) -> bool:
        """Read the table; False for an older format. Raises IndexDamagedError."""
        try:
            size = os.fstat(self._handle).st_size
            if os.pread(self._handle, len(OLD_MAGIC), 0) == OLD_MAGIC:
                return False
        except OSError as e:
            raise IndexDamagedError(f"{self._path}: can't be read: {e.strerror}") from e
        tail = self._read(size - _TAIL, _TAIL) if size >= len(MAGIC) + _TAIL else b""
        if self._read(0, min(len(MAGIC), size)) != MAGIC or tail[64:65] != b" " or tail[-1:] != b"\n":
            raise IndexDamagedError(f"{self._path}: is no index snapshot, or not a whole one")
        try:
            length = int(tail[65:81].decode("ascii"), 16)
        except ValueError as e:
            raise IndexDamagedError(f"{self._path}: its end can't be read") from e
        start = size - _TAIL - length
        line = self._read(start, length) if start >= len(MAGIC) else b""
        if f"{hashlib.sha256(line).hexdigest()} {len(line):016x}\n".encode() != tail:
            raise IndexDamagedError(f"{self._path}: the checksum of its table does not match")
        try:
            table = json.loads(line)
            at = len(MAGIC)
            for name, size_of, checksum in table.pop("parts"):
                self._parts[name] = (at, size_of, checksum)
                at += size_of
            self.head = SnapshotHead(**table)
        except (ValueError, TypeError, KeyError) as e:
            raise IndexDamagedError(f"{self._path}: its table can't be read") from e
        if at != start:
            raise IndexDamagedError(f"{self._path}: its parts are {at - len(MAGIC)} bytes, not what its table says")
        return True

    def __getitem__(self, name: str) -> bytes:
        """A part. Raises IndexDamagedError when it does not verify, but for a bulk part."""
        start, length, checksum = self._parts[name]
        data = self._read(start, length)
        if not name.startswith(BULK) and hashlib.sha256(data).hexdigest() != checksum:
            raise IndexDamagedError(f"{self._path}: the checksum of part {name} does not match")
        return data

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def bulky(self) -> bool:
        """Whether there is anything that `verify` is needed for."""
        return any(name.startswith(BULK) for name in self._parts)

    def verify(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Check every part, or those until `stopping()`. Raises IndexDamagedError."""
        for name, (start, length, checksum) in self._parts.items():
            if stopping():
                return
            if hashlib.sha256(self._read(start, length)).hexdigest() != checksum:
                raise IndexDamagedError(f"{self._path}: the checksum of part {name} does not match")

    def _read(self, start: int, length: int) -> bytes:
        try:
            data = os.pread(self._handle, length, start)
        except OSError as e:
            raise IndexDamagedError(f"{self._path}: can't be read: {e.strerror}") from e
        if len(data) != length:
            raise IndexDamagedError(f"{self._path}: was cut short")
        return data

    def close(self) -> None:
        """May be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __del__(self) -> None:
        # A job that was to verify it may have been dropped.
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
