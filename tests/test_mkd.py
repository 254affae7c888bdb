"""MKD: the objective by hand, the logit store and its refusals, controls on the same batches, and what serving costs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import compared

from mtkd import tasks
from mtkd.config import study as studies
from mtkd.config.distillation import Distil
from mtkd.config.training import Train
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.models import MultiTaskModel
from mtkd.models.lstm import BiAttentiveEncoder, own_table
from mtkd.report.sections import mkd as report
from mtkd.report.sections import mkd_figures as mkd_plots
from mtkd.report.significance import Compared
from mtkd.stages import common as stages
from mtkd.stages import mkd
from mtkd.stages.inputs import encoder, examples_of, new_model
from mtkd.training import loop as training
from mtkd.training.cost import Served, costs
from mtkd.training.loop import seed_everything
from mtkd.training.losses import hard_loss, logit_loss, task_loss
from mtkd.training.predict import predict
from mtkd.training.soft_targets import SoftTargets, read_soft_targets
from mtkd.workflow import jobs as plan

TINY = Path(__file__).parent / "studies" / "tiny.yaml"


def tiny(*overrides: str) -> studies.Study:
    return studies.load(TINY, ["train.epochs=1", "mkd.tasks=[rte, sst2, stsb]", *overrides])


def test_logit_loss_by_hand():
    logits, teacher = (
        torch.tensor([[1.0, 0.0], [2.0, -1.0]]),
        torch.tensor([[0.0, 0.0], [2.0, 1.0]]),
    )
    assert float(logit_loss(logits, teacher)) == pytest.approx((1 + 0 + 0 + 4) / 4)
    task, labels = tasks.get("rte"), torch.tensor([0, 1])
    hard = float(hard_loss(task, logits, labels))
    for weight in (0.0, 0.25, 1.0):
        mixed = task_loss(task, logits, labels, teacher, Distil(hard_weight=weight, loss="logits"))
        assert float(mixed) == pytest.approx(weight * hard + (1 - weight) * 1.25)
    alone = task_loss(
        task, logits, labels, None, Distil(hard_weight=0.0, loss="logits")
    )  # a control: no logits
    assert float(alone) == pytest.approx(hard)
    score, gold, told = (
        torch.tensor([[1.0], [3.0]]),
        torch.tensor([2.0, 3.0]),
        torch.tensor([[1.5], [4.0]]),
    )
    mixed = task_loss(tasks.get("stsb"), score, gold, told, Distil(hard_weight=0.5, loss="logits"))
    assert float(mixed) == pytest.approx(0.5 * (1 + 0) / 2 + 0.5 * (0.25 + 1) / 2)


def test_logit_loss_gradient():
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 4, dtype=torch.float64)
    logit_loss(logits, teacher).backward()
    torch.testing.assert_close(logits.grad, 2 * (logits.detach() - teacher) / 12)


def test_the_stored_logits_are_the_teachers(work):
    study = tiny()
    task = tasks.get("rte")
    stored = mkd.teacher_logits(study, "rte")
    targets = read_soft_targets(stored.file("soft_targets.parquet"), task)
    examples = examples_of(study, "uncased", task, task.train)
    assert targets.fingerprint == examples.fingerprint
    own = encoder(study, "uncased")
    teacher = new_model(study, own, list(map(tasks.get, study.multitask)), 0.1)
    teacher.load(mkd.refined(study).file("model.safetensors"))
    expected = predict(teacher, examples, study.train.precision)
    np.testing.assert_allclose(targets.logits_for(examples), expected, atol=1e-6)
    assert mkd.teacher_logits(study, "rte").fingerprint == stored.fingerprint


def test_an_ensemble_as_teacher(work):
    study = tiny(
        "mkd.teacher=ensemble",
        "tasks=[rte, sst2]",
        "exclude_from_multitask=[]",
        "mkd.tasks=[rte, sst2]",
        "candidates.dropouts=[0.1]",
        "candidates.select_on=[rte]",
        "distil.teachers=[rte]",
        "mkd.finetune=null",
        "mkd.mixed_hard_weight=null",
    )
    assert (
        mkd.teacher_logits(study, "rte").path == stages.teacher(study, "rte").path
    )  # the soft targets' own file
    targets = read_soft_targets(
        mkd.teacher_logits(study, "sst2").file("soft_targets.parquet"), tasks.get("sst2")
    )
    expected = []
    for row, start, found in stages.members_of(study, "sst2"):
        model = new_model(study, start, [tasks.get("sst2")], row.dropout)
        model.load(found.file("model.safetensors"))
        examples = examples_of(study, row.encoder, tasks.get("sst2"), "train")
        expected.append(predict(model, examples, study.train.precision))
    assert len(expected) == 2 and sorted(targets.names) == ["cased-0.1", "uncased-0.1"]
    order = examples_of(study, "uncased", tasks.get("sst2"), "train")
    np.testing.assert_allclose(targets.logits_for(order), np.mean(expected, axis=0), atol=1e-6)
    (done,) = mkd.student(study, "transformer", "mtl-kd", 0)
    assert set(done.frame("scores.csv")["task"]) == {"rte", "sst2"}


def test_a_student_of_other_tasks_or_examples_is_refused(work):
    study = tiny()
    sets = {
        name: examples_of(study, "uncased", tasks.get(name), "train") for name in ("rte", "sst2")
    }

    def targets(name: str) -> SoftTargets:
        return read_soft_targets(
            mkd.teacher_logits(study, name).file("soft_targets.parquet"), tasks.get(name)
        )

    with pytest.raises(UserError, match="no teacher's logits for SST-2: the teacher knows RTE"):
        mkd.with_logits(sets, {"rte": targets("rte")})
    with pytest.raises(UserError, match="logits for RTE, the student's examples are of SST-2"):
        mkd.with_logits({"sst2": sets["sst2"]}, {"sst2": targets("rte")})
    with pytest.raises(UserError, match="belong to other examples"):
        mkd.with_logits({"rte": sets["rte"]}, {"rte": replace(targets("rte"), fingerprint="else")})
    with pytest.raises(UserError, match="holds soft targets of 'rte', not of 'sst2'"):
        read_soft_targets(
            mkd.teacher_logits(study, "rte").file("soft_targets.parquet"), tasks.get("sst2")
        )
    with pytest.raises(UserError, match=r"mkd\.tasks: wnli has no teacher"):
        tiny("mkd.tasks=[rte, wnli]")
    with pytest.raises(UserError, match="no student 'gru'"):
        mkd.student(study, "gru", "mtl-kd", 0)


def test_controls_see_the_same_batches_from_the_same_start(work, monkeypatch):
    seen: dict[str, list] = {}
    batch, current, trained = Examples.batch, [], []

    def watched(self, rows):
        if any(self is split for split in trained):
            seen.setdefault(current[0], []).append((self.task.name, tuple(rows)))
        return batch(self, rows)

    starts: dict[str, torch.Tensor] = {}
    real = training.train

    def train(model, examples, *args, **kwargs):
        starts[current[0]] = model.encoder.reader.lstm.weight_ih_l0.detach().clone()
        trained[:] = examples.values()
        return real(model, examples, *args, **kwargs)

    monkeypatch.setattr(Examples, "batch", watched)
    monkeypatch.setattr("mtkd.stages.common.train", train)
    study = tiny("mkd.train.epochs=2", "mkd.finetune=null", "mkd.tasks=[rte, stsb]")
    for control in ("mtl-hard", "mtl-kd", "mtl-kd-hard", "stl-hard", "task"):
        current[:] = [control]
        mkd.student(study, "lstm", control, 0)
    assert (
        seen["mtl-hard"] == seen["mtl-kd"] == seen["mtl-kd-hard"]
        and seen["stl-hard"] == seen["task"]
    )
    assert sorted(name for name, _ in seen["mtl-kd"]) == sorted(
        name for name, _ in seen["task"]
    )  # the same updates a task
    assert all(torch.equal(starts["mtl-kd"], other) for other in starts.values())
    current[:] = ["mtl-kd"]
    first = seen.pop("mtl-kd")
    mkd.student(study, "lstm", "mtl-kd", 1)
    assert seen["mtl-kd"] != first


@pytest.mark.parametrize("embeddings", ["own", "teacher"])
def test_students_are_made_again_alike_and_reloaded(work, embeddings):
    study = tiny(f"mkd.students.lstm.embeddings={embeddings}", "mkd.finetune=null")
    found = mkd.student(study, "lstm", "mtl-kd", 0)[0]
    task = tasks.get("rte")
    examples = examples_of(study, "uncased", task, "validation")
    seed_everything(5)
    model = mkd.new_student(study, "lstm", list(map(tasks.get, ("rte", "sst2", "stsb"))))
    model.load(found.file("model.safetensors"))
    outputs = found.frame("predictions.parquet").query("task == 'stsb'")
    again = predict(
        model,
        examples_of(study, "uncased", tasks.get("stsb"), "validation"),
        study.mkd.train.precision,
    )
    np.testing.assert_allclose(np.stack(outputs.outputs), again, atol=1e-5)
    assert predict(model, examples).shape == (len(examples), 2)


def test_the_small_transformer(work):
    study = tiny(
        "name=two",
        "encoders.uncased.pretrain.layers=2",
        "mkd.students.transformer.init_from=teacher",
        "mkd.students.transformer.kept_layers=[1]",
    )
    of = [tasks.get("rte")]
    model = mkd.new_student(study, "transformer", of)
    teacher = new_model(
        study, encoder(study, "uncased"), list(map(tasks.get, study.multitask)), 0.1
    )
    teacher.load(mkd.refined(study).file("model.safetensors"))
    assert len(model.encoder.model.encoder.layer) == 1
    kept, source = model.encoder.model.encoder.layer[0], teacher.encoder.model.encoder.layer[1]
    for mine, theirs in zip(kept.parameters(), source.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    with pytest.raises(UserError, match="no layer 5 in an encoder of 2"):
        mkd.new_student(
            study.model_copy(update={"mkd": tiny("mkd.students.transformer.kept_layers=[5]").mkd}),
            "transformer",
            of,
        )
    new = {"kind": "transformer", "init_from": "new", "layers": 3, "hidden": 16, "heads": 4}
    model = mkd.new_student(
        study.model_copy(update={"mkd": tiny(f"mkd.students.small={new}").mkd}), "small", of
    )
    assert model.encoder.width == 16 and len(model.encoder.model.encoder.layer) == 3
    examples = examples_of(study, "uncased", of[0], "validation")
    assert np.isfinite(predict(model, examples)).all()
    path = str(encoder(study, "uncased").file("encoder"))
    other = {"kind": "transformer", "init_from": "checkpoint", "checkpoint": path}
    same = mkd.new_student(
        study.model_copy(update={"mkd": tiny(f"mkd.students.small={other}").mkd}), "small", of
    )
    assert len(same.encoder.model.encoder.layer) == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "mkd.students.lstm.kept_layers=[0]",
            "unknown field 'mkd.students.lstm.lstm.keep'; known there: kind, embeddings",
        ),
        (
            "mkd.students.lstm.embeddings=vectors",
            "embeddings: vectors and the file vectors go together",
        ),
        ("mkd.students.transformer.init_from=new", "kept_layers: name the layers kept"),
        ("mkd.hard_weight=2", "mkd.hard_weight: input should be less than or equal to 1"),
        ("mkd.teacher_encoder=big", "'big' is not one of encoders"),
        ("mkd.students.bert={kind: lstm}", "another system's name"),
        ("mkd.speed=1", "unknown field 'mkd.speed'; known there: teacher"),
    ],
)
def test_bad_settings_are_named(override, words):
    with pytest.raises(UserError, match=words.replace("(", r"\(")):
        tiny(override)


def test_without_the_section_nothing_changes():
    study = tiny()
    off = study.model_copy(update={"mkd": None})
    before = [job for job in plan.jobs(study) if job.notebook not in ("06_mkd", "06_serving")]
    assert before == plan.jobs(off)
    for notebook in ("00_data", "02_mtdnn", "05_finetune"):
        assert plan.settings_key(study, notebook) == plan.settings_key(off, notebook)
    assert plan.settings_key(study, "07_report") != plan.settings_key(off, "07_report")
    assert {job.run for job in plan.jobs(study) if job.notebook == "06_mkd"} == {
        "lstm-s0",
        "transformer-s0",
    }


@pytest.mark.parametrize("name", [name for name, task in tasks.GLUE.items() if task.train])
def test_the_lstm_student_overfits_32_examples(work, name, tmp_path):
    study, task = tiny("name=few", "data.scale=0.3"), tasks.get(name)
    whole = examples_of(study, "uncased", task, "train")
    chosen = np.random.default_rng(0).permutation(len(whole))[:32]
    examples = Examples(
        task,
        whole._split.with_format(None).select(chosen).flatten_indices(keep_in_memory=True),
        "few",
    )
    seed_everything(0)
    shared = BiAttentiveEncoder(own_table(512, 32), hidden=32, output=64, dropout=0.0)
    model = MultiTaskModel(shared, [task], {name: 0.0})
    settings = Train(
        optimizer="adamw",
        learning_rate=5e-3,
        epochs=60,
        batch_size=16,
        warmup=0.05,
        precision="fp32",
    )
    training.train(model, {name: examples}, settings, seed=0, checkpoint=tmp_path / "checkpoint")
    outputs = predict(model, examples)
    if task.regression:
        assert np.corrcoef(outputs[:, 0], examples.labels)[0, 1] > 0.95
    else:
        texts = {
            tuple(pieces) for pieces in map(tuple, examples._split.with_format(None)["input_ids"])
        }
        assert (outputs.argmax(1) == examples.labels).mean() >= 1 - (32 - len(texts)) / 32 - 1e-9


def test_the_ensemble_pays_for_all_its_members(work, tmp_path):
    study = tiny()
    every = list(map(tasks.get, ("rte", "sst2")))
    sets = [examples_of(study, "uncased", task, "validation") for task in every]
    batches = {1: [split.batch(np.array([row])) for split in sets for row in range(3)]}
    bert = new_model(study, encoder(study, "uncased"), every, 0.1)
    shapes = [
        Served([bert], {1: [batches[1]]}, {"bert": 2, "mt-dnn:mtl": 1}),
        Served([bert, bert], {1: [batches[1]] * 2}, {"mt-dnn-ensemble": 2}),
    ]
    found = costs(shapes, 2, tmp_path, [torch.device("cpu")]).set_index("system")
    one, both, shared = found.loc["bert"], found.loc["mt-dnn-ensemble"], found.loc["mt-dnn:mtl"]
    for column in ("params", "params_without_embeddings", "bytes", "flops"):
        assert both[column] == pytest.approx(2 * one[column])
    assert (one.models, shared.models, both.models) == (2, 1, 4) and one.bytes_all == 2 * one.bytes
    assert (
        shared.params - one.params == 32 * 2 + 2 and 0 < one.params_without_embeddings < one.params
    )
    layer = bert.encoder.model.config
    h, m = layer.hidden_size, layer.intermediate_size
    lengths = np.concatenate([split.lengths[:3] for split in sets]).astype(float)
    # One layer: keys and values of all word pieces, the rest of [CLS] alone; then the head.
    expected = (
        (2 * lengths * 2 * h * h + 4 * lengths * h).mean() + 2 * (2 * h * h + 2 * h * m) + 2 * h * 2
    )
    assert one.flops == pytest.approx(expected)
    assert (found.latency > 0).all() and (found.latency_low <= found.latency_high).all()
    assert not list(tmp_path.iterdir())


def made(gain: float, seeds: int = 3, reach: float = 0.5) -> report.Found:
    """Results in which multi-task distillation of the LSTM is `gain` above task-specific distillation, give or take `reach`."""
    draw, rows = np.random.default_rng(0), []
    systems = {
        "bert": 0,
        "mt-dnn:mtl": 2,
        "mt-dnn": 2,
        "mt-dnn-kd": 3,
        "mt-dnn-ensemble": 4,
        "lstm": -6,
        "mt-lstm:mtl": -5,
        "task-kd-lstm": -4,
        "mkd-lstm:mtl": -4 + gain,
        "mkd-lstm:hard-0.5": -3,
    }
    for system, shift in systems.items():
        for task in ("rte", "mnli", "cola"):
            for seed in [np.nan] if system == "mt-dnn-ensemble" else range(seeds):
                value = 60 + shift + 0.05 * draw.normal()
                rows.append(
                    [
                        "t",
                        system,
                        task,
                        tasks.get(task).dev[0],
                        tasks.get(task).metrics[0],
                        value,
                        seed,
                        100,
                        4.4e6,
                        9.0,
                    ]
                )
    columns = [
        "study",
        "system",
        "task",
        "split",
        "metric",
        "value",
        "seed",
        "n",
        "params",
        "seconds",
    ]
    shapes = {"bert": 4.0, "mt-dnn-ensemble": 12.0, "lstm": 2.0}
    cost = [
        dict(
            system=system,
            measured=shape,
            models=1,
            params=1000 * ms,
            params_without_embeddings=500 * ms,
            bytes=4000 * ms,
            bytes_all=8000 * ms,
            flops=1e6 * ms,
            device="cpu",
            batch=size,
            latency=ms * size**0.5,
            latency_low=ms,
            latency_high=ms * 6,
            rate=1000 * size**0.5 / ms,
            rate_low=1.0,
            rate_high=2e4,
            examples=64,
        )
        for system in systems
        for size in (1, 32)
        for shape, ms in shapes.items()
        if shape == (system if system in shapes else "lstm" if "lstm" in system else "bert")
    ]
    found = report.Found(
        pd.DataFrame(rows, columns=columns),
        pd.DataFrame(cost),
        {"cpu": "x", "threads": 1},
        ["lstm"],
        ["mnli", "rte", "cola"],
        "mt-dnn:mtl",
    )
    return replace(found, compared=compared(found.results, report.pairs(found), reach))


@pytest.mark.parametrize(
    ("gain", "seeds", "reach", "words"),
    [
        (
            2.0,
            3,
            0.5,
            [
                "**LSTM: multi-task distillation added to task-specific distillation.**",
                "95 % interval +",
            ],
        ),
        (-2.0, 3, 0.5, ["did not add to task-specific distillation"]),
        (1.0, 3, 2, ["did not measurably add", "includes zero"]),
        (
            2.0,
            1,
            0.5,
            ["in this run (one seed: how training varies is not known)", "95 % interval +"],
        ),
        (1.0, 1, 2, ["did not measurably add", "includes zero"]),
    ],
)
def test_the_finding_is_computed(gain, seeds, reach, words):
    text = report.finding(made(gain, seeds, reach))
    for word in [*words, "2 times as fast at batch 1", "6 times as fast", "50 % of the parameters"]:
        assert word in text, word


def test_the_figure_says_what_its_bars_are():
    def said(found):
        return report.over_task_specific(found).legends[0].get_title().get_text()

    assert said(made(2.0, seeds=3)) == "bars: 95 % interval over 3 seeds and dev examples"
    assert said(made(2.0, seeds=1)) == "bars: 95 % interval over dev examples; one seed"
    without = replace(made(2.0), compared=Compared())
    assert said(without) == "no predictions, so no interval"
    assert "in this run (no interval: chance is not ruled out)" in report.finding(
        without
    ) and "95 %" not in report.finding(without)


def test_a_student_above_its_teacher_is_told():
    found = made(2.0)
    assert "above its teacher" not in report.finding(found)
    found.results.loc[found.results.system == "mt-lstm:mtl", "value"] += 10
    assert (
        "On hard targets alone the student reaches 65.0, 3.1 points above its teacher (62.0)"
        in report.finding(found)
    )


def test_the_reports_part():
    found = made(2.0)
    shown = report.table(found)
    labels = list(shown.frame["System"])
    assert (
        labels[0] == "BERT"
        and "MT-DNN, before fine-tuning (teacher)" in labels
        and shown.divide == (5,)
    )
    assert (
        labels[-1] == "LSTM: multi-task distillation with hard targets (0.5)"
        and "**" in shown.frame["Average"].iloc[-2]
    )
    assert list(shown.frame["ms at 1"])[:1] == ["4.00"]
    gains = report.gains_table(found).frame
    assert gains["Average"].iloc[0].startswith("+2.0 (") and len(gains) == 3
    points = pd.DataFrame({"x": [1.0, 1.0, 2.0, 3.0, 3.0], "y": [5.0, 6.0, 5.5, 7.0, 7.0]})
    assert mkd_plots.front(points) == [1, 3]
    for figure in (report.pareto(found), report.over_task_specific(found)):
        assert figure.get_label()
    assert "MT-DNN-ensemble" in report.pareto(found).get_label()
    for empty in (report.table(None), report.gains_table(None)):
        assert "no students of MKD" in empty.html() and empty.markdown()
    assert "no students" in report.pareto(None).get_label() and report.write_tables(None) == []
    published = report.neighbours()
    assert "Distilled BiLSTM" in published.markdown() and not any(
        "MKD" in cell for cell in published.frame["Model (published)"]
    )


def test_a_study_without_students_says_so():
    with pytest.raises(
        UserError, match=r"Study paper has no students of MKD: give it a section mkd"
    ):
        mkd.runs(studies.load("paper"), "lstm", 0)
