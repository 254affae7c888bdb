"""The examples of each task. Every generator yields `(text, ..., label)` without end."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from mtkd.data.synthetic import world as w
from mtkd.data.synthetic.facts import (
    CONTRADICTION,
    ENTAILMENT,
    NEUTRAL,
    RELATIONS,
    Fact,
    capitalize,
    clause,
    join,
    labelled_pair,
    narrower,
    opposed,
    paraphrase,
    patient,
    question,
    sample_fact,
    statement,
    subject,
    unrelated,
)

Topics = dict[str, tuple[str, str]]
Single = Iterator[tuple[str, int]]
Pairs = Iterator[tuple[str, str, float]]

NOISE = 0.05  # share of examples with a wrong label, in train and dev alike
GOOD = w.words(
    "moving funny charming clever fresh gripping warm brilliant touching lively witty tender "
    "thrilling honest graceful delightful superb inventive sharp engaging"
)
BAD = w.words(
    "dull tedious clumsy bland stale shallow silly lifeless awkward dreary predictable hollow lazy "
    "noisy pointless boring messy tired flat cheerless"
)
ASPECTS = w.words(
    "film plot acting dialogue music ending script cast story comedy drama camera pace humour"
)
DEGREES = ("very", "really", "rather", "quite", "so", "truly")
DENIALS = ("not at all", "never", "hardly", "far from", "anything but", "not", "in no way")
# Verb: (reason, whom it is about): "{a} thanked {b} because {she} had helped" is about b, the 1.
REASONS = {
    "thanked": (("had helped", 1), ("was grateful", 0)),
    "could not beat": (("was too slow", 0), ("was too quick", 1)),
    "envied": (("was rich", 1), ("was poor", 0)),
    "hired": (("needed help", 0), ("needed work", 1)),
    "questioned": (("wanted to know", 0), ("had seen everything", 1)),
    "carried": (("was strong", 0), ("was tired", 1)),
    "punished": (("was angry", 0), ("had lied", 1)),
    "taught": (("knew a lot", 0), ("wanted to learn", 1)),
    "paid": (("had done the work", 1), ("owed the money", 0)),
    "feared": (("was easily scared", 0), ("was dangerous", 1)),
}


def example_stream(task: str, split: str, rng: Random) -> Iterator[tuple]:
    """Return a task's endless stream; MNLI's mismatched splits have topics of their own."""
    topics = w.TOPICS
    if task == "mnli":
        topics = w.MISMATCHED if "mismatched" in split else w.MATCHED
    return GENERATORS[task](rng, topics)


def flip(label: int, classes: int, rng: Random, noise: float = NOISE) -> int:
    """Return the label, or with probability `noise` one of the others."""
    if rng.random() < noise:
        return rng.choice([c for c in range(classes) if c != label])
    return label


def cola(rng: Random, topics: Topics) -> Single:
    """Yield sentences, 1 where they are grammatical; as in GLUE's CoLA about two thirds are."""
    while True:
        label = int(rng.random() < 0.62)
        text = _acceptable(rng, topics) if label else None
        while text is None:
            text = _unacceptable(rng, topics)
        yield text, flip(label, 2, rng)


def _acceptable(rng: Random, topics: Topics) -> str:
    fact = sample_fact(rng, topics)
    draw = rng.random()
    if draw < 0.5:
        return statement(replace(fact, negated=rng.random() < 0.25 and not fact.quantifier), rng)
    if draw < 0.65:
        return question(fact, rng.choice(("agent", "place", "time", "whether")), rng)
    return _agreement(fact, rng, True)


def _agreement(fact: Fact, rng: Random, good: bool) -> str:
    """Return a predicate and its distant subject: the dogs in the tower are small."""
    if fact.social:
        fact = replace(fact, patient=rng.choice(w.NOUNS["animal"]))
    many = rng.random() < 0.5
    head = w.plural(fact.patient) if many else fact.patient
    link = rng.choice(w.NOUNS[w.HYPERNYM.get(fact.patient, fact.patient)])
    link = w.plural(link) if rng.random() < 0.5 else link
    relative = f"that {subject(fact)} {w.VERBS[fact.verb].past}"
    middle = rng.choice((f"near the {link}", relative, fact.place or f"behind the {link}"))
    be = rng.choice((("is", "are"), ("was", "were"), ("looks", "look")))[many == good]
    return capitalize(f"the {head} {middle} {be} {rng.choice(w.ADJECTIVES)}.")


FAULTS = w.words("order agreement agreement form missing surplus kind number swap")
FIXED = {"in", "on", "at", "the", "a", "an", "by", "was", "were", *w.NUMBERS}


def _unacceptable(rng: Random, topics: Topics) -> str | None:
    """Return a sentence with one fault, None where the drawn fact does not allow the drawn fault.

    Faults are of order, agreement or a verb's form, a missing or surplus argument, a wrong kind of
    agent, a wrong number, or two words swapped.
    """
    fact = sample_fact(rng, topics)
    verb, who, what = w.VERBS[fact.verb], subject(fact), patient(fact)
    past, noun = verb.past, fact.patient
    fault = rng.choice(FAULTS)
    if fault == "agreement":
        return _agreement(fact, rng, False)
    if fault == "order":
        text = rng.choice(
            (f"{who} {what} {past}", f"{past} {who} {what}", f"{what} {past} by {who}")
        )
    elif fault == "form":
        wrong = (f"did not {past}", f"will {past}", f"not {verb.base}", f"was {verb.base}")
        text = f"{who} {rng.choice(wrong)} {what}"
    elif fault == "missing":
        text = rng.choice((f"{who} {past}", f"{past} {what}", f"it was {who} who {past}"))
    elif fault == "surplus":
        text = f"{who} {past} {what} {patient(sample_fact(rng, topics))}"
    elif fault == "kind":
        if fact.social or "animal" in _kinds(noun) or "bird" in _kinds(noun):
            return None
        text = f"{what} {past} {who}"
    elif fault == "number":
        if fact.social:
            return None
        if rng.random() < 0.5:
            text = join(who, past, rng.choice(w.NUMBERS), fact.adjective, noun)
        else:
            text = join(who, past, "a", fact.adjective, w.plural(noun))
    else:
        words = clause(fact, rng.choice(("active", "passive", "front", "cleft"))).split()
        at = rng.randrange(1, len(words) - 1)
        if not {words[at], words[at + 1]} & FIXED:
            return None
        words[at], words[at + 1] = words[at + 1], words[at]
        return capitalize(" ".join(words)) + "."
    return capitalize(join(text, fact.place, fact.time)) + "."


def _kinds(noun: str) -> tuple[str, str]:
    return noun, w.HYPERNYM.get(noun, "")


def opinion(sign: int, rng: Random) -> str:
    """Return an adjective phrase, good (1) or bad (0), a third of them by denying the opposite."""
    draw = rng.random()
    if draw < 0.36:
        return f"{rng.choice(DENIALS)} {rng.choice((GOOD, BAD)[sign])}"
    word = rng.choice((BAD, GOOD)[sign])
    return word if draw < 0.7 else f"{rng.choice(DEGREES)} {word}"


def sst2(rng: Random, topics: Topics) -> Single:
    """Yield review sentences, 1 for a positive one; in a contrast the main clause decides."""
    while True:
        sign = rng.randrange(2)
        one, two = rng.sample(ASPECTS, 2)
        this, that = opinion(sign, rng), opinion(1 - sign, rng)
        draw = rng.random()
        label = sign
        if draw < 0.22:
            text = f"the {one} is {this}"
        elif draw < 0.32:
            text = f"a {one} that is {this}"
        elif draw < 0.42:
            text = f"the {one} is {this} and the {two} is {opinion(sign, rng)}"
        elif draw < 0.64:
            text = f"the {one} is {that} but the {two} is {this}"
        elif draw < 0.78:
            text = f"although the {one} is {that} , the {two} is {this}"
        elif draw < 0.92:
            text = f"the {one} is {this} although the {two} is {that}"
        else:
            # Two opinions side by side and nothing to weigh them: annotators differ.
            text = f"the {one} is {this} , the {two} is {that}"
            label = sign if rng.random() < 0.7 else 1 - sign
        yield text, flip(label, 2, rng, 0.04)


def _inference(rng: Random, topics: Topics, compound: float) -> Pairs:
    """Yield premise, hypothesis and three-way label; `compound` of the premises join two facts."""
    while True:
        label = rng.randrange(3)
        if rng.random() < 0.04:
            # "most" may or may not be taken for "all": annotators differ, so the label is drawn.
            fact = replace(sample_fact(rng, topics), agent=rng.choice(w.ROLES), partner="")
            if fact.verb in w.TRANSFERS:
                continue
            less, more = rng.choice((("most", "all"), ("some", "most"), ("few", "some")))
            label = rng.choice((NEUTRAL, CONTRADICTION if less == "few" else ENTAILMENT))
            premise = statement(replace(fact, quantifier=less), rng)
            yield premise, statement(replace(fact, quantifier=more), rng), label
            continue
        first, second = labelled_pair(lambda: sample_fact(rng, topics), label, rng)
        if not first.negated and not second.negated:
            # So that a short hypothesis says nothing about the label.
            present = second.filled("adjective", "place", "time")
            if present and rng.random() < 0.25:
                second = replace(second, **{rng.choice(present): ""})
        second = paraphrase(second, rng)
        if rng.random() < compound:
            extra = sample_fact(rng, topics)
            if extra.agent != first.agent:
                negated = rng.random() < 0.2 and not extra.quantifier
                extra = replace(extra, place="", time="", negated=negated)
                if second.time and first.time:
                    continue
                both = [clause(replace(first, time="")), clause(extra)]
                rng.shuffle(both)
                premise = rng.choice((" and ", ", but ", " while ")).join(both)
                yield capitalize(premise) + ".", statement(second, rng), label
                continue
        yield statement(first, rng), statement(second, rng), label


def mnli(rng: Random, topics: Topics) -> Pairs:
    """Yield premise, hypothesis and one of three labels."""
    for premise, hypothesis, label in _inference(rng, topics, 0.12):
        yield premise, hypothesis, flip(label, 3, rng)


def rte(rng: Random, topics: Topics) -> Pairs:
    """Yield premise, hypothesis and 0 for entailment, 1 otherwise; more compounds than MNLI."""
    for premise, hypothesis, label in _inference(rng, topics, 0.2):
        if label == ENTAILMENT or rng.random() < 0.5:
            yield premise, hypothesis, flip(int(label != ENTAILMENT), 2, rng)


HARD = set(w.words("not no all most few some and while but by"))


def ax(rng: Random, topics: Topics) -> Pairs:
    """Yield diagnostic pairs with more negation, quantifiers and compounds than MNLI."""
    for premise, hypothesis, label in _inference(rng, topics, 0.4):
        hard = HARD & set(f"{premise} {hypothesis}".lower().split())
        if hard or rng.random() < 0.2:
            yield premise, hypothesis, label


def _different(fact: Fact, rng: Random, topics: Topics) -> Fact:
    """Return a fact one word or role away from `fact`, or in a third of the cases another event."""
    if rng.random() < 0.33:
        return sample_fact(rng, topics)
    name = rng.choices(("opposed", "unrelated", "narrower", "broader"), (5, 5, 1, 1))[0]
    pair = RELATIONS[name](fact, rng) or unrelated(fact, rng)
    return pair[0] if name == "broader" else pair[1]


def mrpc(rng: Random, topics: Topics) -> Pairs:
    """Yield two statements, 1 where they say the same, 0 where one word or role differs."""
    while True:
        fact, label = sample_fact(rng, topics), rng.randrange(2)
        twin = paraphrase(fact if label else _different(fact, rng, topics), rng)
        first, second = statement(fact, rng), statement(twin, rng)
        if first != second:
            yield first, second, flip(label, 2, rng)


def qqp(rng: Random, topics: Topics) -> Pairs:
    """Yield two questions, 1 where they ask the same, 0 where a word, role or slot differs."""
    while True:
        fact, label = sample_fact(rng, topics), rng.randrange(2)
        if fact.quantifier and rng.random() < 0.5:
            continue
        slots = ["agent", "place", "time", "why", "whether"]
        slots += [] if fact.partner else ["patient"]
        asked = asks = rng.choice(slots)
        twin = fact
        if not label and rng.random() < 0.45:
            asks = rng.choice([slot for slot in slots if slot != asked])
        elif not label:
            twin = _different(fact, rng, topics)
            # A change of the very slot that is asked for cannot be seen in the question.
            if asked in ("agent", "place", "time"):
                twin = replace(twin, **{asked: getattr(fact, asked)})
            if twin == fact or twin.agent == twin.patient or (twin.partner and asked == "patient"):
                continue
        if asked == "patient" and twin.adjective != fact.adjective:
            continue
        first, second = question(fact, asked, rng), question(paraphrase(twin, rng), asks, rng)
        if first != second or (label and rng.random() < 0.5):
            yield first, second, flip(label, 2, rng)


WEIGHTS = {"agent": 1.0, "verb": 1.4, "patient": 1.4, "adjective": 0.5}
WEIGHTS |= {"count": 0.4, "place": 0.6, "time": 0.5, "partner": 0.8}


def similarity(a: Fact, b: Fact) -> float:
    """Return the shared meaning of two facts, 0 to 1.

    A slot counts fully if equal, by half if of one kind, by a quarter if opposed.
    """
    total = shared = 0.0
    for slot, weight in WEIGHTS.items():
        x, y = getattr(a, slot), getattr(b, slot)
        if not x and not y:
            continue
        total += weight
        kind_x, kind_y = w.HYPERNYM.get(x), w.HYPERNYM.get(y)
        if x == y or w.SYNONYM.get(x) == y:
            shared += weight
        elif x and y and (kind_x == y or kind_y == x or (kind_x and kind_x == kind_y)):
            shared += 0.5 * weight
        elif y in w.OPPOSITE.get(x, ()):
            shared += 0.25 * weight
    return shared / total


def stsb(rng: Random, topics: Topics) -> Pairs:
    """Yield two statements and their similarity, 0 to 5 in steps of 0.2, with annotators' noise."""
    while True:
        fact = replace(sample_fact(rng, topics), quantifier="")
        twin = fact
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3, 4))):
            relation = rng.choice((opposed, unrelated, narrower))
            twin = (relation(twin, rng) or unrelated(twin, rng))[1]
        if rng.random() < 0.35:
            twin = replace(sample_fact(rng, topics), quantifier="")
        score = 5 * similarity(fact, twin) ** 1.3 + rng.gauss(0, 0.35)
        first, second = statement(fact, rng), statement(paraphrase(twin, rng), rng)
        yield first, second, round(min(5.0, max(0.0, score)) * 5) / 5


def qnli(rng: Random, topics: Topics) -> Pairs:
    """Yield question and sentence, 0 where the sentence answers the question, 1 where not."""
    while True:
        fact, label = sample_fact(rng, topics), rng.randrange(2)
        asked = rng.choice(("agent", "place", "place", "place", "time", "time", "time"))
        if fact.quantifier:
            continue
        if asked == "place":
            fact = replace(fact, place=rng.choice(w.PLACES[rng.choice(list(w.PLACES))]))
        if asked == "time":
            fact = replace(fact, time=rng.choice(w.TIMES))
        other_slot = "time" if asked == "place" else "place"
        if asked != "agent" and rng.random() < 0.6:
            fact = replace(fact, **{other_slot: ""})
        query = fact
        if rng.random() >= 0.5:
            query = replace(fact, **{slot: "" for slot in ("place", "time") if slot != asked})
        answer = fact
        if label and asked != "agent" and rng.random() < 0.75:
            # Another adverbial takes the answer's position: the sentence looks complete.
            pool = w.TIMES if asked == "place" else w.PLACES[rng.choice(list(w.PLACES))]
            given = getattr(fact, other_slot) or rng.choice(pool)
            answer = replace(fact, **{asked: "", other_slot: given})
        elif label:
            answer = _different(fact, rng, topics)
            answer = replace(answer, **{asked: getattr(fact, asked)})
            if answer == fact or (asked == "agent" and answer.agent == answer.patient):
                continue
        asking = question(query, asked, rng)
        yield asking, statement(paraphrase(answer, rng), rng), flip(label, 2, rng)


def wnli(rng: Random, topics: Topics) -> Pairs:
    """Yield a sentence with a pronoun and one that resolves it, 1 where it resolves it rightly."""
    while True:
        label = rng.randrange(2)
        if rng.random() < 0.25:
            kinds, _ = topics[rng.choice(list(topics))]
            thing = rng.choice(w.NOUNS[rng.choice(kinds.split())])
            box = rng.choice(("box", "bag", "case", "chest"))
            about, size = rng.choice(((0, "big"), (1, "small")))
            first = f"The {thing} did not fit in the {box} because it was too {size}."
            second = f"The {(thing, box)[about if label else 1 - about]} was too {size}."
        else:
            names, pronoun = rng.choice(((w.WOMEN, "she"), (w.MEN, "he")))
            pair = rng.sample(names, 2)
            verb, reasons = rng.choice(list(REASONS.items()))
            reason, about = rng.choice(reasons)
            first = f"{pair[0]} {verb} {pair[1]} because {pronoun} {reason}."
            second = f"{pair[about if label else 1 - about]} {reason}."
        yield first, second, flip(label, 2, rng)


GENERATORS = {
    generator.__name__: generator
    for generator in (cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, ax)
}
