"""What derives from the stages' functions: order, names and keys of runs."""

import pytest
from helpers import ROOT
from integration.stages.small import ADAPTATION, MKD, small

from mtkd.config.study import load
from mtkd.errors import UserError
from mtkd.stages import Run, all_runs, find_run, keys, parents, stages, steps

MAIN = ["00_data", "01_pretrain", "02_mtdnn", "03_teacher", "04_student", "05_finetune"]
STAGES = [*MAIN, "06_ablation", "07_adaptation", "08_ranking", "09_mkd", "10_serving", "11_report"]
FROM = {name: set(STAGES[number:]) for number, name in enumerate(STAGES)}
CROSS_FIT = {"source": "cross_fit", "folds": 2}


def full(*overrides: str):
    """Return a study with every stage."""
    tasks = ["tasks=[rte, stsb, qnli]", "ranking=[qnli]"]
    variants = {"kl": {"loss": "kl"}, "folds": CROSS_FIT}
    return small(*tasks, MKD, ADAPTATION, *overrides, **variants)


def test_bert_may_be_fine_tuned_otherwise_than_the_systems_that_start_from_mt_dnn():
    study = small("bert.epochs=3", "bert.learning_rate=0.5", "finetune.epochs=2")
    bert, other = (study.finetuning_of(system) for system in ("bert", "mt-dnn"))
    assert (bert.epochs, bert.learning_rate, other.epochs) == (3, 0.5, 2)
    assert other == study.finetuning
    runs = [Run("05_finetune", system=system, seed=0) for system in ("bert", "mt-dnn")]
    assert 2 * steps(study, runs[0]) == 3 * steps(study, runs[1])


def test_stages_are_in_the_notebooks_order():
    assert [name for name in stages() if name in STAGES] == STAGES
    assert {run.stage for run in all_runs(full())} == set(STAGES)


@pytest.mark.parametrize("study", [*ROOT.glob("studies/*.yaml"), None])
def test_parents_come_before_children(study, monkeypatch):
    monkeypatch.setenv("MTKD_PRETRAIN_TEXT", __file__)
    study = load(study) if study else full("seeds=[0, 1]", "mkd.teacher=ensemble")
    runs = all_runs(study)
    assert len(set(runs)) == len(runs) == len({run.name for run in runs})
    for number, run in enumerate(runs):
        assert set(parents(study, run)) <= set(runs[:number]), run.name


def test_names_and_parameters_of_runs():
    study = small()
    run = find_run(study, "02_mtdnn.uncased-0.1-s0")
    assert run == Run("02_mtdnn", encoder="uncased", dropout=0.1, seed=0)
    assert run.parameters == {"encoder": "uncased", "dropout": 0.1, "seed": 0}
    assert run.dropout == 0.1 and run.label == "uncased-0.1-s0"
    assert run.folder(study).parts[-3:] == ("small", "02_mtdnn", "uncased-0.1-s0")
    assert run.part_folder(study, "a/b").parts[-3:] == ("uncased-0.1-s0.parts", "a", "b")
    data = find_run(study, "00_data")
    assert data.name == "00_data" and data.folder(study).parts[-2:] == ("small", "00_data")
    with pytest.raises(AttributeError):
        _ = run.task
    with pytest.raises(UserError, match=r"no run '02_mtdnn\.s9': its runs are 00_data, 01_"):
        find_run(study, "02_mtdnn.s9")


MTDNN = FROM["02_mtdnn"]
TEACHER = FROM["03_teacher"]
END = {"10_serving", "11_report"}


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("data.seed=1", FROM["00_data"]),
        ("data.max_train=30", FROM["00_data"]),
        ("data.scale=0.3", FROM["00_data"]),
        ("data.max_length=40", FROM["01_pretrain"]),
        ("encoders.uncased.pretrain.layers=2", FROM["01_pretrain"]),
        ("encoders.uncased.pretrain.checkpoint_seconds=9", set()),
        ("train.epochs=2", MTDNN),
        ("train.learning_rate=0.01", MTDNN),
        ("train.checkpoint_seconds=9", set()),
        ("model.pooling=mean", MTDNN),
        ("model.heads={rte: san}", MTDNN),
        ("model.heads={rte: linear}", set()),
        ("model.encoder_dropout=0.3", FROM["04_student"]),
        ("rank_in_multitask=[qnli]", FROM["01_pretrain"]),
        ("finetune.epochs=2", TEACHER - {"09_mkd"}),
        ("finetune.new_head=true", {"05_finetune", "08_ranking", *END}),
        ("bert.epochs=2", {"05_finetune", "08_ranking", *END}),
        ("candidates.ensemble_size=1", TEACHER - {"09_mkd"}),
        ("candidates.epochs=3", TEACHER - {"09_mkd"}),
        ("candidates.new_head=false", TEACHER - {"09_mkd"}),
        ("distil.hard_weight=0.3", FROM["04_student"] - {"09_mkd"}),
        ("distil.temperature=2", FROM["04_student"] - {"09_mkd"}),
        ("test_predictions=[bert]", {"05_finetune", "08_ranking", *END}),
        ("ablation.variants.kl.hard_weight=0.3", {"06_ablation", *END}),
        ("ablation.variants.folds.folds=3", {"06_ablation", *END}),
        ("adaptation.fractions=[0.5]", {"07_adaptation", *END}),
        ("adaptation.train.epochs=7", {"07_adaptation", *END}),
        ("adaptation.max_dev=20", {"07_adaptation", *END}),
        ("mkd.train.epochs=2", {"09_mkd", *END}),
        ("mkd.hard_weight=0.1", {"09_mkd", *END}),
        ("mkd.students.lstm.hidden=8", {"09_mkd", *END}),
        ("mkd.serving.rounds=2", END),
        ("threads=2", END),
    ],
)
def test_a_setting_changes_the_keys_of_the_stages_that_depend_on_it(override, changed):
    before, after = keys(full()), keys(full(override))
    stages_of = {run.stage for run in before if after.get(run) != before[run]}
    assert stages_of - {"11_report"} == changed - {"11_report"}


def test_a_system_before_the_student_has_keys_without_distillation():
    before, after = keys(full()), keys(full("distil.hard_weight=0.3"))
    for stage in ("05_finetune", "07_adaptation", "08_ranking"):
        changed = {run.system for run in before if run.stage == stage and after[run] != before[run]}
        assert changed == {"mt-dnn-kd"}


def test_a_notebook_s_text_and_the_place_of_snli_are_part_of_a_key(tmp_path, monkeypatch):
    before = keys(full())
    (tmp_path / "05_finetune.ipynb").write_text("{}")
    monkeypatch.setenv("MTKD_NOTEBOOKS", str(tmp_path))
    after = keys(full())
    assert (
        before[Run("05_finetune", system="bert", seed=0)]
        != after[Run("05_finetune", system="bert", seed=0)]
    )
    monkeypatch.undo()
    monkeypatch.setenv("MTKD_SNLI", str(tmp_path))
    after = keys(full())
    assert {run.stage for run in before if before[run] != after[run]} - {"11_report"} == {
        "07_adaptation",
        "10_serving",
    }
