"""Studies with another output layer than Eq. 1 (`model.heads`), from training to an export."""

import json

import numpy as np
import pytest
import torch
from families import make_checkpoint
from helpers import sentences
from integration.stages.small import MKD, small
from safetensors.torch import load_file

from mtkd.artifacts import read
from mtkd.config.study import load as load_study
from mtkd.inference.export import export
from mtkd.inference.load import load_model, trained_models
from mtkd.inference.predict import predict_logits
from mtkd.models.multitask import MultiTaskModel
from mtkd.stages import finetune, mkd, mtdnn, ranking, serving, student, teacher
from mtkd.stages.common import Run

pytestmark = pytest.mark.usefixtures("work")
HEADS = {"rte": "san", "answers": "san"}


@pytest.fixture(scope="module")
def study(ranking_task):
    """A study of two SANs and two linear heads, one of them that of a regression."""
    few = ["mkd.mixed_hard_weight=null", "mkd.finetune={epochs: 1}"]
    return small("name=sans", f"model.heads={json.dumps(HEADS)}", *ranking_task, MKD, *few)


def kinds_of(folder) -> dict[str, str]:
    """Return the heads of a model on disk, by their weights; they are as it is described."""
    weights = load_file(folder / "model.safetensors")
    names = {name.split(".")[1] for name in weights if name.startswith("heads.")}
    sans = {name for name in names if f"heads.{name}.attend.weight" in weights}
    described = json.loads((folder / "model.json").read_text()).get("heads", {})
    assert described == dict.fromkeys(sans, "san")
    return {name: described.get(name, "linear") for name in names}


def test_an_mtdnn_its_members_and_its_student_have_the_heads(study):
    every = {"rte": "san", "answers": "san", "stsb": "linear", "mrpc": "linear"}
    vanilla = mtdnn.run(study, encoder="uncased", dropout=0.1, seed=0)
    teacher.run(study, "rte")
    members = [member for _, member in teacher.members(study, "rte")]
    taught = student.run(study, 0)
    assert kinds_of(vanilla.path) == kinds_of(taught.path) == every
    assert [kinds_of(member.path) for member in members] == [{"rte": "san"}] * 2
    assert set(finetune.run(study, "mt-dnn", 0).frame("scores.csv").task) == set(study.trainable)


def test_students_of_mkd_have_the_heads_too(study):
    for name in ("lstm", "transformer"):
        mkd.run(study, name, 0)
        parts = Run(mkd.NAME, student=name, seed=0)
        folder = read(parts.part_folder(study, "mtl-kd/all")).path
        assert kinds_of(folder) == {"rte": "san", "stsb": "linear"}


def test_the_ranking_head_beside_a_san_is_linear(study, monkeypatch):
    seen, load_weights = [], MultiTaskModel.load

    def watched(self, path, heads=True):
        seen.append((self.kinds, heads))
        return load_weights(self, path, heads)

    monkeypatch.setattr(MultiTaskModel, "load", watched)
    artifact = ranking.run(study, "mt-dnn", 0)
    assert seen == [({"answers": "san", "answers_ranked": "linear"}, ["answers"])]
    assert set(artifact.frame("rankings.csv").way) == set(ranking.WAYS)


@pytest.mark.parametrize("system", ["mt-dnn-kd-s0", "mkd-lstm-s0"])
def test_a_model_predicts_what_the_study_scored_and_is_exported(study, system, tmp_path):
    pytest.importorskip("onnxruntime")
    student.run(study, 0)
    mkd.run(study, "lstm", 0)
    trained = load_model(str(trained_models(study)[system]), "rte")
    stored = trained.artifact.frame("predictions.parquet").query("task == 'rte'")
    ((_, examples),) = trained.dev_sets()
    with torch.inference_mode():
        logits = trained.model(examples.batch(np.arange(len(examples))))
    np.testing.assert_allclose(logits.softmax(1), np.stack(stored.outputs), atol=0.02)  # bf16
    table = export(trained, tmp_path / "out", "onnx").set_index("variant")
    assert table.gap["onnx"] < 1e-4


@pytest.mark.slow
def test_the_cost_of_a_system_is_that_of_its_heads(study):
    costs = serving.run(study).frame("costs.csv").set_index("system")  # needs the whole study
    scores = mkd.run(study, "transformer", 0).frame("scores.csv").set_index("system")
    for system in ("mkd-transformer:mtl", "task-kd-transformer"):
        assert costs.params[[system]].iloc[0] == scores.params[[system]].iloc[0]
    assert costs.flops.min() > 0


def test_an_encoder_without_segments_is_told_the_second_text_by_the_card(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "artifacts"))
    texts = sentences(40)
    make_checkpoint("roberta", tmp_path / "checkpoint", texts)
    lines = [
        f"{a},{b},{row % 2}" for row, (a, b) in enumerate(zip(texts, texts[20:], strict=False))
    ]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,label", *lines, ""]))
    task = {"type": "pair", "train": "t.csv", "dev": 0.3, "columns": ["a", "b"]}
    settings = {
        "name": "roberta",
        "own_tasks": {"pairs": task | {"labels": ["0", "1"]}},
        "encoders": {"uncased": {"checkpoint": "./checkpoint"}},
        "data": {"max_length": 64},
        "model": {"heads": {"pairs": "san"}},
        "candidates": {"dropouts": [0.1], "ensemble_size": 1},
        "train": {"epochs": 1},
    }
    (tmp_path / "study.yaml").write_text(json.dumps(settings))
    study = load_study(tmp_path / "study.yaml")
    trained = load_model(str(mtdnn.run(study, encoder="uncased", dropout=0.1, seed=0).path))
    assert trained.lacks_segments and "token_type_ids" in trained.input_names
    export(trained, tmp_path / "out", "onnx")
    code = (tmp_path / "out" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    scope: dict = {}
    exec(code.replace('"out', f'"{tmp_path / "out"}'), scope)
    expected = predict_logits(trained, [("a text", "another text")])
    np.testing.assert_allclose(scope["logits"], expected, atol=1e-4)
