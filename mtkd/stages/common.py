"""What all stages share: runs, artifacts of runs and of their parts, and one training with its
scores.
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from torch import nn

from mtkd import paths
from mtkd.artifacts import Artifact, make, write_json
from mtkd.config.study import Study
from mtkd.config.training import Train
from mtkd.data.custom import count_train_rows
from mtkd.data.dataset import Examples
from mtkd.training.distributed import run_on_all
from mtkd.training.loop import TrainingRun, train
from mtkd.training.predict import predict, probabilities, score_rows

SCORE_COLUMNS = ["system", "task", "split", "metric", "value", "seed", "n", "params", "seconds"]


@dataclass(frozen=True, init=False)
class Run:
    """One execution of a stage: its name and its notebook's parameters, which read as
    attributes.
    """

    stage: str
    items: tuple[tuple[str, str | int | float], ...]

    def __init__(self, stage: str, /, **parameters: str | int | float):
        object.__setattr__(self, "stage", stage)
        object.__setattr__(self, "items", tuple(parameters.items()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in dict(self.items):
            raise AttributeError(name)
        return dict(self.items)[name]

    @property
    def parameters(self) -> dict[str, str | int | float]:
        """The notebook's parameters."""
        return dict(self.items)

    @property
    def label(self) -> str:
        """The parameters in one word, such as `uncased-0.1-s0`; empty where there are none."""
        return "-".join(_word(name, value) for name, value in self.items)

    @property
    def name(self) -> str:
        """Stage and parameters in one word, such as `02_mtdnn.uncased-0.1-s0`."""
        return f"{self.stage}.{self.label}" if self.items else self.stage

    def folder(self, study: Study) -> Path:
        """Return the folder of this run's artifact."""
        return paths.work_folder(study.name) / self.stage / self.label

    def part_folder(self, study: Study, part: str) -> Path:
        """Return the folder of a part: an artifact of its own that this run builds on its way."""
        parts = f"{self.label}.parts" if self.items else "parts"
        return paths.work_folder(study.name) / self.stage / parts / part


def _word(name: str, value: str | int | float) -> str:
    if name == "seed":
        return f"s{value}"
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Output:
    """Where a run's artifact is written, and the file that a training keeps its state in."""

    folder: Path
    checkpoint: Path


_loaded: ContextVar[dict[Run, Artifact] | None] = ContextVar("loaded", default=None)


def load(study: Study, run: Run) -> Artifact:
    """Return a run's artifact; build it, and the parents that it lacks, if it is not there."""
    return load_all(study, [run])[run]


def load_all(study: Study, runs: Iterable[Run]) -> dict[Run, Artifact]:
    """Return the artifacts of several runs, each looked at once however often it is a parent."""
    from mtkd.stages import stages

    known = _loaded.get()
    token = None if known is not None else _loaded.set(known := {})
    try:
        for run in runs:
            if run not in known:
                known[run] = stages()[run.stage].run(study, **run.parameters)
        return {run: known[run] for run in runs}
    finally:
        if token is not None:
            _loaded.reset(token)


def load_parents(study: Study, this: Run) -> dict[Run, Artifact]:
    """Return the artifacts of a run's parents."""
    from mtkd.stages import parents

    return load_all(study, parents(study, this))


def build_or_load(
    study: Study,
    this: Run,
    build: Callable[[Output], None],
    parts: dict[str, Artifact] | None = None,
) -> Artifact:
    """Return the artifact of a run: the one on disk if its settings and parents are unchanged, else
    a new one.

    `parts` are artifacts that were built on the way (`build_part`); `build` fills the output's
    folder.
    """
    from mtkd.stages import stages

    inputs = {
        "stage": this.stage,
        "run": this.parameters,
        "depends": stages()[this.stage].depends(study, this),
        "parents": _fingerprints(load_parents(study, this)),
        "parts": {name: artifact.fingerprint for name, artifact in (parts or {}).items()},
    }
    return make(this.folder(study), inputs, _with_threads(study, build))


def build_part(
    study: Study,
    this: Run,
    part: str,
    depends: dict,
    parents: dict[Run, Artifact],
    build: Callable[[Output], None],
) -> Artifact:
    """Return a part of a run's artifact: kept on its own, so that a stopped run need not repeat it.

    Its settings and parents may be fewer than the run's; it stays valid while these are unchanged.
    """
    inputs = {"part": part, "depends": depends, "parents": _fingerprints(parents)}
    return make(this.part_folder(study, part), inputs, _with_threads(study, build))


def _fingerprints(artifacts: dict[Run, Artifact]) -> dict[str, str]:
    return {run.name: artifact.fingerprint for run, artifact in artifacts.items()}


def _with_threads(study: Study, build: Callable[[Output], None]) -> Callable[[Path, Path], None]:
    def fill(folder: Path, checkpoint: Path) -> None:
        torch.set_num_threads(study.threads)
        build(Output(folder, checkpoint))

    return fill


@dataclass(frozen=True)
class Evaluation:
    """What a trained model is run on: (split, examples) to be scored, and others to be
    predicted.
    """

    scored: list[tuple[str, Examples]]
    predicted: list[tuple[str, Examples]] = field(default_factory=list)


def fit(
    model: nn.Module,
    training: TrainingRun,
    evaluation: Evaluation,
    output: Output,
    *,
    system: str,
    description: dict | None = None,
) -> None:
    """Train and score a model, in `settings.num_processes` processes.

    Write scores.csv (dev scores after the last epoch), curve.csv (loss and scores an epoch),
    notes.json and predictions.parquet; with a `description` (`inputs.describe_model`), that to
    model.json and model.safetensors.
    """
    arguments = (model, training, evaluation, output, system, description)
    run_on_all(_fit, *arguments, num_processes=training.settings.num_processes)


def _fit(
    model: nn.Module,
    training: TrainingRun,
    evaluation: Evaluation,
    output: Output,
    system: str,
    description: dict | None,
) -> None:
    precision = training.settings.precision
    outputs: dict[tuple[str, str], np.ndarray] = {}
    notes: list[str] = []

    def predict_split(current: nn.Module, split: str, examples: Examples) -> np.ndarray:
        outputs[examples.task.name, split] = probabilities(
            examples.task, predict(current, examples, precision)
        )
        return outputs[examples.task.name, split]

    def score(current: nn.Module) -> list[dict]:
        rows = []
        notes.clear()
        for split, examples in evaluation.scored:
            predicted = predict_split(current, split, examples)
            scores, remarks = score_rows(examples.task, split, predicted, examples.labels)
            rows += scores
            notes.extend(remarks)
        return rows

    log = train(model, training, checkpoint=output.checkpoint, scorer=score)
    if not PartialState().is_main_process:
        return
    for split, examples in evaluation.predicted:
        predict_split(model, split, examples)
    columns = ["epoch", "task", "loss", "split", "metric", "value", "n", "seconds"]
    curve = pd.DataFrame(log, columns=columns)
    curve.drop(columns="n").to_csv(output.folder / "curve.csv", index=False)
    last = curve[(curve.epoch == curve.epoch.max()) & curve.metric.notna()]
    last = last.assign(system=system, seed=training.seed, params=model.parameter_count())
    last[SCORE_COLUMNS].to_csv(output.folder / "scores.csv", index=False)
    write_json(output.folder / "notes.json", notes)
    sets = [*evaluation.scored, *evaluation.predicted]
    predictions(sets, outputs).to_parquet(output.folder / "predictions.parquet", index=False)
    if description:
        write_json(output.folder / "model.json", description)
        model.save(output.folder / "model.safetensors")


def predictions(sets: list[tuple[str, Examples]], outputs: dict) -> pd.DataFrame:
    """Return a row per example: task, split, idx, label (-1 or NaN if unknown) and outputs.

    `outputs` maps (task, split) to class probabilities (n, classes), or to scores (n, 1).
    """
    parts = [
        pd.DataFrame(
            {
                "task": examples.task.name,
                "split": split,
                "idx": examples.idx,
                "label": examples.labels.astype("float32"),
                "outputs": list(outputs[examples.task.name, split]),
            }
        )
        for split, examples in sets
    ]
    return pd.concat(parts, ignore_index=True)


def merge_parts(
    parts: Iterable[Artifact], output: Output, columns: list[dict] | None = None
) -> None:
    """Write the parts' tables and notes as one each, with more `columns` for each part's rows."""
    parts = list(parts)
    pairs = list(zip(parts, columns or [{}] * len(parts), strict=True))
    for name in parts[0].record["files"]:
        if name.endswith((".csv", ".parquet")):
            frames = [part.frame(name).assign(**more) for part, more in pairs]
            merged = pd.concat(frames, ignore_index=True)
            write = merged.to_csv if name.endswith(".csv") else merged.to_parquet
            write(output.folder / name, index=False)
    notes = [note for part in parts for note in part.json("notes.json")]
    write_json(output.folder / "notes.json", notes)


def train_settings(settings: Train) -> dict:
    """Return the settings of a training that change its weights."""
    return settings.model_dump(exclude={"checkpoint_seconds"})


def model_settings(study: Study) -> dict:
    """Return the settings of models that hold for every run (the encoder's dropout is a
    parameter).
    """
    return study.model.model_dump(exclude={"encoder_dropout"})


def num_train(study: Study, name: str) -> int:
    """Return about how many train examples a task has under the study's limits, before any are
    read.
    """
    if name in study.own_tasks:
        full = count_train_rows(study, name)
    else:
        full = study.task(name).num_train
        if study.data.source == "synthetic":
            from mtkd.data.synthetic import LAYOUT

            full = round(LAYOUT[name]["train"] * study.data.scale)
        full -= round((study.data.holdout_fraction or 0) * full)
    return min(full, study.data.max_train or full)


def count_updates(study: Study, names: Iterable[str], settings: Train) -> int:
    """Return the updates of weights in one training on these tasks."""
    batches = sum(-(-num_train(study, name) // settings.batch_size) for name in names)
    return settings.epochs * batches
