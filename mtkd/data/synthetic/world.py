"""The world of the synthetic suite: its names, verbs, nouns, adjectives, places and times.

The tables are plain data; the look-ups `SYNONYM`, `OPPOSITE` and `HYPERNYM` are derived from them.
There are a few hundred word forms, so that a two-layer encoder meets each of them hundreds of times
in a minute of pre-training.
"""

words = str.split  # a table of words is read more easily as one string

WOMEN = words("Anna Maria Julia Laura Sofia Emma Clara Nina")
MEN = words("Ben Carl David Felix Hugo Ivan Leo Max")
NAMES = WOMEN + MEN
NUMBERS = words("two three four five")

# Two synonyms | their two opposites. All verbs are regular.
_ACTIONS = [
    "repair mend | damage wreck",
    "love adore | hate detest",
    "wash rinse | soil stain",
    "praise commend | criticize blame",
    "push shove | pull haul",
    "assemble construct | destroy demolish",
    "display present | conceal cover",
    "remember recall | overlook neglect",
]
_SOCIAL = [
    "help assist | hinder obstruct",
    "follow pursue | avoid dodge",
    "comfort console | insult offend",
    "admire respect | despise scorn",
]
_QUALITIES = [
    "big large | small little",
    "old ancient | new modern",
    "expensive costly | cheap inexpensive",
    "clean spotless | dirty filthy",
    "heavy weighty | light weightless",
    "strong sturdy | weak fragile",
]
# Kind: its members; a member's synonym follows a slash.
_KINDS = {
    "animal": "dog/hound cat horse rabbit/hare",
    "vehicle": "car/automobile truck/van bus bicycle/bike",
    "garment": "coat/jacket shirt hat/cap dress/gown",
    "instrument": "guitar violin/fiddle piano drum",
    "tool": "hammer saw shovel/spade axe/hatchet",
    "document": "letter/note novel map/chart book/volume",
    "boat": "ferry canoe yacht raft",
    "bird": "eagle owl duck raven/crow",
    "jewel": "ring necklace bracelet/bangle crown",
}
_REGIONS = {
    "in France": "in Paris, in Lyon",
    "in Italy": "in Rome, in Milan",
    "in Spain": "in Madrid, in Seville",
    "in the house": "in the kitchen, in the bedroom",
    "in the school": "in the classroom, in the library",
    "in Japan": "in Tokyo, in Kyoto",
    "in the castle": "in the tower, in the dungeon",
    "in the harbour": "in the dock, in the warehouse",
}
_SEASONS = {
    "at the weekend": "on Saturday, on Sunday",
    "in spring": "in April, in May",
    "in winter": "in January, in February",
}

SYNONYM: dict[str, str] = {}
OPPOSITE: dict[str, list[str]] = {}
HYPERNYM: dict[str, str] = {}


def _enter_opposites(table: list[str]) -> list[str]:
    entered = []
    for row in table:
        sides = [words(side) for side in row.split("|")]
        for (one, two), opposites in zip(sides, reversed(sides), strict=True):
            SYNONYM.update({one: two, two: one})
            OPPOSITE.update({one: opposites, two: opposites})
            entered += [one, two]
    return entered


def _enter_hypernyms(table: dict[str, str]) -> dict[str, list[str]]:
    below = {general: members.split(", ") for general, members in table.items()}
    for general, members in below.items():
        HYPERNYM.update(dict.fromkeys(members, general))
    return below


ACTIONS, SOCIAL = _enter_opposites(_ACTIONS), _enter_opposites(_SOCIAL)
ADJECTIVES = _enter_opposites(_QUALITIES)
PLACES = _enter_hypernyms(_REGIONS)
TIMES = [day for days in _enter_hypernyms(_SEASONS).values() for day in days]
for _members in _KINDS.values():
    for _one, _two in (_member.split("/") for _member in words(_members) if "/" in _member):
        SYNONYM.update({_one: _two, _two: _one})
NOUNS = _enter_hypernyms({k: ", ".join(words(m.replace("/", " "))) for k, m in _KINDS.items()})

# Kinds and regions play the part of MNLI's genres: the mismatched splits have those that its
# training set never shows.
Topics = tuple[list[str], list[str]]
EVERYWHERE: Topics = list(NOUNS), list(PLACES)
MATCHED: Topics = list(NOUNS)[:6], list(PLACES)[:5]
MISMATCHED: Topics = list(NOUNS)[6:], list(PLACES)[5:]


def past(verb: str) -> str:
    """Return the past tense, which is also the participle, of a regular verb."""
    return verb + ("d" if verb.endswith("e") else "ed")


def plural(noun: str) -> str:
    """Return the plural of one of this world's nouns."""
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def article(word: str) -> str:
    """Return the word with `a` or `an` before it."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
