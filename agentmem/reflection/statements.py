"""What a short text says, clause by clause: about whom, in which frame, which value, and with which reservations.

Plain patterns of English, no model. What is asked, wished, planned, heard, bounded in time or told of the past is read
as such (`doubts`), and then states nothing that holds now. Pure; never raises on any text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from agentmem.language import is_question, sentences, word_set
from agentmem.reflection.reservations import CORRECTION, CUES, DOUBTS, QUOTED, ended, former_numbers
from agentmem.reflection.verbs import ADVERBS, CHANGES, FORMS, MODALS, SAME
from agentmem.reflection.wording import SHORT, TOKEN, WEEKDAY, canonical, kind_of, spoken_by

MAX_WORDS = 45
MAX_CHARS = 600
"""Longer sentences are not read."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One clause. All words are stems in lower case, numbers are digits.

    `subject`: whom or what it is about ("I" is the speaker); `verb` and `prep`: its frame; `value`: what it says of the
    subject, in order; `gone`: things of which it says that they ceased or never were so; `context`: what it is limited
    to ("on weekdays"); `doubts`: why it may state nothing that holds; `cues`: words of change; `sentence`: its number
    in the text.
    """

    subject: frozenset[str]
    verb: str
    prep: str
    value: tuple[str, ...]
    negated: bool = False
    past: bool = False
    passive: bool = False
    entity: bool = False
    kind: str = "words"
    gone: tuple[frozenset[str], ...] = ()
    context: frozenset[str] = frozenset()
    doubts: frozenset[str] = frozenset()
    cues: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    sentence: int = 0
    opening: str = ""
    target: tuple[str, ...] = ()
    """What stands behind "to": where a change goes."""
    means: tuple[str, ...] = ()
    """What stands behind "by"."""
    named: bool = False
    """Whether there is a name in the value, of no month or day."""
    listed: bool = False
    """Whether the value is several things ("a car and a bike")."""
    definite: bool = False
    """Whether the value begins with "the", "my" or somebody's."""
    tail: tuple[str, ...] = ()
    """What of the value stands behind its last preposition, `behind`."""
    behind: str = ""
    tail_kind: str = "words"
    mine: str = ""
    """The speaker, where the value begins with "my" or "our"."""
    former: frozenset[str] = frozenset()
    """The numbers that it names as the earlier ones."""


_LEAD = re.compile(
    r"(?:(?:hi|hello|hey|well|so|oh|ah|and|but|also|btw|by\s+the\s+way|anyway|yes|yeah|ok|okay|thanks|fyi|guess\s+what|"
    r"for\s+the\s+record|news|update|good\s+news|big\s+news|just\s+so\s+you\s+know|you\s+know|please|note|reminder|"
    r"as\s+you\s+know|sadly|luckily|finally|phew)\b[\s,!:.–—-]*)*",
    re.I,
)
_SPLIT = re.compile(
    r"\s*[;:–—]\s+|\s*,\s*(?:and|but|so|as|since)?\s*(?=(?:i|we|he|she|it|they|my|our|his|her|their|the|he|there)\b)|"
    r"\s+(?:but|because|so|although|though|which|who|where|whereas)\s+|\s+and\s+(?=(?:i|we|he|she|it|they|my|our|is|are|"
    r"has|have|eat|works?|lives?|wants?|holds|leaves|starts|ends|costs|uses|goes|runs|hands|takes|am|does|doesn't|"
    r"don't)\b)|\s+(?:found|showed|shows|confirmed|revealed|means)\s+(?:out\s+)?that\s+|"
    r"\s+since\s+(?=[A-Z]\w+\s+\w+ed\b|\w+\s+lost\b)",
    re.I,
)
_LABEL = re.compile(r"((?:[\w'’-]+\s+){0,6}[\w'’-]+):\s+(\S.*)\Z", re.S)
_PREPS = word_set(
    "in at on to from with for by of as under near into after before about out off up down over through per"
)
_TAIL_PREPS = _PREPS | {
    "against",
    "between",
    "without",
    "within",
    "among",
    "along",
    "across",
    "behind",
    "until",
    "than",
}
_LIMITING = word_set("in at on for with under during throughout")
_PRONOUNS = word_set("he she it they this that these those there")
_DETERMINERS = word_set("the my our his her their its a an this that these those your all each every")
_OWNED = word_set("the my our its his her their")
_GENERIC_ADJECTIVES = word_set(
    "new current weekly monthly daily annual yearly latest actual own usual regular main whole"
)


@lru_cache(maxsize=20_000)
def read(text: str, speaker: str = "") -> tuple[Statement, ...]:
    """The statements of a text; `speaker` is who "I" is (else who stands in front of the text, else "user")."""
    named, said = spoken_by(text)
    who = (speaker or named or "user").lower()
    # A quoted word or two is a name (the magazine "Tidal"); what is longer somebody else says.
    said = QUOTED.sub(lambda m: f" {m.group()[1:-1]} " if 0 < len(m.group().split()) <= 2 else " … ", said)
    out: list[Statement] = []
    for number, (start, end) in enumerate(sentences(said)):
        sentence = said[start:end]
        asked = is_question(sentence)
        if len(sentence.split()) <= MAX_WORDS and len(sentence) <= MAX_CHARS:
            out += _sentence(sentence, who, number, asked, out[-1].subject if out else frozenset())
    return tuple(out)


def _sentence(text: str, who: str, number: int, asked: bool, earlier: frozenset[str]) -> list[Statement]:
    doubts = {name for name, pattern in DOUBTS.items() if pattern.search(text)}
    if asked:
        doubts.add("question")
    cues = {" ".join(m.split()).lower() for m in CUES.findall(text)}
    if cues & {"any more", "any longer", "anymore"}:
        cues.add("anymore")
    if CORRECTION.search(text):
        cues.add("correction")
    for pattern, instead in SHORT:
        text = pattern.sub(instead, text)
    lead = _LEAD.match(text)
    text = text[lead.end() if lead else 0 :]
    out: list[Statement] = []
    everything = frozenset(canonical(TOKEN.findall(text)))
    labelled = _LABEL.match(text)
    if labelled and not CORRECTION.search(labelled.group(1)):
        head = [t for t in TOKEN.findall(labelled.group(1)) if t not in ',()"“”']
        if head and _verb_at(head, [t.lower() for t in head], False) is None:
            text = f"{labelled.group(1)} is {labelled.group(2)}"
    front: frozenset[str] = frozenset()
    for piece in _SPLIT.split(text):
        tokens = [t for t in TOKEN.findall(piece) if t not in ',()"“”']
        if len(tokens) < 1:
            continue
        found = _clause(tokens, who, out[-1].subject if out else earlier, bool(out))
        gone = ended(tokens)
        if found is None and not out and tokens[0].lower() in _LIMITING:
            front = _limits(tokens[1:])  # "For the windows, the budget is 300"
        if tokens[0].lower() == "not" and out and out[-1].gone:
            gone = ()  # "sold the bar, but not the café"
        if found is None and not gone:
            continue
        base = found or Statement(frozenset(), "", "", ())
        own = {name for name in doubts if name == "question" or DOUBTS[name].search(piece)}
        # What is said in front of all clauses ("If ...") or of the whole, counts for all of them.
        own |= doubts & {"unreal", "bounded", "past"} if not gone else set()
        out.append(
            Statement(
                base.subject, base.verb, base.prep, base.value, base.negated, base.past, base.passive, base.entity,
                base.kind, gone, base.context | front, frozenset(own), frozenset(cues), everything | base.subject,
                number, tokens[0].lower(), base.target, base.means, base.named, base.listed, base.definite, base.tail,
                base.behind, base.tail_kind, base.mine,
                former_numbers(tokens, base.verb in CHANGES or base.verb in ("be", "have")),
            )
        )  # fmt: skip
    return out


def _limits(tokens: list[str]) -> frozenset[str]:
    """What a clause is limited to: the words in front of it ("on Sundays", "in production"), numbers aside."""
    found = frozenset(c for c in canonical(tokens) if not c[:1].isdigit())
    return frozenset() if "reason" in found else found


def _clause(tokens: list[str], who: str, earlier: frozenset[str], later: bool) -> Statement | None:
    low = [t.lower() for t in tokens]
    at = _verb_at(tokens, low, later)
    if at is None:
        return None
    context: list[str] = []
    begin = 0
    if (low[0] in _PREPS and low[0] != "to") or low[0] in ("during", "since", "throughout", "to"):
        begin = _subject_start(tokens, low, at)
        context = [] if low[0] in ("since", "as", "from", "by", "after") else tokens[1:begin]
    subject_tokens = tokens[begin:at]
    subject, entity = _subject(subject_tokens, who, earlier)
    if not subject and subject_tokens[:1] and subject_tokens[0].lower() not in ("there", "it", "they", "someone"):
        return None
    if FORMS.get(low[at], ("", ""))[1] == "base" and low[at - 1] not in ("i", "we", "they", "you", *ADVERBS):
        entity = True  # a plural: "Applications close on Friday"
    past = passive = False
    negated = low[max(at - 2, 0) : at] == ["no", "longer"] or low[at - 1 : at] == ["never"]
    n = at
    verb = ""
    while n < len(low):
        word = low[n]
        verb_form = FORMS.get(word)
        if word in ("not", "never") or (word == "no" and (verb == "have" or low[n + 1 : n + 2] == ["longer"])):
            negated = True
        elif verb == "have" and word == "to":
            verb = ""
        elif word in MODALS or word in ADVERBS or (word in ("do", "does", "did") and verb_form and n + 1 < len(low)):
            past = past or word == "did"
        elif verb_form is not None and (
            not verb or verb in ("be", "have") or (verb == "get" and verb_form[1] == "past" and word not in SAME)
        ):
            bare = verb_form[1] == "base" and word not in SAME and not (verb == "have" and word in ("become", "come"))
            if (verb == "be" and bare) or (verb == "have" and (bare or verb_form[1] in ("s", "ing"))):
                break
            passive = verb in ("be", "get") and verb_form[0] != "be"
            past = past or (verb_form[1] == "past" and verb == "")
            verb = verb_form[0]
        else:
            break
        n += 1
    if not verb:
        return None
    rest = tokens[n:]
    prep = low[n] if n < len(low) and low[n] in _PREPS else ""
    value = canonical(rest)
    by = next((m for m in range(len(rest)) if rest[m].lower() == "by"), None)
    last = next((m for m in range(len(rest) - 1, -1, -1) if rest[m].lower() in _TAIL_PREPS), None)
    tail = [] if last is None else rest[last + 1 :]
    to = next((m for m in range(len(rest) - 1, -1, -1) if rest[m].lower() in ("to", "into")), None)
    return Statement(
        subject, verb, prep, value, negated, past, passive, entity, kind_of(rest), (),
        _limits(context),
        target=() if to is None else canonical(rest[to + 1 :]),
        means=() if by is None else canonical(rest[by + 1 : by + 3]),
        named=any(t[:1].isupper() and not WEEKDAY.fullmatch(t) for t in rest) or kind_of(rest) == "name",
        listed=any(t.lower() in ("and", "or") for t in rest[1:]),
        definite=bool(rest) and (rest[0].lower() in _OWNED or rest[0].endswith(("'s", "’s", "s'"))),
        tail=canonical(tail),
        behind="" if last is None else rest[last].lower(),
        tail_kind=kind_of(tail),
        mine=who if rest[:1] and rest[0].lower() in ("my", "our") else "",
    )  # fmt: skip


def _verb_at(tokens: list[str], low: list[str], later: bool) -> int | None:
    """Where the first finite verb stands; a word that can be a noun gives way to one that can't, close behind it."""
    if not low:
        return None
    person = low[0] in ("i", "we", "they", "you")
    for n, word in enumerate(low):
        form = FORMS.get(word)
        sure = word in ("is", "are", "was", "were", "am", "has", "had", "does", "did", "do", "have") or word in MODALS
        if sure:
            return n
        if form is None or (n == 0 and not later and form[1] != "past"):
            continue
        before = low[n - 1] if n else ""
        if before in _DETERMINERS or before in _PREPS or (tokens[n][:1].isupper() and n > 0):
            continue
        if form[1] == "ing" or (
            form[1] == "base" and n and word not in SAME and not (person or before.endswith("s") or before in ADVERBS)
        ):
            continue
        behind = next(
            (m for m in range(n + 1, min(n + 4, len(low))) if low[m] in ("is", "are", "was", "has", "will")), None
        )
        if behind is not None and not any(low[m] in _PREPS or low[m] in _DETERMINERS for m in range(n + 1, behind)):
            return behind
        return n
    return None


def _subject_start(tokens: list[str], low: list[str], verb: int) -> int:
    n = verb - 1
    while n > 0 and low[n] not in _DETERMINERS and low[n] not in _PRONOUNS | {"i", "we"}:
        if tokens[n][:1].isupper() and not tokens[n - 1][:1].isupper():
            break
        n -= 1
    return max(n, 0) if n else verb


def _subject(tokens: list[str], who: str, earlier: frozenset[str]) -> tuple[frozenset[str], bool]:
    """Whom a clause is about, and whether that is a thing ("the X", "Anna's X") rather than a person."""
    if not tokens:
        return earlier, False
    low = [t.lower() for t in tokens if t.lower() not in ADVERBS or t.lower() in ("all", "each", "both")]
    if not low:
        return earlier, False
    if low[0] in ("i", "we", "me") and len(low) == 1:
        return frozenset({who}), False
    if low[0] in ("it", "he", "she", "they", "that", "this") and len(low) == 1:
        return earlier, False
    mine = low[0] in ("my", "mine")
    kept = [t for t in tokens if t.lower() not in _GENERIC_ADJECTIVES]
    found = set(canonical(kept))
    if mine and found:
        found.add(who)
    if len(canonical(kept)) > len(set(canonical(kept))):
        found.add("'s")  # "my boss's boss"
    entity = (
        low[0] in _DETERMINERS
        or any(t.endswith(("'s", "’s", "s'", "s’")) for t in tokens)
        or not tokens[0][:1].isupper()
        or (len(tokens) > 1 and tokens[-1][:1].islower())
    )
    return frozenset(found), entity or len(tokens) > 2
