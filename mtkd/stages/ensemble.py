"""Ensembles of models fine-tuned on one task, and what they predict for examples (MT-DNN_KD,
section 3).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mtkd.artifacts import Artifact
from mtkd.config.study import Study
from mtkd.config.training import Candidate
from mtkd.data.dataset import Examples
from mtkd.stages import mtdnn, pretrain
from mtkd.stages.common import (
    Evaluation,
    Output,
    Run,
    build_part,
    fit,
    model_settings,
    train_settings,
)
from mtkd.stages.inputs import Inputs, describe_model
from mtkd.tasks import Task
from mtkd.training.loop import TrainingRun, seed_everything
from mtkd.training.predict import predict
from mtkd.training.soft_targets import (
    Fold,
    SoftTargets,
    chunks,
    select_candidates,
    write_soft_targets,
)

SOFT_TARGETS = "soft_targets.parquet"


@dataclass(frozen=True)
class EnsembleMember:
    """A trained model whose predictions are averaged with others'.

    `model` holds its weights, `tasks` are those that it has heads for.
    """

    encoder: str
    dropout: float
    model: Artifact
    name: str
    tasks: tuple[Task, ...]


def rank_candidates(study: Study, candidates: dict[Run, Artifact]) -> pd.DataFrame:
    """Return the candidates, best first, by their dev scores on `candidates.select_on` (section
    4.1).

    Columns: candidate, encoder, dropout, a column per task, mean, kept (in the study's ensembles).
    """
    scores = [
        candidates[mtdnn.candidate_run(study, candidate)]
        .frame("scores.csv")
        .assign(candidate=candidate.name)
        for candidate in study.candidate_models
    ]
    settings = study.candidates
    table = select_candidates(pd.concat(scores), settings.select_on, settings.ensemble_size)
    by_name = {candidate.name: candidate for candidate in study.candidate_models}
    table.insert(1, "encoder", [by_name[name].encoder for name in table.candidate])
    table.insert(2, "dropout", [by_name[name].dropout for name in table.candidate])
    return table


@dataclass(frozen=True)
class MemberTraining:
    """How a candidate is fine-tuned on one task: from which multi-task model, and without which
    part.
    """

    task: Task
    candidate: Candidate
    start: Artifact
    without: Fold | None = None


def member_settings(study: Study, task: Task) -> dict:
    """Return the settings that change a fine-tuned member's weights."""
    return {
        "task": task.name,
        "new_head": study.candidates.new_head,
        "model": model_settings(study),
        "train": train_settings(study.member_finetuning),
    }


def finetune_member(
    inputs: Inputs, this: Run, part: str, member: MemberTraining, parents: dict[Run, Artifact]
) -> EnsembleMember:
    """Fine-tune a candidate on one task, as a part of the run `this`."""
    study, task, candidate = inputs.study, member.task, member.candidate
    seed = study.candidates.seed
    depends = {
        **member_settings(study, task),
        **mtdnn.fold_settings(member.without),
        "start": member.start.fingerprint,
    }

    def build(output: Output) -> None:
        train_set = inputs.train_set(candidate.encoder, task, member.without)
        seed_everything(seed)
        model = inputs.new_model(candidate.encoder, [task], candidate.dropout)
        model.load(member.start.file("model.safetensors"), heads=not study.candidates.new_head)
        title = f"{this.name} {candidate.name}"
        training = TrainingRun({task.name: train_set}, study.member_finetuning, seed, title=title)
        evaluation = Evaluation(inputs.dev_sets(candidate.encoder, task))
        description = describe_model(study, candidate.encoder, [task], "member")
        fit(model, training, evaluation, output, system="member", description=description)

    model = build_part(study, this, part, depends, parents, build)
    return EnsembleMember(candidate.encoder, candidate.dropout, model, candidate.name, (task,))


def predict_soft_targets(
    inputs: Inputs,
    task: Task,
    members: list[EnsembleMember],
    sets: dict[str, Examples] | None = None,
) -> Iterator[tuple[SoftTargets, np.ndarray, int]]:
    """Yield the members' logits, the labels, and the number of all examples, a chunk at a time (Eq.
    3).

    `sets` holds other examples in place of the train set, as each encoder's tokenizer reads them.
    """
    study = inputs.study
    sets = sets or {member.encoder: inputs.train_set(member.encoder, task) for member in members}
    examples = sets[members[-1].encoder]
    idx, labels = examples.idx, examples.labels
    names = [member.name for member in members]
    for chunk in chunks(len(examples)):
        logits = []
        for member in members:
            model = inputs.new_model(member.encoder, list(member.tasks), member.dropout)
            model.load(member.model.file("model.safetensors"))
            logits.append(predict(model, sets[member.encoder], study.train.precision, chunk))
        rows = slice(chunk.start, chunk.stop)
        targets = SoftTargets(task, idx[rows], np.stack(logits), names, examples.fingerprint)
        yield targets, labels[rows], len(examples)


def build_soft_targets(
    inputs: Inputs,
    owner: Run,
    part: str,
    task: Task,
    teams: dict[Fold | None, list[EnsembleMember]],
) -> Artifact:
    """Return a part that holds the members' logits of a task's train examples
    (`soft_targets.parquet`).

    `teams` maps a part of the train set to the members that predict it; None means all of it.
    """
    members = [member for team in teams.values() for member in team]
    depends = {
        "precision": inputs.study.train.precision,
        "members": [[member.name, member.model.fingerprint] for member in members],
    }

    def parts() -> Iterator[SoftTargets]:
        for fold, team in teams.items():
            sets = {member.encoder: inputs.train_set(member.encoder, task) for member in team}
            if fold:
                sets = {
                    key: whole.subset(fold.inside(whole).nonzero()[0])
                    for key, whole in sets.items()
                }
            for targets, *_ in predict_soft_targets(inputs, task, team, sets):
                yield targets

    def build(output: Output) -> None:
        write_soft_targets(output.folder / SOFT_TARGETS, parts())

    parents = {run: inputs[run] for run in (Run(pretrain.NAME, encoder=m.encoder) for m in members)}
    return build_part(inputs.study, owner, part, depends, parents, build)
