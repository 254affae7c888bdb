"""Ensembles of models fine-tuned on one task, and their soft targets (MT-DNN_KD, section 3)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch

from mtkd.artifacts import Artifact
from mtkd.config.study import Study
from mtkd.config.training import Candidate
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.models.multitask import MultiTaskModel
from mtkd.stages import mtdnn
from mtkd.stages.common import weight_settings
from mtkd.stages.fit import ModelTraining, fit, predictions
from mtkd.stages.inputs import Inputs, Output, encoder_run
from mtkd.tasks import SELECTION, Task
from mtkd.training.generate import generate, with_rouge
from mtkd.training.predict import predict, score_rows
from mtkd.training.soft_targets import (
    Fold,
    SoftTargets,
    average_members,
    chunks,
    select_candidates,
    write_soft_targets,
)

SOFT_TARGETS = "soft_targets.parquet"


@dataclass(frozen=True)
class EnsembleMember:
    """A trained model with heads for `tasks`, whose predictions are averaged with others'.

    `new_model` returns a model for the weights where they are no MT-DNN's.
    """

    encoder: str
    dropout: float
    model: Artifact
    name: str
    tasks: tuple[Task, ...]
    new_model: Callable[[], MultiTaskModel] | None = None


def single_model(
    study: Study, encoder: str, model: Artifact, name: str
) -> dict[None, list[EnsembleMember]]:
    """Return the `teams` of `build_soft_targets` where one model predicts all examples."""
    tasks = tuple(map(study.task, study.multitask))
    return {None: [EnsembleMember(encoder, study.model.encoder_dropout, model, name, tasks)]}


def rank_candidates(inputs: Inputs) -> pd.DataFrame:
    """Return the candidates, best first, by their scores on the tasks `candidates.select_on`.

    These are of the dev sets, or of the split `SELECTION` where the study has one. Columns:
    candidate, encoder, dropout, seed, a column per task, mean, kept (in the study's ensembles).
    """
    study, scores = inputs.study, []
    candidates = {candidate.name: candidate for candidate in study.candidate_models}
    for name, candidate in candidates.items():
        artifact = inputs[mtdnn.candidate_run(candidate)]
        scores.append(artifact.frame("scores.csv").assign(candidate=name))
    settings, rows = study.candidates, pd.concat(scores)
    rows = rows[(rows["split"] == SELECTION) == bool(settings.selection_examples)]
    table = select_candidates(rows, settings.select_on, settings.ensemble_size)
    for place, column in enumerate(("encoder", "dropout", "seed"), start=1):
        table.insert(place, column, [getattr(candidates[name], column) for name in table.candidate])
    return table


def best_candidates(ranked: pd.DataFrame, size: int) -> list[Candidate]:
    """Return the `size` best of the ranked candidates."""
    return [Candidate(row.encoder, row.dropout, row.seed) for row in ranked.head(size).itertuples()]


def member_settings(study: Study, task: Task) -> dict:
    """Return the settings that change a fine-tuned member's weights."""
    settings = weight_settings(study, study.member_finetuning)
    return {"task": task.name, "new_head": study.candidates.new_head, **settings}


def finetune_member(
    inputs: Inputs,
    part: str,
    task: Task,
    candidate: Candidate,
    start: Artifact,
    without: Fold | None = None,
) -> EnsembleMember:
    """Fine-tune a candidate on one task, as a part; one `without` a fold is a shared part."""
    study, encoder = inputs.study, candidate.encoder
    depends = member_settings(study, task) | {"start": start.fingerprint}
    depends["fold"] = without and asdict(without)

    def build(output: Output) -> None:
        training = ModelTraining(
            "member",
            encoder,
            candidate.dropout,
            inputs.train_sets(encoder, [task.name], without),
            study.member_finetuning,
            candidate.seed,
            start=start,
            heads=not study.candidates.new_head,
        )
        fit(inputs, training, output)

    shared = without is not None
    model = inputs.build_part(part, depends, [encoder_run(encoder)], build, shared)
    return EnsembleMember(encoder, candidate.dropout, model, candidate.name, (task,))


def check_pieces(task: Task, sets: Iterable[Examples]) -> None:
    """Raise `UserError` where texts to write are word pieces of several vocabularies."""
    if task.generates and len({examples.fingerprint for examples in sets}) > 1:
        raise UserError(
            f"{task.title}: members of an ensemble and their student write texts by the same word "
            "pieces, and encoders of this study have different ones: keep those of one tokenizer "
            "(encoders), or leave the task out."
        )


def average_predictions(inputs: Inputs, task: Task, members: list[EnsembleMember]) -> pd.DataFrame:
    """Return an ensemble's predictions on the dev sets (MT-DNN_KD, Eq. 3).

    Texts are written by all members at once: the probability of a next piece is their mean.
    """
    frames = [member.model.frame("predictions.parquet") for member in members]
    if not task.generates or len(members) == 1:
        averaged = average_members([np.stack(frame.outputs) for frame in frames])
        return frames[0].assign(outputs=list(averaged))
    sets = [inputs.dev_sets(member.encoder, task) for member in members]
    models, frames = [_load(inputs, one) for one in members], []
    for splits in zip(*sets, strict=True):
        pairs = [(model, examples) for model, (_, examples) in zip(models, splits, strict=True)]
        split, examples = splits[0]
        outputs = with_rouge(examples, generate(pairs, inputs.study.train.precision))
        frames.append(predictions(split, examples, outputs))
    return pd.concat(frames, ignore_index=True)


def score_ensemble(
    task: Task, members: list[EnsembleMember], frame: pd.DataFrame, system: str
) -> tuple[pd.DataFrame, list[str]]:
    """Return the scores of an ensemble's predictions on the dev sets, and notes."""
    rows, notes = [], []
    for split, part in frame.groupby("split", sort=False):
        outputs, labels = np.stack(part.outputs), part.label.to_numpy()
        split_rows, split_notes = score_rows(task, split, outputs, labels, part.idx.to_numpy())
        rows += split_rows
        notes += split_notes
    first = [member.model.frame("scores.csv").iloc[0] for member in members]
    params, seconds = sum(row.params for row in first), sum(row.seconds for row in first)
    about = {"system": system, "seed": np.nan, "params": params, "seconds": seconds}
    return pd.DataFrame(rows).assign(**about), notes


def _load(inputs: Inputs, member: EnsembleMember) -> MultiTaskModel:
    """Return a member with its weights, on the GPU if there is one."""
    if member.new_model:
        model = member.new_model()
    else:
        model = inputs.new_model(member.encoder, list(member.tasks), member.dropout)
    model.load(member.model.file("model.safetensors"))
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def predict_soft_targets(
    inputs: Inputs, task: Task, members: list[EnsembleMember], sets: dict[str, Examples]
) -> Iterator[SoftTargets]:
    """Yield the members' logits, a chunk of examples at a time.

    `sets` holds the examples as each encoder's tokenizer reads them.
    """
    examples, names = sets[members[-1].encoder], [member.name for member in members]
    idx, precision = examples.idx, inputs.study.train.precision
    check_pieces(task, sets.values())
    for chunk in chunks(len(examples)):
        logits = []
        for member in members:
            model = _load(inputs, member)
            logits.append(predict(model, sets[member.encoder], precision, chunk))
        rows = idx[examples.units(chunk)]
        yield SoftTargets(task, rows, np.stack(logits), names, examples.fingerprint)


def targets_settings(study: Study, members: list[EnsembleMember]) -> dict:
    """Return what changes the members' logits of given examples."""
    known = [[member.name, member.model.fingerprint] for member in members]
    return {"precision": study.train.precision, "members": known}


def build_soft_targets(
    inputs: Inputs,
    part: str,
    task: Task,
    teams: dict[Fold | None, list[EnsembleMember]],
    shared: bool = False,
) -> Artifact:
    """Return a part with the members' logits of a task's train set (`soft_targets.parquet`).

    `teams` maps a fold of the train set to the members that predict it; None means all of it.
    """
    members = [member for team in teams.values() for member in team]

    def targets() -> Iterator[SoftTargets]:
        for fold, team in teams.items():
            encoders = [member.encoder for member in team]
            sets = {name: inputs.train_set(name, task, fold, inside=True) for name in encoders}
            yield from predict_soft_targets(inputs, task, team, sets)

    def build(output: Output) -> None:
        write_soft_targets(output.folder / SOFT_TARGETS, targets())

    parents = dict.fromkeys(encoder_run(member.encoder) for member in members)
    depends = targets_settings(inputs.study, members)
    return inputs.build_part(part, depends, parents, build, shared)
