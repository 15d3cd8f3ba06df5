"""With which reservations a sentence is said, which words of change are in it, and what it says has ceased.

Patterns over plain English; each errs on the side of doubt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentmem.language import word_set
from agentmem.reflection.verbs import FORMS
from agentmem.reflection.wording import canonical

CORRECTION = re.compile(
    r"\b(?:correction|corrected|actually|oops|mix-up|mistake|typo|wrong|misread|misspoke|should\s+read|not\s+\d|"
    r"mistyped|misheard|i\s+meant|meant\s+to\s+say|error)\b",
    re.I,
)
QUOTED = re.compile(r"\"[^\"\n]{0,300}\"|“[^”\n]{0,300}”|«[^»\n]{0,300}»|^\s*>.*$|```.*?(?:```|\Z)", re.S | re.M)
DOUBTS = {
    "unreal": re.compile(
        r"\b(?:if|would|could|might|(?<!\d )(?<!in )(?<!of )(?<!on )(?-i:may)(?!\s+\d)|maybe|perhaps|wish\w*|"
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
        r"not\b.*\btoday|(?:from|between)\s+\d{4}\s+(?:to|and)\s+\d{4}|only\s+(?:on|in|at)|only(?=\s*(?:[.!]?\s*$|,))|once\b(?!\s+a)|sometimes|occasionally|rarely|every\s+now)\b",
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
    r"\b(now|nowadays|these\s+days|no\s+longer|anymore|instead|rather\s+than|from\s+now\s+on|again|back|new|since|as\s+of|"
    r"meanwhile|today|after\s+all|not|changed?|moved?|switched|upgraded|became|become|joined|replaced|renamed|turned|started|"
    r"took|taken|upgraded|downgraded|for\s+good|by\s+now|already|gave\s+up|given\s+up|reopened|delayed|has|have|will)\b",
    re.I,
)
_BEFORE_GONE = re.compile(
    r"(?:\binstead\s+of|\brather\s+than|\breplac(?:ed|es|ing)|\b(?:gave|given|giving|gives)\s+up(?:\s+on)?|"
    r"\bstopped|\bquit|\bcancel+ed|\bsold|\btraded(?:\s+in)?|\bswapped|\bditched|\bdropped|\boutgrown|\boutgrew|\bscrapped|"
    r"\bfinished|\bmoved\s+out\s+of|\bleft(?!\s+(?:for|to|in|on|at|until|before|over)\b)|\bresigned\s+from|\bgot\s+rid\s+of|\bdecided\s+against|\btaken\s+off|"
    r"\bswitched\s+(?:away\s+)?from|\bmigrated\s+\w*\s*\w*\s*from|\btaken\s+over\s+from|\btook\s+over\s+from|"
    r"\bbroke(?:n)?\s+up\s+with|\bdivorced|\bsplit\s+(?:up\s+)?(?:from|with)|\bnothing\s+to\s+do\s+with|\bdeleted|"
    r"\bended|\bdone\s+with|\bwithdrew\s+from|\bretired\s+from|"
    r"\bhanded\s+in\s+\w+\s+\w+\s+at|\bpaid\s+back|\bthrew\s+(?:out|away)|\bgave\s+away|\bdropped\s+out\s+of|\bstepped\s+down\s+as|\bresigned\s+as|\brecovered\s+from|"
    r"\bunsubscribed\s+from|\bran\s+out\s+of|\brun\s+out\s+of|\bout\s+of(?=\s+[a-z]+s\b)|\bcame\s+off|\bis\s+off|\bgot\s+over|"
    r"\bcut\s+out|\bparted\s+with|\bcalled\s+off|\bnever\s+again|\bno\s+more|\bsucceeded|\bhanded\s+over|"
    r"\b(?:laid\s+off|fired|dismissed|let\s+go)\s+(?:from|by))"
    r"\s+(?P<what>[^,;:]+)",
    re.I,
)
_GONE_BEHIND = re.compile(
    r"(?P<what>(?:[\w'’-]+\s+){1,5}?)(?:(?:is|are|was|were|has\s+been|have\s+been|got|gets|had\s+been)\s+(?:now\s+)?"
    r"(?:cancel+ed|sold|shut(?:\s+down)?|dethroned|discontinued|healed|over|gone(?=\s*$|\s+(?:for|since|by|now|and)\b)|stolen|removed|deleted|abandoned|scrapped|"
    r"dropped|retired|closed\s+down|off\s+the\s+table|replaced(?=\s+(?:by|with))|dead)|(?:has\s+)?moved\s+out|(?:has\s+)?died|called\s+off|fell\s+through|ran\s+out|(?:has\s+|have\s+)?(?:ended|expired|cleared\s+up|gone(?=\s*$|\s+(?:for|since|by|now|and|off|out|away|into|quiet)\b))|went\s+away|lost\s+the|"
    r"passed\s+away|(?:has\s+|have\s+)?(?:broken|broke|split)\s+up|has\s+healed|healed)\b",
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
    for cue in re.finditer(
        r"\b(?:switch|migrat|mov|chang|convert|port|took\s+over|taken\s+over)\w*\b.*?\bfrom\s+", text, re.I
    ):
        inner = text[cue.end() :]
        cut = _STOP_GONE.search(inner, 1)
        out.append(frozenset(canonical((inner[: cut.start()] if cut else inner).split())))
    out += [frozenset(canonical(m.group("what").split())) for m in _GIVEN_AWAY.finditer(text)]
    for m in _NOT.finditer(text):
        what = m.group("what")
        if what.lower().startswith("being ") or (out and m.group().lower().startswith("not")):
            continue  # "sold the bar, not the café": the café is not sold
        cut = _STOP_NOT.search(what, 1)
        out.append(frozenset(canonical(what[: cut.start()].split() if cut else what.split())))
    for m in _GONE_BEHIND.finditer(text):
        if re.search(r"(?:broken?|split)\s+up$", m.group()) and " and " not in m.group("what"):
            continue
        what = m.group("what").split()
        if what[-1].lower() in _PERSONAL or any(FORMS.get(w, ("", "base"))[1] in ("s", "past") for w in what[1:-1]):
            continue  # "I have gone", "the house that Kim rents was sold": somebody went, another thing ended
        out.append(frozenset(canonical(what)))
    if re.search(r"\banymore\b", text, re.I) and re.search(r"\b(?:not|no|never)\b", text, re.I):
        out.append(frozenset(canonical(tokens)))
    return tuple(dict.fromkeys(g for g in out if g))
