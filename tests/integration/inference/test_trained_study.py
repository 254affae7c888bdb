"""The models of a whole tiny study: found by name, and predicting what the study scored."""

import zipfile

import numpy as np
import pytest
from helpers import TINY

from mtkd.artifacts import read
from mtkd.config.study import Study, load
from mtkd.inference.export import export
from mtkd.inference.glue_submission import write_submission
from mtkd.inference.load import load_model, trained_models
from mtkd.inference.predict import predict_rows
from mtkd.inference.widget import ask
from mtkd.stages import Run, data, finetune, load_all, mkd, student
from mtkd.training.predict import predict, probabilities

pytestmark = pytest.mark.slow
SETTINGS = ["tasks=[cola, mnli, mrpc, ax]", "exclude_from_multitask=[]", "seeds=[0, 1]"]
SETTINGS += ["candidates.select_on=[mnli]", "distil.teachers=[mnli]"]


@pytest.fixture(scope="module")
def study(work) -> Study:
    """Train the tiny study's systems on three tasks."""
    study = load(TINY, SETTINGS)
    runs = [Run(student.NAME, seed=seed) for seed in study.seeds]
    runs += [Run(finetune.NAME, system="mt-dnn", seed=0), *mkd.runs(study)]
    load_all(study, runs)
    return study


@pytest.fixture
def model(study):
    """Load a model of the study by its name."""

    def model(name: str, task: str | None = None):
        folder = trained_models(study)[name]
        return load_model(str(folder), task)

    return model


def test_every_kind_of_model_has_a_name(study):
    names = set(trained_models(study))
    assert names >= {"mt-dnn-s0", "mt-dnn-kd-s0", "mt-dnn-kd-s1", "cased-0.1-s0", "mkd-lstm-s0"}
    assert names >= {"mkd-lstm:hard-0.5-s0", "mt-transformer-s0"}
    assert any(name.endswith("/mnli") for name in names)


@pytest.mark.parametrize(
    "name",
    ["mt-dnn-kd-s1", "mt-dnn-s0", "cased-0.1-s0", "mkd-lstm-s0", "mt-transformer-s0"],
)
def test_predictions_are_those_that_the_study_scored(study, model, name):
    trained = model(name, "mrpc")
    stored = trained.artifact.frame("predictions.parquet").query("task == 'mrpc'")
    split = data.read_splits(read(Run(data.NAME).folder(study)), trained.task)["validation"]
    assert stored.label.tolist() == split["label"]
    rows = list(zip(*(split[column] for column in trained.task.columns), strict=True))
    values = [list(row["probabilities"].values()) for row in predict_rows(trained, rows)]
    assert np.abs(np.stack(stored.outputs) - values).max() < 0.01  # the study predicts in bf16
    assert np.std(values) > 1e-5
    ((name, examples),) = trained.dev_sets()
    again = probabilities(trained.task, predict(trained.model, examples))
    assert name == "validation" and np.abs(again - values).max() < 1e-5


def test_a_member_has_one_task_and_needs_no_name_for_it(study, model):
    name = next(name for name in trained_models(study) if name.endswith("/mnli"))
    assert model(name).task.name == "mnli" and model(name).description.system == "member"


def test_the_zip_has_the_test_predictions_of_the_study(study, tmp_path):
    notes = write_submission(study, "mt-dnn", tmp_path / "a.zip")
    placeholders = [note.split()[0] for note in notes if "placeholders" in note]
    assert "QQP.tsv" in placeholders
    assert not {"AX.tsv", "CoLA.tsv", "MNLI-m.tsv", "MRPC.tsv"} & set(placeholders)
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        assert len(packed.namelist()) == 11


def test_the_student_is_asked_beside_its_teacher(study):
    frame = ask(study, 0, "a cat sees", "the dog")
    assert frame.task.unique().tolist() == ["CoLA", "MNLI", "MRPC"]
    sums = frame[frame.task == "MNLI"][["student", "teacher"]].sum()
    assert np.allclose(sums, 1) and frame[frame.task != "MNLI"].teacher.isna().all()


def test_an_export_agrees_with_the_study(study, model, tmp_path):
    trained = model("mt-dnn-kd-s0", "mnli")
    table = export(trained, tmp_path / "out").set_index("variant")
    stored = trained.artifact.frame("scores.csv").query("task == 'mnli'").set_index("split").value
    for split in trained.task.dev:
        scored = table[f"accuracy, {split}"]
        assert scored["transformers"] == pytest.approx(scored["study"], abs=0.6)
        assert scored["study"] == pytest.approx(stored[split], abs=1.1)  # bf16 in the study
        card = (tmp_path / "out" / "README.md").read_text()
        assert f"| {split} | accuracy | {stored[split]:.1f} |" in card
