"""PKD's and MiniLM's losses: by hand, by plain BERTs, and in a training."""

import math
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_training import random_examples, same_weights, small_model, small_run, stopped_at_save
from torch import nn

from mtkd import tasks
from mtkd.data.dataset import Batch
from mtkd.models.fast_cpu import use_fast_cpu
from mtkd.models.multitask import MultiTaskModel
from mtkd.training import loop
from mtkd.training.layerwise import PatientLoss, RelationLoss, patient_loss, relation_loss
from mtkd.training.loop import TrainingRun, train

LOSSES = {"pkd": lambda *pair: PatientLoss(*pair, weight=100.0), "minilm": RelationLoss}
both = pytest.mark.parametrize("kind", LOSSES)


@pytest.fixture
def batch() -> Batch:
    batch = random_examples(tasks.get("rte"), 6).batch(list(range(6)))
    assert (batch.attention_mask == 0).any()
    return batch


def model(layers: int, seed: int = 0, dropout: float = 0.0, pooling: str = "cls") -> MultiTaskModel:
    return small_model(("rte", "stsb"), seed, dropout, layers, pooling)


def extra(kind: str, student: MultiTaskModel, teacher: MultiTaskModel, batch: Batch):
    """Return the loss of a batch that the student reads, and the instance."""
    loss = LOSSES[kind](student, teacher)
    student.train()(batch)
    return loss(batch), loss


def test_the_patient_loss_by_hand():
    student = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])  # normalised: (.6, .8), (0, 1)
    teacher = torch.tensor([[[1.0, 0.0], [0.0, 7.0]]])
    assert patient_loss(student, teacher).item() == pytest.approx((0.4**2 + 0.8**2) / 4)
    assert patient_loss(student[:, 1:], teacher[:, 1:]).item() == 0


@pytest.mark.parametrize("d", [1, 4])
def test_the_relation_loss_by_hand(d):
    # The products over the root of d are ± ln(3) / 2: softmax gives 3/4 and 1/4.
    size = math.sqrt(math.log(3) / 2 / math.sqrt(d))
    teacher = torch.tensor([size, -size, 9.0]).view(1, 1, 3, 1).expand(1, 1, 3, d)
    student = torch.tensor([0.0, 0.0, 5.0]).view(1, 1, 3, 1).expand(1, 1, 3, 1)
    mask = torch.tensor([[1, 1, 0]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert relation_loss(student, teacher, mask).item() == pytest.approx(expected, abs=1e-6)
    # A second example without a difference, a second head with the same one.
    student, teacher = (torch.cat([one, one], 1) for one in (student, teacher))
    pair = torch.cat([student, student]), torch.cat([teacher, student.expand(1, 2, 3, d)])
    two = relation_loss(*pair, mask.expand(2, 3)).item()
    assert two == pytest.approx(expected / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("layers", "kept", "expected"),
    [
        (6, 3, [(1, 2), (2, 4)]),
        (12, 6, [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]),
        (3, 3, [(1, 1), (2, 2)]),
        (5, 2, [(1, 2)]),
    ],
)
def test_pkd_skips_layers_and_leaves_out_the_last(layers, kept, expected):
    assert PatientLoss(model(kept), model(layers), 1.0).pairs == expected


def hidden_states(of: MultiTaskModel, one: Batch) -> tuple[torch.Tensor, ...]:
    """Return transformers' own hidden states of one example, all layers computed everywhere."""
    use_fast_cpu(of.encoder.model, cls_only=False)
    out = of.encoder.model(
        input_ids=one.input_ids,
        attention_mask=one.attention_mask,
        token_type_ids=one.token_type_ids,
        output_hidden_states=True,
    )
    return out.hidden_states


def alone(batch: Batch, row: int) -> Batch:
    """Return one example of a batch without padding."""
    length = int(batch.attention_mask[row].sum())
    names = ("input_ids", "attention_mask", "token_type_ids")
    return replace(batch, **{name: getattr(batch, name)[[row], :length] for name in names})


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_pkd_compares_pooled_states_of_these_layers(batch, pooling):
    student, teacher = model(2, 1, pooling=pooling), model(4, pooling=pooling)
    loss, _ = extra("pkd", student, model(4, pooling=pooling), batch)
    distances = []
    for row in range(6):
        one = alone(batch, row)
        pair = hidden_states(student, one)[1], hidden_states(teacher, one)[2]
        pooled = [state[0, 0] if pooling == "cls" else state[0].mean(0) for state in pair]
        unit = [vector / vector.norm() for vector in pooled]
        distances.append(((unit[0] - unit[1]) ** 2).mean())
    assert loss.item() == pytest.approx(100 * torch.stack(distances).mean().item(), rel=1e-4)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_minilm_compares_relations_at_all_positions_of_the_last_layers(batch, pooling):
    student, teacher = model(1, 1, pooling=pooling), model(3, pooling=pooling)
    for one in (student, teacher):  # so that relations are far from uniform
        for linear in (last := one.encoder.model.encoder.layer[-1].attention.self).children():
            if isinstance(linear, nn.Linear):
                linear.weight.data.mul_(20)
    loss, _ = extra("minilm", student, teacher, batch)
    total = []
    for row in range(6):
        one, relations = alone(batch, row), []
        for which in (teacher, student):
            last = which.encoder.model.encoder.layer[-1].attention.self
            state = hidden_states(which, one)[-2][0]
            for linear in (last.query, last.key, last.value):
                for head in linear(state).split(16, dim=1):
                    relations.append(torch.softmax(head @ head.T / 4, -1))
        theirs, mine = torch.stack(relations).chunk(2)  # (3 * heads, n, n)
        total.append(3 * (theirs * (theirs / mine).log()).sum(-1).mean())
    expected = torch.stack(total).mean().item()
    assert expected > 0.01 and loss.item() == pytest.approx(expected, rel=1e-3)


@both
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_student_that_is_its_teacher_has_no_loss(kind, pooling, batch):
    same = (model(3, pooling=pooling) for _ in range(2))
    loss, _ = extra(kind, *same, batch)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    loss, _ = extra(kind, model(3, seed=1), model(3), batch)
    assert loss.item() > 1e-4


@both
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_does_not_matter(kind, pooling, batch):
    def wider(values: torch.Tensor, filler: int) -> torch.Tensor:
        return nn.functional.pad(values, (0, 5), value=filler)

    more = {
        "input_ids": wider(batch.input_ids, 7),
        "token_type_ids": wider(batch.token_type_ids, 1),
    }
    padded = replace(batch, attention_mask=wider(batch.attention_mask, 0), **more)
    loss, again = (
        extra(kind, model(2, 1, pooling=pooling), model(4, pooling=pooling), one)[0].item()
        for one in (batch, padded)
    )
    assert again == pytest.approx(loss, rel=1e-4)


def small(**settings) -> TrainingRun:
    return small_run(24, ["rte", "stsb"], epochs=3, **settings)


def trained(folder: Path, kind: str | None, weight: float = 100.0, **settings):
    """Train a student with dropout; return it, the loss with its teacher, and the log."""
    student, run, loss = model(2, dropout=0.1), small(**settings), None
    if kind == "pkd":
        loss = PatientLoss(student, model(4, seed=3, dropout=0.1), weight)
    elif kind:
        loss = RelationLoss(student, model(4, seed=3, dropout=0.1))
    loop.seed_everything(0)
    log = train(student, replace(run, extra_loss=loss), checkpoint=folder / "checkpoint.pt")
    return student, loss, log


def test_a_weight_of_0_trains_as_without_the_loss_to_the_last_bit(tmp_path):
    plain, _, log = trained(tmp_path / "a", None)
    same, _, same_log = trained(tmp_path / "b", "pkd", 0.0)
    other, _, _ = trained(tmp_path / "c", "pkd")
    assert same_weights(plain, same) and not same_weights(plain, other)
    assert [row["loss"] for row in log] == [row["loss"] for row in same_log]


@both
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_lowers_the_loss_and_leaves_the_teacher_as_it_was(
    tmp_path, kind, precision, batch
):
    student, loss, log = trained(tmp_path, kind, precision=precision)
    untouched = model(4, seed=3).encoder
    left = dict(loss.teacher.named_parameters())
    assert left and not loss.teacher.training
    for name, tensor in left.items():
        assert torch.equal(tensor, untouched.get_parameter(name))
        assert tensor.grad is None and not tensor.requires_grad
    fresh, _ = extra(kind, student.eval(), model(4, seed=3), batch)
    assert all(math.isfinite(row["loss"]) for row in log)
    plain, _, _ = trained(tmp_path / "plain", None, precision=precision)
    without, _ = extra(kind, plain, model(4, seed=3), batch)
    assert fresh < without


@both
def test_only_the_student_is_saved_counted_and_optimized(tmp_path, kind, monkeypatch):
    states = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda path, state: states.append(dict(state)))
    student, _, _ = trained(tmp_path, kind, checkpoint_seconds=1e-9)
    plain = model(2)
    assert student.state_dict().keys() == plain.state_dict().keys() == states[0]["model"].keys()
    assert student.parameter_count() == plain.parameter_count()
    optimized = sum(len(group["params"]) for group in states[0]["optimizer"]["param_groups"])
    assert optimized == len(list(plain.parameters()))


@both
def test_a_run_stopped_in_its_second_epoch_ends_with_the_same_bits(tmp_path, kind, monkeypatch):
    often = {"checkpoint_seconds": 1e-9}
    undisturbed, _, log = trained(tmp_path / "a", kind, **often)
    with stopped_at_save(8, monkeypatch) as epochs:
        trained(tmp_path / "b", kind, **often)
    assert epochs[-1] == 1
    resumed, _, log_resumed = trained(tmp_path / "b", kind, **often)
    assert same_weights(undisturbed, resumed)
    assert [row["loss"] for row in log] == [row["loss"] for row in log_resumed]


@both
def test_it_can_be_sent_to_another_process(kind, batch):
    expected, _ = extra(kind, model(2, seed=1), model(4), batch)
    pair = model(2, seed=1), model(4)
    student, loss = pickle.loads(pickle.dumps((pair[0], LOSSES[kind](*pair))))
    student.train()(batch)
    assert loss(batch).item() == pytest.approx(expected.item(), rel=1e-6)
