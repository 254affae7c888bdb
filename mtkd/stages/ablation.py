"""Stage 06: students distilled in other ways than MT-DNN_KD, compared with it before fine-tuning.

The encoder, the batches of a seed and the initial weights are those of 04_student. A variant
changes how soft targets enter the loss, the ensembles, the epochs, how tasks are combined, or the
source of soft targets:

    ensemble           the study's teachers (MT-DNN_KD, Eq. 3)
    unlabelled         the study's teachers, also on texts without labels
    cross_fit          ensembles that were trained without the part of a train set that they predict
    self_distillation  one model of the student's size, for all tasks: the vanilla MT-DNN with the
                       candidates' first seed, or (generation 2) the student that this one taught
"""

from dataclasses import asdict

from mtkd.artifacts import Artifact
from mtkd.config.distillation import Variant
from mtkd.config.study import Study
from mtkd.config.training import Candidate
from mtkd.errors import UserError
from mtkd.stages import mtdnn, student, teacher
from mtkd.stages.common import Run, count_updates, lookup
from mtkd.stages.ensemble import (
    SOFT_TARGETS,
    EnsembleMember,
    best_candidates,
    build_soft_targets,
    finetune_member,
    member_settings,
    rank_candidates,
    single_model,
)
from mtkd.stages.inputs import Inputs, Output, encoder_run
from mtkd.stages.student import StudentTraining
from mtkd.tasks import Task
from mtkd.training.soft_targets import Fold, read_soft_targets

NAME = "06_ablation"


def runs(study: Study) -> list[Run]:
    """Return a run per variant and seed, each after those runs of this stage that it reads."""
    variants, seeds = (
        (study.ablation.variants, study.ablation.seeds) if study.ablation else ({}, ())
    )
    names = sorted(variants, key=lambda name: variants[name].generations == 2)
    return [Run(NAME, variant=name, seed=seed) for name in names for seed in seeds]


def parents(study: Study, run: Run) -> list[Run]:
    """Return where soft targets are from; other seeds may read those of the first seed's run."""
    variant, encoders = find_variant(study, run.variant), [study.student_encoder]
    if not (variant.folds or variant.generations):
        names = variant.distil(study.distil, study.multitask).teachers
        above = [Run(teacher.NAME, task=name) for name in names]
    elif run != first_run(study, run.variant):
        above = [first_run(study, run.variant)]
    elif variant.generations:
        above = [_model_like_the_student(study, run.variant)]
    else:
        above = map(mtdnn.candidate_run, study.candidate_models)
        encoders += [candidate.encoder for candidate in study.candidate_models]
    return [*map(encoder_run, dict.fromkeys(encoders)), *above]


def find_variant(study: Study, name: str) -> Variant:
    """Return a variant of the study; raise `UserError` if there is none of that name."""
    return lookup(study, "variant", name, study.require("ablation").variants)


def first_run(study: Study, name: str) -> Run:
    """Return the run of a variant that makes soft targets for all its seeds."""
    return Run(NAME, variant=name, seed=study.ablation.seeds[0])


def _model_like_the_student(study: Study, name: str) -> Run:
    """Return the run whose model teaches a self-distilled variant's students."""
    variants, seed = study.ablation.variants, study.candidates.seeds[0]
    if variants[name].generations == 1:
        return mtdnn.baseline_run(study, seed)
    first = variants[name].model_copy(update={"generations": 1}).changes
    same = [other for other, variant in variants.items() if variant.changes == first]
    if not same or seed not in study.ablation.seeds:
        raise UserError(
            f"ablation.variants.{name}: generations: 2 learns from a student of generations: 1 "
            f"with the first of candidates.seeds ({seed}): add that variant, otherwise the same, "
            "and the seed."
        )
    return Run(NAME, variant=same[0], seed=seed)


def depends(study: Study, run: Run) -> dict:
    """Return the settings that change the student's weights and its soft targets."""
    variant, training = find_variant(study, run.variant), training_of(study, run)
    settings = student.student_settings(study, training)
    settings |= variant.model_dump(include={"source", "folds", "generations"})
    if variant.folds:
        tasks = map(study.task, training.distil.teachers)
        settings["candidates"] = mtdnn.multitask_settings(study, study.train)
        settings["members"] = [member_settings(study, task) for task in tasks]
        settings |= study.candidates.model_dump(include={"seeds", "select_on"})
    return settings


def steps(study: Study, run: Run) -> int:
    """Return the updates of a student, and for the first seed those of models that teach it."""
    variant, training = find_variant(study, run.variant), training_of(study, run)
    updates = student.student_steps(study, training)
    if variant.folds and run == first_run(study, run.variant):
        member = count_updates(study, study.multitask, study.train)
        member += count_updates(study, training.distil.teachers, study.member_finetuning)
        updates += variant.folds * training.ensemble_size * member
    return updates


def run(study: Study, variant: str, seed: int) -> Artifact:
    """Train the student of a variant, or load it; the artifact holds what 04_student's does."""
    this = Run(NAME, variant=variant, seed=seed)
    training, inputs = training_of(study, this), Inputs(study, this)
    parts = _soft_targets(inputs, training)

    def build(output: Output) -> None:
        files = {name: part.file(SOFT_TARGETS) for name, part in parts.items()}
        read = {name: read_soft_targets(file, study.task(name)) for name, file in files.items()}
        targets = read or student.teachers_targets(inputs, training)
        student.train_student(inputs, training, targets, output)

    return inputs.build(build, parts)


def training_of(study: Study, run: Run) -> StudentTraining:
    """Return how a variant's student is trained."""
    variant = find_variant(study, run.variant)
    distil = variant.distil(study.distil, study.multitask)
    train, epochs = study.train, variant.epochs or study.train.epochs
    changed = {"epochs": epochs, "combine": variant.combine or train.combine}
    train = train.model_copy(update=changed)
    size = variant.ensemble_size or study.candidates.ensemble_size
    return StudentTraining(f"mt-dnn-kd:{run.variant}", distil, train, run.seed, size)


def _soft_targets(inputs: Inputs, training: StudentTraining) -> dict[str, Artifact]:
    """Return a part per task with the soft targets that are not of 03_teacher."""
    study, name = inputs.study, inputs.this.variant
    variant, first = find_variant(study, name), first_run(study, name)
    if not (variant.folds or variant.generations):
        return {}
    tasks = {task: f"soft_targets/{task}" for task in training.distil.teachers}
    if inputs.this != first:
        return {task: inputs.part(first, part) for task, part in tasks.items()}
    if variant.generations:
        run = _model_like_the_student(study, name)
        model = run.variant if run.stage == NAME else "mt-dnn"
        teams = single_model(study, study.student_encoder, inputs[run], model)
        return {
            task: build_soft_targets(inputs, part, study.task(task), teams)
            for task, part in tasks.items()
        }
    candidates = best_candidates(rank_candidates(inputs), training.ensemble_size)
    seed, parts = study.candidates.seeds[0], {}
    folded = tuple(dict.fromkeys(study.task(name).ranks or name for name in tasks))
    folds = [Fold(number, variant.folds, folded, seed) for number in range(variant.folds)]
    for name, part in tasks.items():
        task = study.task(name)
        teams = {fold: [_member(inputs, task, one, fold) for one in candidates] for fold in folds}
        parts[name] = build_soft_targets(inputs, part, task, teams)
    return parts


def _member(inputs: Inputs, task: Task, candidate: Candidate, fold: Fold) -> EnsembleMember:
    """Train a candidate, and fine-tune it on a task, without a fold of the train sets."""
    run = mtdnn.candidate_run(candidate)
    depends = {"run": run.name, **mtdnn.depends(inputs.study, run), "fold": asdict(fold)}

    def build(output: Output) -> None:
        mtdnn.train_mtdnn(inputs, run, output, fold)

    folder = f"folds/{fold.number + 1}-of-{fold.of}"
    part, parents = f"{folder}/all/{candidate.name}", mtdnn.parents(inputs.study, run)
    start = inputs.build_part(part, depends, parents, build, shared=True)
    part = f"{folder}/{task.name}/{candidate.name}"
    return finetune_member(inputs, part, task, candidate, start, fold)
