"""Code as functions, classes and blocks: every language, and that no cut is within a statement."""

from __future__ import annotations

import argparse
import ast
import difflib
import io
import json
import textwrap
import tokenize
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmem.compressors.code_brackets import bracket_lines
from agentmem.compressors.code_languages import LANGUAGES, PYTHON, language_of
from agentmem.compressors.code_lines import Kind
from agentmem.compressors.code_split import MAX_RUN_LINES, SHORT_LINES, Section, lines_of, split, tree
from tests.compressors.code_samples import SAMPLES

SOURCES = [Path(m.__file__).read_text(encoding="utf-8") for m in (json.decoder, textwrap, difflib)]
_ODD = (
    "`utf8 } ${path}`", "/[}\"']/", '"no } here"', "// a comment with }", "'\"'", '"negative {"', '"no } more"', "'{'",
    '"negative }"', "`free {`", 'r#"a "raw" } string"#', "'negative }'", "// it's } fine", "        (\n      TEXT",
)  # fmt: skip
PAIRS = {")": "(", "]": "[", "}": "{"}


def found_in(name: str) -> tuple[str, list[Section]]:
    text = SAMPLES[name][0]
    sections = split(text, LANGUAGES[name])
    assert sections is not None
    return text, sections


def even(text: str) -> bool:
    """Whether the brackets of a text without strings and comments come out even."""
    stack: list[str] = []
    for sign in text:
        if sign in "([{":
            stack.append(sign)
        elif sign in PAIRS and (not stack or stack.pop() != PAIRS[sign]):
            return False
    return not stack


def tokenises(text: str) -> bool:
    """Whether Python's own tokenizer reads a text, brackets even."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, IndentationError):
        return False
    return even("".join(t.string for t in tokens if t.type == tokenize.OP))


@pytest.mark.parametrize("name", SAMPLES)
def test_each_line_is_in_one_section(name: str) -> None:
    text, sections = found_in(name)
    lines = [n for s in sections for n in s.lines]
    assert len(lines) == len(set(lines))
    assert set(lines) == {n for n, line in enumerate(text.split("\n")) if line}


@pytest.mark.parametrize("name", SAMPLES)
def test_functions_and_classes_are_found(name: str) -> None:
    _, functions, classes = SAMPLES[name]
    _, sections = found_in(name)
    assert [s.name for s in sections if s.kind == "function"] == functions
    assert [s.name for s in sections if s.kind == "class" and s.name][: len(classes)] == classes


@pytest.mark.parametrize("name", SAMPLES)
def test_the_language_is_told_by_its_lines(name: str) -> None:
    found = language_of(SAMPLES[name][0])
    assert found is not None and found.name == name
    assert language_of(SAMPLES[name][0], name) is found


@pytest.mark.parametrize(
    "text",
    [
        "", "a\n" * 9, "We met at noon.\nThen we ate; it was good.\nAnd so on.\nUntil the evening came.\n",
        '{\n "a": 1,\n "b": [\n  2\n ]\n}', "- one\n- two\n- three\n- four\n- five",
        "Dear Anna,\n\nreturn the book to me, please.\nimport duties are paid.\nYours,\nBen",
    ],
)  # fmt: skip
def test_what_is_no_code(text: str) -> None:
    assert language_of(text) is None


@pytest.mark.parametrize("name", SAMPLES)
@settings(max_examples=25)
@given(data=st.data())
def test_any_choice_of_blocks_is_even(name: str, data: st.DataObject) -> None:
    """What is kept is whole statements with what stands around them: brackets stay even."""
    text, sections = found_in(name)
    kept: set[int] = set()
    for section in sections:
        if data.draw(st.booleans()):
            kept |= {*section.needs, *section.head}
            for block in section.blocks:
                if data.draw(st.booleans()):
                    kept |= {*block.lines, *block.needs}
    lines = text.split("\n")
    shown = "\n".join(lines[n] for n in sorted(kept))
    if name == "python":
        assert tokenises(shown), shown
    else:
        # The samples' strings and comments with brackets are lines that are cut whole or not at all.
        masked = masked_lines(name)
        assert even("\n".join(masked[n] for n in sorted(kept))), shown


def masked_lines(name: str) -> list[str]:
    """A sample with each string and comment that has a bracket or a quote in it written out, by hand."""
    text = SAMPLES[name][0]
    for odd in _ODD:
        text = text.replace(odd, "\n" * odd.count("\n"))
    return text.split("\n")


@settings(max_examples=20)
@given(source=st.sampled_from(SOURCES), data=st.data())
def test_any_choice_from_a_real_source_tokenises(source: str, data: st.DataObject) -> None:
    sections = split(source, PYTHON)
    assert sections is not None
    seed = data.draw(st.randoms(use_true_random=False))
    kept: set[int] = set()
    for section in sections:
        if seed.random() < 0.5:
            kept |= {*section.needs, *section.head}
            for block in section.blocks:
                if seed.random() < 0.5:
                    kept |= {*block.lines, *block.needs}
    lines = source.split("\n")
    assert tokenises("\n".join(lines[n] for n in sorted(kept)))


def test_a_real_source_has_the_functions_that_its_tree_has() -> None:
    source = Path(argparse.__file__).read_text(encoding="utf-8")
    sections = split(source, PYTHON)
    assert sections is not None

    def functions(body: list[ast.stmt]) -> list[str]:
        out = []
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                out.append(node.name)
            elif isinstance(node, ast.ClassDef):
                out += functions(node.body)
        return out

    assert [s.name for s in sections if s.kind == "function"] == functions(ast.parse(source).body)
    heads = {s.name: "\n".join(source.split("\n")[n] for n in s.head) for s in sections if s.blocks}
    assert heads["parse_intermixed_args"].strip() == "def parse_intermixed_args(self, args=None, namespace=None):"
    assert heads["add_argument"].strip().endswith("    def add_argument(self, *args, **kwargs):")


def test_python_by_indentation_is_as_by_its_tree() -> None:
    """The way for Python that does not parse, held against the way for Python that does."""
    for source in SOURCES:
        by_tree, by_hand = lines_of(source, PYTHON), bracket_lines(source, PYTHON)
        assert by_tree is not None and by_hand is not None
        starts = {n for n, line in enumerate(by_tree) if line.kind is Kind.START}
        found = {n for n, line in enumerate(by_hand) if line.kind is Kind.START}
        assert found <= starts | {n for n, line in enumerate(by_tree) if line.kind is Kind.JOINT}
        assert len(found) > 0.9 * len(starts)
        named = [[line.name for line in lines if line.role == "function"] for lines in (by_tree, by_hand)]
        assert named[0] == named[1]


def test_a_source_that_breaks_off_is_still_split() -> None:
    source = SAMPLES["python"][0].replace("lines += found", "lines += = found")
    with pytest.raises(SyntaxError):
        ast.parse(source)
    sections = split(source, PYTHON)
    assert sections is not None and [s.name for s in sections if s.kind == "function"] == SAMPLES["python"][1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("javascript", "function f() {\n  return (1\n}\n"),
        ("java", "class A {\n  void f() {\n"),
        ("go", "x := `open\n"),
        ("c", "int f() {\n}}\n"),
        ("python", "def f(:\n    return (1\n"),
        ("ruby", "def f\n  if x\n  end\n"),
        ("php", "<?php\n$a = 'never closed;\n"),
        ("rust", "fn f() { let a = [1, 2); }\n"),
    ],
)
def test_code_that_does_not_come_out_even_is_one_piece(name: str, text: str) -> None:
    assert split(text, LANGUAGES[name]) is None


def test_short_functions_are_whole_and_blocks_are_short() -> None:
    for source in SOURCES:
        sections = split(source, PYTHON)
        assert sections is not None
        for section in (s for s in sections if s.kind == "function"):
            if len(section.lines) < SHORT_LINES:
                assert not section.blocks
    _, sections = found_in("javascript")
    sizes = [len(b.lines) for s in sections for b in s.blocks]
    assert max(sizes) <= MAX_RUN_LINES
    load = next(s for s in sections if s.name == "load")
    assert [b.returns for b in load.blocks] == [True, True] and len(load.head) == 2


def test_a_model_says_where_blocks_end() -> None:
    body = "".join(f"    x{n} = {n}\n" for n in range(10))
    source = f"def f():\n{body}    return x0\n"
    by_rule, by_model = split(source, PYTHON), split(source, PYTHON, {3, 4})
    assert by_rule is not None and by_model is not None
    assert [b.lines for b in by_model[0].blocks] == [(1, 2, 3), (4,), (5, 6, 7, 8, 9, 10), (11,)]
    assert [len(b.lines) for b in by_rule[0].blocks] == [8, 2, 1]


def test_a_comment_belongs_to_what_comes_after_it() -> None:
    lines = lines_of("a = 1\n# apart\n\n# about b\nb = 2\n# the end\n", PYTHON)
    assert lines is not None
    assert [n.lines() for n in tree(lines).children] == [[0], [1], [3, 4], [5]]


@settings(max_examples=150)
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_damaged_code_never_raises(name: str, data: st.DataObject) -> None:
    text = SAMPLES[name][0]
    a, b = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    odd = data.draw(st.sampled_from(["", "}", '"', "(", "\n\n", "\r\n", "\x0c", "/*", "'''", "\ud83d", "end\n", "\t"]))
    damaged = text[:a] + odd + text[b:]
    language = language_of(damaged) or LANGUAGES[name]
    sections = split(damaged, language)
    if sections is not None:
        lines = [n for s in sections for n in s.lines]
        assert len(lines) == len(set(lines))
        assert {n for n, line in enumerate(damaged.split("\n")) if line.strip()} <= set(lines)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("python", "if a:\n    x()\n" + "elif b:\n    y()\n" * 400),
        ("python", "x = " + "(" * 150 + ")" * 150 + "\n"),
        ("c", "void f() {\n" * 300 + "}\n" * 300),
        ("rust", 'r#"' * 3000),
        ("javascript", "var " + " " * 20_000 + "\n" + "a(" * 5000),
        ("cpp", "f(a)" * 3000 + "{" + "}" * 3000),
        ("java", "int f() {\n" + "a = b" * 20_000 + ";\n}\n"),
        ("ruby", "do " * 20_000),
    ],
)
def test_deep_and_long_code_is_read_or_one_piece(name: str, text: str) -> None:
    sections = split(text, LANGUAGES[name])
    if sections is not None:
        assert {n for s in sections for n in s.lines} == {n for n, line in enumerate(text.split("\n")) if line}
