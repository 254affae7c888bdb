"""How two facts stand to each other: single changes to a fact, and the label they lead to under negation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from . import world as w
from .grammar import Fact

ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)
_FEWER = {"all": ("most", "some"), "most": ("some",)}

# Natural logic in one table: label -> [(weight, premise negated, hypothesis negated, relations)], where a relation
# says how the hypothesis's fact stands to the premise's before negation. The weights give every label the same share
# of negated hypotheses.
CELLS = {
    ENTAILMENT: [
        (0.56, False, False, ("same", "same", "narrower")),
        (0.10, False, True, ("opposed",)),
        (0.34, True, True, ("same", "same", "broader")),
    ],
    NEUTRAL: [
        (0.40, False, False, ("broader", "other", "other", "elsewhere")),
        (0.18, False, True, ("broader", "other", "elsewhere")),
        (0.18, True, False, ("narrower", "opposed", "other", "elsewhere")),
        (0.24, True, True, ("narrower", "opposed", "other", "other", "elsewhere")),
    ],
    CONTRADICTION: [
        (0.34, False, False, ("opposed",)),
        (0.38, False, True, ("same", "same", "narrower")),
        (0.28, True, False, ("same", "same", "broader")),
    ],
}


def narrower(fact: Fact, rng: Random) -> tuple[Fact, Fact] | None:
    """``(premise, hypothesis)`` where the premise says more: a hypernym takes a word's place, or a modifier is left
    out.
    """
    options: list[dict] = [
        {slot: w.HYPERNYM[word]}
        for slot in ("verb", "patient", "place", "time")
        if (word := getattr(fact, slot)) in w.HYPERNYM and not (slot == "verb" and fact.partner)
    ]
    options += [{"quantifier": less} for less in _FEWER.get(fact.quantifier, ())]
    dropped = [slot for slot in ("adjective", "place", "time") if getattr(fact, slot)]
    if dropped:
        options.append({rng.choice(dropped): ""})
    return (fact, replace(fact, **rng.choice(options))) if options else None


def broader(fact: Fact, rng: Random) -> tuple[Fact, Fact] | None:
    """The other way round: the hypothesis says more than the premise."""
    pair = narrower(fact, rng)
    return (pair[1], pair[0]) if pair else None


def opposed(fact: Fact, rng: Random) -> tuple[Fact, Fact] | None:
    """Both cannot be so: an opposite verb or quality, another number, place or day."""
    options: list[dict] = [
        {slot: rng.choice(w.OPPOSITE[word])}
        for slot in ("verb", "verb", "adjective")
        if (word := getattr(fact, slot)) in w.OPPOSITE and not (slot == "verb" and fact.partner)
    ]
    if fact.count:
        options += [{"count": rng.choice([n for n in w.NUMBERS if n != fact.count])}] * 3
    if fact.place in w.HYPERNYM:
        region = w.HYPERNYM[fact.place]
        options.append({"place": rng.choice([p for p in w.PLACES[region[3:]] if p != fact.place])})
    if fact.time in w.HYPERNYM or fact.time in w.PLAIN_TIMES:
        options.append({"time": rng.choice([t for t in w.TIMES if t != fact.time])})
    if fact.quantifier in ("all", "most", "few"):
        options += [{"quantifier": "few" if fact.quantifier != "few" else "most"}] * 3
    return (fact, replace(fact, **rng.choice(options))) if options else None


def other(fact: Fact, rng: Random) -> tuple[Fact, Fact]:
    """Something else happened, or may have: another person or thing, an unrelated verb, roles swapped, another
    tense.
    """
    pool = w.ROLES if fact.agent in w.ROLES else w.NAMES
    someone = rng.choice(
        [who for who in pool if who not in (fact.agent, fact.patient, fact.partner)]
    )
    options: list[dict] = [{"agent": someone}]
    if fact.partner and fact.agent in w.NAMES:
        options += [{"agent": fact.partner, "partner": fact.agent}] * 2
    elif fact.social and fact.agent in w.NAMES:
        options += [{"agent": fact.patient, "patient": fact.agent}] * 2
    if not fact.social:
        kind = w.HYPERNYM.get(fact.patient, "")
        alike = [
            n for n in w.NOUNS.get(kind, ()) if n not in (fact.patient, w.SYNONYM.get(fact.patient))
        ]
        if alike:
            options += [{"patient": rng.choice(alike)}] * 2
    if not fact.partner:
        near = (
            fact.verb,
            w.SYNONYM.get(fact.verb),
            w.HYPERNYM.get(fact.verb),
            *w.OPPOSITE.get(fact.verb, ()),
        )
        options.append(
            {
                "verb": rng.choice(
                    [v for v in (w.SOCIAL if fact.social else w.ACTIONS) if v not in near]
                )
            }
        )
    options += [{"future": not fact.future}] * 3
    return fact, replace(fact, **rng.choice(options))


def same(fact: Fact, rng: Random) -> tuple[Fact, Fact]:
    """The fact twice."""
    return fact, fact


RELATIONS: dict[str, Callable[[Fact, Random], tuple[Fact, Fact] | None]] = {
    "same": same,
    "narrower": narrower,
    "broader": broader,
    "opposed": opposed,
    "other": other,
}


def labelled_pair(draw: Callable[[], Fact], label: int, rng: Random) -> tuple[Fact, Fact]:
    """``(premise, hypothesis)`` that stand in the NLI relation ``label``; facts are drawn until one allows it."""
    _, first, second, relations = rng.choices(CELLS[label], [cell[0] for cell in CELLS[label]])[0]
    name = rng.choice(relations)
    while True:
        fact = draw()
        pair = (fact, draw()) if name == "elsewhere" else RELATIONS[name](fact, rng)
        if pair and not ((first or second) and (pair[0].quantifier or pair[1].quantifier)):
            return replace(pair[0], negated=first), replace(pair[1], negated=second)
