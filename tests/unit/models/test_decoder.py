"""The decoder of texts: what a piece may depend on, the search for a text, and what it learns."""

import itertools
from copy import deepcopy

import datasets
import numpy as np
import pytest
import torch
from phrases import ADJECTIVES, KINDS, phrases
from small_training import FAST, VOCABULARY, random_examples, small_model

from mtkd.data.dataset import Batch, Examples
from mtkd.errors import UserError
from mtkd.models import MultiTaskModel
from mtkd.models.decoder import search
from mtkd.tasks import Task
from mtkd.training.generate import generate
from mtkd.training.loop import TrainingRun, train

LONGEST = 6
WRITE = Task("write", "Write", "text", ("a",), (), ("rouge_l",), max_target=LONGEST)
CLS, SEP = 2, 3


@pytest.fixture
def model():
    """A small model whose decoder does not write the same whatever it reads."""
    return shaken(small_model([WRITE]))


def shaken(model: MultiTaskModel) -> MultiTaskModel:
    """Return a model with other weights, whose probabilities are not all near 0 and 1."""
    model.heads["write"].norms[1].weight.data.fill_(1)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    for layer in model.heads["write"].layers:
        layer.source.output.weight.data *= 4
    return model.eval()


def test_a_piece_does_not_depend_on_those_after_it(model):
    batch = random_examples(WRITE, 4).batch(np.arange(4))
    before = model(batch)
    assert before.shape == (len(batch.labels), VOCABULARY)
    _, position = batch.words.unbind(1)
    for place in range(int(position.max())):
        changed = torch.where(position >= place, (batch.labels + 7) % VOCABULARY, batch.labels)
        after = model(Batch(**vars(batch) | {"labels": changed}))
        same = (after - before).abs().amax(1) < 1e-5
        assert same[position <= place].all() and not same[position == place + 1].any()


def test_padding_of_source_and_text_changes_nothing(model):
    examples = random_examples(WRITE, 6)
    together = model(examples.batch(np.arange(6)))
    alone = torch.cat([model(examples.batch(np.array([row]))) for row in range(6)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_the_source_is_read(model):
    batch = random_examples(WRITE, 4).batch(np.arange(4))
    other = batch.input_ids.where(batch.input_ids <= SEP, (batch.input_ids + 5) % VOCABULARY)
    after = model(Batch(**vars(batch) | {"input_ids": other}))
    assert (after - model(batch)).abs().amax(1).min() > 1e-3


def with_texts(examples: Examples, texts: np.ndarray) -> Batch:
    """The batch of all examples with these texts, and their ends, in place of the correct ones."""
    labels = [[*row[row >= 0].tolist(), SEP] for row in texts]
    split = examples.split.remove_columns("label").add_column("label", labels)
    return examples.__class__(WRITE, split, "").batch(np.arange(len(examples)))


def test_what_is_written_greedily_is_most_probable_after_the_pieces_before(model):
    examples = random_examples(WRITE, 12)
    texts = generate([(model, examples)])
    batch = with_texts(examples, texts)
    _, position = batch.words.unbind(1)
    logits = model(batch)
    inside = position < LONGEST  # behind that no end is looked for
    assert torch.equal(logits.argmax(1)[inside], batch.labels[inside])
    assert len({tuple(row) for row in texts.tolist()}) > 1


def test_pieces_one_by_one_have_the_probabilities_of_the_whole(model):
    batch = random_examples(WRITE, 5).batch(np.arange(5))
    example, position = batch.words.unbind(1)
    expected = model(batch).log_softmax(1)
    step, pieces = model.begin(batch, 1), batch.input_ids[:, 0]
    for place in range(int(position.max()) + 1):
        found = step(pieces, torch.arange(5))
        here = position == place
        assert torch.allclose(found[example[here]], expected[here], atol=1e-4)
        pieces = pieces.scatter(0, example[here], batch.labels[here])


class Tree:
    """Random probabilities that depend on all pieces before."""

    def __init__(self, beams: int, pieces: int = 5):
        self.beams, self.pieces, self.texts = beams, pieces, None

    def logs(self, text: tuple[int, ...]) -> torch.Tensor:
        """Return the log-probabilities behind a text; its first number is the source's."""
        random = np.random.default_rng([9, *text])
        return torch.tensor(random.dirichlet(np.ones(self.pieces))).log().float()

    def __call__(self, pieces: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        if self.texts is None:
            self.texts = [(row // self.beams,) for row in rows.tolist()]
        else:
            given = zip(rows.tolist(), pieces.tolist(), strict=True)
            self.texts = [(*self.texts[row], one) for row, one in given]
        return torch.stack([self.logs(text) for text in self.texts])

    def mean(self, source: int, text: tuple[int, ...]) -> float:
        """Return the mean log-probability of a text, whose last piece may be its end."""
        logs = [self.logs((source, *text[:place]))[one] for place, one in enumerate(text)]
        return float(torch.stack(logs).mean())


SOURCES = Batch("write", *torch.tensor([[[0, 7, 1]] * 4, [[1, 1, 1]] * 4, [[0] * 3] * 4]), None)
END = 1  # the last piece of these sources


def every_text(longest: int, pieces: int = 5) -> list[tuple[int, ...]]:
    others = [piece for piece in range(pieces) if piece != END]
    texts = [(*one, END) for n in range(longest) for one in itertools.product(others, repeat=n)]
    return texts + list(itertools.product(others, repeat=longest))


def written(row: torch.Tensor) -> tuple[int, ...]:
    text = tuple(row[row >= 0].tolist())
    return text if len(text) == len(row) else (*text, END)


def test_a_beam_that_holds_every_text_finds_the_best_of_all():
    longest, beams = 3, 5**3
    tree = Tree(beams)
    for source, row in enumerate(search(tree, SOURCES, beams, longest)):
        best = max(every_text(longest), key=lambda text: tree.mean(source, text))
        assert written(row) == best


def test_one_beam_takes_the_most_probable_piece_each_time():
    tree = Tree(1)
    for source, row in enumerate(search(tree, SOURCES, 1, 5)):
        text = ()
        while len(text) < 5 and END not in text:
            text = (*text, int(tree.logs((source, *text)).argmax()))
        assert written(row) == text


def test_more_beams_find_better_texts_on_the_whole():
    means = []
    for beams in (1, 2, 4):
        tree = Tree(beams)
        found = search(tree, SOURCES, beams, 8)
        means.append([tree.mean(source, written(row)) for source, row in enumerate(found)])
    greedy, two, four = np.mean(means, axis=1)
    assert greedy < two <= four


def test_beams_of_the_decoder_are_kept_apart(model):
    examples, model, means = random_examples(WRITE, 10), deepcopy(model), []
    model.heads[WRITE.name].norms[1].weight.data *= 0.3  # so that no piece is certain
    for beam in (1, 5):
        task = Task(**vars(WRITE) | {"beam": beam})
        texts = generate([(model, examples.replace(task=task))])
        batch = with_texts(examples, texts)
        _, position = batch.words.unbind(1)
        inside = (position < LONGEST).float()
        logs = model(batch).log_softmax(1).gather(1, batch.labels[:, None])[:, 0] * inside
        totals = [torch.zeros(10).index_add(0, batch.words[:, 0], one) for one in (logs, inside)]
        means.append((totals[0] / totals[1]).mean().item())
    assert means[1] > means[0]


def test_several_members_write_by_their_mean_probabilities(model):
    examples, other = random_examples(WRITE, 8), shaken(small_model([WRITE], seed=3))
    together = generate([(model, examples), (other, examples)])
    batch = with_texts(examples, together)
    _, position = batch.words.unbind(1)
    mean = (model(batch).softmax(1) + other(batch).softmax(1)) / 2
    inside = position < LONGEST
    assert torch.equal(mean.argmax(1)[inside], batch.labels[inside])
    assert np.array_equal(generate([(model, examples)] * 2), generate([(model, examples)]))
    assert not np.array_equal(together, generate([(model, examples)]))


def test_the_first_logits_are_spread_by_1():
    batch = random_examples(WRITE, 20).batch(np.arange(20))
    assert small_model([WRITE]).eval()(batch).std(dim=1).mean().item() == pytest.approx(1, abs=0.2)


def test_the_encoder_s_table_reads_and_writes(model, tmp_path):
    shapes = [tuple(tensor.shape) for tensor in model.state_dict().values()]
    assert shapes.count((VOCABULARY, 32)) == 1
    examples = random_examples(WRITE, 2)
    model(examples.batch(np.arange(2))).logsumexp(1).sum().backward()
    assert (model.encoder.table.grad.abs().sum(1) > 0).all()
    model.save(tmp_path / "model.safetensors")
    longer = small_model([Task(**vars(WRITE) | {"max_target": 9})])
    with pytest.raises(UserError, match=r"texts of 6 pieces for 'write', .* have 9"):
        longer.load(tmp_path / "model.safetensors")


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "kind", "of", *ADJECTIVES, *KINDS]
WORDS += itertools.chain(*KINDS.values())


def as_examples(pairs: list, blind: bool = False) -> Examples:
    """Examples of phrases; `blind` ones have nothing to read."""
    numbers = {word: number for number, word in enumerate(WORDS)}
    sources = [
        [CLS, *(numbers[word] for word in source.split() if not blind), SEP] for source, _ in pairs
    ]
    columns = {
        "label": [[*map(numbers.get, target.split()), SEP] for _, target in pairs],
        "idx": range(len(pairs)),
        "input_ids": sources,
        "segment_start": list(map(len, sources)),
    }
    integers = datasets.List(datasets.Value("int32"))
    split = datasets.Dataset.from_dict(columns).cast_column("input_ids", integers)
    return Examples(WRITE, split, "phrases")


@pytest.mark.parametrize("blind", [False, True])
def test_it_learns_what_a_phrase_names_a_kind_of(blind, tmp_path):
    pairs = phrases()
    fitted, held_out = pairs[:200], pairs[-100:]
    model = small_model([WRITE])
    changes = {"optimizer": "adamw", "learning_rate": 1e-2, "epochs": 10, "batch_size": 25}
    run = TrainingRun({"write": as_examples(fitted, blind)}, FAST.model_copy(update=changes), 0)
    train(model, run, checkpoint=tmp_path / "checkpoint.pt")
    found = generate([(model, as_examples(held_out, blind))])
    right = [
        " ".join(WORDS[one] for one in row if one >= 0) == target
        for row, (_, target) in zip(found, held_out, strict=True)
    ]
    assert np.mean(right) < 0.5 if blind else np.mean(right) > 0.9
