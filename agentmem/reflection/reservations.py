"""With which reservations a sentence is said, which words of change are in it, and what it says has ceased.

Patterns over plain English; each errs on the side of doubt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentmem.language import word_set
from agentmem.reflection.states import group_of
from agentmem.reflection.verbs import FORMS
from agentmem.reflection.wording import canonical, numbers_in

CORRECTION = re.compile(
    r"\b(?:correction|corrected|actually|oops|mix-up|mistake|typo|wrong|misread|misspoke|should\s+read|not\s+\d|"
    r"mistyped|misheard|i\s+meant|meant\s+to\s+say|error)\b",
    re.I,
)
QUOTED = re.compile(r"\"[^\"\n]{0,300}\"|“[^”\n]{0,300}”|«[^»\n]{0,300}»|^\s*>.*$|```.*?(?:```|\Z)", re.S | re.M)
DOUBTS = {
    "unreal": re.compile(
        r"\b(?:if|would|could|might|(?<!\d )(?<!in )(?<!of )(?<!on )(?-i:may)(?!\s+\d)|"
        r"(?<=\d )may(?=\s+(?:be|become|come|go|get|have|move|change|slip|rise|fall|not)\b)|maybe|perhaps|wish\w*|"
        r"hop(?:e|es|ing)|plan(?:s|ning|ned)?\s+(?:to|for|on)|"
        r"planned|intend\w*|consider\w*|toying|thinking\s+(?:of|about)|want(?:s|ed)?\s+to|likes?\s+to\s+(?!be)|"
        r"propos\w+|suggest\w*|request\w*|refus\w+|reject\w*|declin\w+|turned\s+down|hint\w*|almost|nearly|dreams?|"
        r"unless|whether|suppose|imagine|should(?!\s+read)|going\s+to|gonna|about\s+to|looking\s+(?:for|at|into)|wants?\s+(?:him|her"
        r"|me|us|them)\s+to|tempted|candidates?|tried\s+to|trying\s+to|ran\s+(?:for|against)|offered|saw\s+no|"
        r"discuss\w*|debat\w+|pretend\w*|must\s+not|option|ought\s+to|see\s+about)\b",
        re.I,
    ),
    # Not yet so: it may come, and what is told of it holds beside what holds until then.
    "ahead": re.compile(
        r"\b(?:(?:is|are|am)\s+to\s+(?:be|become|get|go|have|move|join|start|stop|leave|take|close|open|switch|end)|"
        r"in\s+(?!the\b)\w+\s+(?:weeks|months|years)(?:['’]\s+time)?(?=\s*,|\s*$)|"
        r"(?<!there )(?:will|won['’]t)\b(?!\s+(?!not\b).*\b(?:instead|not|from\s+now)\b)|"
        r"(?<=['’])ll\b|"
        r"(?:upgrade|move|switch|migration|change|replacement|renovation)\b[^.,;]*\b(?:is|are)\s+(?:set|due|scheduled|"
        r"planned|slated))\b",
        re.I,
    ),
    "reported": re.compile(
        r"\b(?:said|says?|told|tells?|claim\w*|thinks?|thought|believ\w+|heard|wrote\s+that|rumou?r\w*|speculat\w+|"
        r"according\s+to|apparently|supposedly|allegedly|report\s+was|reportedly|blogger|tabloid|gossip|guess(?:es|ed)|"
        r"assum\w+|suspects?)\b",
        re.I,
    ),
    "bounded": re.compile(
        r"\b(?:this\s+(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:this|next|the\s+whole|all|over\s+the)\s+(?:week|weekend|month|summer|winter|spring|autumn|fall|year|"
        r"morning|afternoon|evening|night|season|semester|term|quarter|time)|tonight|temporar\w+|for\s+now|for\s+the\s+"
        r"(?:time|moment|day|week|weekend|month|summer|winter|night|season|holidays?|duration)|(?:until|till)(?!\s+\d{1,2}(?:[:.]\d\d|\s*[ap]m))|while|during|"
        r"throughout|holidays?|vacation|visiting|standing\s+in|stand-in|covering\s+for|filling\s+in|exception\w*|just\s+for|"
        r"only\s+for|for\s+(?:a|an|one|two|three|four|five|six|ten|\d+|a\s+few|several|some)\s+(?:\w+\s+)?"
        r"(?:minute|hour|day|night|week|weekend|month|year)s?|tomorrow|on\s+loan|borrow\w*|trip|stays?\s+(?:at|in|with)|"
        r"staying|as\s+a\s+guest|in\s+\w+\s+week|lent|sale|"
        r"(?:not\b|(?<=n['’]t)).*\btoday|(?:cancel+ed|off|closed|shut)\s+today|(?:from|between)\s+\d{4}\s+(?:to|and)\s+\d{4}|only\s+(?:on|in|at)|only(?=\s*(?:[.!]?\s*$|,))|once\b(?!\s+a)|sometimes|occasionally|rarely|every\s+now)\b",
        re.I,
    ),
    "past": re.compile(
        r"\b(?:in\s+(?:my|his|her|our|their|its)\s+(?:old|last|former|previous)\s+\w+|(?<=['’])d\s+(?:\w+ed|been|gone|had)|"
        r"back\s+(?:then|when|in\s+(?:the|my|his|her|our|their|school|college|\d))|when|before|originally|formerly|previously|(?:years?|winters|summers|months?)\s+ago|"
        r"used\s+to|at\s+first|(?:cost|was|were|had)\b[^.]*\bin\s+(?:19|20)\d\d|"
        r"in\s+(?:my|his|her|its|their)\s+(?:first|youth|twenties|thirties|school)|prototype|"
        r"up\s+to\s+version|as\s+a\s+(?:child|kid|boy|girl|student|teenager)|in\s+those\s+days|at\s+the\s+time)\b",
        re.I,
    ),
    "more": re.compile(
        r"\b(?:also|too|as\s+well|another|additional\w*|besides|in\s+addition|even\s+more|keeping|kept|both|as\s+before|"
        r"still|as\s+usual|other|apart\s+from|on\s+top|alongside|either)\b|\b(?:a|the|my)\s+second\b",
        re.I,
    ),
}
CUES = re.compile(
    r"\b(now|nowadays|these\s+days|no\s+longer|anymore|any\s+(?:more|longer)|instead|rather\s+than|from\s+now\s+on|again|back|new|since|as\s+of|"
    r"meanwhile|today|after\s+all|not|changed?|moved?|switched|upgraded|became|become|joined|replaced|renamed|turned|started|"
    r"took|taken|upgraded|downgraded|for\s+good|by\s+now|already|gave\s+up|given\s+up|reopened|delayed|has|have|will)\b",
    re.I,
)
_BEFORE_GONE = re.compile(
    r"\b(?:"
    r"instead\s+of|rather\s+than|replac(?:ed|es|ing)|(?:gave|given|giving|gives)\s+up(?:\s+on)?|"
    r"stopped(?!\s+(?:at|by|in|for|on)\b)|quit|cancel+ed|sold(?!\s+(?:out|all|every)\b)|traded(?:\s+in)?|"
    r"swapped|ditched|dropped|outgrown|outgrew|scrapped|finished|moved\s+out\s+of|"
    r"left(?!\s+(?:for|to|in|on|at|until|before|over)\b)|resigned\s+from|got\s+rid\s+of|decided\s+against|"
    r"taken\s+off|switched\s+(?:away\s+)?from|migrated\s+\w*\s*\w*\s*from|taken\s+over\s+from|"
    r"took\s+over\s+from|broke(?:n)?\s+up\s+with|divorced|split\s+(?:up\s+)?(?:from|with)|"
    r"nothing\s+to\s+do\s+with|deleted|ended|done\s+with|withdrew\s+from|retired\s+from|"
    r"handed\s+in\s+\w+\s+\w+\s+at|paid\s+back|threw\s+(?:out|away)|gave\s+away|dropped\s+out\s+of|"
    r"stepped\s+down\s+as|resigned\s+as|recovered\s+from|unsubscribed\s+from|ran\s+out\s+of|run\s+out\s+of|"
    r"out\s+of(?=\s+[a-z]+s\b)|came\s+off|is\s+off|got\s+over|cut\s+out|parted\s+with|called\s+off|"
    r"never\s+again|no\s+more|succeeded|handed\s+over|(?:laid\s+off|fired|dismissed|let\s+go)\s+(?:from|by)|"
    r"abolished|shelved|dissolved|disbanded|revoked|disconnected|uninstalled|did\s+away\s+with|"
    r"done\s+away\s+with|(?:switched|turned|weaned|taken|gone|went|broke)\s+off|took\s+down|terminated|"
    r"phased\s+out|decommissioned|abandoned|repealed|handed\s+back|hung\s+up|pulled\s+out\s+of|"
    r"backed\s+out\s+of|opted\s+out\s+of|paid\s+off|parted\s+ways\s+with|packed\s+in|withdr[ae]wn?|unravelled|"
    r"stepped\s+back\s+from|finished\s+with|is\s+over(?=\s+(?:my|his|her|their|the)\b)|"
    r"(?:lost|closed|shut|returned|dropped|lifted|cut|pulled|broke|let\s+go\s+of)(?=\s+(?:my|his|her|our|its|their)\b)"
    r")\s+(?P<what>[^,;:]+)",
    re.I,
)
_DONE = (
    r"cancel+ed|sold(?!\s+out)|shut(?:\s+down)?|dethroned|discontinued|healed|over|"
    r"gone(?=\s*$|\s+(?:for|since|by|now|and)\b)|stolen|removed|deleted|abandoned|scrapped|dropped|retired|"
    r"closed\s+down|off\s+the\s+table|replaced(?=\s+(?:by|with))|dead|off(?=\s*$)|abolished|disbanded|"
    r"dissolved|revoked|shelved|terminated|uninstalled|decommissioned|demolished|torn\s+down|pulled\s+down|"
    r"written\s+off|withdrawn|repealed|phased\s+out|disconnected|wound\s+up|axed|(?:switched|turned)\s+off|"
    r"taken\s+(?:down|out|away)|done\s+away\s+with|dismantled|rescinded|annulled|put\s+down|stripped\s+out|"
    r"history|struck\s+off"
)
"""What is, or was, so has ended."""
_WENT = (
    r""
    r"(?:has\s+|have\s+)?(?:lapsed|folded|closed\s+down|disbanded|dissolved|ceased|shut\s+down|went\s+bust|gone\s+bust|burnt?\s+down|burned\s+down|c[oa]me\s+to\s+an\s+end|run\s+out)|"
    r"(?:has\s+)?moved\s+out|(?:has\s+)?died|called\s+off|fell\s+through|ran\s+out|"
    r"(?:has\s+|have\s+)?(?:ended|expired|cleared\s+up|gone(?=\s*$|\s+(?:for|since|by|now|and|off|out|away|into|quiet)\b))|"
    r"went\s+away|lost\s+the|passed\s+away|(?:has\s+|have\s+)?(?:broken|broke|split)\s+up|has\s+healed|healed"
)
"""What did so has ended."""
_ANY_END = re.compile(rf"\b(?:{_DONE}|{_WENT})\b", re.I)
_GONE_BEHIND = re.compile(
    r"(?P<what>(?:[\w'’-]+\s+){1,5}?)"
    rf"(?:(?:is|are|was|were|has\s+been|have\s+been|got|gets|had\s+been)\s+(?:now\s+)?(?:{_DONE})|{_WENT})\b",
    re.I,
)
_STOP_GONE = re.compile(
    r"\b(?:and|but|for|to|because|as|since|so|anymore|after\s+all|these|now|in\s+favou?r|by|last|yesterday|today|but)\b",
    re.I,
)
_PERSONAL = word_set("i we you he she it they")
_GIVEN_AWAY = re.compile(r"\b(?:gave|given|gives|threw|thrown)\s+(?P<what>[^,;:]+?)\s+away\b", re.I)
_NOT = re.compile(r"\b(?:no\s+longer|not)\s+(?P<what>[^,;:]+)", re.I)
_STOP_NOT = re.compile(r"\b(?:but|because|as|since|so|anymore|after\s+all|these\s+days|now|and)\b", re.I)


def _with_clause(what: Sequence[str]) -> bool:
    """Whether a verb stands among what a clause seems to be about: "the house that Kim rents"."""
    finite = [n for n, w in enumerate(what) if n and FORMS.get(w, ("", "base"))[1] in ("s", "past")]
    return any(n < len(what) - 1 or (n > 1 and what[n - 1][:1].isupper()) for n in finite)


_FROM = re.compile(
    r"\b(?:switch|migrat|mov|chang|convert|port|took\s+over|taken\s+over|(?:gone|went|rais|r[io]sen?|f[ae]ll|dropp|lower|"
    r"cut|gr[eo]wn?|reduc|increas|br(?:ing|ought)|extend|shift|push|up|down)(?=.*\bfrom\b.*\bto\b))\w*\b(?P<thing>.*?)"
    r"\bfrom\s+",
    re.I,
)
_FORMER = re.compile(r"\b(?:(from)|instead\s+of|rather\s+than|not|no\s+longer)\s+((?:[\w.:,$€£-]+\s*){1,3})", re.I)


def former_numbers(tokens: Sequence[str], changing: bool) -> frozenset[str]:
    """The numbers that a clause names as the earlier ones ("not 11", "up from 70"); `changing`: whether what it says
    is a change, so that "from" gives the earlier value and not a beginning."""
    out: set[str] = set()
    for m in _FORMER.finditer(" ".join(tokens)):
        if m.group(1) is None or changing or re.search(r"\b(?:up|down)\s+$", m.string[: m.start()], re.I):
            behind = re.split(r"\b(?:to|but|now|and|at|on)\b", m.group(2), maxsplit=1)[0]
            out |= numbers_in(canonical(behind.split()))
    return frozenset(out)


def ended(tokens: Sequence[str]) -> tuple[frozenset[str], ...]:
    """What a clause says has ceased, or is not so: each as its content words."""
    text = " ".join(tokens)
    out: list[frozenset[str]] = []
    for m in _BEFORE_GONE.finditer(text):
        what = m.group("what")
        if what.lower().startswith(("a ", "an ")) and not m.group().lower().startswith(
            ("instead", "rather", "re", "step")
        ):
            continue  # one of many: "dropped a cup"
        cut = _STOP_GONE.search(what, 1)
        out.append(frozenset(canonical(what[: cut.start()].split() if cut else what.split())))
    for cue in _FROM.finditer(text):
        inner = text[cue.end() :]
        cut = _STOP_GONE.search(inner, 1)
        # What was changed counts: "changed its storage plan from Silver" ends no other Silver.
        thing = [w for w in canonical(cue.group("thing").split()) if group_of(w) != "time"]
        out.append(frozenset(canonical((inner[: cut.start()] if cut else inner).split())) | frozenset(thing))
    out += [frozenset(canonical(m.group("what").split())) for m in _GIVEN_AWAY.finditer(text)]
    for m in _NOT.finditer(text):
        what = m.group("what")
        if what.lower().startswith("being ") or (out and m.group().lower().startswith("not")):
            continue  # "sold the bar, not the café": the café is not sold
        cut = _STOP_NOT.search(what, 1)
        out.append(frozenset(canonical(what[: cut.start()].split() if cut else what.split())))
    for m in _GONE_BEHIND.finditer(text) if _ANY_END.search(text) else ():
        if re.search(r"(?:broken?|split)\s+up$", m.group()) and " and " not in m.group("what"):
            continue
        what = m.group("what").split()
        if "other" in what or what[-1].lower() in _PERSONAL or _with_clause(what):
            continue  # "I have gone", "the house that Kim rents was sold": somebody went, another thing ended
        out.append(frozenset(canonical(what)))
    if re.search(r"\banymore\b", text, re.I) and re.search(r"\b(?:not|no|never)\b", text, re.I):
        out.append(frozenset(canonical(tokens)))
    return tuple(dict.fromkeys(g for g in out if g))
