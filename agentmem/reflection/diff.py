"""Changes as text in the manner of a diff: what goes, what comes, why, and the records that it rests on, in short
quotations. Stored text is shown as it is, without what could steer a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Literal

from agentmem.reflection.changes import AddPassage, Change, ClosePassage, EditBlock, Rate, SetKeys
from agentmem.times import day_words
from agentmem.types import number_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentmem.memory import Memory
    from agentmem.reflection.outcome import Applied
    from agentmem.types import Message, Passage

QUOTE_CHARS = 100
CONTEXT_LINES = 2
MAX_SOURCES = 6
"""Of one change; more are counted."""
Mark = Literal["@", "-", "+", " "]


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One line; `mark` says whether it heads a change ("@"), goes, comes, or explains (" ")."""

    mark: Mark
    text: str

    def __str__(self) -> str:
        return f"@@ {self.text} @@" if self.mark == "@" else f"{self.mark}{self.text}"


class Quotes:
    """Records of a memory by their refs, as a person is shown them."""

    def __init__(self, memory: Memory) -> None:
        self._records = memory.records

    def record(self, ref: str) -> Message | Passage | None:
        """A message or a passage; None when it is not there (any more)."""
        number = number_of(ref, "m") or number_of(ref, "p")
        if not number:
            return None
        tier = self._records.recall if ref[0] == "m" else self._records.archival
        found: Sequence[Message | Passage] = tier.get([number])
        return found[0] if found else None

    def line(self, ref: str, max_chars: int = QUOTE_CHARS) -> str:
        """`m12 (D1:3, 8 May 2023, Tom): "..."`."""
        from agentmem.types import Message

        record = self.record(ref)
        if record is None:
            return f"{printable(ref)} (not there any more)"
        if isinstance(record, Message):
            told: tuple[str | None, ...] = (record.key, day_words(record.at), record.name or record.role)
            text = record.said
        else:
            ends = f"until {day_words(record.valid_to)}" if record.valid_to is not None else None
            told = (record.key, record.kind, f"from {day_words(record.valid_from)}", ends)
            text = record.text
        return f'{ref} ({printable(", ".join(t for t in told if t))}): "{short(text, max_chars)}"'


def printable(text: str) -> str:
    """The text on one line, with a mark in place of each character that could steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))


def short(text: str, max_chars: int = QUOTE_CHARS) -> str:
    """The beginning of a text on one line, of at most so many characters."""
    # A text may be very long: no more of it is looked at than is shown.
    flat = printable(text[: 4 * max_chars])
    return flat if len(flat) <= max_chars and len(text) <= 4 * max_chars else flat[: max_chars - 3].rstrip() + "..."


def headline(change: Change, made: str | None = None) -> str:
    """What a change does, in a few words."""
    if isinstance(change, AddPassage):
        return f"add {printable(change.kind)}{f' {made}' if made else ''}"
    if isinstance(change, ClosePassage):
        return f"close {printable(change.passage)} from {printable(change.valid_to)} on"
    if isinstance(change, EditBlock):
        return f"edit block {printable(change.label)}"
    if isinstance(change, Rate):
        return f"rate {printable(change.ref)}"
    return f"further keys of {printable(change.ref)}"


def diff_of(
    change: Change,
    quotes: Quotes,
    *,
    title: str = "",
    made: str | None = None,
    before: Mapping[str, object] | None = None,
) -> list[DiffLine]:
    """One change. `made` and `before` are of `Applied`, where it was applied."""
    lines = [DiffLine("@", title or headline(change, made)), *_body(change, quotes, before or {})]
    if change.why:
        lines.append(DiffLine(" ", f"why: {printable(change.why)}"))
    # A record that is shown itself is not quoted once more.
    cited = [ref for ref in change.sources if not isinstance(change, Rate | SetKeys) or ref != change.ref]
    lines += [DiffLine(" ", f"from {quotes.line(ref)}") for ref in cited[:MAX_SOURCES]]
    if rest := cited[MAX_SOURCES:]:
        lines.append(DiffLine(" ", f"from {len(rest)} more: {printable(', '.join(rest))}"))
    return lines


def diff_of_applied(entries: Iterable[Applied], quotes: Quotes) -> list[DiffLine]:
    """Changes with what became of them."""
    lines: list[DiffLine] = []
    for entry in entries:
        fate = entry.fate + (f": {printable(entry.reason)}" if entry.reason else "")
        title = f"{entry.number}. {entry.strategy}: {headline(entry.change, entry.made)} ({fate})"
        lines += diff_of(entry.change, quotes, title=title, made=entry.made, before=entry.before)
    return lines


def _body(change: Change, quotes: Quotes, before: Mapping[str, object]) -> list[DiffLine]:
    if isinstance(change, AddPassage):
        told = [f"tags: {', '.join(change.tags)}"] if change.tags else []
        told += [f"holds from {change.valid_from}"] if change.valid_from else []
        told += [f"holds until {change.valid_to}"] if change.valid_to else []
        return [*_each("+", change.text), *(DiffLine(" ", printable(t)) for t in told)]
    if isinstance(change, ClosePassage):
        lines = [DiffLine("-", quotes.line(change.passage, 400))]
        instead = before.get("superseded_by")
        if isinstance(instead, int):
            lines.append(DiffLine("+", quotes.line(f"p{instead}", 400)))
        elif change.superseded_by is not None and change.superseded_by.startswith("+"):
            lines.append(
                DiffLine(" ", f"what the same proposal adds holds instead ({printable(change.superseded_by)})")
            )
        elif change.superseded_by is not None:
            lines.append(DiffLine("+", quotes.line(change.superseded_by, 400)))
        return lines
    if isinstance(change, EditBlock):
        found = _lines_between(change.before.splitlines(), change.after.splitlines())
        return found or [DiffLine(" ", "(only the line ends differ)")]
    if isinstance(change, Rate):
        was = "unrated" if change.before is None else str(change.before)
        shown = DiffLine(" ", quotes.line(change.ref))
        return [DiffLine("-", f"importance: {was}"), DiffLine("+", f"importance: {change.importance}"), shown]
    assert isinstance(change, SetKeys)
    gone = [k for k in change.before if k not in change.keys]
    new = [k for k in change.keys if k not in change.before]
    lines = [DiffLine(" ", quotes.line(change.ref))]
    return [*lines, *(DiffLine("-", printable(k)) for k in gone), *(DiffLine("+", printable(k)) for k in new)]


def _each(mark: Mark, text: str) -> list[DiffLine]:
    return [DiffLine(mark, printable(line)) for line in text.splitlines()] or [DiffLine(mark, "")]


def _lines_between(old: Sequence[str], new: Sequence[str]) -> list[DiffLine]:
    # By hand: of the lines that unified_diff writes, "--- x" may be its own head or the line "-- x" that goes.
    lines: list[DiffLine] = []
    for group in SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT_LINES):
        for kind, begin, end, new_begin, new_end in group:
            if kind == "equal":
                lines += [DiffLine(" ", printable(text)) for text in old[begin:end]]
            else:
                lines += [DiffLine("-", printable(text)) for text in old[begin:end]]
                lines += [DiffLine("+", printable(text)) for text in new[new_begin:new_end]]
    return lines
