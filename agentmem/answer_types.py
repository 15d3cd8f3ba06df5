"""Kinds of thing that questions ask for by name ("which instrument"), and common words of each: a small table by hand.

A question's noun ("what kind of *pets*") stands for a kind, and a phrase with one of its words is likelier the answer.
"""

from __future__ import annotations

from agentmem.language import stem, word_set

_TABLE: dict[str, tuple[str, str]] = {
    "instrument": (
        "instrument",
        "guitar piano violin clarinet drums drum flute cello saxophone trumpet keyboard ukulele harp banjo bass organ "
        "accordion harmonica trombone viola oboe",
    ),
    "animal": (
        "animal pet breed bird creature species",
        "dog cat puppy pup kitten turtle fish hamster rabbit bunny bird parrot horse pony snake lizard labrador "
        "shepherd retriever poodle terrier bulldog beagle spaniel cow pig goat sheep duck chicken bear wolf fox deer "
        "lion tiger elephant monkey whale dolphin shark eagle owl butterfly bee frog mouse squirrel gecko pet beetle "
        "spider",
    ),
    "food": (
        "food dish meal snack dessert recipe cuisine ingredient flavor fruit vegetable dinner lunch breakfast cook "
        "bake eat treat cake sauce diet",
        "pizza pasta salad soup sandwich burger steak chicken beef pork fish salmon shrimp tofu rice noodle bread cake "
        "cupcake cookie pie muffin pancake tart chocolate caramel vanilla strawberry raspberry blueberry lemon mango "
        "coconut banana apple orange peach berry cheese cream ice milk butter egg bacon sausage bean lentil potato "
        "tomato onion garlic pepper ginger basil herb spice curry taco burrito sushi stew roast barbecue bbq grill "
        "veggies vegetables fruit nuts almond oat cereal granola yogurt smoothie honey maple pudding sorbet gelato "
        "lasagna risotto dumpling omelette fries snack snacks candy soda popcorn cobbler",
    ),
    "drink": (
        "drink beverage beer wine cocktail",
        "water coffee tea juice beer wine soda milk cocktail latte cappuccino espresso smoothie lemonade stout lager "
        "ale whisky whiskey vodka rum gin cider champagne cocoa",
    ),
    "sport": (
        "sport exercise workout training fitness martial",
        "football soccer basketball baseball tennis golf swimming running jogging hiking cycling biking yoga boxing "
        "karate judo kickboxing taekwondo wrestling hockey volleyball badminton rugby cricket surfing skiing "
        "snowboarding skating climbing rowing kayaking gym weights weightlifting strength cardio pilates aerobics "
        "dance dancing sprinting marathon race lifting bodybuilding gymnastics bowling archery fencing",
    ),
    "country": (
        "country nation homeland abroad",
        "usa america england britain uk scotland wales ireland france germany italy spain portugal greece turkey "
        "sweden norway denmark finland iceland poland austria switzerland netherlands belgium hungary russia ukraine "
        "china japan korea india thailand vietnam indonesia malaysia singapore philippines australia zealand canada "
        "mexico brazil argentina chile peru colombia cuba jamaica egypt morocco kenya nigeria ethiopia ghana israel "
        "lebanon iran iraq pakistan nepal croatia romania bulgaria serbia greenland europe africa asia",
    ),
    "state": (
        "state",
        "alabama alaska arizona arkansas california colorado connecticut delaware florida georgia hawaii idaho "
        "illinois indiana iowa kansas kentucky louisiana maine maryland massachusetts michigan minnesota mississippi "
        "missouri montana nebraska nevada hampshire jersey york carolina dakota ohio oklahoma oregon pennsylvania "
        "rhode tennessee texas utah vermont virginia washington wisconsin wyoming",
    ),
    "city": (
        "city town destination",
        "london paris rome berlin madrid barcelona lisbon dublin edinburgh amsterdam vienna prague athens istanbul "
        "moscow tokyo kyoto osaka seoul beijing shanghai bangkok sydney melbourne toronto vancouver montreal chicago "
        "boston seattle miami houston dallas austin denver phoenix philadelphia detroit atlanta angeles francisco "
        "diego vegas york orleans portland nashville rio delhi mumbai cairo dubai florence venice milan",
    ),
    "color": (
        "color shade",
        "red blue green yellow black white brown grey gray orange purple pink silver gold golden beige turquoise teal "
        "violet magenta navy crimson",
    ),
    "relation": (
        "relative family person member friend people support",
        "mother father mom dad parent parents sister brother sibling siblings aunt uncle cousin grandmother "
        "grandfather grandma grandpa gran nephew niece son daughter child children kid kids wife husband partner "
        "girlfriend boyfriend fiance friend friends colleague colleagues coworkers neighbor neighbors teammate "
        "teammates boss mentor teacher family roommate team",
    ),
    "job": (
        "job profession occupation career role position work business company employ",
        "teacher nurse doctor engineer lawyer counselor writer artist designer developer programmer manager assistant "
        "director accountant chef cook driver actor actress musician singer dancer photographer journalist scientist "
        "professor coach trainer therapist psychologist salesman consultant analyst banker barista waiter bartender "
        "volunteer coordinator intern editor architect electrician mechanic farmer pilot officer politician player "
        "store shop studio salon bakery restaurant agency startup",
    ),
    "feeling": (
        "feel feeling emotion mood reaction react felt describe trait personality quality attitude characteristic",
        "happy sad glad proud excited nervous anxious scared afraid angry upset grateful thankful thrilled relieved "
        "stressed tired exhausted lonely calm relaxed peaceful hopeful motivated inspired overwhelmed disappointed "
        "frustrated embarrassed confident comfortable amazed surprised touched blessed joy joyful ecstatic awe awesome "
        "amazing incredible accepted loved appreciated determined passionate worried shocked bittersweet refreshed "
        "energized empowered fulfilled content satisfied humbled honored freedom free alive magical fun great good bad "
        "awful terrible wonderful fantastic kind caring thoughtful supportive brave strong honest authentic selfless "
        "creative special rewarding powerful tough hard difficult challenging nostalgic serene happiness gratitude "
        "discouraged accomplished encouraged",
    ),
    "activity": (
        "activity hobby pastime interest pursuit fun passion do relax destress unwind",
        "painting drawing reading writing cooking baking gardening hiking camping swimming running cycling biking "
        "dancing singing fishing photography yoga meditation gaming knitting sewing pottery sculpting skiing "
        "snowboarding surfing kayaking climbing traveling travelling shopping volunteering journaling bowling picnic "
        "walk walks hike trip game games movie movies music book books concert museum",
    ),
    "art": (
        "art artwork craft medium piece paint painting subject picture photo mural sculpture draw",
        "painting drawing sculpture pottery mural portrait landscape sunset sunrise watercolor oil acrylic sketch bowl "
        "pot vase cup abstract flower flowers beach lake ocean sea mountain forest horse tree trees sky night nature",
    ),
    "study": (
        "course class degree major field subject study education school college university program skill language "
        "lesson",
        "psychology counseling medicine law engineering history physics chemistry biology mathematics math economics "
        "business art arts music literature english spanish french german italian mandarin chinese japanese political "
        "politics science computer programming nursing education philosophy sociology design marketing finance "
        "accounting film theater administration yoga cooking pottery painting",
    ),
    "music": (
        "music genre band song artist musician concert tune",
        "rock jazz classical pop blues country folk metal punk hip-hop rap soul reggae electronic techno house opera "
        "indie orchestra funk disco instrumental",
    ),
    "health": (
        "health illness disease condition injury medical hurt sick ailment problem issue allergy allergic",
        "asthma diabetes cancer flu cold fever headache migraine allergy allergies ankle knee back shoulder arm leg "
        "wrist foot heart stomach ulcer obesity weight anxiety depression adhd sprain fracture broken injury "
        "surgery infection pain cough",
    ),
    "place": (
        "place location spot venue area site setting room trip vacation travel visit camp",
        "park beach lake river mountain mountains forest woods desert island ocean sea coast canyon waterfall garden "
        "museum gallery theater cinema restaurant café cafe bar pub shop store mall market library school college "
        "university hospital clinic church temple shelter center centre gym stadium arena studio office home house "
        "apartment hotel hostel cabin farm ranch zoo aquarium airport station bridge castle palace village countryside "
        "city downtown neighborhood hometown backyard trail",
    ),
    "nature": (
        "flower plant tree weather season",
        "rose roses tulip lily lilies daisy sunflower sunflowers orchid peony succulent succulents cactus fern oak "
        "pine maple willow palm herb herbs rain snow storm sunny cloudy spring summer autumn fall winter basil "
        "tomatoes",
    ),
    "object": (
        "item gift present object thing souvenir device gadget gear equipment tool collection collect vehicle car buy "
        "purchase receive jewelry clothing wear decoration",
        "book books necklace ring bracelet earrings watch pendant shirt dress shoes sneakers boots hat jacket jersey "
        "jerseys bag backpack camera phone laptop computer tablet console tv guitar bicycle bike car truck van scooter "
        "motorcycle painting photo poster mug cup plate bowl vase lamp candle candles flowers card cards "
        "doll toy toys puzzle ball basketball tent bed couch sofa desk table chair mat blanket tracker "
        "headphones headset keyboard mouse monitor controller statue trophy medal cake coin coins stamp stamps "
        "records vinyl dvds",
    ),
    "disaster": (
        "disaster accident incident emergency damage",
        "flood flooding earthquake storm hurricane tornado fire wildfire drought landslide tsunami blizzard crash "
        "accident outage leak breakdown collision theft robbery power",
    ),
    "seasoning": (
        "spice herb seasoning topping",
        "salt pepper basil oregano thyme rosemary sage parsley cilantro mint dill cinnamon nutmeg ginger garlic "
        "turmeric paprika cumin saffron vanilla chili curry clove bay sesame",
    ),
    "genre": (
        "genre style fiction",
        "fantasy mystery thriller romance romantic comedy drama horror science sci-fi action adventure documentary "
        "biography memoir history historical crime animation superhero classics poetry nonfiction non-fiction self- "
        "help fiction dystopian",
    ),
    "value": (
        "value virtue symbol symbolize represent meaning lesson reminder significance principle",
        "love hope strength resilience courage freedom peace unity family friendship faith kindness compassion honesty "
        "respect equality acceptance growth perseverance determination hard dedication passion creativity joy "
        "happiness beauty warmth confidence patience pride balance identity self-expression teamwork trust support "
        "community gratitude empathy loyalty inclusivity togetherness justice responsibility learning",
    ),
    "body": (
        "body part muscle",
        "head neck shoulder arm elbow wrist hand finger chest back stomach hip leg knee ankle foot toe heart core",
    ),
    "vehicle": (
        "car vehicle transport transportation",
        "car truck van bus train plane bike bicycle motorcycle scooter boat ship subway taxi toyota honda ford tesla "
        "jeep bmw suv hybrid",
    ),
    "family event": (
        "event celebration holiday ceremony festival occasion party competition tournament conference workshop",
        "wedding birthday christmas easter thanksgiving halloween anniversary graduation parade concert festival "
        "conference fair marathon race tournament convention expo reunion barbecue picnic workshop retreat gala "
        "auction fundraiser seminar march parade show",
    ),
}  # fmt: skip
TITLED = frozenset(
    map(
        stem,
        word_set(
            "book novel movie film series show song album game band title artist author composer actor company brand "
            "organization group team league franchise magazine app website podcast store shop restaurant program "
            "charity trilogy character musician player name"
        ),
    )
)
"""Nouns whose kind is told by capitals or quotation marks rather than by a list."""
_BY_FORM = {
    "where": ("place", "country", "state", "city"),
    "who": ("relation",),
    "feel": ("feeling",),
    "do": ("activity",),
}
_BY_ASKED: dict[str, list[str]] = {}
for _kind, (_asked, _) in _TABLE.items():
    for _w in _asked.split():
        _BY_ASKED.setdefault(stem(_w), []).append(_kind)
_WORDS: dict[str, frozenset[str]] = {k: frozenset(stem(w) for w in said.split()) for k, (_, said) in _TABLE.items()}


def expected(form: str, nouns: frozenset[str], verb: str) -> tuple[str, frozenset[str]]:
    """What tells the kind that a question asks for, "noun" ("which instrument"), "form" ("where") or "verb" ("what did
    she paint"), and the stems of common words of it; ("", none) when nothing does."""
    for how, kinds in (
        ("noun", [k for n in sorted(nouns) for k in _BY_ASKED.get(n, ())]),
        ("form", [*_BY_FORM.get(form, ())]),
        ("verb", _BY_ASKED.get(verb, [])),
    ):
        if kinds:
            return how, frozenset().union(*(_WORDS[k] for k in kinds)) - nouns
    return "", frozenset()
