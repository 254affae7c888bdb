"""Ways to combine tasks: PCGrad as its paper has it, learned weights at their optimum, resume."""

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_training import same_weights, small_model, small_run, stopped_at_save, train_small

from mtkd import tasks
from mtkd.config.training import Combine, Train
from mtkd.errors import UserError
from mtkd.training.combine import Combiner, project
from mtkd.training.loop import Trainer, train
from mtkd.training.losses import hard_loss

PCGRAD = {"gradients": "pcgrad", "batches_per_update": 4}


def pcgrad_by_the_paper(gradients: list[np.ndarray], random) -> np.ndarray:
    """Algorithm 1 of Yu et al. 2020, a line a line, on whole vectors."""
    projected = []
    for i, gradient in enumerate(gradients):
        mine = gradient.copy()
        for j in random.permutation(len(gradients)):
            if i != j and mine @ gradients[j] < 0:
                mine -= mine @ gradients[j] / (gradients[j] @ gradients[j]) * gradients[j]
        projected.append(mine)
    return np.sum(projected, axis=0)


def flat(gradients: list[torch.Tensor]) -> np.ndarray:
    return np.concatenate([one.numpy().ravel() for one in gradients]).astype("float64")


def vectors(*values: list[float]) -> list[list[torch.Tensor]]:
    return [[torch.tensor(one)] for one in values]


@pytest.mark.parametrize("count", [2, 4])
def test_project_is_pcgrad_on_the_shared_parameters_and_a_sum_on_the_heads(count):
    torch.manual_seed(0)
    common = torch.randn(3, 5)
    shared = [[common * (-1) ** i + torch.randn(3, 5), torch.randn(4)] for i in range(count)]
    heads = [torch.randn(2) for _ in range(count)]
    lists = [
        [*one, *(heads[i] if i == j else None for j in range(count)), None]
        for i, one in enumerate(shared)
    ]
    orders = {}
    for seed in range(8):
        summed = project(lists, np.random.default_rng(seed))
        expected = pcgrad_by_the_paper(list(map(flat, shared)), np.random.default_rng(seed))
        np.testing.assert_allclose(flat(summed[:2]), expected, rtol=1e-5, atol=1e-6)
        assert all(torch.equal(mine, head) for mine, head in zip(summed[2:], heads, strict=False))
        assert summed[-1] is None
        orders[seed] = tuple(expected)
    assert (len(set(orders.values())) > 1) == (count > 2), "the order matters among more than two"
    assert np.abs(flat(summed[:2]) - sum(map(flat, shared))).max() > 0.1, "they conflict"


def test_two_tasks_that_conflict_lose_what_points_away_from_the_other():
    one, other = [1.0, 0.0], [-1.0, 1.0]
    # (0.5, 0.5) is orthogonal to the other, (0, 1) to the one.
    (summed,) = project(vectors(one, other), np.random.default_rng(0))
    assert summed.tolist() == [0.5, 1.5]
    (opposed,) = project(vectors([2.0, 0.0], [-1.0, 0.0]), np.random.default_rng(0))
    assert opposed.tolist() == [0.0, 0.0]
    (nothing,) = project(vectors([0.0, 0.0], [-1.0, 3.0]), np.random.default_rng(0))
    assert nothing.tolist() == [-1.0, 3.0]


def test_tasks_that_do_not_conflict_are_summed():
    lists = vectors([1.0, 0.0], [0.0, 2.0], [1.0, 1.0])
    (summed,) = project(lists, np.random.default_rng(0))
    assert summed.tolist() == [2.0, 3.0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sign", [1, -1])
def test_a_gradient_that_is_not_finite_leaves_the_sum_so(sign):
    lists = vectors([1.0, 2.0], [sign * float("inf"), 1.0], [-1.0, 1.0])
    (summed,) = project(lists, np.random.default_rng(0))
    assert not summed.isfinite().all()


def seen_gradients(trainer: Trainer, batches: list[tuple[str, np.ndarray]]) -> list[dict]:
    """Return the gradients of every update, before they are clipped, by parameter."""
    model, seen = trainer.parts["model"], []

    def look(*given):
        named = model.named_parameters()
        seen.append({name: one.grad.clone() for name, one in named if one.grad is not None})

    trainer.accelerator.clip_grad_norm_ = look
    for number, (task, rows) in enumerate(batches):
        trainer.update(task, rows, number)
    return seen


def gradients_of(run, batches: list[tuple[str, np.ndarray]]) -> list[dict]:
    """Return the gradients of every mini-batch's plain loss at the initial weights."""
    model, seen = small_model(tuple(run.train_sets)), []
    for task, rows in batches:
        model.zero_grad()
        batch = run.train_sets[task].batch(rows)
        hard_loss(tasks.get(task), model(batch), batch.labels).backward()
        named = model.named_parameters()
        seen.append({name: one.grad.clone() for name, one in named if one.grad is not None})
    return seen


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-6, rtol=1e-4)


BATCHES = [
    (task, np.arange(8 * number, 8 * number + 8))
    for task, number in [("rte", 0), ("mnli", 1), ("rte", 2), ("stsb", 3), ("mnli", 0)]
]


def test_several_mini_batches_make_one_update_by_their_mean_gradient():
    run = small_run(combine=Combine(batches_per_update=4))
    trainer, single = Trainer(small_model(), run, len(BATCHES)), gradients_of(run, BATCHES)
    first, last = seen_gradients(trainer, BATCHES)
    assert not trainer.in_update and trainer.scheduler.last_epoch == 2
    assert trainer.scheduler.get_last_lr()[0] == 0, "the schedule is of updates"
    expected = {
        name: sum(one[name] for one in single[:4] if name in one) / 4
        for name in single[0] | single[1] | single[3]
    }
    assert_same(first, expected)
    assert last.keys() == single[4].keys(), "the last update has the mini-batch that is left"


@pytest.mark.parametrize("regression_weight", [1.0, 0.01])
def test_an_update_by_pcgrad_projects_a_task_s_mini_batches_together(regression_weight):
    settings = Combine(**PCGRAD, regression_weight=regression_weight)
    run = small_run(combine=settings)
    trainer, single = Trainer(small_model(), run, len(BATCHES)), gradients_of(run, BATCHES)
    first = seen_gradients(trainer, BATCHES[:4])[0]
    shared = [name for name in single[0] if name.startswith("encoder.")]
    sums = {"rte": [0, 2], "mnli": [1], "stsb": [3]}
    factors = {"rte": 1, "mnli": 1, "stsb": regression_weight}
    lists = [
        flat([sum(single[i][name] for i in numbers) * factors[task] for name in shared])
        for task, numbers in sums.items()
    ]
    expected = pcgrad_by_the_paper(lists, np.random.default_rng([run.seed, 3])) / 4
    np.testing.assert_allclose(flat([first[name] for name in shared]), expected, atol=1e-6)
    assert np.abs(expected - sum(lists) / 4).max() > 1e-4, "there are conflicts"
    for task, numbers in sums.items():
        name = f"heads.{task}.weight"
        head = sum(single[i][name] for i in numbers) * factors[task] / 4
        torch.testing.assert_close(first[name], head, atol=1e-6, rtol=1e-4)


def test_a_factor_is_on_regressions_alone():
    plain, half = small_run(), small_run(combine=Combine(regression_weight=0.5))
    for task, factor in (("rte", 1.0), ("stsb", 0.5)):
        batch = [(task, np.arange(8))]
        one, other = (
            seen_gradients(Trainer(small_model(), run, 9), batch)[0] for run in (plain, half)
        )
        assert all(torch.equal(other[name], one[name] * factor) for name in one)


def uncertain(scaler=None, **settings) -> tuple[Combiner, torch.optim.Optimizer, torch.nn.Module]:
    """A combiner of rte and stsb, with the optimizer and the one weight of a model."""
    model = torch.nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    combine = Combine(task_weights="uncertainty", **settings)
    run = small_run(8, ["rte", "stsb"], combine=combine)
    accelerator = SimpleNamespace(device="cpu", scaler=scaler)
    return Combiner(model, optimizer, run, 10_000, accelerator), optimizer, model


def test_the_order_of_projections_is_of_the_seed_and_the_update_alone():
    model, names = torch.nn.Linear(3, 1, bias=False), ["rte", "mnli", "stsb", "cola"]
    run = small_run(8, names, combine=Combine(**PCGRAD))
    accelerator = SimpleNamespace(device="cpu", scaler=None)
    directions = torch.tensor([[3.0, 0, 0], [-1, 2, 0], [-1, -1, 2], [-1, -1, -1]])
    expected = [
        project([[one] for one in directions], np.random.default_rng([run.seed, done]))[0] / 4
        for done in range(3, 80, 4)
    ]
    assert len({tuple(one.tolist()) for one in expected}) > 1, "the order matters"
    optimizer = torch.optim.SGD(model.parameters())
    combiner, ends = Combiner(model, optimizer, run, 80, accelerator), []
    for done in range(80):
        model.weight.grad = directions[done % 4].clone()[None]
        if combiner.add(names[done % 4], torch.tensor(1.0), done):
            ends.append(model.weight.grad[0].clone())
    torch.testing.assert_close(ends, expected)


def test_log_variances_end_where_the_loss_with_them_is_least():
    combiner, optimizer, model = uncertain()
    losses = {"rte": torch.tensor(0.3), "stsb": torch.tensor(2.5)}
    for number in range(1200):
        for task, loss in losses.items():
            model.weight.grad = torch.ones(1, 1)
            assert combiner.add(task, loss, number)
            optimizer.step()
            optimizer.zero_grad()
    # exp(-s) L + s / 2 is least at exp(s) = 2 L, and that of a regression at exp(s) = L.
    variances = {task: value.exp().item() for task, value in combiner.log_variances.items()}
    assert variances == pytest.approx({"rte": 0.6, "stsb": 2.5}, rel=0.02)
    for task, weight in (("rte", 1 / 0.6), ("stsb", 0.5 / 2.5)):
        model.weight.grad = torch.ones(1, 1)
        combiner.add(task, losses[task], 0)
        assert model.weight.grad.item() == pytest.approx(weight, rel=0.02)


def test_log_variances_are_learned_without_decay_at_their_own_rate():
    combiner, optimizer, model = uncertain(variance_learning_rate=0.2)
    group = optimizer.param_groups[-1]
    assert (group["weight_decay"], group["lr"]) == (0.0, 0.2)
    model.weight.grad = torch.ones(1, 1)
    combiner.add("rte", torch.tensor(3.0), 0)
    optimizer.step()
    values = {task: value.item() for task, value in combiner.log_variances.items()}
    assert values == pytest.approx({"rte": 0.2, "stsb": 0.0}), "only the batch's task is updated"


@pytest.mark.parametrize("settings", [{}, PCGRAD])
def test_a_scaled_loss_scales_the_gradients_of_log_variances(settings):
    ends = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=8.0)):
        combiner, optimizer, model = uncertain(scaler, **settings)
        for number, task in enumerate(["rte", "stsb", "rte", "stsb"]):
            model.weight.grad = torch.full((1, 1), 8.0 if scaler else 1.0)
            complete = combiner.add(task, torch.tensor(3.0), number)
        assert complete
        if scaler:
            scaler.unscale_(optimizer)
        ends.append([one.grad for group in optimizer.param_groups for one in group["params"]])
    assert len(ends[0]) == 3
    torch.testing.assert_close(*ends)


def test_the_log_has_the_log_variances_of_every_epoch(tmp_path):
    def scorer(model):
        rows = [("rte", "accuracy"), ("stsb", "pearson"), ("ax", "matthews")]
        return [dict(task=task, split="dev", metric=metric, value=1.0) for task, metric in rows]

    run = small_run(names=["rte", "stsb"], combine=Combine(task_weights="uncertainty"))
    log = train(small_model(["rte", "stsb"]), run, checkpoint=tmp_path / "c", scorer=scorer)
    values = {(row["epoch"], row["task"]): row["log_variance"] for row in log}
    assert len({values[epoch, task] for epoch in (1, 2) for task in ("rte", "stsb")}) == 4
    assert values[2, "stsb"] > values[1, "stsb"] > 0, "its squared errors are above 1"
    assert values[1, "ax"] is None, "it has no loss of its own"
    _, plain = train_small(tmp_path, small_run())
    assert not any("log_variance" in row for row in plain)


EVERY = {
    "regression": {"regression_weight": 0.1},
    "mean": {"batches_per_update": 4},
    "uncertainty": {"task_weights": "uncertainty"},
    "pcgrad": PCGRAD,
    "all": PCGRAD | {"task_weights": "uncertainty", "regression_weight": 0.1},
}


@pytest.mark.parametrize(
    ("name", "optimizer"), [*((name, "adamax") for name in EVERY), ("all", "adamw")]
)
def test_a_run_stopped_in_its_second_epoch_ends_with_the_same_bits(
    name, optimizer, tmp_path, monkeypatch
):
    combine = Combine(**EVERY[name])
    given = {"soft": ["mnli"], "optimizer": optimizer, "combine": combine}
    undisturbed, log = train_small(tmp_path / "a", small_run(**given))
    run = small_run(**given, checkpoint_seconds=1e-9)
    # Of 15 mini-batches an epoch, a checkpoint is after all but the last, or after every fourth.
    with stopped_at_save(6 if combine.batches_per_update == 4 else 17, monkeypatch) as epochs:
        train_small(tmp_path / "b", run)
    assert epochs[-1] == 1
    resumed, log_resumed = train_small(tmp_path / "b", run)
    assert same_weights(undisturbed, resumed)
    for field in ("loss", "log_variance"):
        assert [row.get(field) for row in log] == [row.get(field) for row in log_resumed]


def test_every_setting_changes_the_model(tmp_path):
    models = [train_small(tmp_path / "plain", small_run())[0]]
    for name, settings in EVERY.items():
        models.append(train_small(tmp_path / name, small_run(combine=Combine(**settings)))[0])
    assert not any(same_weights(*pair) for pair in combinations(models, 2))


def test_a_checkpoint_without_log_variances_is_refused(tmp_path):
    train_small(tmp_path, small_run(checkpoint_seconds=1e-9))
    run = small_run(combine=Combine(task_weights="uncertainty"))
    with pytest.raises(UserError, match="of another model or optimizer"):
        train_small(tmp_path, run)


def test_a_plain_run_has_no_combiner():
    assert Trainer(small_model(), small_run(), 9).combiner is None
    assert Train(combine=Combine(task_weights="uncertainty")).for_one_task == Train()
