"""Stage 06: students distilled in other ways than MT-DNN_KD, compared with it before fine-tuning.

The encoder, the batches of a seed and the initial weights are those of 04_student. A variant
changes how soft targets enter the loss, the ensembles, the epochs, or the source of soft targets:

    ensemble           the study's teachers (MT-DNN_KD, Eq. 3)
    unlabelled         the study's teachers, also on texts without labels
    cross_fit          ensembles that were trained without the part of a train set that they predict
    self_distillation  one model of the student's size, for all tasks: the vanilla MT-DNN with the
                       candidates' seed, or (generation 2) the student that this one taught
"""

from dataclasses import replace

from mtkd.artifacts import Artifact
from mtkd.config.distillation import Variant
from mtkd.config.study import Study
from mtkd.config.training import Candidate
from mtkd.errors import UserError
from mtkd.stages import mtdnn, pretrain, student, teacher
from mtkd.stages.common import Output, Run, build_or_load, build_part, count_updates
from mtkd.stages.ensemble import (
    SOFT_TARGETS,
    EnsembleMember,
    MemberTraining,
    build_soft_targets,
    finetune_member,
    member_settings,
    rank_candidates,
)
from mtkd.stages.inputs import Inputs
from mtkd.stages.student import StudentTraining
from mtkd.tasks import Task
from mtkd.training.soft_targets import Fold, SoftTargets, read_soft_targets

NAME = "06_ablation"
SHARED = Run(NAME)  # the owner of models that several variants use


def runs(study: Study) -> list[Run]:
    """Return a run per seed and variant, each after those runs of this stage that it reads."""
    ordered: dict[Run, None] = {}

    def add(run: Run) -> None:
        for parent in parents(study, run):
            if parent.stage == NAME:
                add(parent)
        ordered[run] = None

    for seed in study.ablation.seeds if study.ablation else ():
        for name in study.ablation.variants:
            add(Run(NAME, variant=name, seed=seed))
    return list(ordered)


def parents(study: Study, run: Run) -> list[Run]:
    """Return where soft targets are from; other seeds may read those of the first seed's run."""
    variant, encoders = find_variant(study, run.variant), [study.student_encoder]
    if not (variant.folds or variant.generations):
        names = variant.distil(study.distil, study.multitask).teachers
        above = [Run(teacher.NAME, task=name) for name in names]
    elif run != first_run(study, run.variant):
        above = [first_run(study, run.variant)]
    elif variant.generations:
        first = first_generation(study, run.variant)
        baseline = mtdnn.baseline_run(study, study.candidates.seed)
        above = [first if is_run(study, first) else baseline]
    else:
        above = [mtdnn.candidate_run(study, candidate) for candidate in study.candidate_models]
        encoders += [candidate.encoder for candidate in study.candidate_models]
    return [*(Run(pretrain.NAME, encoder=name) for name in dict.fromkeys(encoders)), *above]


def find_variant(study: Study, name: str) -> Variant:
    """Return a variant of the study; raise `UserError` if there is none of that name."""
    variants = study.require("ablation").variants
    if name not in variants:
        raise UserError(
            f"There is no variant '{name}' in study {study.name}: its variants are "
            f"{', '.join(variants)}."
        )
    return variants[name]


def first_run(study: Study, name: str) -> Run:
    """Return the run of a variant that makes soft targets for all its seeds."""
    return Run(NAME, variant=name, seed=study.ablation.seeds[0])


def first_generation(study: Study, name: str) -> Run | None:
    """Return the run of a generation 2 variant's teacher, which the study may lack; else None."""
    variants = study.ablation.variants
    if variants[name].generations != 2:
        return None
    first = variants[name].model_copy(update={"generations": 1}).changes
    same = (other for other, variant in variants.items() if variant.changes == first)
    return Run(NAME, variant=next(same, f"{name}.first"), seed=study.candidates.seed)


def is_run(study: Study, run: Run | None) -> bool:
    """Tell whether a run of this stage is one of the study's."""
    section = study.ablation
    return bool(run) and run.variant in section.variants and run.seed in section.seeds


def depends(study: Study, run: Run) -> dict:
    """Return the settings that change the student's weights and its soft targets."""
    variant, training = find_variant(study, run.variant), training_of(study, run)
    settings = student.student_settings(study, training.distil, training.train)
    settings |= variant.model_dump(include={"source", "folds", "generations"})
    settings["ensemble_size"] = training.ensemble_size
    if variant.folds:
        tasks = map(study.task, training.distil.teachers)
        settings["candidates"] = mtdnn.multitask_settings(study, study.train)
        settings["members"] = [member_settings(study, task) for task in tasks]
        settings |= study.candidates.model_dump(include={"seed", "select_on"})
    return settings


def steps(study: Study, run: Run) -> int:
    """Return the updates of a student, and for the first seed those of models that teach it."""
    variant, training = find_variant(study, run.variant), training_of(study, run)
    updates = student.student_steps(study, training.distil, training.train)
    if run == first_run(study, run.variant):
        first = first_generation(study, run.variant)
        updates *= 2 if first and not is_run(study, first) else 1
        candidate = count_updates(study, study.multitask, study.train)
        candidate += count_updates(study, training.distil.teachers, study.member_finetuning)
        updates += (variant.folds or 0) * training.ensemble_size * candidate
    return updates


def run(study: Study, variant: str, seed: int) -> Artifact:
    """Train the student of a variant, or load it; the artifact holds what 04_student's does."""
    this = Run(NAME, variant=variant, seed=seed)
    training, inputs = training_of(study, this), Inputs(study, this)
    parts = _soft_targets(inputs, this)

    def build(output: Output) -> None:
        targets = _read(study, parts) or {
            name: teacher.soft_targets(
                inputs[Run(teacher.NAME, task=name)], study.task(name), training.ensemble_size
            )
            for name in training.distil.teachers
        }
        student.train_student(inputs, this, replace(training, soft_targets=targets), output)

    return build_or_load(study, this, build, parts)


def training_of(study: Study, run: Run) -> StudentTraining:
    """Return how a variant's student is trained, without soft targets."""
    variant = find_variant(study, run.variant)
    distil = variant.distil(study.distil, study.multitask)
    train = study.train.model_copy(update={"epochs": variant.epochs or study.train.epochs})
    size = variant.ensemble_size or study.candidates.ensemble_size
    return StudentTraining(f"mt-dnn-kd:{run.variant}", distil, train, run.seed, {}, size)


def _read(study: Study, parts: dict[str, Artifact]) -> dict[str, SoftTargets]:
    files = {name: part.file(SOFT_TARGETS) for name, part in parts.items()}
    return {name: read_soft_targets(file, study.task(name)) for name, file in files.items()}


def _soft_targets(inputs: Inputs, this: Run) -> dict[str, Artifact]:
    """Return a part per task with the soft targets that are not of 03_teacher."""
    study, variant = inputs.study, find_variant(inputs.study, this.variant)
    training, first = training_of(study, this), first_run(study, this.variant)
    names = training.distil.teachers
    if not (variant.folds or variant.generations):
        return {}
    if this != first:
        return {name: inputs.part(first, f"soft_targets/{name}") for name in names}
    if variant.generations:
        return _predict(inputs, this, "soft_targets", _model_like_the_student(inputs, this))
    ranked = rank_candidates(study, inputs.only(mtdnn.NAME)).head(training.ensemble_size)
    candidates = [Candidate(row.encoder, row.dropout) for row in ranked.itertuples()]
    seed, parts = study.candidates.seed, {}
    folds = [Fold(number, variant.folds, tuple(names), seed) for number in range(variant.folds)]
    for task in map(study.task, names):
        teams = {fold: [_member(inputs, task, one, fold) for one in candidates] for fold in folds}
        part = f"soft_targets/{task.name}"
        parts[task.name] = build_soft_targets(inputs, this, part, task, teams)
    return parts


def _member(inputs: Inputs, task: Task, candidate: Candidate, fold: Fold) -> EnsembleMember:
    """Train a candidate, and fine-tune it on a task, without a part of the train sets."""
    study, this = inputs.study, mtdnn.candidate_run(inputs.study, candidate)
    encoder = Run(pretrain.NAME, encoder=candidate.encoder)
    parents = {encoder: inputs[encoder]}
    depends = {"run": this.name, **mtdnn.depends(study, this), **mtdnn.fold_settings(fold)}

    def build(output: Output) -> None:
        mtdnn.train_mtdnn(inputs, this, output, fold)

    folder = f"folds/{fold.number + 1}-of-{fold.of}"
    start = build_part(study, SHARED, f"{folder}/all/{candidate.name}", depends, parents, build)
    member = MemberTraining(task, candidate, start, fold)
    return finetune_member(
        inputs, SHARED, f"{folder}/{task.name}/{candidate.name}", member, parents
    )


def _model_like_the_student(inputs: Inputs, this: Run) -> EnsembleMember:
    """Return the model that a self-distilled student learns from; train it if it is no run's."""
    study, first = inputs.study, first_generation(inputs.study, this.variant)

    def member(model: Artifact, name: str) -> EnsembleMember:
        tasks = tuple(map(study.task, study.multitask))
        return EnsembleMember(
            study.student_encoder, study.model.encoder_dropout, model, name, tasks
        )

    if is_run(study, first):
        return member(inputs[first], first.variant)
    baseline = member(inputs[mtdnn.baseline_run(study, study.candidates.seed)], "mt-dnn")
    if first is None:
        return baseline
    parts = _predict(inputs, this, "first_generation/soft_targets", baseline)
    settings = depends(study, this) | {
        "run": first.name,
        "parts": [part.fingerprint for part in parts.values()],
    }

    def build(output: Output) -> None:
        system, targets = f"mt-dnn-kd:{first.variant}", _read(study, parts)
        training = replace(
            training_of(study, this), system=system, seed=first.seed, soft_targets=targets
        )
        student.train_student(inputs, this, training, output)

    encoder = Run(pretrain.NAME, encoder=study.student_encoder)
    parents = {encoder: inputs[encoder]}
    model = build_part(study, this, "first_generation/student", settings, parents, build)
    return member(model, first.variant)


def _predict(inputs: Inputs, this: Run, part: str, member: EnsembleMember) -> dict[str, Artifact]:
    """Return a part with a single model's soft targets for each of its tasks."""
    return {
        task.name: build_soft_targets(inputs, this, f"{part}/{task.name}", task, {None: [member]})
        for task in member.tasks
    }
