"""A run at work: what it reads of its parents, and the artifact that it builds.

A run sees its parents' artifacts alone, so an edge that `parents` lacks is an error and not a
silent dependency.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mtkd.artifacts import Artifact, fingerprint, make, read, write_json
from mtkd.config.study import Study
from mtkd.data.dataset import Examples
from mtkd.data.questions import rankable_examples
from mtkd.errors import UserError, first_line
from mtkd.models.encoders import max_positions, read_config, without_weights
from mtkd.models.multitask import MultiTaskModel, load_encoder
from mtkd.stages.common import Run, load_all, load_finished, stage_of
from mtkd.tasks import SELECTION, Task
from mtkd.training.soft_targets import Fold

DATA = Run("00_data")


def encoder_run(name: str) -> Run:
    """Return the run that makes an encoder, and every task's word pieces of its tokenizer."""
    return Run("01_pretrain", encoder=name)


@dataclass(frozen=True)
class Output:
    """A folder to fill, the file for a training's state, and the artifact's name for messages."""

    folder: Path
    checkpoint: Path
    name: str


class Inputs:
    """A run with the artifacts of its parents."""

    def __init__(self, study: Study, this: Run, finished: bool = False):
        self.study, self.this, self.finished = study, this, finished

    @cached_property
    def artifacts(self) -> dict[Run, Artifact]:
        """The parents' artifacts by run; those not there are built, or left out (`finished`)."""
        load = load_finished if self.finished else load_all
        return load(self.study, stage_of(self.this).parents(self.study, self.this))

    def __getitem__(self, run: Run) -> Artifact:
        if run not in self.artifacts:
            raise KeyError(f"{self.this.name} reads {run.name}, which is none of its parents")
        return self.artifacts[run]

    def only(self, *stages: str) -> dict[Run, Artifact]:
        """Return the parents of some stages."""
        return {run: artifact for run, artifact in self.artifacts.items() if run.stage in stages}

    def part(self, run: Run, name: str) -> Artifact:
        """Return a part that a parent has built."""
        self[run]  # raises an error if it is no parent
        return read(run.part_folder(self.study, name))

    def build(
        self, fill: Callable[[Output], None], parts: dict[str, Artifact] | None = None
    ) -> Artifact:
        """Return the run's artifact: the one on disk, or a new one if its inputs have changed.

        `fill` writes the files; `parts` were built on the way (`build_part`).
        """
        this = self.this
        inputs = {
            "stage": this.stage,
            "run": this.parameters,
            "depends": stage_of(this).depends(self.study, this),
            "parents": _fingerprints(self.artifacts),
            "parts": {name: part.fingerprint for name, part in (parts or {}).items()},
        }
        return self._make(this.folder(self.study), inputs, this.name, fill)

    def build_part(
        self,
        part: str,
        depends: dict,
        parents: Iterable[Run],
        fill: Callable[[Output], None],
        shared: bool = False,
    ) -> Artifact:
        """Return a part of the artifact, which a run that is stopped need not repeat.

        Its settings and parents may be fewer than the run's. A `shared` part is for all runs of
        the stage.
        """
        owner = Run(self.this.stage) if shared else self.this
        above = _fingerprints({run: self[run] for run in parents})
        inputs = {"part": part, "depends": depends, "parents": above}
        folder = owner.part_folder(self.study, part)
        return self._make(folder, inputs, f"{owner.name} {part}", fill)

    def _make(
        self, folder: Path, inputs: dict, name: str, fill: Callable[[Output], None]
    ) -> Artifact:
        def build(output: Path, checkpoint: Path) -> None:
            torch.set_num_threads(self.study.threads)
            fill(Output(output, checkpoint, name))

        return make(folder, inputs, build)

    def merge(self, parts: dict[str, Artifact], columns: Iterable[dict] | None = None) -> Artifact:
        """Build an artifact of its parts' tables and notes, with more columns for each part."""
        each, columns = list(parts.values()), columns or [{}] * len(parts)

        def fill(output: Output) -> None:
            for name in each[0].record["files"]:
                if name.endswith((".csv", ".parquet")):
                    pairs = zip(each, columns, strict=True)
                    frames = [part.frame(name).assign(**more) for part, more in pairs]
                    merged = pd.concat(frames, ignore_index=True)
                    write = merged.to_csv if name.endswith(".csv") else merged.to_parquet
                    write(output.folder / name, index=False)
            notes = [note for part in each for note in part.json("notes.json")]
            write_json(output.folder / "notes.json", notes)

        return self.build(fill, parts)

    @property
    def data(self) -> Artifact:
        """The study's examples as text."""
        return self[DATA]

    def encoder(self, name: str) -> Artifact:
        """Return an encoder's weights and tokenizer."""
        return self.part(encoder_run(name), "encoder")

    def tokenizer(self, encoder: str) -> tuple[PreTrainedTokenizerBase, int]:
        """Return an encoder's tokenizer, and the word pieces that an example is cut to."""
        return read_tokenizer(self.study, self.encoder(encoder))

    def examples(
        self, encoder: str, task: Task, split: str, as_task: Task | None = None
    ) -> Examples | None:
        """Return a split as word pieces, or None if the data lack it.

        `as_task` is the task whose head scores it (AX is scored by MNLI's).
        """
        tokens = self[encoder_run(encoder)]
        known = tokens.json("fingerprints.json").get(task.ranks or task.name, {})
        if split not in known:
            return None
        examples = read_examples(tokens, task, split, as_task, known[split])
        return self._with_tokenizer(examples, encoder) if task.generates else examples

    def _with_tokenizer(self, examples: Examples, encoder: str) -> Examples:
        """Return texts to write with their tokenizer; the fingerprint names its vocabulary."""
        tokenizer, _ = self.tokenizer(encoder)
        pieces = fingerprint(sorted(tokenizer.get_vocab().items()))
        known = f"{examples.fingerprint}-{pieces}"
        return examples.replace(tokenizer=tokenizer, fingerprint=known)

    def train_set(
        self, encoder: str, task: Task, fold: Fold | None = None, inside: bool = False
    ) -> Examples:
        """Return a task's train set: all of it, or what is outside (or inside) a fold."""
        if fold is None:
            return self.examples(encoder, task, task.train)
        # A question is in one fold, whether its candidates are classified or ranked.
        source, groups = self.study.task(task.ranks or task.name), None
        examples = self.examples(encoder, source, source.train)
        if source.name in self.study.rank_in_multitask:
            groups = read_questions(self[encoder_run(encoder)], source, source.train)
        rows = np.flatnonzero(fold.inside(examples, groups) == inside)
        examples = examples.subset(rows)
        return rankable_examples(examples, groups[rows], task) if task.ranks else examples

    def train_sets(
        self, encoder: str, names: Iterable[str], without: Fold | None = None
    ) -> dict[str, Examples]:
        """Return the train sets of several tasks, all of them or `without` a fold."""
        return {name: self.train_set(encoder, self.study.task(name), without) for name in names}

    def dev_sets(self, encoder: str, task: Task) -> list[tuple[str, Examples]]:
        """Return (split, examples) of each dev split of a task."""
        return self._sets(encoder, task, [(task, split) for split in task.dev])

    def selection_sets(self, encoder: str, task: Task) -> list[tuple[str, Examples]]:
        """Return (split, examples) of those to select candidates on; empty where there are none."""
        return [] if task.ranks else self._sets(encoder, task, [(task, SELECTION)])

    def test_sets(self, encoder: str, task: Task) -> list[tuple[str, Examples]]:
        """Return (split, examples) of the test splits that a task's head predicts (MNLI's: AX)."""
        others = map(self.study.task, self.study.tasks)
        predicted = [task, *(other for other in others if other.predicted_by == task.name)]
        return self._sets(encoder, task, [(one, split) for one in predicted for split in one.test])

    def _sets(
        self, encoder: str, task: Task, splits: list[tuple[Task, str]]
    ) -> list[tuple[str, Examples]]:
        sets = [(split, self.examples(encoder, one, split, task)) for one, split in splits]
        return [(split, examples) for split, examples in sets if examples is not None]

    def new_model(self, encoder: str, tasks: list[Task], dropout: float) -> MultiTaskModel:
        """Return a model on a pre-trained encoder with a new head per task; seed first."""
        folder = self.encoder(encoder).file("encoder")
        shared = load_encoder(folder, dropout=dropout, pooling=self.study.model.pooling)
        return add_heads(self.study, shared, tasks)


def _fingerprints(artifacts: dict[Run, Artifact]) -> dict[str, str]:
    return {run.name: artifact.fingerprint for run, artifact in artifacts.items()}


def tokenizer_of(weights: Artifact) -> PreTrainedTokenizerBase:
    """Read an encoder's tokenizer; no code of its folder is run."""
    folder, problem = weights.file("encoder"), "it has no word pieces: tokenizer.json is missing"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if len(tokenizer) > len(tokenizer.all_special_ids):
            return tokenizer
    except Exception as error:  # transformers and tokenizers raise many kinds
        problem = first_line(error)
    raise UserError(
        f"The tokenizer in {folder} cannot be read ({problem}): remove {weights.path} and run its "
        "stage again."
    )


def read_tokenizer(study: Study, weights: Artifact) -> tuple[PreTrainedTokenizerBase, int]:
    """Return an encoder's tokenizer, and the most word pieces: as set, or as it has positions."""
    tokenizer = tokenizer_of(weights)
    positions = max_positions(without_weights(read_config(weights.file("encoder"))))
    return tokenizer, min(study.data.max_length, positions or study.data.max_length)


def read_examples(
    tokens: Artifact, task: Task, split: str, as_task: Task | None = None, fingerprint: str = ""
) -> Examples:
    """Return a split from an artifact of word pieces (`<task>/<split>.arrow` and `pad.json`).

    A ranking's is made of that of the task whose candidates it ranks.
    """
    path = tokens.file(f"{task.ranks or task.name}/{split}.arrow")
    split_data = datasets.Dataset.from_file(str(path))
    examples = Examples(as_task or task, split_data, fingerprint, tokens.json("pad.json"))
    if task.ranks is None:
        return examples
    return rankable_examples(examples, read_questions(tokens, task, split), task)


def read_questions(tokens: Artifact, task: Task, split: str) -> np.ndarray:
    """Return the question of each example of a split, (n,), from an artifact of word pieces."""
    return np.load(tokens.file(f"{task.ranks or task.name}/{split}.npy"))


def add_heads(study: Study, encoder: nn.Module, tasks: list[Task]) -> MultiTaskModel:
    """Return a model on an encoder with a new head per task, as the study has it; seed first."""
    model = study.model
    dropout = {
        task.name: model.head_dropout_of.get(task.name, model.head_dropout) for task in tasks
    }
    return MultiTaskModel(encoder, tasks, dropout, model.heads)
