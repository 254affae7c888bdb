"""Facts, the sentences and questions that state them, and how two facts relate."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from mtkd.data.synthetic import world as w

ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)
FORMS = ("active", "active", "active", "active", "passive", "passive", "front", "late")
FEWER = {"all": ("most", "some"), "most": ("some",)}


@dataclass(frozen=True, slots=True)
class Fact:
    """One event: `agent` did `verb` to `patient` (a thing, or a person for a social verb).

    `quantifier` makes the agent a group (`all nurses`), `count` the patient several (`three cars`),
    `partner` is the other person of a transfer (`to Ben`); place and time are whole phrases
    (`in Paris`); an empty string is an empty slot.
    """

    agent: str
    verb: str
    patient: str
    adjective: str = ""
    count: str = ""
    place: str = ""
    time: str = ""
    partner: str = ""
    quantifier: str = ""
    future: bool = False
    negated: bool = False

    @property
    def social(self) -> bool:
        """Whether the patient is a person."""
        return self.patient in w.NAMES or self.patient in w.ROLES

    def filled(self, *slots: str) -> list[str]:
        """Return those of the slots that are not empty."""
        return [slot for slot in slots if getattr(self, slot)]


def sample_fact(rng: Random, topics: dict[str, tuple[str, str]]) -> Fact:
    """Draw a positive fact about one of the topics, with at most three modifiers."""
    kinds, regions = topics[rng.choice(list(topics))]
    region = rng.choice(regions.split("|"))
    agent = rng.choice(w.NAMES) if rng.random() < 0.75 else rng.choice(w.ROLES)
    place = rng.choice(w.PLACES[region]) if rng.random() < 0.45 else ""
    time = rng.choice(w.TIMES) if rng.random() < 0.35 else ""
    if place and rng.random() < 0.15:
        place = w.HYPERNYM[place]
    if time in w.HYPERNYM and rng.random() < 0.15:
        time = w.HYPERNYM[time]
    future = rng.random() < 0.35
    draw = rng.random()
    if draw < 0.15:
        someone = rng.choice([name for name in w.NAMES if name != agent])
        verb = rng.choice(w.SOCIAL)
        return Fact(agent, verb, someone, place=place, time=time, future=future)
    kind = rng.choice(kinds.split())
    noun = kind if rng.random() < 0.15 else rng.choice(w.NOUNS[kind])
    style = rng.random()
    adjective = rng.choice(w.ADJECTIVES) if style < 0.4 else ""
    count = rng.choice(w.NUMBERS) if 0.4 <= style < 0.8 else ""
    if draw < 0.25:
        someone = rng.choice([name for name in w.NAMES if name != agent])
        verb = rng.choice(w.TRANSFERS)
        return Fact(agent, verb, noun, adjective, count, "", time, someone, future=future)
    quantifier = ""
    if draw > 0.85:
        agent, quantifier = rng.choice(w.ROLES), rng.choice(("all", "most", "some", "few"))
    verb = rng.choice(w.ACTIONS)
    if verb in w.HYPERNYM and rng.random() < 0.12:
        verb = w.HYPERNYM[verb]
    return Fact(agent, verb, noun, adjective, count, place, time, "", quantifier, future)


def capitalize(text: str) -> str:
    """Return the text with a capital first letter, the rest unchanged."""
    return text[0].upper() + text[1:]


def join(*parts: str) -> str:
    """Join the non-empty parts by spaces."""
    return " ".join(part for part in parts if part)


def person(who: str) -> str:
    """Return a name as it is, a role with its article."""
    return who if who in w.NAMES else f"the {who}"


def subject(fact: Fact) -> str:
    """Return the agent's noun phrase."""
    return f"{fact.quantifier} {w.plural(fact.agent)}" if fact.quantifier else person(fact.agent)


def patient(fact: Fact, late: bool = False) -> str:
    """Return the patient's noun phrase; `late` gives `a car that was red` for `a red car`."""
    if fact.social:
        return person(fact.patient)
    noun = w.plural(fact.patient) if fact.count else fact.patient
    phrase = noun if late else join(fact.adjective, noun)
    phrase = f"{fact.count or w.article(phrase)} {phrase}"
    if late and fact.adjective:
        phrase += f" that {'were' if fact.count else 'was'} {fact.adjective}"
    return phrase


def _to(fact: Fact) -> str:
    return f"{w.PREPOSITION[fact.verb]} {fact.partner}" if fact.partner else ""


def clause(fact: Fact, form: str = "active") -> str:
    """Return the fact as a clause without capital or full stop.

    `form` is `active`, `passive`, `front` (time or place first), `late` (adjective in a relative
    clause) or `cleft`.
    """
    verb = w.VERBS[fact.verb]
    who, what = subject(fact), patient(fact, form == "late")
    rest = join(_to(fact), fact.place, fact.time)
    if form == "passive":
        no = "not" if fact.negated else ""
        if fact.negated and not (fact.social or fact.count):
            # "A car was not bought" would leave the scope open; "no car was bought" does not.
            what, no = "no " + what.split(" ", 1)[1], ""
        be = "were" if fact.count else "was"
        be = join("will", no, "be") if fact.future else join(be, no)
        return join(what, be, verb.part, _to(fact), "by", who, fact.place, fact.time)
    if fact.future:
        does = f"will not {verb.base}" if fact.negated else f"will {verb.base}"
    else:
        does = f"did not {verb.base}" if fact.negated else verb.past
    if form == "front" and (fact.place or fact.time):
        first, last = (fact.time, fact.place) if fact.time else (fact.place, "")
        return join(f"{first},", who, does, what, _to(fact), last)
    if form == "cleft" and not (fact.negated or fact.quantifier):
        return join("it was", who, "who", does, what, rest)
    return join(who, does, what, rest)


def statement(fact: Fact, rng: Random, form: str = "") -> str:
    """Return the fact as a sentence, in a random form if none is given."""
    return capitalize(clause(fact, form or rng.choice(FORMS))) + "."


def question(fact: Fact, asked: str, rng: Random) -> str:
    """Return a question about one slot of the fact, or about its reason or its truth.

    `asked` is `agent`, `patient`, `place`, `time`, `why` or `whether`.
    """
    return capitalize(_question(fact, asked, rng.random())) + "?"


def _question(fact: Fact, asked: str, style: float) -> str:
    verb = w.VERBS[fact.verb]
    who, what, to = subject(fact), patient(fact), _to(fact)
    does = f"will {verb.base}" if fact.future else verb.past
    do = "will" if fact.future else "did"
    be = "will" if fact.future else "were" if fact.count else "was"
    part = f"be {verb.part}" if fact.future else verb.part
    where = join(*(getattr(fact, slot) for slot in ("place", "time") if slot != asked))
    rest = join(to, where)
    if asked == "agent":
        if style < 0.3:
            return join("by whom", be, what, part, rest)
        return join("who" if style < 0.7 else "which person", does, what, rest)
    if asked == "patient":
        words = ("which person", "whom") if fact.social else ("what thing", "what")
        return join(words[style >= 0.3], do, who, verb.base, rest)
    if asked == "whether":
        if style >= 0.5:
            return join("is it true that", who, does, what, rest)
        return join(do, who, verb.base, what, rest)
    short = {"place": "where", "time": "when", "why": "why"}[asked]
    if style < 0.25:
        return join(short, be, what, part, to, "by", who, where)
    if style >= 0.7:
        short = {"place": "in which place", "time": "at what time", "why": "for what reason"}[asked]
    return join(short, do, who, verb.base, what, rest)


def paraphrase(fact: Fact, rng: Random, p: float = 0.3) -> Fact:
    """Return the same event in other words.

    Verb, patient and adjective are each replaced by a synonym with probability `p`, and a transfer
    by its converse.
    """
    if fact.partner and rng.random() < p and fact.agent in w.NAMES:
        verb = w.CONVERSE[fact.verb]
        fact = replace(fact, agent=fact.partner, partner=fact.agent, verb=verb)
    changes = {}
    for slot in ("verb", "patient", "adjective"):
        synonym = w.SYNONYM.get(getattr(fact, slot))
        if synonym and rng.random() < p and not (slot == "verb" and fact.partner):
            changes[slot] = synonym
    return replace(fact, **changes)


Pair = tuple[Fact, Fact]  # premise, hypothesis


def same(fact: Fact, rng: Random) -> Pair:
    """Return the fact twice."""
    return fact, fact


def narrower(fact: Fact, rng: Random) -> Pair | None:
    """Return a premise that says more: the hypothesis has a hypernym, or lacks a modifier."""
    options = [
        {slot: w.HYPERNYM[getattr(fact, slot)]}
        for slot in ("verb", "patient", "place", "time")
        if getattr(fact, slot) in w.HYPERNYM and not (slot == "verb" and fact.partner)
    ]
    options += [{"quantifier": less} for less in FEWER.get(fact.quantifier, ())]
    if dropped := fact.filled("adjective", "place", "time"):
        options.append({rng.choice(dropped): ""})
    return (fact, replace(fact, **rng.choice(options))) if options else None


def broader(fact: Fact, rng: Random) -> Pair | None:
    """Return a hypothesis that says more than the premise."""
    pair = narrower(fact, rng)
    return pair and pair[::-1]


def opposed(fact: Fact, rng: Random) -> Pair | None:
    """Return two facts that exclude each other: opposite words, another number, place or day."""
    options = [
        {slot: rng.choice(w.OPPOSITE[getattr(fact, slot)])}
        for slot in ("verb", "verb", "adjective")
        if getattr(fact, slot) in w.OPPOSITE and not (slot == "verb" and fact.partner)
    ]
    if fact.count:
        options += [{"count": _another(w.NUMBERS, fact.count, rng)}] * 3
    if fact.place in w.HYPERNYM:
        region = w.HYPERNYM[fact.place].removeprefix("in ")
        options.append({"place": _another(w.PLACES[region], fact.place, rng)})
    if fact.time in w.HYPERNYM or fact.time in w.PLAIN_TIMES:
        options.append({"time": _another(w.TIMES, fact.time, rng)})
    if fact.quantifier in ("all", "most", "few"):
        options += [{"quantifier": "few" if fact.quantifier != "few" else "most"}] * 3
    return (fact, replace(fact, **rng.choice(options))) if options else None


def _another(words, word: str, rng: Random) -> str:
    return rng.choice([other for other in words if other != word])


def unrelated(fact: Fact, rng: Random) -> Pair:
    """Return two facts that may both hold: another person, thing, verb, tense or roles."""
    pool = w.ROLES if fact.agent in w.ROLES else w.NAMES
    present = (fact.agent, fact.patient, fact.partner)
    options = [{"agent": rng.choice([who for who in pool if who not in present])}]
    if fact.partner and fact.agent in w.NAMES:
        options += [{"agent": fact.partner, "partner": fact.agent}] * 2
    elif fact.social and fact.agent in w.NAMES:
        options += [{"agent": fact.patient, "patient": fact.agent}] * 2
    if not fact.social:
        members = w.NOUNS.get(w.HYPERNYM.get(fact.patient, ""), ())
        equal = (fact.patient, w.SYNONYM.get(fact.patient))
        if alike := [noun for noun in members if noun not in equal]:
            options += [{"patient": rng.choice(alike)}] * 2
    if not fact.partner:
        verb = fact.verb
        near = {verb, w.SYNONYM.get(verb), w.HYPERNYM.get(verb), *w.OPPOSITE.get(verb, ())}
        verbs = w.SOCIAL if fact.social else w.ACTIONS
        options.append({"verb": rng.choice([other for other in verbs if other not in near])})
    options += [{"future": not fact.future}] * 3
    return fact, replace(fact, **rng.choice(options))


RELATIONS: dict[str, Callable[[Fact, Random], Pair | None]] = {
    "same": same,
    "narrower": narrower,
    "broader": broader,
    "opposed": opposed,
    "unrelated": unrelated,
}
# Natural logic in one table. Label: [(weight, premise negated, hypothesis negated, relations)],
# where a relation is that of the hypothesis's fact to the premise's before negation. The weights
# give every label the same share of negated hypotheses.
INFERENCES = {
    ENTAILMENT: [
        (0.56, False, False, "same same narrower"),
        (0.10, False, True, "opposed"),
        (0.34, True, True, "same same broader"),
    ],
    NEUTRAL: [
        (0.40, False, False, "broader unrelated unrelated elsewhere"),
        (0.18, False, True, "broader unrelated elsewhere"),
        (0.18, True, False, "narrower opposed unrelated elsewhere"),
        (0.24, True, True, "narrower opposed unrelated unrelated elsewhere"),
    ],
    CONTRADICTION: [
        (0.34, False, False, "opposed"),
        (0.38, False, True, "same same narrower"),
        (0.28, True, False, "same same broader"),
    ],
}


def labelled_pair(draw: Callable[[], Fact], label: int, rng: Random) -> Pair:
    """Return (premise, hypothesis) in the NLI relation `label`; `draw` is called until it fits."""
    weights = [weight for weight, *_ in INFERENCES[label]]
    _, first, second, relations = rng.choices(INFERENCES[label], weights)[0]
    relation = rng.choice(relations.split())
    while True:
        fact = draw()
        pair = (fact, draw()) if relation == "elsewhere" else RELATIONS[relation](fact, rng)
        if pair and not ((first or second) and (pair[0].quantifier or pair[1].quantifier)):
            return replace(pair[0], negated=first), replace(pair[1], negated=second)
