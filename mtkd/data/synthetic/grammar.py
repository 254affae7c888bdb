"""Facts, and the English sentences and questions that state them or ask about them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from . import world as w


@dataclass(frozen=True, slots=True)
class Fact:
    """One event: ``agent`` did ``verb`` to ``patient`` (a thing, or a person for a social verb).

    ``quantifier`` makes the agent a group (``all nurses``), ``count`` the patient several (``three cars``),
    ``partner`` is the other person of a transfer (``to Ben``); place and time are whole phrases (``in Paris``); an
    empty string is an empty slot.
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


def sample_fact(rng: Random, topics: dict[str, tuple[str, str]]) -> Fact:
    """A random positive fact about one of the ``topics``, with at most three modifiers."""
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
        other = rng.choice([name for name in w.NAMES if name != agent])
        return Fact(agent, rng.choice(w.SOCIAL), other, place=place, time=time, future=future)
    kind = rng.choice(kinds.split())
    noun = kind if rng.random() < 0.15 else rng.choice(w.NOUNS[kind])
    style = rng.random()
    adjective = rng.choice(w.ADJECTIVES) if style < 0.4 else ""
    count = rng.choice(w.NUMBERS) if 0.4 <= style < 0.8 else ""
    if draw < 0.25:
        other = rng.choice([name for name in w.NAMES if name != agent])
        return Fact(
            agent, rng.choice(w.TRANSFERS), noun, adjective, count, "", time, other, future=future
        )
    quantifier = ""
    if draw > 0.85:
        agent, quantifier = rng.choice(w.ROLES), rng.choice(("all", "most", "some", "few"))
    verb = rng.choice(w.ACTIONS)
    if verb in w.HYPERNYM and rng.random() < 0.12:
        verb = w.HYPERNYM[verb]
    return Fact(agent, verb, noun, adjective, count, place, time, "", quantifier, future)


def cap(text: str) -> str:
    """``text`` with a capital first letter."""
    return text[0].upper() + text[1:]


def person(who: str) -> str:
    """A name as it is, a role with its article."""
    return who if who in w.NAMES else f"the {who}"


def subject(fact: Fact) -> str:
    """The agent's noun phrase."""
    return f"{fact.quantifier} {w.plural(fact.agent)}" if fact.quantifier else person(fact.agent)


def patient(fact: Fact, late: bool = False) -> str:
    """The patient's noun phrase; ``late`` puts the adjective into a relative clause (``a car that was red``)."""
    if fact.social:
        return person(fact.patient)
    many = bool(fact.count)
    noun = w.plural(fact.patient) if many else fact.patient
    early = "" if late else fact.adjective
    words = [early, noun] if early else [noun]
    words.insert(0, fact.count or w.article(words[0]))
    if late and fact.adjective:
        words += ["that", "were" if many else "was", fact.adjective]
    return " ".join(words)


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _to(fact: Fact) -> str:
    return f"{w.CONVERSE[fact.verb][0]} {fact.partner}" if fact.partner else ""


def clause(fact: Fact, form: str = "active") -> str:
    """The fact as a clause without capital or full stop.

    ``form`` is ``active``, ``passive``, ``front`` (time or place first), ``late`` (adjective in a relative clause) or
    ``cleft``.
    """
    verb = w.VERBS[fact.verb]
    who, what = subject(fact), patient(fact, form == "late")
    place, time = fact.place, fact.time
    if form == "passive":
        be = "were" if fact.count else "was"
        if fact.negated and not (fact.social or fact.count):
            # "A car was not bought" would leave the scope open; "no car was bought" does not.
            what = "no " + what.split(" ", 1)[1]
            be = "will be" if fact.future else be
        elif fact.future:
            be = "will not be" if fact.negated else "will be"
        elif fact.negated:
            be += " not"
        return _join(what, be, verb.part, _to(fact), "by", who, place, time)
    if fact.future:
        does = f"will not {verb.base}" if fact.negated else f"will {verb.base}"
    else:
        does = f"did not {verb.base}" if fact.negated else verb.past
    if form == "front" and (place or time):
        first = time or place
        return _join(f"{first},", who, does, what, _to(fact), place if first is time else "")
    if form == "cleft" and not (fact.negated or fact.quantifier):
        return _join("it was", who, "who", does, what, _to(fact), place, time)
    return _join(who, does, what, _to(fact), place, time)


FORMS = ("active", "active", "active", "active", "passive", "passive", "front", "late")


def statement(fact: Fact, rng: Random, form: str = "") -> str:
    """The fact as a sentence, in a random form if none is given."""
    return cap(clause(fact, form or rng.choice(FORMS))) + "."


def question(fact: Fact, asked: str, rng: Random) -> str:
    """A question about the slot ``asked`` of a fact: ``agent patient place time why whether``."""
    verb, style = w.VERBS[fact.verb], rng.random()
    who, what, to = subject(fact), patient(fact), _to(fact)
    does = f"will {verb.base}" if fact.future else verb.past
    do = "will" if fact.future else "did"
    be = "will" if fact.future else "were" if fact.count else "was"
    part = f"be {verb.part}" if fact.future else verb.part
    place, time = fact.place, fact.time
    if asked == "agent":
        if style < 0.3:
            return cap(_join("by whom", be, what, part, to, place, time)) + "?"
        start = "who" if style < 0.7 else "which person"
        return cap(_join(start, does, what, to, place, time)) + "?"
    if asked == "patient":
        start = "whom" if fact.social else "what"
        if style < 0.3:
            start = "which person" if fact.social else "what thing"
        return cap(_join(start, do, who, verb.base, to, place, time)) + "?"
    start = {
        "place": ("where", "in which place"),
        "time": ("when", "at what time"),
        "why": ("why", "for what reason"),
        "whether": ("", "is it true that"),
    }[asked]
    place = "" if asked == "place" else place
    time = "" if asked == "time" else time
    if asked == "whether" and style >= 0.5:
        return cap(_join(start[1], who, does, what, to, place, time)) + "?"
    first = start[0] if style < 0.7 else start[1]
    if asked != "whether" and style < 0.25:
        return cap(_join(first, be, what, part, to, "by", who, place, time)) + "?"
    return (
        cap(_join(first if asked != "whether" else "", do, who, verb.base, what, to, place, time))
        + "?"
    )


def paraphrase(fact: Fact, rng: Random, p: float = 0.3) -> Fact:
    """The same event in other words: each of verb, patient and adjective by its synonym, a transfer by its converse."""
    if fact.partner and rng.random() < p and fact.agent in w.NAMES:
        _, verb, _ = w.CONVERSE[fact.verb]
        fact = replace(fact, agent=fact.partner, partner=fact.agent, verb=verb)
    changes = {
        slot: w.SYNONYM[word]
        for slot in ("verb", "patient", "adjective")
        if (word := getattr(fact, slot)) in w.SYNONYM
        and rng.random() < p
        and not (slot == "verb" and fact.partner)
    }
    return replace(fact, **changes)
