"""Frames of small made-up studies."""

import helpers
import numpy as np
import pandas as pd
import pytest

from mtkd import tasks
from mtkd.report.claims import claims
from mtkd.report.significance import PAIRS, Kept, Resampled
from mtkd.report.write import ReportData

RESULTS = ["study", "system", "task", "split", "metric", "value", "seed", "n", "params", "seconds"]
NAMES = ("mnli", "qqp", "rte", "cola", "stsb", "wnli")


def made_results(gain: float, seeds: int, names: tuple[str, ...]) -> pd.DataFrame:
    """Results in which MT-DNN_KD is about `gain` points above MT-DNN, and the ensemble two."""
    draw, rows = np.random.default_rng(0), []
    shifts = {"bert": -2.0, "mt-dnn": 0.0, "mt-dnn-kd": gain, "mt-dnn-ensemble": 2.0}
    for task in map(tasks.get, names):
        for metric in task.metrics:
            for system, shift in shifts.items():
                for seed in [np.nan] if system == "mt-dnn-ensemble" else range(seeds):
                    value = 60 + shift + 0.1 * draw.normal()
                    row = ["small", system, task.name, task.dev[0], metric, value, seed]
                    rows.append([*row, 100, 4.4e6, 9.0])
    return pd.DataFrame(rows, columns=RESULTS)


def made_sizes(names: tuple[str, ...]) -> pd.DataFrame:
    rows = []
    for task in map(tasks.get, names):
        about = {"task": task.name, "title": task.title, "kind": task.kind, "missing": False}
        about |= {"labels": task.num_outputs, "majority": 50, "words": 20}
        train = {"split": "train", "role": "train", "examples": task.num_train, "overlap": None}
        rows.append(about | train)
        for split in task.dev:
            missing = split == "validation_mismatched"
            count = None if missing else 100
            dev = {"split": split, "role": "dev", "examples": count, "overlap": 1.5}
            rows.append(about | dev | {"missing": missing})
    return pd.DataFrame(rows)


@pytest.fixture
def make_report():
    """A function that makes a report of a small study without further sections."""

    def make(gain: float = 1.0, seeds: int = 3, names: tuple[str, ...] = NAMES) -> ReportData:
        results, draw = made_results(gain, seeds, names), np.random.default_rng(1)
        curve = {"run": "s0", "system": "mt-dnn", "seed": 0, "task": names[0], "split": "dev"}
        curves = [
            curve | {"epoch": e, "loss": 1 / e, "metric": "accuracy", "value": 50.0 + e}
            for e in (1, 2)
        ]
        soft = {"task": "rte", "source": "teacher", "confidence": draw.uniform(0.5, 1, 400)}
        soft = pd.DataFrame(soft).assign(split=["train", "validation"] * 200)
        sure = soft["confidence"]
        soft = soft.assign(entropy=1 - sure, correct=draw.random(400) < sure)
        settings = {"teachers": [names[0]]}
        return ReportData(
            study=helpers.study(
                tasks=list(names), distil=settings, candidates={"select_on": [names[0]]}
            ),
            results=results,
            candidates=results[results["system"] == "mt-dnn"].assign(system="candidate/u-0-s0"),
            curves=pd.DataFrame(curves),
            soft=soft,
            sizes=made_sizes(names),
            run={
                "commit": "abc",
                "seconds": {"00_data": 61.0},
                "notes": ["CoLA: constant"],
                "unfinished": [],
            },
            compared=helpers.compared(results, [*PAIRS], reach=0.2),
            claims=claims(Resampled([], []), Kept(), [], {}),
        )

    return make


@pytest.fixture
def rows():
    """A function that makes results of (system, task, split, metric, values by seed)."""

    def make(*lines: tuple[str, str, str, str, tuple]) -> pd.DataFrame:
        return pd.DataFrame(
            [
                ["small", system, task, split, metric, value, seed, 100, 1e6, 1.0]
                for system, task, split, metric, values in lines
                for seed, value in enumerate(values)
            ],
            columns=RESULTS,
        ).assign(seed=lambda frame: frame["seed"].where(frame["system"] != "mt-dnn-ensemble"))

    return make
