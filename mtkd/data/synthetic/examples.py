"""The examples of each task and the text for pre-training.

A maker returns one example `(text, ..., label)`, or None where what it drew is of no use.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from mtkd.data.synthetic import world as w
from mtkd.data.synthetic.facts import (
    ENTAILMENT,
    Fact,
    clause,
    labelled_pair,
    narrower,
    opposed,
    paraphrase,
    patient,
    question,
    sample_fact,
    sentence,
    statement,
    unrelated,
)

NOISE = 0.05  # share of examples with a wrong label, in train and dev alike
Example = tuple[str, int] | tuple[str, str, float]
OPINIONS = (
    w.words("dull tedious clumsy bland stale shallow silly dreary lazy boring messy flat"),
    w.words("moving funny charming clever fresh gripping witty tender honest superb sharp lively"),
)
ASPECTS = w.words("film plot acting dialogue music ending script cast story comedy drama camera")
# Verb: the reason, and whom it is about (0: the agent, 1: the patient).
REASONS = {
    "thanked": (("had helped", 1), ("was grateful", 0)),
    "envied": (("was rich", 1), ("was poor", 0)),
    "hired": (("needed help", 0), ("needed work", 1)),
    "carried": (("was strong", 0), ("was tired", 1)),
    "punished": (("was angry", 0), ("had lied", 1)),
    "paid": (("had done the work", 1), ("owed the money", 0)),
    "feared": (("was easily scared", 0), ("was dangerous", 1)),
}


def example_stream(task: str, split: str, classes: int, rng: Random) -> Iterator[Example]:
    """Yield a task's examples without end; a share of `NOISE` has another label, but for AX."""
    topics = w.EVERYWHERE
    if task == "mnli":
        topics = w.MISMATCHED if "mismatched" in split else w.MATCHED
    while True:
        if example := MAKERS[task](rng, topics):
            *texts, label = example
            if classes and task != "ax" and rng.random() < NOISE:
                label = rng.choice([other for other in range(classes) if other != label])
            yield (*texts, label)


def cola(rng: Random, topics: w.Topics) -> Example:
    """Return a sentence and 1 where it is grammatical; as in GLUE's CoLA most are."""
    fact, good = sample_fact(rng, topics), rng.random() < 0.62
    if not fact.social and rng.random() < 0.4:
        return _agreement(fact, good, rng), int(good)
    if good and rng.random() < 0.3:
        return question(fact, rng.choice(("agent", "place", "time", "whether")), rng), 1
    fact = replace(fact, negated=rng.random() < 0.25)
    parts = clause(fact, rng).split()
    if not good:
        verb = parts.index(fact.verb if fact.negated else w.past(fact.verb))
        fault = rng.choice(("form", "order", "missing", "surplus"))
        if fault == "form":
            parts[verb] = w.past(fact.verb) if fact.negated else fact.verb
        elif fault == "order":
            parts[verb], parts[verb + 1] = parts[verb + 1], parts[verb]
        elif fault == "missing":
            del parts[verb]
        else:
            parts.insert(verb, patient(sample_fact(rng, topics)))
    return sentence(" ".join(parts)), int(good)


def _agreement(fact: Fact, good: bool, rng: Random) -> str:
    """Return a predicate and its distant subject: the dogs near the car are small."""
    many = rng.random() < 0.5
    head = w.plural(fact.patient) if many else fact.patient
    near = rng.choice(w.NOUNS[w.HYPERNYM.get(fact.patient, fact.patient)])
    near = w.plural(near) if rng.random() < 0.5 else near
    middle = rng.choice((f"near the {near}", f"that {fact.agent} {w.past(fact.verb)}"))
    be = rng.choice((("is", "are"), ("was", "were")))[many == good]
    return sentence(f"the {head} {middle} {be} {rng.choice(w.ADJECTIVES)}")


def opinion(good: int, rng: Random) -> str:
    """Return an adjective phrase, good (1) or bad (0), a third of them by denying the opposite."""
    draw = rng.random()
    if draw < 0.4:
        return f"{rng.choice(('not at all', 'never', 'hardly'))} {rng.choice(OPINIONS[1 - good])}"
    return ("very " if draw > 0.7 else "") + rng.choice(OPINIONS[good])


def sst2(rng: Random, topics: w.Topics) -> Example:
    """Return a review and 1 where it is positive; in a contrast the main clause decides."""
    good = rng.randrange(2)
    one, two = rng.sample(ASPECTS, 2)
    this = f"the {one} is {opinion(good, rng)}"
    contrary = f"the {two} is {opinion(1 - good, rng)}"
    and_also = f"{this} and the {two} is {opinion(good, rng)}"
    but, although = f"{contrary} but {this}", f"although {contrary} , {this}"
    return rng.choice((this, and_also, but, although, f"{this} although {contrary}")), good


def _inference(rng: Random, topics: w.Topics, compound: float) -> tuple[str, str, int]:
    """Return premise, hypothesis and three-way label; `compound` of the premises join two facts."""
    label = rng.randrange(3)
    first, second = labelled_pair(label, rng, topics)
    premise, extra = clause(first, rng), sample_fact(rng, topics)
    if rng.random() < compound and extra.agent != first.agent:
        both = [premise, clause(extra, rng)]
        premise = rng.choice((" and ", " while ")).join(rng.sample(both, 2))
    return sentence(premise), statement(paraphrase(second, rng), rng), label


def mnli(rng: Random, topics: w.Topics) -> Example:
    """Return premise, hypothesis and one of three labels."""
    return _inference(rng, topics, 0.1)


def rte(rng: Random, topics: w.Topics) -> Example | None:
    """Return premise, hypothesis and 0 for entailment, 1 otherwise; more compounds than MNLI."""
    premise, hypothesis, label = _inference(rng, topics, 0.2)
    if label == ENTAILMENT or rng.random() < 0.5:
        return premise, hypothesis, int(label != ENTAILMENT)
    return None


def ax(rng: Random, topics: w.Topics) -> Example | None:
    """Return a diagnostic pair, which has a negation or a compound more often than MNLI's."""
    premise, hypothesis, label = _inference(rng, topics, 0.5)
    hard = {"not", "and", "while"} & set(f"{premise} {hypothesis}".split())
    return (premise, hypothesis, label) if hard or rng.random() < 0.2 else None


def _different(fact: Fact, rng: Random, topics: w.Topics) -> Fact:
    """Return a fact one word or role away from `fact`, or in half of the cases another event."""
    if rng.random() < 0.5:
        return sample_fact(rng, topics)
    return rng.choice((opposed, unrelated))(fact, rng)


def mrpc(rng: Random, topics: w.Topics) -> Example | None:
    """Return two statements and 1 where they say the same, 0 where a word or role differs."""
    fact, same = sample_fact(rng, topics), rng.randrange(2)
    twin = paraphrase(fact if same else _different(fact, rng, topics), rng)
    first, second = statement(fact, rng), statement(twin, rng)
    return (first, second, same) if first != second else None


def qqp(rng: Random, topics: w.Topics) -> Example | None:
    """Return two questions and 1 where they ask the same, 0 where a word, role or slot differs."""
    fact, same = sample_fact(rng, topics), rng.randrange(2)
    slots = ["agent", "patient", "place", "time", "why", "whether"]
    asked = asks = rng.choice(slots)
    twin = fact
    if not same and rng.random() < 0.4:
        asks = rng.choice([slot for slot in slots if slot != asked])
    elif not same:
        twin = _different(fact, rng, topics)
    first, second = question(fact, asked, rng), question(paraphrase(twin, rng, 0.7), asks, rng)
    plain = [question(one, asks, Random(0)) for one in (fact, twin)]
    hidden = not same and asks == asked and plain[0] == plain[1]  # the question does not show it
    return None if first == second or hidden else (first, second, same)


def similarity(a: Fact, b: Fact) -> float:
    """Return the share of filled slots in which two facts agree, related words by half."""
    total = shared = 0.0
    for slot in ("agent", "verb", "patient", "adjective", "count", "place", "time"):
        x, y = getattr(a, slot), getattr(b, slot)
        related = y in w.OPPOSITE.get(x, ()) or w.HYPERNYM.get(x, x) == w.HYPERNYM.get(y, y)
        total += bool(x or y)
        shared += bool(x or y) * (1 if x == y or w.SYNONYM.get(x) == y else related / 2)
    return shared / total


def stsb(rng: Random, topics: w.Topics) -> Example:
    """Return two statements and their similarity, 0 to 5 in steps of 0.2, with noise."""
    fact = twin = sample_fact(rng, topics)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        twin = rng.choice((opposed, unrelated, narrower))(twin, rng) or twin
    if rng.random() < 0.3:
        twin = sample_fact(rng, topics)
    score = 5 * similarity(fact, twin) ** 1.3 + rng.gauss(0, 0.3)
    first, second = statement(fact, rng), statement(paraphrase(twin, rng), rng)
    return first, second, round(min(5.0, max(0.0, score)) * 5) / 5


def qnli(rng: Random, topics: w.Topics) -> Example | None:
    """Return question and sentence, and 0 where the sentence answers the question, 1 where not."""
    fact, label = sample_fact(rng, topics), rng.randrange(2)
    asked, other = rng.sample(("place", "time"), 2)
    place, time = rng.choice(w.PLACES[rng.choice(topics[1])]), rng.choice(w.TIMES)
    fact = replace(fact, place=place, time=time)
    asking = question(replace(fact, **{other: ""}), asked, rng)
    answer = replace(fact, **{other: rng.choice((getattr(fact, other), ""))})
    if label and rng.random() < 0.6:
        answer = replace(fact, **{asked: ""})  # complete, and silent on what is asked
    elif label:
        answer = replace(_different(fact, rng, topics), **{asked: getattr(fact, asked)})
        if answer == fact:
            return None
    return asking, statement(paraphrase(answer, rng), rng), label


def wnli(rng: Random, topics: w.Topics) -> Example:
    """Return a sentence with a pronoun, one that resolves it, and 1 where it does so rightly."""
    names, pronoun = rng.choice(((w.WOMEN, "she"), (w.MEN, "he")))
    people, label = rng.sample(names, 2), rng.randrange(2)
    verb, reasons = rng.choice(list(REASONS.items()))
    reason, about = rng.choice(reasons)
    first = f"{people[0]} {verb} {people[1]} because {pronoun} {reason}."
    return first, f"{people[about == label]} {reason}.", label


MAKERS: dict[str, Callable[[Random, w.Topics], Example | None]] = {
    maker.__name__: maker for maker in (cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, ax)
}


def text(seed: int = 0, sentences: int = 60_000) -> Iterator[str]:
    """Yield paragraphs for masked-LM pre-training, about `sentences` sentences in all.

    The sentences of a paragraph bear on each other, so that a masked word in one is predicted by
    looking at the other: that is how a small encoder learns to align two sentences. No paragraph
    names a task's label. The same seed gives the same text on every machine.
    """
    rng = Random(f"{seed}/text")
    while sentences > 0:
        parts = rng.choices(PARAGRAPHS, PARAGRAPH_WEIGHTS)[0](rng)
        sentences -= len(parts)
        yield " ".join(parts)


def _restatement(rng: Random) -> list[str]:
    fact = replace(sample_fact(rng), negated=rng.random() < 0.1)
    return [statement(fact, rng), statement(paraphrase(fact, rng, 0.7), rng)]


def _yes_no_question(rng: Random) -> list[str]:
    label = rng.randrange(3)
    first, second = labelled_pair(label, rng)
    asking = question(paraphrase(replace(second, negated=False), rng), "whether", rng)
    answers = ("Yes.", "Perhaps.", "No.")
    return [statement(first, rng), asking, answers[2 - label if second.negated else label]]


def _answered_question(rng: Random) -> list[str]:
    fact = sample_fact(rng)
    asked = rng.choice(fact.filled("agent", "patient", "place", "time"))
    again = question(paraphrase(fact, rng, 0.7), asked, rng)
    return [question(fact, asked, rng), rng.choice((again, statement(paraphrase(fact, rng), rng)))]


def _review(rng: Random) -> list[str]:
    good = rng.randrange(2)
    did = rng.choice((("yawned", "left", "slept"), ("smiled", "stayed", "clapped"))[good])
    view = rng.choice((opinion(good, rng), " and ".join(rng.sample(OPINIONS[good], 2))))
    return [f"The {rng.choice(ASPECTS)} is {view}.", f"{rng.choice(w.NAMES)} {did}."]


PARAGRAPHS = (_restatement, _yes_no_question, _answered_question, _review)
PARAGRAPH_WEIGHTS = (30, 30, 30, 10)
