"""A whole tiny study through the command line, Snakemake, papermill and the report."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from helpers import TINY, mtkd

from mtkd import paths, stages, tasks
from mtkd.artifacts import read
from mtkd.config.study import SYSTEMS, load
from mtkd.errors import UserError
from mtkd.provenance import PACKAGES
from mtkd.report import html, scores, significance
from mtkd.stages import fit, student, teacher
from mtkd.stages.common import SCORE_COLUMNS, Run
from mtkd.training.soft_targets import read_soft_targets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MULTITASK = {"mt-dnn:mtl": None, "mt-dnn-kd:mtl": None, "mt-dnn-ensemble": [None]}
VARIANTS = {
    "mt-dnn-kd:annealing": [0],
    "mt-dnn-kd:keep-1": [0],
    "mt-dnn-ensemble:keep-1": [None],
}
MKD = ("{}", "mt-{}:mtl", "task-kd-{}", "mkd-{}:mtl", "mkd-{}:hard-0.5", "mt-{}", "mkd-{}")


@pytest.fixture
def tiny(tiny_run, monkeypatch):
    """Return the tiny study's settings, with its finished outputs in their folders."""
    for key, value in tiny_run.environment.items():
        monkeypatch.setenv(key, value)
    return load(TINY)


@pytest.fixture
def results(tiny_run) -> pd.DataFrame:
    return pd.read_csv(tiny_run.reports / "results.csv")


def test_the_terminal_shows_the_bar_the_table_and_the_reports_path_and_nothing_else(tiny_run):
    *table, last = tiny_run.stdout.splitlines()
    assert last == f"Report: {tiny_run.reports / 'index.html'}"
    assert any("MT-DNN_KD" in line for line in table) and max(map(len, table)) <= 100
    bars = re.split(r"[\r\n]+", tiny_run.stderr)
    assert all(line.startswith("study tiny: ") for line in bars if line.strip()), bars
    written = {log.name: log.read_text() for log in (tiny_run.reports / "logs").glob("*.err")}
    assert written and not any(written.values()), written


def test_every_run_leaves_an_executed_notebook_and_a_page(tiny_run, tiny):
    names = {run.name for run in stages.all_runs(tiny)}
    notebooks = list((tiny_run.reports / "notebooks").glob("*.ipynb"))
    assert {path.stem for path in notebooks} == names
    pages = {path.stem for path in tiny_run.reports.glob("*.html")}
    assert pages == names - {"11_report"} | {"index"}
    for path in notebooks:
        cells = json.loads(path.read_text())["cells"]
        assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code"), path


def test_comparisons_are_of_the_scores_in_the_results(tiny_run, results):
    compared = pd.read_csv(tiny_run.reports / "comparisons.csv")
    pairs = set(zip(compared.a, compared.b, strict=True))
    assert {*significance.PAIRS} <= pairs
    for a, b in pairs:
        rows = compared[(compared.a == a) & (compared.b == b)].set_index("task")
        # An ensemble, which has one score, is compared with every seed of the other.
        if "mt-dnn-ensemble" in (a, b):
            means = [scores.by_seed(results, system).mean() for system in (a, b)]
            expected = (means[0] - means[1]).dropna()
        else:
            expected = scores.gains(results, student=a, base=b)["gain"].dropna()
            average = rows.loc["average", "difference"]
            assert average == pytest.approx(expected["average"], abs=2e-4)
        for task, difference in rows["difference"].drop("average").items():  # rounded scores
            assert difference == pytest.approx(expected[task], abs=2e-4), (a, b, task)
    assert (compared.low <= compared.high).all()
    assert compared["p"].between(0, 1).all() and (compared["p_holm"] >= compared["p"]).all()
    assert ((compared["p"] < 0.05) == ((compared.low > 0) | (compared.high < 0))).all()


def test_results_hold_every_system_task_split_and_seed(results, tiny):
    assert list(results.columns) == ["study", *SCORE_COLUMNS]
    columns = ["system", "task", "split", "metric", "seed"]
    actual = set(results[columns].fillna(-1).itertuples(index=False, name=None))
    multitask = MULTITASK | VARIANTS
    for one in tiny.candidate_models:
        multitask[f"candidate/{one.name}:mtl"] = [one.seed]
    for one, _ in teacher.members(tiny, "rte"):
        multitask[f"candidate/{one.name}"] = [one.seed]
    multitask |= {name.format(kind): [0] for kind in tiny.mkd.students for name in MKD}
    expected = set()
    for name in tiny.trainable:
        task = tasks.get(name)
        systems = dict.fromkeys(SYSTEMS) | (multitask if name in tiny.multitask else {})
        for system, seeds in systems.items():
            expected |= {
                (system, name, split, metric, -1 if seed is None else seed)
                for split in task.dev
                for metric in task.metrics
                for seed in seeds or tiny.seeds
            }
    assert actual == expected
    assert results.value.between(-100, 100).all()
    assert (results.n > 0).all() and (results.seconds > 0).all()


def test_run_json_says_what_made_it(tiny_run):
    made = json.loads((tiny_run.reports / "run.json").read_text())
    assert made["study"]["name"] == "tiny" and made["packages"]["torch"]
    assert made["encoders"]["cased"]["from"] == "pretrain" and made["seconds"]


def test_a_second_run_does_nothing_again(tiny_run):
    notebooks = list((tiny_run.reports / "notebooks").glob("*.ipynb"))
    before = {path: path.stat().st_mtime_ns for path in notebooks}
    done = mtkd("run", TINY, **tiny_run.environment)
    assert done.returncode == 0 and "MT-DNN_KD" in done.stdout, done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_finished_stages_are_not_trained_again_but_those_that_a_setting_changes(tiny, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a finished stage trained again")

    monkeypatch.setattr(fit, "train", refuse)
    for run in stages.all_runs(tiny):
        if run.stage != "11_report":
            stages.load(tiny, run)
    changed = load(TINY, ["distil.temperature=2"])
    stages.load(changed, Run("02_mtdnn", encoder="cased", dropout=0.1, seed=0))
    stages.load(changed, Run("03_teacher", task="mnli"))
    with pytest.raises(AssertionError, match="trained again"):
        stages.load(changed, Run("04_student", seed=0))


def test_soft_targets_cover_every_train_example_and_are_the_members_average(tiny):
    inputs = student.Inputs(tiny, Run("04_student", seed=0))
    for name in tiny.distil.teachers:
        task = tasks.get(name)
        artifact = stages.load(tiny, Run("03_teacher", task=name))
        targets = read_soft_targets(artifact.file("soft_targets.parquet"), task)
        train_set = inputs.train_set("uncased", task)
        aligned = targets.aligned(train_set, "probabilities")
        assert aligned.shape == (len(train_set), task.num_outputs)
        assert len(targets.member_logits) == tiny.candidates.ensemble_size
        assert abs(targets.member_probabilities.mean(0) - aligned).max() < 1e-6
    untaught = stages.load(tiny, Run("03_teacher", task="cola"))
    assert "soft_targets.parquet" not in untaught.record["files"]
    assert [one.name for one, _ in teacher.members(tiny, "mnli")] == list(
        read_soft_targets(
            stages.load(tiny, Run("03_teacher", task="mnli")).file("soft_targets.parquet"),
            tasks.get("mnli"),
        ).names
    )


def test_a_batch_leaves_a_picture_of_the_predictions_and_no_widget(tiny_run):
    text = (tiny_run.reports / "notebooks" / "04_student.s0.ipynb").read_text()
    outputs = json.loads(text)["cells"][-1]["outputs"]
    assert set(outputs[0]["data"]) == {"text/plain", "text/html"}


def test_test_sets_and_ax_are_predicted_for_the_first_seed(tiny):
    run = Run("05_finetune", system="mt-dnn-kd", seed=tiny.seeds[0])
    frame = stages.load(tiny, run).frame("predictions.parquet")
    splits = frame.groupby("task")["split"].unique().map(set)
    dev = {"validation_matched", "validation_mismatched"}
    assert splits["mnli"] == dev | {"test_matched", "test_mismatched", "test"}  # test: AX
    assert splits["cola"] == {"validation", "test"}
    other = stages.load(tiny, Run("05_finetune", system="mt-dnn-kd", seed=tiny.seeds[1]))
    assert not other.frame("predictions.parquet")["split"].str.startswith("test").any()


def artifacts(study) -> list:
    """Return every artifact of a study, and of the parts of its runs."""
    records = paths.work_folder(study.name).glob("**/record.json")
    return [read(path.parent) for path in sorted(records)]


def test_every_output_carries_what_made_it(tiny):
    everything = artifacts(tiny)
    known = {artifact.fingerprint for artifact in everything}
    for artifact in everything:
        by, inputs = artifact.record["made_by"], artifact.record["inputs"]
        assert by["commit"] and by["mtkd"] and by["python"], artifact.path
        assert set(by["packages"]) == set(PACKAGES), artifact.path
        assert set(inputs.get("parents", {}).values()) <= known, artifact.path
        assert "depends" in inputs, artifact.path
    for run in stages.all_runs(tiny):
        if run.stage != "11_report":
            parents = read(run.folder(tiny)).record["inputs"]["parents"]
            assert set(parents) == {one.name for one in stages.parents(tiny, run)}, run.name


def test_a_changed_or_truncated_file_is_noticed_before_it_is_used(tiny, tmp_path):
    for run in stages.all_runs(tiny):
        if run.stage == "11_report" or (tmp_path / run.stage).exists():
            continue
        copy = Path(shutil.copytree(run.folder(tiny), tmp_path / run.stage))
        for name in read(copy).record["files"]:
            file = copy / name
            whole = file.read_bytes()
            file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
            with pytest.raises(UserError, match="missing, truncated or changed"):
                read(copy).file(name)
            file.write_bytes(whole[:-1])
            with pytest.raises(UserError, match="is damaged"):
                read(copy)
            file.write_bytes(whole)
            assert read(copy).file(name)


def test_a_damaged_notebook_is_named(tiny_run, tmp_path):
    source = tiny_run.reports / "notebooks"
    folder = Path(shutil.copytree(source, tmp_path / "notebooks")).parent
    file = folder / "notebooks" / "00_data.ipynb"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"00_data\.ipynb is damaged"):
        html.write_pages(folder)
