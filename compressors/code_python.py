"""Python that parses, by its syntax tree. Nothing is executed."""

from __future__ import annotations

import ast
import warnings

from agentmem.compressors.code_lines import Kind, Line, bare_lines


def python_lines(text: str) -> list[Line] | None:
    """The lines of a source; None where it is not Python that this Python reads."""
    tree = _parsed(text)
    if tree is None:
        return None
    lines = bare_lines(text)
    try:
        _by_ast(text, lines, tree)
    except RecursionError:
        return None
    return lines


def _parsed(text: str) -> ast.Module | None:
    # Another sign that `ast` takes for a line end would shift the numbers of lines.
    if "\r" in text.replace("\r\n", "\n") or "\f" in text:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _by_ast(text: str, lines: list[Line], tree: ast.Module) -> None:
    for line in lines:
        raw = text[line.start : line.end].strip()
        line.kind = Kind.GAP if not raw or raw[0] == "#" else Kind.MORE

    def alone(node: ast.stmt) -> bool:
        """Whether a statement begins its line."""
        line = lines[node.lineno - 1]
        return _first_line(node) < node.lineno - 1 or not text[line.start : line.end][: node.col_offset].strip()

    def visit(body: list[ast.stmt], depth: int) -> None:
        last = -1
        for node in body:
            first, end = _first_line(node), (node.end_lineno or node.lineno) - 1
            bodies = _bodies(node)
            inner = [b for b in bodies if alone(b[0])]
            head = _first_line(inner[0][0]) - 1 if inner and inner[0] is bodies[0] else end
            for n in range(max(first, last + 1), end + 1):
                if n <= head or lines[n].kind is not Kind.GAP:
                    lines[n].kind, lines[n].level = (Kind.MORE if n <= head else Kind.JOINT), depth
            if first > last:
                lines[first].kind = Kind.START
                _name(lines[first], node)
            last = end
            if head < end:
                for statements in inner:
                    visit(statements, depth + 1)

    visit(tree.body, 0)


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)]) - 1


def _bodies(node: ast.AST) -> list[list[ast.stmt]]:
    """The lists of statements within a statement, in order; those of its `elif` too."""
    out: list[list[ast.stmt]] = []
    while isinstance(node, ast.If):
        out.append(node.body)
        if not node.orelse:
            return out
        # An `elif` stands as far in as its `if`; an `if` in an `else` does not.
        if not isinstance(node.orelse[0], ast.If) or node.orelse[0].col_offset != node.col_offset:
            return [*out, node.orelse]
        node = node.orelse[0]
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        body = getattr(node, name, [])
        if not isinstance(body, list) or not body:
            continue
        if isinstance(body[0], ast.stmt):
            out.append(body)
        else:
            out += [inner.body for inner in body if isinstance(inner, ast.ExceptHandler | ast.match_case)]
    return sorted(out, key=lambda b: b[0].lineno)


def _name(line: Line, node: ast.stmt) -> None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        line.role, line.name = "function", node.name
    elif isinstance(node, ast.ClassDef):
        line.role, line.name = "container", node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        line.role = "import"
    elif isinstance(node, ast.Return | ast.Raise) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield | ast.YieldFrom)
    ):
        line.role = "return"
