"""Stage 05: BERT, MT-DNN and MT-DNN_KD fine-tuned on each task (MT-DNN_KD, section 4.1)."""

from typing import Any

from mtkd.artifacts import Artifact
from mtkd.config.study import SYSTEMS, Study
from mtkd.config.training import Train
from mtkd.data.dataset import Examples
from mtkd.stages import mtdnn, student
from mtkd.stages.common import Run, count_updates, lookup, weight_settings
from mtkd.stages.fit import ModelTraining, fit
from mtkd.stages.inputs import Inputs, Output, encoder_run

NAME = "05_finetune"


def runs(study: Study) -> list[Run]:
    """Return a run per system and seed."""
    return [Run(NAME, system=system, seed=seed) for system in SYSTEMS for seed in study.seeds]


def parents(study: Study, run: Run) -> list[Run]:
    """Return the multi-task model to start from (none for BERT), and the encoder."""
    return [encoder_run(study.student_encoder), *start_of(study, run)]


def start_of(study: Study, run: Run) -> list[Run]:
    """Return the run of the multi-task model that a system starts from; none for BERT."""
    starts = {
        "bert": [],
        "mt-dnn": [mtdnn.baseline_run(study, run.seed)],
        "mt-dnn-kd": [Run(student.NAME, seed=run.seed)],
    }
    return lookup(study, "system", run.system, starts)


def depends(study: Study, run: Run) -> dict:
    """Return the settings that change the fine-tuned weights and what they predict."""
    return {name: task_settings(study, run, name) for name in study.finetuned}


def task_settings(study: Study, run: Run, task: str) -> dict:
    """Return the settings that change what is fine-tuned on one task."""
    new_head = study.finetune.new_head or run.system == "bert" or task not in study.multitask
    return {
        "encoder_dropout": study.model.encoder_dropout,
        **weight_settings(study, study.finetuning_of(run.system)),
        "new_head": new_head,
        "test": run.seed == study.seeds[0] and run.system in study.test_predictions,
    }


def steps(study: Study, run: Run) -> int:
    """Return the updates of all tasks' fine-tuning."""
    return count_updates(study, study.finetuned, study.finetuning_of(run.system))


def run(study: Study, system: str, seed: int) -> Artifact:
    """Fine-tune a system on each task, or load what was fine-tuned.

    The artifact holds the tasks' `scores.csv`, `curve.csv` and `predictions.parquet`; weights are
    not kept.
    """
    inputs = Inputs(study, Run(NAME, system=system, seed=seed))
    return inputs.merge({name: finetune_task(inputs, name) for name in study.finetuned})


def finetune_task(inputs: Inputs, task: str) -> Artifact:
    """Fine-tune the system of the run on one task, as a part of its artifact."""
    study, depends = inputs.study, task_settings(inputs.study, inputs.this, task)

    def build(output: Output) -> None:
        train_sets = inputs.train_sets(study.student_encoder, [task])
        given = {"heads": not depends["new_head"], "predict_test": depends["test"]}
        settings = study.finetuning_of(inputs.this.system)
        fit(inputs, system_training(inputs, train_sets, settings, **given), output)

    return inputs.build_part(task, depends, inputs.artifacts, build)


def system_training(
    inputs: Inputs, train_sets: dict[str, Examples], settings: Train, **given: Any
) -> ModelTraining:
    """Return how the run's system is fine-tuned, from its multi-task model if it has one."""
    study, this = inputs.study, inputs.this
    start = next((inputs[one] for one in start_of(study, this)), None)
    encoder, dropout = study.student_encoder, study.model.encoder_dropout
    given = {"start": start, "keep": False, **given}
    return ModelTraining(this.system, encoder, dropout, train_sets, settings, this.seed, **given)
