"""The world behind the synthetic suite: who and what there is, and how the words for it relate.

Every table is plain data; the look-ups at the end (``SYNONYM``, ``HYPERNYM``, ``OPPOSITE``) are derived from them.
Words are kept few (under a thousand forms), so that a two-layer encoder meets each of them hundreds of times in a
minute of pre-training.
"""

from __future__ import annotations

from dataclasses import dataclass

WOMEN = ["Anna", "Maria", "Julia", "Laura", "Sofia", "Emma", "Clara", "Nina", "Olga", "Rosa"]
MEN = ["Ben", "Carl", "David", "Felix", "Hugo", "Ivan", "Leo", "Max", "Paul", "Tom"]
NAMES = WOMEN + MEN
ROLES = ["teacher", "doctor", "farmer", "nurse", "baker", "driver", "singer", "pilot"]

# Kind -> its members. A member may carry a synonym behind a slash.
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
    "France": "Paris Lyon",
    "Italy": "Rome Milan",
    "Germany": "Berlin Munich",
    "Spain": "Madrid Seville",
    "the house": "the-kitchen the-bedroom",
    "the school": "the-classroom the-library",
    "Egypt": "Cairo Luxor",
    "Japan": "Tokyo Kyoto",
    "the castle": "the-tower the-dungeon",
    "the harbour": "the-dock the-warehouse",
}
SEASONS = {
    "at the weekend": ("on Saturday", "on Sunday"),
    "in spring": ("in April", "in May"),
    "in winter": ("in January", "in February"),
}
PLAIN_TIMES = ("on Monday", "on Friday")

# Topics play the part of MNLI's genres: the mismatched splits use kinds and regions that its training set never shows.
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


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb's forms: base ``buy``, simple past ``bought``, participle ``bought``."""

    base: str
    past: str
    part: str


def _verb(spec: str) -> Verb:
    """``buy:bought`` or ``take:took:taken``; a regular verb is its base alone (``paint``)."""
    base, *forms = spec.split(":")
    if not forms:
        forms = [base + "d" if base.endswith("e") else base + "ed"]
    return Verb(base, forms[0], forms[-1])


# (synonyms, synonyms of the opposite, the more general verb of both or of each side)
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
# Seen from the other side, the same event: X sold it to Y = Y bought it from X.
_TRANSFERS = [
    ("sell", "to", "buy", "from"),
    ("lend:lent", "to", "borrow", "from"),
    ("give:gave:given", "to", "receive", "from"),
]

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
NOUNS: dict[str, list[str]] = {}
SYNONYM: dict[str, str] = {}
OPPOSITE: dict[str, tuple[str, ...]] = {}
HYPERNYM: dict[str, str] = {}


def _enter(words: str) -> list[str]:
    found = [_verb(spec) for spec in words.split()]
    for verb in found:
        VERBS.setdefault(verb.base, verb)
    return [verb.base for verb in found]


def _relate(left: list[str], right: list[str]) -> None:
    for side, other in ((left, right), (right, left)):
        if len(side) == 2:
            SYNONYM[side[0]], SYNONYM[side[1]] = side[1], side[0]
        for word in side:
            if other:
                OPPOSITE[word] = tuple(other)


def _verbs(table: list) -> list[str]:
    entered = []
    for left, right, hypernyms in table:
        sides = _enter(left), _enter(right)
        _relate(*sides)
        for side, hypernym in zip(sides, hypernyms, strict=True):
            general = _enter(hypernym)
            HYPERNYM.update({verb: general[0] for verb in side if general})
        entered += sides[0] + sides[1]
    return entered


ACTIONS = _verbs(_ACTIONS)
SOCIAL = _verbs(_SOCIAL)
CONVERSE: dict[
    str, tuple[str, str, str]
] = {}  # verb -> (its preposition, the converse verb, that one's preposition)
for _to, _prep, _from, _other in _TRANSFERS:
    _left, _right = _enter(_to)[0], _enter(_from)[0]
    CONVERSE[_left], CONVERSE[_right] = (_prep, _right, _other), (_other, _left, _prep)
TRANSFERS = list(CONVERSE)

ADJECTIVES: list[str] = []
for _left, _right in _QUALITIES:
    _relate(_left.split(), _right.split())
    ADJECTIVES += _left.split() + _right.split()
OPPOSITE.update({c: tuple(o for o in COLOURS if o != c) for c in COLOURS})
ADJECTIVES += COLOURS

for _kind, _members in KINDS.items():
    NOUNS[_kind] = []
    for _member in _members.split():
        _names = _member.split("/")
        _relate(_names, [])
        NOUNS[_kind] += _names
        HYPERNYM.update({name: _kind for name in _names})

PLACES: dict[str, list[str]] = {}
for _region, _spots in REGIONS.items():
    PLACES[_region] = [f"in {spot.replace('-', ' ')}" for spot in _spots.split()]
    HYPERNYM.update({spot: f"in {_region}" for spot in PLACES[_region]})
TIMES = list(PLAIN_TIMES)
for _season, _days in SEASONS.items():
    TIMES += _days
    HYPERNYM.update({day: _season for day in _days})


def hyponyms() -> dict[str, list[str]]:
    """Hypernym -> the words right below it."""
    below: dict[str, list[str]] = {}
    for word, general in HYPERNYM.items():
        below.setdefault(general, []).append(word)
    return below


def plural(noun: str) -> str:
    """The plural of one of this world's nouns."""
    irregular = {"sheep": "sheep", "knife": "knives", "scarf": "scarves"}
    if noun in irregular:
        return irregular[noun]
    if noun.endswith("y") and noun[-2] not in "aeou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def article(word: str) -> str:
    """``a`` or ``an`` before a word."""
    return "an" if word[0] in "aeiou" else "a"
