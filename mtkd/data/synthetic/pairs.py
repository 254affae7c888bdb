"""The pair tasks: inference, paraphrase, similarity, answers to questions, and what a pronoun refers to.

Every maker yields ``(text 1, text 2, label)`` for ever; ``topics`` says which part of the world it talks about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from . import world as w
from .grammar import Fact, cap, clause, paraphrase, question, sample_fact, statement
from .logic import (
    CONTRADICTION,
    ENTAILMENT,
    NEUTRAL,
    RELATIONS,
    labelled_pair,
    narrower,
    opposed,
    other,
)

Pairs = Iterator[tuple[str, str, float]]
NOISE = 0.05  # share of examples with a wrong label, in train and dev alike
_VAGUE = (("most", "all"), ("some", "most"), ("few", "some"))


def flip(label: int, classes: int, rng: Random, noise: float = NOISE) -> int:
    """The label, or with probability ``noise`` one of the others."""
    if rng.random() < noise:
        return rng.choice([c for c in range(classes) if c != label])
    return label


def _trim(fact: Fact, rng: Random, p: float) -> Fact:
    """Leave out one modifier with probability ``p``, so that a short hypothesis says nothing about the label."""
    present = [slot for slot in ("adjective", "place", "time") if getattr(fact, slot)]
    return replace(fact, **{rng.choice(present): ""}) if present and rng.random() < p else fact


def _inference(rng: Random, topics: dict, compound: float) -> Pairs:
    """Premise, hypothesis and three-way label; a share ``compound`` of the premises joins two facts by a
    conjunction.
    """
    while True:
        label = rng.randrange(3)
        if rng.random() < 0.04:
            # "most" may or may not be taken for "all": readers differ, so the label is drawn.
            fact = replace(sample_fact(rng, topics), agent=rng.choice(w.ROLES), partner="")
            if fact.verb in w.TRANSFERS:
                continue
            less, more = rng.choice(_VAGUE)
            label = rng.choice((NEUTRAL, CONTRADICTION if less == "few" else ENTAILMENT))
            yield (
                statement(replace(fact, quantifier=less), rng),
                statement(replace(fact, quantifier=more), rng),
                label,
            )
            continue
        first, second = labelled_pair(lambda: sample_fact(rng, topics), label, rng)
        if not first.negated and not second.negated:
            second = _trim(second, rng, 0.25)
        second = paraphrase(second, rng)
        if rng.random() < compound:
            extra = sample_fact(rng, topics)
            if extra.agent != first.agent:
                extra = replace(
                    extra, place="", time="", negated=rng.random() < 0.2 and not extra.quantifier
                )
                both = [clause(replace(first, time="")), clause(extra)]
                if second.time and first.time:
                    continue
                rng.shuffle(both)
                yield (
                    cap(rng.choice((" and ", ", but ", " while ")).join(both)) + ".",
                    statement(second, rng),
                    label,
                )
                continue
        yield statement(first, rng), statement(second, rng), label


def mnli(rng: Random, topics: dict) -> Pairs:
    """Three-way inference between two sentences."""
    for premise, hypothesis, label in _inference(rng, topics, 0.12):
        yield premise, hypothesis, flip(label, 3, rng)


def rte(rng: Random, topics: dict) -> Pairs:
    """Two-way inference (0 entailment, 1 not), the premise more often compound than in MNLI."""
    for premise, hypothesis, label in _inference(rng, topics, 0.2):
        if label == ENTAILMENT or rng.random() < 0.5:
            yield premise, hypothesis, flip(int(label != ENTAILMENT), 2, rng)


def ax(rng: Random, topics: dict) -> Pairs:
    """Diagnostic pairs: more negation, quantifiers and compounds than MNLI has; the truth goes with them unflipped."""
    for premise, hypothesis, label in _inference(rng, topics, 0.4):
        words = f"{premise} {hypothesis}".lower().split()
        hard = any(
            word in ("not", "no", "all", "most", "few", "some", "and", "while", "but", "by")
            for word in words
        )
        if hard or rng.random() < 0.2:
            yield premise, hypothesis, label


def _different(fact: Fact, rng: Random, topics: dict) -> Fact:
    """A fact one word or role away from ``fact``, or, by a third, another event altogether."""
    if rng.random() < 0.33:
        return sample_fact(rng, topics)
    name = rng.choices(("opposed", "other", "narrower", "broader"), (5, 5, 1, 1))[0]
    pair = RELATIONS[name](fact, rng) or other(fact, rng)
    return pair[0] if name == "broader" else pair[1]


def mrpc(rng: Random, topics: dict) -> Pairs:
    """Statements: 1 where the second says the same in other words, 0 where one word or role differs."""
    while True:
        fact, label = sample_fact(rng, topics), rng.randrange(2)
        twin = paraphrase(fact if label else _different(fact, rng, topics), rng)
        first, second = statement(fact, rng), statement(twin, rng)
        if first != second:
            yield first, second, flip(label, 2, rng)


def _askable(fact: Fact) -> list[str]:
    """The slots a question can ask for when nothing else about the fact is to be given away."""
    slots = ["agent", "place", "time", "why", "whether"]
    return slots if fact.partner else [*slots, "patient"]


def qqp(rng: Random, topics: dict) -> Pairs:
    """Questions: 1 where both ask the same, 0 where one word, role or the thing asked for differs."""
    while True:
        fact, label = sample_fact(rng, topics), rng.randrange(2)
        if fact.quantifier and rng.random() < 0.5:
            continue
        asked = asks = rng.choice(_askable(fact))
        twin = fact
        if not label and rng.random() < 0.45:
            asks = rng.choice([slot for slot in _askable(fact) if slot != asked])
        elif not label:
            twin = _different(fact, rng, topics)
            # A change of the very slot that is asked for cannot be seen in the question.
            twin = replace(
                twin,
                **({asked: getattr(fact, asked)} if asked in ("agent", "place", "time") else {}),
            )
            if twin == fact or twin.agent == twin.patient or (twin.partner and asked == "patient"):
                continue
        if asked == "patient" and twin.adjective != fact.adjective:
            continue
        first, second = question(fact, asked, rng), question(paraphrase(twin, rng), asks, rng)
        if first != second or (label and rng.random() < 0.5):
            yield first, second, flip(label, 2, rng)


_WEIGHTS = {
    "agent": 1.0,
    "verb": 1.4,
    "patient": 1.4,
    "adjective": 0.5,
    "count": 0.4,
    "place": 0.6,
    "time": 0.5,
    "partner": 0.8,
}


def similarity(a: Fact, b: Fact) -> float:
    """Shared meaning of two facts in 0..1: a slot counts fully if equal, by half if of one kind, by a quarter if
    opposed.
    """
    total = shared = 0.0
    for slot, weight in _WEIGHTS.items():
        x, y = getattr(a, slot), getattr(b, slot)
        if not x and not y:
            continue
        total += weight
        if x == y or w.SYNONYM.get(x) == y:
            shared += weight
        elif (
            x and y and (w.HYPERNYM.get(x) in (y, w.HYPERNYM.get(y, "")) or w.HYPERNYM.get(y) == x)
        ):
            shared += 0.5 * weight
        elif y in w.OPPOSITE.get(x, ()):
            shared += 0.25 * weight
    return shared / total


def stsb(rng: Random, topics: dict) -> Pairs:
    """Graded similarity, 0 to 5 in steps of 0.2, with an annotator's scatter of about a third of a point."""
    while True:
        fact = replace(sample_fact(rng, topics), quantifier="")
        twin = fact
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3, 4))):
            twin = (rng.choice((opposed, other, narrower))(twin, rng) or other(twin, rng))[1]
        if rng.random() < 0.35:
            twin = replace(sample_fact(rng, topics), quantifier="")
        score = 5 * similarity(fact, twin) ** 1.3 + rng.gauss(0, 0.35)
        yield (
            statement(fact, rng),
            statement(paraphrase(twin, rng), rng),
            round(min(5.0, max(0.0, score)) * 5) / 5,
        )


def qnli(rng: Random, topics: dict) -> Pairs:
    """Question and sentence: 0 where the sentence answers it, 1 where it is about another event or silent on the
    point.
    """
    while True:
        fact, label = sample_fact(rng, topics), rng.randrange(2)
        asked = rng.choice(("agent", "place", "place", "place", "time", "time", "time"))
        if fact.quantifier:
            continue
        if asked == "place":
            fact = replace(fact, place=rng.choice(w.PLACES[rng.choice(list(w.PLACES))]))
        if asked == "time":
            fact = replace(fact, time=rng.choice(w.TIMES))
        if asked != "agent" and rng.random() < 0.6:
            fact = replace(fact, **{"time" if asked == "place" else "place": ""})
        query = (
            fact
            if rng.random() < 0.5
            else replace(fact, **{s: "" for s in ("place", "time") if s != asked})
        )
        told = fact
        if label and asked in ("place", "time") and rng.random() < 0.75:
            # Another adverbial stands where the answer should: the sentence looks complete and does not say.
            missing, given = asked, "time" if asked == "place" else "place"
            pool = w.TIMES if given == "time" else w.PLACES[rng.choice(list(w.PLACES))]
            told = replace(fact, **{missing: "", given: getattr(fact, given) or rng.choice(pool)})
        elif label:
            told = _different(fact, rng, topics)
            told = replace(told, **{asked: getattr(fact, asked)})
            if told == fact or (asked == "agent" and told.agent == told.patient):
                continue
        yield (
            question(query, asked, rng),
            statement(paraphrase(told, rng), rng),
            flip(label, 2, rng),
        )


# (main clause, [(reason, who it is about)]): "{a} thanked {b} because {p} had helped" is about b.
SCHEMAS = [
    ("thanked", (("had helped", 1), ("was grateful", 0))),
    ("could not beat", (("was too slow", 0), ("was too quick", 1))),
    ("envied", (("was rich", 1), ("was poor", 0))),
    ("hired", (("needed help", 0), ("needed work", 1))),
    ("questioned", (("wanted to know", 0), ("had seen everything", 1))),
    ("carried", (("was strong", 0), ("was tired", 1))),
    ("punished", (("was angry", 0), ("had lied", 1))),
    ("taught", (("knew a lot", 0), ("wanted to learn", 1))),
    ("paid", (("had done the work", 1), ("owed the money", 0))),
    ("feared", (("was easily scared", 0), ("was dangerous", 1))),
]
_BOXES = ("box", "bag", "case", "chest")


def wnli(rng: Random, topics: dict) -> Pairs:
    """A sentence with a pronoun, and a sentence that puts one of the two candidates in its place (1 if the right
    one).
    """
    while True:
        label = rng.randrange(2)
        if rng.random() < 0.25:
            kinds, _ = topics[rng.choice(list(topics))]
            thing, box = rng.choice(w.NOUNS[rng.choice(kinds.split())]), rng.choice(_BOXES)
            about, size = rng.choice(((0, "big"), (1, "small")))
            told = f"The {thing} did not fit in the {box} because it was too {size}."
            one = (f"the {thing}", f"the {box}")[about if label else 1 - about]
            yield told, cap(f"{one} was too {size}."), flip(label, 2, rng)
            continue
        names, pronoun = rng.choice(((w.WOMEN, "she"), (w.MEN, "he")))
        pair = rng.sample(names, 2)
        verb, reasons = rng.choice(SCHEMAS)
        reason, about = rng.choice(reasons)
        told = f"{pair[0]} {verb} {pair[1]} because {pronoun} {reason}."
        yield told, f"{pair[about if label else 1 - about]} {reason}.", flip(label, 2, rng)
