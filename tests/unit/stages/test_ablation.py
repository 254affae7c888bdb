"""What a variant reads, and what its runs are."""

import pytest
from integration.stages.small import MKD, small

from mtkd.config.training import Combine, Train
from mtkd.errors import UserError
from mtkd.report.sections.ablation import describe
from mtkd.stages import ablation, all_runs, mkd, mtdnn
from mtkd.stages.common import Run

SELF = {"source": "self_distillation"}
NAMED = ("same", "uncertain", "plain")


def run_of(variant: str, seed: int = 0) -> Run:
    return Run(ablation.NAME, variant=variant, seed=seed)


def parents(study, variant, seed=0) -> list[str]:
    return [run.name for run in ablation.parents(study, run_of(variant, seed))]


def test_a_variant_reads_the_teachers_of_its_tasks():
    study = small("seeds=[0, 1]", kl={"loss": "kl"}, one={"teachers": ["mrpc"]})
    encoder = "01_pretrain.uncased"
    assert parents(study, "kl") == [encoder, "03_teacher.rte", "03_teacher.stsb"]
    assert parents(study, "kl", seed=1) == parents(study, "kl")
    assert parents(study, "one") == [encoder, "03_teacher.mrpc"]


def test_soft_targets_of_other_sources_are_made_by_the_first_seed():
    folds = {"source": "cross_fit", "folds": 3}
    study = small(
        "seeds=[3, 1]", "candidates.seeds=[3, 4]", folds=folds, self={**SELF, "generations": 1}
    )
    candidates = [mtdnn.candidate_run(one).name for one in study.candidate_models]
    assert parents(study, "folds", 3) == ["01_pretrain.uncased", "01_pretrain.cased", *candidates]
    baseline = mtdnn.baseline_run(study, 3)
    assert parents(study, "self", 3) == ["01_pretrain.uncased", baseline.name]
    for name in ("folds", "self"):
        assert parents(study, name, 1) == ["01_pretrain.uncased", run_of(name, 3).name]
    assert baseline in all_runs(study)


def test_a_second_generation_learns_from_the_first_with_the_candidates_seed():
    study = small(
        "seeds=[1, 2]",
        "candidates.seeds=[2, 7]",
        second={**SELF, "generations": 2, "loss": "kl"},
        first={**SELF, "generations": 1, "loss": "kl"},
    )
    assert parents(study, "second", 1) == ["01_pretrain.uncased", "06_ablation.first-s2"]
    names = [run.label for run in ablation.runs(study)]
    assert sorted(names) == ["first-s1", "first-s2", "second-s1", "second-s2"]
    for run in ablation.runs(study):
        earlier = names[: names.index(run.label)]
        above = [one.label for one in ablation.parents(study, run) if one.stage == ablation.NAME]
        assert set(above) <= set(earlier)
    alone = {"second": {**SELF, "generations": 2}, "first": {**SELF, "generations": 1, "epochs": 9}}
    with pytest.raises(UserError, match=r"second: generations: 2 learns from a student"):
        parents(small(**alone), "second")


def test_steps_of_a_variant():
    study = small(
        "seeds=[0, 1]",
        plain={"hard_weight": 0.1},
        long={"epochs": 3},
        folds={"source": "cross_fit", "folds": 3, "ensemble_size": 1},
        self={**SELF, "generations": 1},
    )
    multitask = 3 * 2  # 40 examples of three tasks in batches of 32
    members = 2 * 2  # fine-tuned on the two tasks with a teacher, one epoch
    steps = {run.label: ablation.steps(study, run) for run in ablation.runs(study)}
    assert steps["plain-s0"] == steps["plain-s1"] == multitask
    assert steps["long-s0"] == 3 * multitask
    assert steps["folds-s0"] == multitask + 3 * (multitask + members)
    assert steps["folds-s1"] == multitask
    assert steps["self-s0"] == steps["self-s1"] == multitask


def test_a_variant_combines_tasks_in_its_own_way():
    uncertain, both = {"task_weights": "uncertainty"}, Combine(regression_weight=0.5)
    study = small(
        "train.combine={regression_weight: 0.5}",
        same={"hard_weight": 0.5},
        uncertain={"combine": uncertain},
        plain={"combine": {}, "epochs": 3},
    )
    settings = {name: ablation.training_of(study, run_of(name)).train for name in NAMED}
    assert settings["same"] == study.train and study.train.combine == both
    assert settings["uncertain"].combine == Combine(**uncertain)
    assert settings["plain"] == study.train.model_copy(update={"combine": Combine(), "epochs": 3})
    found = {name: ablation.depends(study, run_of(name))["train"] for name in NAMED}
    assert found["uncertain"]["combine"]["task_weights"] == "uncertainty"
    assert "combine" not in found["plain"], "artifacts of Algorithm 1 are those of earlier versions"
    described = {name: describe(variant) for name, variant in study.ablation.variants.items()}
    assert described["uncertain"] == "combine: task weights: uncertainty"
    assert described["plain"] == "epochs: 3; combine: none"


def test_only_multi_task_training_combines_tasks():
    study = small("train.combine={task_weights: uncertainty}", MKD)
    assert mtdnn.depends(study, mtdnn.baseline_run(study, 0))["train"]["combine"]
    tuned = [study.finetuning, study.finetuning_of("bert"), study.member_finetuning]
    assert all(settings.combine == Combine() for settings in tuned)
    how = {"train": Train(combine=Combine(batches_per_update=2)), "finetune": study.finetune}
    study = study.model_copy(update={"mkd": study.mkd.model_copy(update=how)})
    for training in mkd.trainings(study, "transformer"):
        joint = training.part.endswith("/all")
        assert training.settings.combine.batches_per_update == (2 if joint else 1), training.part


def test_a_variant_that_is_none_is_refused():
    with pytest.raises(UserError, match="Study small has no variant 'y': its variants are x"):
        ablation.run(small(x={"loss": "kl"}), "y", 0)
    with pytest.raises(UserError, match="Study small has no section 'ablation'"):
        ablation.run(small(), "x", 0)
