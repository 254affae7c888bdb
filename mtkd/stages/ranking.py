"""Stage 08: questions and candidates ranked, by a head beside classification.

MT-DNN learns QNLI as pairwise ranking (Liu et al. 2019, arXiv:1901.11504): all candidates
of a question are in one batch, and the loss is that of the right one under a softmax over them
(`mtkd.training.losses.hard_loss`). Here a model that starts like a fine-tuned one (05_finetune)
has two heads on one encoder, trained by Algorithm 1 as two tasks: classification of all examples,
and ranking of the questions that have several candidates with exactly one right among them. The
merged prediction is the mean of the probability of the right class and of the softmax over the
question's candidates, wherever a question has several.

QNLI in GLUE's form has about two candidates per question; `data.max_train` draws examples and not
questions, so a small sample leaves few questions to rank.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from torch import nn

from mtkd.artifacts import Artifact
from mtkd.config.study import SYSTEMS, Study
from mtkd.data.questions import group_ids, rankable, rankable_examples
from mtkd.errors import UserError
from mtkd.stages import data, finetune
from mtkd.stages.common import Run, count_updates
from mtkd.stages.fit import fit
from mtkd.stages.inputs import Inputs, Output
from mtkd.tasks import Task, as_ranking
from mtkd.training import metrics
from mtkd.training.predict import group_softmax, predict
from mtkd.training.word_metrics import ranks

NAME = "08_ranking"
WAYS = ("classification", "ranking", "merged")
COLUMNS = ["system", "task", "split", "way", "metric", "value", "seed", "n"]


def runs(study: Study) -> list[Run]:
    """Return a run per system and seed, if the study ranks any task."""
    seeds = study.seeds if study.ranking else []
    return [Run(NAME, system=system, seed=seed) for system in SYSTEMS for seed in seeds]


def parents(study: Study, run: Run) -> list[Run]:
    """Return those of fine-tuning, and the data, whose texts tell a question's candidates."""
    return [Run(data.NAME), *finetune.parents(study, run)]


def depends(study: Study, run: Run) -> dict:
    """Return the settings that change the weights and what they predict."""
    return {name: finetune.task_settings(study, run, name) for name in study.ranking}


def steps(study: Study, run: Run) -> int:
    """Return the updates of both heads, at most as many for ranking as for classification."""
    return 2 * count_updates(study, study.ranking, study.finetuning_of(run.system))


def run(study: Study, system: str, seed: int) -> Artifact:
    """Fine-tune a system with both heads on each task of `ranking`, or load what was fine-tuned.

    The artifact holds `rankings.csv` (`COLUMNS`), `curve.csv` and `predictions.parquet` with class
    probabilities, merged (`outputs`) and `classified`, of the dev sets, and of the test sets for
    the first seed.
    """
    if not study.ranking:
        raise UserError(
            f"Study {study.name} ranks no task: name some in its field ranking, such as "
            "--set ranking=[qnli]."
        )
    inputs = Inputs(study, Run(NAME, system=system, seed=seed))
    return inputs.merge({name: _finetune(inputs, study.task(name)) for name in study.ranking})


def ranking_head(task: Task) -> Task:
    """Return the ranking head of a task as a task, whose splits `score_ways` scores."""
    return replace(as_ranking(task), metrics=(), train=None, dev=())


def merge(task: Task, groups: np.ndarray, classified: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """Return class probabilities (n, 2), averaged with the ranking's where there are candidates.

    `classified` (n, 2) are those of classification, `ranked` (n,) is `group_softmax`.
    """
    right = classified[:, task.positive_label]
    right = np.where(np.bincount(groups)[groups] > 1, (right + ranked) / 2, right)
    return np.stack([right, 1 - right] if task.positive_label == 0 else [1 - right, right], axis=1)


def score_ways(
    task: Task, groups: np.ndarray, labels: np.ndarray, classified: np.ndarray, ranked: np.ndarray
) -> list[dict]:
    """Return a row per way and metric, in percent.

    The task's metrics are over all examples; over the rankable questions, `top` is the fraction
    whose right candidate is ranked first, `mrr` the mean of one over its rank.
    """
    right, merged = labels == task.positive_label, merge(task, groups, classified, ranked)
    asked, rows = rankable(groups, right), []
    for way, outputs in zip(WAYS, (classified, None, merged), strict=True):
        order, scores = ranked, []
        if outputs is not None:
            order = outputs[:, task.positive_label]
            values = metrics.score(task, outputs, labels)[0]
            scores += [(metric, value, len(labels)) for metric, value in values.items()]
        if asked.any():
            rank = ranks(groups[asked], order[asked], right[asked])
            top, mrr = float((rank == 1).mean()), float((1 / rank).mean())
            scores += [("top", 100 * top, len(rank)), ("mrr", 100 * mrr, len(rank))]
        rows += [
            {"way": way, "metric": metric, "value": round(value, 4), "n": n}
            for metric, value, n in scores
        ]
    return rows


def _finetune(inputs: Inputs, task: Task) -> Artifact:
    study, head = inputs.study, ranking_head(task)
    depends = finetune.task_settings(study, inputs.this, task.name)

    def build(output: Output) -> None:
        train_set = inputs.train_set(study.student_encoder, task)
        groups = _questions(inputs, task, task.train)
        sets = {task.name: train_set, head.name: rankable_examples(train_set, groups, head)}
        heads = [] if depends["new_head"] else [task.name]
        # One process, so that a batch has all candidates of its questions.
        settings = study.finetuning_of(inputs.this.system).model_copy(update={"num_processes": 1})
        given = {"heads": heads, "predict_test": depends["test"]}
        model = fit(inputs, finetune.system_training(inputs, sets, settings, **given), output)
        (output.folder / "scores.csv").unlink()  # classification's alone: rankings.csv has all
        _merge_predictions(inputs, task, model, output)

    return inputs.build_part(task.name, depends, inputs.artifacts, build)


def _questions(inputs: Inputs, task: Task, split: str) -> np.ndarray:
    """Return the question (a whole number) of each example of a split, (n,)."""
    return group_ids(data.read_splits(inputs.data, task)[split], task.columns[0])


def _merge_predictions(inputs: Inputs, task: Task, model: nn.Module, output: Output) -> None:
    """Write rankings.csv of the dev sets, and merge both heads in predictions.parquet."""
    study, this, path = inputs.study, inputs.this, output.folder / "predictions.parquet"
    parts, rows = [], []
    for split, part in pd.read_parquet(path).groupby("split", sort=False):
        examples = inputs.examples(study.student_encoder, task, split, ranking_head(task))
        groups, classified = _questions(inputs, task, split), np.stack(part.outputs)
        scores = predict(model, examples, study.finetuning.precision)[:, 0]
        ranked = group_softmax(groups, scores[:, None])[:, 0]
        if split in task.dev:
            about = {"system": this.system, "task": task.name, "split": split, "seed": this.seed}
            scored = score_ways(task, groups, examples.labels, classified, ranked)
            rows += [about | row for row in scored]
        merged = list(merge(task, groups, classified, ranked))
        parts.append(part.assign(outputs=merged, classified=part.outputs))
    pd.DataFrame(rows, columns=COLUMNS).to_csv(output.folder / "rankings.csv", index=False)
    pd.concat(parts).to_parquet(path, index=False)
