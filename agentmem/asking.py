"""What a question asks for, as the reader needs it: the kind of answer, its content words, who is named in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from agentmem.language import content_words, stem, word_set, words

Kind = Literal["when", "duration", "number", "who", "where", "why", "how", "yesno", "what"]

MAX_READ = 2000
"""What is asked stands within so many characters; only the words of what follows count."""
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
_POLAR = re.compile(
    r"^\W*(?:and\s+|so\s+|but\s+)?(?:do|does|did|is|are|was|were|has|have|had|can|could|will|would|might|should)\s+"
    r"(?!(?:you|u)\s+(?:\w+\s+)?(?:know|remember|recall|tell|say|remind|think)\b)",
    re.IGNORECASE,
)
_FEEL = re.compile(r"\b(?:feel|feels|feeling|feelings|felt|emotions?|reaction|react|reacted)\b", re.IGNORECASE)
_DESCRIBE = re.compile(r"\bhow\b.*\b(?:describe|describes|described|characterize)\b", re.IGNORECASE)
_DO = re.compile(
    r"\bwhat\s+(?:else\s+)?(?:do|does|did|is|are|was|were|will|has|have|had|can|could|might|would)\b.*\b(?:do|doing|done)\b",
    re.IGNORECASE,
)
_KIND_OF = re.compile(r"\b(?:kind|type|sort|style|genre)s?\s+of\b", re.IGNORECASE)
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
_LAST_FIRST = re.compile(r"\sfirst\W{0,3}$", re.IGNORECASE)
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
_HELPING = r"(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|might|should)"
_PLURAL = re.compile(
    r"\b(?:what|which)\s+(?:(?:kind|type|sort)s?\s+of\s+)?(?:\w+\s+){0,2}?"
    r"(?!(?:is|was|does|has|news|business|this|his|class)\b)\w+[^su\W]s\b(?=\s+(?:" + _HELPING + r"|in|of|that)\b)|"
    r"\bwhat\s+(?:are|were|all)\b|\bwhich\s+(?:two|three|four)\b|\b(?:what|where|who)\s+(?:all|else)\b",
    re.IGNORECASE,
)
# What has been done so far, or is done again and again, is many things mostly.
_SO_FAR = re.compile(
    r"^\W*(?:in\s+)?(?:what|which|where|who)\b(?:\s+[\w'’-]+){0,4}?\s+(?:has|have)\b|\bwhat\s+(?:do|does)\b",
    re.IGNORECASE,
)


_HEAD = re.compile(
    r"\b(?:what|who)(?:['’]?s|(?:\s+(?:is|are|was|were|might|would|be)){1,2})\s+(?:one\s+of\s+)?"
    r"(?:(?:the|my|his|her|their|some|[a-z]\w*['’]s?|[a-z]\w*\s+and\s+[a-z]\w*['’]s?)\s+){1,3}"
    r"((?:[\w-]+\s+){0,2}?[\w-]+)(?=\s+(?:of|in|on|for|that|when|after|with|to|from|at|is|was|be|does|did|do|about|during|"
    r"likely)\b|\s*\?|['’])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Asking:
    """A question as read.

    `words` are its content stems without the speakers' names; `focus` those of the noun asked for ("which books");
    `named` the speakers named in it; `proper` the stems of other names; `subject` those of one that does something
    ("does Clara work", "Clara's"); `mine` those of what is said to be the asker's ("my brother"); `verb` the stem of
    what is done ("what did she *buy*"); `many` whether it asks for a list; `past` whether it asks how things were;
    `own` whether the asker asks about themself; `assistant` whether about what was answered; `form` the kind of phrase
    that answers, more finely than `kind`; `head` the stems of the noun of "what is X's *noun*"."""

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
    form: str = ""
    head: frozenset[str] = frozenset()


def _named(question: str, names: Iterable[str]) -> frozenset[str]:
    """The speakers whose name, or first name, stands in the question."""
    said = {w.lower().replace("’", "'").removesuffix("'s") for w in words(question)}
    return frozenset(n for n in names if n and (first := words(n)) and first[0].lower() in said)


_AUXILIARIES = word_set("do does did is are was were has have had can could will would might should")


_SUBJECT = re.compile(
    r"\b(?:do|does|did|is|are|was|were|has|have|will|would|can|could)\s+((?:[A-Z][\w’']*\s?)+)|\b([A-Z]\w+)['’]s\b"
)
_MINE = re.compile(r"\b[Mm]y\s+(?:(?:old|new|first|favou?rite|best|current|own|older|younger|little|big)\s+)*(\w+)")


def _found(pattern: re.Pattern[str], question: str) -> frozenset[str]:
    return frozenset(s for m in pattern.finditer(question) for g in m.groups() if g for s in fact_words(g))


def _verb(question: str, drop: set[str]) -> str:
    """The stem of the first content word after the helping verb and the subject, or ""."""
    asked = words(question)
    at = next((i for i, w in enumerate(asked) if w.lower() in _AUXILIARIES), None)
    if at is None:
        return ""
    return next((s for w in asked[at + 1 :] for s in fact_words(w) if s not in drop), "")


def _kind(question: str) -> Kind:
    """The kind that the first question word asks for: "how did he feel when he won" asks how."""
    if _POLAR.match(question) or not _WH.search(question):
        return "yesno"
    found = [(m.start(), n, kind) for n, (kind, p) in enumerate(_KINDS) if (m := p.search(question))]
    what = re.search(r"\b(?:what|which)\b", question, re.IGNORECASE)
    if what is not None:
        found.append((what.start(), len(_KINDS), "what"))
    return min(found)[2] if found else "what"


def _form(question: str, kind: Kind, focus: bool) -> str:
    """What kind of phrase answers, more finely than `Kind`."""
    if kind in ("what", "how") and _FEEL.search(question):
        return "feel"
    if kind == "how" and _DESCRIBE.search(question):
        return "feel"
    if kind == "what":
        if _KIND_OF.search(question):
            return "kind of"
        if _DO.search(question):
            return "do"
        return "noun" if focus else "what"
    return kind


def read_question(question: str, names: Iterable[str] = ()) -> Asking:
    """What the question asks for; `names` are the speakers that are known."""
    asked = question[:MAX_READ]
    kind = _kind(asked)
    known = set(names)
    drop = {s for n in known for s in fact_words(n)}
    asked = _LAST_FIRST.sub("?", _LIVING.sub("job", asked))
    plain = asked + question[MAX_READ:]
    focus, head = _FOCUS.search(asked), _HEAD.search(asked)
    return Asking(
        question,
        kind,
        frozenset(fact_words(plain)) - drop - _ORDER_WORDS,
        frozenset(fact_words(focus.group(1))) - drop if focus else frozenset(),
        _named(question, known),
        frozenset(s for w in words(plain)[1:] if w[0].isupper() for s in fact_words(w)) - drop,
        _found(_SUBJECT, asked[:1].lower() + asked[1:]) - drop,
        _found(_MINE, asked),
        _verb(plain, drop),
        bool(_PLURAL.search(asked)) or (kind in ("what", "where", "who") and bool(_SO_FAR.search(asked))),
        bool(_PAST.search(question[:MAX_READ])),
        any(w.lower() in _OWN for w in words(question)),
        bool(_TO_ASSISTANT.search(asked)),
        _form(asked, kind, bool(focus and focus.group(1).strip())),
        frozenset(fact_words(head.group(1))) - drop if head else frozenset(),
    )
