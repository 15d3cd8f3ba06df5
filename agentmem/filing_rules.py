"""The table of statements that filing understands: a pattern at a clause's start, a slot, and how its value is written.

A value function takes the text after the match and returns the value to write, or "" to file nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from agentmem.language import word_set, words


@dataclass(frozen=True, slots=True)
class Rule:
    """A readable rule: `pattern` at a clause's start; `read` turns the match (and the value's text) into a fact."""

    name: str
    pattern: re.Pattern[str]
    slot: str
    keep: Callable[[str], str]
    single: bool = True
    ended: bool = False


# --- what a value may be; each returns the value to write, or "" to file nothing ---------------------------------

_BORDER = re.compile(
    r"[.;!?,:()\n]|\s[-–—]+\s|[\U0001f000-\U0001faff\u2600-\u27bf]|\s(?:but|because|since|though|although|so|while|where|"
    r"which|who|and\s+(?:i|i'm|i've|my|we|it|he|she|they|the|that|you|so|then|also|now|work|live|love|like|hate|have|am)"
    r")\b|\s(?:and|or)\s*$",
    re.IGNORECASE,
)
_WHEN = re.compile(
    r"\s(?:(?:last|this|next|every|just|right)\s|(?:in|since|for|from|until|about|around)\s+(?:the\s+)?(?:\d|a\s|an\s|"
    r"(?:january|february|march|april|may|june|july|august|september|october|november|december|spring|summer|autumn|fall|"
    r"winter|two|three|four|five|six|past|last|few|many)\b)|(?:a|an|one|two|three|four|five|six|\d+)\s+(?:few\s+)?"
    r"(?:day|week|month|year)s?\s+ago|now\b|nowadays\b|today\b|yesterday\b|recently\b|currently\b|already\b|ago\b|"
    r"these\s+days|at\s+the\s+moment|with\s+my\b|too\s*$|again\b|anymore\b|as\s+well\b)",
    re.IGNORECASE,
)
_NO_START = re.compile(
    r"(?:not|no|never|it|its|it's|that|this|those|these|you|your|him|her|his|them|their|how|what|when|where|why|who|"
    r"whatever|my|mine|me|us|our|being\s+asked|one|ones|something|nothing|anything|everything|all|so|just|to\s+be|to\s+"
    r"(?:think|know|see|say|hear|tell|ask|have|get|go|make|let|imagine|believe)\b.*|the\s+(?:way|idea|fact|thought|look|"
    r"sound|one|ones|same|first|second|last|other|latter|former)|(?:an?\s+)?(?:lot|bit|secret|mystery|joke|good|bad|"
    r"great|hard|difficult|unclear|unknown|important|irrelevant|on|in|at))\b",
    re.IGNORECASE,
)
_NOT_NAMES = word_set(
    "a an the not now later back when if ok okay crazy mad old tomorrow today tonight asap soon maybe and or so "
    "too here there never always hard unknown none private secret important irrelevant on in at by to of for"
)


def _value(text: str, max_words: int) -> str:
    cut = _BORDER.search(text)
    text = text[: cut.start()] if cut else text
    text = " ".join(text.split()).strip("\"'“”‘’*_` ")
    return text if 0 < len(words(text)) <= max_words else ""


def _without_time(text: str) -> str:
    cut = _WHEN.search(text)
    return (text[: cut.start()] if cut else text).strip()


def _name(text: str) -> str:
    found = re.match(
        r"\s*[\"“']?((?:(?:Dr|Mr|Mrs|Ms|Prof)\.\s+)?[A-ZÀ-Þ][\w'’-]*(?:\s+(?:van|von|de|da|di|del|la|le|bin|al|[A-ZÀ-Þ][\w.'’-]*)){0,4})",
        text,
    )
    if found:
        value = re.sub(r"(?:\s+(?:van|von|de|da|di|del|la|le|bin|al))+$", "", found.group(1)).rstrip(".'’-")
        return value if value.lower() not in _NOT_NAMES else ""
    value = _value(text, 1)
    return value.capitalize() if value.isalpha() and value.lower() not in _NOT_NAMES else ""


_WIDER = re.compile(r"\s*([A-ZÀ-Þ][^\W\d_]+(?:[ -][A-ZÀ-Þ][^\W\d_]+)*,\s+[A-ZÀ-Þ][^\W\d_]{3,})\s*(?=[.;!?,\n]|$)")


def _place(text: str) -> str:
    value = _without_time(_value(text, 12))
    if wider := _WIDER.match(text):  # "Lisbon, Portugal"
        value = " ".join(wider.group(1).split())
    value = re.split(r"\s(?:with|near\s+(?:my|the\s+end)|and)\b", value)[0]
    if not value or len(words(value)) > 7:
        return ""
    if any(c.isupper() for c in value) and not _NO_START.match(value):
        return value
    plain = len(words(value)) == 1 and value.isalpha() and value.lower() not in _NOT_PLACES
    return (
        value if plain or re.match(r"an?\s.*\b(?:town|village|city|suburb|farm|flat|house|apartment)\b", value) else ""
    )


_NOT_PLACES = _NOT_NAMES | word_set(
    "fear hope denial peace poverty silence pain sin harmony comfort present past future moment dread shame "
    "luxury bed work management marketing sales it"
)


def _work(text: str) -> str:
    value = _without_time(_value(re.sub(r"^(?:being\s+)?(?:an?|the)\s+", "", text.lstrip(), flags=re.I), 14))
    value = re.split(r"\s(?:at|for|with)\s", value)[0]
    return "" if _NO_START.match(value) or len(words(value)) > 6 else value


def _employer(text: str) -> str:
    value = re.split(r"\s(?:as|with)\s", _without_time(_value(text, 14)))[0]
    named = any(c.isupper() for c in value) or re.match(r"(?:an?|the)\s+\w+", value)
    vague = re.match(
        r"(?:a\s+living|the\s+(?:moment|weekend|time|best|money)|an?\s+(?:while|bit|long|few|time))", value, re.I
    )
    return value if named and not vague and len(words(value)) <= 7 and not _NO_START.match(value) else ""


def _date(text: str) -> str:
    month = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
    day = r"\d{1,2}(?:st|nd|rd|th)?"
    shape = (
        rf"\d{{4}}-\d\d-\d\d|{day}\s+(?:of\s+)?{month}(?:,?\s+\d{{4}})?|{month}\s+(?:the\s+)?{day}(?:,?\s+\d{{4}})?|"
        rf"{month}\s+\d{{4}}|\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}|\d{{4}}\b"
    )
    found = re.match(rf"\s*(?:on\s+|in\s+)?(?:the\s+)?({shape})", text, re.IGNORECASE)
    return found.group(1).rstrip(".") if found else ""


def _number(text: str) -> str:
    found = re.match(r"\s*(\d{1,3})\b", text)
    return found.group(1) if found and 0 < int(found.group(1)) < 130 else ""


def _thing(text: str) -> str:
    value = _value(text, 8)
    value = re.sub(r"\s+(?:a\s+lot|very\s+much|so\s+much|too|as\s+well|the\s+most)$", "", value)
    return "" if not value or _NO_START.match(value) else value


def _short(text: str) -> str:
    value = re.sub(r"^(?:the\s+taste\s+of|eating)\s+", "", _thing(text))
    inside = re.search(r"\b(?:you|your|him|her|them|this|that|how|when|i|i'm|it)\b", value, re.IGNORECASE)
    return "" if inside or len(words(value)) > 5 else value


def _diet(text: str) -> str:
    return next(iter(words(text)), "").lower()


def _email(text: str) -> str:
    found = re.match(r"\s*([\w.+-]+@[\w-]+(?:\.[\w-]+)+)", text)
    return found.group(1) if found else ""


def _phone(text: str) -> str:
    found = re.match(r"\s*(\+?[\d(][\d ()./-]{4,20}\d)", text)
    return found.group(1) if found else ""


def _address(text: str) -> str:
    found = re.match(r"\s*([^.;!?\n]{5,90})", text)
    value = re.split(r"\s(?:and|but)\s+(?:i|my|it)\b", " ".join(found.group(1).split()))[0].strip(" ,") if found else ""
    return value if any(c.isdigit() for c in value) and not _NO_START.match(value) else ""


# --- the table ---------------------------------------------------------------------------------------------------

_I = r"(?:i|we)"
_AM = r"(?:i\s+am|i['’]?m)"
_NOW = r"(?:(?:now|currently|actually|really|also|just|recently|still|mostly|usually|mainly)\s+)*"
_KIN = (
    r"(?P<kin>partner|wife|husband|fianc[eé]e?|boyfriend|girlfriend|son|daughter|brother|sister|mother|mom|mum|father|dad|"
    r"dog|cat|boss|manager|(?:best\s+)?friend|grandmother|grandfather|grandma|grandpa|aunt|uncle|cousin|roommate|flatmate)"
)
_ENDS = (  # what may follow a word that ends a statement: "I'm vegan", not "I'm vegan-friendly", "a vegan cook"
    r"(?=\s*(?:$|[.,;:!?)\n]|[^\x00-\uffff])|\s+(?:and|but|or|so|since|because|now|for|as|though|too|these|by|at|anymore)\b)"
)
_KIN_ADJ = r"(?:(?:older|younger|elder|little|big|twin|eldest|youngest|new|pet)\s+)?"
MANY = word_set("son daughter brother sister dog cat friend aunt uncle cousin roommate flatmate")


def _rule(
    name: str, pattern: str, slot: str, keep: Callable[[str], str], *, single: bool = True, ended: bool = False
) -> Rule:
    return Rule(name, re.compile(pattern, re.IGNORECASE), slot, keep, single, ended)


RULES: tuple[Rule, ...] = (
    _rule("name", r"my\s+(?:full\s+|first\s+)?name(?:\s+is|['’]s)\s+", "Name", _name),
    _rule("called", rf"{_AM}\s+(?:called|named)\s+", "Name", _name),
    _rule(
        "call me", r"(?:(?:please|just|you\s+can|you\s+may|people|friends|everyone)\s+)*call\s+me\s+", "Goes by", _name
    ),
    _rule(
        "no home",
        rf"(?:{_I}\s+(?:no\s+longer|don['’]?t)\s+live|{_AM}\s+no\s+longer\s+living)\s+in\s+",
        "Lives in",
        _place,
        ended=True,
    ),
    _rule("home", rf"{_I}\s+{_NOW}(?:live|reside)\s+{_NOW}in\s+", "Lives in", _place),
    _rule("home now", rf"{_AM}\s+{_NOW}(?:living|based)\s+{_NOW}in\s+", "Lives in", _place),
    _rule(
        "moved",
        rf"(?:{_I}|i['’]?ve|i\s+have)\s+{_NOW}moved\s+(?:back\s+|over\s+|house\s+)?(?:from\s+[\w ]{{2,30}}?\s+)?to\s+",
        "Lives in",
        _place,
    ),
    _rule(
        "no work",
        rf"(?:{_I}\s+no\s+longer\s+work|{_AM}\s+no\s+longer\s+working)\s+(?:at|for)\s+",
        "Works at",
        _employer,
        ended=True,
    ),
    _rule("works as", rf"{_I}\s+{_NOW}work\s+{_NOW}as\s+", "Works as", _work),
    _rule("working as", rf"{_AM}\s+{_NOW}working\s+{_NOW}as\s+", "Works as", _work),
    _rule(
        "job",
        r"my\s+(?:current\s+|new\s+)?(?:job|profession|occupation)\s+is\s+(?=an?\s|being\s|the\s)",
        "Works as",
        _work,
    ),
    _rule("employer", rf"{_I}\s+{_NOW}work\s+{_NOW}(?:at|for)\s+", "Works at", _employer),
    _rule("employer now", rf"{_AM}\s+{_NOW}working\s+{_NOW}(?:at|for)\s+", "Works at", _employer),
    _rule("born", r"i\s+was\s+born\s+(?=on\s|in\s)", "Birthday", _date),
    _rule("birthday", r"my\s+(?:birthday|date\s+of\s+birth|birth\s*day)(?:\s+is|['’]s)\s+", "Birthday", _date),
    _rule("age", rf"{_AM}\s+{_NOW}(?=\d{{1,3}}\s+years?\s+old|\d{{1,3}}[\s-]year[\s-]old)", "Age", _number),
    _rule(
        "kin",
        rf"my\s+{_KIN_ADJ}{_KIN}(?:\s+is\s+(?:called|named)|['’]s\s+(?:called|named)|"
        r"['’]s\s+name(?:\s+is|['’]s))\s+",
        "",
        _name,
    ),
    _rule("has", rf"{_I}\s+have\s+an?\s+{_KIN_ADJ}{_KIN}\s+(?:called|named|whose\s+name\s+is)\s+", "", _name),
    _rule(
        "allergy",
        rf"{_AM}\s+{_NOW}(?:(?:very|severely|highly)\s+)?allergic\s+to\s+",
        "Allergic to",
        _thing,
        single=False,
    ),
    _rule(
        "no diet",
        rf"{_AM}\s+(?:no\s+longer|not)\s+(?:an?\s+)?(?=(?P<diet>vegetarian|vegan|pescatarian){_ENDS})",
        "Diet",
        _diet,
        ended=True,
    ),
    _rule(
        "diet",
        rf"{_AM}\s+{_NOW}(?:an?\s+)?(?:strict\s+)?"
        rf"(?=(?P<diet>vegetarian|vegan|pescatarian){_ENDS})",
        "Diet",
        _diet,
    ),
    _rule(
        "favourite",
        r"my\s+(?:all[- ]time\s+)?favou?rite\s+(?P<of>[\w-]+(?:\s+[\w-]+){0,2}?)(?:\s+is|['’]s)\s+",
        "",
        _thing,
    ),
    _rule(
        "dislikes",
        rf"{_I}\s+{_NOW}(?:hate|dislike|can['’]?t\s+stand|(?:don['’]?t|do\s+not)\s+(?:really\s+)?like)\s+",
        "Dislikes",
        _short,
        single=False,
    ),
    _rule("likes", rf"{_I}\s+{_NOW}(?:like|love|enjoy|adore)\s+", "Likes", _short, single=False),
    _rule("prefers", rf"{_I}\s+{_NOW}prefer\s+", "Prefers", _short, single=False),
    _rule("email", r"my\s+e-?mail(?:\s+address)?(?:\s+is|['’]s|:)\s*", "Email", _email),
    _rule("phone", r"my\s+(?:(?:tele)?phone|mobile|cell)(?:\s+number)?(?:\s+is|['’]s|:)\s*", "Phone", _phone),
    _rule("address", r"my\s+(?:home\s+|postal\s+)?address(?:\s+is|['’]s|:)\s*", "Address", _address),
)
