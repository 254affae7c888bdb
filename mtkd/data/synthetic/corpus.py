"""Plain text of the suite's language, for masked-LM pre-training.

Most paragraphs hold several sentences that bear on each other, so that a hidden word in one is found by looking
at the other: that is how a small encoder comes by the habit of aligning two sentences. Nothing here names a task's
label.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from . import world as w
from .grammar import Fact, cap, paraphrase, person, question, sample_fact, statement, subject
from .logic import CONTRADICTION, ENTAILMENT, NEUTRAL, labelled_pair, narrower, opposed, other
from .pairs import SCHEMAS
from .singles import ASPECTS, BAD, GOOD, _opinion

_TOPICS = w.MATCHED | w.MISMATCHED


def _meaning(rng: Random) -> list[str]:
    """What a word means: its synonym, its kind or its opposite."""
    draw = rng.random()
    if draw < 0.35:
        word, general = rng.choice(list(w.HYPERNYM.items()))
        if general in w.NOUNS:
            return [cap(f"{w.article(word)} {word} is a kind of {general}.")]
        if word in w.VERBS:
            return [f"To {word} something is to {general} it."]
        return [cap(f"what happens {word} happens {general}.")]
    table = w.SYNONYM if draw < 0.7 else w.OPPOSITE
    word = rng.choice(list(table))
    twin = table[word] if table is w.SYNONYM else rng.choice(table[word])
    if word in w.VERBS:
        return [
            f"To {word} is {'the same as' if table is w.SYNONYM else 'the opposite of'} to {twin}."
        ]
    if word in w.ADJECTIVES:
        return [f"What is {word} is {'also' if table is w.SYNONYM else 'not'} {twin}."]
    return [cap(f"{w.article(word)} {word} is the same as {w.article(twin)} {twin}.")]


def _again(rng: Random) -> list[str]:
    """A fact, and the same in other words."""
    fact = sample_fact(rng, _TOPICS)
    fact = replace(fact, negated=rng.random() < 0.12 and not fact.quantifier)
    return [statement(fact, rng), statement(paraphrase(fact, rng, 0.7), rng)]


def _pronoun(fact: Fact) -> str:
    if fact.quantifier:
        return "they"
    return "she" if fact.agent in w.WOMEN else "he" if fact.agent in w.MEN else "the " + fact.agent


def _follows(rng: Random) -> list[str]:
    """A fact and what follows, what does not fit, or what is another matter, told apart by the word that joins them."""
    label = rng.choice((ENTAILMENT, ENTAILMENT, NEUTRAL, CONTRADICTION))
    first, second = labelled_pair(lambda: sample_fact(rng, _TOPICS), label, rng)
    second = paraphrase(second, rng)
    if label == ENTAILMENT:
        return [statement(first, rng), "So " + _lower(statement(second, rng))]
    if label == NEUTRAL:
        return [statement(first, rng), "Perhaps " + _lower(statement(second, rng))]
    return [statement(first, rng), "It is wrong that " + _lower(statement(second, rng))]


def _lower(sentence: str) -> str:
    """The sentence without its initial capital, unless it begins with a name."""
    return (
        sentence
        if sentence.split()[0].strip(",.") in w.NAMES
        else sentence[0].lower() + sentence[1:]
    )


def _asked(rng: Random) -> list[str]:
    """A question and its answer, in a word or in a sentence."""
    fact = sample_fact(rng, _TOPICS)
    asked = rng.choice(
        [slot for slot in ("agent", "patient", "place", "time") if getattr(fact, slot)]
    )
    if fact.partner and asked == "patient":
        asked = "agent"
    told = statement(paraphrase(fact, rng), rng)
    short = {
        "agent": subject(fact),
        "patient": person(fact.patient) if fact.social else fact.patient,
    }
    answer = cap(short.get(asked) or getattr(fact, asked)) + "."
    ask = question(fact, asked, rng)
    return rng.choice(([ask, told], [told, ask, answer], [ask, answer]))


def _checked(rng: Random) -> list[str]:
    """A fact, a yes-no question about it, and the answer."""
    label = rng.choice((ENTAILMENT, NEUTRAL, CONTRADICTION))
    while True:
        first, second = labelled_pair(lambda: sample_fact(rng, _TOPICS), label, rng)
        if not second.negated:
            break
    answer = {ENTAILMENT: "Yes.", NEUTRAL: "Perhaps.", CONTRADICTION: "No."}[label]
    return [statement(first, rng), question(paraphrase(second, rng), "whether", rng), answer]


def _quizzed(rng: Random) -> list[str]:
    """A fact, and short questions about one slot each with their answers."""
    fact = sample_fact(rng, _TOPICS)
    told = [statement(fact, rng)]
    slots = [
        slot
        for slot in ("agent", "verb", "patient", "adjective", "count", "place", "time")
        if getattr(fact, slot)
    ]
    for _ in range(4):
        slot = rng.choice(slots)
        right = rng.random() < 0.5
        word = getattr(fact, slot)
        if right:
            about = rng.choice((word, w.SYNONYM.get(word, word), w.HYPERNYM.get(word, word)))
        else:
            twin = getattr((rng.choice((opposed, other))(fact, rng) or other(fact, rng))[1], slot)
            about = twin if twin != word else getattr(sample_fact(rng, _TOPICS), slot)
            if (
                not about
                or about == word
                or w.SYNONYM.get(word) == about
                or w.HYPERNYM.get(word) == about
            ):
                continue
        told += [_short(slot, about, fact), "Yes." if right else "No."]
    return told


def _short(slot: str, word: str, fact: Fact) -> str:
    """A short question whether ``word`` fills a slot: Was it Anna? Was it in Paris?"""
    if slot == "verb":
        return f"Was it to {word}?"
    if slot == "patient" and not fact.social:
        return f"Was it {w.article(word)} {word}?"
    return f"Was it {person(word) if slot in ('agent', 'patient') else word}?"


def _same_question(rng: Random) -> list[str]:
    """A question, and somebody asking it again in other words or asking something else."""
    fact = sample_fact(rng, _TOPICS)
    asked = rng.choice(("agent", "place", "time", "why", "whether"))
    first = question(fact, asked, rng)
    if rng.random() < 0.65:
        return [first, question(paraphrase(fact, rng, 0.7), asked, rng)]
    twin = (opposed(fact, rng) or other(fact, rng))[1]
    return [first, "Or " + _lower(question(paraphrase(twin, rng), asked, rng))]


def _elsewhere(rng: Random) -> list[str]:
    """Two events that differ in one point."""
    fact = sample_fact(rng, _TOPICS)
    twin = (rng.choice((opposed, other, narrower))(fact, rng) or other(fact, rng))[1]
    return [
        statement(fact, rng),
        rng.choice(("But ", "Then ", "Also ")) + _lower(statement(twin, rng)),
    ]


def _review(rng: Random) -> list[str]:
    """What somebody thought of a film, and why."""
    sign = rng.randrange(2)
    liked = rng.choice((("yawned", "left", "slept"), ("smiled", "stayed", "clapped"))[sign])
    one, two = rng.sample(ASPECTS, 2)
    who = rng.choice(w.NAMES)
    draw = rng.random()
    words = (BAD, GOOD)[sign]
    if draw < 0.35:
        return [f"The {one} is {_opinion(sign, rng)}.", f"{who} {liked}."]
    if draw < 0.7:
        return [f"The {one} was {rng.choice(words)} and {rng.choice(words)}.", f"{who} {liked}."]
    return [
        f"The {one} is {_opinion(1 - sign, rng)} but the {two} is {_opinion(sign, rng)}.",
        f"{who} {liked}.",
    ]


def _reason(rng: Random) -> list[str]:
    """Why somebody did something, with the name where a pronoun could stand, or both."""
    pair = rng.sample(rng.choice((w.WOMEN, w.MEN)), 2)
    pronoun = "she" if pair[0] in w.WOMEN else "he"
    verb, reasons = rng.choice(SCHEMAS)
    reason, about = rng.choice(reasons)
    told = f"{pair[0]} {verb} {pair[1]} because "
    if rng.random() < 0.5:
        return [f"{told}{pair[about]} {reason}."]
    return [f"{told}{pronoun} {reason}.", f"It was {pair[about]} who {reason}."]


def _later(rng: Random) -> list[str]:
    """Somebody does one thing and then another."""
    fact, then = sample_fact(rng, _TOPICS), sample_fact(rng, _TOPICS)
    quantifier = fact.quantifier
    return [
        statement(fact, rng, "active"),
        f"Later {_pronoun(fact)} " + _rest(replace(then, future=False), quantifier),
    ]


def _rest(fact: Fact, quantifier: str) -> str:
    """The clause of a fact after its subject."""
    plain = replace(fact, agent="Anna", quantifier="")
    return statement(plain, Random(0), "active").split(" ", 1)[1]


_KINDS = (
    (_meaning, 6),
    (_again, 20),
    (_follows, 10),
    (_asked, 10),
    (_checked, 18),
    (_quizzed, 20),
    (_same_question, 8),
    (_elsewhere, 4),
    (_review, 8),
    (_reason, 3),
    (_later, 2),
)


def text(seed: int = 0, sentences: int = 60_000) -> Iterator[str]:
    """Paragraphs of one to nine sentences, ``sentences`` sentences in all; the same for the same seed on every
    machine.
    """
    rng = Random(f"{seed}/text")
    makers, weights = zip(*_KINDS, strict=True)
    left = sentences
    while left > 0:
        for make in rng.choices(makers, weights, k=256):
            paragraph = make(rng)[:left]
            left -= len(paragraph)
            yield " ".join(paragraph)
            if left <= 0:
                return
