"""Whether two values of one frame exclude each other, or can stand beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentmem.language import word_set
from agentmem.reflection.frames import other_time
from agentmem.reflection.statements import Statement
from agentmem.reflection.states import OCCUPATIONS, REGIONS
from agentmem.reflection.wording import alike, any_among, canonical, numbers_in, same_words

_SINGLE = frozenset(
    canonical(
        word_set(
            "favourite color colour password code size brand model surname nickname name title currency motto "
            "theme topic "
            "username login passphrase slogan capital pin diet nationality"
        )
    )
)
"""Attributes that are a word in lower case, one at a time."""
_MANY = frozenset(
    canonical(
        word_set(
            "sister brother son daughter friend cousin aunt uncle dog cat colleague neighbour child kid hobby "
            "allergy flatmate "
            "roommate pet horse car bike book film student pupil nephew niece language"
        )
    )
)


def amounts_differ(old: Statement, new: Statement) -> bool:
    """The same words with another number ("once a day", "twice a day"), whatever the verb."""
    if "number" not in (old.kind, new.kind) or "name" in (old.kind, new.kind):
        return False
    a, b = ([w for w in s.value if not w[:1].isdigit()] for s in (old, new))
    numbers = numbers_in(old.value), numbers_in(new.value)
    return bool(numbers[0] and numbers[1] and a) and numbers[0] != numbers[1] and same_words(a, b)


def only_numbers(gone: Sequence[str], come: Sequence[str]) -> bool:
    """Whether two values differ in numbers alone."""
    return all(w[:1].isdigit() for w in (*gone, *come)) and bool(gone) and bool(come)


def other_object(old: Statement, new: Statement) -> bool:
    """Whether the first thing named is another: then it is about other objects."""
    return not old.value or not new.value or not alike(old.value[0], new.value[0])


def kinds_fit(old: Statement, new: Statement) -> bool:
    """Whether two values of one frame are of the same sort."""
    if {old.kind, new.kind} == {"name", "words"} and old.verb != "live":
        return True
    if old.kind == "time":
        return new.kind == "time" and old.entity and other_time(old.value, new.value)
    return old.kind == new.kind and old.kind != "number"


def region(words: Iterable[str]) -> bool:
    """Whether a country, or another wide place, is among words."""
    return any(w in REGIONS for w in words)


def attribute(old: Statement, new: Statement, gone: Sequence[str], come: Sequence[str], cued: bool) -> str:
    """Why another "the X is V" of the same sort excludes one; of a person ("Anna is V") a word of change is needed."""
    why = f"{' '.join(come)} instead of {' '.join(gone)}"
    if old.kind != new.kind or (old.prep != new.prep and {old.prep, new.prep} - {"in", "at", "on", ""}):
        return ""
    if old.prep != new.prep and old.kind != "time":
        return ""
    if any_among(old.subject, _MANY) and len(old.subject) <= 2 and not cued:
        return ""
    if not (old.entity and new.entity):
        both = set(old.value) & OCCUPATIONS and set(new.value) & OCCUPATIONS
        return why if both and cued else ""
    if old.kind == "time":
        return why if other_time(old.value, new.value) else ""
    if old.kind == "number":
        return ""
    if old.kind == "name":
        return why
    single = old.subject & _SINGLE and not old.prep
    rest = old.prep or len(gone) < len(old.value) or len(come) < len(new.value)
    return why if ((cued and rest) or single) and len(gone) <= 2 and len(come) <= 2 else ""
