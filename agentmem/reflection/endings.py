"""Whether a newer clause says that what an older one states has ceased, or is the opposite.

Names and things must all be the older's: what the newer one ends is looked for in the older's words, its subject must
be meant, and a clause about somebody's relative, a part of the thing or a case of its own ("on staging") ends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentmem.language import word_set
from agentmem.reflection.frames import FRAMES, KIN
from agentmem.reflection.statements import Statement
from agentmem.reflection.states import UNLIMITING
from agentmem.reflection.values import other_measure
from agentmem.reflection.wording import among, any_among, canonical, names_within, numbers_in, same_names, within

NOT_NOW = frozenset({"unreal", "reported", "bounded", "question", "past", "more"})
"""Doubts under which a clause states nothing that holds when it is said."""
LOOSE_NOUNS = frozenset(
    canonical(
        word_set(
            "house home job place flat contract subscription membership plan diet role post team price date "
            "deadline time "
            "number size level amount name address value count last one thing show find test correct right read "
            "family guy person back up down dose"
        )
    )
)


def specific(words: Iterable[str]) -> tuple[str, ...]:
    """The words without those that name many things."""
    return tuple(w for w in words if w not in LOOSE_NOUNS)


def ceased(old: Statement, new: Statement, beside: Sequence[Statement]) -> str:
    """Why the older holds no longer since something ended, "" if it is not said; `beside`: all of the newer text."""
    if new.doubts & {"unreal", "bounded", "ahead", "past"} and "correction" not in new.cues:
        return ""
    if elsewhere(old, new):
        return ""
    everything = frozenset().union(*(s.words for s in beside))
    if _from_this(old, new):
        return f"it was {' '.join(sorted(new.former))}"
    for what in new.gone if not old.negated else ():
        named = specific(what)
        held = frozenset(old.value) | {old.verb}
        mentioned = [w for w in named if among(w, old.words)]
        if numbers_in(named) and numbers_in(old.subject) - everything:
            continue
        if not named or len(mentioned) < len(named) or numbers_in(named) - numbers_in(old.words):
            continue
        if not any(among(w, held) or w in old.subject for w in mentioned):
            continue
        # Said before: it goes on not being so.
        if any(within(named, before) for before in old.gone):
            continue
        if old.past and not any(among(w, held) for w in mentioned):
            continue  # what has ended was founded, born, built all the same
        thing = [w for w in mentioned if not among(w, old.subject)]
        if thing and _aside(old) and within(thing, old.tail):
            continue  # "owes him 200 for the car", "lives in Lyon with a cat"
        if old.listed and not within(old.value, what):
            continue
        if old.verb in ("like", "love", "enjoy") and not (
            among(old.verb, what) or new.cues & {"rather than", "instead"}
        ):
            continue
        if old.prep == "from" and old.verb in ("be", "come") and not new.cues & {"not", "correction"}:
            continue
        if (
            new.negated
            and not new.cues & {"no longer", "anymore", "correction"}
            and FRAMES.get(old.verb, old.verb) != new.verb
        ):
            continue
        if old.value and len(what) > 1 and not any(among(w, old.value) or w in old.subject for w in mentioned):
            continue
        if len(numbers_in(named)) == len(named) and (
            (not new.verb and "correction" not in new.cues) or other_measure(old, new)
        ):
            continue
        if _subject_meant(old, new, everything, named):
            return f"it says that {' '.join(sorted(what))} is no longer so"
    return _flipped(old, new)


def elsewhere(old: Statement, new: Statement) -> bool:
    """Whether the newer speaks of a place, a case or a day of its own ("on staging", "for the socks", "on Sundays")."""
    return any(not among(w, old.words) and w not in UNLIMITING for w in new.context - old.context)


def _from_this(old: Statement, new: Statement) -> bool:
    """Whether it names the older's number as the earlier one, of something that the older names: "has grown from 36
    beds to 44", "costs 58 instead of 49"."""
    if not new.former or not new.former <= numbers_in(old.value) or other_measure(old, new) or new.doubts & NOT_NOW:
        return False
    subject = specific(new.subject) if numbers_in(old.subject) <= numbers_in(new.words) else ()
    return bool(subject) and within(new.subject, old.words) and bool(numbers_in(new.words) - new.former)


def _aside(old: Statement) -> bool:
    """Whether the last phrase of a value only adds to what stands before it."""
    head = len(old.tail) < len(old.value) and old.verb not in ("pay", "rent", "charge", "ask")
    if old.behind in ("for", "after", "before", "near", "about", "behind", "without", "than"):
        return head
    return head and bool(old.prep) and old.behind in ("with", "by", "from")


def _subject_meant(old: Statement, new: Statement, everything: frozenset[str], named: Sequence[str]) -> bool:
    """Whether the newer text is about the older's subject."""
    if new.subject and names_within(new.subject, old.subject):
        return True
    if not names_within(specific(old.subject), everything | frozenset(named)):
        return False
    subject = specific(old.subject)
    strangers = [w for w in new.subject if not among(w, old.words) and not among(w, old.subject)]
    if set(strangers) - numbers_in(strangers) and numbers_in(named):
        return False
    if set(strangers) and new.verb in ("leave", "quit", "resign", "step") and not new.subject <= old.words:
        return False  # one who left ends nobody else's place
    if old.entity and subject and names_within(subject, frozenset(new.value) | frozenset(named)):
        return True
    if not strangers:
        return True
    # Somebody else took over, or a thing took a thing's place.
    if new.negated or new.passive or (old.subject & new.subject and any_among(strangers, KIN)):
        return False
    return new.verb in ("replace", "take", "come", "be", "serve") and bool(
        set(named) & set(old.value) or set(named) & old.subject
    )


def _flipped(old: Statement, new: Statement) -> str:
    """The same with the opposite sign: "can't tolerate lactose", "tolerates lactose again"."""
    if old.negated == new.negated or new.doubts & NOT_NOW or old.doubts & NOT_NOW or new.past or old.past:
        return ""
    if not old.subject or not same_names(old.subject, new.subject) or old.context != new.context:
        return ""
    if old.verb != new.verb:
        return ""
    verb = (old.verb,) if old.verb not in ("be", "have", "do") else ()
    negative, positive = (old, new) if old.negated else (new, old)
    said = [w for w in (*negative.value, *verb) if w not in ("word", "bit")]
    extra = [w for w in positive.value if not among(w, (*negative.value, negative.verb))]
    if extra and (negative.passive or negative.verb == "be"):
        return ""  # "not allowed in the office", "allowed in the yard of the office"
    if said and within(said, (*positive.value, positive.verb)) and (negative.value or not positive.value):
        return "it says the opposite"
    return ""
