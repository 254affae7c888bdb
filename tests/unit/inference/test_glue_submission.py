"""The GLUE server's zip: the study's test predictions, in the server's format, row by row."""

import zipfile

import numpy as np
import pandas as pd
import pytest
from helpers import TINY

from mtkd import tasks
from mtkd.artifacts import make
from mtkd.cli import app
from mtkd.config.study import load
from mtkd.errors import UserError
from mtkd.inference.glue_submission import FILES, write_submission, write_submissions
from mtkd.stages import Run, finetune, ranking

SIZE = 5


def predictions(seed: int = 0) -> pd.DataFrame:
    """Test predictions of every task's head, in no order."""
    random = np.random.default_rng(seed)
    frames = []
    for task, split, _ in FILES.values():
        outputs = random.random((SIZE, tasks.get(task).num_outputs)) * 6
        columns = {"idx": range(SIZE), "outputs": list(outputs)}
        frames.append(pd.DataFrame(columns).assign(task=task, split=split))
    return pd.concat(frames).sample(frac=1, random_state=seed)


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    return load(TINY)


def put(study, frame: pd.DataFrame, stage: str = finetune.NAME) -> None:
    run = Run(stage, system="bert", seed=study.seeds[0])
    make(
        run.folder(study),
        {"rows": len(frame)},
        lambda out, _: frame.to_parquet(out / "predictions.parquet"),
    )


def read_zip(path) -> dict[str, pd.DataFrame]:
    with zipfile.ZipFile(path) as packed:
        return {name: pd.read_csv(packed.open(name), sep="\t") for name in packed.namelist()}


def test_the_zip_holds_the_predictions_of_eleven_files_by_index(study, tmp_path):
    frame = predictions()
    put(study, frame)
    notes = write_submission(study, "bert", tmp_path / "a.zip")
    files = read_zip(tmp_path / "a.zip")
    assert list(files) == list(FILES) and "synthetic" in notes[0]
    for name, (task_name, split, _) in FILES.items():
        task, written = tasks.get(task_name), files[name]
        rows = frame[(frame.task == task_name) & (frame.split == split)].sort_values("idx")
        outputs = np.stack(rows.outputs)
        assert written["index"].tolist() == list(range(SIZE))
        if task.regression:
            assert np.allclose(written.prediction, outputs[:, 0].clip(0, 5), atol=6e-4)
        else:
            classes = outputs.argmax(axis=1).tolist()
            names = [task.labels[number] for number in classes]
            by_name = task_name in ("mnli", "qnli", "rte")
            assert written.prediction.tolist() == (names if by_name else classes)
    assert sum("the server rejects it" in note for note in notes) == len(FILES)
    write_submission(study, "bert", tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_ranked_task_is_predicted_by_classification_and_ranking_together(study, tmp_path):
    study = study.model_copy(update={"ranking": ["qnli"]})
    put(study, predictions())
    merged = predictions(seed=1)
    merged = merged[merged.task == "qnli"]
    put(study, merged, ranking.NAME)
    write_submission(study, "bert", tmp_path / "a.zip")
    classes = np.stack(merged.sort_values("idx").outputs).argmax(axis=1)
    labels = [tasks.get("qnli").labels[number] for number in classes]
    assert read_zip(tmp_path / "a.zip")["QNLI.tsv"].prediction.tolist() == labels


def test_a_missing_test_set_is_a_file_of_placeholders_that_is_named(study, tmp_path):
    put(study, predictions()[lambda frame: frame.task != "qqp"])
    notes = write_submission(study, "bert", tmp_path / "a.zip")
    placeholders = [note for note in notes if "placeholders" in note]
    assert placeholders == ["QQP.tsv holds placeholders: there are no predictions for it."]
    written = read_zip(tmp_path / "a.zip")["QQP.tsv"]
    assert len(written) == 390_965 and (written.prediction == 0).all()


@pytest.mark.parametrize("change", ["missing", "doubled"])
def test_a_missing_or_doubled_row_is_refused(study, tmp_path, change):
    frame = predictions().reset_index(drop=True)
    row = frame[(frame.task == "rte") & (frame.idx == 2)]
    frame = frame.drop(row.index) if change == "missing" else pd.concat([frame, row])
    put(study, frame)
    with pytest.raises(UserError, match=r"RTE.tsv: the test set's idx"):
        write_submission(study, "bert", tmp_path / "a.zip")
    assert not list(tmp_path.glob("*.zip"))


@pytest.mark.parametrize(
    ("system", "name", "message"),
    [
        ("mkd-lstm", "a.zip", "no test predictions of 'mkd-lstm': .*bert, mt-dnn, mt-dnn-kd"),
        ("bert", "a.tar", r"give the path of a \.zip"),
        ("bert", "none/a.zip", r"give the path of a \.zip"),
        ("bert", "a.zip", "05_finetune/bert-s0 is not a finished output"),
    ],
)
def test_what_cannot_be_written_is_refused(study, tmp_path, system, name, message):
    with pytest.raises(UserError, match=message):
        write_submission(study, system, tmp_path / name)


def test_data_without_test_splits_are_refused(study, tmp_path):
    put(study, predictions()[:3].assign(split="validation"))
    with pytest.raises(UserError, match="lack test splits"):
        write_submission(study, "bert", tmp_path / "a.zip")


def test_zips_to_commit_lack_the_test_sets_without_predictions(study, tmp_path):
    put(study, predictions()[lambda frame: frame.task != "qqp"])
    assert write_submissions(study, tmp_path / "none") == []  # of synthetic examples
    data = study.data.model_copy(update={"source": "glue"})
    study = study.model_copy(update={"data": data, "test_predictions": ["bert"]})
    notes = write_submissions(study, tmp_path / "zips")
    assert all(note.startswith("bert: ") and "rejects" in note for note in notes)
    assert [path.name for path in (tmp_path / "zips").iterdir()] == ["bert.zip"]
    write_submission(study, "bert", tmp_path / "whole.zip")
    written, whole = read_zip(tmp_path / "zips" / "bert.zip"), read_zip(tmp_path / "whole.zip")
    assert list(written) == [name for name in FILES if name != "QQP.tsv"]
    assert all(written[name].equals(whole[name]) for name in written)
    put(study, predictions().assign(split="validation"))
    assert write_submissions(study, tmp_path / "untested") == []
    assert not (tmp_path / "untested").exists()
    unfinished = study.model_copy(update={"test_predictions": ["mt-dnn"]})
    (note,) = write_submissions(unfinished, tmp_path / "unfinished")
    assert note.startswith("mt-dnn: ") and "is not a finished output of a stage" in note


def test_the_command_reference_writes_zips_beside_the_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setattr("mtkd.report.write.write_reference", lambda name: tmp_path / name)
    path = tmp_path / "real.yaml"
    text = TINY.read_text().replace("name: tiny", "name: real").replace("synthetic", "glue")
    path.write_text(f"{text}\ntest_predictions: [bert]\n")
    put(load(path), predictions())
    app(["reference", str(path)], standalone_mode=False)
    *notes, last = capsys.readouterr().out.splitlines()
    assert last == str(tmp_path / "real") and len(notes) == len(FILES)
    assert list(read_zip(tmp_path / "real" / "submissions" / "bert.zip")) == list(FILES)
