"""The levers on distillation, one student a variant and seed: all on the footing of MT-DNN_KD before fine-tuning.

Encoder, budget of updates, batches of a seed and weights to start from are those of 04_student; a variant of the study's
section `ablation` changes how the soft targets enter the loss, how many members an ensemble has, how long the student is
trained (with the weight 1 of hard targets: what longer training gives without a teacher), or where the soft targets come from:

    ensemble     the teachers of the study (Eq. 3)
    folds        cross-fitted ensembles: the train sets of the tasks with a teacher fall into k parts; candidates and members
                 are trained anew without a part and score that part alone, so none scores an example that it was trained on
    unlabelled   the teachers of the study, also on texts that nobody labelled for the task (`distil.unlabelled`): these
                 have soft targets alone
    self         a single model of the student's size, on all tasks of multi-task training: the vanilla MT-DNN at
                 candidates.seed, or as a second generation the student that this one taught, at that seed too

The systems are called `mt-dnn-kd:<variant>`, and an ensemble of k members `mt-dnn-ensemble:keep-<k>`.
"""

from pathlib import Path

import pandas as pd
import torch

from mtkd.artifacts import Artifact, make
from mtkd.config.distillation import Variant
from mtkd.config.study import Study
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.paths import folder
from mtkd.stages.common import distilled, further, members_of, mtdnn, selection, teacher, voices_of
from mtkd.stages.ensemble import soft_targets, words
from mtkd.stages.inputs import encoder, examples_of
from mtkd.training.soft_targets import Fold, write_soft_targets
from mtkd.workflow.jobs import ablation_seeds, first_generation, variants


def ablation(study: Study, variant: str, seed: int) -> Artifact:
    """06_ablation: the student of one variant and seed; it holds what 04_student's does."""
    if variant not in variants(study):
        raise UserError(
            f"There is no variant '{variant}' in study {study.name}: its variants are {', '.join(variants(study))}."
        )
    return _student(study, variant, variants(study)[variant], seed)


def changed(study: Study, variant: Variant) -> Study:
    """The study under a variant's settings."""
    keep = study.candidates.model_copy(
        update={"ensemble_size": variant.ensemble_size or study.candidates.ensemble_size}
    )
    return study.model_copy(
        update={"distil": variant.distil(study.distil, study.multitask), "candidates": keep}
    )


def _student(study: Study, name: str, variant: Variant, seed: int) -> Artifact:
    own = changed(study, variant)
    soft = {task: _teacher(study, name, variant, task) for task in own.distil.teachers}
    if variant.epochs:  # after the teachers: theirs stay the study's
        own = own.model_copy(
            update={"train": own.train.model_copy(update={"epochs": variant.epochs})}
        )
    return distilled(
        own, f"mt-dnn-kd:{name}", folder(study, "ablation", name, f"s{seed}"), seed, soft
    )


def _teacher(study: Study, name: str, variant: Variant, task: str) -> Artifact:
    """Whose soft_targets.parquet a variant's student learns a task from."""
    if variant.source == "self_distillation":
        return _like_the_student(study, name, variant, task)
    own = changed(study, variant)
    if variant.folds:
        return cross_fitted(own, variant.folds, task)
    if (
        task not in study.distil.teachers
    ):  # in the study its ensemble is scored, and says nothing on the train set
        return teacher(
            own, task, folder(study, "teachers", f"soft-keep-{own.candidates.ensemble_size}", task)
        )
    return sized(study, variant.ensemble_size or study.candidates.ensemble_size, task)


def sized(study: Study, keep: int, task: str) -> Artifact:
    """The ensemble of the `keep` best candidates: the study's own where it is of that size."""
    if keep == study.candidates.ensemble_size:
        return teacher(study, task)
    own = study.model_copy(
        update={"candidates": study.candidates.model_copy(update={"ensemble_size": keep})}
    )
    return teacher(own, task, folder(study, "teachers", f"keep-{keep}", task))


def ensembles(study: Study) -> dict[int, dict[str, Artifact]]:
    """The ensembles of every size that a variant asks for, of all tasks of multi-task training: size -> task -> ensemble."""
    sizes = sorted(
        {variant.ensemble_size for variant in variants(study).values() if variant.ensemble_size}
        - {study.candidates.ensemble_size}
    )
    return {keep: {task: sized(study, keep, task) for task in study.multitask} for keep in sizes}


def folds(study: Study, count: int) -> list[Fold]:
    """The parts of the train sets of the tasks with a teacher."""
    return [
        Fold(number, count, tuple(study.distil.teachers), study.candidates.seed)
        for number in range(count)
    ]


def cross_fitted(study: Study, count: int, name: str) -> Artifact:
    """Soft targets of a task, each part of its train set scored by an ensemble that was trained without it."""
    task = study.task(name)
    teams = {fold: voices_of(task, members_of(study, name, fold)) for fold in folds(study, count)}
    inputs = {
        "stage": "cross-fitted",
        "task": name,
        "precision": study.train.precision,
        "members": [[voice[4], voice[3].fingerprint] for team in teams.values() for voice in team],
    }

    def parts():
        for fold, team in teams.items():
            whole = {voice[0]: examples_of(study, voice[0], task, task.train) for voice in team}
            part = {key: held_out(every, fold) for key, every in whole.items()}
            yield from (found for found, *_ in soft_targets(study, task, team, part))

    def build(out: Path) -> None:
        torch.set_num_threads(study.threads)
        write_soft_targets(out / "soft_targets.parquet", parts())

    return make(
        folder(study, "folds", f"{count}-keep-{study.candidates.ensemble_size}", name),
        inputs,
        build,
    )


def held_out(examples: Examples, fold: Fold) -> Examples:
    """The part of a task's train set that the fold's models were not trained on."""
    return examples.part(fold.inside(examples).nonzero()[0])


def _like_the_student(study: Study, name: str, variant: Variant, task: str) -> Artifact:
    own, dropout = study.student_encoder, study.model.encoder_dropout
    if variant.generations == 1:
        told, model = "mt-dnn", mtdnn(study, own, dropout, study.candidates.seed)
    else:
        told = first_generation(study, name)
        model = _student(
            study, told, variant.model_copy(update={"generations": 1}), study.candidates.seed
        )
    voices = [
        (own, dropout, encoder(study, own), model, told, list(map(study.task, study.multitask)))
    ]
    return words(study, folder(study, "teachers", f"self-{told}", task), study.task(task), voices)


def students(study: Study) -> list[Artifact]:
    """Every variant's student, of every seed."""
    return [
        ablation(study, name, seed) for name in variants(study) for seed in ablation_seeds(study)
    ]


def scores(study: Study) -> pd.DataFrame:
    """Scores that the ablation has: those of its students, and of ensembles of other sizes (`mt-dnn-ensemble:keep-<k>`)."""
    rows = [student.frame("scores.csv") for student in students(study)]
    for keep, found in ensembles(study).items():
        rows += [
            one.frame("scores.csv").assign(system=f"mt-dnn-ensemble:keep-{keep}")
            for one in found.values()
        ]
    return pd.concat(rows, ignore_index=True)


def sources(study: Study) -> list[Artifact]:
    """What the variants' soft targets come from beside the study's own ensembles, with all models trained for it, and the ensembles
    of other sizes.
    """
    found = [one for ensemble in ensembles(study).values() for one in ensemble.values()]
    for name, variant in variants(study).items():
        own = changed(study, variant)
        found += [_teacher(study, name, variant, task) for task in own.distil.teachers]
        found += further(own).values()
        if variant.source != "self_distillation":
            found += [model for task in study.multitask for *_, model in members_of(own, task)]
        for fold in folds(own, variant.folds or 0):
            kept = selection(own).query("kept").itertuples()
            found += [
                mtdnn(own, row.encoder, row.dropout, study.candidates.seed, fold) for row in kept
            ]
            found += [
                model for task in own.distil.teachers for *_, model in members_of(own, task, fold)
            ]
    return found
