"""Stage 09: MKD (Liu et al. 2020, arXiv:1911.03588), small students of one multi-task teacher.

A student is trained in several ways, for a seed with the same updates, batches and initial weights:

    way           models         targets                       system
    stl-hard      one per task   labels                        <student>
    mtl-hard      one            labels                        mt-<student>:mtl
    stl-kd        one per task   the teacher's logits          task-kd-<student>
    mtl-kd        one            the teacher's logits          mkd-<student>:mtl
    mtl-kd-hard   one            logits mixed with labels      mkd-<student>:hard-<weight>
    pkd           one            those of mtl-kd               pkd-<student>:mtl
    minilm        one            those of mtl-kd               minilm-<student>:mtl

pkd and minilm are baselines of `mkd.layerwise`, for a Transformer with layers of the teacher's
architecture: mtl-kd's loss and one between hidden layers (`mtkd.training.layerwise`).
A student with an `assistant` (TAKD, Mirzadeh et al. 2020, arXiv:1902.03393) has the logits of that
student's mtl-kd, of the same seed and before fine-tuning, in the teacher's place. It is trained in
stl-kd, mtl-kd and mtl-kd-hard alone, for the other ways do without an assistant.
`:mtl` marks scores before per-task fine-tuning. With `mkd.finetune` the students of mtl-hard,
mtl-kd, pkd and minilm are fine-tuned on each task's labels, as `mt-<student>`, `mkd-<student>` and
so on, which adds updates. Settings, fine-tuning and the shapes of students are this project's
choices.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mtkd.artifacts import Artifact
from mtkd.config.distillation import Distil
from mtkd.config.study import Study
from mtkd.config.training import Train
from mtkd.models.multitask import MultiTaskModel
from mtkd.stages import mtdnn, teacher
from mtkd.stages.checkpoint import file_hashes
from mtkd.stages.common import Run, count_updates, weight_settings
from mtkd.stages.ensemble import EnsembleMember, build_soft_targets, single_model
from mtkd.stages.fit import ModelTraining, fit
from mtkd.stages.inputs import Inputs, Output, encoder_run
from mtkd.stages.mkd_student import find_student, new_student, teacher_run, trained_student
from mtkd.tasks import Task
from mtkd.training.layerwise import LayerwiseLoss, PatientLoss, RelationLoss
from mtkd.training.loop import seed_everything

NAME = "09_mkd"
LAYERWISE = ("pkd", "minilm")
JOINT = ("mtl-hard", "mtl-kd", "mtl-kd-hard", *LAYERWISE)  # ways with one student of all tasks
ASSISTANT = "mtl-kd/all"  # the training by which a student can be an assistant


def runs(study: Study) -> list[Run]:
    """Return a run per student and seed, assistants before those who learn from them."""
    if not study.mkd:
        return []
    students = sorted(study.mkd.students, key=lambda name: len(study.mkd.assistants(name)))
    return [Run(NAME, student=name, seed=seed) for name in students for seed in study.mkd.seeds]


def parents(study: Study, run: Run) -> list[Run]:
    """Return the teachers or the assistant, and the encoder whose word pieces the students read."""
    find_student(study, run.student)
    above = [encoder_run(study.mkd.teacher_encoder)]
    if mtdnn.uses_mkd_teacher(study, run.student):
        above.append(teacher_run(study))
    if assistant := _assistant_run(study, run):
        above.append(assistant)
    elif study.mkd.teacher == "ensemble":
        above += [Run(teacher.NAME, task=name) for name in study.mkd.tasks]
    return above


def _assistant_run(study: Study, run: Run) -> Run | None:
    """Return the run of a student's assistant, or None if it learns from the teacher."""
    assistant = study.mkd.students[run.student].assistant
    return Run(NAME, student=assistant, seed=run.seed) if assistant else None


def depends(study: Study, run: Run) -> dict:
    """Return the settings that change the weights of the students."""
    mkd = study.mkd
    return {
        **_settings(study, run.student, mkd.students[run.student].train or mkd.train),
        "mkd": mkd.model_dump(include={"teacher", "tasks", "hard_weight", "mixed_hard_weight"}),
        **_layerwise_settings(study, mkd.layerwise_of(run.student)),
        "finetune": mkd.finetune and mkd.finetune.model_dump(),
        "ensemble_size": _members(study, run.student),
        "precision": study.train.precision,
    }


def _settings(study: Study, name: str, train: Train) -> dict:
    student = study.mkd.students[name].model_dump(exclude={"train"})
    if student.get("checkpoint"):
        folder = Path(find_student(study, name).checkpoint)
        student["files"] = file_hashes(folder) if folder.is_dir() else None
    return {"student": student, **weight_settings(study, train)}


def _layerwise_settings(study: Study, ways: list[str]) -> dict:
    weight = {"patient_weight": study.mkd.patient_weight} if "pkd" in ways else {}
    return {"layerwise": ways, **weight} if ways else {}


def steps(study: Study, run: Run) -> int:
    """Return the updates of all ways of training, and of fine-tuning."""
    planned = trainings(study, run.student)
    return sum(count_updates(study, one.tasks, one.settings) for one in planned)


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

    @property
    def layerwise(self) -> str | None:
        """Return the way of training where that has a loss between layers."""
        way = self.part.partition("/")[0]
        return way if way in LAYERWISE else None


def trainings(study: Study, student: str) -> list[StudentTraining]:
    """Return all trainings of a student: each way, then fine-tuning.

    One with an assistant is not trained on labels alone, or from the teacher's layers.
    """
    mkd, planned = study.mkd, []
    settings, mixed = mkd.students[student].train or mkd.train, mkd.mixed_hard_weight
    ways = [
        ("stl-hard", student, None),
        ("mtl-hard", f"mt-{student}:mtl", None),
        ("stl-kd", f"task-kd-{student}", mkd.hard_weight),
        ("mtl-kd", f"mkd-{student}:mtl", mkd.hard_weight),
    ]
    if mixed is not None:
        ways.append(("mtl-kd-hard", f"mkd-{student}:hard-{mixed:g}", mixed))
    layerwise = mkd.layerwise_of(student)
    ways += [(way, f"{way}-{student}:mtl", mkd.hard_weight) for way in layerwise]
    if mkd.students[student].assistant:
        ways = [one for one in ways if one[2] is not None]
    for way, system, weight in ways:
        parts, how = {"all": mkd.tasks}, settings
        if way not in JOINT:
            parts, how = {name: [name] for name in mkd.tasks}, settings.for_one_task
        for part, names in parts.items():
            planned.append(StudentTraining(f"{way}/{part}", system, names, how, weight))
    if mkd.finetune:
        changed = mkd.finetune.model_dump(exclude={"new_head"}, exclude_none=True)
        settings = settings.for_one_task.model_copy(update=changed)
        joint = [one for one in planned if one.joint and one.system.endswith(":mtl")]
        for start in joint:
            way, system = start.part.removesuffix("/all"), start.system.removesuffix(":mtl")
            for name in mkd.tasks:
                part = f"{way}-tuned/{name}"
                planned.append(StudentTraining(part, system, [name], settings, start=start.part))
    return planned


def run(study: Study, student: str, seed: int) -> Artifact:
    """Train a student in all ways, or load what was trained.

    The artifact holds the tables of all trainings, with their `system`. Each training is a
    part; that of a student of all tasks keeps its weights.
    """
    find_student(study, student)
    inputs = Inputs(study, Run(NAME, student=student, seed=seed))
    planned = trainings(study, student)
    logits = {name: _logits(inputs, study.task(name)) for name in study.mkd.tasks}
    parts: dict[str, Artifact] = {}
    for training in planned:
        parts[training.part] = _train(inputs, training, logits, parts.get(training.start))
    return inputs.merge(parts, [{"system": training.system} for training in planned])


def _members(study: Study, student: str) -> int | None:
    """Return the size of the ensembles that teach a student, or None if a single model does."""
    ensembles = study.mkd.teacher == "ensemble" and not study.mkd.students[student].assistant
    return study.candidates.ensemble_size if ensembles else None


def _logits(inputs: Inputs, task: Task) -> Artifact:
    """Return an artifact with the logits of the teacher or assistant of a task's train examples.

    They are written once; neither runs while a student trains.
    """
    study, encoder = inputs.study, inputs.study.mkd.teacher_encoder
    if _members(study, inputs.this.student):
        return inputs[Run(teacher.NAME, task=task.name)]
    if run := _assistant_run(study, inputs.this):
        trained, tasks = inputs.part(run, ASSISTANT), list(map(study.task, study.mkd.tasks))
        new_model = partial(trained_student, inputs, run.student, tasks, trained)
        name, dropout = f"mkd-{run.student}", study.mkd.students[run.student].dropout
        member = EnsembleMember(encoder, dropout, trained, name, tuple(tasks), new_model)
        part, teams = f"assistant_logits/{run.label}/{task.name}", {None: [member]}
    else:
        teams = single_model(study, encoder, inputs[teacher_run(study)], "mt-dnn")
        part = f"teacher_logits/{task.name}"
    return build_soft_targets(inputs, part, task, teams, shared=True)


def _train(
    inputs: Inputs, training: StudentTraining, logits: dict[str, Artifact], start: Artifact | None
) -> Artifact:
    study, this, encoder = inputs.study, inputs.this, inputs.study.mkd.teacher_encoder
    taught = training.tasks if training.hard_weight is not None else []
    new_head = bool(start) and study.mkd.finetune.new_head
    depends = {
        **_settings(study, this.student, training.settings),
        "tasks": training.tasks,
        "hard_weight": training.hard_weight,
        "teacher": [logits[name].fingerprint for name in taught],
        "start": start and start.fingerprint,
        "new_head": new_head,
        **_layerwise_settings(study, [training.layerwise] if training.layerwise else []),
    }

    def new_model() -> MultiTaskModel:
        model = new_student(inputs, this.student, list(map(study.task, training.tasks)))
        if start:
            model.load(start.file("model.safetensors"), heads=not new_head)
            seed_everything(this.seed)
        return model

    def build(output: Output) -> None:
        train_sets = inputs.train_sets(encoder, training.tasks)
        for name in taught:
            size = _members(study, this.student) or 1
            targets = teacher.soft_targets(logits[name], study.task(name), size)
            aligned = targets.aligned(train_sets[name], "logits")
            train_sets[name] = train_sets[name].replace(soft_targets=aligned)
        weight = training.hard_weight if taught else 1.0
        model = ModelTraining(
            training.system,
            encoder,
            study.mkd.students[this.student].dropout,
            train_sets,
            training.settings,
            this.seed,
            Distil(hard_weight=weight, loss="logits"),
            keep=training.joint,
            new_model=new_model,
            student=find_student(study, this.student).model_dump(exclude={"train"}),
            extra_loss=_layerwise_loss(inputs, training.layerwise),
        )
        fit(inputs, model, output)

    parents = [encoder_run(encoder)]
    if training.layerwise or mtdnn.starts_from_teacher(study, this.student):
        parents.append(teacher_run(study))
    return inputs.build_part(training.part, depends, parents, build)


def _layerwise_loss(
    inputs: Inputs, way: str | None
) -> Callable[[MultiTaskModel], LayerwiseLoss] | None:
    """Return what makes the loss between a student's layers and the teacher's."""
    if way is None:
        return None
    study = inputs.study
    model = inputs.new_model(study.mkd.teacher_encoder, [], 0.0)
    model.load(inputs[teacher_run(study)].file("model.safetensors"), heads=False)
    if way == "pkd":
        return partial(PatientLoss, teacher=model, weight=study.mkd.patient_weight)
    return partial(RelationLoss, teacher=model)
