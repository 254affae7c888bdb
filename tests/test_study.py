"""Studies: the files of studies/, section 4.1's list, what a bad one is told, and the jobs that follow from one."""

import os
from collections import Counter

import pytest
import torch
from helpers import ROOT, study
from pydantic import ValidationError

from mtkd.config.distillation import Distil
from mtkd.config.study import Study, load
from mtkd.config.training import Candidates, Train
from mtkd.errors import UserError
from mtkd.training.loop import optimizer_of
from mtkd.workflow import jobs as plan

FILES = sorted((ROOT / "studies").glob("*.yaml"))
STAGES = (
    "00_data",
    "01_pretrain",
    "02_mtdnn",
    "03_teacher",
    "04_student",
    "05_finetune",
    "07_report",
)


@pytest.fixture(autouse=True)
def places(monkeypatch):
    """The checkout's own studies, and none of the places that an environment may name."""
    for name in [name for name in os.environ if name.startswith("MTKD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MTKD_STUDIES", str(ROOT / "studies"))


@pytest.fixture
def written(tmp_path):
    """Writes a study file and gives its path; it holds one encoder unless the text has some."""

    def write(text: str, name: str = "mine"):
        path = tmp_path / f"{name}.yaml"
        more = (
            ""
            if "encoders" in text
            else "encoders: {uncased: {checkpoint: some/bert}, cased: {checkpoint: some/bert-cased}}\n"
        )
        path.write_text(more + text)
        return path

    return write


def refusal(path, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load(path, list(overrides))
    return str(error.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_of_the_checkout_loads_and_has_jobs(path):
    found = load(path.stem)
    assert found.name == path.stem
    assert found == load(path)
    names = [job.name for job in plan.jobs(found)]
    assert len(set(names)) == len(names)
    wanted = {
        *STAGES,
        *(["06_mkd", "06_serving"] if found.mkd else []),
        *(["06_adaptation"] if found.adaptation else []),
        *(["06_ablation"] if found.ablation else []),
        *(["06_ranking"] if found.ranking else []),
    }
    assert {job.notebook for job in plan.jobs(found)} == wanted


def test_the_four_studies_are_there():
    assert {"quick", "laptop", "base", "paper"} <= {path.stem for path in FILES}


def test_paper_is_section_4_1():
    paper = load("paper")
    assert paper.train.model_dump(
        include={
            "optimizer",
            "learning_rate",
            "batch_size",
            "epochs",
            "warmup_ratio",
            "max_grad_norm",
            "sampling",
        }
    ) == {
        "optimizer": "adamax",
        "learning_rate": 5e-5,
        "batch_size": 32,
        "epochs": 5,
        "warmup_ratio": 0.1,
        "max_grad_norm": 1.0,
        "sampling": "proportional",
    }
    heads = {
        name: paper.model.head_dropout_of.get(name, paper.model.head_dropout)
        for name in paper.tasks
    }
    assert heads == {"cola": 0.05, "sst2": 0.05, "mnli": 0.3} | dict.fromkeys(
        ("mrpc", "stsb", "qqp", "qnli", "rte", "wnli", "ax"), 0.1
    )
    assert paper.data.max_length == 512
    assert (paper.data.source, paper.data.hub, paper.data.max_train, paper.data.max_dev) == (
        "glue",
        "nyu-mll/glue",
        None,
        None,
    )
    assert paper.candidates == Candidates(
        dropouts=[0.1, 0.2, 0.3], keep=3, select_on=["mnli", "rte"]
    )
    assert set(plan.candidates(paper)) == {
        (name, dropout) for name in ("cased", "uncased") for dropout in (0.1, 0.2, 0.3)
    }
    assert paper.distil == Distil(
        teachers=["mnli", "qqp", "rte", "qnli"], hard_weight=0.5, temperature=1.0
    )
    assert paper.model.pooling == "cls"
    assert set(paper.multitask) == {"cola", "sst2", "mnli", "rte", "qqp", "mrpc", "stsb", "qnli"}
    assert set(paper.trainable) == set(paper.multitask) | {"wnli"}
    assert set(paper.tasks) == set(paper.trainable) | {"ax"}
    assert {name: encoder.checkpoint for name, encoder in paper.encoders.items()} == {
        "uncased": "google-bert/bert-large-uncased",
        "cased": "google-bert/bert-large-cased",
    }
    assert paper.finetuning == paper.train, "fine-tuning has the same settings"


def test_the_optimizer_of_the_paper_is_adamax_at_5e_5():
    optimizer = optimizer_of(torch.nn.Linear(2, 2), load("paper").train)
    assert type(optimizer) is torch.optim.Adamax
    assert {group["lr"] for group in optimizer.param_groups} == {5e-5}


def test_jobs_of_the_paper():
    jobs = plan.jobs(load("paper"))
    assert Counter(job.notebook for job in jobs) == {
        "00_data": 1,
        "01_pretrain": 2,
        "02_mtdnn": 6,
        "03_teacher": 8,
        "04_student": 1,
        "05_finetune": 3,
        "07_report": 1,
    }
    assert len(jobs) == 22
    candidates = [job.parameters for job in jobs if job.notebook == "02_mtdnn"]
    assert candidates == [
        {"encoder": name, "dropout": dropout, "seed": 0}
        for name in ("uncased", "cased")
        for dropout in (0.1, 0.2, 0.3)
    ]


def test_steps_of_the_paper_by_hand():
    # batches of 32: MNLI 12,272, QQP 11,371, QNLI 3,274, SST-2 2,105, CoLA 268, STS-B 180, MRPC 115, RTE 78; WNLI 20
    steps = {job.name: job.steps for job in plan.jobs(load("paper"))}
    multitask = 5 * (12272 + 11371 + 3274 + 2105 + 268 + 180 + 115 + 78)
    assert multitask == 148315
    assert steps["02_mtdnn.cased-0.3-s0"] == steps["04_student.s0"] == multitask
    assert steps["05_finetune.mt-dnn-kd-s0"] == multitask + 5 * 20
    assert steps["03_teacher.mnli"] == 3 * 5 * 12272
    assert steps["03_teacher.rte"] == 3 * 5 * 78
    assert steps["01_pretrain.cased"] == steps["00_data"] == steps["07_report"] == 0


def test_a_limit_on_the_examples_bounds_the_steps():
    found = load("paper", "data.max_train=1000; finetune.epochs=2")
    steps = {job.name: job.steps for job in plan.jobs(found)}
    assert steps["04_student.s0"] == 5 * 8 * 32  # every task has more than 1,000; 32 batches of 32
    assert steps["03_teacher.rte"] == 3 * 2 * 32
    assert steps["05_finetune.bert-s0"] == 2 * (8 * 32 + 20)


def test_a_baseline_that_is_a_candidate_is_trained_once():
    runs = plan.mtdnn_runs(study(seeds=[0, 1], student_encoder="uncased"))
    assert len(runs) == len(set(runs)) == 7
    assert runs[-1] == ("uncased", 0.1, 1)
    assert len(plan.mtdnn_runs(study(seeds=[0, 1], model={"encoder_dropout": 0.0}))) == 8


def test_pretraining_steps_where_there_is_no_checkpoint(monkeypatch):
    found = study(
        encoders={
            "uncased": {"pretrain": {"train_tokens": 64_000, "seq_length": 32, "batch_size": 20}}
        },
        candidates={"ensemble_size": 1},
    )
    steps = {job.name: job.steps for job in plan.jobs(found)}
    assert steps["01_pretrain.uncased"] == 100
    monkeypatch.setenv("MTKD_ENCODER_UNCASED", "some/where")
    assert {job.name: job.steps for job in plan.jobs(found)}["01_pretrain.uncased"] == 0


def test_fine_tuning_differs_where_the_study_says_so():
    found = study(train={"learning_rate": 1e-3, "epochs": 4}, finetune={"epochs": 2})
    assert found.finetuning == Train(learning_rate=1e-3, epochs=2)


def test_members_of_ensembles_are_fine_tuned_for_epochs_of_their_own():
    given = {"train": {"epochs": 4}, "finetune": {"epochs": 2}}
    alike, longer = study(**given), study(**given, candidates={"epochs": 6})
    assert alike.member_finetuning == alike.finetuning == longer.finetuning
    assert longer.member_finetuning == alike.finetuning.model_copy(update={"epochs": 6})
    steps = [{job.name: job.steps for job in plan.jobs(found)} for found in (alike, longer)]
    assert steps[1]["03_teacher.rte"] == 3 * steps[0]["03_teacher.rte"] > 0
    assert {name for name in steps[0] if steps[0][name] != steps[1][name]} == {
        f"03_teacher.{name}" for name in alike.multitask
    }


def test_defaults_that_a_record_leaves_out_may_be_written(written):
    assert load(written("distil: {annealing: false}\ncandidates: {new_head: true}")) == load(
        written("seeds: [0]")
    )


def test_numbers_as_yaml_writes_them(written):
    assert (
        load(written("train: {learning_rate: 5e-5}\ndata: {max_train: 60_000}")).train.learning_rate
        == 5e-5
    )
    assert load(written("data: {max_train: 60_000}")).data.max_train == 60_000


def test_the_name_of_a_file_is_the_study_s(written):
    assert load(written("seeds: [3]", name="other")).name == "other"
    assert load(written("name: mine-2", name="other")).name == "mine-2"


def test_a_study_cannot_be_changed_once_read():
    with pytest.raises(ValidationError):
        study().seeds = [5]


def test_a_study_read_is_taken_as_it_is():
    found = study()
    assert load(found) is found


# what stands in the file; words that the message must hold
BAD = {
    "a typo": (
        "train: {epoch: 3}",
        ["unknown field 'train.epoch'", "optimizer", "epochs", "batch_size"],
    ),
    "a typo at the top": ("sed: [1]", ["unknown field 'sed'", "seeds", "distil"]),
    "a typo in data": ("data: {max_lenght: 3}", ["unknown field 'data.max_lenght'", "max_length"]),
    "a typo in a recipe": (
        "encoders: {uncased: {pretrain: {layer: 2}}}",
        ["unknown field 'encoders.uncased.pretrain.layer'", "layers"],
    ),
    "a typo in an encoder": (
        "encoders: {uncased: {chekpoint: a}}",
        ["unknown field 'encoders.uncased.chekpoint'", "checkpoint", "pretrain"],
    ),
    "too small": ("train: {epochs: 0}", ["train.epochs", "greater than or equal to 1", "it is 0"]),
    "negative": ("train: {learning_rate: -0.1}", ["train.learning_rate", "greater than 0", "-0.1"]),
    "no number": ("train: {learning_rate: .nan}", ["train.learning_rate", "NaN"]),
    "above a share": (
        "distil: {hard_weight: 1.5}",
        ["distil.hard_weight", "less than or equal to 1", "1.5"],
    ),
    "dropout of all": ("model: {head_dropout: 1.0}", ["model.head_dropout", "less than 1", "1.0"]),
    "a word for a number": ("train: {epochs: five}", ["train.epochs", "integer", '"five"']),
    "a fraction": ("train: {batch_size: 2.5}", ["train.batch_size", "integer", "2.5"]),
    "a number for a list": ("seeds: 3", ["seeds", "list", "it is 3"]),
    "a number for settings": ("train: 3", ["train", "dictionary", "it is 3"]),
    "nothing for settings": ("train:", ["train", "dictionary", "null"]),
    "an unknown optimizer": (
        "train: {optimizer: sgd}",
        ["train.optimizer", "'adamax' or 'adamw'", '"sgd"'],
    ),
    "an unknown sampling": (
        "train: {sampling: random}",
        ["train.sampling", "'proportional', 'sqrt' or 'temperature'", '"random"'],
    ),
    "an unknown source": (
        "data: {source: disk}",
        ["data.source", "'synthetic' or 'glue'", '"disk"'],
    ),
    "an unknown task": (
        "tasks: [rte, mnli, snli]",
        ["tasks.2", '"snli"', "'cola'", "'mnli'", "'ax'"],
    ),
    "dropout of an unknown task": (
        "model: {head_dropout_of: {snli: 0.1}}",
        ["model.head_dropout_of", '"snli"', "'mnli'"],
    ),
    "an unknown system": (
        "test_predictions: [bertt]",
        ["test_predictions.0", '"bertt"', "'mt-dnn-kd'"],
    ),
    "a teacher that is not trained": (
        "tasks: [rte, mnli, cola]\ndistil: {teachers: [rte, qqp]}",
        ["distil.teachers", "qqp is not trained", "cola, mnli, rte"],
    ),
    "a teacher kept out of training": (
        "distil: {teachers: [wnli]}",
        ["distil.teachers", "wnli is not trained"],
    ),
    "candidates chosen on a task that is not trained": (
        "tasks: [rte, cola]\ndistil: {teachers: [rte]}",
        ["candidates.select_on", "mnli is not trained", "cola, rte"],
    ),
    "no task left": ("tasks: [wnli, ax]", ["tasks", "no task is left for multi-task training"]),
    "a task twice": ("tasks: [rte, mnli, qqp, qnli, rte]", ["tasks", "twice"]),
    "a seed twice": ("seeds: [0, 1, 0]", ["seeds", "twice"]),
    "a dropout twice": (
        "candidates: {dropouts: [0.1, 0.1, 0.2]}",
        ["candidates.dropouts", "twice"],
    ),
    "no seed": ("seeds: []", ["seeds", "at least 1"]),
    "too many kept": (
        "candidates: {ensemble_size: 7}",
        ["candidates.ensemble_size", "7 is more than the candidates there are (6)"],
    ),
    "no such encoder": ("student_encoder: large", ["student_encoder", "'large'", "uncased, cased"]),
    "an encoder from nowhere": (
        "encoders: {uncased: {}}",
        ["encoders.uncased", "checkpoint", "pretrain"],
    ),
    "no encoder": ("encoders: {}", ["encoders", "at least 1"]),
    "a name that is no folder": ("name: ../up", ["name", '"../up"', "pattern"]),
    "two faults": (
        "train: {epochs: 0, max_grad_norm: -1}",
        ["train.epochs", "train.max_grad_norm"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_study_is_refused_with_field_value_and_what_is_allowed(written, case):
    text, words = BAD[case]
    path = written(text)
    said = refusal(path)
    assert str(path) in said
    for word in words:
        assert word in said, said
    assert "pydantic" not in said and "\n" not in said


def test_a_missing_encoder_is_named(tmp_path):
    (tmp_path / "bare.yaml").write_text("seeds: [0]")
    assert "encoders: field required" in refusal(tmp_path / "bare.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: b: c", "is not a readable YAML file"),
        (b"train: {epochs: 3", "is not a readable YAML file"),
        (b"\xff\xfe\x00name", "is not a readable YAML file"),
        (b"- train\n- seeds", "holds no settings: a study is a YAML mapping"),
        (b"quick", "holds no settings"),
        (b"", "holds no settings"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content, words):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    said = refusal(path)
    assert str(path) in said and words in said


def test_a_study_that_is_not_there_is_named_with_those_that_are(tmp_path):
    said = refusal("quikc")
    assert "There is no study 'quikc'" in said
    for path in FILES:
        assert path.stem in said
    assert str(tmp_path / "none.yaml") in refusal(tmp_path / "none.yaml")


def test_overrides_are_yaml_values_of_nested_fields(written):
    path = written("train: {epochs: 4, batch_size: 8}")
    found = load(
        path,
        [
            "train.epochs=2",
            "seeds=[4, 5]",
            "encoders.uncased.pretrain.layers=3",
            "data.max_train=null",
        ],
    )
    assert found.train == Train(epochs=2, batch_size=8)
    assert found.seeds == [4, 5]
    assert found.encoders["uncased"].pretrain.layers == 3
    assert load(path, "train.epochs=2; seeds=[4, 5];") == load(
        path, ["train.epochs=2", "seeds=[4, 5]"]
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epochs", ["--set train.epochs", "field=value", "--set train.epochs=2"]),
        ("train.epochs=0", ["train.epochs", "it is 0"]),
        ("train.epochs=", ["train.epochs", "integer", "null"]),
        ("train.epoch=3", ["unknown field 'train.epoch'", "epochs"]),
        ("seeds.first=3", ["--set seeds.first=3", "'seeds' holds a value, not settings"]),
        ("seeds=[1, 1]", ["seeds", "twice"]),
        ("seeds=[-1]", ["seeds.0", "greater than or equal to 0", "-1"]),
        ("candidates.seed=4294967296", ["candidates.seed", "less than 4294967296"]),
        ("train.learning_rate=.inf", ["train.learning_rate", "finite"]),
        ("train.epochs=[", ["--set train.epochs=[", "not readable YAML"]),
        ("distil.teachers=[rte, rte]", ["distil.teachers", "twice"]),
    ],
)
def test_a_bad_override_is_refused(written, override, words):
    said = refusal(written("seeds: [0]"), override)
    for word in words:
        assert word in said, said


def changed_by(before: Study, after: Study) -> set[str]:
    return {
        stage[:2]
        for stage in STAGES
        if plan.settings_key(before, stage) != plan.settings_key(after, stage)
    }


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("about=another text", ""),
        ("threads=2", ""),
        ("seeds=[0, 1]", "07"),  # the runs of other seeds are added
        ("test_predictions=[bert]", "05 07"),
        ("student_encoder=cased", "04 05 07"),
        ("finetune.epochs=1", "03 04 05 07"),
        ("train.epochs=1", "02 03 04 05 07"),
        ("model.head_dropout=0.2", "02 03 04 05 07"),
        ("encoders.uncased.checkpoint=other/bert", "01 02 03 04 05 07"),
        ("data.max_train=100", "00 01 02 03 04 05 07"),
        ("tasks=[rte, mnli, qqp, qnli]", "00 01 02 03 04 05 07"),
    ],
)
def test_a_setting_changes_the_key_of_the_stages_that_depend_on_it(written, override, stages):
    path = written("seeds: [0]\nstudent_encoder: uncased")
    assert changed_by(load(path), load(path, [override])) == set(stages.split())


@pytest.mark.parametrize(
    "override", ["distil.temperature=2", "distil.hard_weight=0.9", "distil.teachers=[rte]"]
)
def test_distillation_changes_no_vanilla_model(written, override):
    path = written("seeds: [0]")
    found = changed_by(load(path), load(path, [override]))
    assert {"04", "05", "07"} <= found
    assert not {"00", "01", "02"} & found


def test_what_is_chosen_among_the_candidates_changes_the_teachers(written):
    path = written("seeds: [0]")
    found = changed_by(load(path), load(path, ["candidates.ensemble_size=2"]))
    assert {"03", "04", "05", "07"} <= found
    assert not {"00", "01"} & found


@pytest.mark.parametrize("name", ["MTKD_GLUE", "MTKD_PRETRAIN_TEXT", "MTKD_ENCODER_UNCASED"])
def test_a_place_named_by_the_environment_is_part_of_the_key(monkeypatch, name):
    before = {stage: plan.settings_key(study(), stage) for stage in STAGES}
    monkeypatch.setenv(name, "some/where")
    after = {stage: plan.settings_key(study(), stage) for stage in STAGES}
    assert all(before[stage] != after[stage] for stage in STAGES[1:])
