"""The jobs of a study, one a notebook run, before anything is computed: for the workflow and for estimates."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from mtkd import tasks
from mtkd.artifacts import file_hash, fingerprint
from mtkd.config.distillation import Distil, Variant
from mtkd.config.experiments import Adaptation
from mtkd.config.mkd import Mkd
from mtkd.config.study import Study
from mtkd.config.training import Train
from mtkd.data import custom as files
from mtkd.errors import UserError
from mtkd.workflow import notebook as notebooks

SYSTEMS = ("bert", "mt-dnn", "mt-dnn-kd")
CONTROLS = ("stl-hard", "mtl-hard", "stl-kd", "mtl-kd")
TOGETHER = ("mtl-hard", "mtl-kd", "mtl-kd-hard")  # one student of all tasks


@dataclass(frozen=True)
class Job:
    """One run of a notebook: its name (`02_mtdnn.uncased-0.1-s0`), parameters, and updates of weights it needs."""

    notebook: str
    run: str
    parameters: dict
    steps: int

    @property
    def name(self) -> str:
        return f"{self.notebook}.{self.run}" if self.run else self.notebook


def candidate_name(encoder: str, dropout: float) -> str:
    return f"{encoder}-{dropout:g}"


def candidates(study: Study) -> list[tuple[str, float]]:
    """(encoder, dropout) of the single MT-DNNs (section 4.1: cased and uncased BERT, dropout 0.1, 0.2, 0.3)."""
    return [
        (encoder, dropout) for encoder in study.encoders for dropout in study.candidates.dropouts
    ]


def mtdnn_runs(study: Study) -> list[tuple[str, float, int]]:
    """(encoder, dropout, seed) of every vanilla MT-DNN: the candidates, and the baseline's seeds."""
    wanted = [(*candidate, study.candidates.seed) for candidate in candidates(study)]
    wanted += [(study.student_encoder, study.model.encoder_dropout, seed) for seed in study.seeds]
    if study.mkd and study.mkd.teacher == "mt-dnn":
        wanted.append((teacher_encoder(study), study.model.encoder_dropout, study.candidates.seed))
    if study.ablation and any(
        variant.source == "self_distillation" for variant in study.ablation.variants.values()
    ):
        wanted.append((study.student_encoder, study.model.encoder_dropout, study.candidates.seed))
    return list(dict.fromkeys(wanted))


def mkd_of(study: Study) -> Mkd:
    """The study's section on MKD; `UserError` where it has none."""
    if study.mkd is None:
        raise UserError(
            f"Study {study.name} has no students of MKD: give it a section mkd, or take a study that has one (quick)."
        )
    return study.mkd


def teacher_encoder(study: Study) -> str:
    """The encoder of MKD's refined teacher, whose word pieces its students read."""
    return mkd_of(study).teacher_encoder or study.student_encoder


def mkd_tasks(study: Study) -> list[str]:
    return list(mkd_of(study).tasks or study.multitask)


def mkd_seeds(study: Study) -> list[int]:
    return list(mkd_of(study).seeds or study.seeds)


def mkd_controls(study: Study) -> tuple[str, ...]:
    """The ways that every MKD student is trained."""
    return CONTROLS if mkd_of(study).mixed_hard_weight is None else (*CONTROLS, "mtl-kd-hard")


def mkd_system(study: Study, student: str, control: str, tuned: bool = False) -> str:
    """Name in the results of a student trained that way; `mtkd.stages.mkd` tells what each means."""
    return {
        "stl-hard": student,
        "mtl-hard": f"mt-{student}" if tuned else f"mt-{student}:mtl",
        "stl-kd": f"task-kd-{student}",
        "mtl-kd": f"mkd-{student}" if tuned else f"mkd-{student}:mtl",
        "mtl-kd-hard": f"mkd-{student}:hard-{study.mkd.mixed_hard_weight or 0:g}",
    }[control]


def variants(study: Study) -> dict[str, Variant]:
    """The ways to distil that are compared with the study's own; `UserError` where there are none."""
    if study.ablation is None:
        raise UserError(
            f"Study {study.name} compares no ways to distil: give it a section ablation."
        )
    return study.ablation.variants


def ablation_seeds(study: Study) -> list[int]:
    return list(study.ablation.seeds or study.seeds) if study.ablation else []


def first_generation(study: Study, name: str) -> str:
    """The variant whose student teaches that of a second generation: one of the study's, or a name of its own."""
    first = variants(study)[name].model_copy(update={"generations": 1})
    return next(
        (other for other, variant in variants(study).items() if variant.changes == first.changes),
        f"{name}.first",
    )


def before_variant(study: Study, name: str, seed: int) -> list[str]:
    """Runs of 06_ablation that make what this one shares with them: its variant's soft targets are made once."""
    first, own = f"{name}-s{ablation_seeds(study)[0]}", []
    if variants(study)[name].generations == 2:
        own = [f"{first_generation(study, name)}-s{study.candidates.seed}"]
    known = [job.run for job in _ablation_jobs(study)]
    return [run for run in ([first] if f"{name}-s{seed}" != first else own) if run in known]


def adaptation_of(study: Study) -> Adaptation:
    """The study's section on adaptation; `UserError` where it has none."""
    if study.adaptation is None:
        raise UserError(f"Study {study.name} adapts nothing to SNLI: give it a section adaptation.")
    return study.adaptation


def adaptation_seeds(study: Study) -> list[int]:
    return list(adaptation_of(study).seeds or study.seeds)


def adaptation_size(share: float, examples: int) -> int:
    """Examples in a share of a train set, at least one."""
    return max(1, round(share * examples))


def adaptation_settings(study: Study) -> Train:
    """Settings of the fine-tuning of adaptation, before the size of a share decides on the epochs."""
    given = {
        key: value
        for key, value in adaptation_of(study).train.model_dump().items()
        if value is not None
    }
    return study.finetuning.model_copy(update={**given, "score_every_epoch": False})


def adaptation_training(study: Study, examples: int) -> Train:
    """`adaptation_settings` for so many examples: whole epochs, and no fewer than it takes for `min_updates` updates."""
    settings = adaptation_settings(study)
    enough = math.ceil(adaptation_of(study).min_updates / math.ceil(examples / settings.batch_size))
    return settings.model_copy(update={"epochs": max(settings.epochs, enough)})


def jobs(study: Study) -> list[Job]:
    """Every job, in an order that the stages allow."""
    multitask, single = (
        _steps(study, study.multitask, study.train),
        _steps(study, study.trainable, study.finetuning),
    )
    members = {
        name: study.candidates.ensemble_size * _steps(study, [name], study.member_finetuning)
        for name in study.multitask
    }
    further = _further_steps(study, study.distil, study.train)
    return [
        Job("00_data", "", {}, 0),
        *(
            Job("01_pretrain", name, {"encoder": name}, _pretrain_steps(study, name))
            for name in study.encoders
        ),
        *(
            Job(
                "02_mtdnn",
                f"{candidate_name(name, dropout)}-s{seed}",
                {"encoder": name, "dropout": dropout, "seed": seed},
                multitask,
            )
            for name, dropout, seed in mtdnn_runs(study)
        ),
        *(Job("03_teacher", name, {"task": name}, members[name]) for name in study.multitask),
        *(
            Job("04_student", f"s{seed}", {"seed": seed}, multitask + further)
            for seed in study.seeds
        ),
        *(
            Job("05_finetune", f"{system}-s{seed}", {"system": system, "seed": seed}, single)
            for system in SYSTEMS
            for seed in study.seeds
        ),
        *_ablation_jobs(study),
        *_adaptation_jobs(study),
        *_mkd_jobs(study),
        *_ranking_jobs(study),
        Job("07_report", "", {}, 0),
    ]


def asked(study: Study, job: Job, attempt: int = 1) -> dict[str, int | None]:
    """What a job asks for in Snakemake's names, None for what it does not: MB of memory, minutes, GPUs, and a share of the GPU here.

    A second attempt asks for twice the memory and the time: a job that was stopped for want of either goes on from its checkpoint.
    """
    wants, trains = study.resources, job.steps > 0
    minutes = wants.minutes + math.ceil(job.steps / wants.steps_per_minute)
    return {
        "mem_mb": attempt * wants.memory_mb,
        "runtime": attempt * minutes,
        "gpu": wants.gpus or None if trains else None,
        "gpu_slots": 1 if trains else None,
    }


def _ablation_jobs(study: Study) -> list[Job]:
    return [
        Job(
            "06_ablation",
            f"{name}-s{seed}",
            {"variant": name, "seed": seed},
            _ablation_steps(study, variants(study)[name], first=seed == ablation_seeds(study)[0]),
        )
        for seed in ablation_seeds(study)
        for name in variants(study)
    ]


def _ablation_steps(study: Study, variant: Variant, first: bool) -> int:
    """Updates of a student, and for the first seed of what its variant's soft targets come from."""
    train = study.train.model_copy(update={"epochs": variant.epochs or study.train.epochs})
    multitask, keep = (
        _steps(study, study.multitask, study.train),
        variant.ensemble_size or study.candidates.ensemble_size,
    )
    steps = own = _steps(study, study.multitask, train)
    steps += _further_steps(study, variant.distil(study.distil, study.multitask), train)
    if first:
        steps += max(0, keep - study.candidates.ensemble_size) * _steps(
            study, study.multitask, study.member_finetuning
        )
        steps += (
            (variant.folds or 0)
            * keep
            * (multitask + _steps(study, study.distil.teachers, study.member_finetuning))
        )
        steps += own if variant.generations == 2 else 0
    return steps


def _further_steps(study: Study, distil: Distil, train: Train) -> int:
    """Updates that come in with unlabelled texts, where these have updates of their own."""
    given = distil.unlabelled
    if given is None or not given.extra_updates:
        return 0
    return (
        len(distil.teachers)
        * train.epochs
        * math.ceil((given.snli + given.left_out_train + given.other_tasks) / train.batch_size)
    )


def _adaptation_jobs(study: Study) -> list[Job]:
    if not study.adaptation:
        return []
    full = min(tasks.SNLI.num_train, study.adaptation.max_train or tasks.SNLI.num_train)
    sizes = [adaptation_size(share, full) for share in study.adaptation.fractions]
    trainings = [(size, adaptation_training(study, size)) for size in sizes]
    steps = sum(
        settings.epochs * math.ceil(size / settings.batch_size) for size, settings in trainings
    )
    return [
        Job("06_adaptation", f"{system}-s{seed}", {"system": system, "seed": seed}, steps)
        for system in SYSTEMS
        for seed in adaptation_seeds(study)
    ]


def _ranking_jobs(study: Study) -> list[Job]:
    # Besides classification, a batch of candidates for as many as there are at most.
    steps = 2 * _steps(study, study.ranking, study.finetuning)
    return [
        Job("06_ranking", f"{system}-s{seed}", {"system": system, "seed": seed}, steps)
        for system in SYSTEMS
        for seed in study.seeds
        if study.ranking
    ]


def _mkd_jobs(study: Study) -> list[Job]:
    if not study.mkd:
        return []
    found = []
    for name, student in study.mkd.students.items():
        settings = student.train or study.mkd.train
        steps = len(mkd_controls(study)) * _steps(study, mkd_tasks(study), settings)
        if study.mkd.finetune:
            tuning = settings.model_copy(
                update={"epochs": study.mkd.finetune.epochs or settings.epochs}
            )
            steps += 2 * _steps(study, mkd_tasks(study), tuning)
        found += [
            Job("06_mkd", f"{name}-s{seed}", {"student": name, "seed": seed}, steps)
            for seed in mkd_seeds(study)
        ]
    return [*found, Job("06_serving", "", {}, 0)]


def _examples(study: Study, name: str) -> int:
    if name in study.own_tasks:
        full = files.count(study, name)
    else:
        if study.data.source == "glue":
            full = tasks.get(name).num_train
        else:
            from mtkd.data.synthetic import LAYOUT

            full = round(LAYOUT[name][2]["train"] * study.data.scale)
        full -= round((study.data.holdout_fraction or 0) * full)
    return min(full, study.data.max_train or full)


def _steps(study: Study, names: list[str], settings: Train) -> int:
    """Updates of weights of one training over these tasks; from the full release's sizes where no data are at hand."""
    return settings.epochs * sum(
        math.ceil(_examples(study, name) / settings.batch_size) for name in names
    )


def _pretrain_steps(study: Study, name: str) -> int:
    settings = study.encoders[name]
    if settings.checkpoint or os.environ.get(f"MTKD_ENCODER_{name.upper()}"):
        return 0
    return math.ceil(
        settings.pretrain.train_tokens
        / (settings.pretrain.seq_length * settings.pretrain.batch_size)
    )


def settings_key(study: Study, notebook: str, system: str = "") -> str:
    """Changes when a setting changes that this stage or one before it depends on: the workflow runs it again then.

    So it does when the notebook changes, or the data, the text or a checkpoint that lie in a folder here. `system` is
    that of 05_finetune, 06_adaptation or 06_ranking, or the variant of 06_ablation.
    """
    # Each stage without what no run of it depends on; a run's name tells its seed, and its encoder and dropout before the student.
    student = {
        "mkd": True,
        "adaptation": True,
        "ranking": True,
        "seeds": True,
        "test_predictions": True,
        "finetune": {"new_head"},
    }
    teacher = student | {
        "student_encoder": True,
        "model": {"encoder_dropout"},
        "distil": set(Distil.model_fields) - {"teachers"},
    }
    mtdnn = teacher | {"distil": True, "candidates": True, "finetune": True}
    pretrain = mtdnn | {
        "model": True,
        "train": True,
        "data": {"max_length"},
        "exclude_from_multitask": True,
    }
    ranked = {"mkd": True, "adaptation": True, "seeds": True}
    finetune = ranked | {"ranking": True}
    adapted = finetune | {
        "adaptation": {"seeds"},
        "test_predictions": True,
        "finetune": {"new_head"},
    }
    before_student = {"distil": True, "candidates": True} if system in ("bert", "mt-dnn") else {}
    without = {
        "00_data": pretrain | {"encoders": True},
        "01_pretrain": pretrain,
        "02_mtdnn": mtdnn,
        "03_teacher": teacher,
        "04_student": student,
        "05_finetune": finetune | before_student,
        "06_ablation": student,
        "06_adaptation": adapted | before_student,
        "06_ranking": ranked | before_student,
        "06_mkd": {"adaptation": True, "ranking": True},
        "06_serving": {"adaptation": True, "ranking": True},
    }
    never = {"about": True, "threads": True, "resources": True, "own_tasks": True}
    never |= {"ablation": True} if notebook != "07_report" else {}
    own = [
        study.seeds[0]
        if notebook in ("05_finetune", "06_ranking")
        else None,  # its test sets are predicted
        study.threads if notebook == "06_serving" else None,
    ]
    if notebook == "06_ablation":
        own.append((variants(study)[system] if system else study.ablation).model_dump())
    sources = [files.origin(study, name) for name in study.tasks if name in study.own_tasks]
    source = notebooks.folder() / f"{notebook}.ipynb"
    return fingerprint(
        [
            study.model_dump(exclude=never | without.get(notebook, {})),
            own,
            sources,
            _places(study, notebook),
            file_hash(source) if source.is_file() else None,
        ]
    )


def _places(study: Study, notebook: str) -> dict:
    """Where data, text and encoders come from; of folders and files here, also every file's size and time of change."""
    places = {"hub": study.data.hub, "MTKD_GLUE": os.environ.get("MTKD_GLUE")}
    if notebook == "06_ablation" or (study.distil.unlabelled and notebook > "04"):
        places["MTKD_SNLI"] = os.environ.get("MTKD_SNLI")
    if notebook != "00_data":
        places |= {name: encoder.checkpoint for name, encoder in study.encoders.items()}
        places |= {
            key: value
            for key, value in os.environ.items()
            if key == "MTKD_PRETRAIN_TEXT" or key.startswith("MTKD_ENCODER_")
        }
    if study.adaptation and notebook in ("06_adaptation", "07_report"):
        places |= {"adaptation.hub": study.adaptation.hub, "MTKD_SNLI": os.environ.get("MTKD_SNLI")}
    state = {}
    for name, value in places.items():
        if value is None:
            continue
        path = Path(value)
        parts = sorted(path.rglob("*")) if path.is_dir() else [path]
        state[name] = [
            value,
            [
                [str(part), part.stat().st_size, part.stat().st_mtime_ns]
                for part in parts
                if part.is_file()
            ],
        ]
    return state
