"""Whether two values of one frame exclude each other, or can stand beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentmem.language import word_set
from agentmem.reflection.frames import other_time
from agentmem.reflection.statements import Statement
from agentmem.reflection.states import OCCUPATIONS, REGIONS, group_of
from agentmem.reflection.wording import alike, among, any_among, canonical, numbers_in, same_words, within

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


def other_measure(old: Statement, new: Statement) -> bool:
    """Whether two clauses with numbers count or measure different things ("11 euros", "13 seats"; "54 square metres",
    "a terrace of 12 square metres")."""
    a, b = ([w for w in s.value if group_of(w) != "time" or w[:1].isdigit()] for s in (old, new))
    at, to = (next((n for n, w in enumerate(v) if w[:1].isdigit()), None) for v in (a, b))
    if at is None or to is None:
        return False
    unit, other = a[at + 1 : at + 2], b[to + 1 : to + 2]
    if unit and other and not any(w[:1].isdigit() for w in unit + other) and not alike(unit[0], other[0]):
        return True
    first, second = (
        [w for w in v[n + 1 :] if not w[:1].isdigit() and not among(w, s.tail)]
        for v, n, s in ((a, at, old), (b, to, new))
    )
    if not within(first, second) and not within(second, first):
        return True  # "7 spare monitors", "2 spare docking stations"
    return any(not among(w, (*old.value, *old.subject)) for w in b[:to])


_PLACED = frozenset({"at", "in", "on", "with", "by", "under", "through", "via", "as", "to", "for", "from"})


def other_tail(old: Statement, new: Statement, free: frozenset[str]) -> bool:
    """Whether two clauses of one verb say the same up to their last preposition, and then something else ("is insured
    with Vesta", "writes her code in Vim"). `free`: verbs that may have many such tails at once, unless what stands
    between is one certain thing."""
    if old.behind != new.behind or old.behind not in _PLACED or not old.tail or not new.tail:
        return False
    if old.listed or new.listed or old.tail_kind != new.tail_kind or any_among(old.tail, new.tail):
        return False
    heads = [s.value[: len(s.value) - len(s.tail)] for s in (old, new)]
    if max(len(old.tail), len(new.tail)) > 3 or not same_words(*heads) or region(old.tail) != region(new.tail):
        return False
    if old.tail_kind == "time" and not heads[0]:
        return old.entity and new.entity and other_time(old.tail, new.tail)
    if old.verb in free and not (heads[0] and old.definite and new.definite):
        return False
    if old.tail_kind == "time":
        return False
    return old.tail_kind != "number"


def other_number_only(old: Statement, new: Statement) -> bool:
    """Whether two values differ in one number alone ("Postgres 14", "Postgres 16"); 3.10.13 is a 3.10 said closer."""
    if len(old.value) != len(new.value):
        return False
    pairs = [(a, b) for a, b in zip(old.value, new.value, strict=True) if not alike(a, b)]
    return (
        len(pairs) == 1
        and all(w[:1].isdigit() for w in pairs[0])
        and not (pairs[0][1].startswith(pairs[0][0]) or pairs[0][0].startswith(pairs[0][1]))
    )


def other_of_a_kind(old: Statement, new: Statement) -> bool:
    """Whether both name the same sort of thing and then another one: "room Cedar", "room Larch"."""
    a, b = old.value, new.value
    named = "name" == old.kind == new.kind or (numbers_in(a[1:2]) and numbers_in(b[1:2]))
    return (
        bool(named)
        and old.prep == new.prep != ""
        and len(a) == len(b) > 1
        and a[0] == b[0]
        and a[1] != b[1]
        and a[2:] == b[2:]
    )


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
