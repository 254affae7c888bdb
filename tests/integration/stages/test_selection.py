"""Candidates compared on train examples that are left out, and not on dev sets."""

import pytest
from integration.stages.small import small

from mtkd.data.glue import left_out_train
from mtkd.errors import UserError
from mtkd.stages import data, mtdnn, report, teacher
from mtkd.stages.common import Run, load
from mtkd.stages.ensemble import best_candidates, rank_candidates
from mtkd.stages.inputs import Inputs
from mtkd.tasks import SELECTION

pytestmark = pytest.mark.usefixtures("work")
SELECTED = ["name=selected", "candidates.selection_examples=6", "candidates.seeds=[0, 4]"]


def rows_of(split, task) -> set[tuple]:
    columns = [split[name] for name in task.columns]
    return set(zip(*columns, strict=True))


def test_the_first_examples_that_are_left_out_are_selected_on(tmp_path):
    study = small(*SELECTED)
    made, rte = load(study, Run(data.NAME)), study.task("rte")
    splits = data.read_splits(made, rte)
    left = left_out_train(study.data, rte, 1000)
    assert splits[SELECTION]["idx"] == left["idx"][:6] and len(left) == 10
    assert not set(splits[SELECTION]["idx"]) & set(splits["train"]["idx"])
    assert SELECTION not in data.read_splits(made, study.task("mrpc"))
    texts = teacher.unlabelled_texts(
        *(study, rte, teacher.Unlabelled(left_out_train=3)),
        *(lambda name: data.read_splits(made, study.task(name)), tmp_path),
    )
    assert texts["sentence1"] == left["sentence1"][6:9]
    every = teacher.unlabelled_texts(
        *(study, rte, teacher.Unlabelled(left_out_train=1000)),
        *(lambda name: data.read_splits(made, study.task(name)), tmp_path),
    )
    assert rows_of(every, rte) == rows_of(left.select(range(6, 10)), rte)


def test_a_task_with_too_few_examples_left_out_is_refused():
    study = small("name=refused", "candidates.selection_examples=11")
    message = "RTE has 10 train examples beyond data.max_train, and .* asks for 11: lower one"
    with pytest.raises(UserError, match=message):
        data.run(study)


@pytest.mark.slow
def test_candidates_are_ranked_by_the_selection_split_alone():
    study = small(*SELECTED, "candidates.ensemble_size=1", small_one={"ensemble_size": 2})
    inputs = Inputs(study, Run(teacher.NAME, task="rte"))
    ranked = rank_candidates(inputs)
    names = [candidate.name for candidate in study.candidate_models]
    assert sorted(ranked.candidate) == sorted(names) and len(names) == 4
    for row in ranked.itertuples():
        scores = inputs[mtdnn.candidate_run(*best_candidates(ranked[row.Index :], 1))]
        scores = scores.frame("scores.csv").set_index(["task", "split"]).value
        assert row.rte == scores["rte", SELECTION]
        assert (("stsb", SELECTION) in scores.index) is False
    artifact = teacher.run(study, "rte")
    assert artifact.frame("selection.csv").equals(ranked)
    # The members of the largest ensemble are fine-tuned, each with its candidate's seed.
    members = artifact.frame("members.csv")
    tuned = members[["candidate", "seed"]].drop_duplicates()
    assert [tuple(row) for row in tuned.to_numpy()] == [
        (one.name, one.seed) for one in best_candidates(ranked, 2)
    ]
    assert set(members.split) == set(artifact.frame("scores.csv").split) == {"validation"}
    shown = report._candidates(study, Inputs(study, Run(report.NAME)))
    assert list(shown.system.unique()) == [
        *(f"candidate/{name}" for name in ranked.candidate[:2]),
        *(f"candidate/{name}:mtl" for name in ranked.candidate),
    ]
    assert set(shown.study) == {"selected"}
    seeds = shown.groupby("system").seed.unique().map(list)
    assert all(system.partition(":")[0].endswith(f"-s{seed}") for system, (seed,) in seeds.items())
