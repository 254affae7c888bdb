"""The world of the synthetic suite: its names, nouns, verbs and adjectives, and their relations.

The tables are plain data; the look-ups `SYNONYM`, `HYPERNYM`, `OPPOSITE` and `CONVERSE` are derived
from them. There are fewer than a thousand word forms, so that a two-layer encoder meets each of
them hundreds of times in a minute of pre-training.
"""

from dataclasses import dataclass

words = str.split  # a table of words is read more easily as one string

WOMEN = words("Anna Maria Julia Laura Sofia Emma Clara Nina Olga Rosa")
MEN = words("Ben Carl David Felix Hugo Ivan Leo Max Paul Tom")
NAMES = WOMEN + MEN
ROLES = words("teacher doctor farmer nurse baker driver singer pilot")

# Kind: its members; a member's synonym follows a slash.
KINDS = {
    "animal": "dog/hound cat horse rabbit/bunny",
    "vehicle": "car/automobile truck/lorry bus bicycle/bike",
    "garment": "coat/jacket shirt hat/cap dress/gown",
    "instrument": "guitar violin/fiddle piano drum",
    "tool": "hammer saw shovel/spade axe/hatchet",
    "fruit": "apple pear lemon peach",
    "document": "letter/note novel map/chart diary/journal",
    "boat": "ferry canoe yacht raft",
    "bird": "eagle owl duck raven/crow",
    "flower": "rose tulip lily orchid",
    "weapon": "sword spear dagger/knife pistol/handgun",
    "jewel": "ring necklace bracelet/bangle crown",
}
REGIONS = {
    "France": "Paris|Lyon",
    "Italy": "Rome|Milan",
    "Germany": "Berlin|Munich",
    "Spain": "Madrid|Seville",
    "the house": "the kitchen|the bedroom",
    "the school": "the classroom|the library",
    "Egypt": "Cairo|Luxor",
    "Japan": "Tokyo|Kyoto",
    "the castle": "the tower|the dungeon",
    "the harbour": "the dock|the warehouse",
}
SEASONS = {
    "at the weekend": ("on Saturday", "on Sunday"),
    "in spring": ("in April", "in May"),
    "in winter": ("in January", "in February"),
}
PLAIN_TIMES = ("on Monday", "on Friday")

# Topic: its kinds and regions. Topics play the part of MNLI's genres: the mismatched splits use
# kinds and regions that its training set never shows.
MATCHED = {
    "home": ("animal garment fruit", "the house|France"),
    "town": ("vehicle garment", "Germany|Italy"),
    "music": ("instrument document", "Spain|Italy|the school"),
    "work": ("tool vehicle", "Germany|the house"),
    "study": ("document fruit", "the school|France|Spain"),
}
MISMATCHED = {
    "sea": ("boat bird", "the harbour|Japan"),
    "garden": ("flower bird", "Japan|the castle"),
    "museum": ("weapon jewel", "Egypt|the castle"),
}
TOPICS = MATCHED | MISMATCHED


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb's forms: base `take`, simple past `took`, participle `taken`."""

    base: str
    past: str
    part: str


# (verb and synonym, the opposites of both, the hypernym of each side); `take:took:taken`.
_ACTIONS = [
    ("buy:bought purchase", "sell:sold vend", ("acquire", "trade")),
    ("find:found discover", "lose:lost misplace", ("locate", "")),
    ("fix repair", "break:broke:broken damage", ("handle", "harm")),
    ("love adore", "hate detest", ("", "")),
    ("hide:hid:hidden conceal", "show:showed:shown display", ("", "present")),
    ("build:built construct", "destroy demolish", ("make:made", "harm")),
    ("push shove", "pull drag:dragged", ("move", "move")),
    ("wash rinse", "soil stain", ("handle", "harm")),
    ("praise commend", "criticize blame", ("judge", "judge")),
    ("remember recall", "forget:forgot:forgotten overlook", ("", "")),
]
_SOCIAL = [
    ("help assist", "hinder obstruct", ("", "")),
    ("follow pursue", "avoid dodge", ("", "")),
    ("thank", "insult offend", ("", "")),
    ("visit", "", ("meet:met", "")),
    ("hug:hugged embrace", "", ("touch", "")),
    ("admire respect", "despise scorn", ("", "")),
]
# The same event seen from the other side: X sold it to Y, Y bought it from X.
_TRANSFERS = [("sell", "buy"), ("lend:lent", "borrow"), ("give:gave:given", "receive")]

_QUALITIES = [
    ("big large", "small little"),
    ("old ancient", "new modern"),
    ("expensive costly", "cheap inexpensive"),
    ("clean spotless", "dirty filthy"),
    ("heavy weighty", "light weightless"),
    ("strong sturdy", "weak fragile"),
    ("beautiful pretty", "ugly hideous"),
]
COLOURS = ("red", "blue", "green", "black", "white")
NUMBERS = ("two", "three", "four", "five")

VERBS: dict[str, Verb] = {}
SYNONYM: dict[str, str] = {}
OPPOSITE: dict[str, tuple[str, ...]] = {}
HYPERNYM: dict[str, str] = {}
CONVERSE: dict[str, str] = {}
PREPOSITION: dict[str, str] = {}


def _enter_verbs(words: str) -> list[str]:
    """Enter `buy:bought`, `take:took:taken` or a regular `paint` into `VERBS`; return the bases."""
    bases = []
    for word in words.split():
        base, *forms = word.split(":")
        forms = forms or [base + ("d" if base.endswith("e") else "ed")]
        VERBS.setdefault(base, Verb(base, forms[0], forms[-1]))
        bases.append(base)
    return bases


def _relate(left: list[str], right: list[str]) -> None:
    """Enter the words of each side as synonyms, and the sides as opposites."""
    for side, other in ((left, right), (right, left)):
        if len(side) == 2:
            SYNONYM[side[0]], SYNONYM[side[1]] = side[1], side[0]
        OPPOSITE.update({word: tuple(other) for word in side if other})


def _verbs(table: list[tuple[str, str, tuple[str, str]]]) -> list[str]:
    entered = []
    for left, right, hypernyms in table:
        sides = _enter_verbs(left), _enter_verbs(right)
        _relate(*sides)
        for side, hypernym in zip(sides, hypernyms, strict=True):
            for general in _enter_verbs(hypernym):
                HYPERNYM.update({verb: general for verb in side})
        entered += sides[0] + sides[1]
    return entered


ACTIONS = _verbs(_ACTIONS)
SOCIAL = _verbs(_SOCIAL)
for _pair in _TRANSFERS:
    _give, _take = (_enter_verbs(_verb)[0] for _verb in _pair)
    CONVERSE.update({_give: _take, _take: _give})
    PREPOSITION.update({_give: "to", _take: "from"})
TRANSFERS = list(CONVERSE)

ADJECTIVES: list[str] = []
for _left, _right in _QUALITIES:
    _relate(_left.split(), _right.split())
    ADJECTIVES += _left.split() + _right.split()
OPPOSITE.update({c: tuple(o for o in COLOURS if o != c) for c in COLOURS})
ADJECTIVES += COLOURS

NOUNS: dict[str, list[str]] = {}
for _kind, _members in KINDS.items():
    NOUNS[_kind] = _members.replace("/", " ").split()
    HYPERNYM.update(dict.fromkeys(NOUNS[_kind], _kind))
    for _member in _members.split():
        _relate(_member.split("/"), [])

PLACES: dict[str, list[str]] = {}
for _region, _spots in REGIONS.items():
    PLACES[_region] = [f"in {_spot}" for _spot in _spots.split("|")]
    HYPERNYM.update(dict.fromkeys(PLACES[_region], f"in {_region}"))
TIMES = list(PLAIN_TIMES)
for _season, _days in SEASONS.items():
    TIMES += _days
    HYPERNYM.update(dict.fromkeys(_days, _season))


def plural(noun: str) -> str:
    """Return the plural of one of this world's nouns."""
    if noun == "knife":
        return "knives"
    if noun.endswith("y") and noun[-2] not in "aeou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def article(word: str) -> str:
    """Return `a` or `an`, whichever goes before the word."""
    return "an" if word[0] in "aeiou" else "a"
