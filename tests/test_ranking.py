"""Ranking of a question's candidates: loss, batches and merging by hand, own tasks of that type, the stage and the report."""

import json
import os
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import some_examples
from torch.nn import functional as F

from mtkd import tasks
from mtkd.config import study as studies
from mtkd.data import custom as files
from mtkd.data.sampler import plan_epoch
from mtkd.errors import UserError
from mtkd.inference import glue_submission as submission
from mtkd.report.sections import ranking as report
from mtkd.stages import ranking
from mtkd.stages import report as summary
from mtkd.training.loop import plan as plan_of
from mtkd.training.losses import ranking_loss
from mtkd.workflow import jobs as plan
from mtkd.workflow import notebook as notebooks

TINY = Path(__file__).parent / "studies" / "tiny.yaml"
QNLI = tasks.get("qnli")


def test_the_loss_is_a_softmax_over_each_question_s_candidates():
    scores = torch.tensor([1.0, 5.0, -2.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    groups, labels = (
        torch.tensor([7, 2, 7, 7, 2]),
        torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0]),
    )  # QNLI: 0 is right
    wanted = (
        F.cross_entropy(scores[[0, 2, 3]][None], torch.tensor([0]))
        + F.cross_entropy(scores[[1, 4]][None], torch.tensor([1]))
    ) / 2
    assert ranking_loss(QNLI, scores, labels, groups).item() == pytest.approx(wanted.item())
    torch.testing.assert_close(
        *(
            torch.autograd.grad(loss, scores)[0]
            for loss in (ranking_loss(QNLI, scores, labels, groups), wanted)
        )
    )
    assert torch.isfinite(ranking_loss(QNLI, scores.detach() * 1e4, labels, groups))


def test_a_batch_holds_whole_questions_and_every_one_once():
    groups = np.array([3, 1, 3, 0, 1, 2, 0, 2, 2, 4, 4])
    lengths = {"qnli": np.arange(11) + 5, "rte": np.arange(20) + 5}
    found = plan_epoch(lengths, batch_size=4, seed=0, epoch=0, groups={"qnli": groups})
    ranked = [rows for task, rows in found if task == "qnli"]
    assert sorted(np.concatenate(ranked)) == list(range(11)) and len(ranked) == 3
    for rows in ranked:
        assert all(
            (groups == group).sum() == (groups[rows] == group).sum() for group in groups[rows]
        )
    assert sum(task == "rte" for task, _ in found) == 5
    again = plan_epoch(lengths, batch_size=4, seed=0, epoch=0, groups={"qnli": groups})
    assert all(
        np.array_equal(one, other) for (_, one), (_, other) in zip(found, again, strict=True)
    )
    examples = some_examples(QNLI, 8)
    examples.group_ids = np.repeat(np.arange(4), 2)
    batch = examples.batch(plan_of({"qnli": examples}, studies.Train(batch_size=4), 0, 0)[0][1])
    assert (
        batch.group_ids.bincount().max() == 2
        and len(batch.group_ids) == 4
        and examples.part(np.array([5, 1])).groups.tolist() == [2, 0]
    )


def test_what_is_ranked_and_how_answers_are_merged():
    groups = np.array([0, 0, 1, 2, 2, 3, 3, 3])
    right = np.array([True, False, True, True, True, False, True, False])
    assert ranking.rankable(groups, right).tolist() == [
        True,
        True,
        False,
        False,
        False,
        True,
        True,
        True,
    ]
    within = ranking.within(groups, np.array([0.0, np.log(3), 9, 1, 1, 1000.0, 1000, 1000]))
    assert within == pytest.approx([0.25, 0.75, 1, 0.5, 0.5, 1 / 3, 1 / 3, 1 / 3])
    classified = np.stack([np.full(8, 0.6), np.full(8, 0.4)], axis=1)
    both = ranking.merged(QNLI, groups, classified, within)
    assert both[:, 0] == pytest.approx(
        [0.425, 0.675, 0.6, 0.55, 0.55, *[(0.6 + 1 / 3) / 2] * 3]
    )  # a lone candidate stays as it was
    assert both.sum(axis=1) == pytest.approx(np.ones(8))
    assert ranking.merged(ranking.replace(QNLI, right=1), groups, classified, within)[
        :, 1
    ] == pytest.approx([0.325, 0.575, 0.4, 0.45, 0.45, *[(0.4 + 1 / 3) / 2] * 3])
    assert ranking.ranks(groups[5:], np.array([0.5, 0.5, 0.9]), right[5:]).tolist() == [
        3
    ]  # a tie does not count as ahead
    rows = pd.DataFrame(
        ranking.scores(QNLI, groups, np.where(right, 0, 1), classified, within)
    ).set_index(["way", "metric"])
    assert rows.value["ranking", "top"] == 0 and rows.value["ranking", "mrr"] == pytest.approx(
        100 * (1 / 2 + 1 / 3) / 2, abs=1e-3
    )
    assert (
        rows.n["ranking", "top"] == 2
        and rows.n["merged", "accuracy"] == 8
        and ("ranking", "accuracy") not in rows.index
    )


def write(folder: Path, name: str, count: int, seed: int) -> str:
    """Questions with two or three candidates, the right one marked by a word, and some with a single candidate."""
    random, lines = np.random.default_rng(seed), []
    for number in range(count):
        size = 1 if number % 5 == 4 else random.integers(2, 4)
        good = random.integers(size)
        words = ["river sees" if place == good else "house hears" for place in range(size)]
        lines += [
            {
                "query": f"small bird {seed} {number}",
                "text": f"the old {found} dog {place}",
                "label": int(place == good),
            }
            for place, found in enumerate(words)
        ]
    path = folder / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Overrides that make the tiny study one of RTE and an own task of candidates."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("ranking")
        for name in [name for name in os.environ if name.startswith("MTKD_")]:
            patch.delenv(name)
        patch.setenv("MTKD_WORK", str(folder / "artifacts"))
        task = {
            "type": "ranking",
            "train": write(folder, "t.jsonl", 60, 0),
            "dev": write(folder, "d.jsonl", 20, 1),
            "columns": ["query", "text"],
        }
        yield [
            f"own_tasks={{answers: {json.dumps(task)}}}",
            "tasks=[rte, answers]",
            "exclude_from_multitask=[]",
            "ranking=[answers]",
            "mkd=null",
            "candidates={dropouts: [0.1], ensemble_size: 1, select_on: [rte]}",
            "distil.teachers=[rte]",
            "train.epochs=1",
            "finetune={epochs: 4, learning_rate: 2.0e-3}",
        ]


def test_an_own_ranking_has_two_labels_and_its_queries_stay_together(own, tmp_path):
    task = studies.load(TINY, own).task("answers")
    assert (task.kind, task.labels, task.positive_label, task.metrics) == (
        "ranking",
        ("0", "1"),
        1,
        ("accuracy",),
    )
    for change, words in {
        "labels: [a, b, c]": "a ranking has two",
        "metrics: [spearman]": "does not measure type ranking",
    }.items():
        with pytest.raises(UserError, match=words):
            studies.load(
                TINY,
                [
                    f"own_tasks={{mine: {{type: ranking, train: t.csv, dev: 0.2, columns: [q, a], {change}}}}}"
                ],
            )
    study = studies.load(TINY, [*own, "own_tasks.answers.dev=0.25"])
    found = files.read(study, "answers", tmp_path)
    train, dev = (set(found[split]["query"]) for split in ("train", "validation"))
    assert len(dev) == 15 and len(train) == 45 and not train & dev


def test_same_numbers_rows_with_the_same_text():
    split = datasets.Dataset.from_dict({"q": ["b", "a", "b", "c", "a"]})
    found = files.same(split, "q")
    assert found[0] == found[2] and found[1] == found[4] and set(found.tolist()) == {0, 1, 2}


def test_the_settings_are_checked(own):
    for change, words in {
        "ranking=[rte]": "ranking.0: RTE has no candidates",
        "ranking=[qnli]": "ranking.0: QNLI has no candidates",
        "ranking=[x]": "unknown task",
    }.items():
        with pytest.raises(UserError, match=words):
            studies.load(TINY, [*own, change])
    with pytest.raises(
        UserError, match="Study quick ranks no task: name some in its field ranking"
    ):
        ranking.ranking(studies.load("quick"), "bert", 0)
    with pytest.raises(
        UserError, match=r"QNLI: no question of its .* train examples has several candidates"
    ):
        ranking.ranking(studies.load(TINY, ["ranking=[qnli]"]), "bert", 0)


def test_the_stage_learns_to_rank_and_merges_every_split(own):
    study = studies.load(TINY, own)
    (found,) = ranking.ranking(study, "mt-dnn", 0)
    rows = found.frame("rankings.csv").set_index(["way", "metric"])
    assert (
        rows.value["ranking", "top"] > 80 and rows.n["ranking", "top"] == 16
    )  # four of five questions have candidates to choose from
    assert set(rows.index) == {
        (way, metric) for way in ranking.WAYS for metric in ("accuracy", "top", "mrr")
    } - {("ranking", "accuracy")}
    predictions = found.frame("predictions.parquet")
    outputs = np.stack(predictions.outputs)
    assert set(predictions.split) == {"validation"} and outputs.sum(axis=1) == pytest.approx(
        np.ones(len(outputs))
    )
    assert 100 * (outputs.argmax(axis=1) == predictions.label).mean() == pytest.approx(
        rows.value["merged", "accuracy"], abs=1e-3
    )
    assert [run.fingerprint for run in ranking.ranking(study, "mt-dnn", 0)] == [found.fingerprint]


def test_the_notebook_runs(own, tmp_path):
    given = {"study": str(TINY), "overrides": "; ".join(own), "system": "mt-dnn", "seed": 0}
    notebooks.run("06_ranking", tmp_path / "out.ipynb", given, tmp_path / "log")
    text = (tmp_path / "out.ipynb").read_text()
    assert "right first" in text and "Train loss by epoch" in text
    assert (
        "MTKD_LOG" not in os.environ
    )  # or what this process starts next, such as a JupyterLab, would show no bars and boxes


def test_a_submission_takes_the_merged_answers(own, monkeypatch, tmp_path):
    asked = []

    def read(path):
        asked.append(path.parts[-4:])
        raise UserError("enough")

    monkeypatch.setattr(submission, "read", read)
    monkeypatch.setattr(
        submission, "FILES", [file for file in submission.FILES if file.task == "qnli"]
    )
    for changes, stage in ((["ranking=[qnli]"], "ranking"), ([], "finetune")):
        study = studies.load(
            TINY,
            ["tasks=[qnli, mnli, rte, qqp]", "exclude_from_multitask=[]", "mkd=null", *changes],
        )
        with pytest.raises(UserError, match="enough"):
            submission.submit(study, "bert", tmp_path / "out.zip")
        assert asked[-1] == (stage, "bert", "s0", "qnli")


def made(gain: float, seeds: int = 3) -> pd.DataFrame:
    rows = [
        [
            "t",
            system,
            "qnli",
            "validation",
            way,
            metric,
            60 + seed + gain * (way == "merged"),
            seed,
            40 if metric == "top" else 100,
        ]
        for system in plan.SYSTEMS
        for seed in range(seeds)
        for way in ranking.WAYS
        for metric in ("accuracy", "top", "mrr")
        if (way, metric) != ("ranking", "accuracy")
    ]
    return pd.DataFrame(rows, columns=ranking.COLUMNS)


def test_the_reports_part_says_what_merging_adds():
    text = report.finding(made(2.5))
    assert (
        "**QNLI: merged with ranking, classification's accuracy goes from 61.0 to 63.5 percent"
        in text
    )
    assert "+2.5 (+2.5 to +2.5) points for MT-DNN_KD" in text and "over 3 seeds" in text
    assert "one seed: chance is not ruled out" in report.finding(made(1.0, seeds=1))
    table = report.table(made(2.5))
    assert list(table.frame.columns) == [
        "Task",
        "System",
        "accuracy, classification",
        "accuracy, merged",
        "right first, classification",
        "right first, ranking",
        "right first, merged",
        "MRR, classification",
        "MRR, ranking",
        "MRR, merged",
    ]
    assert (
        table.frame["accuracy, merged"].iloc[0] == "63.5 ± 1.0" and "(QNLI: 40)" in table.notes[1]
    )
    shown = report.part(made(2.5))._repr_html_()
    assert "<h2>Questions and candidates, ranked</h2>" in shown and "**" not in shown
    assert report.part(None)._repr_html_() == "" and report.write_tables(None) == []


def test_the_report_has_rankings_beside_the_results(own, monkeypatch, tmp_path):
    monkeypatch.setenv("MTKD_REPORTS", str(tmp_path))
    found = summary.report(studies.load(TINY, [*own, "seeds=[0]"]))
    assert set(found.ranking["way"]) == set(ranking.WAYS) and set(found.ranking["system"]) == set(
        plan.SYSTEMS
    )
    assert not {"top", "mrr"} & set(found.results["metric"]) and found.run["seconds"]["ranking"] > 0
    assert list(pd.read_csv(found.folder / "ranking.csv").columns) == ranking.COLUMNS
    assert "| answers | MT-DNN_KD |" in (found.folder / "tables" / "ranking.md").read_text()
    assert "merged with ranking" in (found.folder / "finding.md").read_text()
