"""Stage 03: a task's teacher, an ensemble of MT-DNNs fine-tuned on it (MT-DNN_KD, section 3)."""

import shutil

import datasets
import numpy as np
import pandas as pd

from mtkd.artifacts import Artifact, read, write_json
from mtkd.config.distillation import Distil, Unlabelled
from mtkd.config.study import Study
from mtkd.config.training import Candidate
from mtkd.data.dataset import Examples, tokenize
from mtkd.data.glue import directory_fingerprint, examples_fingerprint
from mtkd.data.snli import snli_location
from mtkd.data.unlabelled import unlabelled_texts
from mtkd.stages import data, mtdnn, pretrain
from mtkd.stages.common import Run, count_updates, variants
from mtkd.stages.ensemble import (
    SOFT_TARGETS,
    EnsembleMember,
    average_predictions,
    best_candidates,
    check_pieces,
    finetune_member,
    member_settings,
    predict_soft_targets,
    rank_candidates,
    score_ensemble,
    single_model,
    targets_settings,
)
from mtkd.stages.inputs import Inputs, Output, encoder_run
from mtkd.tasks import SNLI, Task
from mtkd.training.soft_targets import (
    CONFIDENCE_COLUMNS,
    SoftTargets,
    confidence_table,
    one_hot,
    read_soft_targets,
    write_soft_targets,
)

NAME = "03_teacher"
MAX_CONFIDENCE_ROWS = 100_000


def runs(study: Study) -> list[Run]:
    """Return a run per task of multi-task training."""
    return [Run(NAME, task=name) for name in study.multitask]


def parents(study: Study, run: Run) -> list[Run]:
    """Return the candidates to choose the ensemble from, and what labels further texts."""
    texts = _unlabelled(study, run.task)
    encoders = [candidate.encoder for candidate in study.candidate_models]
    encoders += [study.student_encoder] if texts else []
    above = [*map(encoder_run, dict.fromkeys(encoders))]
    above += map(mtdnn.candidate_run, study.candidate_models)
    if any(one.labels == "mt-dnn" for one in texts.values()):
        above.append(_vanilla_run(study))
    return list(dict.fromkeys([*above, *([Run(data.NAME)] if texts else [])]))


def _vanilla_run(study: Study) -> Run:
    """Return the run whose model labels further texts in place of an ensemble."""
    return mtdnn.baseline_run(study, study.candidates.seeds[0])


def depends(study: Study, run: Run) -> dict:
    """Return the settings of selection and fine-tuning, and which soft targets are wanted."""
    texts = _unlabelled(study, run.task).values()
    return {
        "sizes": ensemble_sizes(study),
        "ensemble_size": study.candidates.ensemble_size,
        "select_on": study.candidates.select_on,
        "member": member_settings(study, study.task(run.task)),
        "soft_targets": run.task in taught_tasks(study),
        "unlabelled": [_unlabelled_settings(settings) for settings in texts],
        "precision": study.train.precision,
    }


def steps(study: Study, run: Run) -> int:
    """Return the updates of all members' fine-tuning."""
    return ensemble_sizes(study)[-1] * count_updates(study, [run.task], study.member_finetuning)


def ensemble_sizes(study: Study) -> list[int]:
    """Return the sizes of ensembles that the study and its ablation ask for, in order."""
    sizes = {variant.ensemble_size for variant in variants(study) if variant.ensemble_size}
    return sorted({study.candidates.ensemble_size, *sizes})


def _distillations(study: Study) -> list[Distil]:
    """Return how the students are distilled that learn from this stage's ensembles."""
    others = ("cross_fit", "self_distillation")
    mine = [variant for variant in variants(study) if variant.source not in others]
    return [study.distil, *(variant.distil(study.distil, study.multitask) for variant in mine)]


def taught_tasks(study: Study) -> list[str]:
    """Return the tasks whose soft targets some student learns from."""
    wanted = {name for distil in _distillations(study) for name in distil.teachers}
    if study.mkd and study.mkd.teacher == "ensemble":
        wanted |= set(study.mkd.tasks)
    return [name for name in study.multitask if name in wanted]


def _unlabelled(study: Study, task: str) -> dict[str, Unlabelled]:
    """Return the further texts that some student learns the task from (no ranking), by name."""
    return {
        distil.unlabelled.name: distil.unlabelled
        for distil in _distillations(study)
        if distil.unlabelled and task in distil.teachers and task not in study.rankings
    }


def _unlabelled_settings(settings: Unlabelled) -> dict:
    source = directory_fingerprint(snli_location(), SNLI.name) if settings.snli else None
    return {"texts": settings.name, "snli": source}


def run(study: Study, task: str) -> Artifact:
    """Fine-tune the best candidates on a task and average them.

    The artifact holds `scores.csv` (the ensemble's dev scores), `ensembles.csv` (those of ensembles
    of other sizes), `members.csv` (those of each fine-tuned candidate, best first),
    `selection.csv` (the candidates), `predictions.parquet`, `confidence.parquet` and, for a task
    that a student is taught, `soft_targets.parquet` with every member's logits per train example.
    """
    inputs, settings = Inputs(study, Run(NAME, task=task)), study.task(task)
    ranked = rank_candidates(inputs)
    members, chosen = [], best_candidates(ranked, ensemble_sizes(study)[-1])
    encoders = [study.student_encoder, *(one.encoder for one in chosen)]
    check_pieces(settings, (inputs.train_set(name, settings) for name in encoders))
    for one in chosen:
        start = inputs[mtdnn.candidate_run(one)]
        members.append(finetune_member(inputs, one.name, settings, one, start))
    parts = {member.name: member.model for member in members}
    for texts in _unlabelled(study, task).values():
        parts |= _predict_unlabelled(inputs, settings, texts, members)

    def build(output: Output) -> None:
        _write_ensemble(inputs, settings, members, output)
        ranked.to_csv(output.folder / "selection.csv", index=False)

    return inputs.build(build, parts)


def _write_ensemble(
    inputs: Inputs, task: Task, members: list[EnsembleMember], output: Output
) -> None:
    study, folder, size = inputs.study, output.folder, inputs.study.candidates.ensemble_size
    chosen, predictions = members[:size], average_predictions(inputs, task, members[:size])
    scores, notes = score_ensemble(task, chosen, predictions, "mt-dnn-ensemble")
    others = []
    for other in ensemble_sizes(study):
        if other != size:
            averaged = average_predictions(inputs, task, members[:other])
            system = f"mt-dnn-ensemble:keep-{other}"
            others.append(score_ensemble(task, members[:other], averaged, system)[0])
    confidence = []
    classes = not (task.regression or task.grouped or task.generates)  # to be confident of
    for split, part in predictions.groupby("split", sort=False) if classes else ():
        outputs, labels = np.stack(part.outputs), part.label.to_numpy()
        confidence.append(confidence_table(task, split, "teacher", outputs, labels))
    if task.name in taught_tasks(study):
        sets = {member.encoder: inputs.train_set(member.encoder, task) for member in members}
        targets = predict_soft_targets(inputs, task, members, sets)
        write_soft_targets(folder / SOFT_TARGETS, targets)
        targets = read_soft_targets(folder / SOFT_TARGETS, task).first(size)
        labels = sets[chosen[0].encoder].labels
        rows = slice(None, None, -(-len(labels) // MAX_CONFIDENCE_ROWS))
        sources = [("member", outputs) for outputs in targets.member_probabilities]
        for source, outputs in [("teacher", targets.probabilities), *sources] if classes else ():
            table = confidence_table(task, "train", source, outputs[rows], labels[rows])
            confidence.append(table)
    scores.to_csv(folder / "scores.csv", index=False)
    pd.concat([scores[:0], *others]).to_csv(folder / "ensembles.csv", index=False)
    by_member = [one.model.frame("scores.csv").assign(candidate=one.name) for one in members]
    pd.concat(by_member).to_csv(folder / "members.csv", index=False)
    predictions.to_parquet(folder / "predictions.parquet", index=False)
    confidence = pd.concat(confidence or [pd.DataFrame(columns=CONFIDENCE_COLUMNS)])
    confidence.to_parquet(folder / "confidence.parquet", index=False)
    write_json(folder / "notes.json", notes)


def _predict_unlabelled(
    inputs: Inputs, task: Task, settings: Unlabelled, members: list[EnsembleMember]
) -> dict[str, Artifact]:
    """Return two parts: further texts of a task as word pieces, and the members' logits of them.

    An MT-DNN takes the members' place with `labels: mt-dnn`, and nothing with `labels: gold`. The
    first part holds `<encoder>.arrow` and `pad.json`, or a note alone if there is no text; the
    second, which is not there without texts or members, `soft_targets.parquet`.
    """
    study, name = inputs.study, settings.name
    if settings.labels == "mt-dnn":
        model = inputs[_vanilla_run(study)]
        members = single_model(study, study.student_encoder, model, "mt-dnn")[None]
    elif settings.labels == "gold":
        members = []
    encoders = list(dict.fromkeys([study.student_encoder, *(one.encoder for one in members)]))

    def splits(name: str) -> dict[str, datasets.Dataset]:
        return data.read_splits(inputs.data, study.task(name))

    def tokenize_texts(output: Output) -> None:
        folder, scratch = output.folder, output.folder / ".read"
        texts = unlabelled_texts(study, task, settings, splits, scratch)
        if not len(texts):
            note = f"{task.title}: there is no text beside its train set (unlabelled)."
            write_json(folder / "notes.json", [note])
        else:
            pad = {"fingerprint": examples_fingerprint(texts, task)}
            for encoder in encoders:
                tokenizer, longest = inputs.tokenizer(encoder)
                tokenize(texts, task, tokenizer, longest, folder / f"{encoder}.arrow")
                pad[encoder] = tokenizer.pad_token_id
            write_json(folder / "pad.json", pad)
        shutil.rmtree(scratch, ignore_errors=True)

    def predict_texts(output: Output) -> None:
        sets = {encoder: _read_texts(texts, task, encoder) for encoder in encoders}
        targets = predict_soft_targets(inputs, task, members, sets)
        write_soft_targets(output.folder / SOFT_TARGETS, targets)

    above = inputs.only(pretrain.NAME, data.NAME)
    depends = _unlabelled_settings(settings) | {"encoders": encoders}
    texts = inputs.build_part(name, depends, above, tokenize_texts)
    if not members or "pad.json" not in texts.record["files"]:
        return {name: texts}
    depends = targets_settings(study, members) | {"texts": texts.fingerprint}
    targets = inputs.build_part(f"{name}.targets", depends, above, predict_texts)
    return {name: texts, f"{name}.targets": targets}


def _read_texts(texts: Artifact, task: Task, encoder: str) -> Examples:
    """Return further texts as an encoder's word pieces."""
    split, pad = (
        datasets.Dataset.from_file(str(texts.file(f"{encoder}.arrow"))),
        texts.json("pad.json"),
    )
    return Examples(task, split, pad["fingerprint"], pad[encoder])


def soft_targets(teacher: Artifact, task: Task, size: int) -> SoftTargets:
    """Return this stage's soft targets of the ensemble of the `size` best candidates."""
    return read_soft_targets(teacher.file(SOFT_TARGETS), task).first(size)


def members(study: Study, task: str, size: int | None = None) -> list[tuple[Candidate, Artifact]]:
    """Return the fine-tuned members of a task's ensemble, best first, once the stage is done."""
    this = Run(NAME, task=task)
    ranked = read(this.folder(study)).frame("selection.csv")
    chosen = best_candidates(ranked, size or study.candidates.ensemble_size)
    return [(one, read(this.part_folder(study, one.name))) for one in chosen]


def unlabelled_examples(
    study: Study, settings: Unlabelled, task: Task, size: int, kind: str
) -> Examples | None:
    """Return a task's further texts with soft targets of a kind (see `SoftTargets.aligned`).

    Labels that are classes become one-hot probabilities. None if there is no text.
    """
    name, this = settings.name, Run(NAME, task=task.name)
    texts = read(this.part_folder(study, name))
    if "pad.json" not in texts.record["files"]:
        return None
    examples = _read_texts(texts, task, study.student_encoder)
    if settings.labels == "gold":
        return examples.replace(soft_targets=one_hot(task, examples.labels))
    members = 1 if settings.labels == "mt-dnn" else size
    part = read(this.part_folder(study, f"{name}.targets"))
    targets = read_soft_targets(part.file(SOFT_TARGETS), task).first(members)
    outputs = targets.aligned(examples, kind)
    if settings.labels == "hard" and not task.regression:
        outputs = one_hot(task, outputs.argmax(axis=1))
    return examples.replace(soft_targets=outputs)
