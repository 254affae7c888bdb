"""Stage 05: BERT, MT-DNN and MT-DNN_KD fine-tuned on each task (MT-DNN_KD, Liu et al. 2019, section
4.1).
"""

from mtkd.artifacts import Artifact
from mtkd.config.study import SYSTEMS, Study
from mtkd.errors import UserError
from mtkd.stages import mtdnn, pretrain, student
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
from mtkd.stages.inputs import Inputs
from mtkd.tasks import Task
from mtkd.training.loop import TrainingRun, seed_everything

NAME = "05_finetune"


def runs(study: Study) -> list[Run]:
    """Return a run per system and seed."""
    return [Run(NAME, system=system, seed=seed) for system in SYSTEMS for seed in study.seeds]


def parents(study: Study, run: Run) -> list[Run]:
    """Return the multi-task model to start from (none for BERT), and the encoder."""
    return [Run(pretrain.NAME, encoder=study.student_encoder), *start_of(study, run)]


def start_of(study: Study, run: Run) -> list[Run]:
    """Return the run of the multi-task model that a system starts from; none for BERT."""
    starts = {
        "bert": [],
        "mt-dnn": [mtdnn.baseline_run(study, run.seed)],
        "mt-dnn-kd": [Run(student.NAME, seed=run.seed)],
    }
    if run.system not in starts:
        raise UserError(f"There is no system '{run.system}': the systems are {', '.join(SYSTEMS)}.")
    return starts[run.system]


def depends(study: Study, run: Run) -> dict:
    """Return the settings that change the fine-tuned weights and what they predict."""
    return {name: task_settings(study, run, name) for name in study.trainable}


def task_settings(study: Study, run: Run, task: str) -> dict:
    """Return the settings that change what is fine-tuned on one task."""
    return {
        "encoder_dropout": study.model.encoder_dropout,
        "model": model_settings(study),
        "train": train_settings(study.finetuning),
        "new_head": starts_new_head(study, run.system, task),
        "test": predicts_test(study, run),
    }


def starts_new_head(study: Study, system: str, task: str) -> bool:
    """Tell whether fine-tuning starts from a new head, or from the multi-task model's."""
    return study.finetune.new_head or system == "bert" or task not in study.multitask


def predicts_test(study: Study, run: Run) -> bool:
    """Tell whether a run predicts the test sets: those of `test_predictions` do for the first
    seed.
    """
    return run.seed == study.seeds[0] and run.system in study.test_predictions


def steps(study: Study, run: Run) -> int:
    """Return the updates of all tasks' fine-tuning."""
    return count_updates(study, study.trainable, study.finetuning)


def run(study: Study, system: str, seed: int) -> Artifact:
    """Fine-tune a system on each task, or load what was fine-tuned.

    The artifact holds the tasks' `scores.csv`, `curve.csv` and `predictions.parquet`; weights are
    not kept.
    """
    this = Run(NAME, system=system, seed=seed)
    inputs = Inputs(study, this)
    tasks = [study.task(name) for name in study.trainable]
    parts = {task.name: _finetune(inputs, this, task) for task in tasks}
    return build_or_load(study, this, lambda output: merge_parts(parts.values(), output), parts)


def _finetune(inputs: Inputs, this: Run, task: Task) -> Artifact:
    study = inputs.study
    encoder, dropout = study.student_encoder, study.model.encoder_dropout
    depends = task_settings(study, this, task.name)

    def build(output: Output) -> None:
        train_set = inputs.train_set(encoder, task)
        seed_everything(this.seed)
        model = inputs.new_model(encoder, [task], dropout)
        for start in start_of(study, this):
            model.load(inputs[start].file("model.safetensors"), heads=not depends["new_head"])
        title = f"{this.name} {task.title}"
        training = TrainingRun({task.name: train_set}, study.finetuning, this.seed, title=title)
        tests = inputs.test_sets(encoder, task) if depends["test"] else []
        evaluation = Evaluation(inputs.dev_sets(encoder, task), tests)
        fit(model, training, evaluation, output, system=this.system)

    return build_part(study, this, task.name, depends, inputs.artifacts, build)
