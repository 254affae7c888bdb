"""A whole tiny study through the command line, Snakemake, papermill and the report; and what a second run does."""

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, mtkd

from mtkd import paths as work
from mtkd import tasks
from mtkd.artifacts import PACKAGES, read
from mtkd.config import study as studies
from mtkd.errors import UserError
from mtkd.inference import widget as ask
from mtkd.report import html as pages
from mtkd.report import scores
from mtkd.report import significance as comparisons
from mtkd.stages import common as stages
from mtkd.stages import report as summary
from mtkd.stages.inputs import encoder, examples_of, new_model
from mtkd.training.predict import predict, probabilities
from mtkd.training.soft_targets import read_soft_targets
from mtkd.workflow import jobs as plan


@pytest.fixture
def tiny(tiny_run, monkeypatch):
    """The tiny study's settings, with its finished outputs in place."""
    for key, value in tiny_run[1].items():
        monkeypatch.setenv(key, value)
    return studies.load(TINY)


def test_the_run_ends_with_the_table_and_the_reports_path(tiny_run):
    folder, _, done = tiny_run
    assert "| MT-DNN_KD |" in done.stdout and f"Report: {folder / 'index.html'}" in done.stdout


def test_every_job_leaves_an_executed_notebook_and_a_page(tiny_run, tiny):
    folder = tiny_run[0]
    names = [job.name for job in plan.jobs(tiny)]
    assert sorted(path.stem for path in (folder / "notebooks").glob("*.ipynb")) == sorted(names)
    pages = {path.stem for path in folder.glob("*.html")}
    assert pages == {"index" if name == "07_report" else name for name in names}
    for path in (folder / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code"), path


def test_comparisons_are_of_the_scores_in_the_results(tiny_run):
    """Worked out from predictions, the differences are those of the scores, which a stage rounds to four decimals."""
    results, found = (
        pd.read_csv(tiny_run[0] / f"{name}.csv") for name in ("results", "comparisons")
    )
    pairs = set(zip(found.a, found.b, strict=True))
    assert {*comparisons.PAIRS} <= pairs
    for a, b in pairs:
        rows = found[(found.a == a) & (found.b == b)].set_index("task")
        # An ensemble is compared with every seed of the other, as the mean of its one score's differences.
        if "mt-dnn-ensemble" in (a, b):
            means = [scores.by_seed(results, one).mean() for one in (a, b)]
            wanted = (means[0] - means[1]).dropna()
        else:
            wanted = scores.gains(results, student=a, base=b)["gain"].dropna()
            assert rows.loc["average", "difference"] == pytest.approx(wanted["average"], abs=2e-4)
        for task in rows.index.drop("average"):
            assert rows.loc[task, "difference"] == pytest.approx(wanted[task], abs=2e-4), (
                a,
                b,
                task,
            )
    assert (found.low <= found.high).all() and found.loc[found.task != "average", "p"].between(
        0, 1
    ).all()


def test_results_hold_every_system_task_split_and_seed(tiny_run, tiny):
    results = pd.read_csv(tiny_run[0] / "results.csv")
    assert list(results.columns) == summary.COLUMNS
    found = {
        (row.system, row.task, row.split, row.metric, None if pd.isna(row.seed) else int(row.seed))
        for row in results.itertuples()
    }
    wanted = set()
    for name in tiny.trainable:
        task = tasks.get(name)
        for split in task.dev:
            for metric in task.metrics:
                wanted |= {
                    (system, name, split, metric, seed)
                    for system in plan.SYSTEMS
                    for seed in tiny.seeds
                }
                if name in tiny.multitask:
                    wanted |= {
                        (f"{system}:mtl", name, split, metric, seed)
                        for system in ("mt-dnn", "mt-dnn-kd")
                        for seed in tiny.seeds
                    }
                    wanted.add(("mt-dnn-ensemble", name, split, metric, None))
                    wanted |= {
                        (f"mt-dnn-kd:{variant}", name, split, metric, 0)
                        for variant in ("annealing", "keep-1")
                    }
                    wanted.add(("mt-dnn-ensemble:keep-1", name, split, metric, None))
                    for student in tiny.mkd.students:
                        systems = [
                            plan.mkd_system(tiny, student, control)
                            for control in plan.mkd_controls(tiny)
                        ]
                        systems += [
                            plan.mkd_system(tiny, student, control, tuned=True)
                            for control in ("mtl-hard", "mtl-kd")
                        ]
                        wanted |= {
                            (system, name, split, metric, seed)
                            for system in systems
                            for seed in plan.mkd_seeds(tiny)
                        }
    assert found == wanted
    assert (
        results.value.between(-100, 100).all()
        and (results.n > 0).all()
        and (results.seconds > 0).all()
    )


def test_run_json_says_what_made_it(tiny_run):
    made = json.loads((tiny_run[0] / "run.json").read_text())
    assert (
        made["study"]["name"] == "tiny"
        and made["packages"]["torch"]
        and made["encoders"]["cased"]["from"] == "pretrain"
    )
    assert set(made["seconds"]) >= {"data", "encoder", "mtdnn", "teachers", "student", "finetune"}


def test_a_second_run_finds_everything_done(tiny_run):
    folder, environment, _ = tiny_run
    before = {path: path.stat().st_mtime_ns for path in (folder / "notebooks").glob("*.ipynb")}
    started = time.perf_counter()
    done = mtkd("run", TINY, **environment)
    assert done.returncode == 0 and "| MT-DNN_KD |" in done.stdout
    assert time.perf_counter() - started < 60
    assert {
        path: path.stat().st_mtime_ns for path in (folder / "notebooks").glob("*.ipynb")
    } == before


def test_stages_that_are_done_are_not_done_again_and_a_changed_setting_runs_those_that_depend_on_it(
    tiny, monkeypatch
):
    def refuse(*_, **__):
        raise AssertionError("a finished stage trained again")

    monkeypatch.setattr(stages, "train", refuse)
    stages.student(tiny, 0)
    stages.finetune(tiny, "mt-dnn-kd", 1)
    warmer = studies.load(TINY, ["distil.temperature=2"])
    stages.mtdnn(warmer, "cased", 0.1, 0)
    stages.teacher(warmer, "mnli")
    with pytest.raises(AssertionError, match="trained again"):
        stages.student(warmer, 0)
    monkeypatch.undo()


def test_soft_targets_cover_every_train_example_and_are_the_members_average(tiny):
    from mtkd.stages.inputs import examples_of

    for name in tiny.distil.teachers:
        task = tasks.get(name)
        targets = read_soft_targets(
            stages.teacher(tiny, name).file("soft_targets.parquet"), task, members=True
        )
        examples = examples_of(tiny, "uncased", task, "train")
        assert targets.for_examples(examples).shape == (len(examples), task.num_outputs)
        assert targets.members.shape[0] == tiny.candidates.ensemble_size
        assert abs(targets.members.mean(0) - targets.soft).max() < 1e-6
    assert "soft_targets.parquet" not in stages.teacher(tiny, "cola").record["files"]


def test_the_student_and_its_teachers_answer_free_texts_as_they_answer_dev_examples(tiny):
    frame = ask.ask(tiny, 0, *ask._example(tiny)).set_index(["task", "answer"])
    assert list(dict.fromkeys(frame.index.get_level_values("task"))) == tiny.multitask
    task = tasks.get("mnli")  # the example is MNLI's first of the dev set
    models = {
        "student": [("uncased", encoder(tiny, "uncased"), tiny.multitask, stages.student(tiny, 0))],
        "teacher": [
            (row.encoder, start, ["mnli"], found)
            for row, start, found in stages.members_of(tiny, "mnli")
        ],
    }
    for who, members in models.items():
        expected = []
        for name, start, heads, found in members:
            model = new_model(tiny, start, list(map(tasks.get, heads)), 0.0)
            model.load(found.file("model.safetensors"))
            expected.append(
                probabilities(
                    task,
                    predict(
                        model, examples_of(tiny, name, task, "validation_matched"), part=range(1)
                    ),
                )[0]
            )
        assert abs(frame.loc["mnli", who].to_numpy() - np.mean(expected, axis=0)).max() < 1e-5, who
    assert list(frame.loc["mnli"].index) == list(task.labels)
    assert frame.teacher.notna().groupby("task").all().to_dict() == {
        name: name in tiny.distil.teachers for name in tiny.multitask
    }
    assert ask.ask(tiny, 0, "", "\0 \U0001f426 日本語 " * 2000).student.notna().all()


def test_a_batch_leaves_a_picture_of_the_answers_and_no_widget(tiny_run):
    cell = json.loads((tiny_run[0] / "notebooks" / "04_student.s0.ipynb").read_text())["cells"][-1]
    assert set(cell["outputs"][0]["data"]) == {"text/plain", "text/html"}
    assert 'alt="Answers to “' in (tiny_run[0] / "04_student.s0.html").read_text()


def test_test_sets_and_ax_are_predicted_for_the_first_seed(tiny):
    found = {
        model.path.name: model.frame("predictions.parquet")
        for model in stages.finetune(tiny, "mt-dnn-kd", tiny.seeds[0])
    }
    assert set(found["mnli"].split) == {
        "validation_matched",
        "validation_mismatched",
        "test_matched",
        "test_mismatched",
        "test",
    }
    assert set(found["mnli"][found["mnli"].split == "test"].task) == {"mnli"}  # AX, by MNLI's head
    assert set(found["cola"].split) == {"validation", "test"}


def outputs(study) -> dict[str, list]:
    """Every artifact of a study by its stage."""
    found = {}
    for path in sorted(work.folder(study, "").glob("**/record.json")):
        artifact = read(path.parent)
        found.setdefault(artifact.record["inputs"]["stage"], []).append(artifact)
    return found


def test_every_output_carries_what_made_it(tiny):
    made = outputs(tiny)
    everything = {
        artifact.fingerprint: stage for stage, found in made.items() for artifact in found
    }
    parents = {
        "data": [],
        "encoder": [],
        "tokens": ["data", "encoder"],
        "multitask": ["data", "encoder"],
        "teacher": ["finetune"],
        "finetune": ["data", "encoder"],
        "teacher-logits": ["data", "multitask"],
        "mkd": ["data", "encoder"],
        "serving": ["data", "encoder"],
    }
    assert set(made) == set(parents)
    for stage, found in made.items():
        for artifact in found:
            by, inputs = artifact.record["made_by"], artifact.record["inputs"]
            assert (
                by["commit"]
                and by["mtkd"]
                and by["python"]
                and set(by["packages"]) == set(PACKAGES)
            ), artifact.path
            marks = set(
                re.findall(
                    r'"([0-9a-f]{16})"',
                    json.dumps({key: value for key, value in inputs.items() if key != "origin"}),
                )
            )
            kinds = {everything[mark] for mark in marks if mark in everything}
            assert set(parents[stage]) <= kinds, (artifact.path, kinds)
            if stage not in (
                "tokens",
                "teacher",
                "teacher-logits",
                "serving",
            ):  # nothing is drawn there
                assert (inputs["data"] if stage == "data" else inputs)["seed"] in (0, 1), (
                    artifact.path
                )
            if stage in ("multitask", "finetune", "mkd"):
                assert inputs["train"]["learning_rate"] and "pooling" in inputs["model"], (
                    artifact.path
                )
    assert any(
        "multitask" in {everything.get(artifact.record["inputs"]["parent"])}
        for artifact in made["finetune"]
    )


def test_a_changed_or_truncated_file_of_any_stage_is_found_before_it_is_used(tiny, tmp_path):
    for stage, found in outputs(tiny).items():
        copy = Path(shutil.copytree(found[0].path, tmp_path / stage))
        for name in found[0].record["files"]:
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


def test_a_damaged_notebook_is_told_by_its_name(tiny_run, tmp_path):
    folder = Path(shutil.copytree(tiny_run[0] / "notebooks", tmp_path / "notebooks")).parent
    file = folder / "notebooks" / "00_data.ipynb"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        UserError, match=r"00_data.ipynb is damaged: remove it and run the study again"
    ):
        pages.all_pages(folder)


def test_the_same_study_in_another_place_gives_the_same_figures(
    tiny_run, tiny, tmp_path, monkeypatch
):
    first = (
        pd.read_csv(tiny_run[0] / "results.csv")
        .query("system == 'mt-dnn-kd:mtl' and seed == 1")
        .drop(columns="seconds")
    )
    monkeypatch.setenv("MTKD_WORK", str(tmp_path))
    again = stages.student(tiny, 1).frame("scores.csv").drop(columns="seconds").assign(study="tiny")
    pd.testing.assert_frame_equal(
        again[first.columns].reset_index(drop=True), first.reset_index(drop=True), check_dtype=False
    )
