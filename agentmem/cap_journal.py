"""The run's own record: a line a question as it is answered, so that a run that was stopped goes on where it was.

The first line holds the settings that make results comparable. A last line that was cut off while it was written is
dropped when the run goes on. All that depends on the clock stands under "P".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from agentmem.errors import ConfigError, InvalidInputError, StoreBusyError

VERSION = 1
FILE = "questions.jsonl"
Line = dict[str, Any]
Key = tuple[str, ...]


def key_of(line: Mapping[str, Any]) -> Key:
    """What a line is about: (kind, rung, conversation, question)."""
    return tuple(str(line.get(name, "")) for name in ("kind", "rung", "conversation", "id"))


class Journal:
    """The lines of a run in a folder, by what they are about; a context manager that holds the folder's lock.

    Raises ConfigError for a folder that can't be written and for one with a run of other settings (naming what
    differs), StoreBusyError where another process measures into it. With `fresh` what is there is dropped.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, fresh: bool = False) -> None:
        self.path = folder / FILE
        self._lock = FileLock(str(folder / ".lock"))
        self.lines: dict[Key, Line] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as e:
            raise StoreBusyError(
                f"another process is measuring into {folder}", hint="wait for it, or give another --out"
            ) from e
        except OSError as e:
            raise _unwritable(folder, e) from e
        try:
            if fresh or not self.path.exists() or not self._read(json.loads(json.dumps(settings))):
                self.path.write_text(_dumps({"cap": VERSION, "settings": settings}), encoding="utf-8")
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as e:
            self._lock.release()
            raise _unwritable(folder, e) from e
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __contains__(self, key: object) -> bool:
        return key in self.lines

    def close(self) -> None:
        """Close the file and give the folder free; may be called twice."""
        self._file.close()
        self._lock.release()

    def add(self, line: Line) -> None:
        """Write a line; it is there when this returns, even if the process is killed then."""
        text = _dumps(line)
        self._file.write(text)
        self._file.flush()
        self.lines[key_of(line)] = json.loads(text)

    def of_kind(self, kind: str) -> list[Line]:
        """The lines of a kind, in the order in which they were written."""
        return [line for line in self.lines.values() if line["kind"] == kind]

    def _read(self, settings: Mapping[str, Any]) -> bool:
        """Take over what is there; False where not even the first line was written whole."""
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if not whole:
            return False
        lines = whole.decode("utf-8").splitlines()
        try:
            found = [json.loads(line) for line in lines]
            before = found[0]["settings"]
            self.lines = {key_of(line): line for line in found[1:] if line["kind"]}
        except (ValueError, KeyError, TypeError) as e:
            raise InvalidInputError(
                "out", str(self.path), f"is no record of a run: {e}", hint="give another --out, or --fresh"
            ) from e
        names = sorted(n for n in {*before, *settings} if before.get(n) != settings.get(n))
        if names or found[0].get("cap") != VERSION:
            differs = ", ".join(f"{n} was {before.get(n)!r}, is {settings.get(n)!r}" for n in names) or "its version"
            raise ConfigError(
                "out", str(self.path.parent), f"holds a run of other settings: {differs}",
                hint="--fresh measures anew, another --out keeps both",
            )  # fmt: skip
        if len(whole) < len(raw):
            self.path.write_bytes(whole)
        return True


def _dumps(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n"


def _unwritable(folder: Path, e: OSError) -> ConfigError:
    return ConfigError("out", str(folder), f"can't be written: {e.strerror}", hint="give another --out")
