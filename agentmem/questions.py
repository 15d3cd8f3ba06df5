"""What a question asks for, read by rules: its terms, who is named, which days, what kind of answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from agentmem.dates import find_dates
from agentmem.language import STOP_WORDS, is_question, words
from agentmem.terms import terms_of

# A pasted log has thousands of dates; what a question asks for stands at its beginning.
MAX_DATED_CHARS = 2000
MAX_VERBATIM_CHARS = 5000
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?", re.UNICODE)
# Something that stands for one thing only: a UUID, a code, a number with letters, an address.
_IDENTIFIER = re.compile(r"\d\S*[-_.:/@]\S*\w|[A-Za-z]\d|\d[A-Za-z]|@")
# A pasted document is no question: what is longer is no name of anything, and each identifier is a search of its own.
MAX_IDENTIFIER_CHARS = 200
MAX_IDENTIFIERS = 16
MAX_QUESTION_TERMS = 256
_TIME_WORDS = re.compile(
    r"\b(?:\d{1,4}|yesterday|today|tomorrow|tonight|week|weekend|month|year|ago|last|next|since|until|recently|"
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)day|january|february|march|april|may|june|july|august|september|"
    r"october|november|december|spring|summer|autumn|fall|winter|morning|evening|christmas|easter)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundred|thousand|couple|several|once|twice)\b",
    re.IGNORECASE,
)
_CAPITAL = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][a-z]+")
# "What did you recommend", "in our last chat": the question is about what the assistant said, not about its user.
_ASKS_ASSISTANT = re.compile(
    r"\byou(?:r)?\b.{0,40}\b(?:said|told|tell|suggest\w*|recommend\w*|mention\w*|provid\w*|gave|give|list\w*|wrote|write|"
    r"describ\w*|explain\w*|shared|generated|created|come up)\b"
    r"|\b(?:our|previous|last|earlier) (?:previous |last )?(?:conversation|chat|discussion)|\bremind me\b"
    r"|\bwe (?:discussed|talked)\b",
    re.IGNORECASE,
)
_ONESELF = re.compile(
    r"\b(?:I|we)(?:['’]ve|\s+have|\s+had|\s+just|\s+recently|\s+got|\s+went|\s+bought|\s+made|\s+\w+ed"
    r"|['’]m\s+(?:currently|using))\b|\bmy\s+(?:new|old|own)\b",
    re.IGNORECASE,
)
# What spans more than a year is no date to match a message with.
MAX_SPAN_DAYS = 400
MONTH_DAYS = 31
_STOP_TERMS = frozenset(t for w in STOP_WORDS for t in terms_of(w)) | STOP_WORDS


@dataclass(frozen=True, slots=True)
class Question:
    """`dense_text` is what is embedded: the question without the speakers' names, which would pull every greeting."""

    text: str
    dense_text: str
    named: frozenset[str]
    identifiers: tuple[str, ...]
    days: tuple[tuple[date, date], ...]
    kind: str
    terms: tuple[str, ...] = ()
    """Its terms (`agentmem.terms`), stop words and the speakers' names out; all of them where nothing else is left."""
    asks_assistant: bool = False
    folded: str = ""
    """The whole query in lower case, with single spaces."""

    def verbatim(self, text: str) -> float:
        """Whether the whole query stands in a record word for word (three words or more)."""
        asked = self.folded
        return float(
            len(asked) <= len(text) and asked.count(" ") >= 2
            and asked in " ".join(text[:MAX_VERBATIM_CHARS].lower().split())
        )  # fmt: skip

    def asked_for(self, text: str) -> tuple[float, float, float]:
        """Whether a record has what the question asks for: a time, a number, a name (or place)."""
        if self.kind == "when":
            return float(bool(_TIME_WORDS.search(text))), 0.0, 0.0
        if self.kind == "number":
            return 0.0, float(bool(_NUMBER.search(text))), 0.0
        return 0.0, 0.0, float(self.kind in ("who", "where") and bool(_CAPITAL.search(text)))

    def tells_of_day(self, text: str, at: datetime) -> float:
        """Whether a text of a time speaks of a day that the question names ("last month", said in August, of July):
        1, or a half where it speaks of more than a month."""
        if not self.days or not _TIME_WORDS.search(text[:MAX_DATED_CHARS]):
            return 0.0
        best = 0.0
        for d in find_dates(text[:MAX_DATED_CHARS], at):
            days = (d.last - d.first).days
            if days <= MAX_SPAN_DAYS and any(d.first <= last and first <= d.last for first, last in self.days):
                best = max(best, 1.0 if days <= MONTH_DAYS else 0.5)
        return best


def tells_of_oneself(text: str) -> bool:
    """Whether somebody tells what they did or have ("I just bought", "we went", "my new")."""
    return bool(_ONESELF.search(text))


def _kind(text: str) -> str:
    head = " ".join(words(text)[:4]).lower()
    if re.search(r"\b(?:when|what (?:date|day|month|year|time)|which (?:date|day|month|year)|how long ago)\b", head):
        return "when"
    if re.search(r"\bhow (?:many|much|old|long|often|far|tall)\b", head):
        return "number"
    if re.search(r"\b(?:who|whom|whose)\b", head):
        return "who"
    return "where" if re.search(r"\bwhere\b", head) else "other"


def _named(text: str, speakers: Sequence[str]) -> tuple[frozenset[str], list[str]]:
    """Who of the speakers is named, and the words that name them: the first name, all of it, or its beginning (Mel for
    Melanie) where that is of one speaker only."""
    tokens = [w.removesuffix("'s").removesuffix("’s") for w in _WORD.findall(text)]
    lowered = {t.lower() for t in tokens}
    parts = {s: [p for p in s.lower().split() if len(p) > 1] for s in speakers}
    named = {s for s, p in parts.items() if p and (set(p) <= lowered or p[0] in lowered)}
    said = {p for s in named for p in parts[s]}
    for token in tokens:
        short = token.lower()
        if len(short) < 3 or not token[0].isupper() or short in STOP_WORDS or short in said:
            continue
        meant = [s for s, p in parts.items() if p and p[0].startswith(short) and p[0] != short]
        if len(meant) == 1:
            named.add(meant[0])
            said.add(short)
    return frozenset(named), sorted(said | {p for s in named for p in parts[s]}, key=len, reverse=True)


def analyse(text: str, speakers: Sequence[str], asked_at: datetime | None) -> Question:
    """Read a question. `speakers` are the names of those who have spoken to this agent."""
    named, said = _named(text, speakers)
    bare = text
    for part in said:
        bare = re.sub(rf"\b{re.escape(part)}(?:['’]s)?(?!\w)", " ", bare, flags=re.IGNORECASE)
    bare = " ".join(bare.split())
    days = tuple(
        (d.first, d.last)
        for d in (find_dates(text[:MAX_DATED_CHARS], asked_at) if asked_at is not None else [])
        if (d.last - d.first).days <= MAX_SPAN_DAYS
    )
    marked = (t for t in text.split() if len(t) <= MAX_IDENTIFIER_CHARS and _IDENTIFIER.search(t))
    identifiers = dict.fromkeys(t.strip(".,;:?!()[]\"'") for t in marked)
    terms = [t for t in dict.fromkeys(terms_of(bare)) if t not in _STOP_TERMS]
    return Question(
        text=text,
        dense_text=bare if len(words(bare)) >= 2 else text,
        named=named,
        identifiers=tuple(i for i in identifiers if len(i) >= 5)[:MAX_IDENTIFIERS],
        days=days,
        kind=_kind(text) if is_question(text) else "other",
        terms=tuple(terms or dict.fromkeys(terms_of(text)))[:MAX_QUESTION_TERMS],
        folded=" ".join(text.lower().split()),
        asks_assistant=bool(_ASKS_ASSISTANT.search(text[:MAX_DATED_CHARS])),
    )
