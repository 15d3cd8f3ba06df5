"""How what one text says relates to what another says: whether the newer takes the older's place.

Careful by design: an older record is retired only when the two are about the same subject, in the same frame, with
values that exclude each other, or when the newer one says in words that what the older states has ceased. What can hold
beside it (a second language, somebody else's job, a plan, a rumour, a trip) retires nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agentmem.language import sentences, stem, word_set
from agentmem.reflection.endings import LOOSE_NOUNS, NOT_NOW, ceased, elsewhere, specific
from agentmem.reflection.frames import (
    SCHOOLS,
    as_state,
    frame_of,
    other_state,
    other_time,
    travelled,
    turned,
    work_place,
)  # fmt: skip
from agentmem.reflection.statements import Statement, read
from agentmem.reflection.states import UNLIMITING, group_of, states_in
from agentmem.reflection.values import (
    amounts_differ,
    attribute,
    kinds_fit,
    only_numbers,
    other_measure,
    other_number_only,
    other_object,
    other_of_a_kind,
    other_tail,
    region,
)
from agentmem.reflection.verbs import ADDITIVE, CHANGES, ONE, TAILS
from agentmem.reflection.wording import (
    alike,
    among,
    any_among,
    numbers_in,
    same_names,
    within,
)


@dataclass(frozen=True, slots=True)
class Relation:
    """What a newer text is to an older one. "updates": the older holds no longer; "same": the newer says nothing else;
    "beside": both hold, as far as rules can tell. `why` names the reason, in words for a person."""

    name: Literal["updates", "same", "beside"]
    why: str = ""


BESIDE = Relation("beside")
_STRONG = word_set(
    "now nowadays anymore instead changed change move moved switched upgraded became become joined replaced renamed "
    "turned correction reopened delayed since downgraded again back"
) | {"these days", "no longer", "rather than", "from now on", "as of", "for good", "by now", "after all"}
"""Words that say that something is another than it was."""
_FREE = ADDITIVE | word_set(
    "have do work go play run come talk speak sing dance travel drive fly deal help walk fall pay swim visit use "
    "subscribe volunteer export import serve deliver ship report apply join get take"
)
"""With these, another place, person or means behind the same preposition says nothing of the first."""


def relation(old: Sequence[Statement], new: Sequence[Statement]) -> Relation:
    """What `new` (the newer record's statements) is to `old`. Symmetric in nothing: time decides who is the newer."""
    readable = [s for s in old if "question" not in s.doubts]
    if not readable or not new:
        return BESIDE
    former = frozenset().union(*(s.former for s in new))
    held = frozenset().union(*(numbers_in(s.value) for s in readable))
    if former and held and not {w.rstrip("stndrh") for w in former} & {w.rstrip("stndrh") for w in held}:
        return BESIDE  # "up from 70" changes what was 70
    if former & frozenset().union(*(s.former for s in readable)):
        return BESIDE  # both tell of the same change
    found = [(s, why) for s in readable if (why := _retired(s, new))]
    if not found:
        return BESIDE
    told = {s.sentence for s, _ in found}
    if any(s.sentence not in told and len(s.value) > 1 for s in readable):
        return BESIDE
    first = min(n for n, s in enumerate(readable) if s is found[0][0])
    if any(s.subject and s.value and s.subject != found[0][0].subject for s in readable[:first]):
        return BESIDE  # what a text says first stands
    others = [s for s in readable if all(s is not f for f, _ in found) and s.sentence in told and _stands_alone(s)]
    return BESIDE if others else Relation("updates", found[0][1])


def _stands_alone(other: Statement) -> bool:
    """Whether a clause says something of its own, which would be lost."""
    return bool(other.subject) and bool(other.value) and other.verb in ONE | {"work", "be"}


def _retired(old: Statement, new: Sequence[Statement]) -> str:
    for s in new:
        if "question" in s.doubts or "reported" in s.doubts:
            continue
        why = ceased(old, s, new) or _swapped(old, s) or _other_value(old, s)
        if why:
            return why
    return ""


def _swapped(old: Statement, new: Statement) -> str:
    """A value to which something changed: what changed is all named in the older record."""
    if old.doubts & {"unreal", "question", "reported", "past"} or old.past or new.negated:
        return ""
    if new.doubts & {"unreal", "bounded", "more", "past", "ahead"} or numbers_in(new.subject) != numbers_in(
        old.subject
    ) & numbers_in(new.words):
        return ""
    if new.verb == "rename" and "after" not in new.value:
        named = [w for w in new.value if not among(w, old.subject)]
        called = old.verb in ("call", "name") or (old.verb == "be" and among("name", old.subject))
        thing = new.value[: len(new.value) - len(new.target)] if new.target else ()
        if (
            called
            and named
            and all(among(w, old.words) for w in thing)
            and within(specific(old.subject), new.words)
            and not any_among(named, old.words)
        ):
            return f"it was renamed {' '.join(named)}"
    if (
        new.verb == "take"
        and new.prep == "over"
        and old.verb in ("lead", "head", "run", "own", "manage", "chair", "be")
    ):
        thing = specific(new.value)
        if thing and within(thing, old.words) and not any_among(new.subject, old.words):
            return f"{' '.join(new.subject)} took it over"
    if old.verb == "prefer" and new.verb == "switch" and len(old.value) == len(new.target) == 1 and not old.context:
        return f"it changed to {new.target[0]}" if same_names(old.subject, new.subject) else ""
    if elsewhere(old, new) or numbers_in(old.subject) - new.words:
        return ""
    if new.verb not in CHANGES or not new.target or (new.verb == "go" and new.prep not in ("up", "down")):
        return ""
    why = f"it changed to {' '.join(new.target)}"
    if (new.passive or new.entity) and same_names(new.subject, old.subject) and old.kind == "name" and new.named:
        other = not within(old.value, new.target) and not within(new.target, old.value)
        return why if _fits_change(old, new) and other else ""
    agents = new.subject if not any_among(new.subject, old.words) else frozenset()
    if agents and (new.passive or not new.value):
        return ""
    own = [w for w in new.subject if w not in agents]
    if any(not among(w, old.words) for w in own) and any(not among(w, new.words) for w in old.subject):
        return ""  # "the Team plan", "the Pro plan"
    rest = own + [w for w in new.value if w not in agents and w not in new.target and group_of(w) != "time"]
    rest = [w for w in rest if not w[:1].isdigit() and w not in LOOSE_NOUNS]
    if not old.subject or not (within(rest, old.words) if rest else same_names(new.subject, old.subject)):
        return ""
    owner = {w for w in old.subject if among(w, new.words)}
    if not owner and not new.passive and not any_among(rest, old.subject):
        return ""
    numbers_old, numbers_new = numbers_in(old.value), numbers_in(new.target)
    units = [w for w in new.target if not w[:1].isdigit() and group_of(w) != "time"]
    if numbers_new and numbers_old and numbers_new != numbers_old and (old.kind == "time") == (new.kind == "time"):
        return why if within(units, old.words) or old.kind == "time" else ""
    if old.kind == new.kind == "time" and not numbers_new and other_time(old.value, new.target):
        return why
    if old.value and new.target and alike(old.value[-1], new.target[-1]) and len(new.target) > 1:
        exclusive = not within(new.target, old.value) and not within(old.value, new.target)
        return why if old.subject == new.subject and exclusive else ""
    return ""


def _fits_change(old: Statement, new: Statement) -> bool:
    """Whether what changed is what the older clause names: a place moves, a name or a thing in use is changed."""
    place = old.prep in ("in", "at", "on") or old.verb in ("host", "store", "moor", "park", "register", "base")
    if new.verb in ("move", "relocate", "shift", "transfer", "push", "bring"):
        return place
    return new.verb in ("change", "switch", "convert", "migrate", "set", "update", "port", "upgrade") and (
        old.verb in ("be", "call", "name", "host", "store", "run", "use") and (not old.prep or old.verb != "be")
    )


def _plain(s: Statement, correcting: bool) -> bool:
    """Whether a clause states something that holds when it is said."""
    doubts = s.doubts - ({"past", "reported", "bounded"} if correcting else set())
    changed = (
        s.verb in ("join", "start", "move", "relocate")
        or (s.verb in ("get", "find") and (s.value[:1] == ("job",) or bool(states_in(frozenset(s.value), False))))
        or (s.passive and bool(states_in(frozenset({stem(s.verb)}), False)))
        or s.verb in ("reopen", "turn", "become")
    )
    return not doubts & NOT_NOW and (correcting or not s.past or changed)


def _other_value(old: Statement, new: Statement) -> str:
    correcting = "correction" in new.cues
    if not (_plain(old, correcting) and _plain(new, correcting)) or "ahead" in new.doubts:
        return ""
    if (
        "today" in new.cues
        and new.verb not in CHANGES | {"start", "join", "turn", "become", "reopen"}
        and not correcting
    ):
        return ""
    if (old.context - UNLIMITING) != (new.context - UNLIMITING):
        return ""
    old, new = as_state(old), as_state(new)
    old, new = turned(old, new)
    if old.opening == new.opening == "there" and amounts_differ(old, new) and bool(new.cues & _STRONG):
        return f"{' '.join(new.value)} instead of {' '.join(old.value)}"
    if not old.subject or not new.subject:
        return ""
    coded = bool(new.subject) and all("_" in w for w in new.subject)
    shorter = (coded or (correcting and len(new.subject) > 1)) and within(new.subject, old.subject)
    if not shorter and not same_names(old.subject, new.subject):
        return ""
    if numbers_in(old.subject) != numbers_in(new.subject):
        return ""
    why = other_state(old, new)
    if why or old.negated or new.negated:
        return why
    if (way := travelled(old)) and (other := travelled(new)) and way[0] == other[0] and way[1] != other[1]:
        return f"by {' '.join(other[1])} instead of {' '.join(way[1])}"
    light = {"be", "get", "take", "have", "receive", "cost", "weigh"}
    same_verb = old.verb == new.verb or bool({old.verb, new.verb} <= light and new.cues & _STRONG)
    if same_verb and amounts_differ(old, new):
        return f"{' '.join(new.value)} instead of {' '.join(old.value)}"
    if new.past and new.passive and old.verb == new.verb and old.kind == new.kind == "time" and not correcting:
        return ""  # once: "was closed on Tuesday"
    if not old.entity and new.behind == "on" and new.tail_kind == "time" and old.kind != "time" and not new.past:
        return ""  # on some days only
    frame_old, frame_new = frame_of(old), frame_of(new)
    if work_place(old) and work_place(new) and (frame_old != frame_new or new.verb in ("join", "start")):
        return f"{' '.join(new.value)} instead of {' '.join(old.value)}" if not any_among(old.value, new.value) else ""
    if (
        (
            old.verb in ("go", "attend")
            and new.verb in ("start", "join")
            and new.named
            and not any_among(old.value, new.value)
        )
        and any_among(old.value, SCHOOLS)
        and any_among(new.value, SCHOOLS)
    ):
        return f"{' '.join(new.value)} instead of {' '.join(old.value)}"
    if frame_old != frame_new:
        return ""
    gone = [v for v in old.value if not among(v, new.value)]
    come = [v for v in new.value if not among(v, old.value)]
    if not gone or not come:
        return ""
    cued = bool(new.cues & _STRONG)
    verb = new.verb
    if old.kind == new.kind == "number" and (not (numbers_in(gone) and numbers_in(come)) or other_measure(old, new)):
        return ""
    if cued and old.kind == new.kind == "time" and old.entity and new.entity and other_time(old.value, new.value):
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    if verb == "prefer" and len(old.value) == len(new.value) == 2 and alike(old.value[-1], new.value[-1]):
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    if verb == "work" and old.prep == "as" and cued and len(new.value) <= 3:
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    if other_number_only(old, new) and verb not in ADDITIVE:
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    if other_of_a_kind(old, new) and verb not in _FREE:
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    if verb != "be" and other_tail(old, new, _FREE):
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    if verb in ADDITIVE and not (old.kind == new.kind == "number" and only_numbers(gone, come)):
        return ""
    if old.kind == new.kind == "number" and only_numbers(gone, come) and numbers_in(gone) and numbers_in(come):
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    if correcting and (len(gone) < len(old.value) or old.kind == new.kind != "words"):
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    if verb in TAILS and old.prep == new.prep == "" and len(gone) < len(old.value) and not other_object(old, new):
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    if verb in ("have", "do", "want", "need", "get") and not cued:
        return ""
    if verb in ("be", "call", "name") and not (new.passive and verb == "be"):
        return attribute(old, new, gone, come, cued)
    if verb in ("lead", "own", "manage", "run", "teach", "maintain", "supervise", "operate") and not (
        new.entity and (new.prep == "by" or verb == "lead")
    ):
        return ""
    if (
        verb in ("go", "attend")
        and any_among(old.value, SCHOOLS)
        and any_among(new.value, SCHOOLS)
        and old.named
        and new.named
    ):
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    if (verb == "work" and old.prep in ("at", "for") and ((old.named and new.named) or cued)) or (
        (verb in ONE or verb in ("lead", "maintain", "supervise", "operate")) and kinds_fit(old, new)
    ):
        if region(gone) != region(come):
            return ""
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    if cued and len(gone) <= 3 and len(come) <= 3 and len(set(old.value) - set(gone)) >= 1:
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    if cued and verb in ("use", "drink", "eat", "wear", "take", "prefer", "drive", "ride", "study"):
        return f"{' '.join(come)} instead of {' '.join(gone)}"
    return ""


def worth_filing(text: str, speaker: str) -> list[str]:
    """The sentences of what a person said that plainly state something that holds, or has just ceased to."""
    out: list[str] = []
    found = read(text, speaker)
    for number, (start, end) in enumerate(sentences(text)):
        here = [s for s in found if s.sentence == number]
        sentence = " ".join(text[start:end].split())
        if here and all(s.subject and not s.doubts for s in here) and any(map(_tells, here)):
            out.append(sentence)
    return out


def _tells(s: Statement) -> bool:
    if not s.value or s.opening in ("it", "that", "this", "there", "he", "she", "they"):
        return False
    if s.gone or s.verb in CHANGES:
        return True
    return not s.past and (s.verb in ONE | ADDITIVE | {"work", "be", "have", "use"})
