"""Stage 02: a vanilla MT-DNN, trained on all tasks at once (MT-DNN_KD, Liu et al. 2019, Algorithm
1).

A run is a candidate for the ensembles (section 4.1: encoder x dropout), or a seed of the baseline.
"""

from dataclasses import asdict

from mtkd.artifacts import Artifact
from mtkd.config.study import Study
from mtkd.config.training import Candidate, Train
from mtkd.stages import pretrain
from mtkd.stages.common import (
    Evaluation,
    Output,
    Run,
    build_or_load,
    count_updates,
    fit,
    model_settings,
    train_settings,
)
from mtkd.stages.inputs import Inputs, describe_model
from mtkd.training.loop import TrainingRun, seed_everything
from mtkd.training.soft_targets import Fold

NAME = "02_mtdnn"


def runs(study: Study) -> list[Run]:
    """Return a run per candidate and per seed of the baseline, and those that other stages start
    from.
    """
    wanted = [candidate_run(study, candidate) for candidate in study.candidate_models]
    wanted += [baseline_run(study, seed) for seed in study.seeds]
    if study.mkd and any(uses_mkd_teacher(study, name) for name in study.mkd.students):
        wanted.append(baseline_run(study, study.candidates.seed, study.mkd.teacher_encoder))
    variants = study.ablation.variants.values() if study.ablation else ()
    if any(variant.source == "self_distillation" for variant in variants):
        wanted.append(baseline_run(study, study.candidates.seed))
    return list(dict.fromkeys(wanted))


def candidate_run(study: Study, candidate: Candidate) -> Run:
    """Return the run of a candidate."""
    seed = study.candidates.seed
    return Run(NAME, encoder=candidate.encoder, dropout=float(candidate.dropout), seed=seed)


def baseline_run(study: Study, seed: int, encoder: str | None = None) -> Run:
    """Return the run with the student's encoder (or another) and dropout."""
    dropout = float(study.model.encoder_dropout)
    return Run(NAME, encoder=encoder or study.student_encoder, dropout=dropout, seed=seed)


def uses_mkd_teacher(study: Study, student: str) -> bool:
    """Tell whether a student of MKD learns from a vanilla MT-DNN, or starts from its weights."""
    return study.mkd.teacher == "mt-dnn" or starts_from_teacher(study, student)


def starts_from_teacher(study: Study, student: str) -> bool:
    """Tell whether a student of MKD has layers or embeddings of a vanilla MT-DNN."""
    settings = study.mkd.students[student]
    start = settings.embeddings if settings.kind == "lstm" else settings.init_from
    return start == "teacher"


def parents(study: Study, run: Run) -> list[Run]:
    """Return the pre-trained encoder to start from, whose word pieces are read."""
    return [Run(pretrain.NAME, encoder=run.encoder)]


def depends(study: Study, run: Run) -> dict:
    """Return the settings that change the trained weights."""
    return multitask_settings(study, study.train)


def steps(study: Study, run: Run) -> int:
    """Return the updates of one multi-task training."""
    return count_updates(study, study.multitask, study.train)


def run(study: Study, encoder: str, dropout: float, seed: int) -> Artifact:
    """Train the model, or load it.

    The artifact holds `model.safetensors`, `scores.csv` (dev scores of the last epoch, percent),
    `curve.csv` (loss and scores per epoch) and `predictions.parquet` (class probabilities per dev
    example).
    """
    this = Run(NAME, encoder=encoder, dropout=float(dropout), seed=seed)
    inputs = Inputs(study, this)

    def build(output: Output) -> None:
        train_mtdnn(inputs, this, output)

    return build_or_load(study, this, build)


def multitask_settings(study: Study, train: Train) -> dict:
    """Return the settings that change the weights of a multi-task training."""
    return {
        "model": model_settings(study),
        "train": train_settings(train),
        "tasks": study.multitask,
    }


def fold_settings(without: Fold | None) -> dict:
    """Return what identifies the part of the train sets that is left out."""
    return {"without": asdict(without)} if without else {}


def train_mtdnn(inputs: Inputs, this: Run, output: Output, without: Fold | None = None) -> None:
    """Train a vanilla MT-DNN from hard targets, on all train examples or `without` a part of
    them.
    """
    study = inputs.study
    tasks = [study.task(name) for name in study.multitask]
    train_sets = {task.name: inputs.train_set(this.encoder, task, without) for task in tasks}
    dev_sets = [dev for task in tasks for dev in inputs.dev_sets(this.encoder, task)]
    seed_everything(this.seed)
    model = inputs.new_model(this.encoder, tasks, this.dropout)
    training = TrainingRun(train_sets, study.train, this.seed, title=this.name)
    system = "mt-dnn:mtl"
    description = describe_model(study, this.encoder, tasks, system)
    fit(model, training, Evaluation(dev_sets), output, system=system, description=description)
