"""What is committed of a study that grows seed by seed, and comparisons of that alone."""

import json
import shutil
import zipfile

import nbformat
import pandas as pd
import pytest
from integration.stages.small import MKD, small

from mtkd import paths, provenance, stages
from mtkd.artifacts import RECORD
from mtkd.config.study import Study
from mtkd.errors import UserError
from mtkd.report.predictions import FILE, recompute
from mtkd.report.write import restore_reference, write_reference
from mtkd.stages import data, mtdnn, report, serving

ABLATION = 'ablation={"seeds": [0], "variants": {"keep-1": {"ensemble_size": 1}}}'


@pytest.fixture
def grow(work, tmp_path, monkeypatch):
    """A function that runs a study with these seeds, and returns it with its reference."""
    monkeypatch.setattr(paths, "reference", lambda name: tmp_path / name)
    monkeypatch.setattr(provenance, "commit", lambda: "0123456789ab")
    provenance.provenance.cache_clear()

    def run(seeds: list[int], finished: bool = False, name: str = "grown"):
        study = small(f"name={name}", MKD, ABLATION, f"seeds={seeds}")
        report.run(study, finished)
        notebook = paths.reports(study) / "notebooks" / "11_report.ipynb"
        notebook.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(), notebook)
        return study, write_reference(study.name)

    yield run
    provenance.provenance.cache_clear()


def dev_labels(study: Study) -> pd.DataFrame:
    """The labels of the dev sets, as anyone with the data has them."""
    frames = []
    for task in map(study.task, study.tasks):
        splits = data.read_splits(stages.load(study, stages.Run(data.NAME)), task)
        for split in task.dev:
            columns = {name: splits[split][name] for name in ("idx", "label")}
            frames.append(pd.DataFrame(columns).assign(task=task.name, split=split))
    return pd.concat(frames)


def test_one_more_seed_runs_no_notebook_of_another_again():
    first, both = (stages.keys(small(MKD, ABLATION, f"seeds={seeds}")) for seeds in ([0], [0, 1]))
    changed = {run.name for run, key in first.items() if both[run] != key}
    assert changed == {serving.NAME, report.NAME} and len(both) > len(first)


def test_a_report_of_what_is_finished_builds_nothing_and_says_what_is_missing(work):
    study = small("name=begun", MKD, ABLATION, "seeds=[0, 1]")
    with pytest.raises(UserError, match="begun has no result yet"):
        report.run(study, finished=True)
    bert = stages.Run("05_finetune", system="bert", seed=0)
    stages.load_all(study, [bert, mtdnn.baseline_run(study, 0)])
    made = report.run(study, finished=True)
    assert {*made.results["system"]} == {"bert", "mt-dnn:mtl"} and not made.sections
    assert (
        f"{len(stages.all_runs(study)) - 5} runs of this study are not finished" in made.finding[0]
    )
    assert "04_student.s0" in made.run["unfinished"] and bert.name not in made.run["unfinished"]
    assert not paths.work_folder("begun").joinpath("04_student").exists()


@pytest.mark.slow
def test_a_reference_grows_seed_by_seed_and_its_comparisons_can_be_recomputed(grow):
    study, folder = grow([0])
    records = paths.work_folder("grown").rglob(RECORD)
    records = [path for path in records if serving.NAME not in path.parts]  # measured anew, last
    before = {path: path.stat().st_mtime_ns for path in records}
    first = pd.read_parquet(folder / FILE)
    study, folder = grow([0, 1])
    assert before and {path: path.stat().st_mtime_ns for path in before} == before
    made = json.loads((folder / "run.json").read_text())
    assert made["study"]["seeds"] == [0, 1]
    assert made["computed at commits"] == [made["commit"]] == ["0123456789ab"]
    assert made["computed on"] == [made["machine"]]

    rows, results = pd.read_parquet(folder / FILE), pd.read_csv(folder / "results.csv")
    columns = ["system", "seed", "task", "split"]
    predicted, scored = ({*map(tuple, one[columns].fillna(-1).values)} for one in (rows, results))
    assert scored - predicted == {one for one in scored if one[0] == "mt-dnn-ensemble:keep-1"}
    assert predicted <= scored
    both = rows.merge(first, "inner", [*columns, "idx"], suffixes=("", "_first"))
    assert len(both) == len(first) and both["class"].equals(both["class_first"])

    labels, known = dev_labels(study), [study.task(name) for name in study.tasks]
    written = pd.read_csv(folder / "comparisons.csv")
    assert {"mt-dnn", "mt-dnn-kd:keep-1", "mkd-lstm:mtl"} <= {*written["a"]}
    pd.testing.assert_frame_equal(recompute(folder, known, labels), written)


@pytest.mark.slow
def test_an_unfinished_reference_goes_on_on_another_computer(grow, tmp_path, monkeypatch):
    grow([0], name="halved")
    _, folder = grow([0, 1], finished=True, name="halved")
    rows, packed = pd.read_csv(folder / "results.csv"), folder / "artifacts.zip"
    student = rows["system"] == "mt-dnn-kd:mtl"
    assert set(rows["seed"][student]) == {0} and packed.is_file()
    with zipfile.ZipFile(packed) as file:
        assert not [name for name in file.namelist() if name.endswith((".arrow", ".safetensors"))]
        assert not [name for name in file.namelist() if "00_data/" in name]
    encoders = paths.work_folder("halved") / "01_pretrain"  # made here, so a record of the time
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("MTKD_WORK", str(tmp_path / "other"))
        shutil.copytree(encoders, paths.work_folder("halved") / "01_pretrain")
        assert restore_reference("halved") > 10
        study = small("name=halved", MKD, ABLATION, "seeds=[0, 1]")
        records = paths.work_folder("halved").rglob(RECORD)
        restored = {
            path: path.stat().st_mtime_ns for path in records if serving.NAME not in path.parts
        }
        stages.load_all(study, [stages.Run("04_student", seed=seed) for seed in (0, 1)])
        _, folder = grow([0, 1], finished=True, name="halved")
        assert {path: path.stat().st_mtime_ns for path in restored} == restored
        more = pd.read_csv(folder / "results.csv")
        new = (more["system"] == "mt-dnn-kd:mtl") & (more["seed"] == 1)
        assert new.sum() == student.sum()
        pd.testing.assert_frame_equal(more[~new].reset_index(drop=True), rows)
        with pytest.raises(UserError, match=r"model.safetensors was left behind elsewhere"):
            stages.load(study, stages.Run("04_student", seed=0)).file("model.safetensors")
    grow([0, 1], name="halved")
    assert not packed.exists()
    with pytest.raises(UserError, match="is not there: a reference has it until"):
        restore_reference("halved")
