"""Stage 04: MT-DNN_KD, one MT-DNN trained on hard and soft targets of all tasks (section 3)."""

from dataclasses import dataclass

from mtkd.artifacts import Artifact
from mtkd.config.distillation import Distil
from mtkd.config.study import Study
from mtkd.config.training import Train
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.stages import mtdnn, teacher
from mtkd.stages.common import Run, count_updates
from mtkd.stages.fit import ModelTraining, fit
from mtkd.stages.inputs import Inputs, Output, encoder_run
from mtkd.training.soft_targets import SoftTargets

NAME = "04_student"


def runs(study: Study) -> list[Run]:
    """Return a run per seed."""
    return [Run(NAME, seed=seed) for seed in study.seeds]


def parents(study: Study, run: Run) -> list[Run]:
    """Return the pre-trained encoder to start from, and the teachers to learn from."""
    teachers = [Run(teacher.NAME, task=name) for name in study.distil.teachers]
    return [encoder_run(study.student_encoder), *teachers]


def depends(study: Study, run: Run) -> dict:
    """Return the settings that change the trained weights."""
    return student_settings(study, training_of(study, run.seed))


def steps(study: Study, run: Run) -> int:
    """Return the updates of one multi-task training, further texts included."""
    return student_steps(study, training_of(study, run.seed))


def run(study: Study, seed: int) -> Artifact:
    """Train the student, or load it; the artifact holds what 02_mtdnn's does."""
    inputs, training = Inputs(study, Run(NAME, seed=seed)), training_of(study, seed)

    def build(output: Output) -> None:
        train_student(inputs, training, teachers_targets(inputs, training), output)

    return inputs.build(build)


@dataclass(frozen=True)
class StudentTraining:
    """How a student is distilled, and the size of the ensembles that teach it."""

    system: str
    distil: Distil
    train: Train
    seed: int
    ensemble_size: int


def training_of(study: Study, seed: int) -> StudentTraining:
    """Return how MT-DNN_KD is trained."""
    size = study.candidates.ensemble_size
    return StudentTraining("mt-dnn-kd:mtl", study.distil, study.train, seed, size)


def student_settings(study: Study, training: StudentTraining) -> dict:
    """Return the settings that change a student's weights."""
    return {
        **mtdnn.multitask_settings(study, training.train),
        "encoder": study.student_encoder,
        "encoder_dropout": study.model.encoder_dropout,
        "distil": training.distil.model_dump(),
        "ensemble_size": training.ensemble_size,
    }


def student_steps(study: Study, training: StudentTraining) -> int:
    """Return the updates of a student's training; further texts may have updates of their own."""
    train, texts = training.train, training.distil.unlabelled
    updates = count_updates(study, study.multitask, train)
    if texts and texts.extra_updates:
        amount = texts.snli + texts.left_out_train + texts.other_tasks
        batches = -(-amount // train.batch_size)
        taught = {*training.distil.teachers} - {*study.rankings}
        updates += len(taught) * train.epochs * batches
    return updates


def teachers_targets(inputs: Inputs, training: StudentTraining) -> dict[str, SoftTargets]:
    """Return the soft targets of 03_teacher's ensembles by task."""
    task, size = inputs.study.task, training.ensemble_size
    return {
        name: teacher.soft_targets(inputs[Run(teacher.NAME, task=name)], task(name), size)
        for name in training.distil.teachers
    }


def train_student(
    inputs: Inputs,
    training: StudentTraining,
    soft_targets: dict[str, SoftTargets],
    output: Output,
) -> None:
    """Train an MT-DNN by Algorithm 1 on Eq. 2, averaged with Eq. 4 where a task has soft targets.

    Soft targets are by task, of its train examples.
    """
    study, distil, encoder = inputs.study, training.distil, inputs.study.student_encoder
    train_sets = inputs.train_sets(encoder, study.multitask)
    kind = "logits" if distil.loss == "logits" else "probabilities"
    for name, targets in soft_targets.items():
        aligned = targets.aligned(train_sets[name], kind)
        train_sets[name] = train_sets[name].replace(soft_targets=aligned)
    if distil.unlabelled:
        train_sets |= _with_unlabelled(study, training, train_sets, kind)
    dropout, seed = study.model.encoder_dropout, training.seed
    model = ModelTraining(
        training.system, encoder, dropout, train_sets, training.train, seed, distil
    )
    fit(inputs, model, output)


def _with_unlabelled(
    study: Study, training: StudentTraining, train_sets: dict[str, Examples], kind: str
) -> dict[str, Examples]:
    """Return the train sets that have further texts, with these behind the labelled examples."""
    settings, size, joined = training.distil.unlabelled, training.ensemble_size, {}
    for name in (one for one in training.distil.teachers if one not in study.rankings):
        labelled = train_sets[name]
        texts = teacher.unlabelled_examples(study, settings, labelled.task, size, kind)
        if texts is not None:
            both = labelled.concat(texts)
            epoch_size = len(both) if settings.extra_updates else len(labelled)
            joined[name] = both.replace(epoch_size=epoch_size)
    if not joined:
        titles = ", ".join(study.task(name).title for name in training.distil.teachers)
        raise UserError(
            f"There is no text beside the train sets of {titles} (unlabelled): lower "
            "data.max_train, or take texts of SNLI (snli) or of other tasks (other_tasks)."
        )
    return joined
