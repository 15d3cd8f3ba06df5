"""States of which a thing is in one at a time (open or closed, single or married), and other small classes of words."""

from __future__ import annotations

from agentmem.language import stem, word_set

_STATES = {
    "access": "open: open, reopen; closed: closed, close, shut",
    "ticket": "open: open; in progress: in-progress, progress; in review: review; blocked: blocked; done: done, "
    "resolved, fixed, finished, completed, complete; closed: closed; cancelled: cancelled; on hold: hold; "
    "approved: approved, granted; rejected: rejected; pending: pending; draft: draft; published: published; "
    "planned: planned; shipped: shipped; merged: merged; live: live; archived: archived",
    "switch": "on: enabled, enable, active, activated; off: disabled, disable, inactive, deactivated",
    "works": "broken: broken, order, defective, down; working: working, fixed, repaired, running, operational",
    "stock": "sold out: sold, unavailable; in stock: stock, available",
    "marriage": "single: single; dating: dating; engaged: engaged; married: married; divorced: divorced; "
    "widowed: widowed; separated: separated",
    "work": "unemployed: unemployed, jobless; employed: employed",
    "allowed": "no: forbidden, banned, prohibited; yes: allowed, welcome, permitted",
    "health": "ill: ill, sick, injured, sore, unwell, hurt; well: healthy, well, recovered, healed, fine",
    "fullness": "full: full; empty: empty",
    "paid": "unpaid: unpaid, overdue, outstanding; paid: paid",
    "post": "vacant: vacant; filled: filled, taken",
    "light": "public: public; private: private",
    "life": "alive: alive; dead: dead, died",
    "must": "mandatory: mandatory, compulsory, obligatory, required; optional: optional, voluntary",
    "lock": "locked: locked; unlocked: unlocked",
    "line": "online: online; offline: offline",
    "diet": "vegetarian: vegetarian; vegan: vegan; meat: omnivore; pescatarian: pescatarian",
    "hours": "full-time: full-time; part-time: part-time",
    "direction": "two-way: two-way; one-way: one-way",
}


def _ways(spaced: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset({stem(w)}) for w in spaced.replace(",", " ").split())


STATES = {
    group: {name.strip(): _ways(ways) for name, ways in (part.split(":") for part in parts.split(";"))}
    for group, parts in _STATES.items()
}
"""Group -> state -> the sets of stems that say so."""
_TIME = frozenset(
    stem(w)
    for w in word_set(
        "monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays "
        "saturdays "
        "sundays january february march april may june july august september october november december spring summer "
        "autumn winter week weeks month months year years day days yesterday tomorrow today morning mornings evening "
        "night weekday weekdays am pm noon midnight arrival arrivals half-term"
    )
)


MONTH_STEMS = frozenset(
    stem(w) for w in word_set("january february march april may june july august september october november december")
)
"""Stems of the months."""
UNLIMITING = MONTH_STEMS | frozenset(
    stem(w)
    for w in word_set(
        "year month week last past beginning begin start end middle spring summer autumn winter yesterday today "
        "meantime meanwhile time first second third fourth early late course check-up practice fact reason result news "
        "appointment test check visit meeting request update wedding divorce move"
    )
)
"""Stems of what stands in front of a clause and says when, or why, it came so: no limit to what it says."""


def group_of(word: str) -> str:
    """ "time" for a stem of a word of the calendar or the clock, "" for others."""
    return "time" if word in _TIME or (word[:1].isdigit() and ":" in word) else ""


REGIONS = frozenset(
    stem(w)
    for w in word_set(
        "portugal spain france germany italy austria switzerland belgium netherlands holland luxembourg england "
        "scotland "
        "wales ireland britain uk norway sweden denmark finland iceland poland czechia hungary romania bulgaria greece "
        "turkey russia ukraine serbia croatia slovenia slovakia estonia latvia lithuania usa america canada "
        "mexico brazil "
        "argentina chile peru colombia japan china india korea taiwan vietnam thailand indonesia malaysia philippines "
        "australia egypt morocco tunisia algeria nigeria kenya ghana ethiopia israel lebanon iran iraq pakistan "
        "bangladesh europe asia africa california texas bavaria saxony tuscany sicily brittany normandy catalonia "
        "andalusia ontario quebec florida oregon countryside suburbs city town village abroad"
    )
)
"""Stems of names of countries and other wide places: a town within one is no contradiction."""
OCCUPATIONS = frozenset(
    stem(w)
    for w in word_set(
        "nurse doctor teacher engineer carpenter plumber electrician lawyer judge baker chef cook waiter "
        "waitress barista "
        "driver pilot farmer gardener painter writer journalist editor photographer designer architect developer "
        "programmer analyst accountant consultant manager director secretary assistant clerk cashier librarian dentist "
        "vet pharmacist therapist psychologist physiotherapist paramedic firefighter policeman soldier student "
        "apprentice intern trainee professor lecturer researcher scientist translator interpreter actor actress singer "
        "musician dancer model tailor butcher florist hairdresser barber mechanic technician builder bricklayer roofer "
        "carpenter welder guide salesman realtor banker broker trader lead supervisor foreman headmaster headmistress "
        "principal deputy chairwoman chairman president ceo cto cfo captain coach trainer referee freelancer "
        "contractor"
    )
)
"""Stems of what people do for a living."""


def states_in(words: frozenset[str], negated: bool) -> dict[str, tuple[str, frozenset[str]]]:
    """Of each group that has a word here: the state (the other one, where a pair is negated) and its words."""
    out: dict[str, tuple[str, frozenset[str]]] = {}
    for group, states in STATES.items():
        found = [(name, way) for name, ways in states.items() for way in ways if way <= words]
        if len({name for name, _ in found}) != 1:
            continue
        name, way = found[0]
        if negated:
            others = [other for other in states if other != name]
            if len(others) != 1:
                continue
            name = others[0]
        out[group] = (name, way)
    return out
