"""Code as functions, classes and what stands between them, each with the places where it may be cut
(LongCodeZip, arXiv 2510.00446, section 3: function-level chunks, then blocks within a function).

A cut is between statements, never in one: what is left out is a run of whole statements at one depth. What stands
around a statement that is kept (the head and the end of its loop, function, class) is kept with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from agentmem.compressors.code_brackets import bracket_lines
from agentmem.compressors.code_languages import PYTHON, Language
from agentmem.compressors.code_lines import Kind, Line
from agentmem.compressors.code_python import python_lines

MAX_CHARS = 500_000
"""A longer code is one piece."""
SHORT_LINES = 5
"""A function of fewer lines is kept whole or left out."""
MAX_BLOCK_LINES = 12
"""A statement of more lines is cut within."""
MAX_RUN_LINES = 8
"""Without a model, a block ends where as many lines are together, or at a blank line."""


@dataclass(slots=True)
class Node:
    """A statement: its own lines (head, `else`, closing bracket; not what is within), and the statements within."""

    line: Line
    level: int
    own: list[int] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)

    def lines(self) -> list[int]:
        """All its lines, ascending."""
        return sorted(self._lines())

    def _lines(self) -> Iterator[int]:
        yield from self.own
        for child in self.children:
            yield from child._lines()


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that are kept together. `needs` are the heads around them; `returns` that it ends the function."""

    lines: tuple[int, ...]
    needs: tuple[int, ...] = ()
    returns: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A function, or another run of code that is chosen as one. `head` (a signature) is kept with any of it; `needs`
    are the heads and ends of the classes around. `blocks` make up the rest; none for what is kept whole or left out."""

    kind: str
    name: str
    head: tuple[int, ...]
    needs: tuple[int, ...]
    blocks: tuple[Block, ...]

    @property
    def lines(self) -> tuple[int, ...]:
        """All lines of it, `needs` apart."""
        return tuple(sorted({*self.head, *(n for b in self.blocks for n in (*b.lines, *b.needs))}))


def split(text: str, language: Language, ends: Collection[int] | None = None) -> list[Section] | None:
    """The sections of a code in order, by the numbers of its lines. `ends` are lines after which a block ends, where
    a model has found them. None where the code can't be read: it is kept whole or left out."""
    lines = lines_of(text, language)
    if lines is None:
        return None
    root = tree(lines)
    if language.last_returns:
        _mark_last(root)
    out: list[Section] = []
    _sections(root, (), out, ends, lines)
    return out


def lines_of(text: str, language: Language) -> list[Line] | None:
    """The lines of a code: Python by its syntax tree where it parses, the rest by brackets and indentation. None where
    those do not come out even."""
    if len(text) > MAX_CHARS:
        return None
    found = python_lines(text) if language is PYTHON else None
    return found if found is not None else bracket_lines(text, language)


def _mark_last(node: Node) -> None:
    if node.line.role == "function" and node.children and not node.children[-1].line.role:
        node.children[-1].line.role = "return"
    for child in node.children:
        _mark_last(child)


def tree(lines: Sequence[Line]) -> Node:
    """Statements within statements. Every line that is not blank is in exactly one."""
    root = Node(Line(0, 0), -1)
    stack = [root]
    gaps: list[int] = []
    loose: list[int] = []
    for n, line in enumerate(lines):
        if line.kind is Kind.GAP:
            if line.end > line.start:
                gaps.append(n)
            else:
                # A comment belongs to what comes right after it; with a blank line between, it stands for itself.
                loose, gaps = loose + gaps, []
            continue
        if line.kind is Kind.START:
            while stack[-1].level >= line.level:
                stack.pop()
            if loose:
                stack[-1].children.append(Node(Line(0, 0), line.level, loose))
            made = Node(line, line.level)
            stack[-1].children.append(made)
            stack.append(made)
            loose = []
        elif line.kind is Kind.JOINT:
            while stack[-1].level > line.level:
                stack.pop()
        stack[-1].own += [*loose, *gaps, n]
        loose, gaps = [], []
    if loose or gaps:
        root.children.append(Node(Line(0, 0), 0, loose + gaps))
    return root


def _sections(
    node: Node, needs: tuple[int, ...], out: list[Section], ends: Collection[int] | None, lines: Sequence[Line]
) -> None:
    run: list[Node] = []

    def close() -> None:
        if run:
            kind = "imports" if all(n.line.role == "import" for n in run) else "top"
            out.append(Section(kind, "", tuple(sorted(n for r in run for n in r.lines())), needs, ()))
            run.clear()

    if node.level < 0 and node.own:
        out.append(Section("top", "", tuple(node.own), needs, ()))
    for child in node.children:
        role = child.line.role
        big = len(child.lines()) > MAX_BLOCK_LINES and bool(child.children)
        if role == "container" and child.children:
            close()
            out.append(Section("class", child.line.name, tuple(sorted(child.own)), needs, ()))
            _sections(child, (*needs, *child.own), out, ends, lines)
        elif role == "function" or big:
            close()
            out.append(_function(child, needs, ends, lines))
        else:
            apart = (
                run
                and (_blank_between(run[-1], child, lines) or child.line.role == "import")
                and not (run[-1].line.role == "import" and child.line.role == "import")
            )
            if apart:
                close()
            run.append(child)
    close()


def _function(node: Node, needs: tuple[int, ...], ends: Collection[int] | None, lines: Sequence[Line]) -> Section:
    every = tuple(node.lines())
    kind = "function" if node.line.role == "function" else "statement"
    if len(every) < SHORT_LINES or not node.children:
        return Section(kind, node.line.name, every, needs, ())
    blocks = tuple(_blocks(node.children, (), ends, lines))
    return Section(kind, node.line.name, tuple(sorted(node.own)), needs, blocks)


def _blocks(
    nodes: Sequence[Node], needs: tuple[int, ...], ends: Collection[int] | None, lines: Sequence[Line]
) -> Iterator[Block]:
    run: list[Node] = []
    for n, node in enumerate(nodes):
        here = node.lines()
        if len(here) > MAX_BLOCK_LINES and node.children:
            if run:
                yield _block(run, needs)
                run = []
            yield from _blocks(node.children, (*needs, *node.own), ends, lines)
            continue
        if run and _apart(run, node, ends, lines):
            yield _block(run, needs)
            run = []
        run.append(node)
        # The last statement of a body, a return, stands for itself.
        if node.line.role == "return" or (n + 1 < len(nodes) and nodes[n + 1].line.role == "return"):
            yield _block(run, needs)
            run = []
    if run:
        yield _block(run, needs)


def _apart(run: Sequence[Node], node: Node, ends: Collection[int] | None, lines: Sequence[Line]) -> bool:
    if ends is not None:
        return any(n in ends for n in run[-1].lines())
    return _blank_between(run[-1], node, lines) or sum(len(r.lines()) for r in [*run, node]) > MAX_RUN_LINES


def _blank_between(one: Node, other: Node, lines: Sequence[Line]) -> bool:
    first, last = max(one.lines()), min(other.lines())
    return any(lines[n].end == lines[n].start for n in range(first + 1, last))


def _block(run: Sequence[Node], needs: tuple[int, ...]) -> Block:
    return Block(tuple(sorted(n for r in run for n in r.lines())), needs, any(_returns(r) for r in run))


def _returns(node: Node) -> bool:
    """Whether the function around may end here; one within it has returns of its own."""
    if node.line.role in ("function", "container"):
        return False
    return node.line.role == "return" or any(map(_returns, node.children))
