"""Stage 03: a task's teacher, the ensemble of the best MT-DNNs fine-tuned on it (MT-DNN_KD, section
3, Eq. 3).
"""

import shutil
from collections.abc import Iterator

import datasets
import numpy as np
import pandas as pd

from mtkd.artifacts import Artifact, read, write_json
from mtkd.config.distillation import Unlabelled
from mtkd.config.study import Study
from mtkd.config.training import Candidate
from mtkd.data.dataset import Examples, tokenize
from mtkd.data.glue import directory_fingerprint, examples_fingerprint
from mtkd.data.snli import snli_location
from mtkd.data.unlabelled import unlabelled_texts
from mtkd.stages import data, mtdnn, pretrain
from mtkd.stages.common import Output, Run, build_or_load, build_part, count_updates
from mtkd.stages.ensemble import (
    SOFT_TARGETS,
    EnsembleMember,
    MemberTraining,
    finetune_member,
    member_settings,
    predict_soft_targets,
    rank_candidates,
)
from mtkd.stages.inputs import Inputs
from mtkd.tasks import SNLI, Task
from mtkd.training.predict import score_rows
from mtkd.training.soft_targets import (
    CONFIDENCE_COLUMNS,
    SoftTargets,
    average_members,
    confidence_table,
    read_soft_targets,
    write_soft_targets,
)

NAME = "03_teacher"
MAX_CONFIDENCE_ROWS = 100_000


def runs(study: Study) -> list[Run]:
    """Return a run per task of multi-task training."""
    return [Run(NAME, task=name) for name in study.multitask]


def parents(study: Study, run: Run) -> list[Run]:
    """Return the candidates that the ensemble is chosen among, and their encoders."""
    encoders = dict.fromkeys(candidate.encoder for candidate in study.candidate_models)
    if _unlabelled(study, run.task):
        encoders |= {study.student_encoder: None}
    above = [Run(pretrain.NAME, encoder=encoder) for encoder in encoders]
    above += [mtdnn.candidate_run(study, candidate) for candidate in study.candidate_models]
    return [*above, *([Run(data.NAME)] if _unlabelled(study, run.task) else [])]


def depends(study: Study, run: Run) -> dict:
    """Return the settings of selection and fine-tuning, and what the soft targets are wanted
    for.
    """
    texts = _unlabelled(study, run.task)
    return {
        "sizes": ensemble_sizes(study),
        "ensemble_size": study.candidates.ensemble_size,
        "select_on": study.candidates.select_on,
        "member": member_settings(study, study.task(run.task)),
        "soft_targets": run.task in taught_tasks(study),
        "unlabelled": [_unlabelled_settings(study, settings) for settings in texts],
        "precision": study.train.precision,
    }


def steps(study: Study, run: Run) -> int:
    """Return the updates of all members' fine-tuning."""
    return ensemble_sizes(study)[-1] * count_updates(study, [run.task], study.member_finetuning)


def ensemble_sizes(study: Study) -> list[int]:
    """Return the sizes of ensembles that the study and its ablation ask for, in order."""
    variants = study.ablation.variants.values() if study.ablation else ()
    sizes = {variant.ensemble_size for variant in variants if variant.ensemble_size}
    return sorted({study.candidates.ensemble_size, *sizes})


def taught_tasks(study: Study) -> list[str]:
    """Return the tasks whose soft targets some student learns from."""
    wanted = set(study.distil.teachers)
    for variant in study.ablation.variants.values() if study.ablation else ():
        if variant.source not in ("cross_fit", "self_distillation"):
            wanted |= set(variant.distil(study.distil, study.multitask).teachers)
    if study.mkd and study.mkd.teacher == "ensemble":
        wanted |= set(study.mkd.tasks)
    return [name for name in study.multitask if name in wanted]


def _unlabelled(study: Study, task: str) -> list[Unlabelled]:
    """Return the settings of further texts that some student learns the task from."""
    wanted = [study.distil]
    for variant in study.ablation.variants.values() if study.ablation else ():
        wanted.append(variant.distil(study.distil, study.multitask))
    texts = [
        distil.unlabelled for distil in wanted if distil.unlabelled and task in distil.teachers
    ]
    return list({unlabelled_name(settings): settings for settings in texts}.values())


def unlabelled_name(settings: Unlabelled) -> str:
    """Return a name of some further texts, such as `snli-100-other_tasks-50`."""
    amounts = settings.model_dump(exclude={"extra_updates"})
    return "-".join(f"{source}-{amount}" for source, amount in amounts.items() if amount)


def _unlabelled_settings(study: Study, settings: Unlabelled) -> dict:
    source = directory_fingerprint(snli_location(), SNLI.name) if settings.snli else None
    return {"texts": unlabelled_name(settings), "snli": source, "max_train": study.data.max_train}


def run(study: Study, task: str) -> Artifact:
    """Fine-tune the best candidates on a task and average them.

    The artifact holds `scores.csv` (the ensemble's dev scores), `ensembles.csv` (those of ensembles
    of other sizes), `members.csv`, `selection.csv` (the candidates), `predictions.parquet`,
    `confidence.parquet` and, for a task that a student is taught, `soft_targets.parquet` with every
    member's logits per train example.
    """
    this = Run(NAME, task=task)
    inputs = Inputs(study, this)
    candidates = rank_candidates(study, inputs.only(mtdnn.NAME))
    members = _finetune_members(inputs, this, candidates)
    parts = {member.name: member.model for member in members}
    for settings in _unlabelled(study, task):
        name = unlabelled_name(settings)
        parts[name] = _predict_unlabelled(inputs, this, settings, members)

    def build(output: Output) -> None:
        _write_ensemble(inputs, study.task(task), members, output)
        candidates.to_csv(output.folder / "selection.csv", index=False)

    return build_or_load(study, this, build, parts)


def _finetune_members(inputs: Inputs, this: Run, ranked: pd.DataFrame) -> list[EnsembleMember]:
    study, task = inputs.study, inputs.study.task(this.task)
    members = []
    for row in ranked.head(ensemble_sizes(study)[-1]).itertuples():
        candidate = Candidate(row.encoder, row.dropout)
        above = Run(pretrain.NAME, encoder=candidate.encoder), mtdnn.candidate_run(study, candidate)
        parents = {parent: inputs[parent] for parent in above}
        member = MemberTraining(task, candidate, start=inputs[above[-1]])
        members.append(finetune_member(inputs, this, candidate.name, member, parents))
    return members


def _write_ensemble(
    inputs: Inputs, task: Task, members: list[EnsembleMember], output: Output
) -> None:
    study = inputs.study
    size = study.candidates.ensemble_size
    chosen = members[:size]
    scores, notes, confidence, predictions = _score(task, chosen, "mt-dnn-ensemble")
    others = [
        _score(task, members[:other], f"mt-dnn-ensemble:keep-{other}")[0]
        for other in ensemble_sizes(study)
        if other != size
    ]
    if task.name in taught_tasks(study):
        targets = predict_soft_targets(inputs, task, members)
        with_confidence = _collect_confidence(targets, size, confidence)
        write_soft_targets(output.folder / SOFT_TARGETS, with_confidence)
    scores.to_csv(output.folder / "scores.csv", index=False)
    pd.concat([scores[:0], *others]).to_csv(output.folder / "ensembles.csv", index=False)
    by_member = [m.model.frame("scores.csv").assign(candidate=m.name) for m in chosen]
    pd.concat(by_member).to_csv(output.folder / "members.csv", index=False)
    predictions.to_parquet(output.folder / "predictions.parquet", index=False)
    table = pd.concat(confidence or [pd.DataFrame(columns=CONFIDENCE_COLUMNS)])
    table.to_parquet(output.folder / "confidence.parquet", index=False)
    write_json(output.folder / "notes.json", notes)


def _score(
    task: Task, members: list[EnsembleMember], system: str
) -> tuple[pd.DataFrame, list[str], list[pd.DataFrame], pd.DataFrame]:
    """Return an ensemble's scores, notes, confidence per example, and predictions on the dev
    sets.
    """
    frames = [member.model.frame("predictions.parquet") for member in members]
    averaged = average_members([np.stack(frame.outputs) for frame in frames])
    predictions = frames[0].assign(outputs=list(averaged))
    rows, notes, confidence = [], [], []
    for split, part in predictions.groupby("split", sort=False):
        outputs, labels = np.stack(part.outputs), part.label.to_numpy()
        split_rows, split_notes = score_rows(task, split, outputs, labels)
        rows += split_rows
        notes += split_notes
        if not task.regression:
            confidence.append(confidence_table(task, split, "teacher", outputs, labels))
    own = [member.model.frame("scores.csv").iloc[0] for member in members]
    params, seconds = sum(row.params for row in own), sum(row.seconds for row in own)
    scores = pd.DataFrame(rows).assign(system=system, seed=np.nan, params=params, seconds=seconds)
    return scores, notes, confidence, predictions


def _collect_confidence(
    parts: Iterator[tuple[SoftTargets, np.ndarray, int]], size: int, confidence: list[pd.DataFrame]
) -> Iterator[SoftTargets]:
    """Pass soft targets on, and add the confidence on at most 100,000 evenly spread examples."""
    seen = 0
    for targets, labels, total in parts:
        step = -(-total // MAX_CONFIDENCE_ROWS)
        rows = slice(-seen % step, None, step)
        if not targets.task.regression:
            chosen = targets.first(size)
            average, by_member = chosen.probabilities[rows], chosen.member_probabilities
            args = (targets.task, "train")
            confidence.append(confidence_table(*args, "teacher", average, labels[rows]))
            for probabilities in by_member:
                table = confidence_table(*args, "member", probabilities[rows], labels[rows])
                confidence.append(table)
        seen += len(labels)
        yield targets


def _predict_unlabelled(
    inputs: Inputs, this: Run, settings: Unlabelled, members: list[EnsembleMember]
) -> Artifact:
    """Return further texts of a task as the student's word pieces, with the members' logits for
    each.

    The part holds `tokens.arrow`, `pad.json` and `soft_targets.parquet`, or a note alone if there
    is no text.
    """
    study, task = inputs.study, inputs.study.task(this.task)
    name = unlabelled_name(settings)
    depends = {
        **_unlabelled_settings(study, settings),
        "precision": study.train.precision,
        "members": [[member.name, member.model.fingerprint] for member in members],
    }

    def splits(name: str) -> dict[str, datasets.Dataset]:
        return data.read_splits(inputs.data, study.task(name))

    def build(output: Output) -> None:
        scratch = output.folder / ".read"
        texts = unlabelled_texts(study, task, settings, splits, scratch)
        if not len(texts):
            note = f"{task.title}: there is no text beside its train set (unlabelled)."
            write_json(output.folder / "notes.json", [note])
        else:
            fingerprint, sets = examples_fingerprint(texts, task), {}
            for encoder in dict.fromkeys([study.student_encoder, *(m.encoder for m in members)]):
                tokenizer, longest = inputs.tokenizer(encoder), inputs.max_length(encoder)
                mine = encoder == study.student_encoder
                path = output.folder / "tokens.arrow" if mine else None
                tokens = tokenize(texts, task, tokenizer, longest, path)
                sets[encoder] = Examples(task, tokens, fingerprint, tokenizer.pad_token_id)
                if mine:
                    write_json(output.folder / "pad.json", tokenizer.pad_token_id)
            targets = predict_soft_targets(inputs, task, members, sets)
            write_soft_targets(output.folder / SOFT_TARGETS, (part for part, *_ in targets))
        shutil.rmtree(scratch, ignore_errors=True)

    parents = {run: inputs[run] for run in inputs.only(pretrain.NAME, data.NAME)}
    return build_part(study, this, name, depends, parents, build)


def soft_targets(teacher: Artifact, task: Task, size: int) -> SoftTargets:
    """Return the soft targets of the ensemble of the `size` best candidates, from this stage's
    artifact.
    """
    return read_soft_targets(teacher.file(SOFT_TARGETS), task).first(size)


def members(study: Study, task: str, size: int | None = None) -> list[tuple[Candidate, Artifact]]:
    """Return the fine-tuned members of a task's ensemble, best first, once the stage is done."""
    this = Run(NAME, task=task)
    chosen = read(this.folder(study)).frame("selection.csv")
    size = size or study.candidates.ensemble_size
    candidates = [Candidate(row.encoder, row.dropout) for row in chosen.head(size).itertuples()]
    return [(one, read(this.part_folder(study, one.name))) for one in candidates]


def unlabelled_examples(
    study: Study, settings: Unlabelled, task: Task, size: int, kind: str
) -> Examples | None:
    """Return a task's further texts with soft targets of a `kind` ("probabilities" or "logits").

    None if there is no text.
    """
    part = read(Run(NAME, task=task.name).part_folder(study, unlabelled_name(settings)))
    if "tokens.arrow" not in part.record["files"]:
        return None
    targets = read_soft_targets(part.file(SOFT_TARGETS), task).first(size)
    split = datasets.Dataset.from_file(str(part.file("tokens.arrow")))
    examples = Examples(task, split, targets.fingerprint, part.json("pad.json"))
    return examples.replace(soft_targets=targets.aligned(examples, kind))
