"""Eq. 2, Eq. 4 and their combination against numbers worked by hand and gradients in closed form."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from mtkd import tasks
from mtkd.config.distillation import Distil
from mtkd.training.losses import hard_loss, soft_loss, task_loss

RTE, MNLI, STSB = tasks.get("rte"), tasks.get("mnli"), tasks.get("stsb")

# Row 1: probabilities 1/4, 3/4; label 1; the teacher says 1/2, 1/2. Row 2: 2/3, 1/3; label 1; the teacher says 9/10, 1/10.
LOGITS = torch.tensor([[0.0, math.log(3)], [math.log(2), 0.0]], dtype=torch.float64)
LABELS = torch.tensor([1, 1])
SOFT = torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)
EQ2 = 0.693147  # (ln(4/3) + ln 3) / 2 = (0.287682 + 1.098612) / 2
EQ4 = 0.655884  # row 1: (ln 4 + ln(4/3)) / 2 = 0.836988; row 2: 0.9 ln(3/2) + 0.1 ln 3 = 0.474780

SCORES = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
GOLD = torch.tensor([2.0, 5.0], dtype=torch.float64)  # squares 1 and 4: 2.5
TAUGHT = torch.tensor([[1.5], [3.0]], dtype=torch.float64)  # squares 0.25 and 0: 0.125


def gradient(loss, at: torch.Tensor) -> torch.Tensor:
    variable = at.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(variable), variable)
    return found


def drawn(seed: int = 0):
    torch.manual_seed(seed)
    logits = torch.randn(5, 3, dtype=torch.float64)
    return (
        logits,
        torch.tensor([0, 2, 1, 1, 0]),
        torch.softmax(torch.randn(5, 3, dtype=torch.float64), -1),
    )


def test_eq_2_by_hand():
    assert hard_loss(RTE, LOGITS, LABELS).item() == pytest.approx(EQ2, abs=1e-6)


def test_eq_4_by_hand():
    assert soft_loss(RTE, LOGITS, SOFT).item() == pytest.approx(EQ4, abs=1e-6)


@pytest.mark.parametrize(
    ("weight", "expected"), [(0.5, 0.674516), (0.25, 0.665200), (0.9, 0.689421)]
)
def test_the_combined_loss_by_hand(weight, expected):
    assert task_loss(RTE, LOGITS, LABELS, SOFT, Distil(hard_weight=weight)).item() == pytest.approx(
        expected, abs=1e-6
    )


def test_the_paper_averages_the_two():
    assert task_loss(RTE, LOGITS, LABELS, SOFT, Distil()).item() == pytest.approx(
        (EQ2 + EQ4) / 2, abs=1e-6
    )


def test_the_ends_of_hard_weight_are_eq_2_and_eq_4():
    logits, labels, soft = drawn()
    assert task_loss(MNLI, logits, labels, soft, Distil(hard_weight=1)) == hard_loss(
        MNLI, logits, labels
    )
    assert task_loss(MNLI, logits, labels, soft, Distil(hard_weight=0)) == soft_loss(
        MNLI, logits, soft
    )


def test_a_task_without_a_teacher_has_eq_2_alone():
    assert task_loss(
        RTE, LOGITS, LABELS, None, Distil(hard_weight=0.1, temperature=3)
    ).item() == pytest.approx(EQ2, abs=1e-6)


def test_a_teacher_that_is_sure_of_the_gold_label_gives_eq_2():
    logits, labels, _ = drawn()
    assert soft_loss(MNLI, logits, one_hot(labels, 3).double()).item() == pytest.approx(
        hard_loss(MNLI, logits, labels).item(), abs=1e-12
    )


def test_the_gradient_of_eq_2_is_softmax_less_the_label():
    logits, labels, _ = drawn()
    expected = (logits.softmax(-1) - one_hot(labels, 3)) / len(logits)
    assert torch.allclose(
        gradient(lambda at: hard_loss(MNLI, at, labels), logits), expected, atol=1e-12
    )


def test_the_gradient_of_eq_4_is_softmax_less_the_soft_target():
    logits, _, soft = drawn()
    expected = (logits.softmax(-1) - soft) / len(logits)
    assert torch.allclose(
        gradient(lambda at: soft_loss(MNLI, at, soft), logits), expected, atol=1e-12
    )


def test_the_gradient_of_the_combined_loss_is_softmax_less_the_mixed_target():
    logits, labels, soft = drawn()
    expected = (logits.softmax(-1) - (0.3 * one_hot(labels, 3) + 0.7 * soft)) / len(logits)
    assert torch.allclose(
        gradient(lambda at: task_loss(MNLI, at, labels, soft, Distil(hard_weight=0.3)), logits),
        expected,
        atol=1e-12,
    )


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_gradients_equal_finite_differences(temperature):
    logits, labels, soft = drawn(seed=1)
    distil = Distil(hard_weight=0.4, temperature=temperature)
    assert torch.autograd.gradcheck(
        lambda at: task_loss(MNLI, at, labels, soft, distil), logits.requires_grad_()
    )


def test_temperature_by_hand():
    # At T = 2 the logits 2 ln 3, 0 give 3/4, 1/4, and the teacher's 0.8, 0.2 become sqrt(0.8) : sqrt(0.2) = 2/3, 1/3.
    # The loss is 4 (2/3 ln(4/3) + 1/3 ln 4) = 4 (0.191788 + 0.462098).
    logits = torch.tensor([[2 * math.log(3), 0.0]], dtype=torch.float64)
    soft = torch.tensor([[0.8, 0.2]], dtype=torch.float64)
    assert soft_loss(RTE, logits, soft, temperature=2).item() == pytest.approx(2.615544, abs=1e-5)


def test_the_square_of_the_temperature_keeps_the_size_of_the_gradient():
    logits, _, soft = drawn()
    temperature = 1000.0
    found = gradient(lambda at: soft_loss(MNLI, at, soft, temperature), logits)
    # Hinton et al. (2015), Eq. 4: at a high temperature the gradient is that of matching centred logits.
    taught = soft.log() - soft.log().mean(-1, keepdim=True)
    expected = (logits - logits.mean(-1, keepdim=True) - taught) / 3 / len(logits)
    assert torch.allclose(found, expected, atol=2e-3)
    assert found.abs().max() > 0.05


def test_a_teacher_without_any_doubt_has_a_loss_at_any_temperature():
    logits, labels, _ = drawn()
    for temperature in (0.5, 1.0, 4.0):
        found = gradient(
            lambda at, t=temperature: soft_loss(MNLI, at, one_hot(labels, 3).double(), t), logits
        )
        assert torch.isfinite(found).all()
        assert found.abs().sum() > 0


def test_a_regression_has_the_mean_squared_error_in_both_places():
    assert hard_loss(STSB, SCORES, GOLD).item() == pytest.approx(2.5)
    assert soft_loss(STSB, SCORES, TAUGHT).item() == pytest.approx(0.125)
    assert task_loss(STSB, SCORES, GOLD, TAUGHT, Distil()).item() == pytest.approx(1.3125)
    expected = torch.tensor(
        [[0.5 * 2 * -1 / 2 + 0.5 * 2 * -0.5 / 2], [0.5 * 2 * -2 / 2]], dtype=torch.float64
    )
    assert torch.allclose(
        gradient(lambda at: task_loss(STSB, at, GOLD, TAUGHT, Distil()), SCORES), expected
    )


def test_temperature_does_not_touch_a_regression():
    assert soft_loss(STSB, SCORES, TAUGHT, temperature=4).item() == pytest.approx(0.125)
