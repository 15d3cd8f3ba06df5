"""Statements that say the same sort of thing in other words, brought to one frame: "moved to Porto" is a home, "Lee is
the head of sales" and "the head of sales is Lee" are one, and so are the states that a thing can be in."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from agentmem.language import stem, word_set
from agentmem.reflection.statements import Statement
from agentmem.reflection.states import MONTH_STEMS, group_of, states_in
from agentmem.reflection.wording import among, any_among, canonical, same_names, within

FRAMES = {
    "reside": "live",
    "turn": "be",
    "become": "be",
    "read": "be",
    "begin": "start",
    "name": "be",
    "call": "be",
    "commence": "start",
}


def as_state(s: Statement) -> Statement:
    """ "moved to Porto" as "lives in Porto", "turned three on Friday" as "is three", "Anna's employer is Bosch" as
    "Anna works at Bosch"."""
    if s.verb == "turn" and s.value and s.value[0].isdigit():
        return replace(s, verb="be", value=s.value[:1], kind="number")
    if s.verb == "be" and "employer" in s.subject and len(s.subject) > 1 and s.kind == "name":
        return replace(s, verb="work", prep="at", subject=s.subject - {"employer"}, entity=False, named=True)
    if (
        s.verb not in ("move", "relocate")
        or s.entity
        or s.passive
        or s.prep not in ("to", "into", "back", "from")
        or not s.target
    ):
        return s
    value = tuple(w for w in s.target if group_of(w) != "time" and not w[:1].isdigit() and w not in ("last", "next"))
    return replace(s, verb="live", prep="in", value=value, kind="name" if s.named else "words")


SCHOOLS = frozenset(
    canonical(word_set("school primary secondary high kindergarten university college academy gymnasium nursery"))
)
KIN = frozenset(
    canonical(
        word_set(
            "sister brother son daughter friend cousin aunt uncle colleague member author player neighbour fan "
            "child parent "
            "grandson granddaughter nephew niece twin owner wife husband mother father mum mom mam dad girlfriend "
            "boyfriend "
            "partner grandmother grandfather gran granny grandma grandpa flatmate roommate boss neighbor kid baby"
        )
    )
)
_CLUBS = frozenset(
    canonical(
        word_set(
            "club choir team band gym party church union association board league class course group council committee "
            "society crew orchestra council navy army meeting call"
        )
    )
)


def work_place(s: Statement) -> bool:
    """Whether a clause names where somebody works (or begins to)."""
    if s.entity or not s.value or not s.named or any_among(s.value, _CLUBS):
        return False
    if (s.verb == "start" and s.prep == "at") or (s.verb == "get" and s.value[0] == "job" and len(s.value) > 1):
        return True
    return (
        (s.verb == "work" and s.prep in ("at", "for"))
        or (s.verb == "join" and not s.prep)
        or ((s.verb == "employ" or s.verb == "hire") and s.prep in ("by", "at"))
    )


_LEADING = (
    *("lead", "head", "run", "own", "manage", "chair", "maintain", "supervise", "operate"),
    *("captain", "coach", "conduct", "edit", "direct"),
)


def turned(old: Statement, new: Statement) -> tuple[Statement, Statement]:
    """With "Jean-Luc is the chef" read as "the chef is Jean-Luc" where the other one says it so, and "Fiona leads the
    team" where two people lead one."""
    if old.verb == new.verb == "be" and not same_names(old.subject, new.subject):
        if new.value and same_names(old.subject, new.value):
            return old, replace(new, subject=frozenset(new.value), value=tuple(new.subject), entity=True, kind="name")
        if old.value and same_names(new.subject, old.value):
            return replace(old, subject=frozenset(old.value), value=tuple(old.subject), entity=True, kind="name"), new
    if old.verb == new.verb == "be" and new.mine in old.subject and same_names(old.subject, {*new.value, new.mine}):
        return old, replace(new, subject=old.subject, value=tuple(new.subject), entity=True, kind="name")
    if old.verb == new.verb == "be" and old.mine in new.subject and same_names(new.subject, {*old.value, old.mine}):
        return replace(old, subject=new.subject, value=tuple(old.subject), entity=True, kind="name"), new
    one_thing = bool(old.value) and old.verb == new.verb and same_names(old.value, new.value)
    if not one_thing or any_among(old.subject, new.subject):
        return old, new
    if old.verb == "be" and old.definite and new.definite and not (old.entity or new.entity):
        return (old, new) if any_among(old.value, KIN) else (_inverse(old, "be"), _inverse(new, "be"))
    if old.definite and new.definite and old.verb in _LEADING:
        return _inverse(old, "lead"), _inverse(new, "lead")
    return old, new


def _inverse(s: Statement, verb: str) -> Statement:
    """ "Kim leads the team" as "the team is led by Kim"."""
    return replace(s, subject=frozenset(s.value), value=tuple(s.subject), verb=verb, kind="name", entity=True)


def frame_of(s: Statement) -> str:
    """The frame of a statement: its verb and what follows it, synonyms as one."""
    verb = FRAMES.get(s.verb, s.verb)
    if verb == "be":
        return "be"
    prep = {"for": "at", "until": "to"}.get(s.prep, s.prep) if verb == "work" else s.prep
    return f"{verb} {'in' if prep in ('in', 'at', 'on') else prep}"


def travelled(s: Statement) -> tuple[frozenset[str], frozenset[str]] | None:
    """Where to and how, of a way that somebody goes."""
    if not s.target or s.verb not in (
        "go",
        "travel",
        "commute",
        "cycle",
        "walk",
        "drive",
        "bike",
        "get",
        "take",
        "ride",
        "come",
    ):
        return None
    if s.verb in ("cycle", "walk", "bike") or (s.verb == "drive" and s.value == s.target):
        return frozenset(s.target), frozenset({s.verb})
    where = frozenset(s.target) - frozenset(s.means)
    how = frozenset(s.means[:1]) or (frozenset(s.value) - where if s.verb in ("take", "ride", "drive") else frozenset())
    return (where, how) if where and how else None


def other_state(old: Statement, new: Statement) -> str:
    """Two states of one group: open and closed, single and engaged."""
    a, b = states_of(old), states_of(new)
    for group, (state, ways) in a.items():
        if group not in b or b[group][0] == state:
            continue
        if group == "marriage" and "in" in (old.prep, new.prep):
            continue
        if new.verb == "reopen":
            return "it is open again"
        left = [w for w in old.value if w not in ways]
        right = [w for w in new.value if w not in b[group][1]]
        if any(group_of(w) == "time" and not among(w, right) for w in left):
            continue
        if not new.past and any(group_of(w) == "time" and not among(w, left) for w in right):
            continue
        # "closed on Mondays" is contradicted by "open on Mondays" alone.
        left = [] if old.prep == "for" and "again" in new.cues else left
        strict = group in ("access", "allowed", "must", "paid", "direction") or state in ("open", "closed")
        if strict and left and not within(left, right):
            continue
        if group in ("access", "ticket") and new.behind in ("to", "for") and not within(new.tail, old.words):
            continue  # "open to pedestrians"
        if group == "allowed" and any(not among(w, left) and group_of(w) != "time" for w in right):
            continue  # "forbidden in the office", "allowed in the yard of the office"
        return f"it is {b[group][0]}, no longer {state}"
    return ""


def _states_of_verb(s: Statement) -> frozenset[str]:
    return frozenset({"done" if s.verb == "do" else stem(s.verb)})


def states_of(s: Statement) -> dict[str, tuple[str, frozenset[str]]]:
    """Of each group of states that a clause speaks of: the state, and the words that say so."""
    if s.passive or s.verb in ("reopen", "die", "heal", "recover", "hurt"):
        return states_in(_states_of_verb(s) | frozenset(s.value), s.negated)
    if s.verb == "be" and s.prep in ("on", "off") and not s.value:
        return {"switch": (s.prep, frozenset())}
    if s.verb == "eat" and "meat" in s.value and not s.negated:
        return {"diet": ("meat", frozenset({"meat"}))}
    if s.verb in ("get", "find") and s.value[:1] == ("job",):
        return {"work": ("employed", frozenset(s.value))}
    if s.verb in ("start", "join", "work") and not s.entity and (s.prep in ("as", "at", "for") or s.verb == "join"):
        return {"work": ("employed", frozenset(s.value))}
    return states_in(frozenset(s.value), s.negated) if s.verb in ("be", "become", "get", "stay", "remain") else {}


def other_time(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether two times exclude each other: a weekday another weekday, an hour another hour; not a day an hour."""
    if clock_in(old) and clock_in(new) and bool(_weekday(old)) != bool(_weekday(new)):
        return False  # "at 8:00", "at 9:00 on Sundays"
    if ("until" in old) != ("until" in new):
        return False
    for grain in (clock_in, _weekday, _date):
        a, b = grain(old), grain(new)
        if a and b and a != b:
            return True
    return False


def clock_in(words: Sequence[str]) -> frozenset[str]:
    """The times of day."""
    found = {w for w in words if w[:1].isdigit() and (":" in w or w.endswith(("am", "pm")))}
    return frozenset(found | {f"{a}{b}" for a, b in itertools.pairwise(words) if a.isdigit() and b in ("am", "pm")})


def _weekday(words: Sequence[str]) -> frozenset[str]:
    return frozenset(w for w in words if w.endswith(("dai", "day")))


def _date(words: Sequence[str]) -> frozenset[str]:
    months = {w for w in words if w in MONTH_STEMS}
    days = (
        {w for w in words if w.rstrip("stndrh").isdigit() and len(w) < 5}
        if months or any(not w.isdigit() and w[:1].isdigit() and ":" not in w for w in words)
        else set()
    )
    return frozenset(months | days)
