"""A ranking head beside classification, on a custom task of questions and candidates."""

import numpy as np
import pytest
from integration.stages.small import small

from mtkd.errors import UserError
from mtkd.report.sections.ranking import section
from mtkd.stages import ranking
from mtkd.stages.common import Run

pytestmark = pytest.mark.usefixtures("work")


def test_the_head_learns_to_rank_and_every_split_is_merged(ranking_task):
    study = small("name=ranking", "finetune={epochs: 4, learning_rate: 2.0e-3}", *ranking_task)
    artifact = ranking.run(study, "mt-dnn", 0)
    frame = artifact.frame("rankings.csv")
    assert list(frame.columns) == ranking.COLUMNS
    assert set(frame.system) == {"mt-dnn"} and set(frame.task) == {"answers"}
    rows = frame.set_index(["way", "metric"])
    assert rows.value["ranking", "top"] > 80
    assert rows.n["ranking", "top"] == 16, "one question in five has a single candidate"
    every = {(way, metric) for way in ranking.WAYS for metric in ("accuracy", "top", "mrr")}
    assert set(rows.index) == every - {("ranking", "accuracy")}
    predictions = artifact.frame("predictions.parquet")
    outputs = np.stack(predictions.outputs)
    assert set(predictions.split) == {"validation"}
    assert outputs.sum(axis=1) == pytest.approx(np.ones(len(outputs)))
    accuracy = 100 * (outputs.argmax(axis=1) == predictions.label).mean()
    assert accuracy == pytest.approx(rows.value["merged", "accuracy"], abs=1e-3)
    classified = 100 * (np.stack(predictions.classified).argmax(axis=1) == predictions.label).mean()
    assert classified == pytest.approx(rows.value["classification", "accuracy"], abs=1e-3)
    assert "scores.csv" not in artifact.record["files"]
    assert ranking.run(study, "mt-dnn", 0).fingerprint == artifact.fingerprint
    run = Run(ranking.NAME, system="mt-dnn", seed=0)
    (sentence,) = section(study, None, lambda name: {run: artifact}).finding()
    gain = rows.value["merged", "accuracy"] - rows.value["classification", "accuracy"]
    shown = f"{gain:+.1f}" if round(gain, 1) else "0.0"
    assert f"{shown.replace('-', '−')} (" in sentence and "points for MT-DNN (" in sentence


def test_a_sample_that_leaves_no_question_to_rank_is_refused():
    study = small(
        "name=few",
        "tasks=[rte, qnli]",
        "data.max_train=16",
        "distil.teachers=[rte]",
        "ranking=[qnli]",
    )
    with pytest.raises(UserError, match=r"QNLI: no question of its 16 examples has several"):
        ranking.run(study, "bert", 0)
