"""ROUGE-L of texts, their soft targets and loss, and their rows among predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from small_training import VOCABULARY, random_examples, small_model

from mtkd.config.distillation import Distil
from mtkd.errors import UserError
from mtkd.tasks import TOP, Task
from mtkd.training import metrics
from mtkd.training.generate import rouge_l, to_texts, with_rouge
from mtkd.training.losses import soft_loss, task_loss
from mtkd.training.predict import most_probable, predict
from mtkd.training.soft_targets import (
    SoftTargets,
    read_soft_targets,
    unite_members,
    write_soft_targets,
)

WRITE = Task("write", "Write", "text", ("a",), (), ("rouge_l",), max_target=6)


def test_rouge_l_by_hand_and_as_the_library_has_it():
    written = ["a kind of cat", "of a kind", "", "A kind, of dog!"]
    found = rouge_l(written, ["a kind of dog"] * 4)
    assert found == pytest.approx([3 / 4, 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4), 0, 1])
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    expected = [scorer.score("a kind of dog", text)["rougeL"].fmeasure for text in written]
    assert found == pytest.approx(expected)


def test_words_of_every_script_count():
    assert rouge_l(["Häuser am Fluß", "ελληνικά"], ["Häuser", "ελληνικά"]).tolist() == [0.5, 1]


class Words:
    """Stands for a tokenizer: the word pieces are words."""

    def batch_decode(self, rows, skip_special_tokens):
        return [" ".join(f"w{number}" for number in row) for row in rows]


def test_outputs_are_rouge_l_and_pieces():
    examples = random_examples(WRITE, 3)
    split = examples.split.add_column("target", ["w1 w2", "w5", ""])
    examples = replace(examples, split=split, tokenizer=Words())
    pieces = np.array([[1, 2, -1], [6, -1, -1], [1, 1, 1]])
    assert to_texts(pieces, Words()) == ["w1 w2", "w6", "w1 w1 w1"]
    outputs = with_rouge(examples, pieces)
    assert outputs[:2].tolist() == [[1, 1, 2, -1], [0, 6, -1, -1]] and np.isnan(outputs[2, 0])
    score = metrics.score(WRITE, outputs[:2], np.zeros(2), np.arange(2))
    assert score == ({"rouge_l": 50.0}, [])
    low, high = metrics.intervals(WRITE, outputs[:2], np.zeros(2), np.arange(2))["rouge_l"]
    assert (low, high) == (0, 100)


def test_resampled_rouge_l_is_the_mean_of_the_resample():
    random = np.random.default_rng(0)
    values, weights = random.random((7, 2)), metrics.resamples(7, 5, random)
    found = metrics.resampled(WRITE, "rouge_l", weights, values, np.zeros(7))
    for draw, repeats in enumerate(weights):
        mean = 100 * np.repeat(values, repeats, axis=0).mean(axis=0)
        assert found[draw] == pytest.approx(mean)


def drawn(vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a student (6, v), and of three members (3, 6, v)."""
    torch.manual_seed(0)
    return torch.randn(6, vocabulary), 2 * torch.randn(3, 6, vocabulary)


@pytest.mark.parametrize("kind", ["cross-entropy", "kl"])
def test_the_loss_is_eq_4_where_all_pieces_are_kept(kind):
    student, members = drawn(TOP)
    kept = np.stack([most_probable(logits).numpy() for logits in members])
    united = torch.tensor(unite_members(kept))
    assert united.shape == (6, 2 * 3 * TOP)
    mean = members.softmax(-1).mean(0)
    plain = replace(WRITE, kind="single", labels=("x",) * TOP)
    expected = soft_loss(plain, student, mean, kind=kind)
    student.requires_grad_()
    found = soft_loss(WRITE, student, united, kind=kind)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    (gradient,) = torch.autograd.grad(found, student)
    assert torch.allclose(gradient, (student.softmax(-1) - mean) / 6, atol=1e-6)


def test_what_is_left_out_is_made_up_for():
    student, members = drawn(40)
    kept = most_probable(members[0])
    best = members[0].softmax(-1).topk(TOP)
    dense = torch.zeros(6, 40).scatter(1, best.indices, best.values)
    dense = dense / dense.sum(1, keepdim=True)
    plain = replace(WRITE, kind="single", labels=("x",) * 40)
    expected = soft_loss(plain, student, dense).item()
    assert soft_loss(WRITE, student, kept).item() == pytest.approx(expected, abs=1e-5)


def test_soft_targets_are_those_of_the_pieces_in_order(tmp_path):
    model, examples = small_model([WRITE]), random_examples(WRITE, 9)
    logits = predict(model, examples)
    batch = examples.batch(np.arange(9))
    with torch.no_grad():
        dense = model(batch).softmax(1).numpy()
    assert logits.shape == (len(batch.labels), 2 * TOP)
    numbers = logits[:, :TOP].astype(int)
    assert np.exp(logits[:, TOP:]) == pytest.approx(np.take_along_axis(dense, numbers, 1), abs=1e-5)
    assert (numbers[:, 0] == dense.argmax(1)).all() and numbers.max() < VOCABULARY
    targets = SoftTargets(WRITE, examples.idx, logits[None], ["one"], examples.fingerprint)
    write_soft_targets(tmp_path / "soft.parquet", [targets])
    read = read_soft_targets(tmp_path / "soft.parquet", WRITE)
    assert np.array_equal(read.probabilities, logits)
    order = np.array([5, 0, 8])
    some = examples.replace(soft_targets=read.aligned(examples)).subset(order)
    expected = np.concatenate([logits[examples.idx == row] for row in order])
    assert np.array_equal(some.soft_targets, expected)
    batch = some.batch(np.array([2, 0]))
    assert batch.soft_targets.shape == (len(batch.labels), 2 * TOP)
    loss = task_loss(WRITE, model(batch), batch, Distil())
    assert torch.isfinite(loss)
    with pytest.raises(UserError, match="The soft targets are not of these examples"):
        read.aligned(examples.replace(fingerprint="other pieces"))
