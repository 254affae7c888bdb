"""Stage 04: MT-DNN_KD, one MT-DNN trained on hard and soft targets of all tasks at once (section
3).
"""

from dataclasses import dataclass

from mtkd.artifacts import Artifact
from mtkd.config.distillation import Distil
from mtkd.config.study import Study
from mtkd.config.training import Train
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.stages import mtdnn, pretrain, teacher
from mtkd.stages.common import Evaluation, Output, Run, build_or_load, count_updates, fit
from mtkd.stages.inputs import Inputs, describe_model
from mtkd.training.loop import TrainingRun, seed_everything
from mtkd.training.soft_targets import SoftTargets

NAME = "04_student"


def runs(study: Study) -> list[Run]:
    """Return a run per seed."""
    return [Run(NAME, seed=seed) for seed in study.seeds]


def parents(study: Study, run: Run) -> list[Run]:
    """Return the pre-trained encoder to start from, and the teachers to learn from."""
    teachers = [Run(teacher.NAME, task=name) for name in study.distil.teachers]
    return [Run(pretrain.NAME, encoder=study.student_encoder), *teachers]


def depends(study: Study, run: Run) -> dict:
    """Return the settings that change the trained weights."""
    return student_settings(study, study.distil, study.train)


def steps(study: Study, run: Run) -> int:
    """Return the updates of one multi-task training, further texts included."""
    return student_steps(study, study.distil, study.train)


def run(study: Study, seed: int) -> Artifact:
    """Train the student, or load it; the artifact holds what 02_mtdnn's does."""
    this = Run(NAME, seed=seed)
    inputs = Inputs(study, this)

    def build(output: Output) -> None:
        size = study.candidates.ensemble_size
        targets = {
            name: teacher.soft_targets(inputs[Run(teacher.NAME, task=name)], study.task(name), size)
            for name in study.distil.teachers
        }
        student = StudentTraining("mt-dnn-kd:mtl", study.distil, study.train, seed, targets, size)
        train_student(inputs, this, student, output)

    return build_or_load(study, this, build)


@dataclass(frozen=True)
class StudentTraining:
    """How a student is distilled: settings, soft targets by task, and the size of the ensembles."""

    system: str
    distil: Distil
    train: Train
    seed: int
    soft_targets: dict[str, SoftTargets]
    ensemble_size: int


def student_settings(study: Study, distil: Distil, train: Train) -> dict:
    """Return the settings that change a student's weights."""
    settings = mtdnn.multitask_settings(study, train)
    dropout, size = study.model.encoder_dropout, study.candidates.ensemble_size
    encoder = {"encoder": study.student_encoder, "encoder_dropout": dropout}
    return {**settings, **encoder, "distil": distil.model_dump(), "ensemble_size": size}


def student_steps(study: Study, distil: Distil, train: Train) -> int:
    """Return the updates of a student's training; further texts may have updates of their own."""
    updates = count_updates(study, study.multitask, train)
    texts = distil.unlabelled
    if texts and texts.extra_updates:
        amount = texts.snli + texts.left_out_train + texts.other_tasks
        updates += len(distil.teachers) * train.epochs * -(-amount // train.batch_size)
    return updates


def train_student(inputs: Inputs, this: Run, student: StudentTraining, output: Output) -> None:
    """Train an MT-DNN by Algorithm 1 on Eq. 2, averaged with Eq. 4 where a task has soft
    targets.
    """
    study, encoder = inputs.study, inputs.study.student_encoder
    tasks = [study.task(name) for name in study.multitask]
    train_sets = {task.name: inputs.train_set(encoder, task) for task in tasks}
    dev_sets = [dev for task in tasks for dev in inputs.dev_sets(encoder, task)]
    kind = "logits" if student.distil.loss == "logits" else "probabilities"
    for name, targets in student.soft_targets.items():
        aligned = targets.aligned(train_sets[name], kind)
        train_sets[name] = train_sets[name].replace(soft_targets=aligned)
    if student.distil.unlabelled:
        train_sets |= _with_unlabelled(study, student, train_sets, kind)
    seed_everything(student.seed)
    model = inputs.new_model(encoder, tasks, study.model.encoder_dropout)
    training = TrainingRun(train_sets, student.train, student.seed, student.distil, this.name)
    description = describe_model(study, encoder, tasks, student.system)
    evaluation = Evaluation(dev_sets)
    fit(model, training, evaluation, output, system=student.system, description=description)


def _with_unlabelled(
    study: Study, student: StudentTraining, train_sets: dict[str, Examples], kind: str
) -> dict[str, Examples]:
    """Return the train sets that have further texts, with these behind the labelled examples."""
    settings, size = student.distil.unlabelled, student.ensemble_size
    joined = {}
    for name in student.distil.teachers:
        labelled = train_sets[name]
        texts = teacher.unlabelled_examples(study, settings, labelled.task, size, kind)
        if texts is not None:
            both = labelled.concat(texts)
            size_of_epoch = len(both) if settings.extra_updates else len(labelled)
            joined[name] = both.replace(epoch_size=size_of_epoch)
    if not joined:
        titles = ", ".join(study.task(name).title for name in student.distil.teachers)
        raise UserError(
            f"There is no text beside the train sets of {titles} (unlabelled): lower "
            "data.max_train, or take texts of SNLI (snli) or of other tasks (other_tasks)."
        )
    return joined
