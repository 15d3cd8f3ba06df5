"""The verbs that statements are read by: their forms, and what each says about how many values a thing can have.

No verb of a list holds a value itself: a list says which kind of slot its frame is (`live in`: one home at a time).
"""

from __future__ import annotations

from agentmem.language import word_set

_IRREGULAR = (
    "be:am is are was were been being; have:has had having; do:does did done; go:goes went gone; get:gets got gotten; "
    "become:became; begin:began begun; take:took taken; give:gave given; leave:left; quit:quit quitting; sell:sold; "
    "buy:bought; drive:drove driven driving; speak:spoke spoken; write:wrote written writing; build:built; hold:held; "
    "meet:met; see:saw seen; run:ran running; keep:kept; make:made; pay:paid; cost:cost; lead:led; teach:taught; "
    "eat:ate eaten; drink:drank drunk; sleep:slept; wake:woke woken; sit:sat sitting; stand:stood; wear:wore worn; "
    "win:won winning; lose:lost; come:came; cut:cut cutting; set:set setting; put:put putting; rise:rose risen; "
    "grow:grew grown; fall:fell fallen; break:broke broken; bring:brought; choose:chose chosen; find:found; "
    "know:knew known; think:thought; say:said; tell:told; ride:rode ridden; swim:swam swum swimming; fly:flew flown; "
    "send:sent; spend:spent; shut:shut shutting; split:split splitting; die:died dying; lie:lay lain lying; "
    "read:read; let:let; swap:swapped swapping; stop:stopped stopping; drop:dropped dropping; ship:shipped shipping; "
    "cap:capped; commit:committed; transfer:transferred; cancel:cancelled canceled cancelling; travel:travelled "
    "traveled travelling; train:trained; marry:married marries; study:studied studies; carry:carried carries; "
    "apply:applied applies; try:tried tries; rely:relied relies; hire:hired; hurt:hurt; show:shown; throw:threw "
    "thrown; "
    "feel:felt; withdraw:withdrew withdrawn; undergo:underwent; outgrow:outgrew outgrown; upset:upset; lend:lent; "
    "ring:rang rung; sing:sang sung; shrink:shrank shrunk; hand:handed hands; forget:forgot forgotten; "
    "overtake:overtook overtaken"
)
_REGULAR = word_set(
    "live reside move relocate settle base work join start end finish start resign retire attend use switch change own "
    "rent earn weigh play practise practice smoke learn prefer like love hate need report manage head date divorce "
    "engage adopt name call rename replace trade upgrade downgrade push postpone reschedule shift complete launch "
    "release close open reopen deploy host store expire raise lower increase decrease reduce extend shorten lengthen "
    "double fire promote enroll enrol graduate subscribe sign renew recover heal assign follow watch listen cook "
    "volunteer bank commute cycle walk belong contain include support depend cover collect total amount measure last "
    "migrate port update fix repair resolve approve reject enable disable allow permit lift locate moor register "
    "park rehearse serve stay share occur happen order deliver prefer want enjoy admire cause answer handle process "
    "limit restrict charge owe remain look sound seem mean require ask tolerate treat visit suffer save aim plan "
    "arrive depart terminate discontinue appoint elect name require merge archive fund face print display pass reach "
    "turn swear vote drop land wait hope intend expect consider introduce mention exceed accept receive dethrone "
    "stand remove delete abandon ditch scrap retire dismiss lay demote convert adjust bump trim slash redirect "
    "reassign "
    "schedule offer produce brew bake supply return defend pass hold stock rest rely import export point greet "
    "read succeed source hide hang moderate found compose hover chair unsubscribe expire step hire "
    "elapse employ maintain rewrite operate "
    "supervise insure rank rate heat captain coach tutor edit conduct major print publish grade classify sponsor "
    "sing seat sew foster inject meditate review tutor ring install sail mow wash "
    "jump shrink climb slip repaint translate water illustrate insulate power fuel "
)


def _regular(verb: str) -> dict[str, str]:
    """The forms of a verb, with "s", "past" or "ing"."""
    stem = verb[:-1] if verb.endswith("e") else verb
    third = verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "z", "o")) else "s")
    if verb.endswith("y") and verb[-2] not in "aeiou":
        third, past = verb[:-1] + "ies", verb[:-1] + "ied"
    else:
        past = stem + "ed"
    return {third: "s", past: "past", (verb if verb.endswith("ee") else stem) + "ing": "ing"}


def _table() -> dict[str, tuple[str, str]]:
    out: dict[str, tuple[str, str]] = {}
    for verb in _REGULAR:
        out[verb] = (verb, "base")
        out |= {form: (verb, kind) for form, kind in _regular(verb).items()}
    for entry in _IRREGULAR.split(";"):
        verb, forms = entry.strip().split(":")
        out[verb] = (verb, "base")
        out |= {form: (verb, kind) for form, kind in _regular(verb).items() if kind != "past"}
        for form in forms.split():
            kind = "ing" if form.endswith("ing") else "s" if form.endswith("s") and form != "was" else "past"
            out[form] = (verb, kind)
    out |= {"am": ("be", "s"), "are": ("be", "s"), "is": ("be", "s"), "was": ("be", "past"), "has": ("have", "s")}
    return out


FORMS: dict[str, tuple[str, str]] = _table()
"""A form in lower case -> (verb, "base" | "s" | "past" | "ing"); a form that is both present and past is past."""
SAME = word_set("put cut set cost hurt read quit shut split let")
"""Verbs whose past is their base."""
FORMS |= {verb: (verb, "base") for verb in SAME}
MODALS = word_set("will would can could may might must shall should")
ADVERBS = word_set(
    "now currently actually really also just recently still mostly usually mainly always already finally even again "
    "only probably officially temporarily generally typically then never ever not no longer too simply normally "
    "meanwhile lately nowadays both all each"
)
TAILS = word_set("keep store park leave put hide hang buy order get source receive import bring")
"""Verbs with an object that comes from, or is in, one place at a time."""
ADDITIVE = word_set(
    "like love enjoy hate admire speak know understand own collect support depend cover climb teach volunteer contain "
    "include visit see meet watch read need accept learn cook play practise practice adopt buy mention win "
    "require rely "
    "follow listen stand dislike write sell build keep make offer stock face fix introduce say think tell show hold "
    "ask look share give find help choose appear seem sound feel enjoy treat suffer"
)
"""With these verbs a thing can have many values at once: another value alone is no update."""
ONE = word_set(
    "live reside drive weigh cost expire last start begin end open close leave arrive depart rehearse host locate moor "
    "register base belong total amount measure earn cap limit set cause call name charge commute terminate expire "
    "schedule report sit deploy park stay rent price store occur happen date marry engage aim "
    "graduate pay wake found moderate employ"
)
"""Verbs whose frame (with the same preposition) takes one value at a time."""
CHANGES = word_set(
    "move change push postpone reschedule shift cut raise lower lift increase decrease reduce extend shorten lengthen "
    "drop rise go double update rename upgrade downgrade migrate switch convert adjust bump trim slash grow fall "
    "redirect reassign transfer port relocate set bring jump shrink climb slip"
)
"""What is said to do so `to` a value had another one before."""
ENDS = word_set(
    "quit stop leave cancel sell drop finish lose trade swap replace ditch scrap abandon outgrow heal resign retire "
    "dethrone discontinue remove delete withdraw shut divorce dismiss fire return"
)
"""What these are done to ends."""
