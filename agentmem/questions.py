"""What a question asks for, read by rules: its terms, who is named, which days, what kind of answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from agentmem.dates import find_dates
from agentmem.language import is_question, words

# A pasted log has thousands of dates; what a question asks for stands at its beginning.
MAX_DATED_CHARS = 2000
MAX_VERBATIM_CHARS = 5000
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?", re.UNICODE)
# Something that stands for one thing only: a UUID, a code, a number with letters, an address.
_IDENTIFIER = re.compile(r"\d\S*[-_.:/@]\S*\w|[A-Za-z]\d|\d[A-Za-z]|@")
# A pasted document is no question: what is longer is no name of anything, and each identifier is a search of its own.
MAX_IDENTIFIER_CHARS = 200
MAX_IDENTIFIERS = 16
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


@dataclass(frozen=True, slots=True)
class Question:
    """`dense_text` is what is embedded: the question without the speakers' names, which would pull every greeting."""

    text: str
    dense_text: str
    named: frozenset[str]
    identifiers: tuple[str, ...]
    days: tuple[tuple[date, date], ...]
    kind: str

    def verbatim(self, text: str) -> float:
        """Whether the whole query stands in a record word for word (three words or more)."""
        asked = " ".join(self.text.lower().split())
        return float(asked.count(" ") >= 2 and asked in " ".join(text[:MAX_VERBATIM_CHARS].lower().split()))

    def kind_match(self, text: str) -> float:
        """Whether a record has what the question asks for: a time, a number, a name."""
        if self.kind == "when":
            return float(bool(_TIME_WORDS.search(text)))
        if self.kind == "number":
            return float(bool(_NUMBER.search(text)))
        if self.kind in ("who", "where"):
            return float(bool(_CAPITAL.search(text)))
        return 0.0


def _kind(text: str) -> str:
    head = " ".join(words(text)[:4]).lower()
    if re.search(r"\b(?:when|what (?:date|day|month|year|time)|which (?:date|day|month|year)|how long ago)\b", head):
        return "when"
    if re.search(r"\bhow (?:many|much|old|long|often|far|tall)\b", head):
        return "number"
    if re.search(r"\b(?:who|whom|whose)\b", head):
        return "who"
    return "where" if re.search(r"\bwhere\b", head) else "other"


def analyse(text: str, speakers: Sequence[str], asked_at: datetime | None) -> Question:
    """Read a question. `speakers` are the names of those who have spoken to this agent."""
    lowered = {w.lower().removesuffix("'s").removesuffix("’s") for w in _WORD.findall(text)}
    parts = {s: [p for p in s.lower().split() if len(p) > 1] for s in speakers}
    named = frozenset(s for s, p in parts.items() if p and (set(p) <= lowered or p[0] in lowered))
    bare = text
    for name in named:
        for part in name.split():
            bare = re.sub(rf"\b{re.escape(part)}(?:['’]s)?(?!\w)", " ", bare, flags=re.IGNORECASE)
    bare = " ".join(bare.split())
    days = tuple(
        (d.first, d.last)
        for d in (find_dates(text[:MAX_DATED_CHARS], asked_at) if asked_at is not None else [])
        if (d.last - d.first).days <= 400
    )
    marked = (t for t in text.split() if len(t) <= MAX_IDENTIFIER_CHARS and _IDENTIFIER.search(t))
    identifiers = dict.fromkeys(t.strip(".,;:?!()[]\"'") for t in marked)
    return Question(
        text=text,
        dense_text=bare if len(words(bare)) >= 2 else text,
        named=named,
        identifiers=tuple(i for i in identifiers if len(i) >= 5)[:MAX_IDENTIFIERS],
        days=days,
        kind=_kind(text) if is_question(text) else "other",
    )
