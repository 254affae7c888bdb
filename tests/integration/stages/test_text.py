"""A task of texts to write beside one of classes, from files to the report and to predictions."""

import json
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from phrases import KINDS, phrases

import mtkd
from mtkd import stages
from mtkd.config.study import load
from mtkd.errors import UserError
from mtkd.inference.export import export
from mtkd.inference.load import load_model
from mtkd.inference.predict import predict_rows
from mtkd.report.predictions import recompute
from mtkd.stages import data, mtdnn, teacher
from mtkd.stages import load as load_run
from mtkd.stages.common import Run
from mtkd.stages.ensemble import EnsembleMember, average_predictions, check_pieces
from mtkd.stages.inputs import Inputs
from mtkd.tasks import TOP
from mtkd.training.generate import rouge_l, to_texts
from mtkd.training.soft_targets import read_soft_targets

RECIPE = {
    "vocab_size": 120,
    "layers": 1,
    "hidden": 32,
    "heads": 2,
    "max_positions": 32,
    "seq_length": 16,
    "train_tokens": 2000,
    "batch_size": 16,
    "learning_rate": 3e-3,
}
SHARED = {"train": "phrases.csv", "dev": 0.25, "columns": ["phrase"]}
SORT = SHARED | {"type": "single", "label": "kind", "labels": list(KINDS)}
WRITE = SHARED | {"type": "text", "label": "sense", "max_target": 8, "beam": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with phrases in a file, in which the study's artifacts are made."""
    made = tmp_path_factory.mktemp("text")
    frame = pd.DataFrame(phrases()[:120], columns=["phrase", "sense"])
    frame["kind"] = frame["sense"].str.split().str[-1]
    frame.to_csv(made / "phrases.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MTKD_")]:
            patch.delenv(name)
        patch.setenv("MTKD_WORK", str(made / "artifacts"))
        patch.setenv("MTKD_REPORTS", str(made / "reports"))
        yield made


@pytest.fixture(scope="module")
def study(folder):
    """The study, with all its stages done."""
    settings = {
        "own_tasks": {"write": WRITE, "sort": SORT},
        "encoders": {"uncased": {"pretrain": RECIPE}},
        "candidates": {"dropouts": [0.0, 0.1], "ensemble_size": 2, "new_head": False},
        "train": {"optimizer": "adamw", "learning_rate": 1e-2, "batch_size": 15, "epochs": 4},
        "finetune": {"epochs": 1},
    }
    (folder / "study.yaml").write_text(json.dumps(settings))
    made = load(folder / "study.yaml")
    stages.load_all(made, stages.all_runs(made))
    return made


def rows(artifact) -> pd.DataFrame:
    frame = artifact.frame("predictions.parquet")
    return frame[frame.task == "write"]


def written(study, frame: pd.DataFrame) -> list[str]:
    """Return the texts in rows of predictions."""
    pieces = np.stack(frame.outputs)[:, 1:].astype(int)
    return to_texts(pieces, Inputs(study, mtdnn.runs(study)[0]).tokenizer("uncased")[0])


def correct(study, frame: pd.DataFrame) -> list[str]:
    """Return the correct texts of rows of predictions."""
    split = data.read_splits(load_run(study, Run(data.NAME)), study.task("write"))["validation"]
    return pd.Series(split["label"][:], split["idx"][:])[frame.idx].tolist()


def test_every_word_of_the_texts_has_a_piece(study):
    encoder = Inputs(study, mtdnn.runs(study)[0]).tokenizer("uncased")[0]
    assert {"kind", "of", *KINDS} <= set(encoder.get_vocab())


def test_scores_are_of_texts_that_were_written(study):
    artifact = load_run(study, mtdnn.runs(study)[0])
    frame, scores = rows(artifact), artifact.frame("scores.csv").set_index("task")
    assert len(frame) == 30 and frame.label.eq(0).all()
    expected = rouge_l(written(study, frame), correct(study, frame))
    assert np.stack(frame.outputs)[:, 0] == pytest.approx(expected)
    assert scores.value["write"] == pytest.approx(100 * expected.mean(), abs=1e-3)
    assert (scores.metric["write"], scores.n["write"]) == ("rouge_l", 30)
    copied = [phrase for phrase, _ in phrases()[:120]]
    assert expected.mean() > 1.5 * rouge_l(copied, [sense for _, sense in phrases()[:120]]).mean()


def test_the_teacher_writes_and_the_student_learns_by_mean_probabilities(study):
    artifact, task = load_run(study, Run(teacher.NAME, task="write")), study.task("write")
    frame, score = rows(artifact), artifact.frame("scores.csv").iloc[0]
    expected = rouge_l(written(study, frame), correct(study, frame))
    assert score.value == pytest.approx(100 * expected.mean(), abs=1e-3)
    assert not len(artifact.frame("confidence.parquet"))
    inputs = Inputs(study, Run(teacher.NAME, task="write"))
    members = [ensemble_member(study, one, model) for one, model in teacher.members(study, "write")]
    again = average_predictions(inputs, task, members)
    assert np.array_equal(np.stack(again.outputs), np.stack(frame.outputs))
    examples = inputs.train_set("uncased", task)
    targets = read_soft_targets(artifact.file("soft_targets.parquet"), task)
    assert targets.member_logits.shape == (2, len(examples.labels), 2 * TOP)
    assert targets.aligned(examples).shape == (len(examples.labels), 2 * 2 * TOP)
    scores = load_run(study, Run("04_student", seed=0)).frame("scores.csv")
    assert set(scores.task) == {"write", "sort"}


def ensemble_member(study, candidate, model) -> EnsembleMember:
    tasks = (study.task("write"),)
    return EnsembleMember(candidate.encoder, candidate.dropout, model, candidate.name, tasks)


def test_other_word_pieces_are_refused(study):
    inputs, task = Inputs(study, Run(teacher.NAME, task="write")), study.task("write")
    examples = inputs.train_set("uncased", task)
    known = load_run(study, Run("01_pretrain", encoder="uncased")).json("fingerprints.json")
    assert examples.fingerprint.startswith(known["write"]["train"] + "-")
    other = examples.replace(fingerprint=known["write"]["train"] + "-other")
    check_pieces(study.task("sort"), [examples, other])
    with pytest.raises(UserError, match=r"write: members of an ensemble .* keep those of one tok"):
        check_pieces(task, [examples, other])


def test_the_report_has_a_column_and_comparisons(study, folder):
    reports = folder / "reports" / "study"
    results = pd.read_csv(reports / "results.csv")
    assert set(results[results.metric == "rouge_l"].system) >= {"bert", "mt-dnn-kd", "mt-dnn"}
    assert "write ROUGE-L" in (reports / "tables" / "table3.md").read_text()
    tasks = list(map(study.task, study.tasks))
    labels = pd.concat(
        load_run(study, run).frame("predictions.parquet") for run in mtdnn.runs(study)[:1]
    )
    written = pd.read_csv(reports / "comparisons.csv")
    assert set(written[written.task == "write"].examples) == {30}
    frames = recompute(reports, tasks, labels), written
    again, written = (one.sort_values(["a", "b", "task"], ignore_index=True) for one in frames)
    pd.testing.assert_frame_equal(again, written)


def test_a_model_predicts_texts_and_is_exported_as_onnx(study, folder, capsys):
    path = str(Run("04_student", seed=0).folder(study))
    model = mtkd.load(path)
    frame = model.predict(["a small old poodle", "an oak"], "write")
    assert list(frame) == ["text"] and frame["text"].str.startswith("a").all()
    trained = load_model(path, "write")
    assert predict_rows(trained, [("an oak",)]) == [{"text": frame["text"][1]}]
    with pytest.raises(UserError, match=r"transformers has no class .* --format onnx"):
        export(trained, folder / "exported")
    table = export(trained, folder / "exported", "onnx").set_index("variant")
    assert table["rouge_l, validation"]["study"] == table["rouge_l, validation"]["onnx"]
    card = (folder / "exported" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace('"a text"', '"an oak"')
    code = code.replace('"exported', f'"{folder / "exported"}')
    exec(code, {})  # it writes greedily
    greedy = replace(trained, task=replace(trained.task, beam=1))
    assert capsys.readouterr().out.strip() == predict_rows(greedy, [("an oak",)])[0]["text"]
