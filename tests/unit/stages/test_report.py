"""The report's stage: the order of rows, and whose predictions are compared."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest

from mtkd.config.study import load
from mtkd.report.sections import rows_of
from mtkd.report.sections.ablation import section
from mtkd.stages import ablation, all_runs, report, teacher
from mtkd.stages.common import Run


class FakeArtifact:
    """Frames by file name."""

    def __init__(self, **frames: pd.DataFrame):
        self.frames = {name.replace("_csv", ".csv"): frame for name, frame in frames.items()}
        self.record = {"files": self.frames}

    def frame(self, name: str) -> pd.DataFrame:
        return self.frames[name]


def scores(*systems: tuple[str, float]) -> pd.DataFrame:
    rows = [
        {"task": "rte", "split": "validation", "metric": "accuracy", "value": 50.0, "n": 9}
        | {"params": 1, "seconds": 2.0, "system": system, "seed": seed}
        for system, seed in systems
    ]
    return pd.DataFrame(rows)


def test_the_report_reads_every_other_run():
    study = load("quick")
    (run,) = report.runs(study)
    assert report.parents(study, run) == [one for one in all_runs(study) if one != run]
    assert report.steps(study, run) == 0 and report.depends(study, run)["name"] == "quick"


def test_rows_begin_with_the_study():
    frames = [FakeArtifact(scores_csv=scores(("b", 0))), FakeArtifact(scores_csv=scores(("a", 1)))]
    rows = rows_of("s", frames, "scores.csv")
    assert next(iter(rows)) == "study" and list(rows["system"]) == ["b", "a"]


def test_variants_come_by_seed_and_ensembles_by_size():
    study = SimpleNamespace(
        name="s", multitask=[], ablation=SimpleNamespace(variants={"y": None, "x": None})
    )
    runs = {
        Run(ablation.NAME, variant=variant, seed=seed): FakeArtifact(
            scores_csv=scores((f"mt-dnn-kd:{variant}", seed))
        )
        for seed in (1, 0)
        for variant in ("x", "y")
    }
    sizes = scores(("mt-dnn-ensemble:keep-10", math.nan), ("mt-dnn-ensemble:keep-2", math.nan))
    tasks = {
        Run(teacher.NAME, task=task): FakeArtifact(ensembles_csv=sizes.assign(task=task))
        for task in ("rte", "cola")
    }

    def artifacts(stage: str) -> dict:
        return {run: one for run, one in (runs | tasks).items() if run.stage == stage}

    rows = section(study, None, artifacts).rows
    students = rows[rows["seed"].notna()]
    assert list(zip(students["system"].str[10:], students["seed"], strict=True)) == [
        *(("y", 1), ("y", 0), ("x", 1), ("x", 0))
    ]
    ensembles = rows[rows["seed"].isna()]
    assert list(ensembles["system"].str[21:]) == ["2", "2", "10", "10"]
    assert list(ensembles["task"]) == ["rte", "cola"] * 2


@pytest.mark.parametrize("split", [True, False])
def test_predictions_are_those_of_the_systems_compared(split):
    systems = [("a", 0), ("b", 0)] if split else [("a", 0)]
    outputs = pd.DataFrame({"system": ["a", "b", "b"], "idx": [0, 0, 1]})
    outputs = outputs if split else outputs.drop(columns="system")
    artifact = FakeArtifact(scores_csv=scores(*systems))
    artifact.frames["predictions.parquet"] = outputs
    skipped = FakeArtifact(scores_csv=scores(("c", 0)))  # has no predictions to read
    found = list(report._predictions([artifact, skipped], [("b" if split else "a", "x")]))
    assert [(system, seed, len(rows)) for system, seed, rows in found] == [
        ("b", 0, 2) if split else ("a", 0, 3)
    ]
