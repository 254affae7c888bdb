"""Stage 09: MKD (Liu et al. 2020, arXiv:1911.03588), small students of one multi-task teacher.

A student is trained in four or five ways, for a seed with the same updates, batches and initial
weights:

    way           models         targets                       system
    stl-hard      one per task   labels                        <student>
    mtl-hard      one            labels                        mt-<student>:mtl
    stl-kd        one per task   the teacher's logits          task-kd-<student>
    mtl-kd        one            the teacher's logits          mkd-<student>:mtl
    mtl-kd-hard   one            logits mixed with labels      mkd-<student>:hard-<weight>

`:mtl` marks scores before per-task fine-tuning. With `mkd.finetune` the students of mtl-hard and
mtl-kd are fine-tuned on each task's labels, as `mt-<student>` and `mkd-<student>`, which adds
updates. Settings, fine-tuning and the shapes of students are this project's choices.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from mtkd.artifacts import Artifact
from mtkd.config.distillation import Distil
from mtkd.config.mkd import LstmStudent, TransformerStudent
from mtkd.config.study import Study
from mtkd.config.training import Train
from mtkd.errors import UserError
from mtkd.models.lstm import projected_table
from mtkd.models.multitask import MultiTaskModel
from mtkd.models.student import student_encoder
from mtkd.stages import mtdnn, pretrain, teacher
from mtkd.stages.common import (
    Evaluation,
    Output,
    Run,
    build_or_load,
    build_part,
    count_updates,
    fit,
    merge_parts,
    model_settings,
    train_settings,
)
from mtkd.stages.ensemble import EnsembleMember, build_soft_targets
from mtkd.stages.inputs import Inputs, describe_model, head_dropouts
from mtkd.tasks import Task
from mtkd.training.loop import TrainingRun, seed_everything

NAME = "09_mkd"
SHARED = Run(NAME)  # the owner of the teacher's logits, which all runs read
JOINT = ("mtl-hard", "mtl-kd", "mtl-kd-hard")  # ways with one student of all tasks
EMBEDDINGS = "encoder.model.embeddings.word_embeddings.weight"


def runs(study: Study) -> list[Run]:
    """Return a run per student and seed."""
    students, seeds = (study.mkd.students, study.mkd.seeds) if study.mkd else ((), ())
    return [Run(NAME, student=name, seed=seed) for name in students for seed in seeds]


def parents(study: Study, run: Run) -> list[Run]:
    """Return the teachers, and the encoder whose word pieces the students read."""
    find_student(study, run.student)
    above = [Run(pretrain.NAME, encoder=study.mkd.teacher_encoder)]
    if mtdnn.uses_mkd_teacher(study, run.student):
        above.append(teacher_run(study))
    if study.mkd.teacher == "ensemble":
        above += [Run(teacher.NAME, task=name) for name in study.mkd.tasks]
    return above


def depends(study: Study, run: Run) -> dict:
    """Return the settings that change the weights of the students."""
    mkd = study.mkd
    size = study.candidates.ensemble_size if mkd.teacher == "ensemble" else None
    return {
        **_student_settings(study, run.student),
        "train": train_settings(mkd.students[run.student].train or mkd.train),
        "mkd": mkd.model_dump(include={"teacher", "tasks", "hard_weight", "mixed_hard_weight"}),
        "finetune": mkd.finetune and mkd.finetune.model_dump(),
        "ensemble_size": size,
        "precision": study.train.precision,
    }


def steps(study: Study, run: Run) -> int:
    """Return the updates of all ways of training, and of fine-tuning."""
    planned = trainings(study, run.student)
    return sum(count_updates(study, one.tasks, one.settings) for one in planned)


def teacher_run(study: Study) -> Run:
    """Return the run of the multi-task teacher, a vanilla MT-DNN."""
    return mtdnn.baseline_run(study, study.candidates.seed, study.mkd.teacher_encoder)


def find_student(study: Study, name: str) -> LstmStudent | TransformerStudent:
    """Return the settings of a student; raise `UserError` if there is none of that name."""
    students = study.require("mkd").students
    if name not in students:
        known = ", ".join(students)
        raise UserError(
            f"There is no student '{name}' in study {study.name}: its students are {known}."
        )
    return students[name]


def ways(study: Study) -> list[str]:
    """Return the ways in which every student is trained."""
    known = ["stl-hard", "mtl-hard", "stl-kd", "mtl-kd", "mtl-kd-hard"]
    return known if study.mkd.mixed_hard_weight is not None else known[:-1]


def system_name(study: Study, student: str, way: str, tuned: bool = False) -> str:
    """Return the name in the results of a student that was trained in a way."""
    mtl = "" if tuned else ":mtl"
    return {
        "stl-hard": student,
        "mtl-hard": f"mt-{student}{mtl}",
        "stl-kd": f"task-kd-{student}",
        "mtl-kd": f"mkd-{student}{mtl}",
        "mtl-kd-hard": f"mkd-{student}:hard-{study.mkd.mixed_hard_weight or 0:g}",
    }[way]


@dataclass(frozen=True)
class StudentTraining:
    """One training of a student; `part` names its artifact, such as `mtl-kd/all` or `stl-kd/rte`.

    Without a `hard_weight` it is on labels alone; `start` is the part whose student is fine-tuned.
    """

    part: str
    system: str
    tasks: list[str]
    settings: Train
    hard_weight: float | None = None
    start: str | None = None

    @property
    def joint(self) -> bool:
        """Tell whether one student of all tasks is trained, whose weights are kept."""
        return self.part.endswith("/all")


def trainings(study: Study, student: str) -> list[StudentTraining]:
    """Return all trainings of a student: each way, then fine-tuning."""
    mkd, planned = study.mkd, []
    settings = mkd.students[student].train or mkd.train
    weights = {"stl-kd": mkd.hard_weight, "mtl-kd": mkd.hard_weight}
    weights["mtl-kd-hard"] = mkd.mixed_hard_weight
    for way in ways(study):
        system = system_name(study, student, way)
        for names in [mkd.tasks] if way in JOINT else [[name] for name in mkd.tasks]:
            part = f"{way}/{'all' if way in JOINT else names[0]}"
            planned.append(StudentTraining(part, system, names, settings, weights.get(way)))
    if mkd.finetune:
        changed = mkd.finetune.model_dump(exclude={"new_head"}, exclude_none=True)
        settings = settings.model_copy(update=changed)
        for way in ("mtl-hard", "mtl-kd"):
            system, start = system_name(study, student, way, tuned=True), f"{way}/all"
            for name in mkd.tasks:
                part = f"{way}-tuned/{name}"
                planned.append(StudentTraining(part, system, [name], settings, start=start))
    return planned


def run(study: Study, student: str, seed: int) -> Artifact:
    """Train a student in all ways, or load what was trained.

    The artifact holds the tables of all trainings, with their `system`. Each training is a
    part; that of a student of all tasks keeps its weights.
    """
    find_student(study, student)
    this = Run(NAME, student=student, seed=seed)
    inputs, planned = Inputs(study, this), trainings(study, student)
    logits = {name: _teacher_logits(inputs, study.task(name)) for name in study.mkd.tasks}
    parts: dict[str, Artifact] = {}
    for training in planned:
        parts[training.part] = _train(inputs, this, training, logits, parts.get(training.start))

    def build(output: Output) -> None:
        merge_parts(parts.values(), output, [{"system": training.system} for training in planned])

    return build_or_load(study, this, build, parts)


def _student_settings(study: Study, name: str) -> dict:
    student = study.mkd.students[name].model_dump(exclude={"train"})
    return {"student": student, "model": model_settings(study)}


def _teacher_logits(inputs: Inputs, task: Task) -> Artifact:
    """Return an artifact with the teacher's logits of a task's train examples.

    They are written once; no teacher runs while a student trains.
    """
    study = inputs.study
    if study.mkd.teacher == "ensemble":
        return inputs[Run(teacher.NAME, task=task.name)]
    encoder, dropout = study.mkd.teacher_encoder, study.model.encoder_dropout
    tasks, model = tuple(map(study.task, study.multitask)), inputs[teacher_run(study)]
    member = EnsembleMember(encoder, dropout, model, "mt-dnn", tasks)
    part = f"teacher_logits/{task.name}"
    return build_soft_targets(inputs, SHARED, part, task, {None: [member]})


def _train(
    inputs: Inputs,
    this: Run,
    training: StudentTraining,
    logits: dict[str, Artifact],
    start: Artifact | None,
) -> Artifact:
    study, encoder = inputs.study, inputs.study.mkd.teacher_encoder
    size = study.candidates.ensemble_size if study.mkd.teacher == "ensemble" else 1
    distilled = training.hard_weight is not None
    new_head = bool(start) and study.mkd.finetune.new_head
    depends = {
        **_student_settings(study, this.student),
        "train": train_settings(training.settings),
        "tasks": training.tasks,
        "hard_weight": training.hard_weight,
        "teacher": [logits[name].fingerprint for name in training.tasks] if distilled else None,
        "start": start and start.fingerprint,
        "new_head": new_head,
    }

    def build(output: Output) -> None:
        tasks = [study.task(name) for name in training.tasks]
        train_sets = {task.name: inputs.train_set(encoder, task) for task in tasks}
        for task in tasks if distilled else ():
            targets = teacher.soft_targets(logits[task.name], task, size)
            aligned = targets.aligned(train_sets[task.name], "logits")
            train_sets[task.name] = train_sets[task.name].replace(soft_targets=aligned)
        dev_sets = [dev for task in tasks for dev in inputs.dev_sets(encoder, task)]
        seed_everything(this.seed)
        model = new_student(inputs, this.student, tasks)
        if start:
            model.load(start.file("model.safetensors"), heads=not new_head)
            seed_everything(this.seed)
        distil = Distil(hard_weight=training.hard_weight if distilled else 1.0, loss="logits")
        title = f"{this.name} {training.part}"
        run = TrainingRun(train_sets, training.settings, this.seed, distil, title)
        system, description = training.system, None
        if training.joint:
            description = describe_model(study, encoder, tasks, system, depends["student"])
        fit(model, run, Evaluation(dev_sets), output, system=system, description=description)

    above = inputs.only(pretrain.NAME)
    if mtdnn.starts_from_teacher(study, this.student):
        above[teacher_run(study)] = inputs[teacher_run(study)]
    return build_part(study, this, training.part, depends, above, build)


def new_student(inputs: Inputs, name: str, tasks: list[Task]) -> MultiTaskModel:
    """Return an untrained student with a head per task; seed first."""
    study, settings = inputs.study, find_student(inputs.study, name)

    def teacher_weights() -> Path:
        return inputs[teacher_run(study)].file("model.safetensors")

    def table() -> torch.Tensor:
        if settings.embeddings == "teacher":
            return projected_table(load_file(teacher_weights())[EMBEDDINGS], settings.embedding_dim)
        tokenizer = inputs.tokenizer(study.mkd.teacher_encoder)
        return torch.randn(len(tokenizer), settings.embedding_dim)  # as nn.Embedding draws it

    folder = inputs.encoder(study.mkd.teacher_encoder).file("encoder")
    encoder = student_encoder(settings, folder, study.model.pooling, table, teacher_weights)
    return MultiTaskModel(encoder, tasks, head_dropouts(study, tasks))
