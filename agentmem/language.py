"""Small things about English text that reading, filing and ranking share: sentences, words, stems, stop words.

Nothing here knows a model. Everything is pure, deterministic and never raises on any text.
"""

from __future__ import annotations

import re
from functools import lru_cache


def word_set(spaced: str) -> frozenset[str]:
    """The words of a string with spaces between them, as a set: how the word lists here are written down."""
    return frozenset(spaced.split())


STOP_WORDS: frozenset[str] = word_set(
    "a an the and or but nor so if then than as of at by for from in into on onto to with without about over under up "
    "down out off again also too very just only even ever still already yet not no yes ok okay oh hey hi hello well "
    "i me my mine myself you your yours yourself he him his himself she her hers herself it its itself we us our ours "
    "ourselves they them their theirs themselves this that these those here there who whom whose which what when where "
    "why how is am are was were be been being do does did doing done have has had having can could will would shall "
    "should may might must let lets get got gets really quite much many some any all both each few more most other "
    "such own same ll ve re don isn aren wasn weren doesn didn hasn haven hadn won wouldn couldn shouldn ain cannot "
    "im ive ill id dont didnt cant"
)
"""Function words, contractions and the question words, lower case, without apostrophes."""

# Chinese, Japanese and Korean have no spaces between words: there a character counts as a word.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"\d+(?:[.,:]\d+)*(?![^\W{_CJK}])|[{_CJK}]|[^\W{_CJK}]+(?:['’][^\W{_CJK}]+)*")

_NEVER_END = word_set("mr mrs ms dr prof st mt vs e.g i.e cf fig vol approx dept gen sen rep rev capt sgt lt")
_SELDOM_END = word_set(
    "etc a.m p.m am pm inc ltd co corp jr sr no u.s u.k u.n ph.d b.a m.a d.c jan feb mar apr jun jul aug sep sept "
    "oct nov dec mon tue wed thu fri sat"
)
_EMOJI = "\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f\u200d"
_CLOSERS = "\"'”’»)]*"
_BORDER = re.compile(rf"[.!?…]+[{_CLOSERS}]*(?:[ \t]*[{_EMOJI}]+)*|[。！？；]+[”’」』）]*|[{_EMOJI}]+(?=\s+[A-Z])|\n")
_TOKEN_BEFORE = re.compile(r"[^\W_]+(?:\.[^\W_]+)*$")
_EDGE_SPACE = re.compile(r"\s*")


def _ends_here(text: str, start: int, match: re.Match[str]) -> bool:
    """Whether the border found in the sentence that begins at `start` ends it."""
    mark = match.group()
    rest = text[match.end() : match.end() + 8]
    following = rest.lstrip()[:1]
    if mark == "\n":  # a wrapped line goes on in lower case; a new line or paragraph does not
        return not following.islower() or rest.startswith("\n")
    if mark[0] in "。！？；" or mark[0] not in ".!?…":
        return True
    if not following:
        return True
    glued = not rest[0].isspace()
    if mark[0] in "!?":
        quoted = any(c in _CLOSERS for c in mark)
        return not (quoted and following.islower()) and (not glued or following.isupper())
    if glued:  # 3.5, example.com, e.g.x; but "home.Then" is a missing space
        before = text[match.start() - 1 : match.start()]
        return mark == "." and following.isupper() and before.islower() and rest[1:2].islower()
    if len(mark.rstrip(_CLOSERS)) > 1 or "…" in mark:  # an ellipsis
        return not following.islower()
    token = _TOKEN_BEFORE.search(text, max(start, match.start() - 12), match.start())
    word = token.group() if token else ""
    if word.lower() in _NEVER_END:
        return False
    if word.lower() in _SELDOM_END:
        return not following.islower() and not following.isdigit()
    if len(word) == 1 and word.isupper() and word != "I":  # an initial: J. Smith
        return False
    numbered = word.isdigit() and token is not None and not text[start : token.start()].strip()
    return not numbered  # "1. First" is one item of a list


def sentences(text: str) -> list[tuple[int, int]]:
    """The character spans (start, end) of the sentences, in order, without white space at their edges.

    Every character that is not white space is in exactly one span.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _BORDER.finditer(text):
        if match.start() >= start and _ends_here(text, start, match):
            spans.append((start, match.end()))
            start = match.end()
    spans.append((start, len(text)))
    out: list[tuple[int, int]] = []
    for a, b in spans:
        piece = text[a:b]
        left = len(piece) - len(piece.lstrip())
        right = len(piece.rstrip())
        if right > left:
            out.append((a + left, a + right))
    return out


def words(text: str) -> list[str]:
    """The words and numbers of a text as written, without punctuation."""
    return [m.group() for m in _WORD.finditer(text)]


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words of `words` stand."""
    return [m.span() for m in _WORD.finditer(text)]


_ASKING_START = re.compile(
    r"^(?:(?:and|but|so|well|ok|okay|hey|hi|hello|oh|please|also|then)\b[, ]+)*(?:"
    r"(?:who|whom|whose|what|when|where|why|how|which)(?:'s|’s)?\s+"
    r"(?:(?!i\b|you\b|he\b|she\b|it\b|we\b|they\b|an?\b|the\b)[\w'’-]+\s+){0,3}?"
    r"(?:is|are|was|were|am|do|does|did|has|have|had|can|could|will|would|should|shall|might)\b"
    r"|(?:what|who|where|when|how)(?:'s|’s|s)\s"
    r"|how\s+(?:many|much|long|old|far|often|come|about)\b|who\s+\w+s\b|what\s+about\b"
    r"|(?!do\s+(?:it|this|that|the|your|my|not)\b)"
    r"(?:do|does|did|is|are|was|were|can|could|will|would|should|have|has|had|am|shall|may|might|don't|didn't|isn't|"
    r"aren't)\s+(?:i|you|he|she|it|we|they|the|my|your|his|her|our|their|there|this|that|any|anyone|someone)\b"
    r"|(?:can|could|would|will)\s+(?:you|u)\b"
    r"|(?:tell|remind|show)\s+me\s+(?:again\s+)?(?:who|whom|whose|what|when|where|why|how|which|about|if|whether)\b"
    r")",
    re.IGNORECASE,
)
_ASKING_NAME = re.compile(r"^(?:Is|Are|Was|Were|Do|Does|Did|Has)\s+[A-Z]")


def is_question(text: str) -> bool:
    """Whether a sentence asks: it ends in a question mark, or begins as questions do ("what is", "do you")."""
    bare = text.strip().rstrip("\"'”’»)]} \t" + ".!…")
    bare = re.sub(rf"[{_EMOJI}\s]+$", "", bare)
    if bare.endswith(("?", "？", "吗")):
        return True
    return bool(_ASKING_START.match(bare) or _ASKING_NAME.match(bare))


_IRREGULAR_FORMS = (
    "go:went gone goes; buy:bought; meet:met; see:saw seen; take:took taken; give:gave given; make:made; find:found; "
    "think:thought; tell:told; say:said; feel:felt; leave:left; lose:lost; win:won; begin:began begun; write:wrote "
    "written; read:reading reads; run:ran running; eat:ate eaten; drive:drove driven; fly:flew flown; grow:grew "
    "grown; know:knew known; teach:taught; catch:caught; bring:brought; build:built; send:sent; spend:spent; "
    "sell:sold; hold:held; keep:kept; sleep:slept; break:broke broken; choose:chose chosen; speak:spoke spoken; "
    "wear:wore worn; sing:sang sung; swim:swam swum swimming; draw:drew drawn; come:came; become:became; hear:heard; "
    "stand:stood; understand:understood; pay:paid; fall:fell fallen; hurt:hurting; lead:led; ride:rode ridden; "
    "rise:rose risen; show:shown; sit:sat; steal:stole stolen; throw:threw thrown; wake:woke woken; child:children "
    "kid kids; man:men; woman:women; person:people; mouse:mice; foot:feet; tooth:teeth; wife:wives; "
    "mother:mom mum mommy; father:dad daddy; photo:photograph photos pic pics picture pictures; movie:film films "
    "movies; marry:married marriage; good:better best; bad:worse worst; bake:baked baking; die:died dying; lie:lying; "
    "favorite:favourite; color:colour; tv:television; bike:bicycle; begin:start started starting starts; big:bigger "
    "biggest"
)
_IRREGULAR = {
    form: base.strip()
    for base, forms in (entry.split(":") for entry in _IRREGULAR_FORMS.split(";"))
    for form in forms.split()
}
_SHORT = re.compile(r"[^aeiou][aeiouy][^aeiouwxy]$")
_VOWEL_RUNS = re.compile(r"[aeiouy]+[^aeiouy]")


def _syllables(base: str) -> int:
    """Porter's measure m: how often a vowel run is followed by a consonant."""
    return len(_VOWEL_RUNS.findall(base))


_SUFFIXES = (
    ("ational", "ate", 1), ("ization", "ize", 1), ("isation", "ize", 1), ("fulness", "ful", 1), ("ousness", "ous", 1),
    ("iveness", "ive", 1), ("biliti", "ble", 1), ("ement", "", 2), ("ation", "ate", 1), ("ment", "", 2),
    ("ness", "", 1), ("able", "", 2), ("ible", "", 2), ("ance", "", 2), ("ence", "", 2), ("ical", "ic", 1),
    ("tion", "t", 2), ("sion", "s", 2), ("ful", "", 2), ("ous", "", 2), ("ive", "", 2), ("ize", "", 2), ("ise", "", 2),
    ("ist", "", 2), ("ant", "", 2), ("ent", "", 3), ("ate", "", 2), ("ing", "", 2), ("ic", "", 2), ("er", "", 2),
    ("al", "", 2), ("or", "", 2), ("li", "", 2),
)  # fmt: skip


def _inflection_off(word: str) -> str:
    """Plural and verb endings off, Porter's steps 1a to 1c."""
    if word.endswith("sses") or (word.endswith("ies") and len(word) > 4):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        word = word[:-1]
    if word.endswith("eed"):
        return word[:-1] if _syllables(word[:-3]) else word
    for ending in ("ed", "ing"):
        base = word[: -len(ending)]
        if word.endswith(ending) and len(base) > 1 and re.search(r"[aeiouy]", base):
            if base.endswith(("at", "bl", "iz")) or (_syllables(base) == 1 and _SHORT.search(base)):
                return base + "e"
            if len(base) > 2 and base[-1] == base[-2] and base[-1] not in "lsz":
                return base[:-1]
            return base
    return word


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """The stem of an English word, lower case: endings off as Porter does, common irregular forms by a table."""
    word = word.lower()
    if word in _IRREGULAR:
        word = _IRREGULAR[word]
    if len(word) <= 2 or not word.isascii() or not word.isalpha():
        return word
    word = _inflection_off(word)
    word = _IRREGULAR.get(word, word)
    if word.endswith("y") and len(word) > 2 and word[-2] not in "aeiou":
        word = word[:-1] + "i"
    for ending, instead, least in _SUFFIXES:
        if word.endswith(ending):
            base = word[: -len(ending)]
            if _syllables(base) >= least:
                word = base + instead
            break
    if word.endswith("e"):
        base = word[:-1]
        if _syllables(base) > 1 or (_syllables(base) == 1 and not _SHORT.search(base)):
            word = base
    return word


def _core(word: str) -> str:
    """A word in lower case without possessive and contraction endings."""
    low = word.lower().replace("’", "'")
    return low.split("'")[0] if "'" in low else low


def content_words(text: str) -> list[str]:
    """The content words, lower case and stemmed, in order, stop words left out."""
    cores = (_core(w) for w in words(text))
    return [stem(w) for w in cores if w and w not in STOP_WORDS]
