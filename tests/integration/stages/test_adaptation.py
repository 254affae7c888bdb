"""Fine-tuning on fractions of SNLI: the same start and examples for all systems."""

import pytest
import torch
from integration.stages.small import ADAPTATION, small

from mtkd.config.study import SYSTEMS
from mtkd.report.sections.adaptation import section
from mtkd.stages import adaptation, fit, mtdnn, student
from mtkd.stages.common import Run, load
from mtkd.stages.inputs import Inputs

pytestmark = pytest.mark.usefixtures("work")


def test_all_systems_start_with_the_same_head_on_the_same_batches(monkeypatch):
    study, seen = small(ADAPTATION), {}
    starts = {"mt-dnn": mtdnn.baseline_run(study, 0), "mt-dnn-kd": Run(student.NAME, seed=0)}
    for start in starts.values():
        load(study, start)
    train_and_score = fit._train_and_score

    def watched(model, training, dev_sets, test_sets, output, system):
        (examples,) = training.train_sets.values()
        assert list(training.train_sets) == ["snli"] and len(dev_sets[0][1]) == 40
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        seen[system, len(examples)] = (set(examples.idx), weights, training.settings)
        train_and_score(model, training, dev_sets, test_sets, output, system)

    monkeypatch.setattr(fit, "_train_and_score", watched)
    for system in SYSTEMS:
        adaptation.run(study, system, 0)
    assert set(seen) == {(system, size) for system in SYSTEMS for size in (1, 10, 100)}
    for size in (1, 10, 100):
        first, weights, settings = seen["bert", size]
        for system in SYSTEMS[1:]:
            examples, others, same = seen[system, size]
            assert examples == first and same == settings
            assert torch.equal(others["heads.snli.weight"], weights["heads.snli.weight"])
    assert seen["bert", 1][0] < seen["bert", 10][0] < seen["bert", 100][0]
    for system, start in starts.items():
        tasks = list(map(study.task, study.multitask))
        model = Inputs(study, mtdnn.baseline_run(study, 0)).new_model("uncased", tasks, 0.0)
        model.load(load(study, start).file("model.safetensors"))
        for name, value in model.encoder.state_dict().items():
            assert torch.equal(value, seen[system, 10][1][f"encoder.{name}"]), (system, name)
    dense = "encoder.model.encoder.layer.0.output.dense.weight"
    assert not torch.equal(seen["bert", 10][1][dense], seen["mt-dnn", 10][1][dense])


def test_the_artifact_has_the_scores_of_every_fraction_and_is_not_made_again(monkeypatch):
    study = small(ADAPTATION)
    artifact = adaptation.run(study, "mt-dnn", 0)
    scores = artifact.frame("scores.csv")
    assert list(scores.columns[-3:]) == ["share", "examples", "updates"]
    assert list(scores["share"]) == [0.01, 0.1, 1.0]
    assert list(scores.examples) == [1, 10, 100] and list(scores.updates) == [5, 5, 8]
    assert set(scores.task) == {"snli"} and set(scores.split) == {"validation"}
    assert set(scores.n) == {40} and set(scores.system) == {"mt-dnn"}
    assert scores.value.between(0, 100).all()
    predictions = artifact.frame("predictions.parquet")
    assert list(predictions.groupby("share").size()) == [40, 40, 40]
    assert set(artifact.frame("curve.csv")["share"]) == {0.01, 0.1, 1.0}
    # A system against itself: the report reads the predictions of every fraction.
    runs = {Run(adaptation.NAME, system="mt-dnn", seed=0): artifact}
    gains = section(study, None, lambda name: runs).gains("mt-dnn", "mt-dnn")
    assert list(gains.index) == [1, 10, 100, "mean"] and not gains["gain"].any()
    monkeypatch.setattr(adaptation, "fit", None)
    assert adaptation.run(study, "mt-dnn", 0).fingerprint == artifact.fingerprint
