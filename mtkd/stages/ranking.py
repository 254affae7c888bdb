"""Questions and candidates ranked: a head g(question, candidate) beside classification, and the two merged.

MT-DNN learns QNLI as pairwise ranking (Liu et al. 2019, arXiv:1901.11504): the candidates of a question stand in one
batch, and the loss is that of the right one under a softmax over them (`mtkd.training.losses.ranking_loss`). Here a model
that starts like a fine-tuned one (05_finetune) has two heads on the same encoder, trained by Algorithm 1 as two tasks:
classification of all examples, and ranking of those questions whose train candidates are two or more with exactly one
right among them; the other questions are left to classification. An answer merges both: the mean of the probability of
the right class and of the ranking's softmax over the question's candidates, wherever a question has two or more.

QNLI in GLUE's form has about two candidates a question; a study's `data.max_train` draws examples, not questions, so a
small share of them leaves few questions to rank. An own task of `type: ranking` is classified in the other stages.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mtkd.artifacts import Artifact, make
from mtkd.config.study import Study
from mtkd.data import custom as files
from mtkd.data import glue as load
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.paths import folder
from mtkd.stages.common import data, dev_splits, fit, model_settings, parent_of
from mtkd.stages.inputs import encoder, examples_of, new_model
from mtkd.tasks import Task
from mtkd.training import metrics
from mtkd.training.loop import seed_everything
from mtkd.training.predict import predict, probabilities
from mtkd.workflow.jobs import SYSTEMS

WAYS = ("classification", "ranking", "merged")
COLUMNS = ["study", "system", "task", "split", "way", "metric", "value", "seed", "n"]


def head_of(task: Task) -> Task:
    """The ranking head of a task: one score for a question and a candidate."""
    return replace(
        task,
        name=f"{task.name}_ranked",
        title=f"{task.title} as ranking",
        labels=(),
        metrics=(),
        train=None,
        dev=(),
        test=(),
    )


def questions(study: Study, task: Task, split: str) -> np.ndarray:
    """The question (a whole number) of each example of a split, in its order."""
    return files.same(dict(load.splits(data(study), task))[split], task.columns[0])


def rankable(groups: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Whether each example's question has two or more candidates, exactly one of them right; `right` (n,) is true for right ones."""
    return (np.bincount(groups)[groups] > 1) & (np.bincount(groups, right)[groups] == 1)


def within(groups: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Softmax of scores (n,) over the candidates of each question (n,)."""
    top = np.full(groups.max() + 1, -np.inf)
    np.maximum.at(top, groups, scores)
    powers = np.exp(scores - top[groups])
    return powers / np.bincount(groups, powers)[groups]


def merged(
    task: Task, groups: np.ndarray, classified: np.ndarray, ranked: np.ndarray
) -> np.ndarray:
    """Class probabilities (n, 2) from those of classification (n, 2) and the ranking's (n,), averaged where a question has candidates."""
    right = classified[:, task.positive_label]
    right = np.where(np.bincount(groups)[groups] > 1, (right + ranked) / 2, right)
    return np.stack([right, 1 - right] if task.positive_label == 0 else [1 - right, right], axis=1)


def ranks(groups: np.ndarray, scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The rank (from 1) of each question's one right candidate; candidates with the same score share the worst of their ranks."""
    places = pd.Series(scores).groupby(groups).rank(ascending=False, method="max").to_numpy()
    return places[right]


def scores(
    task: Task, groups: np.ndarray, labels: np.ndarray, classified: np.ndarray, ranked: np.ndarray
) -> list[dict]:
    """A row a way and metric, in percent: the task's own over all examples, and over the rankable questions `top` and `mrr`.

    `top` is the share of questions whose right candidate is ranked first, `mrr` the mean of one over its rank.
    """
    right, both, rows = labels == task.positive_label, merged(task, groups, classified, ranked), []
    asked = rankable(groups, right)
    for way, outputs, by in (
        ("classification", classified, classified[:, task.positive_label]),
        ("ranking", None, ranked),
        ("merged", both, both[:, task.positive_label]),
    ):
        values = {} if outputs is None else metrics.score(task, outputs, labels)[0]
        rows += [
            dict(way=way, metric=name, value=round(value, 4), n=len(labels))
            for name, value in values.items()
        ]
        if asked.any():
            found = ranks(groups[asked], by[asked], right[asked])
            rows += [
                dict(way=way, metric=name, value=round(100 * float(value), 4), n=len(found))
                for name, value in (("top", (found == 1).mean()), ("mrr", (1 / found).mean()))
            ]
    return rows


def ranking(study: Study, system: str, seed: int) -> list[Artifact]:
    """06_ranking: a system fine-tuned on each task of `ranking` with both heads.

    Trained in one process, as a question's candidates stand together. An artifact a task: rankings.csv, and
    predictions.parquet with the merged class probabilities of the dev splits, for the study's first seed of the test set too.
    """
    if not study.ranking:
        raise UserError(
            f"Study {study.name} ranks no task: name some in its field ranking, such as --set ranking=[qnli]."
        )
    name, dropout = study.student_encoder, study.model.encoder_dropout
    parent, start, done = parent_of(study, system, seed), encoder(study, name), []
    settings = study.finetuning.model_copy(update={"num_processes": 1})
    for task in map(study.task, study.ranking):
        fresh = study.finetune.new_head or parent is None or task.name not in study.multitask
        test = seed == study.seeds[0] and system in study.test_predictions
        inputs = {
            "stage": "ranking",
            "system": system,
            "task": task.name,
            "seed": seed,
            "dropout": dropout,
            "new_head": fresh,
            "test": test,
            "encoder": start.fingerprint,
            "parent": parent and parent.fingerprint,
            "data": data(study).fingerprint,
            "max_length": study.data.max_length,
            "model": model_settings(study),
            "train": settings.model_dump(exclude={"checkpoint_seconds"}),
        }

        def build(out: Path, task=task, fresh=fresh, test=test, inputs=inputs) -> None:
            torch.set_num_threads(study.threads)
            head, train_set = head_of(task), examples_of(study, name, task, task.train)
            candidates = _candidates(study, task, head, train_set)
            seed_everything(seed)
            model = new_model(study, start, [task, head], dropout)
            if parent is not None:
                model.load(parent.file("model.safetensors"), heads=[] if fresh else [task.name])
            both = {task.name: train_set, head.name: candidates}
            fit(
                model,
                both,
                dev_splits(study, name, task),
                [],
                settings,
                seed,
                out,
                inputs,
                system,
                title=f"ranking {system} s{seed} {task.title}",
                keep_model=False,
            )
            _answer(study, task, head, model, task.test if test else (), out)

        done.append(make(folder(study, "ranking", system, f"s{seed}", task.name), inputs, build))
    return done


def _candidates(study: Study, task: Task, head: Task, train_set: Examples) -> Examples:
    """The train examples that the ranking head learns from."""
    groups = questions(study, task, task.train)
    rows = np.flatnonzero(rankable(groups, train_set.labels == task.positive_label))
    if not len(rows):
        raise UserError(
            f"{task.title}: no question of its {len(train_set)} train examples has several candidates with one right among "
            "them: use more examples (data.max_train), or take the task out of ranking."
        )
    part = train_set.part(rows)
    part.task, part.group_ids = head, groups[rows]
    return part


def _answer(study: Study, task: Task, head: Task, model, tests: tuple[str, ...], out: Path) -> None:
    """Writes rankings.csv of the dev splits, and the merged predictions of these and of `tests` in the place of classification's."""
    scored, told, known = [], [], [split for split, _ in load.splits(data(study), task)]
    for split in [split for split in (*task.dev, *tests) if split in known]:
        examples = examples_of(study, study.student_encoder, task, split)
        alike, groups = (
            examples_of(study, study.student_encoder, task, split, as_task=head),
            questions(study, task, split),
        )
        classified = probabilities(task, predict(model, examples, study.finetuning.precision))
        ranked = within(groups, predict(model, alike, study.finetuning.precision)[:, 0])
        if split in task.dev:
            scored += [
                {"task": task.name, "split": split, **row}
                for row in scores(task, groups, examples.labels, classified, ranked)
            ]
        told.append(
            pd.DataFrame(
                {
                    "task": task.name,
                    "split": split,
                    "idx": examples.idx,
                    "label": examples.labels.astype("float32"),
                    "outputs": list(merged(task, groups, classified, ranked)),
                }
            )
        )
    pd.DataFrame(scored).to_csv(out / "rankings.csv", index=False)
    pd.concat(told, ignore_index=True).to_parquet(out / "predictions.parquet", index=False)


def results(study: Study) -> tuple[list[Artifact], pd.DataFrame | None]:
    """Every run of the study, and its scores (`COLUMNS`; values in percent); None where no task is ranked."""
    if not study.ranking:
        return [], None
    runs = {
        (system, seed): ranking(study, system, seed) for system in SYSTEMS for seed in study.seeds
    }
    parts = [
        run.frame("rankings.csv").assign(system=system, seed=seed)
        for (system, seed), found in runs.items()
        for run in found
    ]
    return [run for found in runs.values() for run in found], pd.concat(
        parts, ignore_index=True
    ).assign(study=study.name)[COLUMNS]
