"""A ranking beside the classification of its candidates, in every training from MT-DNN on."""

import numpy as np
import pytest
from integration.stages.small import small

from mtkd.inference.export import export
from mtkd.inference.load import load_model
from mtkd.report.predictions import FILE, read_predictions
from mtkd.stages import Run, load_all, parents, report
from mtkd.stages.inputs import Inputs
from mtkd.training.soft_targets import Fold

pytestmark = pytest.mark.usefixtures("work")
QUESTIONS = 16  # on dev: one in five of 20 has a single candidate


@pytest.fixture(scope="module")
def study(ranking_task):
    return small(
        *("name=ranked", *ranking_task, "tasks=[answers]", "candidates.select_on=[answers]"),
        *("ranking=[]", "rank_in_multitask=[answers]", "distil.teachers=[answers]"),
        "data.max_train=120",
        "train={epochs: 3, learning_rate: 2.0e-3, optimizer: adamw}",
    )


@pytest.fixture(scope="module")
def made(study):
    return report.run(study)


def test_all_systems_are_scored_over_questions_and_outside_the_average(study, made):
    rows = made.results[made.results.task == "answers_ranked"]
    systems = {"bert", "mt-dnn", "mt-dnn:mtl", "mt-dnn-kd", "mt-dnn-kd:mtl", "mt-dnn-ensemble"}
    assert set(rows.system) == systems
    assert set(rows.n) == {QUESTIONS} and set(rows.metric) == {"top", "mrr"}
    assert rows[rows.system == "mt-dnn-kd:mtl"].value.min() > 80
    compared = made.compared.of("mt-dnn-kd", "mt-dnn")
    assert compared.loc["answers_ranked", "examples"] == QUESTIONS
    assert compared.loc["average", "examples"] == compared.loc["answers", "examples"]
    assert "answers as ranking top/MRR" in made.tables["table3"].frame


def test_an_ensemble_s_distribution_is_over_the_candidates_of_a_question(study, made):
    this = Run("03_teacher", task="answers_ranked")
    artifact = load_all(study, [this])[this]
    assert this in parents(study, Run("04_student", seed=0))
    frame = artifact.frame("predictions.parquet")
    outputs = frame.assign(p=np.stack(frame.outputs)[:, 0])
    assert outputs.groupby("idx").p.sum().to_numpy() == pytest.approx(np.ones(QUESTIONS))
    soft = artifact.frame("soft_targets.parquet")
    inputs = Inputs(study, Run("04_student", seed=0))
    train_set = inputs.train_set("uncased", study.task("answers_ranked"))
    assert soft.idx.tolist() == train_set.idx.tolist() and soft.shape[1] == 3
    assert len(artifact.frame("confidence.parquet")) == 0


def test_predictions_are_read_back_and_a_model_ranks_texts(study, made, work):
    path, ranked = work / "reports" / "ranked" / FILE, study.task("answers_ranked")
    this = Run("04_student", seed=0)
    frame = load_all(study, [this])[this].frame("predictions.parquet")
    tasks = [study.task(name) for name in ("answers", "answers_ranked")]
    again = {system: part for system, _, part in read_predictions(path, tasks, frame)}
    before, after = (
        np.stack(part[part.task == ranked.name].sort_values("idx", kind="stable").outputs)
        for part in (frame, again["mt-dnn-kd:mtl"])
    )
    assert np.array_equal(before, after)
    model = load_model(str(this.folder(study)), "answers_ranked")
    assert model.task == ranked
    texts = [("small bird", f"the old {words} dog") for words in ("river sees", "house hears")]
    first, second = model.predict(texts, ranked.name)["score"]
    assert first > second
    assert [split for split, _ in model.dev_sets()] == ["validation"]


def test_an_exported_model_ranks_as_the_study_s(study, made, tmp_path):
    folder = Run("04_student", seed=0).folder(study)
    table = export(load_model(str(folder), "answers_ranked"), tmp_path / "mine").set_index(
        "variant"
    )
    scores = made.results.set_index(["task", "system", "metric"])["value"]["answers_ranked"]
    for metric in ("top", "mrr"):
        values = set(table[f"{metric}, validation"].round(2))
        assert values == {round(scores["mt-dnn-kd:mtl", metric], 2)}
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "# mine\n\nanswers as ranking (query, text)" in card
    assert (
        "The logit is a candidate's score" in card and "- Tasks: answers, answers_ranked." in card
    )


def test_a_question_is_in_one_fold_of_both_tasks(study, made):
    inputs = Inputs(study, Run("02_mtdnn", encoder="uncased", dropout=0.1, seed=0))
    answers, ranked = study.task("answers"), study.task("answers_ranked")
    whole, seen = inputs.train_set("uncased", ranked), []
    for number in range(3):
        fold = Fold(number, 3, ("answers",), seed=0)
        held = inputs.train_set("uncased", ranked, fold, inside=True)
        assert set(held.idx) <= set(inputs.train_set("uncased", answers, fold, inside=True).idx)
        rest = inputs.train_set("uncased", ranked, fold)
        assert not set(held.idx) & set(rest.idx)
        assert len(held) + len(rest) == len(whole)
        seen += held.idx.tolist()
    assert sorted(seen) == sorted(whole.idx)
