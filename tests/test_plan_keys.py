"""What runs again when a setting changes: exactly what depends on it, by the artifacts' inputs and by the workflow's keys."""

import itertools
import shutil
import types
import typing

import pandas as pd
import pydantic
import pytest
from conftest import ROOT, TINY

from mtkd.artifacts import fingerprint
from mtkd.config import study as studies
from mtkd.data import glue as data_files
from mtkd.stages import ablation, adaptation, mkd, ranking
from mtkd.stages import common as stages
from mtkd.stages import ensemble as voices
from mtkd.stages import inputs as encoders
from mtkd.stages import serving as mkd_serving
from mtkd.workflow import jobs as plan

DATA, PRETRAIN, MTDNN, TEACHER, STUDENT, TUNED = (
    "00_data",
    "01_pretrain",
    "02_mtdnn",
    "03_teacher",
    "04_student",
    "05_finetune",
)
LEVERS, ADAPTED, RANKED = (
    "06_ablation",
    "06_adaptation",
    "06_ranking",
)  # a ranking is made anew with what is fine-tuned
ALL = {DATA, PRETRAIN, MTDNN, TEACHER, STUDENT, TUNED, LEVERS, ADAPTED, "06_mkd", "06_serving"}
FROM = {stage: {later for later in ALL if later >= stage} for stage in ALL}
# Of the fine-tuned systems, and of the adapted ones: only that one.
KD, KD_ADAPTED, MT_ADAPTED = (
    "05_finetune.mt-dnn-kd",
    "06_adaptation.mt-dnn-kd",
    "06_adaptation.mt-dnn",
)
MKD = {"06_mkd", "06_serving"}
# Every source of soft targets, in place of the tiny study's own.
VARIANTS = {
    "loud": {"hard_weight": 0.9},
    "warm": {"temperature": 3.0},
    "annealing": {"annealing": True, "hard_weight_of": {}},
    "kl": {"loss": "kl"},
    "keep-1": {"keep": 1},
    "folds-2": {"source": "folds", "folds": 2},
    "self-1": {"source": "self", "generations": 1},
    "self-2": {"source": "self", "generations": 2},
    "tasks": {"source": "unlabelled", "unlabelled": {"tasks": 20}},
}


def levers(*but: str) -> set[str]:
    """Runs of the ablation, but those of some variants."""
    return {f"{LEVERS}.{name}" for name in VARIANTS if name not in but}


GLUES = ALL - {PRETRAIN, ADAPTED} | {MT_ADAPTED, KD_ADAPTED}  # what GLUE's examples are seen by

# field, another value, stages whose artifacts are made anew (all of them, or by name)
TABLE = [
    ("about", "other", set()),
    ("threads", 2, {"06_serving"}),
    *(
        (f"resources.{name}", 9, set())
        for name in ("memory_mb", "minutes", "steps_per_minute", "gpus", "gpu_slots")
    ),
    ("tasks", ["cola", "sst2", "mnli", "rte", "wnli", "qqp", "mrpc", "stsb", "qnli"], GLUES),
    ("single_only", ["wnli", "cola"], GLUES - {DATA, TUNED} | {"05_finetune.mt-dnn", KD}),
    ("data.source", "glue", ALL),
    ("data.hub", "another/glue", set()),
    ("data.seed", 1, ALL),
    ("data.scale", 0.06, GLUES),
    ("data.max_train", 20, GLUES),
    ("data.max_dev", 20, GLUES),
    ("data.held_back", 0.2, GLUES),
    ("data.max_length", 40, ALL - {DATA, PRETRAIN}),
    ("encoders.uncased.pretrain.checkpoint_seconds", 7, set()),
    ("model.representation", "mean", FROM[MTDNN]),
    ("model.head_dropout", 0.2, FROM[MTDNN]),
    ("model.head_dropout_of", {"rte": 0.2}, FROM[MTDNN]),
    ("train.checkpoint_seconds", 7, set()),
    # The tiny study fine-tunes for its own epochs.
    (
        "train.epochs",
        3,
        {
            MTDNN,
            TEACHER,
            STUDENT,
            LEVERS,
            "05_finetune.mt-dnn",
            KD,
            MT_ADAPTED,
            KD_ADAPTED,
            "06_mkd",
        },
    ),
    # Adaptation never does.
    (
        "train.score_every_epoch",
        False,
        FROM[MTDNN] - MKD - {ADAPTED} | {MT_ADAPTED, KD_ADAPTED, "06_mkd"},
    ),
    (
        "finetune.learning_rate",
        1e-4,
        {TEACHER, STUDENT, TUNED, ADAPTED} | levers("self-1", "self-2"),
    ),
    ("finetune.epochs", 3, {TEACHER, STUDENT, TUNED, ADAPTED} | levers("self-1", "self-2")),
    ("finetune.fresh_head", True, {"05_finetune.mt-dnn", KD}),
    (
        "candidates.keep",
        1,
        {TEACHER, STUDENT, KD, KD_ADAPTED, "06_serving"} | levers("keep-1", "self-1", "self-2"),
    ),
    (
        "candidates.select_on",
        ["cola"],
        {TEACHER, STUDENT, KD, KD_ADAPTED, "06_serving"} | levers("self-1", "self-2"),
    ),
    (
        "candidates.fresh_head",
        False,
        {TEACHER, STUDENT, KD, KD_ADAPTED} | levers("self-1", "self-2"),
    ),
    ("candidates.epochs", 3, {TEACHER, STUDENT, KD, KD_ADAPTED} | levers("self-1", "self-2")),
    (
        "distil.teachers",
        ["mnli"],
        {"03_teacher.qqp", "03_teacher.rte", "03_teacher.qnli", STUDENT, KD, KD_ADAPTED}
        | levers("self-1", "self-2"),
    ),
    ("distil.hard_weight", 0.2, {STUDENT, KD, KD_ADAPTED} | levers("loud")),
    ("distil.hard_weight_of", {"rte": 0.2}, {STUDENT, KD, KD_ADAPTED} | levers("annealing")),
    ("distil.temperature", 2.0, {STUDENT, KD, KD_ADAPTED} | levers("warm")),
    ("distil.loss", "kl", {STUDENT, KD, KD_ADAPTED} | levers("kl")),
    (
        "distil.unlabelled.tasks",
        20,
        {STUDENT, KD, KD_ADAPTED} | levers("folds-2", "self-1", "self-2", "tasks"),
    ),
    ("distil.annealing", True, {STUDENT, KD, KD_ADAPTED} | levers("annealing")),
    ("test_predictions", ["bert"], {"05_finetune.mt-dnn-s0", "05_finetune.mt-dnn-kd-s0"}),
    *(
        (f"adaptation.{name}", value, {ADAPTED})
        for name, value in {
            "hub": "another/snli",
            "shares": [0.5],
            "max_train": 50,
            "max_dev": 50,
            "least_updates": 9,
            "train.learning_rate": 2e-4,
            "train.batch_size": 8,
            "train.epochs": 7,
        }.items()
    ),
    ("ranking", [], set()),
    ("mkd.teacher_encoder", "cased", MKD),
    ("mkd.tasks", ["rte"], MKD),
    ("mkd.hard_weight", 0.2, {"06_mkd"}),
    ("mkd.also_hard_weight", 0.3, MKD),
    ("mkd.train.checkpoint_seconds", 7, set()),
    ("mkd.train.epochs", 3, {"06_mkd"}),
    ("mkd.serving.rounds", 3, {"06_serving"}),
    ("mkd.serving.examples", 32, {"06_serving"}),
    ("mkd.serving.batch_sizes", [1], {"06_serving"}),
    *(
        (f"encoders.uncased.pretrain.{name}", value, ALL - {DATA})
        for name, value in {
            "cased": True,
            "vocabulary": 500,
            "layers": 2,
            "hidden": 64,
            "heads": 1,
            "intermediate": 100,
            "positions": 70,
            "rows": "lines",
            "window": 30,
            "long_window": 64,
            "long_share": 0.1,
            "tokens": 21_000,
            "sentences": 2001,
            "batch_size": 8,
            "learning_rate": 2e-3,
            "warmup": 0.2,
            "weight_decay": 0.2,
            "mask_probability": 0.2,
            "guide_steps": 3,
            "guide_weight": 0.2,
            "initializer_range": 0.1,
            "precision": "fp32",
        }.items()
    ),
    *(
        (f"train.{name}", value, FROM[MTDNN] - MKD | {"06_mkd"})
        for name, value in {
            "optimizer": "adamw",
            "learning_rate": 2e-3,
            "batch_size": 8,
            "warmup": 0.2,
            "weight_decay": 0.2,
            "clip": 2.0,
            "sampling": "sqrt",
            "temperature": 3.0,
            "bucket": 4,
            "precision": "fp32",
        }.items()
    ),
    # Rankings are trained in one process.
    (
        "train.processes",
        2,
        FROM[MTDNN] - MKD | {"06_mkd", "06_ranking.mt-dnn", "06_ranking.mt-dnn-kd"},
    ),
]
# They change which runs there are, or name another parent for one: told below.
ELSEWHERE = {
    "name",
    "student_encoder",
    "seeds",
    "model.encoder_dropout",
    "candidates.dropouts",
    "candidates.seed",
    "mkd.seeds",
    "mkd.teacher",
    "ablation.seeds",
    "adaptation.seeds",
    *(f"distil.unlabelled.{name}" for name in ("transfer", "rest", "updates")),
}


def fields(kind, path: str = "") -> set[str]:
    """Every field of a study; of encoders and students, the recipe of `uncased` alone."""
    found = set()
    for name, field in kind.model_fields.items():
        inner = [
            part
            for part in [field.annotation, *typing.get_args(field.annotation)]
            if isinstance(part, type)
        ]
        models = [
            part
            for part in inner
            if not isinstance(part, types.GenericAlias) and issubclass(part, pydantic.BaseModel)
        ]
        found |= fields(models[0], f"{path}{name}.") if models else {f"{path}{name}"}
    return found


def tiny(*overrides: str) -> studies.Study:
    """The tiny study with every section; a default 60 is written as 60.0, like those compared with it."""
    settings = studies.load(TINY, ["adaptation={}", "ranking=[qnli]", *overrides]).model_dump()
    return studies.check(settings | {"ablation": {"seeds": [0], "variants": VARIANTS}})


class Fake:
    """An artifact that was never made: its fingerprint is that of its inputs."""

    def __init__(self, place, inputs):
        self.path, self.inputs, self.fingerprint = place, inputs, fingerprint(inputs)

    def file(self, name):
        return self.path / name

    def frame(self, name):
        """Scores by which `cased` is ahead on RTE and `uncased` on CoLA, and a larger dropout on both."""
        name, _, dropout = self.path.name.rpartition("-s")[0].partition("-")
        lead = {
            "uncased": {"cola": 2, "rte": 1, "mnli": 1},
            "cased": {"cola": 1, "rte": 2, "mnli": 2},
        }[name]
        return pd.DataFrame(
            [
                {
                    "task": task,
                    "split": "validation",
                    "metric": "accuracy",
                    "value": value + float(dropout),
                }
                for task, value in lead.items()
            ]
        )


@pytest.fixture(scope="module")
def marks():
    """Gives, for a study, each job's fingerprints: of what its stage makes, and the workflow's key."""
    known = {}  # of one study: each stage is asked for once

    def once(function):
        def asked(study, *which):
            key = (
                function.__name__,
                study.candidates.keep,
                *which,
            )  # a variant of another size is another study
            if key not in known:
                known[key] = function(study, *which)
            return known[key]

        return asked

    def of(study) -> dict[str, tuple[str, str]]:
        found = {}
        known.clear()
        for job in plan.jobs(study):
            if job.notebook == "07_report":
                continue
            make_of = {
                DATA: stages.data,
                PRETRAIN: lambda study, encoder: stages.pretrain(study, encoder),
                MTDNN: lambda study, encoder, dropout, seed: stages.mtdnn(
                    study, encoder, dropout, seed
                ),
                TEACHER: lambda study, task: stages.teacher(study, task),
                STUDENT: lambda study, seed: stages.student(study, seed),
                TUNED: stages.finetune,
                LEVERS: ablation.ablation,
                ADAPTED: adaptation.adaptation,
                RANKED: ranking.ranking,
                "06_mkd": lambda study, student, seed: mkd.runs(study, student, seed),
                "06_serving": mkd_serving.serving,
            }[job.notebook]
            outputs = make_of(study, **job.parameters)
            kept = outputs.values() if isinstance(outputs, dict) else [outputs]
            prints = [
                part.fingerprint
                for part in itertools.chain(
                    *(part if isinstance(part, list) else [part] for part in kept)
                )
            ]
            of = job.parameters.get("system") or job.parameters.get("variant", "")
            found[job.name] = (fingerprint(prints), plan.settings_key(study, job.notebook, of))
        return found

    with pytest.MonkeyPatch.context() as patch:
        for module in (
            data_files,
            encoders,
            stages,
            voices,
            ablation,
            adaptation,
            ranking,
            mkd,
            mkd_serving,
        ):
            patch.setattr(module, "make", lambda place, inputs, build: Fake(place, inputs))
        for name in ("selection", "mtdnn", "teacher", "student"):
            patch.setattr(stages, name, once(getattr(stages, name)))
        patch.setattr(data_files, "origin", lambda data: {"source": data.source})
        patch.setenv("MTKD_TEXT", "text")
        yield of


@pytest.fixture(scope="module")
def before(marks):
    return marks(tiny())


def changed(before: dict, after: dict, which: int) -> set[str]:
    return {
        name for name in before.keys() & after.keys() if before[name][which] != after[name][which]
    }


def test_the_table_has_every_field_of_a_study():
    wanted = {
        name.replace("encoders.pretrain.", "encoders.uncased.pretrain.")
        for name in fields(studies.Study)
    }
    told = {name for name, *_ in TABLE} | ELSEWHERE
    as_train = {
        name
        for name in wanted
        if name.startswith(
            ("mkd.train.", "mkd.finetune.", "mkd.students", "own_tasks", "ablation.variants")
        )
    }
    assert wanted - told - as_train == {
        "encoders.checkpoint",
        "encoders.uncased.pretrain.start_from",
    }
    assert told <= wanted


@pytest.mark.parametrize(("field", "value", "stages_anew"), TABLE, ids=[row[0] for row in TABLE])
def test_a_changed_setting_makes_anew_exactly_what_depends_on_it(
    field, value, stages_anew, marks, before
):
    settings = tiny().model_dump()
    *path, last = field.split(".")
    place = settings
    for part in path:
        place = place.setdefault(part, {})
    place[last] = value
    after = marks(studies.check(settings))
    if not any(stage.startswith(RANKED) for stage in stages_anew):
        stages_anew = stages_anew | {stage.replace(TUNED, RANKED) for stage in stages_anew}
    # The cased encoder starts from the uncased one, so its runs follow.
    wanted = {
        name
        for name in before.keys() & after.keys()
        if any(
            name == stage or name.startswith(f"{stage}.") or name.startswith(f"{stage}-s")
            for stage in stages_anew
        )
    }
    again = changed(before, after, 0)
    assert again == wanted, f"needlessly {sorted(again - wanted)}, missed {sorted(wanted - again)}"
    keyed = changed(before, after, 1)
    assert again <= keyed, f"the workflow would miss {sorted(again - keyed)}"
    if field.startswith(("about", "threads", "resources")):
        assert keyed == again, f"the workflow would show {sorted(keyed - again)} again"


def test_the_workflow_shows_no_stage_again_that_comes_before_the_first_that_changes(marks, before):
    """Its keys are a stage's, not a run's, and a stage follows those before it: no stage before the first is run."""
    for field, value in [
        ("distil.temperature", "2"),
        ("finetune.epochs", "3"),
        ("train.epochs", "3"),
        ("candidates.keep", "1"),
    ]:
        after = marks(tiny(f"{field}={value}"))
        again, keyed = changed(before, after, 0), changed(before, after, 1)
        assert min(again)[:2] == min(keyed)[:2], (field, min(keyed))


def test_runs_that_are_added_leave_those_there_as_they_are(marks, before):
    for change in (
        "seeds=[0,1,2]",
        "candidates.dropouts=[0.1,0.2,0.3]",
        "student_encoder=cased",
        "model.encoder_dropout=0.15",
    ):
        after = marks(tiny(change))
        mtdnn = {name for name in before if name.startswith(MTDNN)}
        assert not changed(before, after, 0) & mtdnn, change
    more = marks(tiny("seeds=[0,1,2]"))
    early = {name for name in before if name[:2] in ("00", "01", "02", "03", "04", "05")}
    assert not changed(before, more, 0) & early and not changed(before, more, 1) & early
    assert {name for name in more if name not in before} >= {"04_student.s2", "05_finetune.bert-s2"}


def test_a_variant_that_is_added_or_changed_leaves_all_others_as_they_are(marks, before):
    settings = tiny().model_dump()
    settings["ablation"] = {
        "seeds": [0],
        "variants": {**VARIANTS, "loud": {"hard_weight": 0.8}, "new": {"hard_weight": 0.1}},
    }
    after = marks(studies.check(settings))
    for which in (0, 1):
        assert changed(before, after, which) == {f"{LEVERS}.loud-s0"}
    assert set(after) - set(before) == {f"{LEVERS}.new-s0"}
    plain = marks(studies.check({**tiny().model_dump(), "ablation": None}))
    assert set(before) - set(plain) == {f"{LEVERS}.{name}-s0" for name in VARIANTS}
    assert not changed(before, plain, 0) and not changed(before, plain, 1)


def test_a_changed_notebook_runs_again_and_no_other(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.setenv("MTKD_NOTEBOOKS", str(tmp_path / "notebooks"))
    study, names = studies.load(TINY), {job.notebook for job in plan.jobs(studies.load(TINY))}
    before = {name: plan.settings_key(study, name) for name in names}
    for path in (tmp_path / "notebooks").glob("*.ipynb"):
        path.touch()
    assert {name: plan.settings_key(study, name) for name in names} == before, (
        "a fresh clone's times are no change"
    )
    source = tmp_path / "notebooks" / "02_mtdnn.ipynb"
    source.write_text(source.read_text().replace("Algorithm", "algorithm", 1))
    assert [name for name in names if plan.settings_key(study, name) != before[name]] == [MTDNN]


def test_changed_data_run_everything_again(tmp_path, monkeypatch):
    study = studies.load(TINY)
    (tmp_path / "rte").mkdir()
    file = tmp_path / "rte" / "train.parquet"
    file.write_bytes(b"1")
    monkeypatch.setenv("MTKD_GLUE", str(tmp_path))
    before = plan.settings_key(study, DATA)
    assert plan.settings_key(study, DATA) == before
    file.write_bytes(b"12")
    assert plan.settings_key(study, DATA) != before
