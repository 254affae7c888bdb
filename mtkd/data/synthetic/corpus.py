"""Plain text of the suite's language, for masked-LM pre-training.

Most paragraphs hold several sentences that bear on each other, so that a masked word in one is
predicted by looking at the other: that is how a small encoder learns to align two sentences. No
paragraph names a task's label.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from mtkd.data.synthetic import world as w
from mtkd.data.synthetic.examples import ASPECTS, BAD, GOOD, REASONS, opinion
from mtkd.data.synthetic.facts import (
    CONTRADICTION,
    ENTAILMENT,
    NEUTRAL,
    Fact,
    capitalize,
    labelled_pair,
    narrower,
    opposed,
    paraphrase,
    person,
    question,
    sample_fact,
    statement,
    subject,
    unrelated,
)


def _uncapitalize(sentence: str) -> str:
    """Return the sentence without its initial capital, unless it begins with a name."""
    if sentence.split()[0].strip(",.") in w.NAMES:
        return sentence
    return sentence[0].lower() + sentence[1:]


def _sample(rng: Random) -> Fact:
    return sample_fact(rng, w.TOPICS)


def _definition(rng: Random) -> list[str]:
    """State a word's hypernym, synonym or opposite."""
    draw = rng.random()
    if draw < 0.35:
        word, general = rng.choice(list(w.HYPERNYM.items()))
        if general in w.NOUNS:
            return [capitalize(f"{w.article(word)} {word} is a kind of {general}.")]
        if word in w.VERBS:
            return [f"To {word} something is to {general} it."]
        return [capitalize(f"what happens {word} happens {general}.")]
    same = draw < 0.7
    word = rng.choice(list(w.SYNONYM if same else w.OPPOSITE))
    other = w.SYNONYM[word] if same else rng.choice(w.OPPOSITE[word])
    if word in w.VERBS:
        return [f"To {word} is {'the same as' if same else 'the opposite of'} to {other}."]
    if word in w.ADJECTIVES:
        return [f"What is {word} is {'also' if same else 'not'} {other}."]
    return [capitalize(f"{w.article(word)} {word} is the same as {w.article(other)} {other}.")]


def _restatement(rng: Random) -> list[str]:
    """State a fact, and again in other words."""
    fact = _sample(rng)
    fact = replace(fact, negated=rng.random() < 0.12 and not fact.quantifier)
    return [statement(fact, rng), statement(paraphrase(fact, rng, 0.7), rng)]


def _conclusion(rng: Random) -> list[str]:
    """State a fact, and what follows, may be or is wrong, as the joining word says."""
    label = rng.choice((ENTAILMENT, ENTAILMENT, NEUTRAL, CONTRADICTION))
    first, second = labelled_pair(lambda: _sample(rng), label, rng)
    second = paraphrase(second, rng)
    start = {ENTAILMENT: "So ", NEUTRAL: "Perhaps ", CONTRADICTION: "It is wrong that "}[label]
    return [statement(first, rng), start + _uncapitalize(statement(second, rng))]


def _answered_question(rng: Random) -> list[str]:
    """Ask a question and answer it in a word, a sentence or both."""
    fact = _sample(rng)
    asked = rng.choice(fact.filled("agent", "patient", "place", "time"))
    if fact.partner and asked == "patient":
        asked = "agent"
    sentence = statement(paraphrase(fact, rng), rng)
    short = getattr(fact, asked)
    if asked == "agent":
        short = subject(fact)
    elif fact.social and asked == "patient":
        short = person(short)
    answer = capitalize(short) + "."
    ask = question(fact, asked, rng)
    return rng.choice(([ask, sentence], [sentence, ask, answer], [ask, answer]))


def _yes_no_question(rng: Random) -> list[str]:
    """State a fact, ask a yes-no question about it and answer it."""
    label = rng.choice((ENTAILMENT, NEUTRAL, CONTRADICTION))
    while True:
        first, second = labelled_pair(lambda: _sample(rng), label, rng)
        if not second.negated:
            break
    answer = {ENTAILMENT: "Yes.", NEUTRAL: "Perhaps.", CONTRADICTION: "No."}[label]
    return [statement(first, rng), question(paraphrase(second, rng), "whether", rng), answer]


def _quiz(rng: Random) -> list[str]:
    """State a fact, and ask short questions about a slot each with their answers."""
    fact = _sample(rng)
    sentences = [statement(fact, rng)]
    slots = fact.filled("agent", "verb", "patient", "adjective", "count", "place", "time")
    for _ in range(4):
        slot = rng.choice(slots)
        word = getattr(fact, slot)
        right = rng.random() < 0.5
        equal = (word, w.SYNONYM.get(word, word), w.HYPERNYM.get(word, word))
        if right:
            about = rng.choice(equal)
        else:
            relation = rng.choice((opposed, unrelated))
            about = getattr((relation(fact, rng) or unrelated(fact, rng))[1], slot)
            about = about if about != word else getattr(_sample(rng), slot)
            if not about or about in equal:
                continue
        sentences += [_short_question(slot, about, fact), "Yes." if right else "No."]
    return sentences


def _short_question(slot: str, word: str, fact: Fact) -> str:
    """Ask whether `word` fills a slot: Was it Anna? Was it in Paris?"""
    if slot == "verb":
        return f"Was it to {word}?"
    if slot == "patient" and not fact.social:
        return f"Was it {w.article(word)} {word}?"
    return f"Was it {person(word) if slot in ('agent', 'patient') else word}?"


def _two_questions(rng: Random) -> list[str]:
    """Ask a question, and the same in other words or something else."""
    fact = _sample(rng)
    asked = rng.choice(("agent", "place", "time", "why", "whether"))
    first = question(fact, asked, rng)
    if rng.random() < 0.65:
        return [first, question(paraphrase(fact, rng, 0.7), asked, rng)]
    twin = (opposed(fact, rng) or unrelated(fact, rng))[1]
    return [first, "Or " + _uncapitalize(question(paraphrase(twin, rng), asked, rng))]


def _contrast(rng: Random) -> list[str]:
    """State two events that differ in one point."""
    fact = _sample(rng)
    relation = rng.choice((opposed, unrelated, narrower))
    twin = (relation(fact, rng) or unrelated(fact, rng))[1]
    first, start = statement(fact, rng), rng.choice(("But ", "Then ", "Also "))
    return [first, start + _uncapitalize(statement(twin, rng))]


def _review(rng: Random) -> list[str]:
    """Say what somebody thought of a film, and what they did."""
    sign = rng.randrange(2)
    did = rng.choice((("yawned", "left", "slept"), ("smiled", "stayed", "clapped"))[sign])
    one, two = rng.sample(ASPECTS, 2)
    who = rng.choice(w.NAMES)
    draw = rng.random()
    words = (BAD, GOOD)[sign]
    if draw < 0.35:
        thought = f"The {one} is {opinion(sign, rng)}."
    elif draw < 0.7:
        thought = f"The {one} was {rng.choice(words)} and {rng.choice(words)}."
    else:
        contrary = opinion(1 - sign, rng)
        thought = f"The {one} is {contrary} but the {two} is {opinion(sign, rng)}."
    return [thought, f"{who} {did}."]


def _reason(rng: Random) -> list[str]:
    """Say why somebody did something, with a name or with a pronoun that is then resolved."""
    pair = rng.sample(rng.choice((w.WOMEN, w.MEN)), 2)
    pronoun = "she" if pair[0] in w.WOMEN else "he"
    verb, reasons = rng.choice(list(REASONS.items()))
    reason, about = rng.choice(reasons)
    start = f"{pair[0]} {verb} {pair[1]} because"
    if rng.random() < 0.5:
        return [f"{start} {pair[about]} {reason}."]
    return [f"{start} {pronoun} {reason}.", f"It was {pair[about]} who {reason}."]


def _sequence(rng: Random) -> list[str]:
    """Say that somebody did one thing and then another."""
    fact, then = _sample(rng), _sample(rng)
    pronoun = "she" if fact.agent in w.WOMEN else "he" if fact.agent in w.MEN else ""
    pronoun = "they" if fact.quantifier else pronoun or f"the {fact.agent}"
    then = replace(then, future=False, agent="Anna", quantifier="")
    predicate = statement(then, rng, "active").split(" ", 1)[1]
    return [statement(fact, rng, "active"), f"Later {pronoun} {predicate}"]


PARAGRAPHS: dict[Callable[[Random], list[str]], int] = {
    _definition: 6,
    _restatement: 20,
    _conclusion: 10,
    _answered_question: 10,
    _yes_no_question: 18,
    _quiz: 20,
    _two_questions: 8,
    _contrast: 4,
    _review: 8,
    _reason: 3,
    _sequence: 2,
}


def text(seed: int = 0, sentences: int = 60_000) -> Iterator[str]:
    """Yield paragraphs of one to nine sentences, `sentences` sentences in all.

    The same seed gives the same text on every machine.
    """
    rng = Random(f"{seed}/text")
    left = sentences
    while left > 0:
        for paragraph in rng.choices(list(PARAGRAPHS), list(PARAGRAPHS.values()), k=256):
            parts = paragraph(rng)[:left]
            left -= len(parts)
            yield " ".join(parts)
            if left <= 0:
                return
