"""The lines of code as they may be cut: which begin a statement, which belong to one, how deep they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a line is: the START of a statement, MORE of the one before, a JOINT of the statement around (`else`, a
    closing bracket), or a GAP: blank, or comment alone."""

    START = "start"
    MORE = "more"
    JOINT = "joint"
    GAP = "gap"


@dataclass(slots=True)
class Line:
    """A line from `start` to `end` (without its line end) in the text. `level` grows inwards. `role` of a START:
    "function", "container", "import", "return" or ""."""

    start: int
    end: int
    kind: Kind = Kind.MORE
    level: int = 0
    role: str = ""
    name: str = ""


def bare_lines(text: str) -> list[Line]:
    """The lines of a text, nothing said of them yet."""
    return [Line(start, end) for start, end in _line_spans(text)]


def indent(line: str) -> int:
    """How far in a line begins, a tab to the next of every four columns."""
    plain = line.expandtabs(4)
    return len(plain) - len(plain.lstrip())


def _line_spans(text: str) -> Iterator[tuple[int, int]]:
    at = 0
    for line in text.split("\n"):
        yield at, at + len(line)
        at += len(line) + 1
