"""Common English words by class, as far as spans need it: verbs and adjectives; what is in no list is a noun mostly."""

from __future__ import annotations

from agentmem.language import stem, word_set


def _stems(spaced: str) -> frozenset[str]:
    return frozenset(map(stem, word_set(spaced)))


VERBS = _stems(
    "go do make take get give see say know feel think love like enjoy want need help try start begin keep learn "
    "play work use find meet visit buy watch read write paint plan hope look come bring share show tell talk ask join "
    "attend spend leave live move lose win run ride build create grow teach support inspire remind mean cook bake eat "
    "become believe remember decide finish travel adopt volunteer organize celebrate hang relax stay seem add admire "
    "admit agree allow appear apply appreciate arrive avoid be beat belong bet bless bond borrow break call can care "
    "carry catch cause challenge change chat check choose clean climb close collect compare compete complete connect "
    "consider contain continue contribute cost count cover cry cut dance deal depend describe deserve design destress "
    "develop discover discuss donate draw dream drink drive drop earn encourage end energize escape explain explore "
    "express face fall fear fight fill fit fix fly focus follow force forget form gain gather guess handle happen hate "
    "hear hike hit hold host hurt imagine improve include increase introduce invite involve jog jump kick laugh lead "
    "let lift listen make manage matter miss mention nail notice offer open order own pass pay perform pick practice "
    "prefer prepare prevent process produce promise promote provide pull push put raise reach realize recall receive "
    "recharge recommend reconnect reduce reflect refresh rent represent research rescue respond rest return roast save "
    "score search sell send serve set sign sing sit sleep slow solve sound speak stand step stick stop strengthen "
    "stress struggle study suffer suggest surprise swim symbolize thank throw track train transform treat turn "
    "understand unwind wait wake walk wear wish wonder worry"
) - _stems(
    "book people work walk hike dance dream travel support plan design form end rest study stress sound step "
    "sign order score change challenge cause care break love drink fear fight help hope talk paint play"
)
"""Stems of words that are verbs mostly; not those that are as often nouns."""
ADJECTIVES = word_set(
    "able active adorable afraid alive alone amazing ancient angry annual awesome awful bad beautiful best better big "
    "black blue bold brave brief bright broken brown busy calm certain charming cheap classic clean clear clever close "
    "cold colorful colourful comfortable common complete cool cozy crazy creative cute daily dark dear deep delicious "
    "different difficult dirty dry due eager early easy electric elegant empty enough entire epic exact excellent "
    "excited extra fair familiar famous fancy fantastic far fast favorite favourite final fine first fit flexible "
    "former free fresh friendly frozen full fun funny future general gentle genuine giant glad golden good gorgeous "
    "grand grateful great green grey handmade happy hard healthy heavy high homemade honest hot huge humble important "
    "impressive incredible inner insane inspiring intense interesting interested joyful key kind large last late "
    "latest lazy legendary little live local lonely long loud lovely low lucky magical main major massive modern "
    "narrow nasty national natural nearby neat necessary nervous new next nice normal odd old only open orange "
    "original other outdoor own particular past peaceful perfect personal physical pink pleasant polite poor popular "
    "positive possible precious pretty previous private professional proud public pure purple quick quiet rare ready "
    "real recent red regular relaxing rich right romantic rough rude sad safe same scary second serious several severe "
    "sharp shiny short shy sick significant silly similar simple single slow small smart smooth social soft solid "
    "special spicy spiritual stable strange strong stunning stylish sudden super supportive sure sweet tall tasty "
    "terrible thick thin tight tiny tired top total tough traditional true ugly unbelievable unique unreal usual vegan "
    "vintage virtual vital vivid volunteer warm weak weird whole wild wise wonderful wooden worst worth wrong yellow "
    "yummy young younger older bigger smaller larger greater stronger healthier"
)
"""Common adjectives."""
FILLERS = word_set(
    "wow yeah yep yup yes no nope well hey hi hello ok okay oh ah aww awww haha hmm sure thanks thank btw anyway "
    "actually basically honestly definitely absolutely totally exactly finally recently lately currently luckily "
    "unfortunately fortunately sadly hopefully especially literally seriously maybe perhaps probably however congrats "
    "congratulations glad sorry again plus like"
)
"""Words with which sentences begin and answers do not."""
