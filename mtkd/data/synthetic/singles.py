"""The single-sentence tasks: grammaticality and sentiment. Every maker yields ``(sentence, label)`` for ever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from . import world as w
from .grammar import Fact, cap, clause, patient, question, sample_fact, statement, subject
from .pairs import flip

Singles = Iterator[tuple[str, int]]

GOOD = [
    "moving",
    "funny",
    "charming",
    "clever",
    "fresh",
    "gripping",
    "warm",
    "brilliant",
    "touching",
    "lively",
    "witty",
    "tender",
    "thrilling",
    "honest",
    "graceful",
    "delightful",
    "superb",
    "inventive",
    "sharp",
    "engaging",
]
BAD = [
    "dull",
    "tedious",
    "clumsy",
    "bland",
    "stale",
    "shallow",
    "silly",
    "lifeless",
    "awkward",
    "dreary",
    "predictable",
    "hollow",
    "lazy",
    "noisy",
    "pointless",
    "boring",
    "messy",
    "tired",
    "flat",
    "cheerless",
]
ASPECTS = [
    "film",
    "plot",
    "acting",
    "dialogue",
    "music",
    "ending",
    "script",
    "cast",
    "story",
    "comedy",
    "drama",
    "camera",
    "pace",
    "humour",
]
_DEGREE = ("very", "really", "rather", "quite", "so", "truly")
_DENIAL = ("not at all", "never", "hardly", "far from", "anything but", "not", "in no way")


def _opinion(sign: int, rng: Random) -> str:
    """An adjective phrase of the given sign (1 good, 0 bad), a third of them by denying the opposite."""
    draw = rng.random()
    if draw < 0.36:
        return f"{rng.choice(_DENIAL)} {rng.choice((GOOD, BAD)[sign])}"
    word = rng.choice((BAD, GOOD)[sign])
    return word if draw < 0.7 else f"{rng.choice(_DEGREE)} {word}"


def sst2(rng: Random) -> Singles:
    """Sentences and fragments of reviews, 1 where the writer liked it; in a contrast the second half weighs more."""
    while True:
        sign = rng.randrange(2)
        one, two = rng.sample(ASPECTS, 2)
        this, that = _opinion(sign, rng), _opinion(1 - sign, rng)
        draw = rng.random()
        label = sign
        if draw < 0.22:
            text = f"the {one} is {this}"
        elif draw < 0.32:
            text = f"a {one} that is {this}"
        elif draw < 0.42:
            text = f"the {one} is {this} and the {two} is {_opinion(sign, rng)}"
        elif draw < 0.64:
            text = f"the {one} is {that} but the {two} is {this}"
        elif draw < 0.78:
            text = f"although the {one} is {that} , the {two} is {this}"
        elif draw < 0.92:
            text = f"the {one} is {this} although the {two} is {that}"
        else:
            # Two opinions side by side, nothing that weighs them: readers differ.
            text = f"the {one} is {this} , the {two} is {that}"
            label = sign if rng.random() < 0.7 else 1 - sign
        yield text, flip(label, 2, rng, 0.04)


def _acceptable(rng: Random, topics: dict) -> str:
    fact = sample_fact(rng, topics)
    draw = rng.random()
    if draw < 0.5:
        return statement(replace(fact, negated=rng.random() < 0.25 and not fact.quantifier), rng)
    if draw < 0.65:
        asked = rng.choice(("agent", "place", "time", "whether"))
        return question(fact, asked, rng)
    return _agreement(fact, rng, True)


def _agreement(fact: Fact, rng: Random, good: bool) -> str:
    """A predicate that must agree with a subject some words away: the dogs in the tower are small."""
    if fact.social:
        fact = replace(fact, patient=rng.choice(w.NOUNS["animal"]))
    many = rng.random() < 0.5
    head = w.plural(fact.patient) if many else fact.patient
    link = rng.choice(w.NOUNS[w.HYPERNYM.get(fact.patient, fact.patient)])
    link = w.plural(link) if rng.random() < 0.5 else link
    verb = w.VERBS[fact.verb]
    middle = rng.choice(
        (
            f"near the {link}",
            f"that {subject(fact)} {verb.past}",
            fact.place or f"behind the {link}",
        )
    )
    be = rng.choice((("is", "are"), ("was", "were"), ("looks", "look")))[many == good]
    return cap(f"the {head} {middle} {be} {rng.choice(w.ADJECTIVES)}.")


def _unacceptable(rng: Random, topics: dict) -> str | None:
    """A sentence with one fault: order, agreement, a verb's form, a missing or a surplus argument, a wrong kind of
    agent.
    """
    fact = sample_fact(rng, topics)
    verb, who, what = w.VERBS[fact.verb], subject(fact), patient(fact)
    tail = " ".join(part for part in (fact.place, fact.time) if part)
    fault = rng.choice(
        ("order", "agreement", "agreement", "form", "missing", "surplus", "kind", "number", "swap")
    )
    if fault == "order":
        text = rng.choice(
            (
                f"{who} {what} {verb.past}",
                f"{verb.past} {who} {what}",
                f"{what} {verb.past} by {who}",
            )
        )
    elif fault == "agreement":
        return _agreement(fact, rng, False)
    elif fault == "form":
        wrong = (
            f"did not {verb.past}",
            f"will {verb.past}",
            f"not {verb.base}",
            f"was {verb.base}",
        )
        text = f"{who} {rng.choice(wrong)} {what}"
        if verb.past == verb.base:
            return None
    elif fault == "missing":
        text = rng.choice(
            (f"{who} {verb.past}", f"{verb.past} {what}", f"it was {who} who {verb.past}")
        )
    elif fault == "surplus":
        text = f"{who} {verb.past} {what} {patient(sample_fact(rng, topics))}"
    elif fault == "kind":
        if fact.social or fact.patient in ("animal", "bird", *w.NOUNS["animal"], *w.NOUNS["bird"]):
            return None
        text = f"{what} {verb.past} {who}"
    elif fault == "number":
        if fact.social or w.plural(fact.patient) == fact.patient:
            return None
        noun, adjective = fact.patient, fact.adjective
        wrong = (
            f"{rng.choice(w.NUMBERS)} {adjective} {noun}"
            if rng.random() < 0.5
            else f"a {adjective} {w.plural(noun)}"
        )
        text = f"{who} {verb.past} {' '.join(wrong.split())}"
    else:
        words = clause(fact, rng.choice(("active", "passive", "front", "cleft"))).split()
        at = rng.randrange(1, len(words) - 1)
        if not {words[at], words[at + 1]} & {
            "in",
            "on",
            "at",
            "the",
            "a",
            "an",
            "by",
            "was",
            "were",
            *w.NUMBERS,
        }:
            return None
        words[at], words[at + 1] = words[at + 1], words[at]
        return cap(" ".join(words)) + "."
    return cap(f"{text} {tail}".strip()) + "."


def cola(rng: Random, topics: dict) -> Singles:
    """Sentences, 1 where they are English; as in GLUE's CoLA about two thirds are."""
    while True:
        label = int(rng.random() < 0.62)
        text = _acceptable(rng, topics) if label else None
        while text is None:
            text = _unacceptable(rng, topics)
        yield text, flip(label, 2, rng)
