"""Custom tasks in a study: what the stages make of their files."""

import os

import pytest
import yaml
from helpers import PAIR

from mtkd import stages
from mtkd.artifacts import read
from mtkd.config.study import Study, load

pytestmark = pytest.mark.slow
RECIPE = {
    "vocab_size": 80,
    "layers": 1,
    "hidden": 16,
    "heads": 2,
    "max_positions": 32,
    "seq_length": 16,
    "train_tokens": 500,
    "batch_size": 4,
}


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("MTKD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))


@pytest.fixture
def made(tmp_path):
    """Writes a file of so many rows and a study of one custom task, and loads the study."""

    def make(rows: int, **settings) -> Study:
        lines = [f"text {row},other {row},{('no', 'yes')[row % 2]}" for row in range(rows)]
        (tmp_path / "t.csv").write_text("\n".join(["a,b,label", *lines, ""]))
        settings |= {"own_tasks": {"mine": PAIR}, "encoders": {"uncased": {"pretrain": RECIPE}}}
        settings["candidates"] = {"ensemble_size": 1}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings))
        return load(tmp_path / "study.yaml")

    return make


def test_a_changed_file_is_new_data_and_runs_the_stages_again(made):
    study = made(8)
    run = stages.find_run(study, "00_data")
    before = stages.load(study, run).fingerprint, stages.keys(study)[run]
    assert (stages.load(study, run).fingerprint, stages.keys(study)[run]) == before
    study = made(12)
    assert stages.load(study, run).fingerprint != before[0]
    assert stages.keys(study)[run] != before[1]


def test_updates_are_estimated_from_the_file(made):
    study = made(100, train={"batch_size": 10, "epochs": 2})
    run = stages.find_run(study, "04_student.s0")
    assert stages.steps(study, run) == pytest.approx(20, abs=2)


def test_an_encoder_is_pretrained_on_the_tasks_texts(made):
    study = made(60)
    run = stages.find_run(study, "01_pretrain.uncased")
    stages.load(study, run)
    encoder = read(run.part_folder(study, "encoder"))
    assert encoder.json("origin.json")["from"] == "pretrain"
    vocabulary = (encoder.file("encoder") / "tokenizer.json").read_text()
    assert '"other"' in vocabulary and '"text"' in vocabulary
