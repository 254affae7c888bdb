"""Stage 02: a vanilla MT-DNN, trained on all tasks at once (MT-DNN_KD, Liu et al. 2019, Alg. 1).

A run is a candidate for the ensembles (section 4.1), or a seed of the baseline.
"""

from mtkd.artifacts import Artifact
from mtkd.config.study import Study
from mtkd.config.training import Candidate, Train
from mtkd.stages.common import Run, count_updates, variants, weight_settings
from mtkd.stages.fit import ModelTraining, fit
from mtkd.stages.inputs import Inputs, Output, encoder_run
from mtkd.training.soft_targets import Fold

NAME = "02_mtdnn"


def runs(study: Study) -> list[Run]:
    """Return a run per candidate and seed of the baseline, and what other stages start from."""
    wanted, seed = list(map(candidate_run, study.candidate_models)), study.candidates.seeds[0]
    wanted += [baseline_run(study, seed) for seed in study.seeds]
    if study.mkd and any(uses_mkd_teacher(study, name) for name in study.mkd.students):
        wanted.append(baseline_run(study, seed, study.mkd.teacher_encoder))
    texts = [study.distil.unlabelled, *(variant.unlabelled for variant in variants(study))]
    labels = any(one.labels == "mt-dnn" for one in texts if one)
    if labels or any(variant.source == "self_distillation" for variant in variants(study)):
        wanted.append(baseline_run(study, seed))
    return list(dict.fromkeys(wanted))


def candidate_run(candidate: Candidate) -> Run:
    """Return the run of a candidate."""
    dropout = float(candidate.dropout)
    return Run(NAME, encoder=candidate.encoder, dropout=dropout, seed=candidate.seed)


def baseline_run(study: Study, seed: int, encoder: str | None = None) -> Run:
    """Return the run with the student's encoder (or another) and dropout."""
    dropout = float(study.model.encoder_dropout)
    return Run(NAME, encoder=encoder or study.student_encoder, dropout=dropout, seed=seed)


def uses_mkd_teacher(study: Study, student: str) -> bool:
    """Tell whether a student of MKD learns from a vanilla MT-DNN, or starts from its weights."""
    learns = study.mkd.teacher == "mt-dnn" and not study.mkd.students[student].assistant
    return learns or starts_from_teacher(study, student)


def starts_from_teacher(study: Study, student: str) -> bool:
    """Tell whether a student of MKD has layers or embeddings of a vanilla MT-DNN."""
    settings = study.mkd.students[student]
    start = settings.embeddings if settings.kind == "lstm" else settings.init_from
    return start == "teacher"


def parents(study: Study, run: Run) -> list[Run]:
    """Return the pre-trained encoder to start from, whose word pieces are read."""
    return [encoder_run(run.encoder)]


def depends(study: Study, run: Run) -> dict:
    """Return the settings that change the trained weights."""
    return multitask_settings(study, study.train)


def steps(study: Study, run: Run) -> int:
    """Return the updates of one multi-task training."""
    return count_updates(study, study.multitask, study.train)


def run(study: Study, encoder: str, dropout: float, seed: int) -> Artifact:
    """Train the model, or load it.

    The artifact holds `model.safetensors`, `scores.csv` (scores of the last epoch, percent),
    `curve.csv` (loss and scores per epoch) and `predictions.parquet` (class probabilities per dev
    example).
    """
    this = Run(NAME, encoder=encoder, dropout=float(dropout), seed=seed)
    inputs = Inputs(study, this)
    return inputs.build(lambda output: train_mtdnn(inputs, this, output))


def multitask_settings(study: Study, train: Train) -> dict:
    """Return the settings that change the weights of a multi-task training."""
    return {**weight_settings(study, train), "tasks": study.multitask}


def train_mtdnn(inputs: Inputs, run: Run, output: Output, without: Fold | None = None) -> None:
    """Train a vanilla MT-DNN from hard targets on all train examples, or `without` a fold.

    It is scored on the dev sets, and on those to select candidates on where there are some.
    """
    study, encoder = inputs.study, run.encoder
    sets = inputs.train_sets(encoder, study.multitask, without)
    scored = []
    for task in map(study.task, study.multitask):
        scored += inputs.dev_sets(encoder, task) + inputs.selection_sets(encoder, task)
    given = {"dev_sets": scored}
    model = ModelTraining("mt-dnn:mtl", encoder, run.dropout, sets, study.train, run.seed, **given)
    fit(inputs, model, output)
