"""The parts of a request as pieces: prose, which stays, and lines of code in sections, which may go."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from agentmem.compression import Part, Span, Spans, joined
from agentmem.compressors.code_languages import Language, language_of
from agentmem.compressors.code_split import Block, Section, split
from agentmem.cutting import blocks

_FENCE = re.compile(r"[ \t]*(?:`{3,}|~{3,})[ \t]*(?P<tag>[\w+#.-]*)[^\n]*")


@dataclass(frozen=True, slots=True)
class Region:
    """Code: a part, or what is in a fence. Its lines are the pieces from `first` on; `around` are the fence's."""

    part: int
    text: str
    first: int
    language: Language | None
    around: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pieces:
    """`spans[n]` is the piece n, (start, end) in the text of part `owners[n]`. `fixed` pieces are kept whatever comes;
    `sections` number their lines as pieces, and section n is in region `regions[homes[n]]`."""

    parts: tuple[Part, ...]
    spans: tuple[Span, ...]
    owners: tuple[int, ...]
    fixed: frozenset[int]
    regions: tuple[Region, ...]
    sections: tuple[Section, ...]
    homes: tuple[int, ...]

    def text(self, numbers: Sequence[int]) -> str:
        """Pieces as text, one a line."""
        return "\n".join(self.parts[self.owners[n]].text[slice(*self.spans[n])] for n in numbers)

    def shown(self, kept: AbstractSet[int]) -> tuple[Spans, ...]:
        """The spans of each part; of parts that belong together all or none."""
        found: list[list[Span]] = [[] for _ in self.parts]
        for n in sorted(kept | self.fixed):
            found[self.owners[n]].append(self.spans[n])
        gone = {p.unit for p, spans in zip(self.parts, found, strict=True) if p.unit and not spans}
        return tuple(
            () if part.unit and part.unit in gone else joined([s for s in spans if s[1] > s[0]], part.text)
            for part, spans in zip(self.parts, found, strict=True)
        )


def pieces_of(parts: Sequence[Part]) -> Pieces:
    """What the parts consist of, each function's blocks by blank lines and length."""
    made = _Making()
    for n, part in enumerate(parts):
        made.add(n, part)
    whole = Pieces(
        tuple(parts), tuple(made.spans), tuple(made.owners), frozenset(made.fixed), tuple(made.regions), (), ()
    )
    return with_blocks(whole, {})


def with_blocks(found: Pieces, ends: Mapping[int, AbstractSet[int]]) -> Pieces:
    """The same, where for some regions a model says after which lines (counted in the region) a block ends."""
    sections: list[Section] = []
    homes: list[int] = []
    for n, region in enumerate(found.regions):
        for section in _sections(region, ends.get(n)):
            sections.append(section)
            homes.append(n)
    return replace(found, sections=tuple(sections), homes=tuple(homes))


class _Making:
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.owners: list[int] = []
        self.fixed: set[int] = set()
        self.regions: list[Region] = []

    def add(self, n: int, part: Part) -> None:
        text = part.text
        found = blocks(text)
        fences = [(s, e) for s, e in found if _FENCE.match(text, s)]
        if not fences and (language := language_of(text)) is not None:
            self._region(n, text, 0, len(text), language, ())
            return
        if not part.unit and any(text[:s].strip() == text[e:].strip() == "" for s, e in found if (s, e) not in fences):
            self._region(n, text, 0, len(text), None, ())
            return
        at = 0
        for start, end in [*fences, (len(text), len(text))]:
            prose = text[at:start]
            if prose.strip():
                left = at + len(prose) - len(prose.lstrip())
                self.fixed.add(self._piece(n, left, left + len(prose.strip())))
            if end > start:
                self._fence(n, text, start, end)
            at = end

    def _fence(self, n: int, text: str, start: int, end: int) -> None:
        opening = _FENCE.match(text, start)
        assert opening is not None
        first = min(opening.end(), end)
        last = text.rfind("\n", start, end)
        closed = last > first and bool(_FENCE.fullmatch(text[last + 1 : end]))
        stop = last if closed else end
        inner = text[first + 1 : stop]
        around = [self._piece(n, start, first), *([self._piece(n, last + 1, end)] if closed else [])]
        if not inner.strip():
            # Nothing to choose: with the prose.
            self.fixed.update(around)
            return
        self._region(n, text, first + 1, stop, language_of(inner, opening["tag"]), tuple(around))

    def _piece(self, part: int, start: int, end: int) -> int:
        self.spans.append((start, end))
        self.owners.append(part)
        return len(self.spans) - 1

    def _region(
        self, part: int, text: str, start: int, end: int, language: Language | None, around: tuple[int, ...]
    ) -> None:
        self.regions.append(Region(part, text[start:end], len(self.spans), language, around))
        at = start
        for line in text[start:end].split("\n"):
            self._piece(part, at, at + len(line))
            at += len(line) + 1


def _sections(region: Region, ends: AbstractSet[int] | None) -> list[Section]:
    """The sections of a region by numbers of pieces; one whole section where its language is not known."""
    found = split(region.text, region.language, ends) if region.language is not None else None
    if found is None:
        count = region.text.count("\n") + 1
        return [Section("whole", "", tuple(range(region.first, region.first + count)), region.around, ())]

    def moved(lines: Sequence[int]) -> tuple[int, ...]:
        return tuple(region.first + n for n in lines)

    return [
        Section(
            s.kind,
            s.name,
            moved(s.head),
            (*region.around, *moved(s.needs)),
            tuple(Block(moved(b.lines), moved(b.needs), b.returns) for b in s.blocks),
        )
        for s in found
    ]
