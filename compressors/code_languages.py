"""What is known of programming languages: their strings and comments, and how their definitions begin."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_COMMENT = r"//[^\n]*"
_BLOCK_COMMENT = r"/\*(?:.*?\*/|.*\Z)"
_C_COMMENT = rf"{_LINE_COMMENT}|{_BLOCK_COMMENT}"
_DOUBLE = r'"(?:\\.|[^"\\\n])*"'
_SINGLE = r"'(?:\\.|[^'\\\n])*'"
_LONG_DOUBLE = r'"(?:\\.|[^"\\])*"'
_LONG_SINGLE = r"'(?:\\.|[^'\\])*'"
_TRIPLE = r'"""(?:\\.|.)*?"""'
_REGEX = r"(?<=[(,=:\[!&|?{;\n])[ \t]*/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*"
_NAMED_CALL = r"(?P<name>~?[A-Za-z_$][\w$]*(?:::~?[\w$]+)*)\s*(?:<[^;{}]*>)?\s*\(\)[^;{}=]*$"
_NO_CONTROL = (
    r"^(?!\s*(?:if|else|for|foreach|while|do|switch|try|catch|finally|return|throw|new|using|lock|synchronized|match|"
    r"loop|select|with|unless|case|when|await|yield|delete|typeof|go|defer)\b)"
)
_CONTROL = (
    r"^\s*(?:[\w$]+:\s*)?(?:\}\s*)?(?:if|else|for|foreach|while|do|try|catch|finally|using|lock|synchronized|loop|"
    r"unsafe|checked|unchecked|fixed|declare|elseif|static\s*$|with|go|defer|\s*$)\b|^\s*$"
)
LAMBDA = re.compile(
    r"(?:=>|->|\|[^|\n]*\|(?:\s*->\s*[\w<>:&]+)?|\bmove\s*\|[^|]*\||"
    r"\bfunction\b[^(){};]*\(\)[^{};()]*|\bfunc\s*\(\)[^{};]*|\]\s*\(\)[^{};()]*)\s*$"
)
"""What stands before the body of a function without a name, wherever it is."""


@dataclass(frozen=True, slots=True)
class Language:
    """How a language is read. `comment` and `string` are patterns of tokens in which no bracket counts; `directive`
    (a line of the C preprocessor) is a statement. `semicolons`: a statement ends with one, not with its line.
    `function` and `container` match what stands before a body (what is in brackets left out); `switch` what holds
    cases. `last_returns`: a function's value is its last statement's."""

    name: str
    token: re.Pattern[str]
    function: re.Pattern[str]
    container: re.Pattern[str]
    semicolons: bool = True
    indented: bool = False
    control: re.Pattern[str] = re.compile(_CONTROL)
    last_returns: bool = False
    switch: re.Pattern[str] = re.compile(r"^\s*(?:[\w$]+:\s*)?(?:switch|select|match)\b|\bmatch\s[^;]*$")
    quotes: str = "\"'"


def _language(
    name: str,
    comment: str,
    string: str,
    function: str,
    container: str,
    *,
    directive: str = r"(?!)",
    semicolons: bool = True,
    indented: bool = False,
    quotes: str = "\"'",
    last_returns: bool = False,
) -> Language:
    token = rf"(?P<directive>{directive})|(?P<comment>{comment})|(?P<string>{string})"
    return Language(
        name,
        re.compile(token, re.DOTALL | re.MULTILINE),
        re.compile(function, re.DOTALL),
        re.compile(container, re.DOTALL),
        semicolons,
        indented,
        quotes=quotes,
        last_returns=last_returns,
    )


_KINDS = r"\b(?P<kind>class|interface|enum|record|struct|namespace|trait|union|module)\b"
_TYPE = rf"{_KINDS}\s*(?P<name>[\w$.:\\]*)[^;={{}}()]*(?:\(\)[^;={{}}()]*)?$"
_RAW_CPP = r'\b(?:u8|[uUL])?R"(?P<raw>[^\s()\\"]{0,16})\(.{0,4000}?\)(?P=raw)"'
_RAW_RUST = r'\bb?r(?P<raw>#{0,9})".{0,4000}?"(?P=raw)'

PYTHON = _language(
    "python",
    r"\#[^\n]*",
    r"(?:\"\"\"(?:\\.|.)*?\"\"\"|'''(?:\\.|.)*?'''|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')",
    r"^(?:\s*@[^\n]*\n)*\s*(?:async\s+)?def\s+(?P<name>\w+)",
    r"^(?:\s*@[^\n]*\n)*\s*class\s+(?P<name>\w+)",
    semicolons=False,
    indented=True,
)
RUBY = _language(
    "ruby",
    r"(?:^=begin\b.*?^=end\b[^\n]*|\#[^\n]*)",
    r"<<[~-]?(?P<mark>['\"]?)(?P<raw>[A-Z_]\w*)(?P=mark)[^\n]*\n.{0,4000}?\n[ \t]*(?P=raw)\b|"
    rf"{_LONG_DOUBLE}|{_LONG_SINGLE}|{_REGEX}",
    r"^\s*(?:(?:private|protected|public)\s+)?def\s+(?:self\.)?(?P<name>[\w?!=\[\]<>+*/-]+)",
    r"^\s*(?:class|module)\s+(?P<name>[\w:]+)",
    semicolons=False,
    indented=True,
    last_returns=True,
)
_JS_FUNCTION = (
    r"\bfunction\b\s*\*?\s*(?P<name>[\w$]*)\s*(?:<[^;{}]*>)?\s*\(\)[^;{}]*$|"
    r"\b(?:const|let|var)\s+(?P<name2>[\w$]+)\s*(?::[^=;{}]*)?=\s*(?:async\b\s*)?(?:<[^;{}]*>)?\s*"
    r"(?:\(\)(?:\s*:[^;{}=]*)?|[\w$]+)\s*=>\s*$|"
    rf"{_NO_CONTROL}[^=;{{}}]*?(?P<name3>[\#\w$]+)\s*(?:<[^;{{}}]*>)?\s*\(\)(?:\s*:[^;{{}}]*)?\s*$"
)
JAVASCRIPT = _language(
    "javascript", _C_COMMENT, rf"`(?:\\.|[^`\\])*`|{_DOUBLE}|{_SINGLE}|{_REGEX}", _JS_FUNCTION,
    r"\b(?P<kind>class|interface|enum|namespace|module)\b\s*(?P<name>[\w$.]*)[^;={}]*$",
    semicolons=False, quotes="\"'`",
)  # fmt: skip
JAVA = _language(
    "java", _C_COMMENT, rf"{_TRIPLE}|{_DOUBLE}|{_SINGLE}", rf"{_NO_CONTROL}[^=;{{}}]*?{_NAMED_CALL}", _TYPE
)
CSHARP = _language(
    "csharp", _C_COMMENT, rf'{_TRIPLE}|\$?@\$?"(?:""|[^"])*"|{_DOUBLE}|{_SINGLE}',
    rf"{_NO_CONTROL}[^=;{{}}]*?{_NAMED_CALL}", _TYPE, directive=r"^[ \t]*\#[^\n]*",
)  # fmt: skip
CPP = _language(
    "cpp", _C_COMMENT, rf"{_RAW_CPP}|(?<![\w'])\d[\w.]*(?:'[\w.]+)+|{_DOUBLE}|{_SINGLE}",
    rf"{_NO_CONTROL}[^=;{{}}]*?{_NAMED_CALL}", rf"{_TYPE}|\bextern\s+\S*\s*$",
    directive=r"^[ \t]*\#(?:[^\n\\]|\\.)*",
)  # fmt: skip
GO = _language(
    "go", _C_COMMENT, rf"`[^`]*`|{_DOUBLE}|{_SINGLE}", r"^\s*func\s*(?:\(\)\s*)?(?P<name>\w+)[^;]*$",
    r"^\s*type\s+(?P<name>\w+)[^;=]*\b(?:struct|interface)\s*$", semicolons=False, quotes="\"'`",
)  # fmt: skip
RUST = _language(
    "rust", _C_COMMENT, rf"{_RAW_RUST}|{_LONG_DOUBLE}|'(?:\\[^\n']{{1,10}}|\\'|[^'\\\n])'",
    r"\bfn\s+(?P<name>\w+)[^;]*$", r"\b(?:impl|trait|struct|enum|union|mod)\b\s*(?P<name>[^;={}]*)$", quotes='"',
    last_returns=True,
)  # fmt: skip
PHP = _language(
    "php", rf"\#(?!\[)[^\n]*|{_C_COMMENT}",
    r"<<<\s*(?P<mark>['\"]?)(?P<raw>\w+)(?P=mark)\n.{0,4000}?\n[ \t]*(?P=raw)\b|" + rf"{_LONG_DOUBLE}|{_LONG_SINGLE}",
    r"\bfunction\s+&?\s*(?P<name>\w+)\s*\(\)[^;{}]*$", _TYPE, directive=r"<\?(?:php|=)?|\?>",
)  # fmt: skip

LANGUAGES = {
    **dict.fromkeys(("py", "python", "python3", "py3", "pyi"), PYTHON),
    **dict.fromkeys(("rb", "ruby"), RUBY),
    **dict.fromkeys(("js", "javascript", "jsx", "mjs", "ts", "typescript", "tsx"), JAVASCRIPT),
    **dict.fromkeys(("java", "kotlin", "kt"), JAVA),
    **dict.fromkeys(("cs", "csharp", "c#"), CSHARP),
    **dict.fromkeys(("c", "h", "cpp", "c++", "cc", "cxx", "hpp", "objc"), CPP),
    **dict.fromkeys(("go", "golang"), GO),
    **dict.fromkeys(("rs", "rust"), RUST),
    **dict.fromkeys(("php", "php3", "php8"), PHP),
}
"""By the tags that code fences carry."""
del LANGUAGES["kotlin"], LANGUAGES["kt"]

# Lines that only one language, or a few, have.
_SIGNS = tuple(
    (language, re.compile(rf"^[ \t]*(?:{'|'.join(signs)})", re.MULTILINE))
    for language, signs in (
        (
            PYTHON,
            (r"def \w+\(", r"class \w+.*:[ \t]*$", r"from \S+ import ", r"elif .*:[ \t]*$", r"except\b.*:[ \t]*$"),
        ),
        (
            RUBY,
            (r"end[ \t]*$", r"def [\w.?!]+[ \t]*(?:\(.*\))?[ \t]*$", r"require(?:_relative)? ['\"]", r"module [A-Z]"),
        ),
        (
            GO,
            (r"package \w+[ \t]*$", r"func (?:\(\w+ \*?\w+\) )?\w+\(", r"type \w+ (?:struct|interface) \{", r"\w+ := "),
        ),
        (RUST, (r"(?:pub(?:\(\w+\))? )?(?:async )?fn \w+", r"impl\b.*\{", r"let mut ", r"use \w+::", r"#\[\w+")),
        (PHP, (r"<\?php", r"\$\w+ = ", r"(?:public |private |protected |static )*function \w+\(.*\$", r"use \w+\\")),
        (CSHARP, (r"using [\w.]+;", r"namespace [\w.]+", r".*\{ get; ", r"\[\w+(?:\(.*\))?\][ \t]*$")),
        (
            JAVA,
            (r"package [\w.]+;", r"import (?:static )?[\w.*]+;", "@Override", r"(?:public|private|protected) .*[({;]"),
        ),
        (
            CPP,
            (
                r"#(?:include|define|if|endif|pragma)",
                "template ?<",
                "using namespace",
                r"\w[\w:<>*& ]* \*?\w+\(.*\) ?\{",
            ),
        ),
        (
            JAVASCRIPT,
            (r"(?:export |default |async )*function\b", r"(?:export )?(?:const|let|var) [\w${[]", r".*=> ?\{[ \t]*$"),
        ),
    )
)
_CODE_LINE = re.compile(
    r"[{};]\s*(?://.*|#.*|/\*.*)?$|^\s*(?:[})\]]|//|/\*|\*|#\s?include|@\w+\s*(?:\(.*\))?$|end\s*$|import |from |use |"
    r"def |class |return\b|if\b.*[:{]\s*$|else\b|elif\b|for\b.*[:{]\s*$|while\b.*[:{]\s*$|func |fn |let |const |var )|"
    r"^\s*[\w.\[\]$@*&>-]+(?:\s*:\s*[\w\[\], .|]+)?\s*(?:[-+*/|&]|:)?=\s*\S|^\s*[\w.:>$-]+\(.*\)[;,:]?\s*$|[(,\[]\s*$"
)
LEAST_LINES = 4
LEAST_CODE_SHARE = 0.6


def language_of(text: str, tag: str = "") -> Language | None:
    """The language of a text that is code as a whole, by its fence's tag or its lines; None for other text."""
    if tag:
        return LANGUAGES.get(tag.lower())
    lines = [line[:400] for line in text.split("\n") if line.strip()]
    if len(lines) < LEAST_LINES:
        return None
    told = sum(bool(_CODE_LINE.search(line)) for line in lines)
    if told < LEAST_CODE_SHARE * len(lines):
        # Comments and docstrings may be most of a file.
        signs = [(len(p.findall("\n".join(lines))), lang) for lang, p in _SIGNS[:1]]
        return PYTHON if signs[0][0] >= max(2, 0.03 * len(lines)) and told >= 0.2 * len(lines) else None
    votes = [(len(pattern.findall("\n".join(lines))), -n) for n, (_, pattern) in enumerate(_SIGNS)]
    most, place = max(votes)
    return _SIGNS[-place][0] if most else None
