"""The levers on distillation: each loss by hand, annealing and its resumption, and whose word reaches which example."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import FAST, made, model_of, same

from mtkd import checkpoints, tasks
from mtkd import study as studies
from mtkd.artifacts import fingerprint
from mtkd.errors import UserError
from mtkd.objectives import hard_weight, soft_loss, task_loss
from mtkd.study import Distil
from mtkd.training import train

TINY = Path(__file__).parent / "studies" / "tiny.yaml"
RTE, STSB = tasks.get("rte"), tasks.get("stsb")
# Row 1: probabilities 1/4, 3/4; the teacher says 1/2, 1/2. Row 2: 2/3, 1/3; the teacher says 9/10, 1/10. Both labels are 1.
LOGITS = torch.tensor([[0.0, math.log(3)], [math.log(2), 0.0]], dtype=torch.float64)
LABELS = torch.tensor([1, 1])
SOFT = torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)
EQ2 = 0.693147  # (ln(4/3) + ln 3) / 2
EQ4 = 0.655884  # (0.836988 + 0.474780) / 2
KL = 0.146769  # row 1: ln(2/sqrt 3) = 0.143841; row 2: 0.9 ln(0.9 * 3/2) + 0.1 ln(0.1 * 3) = 0.149696


def test_the_divergence_by_hand_has_the_gradient_of_eq_4():
    assert soft_loss(RTE, LOGITS, SOFT, kind="kl").item() == pytest.approx(KL, abs=1e-6)
    entropy = -(SOFT * SOFT.log()).sum(1).mean().item()
    assert soft_loss(RTE, LOGITS, SOFT, kind="kl").item() == pytest.approx(EQ4 - entropy, abs=1e-6)
    for temperature in (1.0, 3.0):
        slopes = []
        for kind in ("kl", "cross-entropy"):
            at = LOGITS.clone().requires_grad_()
            slopes += torch.autograd.grad(soft_loss(RTE, at, SOFT, temperature, kind), at)
        torch.testing.assert_close(*slopes)


def test_logits_by_hand():
    teacher = torch.tensor([[1.0, math.log(3)], [math.log(2), 2.0]], dtype=torch.float64)
    assert soft_loss(RTE, LOGITS, teacher, kind="logits").item() == pytest.approx((1 + 0 + 0 + 4) / 4)
    mixed = task_loss(RTE, LOGITS, LABELS, teacher, Distil(hard_weight=0.2, loss="logits"))
    assert mixed.item() == pytest.approx(0.2 * EQ2 + 0.8 * 1.25, abs=1e-6)


def test_a_tasks_own_weight():
    distil = Distil(hard_weight=0.5, hard_weight_of={"rte": 0.25})
    assert task_loss(RTE, LOGITS, LABELS, SOFT, distil).item() == pytest.approx(0.25 * EQ2 + 0.75 * EQ4, abs=1e-6)
    assert hard_weight(tasks.get("mnli"), distil, 0.9) == 0.5


def test_annealing_goes_from_soft_targets_to_hard_ones():
    distil = Distil(annealing=True)
    for done in (0.0, 0.3, 1.0):
        assert task_loss(RTE, LOGITS, LABELS, SOFT, distil, done).item() == pytest.approx(done * EQ2 + (1 - done) * EQ4, abs=1e-6)


def test_annealing_is_at_0_in_the_first_update_and_at_1_in_the_last(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("mtkd.training.task_loss", lambda *given: seen.append(given[5]) or task_loss(*given))
    sets = {"mnli": made(tasks.get("mnli"), 40, soft=True), "rte": made(RTE, 16)}
    train(model_of(["mnli", "rte"]), sets, FAST, seed=0, checkpoint=tmp_path, distil=Distil(annealing=True))
    assert len(seen) == 2 * (5 + 2)
    np.testing.assert_allclose(seen, np.arange(14) / 13)


def test_a_resumed_training_with_annealing_ends_with_the_same_bits(tmp_path, monkeypatch):
    def run(place):
        model = model_of(["mnli", "rte"], dropout=0.1)
        settings = FAST.model_copy(update={"checkpoint_seconds": 1e-9})
        sets = {"mnli": made(tasks.get("mnli"), 40, soft=True), "rte": made(RTE, 16)}
        train(model, sets, settings, seed=0, checkpoint=tmp_path / place, distil=Distil(annealing=True))
        return model

    undisturbed, real, saved = run("a"), checkpoints.save, []

    def killed(*given, **named):
        real(*given, **named)
        saved.append(named["position"]["done"])
        if len(saved) == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run("b")
    assert 7 < saved[-1] < 14, "the second epoch has begun"
    monkeypatch.undo()
    assert same(undisturbed, run("b"))


def test_an_example_without_a_label_has_soft_targets_alone():
    distil, known = Distil(hard_weight=0.25), torch.tensor([True, False])
    mixed = task_loss(RTE, LOGITS, torch.tensor([1, -1]), SOFT, distil, 0.0, known)
    first = 0.25 * math.log(4 / 3) + 0.75 * 0.836988
    assert mixed.item() == pytest.approx((first + 0.474780) / 2, abs=1e-6)
    none = task_loss(RTE, LOGITS, torch.tensor([-1, -1]), SOFT, distil, 0.0, torch.tensor([False, False]))
    assert none.item() == pytest.approx(EQ4, abs=1e-6)
    assert task_loss(RTE, LOGITS, LABELS, SOFT, distil, 0.0, torch.tensor([True, True])) == task_loss(RTE, LOGITS, LABELS, SOFT, distil)
    scores, told = torch.tensor([[1.0], [3.0]]), torch.tensor([[1.5], [4.0]])
    mixed = task_loss(STSB, scores, torch.tensor([2.0, math.nan]), told, distil, 0.0, known)
    assert mixed.item() == pytest.approx((0.25 * 1 + 0.75 * 0.25 + 1) / 2)


def test_batches_tell_which_labels_there_are():
    for task, unknown in ((RTE, -1), (STSB, math.nan)):
        found = made(task, 6)
        labels = found.labels.copy()
        labels[[1, 4]] = unknown
        split = found._split.remove_columns("label").add_column("label", labels)
        batch = type(found)(task, split, "made").batch(np.arange(6))
        assert batch.known.tolist() == [True, False, True, True, False, True]
        assert found.batch(np.arange(6)).known is None


def test_settings_of_before_have_the_fingerprints_of_before():
    assert Distil().model_dump() == {"teachers": ["mnli", "qqp", "rte", "qnli"], "hard_weight": 0.5, "temperature": 1.0}
    assert fingerprint(Distil().model_dump()) == "385d9db4f249797a"
    assert set(Distil(loss="kl", annealing=True).model_dump()) > {"loss", "annealing"}


def test_settings_that_contradict_each_other_are_refused():
    for override, said in {
        "distil={loss: logits, temperature: 2}": "distil: temperature: logits are matched as they are",
        "distil={annealing: true, hard_weight_of: {rte: 0.2}}": "annealing sets the weight of every task",
        "distil.hard_weight_of={cola: 0.2}": "distil.hard_weight_of: cola has no teacher",
        "distil.hard_weight_of={nli: 0.2}": "distil.hard_weight_of: unknown task",
        "distil.loss=mse": "distil.loss",
    }.items():
        with pytest.raises(UserError, match=said.replace(".", r"\.")):
            studies.load(TINY, override)
