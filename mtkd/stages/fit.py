"""One training of a model in a stage, its scores and its predictions."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from torch import nn

from mtkd.artifacts import Artifact, write_json
from mtkd.config.distillation import Distil
from mtkd.config.training import Train
from mtkd.data.dataset import Batch, Examples
from mtkd.models.multitask import MultiTaskModel
from mtkd.stages.common import SCORE_COLUMNS
from mtkd.stages.inputs import Inputs, Output
from mtkd.tasks import Task
from mtkd.training.distributed import run_on_all
from mtkd.training.generate import generate, with_rouge
from mtkd.training.loop import TrainingRun, seed_everything, train
from mtkd.training.predict import predict, probabilities, score_rows

CURVE_COLUMNS = ["epoch", "task", "loss", "split", "metric", "value", "n", "seconds"]


@dataclass(frozen=True)
class ModelTraining:
    """What a model is trained on, from which start, and what is kept of it.

    Attributes:
        system: Name in the results.
        encoder: Whose weights and word pieces are used.
        dropout: Of the encoder.
        train_sets: Examples by task; the model has a head for each task.
        start: A trained model whose encoder's weights are loaded, and its `heads` (all, none or
            those named).
        dev_sets: Examples to be scored; None: those of the tasks.
        predict_test: Whether the tasks' test sets are predicted, too.
        keep: Whether the weights are kept.
        new_model: Returns the model in place of an MT-DNN, such as a student of MKD.
        student: The settings of a student of MKD.
        extra_loss: Returns, for the model, what is added to a batch's loss.
    """

    system: str
    encoder: str
    dropout: float
    train_sets: dict[str, Examples]
    settings: Train
    seed: int
    distil: Distil = field(default_factory=Distil)
    start: Artifact | None = None
    heads: bool | list[str] = True
    dev_sets: list[tuple[str, Examples]] | None = None
    predict_test: bool = False
    keep: bool = True
    new_model: Callable[[], MultiTaskModel] | None = None
    student: dict | None = None
    extra_loss: Callable[[MultiTaskModel], Callable[[Batch], torch.Tensor]] | None = None


def fit(inputs: Inputs, training: ModelTraining, output: Output) -> MultiTaskModel:
    """Train and score a model, in `settings.num_processes` processes, and return it.

    Write scores.csv (dev scores after the last epoch), curve.csv (loss and scores per epoch, and
    log_variance where tasks are weighted by uncertainty), notes.json, predictions.parquet and, if
    the weights are kept, model.json and model.safetensors.
    """
    encoder, seed, settings = training.encoder, training.seed, training.settings
    tasks = [examples.task for examples in training.train_sets.values()]
    seed_everything(seed)
    if training.new_model:
        model = training.new_model()
    else:
        model = inputs.new_model(encoder, tasks, training.dropout)
    if training.start:
        model.load(training.start.file("model.safetensors"), heads=training.heads)
    dev_sets, test_sets = training.dev_sets, []
    if dev_sets is None:
        dev_sets = [one for task in tasks for one in inputs.dev_sets(encoder, task)]
    if training.predict_test:
        test_sets = [one for task in tasks for one in inputs.test_sets(encoder, task)]
    extra = training.extra_loss(model) if training.extra_loss else None
    run = TrainingRun(training.train_sets, settings, seed, training.distil, output.name, extra)
    arguments = (model, run, dev_sets, test_sets, output, training.system)
    run_on_all(_train_and_score, *arguments, num_processes=settings.num_processes)
    if training.keep:
        write_json(output.folder / "model.json", _describe(inputs, training, model))
        model.save(output.folder / "model.safetensors")
    return model


def _train_and_score(
    model: nn.Module,
    run: TrainingRun,
    dev_sets: list[tuple[str, Examples]],
    test_sets: list[tuple[str, Examples]],
    output: Output,
    system: str,
) -> None:
    predicted: dict[tuple[str, str], pd.DataFrame] = {}
    notes: list[str] = []

    def predict_split(split: str, examples: Examples) -> np.ndarray:
        if examples.task.generates:
            pieces = generate([(model, examples)], run.settings.precision)
            outputs = with_rouge(examples, pieces)
        else:
            logits = predict(model, examples, run.settings.precision)
            outputs = probabilities(examples.task, logits, examples.idx)
        predicted[examples.task.name, split] = predictions(split, examples, outputs)
        return outputs

    def score(_: nn.Module) -> list[dict]:
        rows = []
        notes.clear()
        for split, examples in dev_sets:
            outputs = predict_split(split, examples)
            scores, remarks = score_rows(examples.task, split, outputs, *known_labels(examples))
            rows += scores
            notes.extend(remarks)
        return rows

    learned = run.settings.combine.task_weights == "uncertainty"
    columns = [*CURVE_COLUMNS, *(["log_variance"] if learned else [])]
    log = train(model, run, checkpoint=output.checkpoint, scorer=score)
    curve = pd.DataFrame(log, columns=columns)
    if not PartialState().is_main_process:
        return
    for split, examples in test_sets:
        predict_split(split, examples)
    curve.drop(columns="n").to_csv(output.folder / "curve.csv", index=False)
    last = curve[(curve.epoch == curve.epoch.max()) & curve.metric.notna()]
    last = last.assign(system=system, seed=run.seed, params=model.parameter_count())
    last[SCORE_COLUMNS].to_csv(output.folder / "scores.csv", index=False)
    write_json(output.folder / "notes.json", notes)
    table = pd.concat(predicted.values(), ignore_index=True)
    table.to_parquet(output.folder / "predictions.parquet", index=False)


def predictions(split: str, examples: Examples, outputs: np.ndarray) -> pd.DataFrame:
    """Return a row per label: task, split, idx, label (-1 or NaN if unknown) and outputs.

    `outputs` are class probabilities (n, classes), or scores (n, 1). A text that was written has
    one row: its ROUGE-L and its word pieces, then -1 (`with_rouge`), and 0 as label.
    """
    labels, idx = known_labels(examples)
    columns = {"task": examples.task.name, "split": split, "idx": idx}
    columns |= {"label": labels.astype("float32"), "outputs": list(outputs)}
    return pd.DataFrame(columns)


def known_labels(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels and the idx of the rows that are predicted."""
    if examples.task.generates:
        return np.zeros(len(examples)), np.asarray(examples.split["idx"])
    return examples.labels, examples.idx


def _describe(inputs: Inputs, training: ModelTraining, model: MultiTaskModel) -> dict:
    """Return what a model's weights need: tasks, encoder, heads, settings of a student."""
    study = inputs.study
    heads = {name: kind for name, kind in model.kinds.items() if kind != "linear"}
    custom = {name: task.model_dump(mode="json") for name, task in study.own_tasks.items()}

    def described(task: Task) -> dict:
        name = task.ranks or task.name
        ranked = {"ranked": True} if task.ranks else {}
        return {"name": name, "custom": custom.get(name), **ranked}

    return {
        "system": training.system,
        "tasks": [described(examples.task) for examples in training.train_sets.values()],
        "encoder": training.encoder,
        "pooling": study.model.pooling,
        "max_length": study.data.max_length,
        "student": training.student,
        **({"heads": heads} if heads else {}),
    }
