"""What a run reads of its parents: examples as word pieces, encoders, and trained weights.

A run sees its parents' artifacts alone, so an edge that `parents` lacks is an error and not a
silent dependency.
"""

from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
from transformers import PreTrainedTokenizerBase

from mtkd.artifacts import Artifact, read
from mtkd.config.study import Study
from mtkd.data.dataset import Examples
from mtkd.models.multitask import MultiTaskModel, load_encoder
from mtkd.stages import data, pretrain
from mtkd.stages.common import Run, load_parents
from mtkd.tasks import Task
from mtkd.training.soft_targets import Fold


class Inputs:
    """The artifacts of a run's parents."""

    def __init__(self, study: Study, this: Run):
        self.study, self.this = study, this

    @cached_property
    def artifacts(self) -> dict[Run, Artifact]:
        """The parents' artifacts by run; those that are not there are built."""
        return load_parents(self.study, self.this)

    def __getitem__(self, run: Run) -> Artifact:
        if run not in self.artifacts:
            raise KeyError(f"{self.this.name} reads {run.name}, which is none of its parents")
        return self.artifacts[run]

    def only(self, *stages: str, **parameters) -> dict[Run, Artifact]:
        """Return the parents of some stages, or those with certain parameters."""
        return {
            run: artifact
            for run, artifact in self.artifacts.items()
            if (not stages or run.stage in stages) and parameters.items() <= run.parameters.items()
        }

    @property
    def data(self) -> Artifact:
        """The study's examples as text."""
        return self[Run(data.NAME)]

    def tokens(self, encoder: str) -> Artifact:
        """Return the examples as word pieces of an encoder."""
        return self[Run(pretrain.NAME, encoder=encoder)]

    def part(self, run: Run, name: str) -> Artifact:
        """Return a part that a parent has built."""
        self[run]  # raises an error if it is no parent
        return read(run.part_folder(self.study, name))

    def encoder(self, name: str) -> Artifact:
        """Return an encoder's weights and tokenizer."""
        return self.part(Run(pretrain.NAME, encoder=name), "encoder")

    def tokenizer(self, encoder: str) -> PreTrainedTokenizerBase:
        """Return an encoder's tokenizer."""
        return pretrain.tokenizer_of(self.encoder(encoder))

    def max_length(self, encoder: str) -> int:
        """Return the word pieces that an example is cut to."""
        return pretrain.max_length(self.study, self.encoder(encoder))

    def examples(
        self, encoder: str, task: Task, split: str, as_task: Task | None = None
    ) -> Examples | None:
        """Return a split as word pieces, or None if the data lack it.

        `as_task` is the task whose head scores it (AX is scored by MNLI's).
        """
        tokens = self.tokens(encoder)
        known = tokens.json("fingerprints.json").get(task.name, {})
        if split not in known:
            return None
        return read_examples(tokens, task, split, as_task, known[split])

    def train_set(self, encoder: str, task: Task, without: Fold | None = None) -> Examples:
        """Return a task's train set, all of it or `without` a part."""
        examples = self.examples(encoder, task, task.train)
        if without is None or task.name not in without.tasks:
            return examples
        return examples.subset(np.flatnonzero(~without.inside(examples)))

    def dev_sets(self, encoder: str, task: Task) -> list[tuple[str, Examples]]:
        """Return (split, examples) of each dev split of a task."""
        splits = [(split, self.examples(encoder, task, split)) for split in task.dev]
        return [(split, examples) for split, examples in splits if examples is not None]

    def test_sets(self, encoder: str, task: Task) -> list[tuple[str, Examples]]:
        """Return (split, examples) of the test splits that a task's head predicts: its own, and AX
        for MNLI.
        """
        others = map(self.study.task, self.study.tasks)
        predicted = [task, *(other for other in others if other.predicted_by == task.name)]
        splits = [
            (split, self.examples(encoder, other, split, as_task=task))
            for other in predicted
            for split in other.test
        ]
        return [(split, examples) for split, examples in splits if examples is not None]

    def new_model(self, encoder: str, tasks: list[Task], dropout: float) -> MultiTaskModel:
        """Return a model on a pre-trained encoder with a new head per task; seed first."""
        return new_model(self.study, self.encoder(encoder), tasks, dropout)


def read_examples(
    tokens: Artifact, task: Task, split: str, as_task: Task | None = None, fingerprint: str = ""
) -> Examples:
    """Return a split from an artifact that holds word pieces (`<task>/<split>.arrow` and
    `pad.json`).
    """
    path: Path = tokens.file(f"{task.name}/{split}.arrow")
    split_data = datasets.Dataset.from_file(str(path))
    return Examples(as_task or task, split_data, fingerprint, tokens.json("pad.json"))


def new_model(study: Study, weights: Artifact, tasks: list[Task], dropout: float) -> MultiTaskModel:
    """Return a model of these tasks on an encoder's weights, with new heads; seed first."""
    folder = weights.file("encoder")
    encoder = load_encoder(folder, dropout=dropout, pooling=study.model.pooling)
    return MultiTaskModel(encoder, tasks, head_dropouts(study, tasks))


def describe_model(
    study: Study, encoder: str, tasks: list[Task], system: str, student: dict | None = None
) -> dict:
    """Return what is needed to use a model's weights: tasks, encoder, and settings of an MKD
    student.
    """
    custom = {name: task.model_dump(mode="json") for name, task in study.own_tasks.items()}
    return {
        "system": system,
        "tasks": [{"name": task.name, "custom": custom.get(task.name)} for task in tasks],
        "encoder": encoder,
        "pooling": study.model.pooling,
        "max_length": study.data.max_length,
        "student": student,
    }


def head_dropouts(study: Study, tasks: list[Task]) -> dict[str, float]:
    """Return the dropout before each task's head (MT-DNN_KD, section 4.1)."""
    model = study.model
    return {task.name: model.head_dropout_of.get(task.name, model.head_dropout) for task in tasks}
