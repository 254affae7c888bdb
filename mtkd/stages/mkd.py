"""MKD (Liu et al. 2020, arXiv:1911.03588): students of any shape distilled from the logits of one multi-task teacher.

A student is trained four ways on the same budget of updates, with the same batches and the same weights to start from
for a seed (the same examples in the same order wherever the tasks trained together are the same):

    stl-hard  a student a task on hard targets              systems  <student>
    mtl-hard   one student of all tasks on hard targets               mt-<student>:mtl
    task         a student a task on the teacher's logits               task-kd-<student>
    multi        one student of all tasks on the logits                 mkd-<student>:mtl
    mtl-kd-hard  the same with hard targets mixed in                    mkd-<student>:hard-<weight>

`:mtl` marks a figure before per-task fine-tuning; with `mkd.finetune` both multi-task students are fine-tuned on each
task's hard targets, as `mt-<student>` and `mkd-<student>`: those have had more updates. `task` and `multi` have the same
teacher, so they differ in what the *student* shares. Settings, fine-tuning on hard targets, and both students' shapes are
this project's choices: MKD's full text was not at hand.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer

from mtkd.artifacts import Artifact, file_hash, make
from mtkd.config.distillation import Distil
from mtkd.config.mkd import LstmStudent, TransformerStudent
from mtkd.config.study import Study
from mtkd.config.training import Train
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.models import MultiTaskModel, load_encoder
from mtkd.models.lstm import BiAttentiveEncoder, own_table, projected_table, vectors_table
from mtkd.models.small_transformer import from_checkpoint, keep_layers, new_encoder
from mtkd.paths import folder
from mtkd.stages.common import (
    data,
    dev_splits,
    fit,
    members_of,
    model_settings,
    mtdnn,
    teacher,
    voices_of,
)
from mtkd.stages.ensemble import words
from mtkd.stages.inputs import encoder, examples_of
from mtkd.tasks import Task
from mtkd.training.loop import seed_everything
from mtkd.training.soft_targets import SoftTargets, read_soft_targets
from mtkd.workflow.jobs import (
    CONTROLS,
    TOGETHER,
    mkd_controls,
    mkd_system,
    mkd_tasks,
    teacher_encoder,
)

TABLE = "encoder.model.embeddings.word_embeddings.weight"

__all__ = [
    "CONTROLS",
    "finetuned",
    "new_student",
    "refined",
    "runs",
    "student",
    "student_encoder",
    "teacher_logits",
    "with_logits",
]


def refined(study: Study) -> Artifact:
    """The multi-task refined teacher: a vanilla MT-DNN, from the same stage as the baseline's."""
    return mtdnn(study, teacher_encoder(study), study.model.encoder_dropout, study.candidates.seed)


def teacher_logits(study: Study, name: str) -> Artifact:
    """An artifact whose soft_targets.parquet holds the teacher's logits for a task's train examples.

    An ensemble's lie with its soft targets already where the task has a teacher in MT-DNN_KD; all others are stored
    beside them, in the same format. No teacher runs while a student trains.
    """
    task, ensemble = study.task(name), study.mkd.teacher == "ensemble"
    if ensemble and name in study.distil.teachers:
        return teacher(study, name)
    if ensemble:
        voices = voices_of(task, members_of(study, name))
    else:
        own = teacher_encoder(study)
        voices = [
            (
                own,
                study.model.encoder_dropout,
                encoder(study, own),
                refined(study),
                "mt-dnn",
                list(map(study.task, study.multitask)),
            )
        ]
    return words(
        study, folder(study, "teachers", f"logits-{study.mkd.teacher}", name), task, voices
    )


def with_logits(examples: dict[str, Examples], targets: dict[str, SoftTargets]) -> None:
    """Gives every task's train examples their teacher's logits; `UserError` where the teacher's tasks or examples are others."""
    if missing := [split.task.title for name, split in examples.items() if name not in targets]:
        known = ", ".join(found.task.title for found in targets.values()) or "no task"
        raise UserError(
            f"There are no teacher's logits for {', '.join(missing)}: the teacher knows {known}; a student is distilled on its "
            "teacher's tasks (mkd.tasks)."
        )
    for name, split in examples.items():
        split.soft_targets = targets[name].logits_for(split)


def new_student(study: Study, name: str, of: list[Task]) -> MultiTaskModel:
    """An untrained student with a head for each of these tasks, drawn from torch's state (seed first)."""
    settings, start = study.mkd.students[name], encoder(study, teacher_encoder(study))
    place = start.file("encoder")
    shared = student_encoder(
        settings,
        place,
        study.model.pooling,
        table=lambda: _table(study, settings, place),
        teacher=lambda: refined(study).file("model.safetensors"),
    )
    return MultiTaskModel(
        shared,
        of,
        {
            task.name: study.model.head_dropout_of.get(task.name, study.model.head_dropout)
            for task in of
        },
    )


def student_encoder(
    settings: LstmStudent | TransformerStudent,
    place: Path,
    pooling: str,
    table: Callable[[], torch.Tensor],
    teacher: Callable[[], Path] | None = None,
) -> nn.Module:
    """A student's encoder of these settings on the teacher's encoder in the folder `place`.

    `table` gives an LSTM's embeddings, `teacher` the weights of a student that starts from them (None: its shape is all
    that is wanted).
    """
    shape = dict(dropout=settings.dropout, pooling=pooling)
    if isinstance(settings, LstmStudent):
        return BiAttentiveEncoder(
            table(),
            hidden=settings.hidden,
            layers=settings.layers,
            output=settings.output_dim,
            dropout=settings.dropout,
        )
    if settings.init_from == "new":
        return new_encoder(
            place,
            layers=settings.layers,
            hidden=settings.hidden,
            heads=settings.heads,
            intermediate=settings.intermediate,
            **shape,
        )
    if settings.init_from == "checkpoint":
        return from_checkpoint(
            settings.checkpoint,
            len(AutoTokenizer.from_pretrained(place, trust_remote_code=False)),
            **shape,
        )
    shared = load_encoder(place, **shape)
    if settings.init_from == "teacher" and teacher is not None:
        MultiTaskModel(shared, [], {}).load(teacher(), heads=False)
    return keep_layers(shared, settings.kept_layers)


def _table(study: Study, settings: LstmStudent, place: Path) -> torch.Tensor:
    """The LSTM student's embeddings (word pieces, e)."""
    if settings.embeddings == "teacher":
        return projected_table(
            load_file(refined(study).file("model.safetensors"))[TABLE], settings.embedding_dim
        )
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    if settings.embeddings == "vectors":
        return vectors_table(Path(settings.vectors), tokenizer.get_vocab())
    return own_table(len(tokenizer), settings.embedding_dim)


def _inputs(
    study: Study, name: str, control: str, seed: int, names: list[str], settings: Train
) -> dict:
    """What a student's training depends on."""
    chosen = study.mkd.students[name]
    taught = control not in ("stl-hard", "mtl-hard")
    from_teacher = getattr(chosen, "embeddings", getattr(chosen, "init_from", "")) == "teacher"
    weight = study.mkd.mixed_hard_weight if control == "mtl-kd-hard" else study.mkd.hard_weight
    return {
        "stage": "mkd",
        "student": chosen.model_dump(exclude={"train"}),
        "tasks": names,
        "seed": seed,
        "encoder": encoder(study, teacher_encoder(study)).fingerprint,
        "data": data(study).fingerprint,
        "max_length": study.data.max_length,
        "model": model_settings(study),
        "train": settings.model_dump(exclude={"checkpoint_seconds"}),
        "start": refined(study).fingerprint if from_teacher else None,
        "vectors": file_hash(Path(chosen.vectors)) if getattr(chosen, "vectors", None) else None,
        "teacher": {task: teacher_logits(study, task).fingerprint for task in names}
        if taught
        else None,
        "hard_weight": weight if taught else 1.0,
    }


def _trained(
    study: Study,
    place: Path,
    name: str,
    system: str,
    seed: int,
    names: list[str],
    settings: Train,
    inputs: dict,
    parent: Artifact | None = None,
    new_head: bool = False,
    keep_model: bool = True,
) -> Artifact:
    """One training of a student over these tasks, from its start or from a multi-task student (`parent`)."""
    inputs = {
        **inputs,
        "system": system,
        "parent": parent and parent.fingerprint,
        "new_head": new_head,
        "keep_model": keep_model,
    }

    def build(out: Path) -> None:
        torch.set_num_threads(study.threads)
        train_sets, dev_sets, read = {}, [], teacher_encoder(study)
        for task in map(study.task, names):
            train_sets[task.name] = examples_of(study, read, task, task.train)
            dev_sets += dev_splits(study, read, task)
        if inputs["teacher"] is not None:
            with_logits(
                train_sets,
                {
                    task: read_soft_targets(
                        teacher_logits(study, task).file("soft_targets.parquet"), study.task(task)
                    )
                    for task in names
                },
            )
        seed_everything(seed)
        model = new_student(study, name, list(map(study.task, names)))
        if parent is not None:
            model.load(parent.file("model.safetensors"), heads=not new_head)
            seed_everything(seed)
        title = " ".join(place.parts[-3:])
        distil = Distil(hard_weight=inputs["hard_weight"], loss="logits")
        fit(
            model,
            train_sets,
            dev_sets,
            [],
            settings,
            seed,
            out,
            inputs,
            system,
            distil,
            title,
            keep_model,
        )

    return make(place, inputs, build)


def student(study: Study, name: str, control: str, seed: int) -> list[Artifact]:
    """One student trained one of the ways of `CONTROLS`: one artifact of all tasks, or one a task."""
    if name not in study.mkd.students or control not in mkd_controls(study):
        raise UserError(
            f"There is no student '{name}' by '{control}' in study {study.name}: its students are "
            f"{', '.join(study.mkd.students)}, trained by {', '.join(mkd_controls(study))}."
        )
    settings = study.mkd.students[name].train or study.mkd.train
    together = control in TOGETHER
    done = []
    for names in [mkd_tasks(study)] if together else [[task] for task in mkd_tasks(study)]:
        inputs = _inputs(study, name, control, seed, names, settings)
        place = folder(study, "mkd", name, f"{control}-s{seed}", "all" if together else names[0])
        done.append(
            _trained(
                study,
                place,
                name,
                mkd_system(study, name, control),
                seed,
                names,
                settings,
                inputs,
                keep_model=together,
            )
        )
    return done


def finetuned(study: Study, name: str, control: str, seed: int) -> list[Artifact]:
    """A multi-task student (`mtl-hard` or `multi`) fine-tuned on each task's hard targets; none without `mkd.finetune`."""
    if study.mkd.finetune is None:
        return []
    (parent,), done = student(study, name, control, seed), []
    changed = {
        key: value
        for key, value in study.mkd.finetune.model_dump().items()
        if key != "new_head" and value is not None
    }
    settings = (study.mkd.students[name].train or study.mkd.train).model_copy(update=changed)
    for task in mkd_tasks(study):
        inputs = _inputs(study, name, "stl-hard", seed, [task], settings)
        place = folder(study, "mkd", name, f"{control}-tuned-s{seed}", task)
        done.append(
            _trained(
                study,
                place,
                name,
                mkd_system(study, name, control, tuned=True),
                seed,
                [task],
                settings,
                inputs,
                parent,
                study.mkd.finetune.new_head,
                keep_model=False,
            )
        )
    return done


def runs(study: Study, name: str, seed: int) -> dict[str, list[Artifact]]:
    """06_mkd: everything of one student and seed, by system."""
    found = {
        mkd_system(study, name, control): student(study, name, control, seed)
        for control in mkd_controls(study)
    }
    for control in ("mtl-hard", "mtl-kd"):
        if tuned := finetuned(study, name, control, seed):
            found[mkd_system(study, name, control, tuned=True)] = tuned
    return found
