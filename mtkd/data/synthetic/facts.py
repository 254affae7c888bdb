"""Facts, the sentences and questions that state them, and how two facts relate."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from mtkd.data.synthetic import world as w

ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)


@dataclass(frozen=True, slots=True)
class Fact:
    """One event: `agent` did `verb` to `patient` (a thing, or a person for a social verb).

    `count` makes the patient several (`three cars`); place and time are whole phrases (`in Paris`);
    an empty string is an empty slot.
    """

    agent: str
    verb: str
    patient: str
    adjective: str = ""
    count: str = ""
    place: str = ""
    time: str = ""
    negated: bool = False

    @property
    def social(self) -> bool:
        """Whether the patient is a person."""
        return self.patient in w.NAMES

    def filled(self, *slots: str) -> list[str]:
        """Return those of the slots that are not empty."""
        return [slot for slot in slots if getattr(self, slot)]


def sample_fact(rng: Random, topics: w.Topics = w.EVERYWHERE) -> Fact:
    """Draw a positive fact about one of the topics, with at most three modifiers."""
    kinds, regions = topics
    agent, patient = rng.sample(w.NAMES, 2)
    place = _vague(rng.choice(w.PLACES[rng.choice(regions)]), rng) if rng.random() < 0.45 else ""
    time = _vague(rng.choice(w.TIMES), rng) if rng.random() < 0.35 else ""
    if rng.random() < 0.25:
        return Fact(agent, rng.choice(w.SOCIAL), patient, place=place, time=time)
    noun = _vague(rng.choice(w.NOUNS[rng.choice(kinds)]), rng)
    style = rng.random()
    adjective = rng.choice(w.ADJECTIVES) if style < 0.4 else ""
    count = rng.choice(w.NUMBERS) if style > 0.6 else ""
    return Fact(agent, rng.choice(w.ACTIONS), noun, adjective, count, place, time)


def _vague(word: str, rng: Random) -> str:
    return w.HYPERNYM[word] if rng.random() < 0.15 else word


def join(*parts: str) -> str:
    """Join the non-empty parts by spaces."""
    return " ".join(part for part in parts if part)


def sentence(text: str, end: str = ".") -> str:
    """Return the text with a capital first letter and a full stop or another `end`."""
    return text[0].upper() + text[1:] + end


def patient(fact: Fact) -> str:
    """Return the patient's noun phrase."""
    if fact.social:
        return fact.patient
    if fact.count:
        return join(fact.count, fact.adjective, w.plural(fact.patient))
    return w.article(join(fact.adjective, fact.patient))


def clause(fact: Fact, rng: Random) -> str:
    """Return the fact as a clause in a random form, without capital or full stop."""
    form = rng.random()
    what, did = patient(fact), w.past(fact.verb)
    if form < 0.3 and not fact.negated:
        be = "were" if fact.count else "was"
        return join(what, be, did, "by", fact.agent, fact.place, fact.time)
    did = f"did not {fact.verb}" if fact.negated else did
    if form > 0.8 and fact.time:
        return join(f"{fact.time},", fact.agent, did, what, fact.place)
    return join(fact.agent, did, what, fact.place, fact.time)


def statement(fact: Fact, rng: Random) -> str:
    """Return the fact as a sentence in a random form."""
    return sentence(clause(fact, rng))


def question(fact: Fact, asked: str, rng: Random) -> str:
    """Return a question about one slot of the fact, or about its reason or its truth.

    `asked` is `agent`, `patient`, `place`, `time`, `why` or `whether`.
    """
    what, be = patient(fact), "were" if fact.count else "was"
    where = join(*(getattr(fact, slot) for slot in ("place", "time") if slot != asked))
    passive = rng.random() < 0.3
    word = {"place": "where", "time": "when", "why": "why", "whether": ""}.get(asked)
    if asked == "patient":
        text = join("whom" if fact.social else "what", "did", fact.agent, fact.verb, where)
    elif asked == "agent" and passive:
        text = join("by whom", be, what, w.past(fact.verb), where)
    elif asked == "agent":
        text = join("who", w.past(fact.verb), what, where)
    elif passive:
        text = join(word, be, what, w.past(fact.verb), "by", fact.agent, where)
    else:
        text = join(word, "did", fact.agent, fact.verb, what, where)
    return sentence(text, "?")


def paraphrase(fact: Fact, rng: Random, p: float = 0.4) -> Fact:
    """Return the fact with verb, patient and adjective each replaced by a synonym with p."""
    slots = [slot for slot in ("verb", "patient", "adjective") if getattr(fact, slot) in w.SYNONYM]
    return replace(fact, **{s: w.SYNONYM[getattr(fact, s)] for s in slots if rng.random() < p})


def narrower(fact: Fact, rng: Random) -> Fact | None:
    """Return a fact that says less and so follows: with a hypernym, or without a modifier."""
    changes = [{slot: ""} for slot in fact.filled("adjective", "place", "time")]
    for slot in ("patient", "place", "time"):
        if general := w.HYPERNYM.get(getattr(fact, slot)):
            changes.append({slot: general})
    return replace(fact, **rng.choice(changes)) if changes else None


def opposed(fact: Fact, rng: Random) -> Fact:
    """Return a fact that excludes this one: an opposite word, another number or time."""
    changes = [{"verb": rng.choice(w.OPPOSITE[fact.verb])}]
    if fact.adjective:
        changes.append({"adjective": rng.choice(w.OPPOSITE[fact.adjective])})
    if fact.count:
        changes.append({"count": _another(w.NUMBERS, fact.count, rng)})
    if fact.time in w.TIMES:
        changes.append({"time": _another(w.TIMES, fact.time, rng)})
    return replace(fact, **rng.choice(changes))


def unrelated(fact: Fact, rng: Random) -> Fact:
    """Return a fact that may hold beside this one: another person, thing, verb or roles."""
    changes = [{"agent": _another(w.NAMES, fact.agent, rng, fact.patient)}]
    if fact.social:
        changes += [{"agent": fact.patient, "patient": fact.agent}] * 2
    near = (w.SYNONYM[fact.verb], *w.OPPOSITE[fact.verb])
    changes.append(
        {"verb": _another(w.SOCIAL if fact.social else w.ACTIONS, fact.verb, rng, *near)}
    )
    if alike := w.NOUNS.get(w.HYPERNYM.get(fact.patient)):
        synonym = w.SYNONYM.get(fact.patient)
        changes += [{"patient": _another(alike, fact.patient, rng, synonym)}] * 2
    return replace(fact, **rng.choice(changes))


def _another(pool: list[str], word: str, rng: Random, *excluded: str | None) -> str:
    return rng.choice([other for other in pool if other != word and other not in excluded])


# Natural logic in one table. Label: [(weight, premise negated, hypothesis negated, relations)]; a
# relation is that of the hypothesis's fact to the premise's before negation. The weights give every
# label the same share of negated hypotheses.
INFERENCES = {
    ENTAILMENT: [
        (0.6, False, False, "same same narrower"),
        (0.1, False, True, "opposed"),
        (0.3, True, True, "same same broader"),
    ],
    NEUTRAL: [
        (0.4, False, False, "broader unrelated unrelated elsewhere"),
        (0.2, False, True, "broader unrelated elsewhere"),
        (0.2, True, False, "narrower opposed unrelated elsewhere"),
        (0.2, True, True, "narrower opposed unrelated elsewhere"),
    ],
    CONTRADICTION: [
        (0.4, False, False, "opposed"),
        (0.4, False, True, "same same narrower"),
        (0.2, True, False, "same same broader"),
    ],
}
RELATIONS: dict[str, Callable[[Fact, Random], Fact | None]] = {
    "same": lambda fact, rng: fact,
    "narrower": narrower,
    "broader": narrower,
    "opposed": opposed,
    "unrelated": unrelated,
}


def labelled_pair(label: int, rng: Random, topics: w.Topics = w.EVERYWHERE) -> tuple[Fact, Fact]:
    """Return (premise, hypothesis) in the NLI relation `label`."""
    weights = [weight for weight, *_ in INFERENCES[label]]
    _, first, second, relations = rng.choices(INFERENCES[label], weights)[0]
    relation, other = rng.choice(relations.split()), None
    while other is None:
        fact = sample_fact(rng, topics)
        elsewhere = relation == "elsewhere"
        other = sample_fact(rng, topics) if elsewhere else RELATIONS[relation](fact, rng)
    pair = (other, fact) if relation == "broader" else (fact, other)
    return replace(pair[0], negated=first), replace(pair[1], negated=second)
