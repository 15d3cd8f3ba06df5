"""Code by its brackets or its indentation, strings and comments set aside: languages other than Python, and Python that
does not parse. Where that does not come out even there is no answer, and the code is one piece."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

from agentmem.compressors.code_languages import LAMBDA, RUBY, Language
from agentmem.compressors.code_lines import Kind, Line, bare_lines, indent

MAX_HEADER = 400
"""Characters before a brace by which it is told what it holds."""
MAX_DEPTH = 100
"""Of brackets, or of indentation: what is deeper is one piece."""
_JOINT = re.compile(r"\s*(?:else|elif|elsif|elseif|except|catch|finally|rescue|ensure)\b")
_CASE = re.compile(r"\s*(?:case\b|default\b)")
_RETURN = re.compile(r"\s*(?:return|yield|raise|throw)\b")
_IMPORT = re.compile(
    r"\s*(?:import\b|from\s+\S+\s+import\b|#\s*include\b|using\s+[\w.:]+\s*;|use\s+[\w\\{]|package\b|require|include\b|"
    r"extern\s+crate\b|(?:const|let|var)\s+[\w${}, ]+\s*=\s*require\()"
)
_GOES_ON_BEFORE = frozenset("([,=+-*/%&|^<>?:!~.\\")
_GOES_ON_AFTER = frozenset(".,)]?:&|+*/=<>%")
_ATTRIBUTES = re.compile(r"^\s*(?:(?:#?\[\]|@[\w.:]+(?:\(\))?)\s*)+")
_BRACKET = re.compile(r"[(){}\[\];]")
_SIGN = re.compile(r"\S")
_RUBY_OPENS = re.compile(
    r"^\s*(?:(?:private|protected|public)\s+)?(?:def|class|module|if|unless|while|until|for|begin|case)\b|"
    r"\bdo(?:\s*\|[^|\n]*\|)?\s*$|=\s*(?:if|unless|case|begin)\b[^\n]*$"
)
_RUBY_ENDLESS = re.compile(r"\bdef\s+[\w.?!]+(?:\([^\n()]*\))?\s+=\s+\S")
_RUBY_JOINT = re.compile(r"(?:end\b|[})\]]|when\b|in\b)")


def bracket_lines(text: str, language: Language) -> list[Line] | None:
    """The lines of a code; None where its brackets or strings do not come out even."""
    masked = _masked(text, language)
    if masked is None:
        return None
    lines = bare_lines(text)
    read = _by_indentation if language.indented else _by_braces
    return lines if read(*masked, lines, language) else None


def _masked(text: str, language: Language) -> tuple[str, set[int]] | None:
    """The text with comments blank and strings filled, and the lines that begin within a string or a directive.
    None where a string is never closed."""
    out: list[str] = []
    within: set[int] = set()
    starts = [line.start for line in bare_lines(text)]
    at = 0
    for match in language.token.finditer(text):
        out.append(text[at : match.start()])
        at = match.end()
        # A directive is a statement; a string is a value.
        kind = next(k for k in ("directive", "comment", "string") if match[k] is not None)
        fill = {"directive": ";", "comment": " ", "string": "_"}[kind]
        out.append("".join("\n" if c == "\n" else fill for c in match.group()))
        if kind != "comment":
            within.update(range(bisect_right(starts, match.start()), bisect_right(starts, match.end() - 1)))
    out.append(text[at:])
    masked = "".join(out)
    return None if any(q in masked for q in language.quotes) else (masked, within)


@dataclass(slots=True)
class _Open:
    """A bracket that is open: "block" or "switch" hold statements, "" a value. Of the statement at hand in it: where it
    began, how far in, and its text with what is in brackets left out."""

    sign: str
    kind: str
    begin: int
    column: int | None = None
    flat: str = ""
    last: str = ""

    def add(self, piece: str) -> None:
        """More of the statement."""
        self.flat = f"{self.flat}{piece}"[-4 * MAX_HEADER :]
        if stripped := piece.rstrip():
            self.last = stripped[-1]

    def end(self, place: int) -> None:
        """The statement ends before `place`."""
        self.begin, self.flat, self.last = place, "", ""


def _by_braces(masked: str, within: set[int], lines: list[Line], language: Language) -> bool:
    stack = [_Open("", "block", 0)]
    starts = [line.start for line in lines]
    for n, line in enumerate(lines):
        raw = masked[line.start : line.end]
        _classify(line, _edges(raw), n in within, stack, language)
        at = line.start
        for match in _BRACKET.finditer(raw):
            sign, place = match.group(), line.start + match.start()
            around = stack[-1]
            around.add(masked[at:place])
            at = place + 1
            if sign == ";":
                if around.kind:
                    around.end(at)
            elif sign in "([{":
                kind = _kind(around, language) if sign == "{" else ""
                if kind in ("function", "container"):
                    first = _SIGN.search(masked, around.begin)
                    assert first is not None
                    _give_role(around.flat, lines[bisect_right(starts, first.start()) - 1], kind, language)
                if len(stack) > MAX_DEPTH:
                    return False
                stack.append(_Open(sign, kind and ("switch" if kind == "switch" else "block"), at))
            else:
                if len(stack) == 1 or stack[-1].sign + sign not in ("()", "[]", "{}"):
                    return False
                closed = stack.pop()
                if closed.kind and stack[-1].kind:
                    stack[-1].end(at)
                else:
                    stack[-1].add(closed.sign + sign)
        stack[-1].add(masked[at : line.end] + "\n")
    return len(stack) == 1


def _edges(raw: str) -> str:
    """A line by which it is told what it is: the middle of a long one says nothing."""
    return raw if len(raw) <= 4 * MAX_HEADER else f"{raw[:MAX_HEADER]} {raw[-MAX_HEADER:]}"


def _classify(line: Line, raw: str, inside: bool, stack: list[_Open], language: Language) -> None:
    around = stack[-1]
    line.level = sum(o.kind != "" for o in stack) - 1
    word = raw.lstrip()
    if inside or not around.kind:
        line.kind = Kind.MORE
    elif not word:
        line.kind = Kind.GAP
    elif word[0] == "}":
        line.kind, line.level = Kind.JOINT, line.level - 1
    elif _JOINT.match(raw):
        line.kind = Kind.JOINT
    elif _begins(raw, around, language):
        line.kind = Kind.START
        line.role = "return" if _RETURN.match(raw) else "import" if _IMPORT.match(raw) else ""
        around.end(line.start)
        around.column = indent(raw)


def _begins(raw: str, around: _Open, language: Language) -> bool:
    """Whether a statement begins with a line that stands in a block."""
    if around.kind == "switch":
        return bool(_CASE.match(raw))
    # Nothing since the last statement's end; a directive is filled with semicolons.
    fresh = around.last in ("", ";", "}")
    if around.column is not None and indent(raw) > around.column and not (fresh and language.semicolons):
        return False
    first = raw.lstrip()[0]
    if fresh:
        return first not in _GOES_ON_AFTER or (first == "*" and not around.last)
    if language.semicolons:
        return False
    return not (around.last in _GOES_ON_BEFORE or first in _GOES_ON_AFTER or first == "{") and (
        around.flat.lstrip()[:1] != "@"
    )


def _kind(around: _Open, language: Language) -> str:
    """What an opening brace holds: "function", "container", "switch", "control"; "" a value."""
    header = _header(around.flat)
    function = bool(around.kind and language.function.search(header))
    if not function and LAMBDA.search(header):
        return "control"
    if not around.kind:
        return ""
    if language.switch.search(header):
        return "switch"
    if language.control.search(header):
        return "control"
    if function:
        return "function"
    return "container" if language.container.search(header) else ""


def _header(flat: str) -> str:
    return _ATTRIBUTES.sub("", flat[-MAX_HEADER:])


def _give_role(flat: str, line: Line, role: str, language: Language) -> None:
    pattern = language.function if role == "function" else language.container
    if line.kind is Kind.START and line.role in ("", "import") and (match := pattern.search(_header(flat))):
        names = [v for k, v in match.groupdict().items() if k.startswith("name") and v]
        line.role, line.name = role, names[0].strip() if names else ""


def _by_indentation(masked: str, within: set[int], lines: list[Line], language: Language) -> bool:
    """Ruby, and Python that does not parse: what is further in than a statement that opens a block is within it."""
    ruby = language is RUBY
    opened: list[tuple[int, str]] = []
    depth, awaited = 0, 0
    before = ""
    for n, line in enumerate(lines):
        whole = masked[line.start : line.end]
        raw = _edges(whole)
        word, level = raw.lstrip(), indent(raw)
        line.level = level
        if n in within or depth > 0:
            line.kind = Kind.MORE
        elif not word:
            line.kind = Kind.GAP
        elif (ruby and _RUBY_JOINT.match(word)) or _JOINT.match(raw):
            line.kind = Kind.JOINT
            awaited -= ruby and word.startswith("end")
        elif _goes_on(before, word, ruby):
            line.kind = Kind.MORE
        else:
            while opened and opened[-1][0] >= level:
                opened.pop()
            if opened and not _opens(opened[-1][1], ruby):
                line.kind = Kind.MORE
            else:
                line.kind = Kind.START
                opened.append((level, raw))
                _role(line, raw, language)
        if line.kind is Kind.MORE and opened and word and len(opened[-1][1]) < MAX_HEADER:
            opened[-1] = (opened[-1][0], f"{opened[-1][1]}\n{raw}")
            if not line.role and lines[n - 1].kind is Kind.START:
                _role(lines[n - 1], opened[-1][1], language)
        if ruby and line.kind in (Kind.START, Kind.MORE) and _RUBY_OPENS.search(raw) and not _one_line(raw):
            awaited += 1
        depth += sum(whole.count(c) for c in "([{") - sum(whole.count(c) for c in ")]}")
        before = raw if word else before
        if depth < 0 or len(opened) > MAX_DEPTH:
            return False
    return depth == 0 and (not ruby or awaited == 0)


def _goes_on(before: str, word: str, ruby: bool) -> bool:
    """Whether a line belongs to the statement of the one before."""
    # The names that a block is given stand between bars.
    last = "" if ruby and _RUBY_OPENS.search(before) else before.rstrip()[-1:]
    return last == "\\" or (last in _GOES_ON_BEFORE or word[0] in ".&" if ruby else before.lstrip()[:1] == "@")


def _one_line(raw: str) -> bool:
    return bool(re.search(r"\bend\b", raw) or _RUBY_ENDLESS.search(raw))


def _opens(statement: str, ruby: bool) -> bool:
    if ruby:
        return any(_RUBY_OPENS.search(line) for line in statement.split("\n"))
    return statement.rstrip().endswith(":")


def _role(line: Line, raw: str, language: Language) -> None:
    for role, pattern in (("function", language.function), ("container", language.container)):
        if match := pattern.search(raw):
            line.role, line.name = role, match["name"]
            return
    line.role = "return" if _RETURN.match(raw) else "import" if _IMPORT.match(raw) else ""
