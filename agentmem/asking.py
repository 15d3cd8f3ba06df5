"""What a question asks for, as the reader needs it: the kind of answer, its content words, who is named in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from agentmem.language import content_words, stem, word_set, words

Kind = Literal["when", "duration", "number", "who", "where", "why", "how", "yesno", "what"]

_KIND_PATTERNS: tuple[tuple[Kind, str], ...] = (
    (
        "duration",
        r"\bhow\s+long\b(?!\s+ago)|\bhow\s+(?:many|much)\s+(?:more\s+)?(?:years|months|weeks|days|hours|minutes|time)\b|"
        r"\bhow\s+(?:often|frequently)\b",
    ),
    (
        "when",
        r"\bwhen\b(?!\s+\w+ing\b)|\b(?:what|which)\s+(?:\w+\s+)?(?:year|month|date|day|week|weekend)\b|"
        r"\bhow\s+long\s+ago\b",
    ),
    ("number", r"\bhow\s+(?:many|much|old|far|tall|big|high|large)\b|\bwhat\s+(?:number|age|percentage)\b"),
    (
        "who",
        r"\bwho(?:m|se)?\b|\bwhat(?:['’]?s|\s+is|\s+are|\s+was|\s+were|\s+do|\s+does)?\b.*\b(?:names?|called|named)\b",
    ),
    ("where", r"\bwhere\b|\b(?:in\s+)?(?:what|which)\s+(?:city|country|town|place|state|location|area)\b"),
    ("why", r"\bwhy\b|\bwhat\s+(?:\w+\s+)?(?:reason|motivat\w+|inspir\w+|made|prompted)\b|\bhow\s+come\b"),
    ("how", r"^\W*(?:and\s+|so\s+)?how\b"),
)
_KINDS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _KIND_PATTERNS)
# Words that ask for the newer or the older of two facts, and tell nothing of the fact.
_ORDER_WORDS = frozenset(
    content_words("now current currently nowadays today anymore before previously originally formerly")
)
_WH = re.compile(r"\b(?:what|which|who|whom|whose|where|when|why|how)\b", re.IGNORECASE)
_PAST = re.compile(
    r"\b(?:first|used\s+to|before|originally|initially|previously|earlier|formerly|at\s+first|back\s+then|former|(?<!how\s)old|"
    r"previous|in\s+the\s+past)\b",
    re.IGNORECASE,
)
# Words that tell of one fact in other words; the first of a group stands for all of it.
_GROUPS = (
    "live move reside relocate home settle; work job employ employer profession occupation career company; old age; "
    "name call nickname; birthday born birth; like love enjoy adore fond; hate dislike; allergic allergy; "
    "buy purchase; pet dog cat puppy kitten; partner husband wife boyfriend girlfriend spouse fiance; "
    "diet vegetarian vegan; email mail; phone telephone mobile; sick ill; quit resign; kid son daughter"
)
_SAME = {stem(w): stem(group.split()[0]) for group in _GROUPS.split(";") for w in group.split()}
_LIVING = re.compile(r"do(?:es|ing)?(?=.*for\s+a\s+living)|for\s+a\s+living", re.IGNORECASE)


def fact_word(word: str) -> str:
    """A stem, or the one that stands for its group ("move" counts as "live")."""
    return _SAME.get(word, word)


def fact_words(text: str) -> list[str]:
    """The content words of a text as `fact_word` reads them."""
    return [fact_word(w) for w in content_words(text)]


_TO_ASSISTANT = re.compile(
    r"(?:you|your).{0,20}\b(?:said|say|tell|told|recommend|suggest|mention|advise|advice|wrote|write|gave|give|list|"
    r"explain|answer|describe|name)|remind\s+me\s+what\s+you|your\s+(?:name|job|role|advice|suggestion)",
    re.IGNORECASE,
)
_OWN = word_set("i me my mine myself we us our ours")
_FOCUS = re.compile(
    r"\b(?:what|which|how\s+many|how\s+much)\s+(?:(?:kind|type|sort|types|kinds|sorts|piece|pieces|name)s?\s+of\s+|"
    r"(?:is|was|are|were)\s+the\s+(?:name|title)\s+of\s+)?((?:[\w'’-]+\s+){0,3}?)(?=is\b|are\b|was\b|were\b|do\b|does\b|did\b|"
    r"has\b|have\b|had\b|can\b|could\b|will\b|would\b|might\b|should\b)",
    re.IGNORECASE,
)  # fmt: skip
_PLURAL = re.compile(
    r"\b(?:what|which)\s+(?:(?:kind|type|sort)s?\s+of\s+)?(?:\w+\s+){0,2}?"
    r"(?!(?:is|was|does|has|news|business|this|his|class)\b)\w+[^su\W]s\b|\bwhat\s+(?:are|were|all)\b|\bwhich\s+(?:two|three|four)\b|\b(?:what|where|who)\s+(?:all|else)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Asking:
    """A question as read.

    `words` are its content stems without the speakers' names; `focus` those of the noun asked for ("which books");
    `named` the speakers named in it; `proper` the stems of other names; `subject` those of one that does something
    ("does Clara work", "Clara's"); `mine` those of what is said to be the asker's ("my brother"); `verb` the stem of
    what is done ("what did she *buy*"); `many` whether it asks for a list; `past` whether it asks how things were;
    `own` whether the asker asks about themself; `assistant` whether about what was answered."""

    text: str
    kind: Kind
    words: frozenset[str]
    focus: frozenset[str]
    named: frozenset[str]
    proper: frozenset[str]
    subject: frozenset[str]
    mine: frozenset[str]
    verb: str
    many: bool
    past: bool
    own: bool
    assistant: bool


def _named(question: str, names: Iterable[str]) -> frozenset[str]:
    """The speakers whose name, or first name, stands in the question."""
    said = {w.lower().replace("’", "'").removesuffix("'s") for w in words(question)}
    return frozenset(n for n in names if n and (first := words(n)) and first[0].lower() in said)


_HELPERS = word_set("do does did is are was were has have had can could will would might should")


_SUBJECT = re.compile(
    r"\b(?:do|does|did|is|are|was|were|has|have|will|would|can|could)\s+((?:[A-Z][\w’']*\s?)+)|\b([A-Z]\w+)['’]s\b"
)
_MINE = re.compile(r"\b[Mm]y\s+(?:(?:old|new|first|favou?rite|best|current|own|older|younger|little|big)\s+)*(\w+)")


def _found(pattern: re.Pattern[str], question: str) -> frozenset[str]:
    return frozenset(s for m in pattern.finditer(question) for g in m.groups() if g for s in fact_words(g))


def _verb(question: str, drop: set[str]) -> str:
    """The stem of the first content word after the helping verb and the subject, or ""."""
    asked = words(question)
    at = next((i for i, w in enumerate(asked) if w.lower() in _HELPERS), None)
    if at is None:
        return ""
    return next((s for w in asked[at + 1 :] for s in fact_words(w) if s not in drop), "")


def read_question(question: str, names: Iterable[str] = ()) -> Asking:
    """What the question asks for; `names` are the speakers that are known."""
    kind: Kind = next((k for k, p in _KINDS if p.search(question)), "what")
    if kind in ("what", "how") and not _WH.search(question):
        kind = "yesno"
    known = set(names)
    drop = {s for n in known for s in fact_words(n)}
    plain = _LIVING.sub("job", question)
    focus = _FOCUS.search(plain)
    return Asking(
        question,
        kind,
        frozenset(fact_words(plain)) - drop - _ORDER_WORDS,
        frozenset(fact_words(focus.group(1))) - drop if focus else frozenset(),
        _named(question, known),
        frozenset(s for w in words(plain)[1:] if w[0].isupper() for s in fact_words(w)) - drop,
        _found(_SUBJECT, plain[:1].lower() + plain[1:]) - drop,
        _found(_MINE, plain),
        _verb(plain, drop),
        bool(_PLURAL.search(question)),
        bool(_PAST.search(question)),
        any(w.lower() in _OWN for w in words(question)),
        bool(_TO_ASSISTANT.search(question)),
    )
