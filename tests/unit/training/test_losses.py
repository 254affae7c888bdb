"""Eq. 2, Eq. 4 and their combinations against numbers by hand and closed-form gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.functional import one_hot

from mtkd import tasks
from mtkd.config.distillation import Distil
from mtkd.data.dataset import Batch
from mtkd.tasks import as_ranking
from mtkd.training import losses
from mtkd.training.losses import hard_loss, hard_weight, logit_loss, soft_loss

RTE, MNLI, STSB, QNLI = map(tasks.get, ("rte", "mnli", "stsb", "qnli"))

# Row 1: probabilities 1/4, 3/4; the teacher's are 1/2, 1/2. Row 2: 2/3, 1/3; 9/10, 1/10. Label 1.
LOGITS = torch.tensor([[0.0, math.log(3)], [math.log(2), 0.0]], dtype=torch.float64)
LABELS = torch.tensor([1, 1])
SOFT = torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)
EQ2 = 0.693147  # (ln(4/3) + ln 3) / 2 = (0.287682 + 1.098612) / 2
EQ4 = 0.655884  # (ln 4 + ln(4/3)) / 2 = 0.836988; 0.9 ln(3/2) + 0.1 ln 3 = 0.474780
KL = 0.146769  # ln(2/sqrt 3) = 0.143841; 0.9 ln(0.9 * 3/2) + 0.1 ln(0.1 * 3) = 0.149696

SCORES = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
GOLD = torch.tensor([2.0, 5.0], dtype=torch.float64)  # squares 1 and 4: 2.5
TEACHER_SCORES = torch.tensor([[1.5], [3.0]], dtype=torch.float64)  # squares 0.25 and 0: 0.125


def task_loss(task, logits, labels, soft, distil, done=0.0, label_mask=None):
    batch = Batch(task.name, None, None, None, labels, soft, label_mask)
    return losses.task_loss(task, logits, batch, distil, done)


def near(value: float):
    return pytest.approx(value, abs=1e-6)


def gradient(loss, at: torch.Tensor) -> torch.Tensor:
    variable = at.clone().requires_grad_()
    return torch.autograd.grad(loss(variable), variable)[0]


def drawn(seed: int = 0):
    torch.manual_seed(seed)
    logits, teacher = torch.randn(2, 5, 3, dtype=torch.float64)
    return logits, torch.tensor([0, 2, 1, 1, 0]), teacher.softmax(-1)


def test_eq_2_and_eq_4_by_hand():
    assert hard_loss(RTE, LOGITS, LABELS).item() == near(EQ2)
    assert soft_loss(RTE, LOGITS, SOFT).item() == near(EQ4)


@pytest.mark.parametrize(
    ("distil", "expected"),
    [
        (Distil(), (EQ2 + EQ4) / 2),
        (Distil(hard_weight=0.25), 0.665200),
        (Distil(hard_weight=1), EQ2),
        (Distil(hard_weight=0), EQ4),
        (Distil(hard_weight_of={"rte": 0.25}), 0.665200),
        (Distil(hard_weight=0.2, loss="kl"), 0.2 * EQ2 + 0.8 * KL),
        (Distil(annealing=True), 0.3 * EQ2 + 0.7 * EQ4),
    ],
)
def test_the_average_of_both_by_hand(distil, expected):
    assert task_loss(RTE, LOGITS, LABELS, SOFT, distil, done=0.3).item() == near(expected)


def test_the_weight_of_eq_2_of_other_tasks_and_under_annealing():
    assert hard_weight(MNLI, Distil(hard_weight=0.5, hard_weight_of={"rte": 0.25}), 0.9) == 0.5
    assert [hard_weight(RTE, Distil(annealing=True), done) for done in (0.0, 1.0)] == [0.0, 1.0]


def test_a_task_without_a_teacher_has_eq_2_alone():
    distil = Distil(hard_weight=0.1, temperature=3)
    assert task_loss(RTE, LOGITS, LABELS, None, distil).item() == near(EQ2)


def test_a_teacher_that_is_certain_of_the_label_gives_eq_2():
    logits, labels, _ = drawn()
    soft = soft_loss(MNLI, logits, one_hot(labels, 3).double())
    assert soft.item() == pytest.approx(hard_loss(MNLI, logits, labels).item(), abs=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_gradient_is_softmax_less_the_mixed_target(weight):
    logits, labels, soft = drawn()
    expected = (logits.softmax(-1) - (weight * one_hot(labels, 3) + (1 - weight) * soft)) / 5
    distil = Distil(hard_weight=weight)
    found = gradient(lambda at: task_loss(MNLI, at, labels, soft, distil), logits)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_gradients_equal_finite_differences(temperature):
    logits, labels, soft = drawn(seed=1)
    distil = Distil(hard_weight=0.4, temperature=temperature)
    assert torch.autograd.gradcheck(
        lambda at: task_loss(MNLI, at, labels, soft, distil), logits.requires_grad_()
    )


def test_temperature_by_hand():
    # At T = 2 the logits 2 ln 3, 0 give 3/4, 1/4; 0.8, 0.2 become sqrt(0.8) : sqrt(0.2) = 2 : 1.
    # The loss is 4 (2/3 ln(4/3) + 1/3 ln 4) = 4 (0.191788 + 0.462098).
    logits = torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)
    soft = torch.tensor([[0.8, 0.2]], dtype=torch.float64)
    assert soft_loss(RTE, logits, soft, temperature=2).item() == pytest.approx(2.615544, abs=1e-5)


def test_the_square_of_the_temperature_keeps_the_size_of_the_gradient():
    logits, _, soft = drawn()
    found = gradient(lambda at: soft_loss(MNLI, at, soft, temperature=1000.0), logits)
    # Hinton et al. (2015), Eq. 4: at a high temperature it is that of matching centred logits.
    teacher = soft.log() - soft.log().mean(-1, keepdim=True)
    expected = (logits - logits.mean(-1, keepdim=True) - teacher) / 3 / len(logits)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert found.abs().max() > 0.05


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_a_probability_of_zero_has_a_finite_loss(temperature):
    logits, labels, _ = drawn()
    soft = one_hot(labels, 3).double()
    found = gradient(lambda at: soft_loss(MNLI, at, soft, temperature), logits)
    assert torch.isfinite(found).all() and found.abs().sum() > 0


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_divergence_is_less_by_the_entropy_and_has_the_same_gradient(temperature):
    assert soft_loss(RTE, LOGITS, SOFT, kind="kl").item() == near(KL)
    entropy = -(SOFT * SOFT.log()).sum(1).mean().item()
    assert soft_loss(RTE, LOGITS, SOFT, kind="kl").item() == near(EQ4 - entropy)
    kinds = ("kl", "cross-entropy")
    slopes = [
        gradient(lambda at, k=kind: soft_loss(RTE, at, SOFT, temperature, k), LOGITS)
        for kind in kinds
    ]
    torch.testing.assert_close(*slopes)


def test_logits_by_hand():
    teacher = torch.tensor([[1.0, math.log(3)], [math.log(2), 2.0]], dtype=torch.float64)
    assert soft_loss(RTE, LOGITS, teacher, kind="logits").item() == near((1 + 0 + 0 + 4) / 4)
    mixed = task_loss(RTE, LOGITS, LABELS, teacher, Distil(hard_weight=0.2, loss="logits"))
    assert mixed.item() == near(0.2 * EQ2 + 0.8 * 1.25)
    found = gradient(lambda at: logit_loss(at, teacher), LOGITS)
    torch.testing.assert_close(found, 2 * (LOGITS - teacher) / 4)


@pytest.mark.parametrize("distil", [Distil(), Distil(loss="logits"), Distil(temperature=4)])
def test_a_regression_has_the_mean_squared_error_in_both_terms(distil):
    def loss(scores):
        return task_loss(STSB, scores, GOLD, TEACHER_SCORES, distil)

    assert hard_loss(STSB, SCORES, GOLD).item() == near(2.5)
    assert loss(SCORES).item() == near((2.5 + 0.125) / 2)
    expected = torch.tensor([[-0.5 - 0.25], [-1.0]], dtype=torch.float64)
    torch.testing.assert_close(gradient(loss, SCORES), expected)


def test_an_example_without_a_label_has_eq_4_alone():
    distil, mask = Distil(hard_weight=0.25), torch.tensor([True, False])
    row = [task_loss(RTE, LOGITS[:1], LABELS[:1], SOFT[:1], distil)]
    row.append(soft_loss(RTE, LOGITS[1:], SOFT[1:]))
    labels = torch.tensor([1, -1])
    found = task_loss(RTE, LOGITS, labels, SOFT, distil, label_mask=mask)
    assert found.item() == near(sum(row).item() / 2)
    none = task_loss(RTE, LOGITS, labels, SOFT, distil, label_mask=torch.zeros(2, dtype=bool))
    assert none.item() == near(EQ4)


def test_ranking_is_a_softmax_over_each_query_s_candidates():
    scores = torch.tensor([1.0, 5.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    groups, labels = torch.tensor([7, 2, 7, 7, 2]), torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])

    def expected(at):  # QNLI: the correct candidate has label 0
        first = F.cross_entropy(at[[0, 2, 3]][None], torch.tensor([0]))
        return (first + F.cross_entropy(at[[1, 4]][None], torch.tensor([1]))) / 2

    def found(at):
        return hard_loss(QNLI, at[:, None], labels, groups)

    torch.testing.assert_close(found(scores), expected(scores))
    torch.testing.assert_close(gradient(found, scores), gradient(expected, scores))
    assert torch.isfinite(found(scores * 1e4))


@pytest.mark.parametrize("kind", ["cross-entropy", "kl"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_targets_of_a_ranking_are_over_each_query_s_candidates(kind, temperature):
    scores = torch.tensor([1.0, 5.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    teacher = torch.tensor([0.2, 0.6, 0.7, 0.1, 0.4], dtype=torch.float64)
    groups, ranked = torch.tensor([7, 2, 7, 7, 2]), as_ranking(QNLI)

    def expected(at):
        total = 0
        for rows in ([0, 2, 3], [1, 4]):
            soft = teacher[rows] ** (1 / temperature)
            soft, mine = soft / soft.sum(), F.log_softmax(at[rows] / temperature, dim=0)
            entropy = (soft * soft.log()).sum() if kind == "kl" else 0
            total += temperature**2 * (entropy - (soft * mine).sum()) / 2
        return total

    def found(at):
        return soft_loss(ranked, at[:, None], teacher[:, None], temperature, kind, groups)

    torch.testing.assert_close(found(scores), expected(scores))
    torch.testing.assert_close(gradient(found, scores), gradient(expected, scores))


def test_a_ranking_s_loss_averages_labels_and_soft_targets():
    ranked, scores = as_ranking(QNLI), torch.tensor([[1.0], [2.0], [0.0]])
    soft, groups = torch.tensor([[0.3], [0.7], [1.0]]), torch.tensor([4, 4, 1])
    ids, labels = torch.zeros(3, 1, dtype=torch.int64), torch.tensor([0, 1, 0])
    batch = Batch("qnli_ranked", ids, ids, ids, labels, soft, group_ids=groups)
    found = losses.task_loss(ranked, scores, batch, Distil(hard_weight=0.25))
    log_p = F.log_softmax(scores[:2, 0], dim=0)  # the third is alone, and has no loss
    both = 0.25 * log_p[0] + 0.75 * (0.3 * log_p[0] + 0.7 * log_p[1])
    assert found.item() == near(-both.item() / 2)
