"""Rules by which the extractive backend files plain statements of the newest user text. No model, no guessing.

What is looked at: the user's own statements, sentence by sentence, at most 40 words each. What is not: questions,
quoted text, quoted lines (`> ...`), code, conditionals and wishes, and what somebody else is said to have said.
A rule matches at the start of a clause only. Core facts become lines `Slot: value` of the block "human":
a slot with one value (a name, a home) is replaced when another value comes, a slot with many (likes) is appended to.
"Remember that ..." goes into archival memory in the user's own words; whether archival memory has it is not known
here, so only the block's lines make filing twice the same as filing once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agentmem.filing_rules import MANY, RULES, Rule
from agentmem.language import is_question as is_question
from agentmem.language import sentences, words
from agentmem.types import Block

LABEL = "human"
MAX_WORDS = 40


@dataclass(frozen=True, slots=True)
class Filing:
    """One thing to file. `append`: `content` is a new line of block `label`; `replace`: the line `old_content` becomes
    `content`; `archive`: `content` is a passage with `tags`."""

    op: Literal["append", "replace", "archive"]
    content: str
    label: str = ""
    old_content: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """What a rule read: a slot, its value, whether the slot holds one value, whether it says that it ended."""

    slot: str
    value: str
    single: bool = True
    ended: bool = False


_MASK = "\ue000"
_OPPOSITE = {"Likes": "Dislikes", "Dislikes": "Likes"}

_LEAD = re.compile(
    r"(?:(?:hi|hello|hey|well|so|oh|ah|and|also|btw|by\s+the\s+way|actually|anyway|yes|yeah|yep|no|ok|okay|sure|thanks|"
    r"thank\s+you|fyi|just\s+so\s+you\s+know|you\s+know|for\s+the\s+record|as\s+you\s+know|good\s+(?:morning|evening|"
    r"afternoon)|there|everyone|all)\b[\s,!:.–—-]*)*",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"(?:\s*[;,]\s*(?:and\s+|but\s+|so\s+)?|\s+(?:and|but)\s+|\s+[–—-]+\s+)(?=(?:i|i['’]?m|i['’]ve|we|my|call|please|just|"
    r"you\s+can)\s)|\s+and\s+(?=(?:work|live|love|like|hate|prefer|enjoy|am|have\s+an?)\s)",
    re.IGNORECASE,
)
_UNREAL = re.compile(
    r"\b(?:if|when|unless|suppose|supposing|imagine|pretend|assume|assuming|would|could|might|"
    r"(?<!\d )(?-i:may)(?!\s+\d)|maybe|perhaps|wish|"
    r"hypothetically|whether|almost|nearly|let['’]?s\s+say|used\s+to|dream(?:ed|t|s)?\s+(?:that|of|about)|for\s+example|"
    r"in\s+(?:the|my|this)\s+(?:story|game|novel|book|movie|film|play|dream)|role-?play)\b|['’]d\b",
    re.IGNORECASE,
)
_REPORTED = re.compile(
    r"\b(?:said|says?|saying|told|tells?|claims?|claimed|thinks?|thought|believes?|believed|asked|asks?|wrote|writes|"
    r"writing|quotes?|quoted|according\s+to|replied|answered|text|translate|sentence|phrase|lyrics?|heard)\b",
    re.IGNORECASE,
)
_REMEMBER = re.compile(
    r"(?:(?:please|and|also|so|now|can\s+you|kindly)[\s,]+)*(?:remember|don['’]?t\s+forget|do\s+not\s+forget|"
    r"(?:please\s+)?note|keep\s+in\s+mind|bear\s+in\s+mind|make\s+a\s+note|take\s+note)(?P<cue>\s+that\b|\s*[:,]|\s)\s*",
    re.IGNORECASE,
)
_REMEMBER_BARE = re.compile(
    r"(?:my|i|i['’]m|i['’]ve|our|we|we['’]re|the|there|tomorrow|today|next|on|in|at)\b", re.IGNORECASE
)
_FENCE = re.compile(
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`|^[ \t]*>[^\n]*$|^(?: {4}|\t)[^\n]*$", re.DOTALL | re.MULTILINE
)
_QUOTED = re.compile(
    r"(?<=\")[^\"\n]*(?=\")|(?<=“)[^”\n]*|(?<=«)[^»\n]*|(?<=„)[^“”\n]*|(?<=(?<!\w)')[^'\n]*(?='(?!\w))"
)


def _hide(text: str) -> str:
    """The text at the same length, with code, quoted lines and quoted words made unreadable to the rules."""
    for pattern, mark in ((_FENCE, "\n"), (_QUOTED, _MASK)):
        text = pattern.sub(lambda m, mark=mark: mark * len(m.group()), text)  # type: ignore[misc]
    return text


def _fact(rule: Rule, match: re.Match[str], clause: str) -> Fact | None:
    """The fact that a rule's match says, with its value from the text as written."""
    value = rule.keep(clause[match.end() :])
    if not value:
        return None
    groups = match.groupdict()
    slot, single = rule.slot, rule.single
    if kin := groups.get("kin"):
        slot = kin[0].upper() + kin[1:].lower()
        single = kin.lower().split()[-1] not in MANY
    elif of := groups.get("of"):
        slot = "Favourite " + " ".join(of.lower().split())
    return Fact(slot, value, single, rule.ended)


def _clauses(sentence: str) -> list[tuple[int, str]]:
    """Where the clauses of a sentence start, and what to put before one that leaves out its "I"."""
    lead = _LEAD.match(sentence)
    starts = [(lead.end() if lead else 0, "")]
    for m in _CLAUSE.finditer(sentence, starts[0][0]):
        bare = re.match(r"(?:work|live|love|like|hate|prefer|enjoy|am|have)\b", sentence[m.end() :], re.IGNORECASE)
        if not bare:
            starts.append((m.end(), ""))
        elif re.match(r"i\b", sentence[starts[0][0] :], re.IGNORECASE):
            starts.append((m.end(), "I "))
    return starts


def _facts(masked: str, original: str) -> list[Fact]:
    """The facts of one sentence; `masked` is what the rules may read, `original` what is written."""
    if _UNREAL.search(masked) or _REPORTED.search(masked):
        return []
    out: list[Fact] = []
    for start, before in _clauses(masked):
        readable = before + masked[start:]
        for rule in RULES:
            if match := rule.pattern.match(readable):
                fact = _fact(rule, match, before + original[start:])
                if fact is not None:
                    out.append(fact)
                break
        if out and out[-1].slot == "Works as":  # "as a nurse at St Mary's" says both
            at = re.search(r"\swork(?:ing)?\s+as\s+[\w\s-]*?\s(?:at|for)\s+", " " + readable, re.IGNORECASE)
            rule = next(r for r in RULES if r.name == "employer")
            value = rule.keep((" " + before + original[start:])[at.end() :]) if at else ""
            if value:
                out.append(Fact(rule.slot, value))
    return out


def _remembered(masked: str, original: str) -> str:
    """What the sentence asks to remember, in the user's words, or ""."""
    lead = _LEAD.match(masked)
    start = lead.end() if lead else 0
    match = _REMEMBER.match(masked, start)
    if not match:
        return ""
    rest = masked[match.end() :]
    stated = match.group("cue").strip().lower() == "that" or _REMEMBER_BARE.match(rest)
    if not stated and match.group("cue").strip() not in (":", ","):
        return ""
    content = " ".join(original[match.end() :].split()).rstrip(".!").strip()
    return content if len(words(content)) > 1 else ""


def same_text(a: str, b: str) -> bool:
    """Whether two texts differ in case and white space at most."""
    return " ".join(a.casefold().split()) == " ".join(b.casefold().split())


def slot_key(slot: str) -> str:
    """A slot's name for comparing, whichever English it is spelt in."""
    return " ".join(slot.casefold().replace("color", "colour").replace("favorite", "favourite").split())


def _settled(facts: list[Fact]) -> list[Fact]:
    """The facts of a text with later ones overriding earlier ones of the same slot (or the same liking)."""
    out: list[Fact] = []
    for fact in facts:
        kept = []
        for f in out:
            same_slot = slot_key(f.slot) == slot_key(fact.slot)
            again = same_text(f.value, fact.value) and (same_slot or f.slot == _OPPOSITE.get(fact.slot))
            replaced = fact.single and not fact.ended and same_slot
            if not (again or replaced):
                kept.append(f)
        out = [*kept, fact]
    return out


def _line(slot: str, value: str) -> str:
    return f"{slot}: {value}"


def ended_line(fact: Fact) -> str:
    """The line that says that a fact ended."""
    if fact.slot == "Diet":
        return f"No longer {fact.value}"
    return f"No longer {fact.slot[0].lower()}{fact.slot[1:]}: {fact.value}"


def _bare(line: str) -> str:
    """A line without its bullet."""
    return line.strip().lstrip("-*• ")


def _replacement(value: str, line: str, new: str) -> Filing | None:
    """The filing that replaces a line; core memory takes only a text that stands in the block once, so that of a line
    which another one contains gets a line break with it. None where even that is not unique."""
    for left, right in (("", ""), ("", "\n"), ("\n", ""), ("\n", "\n")):
        if value.count(left + line + right) == 1:
            return Filing("replace", left + new + right, LABEL, left + line + right)
    return None


def _compare(fact: Fact, value: str) -> Filing | None:
    """What to do about a fact, given the block's value."""
    lines = [line for line in value.split("\n") if line.strip()]
    parts = [(line, *_bare(line).partition(":")[::2]) for line in lines]
    held = [(line, said) for line, slot, said in parts if said and slot_key(slot) == slot_key(fact.slot)]
    new = _line(fact.slot, fact.value)
    if fact.ended:
        gone = [line for line, said in held if same_text(said, fact.value)]
        return _replacement(value, gone[0], ended_line(fact)) if gone else None
    if any(same_text(said, fact.value) for _, said in held):
        return None
    against = [ended_line(fact)]
    if fact.slot in _OPPOSITE:
        against.append(_line(_OPPOSITE[fact.slot], fact.value))
    old = [held[-1][0]] if fact.single and held else []
    old += [line for line in lines if any(same_text(_bare(line), a) for a in against)]
    return (_replacement(value, old[0], new) if old else None) or Filing("append", new, LABEL)


def own_words(text: str) -> str:
    """A text at the same length with what its writer only repeats made blank: code, quoted lines and words, and
    sentences that say what somebody else said."""
    masked = _hide(text).replace(_MASK, " ")
    for start, end in sentences(masked):
        if _REPORTED.search(masked, start, end):
            masked = masked[:start] + " " * (end - start) + masked[end:]
    return masked


def stated(text: str) -> list[Fact]:
    """The facts that the rules read in a text, in order, a later one in place of an earlier one of its slot; what it
    asks to remember is not among them."""
    masked = _hide(text)
    facts: list[Fact] = []
    for start, end in sentences(masked):
        readable, written = masked[start:end], text[start:end]
        if not is_question(readable) and len(words(readable)) <= MAX_WORDS and not _remembered(readable, written):
            facts += _facts(readable, written)
    return _settled(facts)


def apply_to(value: str, filing: Filing) -> str:
    """A block's value after a filing of core memory."""
    if filing.op == "append":
        return f"{value}\n{filing.content}" if value else filing.content
    return value.replace(filing.old_content, filing.content, 1) if filing.op == "replace" else value


def file_statements(text: str, blocks: Sequence[Block]) -> list[Filing]:
    """What to file from the user's newest text, in order; [] when there is nothing plain to file.

    Applying the filings of the block and asking again gives no more of them.
    """
    block = next((b for b in blocks if b.label == LABEL), None)
    value = block.value if block else ""
    masked = _hide(text)
    facts: list[Fact] = []
    archived: list[Filing] = []
    for start, end in sentences(masked):
        readable, written = masked[start:end], text[start:end]
        if is_question(readable) or len(words(readable)) > MAX_WORDS:
            continue
        content = _remembered(readable, written)
        if not content:
            facts += _facts(readable, written)
        elif not any(same_text(content, _bare(line)) for line in value.split("\n")):
            filing = Filing("archive", content, tags=("remembered",))
            archived += [filing] if filing not in archived else []
    if block is not None and block.read_only:
        return archived
    filed: list[Filing] = []
    for fact in _settled(facts):
        for _ in range(value.count("\n") + 2):  # a line that stands twice is replaced twice
            found = _compare(fact, value)
            if found is None:
                break
            filed.append(found)
            value = apply_to(value, found)
    return filed + archived


def acknowledge(filings: Sequence[Filing]) -> str:
    """One line that tells the user what was filed; "" for nothing."""
    core = []
    for f in filings:
        if f.op != "archive":
            new, old = f.content.strip(), f.old_content.strip()
            core.append(f"{new} (was: {old})" if old else new)
    archived = [f.content for f in filings if f.op == "archive"]
    said = [f"Noted in core memory: {'; '.join(core)}."] if core else []
    return " ".join(said + ([f"Noted in archival memory: {'; '.join(archived)}."] if archived else []))
